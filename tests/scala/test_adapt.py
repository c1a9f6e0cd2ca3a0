"""The command from end to end: what it trains on, what it leaves, and how it goes on after an interruption."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from own_data import line, spoil, write_files
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scala import adapt
from scala.adapt.batch import choose_batch
from scala.trainer import ScalaConfig, ScalaTrainer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


def test_classification_of_pairs_saves_a_model_that_loads_and_a_log(files, encoder, capsys):
    assert adapt.main(line(files, encoder, text_pair="b")) == 0
    said = capsys.readouterr().out
    assert "classification: 40 training and 12 dev examples, classes no, yes" in said
    assert "noise of radius" in said
    model, tokenizer = (auto.from_pretrained(files / "out") for auto in (AutoModelForSequenceClassification, AutoTokenizer))
    assert model.config.id2label == {0: "no", 1: "yes"}
    model(**tokenizer("abc abc", "cba cba", return_tensors="pt"))
    scores = json.loads((files / "out" / "scores.json").read_text())
    assert {"accuracy", "f1", "matthews_correlation"} <= set(scores)
    assert f"dev: accuracy {scores['accuracy']:.4f}, f1 " in said
    head, *rows = [row.split("\t") for row in (files / "out" / "log.tsv").read_text().splitlines()]
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["step"] for row in table if row["loss"]] == [str(step) for step in range(1, 11)]
    assert [row["follower"] for row in table if row["loss"]] == ["0"] * 5 + ["1"] * 5
    assert all(float(row["loss_rise"]) > 0 for row in table if row["follower"] == "1")
    assert [row["dev"] for row in table if row["eval_loss"]] == ["dev"] * 2
    assert len(table) == 10 + 2


def answers(files, capsys):
    """What the line that the command prints last answers, and what the model says itself."""
    said = capsys.readouterr()
    assert "100%" in said.err  # the bar
    (tried,) = [text for text in said.out.splitlines() if text.startswith("try it: ")]
    exec(tried.removeprefix("try it: ").replace("a text", "abc fgh"), {})
    answer = json.loads(capsys.readouterr().out.replace("'", '"'))
    answer = answer[0] if isinstance(answer, list) else answer
    model, tokenizer = (auto.from_pretrained(files / "out") for auto in (AutoModelForSequenceClassification, AutoTokenizer))
    text = ("one", "other") if "text_pair" in tried else ("abc fgh",)
    return answer, model(**tokenizer(*text, return_tensors="pt")).logits[0].detach()


@pytest.mark.parametrize("pair", [None, "b"])
def test_the_line_that_says_how_to_load_it_does(files, encoder, capsys, pair):
    assert adapt.main(line(files, encoder, text_pair=pair)) == 0
    answer, logits = answers(files, capsys)
    assert answer["label"] == ("no", "yes")[int(logits.argmax())]
    assert answer["score"] == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)


def test_a_regression_answers_in_the_labels_units(files, encoder, capsys):
    assert adapt.main(line(files, encoder, label="score")) == 0
    answer, logits = answers(files, capsys)
    assert answer["score"] == pytest.approx(float(logits[0]), abs=1e-5)
    assert (files / "out" / "scatter.png").read_bytes().startswith(b"\x89PNG")


def test_regression_and_a_held_out_tenth(files, encoder, capsys):
    assert adapt.main(line(files, encoder, label="score", dev=None)) == 0
    assert "regression: 36 training and 4 dev examples" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(files / "out")
    assert model.config.num_labels == 1
    assert model.classifier.bias.item() == pytest.approx(0.5, abs=0.15)  # the scores' mean; LAMB leaves a 0 at 0


def interrupt(monkeypatch, at):
    step = ScalaTrainer.training_step

    def interrupted(self, *arguments, **keywords):
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(ScalaTrainer, "training_step", interrupted)
    return lambda: monkeypatch.setattr(ScalaTrainer, "training_step", step)


def test_interrupted_it_continues_and_ends_the_same(files, encoder, monkeypatch, capsys):
    assert adapt.main(line(files, encoder)) == 0
    whole = AutoModelForSequenceClassification.from_pretrained(files / "out")
    log = (files / "out" / "log.tsv").read_text()
    (files / "out").rename(files / "whole")
    go_on = interrupt(monkeypatch, 7)
    assert adapt.main(line(files, encoder)) == 130
    assert "the same command continues" in capsys.readouterr().err
    go_on()
    in_another_order = line(files, encoder)[::-1]
    pairs = [
        (f"{name.replace('_', '-')}={value}") for value, name in zip(in_another_order[::2], in_another_order[1::2], strict=True)
    ]
    assert adapt.main([*pairs, "--seed", "42"]) == 0  # and a default that was not typed before
    assert "continuing from" in capsys.readouterr().out
    resumed = AutoModelForSequenceClassification.from_pretrained(files / "out")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (files / "out" / "log.tsv").read_text() == log
    assert adapt.main(line(files, encoder)) == 1
    assert "holds a finished model" in capsys.readouterr().err


def test_an_unfinished_run_goes_on_with_nothing_else_and_names_what_is_else(files, encoder, monkeypatch, capsys):
    interrupt(monkeypatch, 2)
    assert adapt.main(line(files, encoder)) == 130
    capsys.readouterr()
    assert adapt.main(line(files, encoder, num_train_epochs="3", noise_radius="0.01", text_pair="b")) == 1
    said = capsys.readouterr().err
    assert "holds an unfinished run with other options" in said
    assert "--num_train_epochs was 2.0 and is 3.0" in said
    assert "--noise_radius was 0.003 and is 0.01" in said
    assert "--text_pair was left out and is b" in said
    assert said.count(" was ") == 3
    spoil(files / "train.csv", 2, "new words,b,no,0.5")
    assert adapt.main(line(files, encoder)) == 1
    assert "unfinished run on other data (train changed)" in capsys.readouterr().err
    (files / "out" / "options.yaml").write_text("half a li")
    assert adapt.main(line(files, encoder)) == 1
    assert "options.yaml is damaged" in capsys.readouterr().err


def test_what_was_in_force_can_be_run_again(files, encoder):
    more = {"learning_rate": "0.002", "hub_token": "secret", "lr_scheduler_kwargs": '{"num_cycles": 1}'}
    assert adapt.main(line(files, encoder, lr_scheduler_type="cosine", **more)) == 0
    text = (files / "out" / "options.yaml").read_text()
    assert "secret" not in text
    options = yaml.safe_load(text)
    assert {"learning_rate": 0.002, "noise_radius": 0.003, "max_length": 128, "label": "answer"}.items() <= options.items()
    assert options["gradient_accumulation_steps"] == 1  # what was chosen, too
    assert not {"include_num_input_tokens_seen", "seed", "output_dir", "max_steps"} & set(options)  # nobody asked for these
    assert adapt.main(["--config", str(files / "out" / "options.yaml"), "--output", str(files / "again")]) == 0
    weights = [(files / folder / "model.safetensors").read_bytes() for folder in ("out", "again")]
    assert weights[0] == weights[1]
    assert (files / "again" / "options.yaml").read_text() == text


def test_several_dev_sets_are_scored_each_by_its_name(files, encoder, capsys):
    head, *rows = (files / "dev.csv").read_text().splitlines()
    for name, part in (("easy/dev", rows[:7]), ("hard/dev", rows[7:])):
        (files / name).parent.mkdir()
        (files / f"{name}.csv").write_text("\n".join([head, *part]) + "\n")
    dev = [str(files / f"{name}.csv") for name in ("easy/dev", "hard/dev")]
    best = {"load_best_model_at_end": "True", "metric_for_best_model": "hard-dev_accuracy"}
    assert adapt.main(line(files, encoder, dev=dev, **best)) == 0
    assert "7 easy-dev and 5 hard-dev examples" in capsys.readouterr().out
    scores = json.loads((files / "out" / "scores.json").read_text())
    assert list(scores) == ["easy-dev", "hard-dev"]
    assert all((files / "out" / f"confusion-{name}.png").exists() for name in scores)
    head, *rows = [row.split("\t") for row in (files / "out" / "log.tsv").read_text().splitlines()]
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["dev"] for row in table if row["eval_loss"]] == ["easy-dev", "hard-dev"] * 2
    # The same examples in one file: the scores are those of the parts.
    assert adapt.main(line(files, encoder, output=str(files / "one"))) == 0
    whole = json.loads((files / "one" / "scores.json").read_text())["accuracy"]
    assert 12 * whole == pytest.approx(7 * scores["easy-dev"]["accuracy"] + 5 * scores["hard-dev"]["accuracy"])


@pytest.mark.parametrize("more", [{"use_liger_kernel": "True"}, {"leader": "optim", "optim": "galore_adamw"}])
def test_an_option_whose_package_is_not_installed_is_no_traceback(files, encoder, capsys, more):
    assert adapt.main(line(files, encoder, **more)) == 1
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("samples", "epochs", "batch"), [(100_000, 3, 512), (4_000, 3, 128), (4_000, 10, 512), (100, 1, 8)]
)  # fmt: skip
def test_default_batch_leaves_enough_steps(tmp_path, samples, epochs, batch):
    config = ScalaConfig(str(tmp_path), per_device_train_batch_size=8, num_train_epochs=epochs, use_cpu=True)
    choose_batch(config, samples)
    assert config.gradient_accumulation_steps * 8 == batch


@pytest.mark.parametrize(
    ("more", "rate"),
    [
        ({}, 8e-3),  # few steps
        ({"max_steps": "360", "save_steps": "400", "eval_steps": "400"}, 4e-3),  # four times 90
        ({"learning_rate": "0.005", "max_steps": "360"}, 5e-3),
        ({"lamb_dialect": "debiased"}, 1e-3),  # published LAMB bears less
        ({"leader": "optim", "optim": "adamw_torch", "max_steps": "360"}, 5e-5),
    ],
)
def test_the_default_rate_is_for_ninety_steps(files, encoder, monkeypatch, more, rate):
    seen = []

    def planned(self, *arguments, **keywords):
        seen.append(self.args.learning_rate)
        raise KeyboardInterrupt

    monkeypatch.setattr(ScalaTrainer, "train", planned)
    assert adapt.main(line(files, encoder, **more)) == 130
    assert seen == [pytest.approx(rate)]


def test_warnings_are_said_in_words(files, encoder, monkeypatch, capsys):
    import warnings

    def warned(self, *arguments, **keywords):
        warnings.warn("the noise is too large", stacklevel=2)
        raise KeyboardInterrupt

    monkeypatch.setattr(ScalaTrainer, "train", warned)
    assert adapt.main(line(files, encoder)) == 130
    assert capsys.readouterr().err.startswith("warning: the noise is too large\n")


def test_on_two_processes_everything_is_said_once(files, encoder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scala.adapt"]
    words = line(files, encoder, per_device_train_batch_size="4", ddp_backend="gloo")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *words], cwd=files, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert (files / "out" / "scores.json").exists(), done.stderr
    for said in ("classification: 40", "batch 8", "dev: accuracy", "model: ", "try it: "):
        assert done.stdout.count(said) == 1, said
    head, *rows = (files / "out" / "log.tsv").read_text().splitlines()
    assert len([row for row in rows if row.split("\t")[head.split("\t").index("loss")]]) == 10
