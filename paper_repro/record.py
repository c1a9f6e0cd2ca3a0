"""What is written down: files whole or not at all, JSON that is read or refused, what numbers depend on, spreads.

The ground floor: it imports nothing else of this package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convergence.record import Spread, provenance
from scala.whole_file import write_whole

__all__ = ["RESULTS", "Spread", "provenance", "read_json", "write_json", "write_whole"]

RESULTS = Path(__file__).parent / "results"
"""The committed results: glue/, tuning/, demo/, landscape/ ... and bench.json."""


def write_json(path: Path, value: Any, *, compact: bool = False) -> None:
    """Write a JSON file whole or not at all, an entry a line, or all in one line."""
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    write_whole(path, json.dumps(value, **layout) + "\n")


def read_json(path: Path, otherwise: str = "delete it, and the same command makes it again") -> dict[str, Any]:
    """The JSON object of a file.

    Args:
        path: the file.
        otherwise: what to do where it is damaged, for the message.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except ValueError as error:  # of which bad UTF-8 and bad JSON are kinds
        raise ValueError(f"{path} is damaged ({error}); {otherwise}") from error
    return found
