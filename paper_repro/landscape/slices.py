"""The loss along lines and planes through the weights, and along the segment between two solutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Value = Callable[[np.ndarray], float]
"""f, for instance `objective.value`."""


def filter_normalized(x: np.ndarray, shapes: Mapping[str, tuple[int, ...]], seed: int) -> np.ndarray:
    """A random direction whose every filter is as long as the weights' own (Li et al. 2018, arXiv 1712.09913).

    So 1 is a move as large as the weights, whatever the scale of a layer. A filter is a row of a matrix (of an
    embedding: a token); biases and normalisation layers, which have but one axis, do not move.

    Args:
        x: the weights, [n].
        shapes: of the layers, see `Objective.shapes`.
        seed: of the direction.

    Returns:
        The direction, [n].
    """
    rng = np.random.default_rng(seed)
    direction, start = np.zeros(len(x)), 0
    for shape in shapes.values():
        end = start + math.prod(shape)
        if len(shape) > 1:
            rows = x[start:end].reshape(shape[0], -1)
            random = rng.standard_normal(rows.shape)
            random *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(random, axis=1, keepdims=True)
            direction[start:end] = random.ravel()
        start = end
    return direction


def line(value: Value, x: np.ndarray, direction: np.ndarray, at: np.ndarray) -> np.ndarray:
    """f(x + a direction) for each a in `at`."""
    return np.array([value(x + a * direction) for a in at])


def surface(value: Value, x: np.ndarray, first: np.ndarray, second: np.ndarray, at: np.ndarray) -> np.ndarray:
    """f(x + a first + b second) for a (the row) and b (the column) in `at`."""
    return np.array([line(value, x + a * first, second, at) for a in at])


@dataclass(frozen=True)
class Barrier:
    """The loss on the segment between two solutions.

    Attributes:
        height: the largest of f(x_t) - ((1 - t) f(x_0) + t f(x_1)) at the inner points; below 0 where f is convex.
        at: t of all points, the ends included.
        losses: f(x_t).
    """

    height: float
    at: np.ndarray
    losses: np.ndarray


def barrier(value: Value, start: np.ndarray, end: np.ndarray, inner: int = 19) -> Barrier:
    """The barrier of linear interpolation (Frankle et al. 2020, arXiv 1912.05671; Neyshabur et al. 2020, arXiv 2008.11687).

    Args:
        value: f.
        start: x_0, [n].
        end: x_1, [n].
        inner: points between the ends.

    Raises:
        ValueError: no inner point.
    """
    if inner < 1:
        raise ValueError(f"a barrier is seen at inner points of the segment: give at least 1, not {inner}")
    at = np.linspace(0, 1, inner + 2)
    losses = line(value, start, end - start, at)
    above = losses - ((1 - at) * losses[0] + at * losses[-1])
    return Barrier(float(above[1:-1].max()), at, losses)
