"""Every family verifies itself, and a planted error is caught by name."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toy_problems import (
    AbsoluteWell,
    BallHuber,
    Bilinear,
    Constants,
    ConstantsViolated,
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
    measure,
    strategies,
    verify,
)
from toy_problems.verification import maximise, probes


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def quadratic(omega: torch.Tensor | None = None) -> Quadratic:
    A, G = randn(3, 3, 3), randn(3, 2, 2)
    return Quadratic(A + A.mT, randn(3, 3, 2), G @ G.mT + 0.3 * torch.eye(2), (1, 2), omega)


EXAMPLES: list[MinMaxProblem] = [
    quadratic(),
    quadratic(t(0.2, 1, 5)),
    Quadratic.extremal(t(1, 4, 2), t(1, 0.5, 0.1)),
    Quadratic.oscillator(t(1, 4, 2)[None], t(0.5)),
    Sigmoid(randn(3, 1, 3), quadratic(t(0.2, 1, 5))),
    Sigmoid(randn(3, 4, 3), quadratic()),
    BallHuber(t(1, 2), t(0.5, 0.1), t(0.3, 2), d=3, layers=(2, 1)),
    Bilinear(randn(3, 3, 2), (1, 2)),
    Bilinear(randn(3, 3, 2), (1, 2), t(0.5, 1, 2)),
    Stall(t(0.1, 0.9), t(1, 2)),
    Hopf(t(1, 0.2), t(1.2, -0.9), t(0.5, 1), t(2, 0.1)),
    DiracGAN(t(0.3, 1, 5)),
    DiracGAN(t(0.3, 1, 5), t(2, 0.4, 1)),
    Forsaken(t(0.3, 0.9, 2)),
    AbsoluteWell(t(1, 0.5), t(2, 0.7)),
    RobustLogisticRegression(randn(2, 3, 2), randn(2, 3).sign(), t(0.3, 1), t(1, 3), (1, 1)),
    RobustLeastSquares(randn(2, 3, 2), randn(2, 3), t(0.3, 1), t(1, 3), (1, 1)),
    Wave(t(1, 0.2), t(1, 3), t(1, 2), t(0.2, 0.1), d=2),
    EmbeddingTransformer(randn(2, 2, 3, 2), randn(2, 2).sign(), t(0.5, 1)),
]
NAMES = [f"{type(problem).__name__}-{i}" for i, problem in enumerate(EXAMPLES)]


@pytest.mark.parametrize("problem", EXAMPLES, ids=NAMES)
def test_every_family_verifies_itself(problem: MinMaxProblem) -> None:
    measured = verify(problem)
    for field in fields(Constants):
        declared, found = getattr(problem.constants, field.name), getattr(measured, field.name)
        if field.name in problem.tight - {"L"}:
            torch.testing.assert_close(declared, found, rtol=1e-6, atol=1e-8)


@settings(max_examples=25)
@given(st.one_of(strategies.problems(), strategies.embedding_transformers()))
def test_drawn_instances_verify_themselves(problem: MinMaxProblem) -> None:
    verify(problem, points=3)


@settings(max_examples=10)
@given(strategies.problems(batch=3))
def test_drawn_batches_verify_themselves(problem: MinMaxProblem) -> None:
    assert problem.batch == 3
    verify(problem, points=2)


PLANTS = [
    pytest.param(problem, name, factor, id=f"{label}-{name}x{factor}")
    for label, problem in zip(NAMES, EXAMPLES, strict=True)
    for name in sorted(problem.tight)
    for factor in (0.9, 1.1)
    if getattr(problem.constants, name).abs().max() > 0
]


@pytest.mark.parametrize(("problem", "name", "factor"), PLANTS)
def test_a_wrong_constant_is_caught_by_name(problem: MinMaxProblem, name: str, factor: float) -> None:
    right = getattr(problem.constants, name)
    with pytest.raises(ConstantsViolated, match=rf"{name} is declared .* but .* was measured") as caught:
        verify(problem, replace(problem.constants, **{name: factor * right}))
    assert caught.value.name == name
    assert caught.value.declared == pytest.approx(factor * caught.value.measured, rel=2e-2)


def test_only_the_wrong_instance_is_blamed() -> None:
    problem = BallHuber(t(1, 2, 3), t(1, 1, 1), t(1, 1, 1))
    wrong = problem.constants.l * t(1, 0.9, 1)
    with pytest.raises(ConstantsViolated, match="instance 1: l is declared") as caught:
        verify(problem, replace(problem.constants, l=wrong))
    assert caught.value.instance == 1
    assert caught.value.declared == pytest.approx(wrong[1].item())
    assert caught.value.measured == pytest.approx(problem.constants.l[1].item())


def test_concavity_that_is_not_there_is_caught() -> None:
    for problem in (Forsaken(t(1)), AbsoluteWell(t(1), t(1)), DiracGAN(t(1)), Bilinear(randn(1, 2, 2))):
        with pytest.raises(ConstantsViolated, match="mu is declared"):
            verify(problem, replace(problem.constants, mu=t(0.01)))


def test_a_constant_of_the_wrong_shape_is_refused() -> None:
    problem = BallHuber(t(1), t(1), t(1), d=2, layers=(1, 1))
    for name in ("beta", "L"):
        with pytest.raises(ValueError, match=rf"{name} must have shape \[1, 2\]"):
            verify(problem, replace(problem.constants, **{name: t(1)[None]}))


def test_layer_smoothness_needs_the_cross_terms() -> None:
    """The trap: Phi = x_1 x_2 is 0-smooth in each coordinate, and no L_i = 0 satisfies the layer-wise inequality."""
    A = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    problem = Quadratic(A, torch.zeros(1, 2, 1), torch.ones(1, 1, 1), (1, 1))
    assert problem.constants.L.tolist() == [[1.0, 1.0]]
    verify(problem)
    with pytest.raises(ConstantsViolated, match="L is declared 0, but"):
        verify(problem, replace(problem.constants, L=torch.zeros(1, 2, dtype=torch.float64)))


def broken(name: str) -> MinMaxProblem:
    class Broken(BallHuber):
        def stationary_points(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return [(torch.ones(1, 2), torch.zeros(1, 2))] if name == "stationary_points" else super().stationary_points()

    def wrong(self: BallHuber, *args: torch.Tensor) -> torch.Tensor:
        return 1.01 * getattr(BallHuber, name)(self, *args) + (1e-3 if name == "phi" else 0)

    if name != "stationary_points":
        setattr(Broken, name, wrong)
    return Broken(t(1), t(0.5), t(0.7), d=2)


@pytest.mark.parametrize("name", ["grad_x", "grad_y", "phi", "grad_phi", "stationary_points"])
def test_a_wrong_closed_form_is_caught_by_name(name: str) -> None:
    with pytest.raises(ConstantsViolated) as caught:
        verify(broken(name))
    assert caught.value.name == name


def test_a_wrong_maximiser_or_projection_is_caught() -> None:
    class Outside(BallHuber):
        def y_star(self, x: torch.Tensor) -> torch.Tensor:
            return (self.b / self.mu)[:, None] * x  # forgets the ball

    class Inner(BallHuber):
        def y_star(self, x: torch.Tensor) -> torch.Tensor:
            return 0.9 * super().y_star(x)

    class InnerAndConsistent(Inner):
        phi = MinMaxProblem.phi

    class Identity(BallHuber):
        def project_y(self, y: torch.Tensor) -> torch.Tensor:
            return y

    class Skewed(BallHuber):
        def project_y(self, y: torch.Tensor) -> torch.Tensor:
            return y.clamp(-0.4, 0.4)  # feasible, not nearest

    planted = {Outside: "y_star", Inner: "phi", InnerAndConsistent: "phi", Identity: "omega", Skewed: "project_y"}
    for family, name in planted.items():
        with pytest.raises(ConstantsViolated) as caught:
            verify(family(t(1), t(0.5), t(0.7), d=2))
        assert caught.value.name == name


def test_not_a_number_is_caught() -> None:
    class Undefined(BallHuber):
        def grad_x(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().grad_x(x, y) * torch.nan

    with pytest.raises(ConstantsViolated, match="grad_x"):
        verify(Undefined(t(1), t(0.5), t(0.7)))


def test_brute_force_finds_the_maximum_of_an_ill_conditioned_game() -> None:
    C = torch.diag_embed(t(1000, 1))[None]
    problem = Quadratic(torch.zeros(1, 2, 2), torch.eye(2)[None], C)
    x, y = probes(problem, 4, torch.Generator().manual_seed(1))
    torch.testing.assert_close(problem.f(x, maximise(problem, x, 0 * y)), problem.phi(x), rtol=1e-6, atol=1e-6)


def test_a_transformer_is_measured_not_declared() -> None:
    problem = EmbeddingTransformer.random(torch.Generator().manual_seed(0), 3)
    assert all(getattr(problem.constants, field.name) is None for field in fields(Constants))
    x, y = probes(problem, 3, torch.Generator().manual_seed(0))
    few, more = measure(problem, x[:1], y[:1]), measure(problem, x, y)
    assert (more.l >= few.l).all()
    assert (more.beta <= more.l_xy[:, None]).all()
    assert (more.beta > 0).all()
    with pytest.raises(ValueError, match="kappa"):
        _ = problem.constants.kappa
