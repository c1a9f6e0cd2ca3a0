"""Scores of several seeds on the same examples: intervals and paired tests that take both seeds and examples as random.

Every score here is a function of sums over the examples, so a resampled score costs one matrix product, and a score without one
example costs a subtraction.

Scores and differences get their intervals, and differences their p-values, from the analysis of variance of jackknife
pseudo-values over seeds x examples (Dorfman, Berbaum, Metz 1992, Investigative Radiology 27:723, where readers x cases stand
for seeds x examples; degrees of freedom of Hillis 2007, Statistics in Medicine 26:596). The reason: with three to five seeds a
permutation of seeds cannot reach p < 0.05 (the least two-sided p is 2 / 2^n), a bootstrap over seeds shrinks their variance by
(n - 1) / n, a t-test over seeds forgets that the dev set is a sample, and a test over examples alone (McNemar, permutation)
forgets that another seed would give another model. Here the degrees of freedom follow the data: about n - 1 where the seeds
make the spread, more where the examples do. The bootstrap over seeds and examples is here too; with three seeds that differ
much its 95% intervals hold three times in four.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
_BOOTSTRAP_SEED = 0
_CONSTANT = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and examples, with what is needed to judge it.

    Attributes:
        mean: the estimate.
        error: its standard error.
        freedom: degrees of freedom of the error.
    """

    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval, Student's t."""
        half = self.error * float(stats.t.ppf(0.975, self.freedom))
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided p-value of "the mean is 0"."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))


def score(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """The score of one run's predictions on the split, both of shape (N,)."""
    terms, value = _metric(metric)
    return float(value(terms(predictions, labels).sum(axis=0)))


def bootstrap_interval(
    metric: str, predictions: np.ndarray, labels: np.ndarray, against: np.ndarray | None = None
) -> tuple[float, float]:
    """95% percentile interval of the mean score over seeds, or of its paired difference to another method's.

    Args:
        metric: accuracy, matthews_correlation or pearson.
        predictions: [seeds, examples].
        labels: [examples].
        against: the other method's predictions, same seeds, same examples; examples, and within each resample the seeds, are
            drawn once for both.
    """
    terms, value = _metric(metric)
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    examples = len(labels)
    weights = rng.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES).astype(float)
    chosen = rng.integers(len(predictions), size=(RESAMPLES, len(predictions)))

    def of(runs: np.ndarray) -> np.ndarray:
        scores = np.stack([value(weights @ terms(run, labels)) for run in runs], axis=1)
        return np.take_along_axis(scores, chosen, axis=1).mean(axis=1)

    means = of(predictions) if against is None else of(predictions) - of(against)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def estimate(metric: str, predictions: np.ndarray, labels: np.ndarray, against: np.ndarray | None = None) -> Estimate:
    """The mean score over seeds, or its paired difference to another method's, with its error; args as `bootstrap_interval`.

    With one seed the error is that of the examples alone: it says nothing of another seed.
    """
    values = np.stack([_pseudo_values(metric, run, labels) for run in predictions])
    if against is not None:
        values -= np.stack([_pseudo_values(metric, run, labels) for run in against])
    seeds, examples = values.shape
    mean = float(values.mean())
    by_seed, by_example = values.mean(axis=1), values.mean(axis=0)
    of_examples = seeds * float(by_example.var(ddof=1))
    if seeds == 1:
        return Estimate(mean, math.sqrt(of_examples / examples), examples - 1)
    rest = values - by_seed[:, None] - by_example + mean
    of_both = float((rest**2).sum()) / ((seeds - 1) * (examples - 1))
    # No variance component may be negative, so the seeds' mean square is never below the rest's, in the error and in its
    # degrees of freedom alike: with three seeds it often falls there by chance, and p-values of 0.005, which Holm's correction
    # asks for, would come three times too often.
    of_seeds = max(examples * float(by_seed.var(ddof=1)), of_both)
    total = of_seeds + max(of_examples - of_both, 0.0)
    freedom = (seeds - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return Estimate(mean, math.sqrt(total / (seeds * examples)), min(freedom, examples - 1))


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks that are fixed, not drawn; degrees of freedom of Welch and Satterthwaite."""
    count = len(estimates)
    variances = [e.error**2 / count**2 for e in estimates]
    parts = sum(v**2 / e.freedom for v, e in zip(variances, estimates, strict=True))
    freedom = sum(variances) ** 2 / parts if parts > 0 else min(e.freedom for e in estimates)
    return Estimate(float(np.mean([e.mean for e in estimates])), math.sqrt(sum(variances)), freedom)


def student(values: Sequence[float]) -> list[float] | None:
    """Student's 95% interval of the values' mean, [low, high]; None for a single one."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return [mean - half, mean + half]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for testing all of them (Holm 1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, which in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[which]))
        corrected[which] = largest
    return corrected


def _pseudo_values(metric: str, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """N theta - (N - 1) theta_(-i), moved so that their mean is theta itself (normalised, Hillis et al. 2005)."""
    terms, value = _metric(metric)
    each = terms(predictions, labels)
    total, count = each.sum(axis=0), len(labels)
    whole, without = float(value(total)), value(total - each)
    return whole - (count - 1) * (without - without.mean())


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
    x, y = (values - values.mean() for values in (predictions, labels))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _pearson(totals: np.ndarray) -> np.ndarray:
    """Pearson correlation; 0 where the predictions are all the same, as `scala.metrics` has it."""
    mean = totals / totals[..., :1]
    _, x, y, xx, yy, xy = np.moveaxis(mean, -1, 0)
    below = (xx - x * x) * (yy - y * y)
    return np.where(below > _CONSTANT, (xy - x * y) / np.sqrt(np.where(below > _CONSTANT, below, 1.0)), 0.0)


_Terms = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Value = Callable[[np.ndarray], np.ndarray]
_METRICS: dict[str, tuple[_Terms, _Value]] = {
    "accuracy": (_accuracy_terms, _accuracy),
    "matthews_correlation": (_cells, _matthews),
    "pearson": (_moments, _pearson),
}


def _metric(name: str) -> tuple[_Terms, _Value]:
    if name not in _METRICS:
        raise ValueError(f"no intervals for the metric {name!r}; there are some for {', '.join(_METRICS)}")
    return _METRICS[name]
