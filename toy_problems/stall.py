"""The game on which layer-wise normalised steps make no progress for ever."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem


@dataclass(frozen=True, eq=False)
class Stall(MinMaxProblem):
    """f(x, y) = eps y_1 (x_1 + x_2) + y_2 (x_1 - x_2), |y_j| <= omega, 0 < eps < 1, two scalar layers.

    Phi(x) = omega (eps |x_1 + x_2| + |x_1 - x_2|). The sign of each layer's gradient is that of the second term, so
    equal normalised steps with an exact follower (ties: y_2 = +omega) move x_1 and x_2 by opposite amounts:
    x_1 + x_2 never changes, and the minimiser 0 is never approached.

    Args:
        eps: [B], in (0, 1).
        omega: [B], positive.

    Raises:
        ValueError: wrong shapes, not finite, out of range.
    """

    eps: Tensor
    omega: Tensor

    layers = (1, 1)
    samples = 2
    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the parameters."""
        eps = self._parameter("eps", None, positive=True)
        if (eps >= 1).any():
            raise ValueError(f"Stall.eps: must be below 1 (at 1 the steps make progress), got {eps.max().item()}")
        self._parameter("omega", len(eps), positive=True)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.eps)

    @property
    def d_y(self) -> int:
        """2."""
        return 2

    @cached_property
    def constants(self) -> Constants:
        """Exact: the singular values of the coupling are sqrt(2) and sqrt(2) eps; no L, as Phi has kinks."""
        zero = torch.zeros_like(self.eps)
        root2 = torch.full_like(self.eps, 2**0.5)
        beta = (1 + self.eps**2).sqrt()[:, None].expand(-1, 2)
        return Constants(l=root2, mu=zero, l_xx=zero, l_xy=root2, l_yy=zero, beta=beta)

    @staticmethod
    def invariant(x: Tensor) -> Tensor:
        """x_1 + x_2, [..., B]: what layer-wise normalised steps leave unchanged."""
        return x.sum(-1)

    def moreau_gradient(self, x: Tensor) -> Tensor:
        """Gradient of the Moreau envelope Phi_{1/2l}, l = sqrt(2), [..., B, 2].

        In u = x_1 + x_2 and v = x_1 - x_2 the two absolute values separate, and each envelope's gradient is a clipped
        line. Its norm is at least sqrt(2) eps omega wherever |x_1 + x_2| >= eps omega / sqrt(2), and below it otherwise
        may be smaller.
        """
        u, v = x.sum(-1), x[..., 0] - x[..., 1]
        # With |x|^2 = (u^2 + v^2)/2, the envelope of c|u| at parameter t is Huber's function of u with threshold 2 t c.
        slope_u = (u * 2**0.5).clamp(-self.eps * self.omega, self.eps * self.omega)
        slope_v = (v * 2**0.5).clamp(-self.omega, self.omega)
        return torch.stack([slope_u + slope_v, slope_u - slope_v], -1)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """eps y_1 (x_1 + x_2) + y_2 (x_1 - x_2)."""
        return (self.grad_y(x, y) * y).sum(-1)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """(eps y_1 + y_2, eps y_1 - y_2)."""
        a, b = self.eps * y[..., 0], y[..., 1]
        return torch.stack([a + b, a - b], -1)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """(eps (x_1 + x_2), x_1 - x_2)."""
        return torch.stack([self.eps * x.sum(-1), x[..., 0] - x[..., 1]], -1)

    def y_star(self, x: Tensor) -> Tensor:
        """omega times the signs of (x_1 + x_2, x_1 - x_2); a zero counts as positive."""
        return self.support_point(self.grad_y(x, x))

    def phi(self, x: Tensor) -> Tensor:
        """omega (eps |x_1 + x_2| + |x_1 - x_2|)."""
        return self.omega * (self.eps * x.sum(-1).abs() + (x[..., 0] - x[..., 1]).abs())

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin, a saddle."""
        zero = self.eps.new_zeros(self.batch, 2)
        return [(zero, zero)]
