"""What a large batch costs the trainer with micro-batches as they are drawn, and sorted by length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, default_data_collator
from transformers.trainer_callback import PrinterCallback

from paper_repro.bench.interleaved import interleaved
from paper_repro.data.encoders import resolve
from scala import ScalaConfig, ScalaTrainer

WITHOUT = "as drawn"
MEDIAN, DEVIATION, LONGEST = 10.0, 0.6, 62
"""Lengths are drawn lognormally, as those of sentences are about: median, deviation of the logarithm, and a limit."""


def time_large_batches(encoder: str, *, batch: int = 512, micro_batch: int = 32, pairs: int = 5) -> dict[str, Any]:
    """Time one epoch of one large batch by the trainer, a plain step of LAMB.

    Args:
        encoder: whose architecture is used, with random weights; see `paper_repro.data.encoders`.
        batch: samples.
        micro_batch: samples of a forward pass.
        pairs: see `interleaved`.

    Returns:
        batch, micro_batch, tokens (with padding, in the batch as drawn and sorted; and without padding), rows (name and
        `Timing`'s fields).
    """
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(resolve(encoder)))
    data = _samples(batch, model.config.vocab_size)
    lengths = torch.tensor([len(ids) for ids in data["input_ids"]])
    longest_first = lengths.sort(descending=True).values
    with tempfile.TemporaryDirectory() as folder:

        def epoch(*, sort: bool) -> Callable[[], object]:
            config = ScalaConfig(
                output_dir=folder,
                per_device_train_batch_size=micro_batch,
                global_batch_size=batch,
                num_train_epochs=1,
                learning_rate=1e-6,
                lamb_dialect="debiased",
                noise="none",
                sort_by_length=sort,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
            )
            trainer = ScalaTrainer(model, config, train_dataset=data, data_collator=_padded)
            trainer.remove_callback(PrinterCallback)
            return trainer.train

        timings = interleaved(
            {WITHOUT: epoch(sort=False), "sorted by length": epoch(sort=True)},
            WITHOUT,
            pairs,
        )
    return {
        "batch": batch,
        "micro_batch": micro_batch,
        "tokens": {"drawn": _padded_tokens(lengths, micro_batch), "sorted": _padded_tokens(longest_first, micro_batch)}
        | {"without padding": int(lengths.sum())},
        "rows": [{"name": name, **asdict(timing)} for name, timing in timings.items()],
    }


def _samples(number: int, vocabulary: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    lengths = (MEDIAN * (DEVIATION * torch.randn(number, generator=generator)).exp()).int().clamp(1, LONGEST)
    ids = [torch.randint(5, vocabulary, (int(length) + 2,), generator=generator).tolist() for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "label": [i % 2 for i in range(number)]})


def _padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    length = max(len(row["input_ids"]) for row in rows)
    return default_data_collator(
        [
            {
                "input_ids": row["input_ids"] + [0] * (length - len(row["input_ids"])),
                "attention_mask": [1] * len(row["input_ids"]) + [0] * (length - len(row["input_ids"])),
                "label": row["label"],
            }
            for row in rows
        ]
    )


def _padded_tokens(lengths: torch.Tensor, micro_batch: int) -> int:
    return sum(int(part.max()) * len(part) for part in lengths.split(micro_batch))
