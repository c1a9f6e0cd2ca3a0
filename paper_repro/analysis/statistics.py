"""The intervals and tests of this project: one for each question, all of them Student's t.

**A score of several seeds on a dev set, or the paired difference of two methods** (`estimate`): seeds and examples are both
taken as random, by the analysis of variance of jackknife pseudo-values over seeds x examples (Dorfman, Berbaum, Metz 1992,
Investigative Radiology 27:723, where readers x cases stand for seeds x examples; degrees of freedom of Hillis 2007, Statistics
in Medicine 26:596). The reason: with three to five seeds a permutation of seeds cannot reach p < 0.05 (the least two-sided p
is 2 / 2^n), a bootstrap over seeds shrinks their variance by (n - 1) / n and holds three times in four, a t-test over seeds
forgets that the dev set is a sample, and a test over examples alone (McNemar, permutation) forgets that another seed would
give another model. Here the degrees of freedom follow the data: n - 1 where the seeds make the spread, more where the examples
do.

**A mean of independent values** (`mean_of`): what the above comes to where there are no examples, as for scores in a summary,
probes of a trace, ratios of times.

**A function of a mean that is no sum** (`jackknife`, `student_weights`): a ratio or an inverse by the jackknife's error; a
time at which a curve first gets somewhere, which has no derivative, by draws of the mean curve itself.
These hold .95 or more for three seeds and five, where a bootstrap over the seeds holds .76 and .85.

What the 95% hold in truth, where the scores of seeds and examples are normal (a test measures it):

    share of the variance that the seeds make    0      0.2    0.5    0.7    0.9    1
    two seeds                                    .95    .95    .93    .91    .87    .95
    three seeds                                  .95    .95    .94    .93    .92    .95
    five seeds                                   .95    .95    .95    .94    .94    .95

Where two seeds or three are nearly all of the variance, Hillis' degrees of freedom are a little too many. Less is held, down
to .85, where the scores of seeds are skewed, as those near a ceiling with a few that fail; no interval of three seeds can know
of a failure that one run in five has. More is held, up to 1, where two methods' seeds spread far less than their examples do:
then the variance cannot be seen to be as small as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from paper_repro.analysis.scores import leave_one_out

CONFIDENCE = 0.95
_OUTSIDE = (1 - CONFIDENCE) / 2
_DRAWS = 4000
_SEED = 0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A number with what is needed to judge it.

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
        half = self.error * _quantile(self.freedom) if self.error else 0.0
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided p-value of "the mean is 0"; of equal values, which tell of no spread, that of their signs."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 2.0**-self.freedom
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(1 - _OUTSIDE, freedom))


def estimate(metric: str, predictions: np.ndarray, labels: np.ndarray, against: np.ndarray | None = None) -> Estimate:
    """The mean score over seeds, or its paired difference to another method's, with its error.

    With one seed the error is that of the examples alone: it says nothing of another seed.

    Args:
        metric: accuracy, matthews_correlation or pearson.
        predictions: [seeds, examples].
        labels: [examples].
        against: the other method's predictions, same seeds, same examples.

    Raises:
        ValueError: shapes that do not pair, or see `paper_repro.analysis.scores.leave_one_out`.
    """
    if against is not None and np.shape(against) != np.shape(predictions):
        raise ValueError(f"predictions of shapes {np.shape(predictions)} and {np.shape(against)} do not pair")
    values = np.stack([_pseudo_values(metric, run, labels) for run in predictions])
    if against is not None:
        values -= np.stack([_pseudo_values(metric, run, labels) for run in against])
    seeds, examples = values.shape
    mean = float(values.mean())
    by_seed, by_example = values.mean(axis=1), values.mean(axis=0)
    if np.ptp(values) < _ROUNDING:
        return _without_spread(mean, 0.0 if metric == "accuracy" and against is None else -1.0, examples)
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


def _pseudo_values(metric: str, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """N theta - (N - 1) theta_(-i), moved so that their mean is theta itself (normalised, Hillis et al. 2005)."""
    whole, without = leave_one_out(metric, predictions, labels)
    return whole - (len(without) - 1) * (without - without.mean())


def _without_spread(mean: float, least: float, examples: int) -> Estimate:
    """Where no example differs from another: what a share of them that none was drawn from could do.

    That share is below 1 - 0.025^(1/N) (Clopper and Pearson 1934, Biometrika 26:404), and what it has lies in [least, 1].
    """
    half = max(1 - mean, mean - least) * (1 - _OUTSIDE ** (1 / examples))
    return Estimate(mean, half / _quantile(examples - 1), examples - 1)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks that are fixed, not drawn; degrees of freedom of Welch and Satterthwaite."""
    count = len(estimates)
    variances = [e.error**2 / count**2 for e in estimates]
    parts = sum(v**2 / e.freedom for v, e in zip(variances, estimates, strict=True))
    freedom = sum(variances) ** 2 / parts if parts > 0 else min(e.freedom for e in estimates)
    return Estimate(float(np.mean([e.mean for e in estimates])), math.sqrt(sum(variances)), freedom)


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values; ValueError for fewer than two."""
    if len(values) < 2:
        raise ValueError(f"an interval of a mean takes at least two values, got {len(values)}")
    return Estimate(float(np.mean(values)), float(stats.sem(values)), len(values) - 1)


def student(values: Sequence[float]) -> list[float] | None:
    """The interval of the values' mean, [low, high]; None where nothing tells of a spread: a single value, or equal ones."""
    return list(mean_of(values).interval) if len(set(values)) > 1 else None


def jackknife(whole: float, without: Sequence[float] | np.ndarray) -> Estimate:
    """A smooth function of a mean of n values, from what it is of all of them and without each (Tukey 1958)."""
    count = len(without)
    return Estimate(whole, math.sqrt((count - 1) * float(np.var(without))), count - 1)


def student_weights(seeds: int) -> np.ndarray:
    """Weights of the seeds, [draws, seeds]: what they make of any values varies as Student's t has it of the values' mean.

    A weighted sum of the seeds' values is their mean plus their standard error times a draw from t with n - 1 degrees of
    freedom. So quantiles of weighted sums are Student's interval, and those of a function of weighted sums are its interval,
    also where the function has no derivative. A bootstrap's weights vary too little: for three seeds it holds three times in
    four.

    Args:
        seeds: n >= 2.
    """
    rng = np.random.default_rng(_SEED)
    drawn = rng.standard_normal((_DRAWS, seeds))
    drawn -= drawn.mean(axis=1, keepdims=True)
    spread = np.sqrt(rng.chisquare(seeds - 1, size=(_DRAWS, 1)) / (seeds - 1))
    return 1 / seeds + drawn / spread / math.sqrt(seeds * (seeds - 1))


def between(draws: np.ndarray) -> tuple[float, float]:
    """The 95% interval of draws."""
    low, high = np.quantile(draws, (_OUTSIDE, 1 - _OUTSIDE))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for testing all of them (Holm 1979, Scandinavian Journal of Statistics 6:65), in the order given.

    NaN stays NaN, and is none of the tests: nothing was tested there.

    Raises:
        ValueError: a number that is no p-value.
    """
    p = np.asarray(p_values, dtype=float)
    if (wrong := p[(p < 0) | (p > 1)]).size:
        raise ValueError(f"{wrong[0]:g} is no p-value")
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected.tolist()
