"""A cheaper view of the model for the follower: what its ascent may do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AscentView:
    """How the model differs in the follower's passes from the leader's. The default is: not at all.

    Every option makes the ascent cheaper and its noise less exact; the noise stays in its ball, and the leader's loss is always
    that of the whole model under this noise. `make bench` measures what each saves and how much of the loss rise it keeps.

    Attributes:
        dropout: keep dropout (False: the follower sees the model in evaluation mode).
        bfloat16: run under bfloat16 autocast, for devices where that is faster.
        layers: the gradient goes through this many of the top encoder layers, and past the others along their residual
            connection, as if they were the identity; their backward pass is not run. None: through all.
    """

    dropout: bool = True
    bfloat16: bool = False
    layers: int | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: layers is negative or no whole number.
        """
        if self.layers is not None and (isinstance(self.layers, bool) or not isinstance(self.layers, int) or self.layers < 0):
            raise ValueError(f"layers must be a whole number >= 0, or None for all, got {self.layers!r}")

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """The model is seen like this inside `with view.of(model):`.

        Raises:
            ValueError: layers is asked for and the model's encoder layers cannot be found, or are fewer.
        """
        with ExitStack() as stack:
            if not self.dropout:
                stack.enter_context(evaluation_mode(model))
            if self.bfloat16:
                device = next(model.parameters()).device.type
                stack.enter_context(torch.autocast(device, torch.bfloat16))
            if self.layers is not None:
                layers = encoder_layers(model)
                if self.layers > len(layers):
                    raise ValueError(f"the model has {len(layers)} encoder layers, fewer than the {self.layers} asked for")
                for layer in layers[: len(layers) - self.layers]:
                    stack.enter_context(_straight_through(layer))
            yield


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The model's transformer layers: its one module list with config.num_hidden_layers members.

    Raises:
        ValueError: there is none, or more than one.
    """
    depth = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__} has {len(found)} module lists of config.num_hidden_layers = {depth} members, so its "
            "encoder layers cannot be told; leave the ascent's layers unset"
        )
    return found[0]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """As model.eval(), and afterwards every module is as it was (some may be frozen in evaluation mode)."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _straight_through(layer: nn.Module) -> Iterator[None]:
    """The layer's output, with the gradient of the identity."""
    forward = layer.forward

    def without_backward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            output = forward(hidden, *args, **kwargs)
        first, *rest = output if isinstance(output, tuple) else (output,)
        passed = hidden + (first - hidden).detach()
        return (passed, *rest) if isinstance(output, tuple) else passed

    layer.forward = without_backward
    try:
        yield
    finally:
        del layer.forward  # the class's own shows again
