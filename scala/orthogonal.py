"""The orthogonal direction of a matrix: all its singular values made alike, by Newton and Schulz's iteration.

A gradient of a weight matrix has few large singular values, and Adam's direction, whose entries are all about 1, keeps them. A
step of it that is small against the weights' norm can be large along those few directions. The nearest orthogonal matrix is
large along none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a step X <- a X + b (X X^T) X + c (X X^T)^2 X. Jordan's (Muon, 2024): steep at 0, then within [0.68, 1.21]."""
STEPS = 5


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """U V^T, nearly, of each matrix U S V^T: its singular values come to between 0.68 and 1.21.

    Values below some 1e-3 of the matrix's norm come out smaller, in proportion. Five steps, as in Muon (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon) and torch.optim.Muon. On a GPU in bfloat16, as there; else in the matrices' own
    precision. Matrices of one shape, or its transpose, go through the same calls.

    Args:
        matrices: [n, m] each, float32 or float64, of one device. A matrix of zeros stays so.

    Returns:
        Matrices of the same shapes and precision.
    """
    found: list[Tensor] = list(matrices)
    alike: dict[tuple[int, int, torch.dtype], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[min(matrix.shape), max(matrix.shape), matrix.dtype].append(i)
    for members in alike.values():
        stacked = torch.stack([_wide(matrices[i]) for i in members])
        for i, result in zip(members, _iterate(stacked).unbind(), strict=True):
            found[i] = result if matrices[i].shape == result.shape else result.mT
    return found


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _iterate(x: Tensor) -> Tensor:
    """Of a stack [k, n, m] with n <= m."""
    a, b, c = COEFFICIENTS
    norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    work = (x / norms.clamp(min=torch.finfo(x.dtype).tiny)).to(torch.bfloat16 if x.is_cuda else x.dtype)
    # Of a wide matrix X X^T is small: its iterates need no X until the end. They square small values, so not in bfloat16.
    if work.shape[2] < 2 * work.shape[1] or work.dtype == torch.bfloat16:
        for _ in range(STEPS):
            gram = work @ work.mT
            work = torch.baddbmm(work, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), work, beta=a)
        return work.to(x.dtype)
    gram, product = work @ work.mT, None
    for step in range(STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < STEPS - 1:
            gram = factor @ gram @ factor
    return product @ work
