"""Times in interleaved pairs: each method beside the reference, in turn, so that whatever else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from paper_repro.record import Spread

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

    def over(self, parts: int) -> Timing:
        """Of one of as many equal parts."""
        seconds, ratio = (Spread(s.median / parts, s.least / parts, s.greatest / parts) for s in (self.seconds, self.ratio))
        return Timing(self.first / parts, seconds, ratio)


def interleaved(
    actions: Mapping[str, Action], reference: str, pairs: int, device: str = "cpu", calls: int = 1
) -> dict[str, Timing]:
    """Time every action against the reference.

    Args:
        actions: what is timed, by name; each is called 1 + pairs * calls times, the reference more often.
        reference: the name of the one that the others are divided by; its own ratio is of two neighbouring calls of itself,
            which says how quiet the machine is.
        pairs: pairs of each; who is first alternates.
        device: where they run; a time ends when the device has done all of it.
        calls: in a row for one measurement, whose time is divided by them. More than one lets the host run ahead of the device
            as it does in training.

    Returns:
        A timing for each action, seconds a call.
    """
    first = {name: seconds_of(action, device) for name, action in actions.items()}
    pairs_of: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for number in range(pairs):
        for name, action in actions.items():
            if number % 2:
                own, other = seconds_of(action, device, calls), seconds_of(actions[reference], device, calls)
            else:
                other, own = seconds_of(actions[reference], device, calls), seconds_of(action, device, calls)
            pairs_of[name].append((own, other))
    return {
        name: Timing(first[name], Spread.of([own for own, _ in timed]), Spread.of([own / other for own, other in timed]))
        for name, timed in pairs_of.items()
    }


def seconds_of(action: Action, device: str = "cpu", calls: int = 1) -> float:
    """Seconds a call, from an idle device to an idle device."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(calls):
        action()
    wait_for(device)
    return (time.perf_counter() - start) / calls


def wait_for(device: str) -> None:
    """Until the device has done everything that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
