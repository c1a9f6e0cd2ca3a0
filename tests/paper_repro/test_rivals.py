"""Every rival gives the weights of a plain reference, written here from its paper; only the leaders are the project's."""

import copy
import dataclasses
import functools

import pytest
import torch
from tiny_models import collate, tiny_data, tiny_model
from transformers import TrainerCallback

from paper_repro.rivals import RIVALS, RivalConfig, RivalTrainer
from scala import EmbeddingNoise, Lamb, NonFiniteLoss, ScalaConfig
from scala.trainer import last_checkpoint

RADIUS = 0.2
CASES = {
    "gaussian": {"rival": "gaussian", "noise_radius": RADIUS},
    "gaussian-linf": {"rival": "gaussian", "noise_radius": RADIUS, "noise_norm": "linf"},
    "neftune": {"rival": "neftune", "neftune_alpha": 7.0},
    "freelb": {"rival": "freelb", "noise_radius": RADIUS, "noise_step_size": 0.15, "noise_steps": 3},
    "smart": {"rival": "smart", "noise_radius": RADIUS, "noise_step_size": 0.15, "noise_steps": 2, "smart_lambda": 3.0,
              "smart_sigma": 0.05},
    "smart-regression": {"rival": "smart", "noise_radius": RADIUS, "smart_lambda": 3.0},
    "sam": {"rival": "sam", "sam_rho": 0.3},
}  # fmt: skip
LEADERS = {
    "lamb": ({"learning_rate": 0.02, "lamb_dialect": "debiased"},
             lambda parameters: Lamb(parameters, lr=0.02, weight_decay=0.0)),
    "adamw": ({"leader": "optim", "optim": "adamw_torch", "learning_rate": 1e-2},
              lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)),
    "sgd": ({"leader": "optim", "optim": "sgd", "learning_rate": 0.5}, lambda parameters: torch.optim.SGD(parameters, lr=0.5)),
}  # fmt: skip
SIZES = (3, 3, 3, 2, 3, 3, 3, 2)  # micro-batches of 11 samples twice, six samples to a step: the last of each epoch is ragged


def config(folder, **options):
    settings = {
        "per_device_train_batch_size": 3, "global_batch_size": 6, "num_train_epochs": 2, "lr_scheduler_type": "constant",
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "report_to": "none",
        "max_grad_norm": 0.0, "weight_decay": 0.0, "dataloader_pin_memory": False,
    }  # fmt: skip
    return RivalConfig(output_dir=str(folder), **(settings | options))


def trained(folder, model, data=None, collator=collate, callbacks=(), resume=None, **options):
    trainer = RivalTrainer(
        model, config(folder, **options), train_dataset=data or tiny_data(11), data_collator=collator, callbacks=list(callbacks)
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(model):
    """Without the biases of attention keys: their gradient is nothing but rounding, of which LAMB makes a full step."""
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if not name.endswith("key.bias")])


class Recorder:
    """Remembers the batches and the random numbers that a training drew, in their order."""

    def __init__(self, monkeypatch):
        self.batches, self.draws = [], []
        for name in ("randn_like", "rand_like"):
            monkeypatch.setattr(torch, name, functools.partial(self._draw, getattr(torch, name)))

    def _draw(self, draw, *arguments, **keywords):
        self.draws.append(draw(*arguments, **keywords))
        return self.draws[-1].clone()

    def collate(self, rows):
        self.batches.append(collate(rows))
        return dict(self.batches[-1])


# --- the references: gradients of one micro-batch's mean loss ---------------------------------------------------------------


def outputs(model, batch, noise=0.0):
    embeddings = model.get_input_embeddings()(batch["input_ids"]) + noise
    return model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"], labels=batch["labels"])


def sample_sizes(model, batch):
    """||x_i|| over its tokens, and the number of its entries."""
    x = model.get_input_embeddings()(batch["input_ids"]).detach()
    mask = batch["attention_mask"].bool()
    return (
        torch.stack([row[m].norm() for row, m in zip(x, mask, strict=True)])[:, None, None],
        torch.stack([m.sum() * x.shape[-1] for m in mask]).to(x)[:, None, None],
        mask[..., None].to(x),
    )


def backward(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


def reference_gaussian(model, batch, draws, options):
    size, entries, mask = sample_sizes(model, batch)
    z = draws.pop(0) * mask
    if options.get("noise_norm") == "linf":
        noise = RADIUS * size / entries.sqrt() * z.sign()
    else:
        noise = RADIUS * size * z / z.flatten(1).norm(dim=1)[:, None, None]
    return backward(model, outputs(model, batch, noise).loss)


def reference_neftune(model, batch, draws, options):
    _, entries, mask = sample_sizes(model, batch)
    return backward(
        model, outputs(model, batch, mask * (2 * draws.pop(0) - 1) * options["neftune_alpha"] / entries.sqrt()).loss
    )


def reference_freelb(model, batch, draws, options):
    size, entries, mask = sample_sizes(model, batch)
    eps, alpha, steps = RADIUS * size, options["noise_step_size"] * size, options["noise_steps"]
    noise = mask * (2 * draws.pop(0) - 1) * eps / entries.sqrt()
    total = None
    for _ in range(steps):
        noise.requires_grad_()
        loss = outputs(model, batch, noise).loss
        *gradient, inward = torch.autograd.grad(loss, [*model.parameters(), noise])
        total = [g / steps + (0 if total is None else t) for g, t in zip(gradient, total or gradient, strict=True)]
        inward = inward * mask
        noise = noise.detach() + alpha * inward / inward.flatten(1).norm(dim=1)[:, None, None]
        length = noise.flatten(1).norm(dim=1)[:, None, None]
        noise = torch.where(length > eps, noise * eps / length, noise)
    return total


def divergence(model, p, q):
    if model.config.num_labels == 1:
        return ((p - q) ** 2).mean()
    p, q = p.softmax(-1), q.softmax(-1)
    return ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)).mean()


def reference_smart(model, batch, draws, options):
    size, entries, mask = sample_sizes(model, batch)
    unit = size / entries.sqrt()
    eps, eta = RADIUS * unit, options.get("noise_step_size", RADIUS) * unit
    noise = mask * draws.pop(0) * options.get("smart_sigma", RADIUS) * unit
    clean = outputs(model, batch)
    for _ in range(options.get("noise_steps", 1)):
        noise.requires_grad_()
        (g,) = torch.autograd.grad(divergence(model, clean.logits.detach(), outputs(model, batch, noise).logits), noise)
        noise = noise.detach() + eta * g / g.abs().flatten(1).amax(1)[:, None, None]
        noise = mask * noise.clamp(-eps, eps)
    smoothness = divergence(model, clean.logits, outputs(model, batch, noise).logits)
    return backward(model, clean.loss + options["smart_lambda"] * smoothness)


def reference_sam(model, batch, draws, options):
    gradient = backward(model, outputs(model, batch).loss)
    length = torch.cat([g.flatten() for g in gradient]).norm()
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradient, strict=True):
            p.add_(options["sam_rho"] * g / length)
    found = backward(model, outputs(model, batch).loss)
    with torch.no_grad():
        for p, kept in zip(model.parameters(), before, strict=True):
            p.copy_(kept)
    return found


def plain(model, batch, draws, options):
    return backward(model, outputs(model, batch).loss)


def reference(model, leader, recorded, options, delay):
    """Four steps of accumulated micro-batches, the shares of a mean over the step's samples."""
    method = {name: globals()[f"reference_{name}"] for name in RIVALS}[options["rival"]]
    leader = LEADERS[leader][1](list(model.parameters()))
    batches, draws = list(recorded.batches), list(recorded.draws)
    assert tuple(len(batch["labels"]) for batch in batches) == SIZES
    for step in range(4):
        micro = [batches.pop(0), batches.pop(0)]
        samples = sum(len(batch["labels"]) for batch in micro)
        leader.zero_grad()
        for batch in micro:
            found = (method if step >= delay else plain)(model, batch, draws, options)
            for p, g in zip(model.parameters(), found, strict=True):
                share = g * len(batch["labels"]) / samples
                p.grad = share if p.grad is None else p.grad + share
        leader.step()
    assert not draws
    return model


@pytest.mark.parametrize("leader", list(LEADERS))
@pytest.mark.parametrize("case", list(CASES))
def test_equals_the_plain_reference(tmp_path, monkeypatch, case, leader):
    """Four accumulated steps, the first without the rival where there is a delay."""
    options = dict(CASES[case])
    if options["rival"] != "neftune":
        options["noise_delay"] = 1.0
    start = tiny_model(dropout=0.0).double()
    if case == "smart-regression":
        start.num_labels = start.config.num_labels = 1
        start.classifier = torch.nn.Linear(16, 1).double()

    def collated(rows):
        batch = recorder.collate(rows)
        if case == "smart-regression":
            batch["labels"] = recorder.batches[-1]["labels"] = batch["labels"].double()
        return batch

    recorder = Recorder(monkeypatch)
    ours, theirs = [copy.deepcopy(start) for _ in range(2)]
    trainer = trained(tmp_path, ours, collator=collated, **LEADERS[leader][0], **options)
    reference(theirs, leader, recorder, options, 0 if options["rival"] == "neftune" else 1)
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-10
    assert (weights(ours) - weights(start)).abs().max() > 1e-3
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("case", list(CASES))
def test_it_is_not_the_plain_method(tmp_path, case):
    """The difference that the references are about is larger than their tolerance."""
    if case == "smart-regression":
        pytest.skip("as smart")
    options = {"leader": "optim", "optim": "sgd", "learning_rate": 0.5}
    delay = {} if case == "neftune" else {"noise_delay": 0.0}
    with_rival, without = tiny_model(dropout=0.0).double(), tiny_model(dropout=0.0).double()
    trained(tmp_path, with_rival, **options, **CASES[case], **delay)
    trained(tmp_path, without, **options, noise="none")
    assert (weights(with_rival) - weights(without)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("case", "each"), [("gaussian", 1), ("neftune", 1), ("freelb", 3), ("smart", 4), ("sam", 2)]
)  # gradients of one sample's loss, of weights or noise or both at once
def test_gradients_are_counted_by_one_rule(tmp_path, case, each):
    delay = {} if case == "neftune" else {"noise_delay": 0.5}
    trainer = trained(tmp_path, tiny_model(), **CASES[case], **delay)
    assert trainer.game.gradient_evaluations == 11 * (each if case == "neftune" else 1) + 11 * each


@pytest.mark.parametrize("case", ["freelb", "smart", "sam"])
def test_the_passes_of_a_micro_batch_share_their_dropout_masks(tmp_path, case):
    """At a radius of next to nothing all passes are the plain step if their masks are the same, and are not if they are not."""
    tiny = {"noise_radius": 1e-9} if case != "sam" else {"sam_rho": 1e-9}
    sizes = {"noise_steps": 2} if case == "freelb" else {}
    options = {"leader": "optim", "optim": "sgd", "learning_rate": 0.5, "noise_delay": 0.0, "num_train_epochs": 1}
    found = {}
    for same in (True, False):
        model = tiny_model(dropout=0.3).double()
        trained(tmp_path, model, rival=case, same_dropout=same, **tiny, **sizes, **options)
        found[same] = weights(model)
    plain = tiny_model(dropout=0.3).double()
    trained(tmp_path, plain, **(options | {"noise_delay": 0.5}), noise="none")
    if case == "sam":  # its ascent's loss consumes nothing, so the leader meets the plain step's masks
        assert (found[True] - weights(plain)).abs().max() < 1e-6
    assert (found[True] - found[False]).abs().max() > 1e-3


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.mark.parametrize("case", ["freelb", "sam"])
def test_resume_continues_bit_for_bit(tmp_path, case):
    """With dropout, accumulation, a ragged last batch, and the rival beginning at step 2 of 4."""
    options = {**CASES[case], "save_strategy": "steps", "save_steps": 1, "noise_delay": 0.5}
    whole = trained(tmp_path / "whole", tiny_model(dropout=0.2), **options)
    trained(tmp_path / "cut", tiny_model(dropout=0.2), callbacks=[StopAt(3)], **options)
    resumed = trained(
        tmp_path / "cut", tiny_model(seed=9, dropout=0.2), resume=str(last_checkpoint(tmp_path / "cut")), **options
    )
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert whole.game.gradient_evaluations == resumed.game.gradient_evaluations


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("case", ["gaussian", "neftune", "freelb", "smart", "sam"])
def test_non_finite_training_stops_with_the_weights_unspoilt(tmp_path, case, where):
    model = tiny_model()
    before = weights(model)
    forward = model.forward

    @functools.wraps(forward)  # the Trainer reads its signature
    def poisoned(*args, **kwargs):
        out = forward(*args, **kwargs)
        if where == "loss":
            out.loss = out.loss * float("nan")
        else:
            out.loss = out.loss + model.classifier.bias.sum().mul(0).abs().sqrt()  # finite value, infinite slope
        return out

    model.forward = poisoned
    delay = {} if case == "neftune" else {"noise_delay": 0.0}
    with pytest.raises(NonFiniteLoss, match="weights have not been moved"):
        trained(tmp_path, model, **CASES[case], **delay)
    assert torch.equal(before, weights(model))


def test_sam_puts_the_weights_back_when_the_loss_up_there_is_not_finite(tmp_path):
    model = tiny_model()
    before = weights(model)
    forward, moved = model.forward, []

    @functools.wraps(forward)
    def poisoned(*args, **kwargs):
        out = forward(*args, **kwargs)
        if model.training:  # not when the first micro-batch is scored in parts
            moved.append(not torch.equal(before, weights(model)))
        if moved and moved[-1]:
            out.loss = out.loss * float("nan")
        return out

    model.forward = poisoned
    with pytest.raises(NonFiniteLoss, match="weights have not been moved"):
        trained(tmp_path, model, noise_delay=0.0, **CASES["sam"])
    assert moved == [False, True] * 2  # both micro-batches of the step, each from the weights of before
    assert torch.equal(before, weights(model))


@pytest.mark.parametrize("options", [{"bf16": True}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("case", ["freelb", "smart", "sam"])
def test_mixed_precision_and_checkpointing(tmp_path, case, options):
    model = tiny_model()
    trained(tmp_path, model, **CASES[case], **options)
    assert weights(model).isfinite().all()


def test_the_log_says_how_large_the_noise_was(tmp_path):
    trainer = trained(tmp_path, tiny_model(), **CASES["gaussian"])
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert last["noise_norm"] == pytest.approx(last["noise_radius"], rel=1e-5)
    assert last["follower"] == 1.0


@pytest.mark.parametrize("case", ["gaussian", "gaussian-linf", "neftune", "freelb", "smart"])
def test_padding_has_no_noise(tmp_path, monkeypatch, case):
    """An attention mask would hide it from the outputs."""
    seen = []
    added = EmbeddingNoise.added

    def watched(self, noise, shapes):
        seen.append(noise)
        return added(self, noise, shapes)

    monkeypatch.setattr(EmbeddingNoise, "added", watched)
    batches = []

    def collated(rows):
        batches.append(collate(rows))
        return dict(batches[-1])

    delay = {} if case == "neftune" else {"noise_delay": 0.0}
    trained(tmp_path, tiny_model(), tiny_data(3, seed=1), collated, num_train_epochs=1, **CASES[case], **delay)
    empty = batches[0]["attention_mask"] == 0
    noises = [noise.detach() for noise in seen if noise is not None]
    assert empty.any()
    assert all((noise[empty] == 0).all() and (noise[~empty] != 0).any() for noise in noises)
    assert noises


@pytest.mark.parametrize("rival", list(RIVALS))
def test_what_a_rival_says_it_reads_is_what_it_reads(tmp_path, rival, monkeypatch):
    read = set()
    original = RivalConfig.__getattribute__

    def watching(self, name):
        read.add(name)
        return original(self, name)

    case = next(options for options in CASES.values() if options["rival"] == rival)
    delay = {} if rival == "neftune" else {"noise_delay": 0.0}
    arguments = config(tmp_path, **case, **delay)
    trainer = RivalTrainer(tiny_model(), arguments, train_dataset=tiny_data(6), data_collator=collate)
    trainer.create_optimizer_and_scheduler(4)
    monkeypatch.setattr(RivalConfig, "__getattribute__", watching)
    batch = collate(list(tiny_data(3).remove_columns("idx")))
    trainer.training_step(trainer.model.train(), batch)
    names = {f.name for f in dataclasses.fields(ScalaConfig)} | {"neftune_alpha", "smart_lambda", "smart_sigma", "sam_rho"}
    noisy = {name for name in read & names if name.startswith(("noise", "same", "smart", "sam_", "neftune_a", "adversarial"))}
    assert noisy == RIVALS[rival].reads - {"noise_delay"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rival": "loud"}, "unknown rival 'loud'; choose one of none, gaussian, neftune, freelb, smart, sam"),
        (
            {"rival": "sam", "noise_radius": 0.1},
            "rival = 'sam', .* does not read noise_radius; leave it out",
        ),
        ({"rival": "sam", "noise": "none"}, "rival = 'sam', .* does not read noise;"),
        ({"rival": "freelb", "noise_steps": 2, "noise_norm": "linf"}, "rival = 'freelb', .* does not read noise_norm"),
        ({"rival": "freelb"}, r"FreeLB needs noise_steps \(its K\) of 2 or more"),
        ({"rival": "smart", "adversarial_weight": 1.0}, "rival = 'smart', .* does not read adversarial_weight"),
        ({"rival": "neftune", "noise_delay": 0.1}, "rival = 'neftune', .* does not read noise_delay"),
        ({"rival": "gaussian", "noise_steps": 2}, "rival = 'gaussian', .* does not read noise_steps"),
        ({"sam_rho": 0.1}, "rival = 'none', .* does not read sam_rho"),
        ({"rival": "sam", "sam_rho": 0.0}, "sam_rho must be positive and finite, got 0.0"),
        ({"rival": "smart", "smart_sigma": -1.0}, "smart_sigma must be positive"),
        ({"rival": "gaussian", "noise_norm": "l3"}, "unknown noise_norm"),
    ],
)
def test_bad_options_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **options)


def test_the_leaders_options_are_everybodys(tmp_path):
    config(tmp_path, rival="sam", leader="optim", optim="adamw_torch")
    config(tmp_path, rival="gaussian", lamb_dialect="nvlamb")


def test_a_configuration_without_rivals_is_refused(tmp_path):
    with pytest.raises(TypeError, match="args must be a RivalConfig, got ScalaConfig"):
        RivalTrainer(tiny_model(), ScalaConfig(str(tmp_path), use_cpu=True))
