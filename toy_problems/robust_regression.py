"""Robust linear models: every sample's features are perturbed within a ball, so y is noise per sample, as in ScaLA."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import softplus

from toy_problems.problem import Constants, MinMaxProblem, joint_smoothness


@dataclass(frozen=True, eq=False)
class RobustLinearModel(MinMaxProblem):
    """f(x, y) = sum_j loss(m_j, b_j), m_j = (a_j + y_j)'x, |y_j| <= omega, for a loss convex in the margin m.

    f is convex in y, so mu < 0 and the strongly concave theory does not apply; yet the maximum over a ball is at an end
    of the segment m_j +- omega |x|, with y_j along x. Phi has a kink at x = 0. Constants are upper bounds on |x| <= region.

    Args:
        features: [B, n, d], the rows a_j.
        targets: [B, n], the b_j.
        omega: [B], positive.
        region: [B], positive: the constants hold for |x| <= region.
        layers: sizes of the layers of x; empty: one layer.

    Raises:
        ValueError: wrong shapes, not finite, not positive.
    """

    features: Tensor
    targets: Tensor
    omega: Tensor
    region: Tensor
    layers: tuple[int, ...] = ()

    curvature_bound = 0.0  # of the loss in m

    def __post_init__(self) -> None:
        """Check the parameters."""
        batch, n, d = self._parameter("features", None, None, None).shape
        self._parameter("targets", batch, n)
        self._parameter("omega", batch, positive=True)
        self._parameter("region", batch, positive=True)
        object.__setattr__(self, "samples", n)
        self._one_layer_by_default(d)

    @abstractmethod
    def loss(self, m: Tensor) -> Tensor:
        """Loss of each margin, [..., B, n]."""

    @abstractmethod
    def slope(self, m: Tensor) -> Tensor:
        """Derivative of the loss in each margin, [..., B, n]."""

    @abstractmethod
    def slope_bound(self, m: Tensor) -> Tensor:
        """Largest |slope| over margins of size at most m, [B, n]."""

    @abstractmethod
    def worst_side(self, m: Tensor) -> Tensor:
        """+1 or -1: the direction of the margin in which a segment centred at m loses most, [..., B, n]."""

    @property
    def batch(self) -> int:
        """B."""
        return self.features.shape[0]

    @property
    def d_y(self) -> int:
        """n d."""
        return self.features.shape[1] * self.features.shape[2]

    @cached_property
    def constants(self) -> Constants:
        """Upper bounds: a sample's Hessian is loss'' v v' + loss' times the swap of x and y_j, v = (a_j + y_j; x)."""
        reach = self.features.norm(dim=-1) + self.omega[:, None]
        radius = self.region[:, None]
        mixed = self.curvature_bound * reach * radius + self.slope_bound(reach * radius)
        l_xx = self.curvature_bound * reach.square().sum(-1)
        l_xy = mixed.norm(dim=-1)
        l_yy = self.curvature_bound * self.region**2
        beta = l_xy[:, None].expand(-1, len(self.layers))
        return Constants(l=joint_smoothness(l_xx, l_xy, l_yy), mu=-l_yy, l_xx=l_xx, l_xy=l_xy, l_yy=l_yy, beta=beta)

    def one_step_is_exact(self, x: Tensor, rho: float) -> Tensor:
        """[..., B], whether one projected ascent step of size rho from y = 0 lands on y*(x): rho |grad_y_j f| >= omega."""
        gradient = self.grad_y(x, x.new_zeros(*x.shape[:-1], self.d_y)).unflatten(-1, (self.samples, -1))
        return (rho * gradient.norm(dim=-1) >= self.omega[:, None]).all(-1)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """sum_j loss((a_j + y_j)'x)."""
        return self.loss(self._margins(x, y)).sum(-1)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """sum_j loss'(m_j) (a_j + y_j)."""
        return (self.slope(self._margins(x, y)).unsqueeze(-1) * self._perturbed(y)).sum(-2)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """loss'(m_j) x for each j."""
        return (self.slope(self._margins(x, y)).unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)

    def y_star(self, x: Tensor) -> Tensor:
        """worst_side_j omega x/|x| for each j."""
        side = self.worst_side(self._clean(x)).unsqueeze(-1)
        return self.support_point((side * x.unsqueeze(-2)).flatten(-2))

    def phi(self, x: Tensor) -> Tensor:
        """sum_j loss(a_j'x + worst_side_j omega |x|)."""
        clean = self._clean(x)
        reach = (self.omega * x.norm(dim=-1)).unsqueeze(-1)
        return self.loss(clean + self.worst_side(clean) * reach).sum(-1)

    def _perturbed(self, y: Tensor) -> Tensor:
        return self.features + y.unflatten(-1, (self.samples, -1))

    def _margins(self, x: Tensor, y: Tensor) -> Tensor:
        return (self._perturbed(y) @ x.unsqueeze(-1)).squeeze(-1)

    def _clean(self, x: Tensor) -> Tensor:
        return (self.features @ x.unsqueeze(-1)).squeeze(-1)


class RobustLogisticRegression(RobustLinearModel):
    """Logistic loss log(1 + exp(-b m)), labels b = +-1: Phi(x) = sum_j log(1 + exp(-b_j a_j'x + omega |x|))."""

    curvature_bound = 0.25

    def __post_init__(self) -> None:
        """Check the labels too."""
        super().__post_init__()
        if not (self.targets.abs() == 1).all():
            raise ValueError("RobustLogisticRegression.targets: labels must be -1 or +1")

    def loss(self, m: Tensor) -> Tensor:
        """log(1 + exp(-b m))."""
        return softplus(-self.targets * m)

    def slope(self, m: Tensor) -> Tensor:
        """-b s(-b m)."""
        return -self.targets * torch.sigmoid(-self.targets * m)

    def slope_bound(self, m: Tensor) -> Tensor:
        """s(m)."""
        return torch.sigmoid(m)

    def worst_side(self, m: Tensor) -> Tensor:
        """-b."""
        return (-self.targets).expand_as(m)


class RobustLeastSquares(RobustLinearModel):
    """Squared loss (m - b)^2: Phi(x) = sum_j (|a_j'x - b_j| + omega |x|)^2."""

    curvature_bound = 2.0
    tight = frozenset({"mu", "l_yy"})

    def loss(self, m: Tensor) -> Tensor:
        """(m - b)^2."""
        return (m - self.targets) ** 2

    def slope(self, m: Tensor) -> Tensor:
        """2 (m - b)."""
        return 2 * (m - self.targets)

    def slope_bound(self, m: Tensor) -> Tensor:
        """2 (m + |b|)."""
        return 2 * (m + self.targets.abs())

    def worst_side(self, m: Tensor) -> Tensor:
        """The sign of m - b, +1 at a tie."""
        return torch.where(m >= self.targets, 1.0, -1.0).to(m)

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """x = (region, 0, .., 0): d2f/dy_j2 = 2 x x' is largest there."""
        x = self.features.new_zeros(self.batch, self.d_x)
        x[:, 0] = self.region
        return [(x, self.features.new_zeros(self.batch, self.d_y))]
