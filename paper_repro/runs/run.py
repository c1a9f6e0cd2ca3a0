"""One run: adapt an encoder as a `Run` says, and write one JSON with everything its numbers depend on.

A run can be killed at any point. Its checkpoints let it continue bit for bit; its result appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
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
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from paper_repro.data.encoders import resolve, weights_hash
from paper_repro.data.tasks import Task, load_task
from paper_repro.record import provenance, write_json
from paper_repro.rivals import RivalConfig, RivalTrainer
from paper_repro.runs.experiment import Run
from paper_repro.runs.memory import heaviest_step, keep_freed_memory, largest_that_fits, micro_batches
from paper_repro.runs.origin import refuse_other_origin
from scala.heads import start_regression_head
from scala.labelled_text import refuse_too_long, tokenized
from scala.trainer import last_checkpoint

Progress = Callable[[int, int, float, float | None], None]
"""progress(step, of steps, training seconds, score or None)"""

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")

_VERSIONED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "scikit-learn", "scala-adapt")


def result_file(run: Run, folder: str | Path) -> Path:
    """Where the result of a run lies in a results folder."""
    return Path(folder) / f"{run.identity}.json"


def execute(
    run: Run,
    folder: str | Path,
    glue_dir: str | None = None,
    progress: Progress | None = None,
    report_to: Sequence[str] = ("none",),
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Do a run, or continue it, or return its result if it is already there.

    Under torchrun every process calls this and gets the result; the first of them writes it.

    Args:
        run: what to do.
        folder: results folder; the run's JSON goes there, its checkpoints to a subfolder that is removed at the end.
        glue_dir: folder of the official GLUE files; None: the hub (GLUE tasks only).
        progress: called after every leader's step and every evaluation, in the first process.
        report_to: trackers that get the metrics as well, by transformers' names ("tensorboard", "wandb" ...). Their files, if
            their own settings do not say otherwise, stay in the run's subfolder. No part of the run's identity.
        callbacks: that watch the training and change nothing of it; they see none of a run that is done already.

    Returns:
        The result: `settings`, `task`, `model`, `score` (the finished model's), `curve` (one entry an evaluation, with
        `train_seconds` inside the leader's steps and `wall_seconds` of everything since the run began), `training_log`,
        `predictions` and `labels` (of the first split, in its order), `further` (score, predictions and labels of each other
        split), `cost`, `provenance`. Its `micro_batch` is the one really used: no larger than the settings', and halved until
        the longest batch fits into a GPU's memory, which changes no gradient (SAM's excepted, see `paper_repro.rivals.sam`).

    Raises:
        scala.game.NonFiniteLoss: the loss or a gradient left the finite numbers.
        ValueError: the result is there but damaged, or made from other data or weights than are at hand; or the task's data are
            not as they should be.
    """
    began = time.perf_counter()
    keep_freed_memory()
    path = result_file(run, folder)
    if path.exists():
        result = read_result(path)
        refuse_other_origin(path, result, glue_dir)
        return result
    task = load_task(run.task, glue_dir=glue_dir, train_examples=run.train_examples, held_out=run.held_out)
    checkpoints = path.with_suffix("")
    micro_batch = _micro_batch(run, task, checkpoints)
    trainer, model_facts = _trainer(run, task, checkpoints, micro_batch, progress=progress, report_to=report_to)
    trainer.began = began
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=_continue_from(checkpoints))
    facts = {"settings": run.settings(), "model": model_facts}
    result = sealed({**facts, **_outcome(trainer, task), "provenance": provenance(_VERSIONED)})
    if trainer.is_world_process_zero():
        write_json(path, result)
        for done in [checkpoints] if list(report_to) == ["none"] else checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(done, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()  # whoever asks next finds the result
    return result


_NUMBER = (int, float)
_SPLIT = {"score": _NUMBER, "predictions": [_NUMBER], "labels": [_NUMBER]}
_SHAPE: dict[str, Any] = {
    "settings": dict,
    "model": dict,
    "task": {"name": str, "metric": str, "split": str, "source": dict},
    "curve": [{"step": _NUMBER, "gradient_evaluations": _NUMBER, "train_seconds": _NUMBER}],
    "cost": {"steps": _NUMBER, "gradient_evaluations": _NUMBER, "train_seconds": _NUMBER, "train_examples": _NUMBER},
    "provenance": dict,
    **_SPLIT,
}


def read_result(path: Path) -> dict[str, Any]:
    """A finished run's result, with everything in it that a comparison reads.

    Raises:
        ValueError: the file is not JSON, lacks something, holds another run than its name says, or is not what was written;
            results are written whole, so it was damaged from outside.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        _check_shape(result, _SHAPE, "the result")
        score = f"eval_{result['task']['split']}_{result['task']['metric']}"
        _check_shape(result["curve"], [{score: _NUMBER}], "curve")
        if not result["curve"]:
            raise ValueError("curve is empty")
        further = result.get("further", {})  # results of one split had none, once
        _check_shape(further, dict, "further")
        _check_shape(further, dict.fromkeys(further, _SPLIT), "further")
        if any(len(split["predictions"]) != len(split["labels"]) for split in (result, *further.values())):
            raise ValueError("there are not as many predictions as labels")
        run = Run.of_settings(result["settings"])
    except ValueError as error:  # of which bad UTF-8 and bad JSON are kinds
        raise ValueError(f"{path} is damaged ({error}); delete it, and its run is done again") from error
    if run.identity != path.stem:
        raise ValueError(
            f"{path} holds the result of another run; by its settings its name is {run.identity}.json; "
            "delete it, and the run that it is called after is done again"
        )
    if _SEAL in result["provenance"] and sealed(result) != result:  # the first results had none
        raise ValueError(f"{path} is damaged (it is not as it was written); delete it, and its run is done again")
    return result


def sealed(result: dict[str, Any]) -> dict[str, Any]:
    """The result with a SHA-256 of all that it says in its provenance, by which a changed digit is noticed."""
    known = {key: value for key, value in result["provenance"].items() if key != _SEAL}
    content = json.dumps({**result, "provenance": known}, sort_keys=True)
    return {**result, "provenance": {**known, _SEAL: hashlib.sha256(content.encode()).hexdigest()}}


def resealed(result: dict[str, Any]) -> dict[str, Any]:
    """A result from which something was left out on purpose, sealed again if it was."""
    return sealed(result) if _SEAL in result["provenance"] else result


_SEAL = "content_sha256"


def _check_shape(value: Any, shape: Any, where: str) -> None:
    """Refuse a JSON value that is not of this shape: a type or types, a dict of shapes by key, or a list's items' shape."""
    kinds = type(shape) if isinstance(shape, dict | list) else shape
    if not isinstance(value, kinds) or isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} is {str(value)[:40]!r}, of a wrong kind")
    if isinstance(shape, dict):
        for key, inner in shape.items():
            if key not in value:
                raise ValueError(f"{where} has no {key!r}")
            _check_shape(value[key], inner, key)
    elif isinstance(shape, list):
        for number, item in enumerate(value):
            _check_shape(item, shape[0], f"{where}[{number}]")


def _continue_from(checkpoints: Path) -> str | None:
    found = last_checkpoint(checkpoints)
    return None if found is None else str(found)


def _micro_batch(run: Run, task: Task, checkpoints: Path) -> int:
    """Samples of a forward pass: the settings' number, or less where many share the batch or the device's memory is small."""
    sizes = micro_batches(run.batch_size, run.micro_batch, int(os.environ.get("WORLD_SIZE", "1")))
    if not torch.accelerator.is_available():
        return next(sizes)  # memory that a computer can swap is not worth the time of a trial
    found = largest_that_fits(lambda size: heaviest_step(_trainer(run, task, checkpoints, size)[0]), sizes)
    if found < run.micro_batch:
        print(f"{run.identity}: micro-batches of {found}, not {run.micro_batch}; still {run.batch_size} a step", flush=True)
    return found


def _trainer(
    run: Run,
    task: Task,
    checkpoints: Path,
    micro_batch: int,
    *,
    progress: Progress | None = None,
    report_to: Sequence[str] = ("none",),
) -> tuple[_TimedTrainer, dict[str, Any]]:
    location = resolve(run.model)
    set_seed(run.seed)  # the new head's weights
    tokenizer = AutoTokenizer.from_pretrained(location)
    settings = AutoConfig.from_pretrained(location, num_labels=1 if task.labels is None else len(task.labels))
    if run.dropout is not None:
        names = [name for name in _DROPOUTS if hasattr(settings, name)]
        if not names:
            raise ValueError(
                f"{run.model} has no dropout that could be set: none of {', '.join(_DROPOUTS)} in its configuration"
            )
        settings.update(dict.fromkeys(names, run.dropout))
    model = AutoModelForSequenceClassification.from_pretrained(
        location, config=settings, use_safetensors=True, dtype=torch.float32
    )
    train = tokenized(task.train, tokenizer, run.max_length)
    evaluation = {name: tokenized(split, tokenizer, run.max_length) for name, split in task.evaluation.items()}
    for split in (train, *evaluation.values()):
        refuse_too_long(split, model.config)
    if task.labels is None and not run.zero_head:
        start_regression_head(model, torch.tensor(task.train["label"][:]))
    # Batches of like lengths need little padding; the longest come first, so that too little memory shows at once.
    orders = {name: np.argsort([-len(ids) for ids in split["input_ids"]], kind="stable") for name, split in evaluation.items()}
    steps = -(-len(train) // run.batch_size) * run.epochs
    every = max(1, round(steps / run.evaluations))
    options = dict(run.options)
    if not options["gradient_checkpointing"]:
        del options["gradient_checkpointing"]  # transformers warns where it is named at all
    config = RivalConfig(
        output_dir=str(checkpoints),
        seed=run.seed,
        per_device_train_batch_size=micro_batch,
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
        use_cpu=not torch.accelerator.is_available(),  # unless told, transformers takes processes on CPUs for strangers
        report_to=list(report_to),
        run_name=run.identity,
        log_level_replica="error",
        dataloader_pin_memory=torch.cuda.is_available(),
        **options,
    )
    trainer = _TimedTrainer(
        model,
        config,
        train_dataset=train,
        eval_dataset={name: split.select(orders[name]) for name, split in evaluation.items()},
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=task.compute_metrics,
        preprocess_logits_for_metrics=_first_output,
    )
    trainer.orders = orders
    trainer.add_callback(_Clock(trainer, f"eval_{next(iter(evaluation))}_{task.metric}", progress))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    facts = {"name": run.model, "parameters": model.num_parameters(), "weights_sha256": weights_hash(location)}
    return trainer, facts


def _first_output(outputs: Any, _labels: torch.Tensor) -> torch.Tensor:
    """The logits, without what a configuration may have a model return beside them: hidden states, attentions, caches."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


class _TimedTrainer(RivalTrainer):
    """Puts times and gradient evaluations so far beside every evaluation, in the log that checkpoints carry.

    Attributes:
        orders: for each evaluation split, which row of it each row of `eval_dataset` is.
        outputs: predictions and labels of the last evaluation, by its metrics' prefix ("eval_" and the split's name).
        seconds: inside the leader's steps, over all processes' lives that a run took.
        began: when this process began the run, on `time.perf_counter`'s clock.
        before: seconds that earlier processes spent on the run, up to the checkpoint it was continued from.
    """

    train_dataset: Dataset
    eval_dataset: dict[str, Dataset]
    orders: dict[str, np.ndarray]
    seconds = 0.0
    began = 0.0
    before = 0.0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.outputs: dict[str, EvalLoopOutput] = {}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if any(key.startswith("eval_") for key in logs):
            logs |= {
                "train_seconds": self.seconds,
                "wall_seconds": self.before + time.perf_counter() - self.began,
                "gradient_evaluations": self.gradient_evaluations,
            }
        super().log(logs, start_time)

    @property
    def gradient_evaluations(self) -> int:
        """Over all processes."""
        return self.game.gradient_evaluations * self.args.world_size

    def evaluation_loop(
        self, dataloader: Any, description: str, *arguments: Any, metric_key_prefix: str = "eval", **keywords: Any
    ) -> EvalLoopOutput:
        keywords["metric_key_prefix"] = metric_key_prefix
        found = super().evaluation_loop(dataloader, description, *arguments, **keywords)
        self.outputs[metric_key_prefix] = found
        return found


class _Clock(TrainerCallback):
    """Adds up the time inside leader's steps: ascent, forward, backward and update; not evaluation, not checkpoints."""

    def __init__(self, trainer: _TimedTrainer, score_key: str, progress: Progress | None) -> None:
        self.trainer = trainer
        self.score_key = score_key
        self.progress = progress
        self.began = 0.0
        self.score: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for entry in state.log_history:
            self.trainer.seconds = entry.get("train_seconds", self.trainer.seconds)
            self.trainer.before = entry.get("wall_seconds", self.trainer.before)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.trainer.seconds += time.perf_counter() - self.began
        if state.global_step == state.max_steps:
            control.should_evaluate = True  # the last score is always that of the finished model
            control.should_save = False  # the result follows at once
        self._show(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.score = state.log_history[-1].get(self.score_key, self.score)
        self._show(state)

    def _show(self, state: TrainerState) -> None:
        if self.progress is not None and self.trainer.is_world_process_zero():
            self.progress(state.global_step, state.max_steps, self.trainer.seconds, self.score)


def _outcome(trainer: _TimedTrainer, task: Task) -> dict[str, Any]:
    history = trainer.state.log_history
    first = next(iter(task.evaluation))
    curve: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "train_seconds" in entry:
            curve.setdefault(int(entry["step"]), {}).update(entry)
    last = curve[max(curve)]

    def split(name: str) -> dict[str, Any]:
        scored = trainer.outputs[f"eval_{name}"]
        rows = np.argsort(trainer.orders[name])  # back into the split's own order
        outputs, labels = np.asarray(scored.predictions)[rows], np.asarray(scored.label_ids)[rows]
        predictions = outputs.squeeze(-1) if task.labels is None else outputs.argmax(axis=-1)
        return {
            "score": last[f"eval_{name}_{task.metric}"],
            "predictions": np.round(predictions, 6).tolist(),
            "labels": np.round(labels, 6).tolist(),
        }

    return {
        "task": {"name": task.name, "metric": task.metric, "split": first, "source": task.source},
        **split(first),
        "further": {name: split(name) for name in task.evaluation if name != first},
        "curve": list(curve.values()),
        "training_log": [entry for entry in history if "loss" in entry],
        "cost": {
            "steps": trainer.state.global_step,
            "gradient_evaluations": trainer.gradient_evaluations,
            "train_seconds": trainer.seconds,
            "train_examples": len(trainer.train_dataset),
            "micro_batch": trainer.args.per_device_train_batch_size,
            "processes": trainer.args.world_size,
        },
    }
