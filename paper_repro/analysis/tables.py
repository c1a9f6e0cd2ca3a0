"""The tables of an experiment: scores, paired differences, costs to the baseline's score, and who reached it.

Scores are in points (100 times the metric).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paper_repro.analysis.cells import (
    Cell,
    Cells,
    by_split,
    differences,
    hardware,
    metric_of,
    of_cell,
    reached,
    rows_of,
)
from paper_repro.analysis.statistics import Estimate, average, holm
from paper_repro.analysis.table import Table
from paper_repro.analysis.target import COSTS, Reached

NOT_RUN = "not run"
NOT_PLANNED = "-"


def scores_table(cells: Cells) -> Table:
    """Mean score over seeds with its interval and the number of seeds; the mean over several tasks where all were run.

    MNLI's mismatched split has a column, and no part in the mean.
    """
    columns = by_split(cells)
    head = ["method", "batch", *(f"{name} ({metric_of(column)})" for name, column in columns.items()), *_mean_of(cells)]
    rows = []
    for name in rows_of(cells):
        first = next(column[name] for column in cells.values() if name in column)
        line = [name, str(first.batch_size)]
        line += [_score(column[name]) if name in column else NOT_PLANNED for column in columns.values()]
        if _mean_of(cells):
            found = [of_cell(column[name]) if name in column else None for column in cells.values()]
            known = [e for e in found if e is not None]
            line.append(_points(average(known)) if len(known) == len(cells) else "not all run")
        rows.append(line)
    return Table(head, rows)


def _mean_of(cells: Cells) -> list[str]:
    """The column of the mean over tasks, where there are several."""
    return ["average"] if len(cells) > 1 else []


def _score(cell: Cell) -> str:
    diverged = f"{cell.diverged} diverged"
    if not cell.results:
        return diverged if cell.diverged else NOT_RUN
    found = of_cell(cell)
    assert found is not None
    return f"{_points(found)} n={len(cell.results)}" + (f", {diverged}" if cell.diverged else "")


def differences_table(cells: Cells, reference: str) -> Table:
    """Paired differences in points, with p-values corrected (Holm) over the methods of each column."""
    columns = by_split(cells)
    tasks, splits = differences(cells, reference), differences(columns, reference)
    found = {name: splits[name] | {"average": tasks[name]["average"]} for name in tasks}
    rows = {name: [name] for name in found}
    for column in [*columns, *_mean_of(cells)]:
        known = {name: e for name, row in found.items() if (e := row[column]) is not None}
        corrected = dict(zip(known, holm([e.p for e in known.values()]), strict=True))
        for name, row in found.items():
            e = row[column]
            missing = "not all run" if column == "average" else NOT_RUN if name in columns[column] else NOT_PLANNED
            rows[name].append(missing if e is None else f"{_points(e, sign=True)} p={corrected[name]:.2g}")
    return Table([f"against {reference}", *columns, *_mean_of(cells)], list(rows.values()))


def speedup_table(cells: Cells, baseline: str, lower_end: bool, costs: Mapping[str, str] = COSTS) -> Table:
    """Cost of a whole run, cost to the baseline's score, and how many times less than the baseline's own that is.

    Args:
        cells: all tasks.
        baseline: whose final score is the target.
        lower_end: the target is the lower end of that score's interval in place of its mean.
        costs: those that are shown, key in a curve -> name.

    Returns:
        A row for every cell that shares seeds with the baseline.
    """
    first, *others = (name.removesuffix(" evaluations").replace("gradient", "gradients") for name in costs.values())
    head = ["task", "method", "batch", f"whole run: {first}", *others, f"to target: {first}", *others]
    head += [*(f"speed-up in {name}" for name in costs.values()), "seeds there"]
    rows = []
    for task, column in cells.items():
        for cell in column.values():
            found = reached(column, cell, baseline, lower_end)
            start = [task, cell.name, str(cell.batch_size)]
            if found is None:
                continue
            last = [result["curve"][-1] for result in cell.results.values()]
            whole = [f"{np.mean([point[key] for point in last]):,.0f}" for key in costs]
            cost = [f"{found.cost[key]:,.0f}" if found.cost else "not reached" for key in costs]
            same = len(hardware(cell, column[baseline])) == 1
            gains = [_times(found, key) if same or key != "train_seconds" else "other hardware" for key in costs]
            rows.append([*start, *whole, *cost, *gains, f"{found.seeds} of {found.of}"])
    return Table(head, rows)


def verdict(cells: Cells, baseline: str) -> str:
    """Who reached the baseline's score, in which share of its steps and seconds: a line a method, those that did first."""
    lines = []
    for task, column in cells.items():
        base = column[baseline]
        pairs = [
            (cell, found) for cell in column.values() if cell is not base and (found := reached(column, cell, baseline, False))
        ]
        for cell, found in sorted(pairs, key=lambda pair: -pair[1].seeds):
            who = f"{cell.name} at batch {cell.batch_size} reached the score of {baseline} at batch {base.batch_size}"
            said = f"- {f'{task}: ' * (len(cells) > 1)}{who} in {found.seeds} of {found.of} seeds"
            if found.cost is not None:
                last = [result["curve"][-1] for seed, result in base.results.items() if seed in cell.results]
                steps, seconds = (
                    found.cost[key] / np.mean([point[key] for point in last]) for key in ("step", "train_seconds")
                )
                said += f", in {steps:.2f} of its steps and {seconds:.2f} of its seconds"
            lines.append(f"{said}.")
    return "\n".join(lines)


def in_short(cells: Cells, baseline: str) -> Table:
    """One task's scores, differences and costs side by side, a row a method; of several splits the first."""
    costs = {row[1]: row for row in speedup_table(cells, baseline, lower_end=False)[1]}
    against = {name: difference for name, difference, *_ in differences_table(cells, baseline)[1]}
    head, scores = scores_table(cells)
    rows = []
    for name, batch, score, *_ in scores:
        cost = costs.get(name, [NOT_RUN] * 13)
        rows.append([name, batch, score, against.get(name, "baseline"), *cost[3:6], cost[8]])
    return Table([*head[:3], f"against {baseline}", "steps", "gradients", "seconds", "seconds to its score"], rows)


def _times(found: Reached, key: str) -> str:
    if found.cost is None:
        return "not reached"
    if found.interval is None:
        return f"{found.speedup[key]:.2f}"
    low, high = found.interval[key]
    return f"{found.speedup[key]:.2f} [{low:.2f}, {high:.2f}]"


def _points(e: Estimate, sign: bool = False) -> str:
    form = "{:+.1f}" if sign else "{:.1f}"
    low, high = e.interval
    return f"{form} [{form}, {form}]".format(100 * e.mean, 100 * low, 100 * high)
