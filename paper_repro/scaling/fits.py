"""The model's constants from measured times, by least squares of relative errors: small times count as much as great ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

_FEWEST = 2


class Compute(NamedTuple):
    """c(m) = max(floor, overhead + per_sample * m), seconds."""

    floor: float
    overhead: float
    per_sample: float


class Link(NamedTuple):
    """Seconds a message, and bytes a second."""

    latency: float
    bandwidth: float


def fit_compute(sizes: Sequence[int], seconds: Sequence[float]) -> Compute:
    """Fit the time of a micro-batch.

    The smallest sizes are the floor, the others the line; how many are the floor is what fits best: none, or at least two.

    Args:
        sizes: m, increasing.
        seconds: of each.

    Raises:
        ValueError: fewer than two sizes, or not increasing.
    """
    _check(sizes, seconds)
    m, t = np.asarray(sizes, float), np.asarray(seconds, float)
    best, least = None, np.inf
    for flat in (0, *range(2, len(m) - 1)):
        overhead, per_sample = _line(np.ones(len(m) - flat), m[flat:], t[flat:])
        floor = float(t[:flat].mean()) if flat else 0.0
        error = float(np.square(np.maximum(floor, overhead + per_sample * m) / t - 1).sum())
        if error < least * (1 - 1e-9) - 1e-24:  # with more of a floor only if that explains more
            best, least = Compute(floor, overhead, per_sample), error
    assert best is not None
    return best


def fit_link(sizes: Sequence[float], seconds: Sequence[float], devices: int) -> Link:
    """Fit latency and bandwidth of the ring formula, see `paper_repro.scaling.model.ring`.

    Args:
        sizes: bytes that were reduced, increasing.
        seconds: of each all-reduce.
        devices: D >= 2.

    Raises:
        ValueError: fewer than two sizes, one device, or a time that does not grow with the bytes.
    """
    _check(sizes, seconds)
    if devices < 2:
        raise ValueError("one device has nothing to reduce: measure all-reduce on at least 2")
    messages = 2 * (devices - 1)
    inverse, latency = _line(messages / devices * np.asarray(sizes, float), np.full(len(sizes), messages), np.asarray(seconds))
    if inverse <= 0:
        raise ValueError(
            f"the time of an all-reduce does not grow from {sizes[0]:g} to {sizes[-1]:g} bytes: measure greater ones"
        )
    return Link(latency, 1 / inverse)


def _line(first: np.ndarray, second: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Coefficients >= 0 of two columns, for relative errors."""
    scale = (
        np.linalg.norm(first / seconds),
        np.linalg.norm(second / seconds),
    )  # columns alike in size, for the solver's tolerance
    matrix = np.stack([first / seconds / scale[0], second / seconds / scale[1]], axis=1)
    found, _ = nnls(matrix, np.ones(len(seconds)))
    return float(found[0] / scale[0]), float(found[1] / scale[1])


def _check(sizes: Sequence[float], seconds: Sequence[float]) -> None:
    if len(sizes) != len(seconds) or len(sizes) < _FEWEST or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"needs a time for each of at least {_FEWEST} increasing sizes, got {len(seconds)} for {list(sizes)}")
    for name, values in (("sizes", sizes), ("times", seconds)):
        if not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name} must be positive and finite, got {list(values)}")
