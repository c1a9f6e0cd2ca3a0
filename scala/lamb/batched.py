"""All layers at once, by torch's foreach calls: few launches on a GPU, little overhead for small layers on a CPU."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from scala.lamb.algorithm import trust_ratio
from scala.lamb.dialects import Dialect
from scala.lamb.layers import Layer, at_least, constants, roots, whole_norm
from scala.shards import is_spread, joined, place


def step_batched(layers: Iterable[Layer], group: dict[str, Any], dialect: Dialect) -> None:
    """One step of all layers, those alike together; of spread ones all norms are joined in two calls."""
    buckets = defaultdict(list)
    for layer in layers:
        buckets[layer.here.device, layer.here.dtype, layer.step, place(layer.param)].append(layer)
    for bucket in buckets.values():
        _step(bucket, group, dialect)


def _step(bucket: list[Layer], group: dict[str, Any], dialect: Dialect) -> None:
    beta1, beta2 = group["betas"]
    eps, scale = constants(group, dialect, bucket[0].step)
    xs = [layer.x for layer in bucket]
    grads = [layer.clipped() for layer in bucket]
    m = [layer.m for layer in bucket]
    torch._foreach_lerp_(m, grads, 1 - beta1)
    u: list[Tensor] | tuple[Tensor, ...] = m
    if dialect.second_moment:
        v = [layer.v for layer in bucket if layer.v is not None]
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
        root = torch._foreach_sqrt(v)
        torch._foreach_add_(root, eps)
        u = torch._foreach_div(m, root)
    if group["weight_decay"]:
        u = torch._foreach_add(u, xs, alpha=group["weight_decay"] / scale)

    if group["adapt"]:
        x_norms, u_norms = (_norms(z, bucket[0].param) for z in (xs, u))
        x_norms = at_least(x_norms, dialect.layer_floor, roots(bucket))
        u_norms = at_least(u_norms * scale, dialect.direction_floor, roots(bucket))
        ratios = trust_ratio(x_norms, u_norms, dialect).unbind()
        torch._foreach_addcmul_(xs, u, ratios, value=-group["lr"] * scale)
        for layer, ratio in zip(bucket, ratios, strict=True):
            layer.state["trust_ratio"] = ratio
    else:
        torch._foreach_add_(xs, u, alpha=-group["lr"] * scale)
    if xs[0] is not bucket[0].here:
        torch._foreach_copy_([layer.here for layer in bucket], xs)


def _norms(z: Iterable[Tensor], first: Tensor) -> Tensor:
    """Of each layer, [layers]; the layers are spread as the first parameter is."""
    z = list(z)
    # On a CPU spread layers of any size come here, and torch's own norm is of small layers alone exact there.
    by_pieces = is_spread(first) and z[0].is_cpu
    return joined(torch.stack([whole_norm(t) for t in z] if by_pieces else torch._foreach_norm(z)), first)
