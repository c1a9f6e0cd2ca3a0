"""Momentum and the second moment, on instances that the theorems' own attacks do not draw."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from convergence.play import Round, follower, layer_norms, normalized, play
from convergence.theorems import momentum, second_moment
from scala import Lamb
from toy_problems import MinMaxProblem, Quadratic, Wave, oscillator_start, strategies

ENTRIES = st.integers(-64, 64).map(lambda n: n / 16)
BETAS = st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99])


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


@st.composite
def histories(draw: st.DrawFn, low: int = -64) -> Tensor:
    """Gradients of one layer, [rounds, d], without zeros."""
    rounds, d = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    entries = st.integers(low, 64).map(lambda n: (n or 1) / 64)
    flat = draw(st.lists(entries, min_size=rounds * d, max_size=rounds * d))
    return torch.tensor(flat, dtype=torch.float64).reshape(rounds, d)


def steps(history: Tensor, **options: object) -> tuple[Lamb, nn.Parameter, Tensor]:
    """The core's moves, [rounds, d], for given gradients."""
    layer = nn.Parameter(torch.zeros_like(history[:1]))
    leader = normalized(1.0, **options)([layer])
    seen = [layer.detach().clone()]
    for gradient in history:
        layer.grad = gradient[None].clone()
        leader.step()
        seen.append(layer.detach().clone())
    assert isinstance(leader, Lamb)
    return leader, layer, torch.cat(seen).diff(dim=0)


# --- momentum -----------------------------------------------------------------------------------------------------------


@given(histories(), BETAS)
@example(torch.tensor([[1.0], [-31 / 64]], dtype=torch.float64), 0.5)  # a short average against the gradient: nearly sharp
def test_the_cores_momentum_is_the_weighted_mean_and_loses_twice_its_error(history: Tensor, beta: float) -> None:
    leader, layer, moved = steps(history, momentum=beta)
    n = len(history)
    weights = (1 - beta) * beta ** torch.arange(n - 1, -1, -1, dtype=torch.float64) / (1 - beta**n)
    mean = weights @ history
    torch.testing.assert_close(leader.state[layer]["exp_avg"][0], (1 - beta**n) * mean)
    gradient = history[-1]
    lost = gradient.norm() + gradient @ moved[-1]  # the move is minus the direction
    assert lost <= momentum.LOSS(e=(mean - gradient).norm()) * (1 + 1e-9) + 1e-12


@given(BETAS, st.integers(1, 40))
def test_weights_have_the_certified_sums(beta: float, n: int) -> None:
    weights = beta ** torch.arange(n, dtype=torch.float64)
    weights = weights / weights.sum()
    q, z = (1 - beta) / (1 + beta), beta**n
    assert weights.square().sum().item() == close(q * (1 + z) / (1 - z))
    assert (weights * torch.arange(n)).sum().item() <= float(momentum.LAG(q=q)) * (1 + 1e-12)


@given(st.one_of(strategies.ball_hubers(), strategies.waves()), st.data())
def test_gradients_drift_no_faster_than_smoothness_allows(problem: MinMaxProblem, data: st.DataObject) -> None:
    # Phi is convex, or a wave, as steep upwards as downwards: the declared L is two-sided.
    x, _ = data.draw(strategies.points(problem))
    z, _ = data.draw(strategies.points(problem))
    change = layer_norms(problem, problem.grad_phi(z) - problem.grad_phi(x)).sum(-1)
    longest = layer_norms(problem, z - x).amax(-1)
    assert problem.constants.L is not None
    bound = momentum.DRIFT(Lambda=problem.constants.L.sum(-1), eta=longest, alpha_u=1.0)
    assert (change <= bound * (1 + 1e-9) + 1e-12).all()


@given(strategies.waves(), BETAS, st.sampled_from([0.5, 0.125, 0.03125]), st.integers(1, 24), st.data())
def test_the_rate_on_waves(problem: Wave, beta: float, eta: float, rounds: int, data: st.DataObject) -> None:
    x, _ = data.draw(strategies.points(problem))

    def observe(now: Round) -> dict[str, Tensor]:
        return {"g": layer_norms(problem, problem.grad_phi(now.x)).sum(-1)}

    seen = play(problem, x, normalized(eta, momentum=beta, phi=(0.5, 2.0)), None, rounds=rounds, observe=observe)
    assert problem.constants.L is not None
    bound = momentum.RATE(
        alpha_l=0.5, alpha_u=2.0, eta=eta, T=float(rounds), D=problem.phi(x), Lambda=problem.constants.L.sum(-1), S=0.0,
        q=(1 - beta) / (1 + beta), ebar=0.0,
    )  # fmt: skip
    assert (seen["g"].mean(0) <= bound * (1 + 1e-9)).all()


@given(st.floats(0.5, 4), st.sampled_from([1.0, 0.25]))
def test_the_oscillator_attains_drift_and_curvature(L: float, eta: float) -> None:
    curvatures = torch.tensor([[L, 1.0]], dtype=torch.float64)
    problem = Quadratic.oscillator(curvatures, torch.ones(1, dtype=torch.float64))
    x = oscillator_start(eta, curvatures)

    def observe(now: Round) -> dict[str, Tensor]:
        return {"g": problem.grad_phi(now.x)}

    gradients = play(problem, x, normalized(eta), follower(1.0), rounds=20, observe=observe)["g"]
    change = gradients.diff(dim=0).abs().sum(-1)
    torch.testing.assert_close(change, momentum.DRIFT(Lambda=L + 1, eta=eta, alpha_u=1.0).expand_as(change))
    bound = momentum.RATE(
        alpha_l=1.0, alpha_u=1.0, eta=eta, T=20.0, D=problem.phi(x), Lambda=L + 1, S=0.0, q=1.0, ebar=0.0
    )  # fmt: skip
    share = float(gradients.abs().sum(-1).mean() / bound)
    assert 0.98 < share <= 1


@given(*(st.floats(0.1, 10) for _ in range(3)), st.floats(0, 1), st.integers(2, 10_000))
def test_tuned_is_the_rate_at_the_tuned_choices_but_for_one_term(D: float, L: float, S: float, e: float, T: int) -> None:
    q = min(1.0, (D * L / T) ** 0.5 / S)
    eta = (q * D / (T * L)) ** 0.5 / 2
    values = {"alpha_l": 0.5, "alpha_u": 2.0, "D": D, "Lambda": L, "S": S, "T": float(T), "ebar": e}
    rate, tuned = float(momentum.RATE(eta=eta, q=q, **values)), float(momentum.TUNED(**values))
    if q < 1:
        assert tuned - rate == close(eta * 2.0**2 * L / (2 * 0.5))


# --- second moment ------------------------------------------------------------------------------------------------------


@given(histories(), BETAS, st.sampled_from(["paper", "debiased"]))
def test_the_cores_step_descends_as_far_as_promised(history: Tensor, beta_2: float, dialect: str) -> None:
    _, _, moved = steps(history, dialect=dialect, betas=(0.0, beta_2), eps=0.0)
    for t, (u, move) in enumerate(zip(history, moved, strict=True)):
        bound = second_moment.PROGRESS(
            U=u.square().sum(), G=history.abs().max(), d=float(len(u)), beta_2=beta_2, n=float(t + 1)
        )
        assert -(u @ move) >= bound * (1 - 1e-9)


@given(st.integers(1, 5), BETAS, st.integers(1, 30))
def test_one_steady_entry_among_sleepers_attains_it(d: int, beta_2: float, rounds: int) -> None:
    history = torch.full((rounds, d), 1e-12, dtype=torch.float64)
    history[-1], history[:, 0] = 1e-7, 1.0
    _, _, moved = steps(history, dialect="debiased", betas=(0.0, beta_2), eps=0.0)
    bound = second_moment.PROGRESS(U=1.0, G=1.0, d=float(d), beta_2=beta_2, n=float(rounds))
    assert -(history[-1] @ moved[-1]).item() == pytest.approx(float(bound), rel=1e-4)
