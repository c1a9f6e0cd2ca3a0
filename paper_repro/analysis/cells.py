"""What an experiment plans and what is there of it: a cell a task, method and setting; scores and differences of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.analysis.statistics import Estimate, average, estimate
from paper_repro.analysis.target import Reached, reach
from paper_repro.runs.experiment import Run, read_toml
from paper_repro.runs.origin import same_examples
from paper_repro.runs.store import diverged_path, with_results
from paper_repro.runs.tuning import TUNING, load_tuned, measured

_PLACEHOLDER = 1.23456789e-7  # in place of a tuned value that nobody has measured: no run has it, so its cells read "not run"
_MOST_SEEDS = 20


@dataclass(frozen=True)
class Cell:
    """One method and setting on one task.

    Attributes:
        method: its name.
        settings: the settings that its experiment varies within the method.
        batch_size: samples per leader's step.
        results: by seed.
        diverged: how many seeds diverged.
    """

    method: str
    settings: Mapping[str, Any]
    batch_size: int
    results: Mapping[int, dict[str, Any]]
    diverged: int

    @property
    def name(self) -> str:
        """The method, and what is special about it."""
        return " ".join([self.method, *(f"{key} {value}" for key, value in self.settings.items())])


Cells = dict[str, dict[str, Cell]]
"""task -> name of the method and setting -> cell; every task has the same rows unless they are tuned ones."""


def planned(experiment: Path, tuning: Path = TUNING) -> dict[str, list[Run]]:
    """The runs an experiment plans, by task; where tuning is missing, runs that no result belongs to."""
    best = measured(tuning)

    def known(model: str, task: str, method: str, key: str) -> float:
        try:
            return best(model, task, method, key)
        except ValueError:
            return _PLACEHOLDER

    return {task: load_tuned(experiment, task, known) for task in read_toml(experiment).get("tasks", {})}


def gather(by_task: Mapping[str, Sequence[Run]], folder: Path) -> Cells:
    """Find the results of planned runs, whatever their seeds.

    Args:
        by_task: the planned runs; seeds beyond the planned ones are found too, below 20.
        folder: results, see `paper_repro.runs.store`.
    """
    cells: Cells = {}
    for task, runs in by_task.items():
        cells[task] = {}
        varied = _varied(runs)
        for run in dict.fromkeys(replace(run, seed=0) for run in runs):
            seeds = [replace(run, seed=seed) for seed in sorted({*range(_MOST_SEEDS), *(r.seed for r in runs)})]
            flat = run.settings()
            cell = Cell(
                method=run.method,
                settings={key: flat.get(key) for key in varied[run.method]},
                batch_size=run.batch_size,
                results={one.seed: result for one, result in with_results(seeds, folder)},
                diverged=sum(diverged_path(one, folder).exists() for one in seeds),
            )
            cells[task][cell.name] = cell
    return cells


def by_split(cells: Cells) -> Cells:
    """The same, with a column of its own for every further split that results hold: "mnli mismatched" beside "mnli"."""
    columns: Cells = {}
    for task, column in cells.items():
        columns[task] = column
        results = [result for cell in column.values() for result in cell.results.values()]
        for split in dict.fromkeys(name for result in results for name in result.get("further", {})):
            columns[f"{task} {split.removeprefix('validation_')}"] = {
                name: replace(
                    cell,
                    results={
                        seed: {**result, **result["further"][split], "task": {**result["task"], "split": split}}
                        for seed, result in cell.results.items()
                        if split in result.get("further", {})
                    },
                )
                for name, cell in column.items()
            }
    return columns


def _varied(runs: Sequence[Run]) -> dict[str, list[str]]:
    values: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for key, value in run.settings().items():
            if key not in ("seed", "method"):
                values.setdefault(run.method, {}).setdefault(key, set()).add(repr(value))
    return {method: [key for key, seen in keys.items() if len(seen) > 1] for method, keys in values.items()}


def of_cell(cell: Cell, against: Cell | None = None) -> Estimate | None:
    """The cell's score, or its paired difference over the common seeds; None if there is no seed.

    Raises:
        ValueError: the results were not all scored on the same examples in the same order.
    """
    seeds = sorted(cell.results if against is None else cell.results.keys() & against.results.keys())
    if not seeds:
        return None
    own = [cell.results[seed] for seed in seeds]
    others = [] if against is None else [against.results[seed] for seed in seeds]
    labels = same_examples([*own, *others])
    first, second = (np.array([one["predictions"] for one in runs], dtype=float) for runs in (own, others))
    return estimate(own[0]["task"]["metric"], first, labels, second if others else None)


def differences(cells: Cells, reference: str) -> dict[str, dict[str, Estimate | None]]:
    """name -> task (and "average", over all tasks or none) -> paired difference to the reference."""
    table: dict[str, dict[str, Estimate | None]] = {}
    for name in rows_of(cells):
        if name == reference:
            continue
        found: dict[str, Estimate | None] = {}
        for task, column in cells.items():
            there = name in column and reference in column
            found[task] = of_cell(column[name], column[reference]) if there else None
        known = [e for e in found.values() if e is not None]
        table[name] = {**found, "average": average(known) if len(known) == len(cells) else None}
    return table


def rows_of(cells: Cells) -> list[str]:
    """The names of methods and settings, in the experiment's order."""
    return list(dict.fromkeys(name for column in cells.values() for name in column))


def metric_of(column: dict[str, Cell]) -> str:
    """The headline metric of a task, as words."""
    known = [result["task"]["metric"] for cell in column.values() for result in cell.results.values()]
    return known[0].replace("_", " ") if known else "no result"


def reached(column: dict[str, Cell], cell: Cell, baseline: str, lower_end: bool) -> Reached | None:
    """The cell's way to the baseline's score over the common seeds; None if there is none."""
    base = column.get(baseline)
    seeds = sorted(cell.results.keys() & base.results.keys()) if base else []
    if base is None or not seeds:
        return None
    margin = 0.0
    if lower_end:
        known = of_cell(replace(base, results={seed: base.results[seed] for seed in seeds}))
        assert known is not None
        margin = known.mean - known.interval[0]
    return reach([cell.results[seed] for seed in seeds], [base.results[seed] for seed in seeds], margin)


def hardware(*cells: Cell) -> set[str]:
    """What the cells' runs were made on: seconds compare on one device only."""
    results = [result for cell in cells for result in cell.results.values()]
    # A result that does not say how many processes shared the work was made by one.
    shared = [(result["provenance"]["hardware"], result["cost"].get("processes", 1)) for result in results]
    return {hardware if count == 1 else f"{count} processes: {hardware}" for hardware, count in shared}
