"""How long data-parallel training takes: the time of one leader's step, and how many of them there are.

All functions are pure and take numbers or, for the fields of `System`, `Method` and `Steps`, arrays of draws.

- A micro-batch of m samples: c(m) = max(floor, overhead + per_sample * m) seconds, forward and backward.
- A device has ceil(B/D) samples of a global batch B, in micro-batches of m, the last one perhaps smaller.
- The follower multiplies that by 1 + K * ascent * (1 - t_s/T): K ascents a micro-batch, after the delay only.
- One all-reduce of the gradients a step, of which the last micro-batch's backward hides a part. The follower stays out of it.
- Then the leader's step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

Number = float | np.ndarray

BASELINE_BATCH = 32


@dataclass(frozen=True)
class System:
    """A model on devices. Which values were measured and which assumed is said where they are made.

    Attributes:
        parameters: weights of the model.
        per_sample: seconds a sample of forward and backward, in a micro-batch that fills the device.
        overhead: seconds a micro-batch, added to it.
        floor: seconds that a micro-batch takes at least, however small: a GPU's kernel launches.
        backward: share of a micro-batch's time that the backward pass takes.
        ascent: seconds of one ascent of the follower, over those of the micro-batch's forward and backward.
        adamw: seconds a parameter of AdamW's step, with all that ends a step.
        lamb: LAMB's seconds over AdamW's.
        gradient_bytes: bytes a parameter that are reduced.
        latency: seconds a message between two devices of one node.
        bandwidth: bytes a second of such a link, in one direction.
        node: devices a node; None: all devices are in one.
        node_latency: seconds a message between nodes.
        node_bandwidth: bytes a second between nodes, all links of a node together, in one direction.
        overlap: share of the last micro-batch's backward that the all-reduce can hide behind.
        sharing: factor on a device's work when there are several, which share a machine's memory and caches.
    """

    parameters: Number
    per_sample: Number
    overhead: Number = 0.0
    floor: Number = 0.0
    backward: Number = 2 / 3
    ascent: Number = 2 / 3
    adamw: Number = 0.0
    lamb: Number = 1.0
    gradient_bytes: Number = 4.0
    latency: Number = 0.0
    bandwidth: Number = math.inf
    node: int | None = None
    node_latency: Number = 0.0
    node_bandwidth: Number = math.inf
    overlap: Number = 0.0
    sharing: Number = 1.0

    def at(self, values: Mapping[str, Number]) -> System:
        """The same with these fields."""
        return replace(self, **values)  # type: ignore[arg-type]

    def micro_batch(self, samples: int) -> Number:
        """c(m): seconds of forward and backward of one micro-batch, alone on one device."""
        return np.maximum(self.floor, self.overhead + self.per_sample * samples)


@dataclass(frozen=True)
class Method:
    """Who moves.

    Attributes:
        leader: whose step is taken.
        ascents: K, the follower's ascent steps; 0: no follower.
        delay: t_s/T, the share of the steps before the follower's first.
        excess: steps that it needs over S(B).
    """

    leader: Literal["adamw", "lamb"]
    ascents: int = 0
    delay: Number = 0.0
    excess: Number = 1.0


ADAMW = Method("adamw")


@dataclass(frozen=True)
class Plan:
    """How a global batch is spread.

    Attributes:
        batch: B, samples of one leader's step.
        devices: D.
        limit: greatest micro-batch of a device, by its memory.
    """

    batch: int
    devices: int
    limit: int

    def __post_init__(self) -> None:
        """Refuse what cannot be spread."""
        if min(self.batch, self.devices, self.limit) < 1:
            raise ValueError(f"batch, devices and micro-batch must be at least 1, got {self}")
        if self.devices > self.batch:
            raise ValueError(
                f"a batch of {self.batch} has no sample for some of {self.devices} devices; use at most {self.batch}"
            )

    @property
    def share(self) -> int:
        """Samples of the device that has the most."""
        return -(-self.batch // self.devices)

    @property
    def accumulation(self) -> int:
        """Micro-batches a step, a = ceil(B / (D m))."""
        return -(-self.share // self.limit)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Micro-batches of that device: (how many, of how many samples), the last one last; whole ones first."""
        whole, rest = divmod(self.share, self.limit)
        return tuple(pair for pair in ((whole, self.limit), (1, rest)) if min(pair))


@dataclass(frozen=True)
class StepTime:
    """Seconds of one leader's step.

    Attributes:
        compute: forward and backward passes, the follower's included, as a mean over the steps before and after the delay.
        communication: what of the all-reduce is not hidden.
        leader: the optimizer.
    """

    compute: Number
    communication: Number
    leader: Number

    @property
    def total(self) -> Number:
        """All of it."""
        return self.compute + self.communication + self.leader


def ring(size: Number, devices: int, latency: Number, bandwidth: Number) -> Number:
    """Seconds of a ring all-reduce (Patarasuk & Yuan 2009; Thakur et al. 2005), reduce-scatter and all-gather.

    Args:
        size: bytes.
        devices: D; each sends 2 (D-1) messages of size / D.
        latency: seconds a message.
        bandwidth: bytes a second of a link in one direction, what NCCL's tests call the bus bandwidth.
    """
    return 2 * (devices - 1) / devices * size / bandwidth + 2 * (devices - 1) * latency


def all_reduce(system: System, devices: int) -> Number:
    """Seconds to reduce all gradients: a ring in each node, then rings across nodes, one a device and its shard.

    Rings are the slower choice for many small nodes, where NCCL takes trees: the latency is then an upper bound.
    """
    inside = devices if system.node is None else min(devices, system.node)
    nodes = -(-devices // inside)
    size = system.parameters * system.gradient_bytes
    across = ring(size, nodes, system.node_latency, system.node_bandwidth)
    return ring(size, inside, system.latency, system.bandwidth) + across


def step_time(system: System, method: Method, plan: Plan) -> StepTime:
    """Time of one leader's step."""
    together = system.sharing if plan.devices > 1 else 1.0
    passes = sum(number * system.micro_batch(samples) for number, samples in plan.sizes) * together
    noisy = 1 + method.ascents * system.ascent * (1 - method.delay)
    last = system.micro_batch(plan.sizes[-1][1]) * together
    exposed = np.maximum(0.0, all_reduce(system, plan.devices) - system.overlap * system.backward * last)
    leader = system.parameters * system.adamw * together * (system.lamb if method.leader == "lamb" else 1.0)
    return StepTime(passes * noisy, exposed, leader)


def throughput(system: System, method: Method, plan: Plan) -> Number:
    """Samples a second."""
    return plan.batch / step_time(system, method, plan).total


@dataclass(frozen=True)
class Steps:
    """S(B) = S_min (1 + B_crit / B): steps to the target, by batch (McCandlish et al. 2018, arXiv 1812.06162).

    Attributes:
        least: S_min, steps of an infinite batch.
        critical: B_crit, the batch that needs twice the least steps and twice the least samples. 0: a larger batch saves none;
            large: steps fall like 1/B.
    """

    least: Number
    critical: Number

    @classmethod
    def through(cls, batch: int, steps: float, critical: Number) -> Steps:
        """The law that needs so many steps at one batch."""
        return cls(steps / (1 + critical / batch), critical)

    def at(self, batch: int) -> Number:
        """S(B)."""
        return self.least * (1 + self.critical / batch)


@dataclass(frozen=True)
class StepsTable:
    """Measured steps to the target by batch; between them log S is linear in log B, outside it is unknown.

    Attributes:
        measured: steps by batch; infinite where the target was not reached.
    """

    measured: Mapping[int, float] = field(default_factory=dict)

    def at(self, batch: int) -> float:
        """S(B).

        Raises:
            ValueError: B lies outside of what was measured.
        """
        batches = sorted(self.measured)
        if not batches or not batches[0] <= batch <= batches[-1]:
            raise ValueError(
                f"no steps were measured around batch {batch}, only at {batches}; measure it, or use the law `Steps`"
            )
        if batch in self.measured:
            return self.measured[batch]
        above = next(i for i, known in enumerate(batches) if known > batch)
        low, high = batches[above - 1], batches[above]
        ends = self.measured[low], self.measured[high]
        if not all(map(math.isfinite, ends)):
            return math.inf
        weight = math.log(batch / low) / math.log(high / low)
        return math.exp((1 - weight) * math.log(ends[0]) + weight * math.log(ends[1]))


def time_to_target(system: System, steps: Steps | StepsTable, method: Method, plan: Plan) -> Number:
    """Seconds: steps times their time."""
    return steps.at(plan.batch) * method.excess * step_time(system, method, plan).total


# --- conditions -------------------------------------------------------------------------------------------------------------
# A speed-up is a ratio of times, S(b) t(b) / (S(B) t(B)), over the baseline's batch b. Samples to the target, B S(B), grow with
# the batch: their ratio (b + B_crit) / (B + B_crit) is below 1. So all of a speed-up comes from throughput.


def needed_throughput(speedup: float, batch: int, critical: Number, baseline: int = BASELINE_BATCH) -> Number:
    """Ratio of samples a second, over the baseline's, that a speed-up needs: speedup (B + B_crit) / (b + B_crit)."""
    return speedup * (batch + critical) / (baseline + critical)


def needed_critical(speedup: float, batch: int, faster: float, baseline: int = BASELINE_BATCH) -> float:
    """Least B_crit at which a speed-up is reached.

    Args:
        speedup: wanted.
        batch: B.
        faster: samples a second over the baseline's, as they are.
        baseline: b.

    Returns:
        0 if larger batches need no fewer steps at all for it; infinite if no B_crit is enough.
    """
    share = speedup / faster  # of the baseline's samples over ours that is needed
    return math.inf if share >= 1 else max(0.0, (share * batch - baseline) / (1 - share))
