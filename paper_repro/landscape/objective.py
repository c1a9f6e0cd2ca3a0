"""The mean loss over fixed batches as a function of one flat vector of weights, with its first two derivatives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call


class Objective:
    """f(x) = sum_j n_j f_j(x) / sum_j n_j, f_j the mean loss over batch j, which has n_j samples.

    Weights go in and derivatives come out as numpy vectors, which is what scipy takes; sums over batches are in float64.

    Attributes:
        shapes: the shape of each layer of x by its name, in the order of x. A layer is one parameter tensor: what LAMB
            normalises.
        layers: where each layer lies in x.
        size: n, the entries of x.
        samples: n_j, shape [batches].
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Any], Tensor],
        shapes: Mapping[str, tuple[int, ...]],
        batches: Sequence[Any] = (None,),
        samples: Sequence[int] = (1,),
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        """Any twice differentiable loss; for a model see `of_model`.

        Args:
            loss: loss(x, batch), a scalar: the mean over the batch's samples; x a flat tensor.
            shapes: see the class.
            batches: what `loss` is given, one after the other.
            samples: n_j > 0 of each batch.
            dtype: of the computation.
            device: of the computation.

        Raises:
            ValueError: no batch, or not one positive number of samples for each.
        """
        if not batches or len(batches) != len(samples) or min(samples) < 1:
            raise ValueError(f"give at least one batch and for each its samples, got {len(batches)} batches, samples {samples}")
        self.loss = loss
        self.shapes = dict(shapes)
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        ends = np.cumsum(sizes).tolist()
        self.layers = {name: slice(end - size, end) for name, size, end in zip(self.shapes, sizes, ends, strict=True)}
        self.size = sum(sizes)
        self.batches = batches
        self.samples = np.asarray(samples)
        self._shares = self.samples / self.samples.sum()
        self._type: dict[str, Any] = {"dtype": dtype, "device": device}

    @classmethod
    def of_model(cls, model: nn.Module, batches: Sequence[dict[str, Tensor]]) -> Objective:
        """The mean of model(**batch).loss, in evaluation mode, in the model's own precision and on its device.

        The model is copied. The copy's attention is transformers' "eager" one: fused kernels have no second derivative.

        Args:
            model: as transformers' models for classification: its loss is a mean over samples.
            batches: what its forward takes, with "labels".

        Raises:
            ValueError: a batch without labels.
        """
        if any("labels" not in batch for batch in batches):
            raise ValueError("every batch must hold 'labels', without which the model returns no loss")
        model = copy.deepcopy(model).eval()
        set_attention = getattr(model, "set_attn_implementation", None)
        if callable(set_attention):
            set_attention("eager")
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        sizes = [math.prod(shape) for shape in shapes.values()]

        def loss(x: Tensor, batch: dict[str, Tensor]) -> Tensor:
            # One split: its derivative is one concatenation, where that of n slices is n vectors of x's size.
            pieces = zip(shapes.items(), x.split(sizes), strict=True)
            return functional_call(model, {name: piece.view(shape) for (name, shape), piece in pieces}, kwargs=batch).loss

        first = next(model.parameters())
        samples = [len(batch["labels"]) for batch in batches]
        return cls(loss, shapes, batches, samples, dtype=first.dtype, device=first.device)

    def value(self, x: np.ndarray) -> float:
        """f(x)."""
        point = self._tensor(x)
        with torch.no_grad():
            return float(self._shares @ [float(self.loss(point, batch)) for batch in self.batches])

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """f'(x), shape [n]."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """f(x) and f'(x) at the price of the gradient."""
        value, gradient = 0.0, np.zeros(self.size)
        for share, batch in zip(self._shares, self.batches, strict=True):
            point = self._tensor(x).requires_grad_()
            loss = self.loss(point, batch)
            gradient += share * _numpy(torch.autograd.grad(loss, point)[0])
            value += share * float(loss.detach())
        return float(value), gradient

    def batch_gradients(self, x: np.ndarray) -> np.ndarray:
        """f_j'(x) of each batch, shape [batches, n], in the precision of the computation."""
        gradients = []
        for batch in self.batches:
            point = self._tensor(x).requires_grad_()
            gradients.append(torch.autograd.grad(self.loss(point, batch), point)[0].cpu().numpy())
        return np.stack(gradients)

    def hvp(self, x: np.ndarray, v: np.ndarray, layer: str | None = None) -> np.ndarray:
        """f''(x) v, by differentiating f'(x) . v (Pearlmutter 1994, Neural Computation 6:147).

        Args:
            x: the weights, [n].
            v: the direction, [n]; with `layer` [entries of that layer].
            layer: only this layer's diagonal block of f''.

        Returns:
            Shape of v.
        """
        where = slice(0, self.size) if layer is None else self.layers[layer]
        direction = torch.tensor(np.ravel(v), **self._type)
        if len(direction) != where.stop - where.start:
            raise ValueError(f"the direction has {len(direction)} entries, the weights it moves {where.stop - where.start}")
        product = np.zeros(len(direction))
        for share, batch in zip(self._shares, self.batches, strict=True):
            point = self._tensor(x)
            moved = point[where].clone().requires_grad_()
            loss = self.loss(torch.cat([point[: where.start], moved, point[where.stop :]]), batch)
            (gradient,) = torch.autograd.grad(loss, moved, create_graph=True)
            if not gradient.requires_grad:
                continue  # f_j is linear in what moves
            product += share * _numpy(torch.autograd.grad(gradient, moved, direction, materialize_grads=True)[0])
        return product

    def _tensor(self, x: np.ndarray) -> Tensor:
        if np.shape(x) != (self.size,):
            raise ValueError(f"the weights must have shape [{self.size}], got {list(np.shape(x))}")
        return torch.tensor(x, **self._type)


def weights(model: nn.Module) -> np.ndarray:
    """The model's parameters as one float64 vector, in the order of `named_parameters`."""
    return _numpy(nn.utils.parameters_to_vector(model.parameters()).detach())


@torch.no_grad()
def load(x: np.ndarray, model: nn.Module) -> None:
    """Write the weights x into a model: the inverse of `weights`.

    Raises:
        ValueError: x has another number of entries than the model.
    """
    parameters = list(model.parameters())
    if np.shape(x) != (sum(p.numel() for p in parameters),):
        raise ValueError(f"the model has {sum(p.numel() for p in parameters)} weights, x has shape {list(np.shape(x))}")
    for parameter, piece in zip(parameters, torch.tensor(x).split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(piece.view_as(parameter))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()
