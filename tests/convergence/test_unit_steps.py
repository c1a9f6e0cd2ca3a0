"""Play with step sizes of each instance's own against play written out, and the random games with one condition number."""

import pytest
import torch
from torch import Tensor

from convergence.play import descent, follower, play
from convergence.random_games import random_games
from convergence.unit_steps import AtUnitSteps, path, rounds
from toy_problems import MinMaxProblem, verify


@pytest.mark.parametrize("options", [{}, {"sign": -1}, {"sign": 1, "omega": 0.5}, {"sigmoid": True}])
def test_random_games_have_the_conditioning_they_promise(options: dict[str, object]) -> None:
    problem = random_games(7.0, 20, **options)
    verify(problem)
    torch.testing.assert_close(problem.constants.l, torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(problem.constants.kappa, torch.full((20,), 7.0, dtype=torch.float64))


def by_hand(problem: MinMaxProblem, x: Tensor, eta: Tensor, l: Tensor, T: int) -> Tensor:  # noqa: E741
    y, squares = torch.zeros(problem.batch, problem.d_y, dtype=torch.float64), []
    for _ in range(T):
        squares.append(problem.grad_phi(x).square().sum(-1))
        y = problem.project_y(y + problem.grad_y(x, y) / l[:, None])
        x = x - eta[:, None] * problem.grad_x(x, y)
    return torch.stack(squares)


@pytest.mark.parametrize("omega", [None, 0.5])
def test_one_learning_rate_plays_every_instance_at_its_own_steps_and_the_follower_first(omega: float | None) -> None:
    problem = random_games(5.0, 4, omega=omega, sign=1)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    eta, l = torch.rand(2, 4, generator=generator, dtype=torch.float64) / torch.tensor([[5.0], [1.0]]) + 0.1  # noqa: E741
    torch.testing.assert_close(rounds(problem, x, (eta, 1 / l), 8)["G2"], by_hand(problem, x, eta, l, 8))


def test_the_coordinates_of_unit_steps_have_the_right_gradients() -> None:
    at_unit = AtUnitSteps(random_games(5.0, 4), torch.full((4,), 0.3), torch.full((4,), 2.0), torch.ones(4, 3))
    at_unit.follower_noise = torch.full((4, 3), 0.7, dtype=torch.float64)
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)[None].requires_grad_()
    y = torch.linspace(2, -1, 12, dtype=torch.float64)[None].requires_grad_()
    by_x, by_y = torch.autograd.grad(at_unit.f(x, y).sum(), (x, y))
    torch.testing.assert_close(by_x, at_unit.grad_x(x, y))
    torch.testing.assert_close(by_y, at_unit.grad_y(x, y))


def test_games_side_by_side_are_played_as_the_core_plays_each_alone() -> None:
    game = random_games(5.0, 3, sigmoid=True)
    x, y = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    adversary = follower(0.2, start="warm")
    adversary.memory.update(enumerate(y))
    xs, ys = path(game, x, y, (0.1, 0.2), 4)
    seen = play(game, x, descent(0.1), adversary, rounds=4, observe=lambda r: {"x": r.x, "y": r.y})
    torch.testing.assert_close(xs, torch.cat([seen["x"], seen["final"][None]]))
    torch.testing.assert_close(ys, torch.cat([y[None], seen["y"]]))
