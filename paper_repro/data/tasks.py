"""A task by name, ready to tokenise: the embedded one or GLUE's nine."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from sklearn.model_selection import GroupShuffleSplit

from paper_repro.data import acceptability
from paper_repro.data.glue import GLUE_TASKS, HUB_REPOSITORY, glue_hashes, glue_task, load_glue
from scala.metrics import compute_metrics_for

EMBEDDED = "acceptability"
_SHUFFLE_SEED = 20220124
"""Fixed, so that every run with the same sizes sees the same subset and the same held-out part, whatever its own seed."""


@dataclass(frozen=True)
class Task:
    """Data and score of a task.

    Attributes:
        name: its name.
        train: columns sentence1, sentence2 (pairs only), label, idx.
        evaluation: split name -> the same columns.
        labels: class names; None for regression.
        metric: the headline score's name in what `compute_metrics` returns.
        compute_metrics: for `transformers.Trainer`.
        source: where the data came from, see `source_of`.
    """

    name: str
    train: Dataset
    evaluation: dict[str, Dataset]
    labels: list[str] | None
    metric: str
    compute_metrics: Callable[[Any], dict[str, float]]
    source: dict[str, Any]


def unknown(name: str) -> ValueError:
    """The error for a task that there is not."""
    return ValueError(f"unknown task {name!r}; choose {EMBEDDED!r} or one of GLUE's: {', '.join(GLUE_TASKS)}")


def load_task(name: str, glue_dir: str | None = None, train_examples: int = 0, held_out: float = 0.0) -> Task:
    """Load a task.

    Args:
        name: "acceptability" or a GLUE task.
        glue_dir: folder of the official GLUE files; None: the hub.
        train_examples: keep a random subset of this size of the training set, fixed by the size; 0: all.
        held_out: fraction of the training set to split off and evaluate on in place of the dev set; 0: the dev set.

    Raises:
        ValueError: unknown task, more training examples asked for than there are, or bad rows in the files.
        FileNotFoundError: glue_dir lacks a file.
        ConnectionError: no glue_dir and the hub cannot be reached.
    """
    if name == EMBEDDED:
        task, groups = _embedded()
    elif name in GLUE_TASKS:
        task = _glue(name, glue_dir)
        groups = range(len(task.train))
    else:
        raise unknown(name)
    train, evaluation = task.train, task.evaluation
    if held_out:
        splitter = GroupShuffleSplit(n_splits=1, test_size=held_out, random_state=_SHUFFLE_SEED)
        kept, held = next(splitter.split(np.arange(len(train)), groups=np.asarray(groups)))
        train, evaluation = train.select(kept), {"held_out": train.select(held)}
    if train_examples > len(train):
        raise ValueError(f"train_examples is {train_examples}, but {name} has {len(train)} training examples; 0 takes them all")
    if train_examples:
        train = train.shuffle(seed=_SHUFFLE_SEED).select(range(train_examples))
    return Task(name, train, evaluation, task.labels, task.metric, task.compute_metrics, task.source)


def source_of(name: str, glue_dir: str | None = None) -> dict[str, Any]:
    """Where a task's data come from, with hashes of all that is not the hub's; see `load_task` for arguments and errors."""
    if name == EMBEDDED:
        return {"generator": "paper_repro.acceptability", "seed": 0, "sha256": _embedded_hash()}
    return {"glue_files_sha256": glue_hashes(name, glue_dir)} if glue_dir else {"hub": HUB_REPOSITORY}


@functools.cache
def _embedded_hash() -> str:
    """Of every sentence with its label, in the task's order."""
    splits = {split: [[j.sentence, j.label] for j in part] for split, part in acceptability.generate().items()}
    return hashlib.sha256(json.dumps(splits).encode()).hexdigest()


def _embedded() -> tuple[Task, Sequence[int]]:
    splits = acceptability.generate()
    labels = ["unacceptable", "acceptable"]
    features = Features({"sentence1": Value("string"), "label": ClassLabel(names=labels), "idx": Value("int64")})
    data = {
        split: Dataset.from_dict(
            {
                "sentence1": [j.sentence for j in judgements],
                "label": [j.label for j in judgements],
                "idx": list(range(len(judgements))),
            },
            features=features,
        )
        for split, judgements in splits.items()
    }
    task = Task(
        name=EMBEDDED,
        train=data["train"],
        evaluation={"dev": data["dev"]},
        labels=labels,
        metric="accuracy",
        compute_metrics=compute_metrics_for(("accuracy", "matthews_correlation")),
        source=source_of(EMBEDDED),
    )
    # The two sentences of a minimal pair stay on one side of any split.
    return task, [j.pair for j in splits["train"]]


def _glue(name: str, glue_dir: str | None) -> Task:
    spec = glue_task(name)
    splits = load_glue(name, glue_dir)
    return Task(
        name=name,
        train=splits["train"],
        evaluation={split: data for split, data in splits.items() if split != "train"},
        labels=list(spec.classes) or None,
        metric=spec.headline_metric,
        compute_metrics=compute_metrics_for(spec.metrics),
        source=source_of(name, glue_dir),
    )
