"""What a min-max problem is in this package: a batch of functions f, the ball of y, and the constants they declare."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class NoClosedForm(NotImplementedError):
    """Phi or y* was asked of a problem that has none in closed form (its ``has_phi`` is False)."""


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of B instances, each a float64 tensor of shape [B] unless said; None where there is none.

    Attributes:
        l: joint smoothness, the largest norm of f's whole Hessian.
        mu: least eigenvalue of -d2f/dy2. Positive: strongly concave in y; 0: concave; negative: not concave.
        l_xx: largest norm of d2f/dx2.
        l_xy: largest norm of d2f/dxdy.
        l_yy: largest norm of d2f/dy2.
        beta: [B, h], the largest norm of d2f/dx_i dy for each layer i.
        L: [B, h], layer-wise smoothness of Phi: Phi(x+d) <= Phi(x) + <grad Phi(x), d> + (1/2) sum_i L_i |d_i|^2.
    """

    l: Tensor | None = None  # noqa: E741 - the theory's letter
    mu: Tensor | None = None
    l_xx: Tensor | None = None
    l_xy: Tensor | None = None
    l_yy: Tensor | None = None
    beta: Tensor | None = None
    L: Tensor | None = None

    @property
    def kappa(self) -> Tensor:
        """[B], the condition number l / mu; infinite where f is not strongly concave in y."""
        if self.l is None or self.mu is None:
            raise ValueError("kappa = l / mu needs both constants, and this problem declares none")
        return torch.where(self.mu > 0, self.l / self.mu, torch.inf)


class MinMaxProblem(ABC):
    """min over x of Phi(x) = max over y in Y of f(x, y), for B instances at once, in float64.

    Every method takes x [..., B, d_x] and y [..., B, d_y], any leading shape, and loops over no instance.
    Y is a product of Euclidean balls: y is cut into ``samples`` equal pieces, each of norm at most ``omega``.

    Attributes:
        layers: sizes of the blocks x_1 .. x_h, in order; they add up to d_x.
        samples: number of pieces of y (one-dimensional pieces make Y a box).
        omega: [B], radius of each piece's ball, or None where Y is the whole space.
        region: [B], the constants hold for |x| <= region (and |y| <= region where omega is None); None: everywhere.
        tight: names of the constants that are attained, in every instance, so that no smaller one would be true.
        has_phi: whether Phi, its gradient and y* are known in closed form (or to rounding).
    """

    layers: tuple[int, ...]
    samples: int = 1
    omega: Tensor | None = None
    region: Tensor | None = None
    tight: frozenset[str] = frozenset()
    has_phi: bool = True

    @property
    @abstractmethod
    def batch(self) -> int:
        """B, the number of instances."""

    @property
    @abstractmethod
    def d_y(self) -> int:
        """Dimension of y."""

    @property
    def d_x(self) -> int:
        """Dimension of x."""
        return sum(self.layers)

    @property
    @abstractmethod
    def constants(self) -> Constants:
        """The declared constants; ``verify`` checks them."""

    @abstractmethod
    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """f(x, y), [..., B]."""

    @abstractmethod
    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradient in x, [..., B, d_x]."""

    @abstractmethod
    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradient in y, [..., B, d_y]."""

    def y_star(self, x: Tensor) -> Tensor:
        """A maximiser of f(x, .) over Y, [..., B, d_y].

        Raises:
            NoClosedForm: where ``has_phi`` is False.
        """
        raise NoClosedForm(f"{type(self).__name__} knows no maximiser y*(x) in closed form; maximise f numerically")

    def phi(self, x: Tensor) -> Tensor:
        """Phi(x), [..., B]. Raises NoClosedForm where ``has_phi`` is False."""
        return self.f(x, self.y_star(x))

    def grad_phi(self, x: Tensor) -> Tensor:
        """Gradient of Phi (at a kink: one of the subgradients), [..., B, d_x], by Danskin's theorem at y*(x)."""
        return self.grad_x(x, self.y_star(x))

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """Known (x [B, d_x], y [B, d_y]) with grad_x f = 0 and y = P_Y(y + grad_y f); not always all of them."""
        return []

    def extremal_points(self) -> list[tuple[Tensor, Tensor]]:
        """Points (x [B, d_x], y [B, d_y]) where the ``tight`` constants are attained, if not everywhere."""
        return []

    def project_y(self, y: Tensor) -> Tensor:
        """The point of Y nearest to y, [..., B, d_y]."""
        if self.omega is None:
            return y
        pieces = y.unflatten(-1, (self.samples, -1))
        norm = pieces.norm(dim=-1, keepdim=True)
        outside = norm > self.omega[:, None, None]
        scale = torch.where(outside, self.omega[:, None, None] / torch.where(outside, norm, 1.0), 1.0)
        return (pieces * scale).flatten(-2)

    def support_point(self, v: Tensor) -> Tensor:
        """The maximiser of <v, y> over Y, [..., B, d_y]; where a piece of v is 0, omega times the first unit vector.

        Raises:
            NoClosedForm: where Y is the whole space, so that the supremum is infinite.
        """
        if self.omega is None:
            raise NoClosedForm(f"{type(self).__name__} without a radius omega: the maximum over y is not attained")
        pieces = v.unflatten(-1, (self.samples, -1))
        # Scaled before the norm: the square of a tiny entry underflows.
        peak = pieces.abs().amax(-1, keepdim=True)
        pieces = pieces / torch.where(peak > 0, peak, 1.0)
        norm = pieces.norm(dim=-1, keepdim=True)
        first = torch.zeros_like(pieces)
        first[..., 0] = 1.0
        direction = torch.where(norm > 0, pieces / torch.where(norm > 0, norm, 1.0), first)
        return (direction * self.omega[:, None, None]).flatten(-2)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The layers of x, each [..., B, d_i]."""
        return x.split(self.layers, dim=-1)

    def _parameter(self, name: str, *shape: int | None, positive: bool = False) -> Tensor:
        """Check the field ``name`` (None in ``shape``: any size), store it as float64 and return it."""
        value = parameter(f"{type(self).__name__}.{name}", getattr(self, name), *shape, positive=positive)
        object.__setattr__(self, name, value)
        return value

    def _one_layer_by_default(self, d_x: int) -> None:
        layers = tuple(self.layers) or (d_x,)
        if sum(layers) != d_x or any(size < 1 for size in layers):
            raise ValueError(f"{type(self).__name__}.layers: {layers} must be positive sizes adding up to d_x = {d_x}")
        object.__setattr__(self, "layers", layers)


def parameter(name: str, value: Any, *shape: int | None, positive: bool = False) -> Tensor:
    """Check one parameter of a problem.

    Args:
        name: how messages call it.
        value: anything ``torch.as_tensor`` takes.
        shape: the shape it must have, instances first; None stands for any size.
        positive: whether every entry must be > 0.

    Returns:
        The value as a float64 tensor.

    Raises:
        ValueError: wrong shape, no instance, not finite, or not positive.
    """
    tensor = torch.as_tensor(value, dtype=torch.float64)
    wanted = "[" + ", ".join("B" if i == 0 and n is None else str(n or "any") for i, n in enumerate(shape)) + "]"
    fits = tensor.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
    if not fits:
        raise ValueError(f"{name}: expected shape {wanted} (instances first), got {list(tensor.shape)}")
    if tensor.numel() == 0:
        raise ValueError(f"{name}: is empty, shape {list(tensor.shape)}; at least one instance and one dimension")
    if not tensor.isfinite().all():
        raise ValueError(f"{name}: every entry must be finite, got {tensor[~tensor.isfinite()][0].item()}")
    if positive and not (tensor > 0).all():
        raise ValueError(f"{name}: every entry must be positive, got {tensor.min().item()}")
    return tensor


def spectral_norm(matrix: Tensor) -> Tensor:
    """Largest singular value of matrix [..., m, n], [...]."""
    return torch.linalg.matrix_norm(matrix, 2)


def joint_smoothness(l_xx: Tensor, l_xy: Tensor, l_yy: Tensor) -> Tensor:
    """The norm of [[l_xx, l_xy], [l_xy, l_yy]], [B]: an upper bound of l from the blocks' norms."""
    mean, half_gap = (l_xx + l_yy) / 2, (l_xx - l_yy) / 2
    return mean + (half_gap**2 + l_xy**2).sqrt()


def symmetric_2x2_norm(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """The norm of [[p, q], [q, r]], elementwise."""
    return ((p + r) / 2).abs() + (((p - r) / 2) ** 2 + q**2).sqrt()
