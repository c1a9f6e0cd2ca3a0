"""Smoothed triangle and sawtooth waves: where noise or bias keeps a normalised leader from ever settling."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem


@dataclass(frozen=True, eq=False)
class Wave(MinMaxProblem):
    """f(x, y) = sum_i w(x_i) - y^2/2, scalar layers; w is a periodic wave with straight sides and rounded corners.

    In one period from x = 0 the slope w' is +shallow for ``length``, turns linearly to -steep within ``corner``, stays
    there for ``steep_length`` (chosen so that w is periodic), and turns back within ``corner``. min w = 0. The follower
    is idle, y* = 0 and Phi = sum_i w(x_i): these are instances about the leader's noise and bias (theorem (d)).

    Equal slopes make the triangle wave, the sharp instance of the noise term under ``two_point_noise``; unequal ones
    the sawtooth, the sharp instance of the bias term under ``uphill_bias``.

    Args:
        shallow: [B], positive slope of the rising side.
        steep: [B], positive slope of the falling side.
        length: [B], positive length of the straight rising side.
        corner: [B], positive length of each rounded corner.
        d: dimension of x, one layer each.

    Raises:
        ValueError: wrong shapes, not finite, not positive, or corners too long for the straight sides.
    """

    shallow: Tensor
    steep: Tensor
    length: Tensor
    corner: Tensor
    d: int = 1

    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta", "L"})

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.d < 1:
            raise ValueError(f"Wave.d: must be at least 1, got {self.d}")
        batch = len(self._parameter("shallow", None, positive=True))
        for name in ("steep", "length", "corner"):
            self._parameter(name, batch, positive=True)
        if (self.steep < self.shallow).any():
            raise ValueError("Wave: steep must be at least shallow; mirror x to get a wave that rises faster than it falls")
        if (self.steep_length < 0).any():
            raise ValueError(
                "Wave: corner is too long: the rounded corners alone fall by more than the rising side climbs; "
                "it must be at most shallow * length / (steep - shallow)"
            )
        object.__setattr__(self, "layers", (1,) * self.d)

    @classmethod
    def triangle(cls, slope: Tensor, length: Tensor, corner: Tensor, d: int = 1) -> "Wave":
        """Both sides equally steep."""
        return cls(shallow=slope, steep=slope, length=length, corner=corner, d=d)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.shallow)

    @property
    def d_y(self) -> int:
        """1."""
        return 1

    @property
    def steep_length(self) -> Tensor:
        """[B], length of the straight falling side."""
        return (self.shallow * self.length + (self.shallow - self.steep) * self.corner) / self.steep

    @property
    def period(self) -> Tensor:
        """[B]."""
        return self.length + self.steep_length + 2 * self.corner

    @cached_property
    def constants(self) -> Constants:
        """Exact: w'' is +-(shallow + steep)/corner in the corners and 0 elsewhere."""
        curvature, one = self._curvature, torch.ones_like(self.shallow)
        zero = 0 * one
        layered = zero[:, None].expand(-1, self.d)
        return Constants(
            l=torch.maximum(curvature, one),
            mu=one,
            l_xx=curvature,
            l_xy=zero,
            l_yy=one,
            beta=layered,
            L=layered + curvature[:, None],
        )

    def two_point_noise(self, x: Tensor, uniform: Tensor, tilt: float = 2.0**-20) -> Tensor:
        """Noise with mean 0 that makes the sign of the gradient a coin toss, [..., B, d].

        With g = w'(x_i) the gradient becomes 2 g with probability (1 + tilt)/(2 + tilt) and -tilt g otherwise: the extremal
        law of the key lemma at s = |g|. Its variance is g^2 (1 + tilt), so sigma_i = max(shallow, steep) sqrt(1 + tilt).

        Args:
            x: [..., B, d].
            uniform: [..., B, d], independent and uniform in [0, 1).
            tilt: size of the small outcome; positive, as a layer whose gradient is 0 would not move.
        """
        g = self.grad_phi(x)
        return torch.where(uniform < (1 + tilt) / (2 + tilt), g, -(1 + tilt) * g)

    def uphill_bias(self, x: Tensor, tilt: float = 2.0**-20) -> Tensor:
        """Bias that turns every rising gradient g > 0 into -tilt g and leaves the others, [..., B, d].

        The leader then travels to the right for ever: over a period sum |w'| is twice the sum of the rises, that is 2
        times the sum of the errors e = (1 + tilt) max(g, 0).
        """
        return -(1 + tilt) * self.grad_phi(x).clamp_min(0)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """sum_i w(x_i) - y^2/2."""
        rise, peak, fall, valley = self._travelled(x)
        bend = self._curvature[:, None] / 2
        e, s = self.shallow[:, None], self.steep[:, None]
        climb = e * rise + (e * peak - bend * peak**2) - s * fall + (-s * valley + bend * valley**2)
        lowest = self.corner * self.shallow**2 / (2 * (self.shallow + self.steep))
        return (climb + lowest[:, None]).sum(-1) - y[..., 0] ** 2 / 2

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """w'(x_i)."""
        _, peak, _, valley = self._travelled(x)
        return self.shallow[:, None] + self._curvature[:, None] * (valley - peak) + 0 * y

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """-y."""
        return -y + 0 * x.sum(-1, keepdim=True)

    def y_star(self, x: Tensor) -> Tensor:
        """0."""
        return 0 * x[..., :1]

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The valley (w = 0) and the peak of one period, in every layer."""
        share = self.corner * self.shallow / (self.shallow + self.steep)
        return [self._everywhere(self.period - share), self._everywhere(self.length + share)]

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """The middle of the valley corner, w'' > 0."""
        return [self._everywhere(self.period - self.corner / 2)]

    @property
    def _curvature(self) -> Tensor:
        return (self.shallow + self.steep) / self.corner

    def _everywhere(self, position: Tensor) -> tuple[Tensor, Tensor]:
        return position[:, None].expand(-1, self.d), position.new_zeros(self.batch, 1)

    def _travelled(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How far x's position in its period has gone through the rising side, peak corner, falling side, valley corner."""
        rest = torch.remainder(x, self.period[:, None])
        parts = []
        for size in (self.length, self.corner, self.steep_length, self.corner):
            parts.append(torch.minimum(rest, size[:, None]))
            rest = (rest - size[:, None]).clamp_min(0)
        return parts[0], parts[1], parts[2], parts[3]
