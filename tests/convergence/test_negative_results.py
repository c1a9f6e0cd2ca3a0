"""Where the theory ends: the envelope's rate and the negative results, on instances other than the attacks'."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convergence.play import follower, normalized, play
from convergence.theorems import bilinear, moreau_envelope, separability, stall, time_scale
from convergence.unit_steps import path
from scala import Adversary, Game
from toy_problems import AbsoluteWell, Bilinear, Hopf, Quadratic, RobustLogisticRegression, Stall
from toy_problems.strategies import absolute_wells, bilinears, hopfs, points, quadratics, stalls

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)


def _uniform(seed: int, *shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def _is_proximal(problem: object, l: Tensor, x: Tensor, z: Tensor) -> bool:  # noqa: E741
    """No point near or far beats z."""
    others = z + torch.cat([scale * _uniform(k, 200, *x.shape) for k, scale in enumerate((1e-3, 0.1, 3))])
    value = lambda w: problem.phi(w) + l * (w - x).square().sum(-1)  # noqa: E731
    return bool((value(z) <= value(others) + 1e-12).all())


@given(absolute_wells(), st.floats(-3, 3))
def test_proximal_point_of_the_absolute_well(problem: AbsoluteWell, x: float) -> None:
    l, at = 2 * problem.omega, torch.tensor([[x]], dtype=torch.float64)  # noqa: E741
    assert _is_proximal(problem, l, at, moreau_envelope._absolute_point(problem, l, at))


@given(SEEDS)
def test_proximal_point_of_bilinear_games_and_of_the_kinked_well(seed: int) -> None:
    game = Bilinear(_uniform(seed, 1, 2, 2) + torch.eye(2), omega=torch.ones(1))
    l, x = torch.tensor([1.5], dtype=torch.float64), 2 * _uniform(seed + 1, 1, 2)  # noqa: E741
    assert _is_proximal(game, l, x, moreau_envelope._bilinear_point(game, l, x))
    well = moreau_envelope._KinkedWell(torch.tensor([1.25], dtype=torch.float64), l)
    assert _is_proximal(well, l, x[:, :1], moreau_envelope._well_point(well, x[:, :1]))


@FEW
@given(SEEDS)
def test_proximal_point_of_robust_logistic_regression(seed: int) -> None:
    labels = torch.tensor([[1.0, -1.0, 1.0]])
    model = RobustLogisticRegression(_uniform(seed, 1, 3, 2), labels, torch.tensor([0.1]), torch.tensor([8.0]))
    l, x = torch.ones(1, dtype=torch.float64), 3 + _uniform(seed + 1, 1, 2)  # noqa: E741
    assert _is_proximal(model, l, x, moreau_envelope._logistic_point(model, l, x))


@FEW
@given(absolute_wells(), st.floats(-2, 2), st.sampled_from([0.01, 0.1, 0.5]), st.sampled_from([0.1, 1.0, 1e12]))
def test_envelope_rate_of_the_core_on_absolute_wells(problem: AbsoluteWell, x: float, eta: float, rho: float) -> None:
    l, start = 2 * problem.omega, torch.tensor([[x]], dtype=torch.float64)  # noqa: E741
    point = lambda at: moreau_envelope._absolute_point(problem, l, at)  # noqa: E731
    measured, values = moreau_envelope._played(problem, start, eta, follower(rho), 5, l=l, point=point)
    assume(values["G"] < 1e3)
    assert (measured <= moreau_envelope.RATE(**values) * (1 + 1e-9) + 1e-9).all()


@FEW
@given(stalls(batch=2), SEEDS, st.lists(st.floats(1e-3, 1), min_size=4, max_size=4))
def test_any_equal_steps_leave_the_stalled_sum(problem: Stall, seed: int, steps: list[float]) -> None:
    def leader(layers: list[nn.Parameter]) -> torch.optim.Optimizer:
        made, left = normalized(1.0)(layers), iter(steps)
        made.register_step_pre_hook(lambda *_: made.param_groups[0].update(lr=next(left)))
        return made

    x, tied = 3 * _uniform(seed, 2, 2), stall._TiedStall(problem.eps, problem.omega)
    seen = play(tied, x, leader, follower(stall.EXACT), rounds=4, observe=lambda r: {"at": r.x, "y": r.y})
    assert torch.allclose(seen["y"], problem.y_star(seen["at"]))  # the follower is exact, ties and all
    assert torch.allclose(seen["final"].sum(-1), x.sum(-1), atol=1e-12)
    lower = stall.ENVELOPE(varepsilon=problem.eps, omega=problem.omega, l=2**0.5, u_0=x.sum(-1))
    assert (problem.moreau_gradient(seen["at"]).norm(dim=-1) >= lower * (1 - 1e-9)).all()


@FEW
@given(stalls(batch=2), SEEDS)
def test_the_step_of_size_rho_is_the_answer_regularised_by_its_inverse(problem: Stall, seed: int) -> None:
    x, looked = 2 * _uniform(seed, 2, 2), {"observe": lambda r: {"y": r.y}}
    raw = play(problem, x, normalized(0.1), follower(2.0), rounds=1, **looked)["y"]
    slow = play(problem, x, normalized(0.1), follower(0.5, 100, regularizer=0.5), rounds=1, **looked)["y"]
    assert torch.allclose(raw, slow, atol=1e-9)


def _left(problem: Stall, power: float, adversary: Adversary, rounds: int) -> Tensor:
    x = torch.tensor([[0.7, 0.4]], dtype=torch.float64)
    return play(problem, x, stall._scheduled(0.1, power), adversary, rounds=rounds, observe=lambda r: {})["final"].sum(-1) / 1.1


def test_each_repair_alone_ends_the_stall() -> None:
    eps, omega = torch.tensor([0.5]), torch.tensor([1.0])
    stalled = _left(stall._TiedStall(eps, omega), 0.5, follower(stall.EXACT), 250)
    assert stalled.item() == pytest.approx(1, abs=1e-12)
    assert _left(stall._OneLayer(eps, omega), 0.5, follower(stall.EXACT), 250).abs() < 0.02
    assert _left(Stall(eps, omega), 0.5, follower(2.0, regularizer=0.5), 250).abs() < 0.05


def test_a_follower_of_large_finite_step_leaves_the_stall_when_the_steps_decay() -> None:
    assert _left(Stall(torch.tensor([0.5]), torch.tensor([1.0])), 0.5, follower(1e12), 1000).item() < 0.999


def test_the_clean_loss_beside_the_adversarial_one_does_not_repair_the_stall() -> None:
    problem = stall._TiedStall(torch.tensor([0.5]), torch.tensor([1.0]))
    layers = [nn.Parameter(torch.tensor([[v]], dtype=torch.float64)) for v in (0.7, 0.4)]
    game = Game(normalized(0.01)(layers), follower(stall.EXACT), adversarial_weight=0.5)

    def objective(noise: Tensor | None) -> Tensor:
        y = torch.zeros(1, 2, dtype=torch.float64) if noise is None else noise.reshape(1, 2)
        return problem.f(torch.cat(layers, -1), y).sum()

    for _ in range(200):
        game.round(objective, torch.tensor([[1.0], [1.0]], dtype=torch.float64))
    assert sum(layer.item() for layer in layers) == pytest.approx(1.1, abs=1e-12)


@given(quadratics(batch=2, max_dim=4), SEEDS)
def test_layers_of_quadratic_games_obey_the_coupled_constants(problem: Quadratic, seed: int) -> None:
    x, d = _uniform(seed, 2, 2, problem.d_x)
    bound = separability.SMOOTHNESS(**separability._values(problem, d))
    assert (separability._excess(problem, x, d) <= bound * (1 + 1e-9) + 1e-9).all()


def test_the_trap_is_a_game_that_breaks_the_false_claim_and_attains_the_true_one() -> None:
    one = torch.ones(1, 1, 1)
    game = Quadratic(-torch.eye(2)[None], torch.ones(1, 2, 1), one, (1, 1))
    x, d = _uniform(0, 1, 2), torch.ones(1, 2, dtype=torch.float64)
    assert torch.allclose(game.phi(x), x.prod(-1))
    excess = separability._excess(game, x, d)
    assert excess.item() == pytest.approx(2)  # where L = (0, 0) allows 0
    own = {"Lambda": -d.square().sum(-1), "b": torch.tensor(2.0), "w": d.square().sum(-1), "mu": torch.tensor(1.0)}
    assert separability.SMOOTHNESS(**own).item() == pytest.approx(2)


def _radius(game: Hopf, tau: Tensor, eta: float) -> Tensor:
    """Spectral radius of one round of the core at the origin, from two starts."""
    columns = []
    for x, y in ((1e-7, 0.0), (0.0, 1e-7)):
        start = [torch.full((game.batch, 1), v, dtype=torch.float64) for v in (x, y)]
        xs, ys = path(game, *start, (eta, tau * eta), 1)
        columns.append(torch.cat([xs[1], ys[1]], -1) / 1e-7)
    return torch.linalg.eigvals(torch.stack(columns, -1)).abs().amax(-1)


@given(hopfs(batch=2), st.sampled_from([0.05, 0.2]))
def test_the_core_turns_stable_at_the_threshold(game: Hopf, eta: float) -> None:
    assume(((eta * game.b) ** 2 * game.a < 2 * game.c).all())
    tau = time_scale.CORE(a=game.a, c=game.c, eta=eta)
    assert (_radius(game, 0.99 * tau, eta) > 1).all()
    assert (_radius(game, 1.01 * tau, eta) < 1).all()


@FEW
@given(bilinears(ball=False), st.sampled_from([0.1, 0.5]), st.data())
def test_alternating_play_keeps_its_ellipse_in_any_dimension(game: Bilinear, eta: float, data: st.DataObject) -> None:
    xs, ys = path(game, *data.draw(points(game)), (eta, eta), 6)
    invariant = (xs**2).sum(-1) + (ys**2).sum(-1) + eta * game.f(xs, ys)
    assert torch.allclose(invariant, invariant[0].expand_as(invariant), atol=1e-9, rtol=1e-9)


def test_alternating_play_diverges_beyond_its_threshold() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    xs, ys = path(Bilinear(torch.full((1, 1, 1), 2.1)), one, one, (1.0, 1.0), 60)
    assert bilinear._norms(xs, ys)[-1] > 1e3


@given(bilinears(ball=False), st.sampled_from([0.1, 0.5]), SEEDS)
def test_extragradient_shrinks_and_simultaneous_grows_by_their_factors(game: Bilinear, eta: float, seed: int) -> None:
    x, y = _uniform(seed, 1, game.d_x), _uniform(seed + 1, 1, game.d_y)
    extra = bilinear._simultaneous(game, x, y, eta, 1, extra=True)
    plain = bilinear._simultaneous(game, x, y, eta, 1)
    h = eta * torch.linalg.svdvals(game.B[0])
    rank = max(game.d_x, game.d_y)
    h = torch.cat([h, torch.zeros(rank - len(h))])
    factors = torch.stack([bilinear.EXTRAGRADIENT(h=float(v), T=1.0, r_0=1.0) if v > 0 else torch.tensor(1.0) for v in h])
    assert extra[1] <= factors.max() * extra[0] * (1 + 1e-9)
    assert plain[1] >= plain[0] * (1 - 1e-9)
    assert plain[1] <= (1 + h.max() ** 2).sqrt() * plain[0] * (1 + 1e-9)
