"""A record as tables, the floor beside each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from paper_repro.bench.phases import KINDS


def report(record: dict[str, Any]) -> str:
    """Of `benchmark` or `benchmark_accelerator`."""
    machine, setting = record["machine"], record["setting"]
    rates = ", ".join(f"{name} matrix products {rate / 1e9:,.0f} Gflop/s" for name, rate in machine["flops"].items())
    batch = f"batch {setting['batch']}, length {setting['length']}"
    lines = [f"the greatest seen: memory {machine['bandwidth'] / 1e9:,.1f} GB/s, {rates}"]
    if "shapes" in record:
        for shape in record["shapes"]:
            lines += _leader(shape["leader"], shape["name"], shape["parameters"])
            for one in shape["settings"]:
                how = (
                    f"{shape['name']}, {batch}, {one['precision']}, {'encoder compiled' if one['compiled'] else 'not compiled'}"
                )
                lines += ["", f"{how}: failed, {one['failure']}"] if one["failure"] else _round(one["round"], how)
                lines += _memory(one["memory"]) if one["memory"] else []
    else:
        lines += _leader(record["leader"], setting["encoder"], setting["parameters"])
        lines += _round(record["round"], f"{setting['encoder']}, {batch}")
        lines += _kept(record["kept"])
        lines += _large_batch(record["large_batch"])
        lines += _memory(record["memory"])
        lines += ["", "Import time beyond torch's"]
        lines += [f"{module:24}{_ms(s['median'])}  {_range(s, 1e3)} ms" for module, s in record["imports"].items()]
    lines += _profile(record["profile"])
    lines += _growth(record["growth"])
    lines += _engine(record["engine"]) if "engine" in record else []
    known = record["provenance"]
    load = f"load {known['load_before']:.1f} before, {known['load_after']:.1f} after"
    lines += ["", f"{known['hardware']}, {known['threads']} threads, {load}, {known['versions']}, commit {known['commit']}"]
    return "\n".join(lines)


def _leader(rows: Sequence[dict[str, Any]], model: str, parameters: int) -> Iterable[str]:
    counted = "launches" in rows[0]
    yield from (
        "",
        f"The leader's step, {parameters / 1e6:.1f}M parameters of {model}; floor: bytes a parameter over the bandwidth",
        f"{'':24}{'bytes':>6}{'floor':>12}{'median':>12}{'first':>12}{'ratio':>8}  least to greatest"
        + ("   launches, waits" if counted else ""),
    )
    for row in rows:
        start = f"{row['name']:24}{row['bytes']:6}{_ms(row['floor'])}"
        if row["seconds"] is None:
            yield f"{start}  {row['missing']}"
        else:
            yield start + _timing(row) + (f"   {row['launches']}, {row['waits']}" if counted else "")


def _round(rows: Sequence[dict[str, Any]], how: str) -> Iterable[str]:
    yield from (
        "",
        f"The round, {how}, LAMB; passes: forward + backward to the activations + to the weights;",
        "least: the passes over a plain step's 3; floor: their matrix products at the peak, and the leader's floor",
        f"{'':24}{'passes':>12}{'least':>7}{'floor':>12}{'median':>12}{'first':>12}{'ratio':>8}  least to greatest",
    )
    for row in rows:
        passes = "+".join(f"{number:g}" for number in row["passes"].values())
        yield f"{row['name']:24}{passes:>12}{row['floor_ratio']:7.2f}{_ms(row['floor'])}" + _timing(row)


def _kept(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield from (
        "",
        "Loss rise under the noise, of the exact ascent's, while the encoder is adapted; 95% intervals over batches",
    )
    for row in rows:
        low, high = row["interval"]
        yield f"{row['name']:24}{row['rise']:8.4f}{row['kept']:8.2f}  {low:.2f} to {high:.2f}"


def _large_batch(found: dict[str, Any]) -> Iterable[str]:
    tokens = ", ".join(f"{number:,} {how}" for how, number in found["tokens"].items())
    yield from (
        "",
        f"A batch of {found['batch']} in micro-batches of {found['micro_batch']}, by the trainer; tokens: {tokens}",
        f"{'':24}{'median':>12}{'first':>12}{'ratio':>8}  least to greatest",
    )
    for row in found["rows"]:
        yield f"{row['name']:24}" + _timing(row)


def _memory(memory: dict[str, Any]) -> Iterable[str]:
    yield from ("", "Peak memory beyond the model's; floor: a plain step's")
    for step, spread in zip(memory["steps"], memory["bytes"], strict=True):
        yield f"{step:24}{spread['median'] / 2**20:8.0f} MiB  {spread['least'] / 2**20:.0f} to {spread['greatest'] / 2**20:.0f}"
    yield f"{'ratio':24}{_ratio(memory['ratio'])}"


def _profile(profiles: dict[str, dict[str, Any]]) -> Iterable[str]:
    for name, profiled in profiles.items():
        yield from ("", f"Where the time goes, ms: {name}, {_ms(profiled['round']).strip()} without the profiler")
        yield f"{'':18}" + "".join(f"{kind:>17}" for kind in (*KINDS, "together"))
        for phase, row in profiled["seconds"].items():
            numbers = [*(row[kind] for kind in KINDS), sum(row.values())]
            yield f"{phase:18}" + "".join(f"{number * 1e3:17.1f}" for number in numbers)


def _growth(growth: dict[str, Any]) -> Iterable[str]:
    base = ", ".join(f"{name} {size}" for name, size in growth["base"].items())
    yield from (
        "",
        f"How the cost grows, around {base}: slopes of logarithms, 95% intervals; floor: of operations and bytes",
        f"{'':24}{'from':>6}{'to':>6}{'floor':>7}{'measured':>24}{'measured over floor':>24}",
    )
    for axis in growth["axes"]:
        for row in axis["rows"]:
            start = f"{axis['axis'] + ', ' + row['name']:24}{axis['values'][0]:6}{axis['values'][-1]:6}"
            slopes = f"{row['predicted_slope']['slope']:7.2f}{_slope(row['measured_slope']):>24}{_slope(row['difference']):>24}"
            yield f"{start}{slopes}  {row['reason'] or ''}".rstrip()
    steps = growth["steps"]
    yield (
        f"{'K: times a plain step':24}{steps['values'][0]:6}{steps['values'][-1]:6}{steps['predicted_slope']['slope']:7.2f}"
        f"{_slope(steps['measured_slope']):>24}  (a straight line 1 + c K: c)"
    )


def _engine(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield from ("", "The batched toy engine, 1 thread; floor: the loop")
    yield f"{'instances':>10}{'batched, steps/s':>19}{'loop, steps/s':>15}{'ratio':>8}"
    for row in rows:
        speeds = f"{row['batch']:10,}{row['batched']['median']:19,.0f}{row['loop']['median']:15,.0f}"
        yield f"{speeds}{row['ratio']['median']:8.0f}  {row['ratio']['least']:.0f} to {row['ratio']['greatest']:.0f}"


def _timing(row: dict[str, Any]) -> str:
    return f"{_ms(row['seconds']['median'])}{_ms(row['first'])}{_ratio(row['ratio'])}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:9.1f} ms"


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:8.2f}  {_range(spread)}"


def _slope(fit: dict[str, Any]) -> str:
    low, high = fit["interval"]
    return f"{fit['slope']:.2f} [{low:.2f}, {high:.2f}]"


def _range(spread: dict[str, float], unit: float = 1.0) -> str:
    return f"{spread['least'] * unit:.2f} to {spread['greatest'] * unit:.2f}"
