"""The study of scale: laws with planted scales, sweep and noise by hand, and the whole of it on made-up measurements."""

import dataclasses
import functools
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from convergence.benchmark import Spread
from paper_repro.analysis.cells import Cell
from paper_repro.bench.interleaved import Timing
from paper_repro.bench.speed_measures import SHAPES
from paper_repro.runs.experiment import load_experiment
from paper_repro.runs.store import result_path
from paper_repro.scaling import __main__ as command
from paper_repro.scaling import batch_sweep, evidence, laws, noise, scaling_study, step_times, target_time
from paper_repro.scaling import scaling_page as page_module
from paper_repro.scaling.inputs import document
from paper_repro.scaling.laws import Crossing, Fit, fit
from paper_repro.scaling.predict import READINGS, Study
from paper_repro.scaling.scaling_page import page

BATCHES = (32, 128, 512, 2048, 4096)


# --- the two laws ----------------------------------------------------------------------------------------------------------


def crossings(steps, seeds=3, spread=0.1, epoch=math.inf, every=0.02):
    """Runs around a law, evaluated every so often (a share of the steps), none longer than an epoch of samples."""
    draws = np.random.default_rng(1)
    found = []
    for batch in BATCHES:
        for _ in range(seeds):
            at, end = steps(batch) * math.exp(draws.normal(0, spread)), epoch / batch
            grid = every * steps(batch)
            by = math.ceil(at / grid) * grid
            found.append(Crossing(batch, end, math.inf) if at > end else Crossing(batch, by - grid, by))
    return found


def test_the_critical_batch_is_recovered():
    found = fit(crossings(lambda batch: 10 * (1 + 600 / batch)), "critical")
    assert found.scale == pytest.approx(600, rel=0.35)
    assert found.low < 600 < found.high < 2000
    assert found.at(512) == pytest.approx(10 * (1 + 600 / 512), rel=0.15)
    assert found.spread == pytest.approx(0.1, rel=0.5)
    assert (found.runs, found.reached) == (15, 15)


def test_the_theorys_batch_is_recovered_and_lies_below_every_batch_that_got_there():
    found = fit(crossings(lambda batch: 10 / (1 - math.sqrt(12 / batch)) ** 2, spread=0.05), "least")
    assert found.low < 12 < found.high <= 32
    assert found.scale == pytest.approx(12, rel=0.3)
    assert found.at(10) == math.inf
    never = [c for c in crossings(lambda batch: 10.0) if c.batch > 32] + [Crossing(32, 9000, math.inf)]
    assert fit(never, "least").high <= 128  # a batch below b_min may be one that never gets there


def test_a_law_tells_its_own_steps_from_the_other_laws():
    steps = crossings(lambda batch: 10 / (1 - math.sqrt(30 / batch)) ** 2, spread=0.02)
    assert fit(steps, "least").log_likelihood > fit(steps, "critical").log_likelihood + 5


def test_steps_that_do_not_depend_on_the_batch_and_steps_like_its_inverse():
    flat, inverse = (fit(crossings(steps), "critical") for steps in (lambda batch: 50.0, lambda batch: 1e6 / batch))
    assert flat.low == 0
    assert flat.high < 32
    assert inverse.high == math.inf
    assert inverse.low > 4096
    assert inverse.at(64) == pytest.approx(1e6 / 64, rel=0.1)
    assert Fit.of(json.loads(json.dumps(inverse.document()))) == inverse


def test_runs_that_ended_too_early_count_as_later_than_their_end():
    everything = crossings(lambda batch: 10 * (1 + 600 / batch), epoch=30_000, seeds=5)
    reached = [crossing for crossing in everything if crossing.reached]
    assert 4096 not in {crossing.batch for crossing in reached}
    censored, dropped = fit(everything, "critical"), fit(reached, "critical")
    assert censored.low < 600 < censored.high
    assert censored.at(4096) > 30_000 / 4096  # the law knows that they took longer
    late = [Crossing(4096, 1000, math.inf) if c.batch == 4096 else c for c in everything]
    assert fit(late, "critical").scale < dropped.scale / 3  # so late that more batch cannot have helped


def test_the_interval_is_that_of_the_f_test_where_nothing_is_censored():
    points = crossings(lambda batch: 10 * (1 + 600 / batch), every=1e-4, spread=0.3)
    found, log_steps = fit(points, "critical"), np.log([(c.after + c.by) / 2 for c in points])
    batch = np.array([c.batch for c in points])

    def squares(scale):
        rest = log_steps - np.log1p(scale / batch)
        return np.square(rest - rest.mean()).sum()

    allowed = 1 + stats.f.ppf(0.95, 1, len(points) - 2) / (len(points) - 2)
    for end in (found.low, found.high):
        assert squares(end) / squares(found.scale) == pytest.approx(allowed, rel=0.02)


@pytest.mark.parametrize(
    "wrong", [(64, 20, 10), (64, 10, 10), (0, 0, 10), (64, -1, 10), (64, math.inf, math.inf), (64, 0, math.nan)]
)
def test_what_is_no_crossing_is_refused(wrong):
    with pytest.raises(ValueError, match="after one evaluation and by the next"):
        fit([*crossings(lambda batch: 1e4 / batch), Crossing(*wrong)], "critical")


def test_two_batches_fit_any_law():
    few = [c for c in crossings(lambda batch: 1e4 / batch) if c.batch in (32, 128)]
    assert fit(few, "critical") is None
    assert fit([*few, Crossing(512, 100, math.inf)], "critical") is None


def test_probabilities_far_out_are_not_lost():
    low, high = np.array([-40.0, 30.0, -1.0, -math.inf, 5.0]), np.array([-39.0, 31.0, 1.0, 0.0, math.inf])
    exact = [stats.norm.logcdf(-39), stats.norm.logsf(30), math.log(0.6826894921), math.log(0.5), stats.norm.logsf(5)]
    assert laws._log_between(low, high) == pytest.approx(exact, rel=1e-6)


# --- the sweep -------------------------------------------------------------------------------------------------------------

KEY = "eval_validation_accuracy"


def result(batch, seed, scores, method="lamb", seconds=2.0, **options):
    """A run that was scored every ten steps."""
    curve = [{"step": 10 * i, KEY: s, "train_seconds": seconds * 10 * i} for i, s in enumerate(scores, 1)]
    return {
        "settings": {"seed": seed, "batch_size": batch, "method": f"{method}-{batch}", "leader": "lamb", **options},
        "task": {"name": "sst2", "source": {}, "metric": "accuracy", "split": "validation"},
        "curve": curve,
        "score": scores[-1],
        "cost": {"steps": 10 * len(scores), "train_examples": 5000},
        "predictions": [1] * round(1000 * scores[-1]) + [0] * round(1000 * (1 - scores[-1])),
        "labels": [1] * 1000,
    }


def cell(*results):
    first = results[0]["settings"]
    return Cell(first["method"], {}, first["batch_size"], {r["settings"]["seed"]: r for r in results}, 0)


def test_a_run_crosses_between_two_evaluations():
    row = batch_sweep.crossing(result(64, 3, [0.5, 0.8, 0.79, 0.9]), 0.8)
    assert row == {"seed": 3, "batch": 64, "after": 10, "by": 20, "seconds": 40.0, "of": 40}
    late = batch_sweep.crossing(result(64, 3, [0.5, 0.8]), 0.81)
    assert (late["after"], late["by"], late["seconds"]) == (20, None, None)
    assert batch_sweep.crossing(result(64, 3, [0.9]), 0.8)["after"] == 0


def test_the_median_of_runs_of_which_most_did_not_get_there_is_unknown():
    ways = {64: ([0.9, 0.9], [0.5, 0.9], [0.5, 0.5]), 128: ([0.9], [0.5], [0.5])}
    column = {f"lamb-{b}": cell(*(result(b, seed, way) for seed, way in enumerate(ways[b]))) for b in ways}
    column["lamb-gaussian"] = cell(result(256, 0, [0.9]))
    found = batch_sweep.family(column, "lamb", 0.8)
    assert [(r["batch"], r["reached"], r["runs"], r["steps"], r["share"]) for r in found["batches"]] == [
        (64, 2, 3, 20, 1.0),
        (128, 1, 3, None, None),
    ]
    assert found["batches"][0]["examples"] == 20 * 64
    assert found["fits"] == {"critical": None, "least": None}


def test_targets_are_the_baselines_score_and_the_end_of_its_interval():
    column = {"adamw-32": cell(*(result(32, seed, [0.5, score], "adamw") for seed, score in enumerate((0.8, 0.82))))}
    score, low = batch_sweep.targets(column).values()
    assert score == pytest.approx(0.81)
    assert 0.77 < low < 0.80
    assert batch_sweep.targets({"adamw-32": dataclasses.replace(column["adamw-32"], results={})}) == {}


# --- noise -----------------------------------------------------------------------------------------------------------------


def scale(value):
    return {"scale": value, "low": value, "high": None}


def landscape(file, values, method="scala"):
    """A run with one point a value; the first is the start."""
    points = [
        {
            "step": 10 * i,
            "of": 10 * (len(values) - 1),
            "noise_scale": scale(v),
            "layerwise_noise_scale": scale(v and v / 4),
            "layer_noise_scale": {"first": scale(2.0), "last": scale(None)},
        }
        for i, v in enumerate(values)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"runs": [{"method": method, "seed": 0, "batch": 512, "points": points}], "provenance": {}}))


def test_noise_along_training_predicts_by_its_median_without_the_start(tmp_path):
    landscape(tmp_path / "l.json", [1.0, 100.0, 300.0, None])
    runs = noise.along_training(tmp_path / "l.json")
    assert [point["share"] for point in runs[0]["points"]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    (row,) = noise.predicted(runs)
    assert row["noise_scale"] == {"low": 100.0, "typical": 300.0, "high": None}
    assert row["layerwise_noise_scale"] == {"low": 25.0, "typical": 75.0, "high": None}
    assert row["layers"] == {"first": 2.0, "last": None}
    assert noise.along_training(tmp_path / "none.json") is None
    for text in ("{", "{}", '{"runs": [{"method": "a", "seed": 0, "batch": 1, "points": [{"step": 1, "of": 2}]}]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json holds no noise scales .*make landscape"):
            noise.along_training(tmp_path / "bad.json")


def test_only_a_familys_own_methods_are_of_it():
    names = ("adamw-32", "adamw-large", "lamb", "scala-512", "lamb-gaussian", "scala-no-delay", "sam")
    assert [noise.family_of(name) for name in names] == ["adamw", "adamw", "lamb", "scala", None, None, None]


# --- time to the target ----------------------------------------------------------------------------------------------------


def test_padded_lengths_are_those_of_sorted_micro_batches():
    lengths = [10] * 8 + [2] * 8
    # All sixteen sorted: two micro-batches of 10 tokens and two of 2. One at a time: each as long as it is.
    assert target_time.padded_lengths(lengths, [16, 1], 4) == {16: 6, 1: 6}
    assert target_time.padded_lengths(lengths, [4], 4)[4] > 6  # drawn at random, a micro-batch is padded to its longest


def timings(per_sample, overhead):
    def same(value):
        return Spread(value, value, value)

    return {
        m: {
            name: Timing(0.0, same(factor * (overhead + per_sample * m)), same(factor))
            for name, factor in ((step_times.FORWARD, 0.4), (step_times.PLAIN, 1.0), (step_times.FOLLOWER, 1.5))
        }
        for m in (4, 8)
    }, {"adamw": Timing(0.0, same(0.1), same(1.0)), "lamb": Timing(0.0, same(0.3), same(3.0))}


def timed(lengths, **per_sample):
    """A record of step times; seconds a sample by length."""
    models = {}
    for length, seconds in per_sample.items():
        parts, leaders = timings(seconds, 0.02)
        inputs = step_times.compute_inputs(parts) | step_times.leader_inputs(leaders, 1000)
        models[length.removeprefix("of")] = {"parameters": 1000, "inputs": document(inputs)}
    rows = [{"batch": batch, "length": length} for batch, length in lengths.items()]
    return {"encoder": "tiny", "micro_batch": 8, "lengths": rows, "models": models, "provenance": {}}


def test_time_to_the_target_by_hand():
    measured = timed({32: 40, 64: 10}, of40=0.01, of10=0.002)
    column = {
        "adamw-32": cell(result(32, 0, [0.5, 0.9], "adamw", leader="optim")),
        "lamb-64": cell(result(64, 0, [0.9, 0.9], noise="none", seconds=0.5), result(64, 1, [0.5, 0.5], noise="none")),
        "scala-64": cell(result(64, 0, [0.5, 0.5, 0.9, 0.9], "scala", noise_delay=0.5)),
        "scala-128": cell(result(128, 0, [0.9], "scala", noise_delay=0.5)),
    }
    rows = {row["method"]: row for row in target_time.compared(column, 0.8, measured)}
    assert list(rows) == ["adamw-32", "lamb-64", "scala-64"]  # nobody timed the padding of 128
    assert rows["adamw-32"]["predicted"] == pytest.approx(20 * (4 * 0.1 + 0.1))
    assert rows["lamb-64"]["predicted"] == pytest.approx(10 * (8 * 0.036 + 0.3))
    assert rows["lamb-64"]["unsorted"] == pytest.approx(10 * (8 * 0.1 + 0.3))
    assert (rows["lamb-64"]["reached"], rows["lamb-64"]["runs"]) == (1, 2)
    assert rows["lamb-64"]["error"] == pytest.approx(5.88 / 5.0 - 1)
    # 30 of 40 steps, the last 10 of them with the follower's pass: half a micro-batch more.
    assert rows["scala-64"]["predicted"] == pytest.approx(30 * 0.3 + 8 * 0.036 * (20 + 10 * 1.5))


# --- the study -------------------------------------------------------------------------------------------------------------


def steps_of(devices, method, batch, seconds):
    return {"devices": devices, "method": method, "batch": batch, "micro_batch": 4, "measured": {"median": seconds}}


def test_the_followers_growth_by_hand():
    rows = [
        steps_of(d, m, b, s)
        for b, by_devices in ((8, ((1.0, 2.0), (1.0, 2.0))), (16, ((1.0, 1.5), (2.0, 6.0))), (32, ((1.0, 2.0), ())))
        for d, pair in enumerate(by_devices, 1)
        for m, s in zip(("lamb", "scala"), pair, strict=False)
    ]
    found = scaling_study.follower(rows)
    assert found["costs"][0] == {"devices": 1, "least": 1.5, "median": 2.0, "greatest": 2.0}
    assert found["costs"][1]["greatest"] == 3.0
    growth = found["growth"]  # 1 at batch 8, 2 at 16
    assert growth["typical"] == pytest.approx(math.sqrt(2))
    half = stats.t.ppf(0.975, 1) * math.log(2) / 2
    assert (growth["low"], growth["high"]) == pytest.approx((math.sqrt(2) * math.exp(-half), math.sqrt(2) * math.exp(half)))
    assert growth["batches"] == 2
    assert scaling_study.follower(rows[:4])["growth"] is None


def swept(scale=900.0, low=300.0, high=None):
    fits = {"critical": {"low": low, "scale": scale, "high": high, "log_likelihood": -3.0}, "least": None}
    none = {"critical": None, "least": None}
    families = [{"family": name, "fits": fits if name == "scala" else none} for name in batch_sweep.FAMILIES]
    return {"examples": 67_349, "targets": [{"name": "the score", "score": 0.8, "families": families}]}


def test_intervals_that_meet_and_intervals_apart():
    def agree(low, high):
        ends = {"low": low, "typical": low, "high": high}
        predicted = [{"method": "scala", "noise_scale": ends, "layerwise_noise_scale": ends}]
        rows = scaling_study.critical(swept(high=1000.0), predicted)
        assert len(rows) == 6
        assert {row["agree"] for row in rows if row["family"] != "scala" or row["law"] == "least"} == {None}
        return next(row["agree"] for row in rows if row["family"] == "scala" and row["law"] == "critical")

    assert [agree(10.0, 299.0), agree(10.0, 301.0), agree(999.0, None), agree(1001.0, None)] == [False, True, True, False]
    assert all(row["predicted"] is None for row in scaling_study.critical(swept(), None))


def test_a_measured_critical_batch_is_carried_over_as_far_as_there_are_samples():
    given = scaling_study.carried_over(swept())
    assert (given.low, given.typical, given.high, given.basis) == (300.0, 900.0, 67_349, "carried over")
    assert "assumed" in given.source
    assert scaling_study.carried_over(swept(scale=0.0, low=0.0, high=40.0)).low == 1.0
    assert scaling_study.carried_over({"examples": None, "targets": []}) is None


EXPERIMENT = """
seeds = [0, 1]
model = "m"
[methods.adamw-32]
batch_size = 32
leader = "optim"
noise = "none"
[methods.lamb-32]
batch_size = 32
noise = "none"
[methods.scala-32]
batch_size = 32
noise_delay = 0.5
[methods.scala-64]
batch_size = 64
noise_delay = 0.5
[methods.scala-128]
batch_size = 128
noise_delay = 0.5
[tasks.sst2]
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of made-up runs; ScaLA's steps fall like 1/B."""
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "timed.toml").write_text(re.sub(r"\[methods.scala-(32|64)\](\n.+){2}\n", "", EXPERIMENT))
    monkeypatch.setattr(batch_sweep, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(batch_sweep, "STUDIES", ("e", "timed"))
    monkeypatch.setattr(scaling_study, "TIMED", "timed")
    for run in load_experiment(tmp_path / "e.toml", "sst2"):
        reached = 1 + run.seed + 256 // run.batch_size
        scores = [0.5] * (reached - 1) + [0.8] * 4
        made = result(run.batch_size, run.seed, scores)
        provenance = {"model": {}, "provenance": {"hardware": "cpu"}, "settings": run.settings()}
        made |= {**provenance, "task": made["task"] | {"name": "sst2", "source": {}}}
        made["cost"] |= {"gradient_evaluations": 1, "train_seconds": 1.0}
        for point in made["curve"]:
            point |= {"gradient_evaluations": 1}
        path = result_path(run, tmp_path / "results/glue")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))
    return tmp_path / "results"


SMALL = dataclasses.replace(step_times.SMALL, batches=((4, 2), (8, 2), (12, 2)))


@pytest.fixture
def offline(monkeypatch):
    """No measurement: the model's own times in place of it."""
    asked = []

    def time_model(config, sizes, length, pairs, **options):
        parts, leaders = timings(0.001 * length, 0.02)
        asked.append(length)
        return {
            "parameters": 1000,
            "inputs": document(step_times.compute_inputs(parts) | step_times.leader_inputs(leaders, 1000)),
        }

    def launched(kind, processes, job):
        asked.append(kind)
        if kind == "links":
            return {"devices": 2, "all_reduce": [[1e-9 * s] * 2 for s in job["bytes"]], "sharing": [1.2, 1.1]}
        return [[0.1 * row["batch"] / processes * (2 if row["method"] == "scala" else 1)] * 2 for row in job["rows"]]

    for module in (step_times, target_time):
        monkeypatch.setattr(module, "time_model", time_model)
        monkeypatch.setattr(module, "resolve", lambda name: name)
        monkeypatch.setattr(module, "AutoConfig", SimpleNamespace(from_pretrained=lambda name: None))
    monkeypatch.setattr(step_times, "launched", launched)
    monkeypatch.setattr(target_time, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda name: None))
    task = SimpleNamespace(train=None, source={})
    monkeypatch.setattr(target_time, "load_task", lambda name, glue_dir: task)
    monkeypatch.setattr(target_time, "tokenized", lambda *_, **__: {"input_ids": [[1] * (i % 9 + 1) for i in range(256)]})
    monkeypatch.setattr(step_times, "Setting", lambda: SMALL)
    monkeypatch.setattr(scaling_study, "SHAPES", {"bert-base-uncased": SHAPES["bert-base-uncased"]})
    monkeypatch.setattr(scaling_study, "Study", functools.partial(Study, draws=64))
    return asked


def test_the_whole_study(results, offline, tmp_path, capsys):
    landscape(results / scaling_study.LANDSCAPE, [1.0, 100.0, 300.0, None])
    out = tmp_path / "out"
    options = ["--out", str(out), "--results", str(results), "--glue-dir", "here"]
    assert command.main(options) == 0
    said = capsys.readouterr().out
    record = json.loads((out / "scaling.json").read_text())
    assert (out / "scaling.md").read_text() == page(record)
    assert page(record) in said
    assert {path.stem for path in out.glob("*.svg")} == {f"scaling-{name}" for name in evidence_names()}
    assert all(f"(scaling-{name}.svg)" in said for name in evidence_names())
    assert record["follower"]["growth"]["typical"] == pytest.approx(1.0)
    assert [row["devices"] for row in record["step_time"]["error"]] == [1, 2]
    assert {row["method"] for row in record["target_time"]["rows"]} == {"adamw-32", "lamb-32", "scala-128"}
    carried = record["predictions"][1]["inputs"]["critical"]
    assert [study["inputs"]["critical"]["basis"] for study in record["predictions"]] == ["assumed", "carried over"]
    assert carried["high"] == 5000  # samples of the epoch
    assert record["predictions"][1]["basis"] == "modelled from 15 inputs: 14 assumed, 1 carried over"
    for part in ("step_time", "target_time", "follower", "sweep", "noise", *record["predictions"]):
        basis = (record[part] if isinstance(part, str) else part)["basis"]
        assert basis.startswith(("measured: ", "modelled from "))
    # What was measured is a file, so the same command measures nothing again.
    measured = list(offline)
    assert {"links", "steps"} < set(measured)
    again = scaling_study.study(out, results, "here")
    assert offline == measured
    assert {key: again[key] for key in record if key != "provenance"} == {k: v for k, v in record.items() if k != "provenance"}


def evidence_names():
    return ("noise", "sweep", "compared", "speedup", "tornado")


def test_what_is_not_there_is_said(results, offline, tmp_path):
    nothing = scaling_study.study(tmp_path / "out", tmp_path / "empty")
    said = page(nothing)
    assert "No run of the baseline: make studies, then make results." in said
    assert "Not compared: run make scaling with GLUE_DIR" in said
    shown = {
        text.get_text()
        for figure in (
            evidence.noise_figure(nothing),
            evidence.sweep_figure(nothing["sweep"]),
            evidence.compared_figure(nothing),
        )
        for panel in figure.axes
        for text in panel.texts
    }
    assert {text.split(";")[0] for text in shown} == {"not measured", "no runs of the baseline", "not compared"}
    assert "make landscape" in page(scaling_study.study(tmp_path / "out", results))


def test_a_study_goes_on_where_it_was_killed(results, offline, tmp_path, monkeypatch):
    def killed(kind, *job):
        if kind == "steps":
            raise KeyboardInterrupt
        return launched(kind, *job)

    launched = step_times.launched
    monkeypatch.setattr(step_times, "launched", killed)
    with pytest.raises(KeyboardInterrupt):
        scaling_study.study(tmp_path / "out", results)
    monkeypatch.setattr(step_times, "launched", launched)
    offline.clear()
    scaling_study.study(tmp_path / "out", results)
    assert set(offline) == {"steps"}


def test_bad_input(results, offline, tmp_path, capsys):
    out = tmp_path / "out"
    cpu = tmp_path / "cpu.json"
    cpu.write_text(json.dumps({"models": {"minilm-l6": {"inputs": {}}}}))
    out.mkdir()

    def refused(*options):
        assert command.main(["--out", str(out), "--results", str(results), *options]) == 1
        return capsys.readouterr().err

    assert "none of bert-base-uncased" in refused("--measured", str(cpu))
    assert "missing.json" in refused("--measured", str(tmp_path / "missing.json"))
    (out / "steps.json").write_text("{")
    assert "steps.json is damaged" in refused()
    (out / "steps.json").write_text('{"setting": {"encoder": "other"}}')
    assert "another setting; move it away" in refused()


def test_the_page_says_under_which_conditions_a_claim_is_plausible():
    def prediction(model, high, needed):
        row = {"claimed": 9.8, "devices": 16, "probability": 0.1, "speedup": {"low": 1.0, "median": 2.0, "high": high}}
        ends = {"low": 1.0, "typical": 2.0, "high": 3.0, "basis": "assumed", "source": "a guess"}
        return {
            "model": model,
            "hardware": "h",
            "basis": "modelled",
            "inputs": {"critical": ends},
            "conditions": [
                row | {"reading": reading, "needed_critical": needed, "decides": [{"name": "critical", "share": 0.9}]}
                for reading in READINGS
            ],
        }

    said = "\n".join(page_module._predictions([prediction("a", 9.9, 100.0), prediction("b", 9.7, None)]))
    assert "over one device plausible in 1 of 2 predictions (B_crit at least 100 for a, none is enough for b)" in said
    assert "| 9.8x, 16 devices | one device | **2.0 [1.0, 9.9]**; 10% | 2.0 [1.0, 9.7]; 10% |" in said
    assert "What decides: critical batch (90% to 90% of the variance)" in said
    impossible = page_module._predictions([prediction("a", 2.0, None)])
    assert "plausible in 0 of 1 predictions (no B_crit is enough)" in "\n".join(impossible)


# --- figures ---------------------------------------------------------------------------------------------------------------


def test_the_sweeps_figure_shows_every_run_and_both_laws():
    points = [
        {"batch": c.batch, "seed": i % 3, "after": c.after, "by": c.by if c.reached else None, "of": c.after, "seconds": 1.0}
        for i, c in enumerate(crossings(lambda batch: 10 * (1 + 600 / batch), epoch=30_000))
    ]
    family = {"family": "lamb", "points": points, "batches": batch_sweep.by_batch(points), "fits": batch_sweep.fits(points)}
    assert family["fits"]["critical"]["reached"] == sum(point["by"] is not None for point in points)
    target = {"name": "the baseline's score", "score": 0.8, "families": [family]}
    panel = evidence.sweep_figure({"examples": 30_000, "targets": [target]}).axes[0]
    marks = {m: [line for line in panel.lines if line.get_marker() == m and len(line.get_xdata())] for m in "o^"}
    assert len(marks["^"]) == sum(point["by"] is None for point in points) > 0
    assert len(marks["o"]) == sum(point["by"] is not None for point in points)
    lines = {line.get_label(): line for line in panel.lines}
    fitted = next(line for label, line in lines.items() if "B_crit" in label)
    assert fitted.get_ydata() == pytest.approx(Fit.of(family["fits"]["critical"]).at(fitted.get_xdata()))
    epoch = lines["one epoch ends here"]
    assert np.asarray(epoch.get_xdata()) * np.asarray(epoch.get_ydata()) == pytest.approx(30_000)
