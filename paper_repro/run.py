"""One run: adapt an encoder as a `Run` says, and write one JSON with everything its numbers depend on.

A run can be killed at any point. Its checkpoints let it continue bit for bit; its result appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from convergence.record import provenance, write_whole
from paper_repro.encoders import resolve, weights_hash
from paper_repro.experiment import Run
from paper_repro.tasks import Task, load_task
from scala.labelled_text import tokenized
from scala.trainer import ScalaConfig, ScalaTrainer, last_checkpoint

Progress = Callable[[int, int, float, float | None], None]
"""progress(step, of steps, training seconds, score or None)"""

_VERSIONED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "scikit-learn", "scala-adapt")


def result_file(run: Run, folder: str | Path) -> Path:
    """Where the result of a run lies in a results folder."""
    return Path(folder) / f"{run.identity}.json"


def execute(run: Run, folder: str | Path, glue_dir: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Do a run, or continue it, or return its result if it is already there.

    Args:
        run: what to do.
        folder: results folder; the run's JSON goes there, its checkpoints to a subfolder that is removed at the end.
        glue_dir: folder of the official GLUE files; None: the hub (GLUE tasks only).
        progress: called after every leader's step and every evaluation.

    Returns:
        The result: `settings`, `task`, `model`, `curve` (one entry an evaluation), `final` (scores on each split),
        `predictions` and `labels` (of the first split), `cost`, `provenance`.

    Raises:
        scala.game.NonFiniteLoss: the loss or a gradient left the finite numbers.
        ValueError: the result is there but damaged, or the task's data are not as they should be.
    """
    path = result_file(run, folder)
    if path.exists():
        return read_result(path)
    task = load_task(run.task, glue_dir=glue_dir, train_examples=run.train_examples, held_out=run.held_out)
    checkpoints = path.with_suffix("")
    trainer, model_facts = _trainer(run, task, checkpoints, progress)
    trainer.train(resume_from_checkpoint=_continue_from(checkpoints))
    result = {"settings": run.settings(), "model": model_facts, **_outcome(trainer, task), "provenance": provenance(_VERSIONED)}
    write_whole(path, json.dumps(result, indent=1))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result


def read_result(path: Path) -> dict[str, Any]:
    """A finished run's result.

    Raises:
        ValueError: the file is not JSON; results are written whole, so it was damaged from outside.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and its run is done again") from error


def _continue_from(checkpoints: Path) -> str | None:
    found = last_checkpoint(checkpoints)
    return None if found is None else str(found)


def _trainer(run: Run, task: Task, checkpoints: Path, progress: Progress | None) -> tuple[_TimedTrainer, dict[str, Any]]:
    location = resolve(run.model)
    set_seed(run.seed)  # the new head's weights
    tokenizer = AutoTokenizer.from_pretrained(location)
    model = AutoModelForSequenceClassification.from_pretrained(
        location, num_labels=1 if task.labels is None else len(task.labels), use_safetensors=True, dtype=torch.float32
    )
    train = tokenized(task.train, tokenizer, run.max_length)
    evaluation = {name: tokenized(split, tokenizer, run.max_length) for name, split in task.evaluation.items()}
    steps = -(-len(train) // run.batch_size) * run.epochs
    every = max(1, round(steps / run.evaluations))
    options = dict(run.options)
    config = ScalaConfig(
        output_dir=str(checkpoints),
        seed=run.seed,
        per_device_train_batch_size=run.micro_batch,
        per_device_eval_batch_size=128,
        global_batch_size=run.batch_size,
        num_train_epochs=run.epochs,
        learning_rate=run.learning_rate,
        weight_decay=run.weight_decay,
        warmup_steps=round(run.warmup * steps),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        logging_steps=every,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        **options,
    )
    trainer = _TimedTrainer(
        model,
        config,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=task.compute_metrics,
    )
    trainer.add_callback(_Clock(trainer, f"eval_{next(iter(evaluation))}_{task.metric}", progress))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    facts = {"name": run.model, "parameters": model.num_parameters(), "weights_sha256": weights_hash(location)}
    return trainer, facts


class _TimedTrainer(ScalaTrainer):
    """Puts training time and gradient evaluations so far beside every evaluation, in the log that checkpoints carry."""

    train_dataset: Dataset
    eval_dataset: dict[str, Dataset]
    seconds = 0.0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if any(key.startswith("eval_") for key in logs):
            logs |= {"train_seconds": self.seconds, "gradient_evaluations": self.game.gradient_evaluations}
        super().log(logs, start_time)


class _Clock(TrainerCallback):
    """Adds up the time inside leader's steps: ascent, forward, backward and update; not evaluation, not checkpoints."""

    def __init__(self, trainer: _TimedTrainer, score_key: str, progress: Progress | None) -> None:
        self.trainer = trainer
        self.score_key = score_key
        self.progress = progress
        self.began = 0.0
        self.score: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        times = [entry["train_seconds"] for entry in state.log_history if "train_seconds" in entry]
        self.trainer.seconds = times[-1] if times else 0.0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.trainer.seconds += time.perf_counter() - self.began
        if state.global_step == state.max_steps:
            control.should_evaluate = True  # the last score is always that of the finished model
        self._show(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.score = state.log_history[-1].get(self.score_key, self.score)
        self._show(state)

    def _show(self, state: TrainerState) -> None:
        if self.progress is not None:
            self.progress(state.global_step, state.max_steps, self.trainer.seconds, self.score)


def _outcome(trainer: _TimedTrainer, task: Task) -> dict[str, Any]:
    history = trainer.state.log_history
    first = next(iter(task.evaluation))
    curve: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "train_seconds" in entry:
            curve.setdefault(int(entry["step"]), {}).update(entry)
    predicted = trainer.predict(trainer.eval_dataset[first])
    outputs = np.asarray(predicted.predictions)
    predictions = outputs.squeeze(-1) if task.labels is None else outputs.argmax(axis=-1)
    last = curve[max(curve)]
    return {
        "task": {"name": task.name, "metric": task.metric, "split": first, "source": task.source},
        "score": last[f"eval_{first}_{task.metric}"],
        "curve": list(curve.values()),
        "training_log": [entry for entry in history if "loss" in entry],
        "predictions": np.round(predictions, 6).tolist(),
        "labels": np.round(np.asarray(predicted.label_ids), 6).tolist(),
        "cost": {
            "steps": trainer.state.global_step,
            "gradient_evaluations": trainer.game.gradient_evaluations,
            "train_seconds": trainer.seconds,
            "train_examples": len(trainer.train_dataset),
        },
    }
