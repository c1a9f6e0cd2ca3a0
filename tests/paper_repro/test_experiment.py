import dataclasses
import json

import pytest
from pydantic import create_model
from transformers import TrainingArguments

from paper_repro.rivals import RivalConfig, trainer
from paper_repro.runs import experiment, options
from paper_repro.runs.experiment import Run, load_experiment
from scala import ScalaConfig

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
    assert runs[1].settings()["noise_radius"] == 0.05


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


BASE = {"task": "t", "model": "m", "method": "x", "seed": 0, "batch_size": 32}


def test_identity_depends_on_every_setting():
    others = [{}, {"seed": 1}, {"epochs": 4}, {"learning_rate": 2e-4}, {"held_out": 0.1}, {"dropout": 0.0}]
    others += [{"options": options} for options in ({"noise": "none"}, {"noise_steps": 2}, {"bf16": True}, {"rival": "sam"})]
    names = {Run(**(BASE | other)).identity for other in others}
    assert len(names) == len(others)
    assert Run(**BASE).identity == Run(**BASE).identity


@pytest.mark.parametrize("method", [{}, {"rival": "smart"}, {"noise": "none", "leader": "optim"}, {"rival": "sam"}])
def test_an_option_that_is_left_out_is_its_default_written_down(method):
    """Of every option: all that the method reads is in the settings, and typing it makes no other run."""
    left_out = Run(**BASE, options=method)
    written = Run(**BASE, options=dict(left_out.options))
    assert (written, written.identity) == (left_out, left_out.identity)
    assert left_out.settings().keys() - BASE.keys() > {"epochs", "learning_rate", "rival", "max_grad_norm"}
    assert ("noise_radius" in left_out.settings()) == (method == {} or method.get("rival") == "smart")
    assert ("lamb_dialect" in left_out.settings()) != ("optim" in left_out.settings()) == ("leader" in method)


def test_a_whole_number_for_a_real_one_is_the_same_run():
    one, other = (Run(**BASE, learning_rate=rate, options={"noise_radius": rate}) for rate in (1, 1.0))
    assert one.identity == other.identity


def with_options(monkeypatch, neutral=None, **changed):
    """As if the options had these types and defaults."""
    made = create_model("Options", __base__=options.Options, **changed)
    monkeypatch.setattr(experiment, "Options", made)
    monkeypatch.setattr(options, "_check", lambda values: None)  # of `RivalConfig`, which has no such field
    monkeypatch.setattr(experiment, "NEUTRAL", options.NEUTRAL | (neutral or {}))
    return made


def test_a_changed_default_changes_the_name_of_the_runs_that_leave_it_out(monkeypatch):
    named, left_out = Run(**BASE, options={"noise_radius": 0.003}), Run(**BASE)
    assert named.identity == left_out.identity
    made = with_options(monkeypatch, noise_radius=(float, 0.2))
    assert Run(**BASE, options=made()).identity != left_out.identity
    assert Run(**BASE, options=made(noise_radius=0.003)).identity == left_out.identity


def test_an_option_that_came_later_leaves_all_names_at_its_neutral_value(monkeypatch):
    before = Run(**BASE)
    old = before.settings()
    made = with_options(monkeypatch, {"shine": "none"}, shine=(str, "none"))
    run = Run(**BASE, options=made())
    assert run.identity == before.identity
    assert run.settings() == {**old, "shine": "none"}
    assert Run(**BASE, options=made(shine="full")).identity != before.identity
    # Whatever the default becomes, what earlier results lack is what they were made without.
    made = with_options(monkeypatch, {"shine": "none"}, shine=(str, "full"))
    assert Run(**BASE, options=made()).identity != before.identity
    assert Run.of_settings(old).settings() == {**old, "shine": "none"}
    assert Run.of_settings(old).identity == before.identity


def test_a_run_comes_back_from_its_settings():
    run = Run(**BASE, dropout=0.2, options={"noise": "none", "rival": "none"})
    assert Run.of_settings(json.loads(json.dumps(run.settings()))) == run
    less = {key: value for key, value in run.settings().items() if key != "sort_by_length"}
    for bad, why in (
        ({}, "task: field required"),
        ([], "no attribute"),
        ({**run.settings(), "colour": "red"}, "colour = 'red': extra"),
        ({**run.settings(), "noise_radius": 0.1}, "does not read noise_radius"),
        (less, "no sort_by_length"),
    ):
        with pytest.raises(ValueError, match=f"not the settings of a run: .*{why}"):
            Run.of_settings(bad)


def test_every_field_of_the_configurations_is_an_option():
    """A new one needs no line here; those of transformers are the ones that experiments set."""
    inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
    fields = {f.name: f.default for f in dataclasses.fields(RivalConfig) if f.name not in inherited | {"global_batch_size"}}
    assert {key: options.Options.model_fields[key].default for key in fields} == fields
    assert "noise_radius" in fields
    assert fields["noise_radius"] == next(f.default for f in dataclasses.fields(ScalaConfig) if f.name == "noise_radius")
    assert options.Options.model_fields.keys() & inherited >= {"optim", "adam_beta1", "bf16"}


def test_a_new_field_of_the_configurations_is_an_option_by_being_there(monkeypatch):
    @dataclasses.dataclass
    class Newer(RivalConfig):
        lamb_shine: str | None = dataclasses.field(default=None, metadata={"choices": ["dull", "bright"]})

    for module in (options, trainer):
        monkeypatch.setattr(module, "RivalConfig", Newer)
    monkeypatch.setattr(options, "_Checked", type("Checked", (Newer, options._WithoutDevices), {}))
    made = create_model("Options", __base__=options._Options, **options._fields())
    assert dict(made())["lamb_shine"] is None
    assert dict(made(lamb_shine="dull"))["lamb_shine"] == "dull"
    assert made(**dict(made())) == made()
    assert "lamb_shine" not in dict(made(leader="optim"))
    for wrong, why in (
        ({"lamb_shine": "brigth"}, "did you mean 'bright'"),
        ({"leader": "optim", "lamb_shine": "dull"}, "not read"),
    ):
        with pytest.raises(ValueError, match=why):
            made(**wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("noise_radius", "noise_raduis"), r"\[methods.scala\]: unknown key 'noise_raduis'; did you mean 'noise_radius'\?"),
        (("epochs = 2", "epoch = 2"), "unknown key 'epoch'; did you mean 'epochs'"),
        (("epochs = 2", "output_dir = 'x'"), "unknown key 'output_dir'"),
        (("batch_size = 32", "batch_size = 33"), r"\[methods.adamw\]: batch_size 33 must be a multiple of micro_batch 32"),
        (("batch_size = 32", "batch_size = 'big'"), r"\[methods.adamw\]: batch_size = 'big': .* valid integer"),
        (("batch_size = 32", ""), "batch_size"),
        (("batch_size = 64", "batch_size = [64, 0]"), "batch_size = 0: input should be greater than or equal to 1"),
        (("[1e-3, 2e-3]", "0.0"), r"\[methods.scala\]: learning_rate = 0.0: input should be greater than 0"),
        (("[1e-3, 2e-3]", "true"), r"\[methods.scala\]: learning_rate = True: input should be a valid number"),
        (("[1e-3, 2e-3]", "inf"), "learning_rate = inf: input should be a finite number"),
        (("epochs = 2", "held_out = 1.5"), "held_out = 1.5: input should be less than 1"),
        (("epochs = 2", "dropout = 1.0"), "dropout = 1.0: input should be less than 1"),
        (("epochs = 2", "zero_head = 1"), "zero_head = 1: input should be a valid boolean"),
        (("epochs = 2", "zero_head = true"), "zero_head is of regressions only, and mrpc has classes"),
        (("seeds = [3, 4]", "seeds = 3"), "seeds = 3: must be a list"),
        (("seeds = [3, 4]", "seeds = [-1]"), "seed = -1: input should be greater than or equal to 0"),
        (("noise_radius = 0.05", "rival = 'lsam'"), r"\[methods.scala\]: rival = 'lsam': unknown; did you mean 'sam'\?"),
        (("noise_radius = 0.05", "noise = 'nnoe'"), r"\[methods.scala\]: noise = 'nnoe': unknown; did you mean 'none'\?"),
        (("noise_radius = 0.05", "rival = 'sam'\nnoise_radius = 0.03"), "rival = 'sam', .* does not read noise_radius"),
        (("noise_radius = 0.05", "sam_rho = 0.05"), "rival = 'none', .* does not read sam_rho"),
        (('noise = "none"', 'noise = "none"\nnoise_delay = 0.5'), r"\[methods.adamw\]: .*noise = 'none', .* noise_delay"),
        (('noise = "none"', 'noise = "none"\nsame_dropout = true'), "does not read same_dropout"),
        (('noise = "none"', 'lamb_dialect = "paper"'), r"\[methods.adamw\]: .* leader = 'optim' does not read lamb_dialect"),
        (("noise_radius = 0.05", "optim = 'adamw_torch'"), r"\[methods.scala\]: .* leader = 'lamb' does not read optim"),
        (("noise_radius = 0.05", "noise_radius = -1"), r"\[methods.scala\]: noise_radius = -1.0: radius must be positive"),
        (
            ("noise_radius = 0.05", "noise_norm = 'l3'"),
            r"\[methods.scala\]: noise_norm = 'l3': unknown; choose .* l2, linf",
        ),
        (("noise_radius = 0.05", "noise_steps = 'two'"), r"\[methods.scala\]: noise_steps = 'two': .* a valid integer"),
        (("noise_radius = 0.05", "noise_steps = [1, 0]"), r"noise_steps = 0: steps \(K\) must be an integer >= 1"),
        (("noise_radius = 0.05", "noise_delay = 1.5"), "noise_delay = 1.5: .* a whole number of steps"),
        (("noise_radius = 0.05", "noise_one_pass = true"), "noise_one_pass = True: one_pass needs start='warm'"),
        (("noise_radius = 0.05", "rival = 'freelb'"), r"\[methods.scala\]: rival = 'freelb': FreeLB needs noise_steps"),
        (("noise_radius = 0.05", "noise_every = 0\nnoise_share = 2.0"), "noise_every = 0, noise_share = 2.0: share must lie"),
        (("epochs = 2", "bf16 = true\nfp16 = true"), "bf16 = True, fp16 = True: at most one"),
        (("epochs = 2", "label_smoothing_factor = 1.0"), "label_smoothing_factor = 1.0: input should be less than 1"),
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


def test_labels_of_a_regression_are_not_smoothed_and_its_head_may_start_at_zero(file):
    assert load_experiment(file(GOOD.replace("epochs = 2", "zero_head = true")), "stsb")[0].zero_head
    smoothed = GOOD.replace("epochs = 2", "label_smoothing_factor = 0.1")
    assert load_experiment(file(smoothed), "mrpc")
    with pytest.raises(ValueError, match=r"\[methods.adamw\]: label_smoothing_factor is of classes only, and stsb is"):
        load_experiment(file(smoothed), "stsb")


def test_missing_file():
    with pytest.raises(ValueError, match=r"nowhere\.toml: cannot be read"):
        load_experiment("nowhere.toml", "mrpc")


@pytest.mark.parametrize(("content", "missing"), [("", "batch_size and no model"), ('model = "bert-tiny"', "batch_size")])
def test_a_setting_that_a_run_needs_and_nothing_gives(tmp_path, content, missing):
    path = tmp_path / "one.toml"
    path.write_text(f"{content}\n[methods.lamb]\nseeds = [0]\n")
    with pytest.raises(ValueError, match=rf"\[methods.lamb\]: no {missing} for task 'cola'; set it here"):
        load_experiment(path, "cola")
