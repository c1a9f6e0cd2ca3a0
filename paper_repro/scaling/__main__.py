"""Predict BERT-base and RoBERTa-large on public figures of a machine: `python -m paper_repro.scaling --out FILE`.

Everything here is modelled; the record says of every input whether it was measured or assumed. Two figures lie beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convergence.record import provenance, write_whole
from paper_repro.bench.measure import SHAPES
from paper_repro.scaling.figures import speedup_figure, tornado_figure
from paper_repro.scaling.hardware import MACHINES, case
from paper_repro.scaling.inputs import Input, read
from paper_repro.scaling.predict import ASSUMED_STEPS, Study


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, print, write."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="write the record to this JSON file, and two figures beside it")
    parser.add_argument(
        "--hardware", choices=list(MACHINES), default="dgx-2", help="whose figures (default: dgx-2, the paper's)"
    )
    parser.add_argument(
        "--measured", type=Path, help="a file of paper_repro.scaling.measure --device cuda, instead of assumptions"
    )
    parser.add_argument(
        "--critical",
        type=float,
        nargs=3,
        metavar=("LOW", "TYPICAL", "HIGH"),
        help="a measured B_crit in samples, instead of the assumed one",
    )
    options = parser.parse_args(arguments)
    steps = dict(ASSUMED_STEPS)
    if options.critical is not None:
        low, middle, high = options.critical
        try:
            steps["critical"] = Input(low, middle, high, "samples", "measured", "B_crit as given on the command line")
        except ValueError as error:
            parser.error(str(error))
    known: dict[str, Any] = {}
    if options.measured is not None:
        try:
            known = read(options.measured)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        if not known.keys() & SHAPES.keys():
            parser.error(
                f"{options.measured} measured {', '.join(known)}, none of {', '.join(SHAPES)}: use --device cuda there"
            )
    studies = [Study(case(model, options.hardware, known.get(model)), steps).document() for model in SHAPES]
    record = {"studies": studies, "provenance": provenance(("numpy", "scipy", "scala-adapt"))}
    write_whole(options.out, json.dumps(record, indent=1) + "\n")
    for name, figure in (("speedup", speedup_figure(studies)), ("tornado", tornado_figure(studies))):
        figure.savefig(options.out.with_name(f"{options.out.stem}-{name}.svg"))
    print("\n\n".join(report(study) for study in studies))
    return 0


def report(study: Mapping[str, Any]) -> str:
    """What the claimed speed-ups need, as text."""
    assumed = sum(given["basis"] == "assumed" for given in study["inputs"].values())
    lines = [f"{study['model']}, {study['hardware']}: modelled, {assumed} of {len(study['inputs'])} inputs assumed"]
    for row in study["conditions"]:
        first, critical = row["decides"][0], row["needed_critical"]
        over = f"AdamW at 32 on {row['reading']}"
        enough = "no B_crit is enough" if critical is None else f"it needs B_crit >= {critical:,.0f}"
        lines += [
            f"  {row['claimed']:g}x at batch {row['batch']:,} on {row['devices']} devices, over {over}:",
            f"    modelled {_spread(row['speedup'])}; {row['probability']:.0%} of the draws reach it; {enough}",
            f"    samples a second over the baseline's: {_spread(row['faster'])}, needed {_spread(row['needed_faster'])}",
            f"    at most {row['at_most']:.1f} if steps fell like 1/B; {first['name']} decides ({first['share']:.0%})",
        ]
    return "\n".join(lines)


def _spread(found: Mapping[str, float]) -> str:
    return f"{found['median']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
