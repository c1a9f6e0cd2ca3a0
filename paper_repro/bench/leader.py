"""How fast the leader's step is: our LAMB against torch's AdamW and the LAMBs of other packages, on a model's shapes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from paper_repro.interleaved import interleaved
from scala import Lamb

REFERENCE = "AdamW, fused"
ADAMW_BYTES = 28
"""A parameter of 4 bytes in one pass: p, g, m and v are read, p, m and v written."""
LAMB_BYTES = 40
"""In two passes, the norms being between them: p, g, m, v read, m, v written; then p, m, v read, p written."""

Leader = Callable[[Sequence[Tensor]], Optimizer]
_OPTIONS: dict[str, Any] = {"lr": 1e-5, "weight_decay": 0.01}


def adamw(**options: Any) -> Leader:
    """Torch's AdamW."""
    return lambda parameters: AdamW(parameters, **_OPTIONS, **options)


def leaders() -> dict[str, tuple[int, Leader | None]]:
    """Who is compared: bytes a parameter at least, and how to make it; None: its package is not installed."""
    return {
        REFERENCE: (ADAMW_BYTES, adamw(fused=True)),
        "AdamW, foreach": (ADAMW_BYTES, adamw(foreach=True)),
        "scala Lamb": (LAMB_BYTES, lambda parameters: Lamb(parameters, **_OPTIONS)),
        "timm Lamb": (LAMB_BYTES, _peer("timm", "optim", max_grad_norm=None, always_adapt=True)),
        "torch_optimizer Lamb": (LAMB_BYTES, _peer("torch_optimizer", "")),
    }


def time_leaders(shapes: Sequence[torch.Size], bandwidth: float, pairs: int) -> list[dict[str, Any]]:
    """Time one step of each leader on random parameters with random gradients.

    Args:
        shapes: of the parameters; all leaders move the same ones, each with a state of its own.
        bandwidth: bytes per second.
        pairs: see `interleaved`.

    Returns:
        A dict a row: name, bytes (a parameter), floor (seconds: bytes over bandwidth), and `Timing`'s fields, which are None
        for a package that is not installed.
    """
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator).mul_(0.02).requires_grad_() for shape in shapes]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator) * 1e-3
    compared = leaders()
    made = {name: make(parameters) for name, (_, make) in compared.items() if make is not None}
    timings = interleaved({name: leader.step for name, leader in made.items()}, REFERENCE, pairs)
    count = sum(p.numel() for p in parameters)
    return [
        {"name": name, "bytes": bytes_, "floor": bytes_ * count / bandwidth}
        | (asdict(timings[name]) if name in timings else {"first": None, "seconds": None, "ratio": None})
        for name, (bytes_, _) in compared.items()
    ]


def _peer(package: str, subfolder: str, **options: Any) -> Leader | None:
    """A package's Lamb, from its one module: the package whole needs dependencies that its Lamb does not."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    alone = types.ModuleType(f"_alone_{package}")
    alone.__path__ = [str(Path(spec.submodule_search_locations[0]) / subfolder)]
    sys.modules[alone.__name__] = alone
    make = importlib.import_module(f"{alone.__name__}.lamb").Lamb
    return lambda parameters: make(parameters, **_OPTIONS, **options)
