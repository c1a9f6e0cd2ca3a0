"""What runs in each process of a measurement, alone or several by torchrun.

`python -m paper_repro.scaling.workers links FILE JOB` times all-reduce and what sharing the machine costs;
`python -m paper_repro.scaling.workers steps FILE JOB` times the trainer's steps. JOB is JSON; the first process
writes its result to FILE.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from paper_repro.bench.interleaved import seconds_of
from paper_repro.bench.round import bench_of, classifier
from paper_repro.record import write_json
from scala import ScalaConfig, ScalaTrainer
from scala.adapt import quiet

METHODS: dict[str, dict[str, Any]] = {
    "adamw": {"leader": "optim", "optim": "adamw_torch_fused", "noise": "none"},
    "lamb": {"lamb_dialect": "debiased", "noise": "none"},
    "scala": {"lamb_dialect": "debiased", "noise_delay": 0.0},
}
"""The follower plays from the first step, so that every step costs the same."""


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        method: of `METHODS`.
        batch: global.
        micro_batch: samples of a forward pass.
    """

    method: str
    batch: int
    micro_batch: int


def links(job: dict[str, Any]) -> dict[str, Any]:
    """Time all-reduces of several sizes, in turn, and a micro-batch in one process and in all at once.

    Args:
        job: encoder, length, micro_batch, pairs, bytes (sizes to reduce).

    Returns:
        devices, all_reduce (seconds of each repetition, a list a size) and sharing (a micro-batch's seconds where all processes
        compute, over one's alone; one number a repetition). A time is the slowest process's.
    """
    dist.init_process_group("gloo")
    bench = bench_of(classifier(job["encoder"]), job["micro_batch"], job["length"])

    def compute() -> None:
        bench.leader.zero_grad()
        bench.objective(None).backward()

    tensors = [torch.zeros(size // 4) for size in job["bytes"]]
    compute()
    for tensor in tensors:
        dist.all_reduce(tensor)
    reduced: list[list[float]] = [[] for _ in tensors]
    sharing = []
    for number in range(job["pairs"]):
        for tensor, seconds in zip(tensors, reduced, strict=True):
            seconds.append(_slowest(seconds_after_barrier(lambda tensor=tensor: dist.all_reduce(tensor))))  # type: ignore[misc]
        alone = _slowest(seconds_after_barrier(compute) if dist.get_rank() == number % dist.get_world_size() else _idle())
        sharing.append(_slowest(seconds_after_barrier(compute)) / alone)
    return {"devices": dist.get_world_size(), "all_reduce": reduced, "sharing": sharing}


def seconds_after_barrier(action: Callable[[], object]) -> float:
    """Seconds of an action that all processes begin together."""
    dist.barrier()
    return seconds_of(action)


def _idle() -> float:
    dist.barrier()
    return 0.0


def _slowest(seconds: float) -> float:
    greatest = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(greatest, dist.ReduceOp.MAX)
    return float(greatest)


def steps(job: dict[str, Any]) -> list[list[float]]:
    """Time leader's steps of `ScalaTrainer`.

    Args:
        job: encoder, length, steps, rows (of `Row`).

    Returns:
        Seconds of all steps but the first, a list a row.
    """
    quiet()
    model = classifier(job["encoder"])
    return [trained(model, job["length"], job["steps"], Row(**row)) for row in job["rows"]]


def trained(model: PreTrainedModel, length: int, number: int, row: Row) -> list[float]:
    """Train a copy of a model for some steps; the seconds from the end of each step to that of the next."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = ScalaConfig(
            output_dir=folder,
            per_device_train_batch_size=row.micro_batch,
            global_batch_size=row.batch,
            max_steps=number,
            learning_rate=1e-6,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            ddp_backend="gloo" if "RANK" in os.environ else None,
            dataloader_pin_memory=False,
            **METHODS[row.method],
        )
        # A copy: the gradients of one that DDP has wrapped would be reduced by every wrapper.
        data = _samples(row.batch, length, model.config.vocab_size)
        trainer = ScalaTrainer(copy.deepcopy(model), config, train_dataset=data, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]


class _Clock(TrainerCallback):
    """Remembers when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ends.append(time.perf_counter())


def _samples(number: int, length: int, vocabulary: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocabulary, (number, length), generator=generator).tolist()
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * length] * number, "label": [i % 2 for i in range(number)]}
    )


def main(kind: str, file: Path, job: dict[str, Any]) -> None:
    """One process's part."""
    torch.set_num_threads(1)
    result = {"links": links, "steps": steps}[kind](job)
    if int(os.environ.get("RANK", "0")) == 0:
        write_json(file, result, compact=True)
    if dist.is_initialized():
        dist.barrier()  # none leaves while another still writes
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
    # Python's shutdown kills threads that ask for its lock; in one of torch's that is an abort, now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
