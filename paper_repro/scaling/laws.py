"""Steps to a target by batch size: two laws, fitted to runs of which some ended before they got there.

Both have one scale of steps and one of batches, so that their likelihoods compare as they are:

- "critical": S(B) = S_min (1 + B_crit / B), for noise that averages out (McCandlish et al. 2018, arXiv 1812.06162);
- "least": T(b) = T_inf / (1 - sqrt(b_min / b))^2, infinite up to b_min: this project's theory for a leader of layer-wise
  normalised steps (convergence/theorems/batch_size.py).

A run's steps are known to lie between two of its evaluations, or beyond its end. Around the law their logarithms are taken as
normal, and the likelihood is that of what is known: a run that did not get there counts as later than its end, not as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

FEWEST_BATCHES = 3
_IMPOSSIBLE = -1e9  # for a log-likelihood of minus infinity
_SIGMA = (math.log(0.02), math.log(3.0))  # bounds of the logarithm of the spread around a law


class Crossing(NamedTuple):
    """When one run got to the target.

    Attributes:
        batch: its batch size.
        after: leader's steps of the last evaluation before it did; 0: there was none.
        by: of the first evaluation where it was there; infinite: it never was.
    """

    batch: int
    after: float
    by: float

    @property
    def reached(self) -> bool:
        """Whether it did."""
        return math.isfinite(self.by)


class Law(NamedTuple):
    """A law: the logarithm of its steps over those of an infinite batch, and the batch scales to try, increasing."""

    shape: Callable[[np.ndarray, float], np.ndarray]
    scales: np.ndarray


def _critical(batch: np.ndarray, scale: float) -> np.ndarray:
    return np.log1p(scale / batch)


def _least(batch: np.ndarray, scale: float) -> np.ndarray:
    room = 1 - np.sqrt(np.minimum(scale / batch, 1.0))
    with np.errstate(divide="ignore"):
        return -2 * np.log(room)


LAWS = {"critical": Law(_critical, np.logspace(0, 7, 71)), "least": Law(_least, np.logspace(-3, 4, 71))}
"""The ends of the scales stand for 0 and infinity: steps that do not depend on the batch, and steps like 1/B."""


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        law: its name.
        scale: B_crit or b_min, the most likely; infinite: steps like 1/B; 0: no dependence on the batch.
        low: 95% interval, by the profile of the likelihood; 0 where no dependence on the batch is compatible with the runs.
        high: infinite where nothing bounds it.
        steps: S_min or T_inf.
        spread: standard deviation of the steps' logarithm around the law.
        log_likelihood: at the most likely scale.
        runs: how many were fitted.
        reached: how many of them got there.
        finite: the scale that the steps go with: the scale, or the end of what was tried in place of 0 and infinity.
    """

    law: str
    scale: float
    low: float
    high: float
    steps: float
    spread: float
    log_likelihood: float
    runs: int
    reached: int
    finite: float

    def at(self, batch: Any) -> Any:
        """Steps at a batch size, or at several."""
        return self.steps * np.exp(LAWS[self.law].shape(np.asarray(batch, float), self.finite))

    def document(self) -> dict[str, Any]:
        """As JSON, null for infinity."""
        return {key: None if value == math.inf else value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Fit:
        """From JSON."""
        values: dict[str, Any] = {key: math.inf if value is None else value for key, value in document.items()}
        return cls(**values)


def fit(crossings: Sequence[Crossing], name: str) -> Fit | None:
    """Fit a law by maximum likelihood.

    The interval holds every scale whose likelihood, at its best steps and spread, is not refuted: twice the loss of
    log-likelihood is at most n log(1 + F / (n - 2)), F the 95% quantile of Fisher's F(1, n - 2), which is exact for a linear
    law with normal errors and nothing censored. Runs count as independent; what a seed does to all batches alike moves the
    steps, not the scale of batches, so the interval errs to the safe side there.

    Args:
        crossings: of runs at several batch sizes.
        name: of `LAWS`.

    Returns:
        None if the target was reached at fewer than three batch sizes: two points fit any such law.

    Raises:
        ValueError: a batch that is not at least 1, or steps that are not 0 <= after < by.
    """
    for one in crossings:
        if not (1 <= one.batch < math.inf and 0 <= one.after < one.by):
            raise ValueError(
                f"a run gets to the target after one evaluation and by the next, at a batch of 1 or more, got {one}"
            )
    reached = {crossing.batch for crossing in crossings if crossing.reached}
    if len(reached) < FEWEST_BATCHES:
        return None
    law, number = LAWS[name], len(crossings)
    batch, after, by = (np.array(column, float) for column in zip(*crossings, strict=True))

    def likelihood(log_scale: float) -> float:
        return max(_best(law, batch, after, by, math.exp(log_scale))[0], _IMPOSSIBLE)

    tried = np.log(law.scales)
    values = np.array([likelihood(at) for at in tried])
    top, last = int(values.argmax()), len(tried) - 1
    best = float(tried[top])
    if 0 < top < last:
        found = optimize.minimize_scalar(lambda at: -likelihood(at), bounds=(tried[top - 1], tried[top + 1]), method="bounded")
        best = float(found.x) if -found.fun > values[top] else best
    value, steps, spread = _best(law, batch, after, by, math.exp(best))
    level = value - number * math.log1p(stats.f.ppf(0.95, 1, number - 2) / (number - 2)) / 2
    inside = [best, *tried[values >= level]]

    def end(within: float, beyond: float) -> float:
        return math.exp(optimize.brentq(lambda at: likelihood(at) - level, within, beyond, xtol=1e-3))

    low, high = 0.0, math.inf
    if min(inside) > tried[0]:
        low = end(min(inside), tried[tried < min(inside)][-1])
    if max(inside) < tried[-1]:
        high = end(max(inside), tried[tried > max(inside)][0])
    return Fit(
        law=name,
        scale={0: 0.0, last: math.inf}.get(top, math.exp(best)),
        low=low,
        high=high,
        steps=math.exp(steps),
        spread=math.exp(spread),
        log_likelihood=value,
        runs=number,
        reached=sum(crossing.reached for crossing in crossings),
        finite=math.exp(best),
    )


def _best(law: Law, batch: np.ndarray, after: np.ndarray, by: np.ndarray, scale: float) -> tuple[float, float, float]:
    """Log-likelihood, log steps and log spread, at the best of the last two; minus infinity if a run did the impossible."""
    shape = law.shape(batch, scale)
    there = np.isfinite(by)
    if np.isinf(shape[there]).any():
        return -math.inf, 0.0, 0.0
    with np.errstate(divide="ignore"):
        low = np.log(after) - shape
        high = np.where(there, np.log(by) - np.where(there, shape, 0.0), math.inf)

    def loss(at: np.ndarray) -> float:
        middle, sigma = at[0], math.exp(at[1])
        return -float(_log_between((low - middle) / sigma, (high - middle) / sigma).sum())

    start = [float(np.median(high[there])), math.log(0.3)]
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), _SIGMA])
    return -float(found.fun), float(found.x[0]), float(found.x[1])


def _log_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log of the normal probability between two ends, also far out in a tail."""
    mirrored = low > 0
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    above, below = special.log_ndtr(high), special.log_ndtr(low)
    return above + np.log1p(-np.exp(np.minimum(below - above, -1e-12)))
