"""The "Forsaken" game: first-order methods circle around a critical point that they cannot reach from outside."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, symmetric_2x2_norm

CRITICAL_POINT = (0.078026668738460068, 0.41193385136581986)  # the only one: y + g'(g'(y)) = 0.45 has one real root
INFLECTION = 0.6**0.5  # where g'' = 1/2 - 6 z^2 + 5 z^4 is least


@dataclass(frozen=True, eq=False)
class Forsaken(MinMaxProblem):
    """f(x, y) = x (y - 0.45) + g(x) - g(y), g(z) = z^2/4 - z^4/2 + z^6/6, scalars (Hsieh, Mertikopoulos, Cevher 2021).

    Neither convex in x nor concave in y (mu is negative), and no closed form for Phi. ``critical_point`` attracts the flow
    and small steps (below ``step_threshold``), but only from inside an unstable cycle around it: from outside, descent-ascent
    and extragradient end on a stable cycle at distances between about 0.92 and 1.9 from it.

    Args:
        region: [B], positive: the constants hold for |x|, |y| <= region. The outer cycle stays within 1.6.

    Raises:
        ValueError: wrong shape, not finite, not positive.
    """

    region: Tensor

    layers = (1,)
    has_phi = False
    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the region."""
        self._parameter("region", None, positive=True)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.region)

    @property
    def d_y(self) -> int:
        """1."""
        return 1

    @property
    def critical_point(self) -> tuple[Tensor, Tensor]:
        """(x [B, 1], y [B, 1]), about (.0780, .4119)."""
        x, y = (torch.full((self.batch, 1), z, dtype=torch.float64) for z in CRITICAL_POINT)
        return x, y

    @property
    def eigenvalues(self) -> Tensor:
        """Those of the Jacobian of F = (grad_x f, -grad_y f) there, [2], about .0447 +- .908i; descent-ascent follows -F."""
        p, q = (_g2(torch.tensor(z, dtype=torch.float64)) for z in CRITICAL_POINT)
        one = torch.ones_like(p)
        return torch.linalg.eigvals(torch.stack([torch.stack([p, one]), torch.stack([-one, q])]))

    @property
    def step_threshold(self) -> float:
        """2 Re(lambda)/|lambda|^2, about .108: below this step simultaneous descent-ascent is attracted by the point."""
        root = self.eigenvalues[0]
        return (2 * root.real / root.abs() ** 2).item()

    @cached_property
    def constants(self) -> Constants:
        """Exact on the region: f_xx and -f_yy run over the range of g'' independently."""
        low, high = _g2(self.region.clamp_max(INFLECTION)), _g2(self.region).clamp_min(0.5)
        one = torch.ones_like(low)
        corners = [symmetric_2x2_norm(p, one, -q) for p in (low, high) for q in (low, high)]
        block = torch.maximum(low.abs(), high.abs())
        return Constants(l=torch.stack(corners).amax(0), mu=low, l_xx=block, l_xy=one, l_yy=block, beta=one[:, None])

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """x (y - 0.45) + g(x) - g(y)."""
        return (x * (y - 0.45) + _g(x) - _g(y))[..., 0]

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """y - 0.45 + g'(x)."""
        return y - 0.45 + _g1(x)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """x - g'(y)."""
        return x - _g1(y)

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The critical point."""
        return [self.critical_point]

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """The four corners of the ranges of g''(x) and g''(y)."""
        low = self.region.clamp_max(INFLECTION)[:, None]
        high = torch.where(_g2(self.region) > 0.5, self.region, 0.0)[:, None]
        return [(x, y) for x in (low, high) for y in (low, high)]


def _g(z: Tensor) -> Tensor:
    return z**2 / 4 - z**4 / 2 + z**6 / 6


def _g1(z: Tensor) -> Tensor:
    return z / 2 - 2 * z**3 + z**5


def _g2(z: Tensor) -> Tensor:
    return 0.5 - 6 * z**2 + 5 * z**4
