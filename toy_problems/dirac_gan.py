"""The Dirac-GAN: one-parameter generator against one-parameter discriminator."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import softplus

from toy_problems.problem import Constants, MinMaxProblem, NoClosedForm, joint_smoothness

WORST_LOGIT = 2.3993572805154674  # u tanh(u/2) = 2: where sigma(u) + u sigma'(u), the mixed derivative, is largest


@dataclass(frozen=True, eq=False)
class DiracGAN(MinMaxProblem):
    """f(x, y) = -log(1 + exp(-x y)), scalars, concave in y. The origin is the only saddle.

    Simultaneous descent-ascent spirals outwards: |z+|^2 = (1 + eta^2 s(-xy)^2) |z|^2, s the logistic function. l is an
    upper bound from the exact l_xx, l_xy, l_yy. With a radius, Phi(x) = -log(1 + exp(-omega |x|)); without, not attained.

    Args:
        region: [B], positive: the constants hold for |x| <= region, and |y| <= region where y is free.
        omega: [B] or None.

    Raises:
        ValueError: wrong shapes, not finite, not positive.
    """

    region: Tensor
    omega: Tensor | None = None

    layers = (1,)
    tight = frozenset({"mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the radii."""
        batch = len(self._parameter("region", None, positive=True))
        if self.omega is not None:
            self._parameter("omega", batch, positive=True)
        object.__setattr__(self, "has_phi", self.omega is not None)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.region)

    @property
    def d_y(self) -> int:
        """1."""
        return 1

    @cached_property
    def constants(self) -> Constants:
        """On |x| <= region, |y| <= omega (or region)."""
        logit = self._worst_logit
        slope = logit.sigmoid()
        l_xx, l_yy = self._y_bound**2 / 4, self.region**2 / 4
        l_xy = slope + logit * slope * (1 - slope)
        return Constants(
            l=joint_smoothness(l_xx, l_xy, l_yy),
            mu=torch.zeros_like(l_xx),
            l_xx=l_xx,
            l_xy=l_xy,
            l_yy=l_yy,
            beta=l_xy[:, None],
        )

    def descent_ascent_growth(self, x: Tensor, y: Tensor, step: float) -> Tensor:
        """sqrt(1 + step^2 s(-xy)^2), [..., B]: growth of |(x, y)| in one simultaneous step from (x, y), y free."""
        return (1 + (step * torch.sigmoid(-x * y)[..., 0]) ** 2).sqrt()

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """-log(1 + exp(-x y))."""
        return -softplus(-x * y)[..., 0]

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """s(-xy) y."""
        return torch.sigmoid(-x * y) * y

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """s(-xy) x."""
        return torch.sigmoid(-x * y) * x

    def y_star(self, x: Tensor) -> Tensor:
        """omega sign(x)."""
        return self.support_point(x)

    def phi(self, x: Tensor) -> Tensor:
        """-log(1 + exp(-omega |x|))."""
        if self.omega is None:
            raise NoClosedForm("DiracGAN without a radius omega: the supremum over y is not attained")
        return -softplus(-self.omega * x[..., 0].abs())

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin."""
        zero = self.region.new_zeros(self.batch, 1)
        return [(zero, zero)]

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """Largest |y| at x = 0, largest |x| at y = 0, and the product x y = -u of the largest mixed derivative."""
        x, y = self.region[:, None], self._y_bound[:, None]
        share = (self._worst_logit[:, None] / (x * y)).sqrt()
        return [(0 * x, y), (x, 0 * y), (-share * x, share * y)]

    @property
    def _y_bound(self) -> Tensor:
        return self.region if self.omega is None else self.omega

    @property
    def _worst_logit(self) -> Tensor:
        return (self.region * self._y_bound).clamp_max(WORST_LOGIT)
