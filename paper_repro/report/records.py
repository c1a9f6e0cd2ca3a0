"""The result files that a report is made from, copied beside it: everything it shows is read from the copies."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.record import read_json, write_json
from paper_repro.runs.experiment import read_toml
from paper_repro.runs.run import read_result
from paper_repro.runs.store import compact
from paper_repro.runs.tuning import EXPERIMENTS

_OTHERWISE = "restore it, or delete it and make it again"
_COMMANDS = {
    "theory": "make theory",
    "demo": "make demo",
    "glue": "make glue-minilm studies results",
    "tuning": "make tuning",
    "bench": "make bench",
    "landscape": "make landscape",
    "onset": "make onset",
    "scaling": "make scaling",
    "faults": "make faults",
    "defaults": "make defaults",
    "ascents": "make ascents",
}


_PARTS = {
    "theory/theory.json": ("theorems", "certificates", "instances", "faults", "failures", "provenance"),
    "demo/": ("settings", "task", "score", "curve", "cost"),
    "bench.json": ("machine", "setting", "round", "leader", "profile", "growth", "provenance"),
    "landscape/landscape.json": ("runs", "separation"),
    "onset/onset.json": ("points", "agreement"),
    "scaling/scaling.json": ("step_time", "follower", "predictions"),
}


@dataclass(frozen=True)
class Record:
    """One copied file.

    Attributes:
        name: its path below the report's data folder.
        fresh: it comes from the folder of runs, not from the kept results.
        sha256: of the copy.
        size: in bytes.
        provenance: what the file says of how it was made; empty if it says nothing.
        command: that makes it anew.
    """

    name: str
    fresh: bool
    sha256: str
    size: int
    provenance: dict[str, Any]
    command: str


def gather(results: Path, runs: Path, into: Path) -> list[Record]:
    """Copy what there is; of a result that both folders hold, the later.

    Args:
        results: kept results, as in ``paper_repro/results``.
        runs: fresh ones, as the targets of the Makefile write them.
        into: an empty folder.

    Returns:
        A record a file, by name.

    Raises:
        ValueError: a file is damaged; its name is said.
    """
    kept, fresh = dict(_kept(results)), dict(_fresh(runs))
    records = []
    for unit in sorted(kept.keys() | fresh.keys()):
        is_fresh = unit in fresh and (unit not in kept or _finished(fresh[unit]) > _finished(kept[unit]))
        for name, path in (fresh if is_fresh else kept)[unit].items():
            copy = into / name
            result = read_result(path) if name.startswith("glue/") and not name.endswith(".diverged.json") else None
            if result is not None and is_fresh:
                write_json(copy, compact(result), compact=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            found = _checked(name, path).get("provenance", {}) if copy.suffix == ".json" else {}
            content = copy.read_bytes()
            records.append(Record(name, is_fresh, hashlib.sha256(content).hexdigest(), len(content), found, command_of(name)))
    return records


def read(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ValueError: it is damaged.
    """
    return read_json(path, _OTHERWISE)


def _checked(name: str, path: Path) -> dict[str, Any]:
    """The same, with the parts that the report reads."""
    found = read(path)
    for start, parts in _PARTS.items():
        if name.startswith(start) and (missing := [part for part in parts if part not in found]):
            raise ValueError(f"{path} is damaged (it has no {missing[0]!r}); {_OTHERWISE}")
    return found


def command_of(name: str) -> str:
    """The command that makes a result file; empty for one that no command is known for."""
    return next((command for start, command in _COMMANDS.items() if name.startswith(start)), "")


_Units = Iterator[tuple[str, dict[str, Path]]]
"""What belongs together and comes from one side: its name, and name of the copy -> file."""


def _kept(results: Path) -> _Units:
    grouped: dict[str, dict[str, Path]] = {}
    for path in sorted(path for path in results.rglob("*") if path.suffix in (".json", ".svg") and path.is_file()):
        name = path.relative_to(results).as_posix()
        top, *rest = path.relative_to(results).parts
        if top == "theory" and rest != ["theory.json"]:
            continue  # figures are drawn from the numbers
        if top == "demo":
            unit = "/".join((top, *rest[:-1]))
        elif top in ("glue", "tuning"):
            unit = name
        else:
            unit = top if rest else top.split(".")[0].removesuffix("-growth").removesuffix("-phases")
        grouped.setdefault(unit, {})[name] = path
    yield from grouped.items()


def _fresh(runs: Path) -> _Units:
    for name in ("theory/theory.json", "landscape/landscape.json", "onset/onset.json", "scaling/scaling.json", "bench.json"):
        path = runs / name
        if path.exists():
            figures = path.parent.glob("*.svg" if "/" in name else f"{path.stem}-*.svg")
            pictures = {} if name.startswith("theory") else {one.relative_to(runs).as_posix(): one for one in sorted(figures)}
            yield name.split("/")[0].removesuffix(".json"), {name: path, **pictures}
    for folder in sorted({path.parent for path in runs.glob("demo/*/*.json")}):
        files = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
        seeds: dict[str, set[int]] = {method: set() for method in read_toml(EXPERIMENTS / "demo.toml")["methods"]}
        for path in files:
            seeds.setdefault(read(path)["settings"]["method"], set()).add(read(path)["settings"]["seed"])
        if len(set(map(frozenset, seeds.values()))) == 1:  # else the demonstration is not finished
            yield f"demo/{folder.name}", {path.relative_to(runs).as_posix(): path for path in files}
    for path in sorted(runs.glob("glue/*/*.json")):
        if not path.name.startswith(".") and not read(path)["settings"]["held_out"]:
            name = path.relative_to(runs).as_posix()
            yield name, {name: path}


def _finished(files: dict[str, Path]) -> str:
    dates = [read(path).get("provenance", {}).get("finished", "") for path in files.values() if path.suffix == ".json"]
    return max(dates, default="")
