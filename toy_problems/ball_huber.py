"""The ball-Huber game: a linear coupling, a strongly concave penalty and a ball make Huber's function."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, parameter


@dataclass(frozen=True, eq=False)
class BallHuber(MinMaxProblem):
    """f(x, y) = b <x, y> - (mu/2)|y|^2, |y| <= omega.

    Phi(x) = b^2|x|^2/(2 mu) where b|x| <= mu omega, else omega b|x| - mu omega^2/2. Every constant is exact.

    Args:
        b: [B], positive coupling.
        mu: [B], positive.
        omega: [B], positive radius.
        d: dimension of x and of y.
        layers: sizes of the layers of x; empty: one layer.

    Raises:
        ValueError: wrong shapes, not finite or not positive.
    """

    b: Tensor
    mu: Tensor
    omega: Tensor
    d: int = 1
    layers: tuple[int, ...] = ()

    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta", "L"})

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.d < 1:
            raise ValueError(f"BallHuber.d: must be at least 1, got {self.d}")
        batch = len(self._parameter("b", None, positive=True))
        self._parameter("mu", batch, positive=True)
        self._parameter("omega", batch, positive=True)
        self._one_layer_by_default(self.d)

    @classmethod
    def slope(cls, omega: Tensor, step: float, steps: int) -> tuple["BallHuber", Tensor]:
        """The sharp instance of the term D / (alpha_l eta T) of theorem (d): a slope that lasts for the whole run.

        Normalised steps of length ``step`` never leave the linear part, so |grad Phi| = omega throughout. The bound is
        omega (1 + 1/sqrt(steps)) for the curvature chosen here, which is the best one: the ratio tends to 1.

        Args:
            omega: [B], the slope.
            step: length of a step.
            steps: how many will be made.

        Returns:
            The problem (d = 1) and its start x [B, 1].
        """
        omega = parameter("omega", omega, None, positive=True)
        mu = step * steps**0.5 / omega
        return cls(b=torch.ones_like(omega), mu=mu, omega=omega), (mu * omega + step * steps)[:, None]

    @property
    def batch(self) -> int:
        """B."""
        return len(self.b)

    @property
    def d_y(self) -> int:
        """Dimension of y."""
        return self.d

    @cached_property
    def constants(self) -> Constants:
        """Exact: the Hessian [[0, b], [b, -mu]] is constant, and Phi'' = b^2/mu inside."""
        h = len(self.layers)
        return Constants(
            l=(self.mu + (self.mu**2 + 4 * self.b**2).sqrt()) / 2,
            mu=self.mu,
            l_xx=torch.zeros_like(self.b),
            l_xy=self.b,
            l_yy=self.mu,
            beta=self.b[:, None].expand(-1, h),
            L=(self.b**2 / self.mu)[:, None].expand(-1, h),
        )

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """b <x, y> - (mu/2)|y|^2."""
        return self.b * (x * y).sum(-1) - self.mu * y.square().sum(-1) / 2

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """b y."""
        return self.b[:, None] * y

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """b x - mu y."""
        return self.b[:, None] * x - self.mu[:, None] * y

    def y_star(self, x: Tensor) -> Tensor:
        """P_Y(b x / mu)."""
        return self.project_y((self.b / self.mu)[:, None] * x)

    def phi(self, x: Tensor) -> Tensor:
        """Huber's function of b|x|."""
        v = self.b * x.norm(dim=-1)
        return torch.where(v <= self.mu * self.omega, v**2 / (2 * self.mu), self.omega * v - self.mu * self.omega**2 / 2)

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin."""
        return self.extremal_points()

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin: Phi'' = b^2/mu there."""
        zero = self.b.new_zeros(self.batch, self.d)
        return [(zero, zero)]
