import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from paper_repro import sweep
from paper_repro.data.tasks import load_task
from paper_repro.runs.experiment import Run, load_experiment, read_toml
from paper_repro.runs.run import read_result
from paper_repro.runs.store import collect, compact, diverged_path, finished, record_divergence, result_path
from paper_repro.runs.tuning import EXPERIMENTS, load_tuned, measured
from scala.game import NonFiniteLoss


@pytest.fixture
def experiment(tmp_path, quick_experiment):
    path = tmp_path / "quick.toml"
    path.write_text(quick_experiment)
    return path


def result(run, score=0.5, seconds=10.0, gradients=100):
    point = {"step": 1, "gradient_evaluations": gradients, "train_seconds": seconds, "eval_dev_accuracy": score}
    return {
        "settings": run.settings(),
        "model": {"name": run.model},
        "task": {"name": run.task, "metric": "accuracy", "split": "dev", "source": {}},
        "score": score,
        "curve": [point],
        "training_log": [{"loss": 1.0}],
        "predictions": [0, 1],
        "labels": [0, 0],
        "cost": {"steps": 1, "gradient_evaluations": gradients, "train_seconds": seconds, "train_examples": 32},
        "provenance": {"commit": "c", "hardware": "h", "threads": 1},
    }


def keep(run, out, **numbers):
    result_path(run, out).parent.mkdir(parents=True, exist_ok=True)
    result_path(run, out).write_text(json.dumps(result(run, **numbers)))


def fake_execute(calls, scores=None):
    def execute(run, folder, glue_dir, progress, report_to):
        calls.append((run.seed, run.task, run.method))
        if scores and scores[run.method] is None:
            raise NonFiniteLoss("the loss is nan in round 3")
        keep(run, Path(folder).parent, score=scores[run.method] if scores else 0.5)
        return result(run)

    return execute


def test_most_informative_first_and_finished_ones_are_skipped(experiment, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sweep, "execute", fake_execute(calls))
    arguments = [str(experiment), "--tasks", "acceptability", "cola", "--out", str(tmp_path / "out")]
    assert sweep.main(arguments) == 0
    assert calls == [(s, t, m) for s in (0, 1) for t in ("acceptability", "cola") for m in ("lamb", "scala")]
    said = capsys.readouterr().out
    assert "[1/8] acceptability-lamb-s0" in said
    assert "about 2 min left" in said  # 7 runs of 10 seconds, as the first one took
    assert sweep.main(arguments) == 0
    assert len(calls) == 8


def test_time_left_is_by_settings_then_by_gradient_evaluation(tmp_path):
    base = Run("cola", "m", "lamb", 0, 32, epochs=1)
    scala = dataclasses.replace(base, method="scala")
    elsewhere = dataclasses.replace(scala, task="rte")
    runs = [base, dataclasses.replace(base, seed=1), scala, elsewhere]
    assert sweep.seconds_left(runs, tmp_path) is None
    keep(base, tmp_path, seconds=16.0, gradients=32)
    keep(elsewhere, tmp_path, seconds=100.0, gradients=48)  # scala makes 48 / 32 gradients a sample
    assert sweep.seconds_left(runs, tmp_path) == pytest.approx(16.0 + 16.0 / 32 * 1.5 * 32)


def test_a_run_that_diverges_is_recorded_counted_and_not_tried_again(experiment, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sweep, "execute", fake_execute(calls, {"lamb": 0.7, "scala": None}))
    arguments = [str(experiment), "--seeds", "0", "--out", str(tmp_path / "out"), "--summary", str(tmp_path / "sums")]
    assert sweep.main(arguments) == 0
    (record,) = (tmp_path / "out").rglob("*.diverged.json")
    assert json.loads(record.read_text())["diverged"] == "the loss is nan in round 3"
    (summary,) = (tmp_path / "sums").glob("*-acceptability-quick.json")
    methods = json.loads(summary.read_text())["methods"]
    assert (methods["scala"]["best"], methods["scala"]["diverged"], methods["lamb"]["diverged"]) == (None, 1, 0)
    capsys.readouterr()
    assert sweep.main(arguments) == 0
    assert len(calls) == 2
    assert f"diverged before; to try it again delete {record}" in capsys.readouterr().out


def test_a_finished_run_of_other_data_or_weights_ends_the_sweep(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "execute", fake_execute([]))
    arguments = [str(experiment), "--tasks", "acceptability", "--out", str(tmp_path / "out")]
    assert sweep.main(arguments) == 0
    path = min((tmp_path / "out").rglob("*.json"))
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "model": {"weights_sha256": "of others"}}))
    assert sweep.main(arguments) == 1
    assert f"{path} was made from other data or weights" in capsys.readouterr().err


def test_what_another_process_has_in_hand_is_left_to_it(tmp_path):
    runs = [Run("cola", "m", "lamb", seed, 32) for seed in (0, 1)]
    (tmp_path / "cola").mkdir()
    with FileLock(result_path(runs[0], tmp_path).with_suffix(".lock")):
        taken = []
        for run in sweep.unclaimed(runs, tmp_path):
            taken.append(run.seed)
            keep(run, tmp_path)
    assert taken == [1]
    assert next(sweep.unclaimed(runs, tmp_path)).seed == 0


def test_a_run_whose_result_never_appears_is_given_out_once(tmp_path):
    runs = [Run("cola", "m", "lamb", seed, 32) for seed in (0, 1)]
    assert list(sweep.unclaimed(runs, tmp_path)) == runs


def test_a_seed_named_twice_counts_once(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "execute", fake_execute([]))
    summary = tmp_path / "s.json"
    arguments = [str(experiment), "--seeds", "3", "3", "--out", str(tmp_path / "out"), "--summary", str(summary)]
    assert sweep.main(arguments) == 0
    assert [line["seeds"] for line in json.loads(summary.read_text())["lines"]] == [[3], [3]]


def _hold(runs, out, ready):
    for _ in sweep.unclaimed(runs, out):
        ready.set()
        time.sleep(60)


def test_a_killed_process_frees_its_run(tmp_path):
    runs = [Run("cola", "m", "lamb", 0, 32)]
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(runs, tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    assert not list(sweep.unclaimed(runs, tmp_path))
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert next(sweep.unclaimed(runs, tmp_path)) == runs[0]


def without_times(path):
    found = json.loads(path.read_text())
    del found["provenance"], found["cost"]["train_seconds"]
    for entry in found["curve"] + found["training_log"]:
        for key in [k for k in entry if k.endswith(("runtime", "per_second", "_seconds"))]:
            del entry[key]
    return found


def test_two_workers_killed_end_as_one_never_killed(experiment, tmp_path):
    """SIGKILL of the sweep; its workers end with it; the same command continues; results are the same to the last bit."""

    def command(out, *more):
        return [sys.executable, "-m", "paper_repro.sweep", str(experiment), "--seeds", "0", "--out", str(out), *more]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert sweep.main(command(tmp_path / "whole")[3:]) == 0
    cut, kills, before = tmp_path / "cut", 0, set()
    for _ in range(8):
        process = subprocess.Popen(command(cut, "--workers", "2"), stdout=subprocess.DEVNULL, env=environment)
        while process.poll() is None:
            # As soon as a new checkpoint begins to appear, that is in the middle of a run and of a write.
            if kills < 1 and (now := set(cut.rglob("checkpoint-*/*"))) - before:
                before = now
                process.send_signal(signal.SIGKILL)
                kills += 1
            time.sleep(0.002)
        if process.returncode == 0:
            break
    assert kills > 0
    whole, cut_short = (sorted((tmp_path / name).rglob("*.json")) for name in ("whole", "cut"))
    whole, cut_short = ([p for p in paths if "checkpoint" not in str(p)] for paths in (whole, cut_short))
    assert len(whole) == 2
    assert [p.name for p in whole] == [p.name for p in cut_short]
    assert [without_times(p) for p in whole] == [without_times(p) for p in cut_short]


def test_two_processes_of_torchrun_do_each_run_together(experiment, tmp_path):
    experiment.write_text(experiment.read_text() + "held_out = 0.01\n")  # of the task
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "paper_repro.sweep"]
    more = [str(experiment), "--seeds", "0", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *more], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[2/2]") == 1
    runs = load_experiment(experiment, "acceptability", seeds=[0])
    labels = load_task("acceptability", train_examples=32, held_out=0.01).evaluation["held_out"]["label"]
    for run, gradients in zip(runs, (64, 96), strict=True):
        found = read_result(result_path(run, tmp_path / "out"))
        assert found["labels"] == list(labels)
        assert (found["cost"]["processes"], found["cost"]["steps"], found["cost"]["gradient_evaluations"]) == (2, 4, gradients)
    assert not list((tmp_path / "out").rglob("checkpoint-*"))


def test_the_budget_stops_a_run_and_it_continues(experiment, tmp_path, monkeypatch, capsys):
    real, late = sweep.execute, {"after": 3}

    def execute(run, folder, glue_dir, progress, report_to):
        def slow(*state):
            late["after"] -= 1
            if late["after"] == 0:
                monkeypatch.setattr(sweep.time, "time", lambda: float("inf"))
            progress(*state)

        return real(run, folder, glue_dir, slow, report_to)

    monkeypatch.setattr(sweep, "execute", execute)
    arguments = [str(experiment), "--seeds", "0", "--out", str(tmp_path / "out"), "--budget-min", "60"]
    with monkeypatch.context():
        assert sweep.main(arguments) == 0
    assert "budget of 60 min spent; the same command continues with the 2 runs left" in capsys.readouterr().out
    assert not list((tmp_path / "out").rglob("*-s0-*.json"))


def test_a_long_run_says_once_a_minute_how_far_it_is(tmp_path, monkeypatch, capsys):
    clock = {"now": 0.0}
    monkeypatch.setattr(sweep.time, "monotonic", lambda: clock["now"])
    progress = sweep.watch(Run("cola", "m", "lamb", 0, 32), sweep.Terms(tmp_path))
    for step in range(41, 61):  # continued from a checkpoint at 40, twenty seconds a step
        clock["now"] += 20.0
        progress(step, 60, 1.0, 0.25 if step > 50 else None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # none when it begins, none when it ends: then its result is said
    assert all(line.startswith("[cola-lamb-s0-") for line in lines)
    assert lines[0].endswith("] step 43 of 60; about 6 min of it left")
    assert lines[-1].endswith("] step 58 of 60, 0.2500; about 1 min of it left")


class FakeExecutor:
    def __init__(self):
        self.jobs = []
        self.batched = False

    @contextlib.contextmanager
    def batch(self):
        self.batched = True
        yield

    def submit(self, function, *arguments):
        self.jobs.append((function, arguments))


def test_a_slurm_job_a_run(experiment, tmp_path, monkeypatch):
    runs = load_experiment(experiment, "acceptability")
    keep(runs[0], tmp_path)
    executor = FakeExecutor()
    assert sweep.submit(runs, sweep.Terms(tmp_path), executor) == 3
    assert executor.batched
    calls = []
    monkeypatch.setattr(sweep, "execute", fake_execute(calls))
    for function, arguments in executor.jobs:
        function(*arguments)
    assert len(calls) == 3
    assert all(finished(run, tmp_path) for run in runs)


def test_submitit_is_asked_for_by_name(experiment, tmp_path, capsys):
    assert sweep.main([str(experiment), "--engine", "submitit", "--out", str(tmp_path)]) == 1
    assert "--engine submitit needs the package submitit: pip install submitit" in capsys.readouterr().err


def summary_with(folder, **methods):
    folder.mkdir(exist_ok=True)
    (folder / "m-cola.json").write_text(json.dumps({"methods": methods}))


TUNED = """
model = "m"
batch_size = 32
[methods.lamb]
learning_rate = "tuned"
[methods.other]
learning_rate = ["tuned lamb * 0.5", "tuned lamb", 0.3]
noise_radius = "tuned"
[tasks.cola]
"""


def test_tuned_takes_the_best_measured_value(tmp_path):
    (tmp_path / "e.toml").write_text(TUNED)
    done = {"finished": 4, "of": 4}
    folder = tmp_path / "tuning"
    summary_with(folder, lamb={"best": {"learning_rate": 0.01}, **done})
    (folder / "m-cola-controls.json").write_text(json.dumps({"methods": {"other": {"best": {"noise_radius": 0.2}, **done}}}))
    runs = load_tuned(tmp_path / "e.toml", "cola", measured(folder))
    assert sorted((r.method, r.learning_rate, dict(r.options)["noise_radius"]) for r in runs) == [
        ("lamb", 0.01, 0.003), ("other", 0.005, 0.2), ("other", 0.01, 0.2), ("other", 0.3, 0.2),
    ]  # fmt: skip


def test_no_method_is_tuned_twice_for_one_model_and_task():
    """Two files would leave open whose value "tuned" is."""
    tuned = [
        (of_task.get("model", content.get("model")), task, method)
        for content in map(read_toml, EXPERIMENTS.glob("tuning*.toml"))
        for task, of_task in content["tasks"].items()
        for method in content["methods"]
    ]
    assert len(set(tuned)) == len(tuned) > 100


def test_a_task_may_take_what_was_tuned_on_another(tmp_path):
    (tmp_path / "e.toml").write_text(TUNED.replace("cola", "rte") + 'tuned_on = "cola"\n')
    done = {"finished": 4, "of": 4}
    summary_with(tmp_path, lamb={"best": {"learning_rate": 0.01}, **done}, other={"best": {"noise_radius": 0.2}, **done})
    runs = load_tuned(tmp_path / "e.toml", "rte", measured(tmp_path))
    assert {(r.task, r.method, r.learning_rate) for r in runs} == {
        ("rte", "lamb", 0.01), ("rte", "other", 0.005), ("rte", "other", 0.01), ("rte", "other", 0.3),
    }  # fmt: skip


def test_one_task_may_give_a_method_a_tuned_value_of_its_own(tmp_path):
    (tmp_path / "e.toml").write_text(TUNED + 'other.noise_radius = "tuned lamb * 0.5"\n')
    done = {"finished": 4, "of": 4}
    best = {"learning_rate": 0.01, "noise_radius": 0.2}
    summary_with(tmp_path, lamb={"best": best, **done}, other={"best": best, **done})
    runs = load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path))
    assert {(r.method, dict(r.options)["noise_radius"]) for r in runs if r.method == "other"} == {("other", 0.1)}
    (tmp_path / "e.toml").write_text(TUNED + 'other.noise_step_size = "tuned lamb.noise_radius * 0.25"\n')
    runs = load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path))
    assert {dict(r.options).get("noise_step_size") for r in runs} == {None, 0.05}
    (tmp_path / "e.toml").write_text(TUNED + 'ohter.noise_radius = "tuned"\n')
    with pytest.raises(ValueError, match=r"\[tasks.cola.ohter\]: there is no method of this name"):
        load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path))


def test_a_part_of_the_methods_needs_tuning_for_these_alone_and_the_summary_is_of_all(
    experiment, tmp_path, capsys, monkeypatch
):
    (tmp_path / "e.toml").write_text(TUNED)
    summary_with(tmp_path, lamb={"best": {"learning_rate": 0.01}, "finished": 4, "of": 4})
    assert [run.method for run in load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path), ["lamb"])] == ["lamb"]
    with pytest.raises(ValueError, match="has no method ghost; it has lamb, other"):
        load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path), ["lamb", "ghost"])
    methods = list(dict.fromkeys(run.method for run in load_experiment(experiment, "acceptability")))
    monkeypatch.setattr(sweep, "execute", fake_execute(calls := []))
    arguments = [str(experiment), "--tasks", "acceptability", "--methods", methods[0], "--out", str(tmp_path / "out")]
    assert sweep.main([*arguments, "--summary", str(tmp_path / "s.json")]) == 0
    assert {method for _, _, method in calls} == {methods[0]}
    found = json.loads((tmp_path / "s.json").read_text())["methods"]
    assert list(found) == methods
    assert found[methods[0]]["finished"] == found[methods[0]]["of"]
    assert all(found[other]["finished"] == 0 < found[other]["of"] for other in methods[1:])


def test_trackers_get_the_metrics(experiment, tmp_path, monkeypatch):
    asked = []

    def execute(run, folder, glue_dir, progress, report_to):
        asked.append(report_to)
        return fake_execute([])(run, folder, glue_dir, progress, report_to)

    monkeypatch.setattr(sweep, "execute", execute)
    assert sweep.main([str(experiment), "--out", str(tmp_path), "--report-to", "tensorboard", "wandb"]) == 0
    assert set(asked) == {("tensorboard", "wandb")}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (None, r"learning_rate of lamb is to be tuned for m on cola.*first: python -m paper_repro\.sweep"),
        ({"lamb": {"best": {"learning_rate": 0.01}, "finished": 3, "of": 4}}, "is not finished: 3 of 4 runs"),
        ({"lamb": {"best": None, "finished": 4, "of": 4}}, "no best learning_rate of lamb"),
        ({"scala": {"best": None, "finished": 4, "of": 4}}, "learning_rate of lamb is to be tuned"),
    ],
)
def test_missing_or_unfinished_tuning_is_refused(tmp_path, methods, message):
    (tmp_path / "e.toml").write_text(TUNED)
    if methods:
        summary_with(tmp_path / "tuning", **methods)
    with pytest.raises(ValueError, match=message):
        load_tuned(tmp_path / "e.toml", "cola", measured(tmp_path / "tuning"))


def test_a_strange_form_of_tuned_and_other_mistakes_name_the_file(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(TUNED.replace('"tuned"', '"tuned / 2"'))
    with pytest.raises(ValueError, match=rf"{path}: \[methods\.lamb\] learning_rate = 'tuned / 2' is none of"):
        load_tuned(path, "cola", lambda *_: 0.1)
    path.write_text(TUNED.replace("batch_size", "batch_seize"))
    with pytest.raises(ValueError, match=f"{path}.*unknown key 'batch_seize'"):
        load_tuned(path, "cola", lambda *_: 0.1)


def test_a_best_value_at_the_edge_of_its_grid_is_flagged_and_a_diverged_setting_never_wins(tmp_path):
    runs = [Run("cola", "m", "lamb", 0, 32, learning_rate=rate) for rate in (1e-3, 2e-3, 4e-3)]
    for run, score in zip(runs, (0.5, 0.6, 0.7), strict=True):
        keep(run, tmp_path, score=score)
    found = sweep.grids(runs, tmp_path)["lamb"]
    assert (found["best"], found["at_edge"], found["finished"], found["of"]) == (
        {"learning_rate": 4e-3},
        ["learning_rate"],
        3,
        3,
    )
    diverged_path(runs[2], tmp_path).write_text("{}")
    found = sweep.grids(runs, tmp_path)["lamb"]
    assert (found["best"], found["at_edge"], found["diverged"]) == ({"learning_rate": 2e-3}, [], 1)


def test_of_equal_scores_the_lowest_loss_is_best(tmp_path):
    runs = [Run("cola", "m", "lamb", 0, 32, learning_rate=rate) for rate in (1e-3, 2e-3, 4e-3)]
    for run, loss in zip(runs, (0.61, 0.58, 0.62), strict=True):
        one = result(run, score=0.0)
        one["curve"][-1]["eval_dev_loss"] = loss
        result_path(run, tmp_path).parent.mkdir(exist_ok=True)
        result_path(run, tmp_path).write_text(json.dumps(one))
    assert sweep.grids(runs, tmp_path)["lamb"]["best"] == {"learning_rate": 2e-3}
    keep(runs[0], tmp_path, score=0.1)
    assert sweep.grids(runs, tmp_path)["lamb"]["best"] == {"learning_rate": 1e-3}


def test_collected_results_are_compact_and_still_results(tmp_path):
    run = Run("cola", "m", "lamb", 0, 32)
    keep(run, tmp_path / "runs")
    record_divergence(dataclasses.replace(run, seed=1), tmp_path / "runs", "the loss is nan")
    tuning = dataclasses.replace(run, held_out=0.1)
    keep(tuning, tmp_path / "runs")
    record_divergence(dataclasses.replace(tuning, seed=1), tmp_path / "runs", "the loss is nan")
    assert collect(tmp_path / "runs", tmp_path / "kept") == 2
    kept = json.loads(result_path(run, tmp_path / "kept").read_text())
    assert kept == compact(result(run)) == {**result(run), "training_log": []}
    assert finished(dataclasses.replace(run, seed=1), tmp_path / "kept")
    assert not finished(tuning, tmp_path / "kept")
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 2
    diverged_path(run, tmp_path / "runs").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        collect(tmp_path / "runs", tmp_path / "kept")
    slow = result(run)
    slow["curve"][0] |= {"eval_dev_runtime": 1.0, "eval_dev_samples_per_second": 9.0, "eval_other_accuracy": 0.5}
    assert set(compact(slow)["curve"][0]) == {*result(run)["curve"][0], "eval_other_accuracy"}
    with pytest.raises(ValueError, match="no result below"):
        collect(tmp_path / "nowhere", tmp_path / "kept")


def test_smoke_does_the_whole_path_and_says_that_it_means_nothing(tmp_path, capsys):
    experiment = tmp_path / "glue-any.toml"
    experiment.write_text(
        'model = "x"\nbf16 = true\nbatch_size = 1024\n'
        + '[methods.adamw-32]\nleader = "optim"\nnoise = "none"\nlearning_rate = "tuned"\n'
        + '[methods.scala]\nlearning_rate = "tuned"\n[tasks.mnli]\n[tasks.stsb]\n'
    )
    arguments = [str(experiment), "--smoke", "--out", str(tmp_path / "out"), "--summary", str(tmp_path / "s")]
    assert sweep.main(arguments) == 0
    said = capsys.readouterr().out
    assert said.count("These numbers mean nothing.") == 2
    page = (tmp_path / "out/smoke/tables/glue-any.md").read_text()
    assert "These numbers mean nothing." in page
    assert "not run" not in page
    assert "--smoke" in page
    assert all("mean nothing" in path.read_text() for path in (tmp_path / "s").glob("*.json"))
    assert all("random-model" in path.read_text() for path in (tmp_path / "out").rglob("*-s0-*.json"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "poker"], "unknown task 'poker'"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--tasks", "mrpc", "--glue-dir", "/nowhere"], "GLUE_DIR must hold the official GLUE files"),
    ],
)
def test_bad_input_says_what_to_do(experiment, tmp_path, capsys, more, message):
    assert sweep.main([str(experiment), "--out", str(tmp_path / "out"), *more]) == 1
    assert message in capsys.readouterr().err


def test_no_task(tmp_path, capsys):
    (tmp_path / "e.toml").write_text("[methods.lamb]\nbatch_size = 32\n")
    assert sweep.main([str(tmp_path / "e.toml")]) == 1
    assert "names no [tasks.*]; say which with --tasks" in capsys.readouterr().err


def test_an_unknown_task_is_refused_before_anything_else(capsys):
    tuning = Path(sweep.__file__).parent / "experiments/tuning.toml"
    assert sweep.main([str(tuning), "--tasks", "cola", "poker"]) == 1
    assert "unknown task 'poker'; choose 'acceptability' or one of GLUE's: cola" in capsys.readouterr().err
