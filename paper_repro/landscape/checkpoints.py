"""The weights that a run passes through, kept along its training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from paper_repro.data.encoders import resolve
from paper_repro.runs.experiment import Run


class KeepWeights(TrainerCallback):
    """Writes the model's weights at some shares of the training, each file whole or not at all."""

    def __init__(self, folder: Path, shares: Sequence[float]) -> None:
        """Set up.

        Args:
            folder: where STEP.safetensors go.
            shares: in [0, 1], of all steps; 0: before the first step, 1: the finished model.
        """
        self.folder = folder
        self.shares = shares

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Keep the start, unless the run goes on from a checkpoint: then the start was kept before."""
        if state.global_step == 0:
            self._keep(state, model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Keep the weights if it is time."""
        self._keep(state, model)

    def _keep(self, state: TrainerState, model: nn.Module | None) -> None:
        if model is None or state.global_step not in steps_at(self.shares, state.max_steps):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = weights_file(self.folder, state.global_step)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        save_file({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}, partial)
        os.replace(partial, path)


def steps_at(shares: Sequence[float], steps: int) -> list[int]:
    """The steps at these shares of all, in order."""
    return sorted({round(share * steps) for share in shares})


def weights_file(folder: Path, step: int) -> Path:
    """Where the weights after so many steps lie."""
    return folder / f"{step}.safetensors"


def model_of(run: Run, labels: int, path: Path) -> nn.Module:
    """The run's model with kept weights, in evaluation mode.

    Args:
        run: whose model.
        labels: classes.
        path: see `weights_file`.

    Raises:
        ValueError: the file is damaged or of another model.
    """
    settings = AutoConfig.from_pretrained(resolve(run.model), num_labels=labels)
    model = AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no weights of {run.model} ({error}); delete it, and its run is done again") from error
    return model.eval()
