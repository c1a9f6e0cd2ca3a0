"""The metrics of GLUE, computed by scikit-learn and scipy, so that they work without a network.

Classification: accuracy, F1, Matthews correlation. Regression: Pearson, Spearman, mean squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error

if TYPE_CHECKING:
    from transformers import EvalPrediction

CLASSIFICATION_METRICS = ("accuracy", "f1", "matthews_correlation")
REGRESSION_METRICS = ("pearson", "spearmanr", "mse")


def classification_metrics(predictions: np.ndarray, labels: np.ndarray, num_classes: int | None = None) -> dict[str, float]:
    """Score predicted classes.

    F1 is that of class 1 when there are two classes, and otherwise the plain mean over the classes that occur (macro).
    F1 and the Matthews correlation are 0, their value in scikit-learn, where their fraction is 0/0: a model that
    predicts one class only has a Matthews correlation of 0.

    Args:
        predictions: class ids, shape (N,).
        labels: class ids, shape (N,).
        num_classes: how many classes there are; None for the largest id that occurs, plus one, and at least two.

    Returns:
        ``accuracy``, ``f1`` and ``matthews_correlation``.

    Raises:
        ValueError: shapes differ from (N,), N is 0, or an entry is no class id.
    """
    predictions, labels = _vectors(predictions, labels)
    classes = num_classes or max(2, int(max(predictions.max(), labels.max())) + 1)
    for name, ids in (("predictions", predictions), ("labels", labels)):
        strange = (ids < 0) | (ids >= classes) | (ids % 1 != 0)
        if strange.any():
            row = strange.argmax()
            raise ValueError(f"{name}[{row}] is {ids[row]:g}; class ids are 0 to {classes - 1}")
    average = "binary" if classes == 2 else "macro"
    one_class = np.ptp(predictions) == 0 and predictions[0] == labels[0] and np.ptp(labels) == 0
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(f1_score(labels, predictions, average=average, zero_division=0.0)),
        "matthews_correlation": 0.0 if one_class else float(matthews_corrcoef(labels, predictions)),
    }


def regression_metrics(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score predicted numbers.

    Equal predictions have no correlation with anything: it is 0/0, and scipy returns nan with a warning. Here both
    correlations are then 0.0, as the Matthews correlation is by convention, so that a collapsed model counts as one
    that orders nothing instead of vanishing from a mean over seeds. Equal labels are a fault of the data: an error.

    Args:
        predictions: shape (N,).
        labels: shape (N,).

    Returns:
        ``pearson``, ``spearmanr`` and ``mse``.

    Raises:
        ValueError: shapes differ from (N,), N is 0, an entry is not finite, or all labels are equal.
    """
    predictions, labels = _vectors(predictions, labels)
    if np.ptp(labels) == 0:
        raise ValueError(f"all {len(labels)} labels are {labels[0]:g}: no correlation with them is defined")
    constant = np.ptp(predictions) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(predictions, labels).statistic),
        "spearmanr": 0.0 if constant else float(spearmanr(predictions, labels).statistic),
        "mse": float(mean_squared_error(labels, predictions)),
    }


def compute_metrics_for(metrics: str | Sequence[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return what the ``compute_metrics`` of transformers' Trainer asks for.

    Args:
        metrics: "classification" or "regression" for all metrics of the kind, or metric names of one kind.

    Returns:
        A function from an EvalPrediction to the metrics by name. The model's predictions are logits (N, C), of which
        the largest is taken, or scores (N, 1) or (N,); of a tuple of outputs the first counts.

    Raises:
        ValueError: unknown metrics, or metrics of both kinds. The function raises it for predictions that do not fit.
    """
    kinds = {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS}
    names = kinds.get(metrics, (metrics,)) if isinstance(metrics, str) else tuple(metrics)
    kind = next((kind for kind, known in kinds.items() if names and set(names) <= set(known)), None)
    if kind is None:
        one_kind = " or ".join(f"{kind}: {', '.join(known)}" for kind, known in kinds.items())
        raise ValueError(f"metrics are {', '.join(names) or 'empty'}; they must be of one kind ({one_kind})")
    score = _score_logits if kind == "classification" else _score_outputs

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        outputs = prediction.predictions
        outputs = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
        scored = score(outputs, prediction.label_ids)
        return {name: scored[name] for name in names}

    return compute


def _score_logits(logits: np.ndarray, labels: Any) -> dict[str, float]:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits have shape {logits.shape}; a classification needs (N, C), C >= 2 classes")
    _refuse_non_finite("logits", logits)  # argmax would call a nan class 0
    return classification_metrics(logits.argmax(axis=1), labels, num_classes=logits.shape[1])


def _score_outputs(outputs: np.ndarray, labels: Any) -> dict[str, float]:
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    return regression_metrics(outputs, labels)


def _vectors(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    predictions, labels = np.asarray(predictions, dtype=float), np.asarray(labels, dtype=float)
    if predictions.ndim != 1 or predictions.shape != labels.shape:
        shapes = f"{predictions.shape} and {labels.shape}"
        raise ValueError(f"predictions and labels have shapes {shapes}; both must be (N,)")
    if not len(labels):
        raise ValueError("there are no predictions to score")
    _refuse_non_finite("predictions", predictions)
    _refuse_non_finite("labels", labels)
    return predictions, labels


def _refuse_non_finite(name: str, values: np.ndarray) -> None:
    rows = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(rows):
        raise ValueError(f"{len(rows)} of {len(values)} {name} are not finite; the first is {name}[{rows[0]}]")
