"""What `Lamb` refuses, and what to do instead: options, parameters, layers that are not whole, states of others."""

import math
from collections.abc import Container, Sequence
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from scala.lamb.dialects import DIALECTS, Dialect, dialect_of
from scala.shards import is_spread, place

_OWN_OPTIONS = {"dialect", "ratio_bounds", "phi_bounds", "max_grad_norm", "adapt", "per_row"}
LATER_OPTIONS: dict[str, Any] = {"layer_floor": None, "direction_floor": None, "maximize": False}
"""Options that the first version's state did not have, and what it meant."""
_REFUSED: dict[str, tuple[Any, str]] = {
    "fused": (None, "on a CPU the fused kernels are used by themselves; foreach=False is the path without them"),
    "capturable": (False, "a step is not captured into a CUDA graph; torch.compile(optimizer.step) is what saves launches"),
    "differentiable": (False, "a step changes tensors in place; scala.lamb.lamb_step is the arithmetic, to be written out"),
    "decoupled_weight_decay": (True, "LAMB's decay is decoupled; for an L2 penalty add it to the loss"),
}
"""Options of torch's optimizers: the one value that is Lamb's, and what to do about others."""

_OF_THE_PARAMETERS_SHAPE = ("exp_avg", "exp_avg_sq", "master")


def check_options(group: dict[str, Any]) -> None:
    """Refuse options out of range (ValueError)."""
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        if isinstance(value, Tensor) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0 (and not a tensor), got {value!r}")
    match group["betas"]:
        case (beta1, beta2) if 0 <= beta1 < 1 and 0 <= beta2 < 1:
            pass
        case betas:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
    for name, (own, instead) in _REFUSED.items():
        if (value := group.get(name, own)) != own:
            raise ValueError(f"Lamb has no {name}={value!r}: leave it out ({instead})")
    if group["dialect"] not in DIALECTS:
        raise ValueError(f"unknown dialect {group['dialect']!r}: choose one of {', '.join(map(repr, DIALECTS))}")

    _check_dialect(group, dialect_of(group))


def _check_dialect(group: dict[str, Any], dialect: Dialect) -> None:
    for name in ("phi_bounds", "ratio_bounds"):
        match getattr(dialect, name):
            case (lower, upper) if 0 <= lower <= upper and upper > 0:
                pass
            case bounds:
                raise ValueError(f"{name} must be (lower, upper) with 0 <= lower <= upper and 0 < upper, got {bounds!r}")
    if dialect.orthogonal and group["per_row"]:
        raise ValueError(f"dialect {group['dialect']!r} is of whole matrices: unset per_row")
    if not dialect.second_moment and not dialect.orthogonal and dialect.phi_bounds[0] == 0:
        raise ValueError(
            f"dialect {group['dialect']!r} needs phi_bounds with a lower bound > 0, got {dialect.phi_bounds!r}: "
            "at x = 0 its step would be neither zero nor normalised"
        )
    for name in ("layer_floor", "direction_floor"):
        if not 0 <= getattr(dialect, name) < math.inf:
            raise ValueError(f"{name} must be a number >= 0 (0: no floor), got {getattr(dialect, name)!r}")
    if not dialect.max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be > 0 (math.inf: no clipping), got {dialect.max_grad_norm!r}")


def check_parameters(group: dict[str, Any]) -> None:
    """Refuse parameters that cannot be moved as the group says (ValueError)."""
    for p, key in zip(group["params"], group.get("param_names") or count(), strict=False):
        check_whole(p, key)
        if not p.is_floating_point():
            raise ValueError(
                f"parameter {key!r} of the group is {p.dtype}, but Lamb optimizes real floating-point tensors only; "
                "keep the real and imaginary parts of a complex one as two parameters"
            )
        if p.ndim < 2 and dialect_of(group).orthogonal:
            raise ValueError(
                f"parameter {key!r} of the group has shape {tuple(p.shape)}, and dialect {group['dialect']!r} is of matrices: "
                "use scala.lamb.parameter_groups(model, dialect=...), which gives the others a dialect of their own"
            )
        if group["per_row"] and p.ndim == 0:
            raise ValueError(f"parameter {key!r} of the group is a scalar and has no rows: unset per_row for it")
        if is_spread(p):
            check_spread(p, key, group)


def check_whole(p: Tensor, key: str | int, given: Container[torch.Size] | None = None) -> None:
    """Refuse a parameter in which layers are flattened or cut, since norms of it are no layer's (ValueError).

    Args:
        p: the parameter.
        key: its name or position.
        given: the shapes that the optimizer was given; None: this one is given now.
    """
    instead = "use torch.distributed.fsdp.fully_shard (FSDP2) or DDP, which keep layers as they are"
    marks = p.__dict__
    if marks.get("_fsdp_flattened") or marks.get("_is_flat_param") or type(p).__name__ == "FlatParameter":
        raise ValueError(f"parameter {key!r} is part of a flat one of FullyShardedDataParallel (FSDP1), not a layer: {instead}")
    if "ds_id" in marks:
        raise ValueError(f"parameter {key!r} is a part that DeepSpeed's ZeRO cut, not a layer: {instead}")
    if given is not None and p.ndim == 1 and p.shape not in given and not is_spread(p):
        raise ValueError(
            f"parameter {key!r} is a vector of {len(p)} entries that Lamb was not given: DeepSpeed's ZeRO and others put "
            f"flattened parts in the place of layers, and their norms are no layer's: {instead}. "
            "A new layer goes in by add_param_group"
        )


def check_spread(p: Tensor, key: str | int, group: dict[str, Any]) -> None:
    """Refuse a parameter that is spread over processes and cannot be moved so (ValueError)."""
    if group["per_row"]:
        raise ValueError(f"parameter {key!r} of the group is spread over processes, and per_row is of whole ones: unset it")
    if any(at.is_partial() for at in cast(Any, p).placements):
        raise ValueError(f"parameter {key!r} of the group is a sum over processes that is not summed: redistribute it first")


def looks_whole(state: dict[str, Any], p: Tensor, second_moment: bool) -> bool:
    """Whether `check_state` need not look, in the time that there is at every step: entries can go only by hand there."""
    entries = "step" in state and "exp_avg" in state and (not second_moment or "exp_avg_sq" in state)
    return entries and state["exp_avg"].shape == p.shape


def check_state(state: dict[str, Any], p: Tensor, key: str | int, group: dict[str, Any], where: str = "the optimizer") -> None:
    """Refuse a state that does not fit its parameter and dialect (ValueError); waits for no device.

    Args:
        state: not empty.
        p: the parameter it is of.
        key: its name or position.
        group: its group's options.
        where: whose state it is, for the message.
    """
    second = DIALECTS[group["dialect"]].second_moment
    if "step" not in state or "exp_avg" not in state or (second and "exp_avg_sq" not in state):
        missing = [entry for entry in ("step", "exp_avg", *(["exp_avg_sq"] if second else [])) if entry not in state]
        raise ValueError(
            f"the state of parameter {key!r} in {where} has no {' and no '.join(missing)}, which dialect {group['dialect']!r} "
            "needs: it is of another optimizer or dialect; go on under that one, or start anew without the state"
        )
    for entry, value in state.items():
        if entry not in _OF_THE_PARAMETERS_SHAPE:
            continue
        if not isinstance(value, Tensor) or value.shape != p.shape:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
            raise ValueError(
                f"the state of parameter {key!r} in {where} has {entry} of {found}, the parameter has shape {tuple(p.shape)}: "
                "it is of another model; start anew without it"
            )
        if place(value) != place(p):
            raise ValueError(
                f"the state of parameter {key!r} in {where} is not spread over processes as the parameter is: save and load "
                "with get_optimizer_state_dict and set_optimizer_state_dict of torch.distributed.checkpoint.state_dict"
            )


def check_steps(step: Any, key: str | int) -> None:
    """Refuse what is no number of steps taken, a whole one (ValueError)."""
    number = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf or number % 1:
        raise ValueError(
            f"the state of parameter {key!r} has step {step!r}, which is no number of steps: start anew without it"
        )


def check_saved(saved: StateDict, groups: Sequence[dict[str, Any]]) -> None:
    """Refuse a state_dict that is not one of these groups of a `Lamb` (ValueError), before anything is changed."""
    if not {"state", "param_groups"} <= saved.keys():
        raise ValueError(
            f"no state_dict of an optimizer: it has the keys {sorted(map(str, saved))}, not state and param_groups"
        )
    saved_groups = saved["param_groups"]
    for index, group in enumerate(saved_groups):
        # Not all of the optimizer's defaults: torch itself adds to them when an optimizer is copied.
        if missing := _OWN_OPTIONS - group.keys():
            raise ValueError(
                f"param_groups[{index}] of the state_dict lacks {sorted(missing)}: it was not saved by a Lamb optimizer"
            )
    if len(saved_groups) != len(groups):
        of = ", ".join(sorted({str(group["dialect"]) for group in saved_groups}))
        raise ValueError(
            f"the state_dict has {len(saved_groups)} parameter groups (dialects: {of}), this optimizer has {len(groups)} "
            f"({', '.join(sorted({group['dialect'] for group in groups}))}): make it with the dialect that the state was "
            "saved under (ScalaTrainer: lamb_dialect), or start anew"
        )
    for index, (written, group) in enumerate(zip(saved_groups, groups, strict=True)):
        if len(written["params"]) != len(group["params"]):
            raise ValueError(
                f"param_groups[{index}] of the state_dict has {len(written['params'])} parameters, this optimizer's has "
                f"{len(group['params'])}: it is of another model, or of other groups"
            )
        options = LATER_OPTIONS | written
        try:
            check_options(options)
            check_parameters(options | {"params": group["params"]})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"param_groups[{index}] of the state_dict cannot be loaded: {error}") from error
        names = written.get("param_names") or group.get("param_names") or count()
        for p, place_in_dict, key in zip(group["params"], written["params"], names, strict=False):
            if state := saved["state"].get(place_in_dict):
                check_state(state, p, key, options, "the state_dict")
                check_steps(state["step"], key)
