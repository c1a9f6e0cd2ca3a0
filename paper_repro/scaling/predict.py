"""Time to the target and speed-up for 1 to 1024 devices, with intervals, and what the paper's speed-ups would need.

A speed-up is over AdamW at a batch of 32. Which hardware that has can be read in three ways:

- "one device": whatever the large batch has;
- "all devices": as many as the large batch has (at most 32, a sample each);
- "fastest": of these devices as many as finish first; who has idle devices would leave them idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from paper_repro.scaling.hardware import Case
from paper_repro.scaling.inputs import DRAWS, Input, Inputs, document, drawn, interval, tornado, typical
from paper_repro.scaling.model import (
    ADAMW,
    BASELINE_BATCH,
    Method,
    Number,
    Plan,
    Steps,
    System,
    needed_critical,
    needed_throughput,
    step_time,
    throughput,
    time_to_target,
)

DEVICES = tuple(2**power for power in range(11))
BATCHES = (256, 1024, 4096)
"""Global batches, whatever the devices."""
PER_DEVICE = (8, 32)
"""Samples a device: the global batch grows with the devices."""
READINGS = ("one device", "all devices", "fastest")
CLAIMS = ((2.7, 16), (9.8, 16), (18.0, 32))
"""A speed-up of the paper and devices: 16 for "the same hardware", which is a guess (one DGX-2); 32 in an earlier version."""
CLAIMED_BATCH = 1024
STEPS_AT_32 = 6315
"""Steps of three epochs of SST-2 (67,349 sentences) at batch 32: it scales all times and cancels in speed-ups."""

ASSUMED_STEPS: Inputs = {
    "critical": Input(
        50,
        400,
        4000,
        "samples",
        "assumed",
        "B_crit of fine-tuning: noise scales differ by orders of magnitude (McCandlish 2018)",
    ),
    "excess": Input(0.8, 1.0, 1.25, "of S(B)", "assumed", "steps of the method over the law's at the same batch: not known"),
    "delay": Input(
        0.0, 0.5, 0.8, "of the steps", "assumed", "t_s/T: half is this project's default, the paper's is unknown", "linear"
    ),
}


@dataclass(frozen=True)
class Study:
    """What is predicted for one case.

    Attributes:
        case: model, hardware and their inputs.
        steps: the inputs of steps and method: critical, excess, delay.
        ascents: K of the method, whose leader is LAMB.
        draws: of the Monte Carlo, a power of two.
    """

    case: Case
    steps: Inputs = field(default_factory=lambda: ASSUMED_STEPS)
    ascents: int = 1
    draws: int = DRAWS

    @property
    def inputs(self) -> dict[str, Input]:
        """All of them."""
        return {**self.case.inputs, **self.steps}

    def parts(self, values: Mapping[str, Number]) -> tuple[System, Steps, Method]:
        """System, steps' law and method at these values of the inputs."""
        system = self.case.base.at({name: values[name] for name in self.case.inputs})
        method = Method("lamb", self.ascents, values["delay"], values["excess"])
        return system, Steps.through(BASELINE_BATCH, STEPS_AT_32, values["critical"]), method

    def plan(self, batch: int, devices: int) -> Plan:
        """In micro-batches as great as the memory allows."""
        return Plan(batch, devices, self.case.limit)

    def baseline(self, reading: str, devices: int) -> Callable[[Mapping[str, Number]], Number]:
        """Seconds to the target of AdamW at batch 32, see the readings above."""
        most = min(devices, BASELINE_BATCH)
        choices = {
            "one device": [1],
            "all devices": [most],
            "fastest": [number for number in DEVICES if number < most] + [most],
        }[reading]

        def seconds(values: Mapping[str, Number]) -> Number:
            system, steps, _ = self.parts(values)
            times = (time_to_target(system, steps, ADAMW, self.plan(BASELINE_BATCH, number)) for number in choices)
            return reduce(np.minimum, times)

        return seconds

    def seconds(self, batch: int, devices: int) -> Callable[[Mapping[str, Number]], Number]:
        """Seconds to the target of the method."""

        def quantity(values: Mapping[str, Number]) -> Number:
            system, steps, method = self.parts(values)
            return time_to_target(system, steps, method, self.plan(batch, devices))

        return quantity

    def speedup(self, batch: int, devices: int, reading: str) -> Callable[[Mapping[str, Number]], Number]:
        """The baseline's seconds over the method's."""
        ours, theirs = self.seconds(batch, devices), self.baseline(reading, devices)
        return lambda values: theirs(values) / ours(values)

    def faster(self, batch: int, devices: int, reading: str) -> Callable[[Mapping[str, Number]], Number]:
        """Samples a second over the baseline's."""

        def quantity(values: Mapping[str, Number]) -> Number:
            system, _, method = self.parts(values)
            ours = throughput(system, method, self.plan(batch, devices))
            return ours * self.baseline(reading, devices)(values) / (BASELINE_BATCH * STEPS_AT_32)

        return quantity

    def rows(self, devices: Sequence[int] = DEVICES) -> list[dict[str, Any]]:
        """Time and speed-up for each number of devices and each batch that gives every device a sample."""
        values, rows = drawn(self.inputs, self.draws), []
        system, _, method = self.parts(values)
        for number in devices:
            batches = sorted({*BATCHES, *(per * number for per in PER_DEVICE)})
            for batch in (batch for batch in batches if batch >= number):
                plan, time = self.plan(batch, number), step_time(system, method, self.plan(batch, number))
                rows.append(
                    {
                        "devices": number,
                        "batch": batch,
                        "micro_batch": plan.sizes[0][1],
                        "accumulation": plan.accumulation,
                        "step_seconds": interval(time.total),
                        "communication_share": interval(time.communication / time.total),
                        "seconds_to_target": interval(self.seconds(batch, number)(values)),
                        "speedup": {reading: interval(self.speedup(batch, number, reading)(values)) for reading in READINGS},
                    }
                )
        return rows

    def conditions(self, claimed: float, batch: int, devices: int) -> list[dict[str, Any]]:
        """What a speed-up needs, by reading of the baseline's hardware.

        Returns:
            A dict a reading: claimed, batch, devices, reading; speedup (interval); probability (share of the draws that reach
            it); faster (interval of samples a second over the baseline's) and needed_faster (interval, by the draws of
            B_crit and excess); at_most (the speed-up if steps fell like 1/B, all else typical); needed_critical (B_crit,
            all else typical, null where none is enough); decides (the inputs, see `tornado`).
        """
        values, rows = drawn(self.inputs, self.draws), []
        middle = typical(self.inputs)
        for reading in READINGS:
            quantity, faster = self.speedup(batch, devices, reading), self.faster(batch, devices, reading)
            found, usual = quantity(values), float(faster(middle)) / float(middle["excess"])
            needed = needed_critical(claimed, batch, usual)
            rows.append(
                {
                    "claimed": claimed,
                    "batch": batch,
                    "devices": devices,
                    "reading": reading,
                    "speedup": interval(found),
                    "probability": float(np.mean(found >= claimed)),
                    "faster": interval(faster(values)),
                    "needed_faster": interval(needed_throughput(claimed, batch, values["critical"]) * values["excess"]),
                    "at_most": usual,
                    "needed_critical": needed if np.isfinite(needed) else None,
                    "decides": tornado(quantity, self.inputs, self.draws),
                }
            )
        return rows

    def document(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "model": self.case.model,
            "hardware": self.case.hardware,
            "inputs": document(self.inputs),
            "rows": self.rows(),
            "conditions": [row for claimed, devices in CLAIMS for row in self.conditions(claimed, CLAIMED_BATCH, devices)],
        }
