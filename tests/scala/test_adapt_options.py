"""The command's options: read alike from a line and from a file, none ignored, all refused before anything is loaded."""

import sys

import pytest
from own_data import line, write_files

from scala import adapt
from scala.adapt.options import CommandOptions, parser, read
from scala.trainer import ScalaConfig


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


@pytest.fixture
def refused(files, encoder, monkeypatch, capsys):
    """Run the command where reading data or an encoder fails the test; gives what it says."""

    def loading(*_, **__):
        raise AssertionError("loaded before the options were checked")

    monkeypatch.setattr(adapt, "load_data", loading)
    monkeypatch.setattr(adapt, "load_encoder", loading)

    def run(more=(), **options):
        assert adapt.main([*line(files, encoder, **options), *more]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert "Traceback" not in said.err
        return said.err

    return run


@pytest.mark.parametrize(
    ("option", "values", "rule"),
    [
        ("max_length", ["0", "1", "2", "-5"], "must be 3 or more"),
        ("per_device_train_batch_size", ["0", "-1"], "must be 1 or more"),
        ("per_device_eval_batch_size", ["0", "-8"], "must be 1 or more"),
        ("global_batch_size", ["0"], "must be 1 or more"),
        ("gradient_accumulation_steps", ["0", "-2"], "must be 1 or more"),
        ("eval_accumulation_steps", ["0"], "must be 1 or more"),
        ("num_train_epochs", ["0", "-1", "nan", "inf"], "must be more than 0"),
        ("max_steps", ["0", "-3"], "must be 1 or more"),
        ("learning_rate", ["0", "-1e-3", "nan", "inf"], "must be more than 0"),
        ("weight_decay", ["-0.1", "nan"], "must be 0 or more"),
        ("warmup_steps", ["-1"], "must be 0 or more"),
        ("max_grad_norm", ["-1"], "must be 0 or more"),
        ("label_smoothing_factor", ["-0.1", "1", "nan"], "must be at least 0 and below 1"),
        ("adam_beta1", ["1", "-0.1"], "must be at least 0 and below 1"),
        ("save_total_limit", ["0"], "must be 1 or more"),
        ("save_steps", ["0", "-5"], "must be more than 0"),
        ("seed", ["-1", "4294967296"], "must be from 0 to 4294967295"),
        ("noise_radius", ["0", "-1", "nan"], "radius must be"),
        ("noise_steps", ["0"], "must be 1 or more"),
        ("noise_delay", ["-1", "1.5"], "noise_delay must be"),
        ("noise_norm", ["l3"], "invalid choice: 'l3'"),
        ("num_train_epochs", ["many"], "invalid float value: 'many'"),
        ("use_cpu", ["maybe"], "Truthy value expected"),
        ("global_batch_size", ["12"], "global_batch_size 12 is not a multiple of 8"),
        ("report_to", ["tensorboardx"], "is not known; it can be none, all or one of"),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_way_out(refused, option, values, rule):
    for value in values:
        said = refused([f"--{option}={value}"], **{option: None})
        assert option in said or option.removeprefix("noise_") in said
        assert rule in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--noise_raduis", "0.1"], "unknown option --noise_raduis; did you mean --noise_radius?"),
        (["--max-lenght", "9"], "unknown option --max-lenght; did you mean --max_length?"),
        (["--ouput", "x"], "did you mean --output?"),
        (["--per_device_batch_size", "9"], "did you mean --per_device_"),
        (["--qqqqqq", "9"], "unknown option --qqqqqq; scala-adapt --help lists the options"),
        (["--mod", "x"], "unknown option --mod; did you mean --model?"),
        (["-lr", "9"], "unknown option -lr: options begin with two dashes"),
        (["--label", "other"], "--label is given twice, with answer and other"),
        (["--label=other"], "--label is given twice"),
        (["--max-length", "64", "--max_length", "32"], "--max_length is given twice, with 64 and 32"),
        (["--output-dir", "elsewhere"], "--output or --output_dir is given twice"),
        (["--no_sort_by_length", "--sort-by-length", "True"], "--sort_by_length is given twice, with False and True"),
        (["--no-sort-by-length", "False"], "--no-sort-by-length takes no value"),
        (["--max_length"], "--max_length needs a value"),
        (["--text_pair", "two", "words"], "--text_pair takes one value, not 2: 'two' 'words'"),
        (["--resume_from_checkpoint", "x"], "continues from its last checkpoint by itself"),
        (["--do_predict"], "--do_predict has no meaning here"),
        (["--do_train", "False"], "--do_train cannot be False"),
        (["--prediction_loss_only"], "has no meaning here"),
        (["--task", "regression", "--label_smoothing_factor", "0.1"], "is for classes, and this is a regression"),
        (["--task", "ranking"], "invalid choice: 'ranking'"),
        (
            ["--report_to", "tensorboard"],
            "--report_to tensorboard needs a package that is not installed: pip install tensorboard",
        ),
    ],
)
def test_what_is_not_understood_is_refused(refused, monkeypatch, more, said):
    for name in ("tensorboard", "tensorboardX"):  # not there, wherever this test runs
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: False)
    assert said in refused(more)


@pytest.mark.parametrize("option", ["model", "train", "output"])
def test_what_is_missing_is_named(refused, option):
    assert f"the following arguments are required: --{option}" in refused(**{option: None})


def test_a_word_without_an_option_is_refused(capsys):
    assert adapt.main(["train.csv"]) == 1
    assert "'train.csv' belongs to no option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (".", "is where"),
        ("train.csv", "is where"),
        ("model", "is in the encoder's folder"),
        ("model/sub/deeper", "is in the encoder's folder"),
        ("around", "holds the encoder"),
        ("file", "is a file"),
        ("other", "holds another model"),
        ("saved", "lie in each other"),
        ("saved/out", "lie in each other"),
    ],
)
def test_an_output_that_would_write_over_something_is_refused(refused, files, encoder, place, why):
    from datasets import Dataset

    (files / "file").touch()
    (files / "other").mkdir()
    (files / "other" / "config.json").write_text("{}")
    model = files / ("around/checkpoint-8" if place == "around" else "model")
    model.parent.mkdir(exist_ok=True)
    model.symlink_to(encoder)
    more = {}
    if place.startswith("saved"):
        Dataset.from_dict({"a": ["x"], "answer": ["y"]}).save_to_disk(files / "saved")
        more = {"train": str(files / "saved")}
    # A link to the encoder is the encoder.
    output = str(files / place) if place != "around" else str(files / "around")
    model_name = encoder if place.startswith("model") else str(model)
    if place == "around":
        model.unlink()
        model.mkdir()
    assert why in refused(model=model_name, output=output, **more)


def test_names_with_either_dash_and_either_name_of_the_output_are_one(files, encoder):
    usual = read(line(files, encoder, text_pair="b"))
    words = [word.replace("_", "-") if word.startswith("--") else word for word in line(files, encoder, text_pair="b")]
    other = read([word.replace("--output", "--output-dir") for word in words] + ["--output_dir", str(files / "out")])
    assert other.in_force() == usual.in_force()
    assert other.output == usual.output == files / "out"


def test_switches_are_on_without_a_value(files, encoder):
    assert read([*line(files, encoder), "--no_sort_by_length", "--noise_absolute"]).config.sort_by_length is False
    assert read([*line(files, encoder), "--noise-absolute"]).config.noise_absolute is True
    assert read([*line(files, encoder), "--do_train", "--do_eval"]).given >= {"do_train"}  # as people type by habit


FORMS = {
    "yaml": """
text-pair: b
num_train_epochs: 4
noise_radius: 1e-2
label: no
use_cpu: yes
dev: [x.csv, y.csv]
lr_scheduler_type: cosine
lr_scheduler_kwargs:
  num_cycles: 0.25
""",
    "toml": """
text-pair = "b"
num_train_epochs = 4
noise_radius = 1e-2
label = "no"
use_cpu = true
dev = ["x.csv", "y.csv"]
lr_scheduler_type = "cosine"
lr_scheduler_kwargs = {num_cycles = 0.25}
""",
    "json": """
{"text-pair": "b", "num_train_epochs": 4, "noise_radius": 1e-2, "label": "no", "use_cpu": true, "dev": ["x.csv", "y.csv"],
 "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 0.25}}
""",
}


@pytest.mark.parametrize("suffix", FORMS)
def test_a_file_of_options_says_what_a_line_does_and_the_line_wins(tmp_path, encoder, suffix):
    (tmp_path / f"options.{suffix}").write_text(FORMS[suffix])
    words = ["--config", str(tmp_path / f"options.{suffix}"), "--model", encoder, "--train", "t.csv", "--output", "o"]
    found = read([*words, "--num-train-epochs", "5"])
    assert (found.options.text_pair, found.options.label, found.options.dev) == ("b", "no", ["x.csv", "y.csv"])
    assert (found.config.num_train_epochs, found.config.noise_radius, found.config.use_cpu) == (5, 0.01, True)
    assert found.config.lr_scheduler_kwargs == {"num_cycles": 0.25}
    assert {"num_train_epochs", "noise_radius", "text_pair"} <= found.given


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", "noise_raduis: 0.1", "a.yaml: unknown option --noise_raduis; did you mean --noise_radius?"),
        ("a.yaml", "max_length: 9\nmax-length: 8", "a.yaml: --max_length is given twice, with 9 and 8"),
        ("a.json", '{"seed": 1, "seed": 2}', "a.json: --seed is given twice, with 1 and 2"),
        ("a.toml", "seed = 1\nseed = 2", "a.toml cannot be read"),
        ("a.yaml", "seed: [1, 2", "a.yaml cannot be read"),
        ("a.yaml", "- seed", "must hold options by name"),
        ("a.json", "3", "must hold options by name"),
        ("a.yaml", "seed: 1.5", "invalid int value: '1.5'"),
        ("a.yaml", "seed:", "'seed' has no value"),
        ("a.toml", "[training]\nseed = 1", "'training' holds further options; write them all on the top level"),
        ("a.yaml", "seed: [1, 2]", "--seed takes one value, not 2"),
        ("a.yaml", "seed: -1", "--seed must be from 0"),
        ("a.yaml", "config: b.yaml", "cannot name another one"),
        ("a.txt", "seed: 1", "a file of options is .yaml, .toml or .json"),
    ],
)
def test_a_file_of_options_is_checked_alike(refused, files, name, content, said):
    (files / name).write_text(content)
    assert said in refused(["--config", str(files / name)])


def test_a_missing_file_of_options_is_named(refused):
    assert "no-such.yaml" in refused(["--config", "no-such.yaml"])


def test_a_best_checkpoint_by_a_metric_that_is_not_there_is_refused_before_training(files, encoder, capsys):
    more = {"load_best_model_at_end": "True", "metric_for_best_model": "acuracy"}
    assert adapt.main(line(files, encoder, **more)) == 1
    assert "give --metric_for_best_model, one of loss, accuracy, f1" in capsys.readouterr().err


def test_help_shows_the_commands_own_and_the_games_options_once(capsys):
    assert adapt.main(["--help"]) == 0
    said = capsys.readouterr().out
    for name in (*CommandOptions.__dataclass_fields__, "noise_radius", "num_train_epochs", "output_dir"):
        assert said.count(f"\n  --{name} ") == 1, name
    assert "--hub_token" not in said  # and still an option
    assert "--hub_token" in parser()._option_string_actions


def test_every_option_of_the_trainer_is_one_of_the_command():
    known = parser()._option_string_actions
    assert all(f"--{name}" in known for name in ScalaConfig.__dataclass_fields__)
    assert not any("-" in name[2:] for name in known if name != "-h")
