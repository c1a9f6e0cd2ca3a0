"""How much work a check does: the essential in a minute, or everything in ten."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Amounts of work.

    Attributes:
        instances: random instances an attack.
        examples: hypothesis examples an attack, at most, at each share of the constant.
        search: generations of the worst-case search.
        seeds: seeds, or instances, a point of a measured curve.
        rounds: factor on the length of long plays, in (0, 1].
    """

    name: str
    instances: int
    examples: int
    search: int
    seeds: int
    rounds: float


FULL = Effort("full", instances=100_000, examples=300, search=60, seeds=100, rounds=1.0)
FAST = Effort("fast", instances=5_000, examples=60, search=8, seeds=20, rounds=0.25)
