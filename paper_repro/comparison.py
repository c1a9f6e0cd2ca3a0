"""Compare methods from their result files: scores with intervals, costs, time to the baseline's score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from paper_repro.paired import bootstrap_interval


@dataclass(frozen=True)
class Row:
    """One method, over its seeds.

    Attributes:
        method: its name.
        batch_size: samples per leader's step.
        seeds: the seeds it ran with.
        score: mean over seeds.
        interval: 95% bootstrap interval of the score: dev examples, and seeds when there are several, are resampled.
        difference: score minus the baseline's; None for the baseline.
        difference_interval: 95% paired bootstrap interval of the difference: the same examples and seeds on both sides.
        steps: leader's steps.
        gradient_evaluations: gradients of one sample's loss, by both players.
        seconds: mean training time.
        steps_to_target: mean number of steps until the evaluated score first reaches the baseline's final score of the same
            seed; None if that never happened for some seed.
        seconds_to_target: mean training time until then; None likewise.
        reached: for how many seeds it was reached.
    """

    method: str
    batch_size: int
    seeds: tuple[int, ...]
    score: float
    interval: tuple[float, float]
    difference: float | None
    difference_interval: tuple[float, float] | None
    steps: int
    gradient_evaluations: int
    seconds: float
    steps_to_target: float | None
    seconds_to_target: float | None
    reached: int

    @property
    def verdict(self) -> str:
        """What may be said about the difference."""
        if self.difference_interval is None:
            return "baseline"
        low, high = self.difference_interval
        return "better" if low > 0 else "worse" if high < 0 else "within noise"


def compare(results: Sequence[dict[str, Any]], baseline: str) -> list[Row]:
    """One row a method, in the order of the results.

    Args:
        results: result files of one task and split, all methods with the same seeds.
        baseline: the method the others are compared with.

    Raises:
        ValueError: no result of the baseline, several tasks or splits, or a method whose seeds differ from the baseline's.
    """
    of = _by_method_and_seed(results)
    if baseline not in of:
        raise ValueError(f"no result of the baseline {baseline!r}; there are: {', '.join(of) or 'none'}")
    seeds = tuple(sorted(of[baseline]))
    for method, runs in of.items():
        if tuple(sorted(runs)) != seeds:
            raise ValueError(f"{method} has seeds {sorted(runs)}, {baseline} has {list(seeds)}: only the same seeds compare")
    metric = results[0]["task"]["metric"]
    labels = np.asarray(results[0]["labels"])
    predictions = {method: np.asarray([runs[seed]["predictions"] for seed in seeds]) for method, runs in of.items()}
    rows = []
    for method, runs in of.items():
        low, high = bootstrap_interval(metric, predictions[method], labels)
        against = None if method == baseline else bootstrap_interval(metric, predictions[method], labels, predictions[baseline])
        points = [_first_at(runs[seed], of[baseline][seed]["score"]) for seed in seeds]
        reached = [point for point in points if point is not None]
        everywhere = len(reached) == len(seeds)
        one = runs[seeds[0]]
        rows.append(
            Row(
                method=method,
                batch_size=one["settings"]["batch_size"],
                seeds=seeds,
                score=float(np.mean([runs[seed]["score"] for seed in seeds])),
                interval=(low, high),
                difference=None
                if method == baseline
                else float(np.mean([runs[seed]["score"] - of[baseline][seed]["score"] for seed in seeds])),
                difference_interval=against,
                steps=one["cost"]["steps"],
                gradient_evaluations=one["cost"]["gradient_evaluations"],
                seconds=float(np.mean([runs[seed]["cost"]["train_seconds"] for seed in seeds])),
                steps_to_target=float(np.mean([point["step"] for point in reached])) if everywhere else None,
                seconds_to_target=float(np.mean([point["train_seconds"] for point in reached])) if everywhere else None,
                reached=len(reached),
            )
        )
    return rows


def verdict(rows: Sequence[Row]) -> str:
    """Who reached the baseline's score, in which share of its steps and seconds: a line a method, those that did first."""
    base = next(row for row in rows if row.difference is None)
    lines = []
    for row in sorted((row for row in rows if row is not base), key=lambda row: -row.reached):
        who = f"{row.method} at batch {row.batch_size}"
        what = f"the score of {base.method} at batch {base.batch_size}"
        of = f"{row.reached} of {len(row.seeds)} seeds"
        if row.steps_to_target is None or row.seconds_to_target is None:
            lines.append(f"- {who} reached {what} in {of}.")
        else:
            steps, seconds = row.steps_to_target / base.steps, row.seconds_to_target / base.seconds
            lines.append(f"- {who} reached {what} in {of}, in {steps:.2f} of its steps and {seconds:.2f} of its seconds.")
    return "\n".join(lines)


def table(rows: Sequence[Row], metric: str) -> str:
    """The rows as a Markdown table."""
    head = ["method", "batch", metric, "against the baseline", "steps", "gradients", "seconds", "to baseline's score"]
    base = next(row for row in rows if row.difference is None)
    lines = []
    for row in rows:
        if row.difference is None or row.difference_interval is None:
            against = "baseline"
        else:
            low, high = row.difference_interval
            against = f"{row.difference:+.3f} [{low:+.3f}, {high:+.3f}] {row.verdict}"
        target = f"not reached ({row.reached} of {len(row.seeds)} seeds)"
        if row.seconds_to_target is not None:
            target = f"{row.seconds_to_target:.0f} s"
            if base.seconds_to_target and row is not base:
                target += f" ({base.seconds_to_target / row.seconds_to_target:.2f}x)"
        score = f"{row.score:.3f} [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
        costs = [str(row.steps), f"{row.gradient_evaluations:,}", f"{row.seconds:.0f}", target]
        lines.append([row.method, str(row.batch_size), score, against, *costs])
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    body = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in [head, *lines]]
    body.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(body)


COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Of methods in the order of a figure's rows; Okabe and Ito's, which colour-blind readers tell apart."""
MARKERS = "osD^vPX"


def draw(results: Sequence[dict[str, Any]], rows: Sequence[Row], path: Path, title: str) -> None:
    """Left: score against the leader's steps and against seconds, mean over seeds. Right: differences from the baseline."""
    of = _by_method_and_seed(results)
    metric, split = results[0]["task"]["metric"], results[0]["task"]["split"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    base = next(row for row in rows if row.difference is None)
    styles = {row.method: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, row in enumerate(rows)}
    for axis, key, name in ((axes[0], "step", "leader's steps (log scale)"), (axes[1], "train_seconds", "training seconds")):
        for row in rows:
            curves = [of[row.method][seed]["curve"] for seed in row.seeds]
            where, scores = (
                np.asarray([[point[k] for point in curve] for curve in curves]) for k in (key, f"eval_{split}_{metric}")
            )
            colour, marker = styles[row.method]
            label = f"{row.method} (batch {row.batch_size})"
            axis.plot(where.mean(axis=0), scores.mean(axis=0), marker=marker, ms=4, lw=1.5, color=colour, label=label)
            if len(curves) > 1:
                axis.fill_between(where.mean(axis=0), scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.15, lw=0)
        axis.axhline(base.score, ls="--", lw=1, color="0.4")
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[0].xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axes[0].xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes[0].set_ylabel(f"{metric} on {split}" + (" (band: all seeds)" if len(base.seeds) > 1 else ""))
    axes[1].legend(fontsize=8, loc="lower right")
    others = [row for row in rows if row is not base]
    for height, row in enumerate(reversed(others)):
        assert row.difference is not None
        assert row.difference_interval is not None
        low, high = row.difference_interval
        colour, marker = styles[row.method]
        axes[2].plot([low, high], [height, height], color=colour, lw=2)
        axes[2].plot(row.difference, height, marker=marker, color=colour, ms=7)
    axes[2].axvline(0, ls="--", lw=1, color="0.4")
    axes[2].set_yticks(range(len(others)), [row.method for row in reversed(others)])
    axes[2].set_ylim(-0.5, max(len(others), 1) - 0.5)
    axes[2].set_xlabel(f"{metric} minus {base.method}'s (95% interval)")
    axes[2].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes[2].grid(alpha=0.3, axis="x")
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _by_method_and_seed(results: Sequence[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    of: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    kinds = {(r["task"]["name"], r["task"]["split"]) for r in results}
    if len(kinds) > 1:
        raise ValueError(f"results of different tasks or splits do not compare: {sorted(kinds)}")
    for result in results:
        of[result["settings"]["method"]][result["settings"]["seed"]] = result
    return dict(of)


def _first_at(result: dict[str, Any], target: float) -> dict[str, Any] | None:
    """The first evaluation that reaches a score."""
    key = f"eval_{result['task']['split']}_{result['task']['metric']}"
    return next((point for point in result["curve"] if point[key] >= target), None)
