"""Check one theorem: verify its proof, attack its bounds, measure the core against them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from convergence import attack, measurement, verifier
from convergence.bound import Bound
from convergence.certificate import Argument, Identity, Inequality, Rejected, Repeat, Sum
from convergence.effort import Effort
from convergence.theorem import Step, Theorem

Report = dict[str, Any]


def check(theorem: Theorem, effort: Effort, figures: Path | None = None) -> Report:
    """Do everything that the theorem offers.

    Args:
        theorem: what to check.
        effort: how much.
        figures: folder for an SVG a measurement; None: draw nothing.

    Returns:
        Plain data: `verified` (all certificates, twice, and that they give the statements), `proof` (a row a step), `attacks`,
        `measurements`, `tightness` (bound / measured over the curves of the first bound: minimum, median of the curves'
        medians, maximum), `tightness_by_bound`, `instances`, `failures` (empty if all is well; each begins with the theorem's
        name), `seconds`.
    """
    torch.set_num_threads(1)  # small tensors: more threads only get in each other's way
    start = time.perf_counter()
    failures: list[str] = []
    proof = _proof(theorem, failures)
    verified = not failures
    attacks = [_attack(theorem, one, effort, failures) for one in theorem.attacks]
    measurements = [_measure(theorem, one, effort, figures, failures) for one in theorem.measurements]
    curves = [curve for one in measurements for curve in one["curves"]]
    names = [bound.name for bound in theorem.bounds]
    by_bound = {name: _tightness(name, names, measurements) for name in names}
    return {
        "name": theorem.name,
        "title": theorem.title,
        "effort": effort.name,
        "statement": [_statement(theorem, bound) for bound in theorem.bounds],
        "verified": verified,
        "proof": proof,
        "attacks": attacks,
        "measurements": measurements,
        "tightness": by_bound[names[0]] if names else None,
        "tightness_by_bound": by_bound,
        "instances": sum(part["instances"] for part in (*attacks, *curves)),
        "failures": failures,
        "seconds": round(time.perf_counter() - start, 2),
    }


def _statement(theorem: Theorem, bound: Bound) -> str | None:
    try:
        return theorem.statement(bound)
    except Rejected:
        return None  # reported with the proof


def _tightness(bound: str, bounds: list[str], measurements: list[Report]) -> list[float] | None:
    """Of the curves that are compared with this bound."""
    curves = [c for m in measurements for c in m["curves"] if c["tightness"] and (c["of"] or m["of"] or bounds[0]) == bound]
    ratios = [curve["tightness"] for curve in curves]
    return [min(r[0] for r in ratios), median(r[1] for r in ratios), max(r[2] for r in ratios)] if ratios else None


def step_kind(step: Step) -> str:
    """What a reader has to trust for it."""
    if isinstance(step, Identity) and not step.is_rational:
        return "sympy only"
    if isinstance(step, Inequality | Identity | Sum | Repeat):
        return "certified"
    return "argued" if isinstance(step, Argument) else "cited"


def _proof(theorem: Theorem, failures: list[str]) -> list[Report]:
    try:
        theorem.verify()
        verifier.verify(verifier.loads(json.dumps(theorem.document())))
        for bound in theorem.bounds:
            theorem.statement(bound)
        for fact in theorem.facts:
            theorem.equation(fact)
    except (Rejected, verifier.Rejected) as error:
        failures.append(f"{theorem.name}: proof rejected: {error}")
    return [{"step": step.name, "kind": step_kind(step)} for step in theorem.proof]


def _attack(theorem: Theorem, one: attack.Attack, effort: Effort, failures: list[str]) -> Report:
    try:
        report = attack.run(one, effort)
    except (ArithmeticError, AssertionError) as error:  # the core refused to go on, or did not do as a formula says
        failures.append(f"{theorem.name}: attack {one.name!r}: {error}")
        return {"name": one.name, "instances": 0, "error": str(error)}
    if report.broken:
        failures.append(f"{theorem.name}: attack {one.name!r} broke the bound: {report.broken}")
    if not report.fallen:
        failures.append(f"{theorem.name}: attack {one.name!r} found no violation at {one.falls_at} of the constant")
    return {"name": one.name, "bound": one.bound.name, "constant": one.constant, **finite(asdict(report))}


def _measure(
    theorem: Theorem, one: measurement.Measurement, effort: Effort, figures: Path | None, failures: list[str]
) -> Report:
    try:
        curves = [measurement.summarise(curve) for curve in one.play(effort)]
    except (ArithmeticError, AssertionError) as error:
        failures.append(f"{theorem.name}: measurement {one.name!r}: {error}")
        nothing: Report = {"figure": None, "curves": [], "error": str(error)}
        return {"name": one.name, "title": one.title, "alt": one.alt, "of": one.of} | nothing
    for curve in curves:
        if curve.violations:
            failures.append(
                f"{theorem.name}: measurement {one.name!r}, {curve.label}: {curve.violations} of {curve.instances} beyond it"
            )
    name = None
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        name = f"{theorem.name}-{one.name}.svg"
        measurement.draw(one, curves, figures / name)
    return {
        "name": one.name,
        "title": one.title,
        "alt": one.alt,
        "of": one.of,
        "figure": name,
        "curves": [finite(asdict(curve)) for curve in curves],
    }


def finite(value: Any) -> Any:
    """The same data with NaN and infinity, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
