"""Where a round's time goes: by phase (whose pass, which direction) and by kind of operation, from torch's profiler."""

from __future__ import annotations

import bisect
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from paper_repro.bench.interleaved import seconds_of, wait_for
from paper_repro.bench.round import Bench
from scala import Adversary, Game

PHASES = ("ascent, forward", "ascent, backward", "leader, forward", "leader, backward", "leader, step", "rest")
"""The ascent's backward pass ends with the noise's step, the leader's with the check of the gradients, before anybody can tell;
rest: clearing gradients, the clean embeddings, the ball."""
PRODUCTS, OTHER = "matrix products", "other"
KINDS = (PRODUCTS, "attention", "dropout", "elementwise", "embedding", "optimizer", OTHER)
"""Elementwise: softmax, GELU, normalisation, sums, copies. Other: what is in no operation, above all Python."""
_MARK = "phase: "
# By the beginning of the operation's name. The first two also of an operation around it: what they are made of is theirs.
_NAMES = {
    "dropout": ("dropout", "native_dropout", "_fused_dropout", "bernoulli", "rand"),
    "embedding": ("embedding", "_embedding", "index_select"),
    "attention": ("bmm", "baddbmm", "_scaled_dot_product", "_flash_attention", "_efficient_attention", "_cudnn_attention"),
    PRODUCTS: ("mm", "addmm", "_addmm", "mkldnn_linear"),
}
_WHOLE = ("dropout", "embedding")


def profile_round(bench: Bench, rounds: int = 3, follower: bool = True) -> dict[str, Any]:
    """Profile rounds of ScaLA with K = 1, or of the leader alone.

    Args:
        bench: what is stepped on.
        rounds: over how many; one before them is not counted.
        follower: whether there is one.

    Returns:
        seconds: {phase: {kind: seconds a round}}, with zeros for what did not happen; on a GPU, of its kernels, and what is
        left of the round is "rest", "other". round: seconds of a round without the profiler.
    """
    device = bench.device.type
    played = _Marked(bench, Game(bench.leader, Adversary(bench.radius, relative=True) if follower else None))
    played.round()
    alone = seconds_of(played.round, device, calls=rounds)
    activities = [ProfilerActivity.CPU] + ([] if device == "cpu" else [ProfilerActivity.CUDA])
    wait_for(device)
    with profile(activities=activities) as profiled:
        for _ in range(rounds):
            played.round()
        wait_for(device)
    table = attributed(profiled.events() or (), on_device=device != "cpu")
    seconds = {phase: {kind: table[phase, kind] * 1e-6 / rounds for kind in KINDS} for phase in PHASES}
    if device != "cpu":  # the kernels say nothing of the time between them
        seconds["rest"][OTHER] += max(0.0, alone - sum(sum(row.values()) for row in seconds.values()))
    return {"round": alone, "seconds": seconds}


def outside_products(profiled: dict[str, Any]) -> float:
    """The share of a profiled round's time outside matrix products and attention: what a count of operations leaves out."""
    kinds = profiled["seconds"].values()
    inside = sum(row[PRODUCTS] + row["attention"] for row in kinds)
    return 1 - inside / sum(sum(row.values()) for row in kinds)


class _Marked:
    """A round of the game, played as `Game.round` plays it, that says at every moment which phase it is in."""

    def __init__(self, bench: Bench, game: Game) -> None:
        self.bench, self.game = bench, game
        self._open = ExitStack()

    def round(self) -> None:
        """Play one."""
        self._enter("rest")
        leader = self.bench.leader
        handles = (
            leader.register_step_pre_hook(lambda *_: self._enter("leader, step")),
            leader.register_step_post_hook(lambda *_: self._enter("rest")),
        )
        try:
            self.game.round(self._objective, self.bench.embeddings(), self.bench.batch["attention_mask"])
        finally:
            for handle in handles:
                handle.remove()
            self._open.close()

    def _objective(self, noise: Tensor | None) -> Tensor:
        ascent = noise is not None and noise.requires_grad
        who = "ascent" if ascent else "leader"
        self._enter(f"{who}, forward")
        loss = self.bench.objective(noise)
        self._enter(f"{who}, backward")
        return loss

    def _enter(self, phase: str) -> None:
        """Leave the phase and enter this one."""
        self._open.close()
        self._open.enter_context(record_function(_MARK + phase))


def attributed(events: Any, on_device: bool) -> dict[tuple[str, str], float]:
    """Microseconds by (phase, kind).

    A backward pass may run in a thread of its own, so an operation belongs to the phase in which it starts, whatever is around
    it; on a device its kernels count, which it only starts. On the CPU a phase's time outside of all operations is "other".

    Args:
        events: of a profile whose phases are marked.
        on_device: count the kernels' time.
    """
    own = [event for event in events if event.device_type == DeviceType.CPU]
    marks = sorted((e.time_range.start, e.time_range.end, e.name.removeprefix(_MARK)) for e in own if e.name.startswith(_MARK))
    starts = [start for start, *_ in marks]
    table: dict[tuple[str, str], float] = defaultdict(float)
    if not on_device:
        for start, end, phase in marks:
            table[phase, OTHER] += end - start
    for event in own:
        at = bisect.bisect_right(starts, event.time_range.start) - 1
        if at < 0 or event.is_user_annotation or event.time_range.start > marks[at][1]:
            continue
        phase = marks[at][2]
        kind = "optimizer" if phase == "leader, step" else _kind(event)
        time = event.self_device_time_total if on_device else event.self_cpu_time_total
        table[phase, kind] += time
        if not on_device:
            table[phase, OTHER] -= time
    return table


def _kind(event: Any) -> str:
    around = event
    while around is not None:
        for kind in _WHOLE:
            if _is_of(kind, around.name):
                return kind
        around = around.cpu_parent
    for kind in _NAMES:
        if _is_of(kind, event.name):
            return kind
    return "elementwise" if event.name.startswith("aten::") else OTHER


def _is_of(kind: str, name: str) -> bool:
    return name.startswith("aten::") and name.removeprefix("aten::").startswith(_NAMES[kind])
