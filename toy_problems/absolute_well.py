"""A constraint enforced by a multiplier in a ball: Phi is the absolute value of x^2 - 1."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem


@dataclass(frozen=True, eq=False)
class AbsoluteWell(MinMaxProblem):
    """f(x, y) = y (x^2 - 1), |y| <= omega, scalars. Phi(x) = omega |x^2 - 1|: minima at +-1 with a kink, a maximum at 0.

    Args:
        omega: [B], positive.
        region: [B], positive: the constants hold for |x| <= region.

    Raises:
        ValueError: wrong shapes, not finite, not positive.
    """

    omega: Tensor
    region: Tensor

    layers = (1,)
    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._parameter("region", len(self._parameter("omega", None, positive=True)), positive=True)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.omega)

    @property
    def d_y(self) -> int:
        """1."""
        return 1

    @cached_property
    def constants(self) -> Constants:
        """Exact on the region, attained at (region, omega); no L, as Phi has kinks."""
        zero = torch.zeros_like(self.omega)
        l_xy = 2 * self.region
        ell = self.omega + (self.omega**2 + l_xy**2).sqrt()
        return Constants(l=ell, mu=zero, l_xx=2 * self.omega, l_xy=l_xy, l_yy=zero, beta=l_xy[:, None])

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """y (x^2 - 1)."""
        return (y * (x**2 - 1))[..., 0]

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """2 x y."""
        return 2 * x * y

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """x^2 - 1, whatever y."""
        return x**2 - 1 + 0 * y

    def y_star(self, x: Tensor) -> Tensor:
        """omega sign(x^2 - 1)."""
        return self.support_point(x**2 - 1)

    def phi(self, x: Tensor) -> Tensor:
        """omega |x^2 - 1|."""
        return self.omega * (x[..., 0] ** 2 - 1).abs()

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """x = -1 and 1 (y = 0), and x = 0 (y = -omega), the maximum of Phi between them."""
        zero = self.omega.new_zeros(self.batch, 1)
        return [(zero - 1, zero), (zero + 1, zero), (zero, -self.omega[:, None])]

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """(region, omega)."""
        return [(self.region[:, None], self.omega[:, None])]
