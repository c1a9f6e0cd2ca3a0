"""The follower's cheaper view of the model: gone afterwards, and in between what it says."""

import pytest
import torch
from tiny_models import CONFIGS, tiny_model

from scala.ascent_view import AscentView, encoder_layers

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def logits(model):
    torch.manual_seed(0)
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def test_the_default_changes_nothing():
    model = tiny_model().train()
    before = logits(model)
    with AscentView().of(model):
        assert torch.equal(logits(model), before)


def test_without_dropout_it_is_in_evaluation_mode_and_then_as_before():
    model = tiny_model(dropout=0.5).train()
    model.classifier.eval()  # frozen by its user
    modes = [module.training for module in model.modules()]
    with AscentView(dropout=False).of(model):
        seen = logits(model)
    assert [module.training for module in model.modules()] == modes
    assert not torch.equal(logits(model), seen)
    assert torch.equal(logits(model.eval()), seen)


def test_bfloat16_is_on_inside_only():
    model = tiny_model(dropout=0.0)
    exact = logits(model)
    with AscentView(bfloat16=True).of(model):
        seen = logits(model)
    assert seen.dtype == torch.bfloat16
    assert 0 < (seen.float() - exact).abs().max() < 0.05
    assert torch.equal(logits(model), exact)


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"albert"}))
def test_the_gradient_goes_through_the_top_layers_only(name):
    """The model's output is the same; below the top layers the gradient is that which arrives there, unchanged."""
    model = tiny_model(name, dropout=0.0).eval()
    lower, upper = encoder_layers(model)
    inputs = {}
    for layer in (lower, upper):
        layer.register_forward_pre_hook(lambda layer, args: inputs.__setitem__(layer, args[0]))

    def gradients():
        loss = logits(model).square().sum()
        return loss.detach(), *torch.autograd.grad(loss, [inputs[lower], inputs[upper]])

    exact, at_bottom, at_top = gradients()
    for layers, straight in ((2, []), (1, [lower]), (0, [lower, upper])):
        with AscentView(layers=layers).of(model):
            loss, bottom, top = gradients()
        torch.testing.assert_close(loss, exact)
        assert torch.equal(bottom, top) == (lower in straight)
        assert torch.allclose(top, at_top) == (upper not in straight)
        assert torch.allclose(bottom, at_bottom) == (not straight)
    after = gradients()
    assert torch.equal(after[1], at_bottom)


def test_all_is_undone_when_the_pass_fails():
    model = tiny_model().train()
    with pytest.raises(RuntimeError, match="lost"), AscentView(dropout=False, bfloat16=True, layers=1).of(model):
        raise RuntimeError("lost")
    assert all("forward" not in vars(layer) for layer in encoder_layers(model))
    assert all(module.training for module in model.modules())
    assert not torch.is_autocast_enabled("cpu")


def test_refusals():
    for layers in (-1, True, 1.5):
        with pytest.raises(ValueError, match="whole number >= 0"):
            AscentView(layers=layers)
    with pytest.raises(ValueError, match="2 encoder layers, fewer than the 3"), AscentView(layers=3).of(tiny_model()):
        pass
    with pytest.raises(ValueError, match="cannot be told"), AscentView(layers=1).of(tiny_model("albert")):
        pass
