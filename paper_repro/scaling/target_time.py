"""Time to the target, predicted and measured: bert-tiny on SST-2, the runs of the batch sweep on one device.

The steps are the runs' own, so what is tested is the time of a step. A large batch's micro-batches hold sentences of like
length and need less padding than a small one's; so micro-batches are timed at the length that each batch size pads to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer

from paper_repro.analysis.cells import Cell
from paper_repro.bench.speed_measures import Keep
from paper_repro.data.encoders import resolve
from paper_repro.data.tasks import load_task
from paper_repro.record import Spread, provenance
from paper_repro.scaling.batch_sweep import TASK, Column, crossing
from paper_repro.scaling.inputs import drawn, interval, typical, undocumented
from paper_repro.scaling.model import ADAMW, BASELINE_BATCH, Method, Plan, System, step_time
from paper_repro.scaling.step_times import time_model
from scala.labelled_text import tokenized
from scala.length_sorted import LengthSorted

ENCODER = "bert-tiny"
LACKS = (
    "another run on the other core at the same time, which most runs had",
    "lengths that differ from one micro-batch to the next (the model has their mean)",
    "the trainer's own work in a step: moving data, logging, callbacks",
)
"""What the runs have and the model does not."""


def padded_lengths(lengths: Sequence[int], batches: Sequence[int], micro_batch: int) -> dict[int, int]:
    """Tokens that a sample of a micro-batch is padded to on average, by global batch size, in the trainer's own order.

    Args:
        lengths: tokens of each training sample.
        batches: global batch sizes.
        micro_batch: samples of a forward pass.
    """
    found = {}
    for batch in batches:
        order = torch.tensor([lengths[i] for i in LengthSorted(lengths, batch, min(batch, micro_batch), seed=0)])
        found[batch] = round(mean(float(part.max()) for part in order.split(min(batch, micro_batch))))
    return found


def measure(
    keep: Keep, glue_dir: str, batches: Sequence[int], *, micro_batch: int = 32, encoder: str = ENCODER, pairs: int = 7
) -> dict[str, Any]:
    """Time micro-batches and leaders as the sweep's runs had them: one thread, AdamW parameter by parameter.

    Args:
        keep: is given the record when it is finished.
        glue_dir: folder of the official GLUE files.
        batches: global batch sizes.
        micro_batch: samples of a forward pass.
        encoder: whose architecture and tokenizer are used; see `paper_repro.data.encoders`.
        pairs: repetitions.

    Returns:
        encoder, micro_batch, lengths (a list of batch and length), models (by length, see `time_model`), provenance.
    """
    load = os.getloadavg()[0]
    location = resolve(encoder)
    task = load_task(TASK, glue_dir=glue_dir)
    samples = tokenized(task.train, AutoTokenizer.from_pretrained(location), max_length=128)["input_ids"]
    lengths = padded_lengths([len(ids) for ids in samples], batches, micro_batch)
    config = AutoConfig.from_pretrained(location)
    sizes = (micro_batch // 2, micro_batch)
    record = {
        "encoder": encoder,
        "micro_batch": micro_batch,
        "lengths": [{"batch": batch, "length": length} for batch, length in lengths.items()],
        "models": {
            str(length): time_model(config, sizes, length, pairs, fused=False) for length in sorted({*lengths.values()})
        },
        "provenance": provenance(("torch", "transformers", "scala-adapt"))
        | {"load_before": load, "load_after": os.getloadavg()[0], "task": task.source},
    }
    keep(record)
    return record


def compared(column: Column, target: float, measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Seconds to the target, of every cell of the sweep that got there in at least one run.

    Args:
        column: the sweep's runs, see `paper_repro.scaling.batch_sweep.runs`.
        target: score.
        measured: see `measure`.

    Returns:
        A dict a cell: method, batch, length, runs, reached, steps (median), measured (spread of seconds over the runs that got
        there), predicted (at the inputs' typical values), interval (95%, from the inputs' spread), error (predicted over
        measured, minus 1), and unsorted (predicted, had no micro-batch been sorted by length).
    """
    length_of = {row["batch"]: str(row["length"]) for row in measured["lengths"]}
    rows = []
    for name, cell in column.items():
        found = [crossing(result, target) for result in cell.results.values()]
        there = [point for point in found if point["by"] is not None]
        if not there or cell.batch_size not in length_of:
            continue
        length, drawn_length = length_of[cell.batch_size], length_of[BASELINE_BATCH]
        seconds = Spread.of([point["seconds"] for point in there])
        middle = median(float(_seconds(cell, point, measured, length)) for point in there)
        spread = np.concatenate([_seconds(cell, point, measured, length, draws=True) for point in there])
        rows.append(
            {
                "method": name,
                "batch": cell.batch_size,
                "length": int(length),
                "runs": len(found),
                "reached": len(there),
                "steps": median(point["by"] for point in there),
                "measured": asdict(seconds),
                "predicted": middle,
                "interval": interval(spread),
                "error": middle / seconds.median - 1,
                "unsorted": median(float(_seconds(cell, point, measured, drawn_length)) for point in there),
            }
        )
    return sorted(rows, key=lambda row: (row["method"].rsplit("-", 1)[0], row["batch"]))


def _seconds(cell: Cell, point: Mapping[str, Any], measured: Mapping[str, Any], length: str, draws: bool = False) -> Any:
    """Modelled seconds of a run until it got there: its steps, those before the follower's first without it."""
    known = measured["models"][length]
    inputs = undocumented(known["inputs"])
    system = System(known["parameters"], per_sample=0.0).at(drawn(inputs) if draws else typical(inputs))
    settings = next(iter(cell.results.values()))["settings"]
    if settings["leader"] == "optim":
        method = ADAMW
    elif settings.get("noise") == "none":
        method = Method("lamb")
    else:
        without = settings["noise_delay"] * point["of"]
        method = Method("lamb", ascents=settings.get("noise_steps", 1), delay=min(1.0, without / point["by"]))
    return point["by"] * step_time(system, method, Plan(point["batch"], 1, measured["micro_batch"])).total
