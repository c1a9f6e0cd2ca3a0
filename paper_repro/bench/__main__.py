"""How fast: the leader's step, the round, memory, import time and the toy engine. `make bench`.

Ratios are of interleaved pairs in one run, as medians with the least and the greatest; they carry over to other machines, the
milliseconds do not. Beside each row is its floor: what the arithmetic and the measured machine allow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from convergence.benchmark import batched_against_loop
from convergence.record import provenance, write_whole
from paper_repro.bench_leader import time_leaders
from paper_repro.bench_process import compare_memory, import_time
from paper_repro.bench_round import REFERENCE, bench_of, classifier, time_rounds
from paper_repro.interleaved import memory_bandwidth, peak_flops
from scala.adapt import quiet

MEMORY_STEPS = (REFERENCE, "ScaLA, K = 1")


def benchmark(
    encoder: str = "minilm-l6",
    batch: int = 32,
    length: int = 32,
    pairs: int = 11,
    toy_batches: Sequence[int] = (100, 1_000, 10_000),
) -> dict[str, Any]:
    """Measure everything, on as many threads as torch has now.

    Args:
        encoder: whose shapes are used; see `paper_repro.encoders`.
        batch: samples of a round.
        length: tokens of a sample.
        pairs: measurements of each method beside the reference.
        toy_batches: instances that the toy engine plays at once.

    Returns:
        machine (bytes and floating-point operations per second), setting, leader, round, memory, imports, engine, provenance.
    """
    load = os.getloadavg()[0]
    machine = {"bandwidth": memory_bandwidth(), "flops": peak_flops()}
    model = classifier(encoder)
    parameters = sum(p.numel() for p in model.parameters())
    record = {
        "machine": machine,
        "setting": {"encoder": encoder, "parameters": parameters, "batch": batch, "length": length, "pairs": pairs},
        "leader": time_leaders([p.shape for p in model.parameters()], machine["bandwidth"], pairs),
        "round": time_rounds(bench_of(model, batch, length), machine["bandwidth"], machine["flops"], pairs),
        "memory": compare_memory(encoder, batch, length, MEMORY_STEPS, repeats=min(3, pairs)),
        "imports": {module: import_time(module) for module in ("scala",)},
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors, for which two threads only wait for each other
    try:
        record["engine"] = [batched_against_loop(b, pairs=min(5, pairs)) for b in toy_batches]
    finally:
        torch.set_num_threads(threads)
    known = provenance(("torch", "transformers", "scala-adapt"))
    record["provenance"] = known | {"load_before": load, "load_after": os.getloadavg()[0]}
    return record


def report(record: dict[str, Any]) -> str:
    """The record as tables."""
    setting, machine = record["setting"], record["machine"]
    speed = f"{machine['bandwidth'] / 1e9:.1f} GB/s, fp32 matrix products {machine['flops'] / 1e9:.0f} Gflop/s"
    lines = [
        f"the greatest seen: memory {speed}",
        "",
        f"The leader's step, {setting['parameters'] / 1e6:.1f}M parameters of {setting['encoder']}; "
        "floor: bytes a parameter over the bandwidth",
        f"{'':22}{'bytes':>6}{'floor':>10}{'median':>10}{'first':>10}{'ratio':>8}  least to greatest",
    ]
    for row in record["leader"]:
        start = f"{row['name']:22}{row['bytes']:6}{_ms(row['floor'])}"
        lines.append(start + _timing(row) if row["seconds"] else f"{row['name']:22}  not installed")
    lines += [
        "",
        f"The round, batch {setting['batch']}, length {setting['length']}, LAMB; passes: forward + backward to the activations "
        "+ to the weights;",
        "least: the passes over a plain step's 3; floor: their matrix products at the peak, and the leader's floor",
        f"{'':22}{'passes':>8}{'least':>7}{'floor':>10}{'median':>10}{'first':>10}{'ratio':>8}  least to greatest",
    ]
    for row in record["round"]:
        passes = "+".join(str(number) for number in row["passes"].values())
        lines.append(f"{row['name']:22}{passes:>8}{row['floor_ratio']:7.2f}{_ms(row['floor'])}" + _timing(row))
    memory = record["memory"]
    lines += ["", "Peak memory beyond the model's"]
    for step, spread in zip(memory["steps"], memory["bytes"], strict=True):
        lines.append(
            f"{step:22}{spread['median'] / 2**20:8.0f} MiB  {spread['least'] / 2**20:.0f} to {spread['greatest'] / 2**20:.0f}"
        )
    lines += [f"{'ratio':22}{_ratio(memory['ratio'])}", "", "Import time beyond torch's"]
    lines += [f"{module:22}{_ms(s['median'])}  {_range(s, 1e3)} ms" for module, s in record["imports"].items()]
    lines += [
        "",
        "The batched toy engine, 1 thread",
        f"{'instances':>10}{'batched, steps/s':>19}{'loop, steps/s':>15}{'ratio':>8}",
    ]
    for row in record["engine"]:
        speeds = f"{row['batch']:10,}{row['batched']['median']:19,.0f}{row['loop']['median']:15,.0f}"
        lines.append(f"{speeds}{row['ratio']['median']:8.0f}  {row['ratio']['least']:.0f} to {row['ratio']['greatest']:.0f}")
    known = record["provenance"]
    load = f"load {known['load_before']:.1f} before, {known['load_after']:.1f} after"
    lines += ["", f"{known['hardware']}, {known['threads']} threads, {load}, {known['versions']}, commit {known['commit']}"]
    return "\n".join(lines)


def _timing(row: dict[str, Any]) -> str:
    return f"{_ms(row['seconds']['median'])}{_ms(row['first'])}{_ratio(row['ratio'])}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:7.1f} ms"


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:8.2f}  {_range(spread)}"


def _range(spread: dict[str, float], unit: float = 1.0) -> str:
    return f"{spread['least'] * unit:.2f} to {spread['greatest'] * unit:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    parser.add_argument("--pairs", type=int, default=11, help="measurements of each method (default: 11)")
    options = parser.parse_args(arguments)
    quiet()
    torch.set_num_threads(options.threads)
    record = benchmark(pairs=options.pairs)
    print(report(record))
    if options.out:
        write_whole(options.out, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
