import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from paper_repro import onset
from paper_repro.data.tasks import load_task
from paper_repro.landscape.checkpoints import KeepWeights, weights_file
from paper_repro.runs.experiment import load_experiment
from paper_repro.runs.run import execute, read_result
from paper_repro.runs.store import result_path

EXPERIMENT = """
model = "{encoder}"
seeds = [0, 1]
epochs = 2
evaluations = 4
train_examples = 512
micro_batch = 32
batch_size = 128
learning_rate = 1e-2
[methods.lamb]
noise = "none"
[methods.scala]
noise_delay = 0.5
noise_radius = [0.003, 0.1]
[tasks.acceptability]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, encoder):
    path = tmp_path_factory.mktemp("onset") / "e.toml"
    path.write_text(EXPERIMENT.format(encoder=encoder))
    return load_experiment(path, "acceptability")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, runs):
    """Results of one seed, and the weights of its ScaLA run where the noise begins."""
    folder = tmp_path_factory.mktemp("finished")
    for run in runs:
        if run.seed == 0:
            execute(run, folder / run.task, callbacks=[KeepWeights(folder / "weights" / run.identity, (0.5,))])
    return folder


def point(rises, constant=0.7, loss=0.3, radii=(0.01, 0.1), outcomes=()):
    against = {"": [-0.1, -0.3, 0.1], "worse": [-0.2, -0.3, -0.1], "one class": [-0.4, -0.5, -0.3]}
    outcomes = [
        {"radius": radius, "score": 0.5, "against": against[end], "one_class": end == "one class"} for radius, end in outcomes
    ]
    name = {"task": "sst2", "model": "m", "delay": 0.5, "seed": 0, "step": 4}
    return {**name, "constant": constant, "loss": loss, "radii": list(radii), "rises": list(rises), "outcomes": outcomes}


def test_up_to_the_noise_scala_is_lamb(runs, finished, tmp_path):
    """The premise of the study: weights kept half way of the one are those of the other, to the bit."""
    task = load_task("acceptability", train_examples=512)
    lamb, scala, _ = (run for run in runs if run.seed == 0)
    before, path = onset.weights_at(lamb, [0.25, 0.5], task, tmp_path)
    assert before == weights_file(tmp_path / "weights" / lamb.identity, 2)
    assert path == weights_file(tmp_path / "weights" / lamb.identity, 4)
    kept, other = load_file(path), load_file(weights_file(finished / "weights" / scala.identity, 4))
    assert kept.keys() == other.keys()
    assert all(torch.equal(kept[name], other[name]) for name in kept)
    assert not all(torch.equal(kept[name], tensor) for name, tensor in load_file(before).items())
    written = path.stat().st_mtime_ns
    assert onset.weights_at(lamb, [0.5], task, tmp_path)[0].stat().st_mtime_ns == written
    assert not list((tmp_path / "runs").rglob("*.*")), "a run that was stopped has no result, and needs its checkpoints no more"


def test_study_measures_each_seed_and_finds_what_its_runs_came_to(runs, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onset, "RADII", (0.01,))
    points = onset.study(runs, tmp_path, finished)
    assert [one["seed"] for one in points] == [0, 1]
    first, second = points
    assert [run["radius"] for run in first["outcomes"]] == [0.003, 0.1]
    lamb, *noisy = (result_path(run, finished) for run in runs if run.seed == 0)
    scores = [read_result(path)["score"] for path in (lamb, *noisy)]
    assert [scores[0] + run["against"][0] for run in first["outcomes"]] == pytest.approx(scores[1:])
    assert all(low <= mean <= high for mean, low, high in (run["against"] for run in first["outcomes"]))
    assert second["outcomes"] == []
    assert {0.003, 0.1} <= set(first["radii"])
    assert all(np.diff(first["rises"]) > 0)
    assert abs(first["constant"] - math.log(2)) < 0.01, "the embedded task's classes are equal in number"
    assert capsys.readouterr().out.count("is taken at radius") == 2
    changed = json.loads((file := next((tmp_path / "points").glob("*-s0-*"))).read_text()) | {"loss": 0.123}
    file.write_text(json.dumps(changed))
    assert onset.study(runs, tmp_path, finished)[0]["loss"] == 0.123, "what is measured is not measured again"
    monkeypatch.setattr(onset, "RADII", (0.02,))
    assert onset.study(runs[:1] + runs[2:], tmp_path, finished)[0]["loss"] == first["loss"], "but at other radii it is"
    file.write_text("{")
    with pytest.raises(ValueError, match=rf"{file.name} is damaged.*delete it"):
        onset.study(runs, tmp_path, finished)


def test_the_constant_is_that_of_the_classes_there_are(encoder):
    class Model(torch.nn.Module):
        """Its loss is a linear function of the embeddings' sum."""

        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(10, 4)

        def get_input_embeddings(self):
            return self.embedding

        def forward(self, input_ids, labels):
            rows = self.embedding(input_ids).sum(dim=(1, 2))
            return type("Output", (), {"loss": rows.mean()})()

    batch = {"input_ids": torch.arange(8).reshape(4, 2), "labels": torch.tensor([0, 1, 1, 1])}
    model = Model()
    found = onset.measure(model, [batch], [0.01, 0.1])
    assert found["constant"] == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    norms = model.embedding(batch["input_ids"]).flatten(1).norm(dim=1).mean().item()
    # The steepest direction's gain: the radius times the norm of each sample times that of a gradient of eight ones.
    assert found["rises"] == pytest.approx([0.01 * norms * math.sqrt(8), 0.1 * norms * math.sqrt(8)], rel=1e-4)


def test_share_and_the_radius_at_which_all_is_taken():
    assert onset.taken(point([0.04, 0.4])) == pytest.approx([0.1, 1.0])
    assert onset.bearable(point([0.04, 0.4])) == pytest.approx(0.1)
    assert onset.bearable(point([0.04, 4.0])) == pytest.approx(math.sqrt(0.001))  # half way, on log scales
    assert onset.bearable(point([0.004, 0.04])) == np.inf
    assert onset.bearable(point([0.5, 0.6])) == 0.01
    nothing_learnt = point([0.1, 0.2], loss=0.71)
    assert list(onset.taken(nothing_learnt)) == [np.inf, np.inf]
    assert onset.bearable(nothing_learnt) == 0.01


def test_agreement_counts_what_the_runs_came_to():
    points = [
        point([0.04, 0.5], outcomes=[(0.01, ""), (0.1, "one class")]),
        point([0.04, 0.5], outcomes=[(0.01, "worse"), (0.1, "")]),
        point([0.04, 0.5], outcomes=[(0.01, ""), (0.1, "worse")]),
    ]
    found = onset.agreement(points)
    assert found == {"all": {"runs": 3, "worse": 2, "one_class": 1}, "less": {"runs": 3, "worse": 1, "one_class": 0}}
    said = onset.page({"sentences": 9, "points": points, "agreement": found})
    assert "takes all that was learnt, 2 of 3 runs end worse than LAMB's (95%, over the dev sentences), 1 of them with" in said
    assert "where it takes less, 1 of 3, 0 with one class" in said
    assert "0.1: -40.0 (one class)" in said
    assert "0.01: -20.0 (worse), 0.1: -10.0 |" in said
    assert "not run" in onset.page({"sentences": 9, "points": [point([0.04, 0.5])], "agreement": onset.agreement([])})
    assert len(onset.figure(points).axes) == 1


def test_runs_that_are_not_the_same_up_to_the_noise_are_refused(runs, tmp_path):
    lamb, scala, other = (run for run in runs if run.seed == 0)
    with pytest.raises(ValueError, match="the same up to the step"):
        onset.study([lamb, dataclasses.replace(scala, learning_rate=1e-3)], tmp_path, tmp_path)
    with pytest.raises(ValueError, match="the same up to the step"):
        onset.study([scala, other], tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\), got 0.5, 1"):
        onset.weights_at(lamb, [0.5, 1], load_task("acceptability", train_examples=512), tmp_path)


def test_command(tmp_path, capsys):
    assert onset.main(["--tasks", "sst2", "--glue-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "train.tsv is missing" in capsys.readouterr().err
    assert onset.main(["--tasks", "stsb", "--out", str(tmp_path / "out")]) == 1
    assert "no radius was varied on 'stsb'" in capsys.readouterr().err
