"""What was typed, and what a file of options holds, as values by name: every option known, none given twice.

`-` and `_` are alike in names. Values stay text, so that they are understood in one place, by the parser: in YAML `no` is the
word "no" for an option that takes words, and False for one that is on or off.
"""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ALIASES = {"output": "output_dir"}
"""Names of one and the same option."""
Pair = tuple[str, list[str]]
"""An option's name as written, without the two dashes, and its values."""


def typed(words: Sequence[str]) -> list[Pair]:
    """Split a command line into options.

    Raises:
        ValueError: a word before the first option, or an option of one dash.
    """
    pairs: list[Pair] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            pairs.append((name, [value] if equals else []))
        elif word[:1] == "-" and word[1:2].isalpha():
            raise ValueError(f"unknown option {word}: options begin with two dashes (scala-adapt --help lists them)")
        elif not pairs:
            raise ValueError(f"{word!r} belongs to no option (scala-adapt --help lists the options)")
        else:
            pairs[-1][1].append(word)
    return pairs


def from_file(path: Path) -> list[Pair]:
    """Read options from a flat .yaml, .yml, .toml or .json file.

    Raises:
        ValueError: another suffix, broken syntax, or a value that is no value of an option.
        OSError: the file cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".toml", ".json"):
        raise ValueError(f"--config {path}: a file of options is .yaml, .toml or .json")
    text = path.read_text(encoding="utf-8-sig")
    try:
        if suffix == ".toml":
            found: Any = list(tomllib.loads(text, parse_float=str).items())
        elif suffix == ".json":
            found = json.loads(text, object_pairs_hook=_Object, parse_float=str, parse_int=str, parse_constant=str)
        else:
            found = _yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise ValueError(f"--config {path} must hold options by name, such as 'num_train_epochs: 3'")
    return [(name, _values(path, name, value)) for name, value in found]


class _Object(list[tuple[str, Any]]):
    """A JSON object, repeated keys included."""


def _yaml(text: str) -> Any:
    # compose, not load: values as they are spelled, and repeated keys.
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return [] if node is None else _of_node(node)


def _of_node(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _Object((str(key.value), _of_node(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_of_node(value) for value in node.value]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _values(path: Path, name: str, value: Any) -> list[str]:
    if isinstance(value, _Object | dict):
        if not name.endswith(("_kwargs", "_config", "-kwargs", "-config")):  # a section
            raise ValueError(f"--config {path}: {name!r} holds further options; write them all on the top level")
        return [json.dumps(_plain(value))]
    if isinstance(value, list):
        if not value or any(isinstance(part, list | dict) or part is None for part in value):
            raise ValueError(f"--config {path}: {name!r} must be a value, or a list of values")
        return [str(part) for part in value]
    if value is None:
        raise ValueError(f"--config {path}: {name!r} has no value; leave the line out to get the default")
    return [str(value)]  # True and False are words that the parser knows


def _plain(value: Any) -> Any:
    if isinstance(value, _Object | dict):
        return {key: _plain(inner) for key, inner in (value.items() if isinstance(value, dict) else value)}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def by_name(pairs: Iterable[Pair], parser: argparse.ArgumentParser, where: str = "") -> dict[str, list[str]]:
    """Give every option its one name, and its values.

    Args:
        pairs: from `typed` or `from_file`.
        parser: knows the options, without dashes between words.
        where: the place to name in errors.

    Raises:
        ValueError: an unknown option, one given twice with different values, or with too many values or none.
    """
    known = parser._option_string_actions
    found: dict[str, list[str]] = {}
    for written, given in pairs:
        plain = written.replace("-", "_")
        plain = ALIASES.get(plain, plain)
        if f"--{plain}" not in known:
            near = difflib.get_close_matches(plain, [option[2:] for option in known] + list(ALIASES), n=1)
            hint = f"did you mean --{near[0]}?" if near else "scala-adapt --help lists the options"
            raise ValueError(f"{where}unknown option --{written}; {hint}")
        action = known[f"--{plain}"]
        values = given
        if plain != action.dest:  # --no_x
            if values:
                raise ValueError(f"{where}--{written} takes no value")
            values = ["False"]
        elif not values and action.const is True:
            values = ["True"]
        if not values:
            raise ValueError(f"{where}--{written} needs a value")
        if len(values) > 1 and action.nargs != "+":
            shown = " ".join(map(repr, values))
            raise ValueError(f"{where}--{written} takes one value, not {len(values)}: {shown} (quotes keep words together)")
        if found.get(action.dest, values) != values:
            both = " and ".join(" ".join(v) for v in (found[action.dest], values))
            names = " or ".join(sorted({f"--{action.dest}"} | {f"--{a}" for a, of in ALIASES.items() if of == action.dest}))
            raise ValueError(f"{where}{names} is given twice, with {both}; give one")
        found[action.dest] = values
    return found


def as_line(options: dict[str, list[str]], parser: argparse.ArgumentParser) -> list[str]:
    """The options as a command line that any parser takes, whatever character a value begins with."""
    line: list[str] = []
    for name, values in options.items():
        many = parser._option_string_actions[f"--{name}"].nargs == "+"
        line += [f"--{name}", *values] if many else [f"--{name}={values[0]}"]
    return line
