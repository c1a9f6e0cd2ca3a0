import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convergence import record
from paper_repro import sweep
from paper_repro.data.encoders import default_cache
from paper_repro.runs import run
from paper_repro.runs.experiment import load_experiment

EXPERIMENT = """
model = "{encoder}"
seeds = [0]
epochs = 2
evaluations = 2
train_examples = 64
micro_batch = 8
[methods.adamw-32]
batch_size = 8
leader = "optim"
optim = "adamw_torch"
noise = "none"
[methods.lamb]
batch_size = 32
learning_rate = 1e-2
noise = "none"
[methods.scala]
batch_size = 32
learning_rate = 1e-2
"""


@pytest.fixture
def quick(tmp_path, encoder):
    path = tmp_path / "demo.toml"
    path.write_text(EXPERIMENT.format(encoder=encoder))
    return path


def command(quick, out, *more):
    return [str(quick), "--tasks", "acceptability", "--out", str(out), *more]


def without_times(path):
    """A result without what may differ between two doings of the same run."""
    found = json.loads(path.read_text())
    del found["provenance"], found["cost"]["train_seconds"]
    for entry in found["curve"] + found["training_log"]:
        for key in [k for k in entry if k.endswith(("_seconds", "runtime", "per_second"))]:
            del entry[key]
    return found


def test_one_verdict_one_table_one_picture_one_json_a_run(quick, tmp_path, capsys):
    assert sweep.main(command(quick, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "out" / "acceptability"
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert [r["settings"]["method"] for r in results] == ["adamw-32", "lamb", "scala"]
    assert [r["cost"]["steps"] for r in results] == [16, 4, 4]
    assert [r["cost"]["gradient_evaluations"] for r in results] == [128, 128, 128 + 64]
    assert [len(r["curve"]) for r in results] == [2, 2, 2]
    for r in results:
        assert len(r["predictions"]) == len(r["labels"]) == 1000
        assert r["score"] == r["curve"][-1]["eval_dev_accuracy"]
        assert r["score"] == pytest.approx(sum(p == q for p, q in zip(r["predictions"], r["labels"], strict=True)) / 1000)
        assert r["provenance"]["versions"]["torch"]
        assert len(r["model"]["weights_sha256"]) == 64
    for method in ("adamw-32", "lamb", "scala"):
        assert f"| {method} " in said
    assert "lamb at batch 32 reached the score of adamw-32 at batch 8 in " in said
    assert said.index("scala at batch 32 reached") < said.index("| adamw-32 ")  # the first thing it says
    page = (tmp_path / "out/tables/demo.md").read_text()
    assert "(demo.png)" in page
    assert "![demo, differences](demo-differences.png)" in page
    assert not [p for p in folder.iterdir() if p.is_dir()]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert sweep.main(command(quick, tmp_path / "out")) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before
    assert "3 already done" in capsys.readouterr().out


@pytest.mark.parametrize("write", [True, False], ids=["while-writing", "while-training"])
def test_interrupted_it_goes_on_and_ends_the_same(quick, tmp_path, monkeypatch, capsys, write):
    assert sweep.main(command(quick, tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        if write:
            patch.setattr(record.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        else:
            step_end = run._Clock.on_step_end

            def interrupted(self, args, state, control, **kwargs):
                if state.global_step == 11:
                    raise KeyboardInterrupt
                step_end(self, args, state, control, **kwargs)

            patch.setattr(run._Clock, "on_step_end", interrupted)
        assert sweep.main(command(quick, tmp_path / "cut")) == 130
    assert "the same command continues here" in capsys.readouterr().err
    assert not list((tmp_path / "cut").rglob("*.json.*")) or write
    assert sweep.main(command(quick, tmp_path / "cut")) == 0
    whole, cut = (sorted((tmp_path / name / "acceptability").glob("*.json")) for name in ("whole", "cut"))
    assert [path.name for path in whole] == [path.name for path in cut]
    for ours, theirs in zip(whole, cut, strict=True):
        assert without_times(ours) == without_times(theirs)


def test_killed_at_any_moment_it_ends_the_same(quick, tmp_path):
    """SIGKILL, again and again, at moments that no handler sees."""
    reference = [sys.executable, "-m", "paper_repro.sweep", *command(quick, tmp_path / "whole")]
    killed = [sys.executable, "-m", "paper_repro.sweep", *command(quick, tmp_path / "cut")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(reference, check=True, capture_output=True, env=environment)
    began = time.monotonic()
    kills = 0
    while time.monotonic() - began < 600:
        process = subprocess.Popen(killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        folder = tmp_path / "cut" / "acceptability"
        seen = set(folder.rglob("*")) if folder.exists() else set()
        while process.poll() is None:
            # As soon as a new checkpoint or result begins to appear, that is in the middle of a write.
            if kills < 4 and folder.exists() and set(folder.rglob("checkpoint-*/*")) - seen:
                process.send_signal(signal.SIGKILL)
                kills += 1
            time.sleep(0.002)
        if process.returncode == 0:
            break
    assert kills > 0
    whole, cut = (sorted((tmp_path / name / "acceptability").glob("*.json")) for name in ("whole", "cut"))
    assert [without_times(path) for path in whole] == [without_times(path) for path in cut]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "poker"], "unknown task 'poker'; choose 'acceptability' or one of GLUE's"),
        (["--tasks", "mrpc", "--glue-dir", "/nowhere"], "GLUE_DIR must hold the official GLUE files"),
        (["--model", "/nowhere/encoder"], "path"),
        (["--train-examples", "5000"], "acceptability has 4000 training examples"),
    ],
)
def test_bad_input_says_what_to_do(quick, tmp_path, capsys, more, message):
    assert sweep.main(command(quick, tmp_path / "out", *more)) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_damaged_result_is_named(quick, tmp_path, capsys):
    assert sweep.main(command(quick, tmp_path / "out")) == 0
    path = next((tmp_path / "out").rglob("*lamb*.json"))
    path.write_text(path.read_text()[:-100])
    assert sweep.main(command(quick, tmp_path / "out")) == 1
    assert f"{path} is damaged" in capsys.readouterr().err


def test_sweep_summarises_settings_best_first_and_continues(quick, tmp_path, capsys):
    quick.write_text(quick.read_text().replace("learning_rate = 1e-2\nnoise", "learning_rate = [1e-2, 1e-3]\nnoise", 1))
    quick.write_text(quick.read_text().replace("seeds = [0]", "seeds = [0, 1]\nheld_out = 0.05"))
    arguments = [str(quick), "--task", "acceptability", "--out", str(tmp_path / "out"), "--summary", str(tmp_path / "s.json")]
    assert sweep.main([*arguments, "--budget-min", "0"]) == 0
    assert "budget of 0 min spent" in capsys.readouterr().out
    assert sweep.main(arguments) == 0
    lines = json.loads((tmp_path / "s.json").read_text())["lines"]
    assert sorted((line["method"], line["settings"]["learning_rate"]) for line in lines) == [
        ("adamw-32", 1e-4), ("lamb", 1e-3), ("lamb", 1e-2), ("scala", 1e-2),
    ]  # fmt: skip
    assert [line["score"] for line in lines] == sorted((line["score"] for line in lines), reverse=True)
    assert all(line["seeds"] == [0, 1] and line["score"] == pytest.approx(sum(line["scores"]) / 2) for line in lines)


REAL = Path(default_cache()) / "bert-tiny"


@pytest.mark.skipif(not REAL.exists(), reason="the real encoder has not been fetched (make test does)")
def test_a_real_encoder_learns_the_demonstrations_task_under_noise(tmp_path):
    """Pre-trained weights, real optimisation: the training loss falls, and the noise raises it where it is on."""
    experiment = tmp_path / "real.toml"
    experiment.write_text(
        'model = "bert-tiny"\nepochs = 6\ntrain_examples = 256\nevaluations = 2\n'
        "[methods.scala]\nbatch_size = 64\nlearning_rate = 8e-2\nnoise_radius = 0.02\n"
    )
    (one,) = load_experiment(experiment, "acceptability")
    result = run.execute(one, tmp_path)
    losses = [entry["loss"] for entry in result["training_log"]]
    assert losses[-1] < losses[0]
    assert result["training_log"][-1]["loss_rise"] > 0
    shutil.rmtree(tmp_path)
