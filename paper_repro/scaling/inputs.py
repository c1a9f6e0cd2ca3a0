"""Numbers with what is known of them: a range, a typical value, and whether they were measured or assumed; what they imply."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy import stats

from paper_repro.record import Spread
from paper_repro.scaling.model import Number

Basis = Literal["measured", "carried over", "assumed"]
"""Carried over: measured, but on another model or task; that it holds here as well is assumed."""
Scale = Literal["log", "linear"]
Quantity = Callable[[Mapping[str, Number]], Number]
"""What is predicted from values of the inputs; with arrays of draws, an array."""

DRAWS = 2048
INTERVAL = (0.025, 0.975)
_SEED = 0


@dataclass(frozen=True)
class Input:
    """One number, as a distribution: half of its mass from low to typical, half from typical to high, uniform in each.

    Attributes:
        low: least value thought possible, or measured.
        typical: the median.
        high: greatest value.
        unit: of the three.
        basis: where they come from.
        source: the measurement, or the public figure, in words.
        scale: whether uniform means of the number or of its logarithm.
    """

    low: float
    typical: float
    high: float
    unit: str
    basis: Basis
    source: str
    scale: Scale = "log"

    def __post_init__(self) -> None:
        """Refuse what is no range."""
        ends = (self.low, self.typical, self.high)
        if not all(math.isfinite(end) for end in ends) or not self.low <= self.typical <= self.high:
            raise ValueError(f"{self.source}: an input needs finite low <= typical <= high, got {ends}")
        if self.basis not in get_args(Basis) or self.scale not in get_args(Scale):
            raise ValueError(f"{self.source}: basis must be one of {get_args(Basis)} and scale one of {get_args(Scale)}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self.source}: low is {self.low}; an input that can be zero needs scale='linear'")

    def ppf(self, probability: Any) -> Any:
        """The quantile at each probability in [0, 1]; the name is that of scipy.stats' distributions."""
        ends = np.array([self.low, self.typical, self.high])
        at = np.interp(probability, [0, 0.5, 1], np.log(ends) if self.scale == "log" else ends)
        return np.exp(at) if self.scale == "log" else at


Inputs = Mapping[str, Input]


def measured(spread: Spread, unit: str, source: str, scale: Scale = "log") -> Input:
    """An input from repeated measurements: their median, least and greatest."""
    return Input(spread.least, spread.median, spread.greatest, unit, "measured", source, scale)


def typical(inputs: Inputs) -> dict[str, Number]:
    """Every input at its typical value."""
    return {name: given.typical for name, given in inputs.items()}


def drawn(inputs: Inputs, draws: int = DRAWS) -> dict[str, Number]:
    """Independent draws of every input, from a scrambled Sobol sequence (a power of two of them is best)."""
    points = stats.qmc.Sobol(len(inputs), rng=_SEED).random(draws)
    return {name: given.ppf(points[:, i]) for i, (name, given) in enumerate(inputs.items())}


def interval(values: Number) -> dict[str, float]:
    """Median and 95% interval of draws: low, median, high."""
    low, median, high = np.quantile(values, (INTERVAL[0], 0.5, INTERVAL[1]))
    return {"low": float(low), "median": float(median), "high": float(high)}


def tornado(quantity: Quantity, inputs: Inputs, draws: int = DRAWS) -> list[dict[str, Any]]:
    """Which input decides: each alone moved over its range, and its share of the variance when all move.

    Args:
        quantity: a positive prediction.
        inputs: what it depends on, and perhaps more.
        draws: a power of two, for the shares.

    Returns:
        A row an input, the most important first: name, basis, unit, from and to (the input), low and high (the prediction at
        those two, all other inputs typical) and share (first-order Sobol index of the prediction's logarithm: Sobol 1993,
        Saltelli et al. 2010; all shares add up to at most 1, what is missing are interactions).
    """
    varied = {name: given for name, given in inputs.items() if given.low < given.high}
    fixed = typical({name: given for name, given in inputs.items() if name not in varied})

    def logarithm(points: np.ndarray) -> np.ndarray:
        values = np.log(np.asarray(quantity(fixed | dict(zip(varied, points, strict=True)))))
        return np.array(np.broadcast_to(values, (2, points.shape[1])))  # twice: scipy 1.17 fails at one output of one input

    middle, rows = typical(inputs), []
    if varied:
        shares = stats.sobol_indices(func=logarithm, n=draws, dists=list(varied.values()), rng=_SEED).first_order
        for (name, given), share in zip(varied.items(), shares.reshape(2, -1)[0], strict=True):
            ends = sorted(float(quantity(middle | {name: end})) for end in (given.low, given.high))
            row = {"name": name, "basis": given.basis, "unit": given.unit, "from": given.low, "to": given.high}
            # The estimate may leave [0, 1] by its sampling error.
            rows.append(row | {"low": ends[0], "high": ends[1], "share": min(1.0, max(0.0, float(share)))})
    return sorted(rows, key=lambda row: (-row["share"], -row["high"] / row["low"]))


def document(inputs: Inputs) -> dict[str, Any]:
    """As JSON."""
    return {name: asdict(given) for name, given in inputs.items()}


def undocumented(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Input]:
    """From JSON."""
    return {name: Input(**fields) for name, fields in given.items()}


def read(file: Path) -> dict[str, dict[str, Input]]:
    """The inputs that `paper_repro.scaling.step_times` wrote, by model.

    Raises:
        ValueError: the file is not such a file.
    """
    try:
        models = json.loads(file.read_text(encoding="utf-8"))["models"]
        return {name: undocumented(model["inputs"]) for name, model in models.items()}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{file} holds no measured inputs ({type(error).__name__}: {error}); make one with "
            "python -m paper_repro.scaling.step_times --out FILE"
        ) from error
