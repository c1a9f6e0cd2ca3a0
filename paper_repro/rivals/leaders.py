"""Other leaders: optimizers that are held against `scala.lamb`, each made from a model and the run's options.

A leader is a function below and a line in `LEADERS`; an experiment names it, `leader = "muon-adamw"`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Adafactor, AdamW, Muon, Optimizer

from scala.heads import last_linear
from scala.lamb import Lamb, parameter_groups

if TYPE_CHECKING:
    from scala.trainer import ScalaConfig

MakeLeader = Callable[[nn.Module, "ScalaConfig"], Optimizer]


def lamb_rows(model: nn.Module, config: ScalaConfig) -> Optimizer:
    """LAMB with every row of an embedding table a layer; the head and all vectors take Adam's step, at the same rate.

    So that a batch, which touches few rows, does not move them by the step of all.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = last_linear(model)
    groups: list[dict[str, Any]] = []
    for group in parameter_groups(model, config.weight_decay, adapt_undecayed=False):
        rows = [(name, p) for name, p in group["params"] if id(p) in tables]
        heads = [(name, p) for name, p in group["params"] if head is not None and p is head.weight and id(p) not in tables]
        taken = {name for name, _ in rows + heads}
        others = [(name, p) for name, p in group["params"] if name not in taken]
        groups += [
            group | {"params": rows, "per_row": True},
            group | {"params": heads, "adapt": False},
            group | {"params": others},
        ]
    betas = (config.adam_beta1, config.adam_beta2)
    return Lamb([group for group in groups if group["params"]], lr=config.learning_rate, betas=betas)


def muon_adamw(model: nn.Module, config: ScalaConfig) -> Optimizer:
    """torch.optim.Muon for hidden matrices, in AdamW's units (arXiv 2502.16982), and AdamW for all else, at the same rate."""
    [hidden, *others] = parameter_groups(model, config.weight_decay, dialect="orthogonal")
    if hidden["dialect"] != "orthogonal":
        raise ValueError(f"{type(model).__name__} has no hidden matrix, which Muon is for")
    return Together(
        Muon(
            [p for _, p in hidden["params"]],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.adam_beta1,
            adjust_lr_fn="match_rms_adamw",
        ),
        AdamW(
            [{"params": [p for _, p in group["params"]], "weight_decay": group["weight_decay"]} for group in others],
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
        ),
    )


def adafactor(model: nn.Module, config: ScalaConfig) -> Optimizer:
    """torch.optim.Adafactor (arXiv 1804.04235): steps of a share of each layer's root mean square, no momentum."""
    groups = [
        {"params": [p for _, p in group["params"]], "weight_decay": group["weight_decay"]}
        for group in parameter_groups(model, config.weight_decay)
    ]
    return Adafactor(groups, lr=config.learning_rate)


class Together(Optimizer):
    """Several optimizers, of different parameters, as one."""

    def __init__(self, *parts: Optimizer) -> None:
        """Take over these optimizers' groups, which schedulers then change."""
        self.parts = parts
        super().__init__([{"params": list(chain.from_iterable(g["params"] for p in parts for g in p.param_groups))}], {})
        self.param_groups = [group for part in parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Each part's step."""
        if closure is not None:
            raise ValueError("a leader is stepped without a closure")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Each part's, by its position."""
        return {str(number): part.state_dict() for number, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for number, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(number)])
        self.param_groups = [group for part in self.parts for group in part.param_groups]


LEADERS: dict[str, MakeLeader] = {"lamb-rows": lamb_rows, "muon-adamw": muon_adamw, "adafactor": adafactor}
