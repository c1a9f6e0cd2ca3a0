"""What the batch sweep says of the critical batch: steps to the baseline's score, by method and batch size, with both laws."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from paper_repro.analysis.cells import Cell, gather, of_cell, planned
from paper_repro.analysis.target import score_key
from paper_repro.runs.tuning import EXPERIMENTS
from paper_repro.scaling.laws import LAWS, Crossing, fit

TASK, BASELINE = "sst2", "adamw-32"
FAMILIES = ("adamw", "lamb", "scala")
TIMED = "speedup"
"""Whose runs are made side by side, so that their seconds compare; of the other only scores and steps are read."""
STUDIES = ("ablation-batch", TIMED)
_ROUNDING = 1e-12

Column = dict[str, Cell]


def runs(results: Path, studies: Sequence[str] | None = None) -> Column:
    """The sweep's cells by method, those of both experiments: "lamb-512" and the like.

    Args:
        results: folder with glue/ and tuning/.
        studies: of these experiments alone.
    """
    found: Column = {}
    for study in STUDIES if studies is None else studies:
        plan = planned(EXPERIMENTS / f"{study}.toml", results / "tuning")
        found |= gather({TASK: plan[TASK]}, results / "glue")[TASK]
    return found


def targets(column: Column) -> dict[str, float]:
    """The baseline's final score, its mean over seeds, and the lower end of its 95% interval; nothing without the baseline."""
    base = of_cell(column[BASELINE])
    return {} if base is None else {"the baseline's score": base.mean, "the lower end of its interval": base.interval[0]}


def crossing(result: Mapping[str, Any], target: float) -> dict[str, Any]:
    """When a run first scored the target.

    Returns:
        seed, batch, after (steps of the evaluation before), by (steps, null if it never did), of (steps of the whole run) and
        seconds (of training, by then).
    """
    name, after = score_key(dict(result)), 0
    row = {"seed": result["settings"]["seed"], "batch": result["settings"]["batch_size"]}
    for point in result["curve"]:
        if point[name] >= target - _ROUNDING:
            found = {"after": after, "by": point["step"], "seconds": point["train_seconds"]}
            return row | found | {"of": result["cost"]["steps"]}
        after = point["step"]
    return row | {"after": after, "by": None, "seconds": None, "of": result["cost"]["steps"]}


def family(column: Column, name: str, target: float) -> dict[str, Any]:
    """One method over the batch sizes.

    Returns:
        family, points (see `crossing`), batches (batch, runs, reached, steps: the median, null if half of the runs or more did
        not get there; share: that of the epoch; examples: samples) and fits by law (null: reached at too few batch sizes).
    """
    points = [
        crossing(result, target)
        for method, cell in column.items()
        if re.fullmatch(rf"{name}-\d+", method)
        for result in cell.results.values()
    ]
    points.sort(key=lambda point: (point["batch"], point["seed"]))
    return {"family": name, "points": points, "batches": by_batch(points), "fits": fits(points)}


def fits(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Both laws through the points, as JSON."""
    crossings = [Crossing(p["batch"], p["after"], math.inf if p["by"] is None else p["by"]) for p in points]
    found = {law: fit(crossings, law) for law in LAWS}
    return {law: None if fitted is None else fitted.document() for law, fitted in found.items()}


def by_batch(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a batch size, see `family`."""
    rows = []
    for batch in sorted({point["batch"] for point in points}):
        at = [point for point in points if point["batch"] == batch]
        steps = median(math.inf if point["by"] is None else point["by"] for point in at)
        there = math.isfinite(steps)
        rows.append(
            {
                "batch": batch,
                "runs": len(at),
                "reached": sum(point["by"] is not None for point in at),
                "steps": steps if there else None,
                "examples": steps * batch if there else None,
                "share": steps / at[0]["of"] if there else None,
            }
        )
    return rows


def sweep(column: Column) -> dict[str, Any]:
    """All of it.

    Returns:
        examples (of one epoch, null without runs) and targets, a list: name, score, families (see `family`).
    """
    base = next(iter(column[BASELINE].results.values()), None)
    found = [
        {"name": name, "score": score, "families": [family(column, method, score) for method in FAMILIES]}
        for name, score in targets(column).items()
    ]
    return {"examples": None if base is None else base["cost"]["train_examples"], "targets": found}
