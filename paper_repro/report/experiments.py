"""The pages of `make tables` as tables whose every number leads to its files: nothing is computed a second time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.image import imread

from paper_repro.analysis.cells import Cell, Cells, planned
from paper_repro.analysis.experiment_page import title_of, write
from paper_repro.analysis.tables import NOT_PLANNED, NOT_RUN
from paper_repro.runs.experiment import Run
from paper_repro.runs.store import result_path
from paper_repro.runs.tuning import EXPERIMENTS

_NO_NUMBER = {NOT_RUN, NOT_PLANNED, "not all run", "not reached", "other hardware"}
_NOTHING = {NOT_RUN, NOT_PLANNED, "not all run"}


@dataclass(frozen=True)
class Number:
    """What a table shows in one place.

    Attributes:
        text: the number or name.
        href: where its files are listed; empty if there is none.
    """

    text: str
    href: str = ""


@dataclass(frozen=True)
class Shown:
    """A table without what was not run.

    Attributes:
        title: what it compares.
        head: names of the columns.
        rows: of as many numbers.
    """

    title: str
    head: list[str]
    rows: list[list[Number]]

    @property
    def spreads(self) -> list[int]:
        """The columns that hold intervals."""
        return [i for i in range(1, len(self.head)) if any(" [" in row[i].text for row in self.rows)]

    @property
    def below(self) -> bool:
        """Whether intervals stand below their numbers: beside them the table would be too wide for its page."""
        return len(self.head) + len(self.spreads) > 8


@dataclass
class Page:
    """One experiment.

    Attributes:
        name: its file's, without the ending.
        about: its file's comment.
        tables: what was found.
        left_out: names of columns and rows in which nothing was run.
        figures: file names of its pictures, with their widths in pixels.
        origin: how many runs, the command, where.
        cells: what is there of it.
    """

    name: str
    about: str
    origin: str
    cells: Cells
    tables: list[Shown] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether any run of it is there."""
        return any(cell.results for column in self.cells.values() for cell in column.values())

    @property
    def found(self) -> list[tuple[str, Cell]]:
        """(task, cell) of every cell with results."""
        return [(task, cell) for task, column in self.cells.items() for cell in column.values() if cell.results]


def pages(data: Path, out: Path) -> list[Page]:
    """Every experiment that is no tuning and no demonstration, the main comparison and the speed-up first.

    Args:
        data: folder with glue/ and tuning/.
        out: the folder for what `make tables` makes.
    """
    first = {"main": 0, "speedup": 1, "glue-bert-base": 2, "glue-roberta-large": 3}
    files = [path for path in EXPERIMENTS.glob("*.toml") if not path.stem.startswith(("demo", "defaults", "tuning"))]
    return [_page(path, data, out) for path in sorted(files, key=lambda path: (first.get(path.stem, 9), path.stem))]


def files_of(cell: Cell, data: Path) -> dict[int, str]:
    """Its result files, seed -> path below the data folder."""
    runs = {seed: Run.of_settings(result["settings"]) for seed, result in cell.results.items()}
    return {seed: result_path(run, data / "glue").relative_to(data).as_posix() for seed, run in runs.items()}


def settings_of(cell: Cell) -> dict[str, Any]:
    """What its runs were made with, but for the seed."""
    settings = next(iter(cell.results.values()))["settings"]
    return {key: value for key, value in settings.items() if key != "seed"}


def shared_settings(page: Page) -> dict[str, Any]:
    """The settings that all of its runs have alike."""
    first, *others = [settings_of(cell) for _, cell in page.found]
    return {key: value for key, value in first.items() if all(key in one and one[key] == value for one in others)}


def anchor(*names: str) -> str:
    """An id for a place on the page of files."""
    return re.sub(r"[^a-z0-9.]+", "-", " ".join(names).lower()).strip("-")


def _page(experiment: Path, data: Path, out: Path) -> Page:
    made = write(experiment, planned(experiment, data / "tuning"), data / "glue", out)
    origin = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{32}\b", r"\1", made.origin)
    page = Page(experiment.stem, made.about, origin, made.cells)
    page.figures = {name: imread(out / name).shape[1] for name in made.figures.values()}
    if page.done:
        for name, (head, rows) in made.tables.items():
            named = ["method" if cell.startswith("against ") else cell for cell in head]
            page.tables.append(_shown(page, title_of(name), named, rows))
    return page


def _shown(page: Page, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Shown:
    names = [i for i, name in enumerate(head) if name in ("task", "method", "batch")]
    columns = [i for i in range(len(head)) if i in names or any(row[i] not in _NOTHING for row in rows)]
    columns.sort(key=lambda i: (i not in names, not head[i].startswith("speed-up")))  # the result before what it comes from
    kept = [row for row in rows if any(row[i] not in _NOTHING for i in range(len(head)) if i not in names)]
    left_out = [head[i].split(" (")[0] for i in range(len(head)) if i not in columns and head[i] != "average"]
    page.left_out += [name for name in [*left_out, *(row[0] for row in rows if row not in kept)] if name not in page.left_out]
    linked = [[Number(minus(row[i]), "" if i in names else _href(page, head, row, i)) for i in columns] for row in kept]
    return Shown(title, [head[i] for i in columns], linked)


def _href(page: Page, head: Sequence[str], row: Sequence[str], column: int) -> str:
    """To the cell's files; a mean over tasks leads to the experiment."""
    if row[column] in _NO_NUMBER:
        return ""
    task, method = (row[0], row[1]) if head[0] == "task" else (head[column].split(" ")[0], row[0])
    there = task in page.cells and method in page.cells[task] and page.cells[task][method].results
    return f"data.html#{anchor(page.name, task, method) if there else anchor(page.name)}"


def minus(text: str) -> str:
    """With real minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)|(?<=\de)-(?=\d)", "−", text)
