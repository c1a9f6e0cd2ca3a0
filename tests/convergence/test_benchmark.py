import json
import sys

import torch

from convergence import benchmark


def test_both_engines_give_equal_numbers():
    problem, x = benchmark.games(6)
    together = benchmark.run(problem, x, 8)
    alone = torch.cat([benchmark.run(benchmark.alone(problem, i), x[i : i + 1], 8) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert (together - x).norm(dim=-1).min() > 0.01  # and they play


def test_the_record(tmp_path, capsys, monkeypatch):
    measured = _measured()
    monkeypatch.setattr(benchmark, "benchmark", lambda: measured)
    assert benchmark.main(["--out", str(tmp_path / "record.json")]) == 0
    assert json.loads((tmp_path / "record.json").read_text()) == measured
    assert "steps/s" in capsys.readouterr().out
    (engine,) = measured["engine"]
    assert engine["difference"] < 1e-12
    for spread in (engine["batched"], engine["loop"], engine["ratio"]):
        assert 0 < spread["least"] <= spread["median"] <= spread["greatest"]
    assert {"versions", "hardware", "threads"} <= set(measured["provenance"])
    last = measured["verification"][-1]
    assert last["sdp"] is None
    assert last["stand_alone"]["median"] > 0


def _measured():
    return benchmark.benchmark(batches=(3,), pairs=1, rounds=2)


def test_without_the_extra_the_rows_have_no_sdp_time(monkeypatch, capsys):
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "PEPit", None)
    measured = _measured()
    assert all(row["sdp"] is None and row["solver"] is None for row in measured["verification"])
    monkeypatch.setattr(benchmark, "benchmark", lambda: measured)
    assert benchmark.main([]) == 0
    assert "pip install 'scala-adapt[pep]'" in capsys.readouterr().out
