import re
import warnings

import pytest
import torch
import uses
from tiny_models import tiny_data, tiny_model

from scala import ScalaTrainer


@pytest.mark.parametrize("use", uses.USES, ids=lambda use: f"{use.part}: {use.title}")
def test_a_use_works_or_is_refused(tmp_path, use):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if use.refused:
            with pytest.raises((ValueError, TypeError, RuntimeError), match=use.refused):
                use.run(tmp_path)
            return
        trainer = use.run(tmp_path)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert (logs[-1]["follower_rounds"] > 0) == use.noisy
    if use.noisy:
        whole = trainer.args.noise_share == 1
        assert 0 < logs[-1]["noise_norm"] <= logs[-1]["noise_radius"] * (1 + 1e-5)
        assert not whole or logs[-1]["noise_norm"] == pytest.approx(logs[-1]["noise_radius"], rel=1e-5)
        assert logs[-1].get("loss_rise", 1.0) != 0
    said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    assert any(re.search(use.warned, text) for text in said) if use.warned else not [t for t in said if "micro-batch" in t]


def test_the_page_is_the_table_of_these():
    assert uses.page() == uses.PAGE.read_text(encoding="utf-8"), "python tests/scala/uses.py writes it"


def test_a_use_of_every_outcome_is_there():
    assert len({one.title + one.part for one in uses.USES}) == len(uses.USES) >= 50


# --- N micro-batches of k are one batch of N k -----------------------------------------------------------------------------


def scored(rows):
    batch = uses.collate(rows)
    return {**batch, "labels": batch["input_ids"][:, 0] / 10.0}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (tiny_model, {}),
        (lambda: tiny_model(outputs=1), {"collator": scored}),
        (lambda: uses.bert(uses.AutoModelForTokenClassification), {"collator": uses.parity}),
        (lambda: uses.bert(uses.AutoModelForMaskedLM), {"collator": uses.masked}),
        (uses.gpt2, {"collator": uses.instructions, "remove_unused_columns": False}),
        (uses.t5, {"collator": uses.pairs}),
        (tiny_model, {"trainer": uses.WeighedRight}),
        (tiny_model, {"compute_loss_func": uses.mean_of}),
        (tiny_model, {"compute_loss_func": uses.share_of}),
        (tiny_model, {"label_smoothing_factor": 0.1}),
    ],
    ids=["sequence", "regression", "tokens", "masked", "causal", "T5", "weighted", "mean", "share", "smoothed"],
)
def test_micro_batches_add_up_for_every_loss(tmp_path, model, options):
    """Under SGD, whose step is the gradient; 15 samples leave a ragged last batch."""
    found = []
    for micro in (8, 2, 1):
        made = model()
        for module in made.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        start = {name: p.detach().double().clone() for name, p in made.named_parameters()}
        trained = uses.trained(
            tmp_path, model=made.double(), data=tiny_data(15), per_device_train_batch_size=micro, leader="optim", optim="sgd",
            learning_rate=0.5, max_grad_norm=0.0, noise_delay=1.0, **options,
        )  # fmt: skip
        found.append({name: p.detach() for name, p in trained.model.named_parameters()})
        logged = [entry["loss"] for entry in trained.state.log_history if "loss" in entry]
        found[-1]["logged"] = torch.tensor(logged, dtype=torch.float64)
    moved = max((found[0][name] - start[name]).abs().max().item() for name in start)
    assert moved > 1e-2
    for other in found[1:]:
        assert (other.pop("logged") - found[0]["logged"]).abs().max() < 1e-3  # the mean; the log rounds
        # T5 takes parts of its norms and scores in float32, whatever its weights are.
        rounding = 1e-7 if model is uses.t5 else 1e-9
        assert max((found[0][name] - other[name]).abs().max().item() for name in other) < rounding * moved


def test_a_search_over_hyperparameters_plays_on_each_model(tmp_path):
    """Each trial makes a model; the noise must enter that one."""
    trainer = ScalaTrainer(
        model_init=uses.fresh,
        args=uses.config(tmp_path),
        train_dataset=tiny_data(16),
        data_collator=uses.collate,
    )
    for _ in range(2):
        trainer.train()
        assert trainer.injection.layer is trainer.model.get_input_embeddings()
        assert [e for e in trainer.state.log_history if "loss" in e][-1]["follower_rounds"] == 2
