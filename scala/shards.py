"""Tensors spread over processes (DTensor, as FSDP2 and tensor parallelism make them): the part here, and norms of the whole.

An optimizer needs little of it: all arithmetic of an entry is of the part that is here, and only norms see all parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

Norms = Callable[[list[Tensor]], Iterable[Tensor]]


def is_spread(t: Tensor) -> bool:
    """Whether it is a DTensor. Loads nothing: where torch.distributed.tensor is not loaded, there is none."""
    if type(t) in (Tensor, torch.nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(t, module.DTensor)


def place(t: Tensor) -> Hashable:
    """The mesh and placements of a spread tensor, equal for tensors whose norms can be joined in one call; else None."""
    return (cast(Any, t).device_mesh, tuple(cast(Any, t).placements)) if is_spread(t) else None


def local(t: Tensor) -> Tensor:
    """The part of this process, sharing its memory (it may have no entries); t itself if it is not spread."""
    return cast(Any, t).to_local() if is_spread(t) else t


def placed_like(t: Tensor, p: Tensor) -> Tensor:
    """T spread as p is: a gradient of a replicated parameter can still be a sum that is not summed."""
    return t if place(t) == place(p) else cast(Any, t).redistribute(placements=cast(Any, p).placements)


def gathered(part: Tensor, p: Tensor) -> Tensor:
    """The whole tensor of p's shape, on every process, of which each process has the part where p has its own."""
    if not is_spread(p):
        return part
    return _spread(part, p, cast(Any, p).placements, shape=p.shape, stride=_contiguous(p.shape)).full_tensor()


def own_part(whole: Tensor, p: Tensor) -> Tensor:
    """The part of a whole tensor, which every process has, that lies where this process's part of p does."""
    if not is_spread(p):
        return whole
    from torch.distributed.tensor import Replicate  # noqa: PLC0415

    everywhere = [Replicate()] * cast(Any, p).device_mesh.ndim
    return _spread(whole, p, everywhere).redistribute(placements=cast(Any, p).placements).to_local()


def joined(norms: Tensor, p: Tensor) -> Tensor:
    """L2 norms of whole tensors, from those of the parts here, [n], of n tensors spread as p is; one call for all n."""
    if not is_spread(p):
        return norms
    from torch.distributed.tensor import Partial, Replicate  # noqa: PLC0415

    summed = [at if isinstance(at, Replicate) else Partial() for at in cast(Any, p).placements]
    squares = norms.to(torch.float64).square()
    return _spread(squares, p, summed).full_tensor().sqrt().to(norms.dtype)


def total_norm(tensors: Sequence[Tensor], norms: Norms = torch._foreach_norm) -> Tensor:
    """The L2 norm of all of these together, the same on every process, on the first one's device.

    Args:
        tensors: at least one, spread or not, in one order on all processes.
        norms: of the tensors of a list, each by itself.
    """
    alike: dict[Hashable, list[Tensor]] = {}
    for t in tensors:
        alike.setdefault(place(t), []).append(t)
    device = local(tensors[0]).device
    found = []
    for members in alike.values():
        here = torch.stack([norm.to(device) for norm in norms([local(t) for t in members])])
        found.append(joined(here, members[0]))
    return torch.linalg.vector_norm(torch.cat(found))


def _spread(part: Tensor, p: Tensor, placements: Sequence[Any], **options: Any) -> Any:
    from torch.distributed.tensor import DTensor  # noqa: PLC0415

    return DTensor.from_local(part, cast(Any, p).device_mesh, placements, run_check=False, **options)


def _contiguous(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()
