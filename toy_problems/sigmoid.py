"""Non-convex, strongly concave: saturating losses s(a'x) on top of a quadratic game."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem
from toy_problems.quadratic import Quadratic, layerwise_smoothness

S2_MIN, S2_MAX = -0.5, 2.0  # exact range of s'' = (2 - 6 t^2)/(1 + t^2)^3, attained at t = +-1 and t = 0


@dataclass(frozen=True, eq=False)
class Sigmoid(MinMaxProblem):
    """f(x, y) = sum_j s(a_j'x) + q(x, y), s(t) = t^2/(1+t^2), q a quadratic game (often with A = 0).

    s'' lies in [-1/2, 2]. The top of the spectrum is reached at x = 0, so l_xy, l_yy, beta, mu are exact; l and l_xx are
    exact when the a_j are linearly independent (x with every a_j'x = 1 exists) or when the top at 0 dominates.

    Args:
        features: [B, m, d_x], the rows a_j.
        game: the quadratic part; it brings layers and omega.

    Raises:
        ValueError: wrong shapes or not finite.
    """

    features: Tensor
    game: Quadratic

    tight = frozenset({"mu", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the features and take over the game's domain."""
        self._parameter("features", self.game.batch, None, self.game.d_x)
        object.__setattr__(self, "layers", self.game.layers)
        object.__setattr__(self, "omega", self.game.omega)
        if self.features.shape[1] == 1 and (self.features.abs().amax((1, 2)) > 0).all():
            object.__setattr__(self, "tight", type(self).tight | {"l", "l_xx"})

    @property
    def batch(self) -> int:
        """B."""
        return self.game.batch

    @property
    def d_y(self) -> int:
        """Dimension of y."""
        return self.game.d_y

    @cached_property
    def constants(self) -> Constants:
        """From the two ends of s'': the Hessian lies between the game's plus -1/2 and plus 2 times the features' Gram."""
        gram, q = self.features.mT @ self.features, self.game
        low, high = q.A + S2_MIN * gram, q.A + S2_MAX * gram
        joint_low, joint_high = (torch.cat([torch.cat([a, q.B], 2), torch.cat([q.B.mT, -q.C], 2)], 1) for a in (low, high))
        c = q.constants
        return Constants(
            l=torch.maximum(torch.linalg.eigvalsh(joint_high)[:, -1], -torch.linalg.eigvalsh(joint_low)[:, 0]),
            mu=c.mu,
            l_xx=torch.maximum(torch.linalg.eigvalsh(high)[:, -1], -torch.linalg.eigvalsh(low)[:, 0]),
            l_xy=c.l_xy,
            l_yy=c.l_yy,
            beta=c.beta,
            L=layerwise_smoothness(q.hessian_phi + S2_MAX * gram, self.layers),
        )

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """sum_j s(a_j'x) + q(x, y)."""
        t = self._t(x)
        return (t**2 / (1 + t**2)).sum(-1) + self.game.f(x, y)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """sum_j s'(a_j'x) a_j + grad_x q, s' = 2t/(1+t^2)^2."""
        t = self._t(x)
        slope = 2 * t / (1 + t**2) ** 2
        return (self.features.mT @ slope.unsqueeze(-1)).squeeze(-1) + self.game.grad_x(x, y)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """The game's."""
        return self.game.grad_y(x, y)

    def y_star(self, x: Tensor) -> Tensor:
        """The game's: s does not see y."""
        return self.game.y_star(x)

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin."""
        return self.game.stationary_points()

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin, where s'' = 2, and the least x with a_j'x = 1 (in the least-squares sense), where s'' = -1/2."""
        zero_x, zero_y = self.stationary_points()[0]
        ones = torch.ones_like(self.features[:, :, 0])
        return [(zero_x, zero_y), ((torch.linalg.pinv(self.features) @ ones.unsqueeze(-1)).squeeze(-1), zero_y)]

    def _t(self, x: Tensor) -> Tensor:
        return (self.features @ x.unsqueeze(-1)).squeeze(-1)
