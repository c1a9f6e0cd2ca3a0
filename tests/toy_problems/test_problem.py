"""What all problems have in common: shapes, batching, projections, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toy_problems import (
    AbsoluteWell,
    BallHuber,
    Bilinear,
    DiracGAN,
    EmbeddingTransformer,
    Forsaken,
    Hopf,
    MinMaxProblem,
    NoClosedForm,
    Quadratic,
    RobustLeastSquares,
    RobustLogisticRegression,
    Sigmoid,
    Stall,
    Wave,
    strategies,
)

ONE, TWO, ZERO, MINUS, NAN = (torch.tensor([v], dtype=torch.float64) for v in (1, 2, 0, -1, torch.nan))
EYE = torch.eye(2)[None]
ALL = st.one_of(strategies.problems(batch=2), strategies.embedding_transformers(batch=2))


@settings(max_examples=25)
@given(ALL, st.data())
def test_every_method_takes_leading_axes_and_keeps_instances_apart(problem: MinMaxProblem, data: st.DataObject) -> None:
    x, y = data.draw(strategies.points(problem))
    stacked = torch.stack([x, 2 * x]), torch.stack([y, y])
    methods = {problem.f: (), problem.grad_x: (problem.d_x,), problem.grad_y: (problem.d_y,)}
    for method, tail in methods.items():
        assert method(x, y).shape == (2, *tail)
        assert method(x, y).dtype == torch.float64
        torch.testing.assert_close(method(*stacked)[0], method(x, y))
        first_moved = x.clone()
        first_moved[0] += 1
        torch.testing.assert_close(method(first_moved, y)[1], method(x, y)[1], rtol=0, atol=0)
    assert problem.project_y(y).shape == y.shape
    if problem.has_phi:
        for method, shape in ((problem.phi, (2,)), (problem.grad_phi, (2, problem.d_x)), (problem.y_star, (2, problem.d_y))):
            assert method(x).shape == shape
            torch.testing.assert_close(method(stacked[0])[0], method(x))


@settings(max_examples=25)
@given(ALL, st.data())
def test_drawn_points_are_feasible(problem: MinMaxProblem, data: st.DataObject) -> None:
    x, y = data.draw(strategies.points(problem))
    torch.testing.assert_close(problem.project_y(y), y)
    if problem.region is not None:
        assert (x.norm(dim=-1) <= problem.region * (1 + 1e-12)).all()
    assert tuple(layer.shape[-1] for layer in problem.split(x)) == problem.layers


def test_the_projection_is_per_sample_and_never_leaves_the_ball() -> None:
    problem = Stall(torch.tensor([0.5]), torch.tensor([2.0]))
    y = torch.tensor([[5.0, -1.0]], dtype=torch.float64)
    assert problem.project_y(y).tolist() == [[2.0, -1.0]]
    assert problem.project_y(0 * y).tolist() == [[0.0, 0.0]]
    ball = BallHuber(ONE, ONE, TWO, d=2)
    torch.testing.assert_close(ball.project_y(torch.tensor([[3.0, -4.0]]).double()), torch.tensor([[1.2, -1.6]]).double())


def test_ties_break_towards_plus_and_tiny_gradients_count() -> None:
    stall = Stall(torch.tensor([0.5]), ONE)
    assert stall.y_star(torch.zeros(1, 2, dtype=torch.float64)).tolist() == [[1.0, 1.0]]
    bilinear = Bilinear(EYE, omega=ONE)
    tiny = torch.tensor([[3e-200, -4e-200]], dtype=torch.float64)
    torch.testing.assert_close(bilinear.y_star(tiny), torch.tensor([[0.6, -0.8]]).double())
    assert bilinear.y_star(0 * tiny).tolist() == [[1.0, 0.0]]


def test_what_has_no_closed_form_says_so() -> None:
    x = torch.ones(1, 1, dtype=torch.float64)
    transformer = EmbeddingTransformer.random(torch.Generator().manual_seed(0), 1)
    for problem in (Bilinear(ONE[None, None]), DiracGAN(ONE), Forsaken(ONE), transformer):
        assert not problem.has_phi
        for method in (problem.phi, problem.y_star, problem.grad_phi):
            if isinstance(problem, Forsaken | EmbeddingTransformer) or method != problem.grad_phi:
                with pytest.raises(NoClosedForm, match=type(problem).__name__):
                    method(x)


REFUSALS = {
    "mu = 2.0 exceeds l = 1.0 at instance 0": lambda: Quadratic.extremal(ONE, TWO),
    "mu: every entry must be positive": lambda: Quadratic.extremal(ONE, ZERO),
    "L: every entry must be positive": lambda: Quadratic.oscillator(MINUS[None], ONE),
    r"Quadratic.B: expected shape \[B, any, any\]": lambda: Quadratic(EYE, EYE[0], EYE),
    r"Quadratic.A: expected shape \[1, 2, 2\] .* got \[1, 1, 1\]": lambda: Quadratic(ONE[None, None], EYE, EYE),
    "Quadratic.A: must be symmetric": lambda: Quadratic(torch.tensor([[[0.0, 1], [0, 0]]]), EYE, EYE),
    "Quadratic.C: must be positive definite, its least eigenvalue is 0": lambda: Quadratic(EYE, EYE, 0 * EYE),
    "Quadratic.omega: every entry must be positive, got -1": lambda: Quadratic(EYE, EYE, EYE, omega=MINUS),
    "Quadratic.layers: .* adding up to d_x = 2": lambda: Quadratic(EYE, EYE, EYE, (1, 2)),
    "layers": lambda: Quadratic(EYE, EYE, EYE, (3, -1)),
    "Quadratic.B: every entry must be finite": lambda: Quadratic(EYE, EYE * torch.nan, EYE),
    "Quadratic.B: is empty": lambda: Quadratic(EYE[:0], EYE[:0], EYE[:0]),
    "Sigmoid.features: expected shape": lambda: Sigmoid(EYE[:, :, :1], Quadratic(EYE, EYE, EYE)),
    "BallHuber.omega: every entry must be positive, got 0": lambda: BallHuber(ONE, ONE, ZERO),
    "BallHuber.mu: every entry must be finite, got nan": lambda: BallHuber(ONE, NAN, ONE),
    "BallHuber.d: must be at least 1": lambda: BallHuber(ONE, ONE, ONE, d=0),
    r"BallHuber.mu: expected shape \[1\]": lambda: BallHuber(ONE, torch.ones(2), ONE),
    r"BallHuber.b: expected shape \[B\] \(instances first\), got \[\]": lambda: BallHuber(1.0, ONE, ONE),
    "Bilinear.omega: every entry must be positive": lambda: Bilinear(EYE, omega=ZERO),
    "Stall.eps: must be below 1": lambda: Stall(ONE, ONE),
    "Stall.eps: every entry must be positive": lambda: Stall(ZERO, ONE),
    "Stall.omega": lambda: Stall(ONE / 2, MINUS),
    r"Hopf: b\^2 must exceed a c": lambda: Hopf(ONE, ONE, ONE, ONE),
    "Hopf.c: every entry must be positive": lambda: Hopf(ONE, ONE, MINUS, ONE),
    "DiracGAN.region": lambda: DiracGAN(ZERO),
    "DiracGAN.omega": lambda: DiracGAN(ONE, ZERO),
    "Forsaken.region": lambda: Forsaken(MINUS),
    "AbsoluteWell.omega": lambda: AbsoluteWell(ZERO, ONE),
    "AbsoluteWell.region": lambda: AbsoluteWell(ONE, ZERO),
    "RobustLogisticRegression.targets: labels": lambda: RobustLogisticRegression(EYE, 0 * EYE[0, :1], ONE, ONE),
    r"RobustLeastSquares.targets: expected shape \[1, 2\]": lambda: RobustLeastSquares(EYE, ONE, ONE, ONE),
    "RobustLeastSquares.omega": lambda: RobustLeastSquares(EYE, 0 * EYE[0, :1], ZERO, ONE),
    "Wave: corner is too long": lambda: Wave(ONE, TWO, ONE, TWO),
    "Wave: steep must be at least shallow": lambda: Wave(TWO, ONE, ONE, ONE),
    "Wave.d: must be at least 1": lambda: Wave(ONE, ONE, ONE, ONE, d=0),
    "Wave.corner": lambda: Wave(ONE, ONE, ONE, ZERO),
    "EmbeddingTransformer.labels": lambda: EmbeddingTransformer(EYE[None], ZERO[None], ONE),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_wrong_arguments_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        REFUSALS[message]()
