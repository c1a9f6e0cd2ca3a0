"""The real core plays toy problems: `scala.Game`, `scala.Lamb` and `scala.Adversary`, B instances at once.

Nothing of the algorithm is written here. A batch of toy problems is one objective: the sum of f over instances, with one
parameter tensor a layer, [B, d_i], in which `Lamb(per_row=True)` treats every row as a layer of its own, and one ball of
noise an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scala import Adversary, Game, Lamb
from toy_problems import MinMaxProblem

UNBOUNDED = 1e150
"""Radius of the follower's ball where Y is the whole space."""


@dataclass(frozen=True)
class Round:
    """What is seen of one round.

    Attributes:
        t: the round's number, from 0.
        x: [B, d_x], the weights before the leader moves.
        y: [B, d_y], the noise that the leader answered to (zero in a round without a follower).
        u: [B, d_x], the gradient that the leader was given.
    """

    t: int
    x: Tensor
    y: Tensor
    u: Tensor


Leader = Callable[[list[nn.Parameter]], Optimizer]
Observation = Mapping[str, Tensor]


def normalized(lr: float, *, momentum: float = 0.0, phi: tuple[float, float] = (1.0, 1.0), **options: Any) -> Leader:
    """The theory's leader: layer-wise normalised steps of length lr * phi, with momentum beta_1.

    Args:
        lr: eta.
        momentum: beta_1.
        phi: (alpha_l, alpha_u).
        options: further ones of `Lamb`.
    """
    chosen: dict[str, Any] = {
        "dialect": "normalized",
        "phi_bounds": phi,
        "betas": (momentum, 0.0),
        "weight_decay": 0.0,
    } | options
    return lambda layers: Lamb(layers, lr=lr, per_row=True, **chosen)


def descent(lr: float) -> Leader:
    """Plain gradient descent with step size lr (eta_x)."""
    return lambda layers: torch.optim.SGD(layers, lr=lr)


def follower(step_size: float, steps: int = 1, **options: Any) -> Adversary:
    """The theory's follower: K raw projected ascent steps of size rho, radius taken from the problem.

    Args:
        step_size: rho.
        steps: K.
        options: further ones of `Adversary`, such as start="warm".
    """
    return Adversary(1.0, step_size, steps, relative=True, direction="raw", reduction="sum", **options)


def play(
    problem: MinMaxProblem,
    x: Tensor,
    leader: Leader,
    adversary: Adversary | None,
    *,
    rounds: int,
    observe: Callable[[Round], Observation],
    delay: int = 0,
    noise: Callable[[int, Tensor], Tensor] | None = None,
    every: int = 1,
) -> dict[str, Tensor]:
    """Play a game from x for a number of rounds.

    Args:
        problem: B instances.
        x: [B, d_x], the start; not changed.
        leader: makes the optimizer from the layers, see `normalized` and `descent`.
        adversary: see `follower`; None: y = 0 throughout.
        rounds: T.
        observe: sees every round before the leader moves, returns tensors by name, [B] or any one shape.
        delay: t_s.
        noise: (t, x) -> [B, d_x], added to the leader's gradient: stochastic gradients with a known law.
        every: observe only rounds t with t % every == 0.

    Returns:
        What was observed, stacked: [observed rounds, ...]; under "final" the weights after the last round, [B, d_x]; under
        "gradients" how many of a sample's gradients the core says it took.
    """
    layers = [nn.Parameter(part.clone()) for part in problem.split(x)]
    game = Game(leader(layers), adversary, delay=delay)
    at = _points(problem)
    seen: dict[str, list[Tensor]] = {}
    for t in range(rounds):
        before = torch.cat([layer.detach() for layer in layers], -1)
        extra = None if noise is None else noise(t, before)
        objective = _Objective(problem, layers, extra)
        game.round(objective, at, keys=range(len(at)))
        if t % every == 0:
            gradient = torch.cat([layer.grad for layer in layers if layer.grad is not None], -1)
            for name, value in observe(Round(t, before, objective.y, gradient)).items():
                seen.setdefault(name, []).append(value)
    final = torch.cat([layer.detach() for layer in layers], -1)
    gradients = torch.tensor(game.gradient_evaluations // len(at))
    return {name: torch.stack(values) for name, values in seen.items()} | {"final": final, "gradients": gradients}


class _Objective:
    """Sum of f over the batch at the layers' present values; remembers the noise of its last call."""

    def __init__(self, problem: MinMaxProblem, layers: list[nn.Parameter], extra: Tensor | None) -> None:
        self.problem, self.layers, self.extra = problem, layers, extra
        self.y = torch.zeros(problem.batch, problem.d_y, dtype=torch.float64)

    def __call__(self, noise: Tensor | None) -> Tensor:
        x = torch.cat(list(self.layers), -1)
        y = torch.zeros_like(self.y) if noise is None else noise.reshape(self.y.shape)
        self.y = y.detach()
        value = self.problem.f(x, y).sum()
        return value if self.extra is None else value + (self.extra * x).sum()


def _points(problem: MinMaxProblem) -> Tensor:
    """Points for the noise to be added to, [B * samples, d_y / samples], whose norms are the radii (`relative=True`)."""
    radius = torch.full((problem.batch,), UNBOUNDED, dtype=torch.float64) if problem.omega is None else problem.omega
    at = torch.zeros(problem.batch * problem.samples, problem.d_y // problem.samples, dtype=torch.float64)
    at[:, 0] = radius.repeat_interleave(problem.samples)
    return at


def layer_norms(problem: MinMaxProblem, v: Tensor) -> Tensor:
    """|v_i| of each layer, [..., h]."""
    return torch.stack([part.norm(dim=-1) for part in problem.split(v)], -1)
