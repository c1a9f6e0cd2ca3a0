"""Hypothesis strategies that draw instances of every family, so that anybody can attack a bound of their own.

Numbers are small multiples of 1/16 and powers of two, hence exact in floating point and readable once shrunk; shrinking
goes towards one dimension, zeros and ones. ``min_kappa`` refuses well-conditioned instances: many bounds are attained
in the trivial case kappa = 1, where a shrunk counter-example says nothing, so attacks usually ask for 3.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from toy_problems.absolute_well import AbsoluteWell
from toy_problems.ball_huber import BallHuber
from toy_problems.bilinear import Bilinear
from toy_problems.dirac_gan import DiracGAN
from toy_problems.embedding_transformer import EmbeddingTransformer
from toy_problems.forsaken import Forsaken
from toy_problems.hopf import Hopf
from toy_problems.problem import MinMaxProblem
from toy_problems.quadratic import Quadratic
from toy_problems.robust_regression import RobustLeastSquares, RobustLogisticRegression
from toy_problems.sigmoid import Sigmoid
from toy_problems.stall import Stall
from toy_problems.wave import Wave

P = TypeVar("P", bound=MinMaxProblem)
Draw = Callable[[st.SearchStrategy[Any]], Any]
ENTRIES = st.integers(-32, 32).map(lambda n: n / 16)
POSITIVE = st.sampled_from([1.0, 0.5, 2.0, 0.25, 4.0, 0.75, 1.25, 0.125])
MODULI = st.sampled_from([1.0, 0.5, 0.25, 0.125, 0.0625])


@st.composite
def quadratics(draw: Draw, min_kappa: float = 1.0, batch: int = 1, max_dim: int = 3, ball: bool | None = None) -> Quadratic:
    """Quadratic games: A of any sign, C = mu I + GG', any layers; with a ball, without, or (None) either."""
    d_x, d_y = draw(st.integers(1, max_dim)), draw(st.integers(1, max_dim))
    A, G = _entries(draw, batch, d_x, d_x), _entries(draw, batch, d_y, d_y)
    mu = _values(draw, batch, MODULI)[:, None, None] * torch.eye(d_y, dtype=torch.float64)
    with_ball = draw(st.booleans()) if ball is None else ball
    game = Quadratic(
        A=(A + A.mT) / 2,
        B=_entries(draw, batch, d_x, d_y),
        C=mu + G @ G.mT,
        layers=draw(layer_sizes(d_x)),
        omega=_values(draw, batch, POSITIVE) if with_ball else None,
    )
    return _at_least(game, min_kappa)


@st.composite
def sigmoids(draw: Draw, min_kappa: float = 1.0, batch: int = 1, max_dim: int = 3) -> Sigmoid:
    """One to three saturating losses on top of a quadratic game."""
    game = draw(quadratics(1.0, batch, max_dim))
    return _at_least(Sigmoid(_entries(draw, batch, draw(st.integers(1, 3)), game.d_x), game), min_kappa)


@st.composite
def ball_hubers(draw: Draw, min_kappa: float = 1.0, batch: int = 1, max_dim: int = 3) -> BallHuber:
    """Ball-Huber games of any dimension and layers."""
    d = draw(st.integers(1, max_dim))
    b, mu, omega = (_values(draw, batch, values) for values in (POSITIVE, MODULI, POSITIVE))
    return _at_least(BallHuber(b, mu, omega, d, draw(layer_sizes(d))), min_kappa)


@st.composite
def bilinears(draw: Draw, batch: int = 1, max_dim: int = 3, ball: bool | None = None) -> Bilinear:
    """Bilinear games; with a ball, without, or (None) either."""
    d_x, d_y = draw(st.integers(1, max_dim)), draw(st.integers(1, max_dim))
    with_ball = draw(st.booleans()) if ball is None else ball
    omega = _values(draw, batch, POSITIVE) if with_ball else None
    return Bilinear(_entries(draw, batch, d_x, d_y), draw(layer_sizes(d_x)), omega)


@st.composite
def stalls(draw: Draw, batch: int = 1) -> Stall:
    """Stalling games, eps in (0, 1)."""
    return Stall(_values(draw, batch, st.sampled_from([0.5, 0.25, 0.75, 0.0625])), _values(draw, batch, POSITIVE))


@st.composite
def hopfs(draw: Draw, min_kappa: float = 1.0, batch: int = 1) -> Hopf:
    """Hopf games, |b| above both a and c."""
    a, c = _values(draw, batch, MODULI), _values(draw, batch, MODULI)
    b = torch.maximum(a, c) * _values(draw, batch, st.sampled_from([1.25, 1.5, 2.0, -1.25, -2.0]))
    return _at_least(Hopf(a, b, c, _values(draw, batch, POSITIVE)), min_kappa)


@st.composite
def dirac_gans(draw: Draw, batch: int = 1, ball: bool | None = None) -> DiracGAN:
    """Dirac-GANs on regions of any size; with a ball, without, or (None) either."""
    with_ball = draw(st.booleans()) if ball is None else ball
    return DiracGAN(_values(draw, batch, POSITIVE), _values(draw, batch, POSITIVE) if with_ball else None)


@st.composite
def forsakens(draw: Draw, batch: int = 1) -> Forsaken:
    """The Forsaken game on regions of any size."""
    return Forsaken(_values(draw, batch, POSITIVE))


@st.composite
def absolute_wells(draw: Draw, batch: int = 1) -> AbsoluteWell:
    """omega |x^2 - 1| on regions of any size."""
    return AbsoluteWell(_values(draw, batch, POSITIVE), _values(draw, batch, POSITIVE))


@st.composite
def robust_logistic_regressions(draw: Draw, batch: int = 1, max_dim: int = 3) -> RobustLogisticRegression:
    """Up to three samples, labels +-1."""
    features, omega, region, layers = _robust(draw, batch, max_dim)
    labels = _array(draw, (batch, features.shape[1]), st.sampled_from([1.0, -1.0]))
    return RobustLogisticRegression(features, labels, omega, region, layers)


@st.composite
def robust_least_squares(draw: Draw, batch: int = 1, max_dim: int = 3) -> RobustLeastSquares:
    """Up to three samples."""
    features, omega, region, layers = _robust(draw, batch, max_dim)
    return RobustLeastSquares(features, _entries(draw, batch, features.shape[1]), omega, region, layers)


@st.composite
def waves(draw: Draw, min_kappa: float = 1.0, batch: int = 1, max_dim: int = 3) -> Wave:
    """Triangle waves first, then sawtooths up to four times as steep on one side."""
    shallow, length = _values(draw, batch, POSITIVE), _values(draw, batch, POSITIVE)
    steep = shallow * _values(draw, batch, st.sampled_from([1.0, 2.0, 4.0]))
    corner = length * _values(draw, batch, st.sampled_from([0.25, 0.125, 0.0625]))
    return _at_least(Wave(shallow, steep, length, corner, draw(st.integers(1, max_dim))), min_kappa)


@st.composite
def embedding_transformers(draw: Draw, batch: int = 1) -> EmbeddingTransformer:
    """Tiny transformers; they declare no constants, so ``problems`` leaves them out."""
    n, t, d = (draw(st.integers(1, 2)) for _ in range(3))
    labels = _array(draw, (batch, n), st.sampled_from([1.0, -1.0]))
    return EmbeddingTransformer(_entries(draw, batch, n, t, d), labels, _values(draw, batch, POSITIVE))


def strongly_concave(min_kappa: float = 1.0, batch: int = 1) -> st.SearchStrategy[MinMaxProblem]:
    """Every family with mu > 0."""
    return st.one_of(*(family(min_kappa, batch) for family in (ball_hubers, quadratics, sigmoids, hopfs, waves)))


def problems(min_kappa: float = 1.0, batch: int = 1) -> st.SearchStrategy[MinMaxProblem]:
    """Every family that declares constants.

    Args:
        min_kappa: least condition number; families with mu <= 0 have an infinite one.
        batch: instances a problem.
    """
    rest = (bilinears, stalls, dirac_gans, forsakens, absolute_wells, robust_logistic_regressions, robust_least_squares)
    return st.one_of(strongly_concave(min_kappa, batch), *(family(batch=batch) for family in rest))


@st.composite
def points(draw: Draw, problem: MinMaxProblem) -> tuple[Tensor, Tensor]:
    """x [B, d_x] in the problem's region and y [B, d_y] in its Y (in the region where Y is the whole space)."""
    x, y = _entries(draw, problem.batch, problem.d_x), _entries(draw, problem.batch, problem.d_y)
    if problem.region is not None:
        x = _into_ball(x, problem.region)
        y = y if problem.omega is not None else _into_ball(y, problem.region)
    return x, problem.project_y(y)


@st.composite
def layer_sizes(draw: Draw, d: int) -> tuple[int, ...]:
    """A cut of d coordinates into consecutive layers; shrinks to one layer."""
    cuts = [k for k in range(1, d) if draw(st.booleans())]
    return tuple(high - low for low, high in zip([0, *cuts], [*cuts, d], strict=True))


def _at_least(problem: P, min_kappa: float) -> P:
    if min_kappa > 1:
        assume(bool((problem.constants.kappa >= min_kappa).all()))
    return problem


def _robust(draw: Draw, batch: int, max_dim: int) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    n, d = draw(st.integers(1, 3)), draw(st.integers(1, max_dim))
    omega, region = _values(draw, batch, POSITIVE), _values(draw, batch, POSITIVE)
    return _entries(draw, batch, n, d), omega, region, draw(layer_sizes(d))


def _into_ball(z: Tensor, radius: Tensor) -> Tensor:
    return z * (radius[:, None] / z.norm(dim=-1, keepdim=True)).clamp_max(1)


def _array(draw: Draw, shape: tuple[int, ...], values: st.SearchStrategy[float]) -> Tensor:
    count = torch.Size(shape).numel()
    drawn = draw(st.lists(values, min_size=count, max_size=count))
    return torch.tensor(drawn, dtype=torch.float64).reshape(shape)


def _entries(draw: Draw, *shape: int) -> Tensor:
    return _array(draw, shape, ENTRIES)


def _values(draw: Draw, batch: int, values: st.SearchStrategy[float]) -> Tensor:
    return _array(draw, (batch,), values)
