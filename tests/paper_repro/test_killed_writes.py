"""SIGKILL in the middle of a write: what was finished is there, what was not is done again, and all ends the same."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from transformers import TrainerState

from paper_repro import sweep
from paper_repro.runs import store


def arguments(folder):
    return [str(folder / "e.toml"), "--out", str(folder / "out"), "--summary", str(folder / "sums"), "--seeds", "0"]


def killed_while_writing(name, command):
    """Run a command in a process that is killed when half of a file whose name has this ending is written."""

    def half(path, text):
        path.write_bytes(text[: len(text) // 2].encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def child():
        write_text, save_state = Path.write_text, TrainerState.save_to_json

        def write(path, text, *more, **named):
            if name in path.name:
                half(path, text)
            return write_text(path, text, *more, **named)

        def save(state, path):
            if name in path:
                half(Path(path), json.dumps(vars(state), default=str))
            save_state(state, path)

        Path.write_text, TrainerState.save_to_json = write, save
        command()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def without_times(path):
    found = json.loads(path.read_text())
    for key in ("provenance", "cost"):
        found.pop(key, None)
    for entry in found.get("curve", []) + found.get("training_log", []):
        for key in [k for k in entry if k.endswith(("_seconds", "runtime", "per_second"))]:
            del entry[key]
    return found


def results(folder):
    return {path.name: without_times(path) for path in folder.rglob("[!.]*.json") if "checkpoint-" not in str(path)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quick_experiment):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "e.toml").write_text(quick_experiment)
    assert sweep.main(arguments(folder)) == 0
    return folder


@pytest.mark.parametrize("name", ["-scala-s0-", "trainer_state.json", "-acceptability-e.json"])
def test_of_a_result_a_checkpoint_and_a_summary(whole, tmp_path, name):
    shutil.copy(whole / "e.toml", tmp_path)
    assert killed_while_writing(name, lambda: sweep.main(arguments(tmp_path)))
    before = results(tmp_path)  # all of it reads
    assert len(before) == {"-scala-s0-": 1, "trainer_state.json": 0, "-acceptability-e.json": 2}[name]
    assert sweep.main(arguments(tmp_path)) == 0
    after = results(tmp_path)
    assert after == results(whole)
    assert before.items() <= after.items()


def test_of_a_kept_result(whole, tmp_path):
    store.collect(whole / "out", tmp_path)
    kept = results(tmp_path)
    (path,) = tmp_path.rglob("*-scala-s0-*.json")
    old = path.read_bytes()
    assert killed_while_writing("-scala-s0-", lambda: store.collect(whole / "out", tmp_path))
    assert path.read_bytes() == old
    path.unlink()
    assert killed_while_writing("-scala-s0-", lambda: store.collect(whole / "out", tmp_path))
    assert not path.exists()
    assert store.collect(whole / "out", tmp_path) == 2
    assert results(tmp_path) == kept
