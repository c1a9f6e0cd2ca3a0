"""``python -m convergence.hunt``: look for counter-examples for as long as you like, with new random draws every round.

Every round has its own seed, all attacks run with it, and one line goes to ``rounds.jsonl``; the next call starts with the
next seed. A bound that breaks ends the hunt, with the shrunk instance in that line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convergence import attack
from convergence.check import finite
from convergence.effort import FULL, Effort
from convergence.theorems import all_theorems

HUNT = replace(FULL, name="hunt", instances=40_000, examples=1_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt; 0 if nothing broke, 1 if something did."""
    parser = argparse.ArgumentParser(
        prog="python -m convergence.hunt", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--minutes", type=float, default=30, help="time to hunt for (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/hunt"), help="folder of rounds.jsonl (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes must be positive, got {options.minutes}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is a file; give a folder")
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "rounds.jsonl"
    seed = 1 + max((entry["seed"] for entry in _lines(log)), default=0)
    deadline = time.monotonic() + 60 * options.minutes
    total = 0
    while time.monotonic() < deadline:
        entry = _round(seed, HUNT, deadline)
        total += entry["instances"]
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
        print(f"seed {seed}: {entry['instances']:,} instances, {len(entry['broken'])} bounds broken", flush=True)
        if entry["broken"]:
            print(json.dumps(entry["broken"], indent=1))
            return 1
        seed += 1
    print(f"{total:,} instances, nothing broke; {log}")
    return 0


def _round(seed: int, effort: Effort, deadline: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"seed": seed, "instances": 0, "closest": {}, "broken": {}}
    for theorem in all_theorems():
        for one in theorem.attacks:
            if time.monotonic() > deadline:
                return entry | {"cut short": True}
            report = attack.run(one, effort, seed)
            name = f"{theorem.name}: {one.name}"
            entry["instances"] += report.instances
            entry["closest"][name] = report.worst.ratio
            if report.broken:
                entry["broken"][name] = finite(asdict(report.broken))
    return entry


def _lines(log: Path) -> list[dict[str, Any]]:
    """Earlier rounds; a line cut off by a kill is left out."""
    entries = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


if __name__ == "__main__":
    sys.exit(main())
