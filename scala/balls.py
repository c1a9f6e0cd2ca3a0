"""Balls of noise, one a sample: the follower's feasible set Y.

The noise y of a batch has shape [B, ...]: one y per sample, so norms, radii and projections are per sample, never per batch.
A mask says which entries exist: padding carries no noise and takes no part in a norm, so that padding a batch to a greater
length changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Norm = Literal["l2", "linf"]
NORMS: tuple[str, ...] = get_args(Norm)


@dataclass(frozen=True)
class Ball:
    """The product over samples i of {y_i : ||y_i|| <= radius_i, y_i = 0 on the padding}.

    Attributes:
        radius: omega_i, shape [B], in the units of the noise; fp32 or wider.
        norm: "l2" (over all entries of a sample together) or "linf" (the largest entry).
        mask: shape [B, 1 ... or n, ...], broadcastable to the noise, 1 where an entry exists, 0 on padding; None: all exist.
    """

    radius: Tensor
    norm: Norm
    mask: Tensor | None = None

    @classmethod
    def around(
        cls,
        at: Tensor,
        radius: float | Tensor,
        norm: Norm = "l2",
        *,
        relative: bool = False,
        mask: Tensor | None = None,
    ) -> Ball:
        """Build the ball of noise for the points `at`.

        Args:
            at: what the noise is added to, shape [B, ...] (embeddings: [B, L, d]).
            radius: omega > 0; or one a sample, [B], >= 0, where 0 is no noise. Absolute; or, if `relative`, a fraction of each
                sample's own size: for "l2" of ||at_i||_2, for "linf" of the root mean square of its entries.
            norm: "l2" or "linf".
            relative: see `radius`.
            mask: shape a prefix of at's (embeddings: the attention mask [B, L]); non-zero where an entry exists.

        Raises:
            ValueError: radius not positive and finite, or not one a sample; unknown norm; mask's shape not a prefix of at's.
        """
        check_ball(radius, norm)
        dtype = torch.promote_types(at.dtype, torch.float32)
        if mask is not None:
            if mask.shape != at.shape[: mask.ndim]:
                raise ValueError(
                    f"the mask's shape {tuple(mask.shape)} must be a prefix of the shape {tuple(at.shape)} it masks"
                )
            mask = (mask != 0).to(dtype).reshape(mask.shape + (1,) * (at.ndim - mask.ndim))
        if isinstance(radius, Tensor):
            if radius.shape != at.shape[:1]:
                raise ValueError(
                    f"a radius tensor needs one radius a sample, shape ({at.shape[0]},), got shape {tuple(radius.shape)}"
                )
            unit = radius.detach().to(at.device, dtype)
        else:
            unit = torch.full((at.shape[0],), float(radius), dtype=dtype, device=at.device)
        if relative:
            size = _norms(_masked(at.detach().to(dtype), mask), "l2")
            if norm == "linf":
                size = size / _entries(at, mask).clamp(min=1).sqrt()
            unit = unit * size
        return cls(unit, norm, mask)

    def sizes(self, y: Tensor) -> Tensor:
        """||y_i|| for each sample, shape [B]; padding does not count."""
        return _norms(_masked(y, self.mask), self.norm)

    def project(self, y: Tensor) -> Tensor:
        """P_Y(y), the nearest point of the ball; zero on the padding."""
        y = _masked(y, self.mask)
        if self.norm == "linf":
            bound = _rows(self.radius, y)
            return torch.minimum(torch.maximum(y, -bound), bound)
        sizes = _norms(y, "l2")
        shrink = torch.where(sizes > self.radius, self.radius / sizes, torch.ones_like(sizes))
        return y * _rows(shrink, y)

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest ascent direction of unit size: g/||g||_2 in "l2", sign(g) in "linf".

        A sample whose gradient is zero or not finite gets a zero direction: it stays where it is.
        """
        g = _masked(gradient, self.mask)
        largest = _norms(g, "linf")
        usable = (largest > 0) & torch.isfinite(largest)
        g = torch.where(_rows(usable, g), g, 0.0)
        if self.norm == "linf":
            return g.sign()
        # Dividing by the largest entry first keeps the squares of tiny gradients from underflowing.
        g = g / _rows(torch.where(usable, largest, 1.0), g)
        return g / _rows(_norms(g, "l2").clamp(min=torch.finfo(g.dtype).tiny), g)

    def uniform(self, like: Tensor) -> Tensor:
        """A point drawn uniformly from the ball, of like's shape, from torch's global random state."""
        dtype, device = self.radius.dtype, like.device
        if self.norm == "linf":
            return _masked(
                (2 * torch.rand(like.shape, dtype=dtype, device=device) - 1) * _rows(self.radius, like),
                self.mask,
            )
        # Uniform on the sphere times U^(1/n), n the number of entries that exist.
        sphere = self.direction(torch.randn(like.shape, dtype=dtype, device=device))
        depth = torch.rand(like.shape[0], dtype=dtype, device=device) ** (1 / _entries(like, self.mask).clamp(min=1))
        return sphere * _rows(self.radius * depth, like)


def check_ball(radius: float | Tensor, norm: str) -> None:
    """Refuse a radius out of its range (ValueError), see `Ball.around`, and an unknown norm (ValueError)."""
    if isinstance(radius, Tensor):
        if radius.ndim != 1 or not ((radius >= 0) & radius.isfinite()).all():
            raise ValueError(f"a radius tensor must hold finite numbers >= 0, one a sample, got {radius}")
    elif not 0 < radius < float("inf"):
        raise ValueError(f"radius must be positive and finite, got {radius}; for no noise play without a follower")
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")


def _rows(per_sample: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ..., 1], to multiply a tensor of like's shape."""
    return per_sample.reshape(-1, *(1,) * (like.ndim - 1))


def _masked(y: Tensor, mask: Tensor | None) -> Tensor:
    # where, not a product: 0 * nan would let padding spoil a sample.
    return y if mask is None else torch.where(mask != 0, y, 0.0)


def _norms(y: Tensor, norm: str) -> Tensor:
    dims = tuple(range(1, y.ndim))
    if not dims:
        return y.abs()
    if norm == "linf":
        return y.abs().amax(dim=dims) if y[0:1].numel() else y.new_zeros(y.shape[0])
    return torch.linalg.vector_norm(y, dim=dims)


def _entries(at: Tensor, mask: Tensor | None) -> Tensor:
    """Number of entries of each sample that exist, shape [B]."""
    dtype = torch.promote_types(at.dtype, torch.float32)
    exists = torch.ones((), dtype=dtype, device=at.device) if mask is None else mask
    return exists.expand(at.shape).reshape(at.shape[0], -1).sum(dim=1)
