"""Build the report from kept and fresh results: `make report`, or `python -m paper_repro.report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_repro.claims import RESULTS
from paper_repro.report.site import build


def main(arguments: Sequence[str] | None = None) -> int:
    """Build it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of kept results")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of fresh ones; of two the later is shown")
    parser.add_argument("--out", type=Path, default=Path("runs/report"), help="folder of the site, replaced as a whole")
    args = parser.parse_args(arguments)
    try:
        print(build(args.results, args.runs, args.out))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
