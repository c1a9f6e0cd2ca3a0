"""What the README shows runs as shown."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tiny_models import collate, tiny_data, tiny_model

from paper_repro import tables
from paper_repro.cells import gather, planned
from paper_repro.claims import report
from paper_repro.tuning import EXPERIMENTS
from scala import ScalaTrainer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"\b[A-Z]\w+", block)[0])
def test_python_block_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # The reader's own: an encoder, data, a tokenizer. A data collator stands in for the tokenizer.
    prepare = ScalaTrainer.__init__

    def with_collator(self, *args, processing_class=None, **kwargs):
        prepare(self, *args, data_collator=collate, **kwargs)

    monkeypatch.setattr(ScalaTrainer, "__init__", with_collator)
    names = {"model": tiny_model(), "train": tiny_data(64), "dev": tiny_data(16), "tokenizer": None}
    exec(compile(block, "README.md", "exec"), names)  # our own text
    if "game" in names:
        assert names["game"].rounds == 100
        assert names["game"].gradient_evaluations == 64 * (20 + 2 * 80)
        assert names["loss"] < 1.5  # at the start about 9, of pure noise at best 0.9
    if "trainer" in names:
        assert names["trainer"].game.rounds == 3 - 1


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert named <= targets
    assert {"demo", "test"} <= named


def test_every_link_to_a_file_resolves():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_theory_table_holds_the_committed_numbers():
    theory = json.loads((ROOT / "paper_repro/results/theory/theory.json").read_text(encoding="utf-8"))
    reports = {report["title"]: report for report in theory["theorems"]}
    rows = [row.strip("| ").split(" | ") for row in README.splitlines() if row.strip("| ").split(" | ")[0] in reports]
    assert len(rows) > 10
    for title, *_, numbers in rows:
        tightness = reports[title]["tightness"]
        assert numbers == ("{:.3g}, {:.3g}".format(*tightness) if tightness else "-"), title
    assert f"{theory['instances']:,} random instances" in README
    assert f"{len(theory['theorems'])} theorems" in README
    assert (
        f"{theory['tampered']['planted']} certificates with one number changed, {len(theory['faults'])} wrong lines" in README
    )
    assert theory["failures"] == []


def section(title):
    return README.partition(f"## {title}")[2].partition("\n## ")[0]


def test_the_speeds_are_the_committed_ones():
    record = json.loads((ROOT / "paper_repro/results/bench.json").read_text(encoding="utf-8"))
    parts = (record["leader"], record["round"], record["large_batch"]["rows"])
    rows = {row["name"]: row["ratio"] for part in parts for row in part}
    text = " ".join(section("Speed").split())
    for name, said in (
        ("scala Lamb", "takes {} times torch's fused AdamW {}"),
        ("ScaLA, K = 1", "takes {} times a plain step {}"),
        ("sorted by length", "take {} of the time that they take as drawn {}"),
    ):
        ratio = rows[name]
        assert said.format(f"{ratio['median']:.2f}", f"[{ratio['least']:.2f}, {ratio['greatest']:.2f}]") in text
    peers = ("scala Lamb, nvlamb", "timm Lamb", "torch_optimizer Lamb", "pytorch_optimizer Lamb", "AdamW, foreach")
    for peer in (*peers, "naive ascent", "SAM", "FreeLB, K = 2"):
        assert f" {rows[peer]['median']:.2f}" in text, peer
    assert f"peak memory is {record['memory']['ratio']['median']:.2f} times" in text
    assert f"{record['large_batch']['tokens']['sorted']:,} tokens with padding instead of " in text


def test_the_table_of_ascents_holds_the_committed_numbers():
    results = ROOT / "paper_repro/results"
    record = json.loads((results / "bench.json").read_text(encoding="utf-8"))
    lines = json.loads((results / "ascents-sst2.json").read_text(encoding="utf-8"))["lines"]
    scores = {line["method"]: np.array(line["scores"]) for line in lines}
    times = {row["name"]: row["ratio"]["median"] for row in record["round"]}
    kept = {row["name"]: row for row in record["kept"]}
    names = {
        "ascent_dropout=False": ("ascent without dropout", "no-dropout"),
        "same_dropout=False": ("own dropout", "own-dropout"),
        "ascent_bf16=True": ("ascent in bf16", "bf16"),
        "ascent_layers=3": ("gradient of top half", "top-half"),
        "noise_share=0.5": ("half the batch", "half-batch"),
        "noise_every=2": ("every 2nd round", "every-2nd"),
        'noise_start="warm", noise_one_pass=True': ("one pass", "one-pass"),
        'noise="none"': ("Game, no follower", "none"),
    }
    rows = [row.strip("| ").split(" | ") for row in section("Speed").splitlines() if row.startswith("| ")][1:]
    assert rows[0][-1] == f"{scores['exact'].mean():.4f}"
    assert {row[1].strip("`") for row in rows[1:]} == set(names)
    for _, option, time, rise, score in rows[1:]:
        row, method = names[option.strip("`")]
        assert time == f"{times[row]:.2f}"
        if row in kept:
            assert rise == "{:.2f} [{:.2f}, {:.2f}]".format(kept[row]["kept"], *kept[row]["interval"])
        difference = scores[method] - scores["exact"]
        half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
        mean = difference.mean()
        assert score == f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"
    against_none = {
        method: stats.ttest_rel(found, scores["none"]).pvalue for method, found in scores.items() if method != "none"
    }
    ordered = sorted(against_none, key=lambda method: against_none[method])
    holm = [min(1, max(against_none[m] * (8 - i) for i, m in enumerate(ordered[: rank + 1]))) for rank in range(8)]
    assert {method: round(p, 3) for method, p in zip(ordered, holm, strict=True) if p < 0.05} == {
        "own-dropout": 0.014,
        "every-2nd": 0.014,
        "half-batch": 0.032,
        "top-half": 0.032,
    }


def test_the_speed_of_the_adaptation_is_that_of_the_claims():
    found = report()
    text = " ".join(section("Speed").split())
    for cost in ("seconds", "steps"):
        said = re.search(rf"sst2: (\S+) (\[.*?\]) times fewer {cost}, 3 seeds", found)
        assert said is not None
        assert f"{said[1]} times fewer {cost} {said[2]}" in text


def rows_of_tables(name):
    """(score, difference to lamb) of each method and setting on SST-2, as the experiment's page says them."""
    cells = gather({"sst2": planned(EXPERIMENTS / f"{name}.toml")["sst2"]}, tables.RESULTS)
    differences = {row[0]: row[1] for row in tables.differences_table(cells, "lamb")[1]}
    return {row[0]: (row[2], differences.get(row[0], "-")) for row in tables.scores_table(cells)[1]}


def test_the_reproductions_table_and_ablations_are_those_of_the_committed_runs():
    text = section("The reproduction, so far")
    shown = {cells[0]: (cells[2], cells[3]) for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) == 4}
    run = {name: row for name, row in rows_of_tables("main").items() if row[0] != tables.NOT_RUN}
    assert {name: row for name, row in shown.items() if name != "method"} == run
    few, text = rows_of_tables("ablation-few"), " ".join(text.split())
    for score, said in ((few["lamb"][0], "LAMB scores {}"), (few["scala noise_radius 0.03"][1], "{} at radius 0.03"),
                        (few["scala noise_radius 0.01"][1], "by {} at 0.01")):  # fmt: skip
        assert said.format(re.split(r" (?:n|p)=", score)[0]) in text
    cells = gather({"sst2": planned(EXPERIMENTS / "ablation-radius.toml")["sst2"]}, tables.RESULTS)["sst2"]
    scores = {name: [result["score"] for result in cell.results.values()] for name, cell in cells.items()}
    assert sorted(score < 0.55 for score in scores.pop("scala noise_radius 0.1")) == [False, True, True]
    assert all(score > 0.75 for others in scores.values() for score in others)
    for _, difference in [*rows_of_tables("ablation-delay").values(), *run.values()]:
        assert difference == "-" or difference.endswith(" p=1")
