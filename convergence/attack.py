"""Attacks: at its constant a bound must not fall, at 0.9 times the constant it must.

Each attack draws instances in three ways: at random, many at once; by worst-case search (differential evolution, then
Nelder-Mead); and with hypothesis, whose finds are shrunk to the simplest numbers that still break the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from scipy.optimize import differential_evolution, minimize
from torch import Tensor

from convergence.bound import Bound
from convergence.effort import Effort

Values = dict[str, Tensor]
TOLERANCE = 1e-9
"""Relative rounding that is not called a violation."""


@dataclass(frozen=True)
class Range:
    """Where one parameter of an instance may lie.

    Attributes:
        low: least value.
        high: greatest value.
        log: random draws are uniform in the logarithm (low > 0).
        size: entries per instance; 0: a plain number.
    """

    low: float
    high: float
    log: bool = False
    size: int = 0

    def at(self, u: Tensor) -> Tensor:
        """From the unit interval to the range."""
        if self.log:
            return self.low * (self.high / self.low) ** u
        return self.low + (self.high - self.low) * u

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        """Fractions with denominators up to 64, or powers of two; both shrink to the simplest."""
        if self.log:
            powers = range(math.ceil(math.log2(self.low)), math.floor(math.log2(self.high)) + 1)
            values = [2.0**k for k in sorted(powers, key=abs)]
        else:
            # One draw from a sorted list: hypothesis' own fractions take longer than a round of the game.
            steps = range(math.ceil(64 * self.low), math.floor(64 * self.high) + 1)
            values = [float(f) for f in sorted((Fraction(n, 64) for n in steps), key=lambda f: (f.denominator, abs(f), f < 0))]
        number = st.sampled_from(values)
        return st.lists(number, min_size=self.size, max_size=self.size) if self.size else number


@dataclass(frozen=True)
class Attack:
    """How to break one bound, or one constant of it.

    Attributes:
        name: unique in its theorem.
        bound: what is attacked.
        play: parameters of n instances ([n], or [n, size]) -> (measured [n], values of the bound's symbols). Where an
            instance does not satisfy the assumptions, measured is NaN.
        parameters: by name, where they lie.
        constant: the bound's constant that is attacked; empty: the whole right-hand side.
        falls_at: the share of the constant at which a violation must be found.
        sharp: parameters of an instance at, or near, equality; where random search is too weak it is the attack.
        at_once: instances in one call of play.
    """

    name: str
    bound: Bound
    play: Callable[..., tuple[Tensor, Values]]
    parameters: Mapping[str, Range]
    constant: str = ""
    falls_at: float = 0.9
    sharp: Mapping[str, Any] = field(default_factory=dict)
    at_once: int = 20_000

    def ratio(self, parameters: Values, share: float = 1.0) -> Tensor:
        """measured / bound (lower: bound / measured), with `share` of the constant, [n]; NaN where the instance is none.

        It is none where `play` says so, or where a hypothesis of the bound does not hold.
        """
        measured, values = self.play(**parameters)
        measured = torch.where(self.bound.holds(**values), measured, torch.nan)
        share = 1 / share if self.bound.lower else share
        bound = self.bound({self.constant: share}, **values) if self.constant else share * self.bound(**values)
        bound = bound.expand_as(measured)
        if self.bound.lower:
            measured, bound = torch.where(measured.isnan(), torch.nan, bound), measured
        # 0 <= 0 is no violation, and something <= 0 is.
        ratio = torch.where(bound > 0, measured / bound, torch.where(measured > TOLERANCE, torch.inf, 0.0))
        return torch.where(measured.isnan(), torch.nan, ratio)


@dataclass(frozen=True)
class Find:
    """An instance and how close to the bound it comes: ratio > 1 breaks it."""

    parameters: dict[str, Any]
    ratio: float
    by: str


@dataclass(frozen=True)
class AttackReport:
    """What came of an attack.

    Attributes:
        instances: random draws at the full constant that satisfy the hypotheses; search and hypothesis come on top.
        drawn: random draws in all.
        worst: the instance with the largest measured / bound, by any of the ways.
        broken: a violation at the full constant, shrunk; None is what a true theorem gives.
        falls_at: share of the constant at which the bound had to fall.
        fallen: a violation there, shrunk; None means that the attack is too weak to say anything.
    """

    instances: int
    drawn: int
    worst: Find
    broken: Find | None
    falls_at: float
    fallen: Find | None

    @property
    def passed(self) -> bool:
        """Stands at its constant, falls below it."""
        return self.broken is None and self.fallen is not None


def run(attack: Attack, effort: Effort, seed: int = 0) -> AttackReport:
    """Attack at the constant and below it.

    Args:
        attack: what to run.
        effort: how long.
        seed: of the random draws and the search.
    """
    found, instances = _random(attack, effort.instances, seed)
    finds = [found, _search(attack, effort.search, seed)]
    if attack.sharp:
        finds.append(Find(dict(attack.sharp), _ratio(attack, attack.sharp), "the sharp instance"))
    worst = max(finds, key=lambda found: found.ratio)
    broken = _shrunk(attack, 1.0, effort.examples, seed)
    if broken is None and worst.ratio > 1 + TOLERANCE:
        broken = worst
    fallen = _shrunk(attack, attack.falls_at, effort.examples, seed)
    if fallen is None:
        ratio = _ratio(attack, worst.parameters, attack.falls_at)
        fallen = Find(worst.parameters, ratio, worst.by) if ratio > 1 + TOLERANCE else None
    return AttackReport(instances, effort.instances, worst, broken, attack.falls_at, fallen)


def _random(attack: Attack, instances: int, seed: int) -> tuple[Find, int]:
    """The worst of the random draws, and how many of them are instances."""
    generator = torch.Generator().manual_seed(seed)
    worst, counted = Find({}, -math.inf, "random draws"), 0
    for start in range(0, instances, attack.at_once):
        n = min(attack.at_once, instances - start)
        drawn = {
            name: where.at(torch.rand(n, *((where.size,) if where.size else ()), generator=generator, dtype=torch.float64))
            for name, where in attack.parameters.items()
        }
        ratio = attack.ratio(drawn)
        counted += int((~ratio.isnan()).sum())
        ratio = ratio.nan_to_num(0.0, posinf=torch.inf)
        top = int(ratio.argmax())
        if float(ratio[top]) > worst.ratio:
            worst = Find({name: value[top].tolist() for name, value in drawn.items()}, float(ratio[top]), worst.by)
    return worst, counted


def _search(attack: Attack, generations: int, seed: int) -> Find:
    sizes = {name: max(1, where.size) for name, where in attack.parameters.items()}

    def instances(cube: np.ndarray) -> Values:
        parts = torch.as_tensor(np.clip(cube, 0, 1), dtype=torch.float64).split(list(sizes.values()), dim=1)
        return {
            name: where.at(part if where.size else part[:, 0])
            for (name, where), part in zip(attack.parameters.items(), parts, strict=True)
        }

    def loss(cube: np.ndarray) -> np.ndarray:  # [dimensions, n] or [dimensions]
        return -attack.ratio(instances(np.atleast_2d(cube.T))).nan_to_num(0.0, posinf=torch.inf).numpy()

    dimensions = sum(sizes.values())
    best = differential_evolution(
        loss, [(0, 1)] * dimensions, maxiter=generations, popsize=max(4, 60 // dimensions), seed=seed, polish=False,
        vectorized=True, updating="deferred", tol=0,
    )  # fmt: skip
    polished = minimize(
        lambda u: float(loss(u)[0]),
        best.x,
        method="Nelder-Mead",
        options={"maxfev": 20 * generations, "xatol": 1e-9, "fatol": 0},
    )
    found = instances(polished.x[None])
    return Find({name: value[0].tolist() for name, value in found.items()}, -float(polished.fun), "worst-case search")


def _shrunk(attack: Attack, share: float, examples: int, seed: int) -> Find | None:
    strategy = st.fixed_dictionaries({name: where.strategy for name, where in attack.parameters.items()})

    def breaks(parameters: dict[str, Any]) -> bool:
        return _ratio(attack, parameters, share) > 1 + TOLERANCE

    try:
        found = find(
            strategy,
            breaks,
            settings=settings(
                max_examples=examples, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
            random=Random(seed),
        )  # fmt: skip
    except NoSuchExample:
        return None
    return Find(found, _ratio(attack, found, share), "hypothesis, shrunk")


def _ratio(attack: Attack, parameters: Mapping[str, Any], share: float = 1.0) -> float:
    """`Attack.ratio` of one instance, 0 where it is none."""
    one = {name: torch.as_tensor(value, dtype=torch.float64)[None] for name, value in parameters.items()}
    return float(attack.ratio(one, share).nan_to_num(0.0, posinf=torch.inf)[0])
