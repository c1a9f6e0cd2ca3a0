"""The nine GLUE tasks (Wang et al. 2019, arXiv 1804.07461): their official TSV files, or the hub's copy.

Both ways give the same columns, ``sentence1``, ``sentence2`` (pairs only), ``label`` and ``idx``, and the same class
ids: the hub's. The test splits have no public labels and are not read.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import datasets

from paper_repro.data.hashes import sha256_of
from scala.labelled_text import BadRows, class_id, read_rows, score, to_dataset

HUB_REPOSITORY = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueTask:
    """One task: where its data are, what its labels mean, and how it is scored.

    Attributes:
        name: the hub's configuration name.
        folder: the folder in the official GLUE archive.
        text: the sentence columns of the TSV files, one or two.
        label: the label column of the TSV files.
        classes: class names in the order of their ids; empty for a regression.
        metrics: the official metrics, by their names in ``scala.metrics``. The first is the headline.
        hub_text: the sentence columns on the hub.
        written: the labels as the TSV files write them, in the order of their ids.
        header: the column names, for files without a header line.
        splits: split names; ``validation`` is ``dev`` in the file names.
        spoilt_rows: how many rows with a wrong number of fields or an empty sentence the official file may hold.
    """

    name: str
    folder: str
    text: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    hub_text: tuple[str, ...]
    written: tuple[str, ...] = ("0", "1")
    header: tuple[str, ...] | None = None
    splits: tuple[str, ...] = ("train", "validation")
    spoilt_rows: int = 0

    @property
    def headline_metric(self) -> str:
        """The one metric to report where there is room for one."""
        return self.metrics[0]

    def files(self, glue_dir: str | PathLike[str]) -> dict[str, Path]:
        """Return the TSV file of each split; FileNotFoundError, with the layout expected, if one is missing."""
        names = {split: f"{split.replace('validation', 'dev')}.tsv" for split in self.splits}
        for name in names.values():
            path = Path(glue_dir) / self.folder / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is missing; for {self.name}, GLUE_DIR must hold the official GLUE files as "
                    f"{self.folder}/{{{','.join(names.values())}}}"
                )
        return {split: Path(glue_dir) / self.folder / name for split, name in names.items()}


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")

GLUE_TASKS = {
    task.name: task
    for task in (
        GlueTask(
            name="cola",
            folder="CoLA",
            text=("sentence",),
            label="label",
            classes=("unacceptable", "acceptable"),
            metrics=("matthews_correlation",),
            hub_text=("sentence",),
            header=("source", "label", "mark", "sentence"),
        ),
        GlueTask(
            name="sst2",
            folder="SST-2",
            text=("sentence",),
            label="label",
            classes=("negative", "positive"),
            metrics=("accuracy",),
            hub_text=("sentence",),
        ),
        GlueTask(
            name="mrpc",
            folder="MRPC",
            text=("#1 String", "#2 String"),
            label="Quality",
            classes=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            hub_text=_PAIR,
        ),
        GlueTask(
            name="qqp",
            folder="QQP",
            text=("question1", "question2"),
            label="is_duplicate",
            classes=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            hub_text=("question1", "question2"),
            # Line breaks inside questions cut some of the 364,000 official rows in pieces (nyu-mll/GLUE-baselines
            # issue 5), which the hub's copy leaves out too. 100 is our guess at "some": above it the file is broken.
            spoilt_rows=100,
        ),
        GlueTask(
            name="stsb",
            folder="STS-B",
            text=_PAIR,
            label="score",
            classes=(),
            metrics=("pearson", "spearmanr"),
            hub_text=_PAIR,
        ),
        GlueTask(
            name="mnli",
            folder="MNLI",
            text=_PAIR,
            label="gold_label",
            classes=_NLI,
            metrics=("accuracy",),
            hub_text=("premise", "hypothesis"),
            written=_NLI,
            splits=("train", "validation_matched", "validation_mismatched"),
        ),
        GlueTask(
            name="qnli",
            folder="QNLI",
            text=("question", "sentence"),
            label="label",
            classes=_ENTAILMENT,
            metrics=("accuracy",),
            hub_text=("question", "sentence"),
            written=_ENTAILMENT,
        ),
        GlueTask(
            name="rte",
            folder="RTE",
            text=_PAIR,
            label="label",
            classes=_ENTAILMENT,
            metrics=("accuracy",),
            hub_text=_PAIR,
            written=_ENTAILMENT,
        ),
        GlueTask(
            name="wnli",
            folder="WNLI",
            text=_PAIR,
            label="label",
            classes=("not_entailment", "entailment"),
            metrics=("accuracy",),
            hub_text=_PAIR,
        ),
    )
}


def glue_task(name: str) -> GlueTask:
    """Look a task up by its name; ValueError, with the nine names, if there is none."""
    if name not in GLUE_TASKS:
        raise ValueError(f"unknown GLUE task {name!r}; the tasks are: {', '.join(GLUE_TASKS)}")
    return GLUE_TASKS[name]


def load_glue(name: str, glue_dir: str | PathLike[str] | None) -> dict[str, datasets.Dataset]:
    """Load a task's labelled splits.

    Spoilt rows of QQP (see ``GlueTask.spoilt_rows``) are left out with a warning that counts them; ``idx`` counts the
    rows that are left. In every other task a row that does not fit is an error.

    Args:
        name: the task, for example "mrpc".
        glue_dir: a folder with the official TSV files, such as ``MRPC/train.tsv``; None to ask the Hugging Face hub.

    Returns:
        The data sets ``train`` and ``validation`` (mnli: ``validation_matched`` and ``validation_mismatched``).

    Raises:
        ValueError: unknown task.
        FileNotFoundError: ``glue_dir`` lacks a file.
        BadRows: a file holds rows that do not fit; the first ten are named by file and line.
        ConnectionError: there is no ``glue_dir``, and the hub cannot be reached.
    """
    task = glue_task(name)
    if glue_dir is None:
        return _from_hub(task)
    return {split: _from_tsv(task, path) for split, path in task.files(glue_dir).items()}


def glue_hashes(name: str, glue_dir: str | PathLike[str]) -> dict[str, str]:
    """Hash the files that ``load_glue`` reads, for the record of a run.

    Args:
        name: the task.
        glue_dir: the folder with the official TSV files.

    Returns:
        The SHA-256 in hexadecimal of each file, by its path in ``glue_dir``, for example ``"MRPC/dev.tsv"``.

    Raises:
        ValueError: unknown task.
        FileNotFoundError: ``glue_dir`` lacks a file.
    """
    task = glue_task(name)
    return {f"{task.folder}/{path.name}": sha256_of(path) for path in task.files(glue_dir).values()}


def _from_tsv(task: GlueTask, path: Path) -> datasets.Dataset:
    text, *pair = task.text
    text_pair = pair[0] if pair else None
    rows, bad = read_rows(path, text=text, text_pair=text_pair, label=task.label, header=task.header)
    if rows and bad and len(bad) <= task.spoilt_rows:
        warnings.warn(f"leaving out {BadRows(path, bad)}", stacklevel=3)
        bad = []
    if not task.classes:
        return to_dataset(path, rows, bad, _similarity, datasets.Value("float32"))
    ids = {label: number for number, label in enumerate(task.written)}
    return to_dataset(path, rows, bad, class_id(ids), datasets.ClassLabel(names=list(task.classes)))


def _similarity(label: str) -> float:
    value = score(label)
    if not 0 <= value <= 5:
        raise ValueError(f"score {label} is not between 0 and 5")
    return value


def _from_hub(task: GlueTask) -> dict[str, datasets.Dataset]:
    try:
        splits = datasets.load_dataset(HUB_REPOSITORY, task.name)
    except ConnectionError as error:
        raise ConnectionError(
            f"the hub cannot be reached for {HUB_REPOSITORY} ({error}); "
            f"set GLUE_DIR to a folder with the official TSV files, here {task.folder}/"
        ) from error
    names = dict(zip(task.hub_text, ("sentence1", "sentence2"), strict=False))
    renamed = {old: new for old, new in names.items() if old != new}
    return {
        split: splits[split].rename_columns(renamed).select_columns([*names.values(), "label", "idx"]) for split in task.splits
    }
