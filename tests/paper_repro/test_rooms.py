"""Imports between the rooms of paper_repro go one way, so none goes in a circle."""

import ast
from pathlib import Path

import pytest

import paper_repro

ROOMS = ("record", "command", "data", "rivals", "runs", "analysis", "smoke", "sweep", "leaders", "bench", "landscape", "onset")
ROOMS += ("scaling", "report", "faults")
HERE = Path(paper_repro.__path__[0])
FILES = [path for path in sorted(HERE.rglob("*.py")) if path != HERE / "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(HERE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "paper_repro":
            found |= {f"paper_repro.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[1] for name in found if name.startswith("paper_repro.")}


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_below_it(room):
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    wrong = {path.name: imported(path) & above for path in FILES if room_of(path) == room}
    assert not any(wrong.values()), wrong
