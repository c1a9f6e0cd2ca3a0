"""A layer on its way through a step, and the sums over it: what the fast paths share."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scala.lamb.dialects import Dialect
from scala.shards import is_spread, joined

# Entries of a layer that are worked on together: many enough to hide what a call costs, few enough that the norms find in
# cache what the moments' update left there. Sums of so few squares are also far more accurate than those of a layer.
PIECE = 2**20


class Layer(NamedTuple):
    """One layer; of a parameter that is spread over processes, all tensors but `param` are the part here.

    Attributes:
        param: the parameter as the optimizer was given it.
        here: the parameter, or the part of it here, in its own precision.
        x: `here`, or its master copy.
        grad: the gradient, in x's precision.
        clip: what the gradient is still to be divided by.
        m: the first moment.
        v: the second; None where the dialect has none.
        step: t, this step included.
        state: the parameter's state, which the trust ratio goes into.
    """

    param: Tensor
    here: Tensor
    x: Tensor
    grad: Tensor
    clip: Tensor | None
    m: Tensor
    v: Tensor | None
    step: float
    state: dict[str, Any]

    def clipped(self) -> Tensor:
        """The gradient, clipped."""
        return self.grad if self.clip is None else self.grad / self.clip

    def write_back(self) -> None:
        """Round the master copy, if there is one, to the parameter."""
        if self.x is not self.here:
            self.here.copy_(self.x)


def constants(group: dict[str, Any], dialect: Dialect, step: float) -> tuple[float, float]:
    """eps' and scale such that r = scale * m / (sqrt(v) + eps').

    Carrying the scalar to the end saves two passes over memory; until then the fast paths' `u` means u / scale.
    """
    if not dialect.bias_correction:
        return group["eps"], 1.0
    beta1, beta2 = group["betas"]
    root = math.sqrt(1 - beta2**step) if dialect.second_moment else 1.0
    return group["eps"] * root, root / (1 - beta1**step)


def roots(layers: Iterable[Layer]) -> list[float]:
    """For each layer the root of its number of entries: its norm if all of them were 1."""
    return [math.sqrt(layer.param.numel()) for layer in layers]


def at_least(norms: Tensor, floor: float, roots: list[float]) -> Tensor:
    """Norms [layers] whose root mean squares are below the floor, lifted to it; without a copy to the device."""
    if not floor:
        return norms
    return torch.stack(torch._foreach_clamp_min(list(norms.unbind()), [floor * root for root in roots]))


def whole_norm(z: Tensor) -> Tensor:
    """The L2 norm of z, float32 or wider."""
    if not z.is_cpu:
        return torch.linalg.vector_norm(z, dtype=full(z.dtype))
    # On a CPU torch's norm is slower, and of ten million float32 entries it is wrong from its fourth digit on.
    flat = z.to(full(z.dtype)).reshape(-1)
    squares = sum(torch.dot(piece, piece).item() for piece in flat.split(PIECE))
    return torch.tensor(math.sqrt(squares), dtype=flat.dtype)


def whole_norms(param: Tensor, *parts: Tensor) -> list[Tensor]:
    """The L2 norm of each tensor that is spread as the parameter is and of which a part is here."""
    norms = [whole_norm(part) for part in parts]
    return list(joined(torch.stack(norms), param).unbind()) if is_spread(param) else norms


def full(dtype: torch.dtype) -> torch.dtype:
    """The precision of the state of a parameter."""
    return torch.promote_types(dtype, torch.float32)
