"""The orthogonal direction's path: matrices of one size go through Newton and Schulz's iteration together."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from scala.lamb.algorithm import trust_ratio
from scala.lamb.dialects import Dialect
from scala.lamb.layers import Layer, whole_norm, whole_norms
from scala.orthogonal import orthogonal
from scala.shards import gathered, own_part

STACK = 2**26
"""Entries of matrices that are made orthogonal together."""


def step_orthogonal(layers: Iterable[Layer], group: dict[str, Any], dialect: Dialect) -> None:
    """Some matrices at a time: together they are faster, and all of a large model would need its memory twice.

    A matrix that is spread over processes is gathered, since its direction is of the whole: each process finds all directions,
    and moves its part.
    """
    batch: list[Layer] = []
    entries = 0
    for layer in layers:
        if batch and (layer.x.device != batch[0].x.device or entries + layer.param.numel() > STACK):
            _step(batch, group, dialect)
            batch, entries = [], 0
        batch.append(layer)
        entries += layer.param.numel()
    if batch:
        _step(batch, group, dialect)


def _step(batch: list[Layer], group: dict[str, Any], dialect: Dialect) -> None:
    beta1 = group["betas"][0]
    momenta = []
    for layer in batch:
        grad = layer.clipped()
        m = layer.m.lerp_(grad, 1 - beta1)
        ahead = torch.lerp(m, grad, 1 - beta1)  # Nesterov's: the gradient of now counts once more
        momenta.append(gathered(ahead, layer.param).flatten(1))
    for layer, r in zip(batch, orthogonal(momenta), strict=True):
        p, x = layer.param, layer.x
        root = math.sqrt(p.numel())
        norm = whole_norm(r)
        u = own_part(r.reshape(p.shape), p) * torch.where(norm > 0, root / norm, 0.0)
        if group["weight_decay"]:
            u = torch.add(u, x, alpha=group["weight_decay"])
        rate: torch.Tensor | float = group["lr"]
        if group["adapt"]:
            x_norm, u_norm = whole_norms(p, x, u)
            x_norm = x_norm.clamp(min=dialect.layer_floor * root)
            u_norm = u_norm.clamp(min=dialect.direction_floor * root)
            ratio = layer.state["trust_ratio"] = trust_ratio(x_norm, u_norm, dialect)
            rate = ratio * group["lr"]
        x.sub_(u.mul_(rate))
        layer.write_back()
