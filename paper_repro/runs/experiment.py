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

Every key must be a field of `Run` or one of its `Options`; an unknown one is refused, and so is a value that could not run. A
run is what it does: its name is of all its settings, those that were left out at their defaults, so runs of different settings
never mix, and one computation has one name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import tomllib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from paper_repro.data.glue import GLUE_TASKS
from paper_repro.runs.options import NEUTRAL, STRICT, Options, explained, nearest

_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Run:
    """One fine-tuning run: everything its numbers depend on, except software and hardware.

    Attributes:
        task: "acceptability" (the embedded task) or a GLUE task.
        model: a short name of `paper_repro.data.encoders`, a local folder, or a hub name.
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
        options: of leader, noise and rival.
        dropout: probability in the encoder's hidden states and attention; None: the encoder's own.
        zero_head: a regression's head starts at 0, as libraries make it, and not at its labels (`scala.heads`).

    Raises:
        pydantic.ValidationError (a ValueError): a setting of a wrong kind or out of its range, or settings that cannot go
            together; see `paper_repro.runs.options.explained`.
    """

    task: str
    model: str
    method: str
    seed: Annotated[int, Field(ge=0)]
    batch_size: _Count
    micro_batch: _Count = 32
    epochs: _Count = 3
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup: _Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    evaluations: _Count = 6
    train_examples: Annotated[int, Field(ge=0)] = 0
    held_out: _Share = 0.0
    max_length: _Count = 128
    options: Options = Options()
    dropout: _Share | None = None
    zero_head: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot go together; ValueError, naming them."""
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        regression = self.task in GLUE_TASKS and not GLUE_TASKS[self.task].classes
        if self.zero_head and not regression:
            raise ValueError(f"zero_head is of regressions only, and {self.task} has classes; leave it out")
        if regression and dict(self.options)["label_smoothing_factor"]:
            raise ValueError(f"label_smoothing_factor is of classes only, and {self.task} is a regression; leave it out")

    @cached_property
    def identity(self) -> str:
        """A name for the run's files: readable, then a digest of all settings but those at their neutral values."""
        told = {key: value for key, value in self.settings().items() if key not in NEUTRAL or value != NEUTRAL[key]}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.task}-{self.method}-s{self.seed}-{digest}"

    def settings(self) -> dict[str, Any]:
        """All settings that the run reads as JSON values, the options among them."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        return {**own, **dict(self.options)}

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> Run:
        """The run that has these `settings`. One that they lack has its neutral value.

        Raises:
            ValueError: they are not those of a run.
        """
        own = {f.name for f in dataclasses.fields(cls)}
        try:
            options = Options(**{key: value for key, value in settings.items() if key not in own})
            run = cls(**{key: value for key, value in settings.items() if key in own}, options=options)
        except ValidationError as error:
            raise ValueError(f"not the settings of a run: {explained(error)}") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not the settings of a run: {error!r}") from error
        missing = run.settings().keys() - settings.keys()
        if lost := missing - NEUTRAL.keys():
            raise ValueError(f"not the settings of a run: no {', '.join(sorted(lost))}")
        return cls.of_settings({**settings, **{key: NEUTRAL[key] for key in missing}}) if missing else run


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
        resolve: changes the file's content right after parsing, `paper_repro.runs.tuning` fills in measured values so.
        overrides: settings that win over the file's (model, seeds, train_examples ...); None means not given.

    Raises:
        ValueError: unreadable TOML, an unknown key (with the nearest known one), no methods, or a setting that cannot run; with
            file, method and key.
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
        except ValidationError as error:
            raise ValueError(f"{path}: [methods.{method}]: {explained(error)}") from error
        except ValueError as error:
            raise ValueError(f"{path}: [methods.{method}]: {error}") from error
    return [run for row in itertools.zip_longest(*by_method) for run in row if run is not None]


def _runs(task: str, method: str, settings: dict[str, Any]) -> list[Run]:
    seeds = settings.pop("seeds", [0])
    if not isinstance(seeds, list):
        raise ValueError(f"seeds = {seeds!r}: must be a list")
    known = _RUN_FIELDS | Options.model_fields.keys()
    for key in settings:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; {nearest(key, known)}")
    swept = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    if missing := {"model", "batch_size"} - settings.keys():
        raise ValueError(f"no {' and no '.join(sorted(missing))} for task {task!r}; set it here or in [tasks.{task}]")
    runs = []
    for seed in seeds:
        for values in itertools.product(*swept.values()):
            chosen = dict(zip(swept, values, strict=True))
            options = Options(**{key: chosen.pop(key) for key in list(chosen) if key not in _RUN_FIELDS})
            runs.append(Run(task=task, method=method, seed=seed, options=options, **chosen))
    return runs
