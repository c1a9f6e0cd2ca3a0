"""A false bound: a solver below the truth, caught by an exact instance and by the exact check of its own duals."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

from sympy import Rational

from convergence import verifier
from convergence.document import document
from convergence.pep import gradient_descent
from convergence.pep.extra import pepit, stored
from convergence.pep.statement import prove

STEPS = (1, 2, 3, 4, 5, 6, 8)


def false_bound(solver: str = "SCS", steps: Sequence[int] = STEPS) -> dict[str, Any]:
    """Catch a solver below the truth, and let the exact check tell.

    PEPit's own example: N steps of 1/L on an L-smooth function (L = 1) give min |f'|^2 <= tau (f(x_0) - f(x_N)). The truth is
    tau = 4/(3 N) (Abbaszadehpeivasti, de Klerk and Zamani 2022), attained by `gradient_descent.worst_descent`. SCS is what
    PEPit uses where no solver is named and MOSEK is not installed.

    Args:
        solver: cvxpy's name of it.
        steps: the N tried; the one with the falsest bound is returned.

    Returns:
        stored (whether this is the stored record, because no bound of this solver as installed is false by more than 1e-8 at
        these N), solver, versions, status, N, tau (the solver's), primal (its lower bound), true (text) and true_value, below
        (1 - tau/true), instance (its squared gradient and decrease, text, and violation: the first over tau times the
        second, minus 1), refused (the solver's duals as a proof at tau) and proved (the same duals, rounded to denominators
        of at most 60, at the true tau): each accepted, and the verifier's reason.
    """
    found = search(solver, steps)
    return found[0] if found else stored("false_bound")["record"] | {"stored": True}


def search(solver: str = "SCS", steps: Sequence[int] = STEPS) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """As `false_bound`: the record, its refused proof and its accepted proof; None where no bound is false."""
    P = pepit()
    falsest, found = 1e-8, None
    for n in steps:
        problem = gradient_descent.problem(P, 1.0, float(n))
        tau, true = float(problem.solve(verbose=0, solver=solver)), Fraction(4, 3 * n)
        gradient, fallen = gradient_descent.worst_descent(n)
        below, violation = float(1 - Fraction(tau) / true), float(gradient / (Fraction(tau) * fallen) - 1)
        if below <= falsest or violation <= 0:
            continue
        duals = P.Function.list_of_functions[0].get_class_constraints_duals()["smoothness"].to_numpy()
        # PEPit keeps the multipliers of its performance metrics with the constraints it made of them, in order.
        weights = [c.eval_dual() for c in problem._list_of_prepared_constraints[: n + 1]]
        refused = _from_duals(Fraction(tau), duals, weights, 10**6)
        proved = _from_duals(true, duals, weights, 60)
        record = {
            "stored": False,
            "solver": solver,
            "versions": {name: importlib.metadata.version(name) for name in (solver, "cvxpy", "PEPit")},
            "status": str(problem.wrapper.prob.status),
            "N": n,
            "tau": tau,
            "primal": float(problem.objective.eval()),
            "true": str(true),
            "true_value": float(true),
            "below": below,
            "instance": {"gradient": str(gradient), "decrease": str(fallen), "violation": violation},
            "refused": _judged(refused),
            "proved": _judged(proved),
        }
        falsest, found = below, (record, refused, proved)
    return found


def _from_duals(tau: Fraction, duals: Any, weights: Sequence[float], denominator: int) -> dict[str, Any]:
    """A proof of tau from a solver's duals: rounded, and repaired along the steps so that f-values and m cancel exactly."""
    n = len(weights) - 1
    rounded = [Fraction(float(w)).limit_denominator(denominator) for w in weights]
    rounded[0] = 1 - sum(rounded[1:], Fraction(0))
    moves = {
        (i, j): Fraction(float(duals[i, j])).limit_denominator(denominator)
        for i, j in product(range(n + 1), repeat=2)
        if i != j and j != i + 1 and duals[i, j] > 1 / (2 * denominator)
    }
    along, flow = {}, tau
    for k in range(n):  # what f_k still needs goes into the move from k to k + 1
        flow += sum(c * ((j == k) - (i == k)) for (i, j), c in moves.items())
        along[k, k + 1] = flow
    kept = {pair: Rational(c) for pair, c in (moves | along).items() if c}
    gap, facts = gradient_descent.proof(Rational(tau), kept, [Rational(w) for w in rounded])
    assumed = {fact: expression for fact, (_, expression) in facts.items()}
    return document(f"gradient descent, N = {n}, tau = {float(tau)}", assumed, [prove("rate", gap, facts)])


def _judged(proof: dict[str, Any]) -> dict[str, Any]:
    try:
        verifier.verify(proof)
    except verifier.Rejected as error:
        return {"accepted": False, "reason": str(error)}
    return {"accepted": True, "reason": ""}
