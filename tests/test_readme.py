"""What the README shows runs as shown."""

import json
import re
from pathlib import Path

import pytest
from tiny_models import collate, tiny_data, tiny_model

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


def test_the_speeds_are_the_committed_ones():
    record = json.loads((ROOT / "paper_repro/results/bench.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row["ratio"] for part in ("leader", "round") for row in record[part]}
    section = " ".join(README.partition("## Speed")[2].partition("## What is where")[0].split())
    lamb, ours = rows["scala Lamb"], rows["ScaLA, K = 1"]
    assert f"takes {lamb['median']:.2f} times torch's fused AdamW [{lamb['least']:.2f}, {lamb['greatest']:.2f}]" in section
    assert f"takes {ours['median']:.2f} times a plain step [{ours['least']:.2f}, {ours['greatest']:.2f}]" in section
    for peer in ("timm Lamb", "torch_optimizer Lamb", "AdamW, foreach", "naive ascent", "SAM"):
        assert f" {rows[peer]['median']:.2f}" in section, peer
