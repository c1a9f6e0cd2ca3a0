import json
import random

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scala import adapt
from scala.trainer import ScalaTrainer

QUICK = ["--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--use_cpu", "True"]


def words(rng):
    return " ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(3))


@pytest.fixture
def files(tmp_path):
    rng = random.Random(0)
    for name, count in (("train", 40), ("dev", 12)):
        rows = [f"{words(rng)},{words(rng)},{rng.choice(['no', 'yes'])},{rng.random():.3f}" for _ in range(count)]
        (tmp_path / f"{name}.csv").write_text("a,b,answer,score\n" + "\n".join(rows) + "\n")
    return tmp_path


def arguments(files, encoder, *more, label="answer"):
    return ["--model", encoder, "--train", str(files / "train.csv"), "--dev", str(files / "dev.csv"), "--text", "a",
            "--label", label, "--output", str(files / "out"), *QUICK, *more]  # fmt: skip


def test_classification_of_pairs_saves_a_model_that_loads_and_a_log(files, encoder, capsys):
    assert adapt.main(arguments(files, encoder, "--text-pair", "b")) == 0
    said = capsys.readouterr().out
    assert "classification: 40 training and 12 dev examples, classes no, yes" in said
    assert "noise of radius" in said
    model, tokenizer = (auto.from_pretrained(files / "out") for auto in (AutoModelForSequenceClassification, AutoTokenizer))
    assert model.config.id2label == {0: "no", 1: "yes"}
    model(**tokenizer("abc abc", "cba cba", return_tensors="pt"))
    scores = json.loads((files / "out" / "scores.json").read_text())
    assert {"accuracy", "f1", "matthews_correlation"} <= set(scores)
    head, *rows = [line.split("\t") for line in (files / "out" / "log.tsv").read_text().splitlines()]
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["step"] for row in table if row["loss"]] == [str(step) for step in range(1, 11)]
    assert [row["follower"] for row in table if row["loss"]] == ["0"] * 5 + ["1"] * 5
    assert all(float(row["loss_rise"]) > 0 for row in table if row["follower"] == "1")
    assert len(table) == 10 + 2


def test_regression_and_a_held_out_tenth(files, encoder, capsys):
    without_dev = [a for a in arguments(files, encoder, label="score") if a not in ("--dev", str(files / "dev.csv"))]
    assert adapt.main(without_dev) == 0
    assert "regression: 36 training and 4 dev examples" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(files / "out")
    assert model.config.num_labels == 1
    assert model.classifier.bias.item() == pytest.approx(0.5, abs=0.15)  # the scores' mean; LAMB leaves a 0 at 0


def test_interrupted_it_continues_and_ends_the_same(files, encoder, monkeypatch, capsys):
    assert adapt.main(arguments(files, encoder)) == 0
    whole = AutoModelForSequenceClassification.from_pretrained(files / "out")
    (files / "out").rename(files / "whole")
    loss = ScalaTrainer.compute_loss

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 7:
            raise KeyboardInterrupt
        return loss(self, *args, **kwargs)

    monkeypatch.setattr(ScalaTrainer, "compute_loss", interrupted)
    assert adapt.main(arguments(files, encoder)) == 130
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(ScalaTrainer, "compute_loss", loss)
    assert adapt.main(arguments(files, encoder, "--num_train_epochs", "3")) == 1
    assert "unfinished run with other arguments" in capsys.readouterr().err
    assert adapt.main(arguments(files, encoder)) == 0
    assert "continuing from" in capsys.readouterr().out
    resumed = AutoModelForSequenceClassification.from_pretrained(files / "out")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert adapt.main(arguments(files, encoder)) == 1
    assert "holds a finished model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("samples", "epochs", "batch"), [(100_000, 3, 512), (4_000, 3, 128), (4_000, 10, 512), (100, 1, 8)]
)  # fmt: skip
def test_default_batch_leaves_enough_steps(tmp_path, samples, epochs, batch):
    config = adapt.ScalaConfig(str(tmp_path), per_device_train_batch_size=8, num_train_epochs=epochs, use_cpu=True)
    adapt._choose_batch(config, samples)
    assert config.gradient_accumulation_steps * 8 == batch


@pytest.mark.parametrize(
    ("more", "rate"),
    [
        ([], 8e-3),  # few steps
        (["--max_steps", "360", "--save_steps", "400", "--eval_steps", "400"], 4e-3),  # four times 90
        (["--learning_rate", "0.005", "--max_steps", "360"], 5e-3),
        (["--lamb_dialect", "debiased"], 1e-3),  # published LAMB bears less
        (["--leader", "optim", "--optim", "adamw_torch", "--max_steps", "360"], 5e-5),
    ],
)
def test_the_default_rate_is_for_ninety_steps(files, encoder, monkeypatch, more, rate):
    seen = []

    def planned(self, *arguments, **keywords):
        seen.append(self.args.learning_rate)
        raise KeyboardInterrupt

    monkeypatch.setattr(ScalaTrainer, "train", planned)
    assert adapt.main(arguments(files, encoder, *more)) == 130
    assert seen == [pytest.approx(rate)]


def spoil(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("prepare", "more", "message"),
    [
        (lambda f: spoil(f / "train.csv", 5, "only one field"), [], "train.csv:5"),
        (lambda f: spoil(f / "dev.csv", 3, "a,b,maybe,0.5"), [], "dev.csv:3: unknown label 'maybe'; the labels are: no, yes"),
        (lambda f: spoil(f / "train.csv", 9, ",b,no,0.5"), [], "train.csv:9"),
        (lambda f: (f / "train.csv").unlink(), [], "train.csv"),
        (
            lambda f: spoil(f / "train.csv", 9, "ab " * 400 + ",b,no,0.5"),
            ["--max-length", "900"],
            "positions: set max_length to",
        ),
        (lambda f: None, ["--text", "sentence"], "sentence"),
        (lambda f: None, ["--noise_radius", "0"], "radius must be positive"),
        (lambda f: None, ["--noise_raduis", "0.1"], "unknown option --noise_raduis; did you mean --noise_radius?"),
        (lambda f: None, ["--num_train_epochs", "many"], "many"),
        (lambda f: None, ["--model", "no/such-encoder"], "Give --model the path of a folder"),
        (lambda f: None, ["--global_batch_size", "12"], "global_batch_size 12 is not a multiple of 8"),
    ],
)
def test_bad_input_says_what_to_do(files, encoder, capsys, prepare, more, message):
    prepare(files)
    assert adapt.main(arguments(files, encoder, *more)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert "Traceback" not in said
