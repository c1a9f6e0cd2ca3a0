"""The head of a regression: let it start where the labels are.

A fresh head answers every input with about 0, and its bias is 0. LAMB moves a layer by a share of its own size, so such a
bias stays where it is; Adam moves it by no more than the rate. Labels whose mean is far from 0 can then be reached only by
driving the encoder to the same large features for every input, which forgets what the inputs are: on STS-B, whose mean is 2.7,
LAMB ended with one answer for all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer, which is a model's head; None if there is none."""
    return next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)


def fresh_regression_head(model: nn.Module) -> nn.Linear | None:
    """The last linear layer, if it has one output and a bias of exactly 0, as only an untrained one has; else None."""
    head = last_linear(model)
    if head is None or head.out_features != 1 or head.bias is None or bool(head.bias.any()):
        return None
    return head


@torch.no_grad()
def start_regression_head(model: nn.Module, labels: Tensor) -> bool:
    """Start a fresh head's bias at the labels' mean, and scale its weights by their standard deviation.

    For Adam's directions and LAMB's steps that is much as if the labels had been standardised, but the model answers in their
    units from the start.

    Args:
        model: whose last linear layer is the head, with one output.
        labels: [n] numbers of the training set.

    Returns:
        Whether it was done; not for a head that has been trained (its bias is not 0), nor where there is no such head.

    Raises:
        ValueError: there are no labels, or not all are finite.
    """
    mean, spread = (float(value) for value in (labels.double().mean(), labels.double().std(correction=0)))
    if not math.isfinite(mean + spread):
        raise ValueError("the labels of a regression must be finite numbers, at least one of them")
    head = fresh_regression_head(model)
    if head is None:
        return False
    head.bias.fill_(mean)
    if spread > 0:
        head.weight.mul_(spread)
    return True
