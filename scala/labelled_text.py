"""Labelled sentences, or pairs of sentences, from one's own files or data sets.

How files are read is in `scala.text_files`, how tables are in `scala.text_tables`. Every row that cannot be used is named by
its line; none is dropped in silence.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from scala.text_files import SUFFIXES, BadRow, BadRows, JsonObject, NotFinite, Number, is_utf8, known_suffix, records
from scala.text_tables import Table, data_set, parquet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

Task = Literal["classification", "regression"]
Source = str | PathLike[str] | Table
"""A file .csv, .tsv, .jsonl, .json (each also .gz) or .parquet, a folder of `save_to_disk`, or a table."""

MOST_INFERRED_CLASSES = 20  # more distinct integers than this may as well be scores: the user has to say
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_WITH_COMMAS = re.compile(r"[+-]?[\d.]*\d,\d[\d.,]*", re.ASCII)  # a decimal comma, or commas between thousands


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
    path: Source,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    task: Task | None = None,
    labels: Sequence[str] | None = None,
) -> LabelledText:
    """Read one's own labelled data.

    Without ``task``, labels that are words, or at most 20 different whole numbers, make a classification; numbers of
    which some have a fraction make a regression; anything else, numbers with commas among it, is for the caller to say. A
    table's column of named classes is a classification into these.

    Args:
        path: the file, folder or table.
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
        OSError: the file cannot be opened or is damaged.
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task is {task!r}; it must be 'classification', 'regression' or None")
    if labels is not None and task == "regression":
        raise ValueError("labels name classes; a regression has none")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"labels holds a name twice: {', '.join(labels)}")

    source = _opened(path)
    rows, bad = read_rows(source, text=text, text_pair=text_pair, label=label)
    if labels is None and task != "regression" and isinstance(source, Table):
        labels = source.class_names(label)
    if labels is None and task is None:
        task = _infer_task(source, rows)
    if task == "regression":
        return LabelledText(to_dataset(source, rows, bad, score, Value("float32")), None)

    names = list(labels) if labels is not None else _class_names(rows)
    if len(names) < 2 and not bad:
        raise ValueError(f"{_name(source)}: a classification needs two labels or more, not only: {', '.join(names)}")
    ids = {name: number for number, name in enumerate(names)}
    return LabelledText(to_dataset(source, rows, bad, class_id(ids), ClassLabel(names=names)), names)


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


def cut_texts(data: Dataset, tokens: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> tuple[int, int]:
    """Count what `tokenized` has cut.

    Args:
        data: the sentences, or pairs.
        tokens: what `tokenized` made of them.
        tokenizer: the encoder's.
        max_length: tokens, as for `tokenized`.

    Returns:
        How many inputs were cut, and the tokens that the longest of them has uncut (0 if none was).
    """
    text = [name for name in ("sentence1", "sentence2") if name in data.column_names]
    full = [row for row, ids in enumerate(tokens["input_ids"]) if len(ids) >= max_length]
    lengths = [0]
    for start in range(0, len(full), 1000):
        rows = data[full[start : start + 1000]]
        lengths += [len(ids) for ids in tokenizer(*(rows[name] for name in text), truncation=False)["input_ids"]]
    cut = [length for length in lengths if length > max_length]
    return len(cut), max(cut, default=0)


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
    path: Source,
    *,
    text: str,
    text_pair: str | None = None,
    label: str = "label",
    header: Sequence[str] | None = None,
) -> tuple[list[Row], list[BadRow]]:
    """Split a file into the rows that can be used and those that cannot, before labels are interpreted.

    Args:
        path: the file, folder or table.
        text: the column of the sentence, or of a pair's first sentence.
        text_pair: the column of a pair's second sentence, if any.
        label: the column of the label.
        header: the column names of a CSV or TSV file whose first line is already a row.

    Returns:
        The usable rows and the bad ones, each in the file's order. Blank lines are neither.

    Raises:
        BadRows: the file has no rows at all, or lacks a column.
        ValueError: an unknown suffix, one column asked for twice, or a table that lacks a column.
        OSError: the file cannot be opened or is damaged.
    """
    source = _opened(path)
    columns = [column for column in (text, text_pair, label) if column is not None]
    if len(set(columns)) < len(columns):
        raise ValueError(f"text, text_pair and label must be different columns, not {', '.join(columns)}")
    rows: list[Row] = []
    bad: list[BadRow] = []
    for line, record in source.records(columns) if isinstance(source, Table) else records(source, columns, header):
        try:
            if isinstance(record, str):
                raise ValueError(record)
            pair = None if text_pair is None else _sentence(record, text_pair)
            rows.append(Row(line, _sentence(record, text), pair, _label(record, label)))
        except ValueError as error:
            bad.append(BadRow(line, str(error)))
    if not rows and not bad:
        raise _bad_rows(source, [BadRow(1, "the file has no rows")])
    return rows, bad


def _opened(source: Source) -> Path | Table:
    if isinstance(source, Table):
        return source
    path = Path(source)
    if path.suffix.lower() == ".parquet":
        return parquet(path)
    if path.is_dir():
        splits = data_set(str(path))
        if "" not in splits:
            raise ValueError(
                f"{path} holds the splits {', '.join(splits)}; load one: scala.text_tables.data_set({str(path)!r})"
            )
        return splits[""]
    if not known_suffix(path):
        known = ", ".join(SUFFIXES)
        raise ValueError(
            f"{path}: the suffix {path.suffix!r} is not known; name the file {known} (each also with .gz) or .parquet"
        )
    return path


def _name(source: Source) -> str:
    return source.name if isinstance(source, Table) else str(source)


def _place(source: Source, line: int) -> str:
    return f"{source.name}, row {line}" if isinstance(source, Table) else f"{source}:{line}"


def _bad_rows(source: Source, rows: Iterable[BadRow]) -> BadRows:
    return BadRows(source.name, rows, ", row ") if isinstance(source, Table) else BadRows(source, rows)


def to_dataset(
    path: Source,
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
        raise _bad_rows(path, bad)
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
        hint = "; numbers have a decimal point and no other marks" if _WITH_COMMAS.fullmatch(label) else ""
        raise ValueError(f"label {reprlib.repr(label)} is not a finite number{hint}")
    return value


def _value(record: dict[str, Any], column: str) -> Any:
    if column not in record:
        raise ValueError(f"no field {column!r}; the fields are: {', '.join(record)}")
    if isinstance(record, JsonObject) and column in record.repeated:
        raise ValueError(f"twice the field {column!r}")
    value = record[column]
    if isinstance(value, str) and not is_utf8(value):  # JSON can escape half of a surrogate pair
        raise ValueError(f"{column!r} holds half a surrogate pair, which is no character")
    return value


def _sentence(record: dict[str, Any], column: str) -> str:
    value = _value(record, column)
    if isinstance(value, Number | NotFinite) or not isinstance(value, str):
        raise ValueError(f"{column!r} is {_shown(value)}, not a text")
    if not value.strip():
        raise ValueError(f"{column!r} is empty")
    return value


def _label(record: dict[str, Any], column: str) -> str:
    value = _value(record, column)
    if isinstance(value, NotFinite):
        raise ValueError(f"{column!r} is {value}, not a label")
    if not isinstance(value, str | bool):
        raise ValueError(f"{column!r} is {_shown(value)}, not a label")
    label = value.strip() if isinstance(value, str) else json.dumps(value)
    if not label:
        raise ValueError(f"{column!r} is empty")
    return label


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Number | NotFinite) else reprlib.repr(value)


def _infer_task(source: Source, rows: Sequence[Row]) -> Task:
    commas = [row for row in rows if _WITH_COMMAS.fullmatch(row.label)]
    numbers = [row for row in rows if _NUMBER.fullmatch(row.label)]
    if not numbers and not commas:
        return "classification"
    whole = {row.label for row in numbers if float(row.label).is_integer()}
    if commas:
        why = f"{_place(source, commas[0].line)} has the label {commas[0].label!r}: if it is a number, write it with a decimal "
        why += "point (3.14) and no other marks"
    elif len(numbers) < len(rows):
        word = next(row for row in rows if not _NUMBER.fullmatch(row.label))
        why = f"{_place(source, word.line)} has the label {word.label!r}, {_place(source, numbers[0].line)} the number"
        why += f" {numbers[0].label!r}"
    elif any(row.label not in whole for row in numbers):
        return "regression"
    elif all(_INTEGER.fullmatch(label) for label in whole) and len(whole) <= MOST_INFERRED_CLASSES:
        return "classification"
    else:
        why = f"{_name(source)}: the labels are {len(whole)} different whole numbers, such as {numbers[0].label!r}"
    raise ValueError(f"{why}; pass task='classification' or task='regression' (--task)")


def _class_names(rows: Sequence[Row]) -> list[str]:
    names = {row.label for row in rows}
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
