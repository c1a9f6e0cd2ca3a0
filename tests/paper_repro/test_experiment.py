import dataclasses
import json

import pytest

from paper_repro.experiment import Run, load_experiment

GOOD = """
model = "bert-tiny"
seeds = [3, 4]
epochs = 2
[methods.adamw]
batch_size = 32
leader = "optim"
noise = "none"
[methods.scala]
batch_size = 64
learning_rate = [1e-3, 2e-3]
noise_radius = 0.05
[tasks.sst2]
train_examples = 500
epochs = 1
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "experiment.toml"
        path.write_text(text)
        return path

    return write


def test_lists_are_sweeps_tasks_have_their_own_settings_and_methods_interleave(file):
    runs = load_experiment(file(GOOD), "sst2")
    assert [(run.method, run.seed, run.learning_rate) for run in runs] == [
        ("adamw", 3, 1e-4), ("scala", 3, 1e-3), ("adamw", 4, 1e-4), ("scala", 3, 2e-3), ("scala", 4, 1e-3), ("scala", 4, 2e-3),
    ]  # fmt: skip
    assert {(run.epochs, run.train_examples) for run in runs} == {(1, 500)}
    assert load_experiment(file(GOOD), "mrpc")[0].epochs == 2
    assert dict(runs[1].options) == {"noise_radius": 0.05}


def test_what_is_given_on_the_command_line_wins(file):
    runs = load_experiment(file(GOOD), "sst2", seeds=[9], epochs=7, model=None)
    assert {run.seed for run in runs} == {9}
    assert {run.epochs for run in runs} == {7}
    assert {run.model for run in runs} == {"bert-tiny"}


def test_a_method_may_differ_on_one_task(file):
    special = GOOD + "[tasks.sst2.scala]\nepochs = 5\n"
    assert {(run.method, run.epochs) for run in load_experiment(file(special), "sst2")} == {("adamw", 1), ("scala", 5)}
    assert {run.epochs for run in load_experiment(file(special), "mrpc")} == {2}
    with pytest.raises(ValueError, match=r"\[tasks\.sst2\.sclaa\]: there is no method of this name"):
        load_experiment(file(special.replace("sst2.scala", "sst2.sclaa")), "sst2")


def test_a_hook_changes_what_was_read(file):
    def resolve(content):
        content["methods"]["adamw"]["learning_rate"] = 0.25
        del content["methods"]["scala"]
        return content

    assert [run.learning_rate for run in load_experiment(file(GOOD), "sst2", resolve)] == [0.25, 0.25]


def test_identity_depends_on_every_setting():
    base = {"task": "t", "model": "m", "method": "x", "seed": 0, "batch_size": 32}
    others = [{}, {"seed": 1}, {"epochs": 4}, {"learning_rate": 2e-4}, {"held_out": 0.1}, {"options": (("noise", "none"),)}]
    names = {Run(**(base | other)).identity for other in others}
    assert len(names) == len(others)
    assert Run(**base).identity == Run(**base).identity


def test_settings_that_came_later_do_not_change_the_names_of_earlier_runs():
    run = Run(task="mrpc", model="minilm-l6", method="lamb", seed=1, batch_size=512, learning_rate=2e-3,
              options=(("noise", "none"),))  # fmt: skip
    assert run.identity == "mrpc-lamb-s1-79c8941950"  # computed before there was a dropout
    assert run.settings().keys().isdisjoint({"dropout", "zero_head"})
    assert Run(task="t", model="m", method="x", seed=0, batch_size=32, dropout=0.0).settings()["dropout"] == 0.0
    assert dataclasses.replace(run, zero_head=True).settings()["zero_head"] is True


def test_a_run_comes_back_from_its_settings():
    run = Run(
        task="t", model="m", method="x", seed=3, batch_size=32, dropout=0.2, options=(("noise", "none"), ("rival", "none"))
    )
    assert Run.of_settings(json.loads(json.dumps(run.settings()))) == run
    for bad in ({}, {"options": []}, {**run.settings(), "colour": "red"}):
        with pytest.raises(ValueError, match="not the settings of a run"):
            Run.of_settings(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("noise_radius", "noise_raduis"), r"\[methods.scala\]: unknown key 'noise_raduis'; did you mean 'noise_radius'\?"),
        (("epochs = 2", "epoch = 2"), "unknown key 'epoch'; did you mean 'epochs'"),
        (("epochs = 2", "output_dir = 'x'"), "unknown key 'output_dir'"),
        (("batch_size = 32", "batch_size = 33"), r"\[methods.adamw\]: batch_size 33 must be a multiple of micro_batch 32"),
        (("batch_size = 32", "batch_size = 'big'"), "batch_size must be an integer >= 1, got 'big'"),
        (("batch_size = 32", ""), "batch_size"),
        (("[1e-3, 2e-3]", "0.0"), "learning_rate must be positive"),
        (("epochs = 2", "held_out = 1.5"), r"held_out must lie in \[0, 1\)"),
        (("epochs = 2", "dropout = 1.0"), r"dropout must lie in \[0, 1\)"),
        (("epochs = 2", "zero_head = 1"), "zero_head must be true or false, got 1"),
        (("noise_radius = 0.05", "rival = 'loud'"), r"\[methods.scala\]: unknown rival 'loud'; choose one of none, gaussian"),
        (("noise_radius = 0.05", "rival = 'sam'\nnoise_radius = 0.03"), "rival = 'sam' does not read noise_radius"),
        (("noise_radius = 0.05", "sam_rho = 0.05"), "rival = 'none' does not read sam_rho"),
        (("epochs = 2", "epochs = "), "cannot be read as TOML"),
        (("[methods.adamw]", "[methods]"), r"methods must be tables, \[methods\.<name>\]"),
        (("[tasks.sst2]", "[tasks]"), r"tasks must be tables, \[tasks\.<name>\]"),
        (("methods", "ways"), r"no \[methods\.<name>\] table"),
    ],
)
def test_bad_files_are_refused(file, change, message):
    with pytest.raises(ValueError, match=message) as error:
        load_experiment(file(GOOD.replace(*change)), "mrpc")
    assert "experiment.toml" in str(error.value)


def test_missing_file():
    with pytest.raises(ValueError, match=r"nowhere\.toml: cannot be read"):
        load_experiment("nowhere.toml", "mrpc")


@pytest.mark.parametrize(("content", "missing"), [("", "batch_size and no model"), ('model = "bert-tiny"', "batch_size")])
def test_a_setting_that_a_run_needs_and_nothing_gives(tmp_path, content, missing):
    path = tmp_path / "one.toml"
    path.write_text(f"{content}\n[methods.lamb]\nseeds = [0]\n")
    with pytest.raises(ValueError, match=rf"\[methods.lamb\]: no {missing} for task 'cola'; set it here"):
        load_experiment(path, "cola")
