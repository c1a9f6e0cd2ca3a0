"""Times in interleaved pairs: each method beside the reference, in turn, so that whatever else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from convergence.benchmark import Spread

Action = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """How long one method takes.

    Attributes:
        first: seconds of its very first call: allocation, compilation, whatever it does only once.
        seconds: spread over the pairs.
        ratio: spread over the pairs of its time divided by the reference's just before or after it.
    """

    first: float
    seconds: Spread
    ratio: Spread


def interleaved(actions: Mapping[str, Action], reference: str, pairs: int) -> dict[str, Timing]:
    """Time every action against the reference.

    Args:
        actions: what is timed, by name; each is called 1 + pairs times, the reference more often.
        reference: the name of the one that the others are divided by; its own ratio is of two neighbouring calls of itself,
            which says how quiet the machine is.
        pairs: pairs of each; who is first alternates.

    Returns:
        A timing for each action.
    """
    first = {name: _seconds(action) for name, action in actions.items()}
    pairs_of: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for number in range(pairs):
        for name, action in actions.items():
            if number % 2:
                own, other = _seconds(action), _seconds(actions[reference])
            else:
                other, own = _seconds(actions[reference]), _seconds(action)
            pairs_of[name].append((own, other))
    return {
        name: Timing(first[name], Spread.of([own for own, _ in timed]), Spread.of([own / other for own, other in timed]))
        for name, timed in pairs_of.items()
    }


def memory_bandwidth(megabytes: int = 256, repeats: int = 10) -> float:
    """Bytes per second, the greatest that was seen, of torch's in-place add (reads two, writes one) and copy of big tensors."""
    a, b = (torch.zeros(megabytes * 2**18) for _ in range(2))
    rates = []
    for _ in range(repeats):
        rates.append(3 * a.nbytes / _seconds(lambda: a.add_(b)))
        rates.append(2 * a.nbytes / _seconds(lambda: a.copy_(b)))
    return max(rates)


def peak_flops(size: int = 2048, repeats: int = 10) -> float:
    """Floating-point operations per second, the greatest that was seen, of torch's product of two big fp32 matrices."""
    a = torch.ones(size, size)
    out = torch.empty_like(a)
    return max(2 * size**3 / _seconds(lambda: torch.mm(a, a, out=out)) for _ in range(repeats))


def _seconds(action: Action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
