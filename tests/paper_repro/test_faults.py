"""The machinery behind docs/faults.md: a few of its trials, and planted faults that it must call a loss."""

import json
import random
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import scala.checkpoints
from paper_repro.faults import damage, faults_page, kills
from paper_repro.faults.__main__ import FAULTS, Fault, Trials, do
from paper_repro.faults.sweep_under_test import SweepUnderTest
from paper_repro.faults.victim import Victim, dies_in_a_write
from paper_repro.runs import run
from scala.adapt import quiet


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    quiet()
    folder = tmp_path_factory.mktemp("faults")
    return SweepUnderTest.prepared(folder, repeats=1), folder


def dying_in_the_first_result(swept, out):
    """A life that ends when 100 bytes of the first run's result are written, then one that goes on."""
    at = next(i for i, path in enumerate(swept.written) if path.endswith(".partial") and ".rte-" in path)
    prepare = iter([dies_in_a_write(at, 100)])
    return kills.until_done(swept, out, ["lamb"], lambda command: Victim(command, next(prepare, None)).end(), 0.0)


def test_killed_at_some_time_nothing_is_lost(swept):
    test, folder = swept
    assert kills.killed_in_training(test, folder / "training", random.Random(1)).lost == ()


def test_killed_in_a_write_nothing_is_lost(swept):
    test, folder = swept
    trial = dying_in_the_first_result(test, folder / "write")
    assert (trial.strikes, trial.lost) == (1, ())


def test_a_full_disk_is_named_and_nothing_is_lost(swept):
    test, folder = swept
    trial = damage.disk_full(test, folder / "disk", random.Random(1))  # by that draw 94 kB of the disk are left
    assert (trial.strikes, trial.lost) == (1, ())
    assert "could not be written, with 0.0 MiB free" in trial.said or "size of files was limited" in trial.said


def test_a_result_that_is_not_written_whole_is_called_a_loss(swept, monkeypatch):
    test, folder = swept
    monkeypatch.setattr(run, "write_json", lambda path, value: path.write_text(json.dumps(value, indent=1)))
    trial = dying_in_the_first_result(test, folder / "not-whole")
    assert trial.strikes == 1
    assert any("a result that is not whole" in lost for lost in trial.lost)


def weights_cut_off(path: Path, draw: random.Random) -> None:
    damage.truncated(path.parent / "model.safetensors", draw)


def weights_changed(path: Path, draw: random.Random) -> None:
    file = path.parent / "model.safetensors"
    save_file({name: -value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("how", [weights_cut_off, weights_changed])
def test_a_damaged_checkpoint_costs_time_and_one_that_is_accepted_is_called_a_loss(swept, monkeypatch, how):
    test, folder = swept
    trial = damage.checkpoint_damaged(test, folder / how.__name__, random.Random(0), how)
    assert trial.lost == ()
    assert "is damaged (it is not as it was written) and is passed over" in trial.said
    with monkeypatch.context() as patch:
        patch.setattr(scala.checkpoints, "_is_whole", lambda checkpoint: (checkpoint / "trainer_state.json").exists())
        trial = damage.checkpoint_damaged(test, folder / f"{how.__name__}-accepted", random.Random(0), how)
    says = "does not go on" if how is weights_cut_off else "is not as in a sweep never disturbed"
    assert any(says in lost for lost in trial.lost)


def test_a_changed_digit_of_a_result_is_named_and_one_that_nobody_notices_is_called_a_loss(swept, monkeypatch):
    test, folder = swept
    trial = damage.result_damaged(test, folder / "digit", random.Random(0), damage.digit_changed)
    assert trial.lost == ()
    assert "it is not as it was written); delete it, and its run is done again" in trial.said
    with monkeypatch.context() as patch:
        patch.setattr(run, "sealed", lambda result: result)
        trial = damage.result_damaged(test, folder / "unnoticed", random.Random(0), damage.digit_changed)
    assert any("nobody noticed" in lost for lost in trial.lost)


def test_trials_are_kept_until_the_source_changes(tmp_path):
    done = []

    def trial(test, out, draw):
        done.append(draw.random())
        return kills.Trial(2, "error: it fell", ("a result",) if len(done) == 1 else (), 0.5)

    fault = Fault("fall", "It falls | hard", "get up", trial, 2, True)
    assert [FAULTS[0].wanted(asked) for asked in (1, 200)] == [1, 2 * FAULTS[0].strikes]
    assert sum(fault.strikes for fault in FAULTS if fault.kill) == 100
    trials = Trials(tmp_path)
    found = do(fault, None, tmp_path, trials, fault.wanted(150))
    assert [trial["strikes"] for trial in found] == [2, 2]
    assert do(fault, None, tmp_path, trials, 5) [:2] == found  # fmt: skip
    assert len(done) == len(set(done)) == 3
    row = faults_page.row("fall", fault.what, fault.then, True, found)
    assert (row["strikes"], row["lost"], row["seconds"]) == (4, ["a result"], {"median": 0.5, "greatest": 0.5})
    (cut,) = tmp_path.glob("fall-000.json")
    cut.write_text(cut.read_text()[:20])
    do(fault, None, tmp_path, trials, 5)
    assert len(done) == 4
    trials.source = "another"
    do(fault, None, tmp_path, trials, 5)
    assert len(done) == 7


def test_the_page_names_what_was_lost():
    trial = {"strikes": 3, "said": "error: it fell 7 m", "lost": [], "seconds": 1.25}
    lost = faults_page.row("egg", "It falls | hard", "get up", True, [trial | {"lost": ["the shell"]}])
    fine = faults_page.row("ball", "It falls | hard", "get up", True, [trial])
    known = {"hardware": "h", "finished": "f", "commit": None}
    record = {"kills": 6, "undisturbed_seconds": {"run": 1, "sweep": 3}, "import_seconds": 9, "provenance": known}
    text = faults_page.written(record | {"faults": [lost, fine]})
    assert "**6 random kills** among 6 faults; **losses: 1**" in text
    assert "| It falls &#124; hard | 3 | `error: it fell 7 m` | get up | 1 times | 1.2, 1.2 |" in text
    assert "- egg: the shell" in text
    assert "nothing that was finished was lost" in faults_page.written(record | {"faults": [fine]})
