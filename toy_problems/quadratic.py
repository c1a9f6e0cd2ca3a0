"""Quadratic games, with or without a ball: the extremal instance of Danskin's theorem, the oscillator."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, parameter, spectral_norm


@dataclass(frozen=True, eq=False)
class Quadratic(MinMaxProblem):
    """f(x, y) = x'Ax/2 + x'By - y'Cy/2 with C positive definite, |y| <= omega.

    Where the ball is not active y* = C^-1 B'x and Phi'' = A + B C^-1 B'; on it, y* = (C + nu)^-1 B'x for the nu >= 0
    that makes |y*| = omega, and Phi'' is smaller. All constants but L are exact. L_i adds up the norms of Phi'''s blocks
    in row i, which is at most the L_i(f) + beta_i sum_j beta_j / mu of the theory, and exact where Phi'' is block diagonal.

    Args:
        A: [B, d_x, d_x], symmetric, of any sign.
        B: [B, d_x, d_y].
        C: [B, d_y, d_y], symmetric positive definite.
        layers: sizes of the layers of x; empty: one layer.
        omega: [B] or None.

    Raises:
        ValueError: wrong shapes, not finite, A or C not symmetric, C not positive definite, omega <= 0.
    """

    A: Tensor
    B: Tensor
    C: Tensor
    layers: tuple[int, ...] = ()
    omega: Tensor | None = None

    tight = frozenset({"l", "mu", "l_xx", "l_xy", "l_yy", "beta"})

    def __post_init__(self) -> None:
        """Check the matrices."""
        batch, d_x, d_y = self._parameter("B", None, None, None).shape
        _check_symmetric("Quadratic.A", self._parameter("A", batch, d_x, d_x))
        _check_symmetric("Quadratic.C", self._parameter("C", batch, d_y, d_y))
        lowest = torch.linalg.eigvalsh(self.C).amin()
        if lowest <= 0:
            raise ValueError(f"Quadratic.C: must be positive definite, its least eigenvalue is {lowest.item()}")
        if self.omega is not None:
            self._parameter("omega", batch, positive=True)
        self._one_layer_by_default(d_x)

    @classmethod
    def extremal(cls, l: Tensor, mu: Tensor) -> "Quadratic":  # noqa: E741 - the theory's letter
        """(mu/2) x^2 + sqrt(l^2 - mu^2) x y - (mu/2) y^2: Phi'' = kappa l and Lip(y*) = sqrt(kappa^2 - 1).

        Args:
            l: [B], joint smoothness.
            mu: [B], strong concavity, 0 < mu <= l.

        Raises:
            ValueError: mu > l, or one of them not positive.
        """
        ell = parameter("l", l, None, positive=True)
        mu = parameter("mu", mu, len(ell), positive=True)
        if (mu > ell).any():
            worst = (mu - ell).argmax()
            raise ValueError(f"mu = {mu[worst].item()} exceeds l = {ell[worst].item()} at instance {worst.item()}")
        mu, b = mu[:, None, None], (ell**2 - mu**2).sqrt()[:, None, None]
        return cls(A=mu, B=b, C=mu)

    @classmethod
    def oscillator(cls, L: Tensor, mu: Tensor) -> "Quadratic":
        """Phi(x) = (1/2) sum_i L_i x_i^2, scalar layers: f = sum_i sqrt(mu L_i) x_i y_i - (mu/2) |y|^2.

        Normalised steps of length eta from ``oscillator_start(eta)`` jump from eta/2 to -eta/2 for ever, and sum_i
        |grad_i Phi| stays at eta |L|_1 / 2: the sharp instance of the curvature term of theorem (d).

        Args:
            L: [B, h], positive.
            mu: [B], positive.
        """
        L = parameter("L", L, None, None, positive=True)
        mu = parameter("mu", mu, len(L), positive=True)
        d = L.shape[1]
        eye = torch.eye(d, dtype=torch.float64)
        return cls(
            A=0 * torch.diag_embed(L), B=torch.diag_embed((mu[:, None] * L).sqrt()), C=mu[:, None, None] * eye, layers=(1,) * d
        )

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
        """Exact ones, from the Hessian."""
        hessian = torch.cat([torch.cat([self.A, self.B], 2), torch.cat([self.B.mT, -self.C], 2)], 1)
        spectrum = torch.linalg.eigvalsh(self.C)
        return Constants(
            l=spectral_norm(hessian),
            mu=spectrum[:, 0],
            l_xx=spectral_norm(self.A),
            l_xy=spectral_norm(self.B),
            l_yy=spectrum[:, -1],
            beta=torch.stack([spectral_norm(block) for block in self.B.split(self.layers, 1)], 1),
            L=layerwise_smoothness(self.hessian_phi, self.layers),
        )

    @property
    def hessian_phi(self) -> Tensor:
        """A + B C^-1 B', [B, d_x, d_x]: the Hessian of Phi where the ball is not active, an upper bound elsewhere."""
        hessian = self.A + self.B @ torch.linalg.solve(self.C, self.B.mT)
        return (hessian + hessian.mT) / 2

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """x'Ax/2 + x'By - y'Cy/2."""
        return ((_times(self.A, x) / 2 + _times(self.B, y)) * x).sum(-1) - (_times(self.C, y) * y).sum(-1) / 2

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """Ax + By."""
        return _times(self.A, x) + _times(self.B, y)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """B'x - Cy."""
        return _times(self.B.mT, x) - _times(self.C, y)

    def y_star(self, x: Tensor) -> Tensor:
        """C^-1 B'x, or the point of the sphere that solves the trust-region problem."""
        return concave_quadratic_maximiser(*self._spectrum, _times(self.B.mT, x), self.omega)

    def stationary_points(self) -> list[tuple[Tensor, Tensor]]:
        """The origin."""
        return [(self.B.new_zeros(self.batch, self.d_x), self.B.new_zeros(self.batch, self.d_y))]

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        eigenvalues, eigenvectors = torch.linalg.eigh(self.C)
        return eigenvalues, eigenvectors


def oscillator_start(step: float, L: Tensor) -> Tensor:
    """x = (step/2, .., step/2), [B, h]: where the oscillator of ``Quadratic.oscillator(L, mu)`` must start."""
    return torch.full_like(torch.as_tensor(L, dtype=torch.float64), step / 2)


def concave_quadratic_maximiser(lam: Tensor, V: Tensor, b: Tensor, omega: Tensor | None) -> Tensor:
    """argmax of <b, y> - y'Cy/2 over |y| <= omega, for C = V diag(lam) V', lam > 0: the trust-region problem.

    Newton's method on 1/omega - 1/|y(nu)|, y(nu) = (C + nu)^-1 b, rises monotonically to the multiplier nu from nu = 0.

    Args:
        lam: [B, d_y], positive eigenvalues.
        V: [B, d_y, d_y], eigenvectors.
        b: [..., B, d_y].
        omega: [B], or None for no constraint.

    Returns:
        [..., B, d_y].
    """
    b = _times(V.mT, b)
    nu = torch.zeros_like(b[..., :1])
    if omega is not None:
        radius = omega[:, None]
        active = (b / lam).norm(dim=-1, keepdim=True) > radius
        b_active = torch.where(active, b, 1.0)  # keeps the idle instances free of 0/0
        for _ in range(60):  # quadratic convergence: a handful is used, the rest is for extreme conditioning
            y = b_active / (lam + nu)
            norm = y.norm(dim=-1, keepdim=True)
            slope = (y**2 / (lam + nu)).sum(-1, keepdim=True)
            rise = torch.where(active, (norm / radius - 1) * norm**2 / slope, 0.0)
            nu = nu + rise
            if (rise.abs() <= 1e-15 * (lam[:, -1:] + nu)).all():
                break
    return _times(V, b / (lam + nu))


def layerwise_smoothness(hessian: Tensor, layers: tuple[int, ...]) -> Tensor:
    """L with hessian <= blockdiag(L_i I): the positive part of block ii's top eigenvalue, plus the norms of the blocks ij.

    Args:
        hessian: [B, d, d], symmetric, an upper bound of the function's Hessian.
        layers: sizes of the blocks.

    Returns:
        [B, h].
    """
    rows = []
    for i, row in enumerate(hessian.split(layers, 1)):
        blocks = row.split(layers, 2)
        own = torch.linalg.eigvalsh(blocks[i])[:, -1].clamp_min(0)
        rows.append(own + sum(spectral_norm(block) for j, block in enumerate(blocks) if j != i))
    return torch.stack(rows, 1)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _check_symmetric(name: str, matrix: Tensor) -> None:
    gap = (matrix - matrix.mT).abs().amax()
    if gap > 1e-12 * (1 + matrix.abs().amax()):
        raise ValueError(f"{name}: must be symmetric, differs from its transpose by {gap.item()}")
