"""The landscape's study: weights kept along a run, every part a file, what separates methods, and its page and pictures."""

import dataclasses
import json
import re

import numpy as np
import pytest
from filelock import FileLock
from safetensors.torch import load_file

from paper_repro.data.tasks import load_task
from paper_repro.landscape import __main__ as command
from paper_repro.landscape import landscape_study as study_module
from paper_repro.landscape.checkpoints import KeepWeights, model_of, steps_at, weights_file
from paper_repro.landscape.landscape_figures import figures
from paper_repro.landscape.landscape_page import page
from paper_repro.landscape.landscape_study import Study, gather, make
from paper_repro.landscape.portrait import LINE, Data, Sizes, layer_curvatures, portrait, rounded
from paper_repro.landscape.separation import MEASURES, separation
from paper_repro.runs.experiment import Run
from paper_repro.runs.run import execute

SMALL = Sizes(sentences=8, batch=8, batches=3, eigenvalues=1, probes=2, lanczos=4, layer_lanczos=2)


def runs_of(encoder, methods=("lamb", "scala"), seeds=(0, 1)):
    common = {"task": "acceptability", "model": encoder, "batch_size": 16, "micro_batch": 8, "epochs": 2, "learning_rate": 1e-2}
    noise = {"lamb": {"noise": "none"}, "scala": {}}
    return tuple(
        Run(**common, method=method, seed=seed, evaluations=1, train_examples=48, held_out=0.01, options=noise[method])
        for method in methods
        for seed in seeds
    )


@pytest.fixture(scope="module")
def made(encoder, tmp_path_factory):
    """A whole study of four tiny runs, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "SHARES", (0, 0.5, 1))
        patch.setattr(study_module, "PLANE", (-1, -0.5, 0, 0.5, 1))
        yield whole(encoder, tmp_path_factory)


def whole(encoder, tmp_path_factory):
    study = Study(runs_of(encoder), tmp_path_factory.mktemp("study"), sizes=SMALL)
    for run in study.runs:
        study_module.train_and_measure(study, run)
    for part, given in study_module._between(study):
        part(study, *given)
    record = gather(study)
    record["separation"] = separation(record["runs"])
    return study, record


def test_the_kept_weights_are_those_of_the_run_at_these_steps(encoder, tmp_path):
    run = runs_of(encoder)[0]
    seen = {}

    class Watch(KeepWeights):
        def _keep(self, state, model):
            seen[state.global_step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            super()._keep(state, model)

    execute(run, tmp_path, callbacks=[Watch(tmp_path / "w", (0, 0.5, 1))])
    kept = {int(path.stem): load_file(path) for path in (tmp_path / "w").iterdir()}
    assert sorted(kept) == steps_at((0, 0.5, 1), 6) == [0, 3, 6]
    for step, weights in kept.items():
        assert all((tensor == seen[step][name]).all() for name, tensor in weights.items())
    assert any((kept[0][name] != kept[3][name]).any() for name in kept[0])


def test_a_run_that_goes_on_keeps_the_start_that_it_had(encoder, tmp_path):
    class Killed(KeepWeights):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 4:
                raise KeyboardInterrupt

    run = dataclasses.replace(runs_of(encoder)[0], evaluations=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    execute(run, whole, callbacks=[KeepWeights(whole / "w", (0, 0.5, 1))])
    with pytest.raises(KeyboardInterrupt):
        execute(run, parts, callbacks=[Killed(parts / "w", (0, 0.5, 1))])
    execute(run, parts, callbacks=[KeepWeights(parts / "w", (0, 0.5, 1))])
    for step in (0, 3, 6):
        one, other = (load_file(weights_file(folder / "w", step)) for folder in (whole, parts))
        assert all((tensor == other[name]).all() for name, tensor in one.items())


def test_damaged_weights_are_named(encoder, tmp_path):
    (tmp_path / "3.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"3\.safetensors holds no weights of .* delete it"):
        model_of(runs_of(encoder)[0], 2, tmp_path / "3.safetensors")


def test_a_portrait_is_of_the_same_sentences_whatever_the_seed_and_finite(made):
    _, record = made
    points = [run["points"] for run in record["runs"]]
    assert [point["step"] for point in points[0]] == [0, 3, 6]
    starts = {json.dumps(run["points"][0]) for run in record["runs"] if run["seed"] == 0}
    assert len(starts) == 1  # one start for all methods, measured on one sample: one portrait
    last = points[0][-1]
    assert last["eigenvalues"] == sorted(last["eigenvalues"], reverse=True)
    assert last["trace"]["low"] <= last["trace"]["mean"] <= last["trace"]["high"]
    assert set(last["layers"]) == set(last["layer_noise_scale"])
    assert np.array(last["lines"]).shape == (3, len(LINE))
    assert np.allclose(np.array(last["lines"])[:, LINE.index(0)], last["loss"], rtol=1e-5)


def test_layers_see_their_own_block_of_the_hessian():
    from paper_repro.landscape.objective import Objective

    curvature = np.array([1.0, 4.0, 9.0, 2.0])
    objective = Objective(lambda x, _: (x**2 @ x.new_tensor(curvature)) / 2, {"a": (2,), "b": (2,)})
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert layer_curvatures(objective, x, 5) == pytest.approx({"a": 4 * 5, "b": 9 * 25})


def test_only_what_is_missing_is_done_again(made, monkeypatch):
    study, record = made
    run = study.runs[1]
    measured = []
    monkeypatch.setattr(study_module, "portrait", lambda *a, **k: measured.append(k["whole"]) or portrait(*a, **k))
    study_module.train_and_measure(study, run)
    assert measured == []
    study.portrait_file(run, 6).unlink()
    study_module.train_and_measure(study, run)
    assert measured == [True]
    assert gather(study)["runs"] == record["runs"]
    study.portrait_file(run, 3).write_text("{")
    with pytest.raises(ValueError, match=r"is damaged .* delete it"):
        gather(study)
    study.portrait_file(run, 3).unlink()
    study_module.train_and_measure(study, run)
    assert gather(study)["runs"] == record["runs"]


def test_lost_weights_are_trained_again_if_a_portrait_needs_them(made):
    study, record = made
    run = study.runs[2]
    study.portrait_file(run, 3).unlink()
    weights_file(study.weights(run), 3).unlink()
    study_module.train_and_measure(study, run)
    assert gather(study)["runs"] == record["runs"]


def test_runs_that_predict_as_the_committed_ones_are_counted(made, tmp_path):
    study, _ = made
    folder = tmp_path / "acceptability"
    folder.mkdir()
    for number, run in enumerate(study.runs[:3]):
        result = json.loads((study.folder / "runs" / "acceptability" / f"{run.identity}.json").read_text())
        result["predictions"][0] = 1 - result["predictions"][0] if number == 0 else result["predictions"][0]
        (folder / f"{run.identity}.json").write_text(json.dumps(result))
    assert gather(dataclasses.replace(study, committed=tmp_path))["agrees"] == {"with_committed_runs": 2, "of": 3}


def test_one_folder_one_study(made):
    study, _ = made
    with FileLock(study.folder / "study.lock"), pytest.raises(TimeoutError, match="another process is making the landscape"):
        make(study)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "sst2"}, "one task, the same examples of it, and one encoder"),
        ({"learning_rate": 0.5}, "one run for a method and seed"),
    ],
)
def test_what_cannot_be_compared_is_refused(encoder, tmp_path, change, said):
    runs = runs_of(encoder)
    with pytest.raises(ValueError, match=said):
        Study((*runs, dataclasses.replace(runs[0], **change)), tmp_path)


def test_too_few_sentences_are_refused(encoder):
    run = runs_of(encoder)[0]
    task = load_task(run.task, train_examples=run.train_examples, held_out=run.held_out)
    with pytest.raises(ValueError, match="the measures take 2048 training examples, acceptability has 48"):
        Data.of(task, run, Sizes())


def planted(factors, spread, slope=0.0, seeds=5):
    """Runs whose top eigenvalue is factor x noise by method, all other measures noise alone; the score falls with its log."""
    rng = np.random.default_rng(0)

    def noise():
        return float(np.exp(spread * rng.standard_normal()))

    runs = []
    for method, factor in factors.items():
        for seed in range(seeds):
            top, loss = factor * noise(), noise()
            point = {
                "eigenvalues": [top], "trace": {"mean": noise()}, "layers": {"a": noise(), "b": -1.0}, "weight_rise": noise(),
                "noise_rise": noise(), "gradient_norm": noise(), "gradient_variance": noise(), "loss": loss,
                "lines": (loss + noise() * np.abs(np.array(LINE))[None].repeat(3, axis=0)).tolist(),
            }  # fmt: skip
            runs.append(
                {"method": method, "seed": seed, "score": 0.8 - slope * np.log(top) + 0.001 * noise(), "points": [point]}
            )
    return runs


def test_separation_finds_the_measure_that_differs_and_no_other():
    rows = {row["measure"]: row for row in separation(planted({"lamb": 1.0, "scala": 0.5, "adamw": 1.0}, 0.1, slope=0.05))}
    assert rows.keys() == MEASURES.keys()
    assert rows["top_eigenvalue"]["p_holm"] < 1e-3
    assert min(row["p_holm"] for name, row in rows.items() if name != "top_eigenvalue") > 0.05
    pairs = {(pair["method"], pair["against"]): pair for pair in rows["top_eigenvalue"]["pairs"]}
    assert pairs["scala", "lamb"]["low"] < 0.5 < pairs["scala", "lamb"]["high"] < 0.7
    assert pairs["lamb", "scala"]["ratio"] == pytest.approx(1 / pairs["scala", "lamb"]["ratio"])
    assert pairs["adamw", "lamb"]["low"] < 1 < pairs["adamw", "lamb"]["high"]
    assert rows["top_eigenvalue"]["score"]["high"] < -0.9
    assert rows["top_eigenvalue"]["score_within"]["high"] < -0.9
    assert rows["loss"]["score"]["low"] < 0 < rows["loss"]["score"]["high"]


def test_a_difference_between_methods_alone_does_not_correlate_within_them():
    runs = planted({"lamb": 1.0, "scala": 0.1}, 0.1)
    for run in runs:
        run["score"] = {"lamb": 0.8, "scala": 0.9}[run["method"]] + 0.001 * (run["seed"] % 2)
    row = separation(runs)[0]
    assert row["score"]["high"] < -0.9
    assert row["score_within"]["low"] < 0 < row["score_within"]["high"]


def test_what_is_not_positive_is_not_compared():
    runs = planted({"lamb": 1.0, "scala": 0.5}, 0.1)
    runs[3]["points"][0]["noise_rise"] = -0.001
    rows = {row["measure"]: row for row in separation(runs)}
    assert rows["noise_rise"]["p"] is None
    assert rows["noise_rise"]["pairs"] == []
    assert rows["top_eigenvalue"]["p"] is not None
    assert "not positive, or no spread" in page(
        {"model": "m", "task": "t", "runs": runs, "separation": list(rows.values()), "data": {"sentences": 1},
         "agrees": {"with_committed_runs": 0, "of": 0}, "barriers": []}
    )  # fmt: skip


@pytest.mark.parametrize(("other", "p"), [(1.0, 1.0), (2.0, None)])
def test_where_seeds_agree_no_spread_is_known(other, p):
    """It was p = NaN, with which Holm's correction made 1 of every other measure's p."""
    runs = planted({"lamb": 1.0, "scala": 0.5}, 0.1)
    for run in runs:
        run["points"][0]["gradient_norm"] = {"lamb": 1.0, "scala": other}[run["method"]]
    rows = {row["measure"]: row for row in separation(runs)}
    assert (rows["gradient_norm"]["p"], rows["gradient_norm"]["pairs"]) == (p, [])
    assert rows["top_eigenvalue"]["p_holm"] < 1e-3
    runs[0]["points"][0]["gradient_norm"] = float("nan")
    assert {row["measure"]: row for row in separation(runs)}["gradient_norm"]["p"] is None


def test_infinite_numbers_become_null():
    assert rounded({"a": [1.23456789, float("inf")], "b": "x", "c": 3}) == {"a": [1.23457, None], "b": "x", "c": 3}


def test_the_page_and_every_figure_are_made(made, tmp_path):
    _, record = made
    record = json.loads(json.dumps(record))  # as it is read from its file
    assert "| largest eigenvalue of the Hessian |" in page(record)
    for name, figure in figures(record).items():
        figure.savefig(tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "at least two seeds"),
        (["--seeds", "0", "0"], "at least two seeds"),
        (["--methods", "lamb"], "two methods"),
        (["--methods", "lamb", "lmab"], "has no method lmab"),
        (["--task", "nosuch"], "on nosuch, and .* has nothing"),
    ],
)
def test_bad_arguments_are_refused(arguments, said, capsys, tmp_path):
    assert command.main([*arguments, "--folder", str(tmp_path), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(said, error)
