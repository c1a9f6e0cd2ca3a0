"""Measurements: the real core plays toy problems, and what it does is compared with the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from convergence.effort import Effort


@dataclass(frozen=True)
class Curve:
    """One line of a figure: measured against the bound, over x.

    Attributes:
        label: of the line.
        x: [n], what is varied.
        measured: [n, m], m instances or seeds a point.
        bound: [n, m] or None where the theory gives none.
        slope: the exponent that the theory predicts for `measured` in x; None: none predicted.
        lower: the bound is one from below.
        of: the bound's name; empty: the measurement's.
    """

    label: str
    x: Any
    measured: Any
    bound: Any = None
    slope: float | None = None
    lower: bool = False
    of: str = ""


@dataclass(frozen=True)
class Measurement:
    """A figure: what is varied, what is measured, and how.

    Attributes:
        name: unique in its theorem; the figure's file name.
        title: what the reader should see.
        x: axis label.
        y: axis label.
        play: effort -> curves; runs the core.
        log: logarithmic axes, of "x", "y", "xy" or "".
        alt: the figure in words, for who cannot see it.
        of: the name of the bound that it is compared with; empty: the theorem's first.
    """

    name: str
    title: str
    x: str
    y: str
    play: Callable[[Effort], Sequence[Curve]]
    log: str = "xy"
    alt: str = ""
    of: str = ""


@dataclass(frozen=True)
class Fit:
    """A slope in log-log axes: mean over instances, 95% bootstrap interval over instances."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveReport:
    """What a curve says.

    Attributes:
        label: the curve's.
        instances: how many were played, over all points.
        violations: how many lie beyond their bound.
        tightness: minimum, median and maximum of bound / measured, lower: of measured / bound (None without a bound).
        fit: the rate of `measured` in x, where one is predicted (None with fewer than three points or values not positive).
        expected: the exponent predicted.
        of: as for the curve.
        excluded: the fitted interval does not hold the prediction.
    """

    label: str
    instances: int
    violations: int
    tightness: tuple[float, float, float] | None
    fit: Fit | None
    expected: float | None
    data: dict[str, list[float]] = field(default_factory=dict)
    of: str = ""
    excluded: bool = False


def summarise(curve: Curve) -> CurveReport:
    """Compare with the bound and fit the rate."""
    x, measured = np.asarray(curve.x, float), np.asarray(curve.measured, float)
    tightness, violations = None, 0
    if curve.bound is not None:
        bound = np.broadcast_to(np.asarray(curve.bound, float), measured.shape)
        above, below = (bound, measured) if curve.lower else (measured, bound)
        violations = int((~(above <= below * (1 + 1e-9) + 1e-12)).sum())  # a NaN is none that obeys
        ratio = (below / np.maximum(above, 1e-300))[above > 0]
        if ratio.size:
            tightness = (float(ratio.min()), float(np.median(ratio)), float(ratio.max()))
    data = {
        "x": x.tolist(),
        "median": np.median(measured, 1).tolist(),
        "low": np.quantile(measured, 0.05, 1).tolist(),
        "high": np.quantile(measured, 0.95, 1).tolist(),
    }
    if curve.bound is not None:
        data["bound"] = np.median(bound, 1).tolist()
    fit = None if curve.slope is None else _fit(x, measured)
    # One instance has no interval, and rounding is no contradiction.
    excluded = fit is not None and curve.slope is not None and not fit.low - 1e-6 <= curve.slope <= fit.high + 1e-6
    excluded = excluded and fit is not None and bool(np.isfinite(fit.low))
    return CurveReport(curve.label, measured.size, violations, tightness, fit, curve.slope, data, curve.of, excluded)


def _fit(x: np.ndarray, measured: np.ndarray) -> Fit | None:
    if len(x) < 3 or (x <= 0).any() or (measured.mean(1) <= 0).any():
        return None

    def slope(columns: np.ndarray) -> float:
        return float(np.polyfit(np.log(x), np.log(np.maximum(measured[:, columns].mean(1), 1e-300)), 1)[0])

    every = np.arange(measured.shape[1])
    if len(every) == 1:
        return Fit(slope(every), float("nan"), float("nan"))
    spread = stats.bootstrap(
        (every,), lambda i: slope(i.astype(int)), n_resamples=400, method="percentile", vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Fit(slope(every), float(spread.low), float(spread.high))


def draw(measurement: Measurement, reports: Sequence[CurveReport], path: Path) -> None:
    """Measured median with the band from 5% to 95% of instances, and the median of their bounds, dashed.

    Args:
        measurement: the figure.
        reports: its curves, summarised.
        path: an .svg or .png file.
    """
    import matplotlib as mpl  # noqa: PLC0415 - half a second that a check without figures need not pay
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import NullFormatter  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": measurement.name, "font.size": 10, "svg.fonttype": "path"}):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        bounds: set[tuple[float, ...]] = set()
        for k, report in enumerate(reports):
            data, colour = report.data, f"C{k}"
            axes.plot(data["x"], data["median"], "o-", color=colour, ms=4, label=report.label)
            axes.fill_between(data["x"], data["low"], data["high"], color=colour, alpha=0.18, lw=0)
            bound = tuple(data.get("bound", ()))
            if bound and bound not in bounds:  # curves may share one
                bounds.add(bound)
                axes.plot(data["x"], data["bound"], "--", color=colour, lw=1.2, label=f"{report.label}: bound")
        if "x" in measurement.log:
            axes.set_xscale("log")
            points = reports[0].data["x"]
            if len(points) <= _TICKS:  # few points: name each, rather than powers of ten that may not be among them
                axes.set_xticks(points, [f"{x:.4g}" for x in points])
            axes.xaxis.set_minor_formatter(NullFormatter())
        if "y" in measurement.log:
            axes.set_yscale("log")
        axes.set_xlabel(measurement.x)
        axes.set_ylabel(measurement.y)
        axes.set_title(measurement.title, fontsize=11, wrap=True)
        axes.grid(alpha=0.25, which="both", lw=0.5)
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


_TICKS = 8
