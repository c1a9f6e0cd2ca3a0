"""A folder of results: `TASK/IDENTITY.json` a finished run, `IDENTITY.diverged.json` one whose loss left the finite numbers.

    python -m paper_repro.runs.store --collect runs/glue --into paper_repro/results/glue

keeps the compact form of every result: what tables and figures are made of, without the log of the training steps. Runs that
were scored on held-out training data are left out: of a tuning, its summary is kept.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paper_repro.command import command, parser
from paper_repro.record import provenance, read_json, write_json
from paper_repro.runs.experiment import Run
from paper_repro.runs.run import read_result, resealed, result_file

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
    write_json(path, record)
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
    return resealed({**result, "curve": curve, "training_log": []})


def collect(source: Path, into: Path) -> int:
    """Write the compact form of every result on dev data below a folder, and its records of divergence, into another.

    Returns:
        How many.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    kept = 0
    paths = sorted(path for path in source.glob("*/*.json") if not path.name.startswith("."))
    if not paths:
        raise ValueError(f"no result below {source} (TASK/IDENTITY.json)")
    for path in paths:
        diverged = path.name.endswith(".diverged.json")
        result = _record_of_divergence(path) if diverged else compact(read_result(path))
        if result["settings"]["held_out"]:
            continue
        write_json(into / path.parent.name / path.name, result, compact=True)
        kept += 1
    return kept


def _record_of_divergence(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
        Run.of_settings(record["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); delete it, and its run is tried again") from error
    return record


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Collect results; returns the exit status."""
    options = parser("paper_repro.runs.store", __doc__)
    options.add_argument("--collect", type=Path, required=True, metavar="RUNS", help="folder of a sweep's results")
    options.add_argument("--into", type=Path, required=True, metavar="RESULTS", help="folder of kept results")
    args = options.parse_args(arguments)
    print(f"{collect(args.collect, args.into)} results -> {args.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
