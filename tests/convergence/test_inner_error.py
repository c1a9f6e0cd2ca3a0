"""The inner error's corollaries on instances other than those that attack them, and the closed forms they use."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from convergence.play import follower, normalized, play
from convergence.theorems.delay import COST, ERROR, K, T, campaign, t_s
from convergence.theorems.no_concavity import ANY, CONCAVE, ascend
from convergence.theorems.projected_ascent import CONTRACTION
from convergence.theorems.regularizer import GAP, RATE, answer, highest
from convergence.theorems.restart import ERROR as RESTART
from convergence.theorems.restart import errors, games, inner_error, starts
from convergence.theorems.warm_start import EVERY, MEAN, THEOREM, lipschitz, noisy_path, visits
from toy_problems import MinMaxProblem, Quadratic
from toy_problems import strategies as draw

SLACK = 1 + 1e-9


def one(value: Tensor | None) -> float:
    assert value is not None
    return float(value[0])


@given(st.data(), st.integers(1, 5), st.floats(0.25, 1.9))
def test_a_restarted_follower_errs_in_every_layer_by_no_more_than_the_bound(
    data: st.DataObject, steps: int, share: float
) -> None:
    problem = data.draw(draw.quadratics(ball=True))
    x, _ = data.draw(draw.points(problem))
    c = problem.constants
    rho = share / one(c.l_yy)
    gradient = problem.grad_y(x, x.new_zeros(1, problem.d_y)).norm(dim=-1)
    rate = CONTRACTION(l=one(c.l_yy), mu=one(c.mu), rho=rho, K=1.0, r_0=1.0)
    assert c.beta is not None
    bound = RESTART(
        beta_i=c.beta, q=rate, K=float(steps), omega=one(problem.omega), mu=one(c.mu), G_0=gradient.clamp_min(1e-300)
    )  # fmt: skip
    assert (errors(problem, x, rho, steps) <= bound * SLACK + 1e-9).all()


@given(st.data())
def test_the_best_answer_is_no_farther_than_gradient_over_mu_inside_and_on_the_ball(data: st.DataObject) -> None:
    problem = data.draw(draw.quadratics())
    x, _ = data.draw(draw.points(problem))
    gradient = problem.grad_y(x, x.new_zeros(1, problem.d_y)).norm(dim=-1)
    assert (problem.y_star(x).norm(dim=-1) * one(problem.constants.mu) <= gradient * SLACK + 1e-12).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_restart_is_attained_where_the_free_answer_lies_on_the_sphere(steps: int) -> None:
    mu, b, omega = 0.25, 2.0, 3.0
    eye = torch.ones(1, 1, 1, dtype=torch.float64)
    problem = Quadratic(0 * eye, b * eye, mu * eye, omega=torch.tensor([omega]))
    found = errors(problem, torch.tensor([[mu * omega / b]], dtype=torch.float64), 1.0, steps)
    assert found.item() == pytest.approx(b * (1 - mu) ** steps * omega)


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_warm_follower_obeys_both_bounds_at_any_staleness(every: int, steps: int) -> None:
    eta = 0.05
    problem = games(20, 3.0, torch.full((20,), 1.0), seed=7)
    path, (rate, lip) = noisy_path(problem, eta, 60), lipschitz(problem)
    found = visits(problem, path, every, "warm", steps)
    known = {"q": rate, "K": float(steps), "n": float(every), "L_y": lip, "alpha_u": 1.0, "h": 2.0, "eta": eta}
    r_start = problem.y_star(path[0]).norm(dim=-1)
    assert (found.mean(0) <= MEAN(V=float(len(found)), r_0=r_start, **known) * SLACK).all()
    assert (found.amax(0) <= EVERY(r_0=r_start, **known) * SLACK).all()


def test_the_threshold_is_where_staleness_costs_as_much_as_starting_anew() -> None:
    known = {"q": 0.5, "K": 2.0, "L_y": 3.0, "alpha_u": 2.0, "h": 4.0, "eta": 0.001}
    omega = 0.7
    limit = float((rule := THEOREM.facts[0].right).subs({s: (known | {"omega": omega})[str(s)] for s in rule.free_symbols}))
    assert EVERY(r_0=omega, n=limit, **known).item() == pytest.approx(0.5**2 * omega)
    assert EVERY(r_0=omega, n=1.1 * limit, **known).item() > 0.5**2 * omega * 1.05


def test_between_two_visits_the_noise_stays_as_it_was() -> None:
    problem = games(3, 3.0, torch.ones(3))
    path = starts(problem).expand(5, -1, -1)  # x stands still: each visit adds one ascent step
    warm = visits(problem, path, 2, "warm")
    anew = torch.stack([visits(problem, path[:1], 1, "zero", k)[0] for k in (1, 2, 3)])
    assert torch.allclose(warm, anew)


@given(st.integers(1, 4), st.integers(1, 8), st.data())
def test_the_core_counts_the_gradients_that_the_formula_says(steps: int, rounds: int, data: st.DataObject) -> None:
    delay = data.draw(st.integers(0, rounds))
    problem = games(2, 3.0, torch.ones(2))
    error, spent = campaign(problem, starts(problem), step=0.1, ascent=steps, delay=delay, rounds=rounds)
    assert spent == COST.subs({t_s: delay, T: rounds, K: steps})
    rate, betas = lipschitz(problem)[0], problem.constants.beta
    assert betas is not None
    known = {"omega": 1.0, "K": float(steps), "T": float(rounds), "t_s": float(delay)}
    assert (error <= ERROR(beta=betas.sum(-1), q=rate, **known) * SLACK).all()


def test_campaign_and_play_see_the_same_game() -> None:
    problem = games(4, 3.0, torch.ones(4))
    x = starts(problem)
    seen = play(
        problem, x, normalized(0.1), follower(1.0, 2), rounds=6, delay=2,
        observe=lambda r: {"e": inner_error(problem, r.x, r.u)},
    )  # fmt: skip
    assert torch.allclose(seen["e"].mean(0), campaign(problem, x, step=0.1, ascent=2, delay=2, rounds=6)[0])


@given(draw.robust_least_squares(), st.integers(1, 6), st.floats(1.3, 4), st.data())
def test_with_a_penalty_the_follower_contracts_on_a_convex_loss(
    problem: MinMaxProblem, steps: int, multiple: float, data: st.DataObject
) -> None:
    x, _ = data.draw(draw.points(problem))
    assert problem.omega is not None
    l_0 = one(problem.constants.l_yy)
    penalty = multiple * l_0
    best = answer(problem, x, problem.omega, penalty, 150)
    distance = (answer(problem, x, problem.omega, penalty, steps) - best).norm(dim=-1)
    bound = RATE(lamda=penalty, l_0=l_0, rho=1 / penalty, K=float(steps), r_0=best.norm(dim=-1))
    assert (distance <= bound * SLACK + 1e-8).all()
    gap = problem.phi(x) - problem.f(x, best) + penalty / 2 * best.square().sum(-1)
    assert (gap >= -1e-9).all()
    assert (gap <= GAP(lamda=penalty, omega=problem.omega * problem.samples**0.5) * SLACK + 1e-8).all()


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3))
def test_the_highest_value_is_that_of_a_fine_grid(slope: float, curvature: float, omega: float) -> None:
    y = torch.linspace(-omega, omega, 2001, dtype=torch.float64)
    exact = highest(*(torch.tensor([z], dtype=torch.float64) for z in (slope, curvature, omega)))
    assert exact.item() == pytest.approx((1 + slope * y + curvature / 2 * y**2).max().item(), abs=1e-5)


@given(st.one_of(draw.bilinears(ball=True), draw.dirac_gans(ball=True)), st.integers(1, 6), st.floats(0.1, 2), st.data())
def test_on_concave_games_no_step_up_to_two_over_l_exceeds_the_radius(
    problem: MinMaxProblem, steps: int, share: float, data: st.DataObject
) -> None:
    x, _ = data.draw(draw.points(problem))
    c = problem.constants
    l_yy = one(c.l_yy)
    rho = share / l_yy if l_yy > 0 else share
    assert c.beta is not None
    assert problem.omega is not None
    assert (errors(problem, x, rho, steps) <= CONCAVE(beta_i=c.beta, omega=one(problem.omega)) * SLACK + 1e-12).all()


def test_longer_steps_do_exceed_it() -> None:
    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        return (noise / 3 - noise**2 / 2).sum()

    found = follower(3.0, 2).respond(objective, torch.ones(1, 1, dtype=torch.float64)).noise
    assert found.item() == pytest.approx(-1)
    assert abs(found.item() - 1 / 3) > CONCAVE(beta_i=1.0, omega=1.0).item()


def test_a_misleading_slope_costs_the_whole_diameter() -> None:
    slope, bend, kink, omega = (torch.tensor([z], dtype=torch.float64) for z in (-0.2, 4.0, 0.1, 1.0))
    assert ascend(slope, bend, kink, omega, 5).item() == -1
    right, left = (float(slope * y + bend / 2 * max(y - 0.1, 0) ** 2) for y in (1.0, -1.0))
    assert right > left
    assert ANY(beta_i=1.0, omega=1.0).item() == 2
