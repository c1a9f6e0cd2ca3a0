"""The landscape of real runs, measured: `python -m paper_repro.landscape`, or `make landscape`.

Trains runs of main.toml again, keeping their weights along the way, measures every checkpoint, and compares. Killed at any
point, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.command import command, parser
from paper_repro.landscape.landscape_figures import figures
from paper_repro.landscape.landscape_page import page
from paper_repro.landscape.landscape_study import Study, make
from paper_repro.landscape.separation import separation
from paper_repro.record import RESULTS, write_json, write_whole
from paper_repro.runs.tuning import EXPERIMENTS, TUNING, load_tuned, measured

METHODS = ("adamw-32", "adamw-large", "lamb", "scala", "sam")
"""Small batch, large batch, layer-wise, with noise; and SAM, made for flatness: what measures that should see it."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, draw; returns the exit status."""
    options = parser("paper_repro.landscape", __doc__)
    options.add_argument("--experiment", type=Path, default=EXPERIMENTS / "main.toml", help="whose runs are trained again")
    options.add_argument("--task", default="sst2")
    options.add_argument("--methods", nargs="+", default=list(METHODS), help="at least two")
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="at least two")
    options.add_argument("--glue-dir", help="folder of the official GLUE files; without it the hub")
    options.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    options.add_argument("--folder", type=Path, default=Path("runs/landscape"), help="weights and measures; 1.5 GB")
    options.add_argument("--out", type=Path, default=Path("runs/landscape"), help="landscape.json, landscape.md and figures")
    args = options.parse_args(arguments)
    if min(len(set(args.seeds)), len(set(args.methods)), args.workers + 1) < 2:
        raise ValueError("a comparison takes at least two seeds and two methods, and one worker")
    runs = load_tuned(args.experiment, args.task, measured(TUNING), args.methods, seeds=args.seeds)
    record = make(Study(tuple(runs), args.folder, args.glue_dir or None, RESULTS / "glue"), args.workers, _say)
    record["separation"] = separation(record["runs"])
    write_json(args.out / "landscape.json", record, compact=True)
    write_whole(args.out / "landscape.md", page(record))
    for name, figure in figures(record).items():
        figure.savefig(args.out / f"landscape-{name}.svg")
    print(page(record))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
