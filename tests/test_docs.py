"""The pages do what they say: their code runs, their commands exist, their links and paths lead somewhere.

Each page of README.md, CONTRIBUTING.md, CHANGELOG.md and docs/ is followed from top to bottom in an empty folder:

- python: runs, all of a page in one namespace, which holds what the reader has: a model, a tokenizer, data, a loader.
- toml: is an experiment, and is read as one; it is there for the commands after it.
- sh, or no language: each line is a command. `make` is asked for its commands (-n); a module is started and stopped when it has
  read its arguments; scala-adapt and `python -c` run for real; of pytest and pip the paths and extras are looked up.
- text: is output, or a file's layout; not tried.

A block below `<!-- not run: why -->` is not tried; `pytest -rs tests/test_docs.py` lists these with their reasons.
"""

import argparse
import os
import random
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import datasets
import pytest
import torch
from tiny_models import tiny_encoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from paper_repro.data.glue import GLUE_TASKS
from paper_repro.rivals.trainer import RIVALS
from paper_repro.runs.tuning import load_tuned
from scala import adapt

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
OF_REPOSITORY = re.compile(r"(?:scala|toy_problems|convergence|paper_repro|tests|docs)/[\w./*-]*|[\w-]+\.(?:toml|cff|txt|md)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its language ("" if none is named), its text, and why it is not run, if it is not."""

    line: int
    language: str
    text: str
    excuse: str | None


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    fence, start, excuse, inside = None, 0, None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.fullmatch(r"(```+|~~~+)\s*(\w*).*", line)
        if fence is None and mark:
            fence, start, inside = mark, number, []
        elif fence is not None and line.rstrip() == fence[1]:
            found.append(Block(start, fence[2], "\n".join(inside) + "\n", excuse))
            fence = excuse = None
        elif fence is not None:
            inside.append(line)
        elif why := re.fullmatch(r"<!-- not run: (.+) -->", line):
            excuse = why[1]
        elif line.strip():
            excuse = None
    assert fence is None, f"{page}: the block of line {start} does not end"
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^(```+|~~~+).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def words(rng: random.Random) -> str:
    return " ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(rng.randint(2, 6)))


def table(path: Path, columns: list[str], rows: int, between: str = ",") -> None:
    rng = random.Random(path.name)
    lines = [between.join(columns), *(f"{words(rng)}{between}{i % 2}" for i in range(rows))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """What the reader of any page has, in the current folder and in the namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tasks, rivals = dict(GLUE_TASKS), dict(RIVALS)  # guides add to them
    (tmp_path / "ENCODER").mkdir()
    encoder = str(tiny_encoder(tmp_path / "ENCODER"))
    for name, rows in (("train", 64), ("dev", 16)):
        table(tmp_path / f"{name}.csv", ["sentence", "label"], rows)
        table(tmp_path / "data" / "SUBJ" / f"{name}.tsv", ["text", "subjective"], rows, "\t")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    rng = random.Random(0)
    rows = [{**tokenizer(words(rng)), "label": i % 2} for i in range(64)]
    collate = DataCollatorWithPadding(tokenizer)
    torch.manual_seed(0)
    yield {
        "model": AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2),
        "tokenizer": tokenizer,
        "train": datasets.Dataset.from_list(rows),
        "dev": datasets.Dataset.from_list(rows[:16]),
        "loader": [collate(rows[i : i + 16]) for i in range(0, 64, 16)],
    }
    for known, before in ((GLUE_TASKS, tasks), (RIVALS, rivals)):
        known.clear()
        known.update(before)


REREAD = pytest.mark.filterwarnings(
    "ignore:.*found in sys.modules:RuntimeWarning"
)  # a module that is imported, run as a program


@REREAD
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_page_is_followed_from_top_to_bottom(page, reader, monkeypatch, capsys):
    for block in blocks(page):
        if block.excuse is not None:
            continue
        try:
            if block.language == "python":
                exec(compile(block.text, f"{page.name}, block of line {block.line}", "exec"), reader)  # our own text
            elif block.language == "toml":
                experiment(block, page)
            elif block.language in ("", "sh"):
                for command in commands(block.text):
                    run(command, monkeypatch)
            else:
                assert block.language == "text", f"a block is python, sh, toml or text, not {block.language!r}"
        except Exception as error:
            error.add_note(f"{page.relative_to(ROOT)}, block of line {block.line}")
            raise
    OUTCOMES.get(str(page.relative_to(ROOT)), lambda names: None)(reader)


def after_readme(names):
    assert names["trainer"].game.rounds == 3 - 1
    assert names["trainer"].game.gradient_evaluations == 64 * (1 + 1 + 2)  # a step an epoch, t_s = 2 of 3
    assert names["loss"] < 1  # about 8 at the start
    assert Path("adapted/scores.json").exists()


def after_own_code(names):
    assert names["game"].rounds == 100
    assert names["game"].gradient_evaluations == 64 * (20 + 2 * 80)
    assert names["loss"] < 1.5  # at the start about 9, of pure noise at best 0.9
    assert not names["injection"].layer._forward_hooks


def after_own_data(names):
    for name in ("config.json", "model.safetensors", "scores.json", "log.tsv"):
        assert Path("out", name).exists()
    assert Path("plain/scores.json").exists()


def after_add_a_method(names):
    game = names["trainer"].game
    assert type(game) is names["Neighbour"]
    assert game.gradient_evaluations == 64
    assert 0 < game.report.noise_norm <= game.report.radius * 1.0001


def after_add_a_task(names):
    assert len(names["task"].train) == 64
    assert names["task"].metric == "accuracy"


OUTCOMES = {
    "README.md": after_readme,
    "docs/own-code.md": after_own_code,
    "docs/own-data.md": after_own_data,
    "docs/add-a-method.md": after_add_a_method,
    "docs/add-a-task.md": after_add_a_task,
}


def test_every_page_with_an_outcome_is_there():
    assert set(OUTCOMES) <= set(NAMES)
    assert all(any(block.language == "python" or "scala-adapt" in block.text for block in blocks(ROOT / n)) for n in OUTCOMES)


def test_blocks_that_are_not_run_say_why():
    listed = [(page.name, block.line, block.excuse) for page in PAGES for block in blocks(page) if block.excuse is not None]
    for page, line, why in listed:
        assert len(why.split()) > 2, f"{page}, line {line}: {why!r} is no reason"
    if listed:
        pytest.skip("; ".join(f"{page}, line {line}: {why}" for page, line, why in listed))


def experiment(block: Block, page: Path) -> None:
    """Read it, and put it where the commands of the page look for it."""
    named = {name for other in blocks(page) for name in re.findall(r"(?<![\w/-])[\w-]+\.toml", other.text)}
    assert named, "no command names a file for this experiment"
    for name in named:
        Path(name).write_text(block.text, encoding="utf-8")
        for task in tomllib.loads(block.text)["tasks"]:
            assert load_tuned(name, task, lambda model, task, method, key: 1e-3)


def commands(text: str) -> list[list[str]]:
    joined = text.replace("\\\n", " ")
    return [found for line in joined.splitlines() if (found := shlex.split(line, comments=True))]


class Parsed(BaseException):
    """A program has read its arguments; it does nothing more."""


def run(command: list[str], monkeypatch) -> None:
    """Try one command line as far as that takes seconds.

    Raises:
        AssertionError: it names a target, module, file, option or variable that there is not, or this test cannot try it.
    """
    settings = dict(word.split("=", 1) for word in command if re.match(r"[A-Z_]+=", word))
    program, *rest = [word for word in command if not re.match(r"[A-Z_]+=", word)]
    said = " ".join(command)
    if "make" in (program, *rest[:1]):
        unread = [name for name in settings if f"$({name})" not in MAKEFILE and name != "CUDA_VISIBLE_DEVICES"]
        assert not unread, f"{said}: the Makefile does not read {', '.join(unread)}"
        found = {**os.environ, **settings}
        done = subprocess.run(["make", "-n", *rest], cwd=ROOT, env=found, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{said}: {done.stderr}"
        return
    for word in rest:
        if OF_REPOSITORY.fullmatch(word) and not Path(word).exists():
            assert (ROOT / word).exists() or "*" in word, f"{said}: there is no {word}"
    if program == "scala-adapt":
        assert adapt.main(rest) == 0, said
    elif program in ("pip", "cd"):
        for word in rest:
            extras = re.search(r"\[(.+)\]", word)
            assert extras is None or set(extras[1].split(",")) <= EXTRAS, f"{said}: no such extra"
    elif "-c" in rest[:1]:
        exec(compile(rest[1], said, "exec"), {})  # our own text
    elif "-m" in rest:
        assert Path(program).name in ("python", "torchrun"), said
        module, *arguments = rest[rest.index("-m") + 1 :]
        if module.split(".")[0] in ("convergence", "paper_repro"):
            read_arguments(module, arguments, monkeypatch)
        else:
            assert module in ("pytest", "ruff", "mypy", "build", "tests.test_readme"), f"{said}: not a tool of this project"
    elif Path(program).name == "python" and rest[:1] and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).exists(), said
    else:
        raise AssertionError(f"{said}: not known how to try this; see {Path(__file__).name}")


def read_arguments(module: str, arguments: list[str], monkeypatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        read(self, args, namespace)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            with pytest.raises(Parsed):
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            raise AssertionError(f"{module} {shlex.join(arguments)}: refused") from error


@REREAD
@pytest.mark.parametrize(
    "text",
    ["make no-such-target", "make demo NO_SUCH_VARIABLE=1", "python -m paper_repro.analysis.claims --no-such-option",
     "python -m nobody", "python -m paper_repro.no_such_module",
     "python -m paper_repro.sweep paper_repro/experiments/no-such.toml", "pip install '.[no-such-extra]'",
     "strange-program --help", "scala-adapt --model NOWHERE --train train.csv --output x",
     'python -c "import scala.no_such_module"', "python tests/no_such_file.py"],
)  # fmt: skip
def test_a_wrong_command_is_noticed(text, reader, monkeypatch, capsys):
    with pytest.raises((AssertionError, ImportError)):
        for command in commands(text):
            run(command, monkeypatch)


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "") for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_lead_somewhere(page):
    for alt, target in re.findall(r"(!?\[[^]]*\])\(([^)\s]+)\)", prose(page)):
        if alt.startswith("!"):
            assert len(alt) > 12, f"{target}: a picture needs words for who does not see it"
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert other.is_relative_to(ROOT)
        assert not anchor or anchor in slugs(other), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_and_targets_named_in_the_text_exist(page):
    code = re.findall(r"`([^`\n]+)`", prose(page))
    for text in code:
        for word in text.split():
            if re.match(r"(scala|toy_problems|convergence|paper_repro|tests|docs)/", word) and not re.search(r"[<{]", word):
                assert list(ROOT.glob(word.rstrip("/"))), f"{word} of `{text}`"
    known = {target for line in re.findall(r"^([a-z][a-z -]*):", MAKEFILE, flags=re.MULTILINE) for target in line.split()}
    named = {word for text in code if re.match(r"make [a-z]", text) for word in shlex.split(text)[1:] if "=" not in word}
    assert named <= known, f"no targets of the Makefile: {named - known}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_tables_have_as_many_cells_in_every_row(page):
    width = None
    for line in prose(page).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        assert width in (None, cells), line
        width = cells


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
