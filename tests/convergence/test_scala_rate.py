"""The ScaLA rate, its key lemma and the batch-size law, on instances that their attacks do not play."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convergence.play import Round, follower, layer_norms, normalized, play
from convergence.theorems import batch_size, normalized_step, scala_rate
from toy_problems import BallHuber, Quadratic, Wave
from toy_problems.strategies import ball_hubers, points, quadratics

SIXTEENTHS = st.integers(-32, 32).map(lambda k: k / 16)


def clouds(dimension: int) -> st.SearchStrategy[list[list[float]]]:
    """Two to six equally likely outcomes."""
    return st.lists(st.lists(SIXTEENTHS, min_size=dimension, max_size=dimension), min_size=2, max_size=6)


@settings(max_examples=100, deadline=None)
@given(clouds(3), st.lists(SIXTEENTHS, min_size=3, max_size=3))
@example([[0.0625, 0.0, 0.0]] * 2, [-2.0, 0.0, 0.0])  # a bias that turns the step round
def test_lemma_on_clouds_of_any_shape(cloud: list[list[float]], bias: list[float]) -> None:
    """Also with u = 0 among the outcomes, and with a bias."""
    u, w = torch.tensor(cloud, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64)
    mean = u.mean(0)
    s = (u - mean).square().sum(-1).mean().sqrt()
    direction = torch.nan_to_num(u / u.norm(dim=-1, keepdim=True)).mean(0)
    if mean.norm() > 0:
        lost = mean.norm() - mean @ direction
        assert lost <= normalized_step.NOISE(G=mean.norm(), s=s) + 1e-12
        assert lost <= normalized_step.SIMPLE(s=s) + 1e-12
    g = mean + w
    assert g.norm() - g @ direction <= normalized_step.BIASED(s=s, e=w.norm()) + 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([2.0**-20, 0.25, 1.0]))
def test_worst_noise_has_the_moments_it_says(g: int, s: int, tilt: float) -> None:
    """Mean 0 and variance s^2, and at a small tilt the lemma's loss."""
    problem = BallHuber(torch.ones(1), torch.ones(1), torch.ones(1), 2)
    slope = torch.tensor([[0.6, -0.8]], dtype=torch.float64) * g / 16
    p = 1 / (1 + (s / g) ** 2 / (1 + tilt) ** 2)
    often, rarely = (
        normalized_step.worst_noise(problem, slope, s / 16, torch.tensor([[u]], dtype=torch.float64), tilt)
        for u in (1 - 2.0**-40, 0.0)
    )
    assert (p * rarely + (1 - p) * often).norm() < 1e-9
    variance = p * rarely.square().sum() + (1 - p) * often.square().sum()
    assert float(variance) == pytest.approx((s / 16) ** 2)
    if tilt < 1e-3:
        lost = slope.norm() * (1 - p + (1 - p))
        assert float(lost) == pytest.approx(float(normalized_step.NOISE(G=g / 16, s=s / 16)), rel=1e-4)


def played(problem, x, lr, phi, steps, rounds):
    """Mean gradient and mean error of the core with a follower of K steps of size 1/l_yy."""

    def see(seen: Round) -> dict[str, torch.Tensor]:
        grad = problem.grad_phi(seen.x)
        error = problem.grad_x(seen.x, seen.y) - grad
        return {"G": layer_norms(problem, grad).sum(-1), "e": layer_norms(problem, error).sum(-1)}

    rho = 1 / float(problem.constants.l_yy[0])
    seen = play(problem, x, normalized(lr, phi=phi), follower(rho, steps), rounds=rounds, observe=see)
    return seen["G"].mean(0), seen["e"].mean(0), seen["final"]


@settings(max_examples=40, deadline=None)
@given(
    st.data(),
    st.sampled_from([1.0, 0.25, 0.0625]),
    st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.125, 0.25)]),
    st.integers(1, 3),
    st.integers(1, 12),
)
def test_rate_on_the_core(data: st.DataObject, lr: float, phi: tuple[float, float], steps: int, rounds: int) -> None:
    """Any layers, step size, bounds of phi and number of ascent steps; the follower's error as it is.

    Quadratic games may be unbounded below: the proof needs only Phi(x_0) - Phi(x_T), which is D here.
    """
    problem = data.draw(st.one_of(quadratics(), ball_hubers()))
    x, _ = data.draw(points(problem))
    measured, error, final = played(problem, x, lr, phi, steps, rounds)
    bound = scala_rate.RATE(
        D=problem.phi(x) - problem.phi(final), L=problem.constants.L.sum(-1), eta=lr, alpha_l=phi[0], alpha_u=phi[1],
        sigma=0.0, b=1.0, e=error, T=rounds,
    )  # fmt: skip
    assert (measured <= bound * (1 + 1e-9) + 1e-9).all()


@given(st.integers(1, 12), st.sampled_from([0.25, 1.0, 4.0]))
@settings(max_examples=20, deadline=None)
def test_rate_is_an_equality_on_the_way_down_a_parabola(rounds: int, L: float) -> None:
    """From x = T eta the core lands in the minimum, and every step of the proof is an equality."""
    problem = Quadratic.oscillator(torch.tensor([[L]]), torch.ones(1))
    x = torch.tensor([[rounds * 0.5]], dtype=torch.float64)
    measured, error, _ = played(problem, x, 0.5, (1.0, 1.0), 1, rounds)
    assert float(error) == 0
    values = {"D": problem.phi(x), "L": L, "eta": 0.5, "alpha_l": 1.0, "alpha_u": 1.0, "sigma": 0.0, "b": 1.0, "e": error}
    assert float(measured) == pytest.approx(float(scala_rate.RATE(T=rounds, **values)), rel=1e-12)


def test_uphill_bias_travels_for_ever_and_costs_twice() -> None:
    """A periodic orbit: over a period the errors are half of the gradients, whatever the number of periods."""
    one = torch.ones(1, dtype=torch.float64)
    wave = Wave(one, 2 * one, 16 * one, 8 * one)
    period = round(float(wave.period))
    assert float(wave.period) == period
    x = torch.tensor([[0.5]], dtype=torch.float64)

    def see(seen: Round) -> dict[str, torch.Tensor]:
        grad = wave.grad_phi(seen.x)
        return {"G": grad.abs()[:, 0], "e": (seen.u - grad).abs()[:, 0]}

    seen = play(
        wave, x, normalized(1.0), None, rounds=2 * period, observe=see, noise=lambda _, at: wave.uphill_bias(at)
    )  # fmt: skip
    assert float(seen["final"] - x) == 2 * period
    G, e = (seen[name].reshape(2, period).sum(1) for name in ("G", "e"))
    assert float(G[0]) == pytest.approx(float(G[1]))
    assert float(G[0]) == pytest.approx(2 * float(e[0]), rel=1e-5)


positive = st.integers(1, 64).map(lambda k: k / 8)


@given(positive, positive, positive, positive, positive, positive)
def test_law_and_steps_are_inverse(D: float, L: float, sigma: float, b: float, T: float, a: float) -> None:
    """The steps to the error that the rate gives at T are T; batches of b* make its two terms equal."""
    values = {"D": D, "L": L, "sigma": sigma}
    error = float(scala_rate.BEST(T=T, b=b, e=0.0, alpha_l=1.0, alpha_u=a, **values))
    assert float(batch_size.STEPS(epsilon=error, a=a, b=b, **values)) == pytest.approx(T, rel=1e-6)
    b_star = sigma**2 * T / (2 * D * L)
    assert float(scala_rate.BEST(T=T, b=b_star, e=0.0, alpha_l=1.0, alpha_u=a, **values)) == pytest.approx(
        2 * a * sigma / b_star**0.5
    )


@given(positive, positive, positive, positive, positive, st.floats(1.01, 1000))
def test_no_batch_needs_fewer_samples(D: float, L: float, sigma: float, epsilon: float, a: float, over: float) -> None:
    """The minimum is at four times the least batch, where it takes four times the steps without noise."""
    values = {"D": D, "L": L, "sigma": sigma, "epsilon": epsilon, "a": a}
    least = (a * sigma / epsilon) ** 2
    fewest = float(batch_size.SAMPLES(**values))
    assert over * least * float(batch_size.STEPS(b=over * least, **values)) >= fewest * (1 - 1e-9)
    critical = float(batch_size.STEPS(b=4 * least, **values))
    assert 4 * least * critical == pytest.approx(fewest)
    assert critical == pytest.approx(4 * 2 * D * L * (a / epsilon) ** 2)


@given(positive, positive, positive, positive, positive, positive)
def test_best_batch_for_a_budget(D: float, L: float, sigma: float, N: float, a: float, b: float) -> None:
    """sigma sqrt(N / 2DL) attains the least error."""

    def error(b: float) -> float:
        return float(scala_rate.BEST(D=D, L=L, sigma=sigma, T=N / b, b=b, e=0.0, alpha_l=1.0, alpha_u=a))

    least = float(batch_size.BUDGET(D=D, L=L, sigma=sigma, N=N, a=a))
    assert error(b) >= least * (1 - 1e-9)
    assert error(sigma * (N / (2 * D * L)) ** 0.5) == pytest.approx(least)
