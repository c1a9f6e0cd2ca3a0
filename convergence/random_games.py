"""Random games whose condition number is exactly the one asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from toy_problems import Quadratic, Sigmoid
from toy_problems.sigmoid import S2_MAX, S2_MIN


def symmetric_norm(symmetric: Tensor) -> Tensor:
    """Largest eigenvalue in size, [B]."""
    return torch.linalg.eigvalsh(symmetric).abs().amax(-1)


def random_games(
    kappa: float,
    batch: int,
    seed: int = 0,
    *,
    dim: int = 3,
    sigmoid: bool = False,
    omega: float | None = None,
    sign: int = 0,
    copies: tuple[int, int] = (1, 1),
) -> Quadratic | Sigmoid:
    """Random strongly concave games with l = 1 and mu = 1/kappa exactly, so that one step size suits the whole batch.

    Args:
        kappa: condition number, > 1.
        batch: instances.
        seed: of the draw.
        dim: of x and of y.
        sigmoid: saturating losses instead of A's quadratic.
        omega: radius of the ball; None: no ball.
        sign: of A: -1 or +1; 0: indefinite.
        copies: (m, k): every instance k times in a row, and all that m times over.
    """
    generator = torch.Generator().manual_seed(seed)
    G, E, F, Q = torch.randn(4, batch, dim, dim, generator=generator, dtype=torch.float64)
    A = {0: (G + G.mT) / 2}.get(sign, sign * G @ G.mT)
    A = A / (2 * symmetric_norm(A)[:, None, None])
    B = E / symmetric_norm(E.mT @ E).sqrt()[:, None, None]
    spectrum = kappa ** -torch.rand(batch, dim, generator=generator, dtype=torch.float64)
    spectrum[:, 0] = 1 / kappa
    V = torch.linalg.qr(Q)[0]
    C = V @ torch.diag_embed(spectrum) @ V.mT
    features = F / (2 * symmetric_norm(F.mT @ F).sqrt()[:, None, None])
    gram = features.mT @ features
    ends = torch.stack([S2_MIN * gram, S2_MAX * gram]) if sigmoid else A[None]  # of the Hessian's block in x

    # l grows with the coupling, from below 1 without any to at least 1 at norm 1.
    low, high = torch.zeros(batch, dtype=torch.float64), torch.ones(batch, dtype=torch.float64)
    for _ in range(50):
        middle = (low + high) / 2
        S = (middle[:, None, None] * B).expand_as(ends)
        H = torch.cat([torch.cat([ends, S], -1), torch.cat([S.mT, -C.expand_as(ends)], -1)], -2)
        small = symmetric_norm(H).amax(0) < 1
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)

    def copied(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(copies[1], 0).repeat(copies[0], *(1,) * (tensor.ndim - 1))

    radius = None if omega is None else copied(torch.full((batch,), omega, dtype=torch.float64))
    B = low[:, None, None] * B
    quadratic = Quadratic(copied(0 * A if sigmoid else A), copied(B), copied((C + C.mT) / 2), omega=radius)
    return Sigmoid(copied(features), quadratic) if sigmoid else quadratic
