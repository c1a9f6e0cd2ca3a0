"""An experiment's page: its tables as Markdown and LaTeX, and its figures, from result files alone.

    python -m paper_repro.analysis.experiment_page --results paper_repro/results/glue --out runs/tables

Nothing is run, nothing is typed. What the experiment plans and no result file holds reads "not run".
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paper_repro.analysis.cells import Cells, gather, planned, rows_of
from paper_repro.analysis.experiment_figures import draw_differences, draw_speedup, draw_sweep
from paper_repro.analysis.table import Table
from paper_repro.analysis.tables import differences_table, scores_table, speedup_table
from paper_repro.analysis.target import COSTS
from paper_repro.command import command, parser
from paper_repro.record import RESULTS, write_whole
from paper_repro.runs.experiment import Run
from paper_repro.runs.tuning import EXPERIMENTS, TUNING

LARGE_BATCH = "lamb"
"""The large-batch method without noise: the second reference of every comparison."""
EXPLAINED = (
    "95% intervals take seeds and examples as random, differences are paired by both; p-values are two-sided, Holm over the "
    "methods of a column (see `paper_repro/analysis/statistics.py`)."
)
_TARGETS = {"to-target": "its mean", "to-target-low": "its interval's lower end"}


@dataclass(frozen=True)
class Page:
    """What is shown of one experiment.

    Attributes:
        path: of its Markdown file; figures and LaTeX lie beside it.
        about: its file's comment.
        tables: by name: "scores", "against-METHOD", "to-target" and "to-target-low".
        figures: their file names, by what they show: "differences" and "scores".
        origin: how many runs, the command, where.
        cells: what is there of it.
    """

    path: Path
    about: str
    tables: dict[str, Table]
    figures: dict[str, str]
    origin: str
    cells: Cells

    def markdown(self, warning: str = "") -> str:
        """All of it."""
        name = self.path.stem
        scores = [table.markdown() for key, table in self.tables.items() if key not in _TARGETS]
        targets = [f"## {title_of(key)}\n\n{table.markdown()}" for key, table in self.tables.items() if key in _TARGETS]
        differences, last = (
            [f"![{name}{more}]({self.figures[key]})"] if key in self.figures else []
            for key, more in (("differences", ", differences"), ("scores", ""))
        )
        start = [f"# {name}", *([f"**{warning}**"] if warning else []), self.about, EXPLAINED]
        return "\n\n".join([*start, *scores, *differences, *targets, *last, self.origin]) + "\n"


def title_of(table: str) -> str:
    """What a table of a page compares."""
    if table in _TARGETS:
        return f"To the baseline's final score: {_TARGETS[table]}"
    return "Scores" if table == "scores" else f"Difference to {table.removeprefix('against-')}"


def write(experiment: Path, by_task: Mapping[str, Sequence[Run]], results: Path, out: Path, warning: str = "") -> Page:
    """Write an experiment's page, with its LaTeX tables and its figures.

    Args:
        experiment: its TOML file.
        by_task: its runs.
        results: folder of results.
        out: folder to write to.
        warning: a sentence to set above everything.
    """
    cells = gather(by_task, results)
    stem, baseline = experiment.stem, rows_of(cells)[0]
    plain = {cell.name for column in cells.values() for cell in column.values() if not cell.settings}
    references = [one for one in dict.fromkeys([baseline, LARGE_BATCH]) if one in plain and len(rows_of(cells)) > 1]
    tables = {"scores": scores_table(cells)}
    tables |= {f"against-{reference}": differences_table(cells, reference) for reference in references}
    draw = partial(draw_sweep, cells)
    if is_comparison(stem):
        # The runs of main.toml are made in parts, beside other work: their seconds are not those of one quiet machine.
        costs = {key: name for key, name in COSTS.items() if key != "train_seconds" or stem != "main"}
        reached = {name: speedup_table(cells, baseline, name == "to-target-low", costs) for name in _TARGETS}
        tables |= {name: table for name, table in reached.items() if table.rows}
        draw = partial(draw_speedup, cells, baseline, costs=costs)
    title = f"{stem}{': ' + warning if warning else ''}"
    drawn = {
        "differences": draw_differences(cells, references, out / f"{stem}-differences.png", title),
        "scores": draw(out / f"{stem}.png", title),
    }
    figures = {key: f"{stem}{'-differences' if key == 'differences' else ''}.png" for key, there in drawn.items() if there}
    page = Page(out / f"{stem}.md", _comment(experiment), tables, figures, _origin(experiment, cells, warning), cells)
    for name, table in tables.items():
        write_whole(out / f"{stem}-{name}.tex", table.latex(f"{title}: {name.replace('-', ' ')}"))
    write_whole(page.path, page.markdown(warning))
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


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write all pages; returns the exit status."""
    options = parser("paper_repro.analysis.experiment_page", __doc__)
    options.add_argument("--results", type=Path, default=RESULTS / "glue")
    options.add_argument("--tuning", type=Path, default=TUNING)
    options.add_argument("--out", type=Path, default=Path("runs/tables"))
    options.add_argument(
        "--experiments", type=Path, nargs="+", help="TOML files (default: all that are no tuning and no demonstration)"
    )
    args = options.parse_args(arguments)
    experiments = args.experiments or [
        path for path in sorted(EXPERIMENTS.glob("*.toml")) if not path.stem.startswith(("demo", "defaults", "tuning"))
    ]
    for experiment in experiments:
        print(write(experiment, planned(experiment, args.tuning), args.results, args.out).path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
