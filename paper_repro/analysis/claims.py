"""The paper's claims and their status, computed from result files: `make claims`, or `python -m paper_repro.analysis.claims`.

A status is one of

- supported by: the whole 95% interval lies on the claim's side;
- not supported by: the whole interval lies on the other side;
- inconclusive: it lies on both;
- not testable here: there is no result; what is missing is said.

Comparisons of methods need three seeds at least: with fewer they are inconclusive whatever the interval says.
"""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.analysis.cells import Cells, differences, gather, hardware, planned, reached, rows_of
from paper_repro.analysis.target import COSTS
from paper_repro.command import command, parser
from paper_repro.record import RESULTS, read_json, write_whole
from paper_repro.runs.tuning import EXPERIMENTS

CLAIMS = RESULTS.with_name("claims.toml")
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


def _follower(test: dict[str, Any], results: Path) -> _Verdict:
    """Of the claim that the noise scales, what was measured: steps of one and of two processes."""
    scaling = _read(results / test["file"])
    growth = None if scaling is None else scaling["follower"]["growth"]
    if scaling is None or growth is None:
        return _missing(test)
    status = _side(-growth["high"], -growth["low"], -test["at_most"], growth["batches"])
    said = [f"{cost['median']:.2f} times LAMB's step in {cost['devices']}" for cost in scaling["follower"]["costs"]]
    spread = f"{growth['typical']:.2f} [{growth['low']:.2f}, {growth['high']:.2f}]"
    return status, f"it grows {spread} times, over {growth['batches']} batches: {', '.join(said)}; no more processes were run"


def _modelled(test: dict[str, Any], results: Path) -> _Verdict:
    """A model's answer is a test of the claim only if nothing in it was assumed."""
    scaling = _read(results / test["file"])
    studies = [] if scaling is None else scaling["predictions"]
    rows = [(study, row) for study in studies for row in study["conditions"] if row["claimed"] == test["claimed"]]
    if not rows:
        return _missing(test)
    said = []
    for reading in dict.fromkeys(row["reading"] for _, row in rows):
        found = [row["speedup"] for _, row in rows if row["reading"] == reading]
        middles, low, high = [s["median"] for s in found], min(s["low"] for s in found), max(s["high"] for s in found)
        said.append(f"over {reading} {min(middles):.1f} to {max(middles):.1f} [{low:.1f}, {high:.1f}]")
    bases = [[given["basis"] for given in study["inputs"].values()] for study in studies]
    evidence = f"modelled, not run: {'; '.join(said)}"
    if any(basis != "measured" for given in bases for basis in given):
        most = max(len(given) - given.count("measured") for given in bases)
        return NOT_TESTABLE, f"{evidence}; up to {most} of {len(bases[0])} inputs were not measured; needs {test['needs']}"
    statuses = [_side(row["speedup"]["low"], row["speedup"]["high"], test["claimed"], FEWEST_SEEDS) for _, row in rows]
    return _together(statuses, [evidence], test)


def _steepness(test: dict[str, Any], results: Path) -> _Verdict:
    row, seeds = _landscape(test, results)
    pairs = [] if row is None else [p for p in row["pairs"] if (p["method"], p["against"]) == (test["method"], test["against"])]
    if not pairs:
        return _missing(test)
    ratio, low, high = (pairs[0][key] for key in ("ratio", "low", "high"))
    status = _side(low, high, 1.0, seeds) if test["side"] == "above" else _side(-high, -low, -1.0, seeds)
    return status, f"{ratio:.2f} [{low:.2f}, {high:.2f}] times, {seeds} seeds, Tukey's intervals"


def _steeper_is_worse(test: dict[str, Any], results: Path) -> _Verdict:
    row, seeds = _landscape(test, results)
    if row is None or row["score_within"] is None:
        return _missing(test)
    r, low, high = (row["score_within"][key] for key in ("r", "low", "high"))
    evidence = f"r = {r:+.2f} [{low:+.2f}, {high:+.2f}], {seeds} seeds of {len(row['values'])} methods"
    return _side(-high, -low, 0.0, seeds), evidence


def _landscape(test: dict[str, Any], results: Path) -> tuple[dict[str, Any] | None, int]:
    """The row of a measure, and the seeds behind it."""
    landscape = _read(results / test["file"])
    rows = [] if landscape is None else [row for row in landscape["separation"] if row["measure"] == test["measure"]]
    return (rows[0], min(map(len, rows[0]["values"].values()))) if rows else (None, 0)


_KINDS: dict[str, Callable[[dict[str, Any], Path], _Verdict]] = {
    "speedup": _speedup,
    "comparable": _comparable,
    "round": _round,
    "theorem": _theorem,
    "follower": _follower,
    "modelled": _modelled,
    "steepness": _steepness,
    "steeper-is-worse": _steeper_is_worse,
}


def _cells(experiment: str, results: Path) -> tuple[Cells, str]:
    path = EXPERIMENTS / f"{experiment}.toml"
    cells = gather(planned(path, results / "tuning"), results / "glue")
    return cells, rows_of(cells)[0]


def _side(low: float, high: float, least: float, seeds: int) -> str:
    """NaN is on no side: an interval with such an end, as damaged numbers make it, says nothing."""
    if seeds < FEWEST_SEEDS or math.isnan(low) or math.isnan(high):
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
    return read_json(path) if path.exists() else None


def report(claims: Path = CLAIMS, results: Path = RESULTS) -> str:
    """The claims with their findings, as Markdown."""
    found = findings(claims, results)
    lines = ["# The paper's claims", ""]
    for claim in tomllib.loads(claims.read_text(encoding="utf-8"))["claims"]:
        lines += [f"**{claim['id']}**: {claim['text']}", ""]
        lines += [f"- {f.what}: **{f.status}**: {f.evidence}" for f in found if f.claim == claim["id"]]
        lines.append("")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the claims' statuses and write them; returns the exit status."""
    options = parser("paper_repro.analysis.claims", __doc__)
    options.add_argument("--claims", type=Path, default=CLAIMS)
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--out", type=Path, default=Path("runs/claims.md"))
    args = options.parse_args(arguments)
    text = report(args.claims, args.results)
    print(text)
    write_whole(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
