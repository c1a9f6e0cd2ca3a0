"""`scala-adapt`: adapt an encoder on one's own labelled sentences or pairs, and save a model that loads anywhere.

    scala-adapt --model ENCODER --train train.csv --dev dev.csv --text sentence --label label --output out

ENCODER is a local folder or a hub name. Files are CSV, TSV or JSON lines. Labels may be classes or numbers. Started again with
the same arguments after an interruption, it continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, cast

import huggingface_hub
import torch
import transformers
from datasets import disable_progress_bars
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    HfArgumentParser,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from scala.game import NonFiniteLoss
from scala.heads import start_regression_head
from scala.labelled_text import LabelledText, load_labelled_text, refuse_too_long, tokenized
from scala.metrics import compute_metrics_for
from scala.trainer import ScalaConfig, ScalaTrainer, last_checkpoint
from scala.whole_file import write_whole

LOG_COLUMNS = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "score",
    "learning_rate",
    "grad_norm",
    "follower",
    "noise_norm",
    "loss_rise",
)
_DIAGNOSTICS = ("trust_ratio_min", "trust_ratio_median", "trust_ratio_max", "gradient_evaluations")
LEAST_STEPS = 60
"""With the default batch size the batch is halved until training has at least so many steps."""
STEPS_OF_THE_RATE = 90
"""Steps of a training that the default rate is for. Over more steps it goes with one over their root, which at equal epochs is
the square root of the batch (You et al. 2020, section 4); over fewer it stays."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (scala-adapt --help lists the options)")


class _ConfigParser(_Parser, HfArgumentParser):
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    quiet()
    try:
        return _adapt(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError, NonFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def quiet() -> None:
    """Silence the libraries' own progress bars and their notes on freshly made heads."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()  # its retries end in an error of our own


def _adapt(arguments: list[str]) -> int:
    options, config, given = _parse(arguments)
    output = Path(options.output)
    train, dev = _data(options)
    set_seed(config.seed)  # the new head's weights
    tokenizer, model = _encoder(options.model, train.labels)
    train_set, dev_set = (tokenized(part.dataset, tokenizer, options.max_length) for part in (train, dev))
    for part in (train_set, dev_set):
        refuse_too_long(part, cast(PreTrainedConfig, model.config))
    if train.labels is None:
        start_regression_head(model, torch.tensor(train.dataset["label"][:]))
    # Batches of like lengths need little padding; the order of the dev set shows nowhere.
    lengths = [len(ids) for ids in dev_set["input_ids"]]
    dev_set = dev_set.select(sorted(range(len(lengths)), key=lambda row: -lengths[row]))
    if not given & {"global_batch_size", "gradient_accumulation_steps"}:
        _choose_batch(config, len(train_set))
    if "learning_rate" not in given and config.leader == "lamb":
        config.learning_rate *= min(1.0, math.sqrt(STEPS_OF_THE_RATE / _steps(config, len(train_set))))
    checkpoint = _claim(output, arguments)
    kind = "regression" if train.labels is None else "classification"
    print(
        f"{kind}: {len(train_set):,} training and {len(dev_set):,} dev examples"
        + (f", classes {', '.join(train.labels)}" if train.labels else "")
        + f"\nbatch {config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size}, "
        f"learning rate {config.learning_rate:g}, {_follower(config)}"
        + (f"\ncontinuing from {checkpoint}" if checkpoint else ""),
        flush=True,
    )
    trainer = ScalaTrainer(
        model,
        config,
        train_dataset=train_set,
        eval_dataset=dev_set,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics_for(kind),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Progress(_score_key(kind)))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    history = list(trainer.state.log_history)
    scores = trainer.evaluate()
    if trainer.is_world_process_zero():
        trainer.save_model()
        _write_log(history, output / "log.tsv", _score_key(kind))
        scores = {key.removeprefix("eval_"): value for key, value in scores.items()}
        write_whole(output / "scores.json", json.dumps(scores, indent=1) + "\n")
        shown = {
            key: scores[key]
            for key in ("accuracy", "f1", "matthews_correlation", "pearson", "spearmanr", "mse")
            if key in scores
        }
        print("dev: " + ", ".join(f"{key} {value:.4f}" for key, value in shown.items()))
        print(f"model: {output}   log: {output / 'log.tsv'}")
    return 0


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, ScalaConfig, set[str]]:
    """The command's own options, the configuration, and the names of the configuration's options that were given."""
    own = {f.name for f in fields(ScalaConfig)} - {f.name for f in fields(TrainingArguments)}
    described = "\n".join(f"  --{f.name:<22}{f.metadata.get('help', '')}" for f in fields(ScalaConfig) if f.name in own)
    parser = _Parser(
        prog="scala-adapt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"options of the game:\n{described}\n\nAll options of transformers.TrainingArguments are accepted as well "
        "(--num_train_epochs, --per_device_train_batch_size, --bf16, --seed, --report_to ...).",
    )
    parser.add_argument(
        "--model", required=True, help="local folder of an encoder (config.json, *.safetensors, tokenizer), or hub name"
    )
    parser.add_argument("--train", required=True, help="training file: .csv, .tsv or .jsonl")
    parser.add_argument("--dev", help="file to evaluate on; without it a tenth of the training file is held out")
    parser.add_argument("--text", default="text", help="column of the sentence (default: text)")
    parser.add_argument("--text-pair", help="column of the second sentence of a pair")
    parser.add_argument("--label", default="label", help="column of the label (default: label)")
    parser.add_argument("--task", choices=["classification", "regression"], help="default: told from the labels")
    parser.add_argument("--max-length", type=int, default=128, help="tokens; longer inputs are cut (default: 128)")
    parser.add_argument("--output", required=True, help="folder of the adapted model, log and checkpoints")
    options, rest = parser.parse_known_args(arguments)
    defaults = {
        "output_dir": options.output,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 128,
        "warmup_steps": 0.1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 1,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    config_parser = _ConfigParser(cast(Any, ScalaConfig), prog="scala-adapt", add_help=False, allow_abbrev=False)
    config, strange = config_parser.parse_args_into_dataclasses(
        [text for name, value in defaults.items() for text in (f"--{name}", str(value))] + rest, return_remaining_strings=True
    )
    if strange:
        near = difflib.get_close_matches(strange[0], config_parser._option_string_actions, n=1)
        hint = f"did you mean {near[0]}?" if near else "scala-adapt --help lists the options"
        raise ValueError(f"unknown option {strange[0]}; {hint}")
    given = {text[2:].split("=")[0].replace("-", "_") for text in rest if text.startswith("--")}
    return options, config, given


def _data(options: argparse.Namespace) -> tuple[LabelledText, LabelledText]:
    columns: dict[str, Any] = {"text": options.text, "text_pair": options.text_pair, "label": options.label}
    train = load_labelled_text(options.train, **columns | {"task": options.task})
    if options.dev:
        kind = "regression" if train.labels is None else "classification"
        return train, load_labelled_text(options.dev, **columns | {"task": kind}, labels=train.labels)
    if len(train.dataset) < 20:
        raise ValueError(f"{options.train} has only {len(train.dataset)} rows, too few to hold some out; give --dev")
    parts = train.dataset.train_test_split(test_size=0.1, seed=0)
    return LabelledText(parts["train"], train.labels), LabelledText(parts["test"], train.labels)


def _encoder(name: str, labels: list[str] | None) -> tuple[PreTrainedTokenizerBase, torch.nn.Module]:
    try:
        config = AutoConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        config.num_labels = 1 if labels is None else len(labels)
        if labels is not None:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
        model = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        where = (
            "the folder lacks what is needed" if os.path.isdir(name) else "there is no such folder, and the hub did not give it"
        )
        raise OSError(
            f"no encoder at {name!r}: {where}. Give --model the path of a folder with config.json, *.safetensors and the "
            f"tokenizer's files, or a hub name where a hub can be reached. ({str(error).splitlines()[0]})"
        ) from error
    return tokenizer, model


def _choose_batch(config: ScalaConfig, samples: int) -> None:
    """Take the largest of 512, 256 ... that leaves LEAST_STEPS steps."""
    batch = 512
    unit = config.per_device_train_batch_size * config.world_size
    while batch > unit and math.ceil(samples / batch) * config.num_train_epochs < LEAST_STEPS:
        batch //= 2
    batch = max(unit, batch // unit * unit)
    config.gradient_accumulation_steps = batch // unit


def _steps(config: ScalaConfig, samples: int) -> int:
    """The leader's steps that training will make."""
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    return config.max_steps if config.max_steps > 0 else math.ceil(math.ceil(samples / batch) * config.num_train_epochs)


def _claim(output: Path, arguments: list[str]) -> Path | None:
    """Take the output folder for these arguments; returns the checkpoint to continue from, if there is one."""
    record = output / "arguments.json"
    if (output / "scores.json").exists():
        raise ValueError(f"{output} holds a finished model; choose another --output")
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != arguments:
        raise ValueError(
            f"{output} holds an unfinished run with other arguments ({record}): repeat them or choose another --output"
        )
    write_whole(record, json.dumps(arguments))
    return last_checkpoint(output)


def _follower(config: ScalaConfig) -> str:
    if config.noise == "none":
        return "no noise"
    unit = "" if config.noise_absolute else " of the embeddings' norm"
    start = f"{config.noise_delay:.0%} of the steps" if config.noise_delay < 1 else f"step {config.noise_delay:g}"
    return f"noise of radius {config.noise_radius:g}{unit} from {start} on, K = {config.noise_steps}"


class _Progress(TrainerCallback):
    """One bar for the training, and a line for every evaluation."""

    def __init__(self, score_key: str) -> None:
        self.score_key = score_key
        self.bar: tqdm | None = None
        self.last: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        entry = state.log_history[-1]
        if "loss" in entry:
            self.last = entry
        if self.bar is not None and self.score_key in entry:
            name = self.score_key.removeprefix("eval_")
            rise = f", loss rise under the noise {self.last['loss_rise']:.4f}" if "loss_rise" in self.last else ""
            loss = f"loss {self.last.get('loss', math.nan):.4f}{rise}"
            self.bar.write(
                f"epoch {entry['epoch']:.2f}, step {state.global_step}: {loss}, dev {name} {entry[self.score_key]:.4f}"
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _score_key(kind: str) -> str:
    return "eval_pearson" if kind == "regression" else "eval_accuracy"


def _write_log(history: list[dict[str, float]], path: Path, score_key: str) -> None:
    """The training log as a table, one row a logged step."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS + _DIAGNOSTICS, delimiter="\t", extrasaction="ignore", restval="")
        writer.writeheader()
        for entry in history:
            if "loss" in entry or "eval_loss" in entry:
                row = {**entry, "score": entry.get(score_key, "")}
                writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    sys.exit(main())
