import functools
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, collate, tiny_data, tiny_model
from torch import nn
from transformers import AutoModelForSequenceClassification, TrainerCallback

from scala import Adversary, EmbeddingNoise, Game, Lamb, NonFiniteLoss, ScalaConfig, ScalaTrainer
from scala.lamb import parameter_groups
from scala.onset import constant_loss
from scala.trainer import last_checkpoint


def config(folder, **options):
    settings = {
        "per_device_train_batch_size": 4, "num_train_epochs": 2, "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "use_cpu": True, "report_to": "none", "max_grad_norm": 0.0, "dataloader_pin_memory": False,
        "noise_radius": 0.2, "noise_delay": 0.5,
    }  # fmt: skip
    return ScalaConfig(output_dir=str(folder), **(settings | options))


def trained(folder, data=None, model=None, resume=None, callbacks=(), dropout=None, **options):
    trainer = ScalaTrainer(
        model if model is not None else tiny_model(dropout=dropout),
        config(folder, **options),
        train_dataset=data if data is not None else tiny_data(24),
        data_collator=collate,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def difference(a, b):
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


@pytest.mark.parametrize("samples", [32, 27], ids=["whole", "ragged"])
@pytest.mark.parametrize("leader", ["lamb", "optim"])
def test_accumulated_micro_batches_equal_one_batch(tmp_path, samples, leader):
    """Not LAMB alone: it is nearly blind to the gradient's scale. SGD is not."""
    options = {"learning_rate": 0.05} if leader == "lamb" else {"leader": "optim", "optim": "sgd", "learning_rate": 1.0}
    options["global_batch_size"] = 16
    found = []
    for micro in (16, 4, 1):
        model = tiny_model(dropout=0.0).double()
        trained(tmp_path, tiny_data(samples), model, per_device_train_batch_size=micro, **options)
        found.append(weights(model))
    assert difference(found[0], found[1]) < 1e-10
    assert difference(found[0], found[2]) < 1e-10
    assert difference(found[0], weights(tiny_model(dropout=0.0).double())) > 1e-2


@pytest.mark.parametrize("adapted", [True, False])
def test_biases_and_norms_take_the_trust_ratio_unless_told(tmp_path, adapted):
    model = tiny_model(dropout=0.0)
    trainer = trained(tmp_path, model=model, noise="none", **({} if adapted else {"lamb_adapt_undecayed": False}))
    leader = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    vectors = {name for name, p in model.named_parameters() if p.ndim < 2}
    assert vectors
    assert (vectors <= leader.trust_ratios().keys()) == adapted
    assert leader.trust_ratios().keys().isdisjoint(vectors) != adapted


def test_trainer_plays_the_games_own_rounds(tmp_path):
    """The Trainer adds nothing: a bare loop over Game.round gives the same weights."""
    data, model, ours = tiny_data(16), tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    trained(tmp_path, data, ours, per_device_train_batch_size=16, num_train_epochs=4, warmup_steps=0, learning_rate=0.02,
            lr_scheduler_type="constant", weight_decay=0.01, noise_steps=2, noise_step_size=0.15)  # fmt: skip
    leader = Lamb(parameter_groups(model, 0.01, dialect="orthogonal"), lr=0.02)
    game = Game(leader, Adversary(0.2, 0.15, 2, relative=True), delay=2)
    injection = EmbeddingNoise(model)
    batch = collate(list(data.remove_columns("idx")))
    model.train()

    def objective(noise):
        with injection.added(noise):
            return model(**batch).loss

    for _ in range(4):
        game.round(objective, injection.embeddings(batch["input_ids"]), batch["attention_mask"])
    assert difference(weights(ours), weights(model)) < 2e-6  # the Trainer's batch is in another order
    assert difference(weights(ours), weights(tiny_model(dropout=0.0))) > 1e-2


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.mark.parametrize("start", ["zero", "random", "warm"])
@pytest.mark.parametrize("stop", [3, 7], ids=["before-the-delay", "after-it"])
def test_resume_continues_bit_for_bit(tmp_path, start, stop):
    """With dropout, accumulation, a ragged last batch and the noise beginning at step 5 of 9."""
    options = {
        "per_device_train_batch_size": 3, "global_batch_size": 9, "num_train_epochs": 3,
        "save_strategy": "steps", "save_steps": 1, "noise_start": start,
    }  # fmt: skip
    data = tiny_data(25)
    whole = trained(tmp_path / "whole", data, dropout=0.2, **options)
    trained(tmp_path / "cut", data, dropout=0.2, callbacks=[StopAt(stop)], **options)
    for later in range(stop + 1, 10):
        assert not (tmp_path / "cut" / f"checkpoint-{later}").exists()
    resumed = trained(
        tmp_path / "cut", data, tiny_model(seed=9, dropout=0.2), str(last_checkpoint(tmp_path / "cut")), **options
    )
    assert difference(weights(whole.model), weights(resumed.model)) == 0.0
    assert whole.game.delay == 4
    assert whole.game.gradient_evaluations == resumed.game.gradient_evaluations == 25 * 3 + 16 + 25
    kept = ("loss", "noise_norm", "loss_rise", "step")
    for ours, theirs in zip(whole.state.log_history[:-1], resumed.state.log_history[:-1], strict=True):
        assert {k: ours.get(k) for k in kept} == {k: theirs.get(k) for k in kept}


def test_an_encoder_whose_file_has_other_names_resumes_bit_for_bit_and_its_best_weights_come_back(tmp_path):
    """bert-base-uncased's file has LayerNorm.gamma; transformers writes checkpoints with the names that it read."""
    source = tmp_path / "source"
    tiny_model(dropout=0.2).save_pretrained(source)
    file = source / "model.safetensors"
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    tensors = load_file(file)
    for name in list(tensors):
        for new, legacy in old.items():
            if name.endswith(new):
                tensors[name.removesuffix(new) + legacy] = tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})

    def model():
        return AutoModelForSequenceClassification.from_pretrained(source)

    options = {"save_strategy": "steps", "save_steps": 1, "learning_rate": 0.05}
    whole = trained(tmp_path / "whole", model=model(), **options)
    trained(tmp_path / "cut", model=model(), callbacks=[StopAt(3)], **options)
    assert any(name.endswith("gamma") for name in load_file(tmp_path / "cut/checkpoint-3/model.safetensors"))
    resumed = trained(tmp_path / "cut", model=model(), resume=str(tmp_path / "cut/checkpoint-3"), **options)
    assert difference(weights(whole.model), weights(resumed.model)) == 0.0
    whole.state.best_model_checkpoint = str(tmp_path / "whole/checkpoint-3")
    whole._load_best_model()
    third = type(whole.model).from_pretrained(tmp_path / "whole/checkpoint-3")
    assert difference(weights(whole.model), weights(third)) == 0.0
    assert difference(weights(resumed.model), weights(third)) > 0


def test_the_delay_counts_optimizer_steps_of_the_whole_training(tmp_path):
    trainer = trained(tmp_path, per_device_train_batch_size=4, global_batch_size=8, num_train_epochs=4, noise_delay=0.25)
    follower = [entry["follower"] for entry in trainer.state.log_history if "follower" in entry]
    assert follower == [0.0] * 3 + [1.0] * 9


def test_evaluation_sees_no_noise_and_keeps_no_hook(tmp_path):
    trainer = trained(tmp_path, noise_delay=0.0, noise_radius=5.0)
    trainer.model.eval()
    batch = collate(list(tiny_data(8).remove_columns("idx")))
    clean = trainer.model(**batch)
    assert not trainer.injection.layer._forward_hooks
    predicted = trainer.predict(tiny_data(8))
    torch.testing.assert_close(torch.tensor(predicted.predictions), clean.logits.detach())
    assert predicted.metrics["test_loss"] == pytest.approx(clean.loss.item(), rel=1e-5)


def test_diagnostics_are_logged_beside_the_loss(tmp_path):
    trainer = trained(tmp_path)
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert last["noise_norm"] == pytest.approx(last["noise_radius"], rel=1e-5)
    assert last["loss_rise"] > 0
    assert last["noise_still"] == 0
    assert 0 < last["trust_ratio_min"] <= last["trust_ratio_median"] <= last["trust_ratio_max"]
    assert last["gradient_evaluations"] == 24 + 48
    json.dumps(trainer.state.log_history)


def learnt():
    """A tiny model that has learnt half of its task, the data, its loss and that of the best constant answer."""
    data, model = tiny_data(32), tiny_model(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = {key: value for key, value in collate(list(data)).items() if key != "idx"}
    constant = constant_loss(batch["labels"])
    while (loss := model(**batch).loss) > constant / 2:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, data, loss.item(), constant


ONSET = {"num_train_epochs": 4, "global_batch_size": 16, "learning_rate": 1e-6, "noise_delay": 2}


def warnings_of(folder, model, data, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(folder, data, model, **(ONSET | options))
    return [str(one.message) for one in caught if "all that the model has learnt" in str(one.message)]


def test_noise_that_takes_all_that_is_learnt_is_warned_of_once(tmp_path):
    model, data, clean, constant = learnt()
    (said,) = warnings_of(tmp_path, model, data, noise_radius=2.0)
    assert "begins at step 2" in said
    assert "noise_radius (now 2)" in said
    without, under, best = map(float, re.findall(r"\d\.\d{3}", said))
    assert (without, best) == pytest.approx((clean, constant), rel=0.3)  # of the batch of that step, half of the data
    assert under > best


@pytest.mark.parametrize(
    "options",
    [
        {"noise_radius": 1e-3},  # it takes little
        {"noise": "none"},
        {"adversarial_weight": 0.5},  # the clean loss is descended too
        {"label_smoothing_factor": 0.1},  # the loss has another scale
        {"noise_start": "random"},  # the clean loss is not known
    ],
    ids=lambda options: next(iter(options)),
)
def test_otherwise_there_is_no_warning(tmp_path, options):
    model, data, _, _ = learnt()
    assert warnings_of(tmp_path, model, data, **({"noise_radius": 2.0} | options)) == []


def test_where_nothing_is_learnt_nothing_can_be_taken(tmp_path):
    model = tiny_model(dropout=0.0)
    torch.nn.init.constant_(model.classifier.bias, 0.0)
    model.classifier.bias.data[0] += 2.0  # worse than the best constant answer
    assert warnings_of(tmp_path, model, tiny_data(32), noise_radius=2.0, noise_delay=0) == []


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_non_finite_training_stops_with_the_weights_unspoilt(tmp_path, where):
    model = tiny_model()
    before = weights(model)
    forward = model.forward

    @functools.wraps(forward)  # the Trainer reads its signature
    def poisoned(*args, **kwargs):
        out = forward(*args, **kwargs)
        if where == "loss":
            out.loss = out.loss * float("nan")
        else:
            # finite value, infinite slope
            out.loss = out.loss + model.classifier.bias.sum().mul(0).abs().sqrt()
        return out

    model.forward = poisoned
    with pytest.raises(NonFiniteLoss, match="weights have not been moved"):
        trained(tmp_path, model=model)
    assert difference(before, weights(model)) == 0.0


def test_label_smoothing_and_clean_plus_adversarial_train(tmp_path):
    trainer = trained(tmp_path, label_smoothing_factor=0.1, adversarial_weight=0.5)
    assert trainer.game.gradient_evaluations == 24 + 24 * 3


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_architecture_adapts(tmp_path, name):
    trainer = trained(tmp_path, model=tiny_model(name), num_train_epochs=1, per_device_train_batch_size=8)
    assert trainer.state.log_history[-2]["loss_rise"] > 0


@pytest.mark.parametrize(
    "options", [{"bf16": True}, {"gradient_checkpointing": True}, {"noise_norm": "linf", "noise_steps": 3}]
)
def test_mixed_precision_checkpointing_and_other_balls(tmp_path, options):
    trainer = trained(tmp_path, **options)
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert last["loss_rise"] > 0
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_another_optimizer_and_scheduler_can_be_passed_in(tmp_path):
    model = tiny_model()
    leader = torch.optim.SGD(model.parameters(), 0.1)
    trainer = ScalaTrainer(
        model, config(tmp_path), train_dataset=tiny_data(8), data_collator=collate,
        optimizers=(leader, torch.optim.lr_scheduler.ConstantLR(leader)),
    )  # fmt: skip
    trainer.train()
    assert trainer.optimizer.optimizer is leader


def test_without_noise_it_is_the_plain_trainer(tmp_path):
    trainer = trained(tmp_path, noise="none")
    assert trainer.game.adversary is None
    assert trainer.game.gradient_evaluations == 48


def test_the_groups_decay_as_named(tmp_path):
    trainer = trained(tmp_path, weight_decay=0.3)
    hidden, decayed, undecayed = trainer.optimizer.param_groups
    assert [group["dialect"] for group in trainer.optimizer.param_groups] == ["orthogonal", "relative", "relative"]
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.3, 0.3, 0.0]
    assert "classifier.weight" in decayed["param_names"]
    assert not any("embeddings" in name or "classifier" in name for name in hidden["param_names"])
    assert all("bias" in name or "LayerNorm" in name for name in undecayed["param_names"])


CHEAPER = [
    {"noise_share": 0.5},
    {"noise_every": 2},
    {"noise_start": "warm", "noise_one_pass": True, "remove_unused_columns": True},
    {"ascent_dropout": False},
    {"ascent_bf16": True},
    {"ascent_layers": 1},
]


@pytest.mark.parametrize("options", CHEAPER, ids=lambda options: next(reversed(options)))
def test_cheaper_ascents_play_with_accumulation_and_ragged_batches(tmp_path, options):
    trainer = trained(tmp_path, tiny_data(22), per_device_train_batch_size=4, global_batch_size=8, noise_delay=0.0, **options)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    samples = {"noise_share": 22 + 11, "noise_every": 22 + 14, "noise_one_pass": 22}  # micro-batches of 4, the last of 2
    expected = samples.get(next(name for name in options if name != "noise_start"), 44)
    assert steps[2]["gradient_evaluations"] == expected  # one epoch
    assert max(entry.get("noise_norm", 0.0) for entry in steps) > 0
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("options", [{"noise_share": 0.0}, {"noise_every": 0}, {"ascent_layers": -1}, {"noise_one_pass": True}])
def test_bad_options_of_a_cheaper_ascent_are_refused_at_once(tmp_path, options):
    with pytest.raises(ValueError, match="|".join(["share", "every", "layers", "one_pass"])):
        config(tmp_path, **options)


def test_sorting_by_length_needs_less_padding_for_the_same_weights(tmp_path):
    found, tokens = [], []
    for wanted in (True, False):
        seen = []

        def counted(rows, seen=seen):
            batch = collate(rows)
            seen.append(batch["input_ids"].numel())
            return batch

        model = tiny_model(dropout=0.0).double()
        options = config(tmp_path, sort_by_length=wanted, global_batch_size=16, per_device_train_batch_size=2)
        trainer = ScalaTrainer(model, options, train_dataset=tiny_data(45), data_collator=counted)
        trainer.train()
        found.append(weights(model))
        tokens.append(sum(seen))
    assert difference(*found) < 1e-10
    assert tokens[0] < 0.9 * tokens[1]


# --- distributed -----------------------------------------------------------------------------------------------------------


def launched(folder, processes, *arguments):
    """Train by torchrun in `processes` gloo processes, see ddp_training.py; the final weights."""
    script = Path(__file__).with_name("ddp_training.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*command, str(script), str(folder), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("leader", "samples", "task"),
    [("lamb", 32, "sequence"), ("sgd", 32, "sequence"), ("sgd", 13, "sequence"), ("sgd", 17, "tokens"), ("sgd", 17, "causal")],
)
def test_two_processes_equal_one(tmp_path, leader, samples, task):
    """Where 13 or 17 samples do not fill the last micro-batches of both processes, no sample counts twice."""
    one, two = (launched(tmp_path / str(n), n, leader, str(samples), task) for n in (1, 2))
    assert difference(one, two) < 1e-10
    logs = [json.loads((tmp_path / str(n) / "log.json").read_text()) for n in (1, 2)]
    for ours, theirs in zip(*logs, strict=True):
        if "loss" in ours:
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-3)  # the log rounds
    if samples == 32:
        evaluations = [[entry.get("gradient_evaluations") for entry in log] for log in logs]
        assert evaluations[0] == evaluations[1]


# --- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_radius": 0.0}, "radius must be positive"),
        ({"noise_steps": 0}, "steps \\(K\\)"),
        ({"noise_norm": "l3"}, "unknown noise_norm 'l3'"),
        ({"noise_delay": -1.0}, "noise_delay must be a fraction"),
        ({"noise_delay": 2.5}, "noise_delay must be a fraction"),
        ({"noise": "loud"}, "unknown noise 'loud'; choose one of adversarial, none"),
        ({"leader": "follower"}, "unknown leader"),
        ({"lamb_dialect": "latin"}, "unknown lamb_dialect 'latin'; choose one of paper, debiased"),
        ({"global_batch_size": 10}, "global_batch_size 10 is not a multiple of 4"),
        ({"global_batch_size": 0}, "global_batch_size 0"),
        ({"noise_direction": "raw"}, "needs a step_size"),
    ],
)
def test_bad_options_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **options)


def test_plain_training_arguments_and_strange_models_are_refused(tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(TypeError, match="args must be a ScalaConfig, got TrainingArguments"):
        ScalaTrainer(tiny_model(), TrainingArguments(str(tmp_path), use_cpu=True))
    with pytest.raises(TypeError, match="Linear has no input embedding layer"):
        ScalaTrainer(nn.Linear(2, 2), config(tmp_path), train_dataset=tiny_data(4))


def test_warm_start_without_keys_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a column 'idx'"):
        trained(tmp_path, tiny_data(8).remove_columns("idx"), noise_start="warm")


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    trained(tmp_path, **options)
    checkpoint = last_checkpoint(tmp_path)
    (checkpoint / "follower-0.safetensors").unlink()
    with pytest.raises(ValueError, match="was not written by ScalaTrainer"):
        trained(tmp_path, resume=str(checkpoint), **options)


def test_last_checkpoint_passes_over_one_whose_writing_was_cut_off(tmp_path):
    assert last_checkpoint(tmp_path) is None
    trained(tmp_path, save_strategy="steps", save_steps=4)
    whole = last_checkpoint(tmp_path)
    assert whole.name == "checkpoint-12"
    cut = tmp_path / "checkpoint-13"
    shutil.copytree(whole, cut)
    (cut / "trainer_state.json").write_text((whole / "trainer_state.json").read_text()[:100])
    (tmp_path / "checkpoint-14").mkdir()
    assert last_checkpoint(tmp_path) == whole
