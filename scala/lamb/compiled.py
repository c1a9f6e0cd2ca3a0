"""For torch.compile: every layer by `lamb_step`, in one graph for all steps, since t is a tensor and nothing is read back."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scala.lamb.algorithm import lamb_step
from scala.lamb.dialects import Dialect
from scala.lamb.layers import full

Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
"""Of the layers of a group: parameters, x (they or their master copies), gradients, m, v, t, and room for the trust ratios.

There is no v where the dialect has none, and no room for ratios where the group does not adapt.
"""


def step_compiled(groups: Sequence[tuple[dict[str, Any], Dialect, Lists]]) -> None:
    """One step of all layers."""
    norms = [torch.linalg.vector_norm(grad, dtype=full(grad.dtype)) for _, _, lists in groups for grad in lists[2]]
    for group, dialect, (params, xs, grads, ms, vs, steps, ratios) in groups:
        for i, (p, x) in enumerate(zip(params, xs, strict=True)):
            grad = grads[i].to(x.dtype)
            if group["maximize"]:
                grad = -grad
            if dialect.max_grad_norm < math.inf:
                grad = grad / (torch.linalg.vector_norm(torch.stack(norms)) / dialect.max_grad_norm).clamp(min=1.0)
            if x is not p:
                x.copy_(torch.where(x.to(p.dtype) == p, x, p))  # a parameter changed from outside wins
            ratio = lamb_step(
                x,
                grad,
                ms[i],
                vs[i] if vs else None,
                steps[i],
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                dialect=dialect,
                adapt=group["adapt"],
                per_row=group["per_row"],
            )
            if ratio is not None:
                ratios[i].copy_(ratio)
            if x is not p:
                p.copy_(x)
