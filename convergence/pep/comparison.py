"""PEPit's value beside ours, statement by statement."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from math import isfinite, sqrt
from typing import Any

from convergence import verifier
from convergence.certificate import Rejected
from convergence.effort import FULL, Effort
from convergence.pep.extra import pepit
from convergence.pep.statement import Parameters, Statement
from convergence.pep.statements import STATEMENTS

AGREEMENT = 1e-4
"""Relative difference that is put down to the solver."""


def cross_check(
    effort: Effort = FULL, solver: str = "CLARABEL", statements: Sequence[Statement] = STATEMENTS
) -> list[dict[str, Any]]:
    """Compare.

    Args:
        effort: anything but `FULL` takes two or three choices of parameters a statement.
        solver: cvxpy's name of it.
        statements: which.

    Returns:
        One dict a row: statement, theorem, says, parameters (text), pepit, ours, difference ((pepit - ours)/ours), tight
        (whether the two should agree), agrees, status, solve_seconds (PEPit's solve, with its modelling), sdp_seconds (the
        solver alone), verify_seconds (the stand-alone verifier on the exact proof of the same inequality). Where the solver
        gives no number, pepit and difference are None and do not agree.

    Raises:
        ModuleNotFoundError: without the extra ``pep``.
        Rejected: an exact proof is refused.
    """
    P = pepit()
    rows = []
    for statement in statements:
        every = 1 if effort.name == FULL.name else max(1, len(statement.choices) // 2)
        rows += [_row(P, statement, choice, solver) for choice in statement.choices[::every]]
    return rows


def _row(P: Any, statement: Statement, choice: Parameters, solver: str) -> dict[str, Any]:
    problem = statement.sdp(P, choice)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an inaccurate answer: the row has the status
        found = problem.solve(verbose=0, solver=solver)
    seconds = time.perf_counter() - start
    ours, value, difference, agrees = statement.ours(choice), None, None, False
    if found is not None and isfinite(found):
        value = sqrt(max(found, 0.0)) if statement.squared else float(found)
        difference = (value - ours) / ours
        agrees = (abs(difference) if statement.tight else difference) <= AGREEMENT
    return {
        "statement": statement.name,
        "theorem": statement.theorem,
        "says": statement.says,
        "parameters": {k: str(v) for k, v in choice.items()},
        "pepit": value,
        "ours": ours,
        "difference": difference,
        "tight": statement.tight,
        "agrees": agrees,
        "status": str(problem.wrapper.prob.status),
        "solve_seconds": seconds,
        "sdp_seconds": float(problem.wrapper.prob.solver_stats.solve_time),
        "verify_seconds": _verification_seconds(statement.document(choice)),
    }


def _verification_seconds(proof: dict[str, Any], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        try:
            verifier.verify(proof)
        except verifier.Rejected as error:
            raise Rejected(f"{proof['theorem']}: {error}") from error
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
