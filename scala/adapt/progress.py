"""What is seen of a training: one bar and a line an evaluation while it runs, and a table of its steps at the end."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scala.whole_file import write_whole

LOG_COLUMNS = (
    "step",
    "epoch",
    "loss",
    "dev",
    "eval_loss",
    "score",
    "learning_rate",
    "grad_norm",
    "follower",
    "noise_norm",
    "loss_rise",
    "trust_ratio_min",
    "trust_ratio_median",
    "trust_ratio_max",
    "gradient_evaluations",
)
HEADLINE = {"classification": "accuracy", "regression": "pearson"}
"""The score that is shown while training, by the kind of task."""


class Progress(TrainerCallback):
    """One bar for the training, and a line for every evaluation."""

    def __init__(self, dev_sets: Mapping[str, str], headline: str, hidden: bool = False) -> None:
        """`dev_sets` has the names of dev sets by the prefix of their metrics, such as {"eval": "dev"}."""
        self.dev_sets, self.headline, self.hidden = dev_sets, headline, hidden
        self.bar: tqdm | None = None
        self.last: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the bar."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", disable=self.hidden)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move it."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write a line above it for every dev set."""
        entry = state.log_history[-1]
        if "loss" in entry:
            self.last = entry
        for prefix, name in self.dev_sets.items():
            if self.bar is None or (score := entry.get(f"{prefix}_{self.headline}")) is None:
                continue
            rise = f", loss rise under the noise {self.last['loss_rise']:.4f}" if "loss_rise" in self.last else ""
            loss = f"loss {self.last.get('loss', math.nan):.4f}{rise}"
            self.bar.write(f"epoch {entry['epoch']:.2f}, step {state.global_step}: {loss}, {name} {self.headline} {score:.4f}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close it."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def write_log(history: list[dict[str, Any]], path: Path, dev_sets: Mapping[str, str], headline: str) -> None:
    """Write the training log as a table: one row a logged step, and one an evaluation of a dev set.

    Args:
        history: the trainer's log.
        path: where it goes.
        dev_sets: names of dev sets by the prefix of their metrics.
        headline: the metric of the column ``score``.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, LOG_COLUMNS, delimiter="\t", extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    for entry in history:
        rows = [entry] if "loss" in entry else []
        for prefix, name in dev_sets.items():
            if f"{prefix}_loss" in entry:
                scores = {"eval_loss": entry[f"{prefix}_loss"], "score": entry.get(f"{prefix}_{headline}", "")}
                rows.append({"step": entry["step"], "epoch": entry["epoch"], "dev": name, **scores})
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    write_whole(path, table.getvalue())
