"""Gradient descent ascent on the real core: a warm follower, and step sizes of each instance's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from convergence.play import Round, descent, follower, play
from toy_problems import Constants, MinMaxProblem


class AtUnitSteps(MinMaxProblem):
    """A problem in coordinates in which both step sizes are 1, so that one learning rate serves instances that differ.

    x = sqrt(eta_x) x', y = y_0 + sqrt(eta_y) y': a gradient step of length 1 in x' is one of length eta_x in x. Where Y is the
    whole space, the batch is one big instance and the noise one big sample, which the core remembers (warm start) at once.

    Attributes:
        follower_noise: [B, d_y], added to the gradient in y, and to no other.
    """

    def __init__(self, problem: MinMaxProblem, eta_x: Tensor, eta_y: Tensor, y_0: Tensor | None = None) -> None:
        """Step sizes [B]; y_0 [B, d_y] is where a warm start begins (without a ball only)."""
        assert y_0 is None or problem.omega is None, "the ball's centre stays at zero"
        self.problem = problem
        self.root_x, self.root_y = eta_x.sqrt()[:, None], eta_y.sqrt()[:, None]
        self.y_0 = torch.zeros(problem.batch, problem.d_y, dtype=torch.float64) if y_0 is None else y_0
        self.follower_noise = torch.zeros_like(self.y_0)
        self.omega = None if problem.omega is None else problem.omega / eta_y.sqrt()
        self.layers = (problem.d_x * (problem.batch // self.batch),)

    @property
    def batch(self) -> int:
        """1 without a ball."""
        return 1 if self.omega is None else self.problem.batch

    @property
    def d_y(self) -> int:
        """Of all instances together, without a ball."""
        return self.problem.d_y * (self.problem.batch // self.batch)

    @property
    def constants(self) -> Constants:
        """None: they are the problem's."""
        return Constants()

    def x(self, x: Tensor) -> Tensor:
        """[B, d_x] in the problem's coordinates."""
        return self.root_x * x.reshape(len(self.root_x), -1)

    def y(self, y: Tensor) -> Tensor:
        """[B, d_y] in the problem's coordinates."""
        return self.y_0 + self.root_y * y.reshape(self.y_0.shape)

    def start(self, x: Tensor) -> Tensor:
        """From the problem's coordinates to these."""
        return (x / self.root_x).reshape(self.batch, -1)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """The problem's value, and the follower's noise times y."""
        return self.problem.f(self.x(x), self.y(y)) + (self.follower_noise * self.y(y)).sum(-1)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """By the chain rule."""
        return (self.root_x * self.problem.grad_x(self.x(x), self.y(y))).reshape(x.shape)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """By the chain rule."""
        return (self.root_y * (self.problem.grad_y(self.x(x), self.y(y)) + self.follower_noise)).reshape(y.shape)


Noise = Callable[[int], tuple[Tensor, Tensor]]
"""t -> noise in the leader's gradient [B, d_x] and in the follower's [B, d_y]."""
Steps = tuple[Tensor | float, Tensor | float]
"""(eta_x, eta_y), each [B] or one number for all."""


def rounds(
    problem: MinMaxProblem,
    x: Tensor,
    steps: Steps,
    T: int,
    *,
    y_0: Tensor | None = None,
    noise: Noise | None = None,
    observe: Callable[[Tensor, Tensor], Mapping[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """The core's gradient descent ascent: one step of the follower from where it was, then one of the leader.

    Args:
        problem: B instances.
        x: [B, d_x], the start.
        steps: the leader's step size and the follower's.
        T: rounds.
        y_0: [B, d_y], the follower's start (without a ball only); None: zero.
        noise: of both players' gradients.
        observe: (x_t, y_{t+1}) -> what to record; by default |grad Phi(x_t)|^2 as "G2".

    Returns:
        What was observed, [T, ...], and under "final" the last x.
    """
    eta_x, eta_y = (torch.as_tensor(step, dtype=torch.float64).expand(problem.batch) for step in steps)
    at_unit = AtUnitSteps(problem, eta_x, eta_y, y_0)
    see = observe or (lambda x, _: {"G2": problem.grad_phi(x).square().sum(-1)})

    def draw(t: int, x: Tensor) -> Tensor:
        assert noise is not None
        leaders, at_unit.follower_noise = noise(t)
        return (at_unit.root_x * leaders).reshape(x.shape)

    def observed(r: Round) -> Mapping[str, Tensor]:
        return see(at_unit.x(r.x), at_unit.y(r.y))

    seen = play(
        at_unit, at_unit.start(x), descent(1.0), follower(1.0, start="warm"), rounds=T, observe=observed,
        noise=None if noise is None else draw,
    )  # fmt: skip
    return seen | {"final": at_unit.x(seen["final"])}


def path(problem: MinMaxProblem, x: Tensor, y: Tensor, steps: Steps, T: int) -> tuple[Tensor, Tensor]:
    """The same play from (x, y) in full: x [T + 1, B, d_x] and y [T + 1, B, d_y] between the rounds."""
    seen = rounds(problem, x, steps, T, y_0=y, observe=lambda x, y: {"x": x, "y": y})
    return torch.cat([seen["x"], seen["final"][None]]), torch.cat([y[None], seen["y"]])
