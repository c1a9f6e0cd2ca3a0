"""A double well coupled to a concave quadratic: descent-ascent has a Hopf bifurcation in its ratio of time scales."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, symmetric_2x2_norm


@dataclass(frozen=True, eq=False)
class Hopf(MinMaxProblem):
    """f(x, y) = -a x^2/2 + x^4/4 + b x y - c y^2/2, scalars, b^2 > a c.

    Phi(x) = (b^2/c - a) x^2/2 + x^4/4 has the origin as its only stationary point. Simultaneous descent-ascent with steps eta
    in x and tau eta in y converges to it when tau exceeds ``threshold``, and settles on a limit cycle below it. (Where y
    answers first, the threshold is another one, a/(c (1 + a eta)).)

    Args:
        a: [B], positive.
        b: [B], with b^2 > a c.
        c: [B], positive.
        region: [B], positive: the constants hold for |x| <= region.

    Raises:
        ValueError: wrong shapes, not finite, out of range.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    region: Tensor

    layers = (1,)
    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta", "L"})

    def __post_init__(self) -> None:
        """Check the parameters."""
        batch = len(self._parameter("a", None, positive=True))
        self._parameter("b", batch)
        self._parameter("c", batch, positive=True)
        self._parameter("region", batch, positive=True)
        if (self.b**2 <= self.a * self.c).any():
            raise ValueError("Hopf: b^2 must exceed a c, otherwise the origin does not minimise Phi and there is no cycle")

    @property
    def batch(self) -> int:
        """B."""
        return len(self.a)

    @property
    def d_y(self) -> int:
        """1."""
        return 1

    @cached_property
    def constants(self) -> Constants:
        """Exact on the region: f_xx = 3 x^2 - a runs over [-a, 3 region^2 - a]."""
        low, high = -self.a, 3 * self.region**2 - self.a
        ell = torch.maximum(symmetric_2x2_norm(low, self.b, -self.c), symmetric_2x2_norm(high, self.b, -self.c))
        return Constants(
            l=ell,
            mu=self.c,
            l_xx=torch.maximum(self.a, high),
            l_xy=self.b.abs(),
            l_yy=self.c,
            beta=self.b.abs()[:, None],
            L=(high + self.b**2 / self.c)[:, None],
        )

    def threshold(self, step: float = 0.0) -> Tensor:
        """[B], the ratio tau* = a / (c - step (b^2 - a c)) above which the origin attracts descent-ascent.

        Simultaneous steps ``step`` in x and tau * step in y multiply areas at the origin by 1 + step (a - tau c)
        + step^2 tau (b^2 - a c); ``step`` = 0 is the flow, tau* = a/c < kappa. Infinite where no ratio stabilises.
        """
        slack = self.c - step * (self.b**2 - self.a * self.c)
        return torch.where(slack > 0, self.a / slack, torch.inf)

    def cycle_amplitude(self, tau: float, step: float = 0.0) -> Tensor:
        """[B], leading order of the limit cycle's largest |x| just below the threshold; 0 above it.

        Averaging x'' - (a - tau c - 3 x^2) x' + .. = 0 gives 2 sqrt((a - tau c)/3), and finite steps add
        step tau (b^2 - a c) to the excitation.
        """
        excitation = self.a - tau * self.c + step * tau * (self.b**2 - self.a * self.c)
        return 2 * (excitation.clamp_min(0) / 3).sqrt()

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """-a x^2/2 + x^4/4 + b x y - c y^2/2."""
        x, y = x[..., 0], y[..., 0]
        return -self.a * x**2 / 2 + x**4 / 4 + self.b * x * y - self.c * y**2 / 2

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """-a x + x^3 + b y."""
        return -self.a[:, None] * x + x**3 + self.b[:, None] * y

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """b x - c y."""
        return self.b[:, None] * x - self.c[:, None] * y

    def y_star(self, x: Tensor) -> Tensor:
        """b x / c."""
        return (self.b / self.c)[:, None] * x

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin."""
        zero = self.a.new_zeros(self.batch, 1)
        return [(zero, zero)]

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """x = 0 and x = region, the ends of f_xx."""
        zero = self.a.new_zeros(self.batch, 1)
        return [(zero, zero), (self.region[:, None], zero)]
