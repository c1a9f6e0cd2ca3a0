"""Bilinear games: simultaneous descent-ascent spirals out, alternating stays bounded, extragradient converges."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, NoClosedForm, spectral_norm


@dataclass(frozen=True, eq=False)
class Bilinear(MinMaxProblem):
    """f(x, y) = x'By, |y| <= omega or y free. Phi(x) = omega |B'x| with a ball; not finite without one.

    Args:
        B: [B, d_x, d_y].
        layers: sizes of the layers of x; empty: one layer.
        omega: [B] or None.

    Raises:
        ValueError: wrong shapes, not finite, omega <= 0.
    """

    B: Tensor
    layers: tuple[int, ...] = ()
    omega: Tensor | None = None

    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the matrix and the radius."""
        batch, d_x, _ = self._parameter("B", None, None, None).shape
        if self.omega is not None:
            self._parameter("omega", batch, positive=True)
        object.__setattr__(self, "has_phi", self.omega is not None)
        self._one_layer_by_default(d_x)

    @property
    def batch(self) -> int:
        """B."""
        return self.B.shape[0]

    @property
    def d_y(self) -> int:
        """Dimension of y."""
        return self.B.shape[2]

    @cached_property
    def constants(self) -> Constants:
        """Exact; no L, as Phi has a kink."""
        norm, zero = spectral_norm(self.B), self.B.new_zeros(self.batch)
        beta = torch.stack([spectral_norm(block) for block in self.B.split(self.layers, 1)], 1)
        return Constants(l=norm, mu=zero, l_xx=zero, l_xy=norm, l_yy=zero, beta=beta)

    def descent_ascent_growth(self, step: float) -> Tensor:
        """[B], sqrt(1 + step^2 s^2), s the top singular value: growth of |(x, y)| in one simultaneous step, y free.

        Exact for every start when B is a multiple of an orthogonal matrix, otherwise the largest.
        """
        return (1 + (step * spectral_norm(self.B)) ** 2).sqrt()

    def extragradient_factor(self, step: float) -> Tensor:
        """[B], max over the singular values s of sqrt(1 - t^2 + t^4), t = step s: norm of an extragradient step, y free."""
        t = step * torch.linalg.svdvals(self.B)
        return (1 - t**2 + t**4).sqrt().amax(-1)

    @property
    def alternating_threshold(self) -> Tensor:
        """[B], 2 / s: alternating descent-ascent (y after x) stays bounded exactly for smaller steps, y free."""
        return 2 / spectral_norm(self.B)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """x'By."""
        return (x * self.grad_x(x, y)).sum(-1)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """By."""
        return (self.B @ y.unsqueeze(-1)).squeeze(-1)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """B'x."""
        return (self.B.mT @ x.unsqueeze(-1)).squeeze(-1)

    def y_star(self, x: Tensor) -> Tensor:
        """omega B'x/|B'x|."""
        return self.support_point(self.grad_y(x, x))

    def phi(self, x: Tensor) -> Tensor:
        """omega |B'x|."""
        if self.omega is None:
            raise NoClosedForm("Bilinear without a radius omega: Phi is infinite wherever B'x is not 0")
        return self.omega * self.grad_y(x, x).norm(dim=-1)

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin, a saddle."""
        return [(self.B.new_zeros(self.batch, self.d_x), self.B.new_zeros(self.batch, self.d_y))]
