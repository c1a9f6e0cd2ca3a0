"""Danskin's constants and gradient descent ascent on drawn instances, and the closed forms that their checks stand on."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convergence.theorems import danskin
from convergence.theorems import gradient_descent_ascent as gda
from convergence.theorems import stochastic_gradient_descent_ascent as noisy
from convergence.unit_steps import rounds
from toy_problems import BallHuber, MinMaxProblem, Quadratic, strategies

PROBLEMS = st.one_of(strategies.quadratics(), strategies.sigmoids(), strategies.ball_hubers(), strategies.hopfs())
GAMES = st.one_of(strategies.quadratics(), strategies.sigmoids(), strategies.ball_hubers())


def constants(problem: MinMaxProblem) -> dict[str, Tensor]:
    c = problem.constants
    found = {name: getattr(c, name) for name in ("l", "mu", "l_xx", "l_xy")}
    assert all(value is not None for value in found.values())
    return found


@given(st.data(), PROBLEMS)
def test_danskins_four_bounds_hold_between_drawn_points(data: st.DataObject, problem: MinMaxProblem) -> None:
    (x, _), (other, _) = data.draw(strategies.points(problem)), data.draw(strategies.points(problem))
    c, apart = constants(problem), (x - other).norm(dim=-1)
    slope = (problem.grad_phi(x) - problem.grad_phi(other)).norm(dim=-1)
    answer = (problem.y_star(x) - problem.y_star(other)).norm(dim=-1)
    room = 1e-9 * (1 + x.norm() + other.norm()) * (1 + slope + answer)
    assert (slope <= danskin.SMOOTHNESS(l=c["l"], mu=c["mu"]) * apart + room).all()
    assert (answer <= danskin.ANSWER(l=c["l"], mu=c["mu"]) * apart + room).all()
    assert (slope <= danskin.BLOCK_SMOOTHNESS(mu=c["mu"], l_xx=c["l_xx"], l_xy=c["l_xy"]) * apart + room).all()
    assert (answer <= danskin.BLOCK_ANSWER(mu=c["mu"], l_xy=c["l_xy"]) * apart + room).all()


@given(st.floats(0, 1), st.floats(1.5, 50))
def test_concave_in_x_needs_only_kappa_minus_one(share: float, kappa: float) -> None:
    """The remark on A's sign, in one dimension: at l = 1, whatever A <= 0, Phi'' is at most kappa - 1."""
    a, mu = -share, 1 / kappa
    b2 = (1 + a) * (1 - mu)  # then 1 is the larger modulus of the two eigenvalues
    problem = Quadratic([[[a]]], [[[b2**0.5]]], [[[mu]]])
    assert problem.constants.l.item() == pytest.approx(1, abs=1e-9)
    assert problem.hessian_phi.item() <= kappa - 1 + 1e-9
    assert problem.hessian_phi.item() >= -1


@given(st.floats(1, 60), st.floats(-1, 2))
def test_the_attacked_family_has_the_conditioning_it_promises(kappa: float, a: float) -> None:
    problem, l, eta = gda.instances(*(torch.tensor([v], dtype=torch.float64) for v in (kappa, a if kappa > 2 else 1.0, 1.0)))  # noqa: E741
    assert problem.constants.l.item() == pytest.approx(l.item(), rel=1e-7)
    assert problem.constants.kappa.item() == pytest.approx(kappa, rel=1e-7)
    assert eta.item() == pytest.approx(1 / kappa**2)


@settings(max_examples=30)
@given(st.data(), GAMES, st.floats(0.1, 1))
def test_every_round_of_the_core_lowers_the_potential(data: st.DataObject, problem: MinMaxProblem, share: float) -> None:
    x, _ = data.draw(strategies.points(problem))
    c = constants(problem)
    kappa = c["l"] / c["mu"]
    eta = share / (kappa**2 * c["l"])
    seen = rounds(problem, x, (eta, 1 / c["l"]), 6, observe=lambda x, y: {"path": x, "y": y})
    path, before = seen["path"], torch.cat([torch.zeros_like(seen["y"][:1]), seen["y"][:-1]])  # what each round starts from
    error = (before - problem.y_star(path)).square().sum(-1)
    weight = eta * (kappa - 1) ** 2 / kappa * c["l"] ** 2 / 2
    potential = problem.phi(path) + weight * error
    fall, claimed = potential[:-1] - potential[1:], eta / 2 * problem.grad_phi(path[:-1]).square().sum(-1)
    assert (fall >= claimed - 1e-9 * (1 + potential.abs().max())).all()


@settings(max_examples=15)
@given(st.data(), GAMES)
def test_the_rate_holds_on_drawn_games(data: st.DataObject, problem: MinMaxProblem) -> None:
    """D is replaced by the fall from x_0 to x_T, which is smaller: the proof needs no more."""
    x, _ = data.draw(strategies.points(problem))
    c, T = constants(problem), 12
    kappa = c["l"] / c["mu"]
    eta = 1 / (kappa**2 * c["l"])
    seen = rounds(problem, x, (eta, 1 / c["l"]), T)
    gap, r = problem.phi(x) - problem.phi(seen["final"]), problem.y_star(x).norm(dim=-1)
    bound = gda.RATE(D=gap, eta=eta, kappa=kappa, l=c["l"], r_0=r, T=float(T))
    assert (seen["G2"].mean(0) <= bound + 1e-9 * (1 + bound.abs())).all()


def test_at_kappa_one_the_first_round_is_an_equality() -> None:
    """f = l x^2/2 - l y^2/2: one step of length 1/l ends at the solution, and |grad Phi|^2 = 2 l D."""
    two = torch.tensor([2.0], dtype=torch.float64)
    problem = Quadratic.extremal(two, two)
    x = torch.tensor([[3.0]], dtype=torch.float64)
    bound = gda.RATE(D=problem.phi(x), eta=0.5, kappa=1.0, l=2.0, r_0=0.0, T=1.0)
    assert rounds(problem, x, (0.5, 0.5), 1)["G2"][0].item() == pytest.approx(bound.item())


@pytest.mark.parametrize("player", [0, 1])
def test_expectations_by_squared_responses_are_those_of_all_coin_tosses(player: int) -> None:
    """Six rounds of noise +-sigma for one player, all 64 courses played, against the stochastic attack's closed form."""
    given_ = {"kappa": 5.0, "a": 0.7, "share": 0.9, "x": 0.4, "r": -0.3, "sigma_x": 0.0, "sigma_y": 0.0}
    given_["sigma_y" if player else "sigma_x"] = 0.8
    measured, values = noisy._rate(**{name: torch.tensor([v], dtype=torch.float64) for name, v in given_.items()})
    tosses = 0.8 * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64)
    problem, l, eta = gda.instances(*(torch.full((64,), given_[name], dtype=torch.float64) for name in ("kappa", "a", "share")))  # noqa: E741
    x = torch.full((64, 1), 0.4, dtype=torch.float64)

    def noise(t: int) -> tuple[Tensor, Tensor]:
        both = [torch.zeros(64, 1, dtype=torch.float64), torch.zeros(64, 1, dtype=torch.float64)]
        both[player] = tosses[:, t, None]
        return both[0], both[1]

    seen = rounds(problem, x, (eta, 1 / l), 6, y_0=problem.y_star(x) - 0.3, noise=noise)
    assert measured.item() == pytest.approx(seen["G2"].mean().item(), rel=1e-12)
    assert measured.item() <= noisy.RATE(**values).item()


def test_the_slope_games_keep_their_slope() -> None:
    """What makes 1/T the true order: the gradient is the same in every round."""
    b, mu, omega = (torch.tensor([v], dtype=torch.float64) for v in (0.75**0.5, 0.25, 0.5))
    problem, T = BallHuber(b, mu, omega), 40
    x = ((mu + T / 16 * b**2) * omega / b)[:, None]
    squares = rounds(problem, x, (1 / 16, 1.0), T)["G2"]
    torch.testing.assert_close(squares, (b * omega).square().expand(T, 1))
