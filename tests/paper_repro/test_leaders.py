"""Other leaders: what each takes for a layer, and that each trains and resumes as any leader does."""

import json

import pytest
import torch
from tiny_models import collate, tiny_data, tiny_model
from torch import nn
from transformers import TrainerCallback

from paper_repro.leaders import page
from paper_repro.rivals import RivalConfig, RivalTrainer
from paper_repro.rivals.leaders import LEADERS
from scala.trainer import last_checkpoint


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def trained(folder, leader, resume=None, callbacks=()):
    config = RivalConfig(
        str(folder), leader=leader, noise="none", learning_rate=0.01, per_device_train_batch_size=3, global_batch_size=6,
        num_train_epochs=3, save_strategy="steps", save_steps=1, logging_steps=1, disable_tqdm=True, use_cpu=True,
        report_to="none", dataloader_pin_memory=False,
    )  # fmt: skip
    model = tiny_model(dropout=0.2)
    trainer = RivalTrainer(model, config, train_dataset=tiny_data(12), data_collator=collate, callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=resume)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("leader", LEADERS)
def test_it_moves_every_weight_and_resumes_bit_for_bit(tmp_path, leader):
    start = {name: p.detach() for name, p in tiny_model(dropout=0.2).named_parameters()}
    whole = trained(tmp_path / "whole", leader)
    trained(tmp_path / "cut", leader, callbacks=[StopAt(3)])
    resumed = trained(tmp_path / "cut", leader, resume=str(last_checkpoint(tmp_path / "cut")))
    for name, p in whole.items():
        assert torch.equal(p, resumed[name])
        assert p.isfinite().all()
        assert not torch.equal(p, start[name])


def test_rows_that_a_batch_does_not_touch_stay_and_the_others_move_by_their_own_length(tmp_path):
    table, head = nn.Embedding(5, 4), nn.Linear(4, 2)
    model = nn.Sequential(table, head)
    before, head_before = table.weight.detach().clone(), head.weight.detach().clone()
    leader = LEADERS["lamb-rows"](model, RivalConfig(str(tmp_path), leader="lamb-rows", learning_rate=0.1, weight_decay=0.0))
    model(torch.tensor([[1, 3]])).square().sum().backward()
    leader.step()
    moved = (table.weight.detach() - before).norm(dim=1) / before.norm(dim=1)
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0]))
    by_adam = (head.weight.detach() - head_before).abs()  # also without decay
    torch.testing.assert_close(by_adam, torch.full_like(by_adam, 0.1), rtol=1e-3, atol=0)


def test_muon_without_a_hidden_matrix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Embedding has no hidden matrix, which Muon is for"):
        LEADERS["muon-adamw"](nn.Embedding(5, 4), RivalConfig(str(tmp_path), leader="muon-adamw"))


def test_options_of_lamb_are_refused_beside_another_leader(tmp_path):
    with pytest.raises(ValueError, match="leader = 'adafactor' does not read lamb_dialect"):
        RivalConfig(str(tmp_path), leader="adafactor", lamb_dialect="paper")


def a_line(method, scores, rate=0.1, interval=(0.7, 0.9)):
    mean = sum(scores) / len(scores)
    own = {"settings": {"learning_rate": rate}, "seeds": list(range(len(scores))), "scores": scores}
    return {"method": method, "score": mean, "interval": list(interval) if len(scores) > 1 else None, **own}


def summaries_in(folder):
    about = {"task": "toy", "model": "tiny", "metric": "accuracy"}
    seeds = about | {"lines": [a_line("base-32", [0.90, 0.92]), a_line("good", [0.80, 0.90]), a_line("poor", [0.70, 0.84])]}
    grid = [a_line(method, [score], rate) for method in ("base-32", "good", "poor") for rate, score in ((0.1, 0.8), (0.2, 0.6))]
    best = {method: {"best": {"learning_rate": 0.1}} for method in ("base-32", "good", "poor")}
    (folder / "rates").mkdir()
    (folder / "tiny-toy-leaders.json").write_text(json.dumps(seeds))
    (folder / "rates" / "tiny-toy-leader-rates.json").write_text(json.dumps(about | {"lines": grid, "methods": best}))


def test_the_table_pairs_seeds_with_the_best_at_the_large_batch(tmp_path):
    summaries_in(tmp_path)
    rows = [line.strip("| ").split(" | ") for line in page(tmp_path).splitlines() if line.startswith("|")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["good"][:2] == ["85.0 [70.0, 90.0] n=2", "the best at its batch"]
    assert cells["poor"][1] == "-8.0 [-33.4, +17.4]"  # of -10 and -6 points: t is 12.706, the mean's error 2
    assert cells["base-32"][1].startswith("+6.0 [")
    assert cells["poor"][2:] == ["0.1", "**80.0**, 60.0", "0.1"]


def test_a_missing_or_damaged_summary_is_named(tmp_path):
    summaries_in(tmp_path)
    rates = tmp_path / "rates" / "tiny-toy-leader-rates.json"
    rates.write_text(rates.read_text()[:-5])
    with pytest.raises(ValueError, match=r"tiny-toy-leader-rates.json must both be there.*make leaders writes them"):
        page(tmp_path)
