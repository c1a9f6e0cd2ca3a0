"""Micro-batches of samples of like length: the gradient of a large batch for less padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class LengthSorted(Sampler[int]):
    """A random order of the samples in which every large batch is sorted by length, the longest first.

    The large batches are those that the Trainer's own random sampler draws from this seed. Their micro-batches then need
    padding only to their own longest sample. Since the gradient of a large batch is a sum over its samples, it does not change;
    only dropout's masks fall elsewhere. Within a micro-batch the order is random.

    (transformers' "group_by_length" sorts across large batches, which changes their composition; its "batch_rebalance" draws
    the same order whatever the seed.)
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, micro_batch_size: int, seed: int) -> None:
        """Set up.

        Args:
            lengths: tokens of each sample.
            batch_size: samples per leader's step, over all processes.
            micro_batch_size: samples per forward pass of one process.
            seed: with the epoch it decides the order, in every process alike.

        Raises:
            ValueError: batch_size is not a positive multiple of micro_batch_size.
        """
        if micro_batch_size < 1 or batch_size < 1 or batch_size % micro_batch_size:
            raise ValueError(f"batch_size {batch_size} must be a positive multiple of micro_batch_size {micro_batch_size}")
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Positions of the samples in this epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        for batch in torch.randperm(len(self), generator=generator).split(self.batch_size):
            longest_first = batch[self.lengths[batch].argsort(descending=True, stable=True)]
            for micro_batch in longest_first.split(self.micro_batch_size):
                yield from micro_batch[torch.randperm(len(micro_batch), generator=generator)].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; the Trainer does."""
        self.epoch = epoch
