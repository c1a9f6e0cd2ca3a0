"""The game that the page plays: robust logistic regression in the plane, its numbers and the core's own trajectory.

Each sample is a point, its noise a shift inside a disc, as ScaLA's noise is a shift of a sample's embeddings; each of the two
weights is a layer. The follower's best answer and the worst-case loss Phi have closed forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from convergence.play import normalized, play
from scala import Adversary
from toy_problems import RobustLogisticRegression

RATE, ASCENT, ROUNDS = 0.05, 0.3, 120
START = (-0.62, 0.41)  # no multiples of the rate: at weights of exactly zero, rounding would choose the noise
DEFAULTS: dict[str, Any] = {"delay": 60, "radius": 0.5, "steps": 2}
_SAMPLES, _SPREAD, _CENTRE, _SEED = 8, 0.7, (1.2, 0.3), 3
_REGION = 100.0  # constants are not used here; the weights stay far inside


def problem(radius: float) -> RobustLogisticRegression:
    """Two overlapping clouds of points, to two decimals; every sample's noise lies in a disc of this radius."""
    rng = np.random.default_rng(_SEED)
    clouds = [rng.normal(size=(_SAMPLES, 2)) * _SPREAD + sign * np.array(_CENTRE) for sign in (1, -1)]
    return RobustLogisticRegression(
        features=torch.tensor(np.round(np.concatenate(clouds), 2))[None],
        targets=torch.tensor([[1.0] * _SAMPLES + [-1.0] * _SAMPLES]),
        omega=torch.tensor([radius], dtype=torch.float64),
        region=torch.tensor([_REGION]),
        layers=(1, 1),
    )


def trajectory(delay: int, radius: float, steps: int) -> dict[str, Any]:
    """What `scala.Game`, `Lamb` and `Adversary` do.

    Args:
        delay: t_s.
        radius: omega.
        steps: K.

    Returns:
        "x": the weights before every round and after the last, "y": the samples' noise of every round, "gradients": taken of a
        sample in all.
    """
    game = problem(radius)
    adversary = Adversary(1.0, ASCENT / radius, steps, relative=True, reduction="sum")  # relative to points of that norm
    seen = play(
        game, torch.tensor([START], dtype=torch.float64), normalized(RATE), adversary,
        rounds=ROUNDS, delay=delay, observe=lambda r: {"x": r.x[0], "y": r.y.reshape(-1, 2)},
    )  # fmt: skip
    return {
        "x": [*seen["x"].tolist(), seen["final"][0].tolist()],
        "y": seen["y"].tolist(),
        "gradients": seen["gradients"].item(),
    }


def document() -> dict[str, Any]:
    """What the page needs to play, and the core's play at the first settings for it to compare with."""
    one = problem(DEFAULTS["radius"])
    return {
        "points": one.features[0].tolist(),
        "labels": one.targets[0].tolist(),
        "start": START,
        "rate": RATE,
        "ascent": ASCENT,
        "rounds": ROUNDS,
        "defaults": DEFAULTS,
        "core": trajectory(**DEFAULTS),
    }
