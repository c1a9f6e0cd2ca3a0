"""Layer by layer, in a few calls each: for layers that the fused and the batched path do not take, and for rows."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from scala.lamb.algorithm import trust_ratio
from scala.lamb.dialects import Dialect
from scala.lamb.layers import Layer, constants, whole_norms


def step_tensorwise(layers: Iterable[Layer], group: dict[str, Any], dialect: Dialect) -> None:
    """One step of each layer; no more than one direction lives at once."""
    beta1, beta2 = group["betas"]
    for layer in layers:
        x, grad = layer.x, layer.clipped()
        eps, scale = constants(group, dialect, layer.step)
        m = layer.m.lerp_(grad, 1 - beta1)
        u = m
        if layer.v is not None:
            v = layer.v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            u = v.sqrt().add_(eps)
            torch.div(m, u, out=u)
        if group["weight_decay"]:
            # In place where u is ours; the momentum itself must stay as it is.
            u = torch.add(u, x, alpha=group["weight_decay"] / scale, out=None if u is m else u)

        if group["adapt"]:
            x_norm, u_norm = (_row_norms(x), _row_norms(u)) if group["per_row"] else whole_norms(layer.param, x, u)
            root = math.sqrt(layer.param.numel() / x_norm.numel())
            x_norm = x_norm.clamp(min=dialect.layer_floor * root)
            u_norm = (u_norm * scale).clamp(min=dialect.direction_floor * root)
            ratio = layer.state["trust_ratio"] = trust_ratio(x_norm, u_norm, dialect)
            x.addcmul_(u, ratio, value=-group["lr"] * scale)
        else:
            x.add_(u, alpha=-group["lr"] * scale)
        layer.write_back()


def _row_norms(z: Tensor) -> Tensor:
    """[rows, 1, ..., 1]."""
    # The added dimension keeps a 1-d tensor from having no dimension to reduce, which torch takes to mean all.
    return torch.linalg.vector_norm(z.unsqueeze(-1), dim=tuple(range(1, z.ndim + 1)), keepdim=True).squeeze(-1)
