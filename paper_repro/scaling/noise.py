"""The critical batch that the gradient's noise predicts, from the study of the landscape: along training, by method."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

KINDS = {"noise_scale": "critical", "layerwise_noise_scale": "least"}
"""A noise scale and the law whose batch it predicts: tr Sigma / |G|^2 is B_crit; (|sigma|_1 / |G|_1)^2 is b_min, for the mean
gradient that there is at this point of training."""
_FAMILY = re.compile(r"(adamw|lamb|scala)(-\d+|-large)?")
_LAYERS = "layer_noise_scale"


def family_of(method: str) -> str | None:
    """Of which family of the sweep a method is: "adamw" for "adamw-32" and "adamw-large"; none for "lamb-gaussian"."""
    found = _FAMILY.fullmatch(method)
    return None if found is None else found[1]


def along_training(file: Path) -> list[dict[str, Any]] | None:
    """The runs with their noise scales at each point; None without the file.

    Returns:
        A dict a run: method, seed, batch, points (step, share of the run, and by kind: scale, low, high; null is infinite).

    Raises:
        ValueError: the file is not that of `make landscape`.
    """
    if not file.exists():
        return None
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        return [
            {key: run[key] for key in ("method", "seed", "batch")}
            | {
                "points": [
                    {"step": point["step"], "share": point["step"] / max(point["of"], 1), _LAYERS: point[_LAYERS]}
                    | {kind: point[kind] for kind in KINDS}
                    for point in run["points"]
                ]
            }
            for run in runs
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} holds no noise scales ({error!r}); make it anew with make landscape") from error


def predicted(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each method's noise scales predict: over all seeds and all points after the start, where the head is still random.

    Returns:
        A dict a method: method, seeds, points (how many), by kind low, typical, high (least, median, greatest estimate; null is
        infinite), and layers (by name the median of the layer's own noise scale).
    """
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == method]
        points = [point for run in own for point in run["points"] if point["step"] > 0]
        if not points:
            continue
        scales = {kind: [_number(point[kind]["scale"]) for point in points] for kind in KINDS}
        layers = {name: median(_number(point[_LAYERS][name]["scale"]) for point in points) for name in points[0][_LAYERS]}
        rows.append(
            {"method": method, "seeds": len({run["seed"] for run in own}), "points": len(points)}
            | {kind: _ends(values) for kind, values in scales.items()}
            | {"layers": {name: _or_null(value) for name, value in layers.items()}}
        )
    return rows


def _ends(values: Sequence[float]) -> dict[str, float | None]:
    return {"low": _or_null(min(values)), "typical": _or_null(median(values)), "high": _or_null(max(values))}


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _or_null(value: float) -> float | None:
    return None if math.isinf(value) else value
