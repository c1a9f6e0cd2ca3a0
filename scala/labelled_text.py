"""Labelled sentences, or pairs of sentences, from a CSV, TSV or JSON-lines file.

The suffix says how a file is read: ``.csv`` with standard quoting, ``.tsv`` with literal quotes (as GLUE's files are
written: a lone ``"`` is a character, and never swallows rows), ``.jsonl`` with one object a line. Files are UTF-8, with
or without a byte order mark. Every row that cannot be used is named by its line; none is dropped in silence.
"""

from __future__ import annotations

import csv
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

Task = Literal["classification", "regression"]

SHOWN_BAD_ROWS = 10
MOST_INFERRED_CLASSES = 20  # more distinct integers than this may as well be scores: the user has to say
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_DELIMITED: dict[str, dict[str, Any]] = {
    ".csv": {"delimiter": ",", "strict": True},
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}


class BadRow(NamedTuple):
    """A row that cannot be used: the line it starts on (from 1), and why."""

    line: int
    reason: str


class BadRows(ValueError):
    """A file holds rows that cannot be used; the message names the first ten as ``file:line: reason``."""

    def __init__(self, path: str | PathLike[str], rows: Iterable[BadRow]) -> None:
        """Keep the file and all its bad rows, in the order of the lines, as ``path`` and ``rows``."""
        self.path, self.rows = Path(path), sorted(rows)
        shown = self.rows[:SHOWN_BAD_ROWS]
        count = f"{len(self.rows)} bad row{'s' if len(self.rows) > 1 else ''}"
        first = f", the first {len(shown)}" if len(shown) < len(self.rows) else ""
        named = "".join(f"\n  {path}:{row.line}: {row.reason}" for row in shown)
        super().__init__(f"{count} in {path}{first}:{named}")


class Row(NamedTuple):
    """One usable row. The label is still as written; a JSON number or boolean is spelled as in the file."""

    line: int
    sentence1: str
    sentence2: str | None
    label: str


@dataclass(frozen=True)
class LabelledText:
    """A data set with the columns ``sentence1``, ``sentence2`` (pairs only), ``label`` and ``idx`` (row, from 0).

    Attributes:
        dataset: labels are class ids (a ``ClassLabel``) or, in regression, float32 scores.
        labels: class names in the order of their ids; None for regression.
    """

    dataset: Dataset
    labels: list[str] | None


def load_labelled_text(
    path: str | PathLike[str],
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    task: Task | None = None,
    labels: Sequence[str] | None = None,
) -> LabelledText:
    """Read one's own labelled data.

    Without ``task``, labels that are words, or at most 20 different whole numbers, make a classification; numbers of
    which some have a fraction make a regression; anything else is for the caller to say.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.jsonl`` file.
        text: the column (JSON: field) of the sentence, or of a pair's first sentence.
        text_pair: the column of a pair's second sentence; None for single sentences.
        label: the column of the label.
        task: "classification" or "regression"; None to tell it from the labels.
        labels: the class names in the order of their ids, for example those of the train file when this is the dev
            file; None to take the names in the file, sorted (whole numbers by value).

    Returns:
        The data set and its class names.

    Raises:
        BadRows: rows with the wrong number of fields, an empty text, a missing or unknown label, a score that is not a
            finite number, broken quoting or JSON, bytes that are not UTF-8; or a file without rows or without the
            columns asked for.
        ValueError: an unknown suffix or task; a task that cannot be told from the labels; fewer than two classes.
        OSError: the file cannot be opened.
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task is {task!r}; it must be 'classification', 'regression' or None")
    if labels is not None and task == "regression":
        raise ValueError("labels name classes; a regression has none")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"labels holds a name twice: {', '.join(labels)}")

    rows, bad = read_rows(path, text=text, text_pair=text_pair, label=label)
    if labels is None and task is None:
        task = _infer_task(path, rows)
    if task == "regression":
        return LabelledText(to_dataset(path, rows, bad, score, Value("float32")), None)

    names = list(labels) if labels is not None else _class_names(rows)
    if len(names) < 2 and not bad:
        raise ValueError(f"{path}: a classification needs two labels or more, not only: {', '.join(names)}")
    ids = {name: number for number, name in enumerate(names)}
    return LabelledText(to_dataset(path, rows, bad, class_id(ids), ClassLabel(names=names)), names)


def tokenized(data: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Turn sentences, or pairs, into token ids, without padding; ``label`` and ``idx`` stay.

    Args:
        data: columns ``sentence1``, ``sentence2`` (pairs only), ``label``, ``idx``.
        tokenizer: the encoder's.
        max_length: tokens; longer inputs are cut, of a pair the longer side first.
    """
    text = [name for name in ("sentence1", "sentence2") if name in data.column_names]

    def encode(*columns: list[str]) -> dict[str, Any]:
        return dict(tokenizer(*columns, truncation=True, max_length=max_length))

    return data.map(
        encode, batched=True, input_columns=text, remove_columns=text, keep_in_memory=True, load_from_cache_file=False
    )


def refuse_too_long(data: Dataset, config: PreTrainedConfig) -> None:
    """Refuse tokenised inputs that are longer than an encoder has positions, before they end in an index error.

    Args:
        data: column ``input_ids``.
        config: the encoder's; one without ``max_position_embeddings`` has no limit.

    Raises:
        ValueError: naming both lengths.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet's is -1
        return
    if "roberta" in config.model_type:  # its positions begin behind that of the padding
        positions -= config.pad_token_id + 1
    longest = max(map(len, data["input_ids"]), default=0)
    if longest > positions:
        raise ValueError(f"an input has {longest} tokens and the encoder {positions} positions: set max_length to {positions}")


def read_rows(
    path: str | PathLike[str],
    *,
    text: str,
    text_pair: str | None = None,
    label: str = "label",
    header: Sequence[str] | None = None,
) -> tuple[list[Row], list[BadRow]]:
    """Split a file into the rows that can be used and those that cannot, before labels are interpreted.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.jsonl`` file.
        text: the column of the sentence, or of a pair's first sentence.
        text_pair: the column of a pair's second sentence, if any.
        label: the column of the label.
        header: the column names of a CSV or TSV file whose first line is already a row.

    Returns:
        The usable rows and the bad ones, each in the file's order. Blank lines are neither.

    Raises:
        BadRows: the file has no rows at all, or lacks a column.
        ValueError: an unknown suffix, or one column asked for twice.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    columns = [column for column in (text, text_pair, label) if column is not None]
    if len(set(columns)) < len(columns):
        raise ValueError(f"text, text_pair and label must be different columns, not {', '.join(columns)}")
    suffix = path.suffix.lower()
    if suffix not in (*_DELIMITED, ".jsonl"):
        raise ValueError(f"{path}: the suffix {path.suffix!r} is not known; name the file .csv, .tsv or .jsonl")

    rows: list[Row] = []
    bad: list[BadRow] = []
    # surrogateescape keeps bytes that are not UTF-8 in their row, where they can be named by line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if suffix == ".jsonl":
            records = _json_lines(file)
        else:
            records = _delimited(csv.reader(file, **_DELIMITED[suffix]), path, columns, header)
        for line, record in records:
            try:
                if isinstance(record, str):
                    raise ValueError(record)
                pair = None if text_pair is None else _sentence(record, text_pair)
                rows.append(Row(line, _sentence(record, text), pair, _label(record, label)))
            except ValueError as error:
                bad.append(BadRow(line, str(error)))
    if not rows and not bad:
        raise BadRows(path, [BadRow(1, "the file has no rows")])
    return rows, bad


def to_dataset(
    path: str | PathLike[str],
    rows: Sequence[Row],
    bad: Sequence[BadRow],
    encode: Callable[[str], float],
    feature: ClassLabel | Value,
) -> Dataset:
    """Encode the labels and build the data set, or report every bad row of the file at once.

    Args:
        path: where the rows come from, for the error.
        rows: the usable rows.
        bad: rows already found bad.
        encode: turns a label as written into a class id or a score; raises ValueError with what is wrong with it.
        feature: the type of the label column.

    Returns:
        The columns ``sentence1``, ``sentence2`` (if the rows are pairs), ``label`` and ``idx`` (row number from 0).

    Raises:
        BadRows: there are bad rows, or labels that ``encode`` refuses.
    """
    values: list[float] = []
    bad = list(bad)
    for row in rows:
        try:
            values.append(encode(row.label))
        except ValueError as error:
            bad.append(BadRow(row.line, str(error)))
    if bad:
        raise BadRows(path, bad)
    columns: dict[str, list[Any]] = {"sentence1": [row.sentence1 for row in rows]}
    features = {"sentence1": Value("string")}
    if any(row.sentence2 is not None for row in rows):
        columns["sentence2"] = [row.sentence2 for row in rows]
        features["sentence2"] = Value("string")
    columns |= {"label": values, "idx": list(range(len(rows)))}
    features |= {"label": feature, "idx": Value("int32")}
    return Dataset.from_dict(columns, features=Features(features))


def class_id(ids: dict[str, int]) -> Callable[[str], int]:
    """Return the encoder of a classification: a label as written to its class id, ValueError if it is unknown."""

    def encode(label: str) -> int:
        if label not in ids:
            raise ValueError(f"unknown label {reprlib.repr(label)}; the labels are: {', '.join(ids)}")
        return ids[label]

    return encode


def score(label: str) -> float:
    """Encode a regression label: a decimal number, finite in single precision; ValueError otherwise."""
    value = float(label) if _NUMBER.fullmatch(label) else math.nan
    if not abs(value) <= LARGEST_FLOAT32:
        raise ValueError(f"label {reprlib.repr(label)} is not a finite number")
    return value


def _delimited(
    reader: Any, path: Path, columns: Sequence[str], header: Sequence[str] | None
) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield the line each record starts on with its fields by column, or with what is wrong with it."""
    for line, fields in _fields(reader):
        if isinstance(fields, str) and header is not None:
            yield line, fields
        elif isinstance(fields, str):
            raise BadRows(path, [BadRow(line, fields)])
        elif header is None:
            header = fields
            for column in columns:
                if header.count(column) != 1:
                    fault = "twice the" if column in header else "no"
                    reason = f"{fault} column {column!r}; the columns are: {', '.join(header)}"
                    raise BadRows(path, [BadRow(line, reason)])
        elif len(fields) != len(header):
            yield line, f"{len(header)} fields expected, {len(fields)} found"
        else:
            yield line, dict(zip(header, fields, strict=True))


def _fields(reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            quoted = reader.dialect.quoting != csv.QUOTE_NONE
            hint = ": is a double quote left open, or not doubled inside a quoted field?" if quoted else ""
            yield line, f"{error}{hint}"
        else:
            if fields:
                yield line, fields if _is_utf8("".join(fields)) else "not UTF-8"
        line = reader.line_num + 1  # a quoted field may span lines


def _json_lines(file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for line, content in enumerate(file, start=1):
        if not content.strip():
            continue
        if not _is_utf8(content):
            yield line, "not UTF-8"
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {error}"
        else:
            yield line, record if isinstance(record, dict) else "not a JSON object"


def _is_utf8(content: str) -> bool:
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _value(record: dict[str, Any], column: str) -> Any:
    if column not in record:
        raise ValueError(f"no field {column!r}; the fields are: {', '.join(record)}")
    value = record[column]
    if isinstance(value, str) and not _is_utf8(value):  # JSON can escape half of a surrogate pair
        raise ValueError(f"{column!r} holds half a surrogate pair, which is no character")
    return value


def _sentence(record: dict[str, Any], column: str) -> str:
    value = _value(record, column)
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is {reprlib.repr(value)}, not a text")
    if not value.strip():
        raise ValueError(f"{column!r} is empty")
    return value


def _label(record: dict[str, Any], column: str) -> str:
    value = _value(record, column)
    if value is None or isinstance(value, list | dict):
        raise ValueError(f"{column!r} is {reprlib.repr(value)}, not a label")
    label = value.strip() if isinstance(value, str) else json.dumps(value)
    if not label:
        raise ValueError(f"{column!r} is empty")
    return label


def _infer_task(path: str | PathLike[str], rows: Sequence[Row]) -> Task:
    numbers = [row for row in rows if _NUMBER.fullmatch(row.label)]
    if not numbers:
        return "classification"
    whole = {row.label for row in numbers if float(row.label).is_integer()}
    if len(numbers) < len(rows):
        word = next(row for row in rows if not _NUMBER.fullmatch(row.label))
        why = f"{path}:{word.line} has the label {word.label!r}, {path}:{numbers[0].line} the number"
        why += f" {numbers[0].label!r}"
    elif any(row.label not in whole for row in numbers):
        return "regression"
    elif all(_INTEGER.fullmatch(label) for label in whole) and len(whole) <= MOST_INFERRED_CLASSES:
        return "classification"
    else:
        why = f"{path}: the labels are {len(whole)} different whole numbers, such as {numbers[0].label!r}"
    raise ValueError(f"{why}; pass task='classification' or task='regression'")


def _class_names(rows: Sequence[Row]) -> list[str]:
    names = {row.label for row in rows}
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
