import subprocess
import sys
from pathlib import Path

import pytest

import paper_repro
from paper_repro.command import command
from paper_repro.data.encoders import EncoderNotFound
from paper_repro.record import read_json, write_json
from scala.game import NonFiniteLoss


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("rate is -1"), 1, "error: rate is -1"),
        (EncoderNotFound("no such encoder"), 1, "error: no such encoder"),
        (NonFiniteLoss("the loss is nan"), 1, "error: the loss is nan"),
        (KeyboardInterrupt(), 130, "interrupted; what is finished is kept, and the same command continues here"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_a_user_can_mend_is_one_line(error, status, said, capsys):
    @command
    def main(arguments):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err.strip() == said


def test_our_own_fault_shows_where():
    @command
    def main(arguments):
        raise IndexError

    with pytest.raises(IndexError):
        main([])


COMMANDS = [path for path in Path(paper_repro.__path__[0]).rglob("*.py") if "parser(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", [path for path in COMMANDS if path.name != "command.py"], ids=lambda path: path.stem)
def test_every_command_is_one_of_these(path):
    text = path.read_text(encoding="utf-8")
    assert "@command\ndef main(arguments: Sequence[str] | None = None) -> int:" in text
    assert "sys.exit(" in text
    assert "ArgumentParser(" not in text


def test_a_command_says_its_name_and_what_it_does():
    said = subprocess.run(
        [sys.executable, "-m", "paper_repro.analysis.claims", "--help"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("usage: python -m paper_repro.analysis.claims")
    assert "not testable here: there is no result; what is missing is said" in said.stdout


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "kept.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"kept.json is damaged \(.+\); delete it, and the same command makes it again"):
        read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_json_is_read_as_it_was_written(tmp_path):
    for compact in (True, False):
        write_json(tmp_path / "a" / "kept.json", {"a": [1, 2.5, None]}, compact=compact)
        assert read_json(tmp_path / "a" / "kept.json") == {"a": [1, 2.5, None]}
        assert (len((tmp_path / "a" / "kept.json").read_text().splitlines()) == 1) == compact
