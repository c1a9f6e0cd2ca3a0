"""Measure the model's inputs, and real data-parallel steps beside what the model says of them.

`python -m paper_repro.scaling.step_times --out FILE` takes less than ten minutes on two quiet cores: MiniLM-L6, a thread a
process and one or two gloo processes. With `--device cuda` it measures micro-batches and leaders of BERT-base and RoBERTa-large
instead, at the length that predictions assume; `python -m paper_repro.scaling --measured FILE` then predicts from these.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import AutoConfig, PreTrainedConfig

from paper_repro.bench.interleaved import Action, Timing, interleaved
from paper_repro.bench.leader import adamw, ours
from paper_repro.bench.machine import BF16, FP32
from paper_repro.bench.round import RADIUS, Bench, bench_of, random_model
from paper_repro.bench.speed_measures import SHAPES, Keep
from paper_repro.command import command, parser
from paper_repro.data.encoders import resolve
from paper_repro.record import Spread, provenance, write_json
from paper_repro.scaling.fits import Compute, fit_compute, fit_link
from paper_repro.scaling.hardware import LENGTH
from paper_repro.scaling.inputs import Input, Inputs, document, drawn, interval, measured, typical, undocumented
from paper_repro.scaling.model import ADAMW, Method, Plan, System, step_time
from paper_repro.scaling.workers import Row
from scala import Adversary, Game

FORWARD, PLAIN, FOLLOWER = "forward", "forward and backward", "with the follower"
_METHODS = {"adamw": ADAMW, "lamb": Method("lamb"), "scala": Method("lamb", ascents=1)}
MEGABYTE = 10**6


@dataclass(frozen=True)
class Setting:
    """How much is measured.

    Attributes:
        encoder: whose architecture is used, with random weights; see `paper_repro.data.encoders`.
        length: tokens of a sample.
        sizes: micro-batches.
        pairs: repetitions of every measurement.
        bytes: sizes of all-reduce.
        batches: (global batch, micro-batch) of the trainer's steps.
        processes: of the trainer's steps.
        rounds: fresh starts of the trainer, in turn.
        steps: leader's steps at each start, the first of which does not count.
    """

    encoder: str = "minilm-l6"
    length: int = 32
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    pairs: int = 7
    bytes: tuple[int, ...] = tuple(int(MEGABYTE * s) for s in (0.004, 0.04, 0.4, 4, 16, 48, 96))
    batches: tuple[tuple[int, int], ...] = ((8, 4), (16, 8), (32, 8), (32, 16), (64, 16))
    processes: tuple[int, ...] = (1, 2)
    rounds: int = 3
    steps: int = 4


SMALL = Setting("bert-tiny", 8, (1, 2, 4), pairs=2, bytes=(4000, 16 * MEGABYTE), batches=((4, 2),), rounds=1, steps=3)
"""The whole way in a minute; its numbers mean nothing."""


def measure(keep: Keep, setting: Setting, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure inputs and steps on this processor, with one thread a process.

    Args:
        keep: is given the record whenever there is more of it.
        setting: how much.
        kept: a record of the same setting that was not finished: its micro-batches and links are not measured again.

    Returns:
        setting, models (by name: parameters, points, inputs), links (bytes, and what the processes said), validation (rows, see
        `compared`), provenance.
    """
    load = os.getloadavg()[0]
    record: dict[str, Any] = dict(kept or {"setting": asdict(setting)})
    if "models" not in record:
        model = AutoConfig.from_pretrained(resolve(setting.encoder))
        record["models"] = {setting.encoder: time_model(model, setting.sizes, setting.length, setting.pairs)}
        keep(record)
    known = record["models"][setting.encoder]
    if "links" not in record:
        job = {key: getattr(setting, key) for key in ("encoder", "length", "pairs", "bytes")}
        said = launched("links", 2, job | {"micro_batch": max(setting.sizes)})
        record["links"] = {"bytes": list(setting.bytes)} | said
        overlap = Input(
            0.0, 0.0, 1.0, "share", "assumed", "processes reduce on the cores that compute: none, or else all", "linear"
        )
        known["inputs"] |= document(link_inputs(setting.bytes, said) | {"overlap": overlap})
        keep(record)
    inputs = undocumented(known["inputs"])
    rows = [Row(name, b, m) for name in _METHODS for b, m in setting.batches]
    seconds: dict[int, list[list[float]]] = {number: [[] for _ in rows] for number in setting.processes}
    for _ in range(setting.rounds):
        for number in setting.processes:
            fitting = [i for i, row in enumerate(rows) if row.batch % (number * row.micro_batch) == 0]
            job = {key: getattr(setting, key) for key in ("encoder", "length", "steps")}
            found = launched("steps", number, job | {"rows": [asdict(rows[i]) for i in fitting]})
            for i, times in zip(fitting, found, strict=True):
                seconds[number][i] += times
            record["validation"] = [
                compared(inputs, known["parameters"], number, rows[i], times)
                for number, all_times in seconds.items()
                for i, times in enumerate(all_times)
                if times
            ]
            keep(record)
    return _finished(record, keep, load)


def measure_accelerator(keep: Keep, setting: Setting, shapes: Mapping[str, PreTrainedConfig] = SHAPES) -> dict[str, Any]:
    """Measure micro-batches and leaders of several shapes on a GPU under bf16 autocast; else as `measure`."""
    load = os.getloadavg()[0]
    record: dict[str, Any] = {"setting": asdict(setting), "models": {}}
    for name, config in shapes.items():
        record["models"][name] = time_model(config, setting.sizes, setting.length, setting.pairs, device="cuda")
        keep(record)
    return _finished(record, keep, load)


def time_model(
    config: PreTrainedConfig, sizes: Sequence[int], length: int, pairs: int, *, device: str = "cpu", fused: bool = True
) -> dict[str, Any]:
    """Time micro-batches and leaders of one model with random weights.

    Args:
        config: of the model.
        sizes: micro-batches.
        length: tokens of a sample.
        pairs: repetitions.
        device: where.
        fused: which of torch's AdamW: in one kernel, or parameter by parameter.

    Returns:
        parameters, points (seconds of each part by size), leaders, and the inputs that they give, as JSON.
    """
    model = random_model(config, device)
    timings = {m: interleaved(parts(bench_of(model, m, length, _precision(device))), PLAIN, pairs, device) for m in sizes}
    leaders = interleaved({"adamw": _end(model, adamw(fused=fused)), "lamb": _end(model, ours())}, "adamw", pairs, device)
    number = sum(p.numel() for p in model.parameters())
    return {
        "parameters": number,
        "points": [{"micro_batch": m} | {name: asdict(timing) for name, timing in row.items()} for m, row in timings.items()],
        "leaders": {name: asdict(timing) for name, timing in leaders.items()},
        "inputs": document(compute_inputs(timings) | leader_inputs(leaders, number)),
    }


def parts(bench: Bench) -> dict[str, Action]:
    """A micro-batch's parts: forward, with backward, with one ascent of the follower as well. No leader's step."""
    game = Game(bench.leader, Adversary(RADIUS, RADIUS, 1, relative=True))
    mask, keys = bench.batch["attention_mask"], range(len(bench.batch["labels"]))

    def forward() -> None:
        bench.objective(None)

    def plain() -> None:
        bench.leader.zero_grad()
        bench.objective(None).backward()

    def follower() -> None:
        bench.leader.zero_grad()
        game.loss(bench.objective, bench.embeddings(), mask, keys).backward()
        game.check()  # as at a step's end; it also forgets the losses

    return {FORWARD: forward, PLAIN: plain, FOLLOWER: follower}


def compute_inputs(timings: Mapping[int, Mapping[str, Timing]]) -> dict[str, Input]:
    """floor, overhead, per_sample, backward and ascent from the times of micro-batches, by size."""
    sizes = sorted(timings)
    plain = [timings[m][PLAIN].seconds for m in sizes]
    fits = [fit_compute(sizes, [getattr(s, end) for s in plain]) for end in ("median", "least", "greatest")]
    source = f"micro-batches of {sizes[0]} to {sizes[-1]} samples, alone"
    found = _fitted(fits, dict.fromkeys(Compute._fields, "s"), source)
    by_size = [timings[m] for m in sizes]
    backward = Spread.of([1 - row[FORWARD].ratio.median for row in by_size])
    ascent = Spread.of([row[FOLLOWER].ratio.median - 1 for row in by_size])
    found["backward"] = measured(backward, "share", f"{source}; the spread is over sizes", "linear")
    found["ascent"] = measured(ascent, "of a micro-batch", f"{source}; the spread is over sizes", "linear")
    return found


def leader_inputs(leaders: Mapping[str, Timing], parameters: int) -> dict[str, Input]:
    """adamw and lamb from the times of a step's end."""
    source = f"a step's end on {parameters:,} parameters: clip, check, move"
    return {
        "adamw": measured(leaders["adamw"].over(parameters).seconds, "s a parameter", source),
        "lamb": measured(leaders["lamb"].ratio, "of AdamW", source),
    }


def link_inputs(sizes: Sequence[int], said: Mapping[str, Any]) -> dict[str, Input]:
    """latency, bandwidth and sharing from what the processes of `paper_repro.scaling.workers.links` said."""
    spreads = [Spread.of(seconds) for seconds in said["all_reduce"]]
    fits = [fit_link(sizes, [getattr(s, end) for s in spreads], said["devices"]) for end in ("median", "least", "greatest")]
    source = f"all-reduce of {sizes[0]:,} to {sizes[-1]:,} bytes in {said['devices']} gloo processes"
    sharing = Spread.of(said["sharing"])
    return _fitted(fits, {"latency": "s", "bandwidth": "bytes/s"}, source) | {
        "sharing": measured(sharing, "of a micro-batch alone", f"{said['devices']} processes that compute at once")
    }


def _fitted(fits: Sequence[tuple[float, ...]], units: Mapping[str, str], source: str) -> dict[str, Input]:
    """An input for each constant of the fits to the median, the least and the greatest times, in this order."""
    return {
        name: Input(min(values), values[0], max(values), unit, "measured", source, "linear")
        for (name, unit), values in zip(units.items(), zip(*fits, strict=True), strict=True)
    }


def compared(inputs: Inputs, parameters: int, devices: int, row: Row, seconds: Sequence[float]) -> dict[str, Any]:
    """One measured step beside the model's.

    Returns:
        devices, method, batch, micro_batch, accumulation, measured (a spread), predicted (seconds at the inputs' typical
        values), interval (95%, from the inputs' spread) and error (predicted over measured, minus 1).
    """
    plan, base = Plan(row.batch, devices, row.micro_batch), System(parameters, per_sample=0.0)

    def predicted(values: Mapping[str, Any]) -> Any:
        return step_time(base.at(values), _METHODS[row.method], plan).total

    middle, spread = float(predicted(typical(inputs))), Spread.of(seconds)
    return {
        "devices": devices,
        **asdict(row),
        "accumulation": plan.accumulation,
        "measured": asdict(spread),
        "predicted": middle,
        "interval": interval(predicted(drawn(inputs))),
        "error": middle / spread.median - 1,
    }


def launched(kind: str, processes: int, job: Mapping[str, Any]) -> Any:
    """Let processes do a part of `paper_repro.scaling.workers`; what the first of them wrote.

    Raises:
        RuntimeError: a process failed; holds what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
        command = [sys.executable, *start, "-m", "paper_repro.scaling.workers", kind, str(file), json.dumps(job)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{processes} processes could not measure {kind}:\n{done.stdout}{done.stderr}")
        return json.loads(file.read_text(encoding="utf-8"))


def _end(model: nn.Module, make: Callable[..., Optimizer]) -> Action:
    """All that the trainer does when the gradients are there."""
    parameters = list(model.parameters())
    leader = make(parameters)
    game = Game(leader)
    for p in parameters:
        p.grad = torch.full_like(p, 1e-4)

    def end() -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0)
        game.check()
        leader.step()

    return end


def _precision(device: str) -> str:
    return FP32 if device == "cpu" else BF16


def _finished(record: dict[str, Any], keep: Keep, load: float) -> dict[str, Any]:
    known = provenance(("torch", "transformers", "accelerate", "scala-adapt"))
    record["provenance"] = known | {"load_before": load, "load_after": os.getloadavg()[0]}
    keep(record)
    return record


def report(record: Mapping[str, Any]) -> str:
    """The inputs, and measured beside predicted steps, as text."""
    lines = []
    for name, model in record["models"].items():
        lines.append(f"{name}, {model['parameters']:,} parameters")
        lines += [
            f"  {key:12}{given['typical']:12.4g}  {given['low']:.4g} to {given['high']:.4g} {given['unit']} ({given['basis']})"
            for key, given in model["inputs"].items()
        ]
    if rows := record.get("validation"):
        lines.append(f"{'devices':>7}{'method':>8}{'batch':>7}{'micro':>7}{'measured':>11}{'predicted':>11}{'error':>8}")
        lines += [
            f"{row['devices']:7}{row['method']:>8}{row['batch']:7}{row['micro_batch']:7}{row['measured']['median']:10.3f}s"
            f"{row['predicted']:10.3f}s{row['error']:+8.1%}  [{row['interval']['low']:.3f}, {row['interval']['high']:.3f}]"
            for row in rows
        ]
        errors = [abs(row["error"]) for row in rows]
        lines.append(f"error of the predicted step: median {statistics.median(errors):.1%}, greatest {max(errors):.1%}")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    asked = parser("paper_repro.scaling.step_times", __doc__)
    asked.add_argument("--out", type=Path, required=True, help="write the record to this JSON file, part by part")
    asked.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default: cpu)")
    asked.add_argument("--small", action="store_true", help="everything once on bert-tiny, to see that it runs")
    options = asked.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        asked.error("no CUDA device: torch.cuda.is_available() is false; run on a machine with a GPU, or with --device cpu")
    torch.set_num_threads(1)

    def keep(record: dict[str, Any]) -> None:
        write_json(options.out, record)

    if options.device == "cpu":
        record = measure(keep, SMALL if options.small else Setting())
    else:
        sizes = (1, 2, 4) if options.small else (1, 2, 4, 8, 16, 32, 64, 128)
        record = measure_accelerator(keep, Setting(length=LENGTH, sizes=sizes))
    print(report(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
