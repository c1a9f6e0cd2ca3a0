"""Layers that start at zero, as adapters do, learn at the trainer's defaults."""

import torch
from torch import nn

from scala import Lamb, ScalaConfig
from scala.lamb import parameter_groups


class LowRank(nn.Module):
    """A frozen linear layer plus B A x, with B = 0 at the start (LoRA, Hu et al. 2021, arXiv 2106.09685)."""

    def __init__(self, layer: nn.Linear, rank: int = 4):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + 2 * self.up(self.down(x))


def adapted(dialect, rate, rounds=200):
    """Loss before and after the adapters of a frozen network learn to follow another one of the same make, a little apart."""
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 2)]
    target = [layer.weight + 0.1 * layer.weight.std() * torch.randn_like(layer.weight) for layer in layers[:2]]
    inputs = torch.randn(512, 32)
    with torch.no_grad():
        hidden = inputs
        for weight, layer in zip(target, layers, strict=False):
            hidden = torch.tanh(hidden @ weight.mT + layer.bias)
        answers = layers[2](hidden)
    model = nn.Sequential(LowRank(layers[0]), nn.Tanh(), LowRank(layers[1]), nn.Tanh(), layers[2].requires_grad_(False))
    leader = Lamb(parameter_groups(model, dialect=dialect), lr=rate)
    losses = []
    for t in range(rounds):
        for group in leader.param_groups:
            group["lr"] = rate * (1 - t / rounds)
        loss = (model(inputs) - answers).square().mean()
        leader.zero_grad()
        loss.backward()
        leader.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def test_adapters_learn_at_the_defaults(tmp_path):
    config = ScalaConfig(str(tmp_path), use_cpu=True)
    assert adapted(config.lamb_dialect, config.learning_rate) < 0.1
