"""A tiny random encoder and made-up GLUE files: every part of an experiment in a minute, and numbers that mean nothing."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import string
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from paper_repro.data.glue import GLUE_TASKS, GlueTask
from paper_repro.record import write_whole
from paper_repro.runs.experiment import Run
from paper_repro.runs.tuning import load_tuned

WARNING = "SMOKE: a tiny random model on a few made-up sentences. These numbers mean nothing."
_ROWS = 16
_LARGEST_BATCH = 8
_RATE = 1e-3


def prepare(
    experiment: Path, tasks: list[str], methods: list[str] | None, seeds: list[int] | None, folder: Path
) -> tuple[list[Run], str]:
    """Make model and data in a folder, and list the experiment's runs, shrunk to them: two steps, one evaluation.

    Returns:
        The runs (one seed unless seeds are given; one epoch), and the folder of the made-up GLUE files.
    """
    model, data = folder / "random-model", folder / "made-up-glue"
    _encoder(model)
    for task in tasks:
        if task in GLUE_TASKS:
            _files(GLUE_TASKS[task], data)
    precision = {} if torch.cuda.is_available() else {"bf16": False, "fp16": False}
    runs = []
    for task in tasks:
        for run in load_tuned(experiment, task, lambda *_: _RATE, methods, model=str(model), seeds=seeds or [0]):
            batch = min(run.batch_size, _LARGEST_BATCH)
            small: dict[str, Any] = {
                "batch_size": batch,
                "micro_batch": min(run.micro_batch, batch // 2 or 1),
                "epochs": 1,
                "evaluations": 1,
                "train_examples": 0,
                "held_out": 0.0,
                "max_length": 24,
                "options": run.options.model_copy(update=precision),
            }
            runs.append(dataclasses.replace(run, **small))
    return list(dict.fromkeys(runs)), str(data)  # settings that differed in size only have become one


def _encoder(folder: Path) -> None:
    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    letters = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *string.ascii_lowercase,
        *(f"##{c}" for c in string.ascii_lowercase),
    ]
    write_whole(partial / "vocab.txt", "\n".join(letters))
    BertTokenizer(str(partial / "vocab.txt")).save_pretrained(partial)
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(letters), max_position_embeddings=32, **size)).save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process of torchrun was first
        shutil.rmtree(partial)


def _files(task: GlueTask, folder: Path) -> None:
    # A generator of its own: the sentences stay the same whatever else drew random numbers.
    draw = random.Random(task.name)
    for split in task.splits:
        lines = ["\t".join([*task.text, task.label])] if task.header is None else []
        for i in range(_ROWS):
            label = task.written[i % len(task.classes)] if task.classes else f"{draw.uniform(0, 5):.2f}"
            sentences = [" ".join("".join(draw.choices(string.ascii_lowercase, k=3)) for _ in range(4)) for _ in task.text]
            fields = dict(zip((*task.text, task.label), (*sentences, label), strict=True))
            lines.append("\t".join(fields.get(name, "-") for name in task.header or fields))
        name = f"{split.replace('validation', 'dev')}.tsv"
        write_whole(folder / task.folder / name, "\n".join(lines) + "\n")
