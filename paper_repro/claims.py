"""The paper's claims and their status, computed from result files: `make claims`, or `python -m paper_repro.claims`.

A status is one of

- supported by: the whole 95% interval lies on the claim's side;
- not supported by: the whole interval lies on the other side;
- inconclusive: it lies on both;
- not testable here: there is no result; what is missing is said.

Comparisons of methods need three seeds at least: with fewer they are inconclusive whatever the interval says.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convergence.record import write_whole
from paper_repro.cells import Cells, differences, gather, hardware, planned, reached, rows_of
from paper_repro.target import COSTS
from paper_repro.tuning import EXPERIMENTS

CLAIMS = Path(__file__).parent / "claims.toml"
RESULTS = Path(__file__).parent / "results"
FEWEST_SEEDS = 3

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_TESTABLE = "supported by", "not supported by", "inconclusive", "not testable here"


@dataclass(frozen=True)
class Finding:
    """What one test of a claim says.

    Attributes:
        claim: the claim's id.
        what: what was tested.
        status: one of the four.
        evidence: the numbers, or what is missing.
    """

    claim: str
    what: str
    status: str
    evidence: str


def findings(claims: Path = CLAIMS, results: Path = RESULTS) -> list[Finding]:
    """Test every claim.

    Args:
        claims: the TOML file.
        results: folder with glue/, tuning/, bench.json, theory/.

    Raises:
        ValueError: a test of an unknown kind, or a result file that cannot be read.
    """
    found = []
    for claim in tomllib.loads(claims.read_text(encoding="utf-8"))["claims"]:
        for test in claim["tests"]:
            if test["kind"] not in _KINDS:
                raise ValueError(f"{claims}: {claim['id']}: unknown kind {test['kind']!r}; there are {', '.join(_KINDS)}")
            status, evidence = _KINDS[test["kind"]](test, results)
            found.append(Finding(claim["id"], test["what"], status, evidence))
    return found


_Verdict = tuple[str, str]


def _speedup(test: dict[str, Any], results: Path) -> _Verdict:
    """The least favourable task decides: the claim is made for the whole of GLUE."""
    cells, base = _cells(test["experiment"], results)
    statuses, said, missing = [], [], []
    for task, column in cells.items():
        found = reached(column, column[test["method"]], base, lower_end=False)
        if found is None:
            missing.append(task)
            continue
        speedup, key = found.speedup[test["cost"]], test["cost"]
        low, high = found.interval[key] if found.interval else (0.0, math.inf)
        statuses.append(_side(low, high, test["at_least"], found.of))
        machines = hardware(column[test["method"]], column[base])
        if key == "train_seconds" and len(machines) > 1:
            statuses[-1] = INCONCLUSIVE
            said.append(f"{task}: not on the same hardware ({', '.join(sorted(machines))})")
        elif found.cost is None:
            said.append(f"{task}: the baseline's score is not reached ({found.seeds} of {found.of} seeds)")
        else:
            spread = f" [{low:.2f}, {high:.2f}]" if found.interval else ""
            said.append(f"{task}: {speedup:.2f}{spread} times fewer {COSTS[key]}, {found.of} seeds")
    if missing:
        said.append(f"not run: {', '.join(missing)}")
    return _together(statuses, said, test)


def _comparable(test: dict[str, Any], results: Path) -> _Verdict:
    cells, _ = _cells(test["experiment"], results)
    statuses, said = [], []
    table = differences(cells, test["reference"])[test["method"]]
    run = [task for task in cells if table[task] is not None]
    seeds = [len(cells[t][test["method"]].results.keys() & cells[t][test["reference"]].results.keys()) for t in run]
    # The mean over the tasks that were run: said with their names, never silently over fewer.
    whole = differences({task: cells[task] for task in run}, test["reference"])[test["method"]]["average"] if run else None
    if whole is not None:
        low, high = whole.interval
        statuses.append(_side(low, high, -test["margin"], min(seeds)))
        better = ", higher" if low > 0 else ""
        points = f"{100 * whole.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points{better}"
        missing = [task for task in cells if task not in run]
        not_run = f" (not run: {', '.join(missing)})" if missing else ""
        said.append(f"mean over {', '.join(run)}{not_run}: {points}, at least {min(seeds)} seeds a task")
    return _together(statuses, said, test)


def _round(test: dict[str, Any], results: Path) -> _Verdict:
    bench = _read(results / test["file"])
    rows = [] if bench is None else [row for row in bench["round"] if row["name"] == test["row"]]
    if not rows:
        return _missing(test)
    ratio = rows[0]["ratio"]
    status = _side(-ratio["greatest"], -ratio["least"], -test["at_most"], FEWEST_SEEDS)
    return status, f"{ratio['median']:.2f} [{ratio['least']:.2f}, {ratio['greatest']:.2f}] times a plain step, all pairs of it"


def _theorem(test: dict[str, Any], results: Path) -> _Verdict:
    theory = _read(results / test["file"])
    rows = [] if theory is None else [row for row in theory["theorems"] if row["name"] == test["theorem"]]
    if theory is None or not rows:
        return _missing(test)
    (row,) = rows
    failures = [*row["failures"], *theory["failures"]]
    if not row["verified"] or failures:
        return NOT_SUPPORTED, f"{row['title']}: {'; '.join(map(str, failures)) or 'its proof is not verified'}"
    least = f", bound over measured at least {row['tightness'][0]:.3g}" if row["tightness"] else ""
    return SUPPORTED, f"{row['title']}: proof verified, no failure in {row['instances']:,} instances{least}"


def _file(test: dict[str, Any], results: Path) -> _Verdict:
    """A result that nothing makes yet; when it is there, a kind that reads it has to be written."""
    if (results / test["file"]).exists():
        return INCONCLUSIVE, f"{test['file']} is there, and nothing reads it yet"
    return _missing(test)


_KINDS: dict[str, Callable[[dict[str, Any], Path], _Verdict]] = {
    "speedup": _speedup,
    "comparable": _comparable,
    "round": _round,
    "theorem": _theorem,
    "file": _file,
}


def _cells(experiment: str, results: Path) -> tuple[Cells, str]:
    path = EXPERIMENTS / f"{experiment}.toml"
    cells = gather(planned(path, results / "tuning"), results / "glue")
    return cells, rows_of(cells)[0]


def _side(low: float, high: float, least: float, seeds: int) -> str:
    if seeds < FEWEST_SEEDS:
        return INCONCLUSIVE
    return SUPPORTED if low >= least else NOT_SUPPORTED if high < least else INCONCLUSIVE


def _together(statuses: list[str], said: list[str], test: dict[str, Any]) -> _Verdict:
    if not statuses:
        return _missing(test)
    worst = next(status for status in (NOT_SUPPORTED, INCONCLUSIVE, SUPPORTED) if status in statuses)
    return worst, "; ".join(said)


def _missing(test: dict[str, Any]) -> _Verdict:
    where = f"no result of {test['experiment']}.toml" if "experiment" in test else f"no {test['file']} among the results"
    return NOT_TESTABLE, f"{where}; needs {test['needs']}"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def report(claims: Path = CLAIMS, results: Path = RESULTS) -> str:
    """The claims with their findings, as Markdown."""
    found = findings(claims, results)
    lines = ["# The paper's claims", ""]
    for claim in tomllib.loads(claims.read_text(encoding="utf-8"))["claims"]:
        lines += [f"**{claim['id']}**: {claim['text']}", ""]
        lines += [f"- {f.what}: **{f.status}**: {f.evidence}" for f in found if f.claim == claim["id"]]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the claims' statuses and write them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.claims", description="Status of the paper's claims.")
    parser.add_argument("--claims", type=Path, default=CLAIMS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=Path("runs/claims.md"))
    args = parser.parse_args(arguments)
    try:
        text = report(args.claims, args.results)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    write_whole(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
