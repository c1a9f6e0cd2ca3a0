import json
import tomllib

import pytest

from paper_repro.analysis import claims
from paper_repro.analysis.claims import CLAIMS, findings, report

HEAD = '[[claims]]\nid = "C9"\ntext = "a claim"\n[[claims.tests]]\nwhat = "a test"\nneeds = "a thing"\n'


@pytest.fixture
def one(tmp_path):
    def status(test):
        (tmp_path / "claims.toml").write_text(HEAD + test)
        (found,) = findings(tmp_path / "claims.toml", tmp_path / "results")
        return found.status, found.evidence

    (tmp_path / "results").mkdir()
    return status


ROUND = 'kind = "round"\nfile = "bench.json"\nrow = "ScaLA"\nat_most = 2.0\n'


@pytest.mark.parametrize(
    ("least", "greatest", "status"),
    [
        (1.5, 1.9, "supported by"),
        (2.1, 2.4, "not supported by"),
        (1.9, 2.1, "inconclusive"),
        (float("nan"), 1.9, "inconclusive"),
        (2.1, float("nan"), "inconclusive"),
    ],
)
def test_a_status_follows_from_the_interval(one, tmp_path, least, greatest, status):
    row = {"name": "ScaLA", "ratio": {"median": (least + greatest) / 2, "least": least, "greatest": greatest}}
    (tmp_path / "results/bench.json").write_text(json.dumps({"round": [row]}))
    found, evidence = one(ROUND)
    assert found == status
    assert f"[{least:.2f}, {greatest:.2f}]" in evidence


@pytest.mark.parametrize(
    "test",
    [
        ROUND,
        'kind = "steepness"\nfile = "landscape.json"\nmeasure = "trace"\nmethod = "a"\nagainst = "b"\nside = "above"\n',
        'kind = "steeper-is-worse"\nfile = "landscape.json"\nmeasure = "trace"\n',
        'kind = "theorem"\nfile = "theory.json"\ntheorem = "t"\n',
        'kind = "follower"\nfile = "scaling.json"\nat_most = 1.1\n',
        'kind = "modelled"\nfile = "scaling.json"\nclaimed = 18.0\n',
        'kind = "comparable"\nexperiment = "main"\nmethod = "scala"\nreference = "lamb"\nmargin = 0.01\n',
        'kind = "speedup"\nexperiment = "speedup"\nmethod = "scala-512"\ncost = "step"\nat_least = 2.0\n',
    ],
    ids=["round", "steepness", "steeper-is-worse", "theorem", "follower", "modelled", "comparable", "speedup"],
)
def test_without_a_result_it_says_what_is_missing(one, test):
    status, evidence = one(test)
    assert status == "not testable here"
    assert "needs a thing" in evidence


def landscape(tmp_path, low, high, seeds=3):
    pair = {"method": "scala", "against": "lamb", "ratio": (low + high) / 2, "low": low, "high": high}
    row = {"measure": "trace", "values": {"lamb": [1.0] * seeds, "scala": [1.0] * seeds}, "pairs": [pair]}
    row["score_within"] = {"r": (low + high) / 2, "low": low, "high": high}
    (tmp_path / "results/landscape.json").write_text(json.dumps({"separation": [row]}))


@pytest.mark.parametrize(
    ("low", "high", "seeds", "above", "below"),
    [
        (1.1, 1.4, 3, "supported by", "not supported by"),
        (0.6, 0.9, 3, "not supported by", "supported by"),
        (0.9, 1.1, 3, "inconclusive", "inconclusive"),
        (0.6, 0.9, 2, "inconclusive", "inconclusive"),
    ],
)
def test_steepness(one, tmp_path, low, high, seeds, above, below):
    landscape(tmp_path, low, high, seeds)
    test = 'kind = "steepness"\nfile = "landscape.json"\nmeasure = "trace"\nmethod = "scala"\nagainst = "lamb"\nside = '
    assert one(f'{test}"above"\n')[0] == above
    status, evidence = one(f'{test}"below"\n')
    assert status == below
    assert f"[{low:.2f}, {high:.2f}] times, {seeds} seeds" in evidence


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(-0.9, -0.2, "supported by"), (0.2, 0.9, "not supported by"), (-0.5, 0.4, "inconclusive")],
)
def test_whether_steeper_is_worse(one, tmp_path, low, high, status):
    landscape(tmp_path, low, high)
    found, evidence = one('kind = "steeper-is-worse"\nfile = "landscape.json"\nmeasure = "trace"\n')
    assert found == status
    assert f"[{low:+.2f}, {high:+.2f}], 3 seeds of 2 methods" in evidence


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, "supported by"), ({"verified": False}, "not supported by"), ({"failures": ["an attack won"]}, "not supported by")],
)
def test_a_theorem(one, tmp_path, change, status):
    row = {"name": "t", "title": "T", "verified": True, "failures": [], "tightness": [1.5, 2, 3], "instances": 7} | change
    (tmp_path / "results/theory.json").write_text(json.dumps({"theorems": [row], "failures": []}))
    assert one('kind = "theorem"\nfile = "theory.json"\ntheorem = "t"\n')[0] == status


FOLLOWER = 'kind = "follower"\nfile = "scaling.json"\nat_most = 1.1\n'


@pytest.mark.parametrize(
    ("low", "high", "batches", "status"),
    [
        (0.9, 1.05, 5, "supported by"),
        (1.2, 1.3, 5, "not supported by"),
        (1.0, 1.2, 5, "inconclusive"),
        (0.9, 1.05, 2, "inconclusive"),
    ],
)
def test_the_followers_pass_in_more_processes(one, tmp_path, low, high, batches, status):
    growth = {"low": low, "typical": (low + high) / 2, "high": high, "batches": batches}
    costs = [{"devices": 1, "median": 1.7}, {"devices": 2, "median": 1.6}]
    (tmp_path / "results/scaling.json").write_text(json.dumps({"follower": {"growth": growth, "costs": costs}}))
    found, said = one(FOLLOWER)
    assert found == status
    assert f"[{low:.2f}, {high:.2f}] times" in said
    assert "1.60 times LAMB's step in 2; no more processes were run" in said
    (tmp_path / "results/scaling.json").write_text(json.dumps({"follower": {"growth": None, "costs": costs}}))
    assert one(FOLLOWER)[0] == "not testable here"


MODELLED = 'kind = "modelled"\nfile = "scaling.json"\nclaimed = 18.0\n'


@pytest.mark.parametrize(
    ("low", "bases", "status"),
    [
        (20, ("assumed", "measured"), "not testable here"),
        (20, ("carried over", "measured"), "not testable here"),
        (20, ("measured", "measured"), "supported by"),
        (10, ("measured", "measured"), "inconclusive"),
    ],
)
def test_what_is_only_modelled_cannot_support_a_claim(one, tmp_path, low, bases, status):
    row = {"claimed": 18.0, "reading": "one device", "speedup": {"low": low, "median": 25, "high": 30}}
    other = row | {"claimed": 2.7, "speedup": {"low": 0, "median": 0, "high": 0}}
    study = {"conditions": [row, other], "inputs": {str(i): {"basis": basis} for i, basis in enumerate(bases)}}
    (tmp_path / "results/scaling.json").write_text(json.dumps({"predictions": [study]}))
    found, said = one(MODELLED)
    assert found == status
    assert said.startswith(f"modelled, not run: over one device 25.0 to 25.0 [{low:.1f}, 30.0]")
    assert ("up to 1 of 2 inputs were not measured" in said) == (status == "not testable here")


EXPERIMENT = """
seeds = [0, 1, 2]
model = "m"
batch_size = 64
[methods.adamw-32]
batch_size = 32
leader = "optim"
[methods.lamb]
noise = "none"
[methods.scala]
[tasks.sst2]
[tasks.rte]
"""
COMPARABLE = 'kind = "comparable"\nexperiment = "e"\nmethod = "scala"\nreference = "lamb"\nmargin = 0.01\n'


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Results of which share of the examples is right, by method; every example alike over seeds."""
    from paper_repro.runs.experiment import load_experiment
    from paper_repro.runs.store import result_path

    (tmp_path / "e.toml").write_text(EXPERIMENT)
    monkeypatch.setattr(claims, "EXPERIMENTS", tmp_path)

    def write(right, seeds=3, machine="cpu", tasks=("sst2", "rte")):
        for task in tasks:
            for run in load_experiment(tmp_path / "e.toml", task):
                if run.seed >= seeds:
                    continue
                wrong = 1000 - right[run.method] + run.seed
                score = 1 - wrong / 1000
                curve = [
                    {
                        "step": i * 10, "gradient_evaluations": i, "train_seconds": i * (1 if run.method == "scala" else 4),
                        "eval_validation_accuracy": score,
                    }
                    for i in (1, 2)
                ]  # fmt: skip
                result = {
                    "settings": run.settings(), "model": {}, "score": score, "curve": curve,
                    "task": {"name": task, "metric": "accuracy", "split": "validation", "source": {}},
                    "predictions": [1] * wrong + [0] * (1000 - wrong), "labels": [0] * 1000,
                    "cost": {"steps": 20, "gradient_evaluations": 2, "train_seconds": 2.0, "train_examples": 9},
                    "provenance": {"hardware": machine if run.method == "scala" else "cpu"},
                }  # fmt: skip
                path = result_path(run, tmp_path / "results/glue")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(result))

    return write


@pytest.mark.parametrize(
    ("scala", "seeds", "status"),
    [(800, 3, "supported by"), (700, 3, "not supported by"), (789, 3, "inconclusive"), (800, 2, "inconclusive")],
)
def test_comparable(one, made_up, scala, seeds, status):
    made_up({"adamw-32": 800, "lamb": 800, "scala": scala}, seeds)
    found, evidence = one(COMPARABLE)
    assert found == status
    assert "mean over sst2, rte" in evidence


def test_a_task_that_was_not_run_is_named(one, made_up):
    made_up({"adamw-32": 800, "lamb": 800, "scala": 800}, tasks=("rte",))
    assert "mean over rte (not run: sst2)" in one(COMPARABLE)[1]
    assert one(SPEEDUP)[1].endswith("; not run: sst2")


SPEEDUP = 'kind = "speedup"\nexperiment = "e"\nmethod = "scala"\ncost = "train_seconds"\nat_least = 2.7\n'


@pytest.mark.parametrize(
    ("scala", "machine", "status", "said"),
    [
        (800, "cpu", "supported by", "4.00 [4.00, 4.00] times fewer seconds, 3 seeds"),
        (700, "cpu", "not supported by", "the baseline's score is not reached (0 of 3 seeds)"),
        (800, "gpu", "inconclusive", "not on the same hardware (cpu, gpu)"),
    ],
)
def test_speedup(one, made_up, scala, machine, status, said):
    made_up({"adamw-32": 800, "lamb": 800, "scala": scala}, machine=machine)
    found, evidence = one(SPEEDUP)
    assert found == status
    assert said in evidence
    assert one(SPEEDUP.replace("2.7", "4.5"))[0] != "supported by"


def test_the_committed_claims_are_c1_to_c5_and_all_have_a_status(tmp_path, capsys):
    content = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]
    assert [claim["id"] for claim in content] == ["C1", "C2", "C3", "C4", "C5"]
    assert claims.main(["--out", str(tmp_path / "claims.md")]) == 0
    text = capsys.readouterr().out
    assert text.count("- ") >= sum(len(claim["tests"]) for claim in content)
    assert (tmp_path / "claims.md").read_text() in text
    assert report(results=tmp_path).count("not testable here") == sum(len(claim["tests"]) for claim in content)


def test_bad_input(tmp_path, one, capsys):
    with pytest.raises(ValueError, match="C9: unknown kind 'guess'; there are speedup"):
        one('kind = "guess"\n')
    (tmp_path / "bench.json").write_text("{")
    (tmp_path / "claims.toml").write_text(HEAD + ROUND)
    assert claims.main(["--claims", str(tmp_path / "claims.toml"), "--results", str(tmp_path)]) == 1
    assert "bench.json is damaged" in capsys.readouterr().err
