"""Tables and figures of the reproduction, from result files alone: nothing is run, nothing is typed.

    python -m paper_repro.tables --results paper_repro/results/glue --out runs/tables

Every experiment file becomes a page (Markdown), the comparisons also LaTeX, and a figure where there is something to see. What
the experiment plans and no result file holds reads "not run". Scores are in points (100 times the metric).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from convergence.record import write_whole
from paper_repro.analysis.statistics import Estimate, average, holm
from paper_repro.cells import (
    Cell,
    Cells,
    by_split,
    differences,
    gather,
    hardware,
    metric_of,
    of_cell,
    planned,
    reached,
    rows_of,
)
from paper_repro.experiment import Run
from paper_repro.figures import draw_differences, draw_speedup, draw_sweep
from paper_repro.target import COSTS, Reached
from paper_repro.tuning import EXPERIMENTS, TUNING

RESULTS = Path(__file__).parent / "results" / "glue"
LARGE_BATCH = "lamb"
"""The large-batch method without noise: the second reference of every comparison."""

NOT_RUN = "not run"
NOT_PLANNED = "-"


Table = tuple[list[str], list[list[str]]]
"""Head and rows."""


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
    return head, rows


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
    return [f"against {reference}", *columns, *_mean_of(cells)], list(rows.values())


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
    return head, rows


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
    return [*head[:3], f"against {baseline}", "steps", "gradients", "seconds", "seconds to its score"], rows


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


def markdown(table: Table) -> str:
    """As a Markdown table, columns aligned."""
    head, rows = table
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in [head, *rows]]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def latex(table: Table, caption: str) -> str:
    """As a LaTeX table (booktabs)."""
    head, rows = table
    body = "\n".join(" & ".join(map(_escaped, row)) + r" \\" for row in rows)
    return (
        f"\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n"
        f"{' & '.join(map(_escaped, head))} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        f"\\caption{{{_escaped(caption)}}}\n\\end{{table}}\n"
    )


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def write(experiment: Path, by_task: Mapping[str, Sequence[Run]], results: Path, out: Path, warning: str = "") -> Path:
    """Write an experiment's page, with its LaTeX tables and its figure.

    Args:
        experiment: its TOML file.
        by_task: its runs.
        results: folder of results.
        out: folder to write to.
        warning: a sentence to set above everything.

    Returns:
        The page.
    """
    cells = gather(by_task, results)
    stem, baseline = experiment.stem, next(iter(rows_of(cells)))
    parts = [f"# {stem}", *([f"**{warning}**"] if warning else []), _comment(experiment)]
    tables: dict[str, Table] = {"scores": scores_table(cells)}
    plain = {cell.name for column in cells.values() for cell in column.values() if not cell.settings}
    references = [one for one in dict.fromkeys([baseline, LARGE_BATCH]) if one in plain and len(rows_of(cells)) > 1]
    for reference in references:
        tables[f"against-{reference}"] = differences_table(cells, reference)
    explain = "95% intervals take seeds and examples as random, differences are paired by both"
    parts.append(
        f"{explain}; p-values are two-sided, Holm over the methods of a column (see `paper_repro/analysis/statistics.py`)."
    )
    parts += [markdown(table) for table in tables.values()]
    title = f"{stem}{': ' + warning if warning else ''}"
    if draw_differences(cells, references, out / f"{stem}-differences.png", title):
        parts.append(f"![{stem}, differences]({stem}-differences.png)")
    if is_comparison(stem):
        # The runs of main.toml are made in parts, beside other work: their seconds are not those of one quiet machine.
        costs = {key: name for key, name in COSTS.items() if key != "train_seconds" or stem != "main"}
        for name, lower_end, target in (("to-target", False, "its mean"), ("to-target-low", True, "its interval's lower end")):
            table = speedup_table(cells, baseline, lower_end, costs)
            if table[1]:
                tables[name] = table
                parts += [f"## To the baseline's final score: {target}", markdown(table)]
        draw = partial(draw_speedup, cells, baseline, costs=costs)
    else:
        draw = partial(draw_sweep, cells)
    if draw(out / f"{stem}.png", title):
        parts.append(f"![{stem}]({stem}.png)")
    parts.append(_origin(experiment, cells, warning))
    for name, table in tables.items():
        write_whole(out / f"{stem}-{name}.tex", latex(table, f"{title}: {name.replace('-', ' ')}"))
    page = out / f"{stem}.md"
    write_whole(page, "\n\n".join(parts) + "\n")
    return page


def is_comparison(stem: str) -> bool:
    """Whether an experiment compares methods, and not the values of a setting."""
    return not stem.startswith(("ablation", "sensitivity", "controls"))


def _comment(experiment: Path) -> str:
    lines = experiment.read_text(encoding="utf-8").splitlines()
    comment = [line.lstrip("# ") for line in lines[: next((i for i, x in enumerate(lines) if not x.startswith("#")), 0)]]
    return " ".join(comment)


def _origin(experiment: Path, cells: Cells, warning: str) -> str:
    found = [result for column in cells.values() for cell in column.values() for result in cell.results.values()]
    sweep = f"python -m paper_repro.sweep paper_repro/experiments/{experiment.name}{' --smoke' if warning else ''}"
    if not found:
        return f"Nothing of it has been run: `{sweep} --tasks {' '.join(cells)}`"
    tasks = " ".join(dict.fromkeys(result["settings"]["task"] for result in found))
    seeds = " ".join(map(str, sorted({result["settings"]["seed"] for result in found})))
    said = {key: sorted({str(result["provenance"][key]) for result in found}) for key in ("commit", "hardware", "threads")}
    made = "; ".join(f"{key}: {', '.join(values)}" for key, values in said.items())
    return f"{len(found)} runs, made by `{sweep} --tasks {tasks} --seeds {seeds}`; {made}."


def main(arguments: list[str] | None = None) -> int:
    """Write all pages; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.tables", description="Tables and figures from result files.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tuning", type=Path, default=TUNING)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument(
        "--experiments", type=Path, nargs="+", help="TOML files (default: all that are no tuning and no demonstration)"
    )
    args = parser.parse_args(arguments)
    experiments = args.experiments or [
        path for path in sorted(EXPERIMENTS.glob("*.toml")) if not path.stem.startswith(("demo", "defaults", "tuning"))
    ]
    try:
        for experiment in experiments:
            print(write(experiment, planned(experiment, args.tuning), args.results, args.out))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
