"""The options of a run: the fields of `RivalConfig` that an experiment may set, as one frozen and typed set.

A field of `ScalaConfig` or `RivalConfig` is an option by being there: name, type, choices and default are its own, and what its
`__post_init__` refuses is refused here, when an experiment is loaded. An option that comes later and does nothing at some
value has a line in `NEUTRAL`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from paper_repro.rivals import RIVALS, RivalConfig
from paper_repro.rivals.trainer import refuse_unread, unread

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""No text for a number, no number for true or false, no unknown name."""

NEUTRAL: dict[str, Any] = {"noise_module": None}
"""By the name of a setting that came after results were committed, the value at which a run is what it was before there was
the setting. There the setting is no part of a run's name, so earlier results keep theirs, and results that lack it had it."""


def nearest(given: str, known: Iterable[str]) -> str:
    """A hint at the known name most like the given one; else at all of them."""
    near = difflib.get_close_matches(given, known := sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"


def explained(error: ValidationError) -> str:
    """What is wrong, in one line, by the names of the settings."""
    said = []
    for one in error.errors(include_url=False):
        key, why = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        given = "" if one["type"].startswith("missing") else f" = {one['input']!r}"
        said.append(f"{key}{given}: {why[0].lower()}{why[1:]}" if key else why)
    return "; ".join(said)


class _WithoutDevices(TrainingArguments):
    def __post_init__(self) -> None:
        """Nothing: transformers would look for devices and processes, which are no question of an experiment's file."""


class _Checked(RivalConfig, _WithoutDevices):
    """All that `ScalaConfig` and `RivalConfig` refuse, and nothing of what transformers does."""


class _Options(BaseModel):
    """What `Options` does; its fields are made below."""

    model_config = ConfigDict(**STRICT, frozen=True)

    @model_validator(mode="after")
    def _playable(self) -> Self:
        refuse_unread(self.model_fields_set, **self._kind())
        values = dict(self)
        try:
            _check(values)
        except ValueError as error:
            given = {key: value for key, value in values.items() if key in self.model_fields_set}
            guilty = [key for key in given if _passes({k: v for k, v in values.items() if k != key})] or given
            raise ValueError(f"{', '.join(f'{key} = {given[key]!r}' for key in guilty)}: {error}") from error
        return self

    def _kind(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("rival", "noise", "leader")}

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # pydantic's has the unread ones too
        """The options that the run reads, with their values."""
        strangers = unread(**self._kind())
        return ((key, value) for key, value in super().__iter__() if key not in strangers)


def _check(values: Mapping[str, Any]) -> None:
    _Checked(output_dir="", **values)
    if values.get("fp16") and values.get("bf16"):
        raise ValueError("at most one of fp16 and bf16")


def _passes(values: Mapping[str, Any]) -> bool:
    try:
        _check(values)
    except ValueError:
        return False
    return True


def _chosen(known: Callable[[], Iterable[str]], given: str | None) -> str | None:
    if given is not None and given not in (names := list(known())):
        raise ValueError(f"unknown; {nearest(given, names)}")
    return given


def _one_of(known: Callable[[], Iterable[str]], kind: Any = str) -> Any:
    return Annotated[kind, AfterValidator(partial(_chosen, known))]


_FRACTION = Annotated[float, Field(ge=0, lt=1)]
_OF_TRANSFORMERS: dict[str, Any] = {
    "optim": _one_of(lambda: [name.value for name in OptimizerNames]),
    "adam_beta1": _FRACTION,
    "adam_beta2": _FRACTION,
    "adam_epsilon": Annotated[float, Field(gt=0)],
    "max_grad_norm": Annotated[float, Field(ge=0)],
    "label_smoothing_factor": _FRACTION,
    "bf16": bool,
    "fp16": bool,
    "gradient_checkpointing": bool,
}


def _fields() -> dict[str, Any]:
    """name -> (type, default)"""
    hints, inherited = get_type_hints(RivalConfig), {f.name for f in dataclasses.fields(TrainingArguments)}
    found = {}
    for one in dataclasses.fields(RivalConfig):
        if one.name in _OF_TRANSFORMERS:
            kind = _OF_TRANSFORMERS[one.name]
            found[one.name] = (kind, bool(one.default) if kind is bool else one.default)  # some versions write None for false
        elif one.name not in inherited | {"global_batch_size"}:
            choices = one.metadata.get("choices")
            kind = hints[one.name] if choices is None else _one_of(partial(list, choices), hints[one.name])
            found[one.name] = (kind, one.default)
    return found | {"rival": (_one_of(lambda: ["none", *RIVALS]), "none")}  # of those there are now: methods can be added


if TYPE_CHECKING:
    Options = _Options
else:
    Options = create_model("Options", __base__=_Options, **_fields())
"""The options of a run. Iterating gives those that its leader, noise and rival read; any other that is given is refused.

Raises:
    pydantic.ValidationError (a ValueError): a value of a wrong kind or out of its range, options that cannot be played
        together, or one that the run does not read; see `explained`.
"""
