"""Labelled sentences that are already a table: a parquet file, a folder of ``save_to_disk``, a data set of the hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Dataset, DatasetDict
from datasets.table import InMemoryTable

from scala.text_files import NotFinite, Number, known_suffix

_ROWS_AT_ONCE = 1000
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Table:
    """A data set and the name it has in messages."""

    name: str
    dataset: Dataset

    def class_names(self, column: str) -> list[str] | None:
        """The names of a column of classes, in the order of their ids; None if the column does not name its classes."""
        feature = self.dataset.features.get(column)
        return list(feature.names) if isinstance(feature, ClassLabel) else None

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Yield rows, from 1, with their values as `text_files.records` gives those of JSON; a class is its name.

        Raises:
            ValueError: there is no such column.
        """
        known = self.dataset.column_names
        for column in columns:
            if column not in known:
                raise ValueError(f"{self.name}: no column {column!r}; the columns are: {', '.join(known)}")
        names = {column: self.class_names(column) for column in columns}
        plain: Any = self.dataset.select_columns(list(columns)).with_format(None)
        number = 0
        for batch in plain.iter(_ROWS_AT_ONCE):  # much faster than row by row
            for values in zip(*(batch[column] for column in columns), strict=True):
                number += 1
                try:
                    yield number, {c: _as_in_json(value, names[c]) for c, value in zip(columns, values, strict=True)}
                except ValueError as error:
                    yield number, str(error)


def _as_in_json(value: Any, names: list[str] | None) -> Any:
    if names is not None and value is not None:
        if not 0 <= value < len(names):
            raise ValueError(f"the class {value} is none of 0 to {len(names) - 1}; test sets hide their labels behind -1")
        return names[value]
    if isinstance(value, float):
        return Number(json.dumps(value)) if math.isfinite(value) else NotFinite(json.dumps(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Number(value)
    return value


def is_a_data_set(name: str | PathLike[str]) -> bool:
    """Whether a name is that of a folder or, where there is no such file, may be that of a data set of the hub."""
    path = Path(name)
    if path.is_dir():
        return True
    read = known_suffix(path) or path.suffix.lower() in (".parquet", ".gz", ".txt", ".xlsx", ".xls")
    return not path.exists() and not read and _HUB_NAME.fullmatch(str(name)) is not None


def parquet(path: Path) -> Table:
    """Read a parquet file.

    Raises:
        ValueError: it is none, or damaged.
        OSError: it cannot be opened.
    """
    try:
        return Table(str(path), Dataset(InMemoryTable(pyarrow.parquet.ParquetFile(path).read())))
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no whole parquet file ({_first_line(error)}); fetch or make it again") from error


def data_set(name: str, subset: str | None = None) -> dict[str, Table]:
    """Open a folder that `datasets` saved, or a data set of the hub.

    Args:
        name: the folder, or the name on the hub, such as "nyu-mll/glue".
        subset: the hub's configuration, such as "sst2".

    Returns:
        Its splits by name; {"": table} for a saved data set that has none.

    Raises:
        ValueError: a subset of a folder.
        OSError: neither a saved data set nor, as far as can be told here, one of the hub.
    """
    found: Any
    if Path(name).is_dir():
        if subset is not None:
            raise ValueError(f"--subset is for a data set of the hub, and {name} is a folder; give the folder of the subset")
        try:
            found = datasets.load_from_disk(name, keep_in_memory=True)
        except Exception as error:  # of a damaged folder datasets and pyarrow raise whatever comes
            raise OSError(
                f"{name} is no data set that datasets.save_to_disk wrote ({_first_line(error)}): give such a folder, or a "
                "file .csv, .tsv, .jsonl, .json or .parquet"
            ) from error
    else:
        try:
            found = datasets.load_dataset(name, subset)
        except Exception as error:  # a hub out of reach has many errors
            raise OSError(
                f"there is no file or folder {name!r}, and the hub gave no data set of that name ({_first_line(error)}). "
                f"Where a hub can be reached, datasets.load_dataset({name!r}).save_to_disk('folder') saves it: give that folder"
            ) from error
    splits = found if isinstance(found, DatasetDict) else {"": found}
    return {split: Table(f"{name}, split {split}" if split else name, dataset) for split, dataset in splits.items()}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
