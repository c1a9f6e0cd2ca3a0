"""Experiments as small TOML files, and the runs they stand for.

An experiment names settings common to its runs, a table of methods, and optionally a table of tasks with settings of their own:

    model = "minilm-l6"
    seeds = [0, 1]
    epochs = 3

    [methods.lamb]
    batch_size = 512
    learning_rate = [5e-3, 1e-2]     # a list is a sweep: one run for each value

    [tasks.sst2]
    train_examples = 4000

    [tasks.sst2.lamb]
    warmup = 0.2                     # of this method on this task

Every key must be a field of `Run`; an unknown one is refused. A run is identified by all its settings, so runs of different
settings never mix.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from paper_repro.rivals import RIVALS, RivalConfig
from paper_repro.rivals.trainer import refuse_unread


@dataclass(frozen=True)
class Run:
    """One fine-tuning run: everything its numbers depend on, except software and hardware.

    Attributes:
        task: "acceptability" (the embedded task) or a GLUE task.
        model: a short name of `paper_repro.encoders`, a local folder, or a hub name.
        method: the name of the row it belongs to.
        seed: of data order, dropout and the new head.
        batch_size: samples per leader's step.
        micro_batch: samples per forward pass; accumulated to batch_size.
        epochs: passes over the training set.
        learning_rate: peak; linear warm-up over `warmup` of the steps, then linear decay to zero.
        warmup: fraction of the steps.
        weight_decay: lambda, on all but biases and norms.
        evaluations: scores taken over the run, evenly spaced, the last one at its end.
        train_examples: use the first so many of the shuffled training set (shuffled by a fixed seed); 0: all.
        held_out: fraction of the training set that is split off and evaluated on in place of the dev set; 0: evaluate on dev.
            Tuning uses it, so that no dev score chooses a setting.
        max_length: tokens; longer inputs are cut.
        options: further `paper_repro.rivals.RivalConfig` fields, sorted pairs (noise, noise_radius, leader, rival, ...).
        dropout: probability in the encoder's hidden states and attention; None: the encoder's own.
        zero_head: a regression's head starts at 0, as libraries make it, and not at its labels (`scala.heads`).
    """

    task: str
    model: str
    method: str
    seed: int
    batch_size: int
    micro_batch: int = 32
    epochs: int = 3
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    evaluations: int = 6
    train_examples: int = 0
    held_out: float = 0.0
    max_length: int = 128
    options: tuple[tuple[str, Any], ...] = ()
    dropout: float | None = None
    zero_head: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot run.

        Raises:
            ValueError: naming the setting and what it must be.
        """
        for name in ("batch_size", "micro_batch", "epochs", "evaluations", "max_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        for name in ("warmup", "held_out", "dropout"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}")
        if not isinstance(self.zero_head, bool):
            raise ValueError(f"zero_head must be true or false, got {self.zero_head!r}")
        if self.train_examples < 0:
            raise ValueError(f"train_examples must be >= 0 (0: all), got {self.train_examples!r}")

    @cached_property
    def identity(self) -> str:
        """A name for the run's files: readable, then a digest of all settings."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.task}-{self.method}-s{self.seed}-{digest}"

    def settings(self) -> dict[str, Any]:
        """All settings as JSON values; one that came later is left out at its default, so that older runs keep their names."""
        settings = {**dataclasses.asdict(self), "options": dict(self.options)}
        later = {"dropout": None, "zero_head": False}
        return {key: value for key, value in settings.items() if key not in later or value is not later[key]}

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> Run:
        """The run that has these `settings`.

        Raises:
            ValueError: they are not those of a run.
        """
        try:
            return cls(**{**settings, "options": tuple(sorted(settings["options"].items()))})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the settings of a run: {error!r}") from error


_RUN_FIELDS = {f.name for f in dataclasses.fields(Run)} - {"options", "method", "seed", "task"}


def read_toml(path: str | Path) -> dict[str, Any]:
    """An experiment file's content.

    Raises:
        ValueError: it cannot be read, or its methods or tasks are no tables.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as TOML: {error}") from error
    for name in ("methods", "tasks"):
        table = content.get(name, {})
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            raise ValueError(f"{path}: {name} must be tables, [{name}.<name>]")
    return content


def load_experiment(
    path: str | Path, task: str, resolve: Callable[[dict[str, Any]], dict[str, Any]] | None = None, **overrides: Any
) -> list[Run]:
    """Read an experiment's file and list its runs on one task, methods innermost, so that they interleave.

    Args:
        path: the TOML file.
        task: the task to run it on; settings under [tasks.<task>] apply, settings of a method win over them, and those under
            [tasks.<task>.<method>] over both.
        resolve: changes the file's content right after parsing, `paper_repro.tuning` fills in measured values so.
        overrides: settings that win over the file's (model, seeds, train_examples ...); None means not given.

    Raises:
        ValueError: unreadable TOML, an unknown key (with the nearest known one), no methods, or a setting out of range.
    """
    content = read_toml(path)
    known = dict(content.get("methods", {}))
    if resolve is not None:
        content = resolve(content)
    methods = content.pop("methods", {})
    tasks = content.pop("tasks", {})
    if not methods:
        raise ValueError(f"{path}: no [methods.<name>] table, so there is nothing to run")
    given = {key: value for key, value in overrides.items() if value is not None}
    of_task = tasks.get(task, {})
    special = {name: value for name, value in of_task.items() if isinstance(value, dict)}
    if unknown := special.keys() - known.keys():
        raise ValueError(f"{path}: [tasks.{task}.{min(unknown)}]: there is no method of this name")
    common = {**content, **{key: value for key, value in of_task.items() if key not in special}}
    by_method = []
    for method, own in methods.items():
        settings = {**common, **own, **special.get(method, {}), **given}
        try:
            by_method.append(_runs(task, method, settings))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: [methods.{method}]: {error}") from error
    return [run for row in itertools.zip_longest(*by_method) for run in row if run is not None]


def _runs(task: str, method: str, settings: dict[str, Any]) -> list[Run]:
    seeds = settings.pop("seeds", [0])
    known = _RUN_FIELDS | config_options()
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise ValueError(f"unknown key {key!r}; {hint}")
    swept = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    if missing := {"model", "batch_size"} - settings.keys():
        raise ValueError(f"no {' and no '.join(sorted(missing))} for task {task!r}; set it here or in [tasks.{task}]")
    runs = []
    for seed in seeds:
        for values in itertools.product(*swept.values()):
            chosen = dict(zip(swept, values, strict=True))
            options = tuple(sorted((key, chosen.pop(key)) for key in list(chosen) if key not in _RUN_FIELDS))
            _check_rival(dict(options))
            runs.append(Run(task=task, method=method, seed=seed, options=options, **chosen))
    return runs


def _check_rival(options: dict[str, Any]) -> None:
    """Find what `RivalConfig` would refuse before the first run starts."""
    rival = options.get("rival", "none")
    if rival not in ("none", *RIVALS):
        raise ValueError(f"unknown rival {rival!r}; choose one of none, {', '.join(RIVALS)}")
    refuse_unread(rival, options)


def config_options() -> set[str]:
    """The RivalConfig fields that an experiment may set: the methods' own, not those that a `Run` sets or that move files."""
    inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
    own = {f.name for f in dataclasses.fields(RivalConfig)} - inherited - {"global_batch_size"}
    passed_on = {"optim", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor"}
    return own | passed_on | {"bf16", "fp16", "gradient_checkpointing"}
