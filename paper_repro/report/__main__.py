"""Build the report from kept and fresh results: `make report`, or `python -m paper_repro.report`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.command import command, parser
from paper_repro.record import RESULTS
from paper_repro.report.site import build


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Build it; returns the exit status."""
    options = parser("paper_repro.report", __doc__)
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of kept results")
    options.add_argument("--runs", type=Path, default=Path("runs"), help="folder of fresh ones; of two the later is shown")
    options.add_argument("--out", type=Path, default=Path("runs/report"), help="folder of the site, replaced as a whole")
    args = options.parse_args(arguments)
    print(build(args.results, args.runs, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
