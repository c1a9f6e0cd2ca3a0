"""Check every theorem, plant the faults, write theory.json, the certificates, figures and pages."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import scala
import toy_problems
from convergence import page, verifier
from convergence.certificate import Rejected
from convergence.check import check
from convergence.effort import FAST, FULL, Effort
from convergence.faults import FAULTS, misstated, plant, tampered
from convergence.record import provenance, write_whole
from convergence.theorems import all_theorems

CHANGED = "changed: "
_VERSIONED = ("torch", "sympy", "numpy", "scipy", "hypothesis", "scala-adapt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if every check passed, 1 if one failed, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m convergence", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the essential, in a minute")
    parser.add_argument(
        "--out", type=Path, help="folder (default: runs/theory, with --fast runs/theory-fast, with --only runs/theory-only)"
    )
    parser.add_argument("--only", nargs="+", metavar="THEOREM", help="check these only")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.out = options.out or Path(f"runs/theory{'-only' if options.only else '-fast' if options.fast else ''}")
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is a file; give a folder")
    effort = FAST if options.fast else FULL
    theorems = all_theorems()
    if options.only:
        known = {theorem.name: theorem for theorem in theorems}
        if unknown := [name for name in options.only if name not in known]:
            parser.error(f"no theorem is called {unknown[0]!r}; there are: {', '.join(known)}")
        theorems = tuple(known[name] for name in options.only)

    shutil.rmtree(options.out / "certificates", ignore_errors=True)
    for theorem in theorems:
        write_whole(options.out / "certificates" / f"{theorem.name}.json", json.dumps(theorem.document(), indent=1) + "\n")
    shutil.copy(verifier.__file__, options.out / "verifier.py")

    jobs: dict[str, Callable[[], Any]] = {t.name: partial(_check, t.name, effort, options.out) for t in theorems}
    jobs |= {f"{CHANGED}{t.name}": partial(_changed, t.name, not options.fast) for t in theorems}
    if not options.fast:
        jobs |= {f"fault: {f.name}": partial(plant, f) for f in FAULTS if f.caught_by in {t.name for t in theorems}}
        if importlib.util.find_spec("PEPit"):
            jobs["pep"] = partial(_pep, effort)
    try:
        done = _run(jobs, options.workers, _Store(options.out / "reports", effort))
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept: the same command goes on", file=sys.stderr)
        return 130

    reports = [done[theorem.name] for theorem in theorems]
    faults = [report for name, report in done.items() if name.startswith("fault: ")]
    changed = [report for name, report in done.items() if name.startswith(CHANGED)]
    certificates, statements = (_together([part[kind] for part in changed]) for kind in ("tampered", "misstated"))
    kinds = [step["kind"] for report in reports if report["verified"] for step in report["proof"]]
    theory = {
        "effort": effort.name,
        "theorems": reports,
        "instances": sum(report["instances"] for report in reports),
        "certificates": kinds.count("certified") + kinds.count("sympy only"),
        "stand_alone": kinds.count("certified"),
        "tampered": certificates,
        "misstated": statements,
        "faults": faults,
        "pep": done.get("pep"),
        "failures": [
            *(failure for report in reports for failure in report["failures"]),
            *(
                f"the planted fault {fault['name']!r} was not caught by {fault['caught_by']}"
                for fault in faults
                if not fault["caught"]
            ),
            *(f"a tampered certificate was accepted: {what}" for what in certificates["missed"]),
            *(f"a changed statement was accepted: {what}" for what in statements["missed"]),
            *(
                f"{row['statement']} at {row['parameters']}: PEPit says {row['pepit']}, the theorem {row['ours']}"
                for row in (done.get("pep") or {"rows": ()})["rows"]
                if not row["agrees"]
            ),
        ],
        "seconds": round(sum(report["seconds"] for report in reports), 1),
        "provenance": provenance(_VERSIONED),
    }
    write_whole(options.out / "theory.json", json.dumps(theory, indent=1, allow_nan=False) + "\n")
    index, _ = page.write(options.out, theory, theorems)
    _print(theory, index)
    return 1 if theory["failures"] else 0


def _changed(name: str, letters: bool) -> dict[str, Any]:
    """How many changed certificates and statements of a theorem were tried, and which were accepted."""
    theorem = next(t for t in all_theorems() if t.name == name)
    planted = {"tampered": 0, "misstated": 0}
    missed: dict[str, list[str]] = {"tampered": [], "misstated": []}
    for what, document in tampered(theorem):
        planted["tampered"] += 1
        try:
            verifier.verify(document)
        except verifier.Rejected:
            continue
        missed["tampered"].append(f"{name}, {what}")
    for what, bound in misstated(theorem, letters):
        planted["misstated"] += 1
        try:
            theorem.statement(bound)
        except Rejected:
            continue
        missed["misstated"].append(f"{name}, {what}")
    return {kind: {"planted": planted[kind], "missed": missed[kind]} for kind in planted}


def _together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    planted, missed = sum(part["planted"] for part in parts), [what for part in parts for what in part["missed"]]
    return {"planted": planted, "rejected": planted - len(missed), "missed": missed}


class _Store:
    """Finished jobs as files, each good for the very source it came from."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        digest = hashlib.sha256(json.dumps(asdict(effort)).encode())
        for package in (scala, toy_problems, sys.modules["convergence"]):
            assert package.__file__ is not None
            for path in sorted(Path(package.__file__).parent.rglob("*.py")):
                digest.update(path.read_bytes())
        self.folder, self.source = folder, digest.hexdigest()

    def _path(self, job: str) -> Path:
        return self.folder / f"{job.replace(': ', '-').replace(' ', '-').replace('/', '-')}.json"

    def load(self, job: str) -> Any:
        """The job's result, or None if there is none from this source."""
        try:
            stored = json.loads(self._path(job).read_text(encoding="utf-8"))
            return stored["result"] if stored["source"] == self.source else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # none yet, or damaged: it is done again

    def save(self, job: str, result: Any) -> None:
        """Keep it."""
        write_whole(self._path(job), json.dumps({"source": self.source, "result": result}, allow_nan=False))


def _run(jobs: dict[str, Callable[[], Any]], workers: int, store: _Store) -> dict[str, Any]:
    """Do the jobs that are not done yet, side by side."""
    done = {name: result for name in jobs if (result := store.load(name)) is not None}
    if done:
        print(f"{len(done)} of {len(jobs)} are there already", file=sys.stderr)
    start = time.perf_counter()
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        running: dict[Future[Any], str] = {executor.submit(job): name for name, job in jobs.items() if name not in done}
        for future in as_completed(running):
            name = running[future]
            done[name] = future.result()
            store.save(name, done[name])
            print(f"[{len(done)}/{len(jobs)}, {time.perf_counter() - start:.0f} s] {name}", file=sys.stderr, flush=True)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return {name: done[name] for name in jobs}


def _check(name: str, effort: Effort, out: Path) -> Any:
    theorem = next(t for t in all_theorems() if t.name == name)
    return check(theorem, effort, out / "figures")


def _pep(effort: Effort) -> Any:
    from convergence import pep  # noqa: PLC0415 - the optional extra

    return {
        "rows": pep.cross_check(effort),
        "certificates": pep.certificates(),
        "false_bound": pep.false_bound(),
        "not_representable": pep.NOT_REPRESENTABLE,
    }


def _print(theory: dict[str, Any], index: Path) -> None:
    width = max(len(report["name"]) for report in theory["theorems"])
    print(f"{'theorem':{width}}  steps  attacks  closest  violations  bound/measured min med. max  instances")
    for report in theory["theorems"]:
        violations = sum(curve["violations"] for m in report["measurements"] for curve in m["curves"])
        closest = max((a["worst"]["ratio"] or 0.0 for a in report["attacks"] if "worst" in a), default=float("nan"))
        tightness = "  ".join(f"{value:.3g}" for value in report["tightness"] or ()) or "-"  # of the first bound
        print(
            f"{report['name']:{width}}  {len(report['proof']):5}  {len(report['attacks']):7}  {closest:7.4f}  "
            f"{violations:10}  {tightness:>27}  {report['instances']:>9,}"
        )
    caught = sum(fault["caught"] for fault in theory["faults"])
    print(
        f"{theory['certificates']} certificates ({theory['stand_alone']} verified twice), {theory['instances']:,} instances, "
        f"{theory['tampered']['rejected']} of {theory['tampered']['planted']} tampered certificates rejected, "
        f"{theory['misstated']['rejected']} of {theory['misstated']['planted']} changed statements refused, "
        f"{caught} of {len(theory['faults'])} planted faults caught"
    )
    for failure in theory["failures"]:
        print(f"FAILED  {failure}")
    print(f"page: {index}")
