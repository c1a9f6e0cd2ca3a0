"""How fast: the leader's step, the round, memory, growth, and where the time goes. `make bench`, `make bench-gpu`.

Ratios are of interleaved pairs in one run, as medians with the least and the greatest; they carry over to other machines, the
milliseconds do not. Beside each row is its floor: what the arithmetic and the measured machine allow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paper_repro.bench.speed_figures import growth_figure, phases_figure
from paper_repro.bench.speed_measures import SHAPES, benchmark, benchmark_accelerator
from paper_repro.bench.speed_report import report
from paper_repro.command import command, parser
from paper_repro.record import write_json
from scala.adapt import quiet


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the record with its two figures beside it."""
    asked = parser("paper_repro.bench", __doc__)
    asked.add_argument("--out", type=Path, help="write the record to this JSON file, and two figures beside it")
    asked.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default: cpu)")
    asked.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    asked.add_argument("--pairs", type=int, default=11, help="measurements of each method (default: 11)")
    asked.add_argument("--shapes", nargs="+", choices=list(SHAPES), help="on a GPU only these models (default: all)")
    options = asked.parse_args(arguments)
    if options.device == "cpu" and options.shapes:
        asked.error("--shapes is for --device cuda; on the CPU it is always MiniLM-L6")
    if options.device == "cuda" and not torch.cuda.is_available():
        asked.error("no CUDA device: torch.cuda.is_available() is false; run on a machine with a GPU, or with --device cpu")
    quiet()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would tell every start and stop
    torch.set_num_threads(options.threads)

    def keep(record: dict[str, Any]) -> None:
        if options.out:
            write_json(options.out, record)

    if options.device == "cpu":
        record = benchmark(keep, pairs=options.pairs)
    else:
        shapes = {name: SHAPES[name] for name in options.shapes or SHAPES}
        record = benchmark_accelerator(keep, device=options.device, shapes=shapes, pairs=options.pairs)
    print(report(record))
    if options.out:
        for name, figure in (("growth", growth_figure(record["growth"])), ("phases", phases_figure(record["profile"]))):
            figure.savefig(options.out.with_name(f"{options.out.stem}-{name}.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
