"""Memory of training: the largest micro-batch that the device holds, found by trying the heaviest step; freed memory kept."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from paper_repro.rivals import RivalTrainer

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """From here on this process keeps the memory that it frees, for its next allocation; without glibc nothing changes.

    By its own rule glibc gives a gradient as large as an embedding matrix back to the system, and pages it in again, at every
    micro-batch.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def micro_batches(batch_size: int, micro_batch: int, processes: int = 1) -> Iterator[int]:
    """The sizes to try, largest first, each at most half of the one before, until 1.

    Args:
        batch_size: samples per leader's step; every size divides each process's share of it, so accumulation stays exact.
        micro_batch: the largest size.
        processes: how many share the batch.
    """
    share = batch_size // processes
    while micro_batch > 0:
        size = next(n for n in range(micro_batch, 0, -1) if share % n == 0)
        yield size
        micro_batch = size // 2


def largest_that_fits(trial: Callable[[int], object], sizes: Iterator[int]) -> int:
    """The first size at which `trial` does not run out of memory; under torchrun the least that any process found.

    Args:
        trial: does the heaviest step with micro-batches of a size. It must not wait for other processes: they may fail where
            this one does not.
        sizes: from large to small.

    Raises:
        torch.OutOfMemoryError: none of them fits.
    """
    for size in sizes:
        try:
            trial(size)
        except torch.OutOfMemoryError as error:
            # Without its traceback, whose frames hold on to the tensors.
            too_large = torch.OutOfMemoryError(
                f"not even micro-batches of {size} fit into the device's memory ({error}); "
                "set gradient_checkpointing = true or a smaller max_length"
            )
        else:
            return min(gather_object([size]))
        finally:
            clear_device_cache(garbage_collection=True)
    raise too_large


def heaviest_step(trainer: RivalTrainer) -> None:
    """Two leader's steps on the longest training samples, noise and all: with everything in memory that training will hold.

    The second finds the leader's state beside the gradients of the first, as in accumulation. The trainer is spent thereafter.

    Args:
        trainer: new; its training set has the column `input_ids`.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    args, data = trainer.args, trainer.train_dataset
    assert isinstance(data, Dataset)
    longest = int(np.argmax([len(ids) for ids in data["input_ids"]]))
    trainer.train_dataset = data.select([longest] * args.per_device_train_batch_size * args.world_size)
    batch = next(iter(trainer.get_train_dataloader()))
    if args.gradient_checkpointing:
        cast(PreTrainedModel, trainer.model).gradient_checkpointing_enable()
    trainer.create_optimizer_and_scheduler(num_training_steps=2)
    # Autocast as in training, but no DDP: a process that runs out of memory would leave the others waiting.
    model: nn.Module = trainer.accelerator.prepare_model(trainer.model, evaluation_mode=True)
    trainer.game.rounds = trainer.game.delay
    for _ in range(2):
        trainer.training_step(model, batch)
        trainer.game.leader.step()
