import pytest
import torch
from tiny_models import CONFIGS, collate, tiny_data, tiny_model
from torch import nn

from scala import Adversary, EmbeddingNoise

architectures = pytest.mark.parametrize("name", list(CONFIGS))


def batch_of(samples=3, to=0):
    batch = collate(list(tiny_data(samples)), to=to)
    del batch["idx"]
    return batch


@architectures
def test_noise_moves_the_logits_once_and_leaves_no_trace(name):
    model, batch = tiny_model(name).eval(), batch_of()
    injection = EmbeddingNoise(model)
    clean = model(**batch).logits
    noise = 0.1 * torch.randn_like(injection.embeddings(batch["input_ids"]))
    with injection.added(noise):
        noisy = model(**batch).logits
    assert (noisy - clean).abs().max() > 1e-6
    assert torch.equal(model(**batch).logits, clean)
    assert not injection.layer._forward_hooks


@architectures
def test_zero_noise_changes_nothing(name):
    model, batch = tiny_model(name).eval(), batch_of()
    injection = EmbeddingNoise(model)
    with injection.added(torch.zeros_like(injection.embeddings(batch["input_ids"]))):
        noisy = model(**batch).logits
    assert torch.equal(noisy, model(**batch).logits)


@architectures
def test_padding_changes_neither_the_noise_nor_its_effect(name):
    model = tiny_model(name).double().eval()
    injection = EmbeddingNoise(model)
    found = []
    for to in (0, 15):
        batch = batch_of(4, to=to)

        def objective(noise, batch=batch):
            with injection.added(noise):
                return model(**batch).loss

        at = injection.embeddings(batch["input_ids"])
        response = Adversary(0.2, steps=2, step_size=0.15, relative=True).respond(objective, at, batch["attention_mask"])
        found.append((response.noise[:, : batch_of(4)["input_ids"].shape[1]], response.ball.radius, objective(response.noise)))
        assert (response.noise[batch["attention_mask"] == 0] == 0).all()
    for short, padded in zip(*found, strict=True):
        torch.testing.assert_close(short, padded, rtol=1e-9, atol=1e-12)


def test_hook_is_gone_after_an_error():
    model, batch = tiny_model(), batch_of()
    injection = EmbeddingNoise(model)
    at = injection.embeddings(batch["input_ids"])
    with pytest.raises(KeyboardInterrupt), injection.added(torch.ones_like(at)):
        raise KeyboardInterrupt
    assert not injection.layer._forward_hooks


def test_noise_of_another_shape_is_refused():
    model, batch = tiny_model(), batch_of()
    with (
        pytest.raises(ValueError, match="cannot be added to embeddings of shape"),
        EmbeddingNoise(model).added(torch.ones(1, 2, 3)),
    ):
        model(**batch)


def test_a_pass_that_does_not_embed_exactly_once_is_refused():
    model, batch = tiny_model(), batch_of()
    injection = EmbeddingNoise(model)
    noise = torch.zeros_like(injection.embeddings(batch["input_ids"]))
    with pytest.raises(RuntimeError, match="ran 0 times"), injection.added(noise):
        pass
    with pytest.raises(RuntimeError, match="ran 2 times"), injection.added(noise):
        model(**batch)
        model(**batch)


def test_a_model_without_input_embeddings_is_refused():
    with pytest.raises(TypeError, match="Linear has no input embedding layer"):
        EmbeddingNoise(nn.Linear(2, 2))


def test_low_precision_embeddings_keep_their_type():
    model, batch = tiny_model().bfloat16(), batch_of()
    injection = EmbeddingNoise(model)
    noise = torch.full(injection.embeddings(batch["input_ids"]).shape, 0.5)
    with injection.added(noise):
        assert model(**batch).logits.dtype == torch.bfloat16
