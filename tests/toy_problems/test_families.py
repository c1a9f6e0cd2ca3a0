"""The numbers that make each family known: formulas, thresholds, cycles, growth factors, sharp ratios."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toy_problems import (
    AbsoluteWell,
    BallHuber,
    Bilinear,
    DiracGAN,
    EmbeddingTransformer,
    Forsaken,
    Hopf,
    MinMaxProblem,
    Quadratic,
    RobustLeastSquares,
    RobustLogisticRegression,
    Sigmoid,
    Stall,
    Wave,
    oscillator_start,
    strategies,
)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def descent_ascent(
    problem: MinMaxProblem, x: Tensor, y: Tensor, step: float, ratio: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    return x - step * problem.grad_x(x, y), problem.project_y(y + step * ratio * problem.grad_y(x, y))


def joint_norm(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], -1).norm(dim=-1)


# --- quadratics ---------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 1), st.floats(0.1, 10))
def test_the_extremal_quadratic_attains_danskins_constants(inverse_kappa: float, ell: float) -> None:
    problem = Quadratic.extremal(t(ell), t(ell * inverse_kappa))
    c = problem.constants
    assert c.l.item() == pytest.approx(ell)
    assert problem.hessian_phi.item() == pytest.approx((c.kappa * c.l).item())
    assert problem.y_star(t(1)[None]).item() == pytest.approx(math.sqrt(max(c.kappa.item() ** 2 - 1, 0)), abs=1e-6)


@given(strategies.quadratics())
def test_layer_smoothness_never_exceeds_the_theorys(problem: Quadratic) -> None:
    """L_i(Phi) <= L_i(f) + beta_i sum_j beta_j / mu, with L_i(f) the same rule applied to A."""
    of_f = Quadratic(problem.A, 0 * problem.B, problem.C, problem.layers).constants.L
    c = problem.constants
    assert (of_f + c.beta * c.beta.sum(1, keepdim=True) / c.mu[:, None] - c.L >= -1e-9 * (1 + c.L)).all()


def test_a_ball_that_binds_solves_the_trust_region_problem() -> None:
    problem = Quadratic(torch.zeros(1, 2, 2), torch.eye(2)[None], torch.diag_embed(t(1e-6, 100))[None], omega=t(2))
    for x in (t(1, 1), t(1e-9, 1e-7), t(0, 3), t(1e5, -1e-5), t(0, 0)):
        y = problem.y_star(x[None])
        nu = problem.grad_y(x[None], y)  # the optimality condition: grad_y f = nu y, nu >= 0, nu = 0 inside
        assert y.norm() <= 2 * (1 + 1e-12)
        assert (nu * y).sum() >= -1e-12
        torch.testing.assert_close(nu * y.norm(), nu.norm() * y, rtol=1e-8, atol=1e-8)
        if y.norm() < 2 * (1 - 1e-9):
            torch.testing.assert_close(nu, 0 * nu)


def test_ball_huber_is_the_quadratic_with_unit_matrices_and_hubers_function() -> None:
    b, mu, omega = t(1, 2, 0.5), t(0.5, 0.1, 2), t(0.3, 2, 5)
    huber, eye = BallHuber(b, mu, omega, d=2), torch.eye(2)
    general = Quadratic(torch.zeros(3, 2, 2), b[:, None, None] * eye, mu[:, None, None] * eye, omega=omega)
    x = randn(50, 3, 2) * 10 ** randn(50, 1, 1, seed=1)
    for name in ("f", "grad_x", "grad_y"):
        y = huber.project_y(randn(50, 3, 2))
        torch.testing.assert_close(getattr(huber, name)(x, y), getattr(general, name)(x, y))
    for name in ("phi", "grad_phi", "y_star"):
        torch.testing.assert_close(getattr(huber, name)(x), getattr(general, name)(x))
    for name in ("l", "mu", "l_xx", "l_xy", "l_yy", "beta", "L"):
        torch.testing.assert_close(getattr(huber.constants, name), getattr(general.constants, name))
    inside, outside = t(0.1, 0)[None, None], t(3, 4)[None, None]
    one = BallHuber(t(1), t(0.5), t(2), d=2)
    assert one.phi(inside).item() == pytest.approx(0.01 / (2 * 0.5))
    assert one.phi(outside).item() == pytest.approx(2 * 5 - 0.5 * 4 / 2)


# --- sigmoid ------------------------------------------------------------------------------------------------------------


def test_the_range_of_the_sigmoids_second_derivative_is_exact() -> None:
    no_game = Quadratic(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    problem = Sigmoid(torch.ones(1, 1, 1), no_game)
    x = torch.linspace(-20, 20, 400_001, dtype=torch.float64).reshape(-1, 1, 1).requires_grad_()
    (second,) = torch.autograd.grad(problem.grad_phi(x).sum(), x)
    assert second.max().item() == pytest.approx(2, abs=1e-12)
    assert second.min().item() == pytest.approx(-0.5, abs=1e-12)
    assert problem.constants.l_xx.item() == 2


# --- bilinear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_bilinear_growth_factors(step: float) -> None:
    rotation = torch.linalg.qr(randn(3, 2, 2))[0]
    problem = Bilinear(rotation * t(0.5, 1, 1.5)[:, None, None])
    x, y = randn(3, 2, seed=1), randn(3, 2, seed=2)
    after = descent_ascent(problem, x, y, step)
    torch.testing.assert_close(joint_norm(*after) / joint_norm(x, y), problem.descent_ascent_growth(step))
    torch.testing.assert_close(problem.descent_ascent_growth(step)[1].item(), math.sqrt(1 + step**2))
    half_x, half_y = after
    extra = x - step * problem.grad_x(half_x, half_y), y + step * problem.grad_y(half_x, half_y)
    torch.testing.assert_close(joint_norm(*extra) / joint_norm(x, y), problem.extragradient_factor(step))
    torch.testing.assert_close(problem.extragradient_factor(step)[1].item(), math.sqrt(1 - step**2 + step**4))


@pytest.mark.parametrize(("relative", "bounded"), [(0.5, True), (0.99, True), (1.01, False)])
def test_alternating_steps_are_bounded_below_the_threshold_only(relative: float, bounded: bool) -> None:
    problem = Bilinear(randn(4, 2, 3))
    step = (relative * problem.alternating_threshold)[:, None]
    x, y = randn(4, 2, seed=1), randn(4, 3, seed=2)
    start = joint_norm(x, y)
    for _ in range(1000):
        x = x - step * problem.grad_x(x, y)
        y = y + step * problem.grad_y(x, y)
    growth = joint_norm(x, y) / start
    assert (growth < 20).all() if bounded else (growth > 1e6).all()


# --- stall --------------------------------------------------------------------------------------------------------------


def test_layerwise_normalised_steps_stall_and_the_gradient_does_not_shrink() -> None:
    problem = Stall(t(0.1, 0.5, 0.9), t(1, 2, 0.5))
    start = t(2.0, 2.0).expand(3, 2)
    x = start.clone()
    least = problem.eps * problem.omega * 2**0.5
    for k in range(2000):
        x = x - 0.05 / (1 + k) ** 0.5 * problem.grad_phi(x).sign()
        assert (problem.moreau_gradient(x).norm(dim=-1) >= least * (1 - 1e-12)).all()
    torch.testing.assert_close(problem.invariant(x), problem.invariant(start))
    assert (problem.phi(x) >= 3.99 * problem.eps * problem.omega).all()

    x = start.clone()
    for k in range(4000):  # normalised as a whole, the same game is solved
        g = problem.grad_phi(x)
        x = x - 0.3 / (1 + k) ** 0.5 * g / g.norm(dim=-1, keepdim=True)
    assert (problem.phi(x) < 0.02).all()


def test_the_moreau_gradient_of_the_stall_is_that_of_the_proximal_point() -> None:
    problem = Stall(t(0.3), t(1.5))
    ell = problem.constants.l
    for x in (t(2, 1), t(0.1, -0.2), t(0.4, 0.3), t(-1, 0.05), t(0.01, 0.02)):
        gradient = problem.moreau_gradient(x[None])[0]
        near = x - gradient / (2 * ell)  # grad Phi_{1/2l}(x) = 2 l (x - prox)
        others = near + 10 ** torch.linspace(-4, 0, 30)[:, None, None] * randn(30, 100, 2)

        def objective(z: Tensor, x: Tensor = x) -> Tensor:
            return problem.phi(z.unsqueeze(-2))[..., 0] + ell * (z - x).square().sum(-1)

        assert (objective(others) >= objective(near) - 1e-12).all()


def test_the_stalled_gradient_bound_needs_a_start_away_from_the_valley() -> None:
    problem = Stall(t(0.5), t(1))
    edge = 0.5 / 2**0.5  # |x_1 + x_2| = eps omega / sqrt(2)
    sizes = [problem.moreau_gradient(t(s / 2, s / 2)[None]).norm().item() for s in (edge, 0.5 * edge)]
    assert sizes[0] == pytest.approx(0.5 * 2**0.5)
    assert sizes[1] == pytest.approx(sizes[0] / 2)


# --- rotating games -----------------------------------------------------------------------------------------------------


def hopf_tail(tau: Tensor, step: float, steps: int) -> Tensor:
    """Largest |x| over the last tenth of a run, for every tau."""
    one = torch.ones_like(tau)
    problem, x = Hopf(one, 1.2 * one, 0.5 * one, one), 0.3 * one[:, None]
    y, tail = x, torch.zeros_like(x)
    for k in range(steps):
        x, y = descent_ascent(problem, x, y, step, tau[:, None])
        if k >= 0.9 * steps:
            tail = torch.maximum(tail, x.abs())
    return tail[:, 0]


def test_hopf_cycle_appears_below_the_threshold() -> None:
    problem = Hopf(t(1), t(1.2), t(0.5), t(1))
    step = 0.05
    threshold = problem.threshold(step)
    tau = threshold * t(0.9, 0.96, 1.04, 1.1)
    tail = hopf_tail(tau, step, 12_000)
    for k in (0, 1):
        assert tail[k].item() == pytest.approx(problem.cycle_amplitude(tau[k].item(), step).item(), rel=0.06)
    assert (tail[2:] < 1e-3).all()
    assert problem.cycle_amplitude(tau[3].item(), step).item() == 0


def test_hopf_threshold_is_where_the_linear_map_has_unit_eigenvalues() -> None:
    problem = Hopf(t(1, 0.3), t(1.2, -2), t(0.5, 0.2), t(1, 1))
    assert problem.threshold().tolist() == [2.0, pytest.approx(1.5)]
    assert (problem.threshold() < problem.constants.kappa).all()
    step, tau = 0.02, problem.threshold(0.02)
    rows = torch.stack([problem.a, -problem.b, tau * problem.b, -tau * problem.c], -1).reshape(2, 2, 2)
    radius = torch.linalg.eigvals(torch.eye(2) + step * rows).abs()
    torch.testing.assert_close(radius, torch.ones_like(radius))
    assert problem.threshold(10.0).isinf().all()


def test_hopf_amplitude_of_the_small_step_run() -> None:
    """At tau = 1.95 the flow's amplitude is .183 to leading order; .196 is what a step of .002 adds."""
    problem = Hopf(t(1), t(1.2), t(0.5), t(1))
    assert problem.cycle_amplitude(1.95).item() == pytest.approx(0.1826, abs=1e-4)
    assert problem.cycle_amplitude(1.95, 0.002).item() == pytest.approx(0.1956, abs=1e-4)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 2))
def test_dirac_gan_growth_identity(a: float, b: float, step: float) -> None:
    problem, x, y = DiracGAN(t(3)), t(a)[None], t(b)[None]
    before, after = joint_norm(x, y), joint_norm(*descent_ascent(problem, x, y, step))
    torch.testing.assert_close(after, problem.descent_ascent_growth(x, y, step) * before, rtol=1e-12, atol=0)


def test_dirac_gan_kink_and_region() -> None:
    problem = DiracGAN(t(2), t(1.5))
    assert problem.phi(t(0)[None]).item() == pytest.approx(-math.log(2))
    grid = torch.linspace(-2, 2, 401, dtype=torch.float64)
    x, y = (z.reshape(-1, 1, 1) for z in torch.meshgrid(grid, 0.75 * grid, indexing="ij"))
    step = 1e-5
    mixed = (problem.grad_x(x, y + step) - problem.grad_x(x, y - step)).abs().max() / (2 * step)
    assert mixed.item() == pytest.approx(problem.constants.l_xy.item(), rel=1e-4)


def test_forsaken_critical_point_and_eigenvalues() -> None:
    problem = Forsaken(t(2))
    x, y = problem.critical_point
    assert (round(x.item(), 4), round(y.item(), 4)) == (0.0780, 0.4119)
    assert problem.grad_x(x, y).abs().item() < 1e-15
    assert problem.grad_y(x, y).abs().item() < 1e-15
    values = problem.eigenvalues
    assert values.real.tolist() == pytest.approx([0.0447, 0.0447], abs=1e-4)
    assert values.imag.abs().tolist() == pytest.approx([0.908, 0.908], abs=1e-3)


def test_forsaken_attracts_from_inside_and_cycles_outside() -> None:
    problem = Forsaken(t(2, 2))
    centre = torch.cat(problem.critical_point, -1)
    start = centre + t(0.05, 0.4)[:, None] * t(1, 0)

    def run(step: float, steps: int, extra: bool) -> Tensor:
        x, y = start.split(1, -1)
        distances = []
        for _ in range(steps):
            ahead = descent_ascent(problem, x, y, step) if extra else (x, y)
            x, y = x - step * problem.grad_x(*ahead), y + step * problem.grad_y(*ahead)
            distances.append((torch.cat([x, y], -1) - centre).norm(dim=-1))
        return torch.stack(distances[-200:])

    for extra in (False, True):
        tail = run(0.04, 5000, extra)
        assert tail[:, 0].max() < 0.01
        assert 0.9 < tail[:, 1].min() < 0.95
        assert 1.8 < tail[:, 1].max() < 2
    assert problem.step_threshold == pytest.approx(0.1083, abs=1e-4)
    assert run(1.05 * problem.step_threshold, 5000, extra=False)[:, 0].min() > 0.05


def test_absolute_well() -> None:
    problem = AbsoluteWell(t(2), t(1.5))
    assert problem.phi(t(0.5)[None]).item() == pytest.approx(2 * 0.75)
    assert problem.grad_phi(t(0.5)[None]).item() == pytest.approx(-2)
    assert [problem.phi(x).item() for x, _ in problem.stationary_points()] == [0, 0, 2]


# --- robust regression --------------------------------------------------------------------------------------------------


def test_robust_losses_match_the_textbook_formulas() -> None:
    a, b, x, omega = randn(2, 4, 3), randn(2, 4, seed=1), randn(2, 3, seed=2), t(0.3, 1)
    margin, norm = (a @ x[..., None])[..., 0], (omega * x.norm(dim=-1))[:, None]
    logistic = RobustLogisticRegression(a, b.sign(), omega, t(9, 9))
    torch.testing.assert_close(logistic.phi(x), torch.log1p(torch.exp(-b.sign() * margin + norm)).sum(-1))
    squares = RobustLeastSquares(a, b, omega, t(9, 9))
    torch.testing.assert_close(squares.phi(x), ((margin - b).abs() + norm).square().sum(-1))


@settings(max_examples=40)
@given(
    st.one_of(strategies.robust_logistic_regressions(batch=3), strategies.robust_least_squares(batch=3)),
    st.data(),
    st.sampled_from([0.1, 1.0, 10.0, 100.0]),
)
def test_one_ascent_step_is_exact_when_it_reaches_the_sphere(
    problem: RobustLogisticRegression | RobustLeastSquares, data: st.DataObject, rho: float
) -> None:
    x, _ = data.draw(strategies.points(problem))
    zero = torch.zeros(3, problem.d_y, dtype=torch.float64)
    y = problem.project_y(zero + rho * problem.grad_y(x, zero))
    lands = ((y - problem.y_star(x)).abs() < 1e-9).all(-1)
    exact = problem.one_step_is_exact(x, rho)
    assert (lands | ~exact).all()
    short = rho * problem.grad_y(x, zero).unflatten(-1, (problem.samples, -1)).norm(dim=-1) < 0.999 * problem.omega[:, None]
    assert not (exact & short.any(-1)).any()


# --- transformer --------------------------------------------------------------------------------------------------------


def test_the_transformer_is_the_one_of_its_formula() -> None:
    E, labels, y, x = randn(1, 2, 3, 2), t(1, -1)[None], randn(1, 12, seed=1), randn(1, 10, seed=2)
    Q, V, w = x[0, :4].reshape(2, 2), x[0, 4:8].reshape(2, 2), x[0, 8:]
    losses = []
    for j in range(2):
        tokens = E[0, j] + y[0].reshape(2, 3, 2)[j]
        logit = 0.0
        for query in tokens:
            weights = torch.exp(torch.stack([query @ Q @ key for key in tokens]) / math.sqrt(2))
            mixed = sum(weight * token for weight, token in zip(weights / weights.sum(), tokens, strict=True)) @ V
            logit = logit + torch.tanh(query + mixed) @ w / 3
        losses.append(torch.log(1 + torch.exp(-labels[0, j] * logit)))
    problem = EmbeddingTransformer(E, labels, t(1))
    assert problem.f(x, y).item() == pytest.approx(sum(losses).item() / 2, rel=1e-12)


# --- the four sharp instances of theorem (d) ----------------------------------------------------------------------------


def normalised_run(problem: MinMaxProblem, x: Tensor, step: float, steps: int, noise=None) -> tuple[Tensor, Tensor]:
    """Mean over the run of sum_i |grad_i Phi| for scalar layers, and the last x."""
    total = torch.zeros(problem.batch, dtype=torch.float64)
    for _ in range(steps):
        g = problem.grad_phi(x)
        total += g.abs().sum(-1)
        x = x - step * (g if noise is None else g + noise(x)).sign()
    return total / steps, x


def rate(problem: MinMaxProblem, x: Tensor, step: float, steps: int) -> Tensor:
    """The two terms D/(eta T) + eta |L|_1/2, for inf Phi = 0."""
    return problem.phi(x) / (step * steps) + step * problem.constants.L.sum(1) / 2


def test_the_slope_is_sharp_for_the_distance_term() -> None:
    step, steps = 0.01, 2000
    problem, x = BallHuber.slope(t(1, 3), step, steps)
    mean, _ = normalised_run(problem, x, step, steps)
    torch.testing.assert_close(mean, t(1, 3))
    torch.testing.assert_close(rate(problem, x, step, steps), t(1, 3) * (1 + steps**-0.5))


def test_the_oscillator_is_sharp_for_the_curvature_term() -> None:
    L, step, steps = t(1, 4, 2)[None], 0.1, 1000
    problem = Quadratic.oscillator(L, t(0.5))
    torch.testing.assert_close(problem.constants.L, L)
    start = oscillator_start(step, L)
    torch.testing.assert_close(problem.phi(start), (L * start**2).sum(1) / 2)
    mean, _ = normalised_run(problem, start, step, steps)
    assert mean.item() == pytest.approx(step * 7 / 2)
    assert 0.999 < (mean / rate(problem, start, step, steps)).item() < 1


def test_the_triangle_wave_is_sharp_for_the_noise_term() -> None:
    """With 1 * sigma the bound holds; with 0.9 * sigma it is violated."""
    batch, step, steps = 200, 1e-3, 2000
    one = torch.ones(batch, dtype=torch.float64)
    problem, generator = Wave.triangle(one, 20 * one, 0.2 * one), torch.Generator().manual_seed(0)
    lowest, _ = problem.stationary_points()[0]
    start = lowest + 0.18

    def noise(x: Tensor) -> Tensor:
        return problem.two_point_noise(x, torch.rand(x.shape, generator=generator, dtype=x.dtype))

    mean, _ = normalised_run(problem, start, step, steps, noise)
    others = rate(problem, start, step, steps).mean()
    assert others < 0.1
    assert 0.9 + others < mean.mean() <= 1 + others


def test_two_point_noise_is_unbiased_with_the_declared_variance() -> None:
    problem = Wave(t(1), t(3), t(2), t(0.1))
    uniform = (torch.arange(300_003, dtype=torch.float64) + 0.5).reshape(-1, 1, 1) / 300_003
    for x in (t(1), t(2.3), t(2.02)):
        g, tilt = problem.grad_phi(x[None]), 0.5
        noise = problem.two_point_noise(x[None].expand_as(uniform), uniform, tilt)
        assert noise.mean().item() == pytest.approx(0, abs=1e-4)
        assert noise.square().mean().item() == pytest.approx((g**2 * (1 + tilt)).item(), rel=1e-4)
        assert (g + noise).unique().tolist() == pytest.approx(sorted([2 * g.item(), -tilt * g.item()]))


def test_the_sawtooth_is_sharp_for_the_bias_term() -> None:
    """The mean gradient is twice the mean error, and nearly twice the largest error on a steep enough sawtooth."""
    problem, step = Wave(t(1), t(50), t(4), t(0.05)), 0.004
    steps = round(2 * problem.period.item() / step)
    errors = []

    def bias(x: Tensor) -> Tensor:
        errors.append(problem.uphill_bias(x).abs().item())
        return problem.uphill_bias(x)

    mean, end = normalised_run(problem, torch.zeros(1, 1, dtype=torch.float64), step, steps, bias)
    assert end.item() == pytest.approx(steps * step)  # to the right for ever
    assert mean.item() == pytest.approx(2 * sum(errors) / steps, rel=0.03)
    assert max(errors) == pytest.approx(1, rel=1e-5)
    assert mean.item() > 1.85


@given(strategies.waves())
def test_waves_are_periodic_and_start_their_slopes_where_they_say(problem: Wave) -> None:
    x = torch.linspace(0.0, 1.0, 37, dtype=torch.float64)[:, None, None] * torch.ones(1, problem.d, dtype=torch.float64)
    x = x * problem.period[:, None]
    torch.testing.assert_close(problem.phi(x + problem.period[:, None]), problem.phi(x), rtol=1e-9, atol=1e-9)
    assert (problem.phi(x) >= -1e-12).all()
    (valley, zero), (peak, _) = problem.stationary_points()
    torch.testing.assert_close(problem.phi(valley), 0 * zero[:, 0], atol=1e-12, rtol=0)
    assert (problem.phi(peak) >= problem.phi(x) - 1e-12).all()
    middle = (problem.length / 2)[:, None].expand(-1, problem.d)
    torch.testing.assert_close(problem.grad_phi(middle), problem.shallow[:, None].expand_as(middle))
    fall = (problem.length + problem.corner + problem.steep_length / 2)[:, None].expand(-1, problem.d)
    torch.testing.assert_close(problem.grad_phi(fall), -problem.steep[:, None].expand_as(fall))
