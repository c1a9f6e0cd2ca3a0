"""The whole measurement, part by part: on a processor, and on an accelerator for the shapes that need one."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from transformers import BertConfig, PreTrainedConfig, RobertaConfig

from convergence.benchmark import batched_against_loop
from paper_repro.bench.adaptation import time_large_batches
from paper_repro.bench.growth import PLANS, ROUND, Plan, measure_growth
from paper_repro.bench.interleaved import Action, wait_for
from paper_repro.bench.kept import rise_kept
from paper_repro.bench.leader import time_leaders
from paper_repro.bench.machine import Machine
from paper_repro.bench.phases import profile_round
from paper_repro.bench.process import compare_memory, import_time
from paper_repro.bench.round import REFERENCE, Bench, bench_of, classifier, random_model, time_rounds
from paper_repro.record import Spread, provenance

MEMORY_STEPS = (REFERENCE, ROUND)
COMPILED_STEPS = (REFERENCE, ROUND, "naive ascent")
GROWTH_PAIRS = 5
LARGE_PAIRS = 3

SHAPES: dict[str, PreTrainedConfig] = {
    "bert-base-uncased": BertConfig(),
    "roberta-large": RobertaConfig(
        vocab_size=50265,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    ),
}
"""Written by hand, so that no model hub is needed: the weights are random anyway."""

Keep = Callable[[dict[str, Any]], object]
"""Is given the record whenever there is more of it."""


def benchmark(
    keep: Keep,
    *,
    encoder: str = "minilm-l6",
    batch: int = 32,
    length: int = 32,
    pairs: int = 11,
    plan: Plan = PLANS["cpu"],
    toy_batches: Sequence[int] = (100, 1_000, 10_000),
) -> dict[str, Any]:
    """Measure everything on this processor, on as many threads as torch has now.

    Args:
        keep: see `Keep`.
        encoder: whose shapes are used; see `paper_repro.data.encoders`.
        batch: samples of a round.
        length: tokens of a sample.
        pairs: measurements of each method beside the reference.
        plan: of the growth.
        toy_batches: instances that the toy engine plays at once.

    Returns:
        machine, setting, leader, round, kept, large_batch, memory, imports, profile, growth, engine, provenance.
    """
    load = os.getloadavg()[0]
    machine = Machine.measured("cpu")
    model = classifier(encoder)
    parameters = sum(p.numel() for p in model.parameters())
    setting = {"encoder": encoder, "parameters": parameters, "batch": batch, "length": length, "pairs": pairs}
    record: dict[str, Any] = {"machine": asdict(machine), "setting": setting}
    record["leader"] = time_leaders([p.shape for p in model.parameters()], machine, pairs)
    keep(record)
    bench = bench_of(model, batch, length)
    record["round"] = time_rounds(bench, machine, pairs)
    keep(record)
    record["kept"] = rise_kept(encoder, batch=batch)
    keep(record)
    record["large_batch"] = time_large_batches(encoder, pairs=min(LARGE_PAIRS, pairs))
    keep(record)
    record["memory"] = compare_memory(encoder, batch, length, MEMORY_STEPS, repeats=min(3, pairs))
    record["imports"] = {module: import_time(module) for module in ("scala",)}
    record["profile"] = profile_both(bench)
    keep(record)
    record["growth"] = measure_growth(machine, plan, min(GROWTH_PAIRS, pairs))
    keep(record)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors, for which two threads only wait for each other
    try:
        record["engine"] = [batched_against_loop(b, pairs=min(5, pairs)) for b in toy_batches]
    finally:
        torch.set_num_threads(threads)
    return _finished(record, keep, load)


def benchmark_accelerator(
    keep: Keep,
    *,
    device: str = "cuda",
    shapes: Mapping[str, PreTrainedConfig] = SHAPES,
    batch: int = 32,
    length: int = 128,
    pairs: int = 11,
    plan: Plan = PLANS["cuda"],
) -> dict[str, Any]:
    """Measure the leader's step and the round on an accelerator: every shape in fp32 and bf16, as it is and compiled.

    Args:
        keep: see `Keep`.
        device: torch's name of it.
        shapes: models by name.
        batch: samples of a round.
        length: tokens of a sample.
        pairs: measurements of each method beside the reference.
        plan: of the growth.

    Returns:
        machine, setting, shapes (for each name, parameters, leader, settings: precision, compiled, failure, round, memory),
        profile (of the first shape), growth, provenance.
    """
    load = os.getloadavg()[0]
    machine = Machine.measured(device)
    setting = {"batch": batch, "length": length, "pairs": pairs}
    record: dict[str, Any] = {"machine": asdict(machine), "setting": setting, "shapes": []}
    for name, config in shapes.items():
        model = random_model(config, device)
        sizes = [p.shape for p in model.parameters()]
        shape: dict[str, Any] = {"name": name, "parameters": sum(size.numel() for size in sizes)}
        record["shapes"].append(shape)
        if "profile" not in record:
            record["profile"] = profile_both(bench_of(model, batch, length))
        shape["leader"] = time_leaders(sizes, machine, pairs)
        shape["settings"] = []
        keep(record)
        for compiled in (False, True):
            for precision in machine.flops:
                _free(device)
                made = bench_of(model, batch, length, precision)
                shape["settings"].append(_setting(made, machine, pairs, compiled=compiled))
                model.zero_grad()
                keep(record)
                del made
        del model
        _free(device)
    record["growth"] = measure_growth(machine, plan, min(GROWTH_PAIRS, pairs))
    return _finished(record, keep, load)


def profile_both(bench: Bench) -> dict[str, Any]:
    """A plain step and a round."""
    return {REFERENCE: profile_round(bench, follower=False), ROUND: profile_round(bench)}


def device_memory(bench: Bench, names: Collection[str], repeats: int = 3) -> dict[str, Any] | None:
    """Peak memory of two steps on a GPU beyond the model's: gradients, activations and the leader's state.

    Args:
        bench: what is stepped on.
        names: of the two steps.
        repeats: measurements.

    Returns:
        As `compare_memory`; None where torch does not count (a processor).
    """
    if bench.device.type == "cpu":
        return None
    model = sum(t.nbytes for t in (*bench.model.parameters(), *bench.model.buffers()))
    steps = bench.steps()
    for name in names:  # the leader's state and whatever is kept from then on is there in every measurement
        steps[name].play()
    seen: list[list[int]] = []
    for _ in range(repeats):
        seen.append([_peak(steps[name].play, bench) - model for name in names])
    first, second = zip(*seen, strict=True)
    return {
        "steps": list(names),
        "bytes": [asdict(Spread.of(first)), asdict(Spread.of(second))],
        "ratio": asdict(Spread.of([b / a for a, b in seen])),
    }


def _peak(action: Action, bench: Bench) -> int:
    bench.leader.zero_grad()
    _free(str(bench.device))
    torch.cuda.reset_peak_memory_stats(bench.device)
    action()
    wait_for(str(bench.device))
    return torch.cuda.max_memory_allocated(bench.device)


def _setting(bench: Bench, machine: Machine, pairs: int, *, compiled: bool) -> dict[str, Any]:
    """One precision, compiled or not. What fails is told, not raised: the other settings are still wanted."""
    setting = {"precision": bench.precision, "compiled": compiled, "failure": None, "round": [], "memory": None}
    try:
        if compiled:
            # The embeddings stay as they are: the noise comes in by a hook on them, which compiled code would not see.
            torch._dynamo.reset()
            bench.model.base_model.encoder.compile()  # type: ignore[union-attr]
        # The first call's time is to hold the compilation.
        with torch.compiler.config.patch(force_disable_caches=True):  # type: ignore[attr-defined]
            setting["round"] = time_rounds(bench, machine, pairs, COMPILED_STEPS if compiled else None)
        setting["memory"] = device_memory(bench, MEMORY_STEPS)
    except Exception as error:  # whatever a compiler, a driver or the memory may raise
        setting["failure"] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return setting


def _free(device: str) -> None:
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def _finished(record: dict[str, Any], keep: Keep, load: float) -> dict[str, Any]:
    known = provenance(("torch", "transformers", "scala-adapt"))
    record["provenance"] = known | {"load_before": load, "load_after": os.getloadavg()[0]}
    keep(record)
    return record
