"""`scala-adapt`: adapt an encoder on one's own labelled sentences or pairs, and save a model that loads anywhere.

    scala-adapt --model ENCODER --train train.csv --dev dev.csv --text sentence --label label --output out

The story is `adapt` here. What it tells of is in a file each: `arguments` and `options` (what was asked), `data`, `encoder`,
`batch` (default batch and rate), `folder` (whose output it is), `progress` and `picture` (what is seen of it).
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import huggingface_hub
import numpy as np
import torch
import transformers
from datasets import disable_progress_bars
from tqdm import tqdm
from transformers import DataCollatorWithPadding, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from scala.adapt.batch import batch_size, choose_batch, fit_rate
from scala.adapt.data import Data, Tokens, load_data, tokenize
from scala.adapt.encoder import Encoder, load_encoder
from scala.adapt.folder import LOG, SCORES, check_place, claim, how_to_load
from scala.adapt.options import Command, parser, read, refuse_smoothing
from scala.adapt.picture import confusion_picture, scatter_picture
from scala.adapt.progress import HEADLINE, Progress, write_log
from scala.game import NonFiniteLoss
from scala.heads import start_regression_head
from scala.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, compute_metrics_for
from scala.trainer import ScalaConfig, ScalaTrainer
from scala.whole_file import write_whole

_METRICS = {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS}
_MOST_CLASSES_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):
        print(parser().format_help())
        return 0
    quiet()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = cast(Any, _show_warning)
            adapt(read(words))
            if torch.distributed.is_initialized():  # of torchrun: none leaves while another still writes
                torch.distributed.barrier()
                torch.distributed.destroy_process_group()
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, NonFiniteLoss) as error:  # ImportError: an option's package is not installed
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def quiet() -> None:
    """Silence the libraries' own progress bars and their notes on freshly made heads."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()  # its retries end in an error of our own


def adapt(command: Command) -> None:
    """Adapt as the command says.

    Raises:
        ValueError: options or data that cannot be, by what is wrong with them and what to do.
        OSError: files that are missing, damaged or cannot be written.
        NonFiniteLoss: training fell apart.
    """
    options, config = command.options, command.config
    check_place(command)
    data = load_data(options)
    if data.kind == "regression":
        refuse_smoothing(config.label_smoothing_factor)
    _check_best_metric(config, data)
    set_seed(config.seed)  # the new head's weights
    encoder = load_encoder(options.model, data.train)
    tokens = tokenize(data, encoder, options.max_length)
    if data.train.labels is None:
        start_regression_head(encoder.model, torch.tensor(data.train.dataset["label"][:]))
    if not command.given & {"global_batch_size", "gradient_accumulation_steps"}:
        choose_batch(config, len(tokens.train))
    if "learning_rate" not in command.given and config.leader == "lamb":
        fit_rate(config, len(tokens.train))
    checkpoint = claim(command, data)
    if config.process_index == 0:
        print(_header(config, data, encoder) + (f"\ncontinuing from {checkpoint}" if checkpoint else ""), flush=True)
    dev_sets = {"eval": "dev"} if set(tokens.dev) == {"dev"} else {f"eval_{name}": name for name in tokens.dev}
    try:
        trainer = ScalaTrainer(
            encoder.model,
            config,
            train_dataset=tokens.train,
            eval_dataset=tokens.dev["dev"] if "eval" in dev_sets else tokens.dev,
            data_collator=DataCollatorWithPadding(encoder.tokenizer),
            processing_class=encoder.tokenizer,
            compute_metrics=compute_metrics_for(data.kind),
        )
    except TypeError as error:  # a model that the game cannot be played on
        raise ValueError(f"--model {options.model}: {error}") from error
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    hidden = bool(config.disable_tqdm) and "disable_tqdm" in command.given
    trainer.add_callback(Progress(dev_sets, HEADLINE[data.kind], hidden))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.is_world_process_zero():
        write_log(trainer.state.log_history, command.output / LOG, dev_sets, HEADLINE[data.kind])
    trainer.save_model()
    _score(trainer, command, data, tokens)


def _header(config: ScalaConfig, data: Data, encoder: Encoder) -> str:
    labels = data.train.labels or []
    classes = ", ".join(labels[:_MOST_CLASSES_SHOWN]) + (" ..." if len(labels) > _MOST_CLASSES_SHOWN else "")
    dev = " and ".join(f"{len(part.dataset):,} {name}" for name, part in data.dev.items())
    lines = [
        f"{data.kind}: {len(data.train.dataset):,} training and {dev} examples" + (f", classes {classes}" if labels else ""),
        *(f"note: {note}" for note in [*data.notes, *encoder.notes]),
        f"batch {batch_size(config)}, learning rate {config.learning_rate:g}, {_follower(config)}",
    ]
    return "\n".join(lines)


def _follower(config: ScalaConfig) -> str:
    if config.noise == "none":
        return "no noise"
    unit = "" if config.noise_absolute else " of the embeddings' norm"
    start = f"{config.noise_delay:.0%} of the steps" if config.noise_delay < 1 else f"step {config.noise_delay:g}"
    return f"noise of radius {config.noise_radius:g}{unit} from {start} on, K = {config.noise_steps}"


def _check_best_metric(config: ScalaConfig, data: Data) -> None:
    """Refuse to look for the best checkpoint by a metric that there will not be, which transformers notices after an epoch."""
    metric = config.metric_for_best_model
    if metric is None:
        return
    known = ["loss", *_METRICS[data.kind]]
    if set(data.dev) != {"dev"}:
        known = [f"{name}_{metric}" for name in data.dev for metric in known]
    if metric.removeprefix("eval_") not in known:
        raise ValueError(
            f"the best checkpoint cannot be found by {metric!r}; give --metric_for_best_model, one of {', '.join(known)}"
        )


def _score(trainer: ScalaTrainer, command: Command, data: Data, tokens: Tokens) -> None:
    """Score the model that was saved on every dev set; write scores and pictures, and say how to load the model."""
    scores: dict[str, dict[str, float]] = {}
    pictures = []
    for name, part in tokens.dev.items():
        answer = trainer.predict(part, metric_key_prefix="eval")
        scores[name] = {key.removeprefix("eval_"): value for key, value in (answer.metrics or {}).items()}
        if not trainer.is_world_process_zero():
            continue
        shown = ", ".join(f"{key} {scores[name][key]:.4f}" for key in _METRICS[data.kind])
        print(f"{name}: {shown}")
        outputs = np.asarray(answer.predictions[0] if isinstance(answer.predictions, tuple) else answer.predictions)
        kind = "scatter" if data.train.labels is None else "confusion"
        pictures.append(command.output / (f"{kind}.png" if len(tokens.dev) == 1 else f"{kind}-{_as_file_name(name)}.png"))
        title = f"{name}: {HEADLINE[data.kind]} {scores[name][HEADLINE[data.kind]]:.3f}"
        labels = np.asarray(answer.label_ids)
        if data.train.labels is None:
            drawn = scatter_picture(outputs.reshape(-1), labels, title)
        else:
            drawn = confusion_picture(outputs.argmax(axis=1), labels, data.train.labels, title)
        write_whole(pictures[-1], drawn)
    if trainer.is_world_process_zero():
        single = scores["dev"] if set(scores) == {"dev"} else None
        write_whole(
            command.output / SCORES, json.dumps(single or scores, indent=1) + "\n"
        )  # the last: with it a run is finished
        print(f"model: {command.output}   log: {command.output / LOG}   answers: {', '.join(map(str, pictures))}")
        print(f"try it: {how_to_load(command, data)}")


def _as_file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_" else "-" for character in name)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Show warnings for the user in words, and those for programmers with their place; once, where there are many processes."""
    if int(os.environ.get("RANK", "0")):
        return
    placed = warnings.formatwarning(message, category, filename, lineno).rstrip()
    tqdm.write(f"warning: {message}" if category is UserWarning else placed, file=sys.stderr)
