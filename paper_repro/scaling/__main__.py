"""How far it scales: `make scaling`, or `python -m paper_repro.scaling --out FOLDER`.

Measures the time of data-parallel steps, holds a model of it against them, compares critical batches, and predicts BERT-base
and RoBERTa-large on public figures of a machine. About ten minutes on two quiet cores; interrupted,
the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.bench.speed_measures import SHAPES
from paper_repro.command import command, parser
from paper_repro.record import RESULTS, write_json, write_whole
from paper_repro.scaling.evidence import compared_figure, noise_figure, sweep_figure
from paper_repro.scaling.hardware import MACHINES
from paper_repro.scaling.inputs import read
from paper_repro.scaling.prediction_figures import speedup_figure, tornado_figure
from paper_repro.scaling.scaling_page import page
from paper_repro.scaling.scaling_study import study
from scala.adapt import quiet


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, predict, write; returns the exit status."""
    asked = parser("paper_repro.scaling", __doc__)
    asked.add_argument("--out", type=Path, default=Path("runs/scaling"), help="folder (default: runs/scaling)")
    asked.add_argument("--results", type=Path, default=RESULTS, help="kept results: glue, tuning, landscape")
    asked.add_argument("--glue-dir", help="folder of the official GLUE files, for the lengths of SST-2's sentences")
    asked.add_argument(
        "--hardware", choices=list(MACHINES), default="dgx-2", help="whose figures (default: dgx-2, the paper's)"
    )
    asked.add_argument(
        "--measured", type=Path, help="a file of paper_repro.scaling.step_times --device cuda, instead of assumptions"
    )
    options = asked.parse_args(arguments)
    quiet()
    known = {} if options.measured is None else read(options.measured)
    if options.measured is not None and not known.keys() & SHAPES.keys():
        raise ValueError(
            f"{options.measured} measured {', '.join(known)}, none of {', '.join(SHAPES)}: use --device cuda there"
        )
    record = study(options.out, options.results, options.glue_dir, hardware=options.hardware, known=known)
    figures = {
        "noise": noise_figure(record),
        "sweep": sweep_figure(record["sweep"]),
        "compared": compared_figure(record),
        "speedup": speedup_figure(record["predictions"]),
        "tornado": tornado_figure(record["predictions"]),
    }
    for name, figure in figures.items():
        figure.savefig(options.out / f"scaling-{name}.svg")
    text = page(record)
    write_whole(options.out / "scaling.md", text)
    write_json(options.out / "scaling.json", record)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
