"""On a CPU: two passes over memory in cache-sized pieces, by torch's own fused Adam and SGD kernels."""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from scala.lamb import layers
from scala.lamb.algorithm import trust_ratio
from scala.lamb.dialects import Dialect
from scala.lamb.layers import Layer, at_least, constants, roots

SMALL = 2**14
"""A layer with fewer entries costs more in calls than in arithmetic, and is batched with the others."""
_LINE = 16  # entries that fill at least a cache line: on which line a tensor starts decides the last bit of torch.dot


class Scratch:
    """Memory kept from step to step: on a CPU fresh pages cost more than all of the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def like(self, name: str, flat: list[Tensor]) -> list[Tensor]:
        """A flat tensor for each of these, holding finite numbers, on a cache line of its own."""
        sizes = [-(-len(t) // _LINE) * _LINE for t in flat]
        *starts, total = accumulate(sizes, initial=0)
        key = name, flat[0].dtype
        if key not in self._buffers or len(self._buffers[key]) < total:
            self._buffers[key] = torch.zeros(total, dtype=flat[0].dtype)
        return [self._buffers[key][start : start + len(t)] for start, t in zip(starts, flat, strict=True)]

    def clear(self) -> None:
        """Forget what is there."""
        self._buffers.clear()


def is_fusable(layer: Layer) -> bool:
    """Whether torch's fused kernels take it: dense, contiguous and on the CPU."""
    tensors = (layer.x, layer.grad, layer.m, layer.x if layer.v is None else layer.v)
    # Not a subclass, which may have no memory at all.
    return all(type(t) in (Tensor, nn.Parameter) and t.is_cpu and t.is_contiguous() for t in tensors)


def fits(layer: Layer, batch: list[Layer]) -> bool:
    """Whether it can go through the same calls, and they make up at most a piece; a larger layer goes alone."""
    first = batch[0]
    alike = (layer.x.dtype, layer.step) == (first.x.dtype, first.step)
    return alike and layer.x.numel() + sum(other.x.numel() for other in batch) <= layers.PIECE


def step_fused(batch: list[Layer], group: dict[str, Any], dialect: Dialect, scratch: Scratch) -> None:
    """Two passes over memory: the first updates the moments and leaves r in scratch, the second moves x along r + lambda x."""
    decay = group["weight_decay"]
    # r is a multiple of d: of the momentum where nothing divides it.
    scale = 1.0 if dialect.second_moment else constants(group, dialect, batch[0].step)[1]
    pieces = _pieces(batch, scratch)
    squares = torch.zeros(2, len(batch), dtype=torch.float64)
    for piece in pieces:
        _update_moments(piece, batch[0], group, dialect, scratch)
        if group["adapt"]:
            found = [_squares(x, d, decay / scale) for x, _, _, d, *_ in piece]
            squares += torch.tensor(found, dtype=torch.float64).T

    rates = [group["lr"]] * len(batch)
    if group["adapt"]:
        if not squares.isfinite().all():
            scratch.clear()  # the next step must not find NaN there, since 0 * NaN is NaN
        x_norms, d_norms = squares.sqrt().to(batch[0].x.dtype)
        x_norms = at_least(x_norms, dialect.layer_floor, roots(batch))
        ratios = trust_ratio(x_norms, at_least(d_norms * scale, dialect.direction_floor, roots(batch)), dialect)
        rates = (group["lr"] * ratios).tolist()
        for layer, ratio in zip(batch, ratios.unbind(), strict=True):
            layer.state["trust_ratio"] = ratio
    if group["adapt"] or not dialect.second_moment:  # else x has moved already
        for piece in reversed(pieces):  # what was touched last is still in cache
            for (x, _, _, d, *_), rate in zip(piece, rates, strict=True):
                _descend(x, d, rate * scale, decay / scale)
    for layer in batch:
        layer.write_back()


def _pieces(batch: list[Layer], scratch: Scratch) -> list[list[list[Tensor]]]:
    """x, gradient, m, d and, if there is one, v of all layers at once, or of the pieces of a large one; all of them flat."""
    rows = [[t.view(-1) for t in (layer.x, layer.grad, layer.m)] for layer in batch]
    seconds = [layer.v for layer in batch if layer.v is not None]
    if seconds:
        room = scratch.like("r", [x for x, *_ in rows])
        rows = [[*row, d, v.view(-1)] for row, d, v in zip(rows, room, seconds, strict=True)]
    else:
        rows = [[x, grad, m, m] for x, grad, m in rows]
    if len(batch) > 1 or batch[0].x.numel() <= layers.PIECE:
        return [rows]
    return [[list(row)] for row in zip(*(t.split(layers.PIECE) for t in rows[0]), strict=True)]


def _update_moments(piece: list[list[Tensor]], first: Layer, group: dict[str, Any], dialect: Dialect, scratch: Scratch) -> None:
    """Also leave r in d, or, where nothing adapts, move x at once."""
    xs, grads, ms, ds, *vs = map(list, zip(*piece, strict=True))
    if first.clip is not None and first.clip != 1:
        grads = [torch.div(g, first.clip, out=out) for g, out in zip(grads, scratch.like("grad", grads), strict=True)]
    if not dialect.second_moment:
        torch._foreach_lerp_(ms, grads, 1 - group["betas"][0])
        return
    # With rate -1 and decay -1 nothing is left of what was in scratch: (1 - 1) scratch + r.
    moved, lr, weight_decay = (ds, -1.0, -1.0) if group["adapt"] else (xs, group["lr"], group["weight_decay"])
    # Without bias correction t is infinite: then beta^t is zero.
    step = torch.tensor(first.step if dialect.bias_correction else math.inf)
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        moved,
        grads,
        ms,
        vs[0],
        [],
        [step] * len(xs),
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=weight_decay,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def _squares(x: Tensor, d: Tensor, decay: float) -> tuple[float, float]:
    """||x||^2 and ||d + decay x||^2, without writing d + decay x anywhere."""
    xx, dd, xd = (torch.dot(a, b).item() for a, b in ((x, x), (d, d), (x, d)))
    uu = dd + 2 * decay * xd + decay**2 * xx
    if uu < 0.1 * (dd + decay**2 * xx):  # they cancel, and so would the digits
        u = torch.add(d, x, alpha=decay)
        uu = torch.dot(u, u).item()
    return xx, uu


def _descend(x: Tensor, d: Tensor, lr: float, weight_decay: float) -> None:
    """x <- x - lr (d + weight_decay x), in one pass."""
    torch._fused_sgd_(
        [x],
        [d],
        [],
        weight_decay=weight_decay,
        momentum=0.0,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )
