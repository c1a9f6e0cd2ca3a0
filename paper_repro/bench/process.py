"""What needs a fresh process to be measured: the peak memory of a step, and the time that importing the package takes.

`python -m paper_repro.bench.process ENCODER BATCH LENGTH STEP THREADS` prints the bytes that a few such steps need at
their peak beyond the model's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from paper_repro.bench.round import bench_of, classifier
from paper_repro.record import Spread

_IMPORT = "import time, torch; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def peak_memory(encoder: str, batch: int, length: int, step: str) -> int:
    """Bytes at the peak of three steps in this process beyond those at the peak before, when only the model was there."""
    bench = bench_of(classifier(encoder), batch, length)
    action = bench.steps()[step].play
    before = _peak()
    for _ in range(3):
        action()
    return _peak() - before


def compare_memory(encoder: str, batch: int, length: int, steps: tuple[str, str], repeats: int) -> dict[str, Any]:
    """Peak memory of two steps, a fresh process for each measurement; names, bytes and the ratios second / first."""
    threads = str(torch.get_num_threads())
    command = [sys.executable, "-m", "paper_repro.bench.process", encoder, str(batch), str(length)]
    seen = [[int(_output([*command, step, threads])) for step in steps] for _ in range(repeats)]
    first, second = ([pair[i] for pair in seen] for i in range(2))
    return {
        "steps": list(steps),
        "bytes": [vars(Spread.of(first)), vars(Spread.of(second))],
        "ratio": vars(Spread.of([b / a for a, b in zip(first, second, strict=True)])),
    }


def import_time(module: str, repeats: int = 5) -> dict[str, Any]:
    """Seconds that importing a module takes in a process where torch has been imported."""
    return vars(Spread.of([float(_output([sys.executable, "-c", _IMPORT.format(module)])) for _ in range(repeats)]))


def _output(command: list[str]) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def _peak() -> int:
    # Linux's ru_maxrss starts from the parent's peak, so a child of a big process would seem to need nothing: VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    encoder, batch, length, step, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(peak_memory(encoder, int(batch), int(length), step))
