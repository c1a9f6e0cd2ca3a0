"""What it costs a method to reach the baseline's score: leader's steps, gradient evaluations, seconds.

The target is the baseline's own final score, its mean over seeds (or less, by a given margin: the lower end of its interval). A
method has reached it at the first evaluation where its mean score over the same seeds is there. The baseline reaches its own
target at its end at the latest. Whoever does not reach it has no cost, and a speed-up of 0; nothing is dropped.

Intervals: the mean curves of both methods over the same seeds are drawn as Student's t has them, and everything is computed
again (`paper_repro.analysis.statistics.student_weights`). Seeds are random in them, dev examples are not: curves hold no
predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paper_repro.analysis.statistics import between, student_weights
from paper_repro.runs.origin import same_examples

COSTS = {"step": "steps", "gradient_evaluations": "gradient evaluations", "train_seconds": "seconds"}
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Reached:
    """One method against the baseline's score.

    Attributes:
        target: the score to reach.
        cost: by the keys of `COSTS`, mean over seeds at the evaluation where the mean score got there; None: it did not.
        seeds: for how many seeds the run's own score got there at some evaluation.
        of: how many seeds there are.
        speedup: by the keys of `COSTS`, the baseline's cost to the same target over this one's; 0 where it is not reached.
        interval: 95% interval of each speed-up; None for one seed. A lower end of 0: it may well not be reached.
    """

    target: float
    cost: dict[str, float] | None
    seeds: int
    of: int
    speedup: dict[str, float]
    interval: dict[str, tuple[float, float]] | None


def reach(method: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]], margin: float = 0.0) -> Reached:
    """Compare a method's way to the baseline's score with the baseline's own.

    Args:
        method: results, one a seed.
        baseline: results of the same seeds in the same order.
        margin: how far below the baseline's mean final score the target lies.

    Raises:
        ValueError: the seeds or the examples differ, or the runs of one side were evaluated at different steps.
    """
    seeds = [result["settings"]["seed"] for result in method]
    if seeds != (others := [result["settings"]["seed"] for result in baseline]):
        raise ValueError(f"seeds {seeds} and {others} do not pair")
    same_examples([*method, *baseline])
    ours, theirs = _curves(method), _curves(baseline)
    target = float(theirs["score"][:, -1].mean()) - margin
    everyone = np.full((1, len(seeds)), 1 / len(seeds))
    cost = _costs(ours, everyone, np.array([target]))
    speedup = _speedups(ours, theirs, everyone, margin)
    interval = None
    if len(seeds) > 1:
        drawn = _speedups(ours, theirs, student_weights(len(seeds)), margin)
        interval = {key: between(values) for key, values in drawn.items()}
    return Reached(
        target=target,
        cost={key: float(values[0]) for key, values in cost.items()} if np.isfinite(cost["step"][0]) else None,
        seeds=int((ours["score"] >= target - _ROUNDING).any(axis=1).sum()),
        of=len(seeds),
        speedup={key: float(values[0]) for key, values in speedup.items()},
        interval=interval,
    )


def _curves(results: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Score and costs at each evaluation, each [seeds, evaluations]."""
    steps = {tuple(point["step"] for point in result["curve"]) for result in results}
    if len(steps) > 1:
        raise ValueError(f"{results[0]['settings']['method']}: its runs were evaluated at different steps")
    name = score_key(results[0])
    return {
        "score": np.array([[point[name] for point in result["curve"]] for result in results]),
        **{key: np.array([[float(point[key]) for point in result["curve"]] for result in results]) for key in COSTS},
    }


def score_key(result: dict[str, Any]) -> str:
    """The name of the headline score in a curve's points."""
    return f"eval_{result['task']['split']}_{result['task']['metric']}"


def _costs(curves: dict[str, np.ndarray], weights: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The costs of reaching each target with each row of weights of the seeds, [rows]; infinite where it is not reached."""
    there = weights @ curves["score"] >= targets[:, None] - _ROUNDING
    first = there.argmax(axis=1)[:, None]
    costs = {}
    for key in COSTS:
        mean = weights @ curves[key]
        costs[key] = np.where(there.any(axis=1), np.take_along_axis(mean, first, axis=1)[:, 0], np.inf)
    return costs


def _speedups(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], weights: np.ndarray, margin: float
) -> dict[str, np.ndarray]:
    targets = weights @ theirs["score"][:, -1] - margin
    mine, base = _costs(ours, weights, targets), _costs(theirs, weights, targets)
    return {key: base[key] / mine[key] for key in COSTS}
