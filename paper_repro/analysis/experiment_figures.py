"""Figures of the reproduction: score against cost, score against a setting, differences between methods."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes

from paper_repro.analysis.cells import Cell, Cells, differences, metric_of, of_cell, rows_of
from paper_repro.analysis.statistics import Estimate
from paper_repro.analysis.target import COSTS, score_key

# Okabe and Ito's palette, told apart without red or green, and two of Tol's.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255", "#44AA99")


def draw_speedup(cells: Cells, baseline: str, path: Path, title: str, costs: Mapping[str, str] = COSTS) -> bool:
    """Mean score against each cost, a row a task; the baseline's final score dashed. Returns whether there was anything.

    The axis begins at the lowest mean score of the runs' second halves.
    """
    shown = {task: column for task, column in cells.items() if any(cell.results for cell in column.values())}
    if not shown:
        return False
    figure, grid = plt.subplots(
        len(shown),
        len(costs),
        figsize=(4 * len(costs), 3.2 * len(shown) + 0.6),
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    colours = dict(zip(rows_of(cells), _COLOURS * 9, strict=False))
    for axes, (task, column) in zip(grid, shown.items(), strict=True):
        settled = []  # from the middle of a run on: how a score leaves chance would take all of the height
        for cell in column.values():
            if not cell.results:
                continue
            curves = [result["curve"] for result in cell.results.values()]
            name = score_key(next(iter(cell.results.values())))
            scores = 100 * np.array([[point[name] for point in curve] for curve in curves])
            settled += list(scores[:, len(scores[0]) // 2 :].mean(axis=0))
            for axis, key in zip(axes, costs, strict=True):
                cost = np.mean([[point[key] for point in curve] for curve in curves], axis=0)
                axis.fill_between(cost, scores.min(axis=0), scores.max(axis=0), color=colours[cell.name], alpha=0.15, lw=0)
                axis.plot(cost, scores.mean(axis=0), "o-", ms=3, lw=1.3, color=colours[cell.name], label=cell.name)
        if baseline in column and column[baseline].results:
            target = 100 * np.mean([result["score"] for result in column[baseline].results.values()])
            for axis in axes:
                axis.axhline(target, ls="--", lw=1, color="0.35", zorder=0)
        axes[0].set_ylabel(f"{task}: {metric_of(column)} x 100")
        axes[0].set_ylim(bottom=min(settled) - 1)
    for axis in grid.flat:
        axis.grid(alpha=0.25)
        axis.set_xscale("log")
        # Ticks at 1, 2 and 5 of every decade: some axes are shorter than one.
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    for axis, name in zip(grid[-1], costs.values(), strict=True):
        axis.set_xlabel(f"{name} (log scale)")
    handles = {label: handle for axis in grid.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)), fontsize=9)
    figure.suptitle(
        f"{title}: mean over seeds, from the least to the greatest; dashed: the baseline's final score", fontsize=11
    )
    _save(figure, path)
    return True


def draw_differences(cells: Cells, references: Sequence[str], path: Path, title: str, description: str = "") -> bool:
    """Paired differences in points with their 95% intervals: a row a reference, a panel a task and one for several tasks' mean.

    Every task has its own scale, shared by the references; what was not run has no point, and a task has a panel as in
    `draw_sweep`. The reference itself is at 0, an open diamond. The description goes into the file, if that is an SVG. Returns
    whether there was anything.
    """
    shown = [task for task, column in cells.items() if _has_a_panel(column)]
    tables = {reference: differences(cells, reference) for reference in references}
    panels = shown + ["average"] * (len(shown) > 1)
    there = {(name, panel) for table in tables.values() for name, row in table.items() for panel in panels if row[panel]}
    if not there:
        return False
    in_rows, in_panels = map(set, zip(*there, strict=True))
    names = [name for name in rows_of(cells) if name in in_rows]
    panels = [panel for panel in panels if panel in in_panels]
    size = (1.6 + 2.1 * len(panels), 1.2 + (0.5 + 0.2 * len(names)) * len(tables))
    figure, grid = plt.subplots(
        len(tables), len(panels), figsize=size, sharex="col", sharey=True, squeeze=False, layout="constrained"
    )
    colours = dict(zip(rows_of(cells), _COLOURS * 9, strict=False))
    for axes, (reference, table) in zip(grid, tables.items(), strict=True):
        for axis, panel in zip(axes, panels, strict=True):
            axis.axvline(0, lw=1, color="0.35", zorder=0)
            axis.grid(axis="x", alpha=0.25)
            for y, name in enumerate(names):
                if name == reference:
                    axis.plot([0], [y], "D", ms=5, mfc="white", color="0.35")
                found = table.get(name, {}).get(panel)
                if found is not None:
                    mean, low, high = _ends(found)
                    spread = [[mean - low], [high - mean]]
                    axis.errorbar([mean], [y], xerr=spread, fmt="o", ms=4, lw=1.5, capsize=2, color=colours[name])
        axes[0].set_ylabel(f"against {reference}")
        axes[0].set_yticks(range(len(names)), names, fontsize=8)
    for axis, panel in zip(grid[0], panels, strict=True):
        axis.set_title(f"{panel} ({metric_of(cells[panel])})" if panel in cells else "mean over tasks", fontsize=9)
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.align_ylabels(grid[:, 0])
    figure.suptitle(f"{title}: paired differences", fontsize=11)
    figure.supxlabel("points, 95% intervals; not corrected for their number", fontsize=9)
    _save(figure, path, description)
    return True


def draw_sweep(cells: Cells, path: Path, title: str) -> bool:
    """Score against the varied setting, a panel a task; what is not varied is a line across. Returns whether it drew.

    Numbers are joined by a line, kinds (a norm, a switch) are not: nothing lies between them. Methods whose names differ by a
    final number only (lamb-512, lamb-1024) are one line over it. If nothing is varied, the methods themselves are the axis.

    Points of one panel are to be compared, so they are of the same seeds, those that all of them have; where that would leave
    fewer than two, each is of all its own. The panel says how many. A task with fewer than three points of more planned
    has no panel.
    """
    shown = {task: _of_common_seeds(column) for task, column in cells.items() if _has_a_panel(column)}
    if not shown:
        return False
    figure, grid = plt.subplots(1, len(shown), figsize=(1.2 + 3.6 * len(shown), 3.6), squeeze=False, layout="constrained")
    for axis, (task, column) in zip(grid.flat, shown.items(), strict=True):
        axis.set_xlabel((_panel(axis, column) or path.stem.removeprefix("ablation-")).replace("_", " "))
        seeds = sorted({len(cell.results) for cell in column.values() if cell.results})
        count = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        axis.set_title(f"{task} ({metric_of(column)}), {count}", fontsize=10)
        axis.grid(alpha=0.25)
    grid[0, 0].set_ylabel("score x 100, 95% interval")
    handles = {name: handle for axis in grid.flat for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), fontsize=9)
    figure.suptitle(title, fontsize=11)
    _save(figure, path)
    return True


def _has_a_panel(column: dict[str, Cell]) -> bool:
    """Whether there are three points, or all that are planned: two are what an ablation shares with the main comparison."""
    return sum(bool(cell.results) for cell in column.values()) >= min(3, len(column))


def _of_common_seeds(column: dict[str, Cell]) -> dict[str, Cell]:
    common = set.intersection(*(set(cell.results) for cell in column.values() if cell.results))
    if len(common) < 2:
        return column
    return {
        name: replace(cell, results={seed: result for seed, result in cell.results.items() if seed in common})
        for name, cell in column.items()
    }


def _panel(axis: Axes, column: dict[str, Cell]) -> str:
    """Draw one task; returns the name of the varied setting, empty if there is none."""
    series: dict[str, list[tuple[Any, Cell]]] = {}
    label = ""
    for cell in column.values():
        family, at = cell.method, None
        if cell.settings:
            label, at = next(iter(cell.settings.items()))
        elif numbered := re.fullmatch(r"(.+)-(\d+)", cell.method):
            family, at = numbered[1], int(numbered[2])
        series.setdefault(family, []).append((at, cell))
    lines = {family: points for family, points in series.items() if len(points) > 1 and all(at is not None for at, _ in points)}
    if not lines:
        _columns(axis, [cell for cell in column.values() if cell.results])
        return label
    values = list(dict.fromkeys(at for points in lines.values() for at, _ in points))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric:
        values.sort()
    place = (_numbers if numeric else _kinds)(axis, values)
    for colour, (family, points) in zip(_COLOURS, series.items(), strict=False):
        done = [(at, cell) for at, cell in points if cell.results]
        if not done:
            continue
        if family not in lines:
            mean, low, high = _score(done[0][1])
            axis.axhline(mean, color=colour, ls="--", lw=1.2, label=done[0][1].name)
            axis.axhspan(low, high, color=colour, alpha=0.08, lw=0)
            continue
        done.sort(key=lambda pair: values.index(pair[0]))
        order = list(lines).index(family) - (len(lines) - 1) / 2  # so that intervals lie side by side
        x = [place(at, order) for at, _ in done]
        ends = np.array([_score(cell) for _, cell in done])
        errors = np.abs(ends[:, 1:].T - ends[:, 0])
        marks = "o-" if numeric else "o"
        axis.errorbar(x, ends[:, 0], errors, fmt=marks, ms=4, lw=1.3, capsize=2, color=colour, label=family)
    return label


def _numbers(axis: Axes, values: Sequence[Any]) -> Callable[[Any, float], float]:
    """Make the sorted values the axis, on a log scale if they span a decade; where the n-th line's point is drawn."""
    low, high = values[0], values[-1]
    if low <= 0 or high < 10 * low:
        axis.set_xticks(values)
        return lambda value, n: value + 0.012 * n * (high - low)
    axis.set_xscale("log")
    # Ticks at the values, unless some are too near each other.
    near = any(b < 1.5 * a for a, b in pairwise(values))
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)) if near else ticker.FixedLocator(values))
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    return lambda value, n: value * (high / low) ** (0.012 * n)


def _kinds(axis: Axes, values: Sequence[Any]) -> Callable[[Any, float], float]:
    axis.set_xticks(range(len(values)), [{True: "on", False: "off"}.get(value, str(value)) for value in values])
    return lambda value, n: values.index(value) + 0.2 * n


def _columns(axis: Axes, cells: Sequence[Cell]) -> None:
    for x, cell in enumerate(cells):
        mean, low, high = _score(cell)
        axis.errorbar([x], [mean], [[mean - low], [high - mean]], fmt="o", ms=5, capsize=3, color=_COLOURS[0])
    axis.set_xticks(range(len(cells)), [cell.name for cell in cells], rotation=35, ha="right", fontsize=8)


def _score(cell: Cell) -> tuple[float, float, float]:
    found = of_cell(cell)
    assert found is not None
    return _ends(found)


def _ends(found: Estimate) -> tuple[float, float, float]:
    """Mean and interval in points."""
    low, high = found.interval
    return 100 * found.mean, 100 * low, 100 * high


def _save(figure: Any, path: Path, description: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Description": description} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):  # the same figure is the same file
        figure.savefig(path, dpi=130, metadata=metadata)
    plt.close(figure)
