"""The output folder: what it must not be, whose it is, and what stands in it at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from scala.adapt.data import Data
from scala.adapt.options import Command
from scala.labelled_text import LabelledText
from scala.trainer import last_checkpoint
from scala.whole_file import write_whole

OPTIONS, DATA, SCORES, LOG = "options.yaml", "data.json", "scores.json", "log.tsv"


def check_place(command: Command) -> None:
    """Refuse an output folder in which the results would write over something, before anything is read.

    Raises:
        ValueError: it is the model or a part of it, the place of the data, a file, or holds another model.
    """
    output, options = command.output.resolve(), command.options
    model = Path(options.model).resolve()
    if Path(options.model).exists():
        if model in (output, *output.parents):
            raise ValueError(f"--output {command.output} is in the encoder's folder {options.model}, which it would write over")
        if output in model.parents:
            raise ValueError(f"--output {command.output} holds the encoder {options.model}, which it might write over")
    for name in [options.train, *(options.dev or [])]:
        path = Path(name)
        place = path.resolve()
        if path.is_dir() and (place in (output, *output.parents) or output in place.parents):
            raise ValueError(f"--output {command.output} and the data set {name} lie in each other: choose another --output")
        if path.is_file() and output in (place, place.parent):
            raise ValueError(f"--output {command.output} is where {name} lies: choose a folder of its own")
    if output.is_file():
        raise ValueError(f"--output {command.output} is a file: choose a folder")
    if (output / SCORES).exists() and (output / OPTIONS).exists():
        raise ValueError(f"{command.output} holds a finished model; choose another --output")
    others = [name for name in ("config.json", "model.safetensors", "pytorch_model.bin") if (output / name).exists()]
    if others and not (output / OPTIONS).exists():
        raise ValueError(f"--output {command.output} holds another model ({others[0]}); choose another --output")


def claim(command: Command, data: Data) -> Path | None:
    """Take the output folder for these options and data.

    Returns:
        The checkpoint to continue from, if there is one.

    Raises:
        ValueError: it is taken by a run with other options or other data; each that differs is named.
    """
    output, options = command.output, command.in_force()
    rows = {"train": _digest(data.train), "dev": {name: _digest(part) for name, part in data.dev.items()}}
    if (output / OPTIONS).exists():
        before = _yaml(output / OPTIONS)
        now = yaml.safe_load(yaml.safe_dump(options))
        changed = [
            f"--{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if changed:
            what = "; ".join(changed)
            raise ValueError(
                f"{output} holds an unfinished run with other options: {what}. Repeat them or choose another --output"
            )
        if (output / DATA).exists() and (stored := json.loads((output / DATA).read_text(encoding="utf-8"))) != rows:
            other = ", ".join(name for name in sorted({*stored, *rows}) if stored.get(name) != rows.get(name))
            raise ValueError(f"{output} holds an unfinished run on other data ({other} changed); choose another --output")
    if command.config.process_index == 0:
        write_whole(output / DATA, json.dumps(rows, indent=1) + "\n")
        write_whole(output / OPTIONS, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    return last_checkpoint(output)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged, so it is not known whose run this is; choose another --output")
    return found


def _shown(value: Any) -> str:
    return "left out" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _digest(part: LabelledText) -> dict[str, Any]:
    """How many rows, and the SHA-256 of what they say, in whatever file they lie."""
    names = [name for name in ("sentence1", "sentence2", "label") if name in part.dataset.column_names]
    digest = hashlib.sha256()
    for row in _rows(part, names):
        digest.update(json.dumps(row).encode())
    return {"rows": len(part.dataset), "sha256": digest.hexdigest()}


def _rows(part: LabelledText, names: list[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(part.dataset[name][:] for name in names), strict=True)


def how_to_load(command: Command, data: Data) -> str:
    """One line of Python that answers for a text, or a pair, as the model was trained to."""
    text = "{'text': 'one', 'text_pair': 'other'}" if command.options.text_pair else "'a text'"
    return (
        f"from transformers import pipeline; print(pipeline('text-classification', {str(command.output)!r}, truncation=True, "
        f"max_length={command.options.max_length})({text}))"
    )
