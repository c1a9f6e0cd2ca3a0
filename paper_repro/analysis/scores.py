"""Scores as functions of sums over the examples: a score without one example costs a subtraction.

They are those of `scala.metrics`, which scikit-learn and scipy compute; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_CONSTANT = 1e-12
"""Of a unit variance: what is left below it when an example goes is rounding."""

_Terms = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Value = Callable[[np.ndarray], np.ndarray]


def score(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """The score of one run's predictions, both of shape (N,); `leave_one_out` says what is refused."""
    return leave_one_out(metric, predictions, labels)[0]


def leave_one_out(metric: str, predictions: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The score of one run's predictions, and for each example the score without it, (N,).

    Args:
        metric: accuracy, matthews_correlation or pearson.
        predictions: class ids, or numbers for pearson, (N,).
        labels: the same.

    Raises:
        ValueError: an unknown metric, shapes that differ, fewer than two examples, a number that is not finite, or a class that
            is no class id (GLUE's test files have -1 for a label that is not told).
    """
    if metric not in _METRICS:
        raise ValueError(f"no intervals for the metric {metric!r}; there are some for {', '.join(_METRICS)}")
    predictions, labels = np.asarray(predictions, float), np.asarray(labels, float)
    if predictions.ndim != 1 or predictions.shape != labels.shape:
        raise ValueError(f"predictions and labels have shapes {predictions.shape} and {labels.shape}; both must be (N,)")
    if len(labels) < 2:
        raise ValueError(f"a score with an interval takes at least two examples, got {len(labels)}")
    for name, values in (("predictions", predictions), ("labels", labels)):
        fits = np.isfinite(values)
        if metric != "pearson":
            fits &= (values >= 0) & (values == np.floor(values))
        strange = ~fits
        if strange.any():
            kind = "a finite number" if metric == "pearson" else "a class id: 0, 1, 2 ..."
            raise ValueError(f"{name}[{strange.argmax()}] is {values[strange.argmax()]:g}, not {kind}")
    terms, value = _METRICS[metric]
    each = terms(predictions, labels)
    total = each.sum(axis=0)
    return float(value(total)), value(total - each)


def _accuracy_terms(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([predictions == labels, np.ones(len(labels))], axis=-1).astype(float)


def _accuracy(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def _cells(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which cell of the confusion matrix each example falls in, one-hot: [N, classes^2]."""
    predictions, labels = predictions.astype(int), labels.astype(int)
    classes = int(max(predictions.max(), labels.max())) + 1
    return np.eye(classes**2)[predictions * classes + labels]


def _matthews(totals: np.ndarray) -> np.ndarray:
    """Matthews correlation of any number of classes; 0 where it is 0/0 (one class predicted), as in scikit-learn."""
    classes = math.isqrt(totals.shape[-1])
    confusion = totals.reshape(*totals.shape[:-1], classes, classes)
    predicted, true = confusion.sum(axis=-1), confusion.sum(axis=-2)
    count, right = predicted.sum(axis=-1), np.trace(confusion, axis1=-2, axis2=-1)
    above = count * right - (predicted * true).sum(axis=-1)
    below = (count**2 - (predicted**2).sum(axis=-1)) * (count**2 - (true**2).sum(axis=-1))
    return np.where(below > 0, above / np.sqrt(np.where(below > 0, below, 1.0)), 0.0)


def _moments(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x, y = (_standard(values) for values in (predictions, labels))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _standard(values: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1, so that no unit matters; zeros where all values are the same."""
    return np.zeros_like(values) if np.ptp(values) == 0 else (values - values.mean()) / values.std()


def _pearson(totals: np.ndarray) -> np.ndarray:
    """Pearson correlation; 0 where the predictions are all the same, as `scala.metrics` has it."""
    mean = totals / totals[..., :1]
    _, x, y, xx, yy, xy = np.moveaxis(mean, -1, 0)
    below = (xx - x * x) * (yy - y * y)
    return np.where(below > _CONSTANT, (xy - x * y) / np.sqrt(np.where(below > _CONSTANT, below, 1.0)), 0.0)


_METRICS: dict[str, tuple[_Terms, _Value]] = {
    "accuracy": (_accuracy_terms, _accuracy),
    "matthews_correlation": (_cells, _matthews),
    "pearson": (_moments, _pearson),
}
