"""Which measures tell the methods' solutions apart beyond the spread of their seeds, and whether they go with the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from scipy import stats

from paper_repro.analysis.statistics import holm
from paper_repro.landscape.portrait import LINE

SLICE_AT = 0.25

Point = Mapping[str, Any]


def _slice_rise(point: Point) -> float:
    """Mean rise of the loss at +-SLICE_AT along the filter-normalised directions."""
    losses = np.array(point["lines"])
    at = [LINE.index(-SLICE_AT), LINE.index(SLICE_AT)]
    return float(np.mean(losses[:, at]) - point["loss"])


MEASURES: dict[str, tuple[str, Callable[[Point], float]]] = {
    "top_eigenvalue": ("largest eigenvalue of the Hessian", lambda p: p["eigenvalues"][0]),
    "trace": ("trace of the Hessian", lambda p: p["trace"]["mean"]),
    "layers": ("layers' curvature x squared norm, summed", lambda p: sum(max(v, 0.0) for v in p["layers"].values())),
    "weight_rise": ("rise under a small move of the weights", lambda p: p["weight_rise"]),
    "noise_rise": ("rise under the follower's noise", lambda p: p["noise_rise"]),
    "slice_rise": (f"rise at {SLICE_AT} along random directions", _slice_rise),
    "gradient_norm": ("norm of the gradient", lambda p: p["gradient_norm"]),
    "gradient_variance": ("variance of one sample's gradient", lambda p: p["gradient_variance"]),
    "loss": ("training loss", lambda p: p["loss"]),
}
"""name -> (what a reader sees, its value at a finished model's point); all are positive, all are compared as logarithms"""


def separation(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare finished models.

    One-way analysis of variance of each measure's logarithm over the methods, seeds as replicates, corrected by Holm for the
    number of measures; Tukey's simultaneous intervals for the ratios of all pairs, which allow for the number of pairs but not
    of measures. Correlations of the logarithm with the score: over all runs, and within methods, that is of what is left when
    each method's mean is taken off both.

    Args:
        runs: of the record, see `paper_repro.landscape.landscape_study.make`: at least two seeds of at least two methods.

    Returns:
        A dict a measure: measure, label, values (by method, a seed each), p, p_holm, pairs (method, against, ratio, low, high),
        score (r, low, high) and score_within (the same). Where a measure is not positive, or every method's seeds agree, so
        that no spread is known: no pairs, and p null, but 1 where the methods agree as well.
    """
    rows = []
    for name, (label, value) in MEASURES.items():
        values = {
            method: [value(run["points"][-1]) for run in runs if run["method"] == method]
            for method in dict.fromkeys(run["method"] for run in runs)
        }
        row: dict[str, Any] = {"measure": name, "label": label, "values": values, "p": None, "pairs": []}
        row |= {"score": None, "score_within": None}
        positive = all(0 < value < np.inf for seeds in values.values() for value in seeds)
        if positive and all(len(set(seeds)) == 1 for seeds in values.values()):
            row["p"] = 1.0 if len({seeds[0] for seeds in values.values()}) == 1 else None
        elif positive:
            logs = [np.log(seeds) for seeds in values.values()]
            row["p"] = float(stats.f_oneway(*logs).pvalue)
            tukey = stats.tukey_hsd(*logs)
            interval = tukey.confidence_interval()
            for (i, method), (j, against) in permutations(enumerate(values), 2):
                low, middle, high = (float(np.exp(each[i, j])) for each in (interval.low, tukey.statistic, interval.high))
                row["pairs"].append({"method": method, "against": against, "ratio": middle, "low": low, "high": high})
            scores = [np.array([run["score"] for run in runs if run["method"] == method]) for method in values]
            row["score"] = _correlation(np.concatenate(logs), np.concatenate(scores), 0)
            logs_left, scores_left = (np.concatenate([each - each.mean() for each in group]) for group in (logs, scores))
            row["score_within"] = _correlation(logs_left, scores_left, len(values) - 1)
        rows.append(row)
    known = [row for row in rows if row["p"] is not None]
    for row, p in zip(known, holm([row["p"] for row in known]), strict=True):
        row["p_holm"] = float(p)
    return rows


def _correlation(x: np.ndarray, y: np.ndarray, taken: int) -> dict[str, float] | None:
    """Pearson's r with Fisher's 95% interval, for as many pairs less the means taken off."""
    freedom = len(x) - taken - 3
    if freedom < 1 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = float(stats.pearsonr(x, y).statistic)
    half = stats.norm.ppf(0.975) / np.sqrt(freedom)
    middle = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return {"r": r, "low": float(np.tanh(middle - half)), "high": float(np.tanh(middle + half))}
