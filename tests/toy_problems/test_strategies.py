"""The strategies draw what they promise, and let a wrong bound be falsified and shrunk."""

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from toy_problems import Bilinear, Constants, MinMaxProblem, Quadratic, strategies


@settings(max_examples=40)
@given(strategies.strongly_concave(min_kappa=3.0))
def test_min_kappa_is_kept(problem: MinMaxProblem) -> None:
    assert (problem.constants.kappa >= 3).all()
    assert (problem.constants.mu > 0).all()


@settings(max_examples=40)
@given(strategies.problems())
def test_kappa_is_infinite_without_strong_concavity(problem: MinMaxProblem) -> None:
    constants: Constants = problem.constants
    assert (constants.kappa.isinf() == (constants.mu <= 0)).all()
    assert (constants.kappa >= 1 - 1e-12).all()


def test_kappa_of_a_game_that_is_zero_is_infinite() -> None:
    assert Bilinear(torch.zeros(1, 1, 1)).constants.kappa.item() == torch.inf


def test_every_family_is_drawn() -> None:
    seen = set()

    @settings(max_examples=400)
    @given(strategies.problems())
    def draw(problem: MinMaxProblem) -> None:
        seen.add(type(problem).__name__)

    draw()
    assert seen == {
        "AbsoluteWell", "BallHuber", "Bilinear", "DiracGAN", "Forsaken", "Hopf", "Quadratic",
        "RobustLeastSquares", "RobustLogisticRegression", "Sigmoid", "Stall", "Wave",
    }  # fmt: skip


def curvature_ratio(problem: Quadratic) -> float:
    """Phi's smoothness over the sharp bound kappa l of Danskin's theorem."""
    c = problem.constants
    return (torch.linalg.matrix_norm(problem.hessian_phi, 2) / (c.kappa * c.l)).max().item()


QUADRATICS = strategies.quadratics(min_kappa=3.0, max_dim=2, ball=False)


@given(QUADRATICS)
def test_danskins_sharp_bound_survives(problem: Quadratic) -> None:
    assert curvature_ratio(problem) <= 1 + 1e-9


def test_a_bound_ten_percent_too_small_falls_to_a_simple_instance() -> None:
    worst = find(QUADRATICS, lambda problem: curvature_ratio(problem) > 0.9, settings=settings(max_examples=500))
    assert (worst.d_x, worst.d_y, worst.omega) == (1, 1, None)
    assert worst.constants.kappa.item() >= 3


@pytest.mark.parametrize("d", [1, 4])
@settings(max_examples=20)
@given(data=st.data())
def test_layer_sizes_cut_all_coordinates(d: int, data: st.DataObject) -> None:
    sizes = data.draw(strategies.layer_sizes(d))
    assert sum(sizes) == d
    assert min(sizes) >= 1


def test_layer_sizes_shrink_to_one_layer() -> None:
    assert find(strategies.layer_sizes(4), lambda sizes: True) == (4,)
