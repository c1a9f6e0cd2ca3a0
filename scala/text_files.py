"""The records of a text file of labelled sentences: CSV, TSV, JSON lines or a JSON array, plain or packed by gzip.

The suffix says how a file is read: ``.csv`` with standard quoting, ``.tsv`` with literal quotes (as GLUE's files are
written: a lone ``"`` is a character, and never swallows rows), ``.jsonl`` with one object a line, ``.json`` with an array
of objects or one object a line; a further ``.gz`` is unpacked. Files are UTF-8, with or without a byte order mark. A
record that cannot be read is given as what is wrong with it, at its line.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

SHOWN_BAD_ROWS = 10

_DELIMITED: dict[str, dict[str, Any]] = {
    ".csv": {"delimiter": ",", "strict": True},
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}
_JSON = (".jsonl", ".json")
SUFFIXES = (*_DELIMITED, *_JSON)
_BLANK = re.compile(r"[ \t\r\n]*")
LFS_POINTER = "version https://git-lfs"


class BadRow(NamedTuple):
    """A row that cannot be used: the line it starts on, or its number where there are no lines (from 1), and why."""

    line: int
    reason: str


class BadRows(ValueError):
    """A source holds rows that cannot be used; the message names the first ten as ``file:line: reason``."""

    def __init__(self, path: str | PathLike[str], rows: Iterable[BadRow], line: str = ":") -> None:
        """Keep the source and all its bad rows, in their order, as ``path`` and ``rows``; ``line`` stands before a number."""
        self.path, self.rows = Path(path), sorted(rows)
        shown = self.rows[:SHOWN_BAD_ROWS]
        count = f"{len(self.rows)} bad row{'s' if len(self.rows) > 1 else ''}"
        first = f", the first {len(shown)}" if len(shown) < len(self.rows) else ""
        named = "".join(f"\n  {path}{line}{row.line}: {row.reason}" for row in shown)
        super().__init__(f"{count} in {path}{first}:{named}")


class Number(str):
    """A number, spelled as in the file."""


class NotFinite(str):
    """NaN, Infinity or -Infinity, which JSON does not have and Python's reader takes."""


class JsonObject(dict[str, Any]):
    """A JSON object that remembers the keys that stood in it more than once."""

    repeated: frozenset[str] = frozenset()


def known_suffix(path: Path) -> str:
    """How a file is to be read: its suffix in small letters, without ``.gz``; "" if it is not one of ``SUFFIXES``."""
    names = [suffix.lower() for suffix in path.suffixes[-2:]]
    last = names[-2:-1] if names[-1:] == [".gz"] else names[-1:]
    return last[0] if last and last[0] in SUFFIXES else ""


def records(
    path: Path, columns: Sequence[str], header: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the line each record starts on with its values by column, or with what is wrong with it.

    Values are ``str``; in JSON also ``Number``, ``NotFinite``, bool, None, list and dict.

    Args:
        path: a file of a known suffix.
        columns: the columns that are wanted, each of which a CSV or TSV file must have once.
        header: the column names of a CSV or TSV file whose first line is already a row.

    Raises:
        BadRows: a CSV or TSV file lacks a column.
        OSError: the file cannot be opened or unpacked, or is no more than a pointer of Git LFS.
    """
    suffix = known_suffix(path)
    # surrogateescape keeps bytes that are not UTF-8 in their row, where they can be named by line.
    reading: dict[str, Any] = {"mode": "rt", "encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    packed = path.suffix.lower() == ".gz"
    with cast(TextIO, gzip.open(path, **reading) if packed else path.open(**reading)) as file:
        try:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise OSError(f"{path} is a pointer of Git LFS, not the file itself: run 'git lfs pull' where it comes from")
            file.seek(0)
            if suffix in _JSON:
                yield from _json(file, array_allowed=suffix == ".json")
            else:
                yield from _delimited(csv.reader(file, **_DELIMITED[suffix]), path, columns, header)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"{path} is not a whole gzip file ({error}); fetch or make it again") from error


def is_utf8(content: str) -> bool:
    """Whether a text holds characters only, and no half of a surrogate pair."""
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _delimited(
    reader: Any, path: Path, columns: Sequence[str], header: Sequence[str] | None
) -> Iterator[tuple[int, dict[str, str] | str]]:
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
                yield line, fields if is_utf8("".join(fields)) else "not UTF-8"
        line = reader.line_num + 1  # a quoted field may span lines


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = JsonObject(pairs)
    if len(found) < len(pairs):
        found.repeated = frozenset(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=NotFinite)


def _json(file: TextIO, array_allowed: bool) -> Iterator[tuple[int, dict[str, Any] | str]]:
    first, blank = 1, ""
    for line in file:
        if line.strip():
            if array_allowed and line.lstrip().startswith("["):
                yield from _array(blank + line + file.read())
                return
            yield from _lines(first, line)
            break
        blank += line
        first += 1
    for number, content in enumerate(file, start=first + 1):
        yield from _lines(number, content)


def _lines(line: int, content: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    if not content.strip():
        return
    if not is_utf8(content):
        yield line, "not UTF-8"
        return
    try:
        record = _DECODER.decode(content)
    except (ValueError, RecursionError) as error:
        yield line, f"not valid JSON: {error}"
    else:
        yield line, record if isinstance(record, dict) else "not a JSON object"


def _array(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    at = _after_blank(text, text.index("[") + 1)
    line, counted = 1, 0
    while not text.startswith("]", at):
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:  # where the next object begins is not known
            yield line, f"not valid JSON: {error}"
            return
        if not is_utf8(text[at:end]):
            yield line, "not UTF-8"
        else:
            yield line, record if isinstance(record, dict) else "not a JSON object"
        at = _after_blank(text, end)
        if text.startswith(",", at):
            at = _after_blank(text, at + 1)
        elif not text.startswith("]", at):
            line += text.count("\n", counted, at)
            yield line, "not valid JSON: a comma or the array's ] is missing"
            return
    end = _after_blank(text, at + 1)
    if end < len(text):
        yield line + text.count("\n", counted, end), "not valid JSON: text behind the array's ]"


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()
