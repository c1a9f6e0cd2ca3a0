"""How the cost of a step grows with batch, length, depth, width and the ascent steps K, beside what the arithmetic says.

The arithmetic is a count: the operations of every matrix product of the step over the machine's peak, and the leader's bytes
over its bandwidth. Slopes are of straight lines through logarithms, fitted to the times and to the count at the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats
from transformers import BertConfig

from paper_repro.analysis.statistics import Estimate
from paper_repro.bench.interleaved import Action, interleaved
from paper_repro.bench.machine import FP32, Machine
from paper_repro.bench.phases import outside_products, profile_round
from paper_repro.bench.round import REFERENCE, Bench, bench_of, flops_of, leader_floor, random_model
from scala import Adversary, Game

ROUND = "ScaLA, K = 1"


@dataclass(frozen=True)
class Size:
    """A BERT and a batch: what the cost is a function of. Heads are 64 wide where the width allows, or there is one."""

    batch: int
    length: int
    depth: int
    width: int
    vocabulary: int

    def bench(self, device: str) -> Bench:
        """With random weights."""
        config = BertConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=max(1, self.width // 64),
            intermediate_size=4 * self.width,
            max_position_embeddings=max(512, self.length),
        )
        return bench_of(random_model(config, device), self.batch, self.length)


@dataclass(frozen=True)
class Plan:
    """What is measured: every axis goes through its values, the other sizes being the base's.

    Attributes:
        base: where all axes meet.
        axes: a field of `Size` and its values.
        steps: K.
    """

    base: Size
    axes: dict[str, tuple[int, ...]]
    steps: tuple[int, ...] = (1, 2, 3, 4)


PLANS = {
    "cpu": Plan(
        Size(batch=8, length=64, depth=4, width=256, vocabulary=8192),
        {
            "batch": (2, 4, 8, 16, 32),
            "length": (16, 32, 64, 128, 256),
            "depth": (1, 2, 4, 8, 12),
            "width": (64, 128, 256, 384, 512),
        },
    ),
    "cuda": Plan(
        Size(batch=32, length=128, depth=12, width=768, vocabulary=30522),
        {
            "batch": (8, 16, 32, 64, 128),
            "length": (32, 64, 128, 256, 512),
            "depth": (3, 6, 12, 24),
            "width": (256, 512, 768, 1024, 1536),
        },
    ),
}


def measure_growth(machine: Machine, plan: Plan, pairs: int) -> dict[str, Any]:
    """Time a plain step and a round along every axis, and the round for every K.

    Args:
        machine: where, and its rates.
        plan: what.
        pairs: see `interleaved`.

    Returns:
        base: the sizes; axes: what `_along` returns, one an axis; steps: what `_by_steps` returns.
    """
    axes = [_along(axis, values, machine, plan.base, pairs) for axis, values in plan.axes.items()]
    return {"base": asdict(plan.base), "axes": axes, "steps": _by_steps(machine, plan, pairs)}


def _along(axis: str, values: Sequence[int], machine: Machine, base: Size, pairs: int) -> dict[str, Any]:
    """One axis.

    Returns:
        axis, values, parameters (of each model); rows: for the plain step and the round the name, seconds (spreads), predicted
        (seconds), measured_slope, predicted_slope and difference (of the logarithm of measured / predicted; each slope with
        its interval), outside_products (the share of the time at the first and the last value), and reason (None where the
        difference's interval holds zero, or where that share does not explain it).
    """
    seconds: dict[str, list[dict[str, float]]] = {REFERENCE: [], ROUND: []}
    predicted: dict[str, list[float]] = {REFERENCE: [], ROUND: []}
    outside: dict[str, list[float]] = {REFERENCE: [], ROUND: []}
    parameters = []
    for value in values:
        bench = replace(base, **{axis: value}).bench(machine.device)
        parameters.append(sum(p.numel() for p in bench.model.parameters()))
        actions = {REFERENCE: bench.plain, ROUND: bench.round_of(_game(bench, 1))}
        timings = interleaved(actions, REFERENCE, pairs, machine.device)
        for name, action in actions.items():
            seconds[name].append(asdict(timings[name].seconds))
            predicted[name].append(_floor(action, bench, machine))
            if value in (values[0], values[-1]):
                outside[name].append(outside_products(profile_round(bench, 1, follower=name == ROUND)))
    rows = []
    for name, spreads in seconds.items():
        times, floors = np.array([s["median"] for s in spreads]), np.array(predicted[name])
        difference = _line(np.log(values), np.log(times / floors))
        low, high = difference["interval"]
        rows.append(
            {
                "name": name,
                "seconds": spreads,
                "predicted": predicted[name],
                "measured_slope": _line(np.log(values), np.log(times)),
                "predicted_slope": _line(np.log(values), np.log(floors)),
                "difference": difference,
                "outside_products": outside[name],
                "reason": None if low <= 0 <= high else _reason(axis, values, outside[name], difference["slope"]),
            }
        )
    return {"axis": axis, "values": list(values), "parameters": parameters, "rows": rows}


def _by_steps(machine: Machine, plan: Plan, pairs: int) -> dict[str, Any]:
    """The cost of a round in units of a plain step is 1 + c K.

    Returns:
        values: K, with 0 for the plain step; ratios (spreads); predicted; measured_slope, predicted_slope: c with its interval.
    """
    bench = plan.base.bench(machine.device)
    actions: dict[str, Action] = {REFERENCE: bench.plain}
    actions |= {str(steps): bench.round_of(_game(bench, steps)) for steps in plan.steps}
    timings = interleaved(actions, REFERENCE, pairs, machine.device)
    floors = [_floor(action, bench, machine) for action in actions.values()]
    ratios = [asdict(timing.ratio) for timing in timings.values()]
    values = [0, *plan.steps]
    predicted = [floor / floors[0] for floor in floors]
    return {
        "values": values,
        "ratios": ratios,
        "predicted": predicted,
        "measured_slope": _line(values, [r["median"] for r in ratios]),
        "predicted_slope": _line(values, predicted),
    }


def _game(bench: Bench, steps: int) -> Game:
    return Game(bench.leader, Adversary(bench.radius, bench.radius / steps, steps, relative=True))


def _floor(action: Action, bench: Bench, machine: Machine) -> float:
    return flops_of(action) / machine.flops[FP32] + leader_floor(bench, machine)


def _line(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """The slope of the least-squares line, with its interval (Student's t, the points' distances from the line)."""
    fit = stats.linregress(x, y)
    found = Estimate(float(fit.slope), float(fit.stderr), len(x) - 2)
    return {"slope": found.mean, "interval": list(found.interval)}


def _reason(axis: str, values: Sequence[int], outside: Sequence[float], difference: float) -> str | None:
    """Time that is in no product, if it explains the sign: where its share falls, the cost grows less than the count."""
    if (outside[-1] - outside[0]) * difference <= 0:
        return None
    return f"outside matrix products: {outside[0]:.0%} of the time at {axis} {values[0]}, {outside[-1]:.0%} at {values[-1]}"
