"""A folder of results: `TASK/IDENTITY.json` a finished run, `IDENTITY.diverged.json` one whose loss left the finite numbers.

    python -m paper_repro.store --collect runs/glue --into paper_repro/results/glue

keeps the compact form of every result: what tables and figures are made of, without the log of the training steps.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convergence.record import provenance, write_whole
from paper_repro.experiment import Run
from paper_repro.run import read_result, result_file

_VERSIONED = ("torch", "transformers", "scala-adapt")
_KEPT = re.compile(r"step|epoch|train_seconds|wall_seconds|gradient_evaluations|eval_(?!.*(_runtime|_per_second)$).*")


def result_path(run: Run, folder: Path) -> Path:
    """Where a finished run's result lies."""
    return result_file(run, folder / run.task)


def diverged_path(run: Run, folder: Path) -> Path:
    """Where it is recorded that a run diverged."""
    return result_path(run, folder).with_suffix(".diverged.json")


def finished(run: Run, folder: Path) -> bool:
    """Whether a run needs no more work: it has a result, or it diverged."""
    return result_path(run, folder).exists() or diverged_path(run, folder).exists()


def record_divergence(run: Run, folder: Path, reason: str) -> Path:
    """Write down that a run diverged, and remove its checkpoints: from there it would diverge again."""
    path = diverged_path(run, folder)
    record = {"settings": run.settings(), "diverged": reason, "provenance": provenance(_VERSIONED)}
    write_whole(path, json.dumps(record, indent=1) + "\n")
    shutil.rmtree(result_path(run, folder).with_suffix(""), ignore_errors=True)
    return path


def with_results(runs: Sequence[Run], folder: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    """The runs whose result is there, each with it; ValueError if one is damaged."""
    for run in runs:
        if (path := result_path(run, folder)).exists():
            yield run, read_result(path)


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the log of its steps and the speed of its evaluations; predictions stay, paired intervals need them."""
    curve = [{key: value for key, value in point.items() if _KEPT.fullmatch(key)} for point in result["curve"]]
    return {**result, "curve": curve, "training_log": []}


def collect(source: Path, into: Path) -> int:
    """Write the compact form of every result below a folder, and every record of divergence, into another; returns how many.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    paths = sorted(path for path in source.glob("*/*.json") if not path.name.startswith("."))
    if not paths:
        raise ValueError(f"no result below {source} (TASK/IDENTITY.json)")
    for path in paths:
        if path.name.endswith(".diverged.json"):
            text = path.read_text(encoding="utf-8")
        else:
            text = json.dumps(compact(read_result(path)), separators=(",", ":")) + "\n"
        write_whole(into / path.parent.name / path.name, text)
    return len(paths)


def main(arguments: list[str] | None = None) -> int:
    """Collect results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.store", description="Keep results in their compact form.")
    parser.add_argument("--collect", type=Path, required=True, metavar="RUNS", help="folder of a sweep's results")
    parser.add_argument("--into", type=Path, required=True, metavar="RESULTS", help="folder of kept results")
    args = parser.parse_args(arguments)
    try:
        print(f"{collect(args.collect, args.into)} results -> {args.into}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
