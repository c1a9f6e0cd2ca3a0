"""The command's options: its own, the game's and the trainer's, read and checked before anything is loaded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from scala.adapt.arguments import as_line, by_name, from_file, typed
from scala.trainer import ScalaConfig

DESCRIPTION = """adapt an encoder on one's own labelled sentences or pairs, and save a model that loads anywhere

  scala-adapt --model ENCODER --train train.csv --dev dev.csv --text sentence --label label --output out

Files are .csv, .tsv, .jsonl, .json (each also .gz) or .parquet; a folder that datasets.save_to_disk wrote and a data set's
name on the hub do as well. Labels are classes or numbers. Started again with the same options after an
interruption, it continues from its last checkpoint."""
EPILOG = """All options of transformers.TrainingArguments are accepted as well (--adam_beta2, --fp16, --optim ...). In names
- and _ are alike. What is in force is written to options.yaml beside the result, which --config takes again."""

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 128,
    "warmup_steps": 0.1,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "logging_steps": 1.0,
    "report_to": "none",
}
"""The trainer's options whose default is the command's own."""
_SHOWN = {*DEFAULTS, "learning_rate", "max_steps", "weight_decay", "seed", "bf16", "use_cpu", "load_best_model_at_end"}
_OF_THE_TRAINER = {option.name for option in fields(TrainingArguments)}
_CHOSEN = {"learning_rate", "gradient_accumulation_steps"}
"""The trainer's options that the command chooses by the data if they are not given."""
_NOT_WRITTEN = {"config", "output_dir", "hub_token", "local_rank", "dataloader_pin_memory"}
"""Not in options.yaml: where the file lies, a secret, and what another machine has otherwise."""


@dataclass
class CommandOptions:
    """The command's own options."""

    model: str = field(metadata={"help": "Folder of an encoder (config.json, *.safetensors, tokenizer), or its hub name."})
    train: str = field(metadata={"help": "Training data: a file, a folder of datasets.save_to_disk, or a data set's hub name."})
    dev: list[str] | None = field(
        default=None,
        metadata={
            "help": "Data to score on, one or more; left out: the data set's own, or a held-out tenth of the training file."
        },
    )
    text: str = field(default="text", metadata={"help": "Column of the sentence."})
    text_pair: str | None = field(default=None, metadata={"help": "Column of the second sentence of a pair."})
    label: str = field(default="label", metadata={"help": "Column of the label."})
    task: Literal["classification", "regression"] | None = field(
        default=None, metadata={"help": "Left out: told from the labels."}
    )
    max_length: int = field(default=128, metadata={"help": "Tokens; longer inputs are cut."})
    subset: str | None = field(
        default=None, metadata={"help": "Configuration of a data set of the hub, such as sst2 of nyu-mll/glue."}
    )
    train_split: str | None = field(default=None, metadata={"help": "Split of a data set to train on; left out: train."})
    dev_split: list[str] | None = field(
        default=None,
        metadata={"help": "Splits of a data set to score on; left out: those whose names begin with validation or dev."},
    )
    config: str | None = field(
        default=None, metadata={"help": "File of options, .yaml, .toml or .json; the command line wins over it."}
    )


@dataclass(frozen=True)
class Command:
    """A command that has been read: its own options, the trainer's, and the names of those that were given."""

    options: CommandOptions
    config: ScalaConfig
    given: frozenset[str]
    stated: dict[str, Any]
    """All options as the parser read them, before the trainer resolved any."""

    @property
    def output(self) -> Path:
        """The one output folder."""
        return Path(cast(str, self.config.output_dir))

    def in_force(self) -> dict[str, Any]:
        """What decides the result, by name: own options, the game's, and the trainer's that are not at its own defaults."""
        found = {option.name: getattr(self.options, option.name) for option in fields(self.options)}
        for option in fields(self.config):
            if option.name not in _OF_THE_TRAINER or option.name in _CHOSEN:
                found[option.name] = getattr(self.config, option.name)
            elif option.name in DEFAULTS or (option.name in self.given and self.stated[option.name] != _plain_default(option)):
                found[option.name] = self.stated[option.name]
        if self.config.global_batch_size is not None:
            del found["gradient_accumulation_steps"]  # which follows from it
        return {name: value for name, value in found.items() if value is not None and name not in _NOT_WRITTEN}


def _plain_default(option: Field[Any]) -> Any:
    return option.default if option.default is not MISSING else cast(Any, option.default_factory)()


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (scala-adapt --help lists the options)")


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parser() -> HfArgumentParser:
    """The parser of all options; names have `_` between words, and help shows what most users need."""
    made = _Parser(
        cast(Any, [CommandOptions, ScalaConfig]),
        prog="scala-adapt",
        description=DESCRIPTION,
        epilog=EPILOG,
        usage="scala-adapt --model ENCODER --train FILE --output FOLDER [options]",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    made.set_defaults(**DEFAULTS)
    for option, action in list(made._option_string_actions.items()):
        name = option[2:]
        if name != action.dest:  # --no_x, and names with - between words
            action.option_strings = [written for written in action.option_strings if "-" not in written[2:]]
            if "-" in name and option != "--help":
                del made._option_string_actions[option]
        if name.startswith("no_") or (action.dest in _OF_THE_TRAINER and action.dest not in _SHOWN | {"output_dir"}):
            action.help = argparse.SUPPRESS
    made._option_string_actions["--output_dir"].help = "Folder of the adapted model, log and checkpoints; --output is the same."
    return made


def read(words: Sequence[str]) -> Command:
    """Read a command line and the file of options that it names.

    Raises:
        ValueError: what is wrong, and what to do.
        OSError: the file of options cannot be opened.
    """
    all_options = parser()
    line = by_name(typed(words), all_options)
    if "config" in line:
        path = Path(line["config"][0])
        from_it = by_name(from_file(path), all_options, f"--config {path}: ")
        if "config" in from_it:
            raise ValueError(f"--config {path}: a file of options cannot name another one")
        line = from_it | line
    stated = vars(all_options.parse_args(as_line(line, all_options)))
    if not stated["output_dir"]:
        raise ValueError("the following arguments are required: --output (scala-adapt --help lists the options)")
    _refuse_unused(stated, set(line))
    _check_ranges(stated)
    _check_reports(stated["report_to"])
    if "dataloader_pin_memory" not in line:
        stated["dataloader_pin_memory"] = torch.cuda.is_available()
    options, config = cast(tuple[CommandOptions, ScalaConfig], all_options.parse_dict(dict(stated)))
    return Command(options, config, frozenset(line), stated)


_UNUSED = {
    "resume_from_checkpoint": "the same command continues from its last checkpoint by itself",
    "do_predict": "the command trains and scores; load the model to predict",
    "prediction_loss_only": "the command scores the dev set, which needs predictions",
    "batch_eval_metrics": "the scores are of the whole dev set at once",
    "dataloader_drop_last": "the score would be of a part of the dev set; a last, smaller batch is weighted exactly",
    "label_names": "the label's column is --label",
}


def _refuse_unused(stated: dict[str, Any], given: set[str]) -> None:
    for name, why in _UNUSED.items():
        if name in given and stated[name]:
            raise ValueError(f"--{name} has no meaning here: {why}")
    for name in ("do_train", "do_eval", "eval_do_concat_batches"):
        if name in given and not stated[name]:
            raise ValueError(f"--{name} cannot be False: the command trains, then scores the whole dev set")


_Range = tuple[float, float, str]
_POSITIVE: _Range = (0, math.inf, "must be more than 0")
_COUNT: _Range = (1, math.inf, "must be 1 or more")
_FROM_ZERO: _Range = (0, math.inf, "must be 0 or more")
_BELOW_ONE: _Range = (0, 1, "must be at least 0 and below 1")
_RANGES: dict[str, _Range] = {
    "max_length": (3, math.inf, "must be 3 or more: a token of the text between two that frame it (the usual: 128)"),
    "num_train_epochs": _POSITIVE,
    "learning_rate": _POSITIVE,
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "global_batch_size", "gradient_accumulation_steps",
         "eval_accumulation_steps", "save_total_limit", "noise_steps", "noise_every"), _COUNT),
    **dict.fromkeys(("eval_steps", "save_steps", "logging_steps"), _POSITIVE),
    **dict.fromkeys(
        ("warmup_steps", "weight_decay", "max_grad_norm", "adam_epsilon", "eval_delay", "dataloader_num_workers"), _FROM_ZERO),
    **dict.fromkeys(("label_smoothing_factor", "adam_beta1", "adam_beta2"), _BELOW_ONE),
    **dict.fromkeys(("seed", "data_seed"), (0, 2**32, "must be from 0 to 4294967295")),
}  # fmt: skip


def _check_ranges(stated: dict[str, Any]) -> None:
    for name, (low, high, rule) in _RANGES.items():
        value = stated.get(name)
        if value is None:
            continue
        # Written so that NaN is refused as well.
        inside = low < value < high if rule is _POSITIVE[2] else low <= value < high
        if not inside:
            raise ValueError(f"--{name} {rule}, not {value:g}")
    if stated["max_steps"] != -1 and stated["max_steps"] < 1:
        raise ValueError(f"--max_steps must be 1 or more, not {stated['max_steps']}; leave it out to train --num_train_epochs")
    if stated["task"] == "regression":
        refuse_smoothing(stated["label_smoothing_factor"])


def refuse_smoothing(factor: float) -> None:
    """Refuse label smoothing of a regression, whose labels are numbers.

    Raises:
        ValueError: the factor is not 0.
    """
    if factor:
        raise ValueError("--label_smoothing_factor is for classes, and this is a regression: leave it out")


def _check_reports(report_to: str) -> None:
    if report_to in ("none", "all"):
        return
    if report_to not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise ValueError(f"--report_to {report_to} is not known; it can be none, all or one of {known}")
    if report_to in get_available_reporting_integrations():
        return
    try:
        INTEGRATION_TO_CALLBACK[report_to]()
    except (RuntimeError, ImportError) as error:
        package = {"azure_ml": "azureml-core", "comet_ml": "comet-ml", "flyte": "flytekit"}.get(report_to, report_to)
        raise ValueError(
            f"--report_to {report_to} needs a package that is not installed: pip install {package}, or leave the option out "
            "(log.tsv holds every step)"
        ) from error
