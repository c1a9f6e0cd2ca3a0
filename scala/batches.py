"""The micro-batches of a large batch: their order, and the samples that several processes would see twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scala.length_sorted import LengthSorted
from scala.loss_share import rows_of


def length_sorted(data: Any, batch_size: int, micro_batch_size: int, seed: int) -> LengthSorted | None:
    """The sampler that sorts large batches by length; None where the samples have no `input_ids`, or no number."""
    if not hasattr(data, "__len__") or not len(data):
        return None
    first = data[0]
    if not isinstance(first, Mapping) or not hasattr(first.get("input_ids"), "__len__"):
        return None
    stored = hasattr(data, "column_names") and getattr(data, "format", {}).get("type") != "custom"  # set_transform's
    # By position: a data set without an IndexError behind its last sample would give samples for ever.
    ids = data["input_ids"] if stored else (data[i]["input_ids"] for i in range(len(data)))
    return LengthSorted([len(i) for i in ids], batch_size, micro_batch_size, seed)


def without_repeats(
    batch: Mapping[str, Any], samples: int, data: Any, size: int, *, process: int, world: int
) -> tuple[Any, int]:
    """An epoch's last micro-batch without the samples that repeat earlier ones.

    Where an epoch's samples do not fill the last micro-batches of all processes, accelerate fills them with its first. A
    process must take part in every pass, so one that has none of its own left keeps a sample, which must weigh nothing.

    Args:
        batch: of `samples` samples.
        samples: how many it has.
        data: the training set.
        size: samples of a full micro-batch.
        process: the rank of this process.
        world: the number of processes.

    Returns:
        The micro-batch, and how many of its samples count.
    """
    if world == 1 or not hasattr(data, "__len__") or not len(data) % (size * world):
        return batch, samples
    left = min(max(len(data) % (size * world) - size * process, 0), size)
    return rows_of(batch, 0, max(1, left), samples), left
