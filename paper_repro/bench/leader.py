"""How fast the leader's step is: our LAMB against torch's AdamW and the LAMBs of other packages, on a model's shapes."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.profiler import ProfilerActivity, profile

from paper_repro.bench.interleaved import Action, interleaved, wait_for
from paper_repro.bench.machine import Machine
from scala import Lamb

REFERENCE = "AdamW, fused"
ADAMW_BYTES = 28
"""A parameter of 4 bytes in one pass: p, g, m and v are read, p, m and v written."""
LAMB_BYTES = 40
"""In two passes, the norms being between them: p, g, m, v read, m, v written; then p, m, v read, p written."""
CLIPPED_BYTES = LAMB_BYTES + 4
"""The gradient's norm over all layers comes before anything else: g is read once more."""

Make = Callable[[Sequence[Tensor]], Optimizer]
_OPTIONS: dict[str, Any] = {"lr": 1e-5, "weight_decay": 0.01}


@dataclass(frozen=True)
class Leader:
    """One row: the bytes a parameter that its arithmetic moves at least, and how to make it from parameters."""

    bytes: int
    make: Make


class Missing(Exception):
    """A package that cannot be compared here; says why."""


def leaders() -> dict[str, Leader]:
    """Who is compared. A maker raises `Missing` for a package that is not there."""
    return {
        REFERENCE: Leader(ADAMW_BYTES, adamw(fused=True)),
        "AdamW, foreach": Leader(ADAMW_BYTES, adamw(foreach=True)),
        "scala Lamb": Leader(LAMB_BYTES, ours()),
        "scala Lamb, plain": Leader(LAMB_BYTES, ours(foreach=False)),
        "scala Lamb, nvlamb": Leader(CLIPPED_BYTES, ours(dialect="nvlamb")),
        "timm Lamb": Leader(LAMB_BYTES, _peer("timm", "optim", max_grad_norm=None, always_adapt=True)),
        "torch_optimizer Lamb": Leader(LAMB_BYTES, _peer("torch_optimizer", "")),
        "pytorch_optimizer Lamb": Leader(LAMB_BYTES, _peer("pytorch_optimizer")),
    }


def adamw(**options: Any) -> Make:
    """Torch's AdamW."""
    return lambda parameters: AdamW(parameters, **_OPTIONS, **options)


def ours(**options: Any) -> Make:
    """This project's LAMB."""
    return lambda parameters: Lamb(parameters, **_OPTIONS, **options)


def time_leaders(shapes: Sequence[torch.Size], machine: Machine, pairs: int) -> list[dict[str, Any]]:
    """Time one step of each leader on random fp32 parameters with random gradients.

    Args:
        shapes: of the parameters; all leaders move the same ones, each with a state of its own.
        machine: where, and its rates.
        pairs: see `interleaved`.

    Returns:
        A dict a row: name, bytes (a parameter), floor (seconds: bytes over bandwidth), missing (why there are no times, else
        None), `Timing`'s fields, and on a GPU launches (kernels a step) and waits (of the host for the device, a step).
    """
    device = machine.device
    generator = torch.Generator(device).manual_seed(0)

    def draw(shape: torch.Size, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).mul_(scale)

    parameters = [draw(shape, 0.02).requires_grad_() for shape in shapes]
    for p in parameters:
        p.grad = draw(p.shape, 1e-3)
    made: dict[str, Optimizer] = {}
    missing: dict[str, str] = {}
    for name, leader in leaders().items():
        try:
            made[name] = leader.make(parameters)
        except Missing as reason:
            missing[name] = str(reason)
    # A step takes a GPU about a millisecond, and in training the host has run ahead of it: several in a row.
    timings = interleaved(
        {name: leader.step for name, leader in made.items()}, REFERENCE, pairs, device, calls=1 if device == "cpu" else 10
    )
    count = sum(p.numel() for p in parameters)
    rows = []
    for name, leader in leaders().items():
        row = {"name": name, "bytes": leader.bytes, "floor": leader.bytes * count / machine.bandwidth}
        row |= {"missing": missing.get(name)}
        row |= asdict(timings[name]) if name in timings else {"first": None, "seconds": None, "ratio": None}
        if device != "cpu":
            row |= launches(made[name].step, device) if name in made else {"launches": None, "waits": None}
        rows.append(row)
    return rows


def launches(action: Action, device: str) -> dict[str, int]:
    """Kernels that one call launches on the device, and how often the host waits for it."""
    wait_for(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        action()
        wait_for(device)
    return counted(event.name for event in profiled.events() or ())


def counted(runtime_calls: Iterable[str]) -> dict[str, int]:
    """Launches and waits among the names of the CUDA runtime's and driver's calls.

    The whole device is waited for by nobody but the measurement itself, so that does not count.
    """
    calls = Counter(runtime_calls)

    def matching(pattern: str) -> int:
        return sum(number for name, number in calls.items() if re.match(pattern, name))

    return {
        "launches": matching(r"cu(da)?(Launch\w*Kernel|GraphLaunch)"),
        "waits": matching(r"cu(da)?(Stream|Event)Synchronize"),
    }


def _peer(package: str, subfolder: str | None = None, **options: Any) -> Make:
    """A package's Lamb.

    Args:
        package: its name.
        subfolder: where its module `lamb` is, which is then imported alone: timm and torch_optimizer whole need dependencies
            that their Lambs do not. None: the package itself is imported.
        options: of its Lamb.
    """

    def make(parameters: Sequence[Tensor]) -> Optimizer:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise Missing("not installed")
        try:
            if subfolder is None:
                module = importlib.import_module(package)
            else:
                alone = types.ModuleType(f"_alone_{package}")
                alone.__path__ = [str(Path(spec.submodule_search_locations[0]) / subfolder)]
                sys.modules[alone.__name__] = alone
                module = importlib.import_module(f"{alone.__name__}.lamb")
        except ImportError as error:
            raise Missing(f"cannot be imported: {error}") from error
        return module.Lamb(parameters, **_OPTIONS, **options)

    return make
