"""From a solver's duals to exact proofs: rates of projected ascent for which no closed form goes in.

PEPit's own duals lie on the boundary, where any rounding leaves a form that is not positive. So its rate is relaxed a little,
and a second, small SDP gives the multipliers in the middle of what that allows: those survive rounding.
"""
# ruff: noqa: E741 - l is the theory's letter

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from sympy import Expr, Rational

from convergence import verifier
from convergence.certificate import Inequality, Rejected, norm2, vectors
from convergence.document import document
from convergence.pep.distances import ascent_facts, ascent_problem, step_sizes
from convergence.pep.extra import optional, pepit
from convergence.pep.squares import gram
from convergence.pep.statement import Parameters, prove

CHOICES: tuple[Parameters, ...] = tuple(
    {"mu": Fraction(m), "l": Fraction(s), "rho": step}
    for m, s in (("1/2", 1), ("1/4", 1), ("1/10", 1), ("1/20", 1), ("1/3", 3), (1, 2))
    for step in step_sizes(Fraction(m), Fraction(s))
)
"""Parameters of the stored certificates of projected ascent."""
RELAXED = 1e-4
"""How far, relatively, the proved rate may lie above PEPit's: room for rounding."""


def certificate(mu: Fraction, l: Fraction, rho: Fraction, solver: str = "CLARABEL") -> dict[str, Any]:
    """Prove a rate of projected ascent (K = 1) from the solver's answers alone.

    PEPit gives a squared rate; relaxed and rounded up it is a fraction. At that rate the multipliers which leave the most
    positive definite rest are rounded to the smallest denominators that keep the rest a sum of squares.

    Returns:
        parameters, pepit (its squared rate), rate (the fraction that is proved), closed (ours, q^2), excess (rate/closed - 1),
        duals and closed_duals (PEPit's multipliers beside 2 rho q and 2 rho), multipliers (of co-coercivity and the normal
        cone), denominator, seconds (of PEPit, of rounding), assumptions and step (for `as_document`).

    Raises:
        Rejected: no rounding up to a denominator of 10^6 is a proof.
    """
    P = pepit()
    start = time.perf_counter()
    tau = float(ascent_problem(P, float(mu), float(l), float(rho), 1.0).solve(verbose=0, solver=solver))
    solved = time.perf_counter()
    smooth, normal = (f.get_class_constraints_duals() for f in P.Function.list_of_functions[:2])
    duals = [smooth["smoothness_strong_convexity"].to_numpy().sum() / 2, normal["convexity"].to_numpy().sum() / 2]

    rate = Fraction(ceil(tau * (1 + RELAXED) * 10**6), 10**6)
    d, g, t = vectors("d g t")
    m, s, h = Rational(mu), Rational(l), Rational(rho)
    name = f"mu = {mu}, l = {l}, rho = {rho}"
    assumed = {f"{fact}: {name}": expression for fact, _, expression in ascent_facts(d, g, t, mu=m, l=s, rho=h)}
    denominator, step = _rounded(name, Rational(rate) * norm2(d) - norm2(d - h * g - h * t), assumed, solver)
    written = document("projected-ascent", assumed, [step])
    verifier.verify(written)
    q = max(1 - rho * mu, rho * l - 1)
    return {
        "parameters": {"mu": str(mu), "l": str(l), "rho": str(rho)},
        "pepit": tau,
        "rate": str(rate),
        "closed": str(q**2),
        "excess": float(rate / q**2 - 1),
        "duals": [float(v) for v in duals],
        "closed_duals": [float(2 * rho * q), float(2 * rho)],
        "multipliers": [str(term.multiplier) for term in step.terms[:2]],
        "denominator": denominator,
        "seconds": [solved - start, time.perf_counter() - solved],
        "assumptions": written["assumptions"],
        "step": written["steps"][0],
    }


def _rounded(name: str, gap: Expr, assumed: dict[str, Expr], solver: str) -> tuple[int, Inequality]:
    """The limit of the denominators, and the proof with multipliers so rounded."""
    cp, basis = optional("cvxpy"), vectors("d g t")
    goal, *forms = (np.array(gram(form, basis), dtype=float) for form in (gap, *assumed.values()))
    weights = cp.Variable(len(forms), nonneg=True)
    least = cp.lambda_min(goal - sum(weights[i] * form for i, form in enumerate(forms)))
    cp.Problem(cp.Maximize(least)).solve(solver=solver)
    for denominator in (10**k for k in range(1, 7)):
        rounded = [Rational(Fraction(float(w)).limit_denominator(denominator)) for w in weights.value]
        step = prove(name, gap, dict(zip(assumed, zip(rounded, assumed.values(), strict=True), strict=True)))
        if all(term.multiplier >= 0 for term in step.terms):
            return denominator, step
    raise Rejected(f"projected ascent, {name}: no rounding of the duals leaves a sum of squares")


def certificates(choices: Sequence[Parameters] = CHOICES) -> list[dict[str, Any]]:
    """`certificate` for every choice."""
    return [certificate(choice["mu"], choice["l"], choice["rho"]) for choice in choices]


def as_document(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Certificates as one file for the stand-alone verifier, a step a choice; what else is known of them beside it."""
    return {
        "theorem": "projected-ascent",
        "vectors": ["d", "g", "t"],
        "positive": [],
        "nonnegative": [],
        "real": [],
        "assumptions": {name: text for one in found for name, text in one["assumptions"].items()},
        "steps": [one["step"] for one in found],
        "choices": [{k: v for k, v in one.items() if k not in ("assumptions", "step", "seconds")} for one in found],
    }
