"""Performance estimation beside our bounds: PEPit's values, its duals as exact proofs, and one false bound of its solver.

A performance-estimation problem (Drori and Teboulle 2014; Taylor, Hendrickx and Glineur 2017) finds the worst case of a
method by a semidefinite program (SDP), which a solver answers in floating point. It is an independent check of our
constants, not a proof: `false_bound` shows an "upper bound" below a value that is attained. What turns it into a proof is
its dual: multipliers, rounded to fractions, so that what is left over is a sum of squares, exactly. `certificates` does so,
and `convergence.verifier` checks the result without a solver.

Needs the extra ``pep`` (PEPit, cvxpy), except for what is stored: ``python convergence/verifier.py
convergence/pep_certificates/projected_ascent.json``. ``python -m convergence.pep`` prints the tables of this module;
``--write`` makes the stored files anew.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import sqrt
from pathlib import Path
from typing import Any

import sympy
from sympy import Expr, Rational, Symbol, symbols

from convergence import verifier
from convergence.certificate import Dot, Inequality, Norm2, Rejected, Term, document, expand_dots, norm2, vectors
from convergence.effort import FAST, FULL, Effort
from convergence.record import write_whole
from convergence.theorem import Bound
from convergence.theorems.gradient_descent_ascent import DESCENT, DRIFT
from convergence.theorems.projected_ascent import CONTRACTION

STORED = Path(__file__).parent / "pep_certificates"
"""Certificates found with the solver, as data; `verifier` accepts all of them but false_bound.json, which proves nothing."""

Parameters = dict[str, Fraction]
Certificate = tuple[dict[str, Expr], Inequality]
"""Assumptions by name (each >= 0), and the inequality that they prove."""

NOT_REPRESENTABLE = {
    "danskin": "A Hessian's norm bounds joint smoothness, and y*(x) maximises at both ends of a segment: the class of such f "
    "has no known interpolation conditions. The sharp constant comes from a 2x2 extremal Hessian instead.",
    "gradient-descent-ascent, whole": "Phi = max f(., y) and f are tied by that same class. Its steps (descent, drift) are "
    "compared one by one.",
    "rate (normalised leader)": "A step of length eta along u/|u| is not linear in the Gram matrix of points and gradients, "
    "nor is sum |u_i|. A lemma in two variables and four sharp instances take its place.",
    "key lemma": "It bounds an expectation of <g, u/|u|>: not linear in the Gram matrix.",
    "stall, Hopf threshold": "These are single functions, computed exactly, not worst cases over a class.",
}
"""Statements that no performance-estimation SDP of today represents, and why."""


def optional(module: str) -> Any:
    """Import a module of the extra ``pep``, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{module} is missing: the cross-check by performance estimation needs pip install 'scala-adapt[pep]'"
        raise ModuleNotFoundError(message, name=module) from error


def _exact(value: Fraction | int) -> Rational:
    return Rational(Fraction(value).numerator, Fraction(value).denominator)


# --- What is compared ------------------------------------------------------------------------------------------------------

l, mu, eta, L, N, K = symbols("l mu eta L N K", positive=True)  # noqa: E741 - the theory's letter
D, e, delta, r_0, G = symbols("D e delta r_0 G", nonnegative=True)

MONOTONE = Bound("monotone", r"\|z_K - z^*\|", sympy.sqrt(1 - 2 * eta * mu + eta**2 * l**2) ** K * r_0)
GRADIENT_DESCENT = Bound("gradient descent", r"\min_{t \le N}\|\nabla\Phi(x_t)\|^2", 4 * L * D / (3 * N))
INEXACT = Bound("inexact descent", r"\tfrac1N\sum_{t<N}\|\nabla\Phi(x_t)\|^2", 2 * D / (eta * N) + e**2)
MOREAU = Bound(
    "Moreau step",
    r"\Phi_{1/2l}(x - \eta g) - \Phi_{1/2l}(x) + \tfrac{\eta}{2}\|\nabla\Phi_{1/2l}(x)\|^2",
    2 * l * eta * delta + l * eta**2 * G**2,
)


def _ascent_problem(P: Any, mu: float, l: float, rho: float, K: float) -> Any:  # noqa: E741
    problem = P.PEP()
    loss, ball, best, y = _follower(P, problem, mu, l)
    problem.set_initial_condition((y - best) ** 2 <= 1)
    for _ in range(int(K)):
        y, _, _ = _steps().proximal_step(y - rho * loss.gradient(y), ball, rho)
    problem.set_performance_metric((y - best) ** 2)
    return problem


def _follower(P: Any, problem: Any, mu: float, l: float) -> tuple[Any, Any, Any, Any]:  # noqa: E741
    """-f(x, .), the indicator of Y, its minimiser and a start."""
    functions = optional("PEPit.functions")
    loss = problem.declare_function(functions.SmoothStronglyConvexFunction, mu=mu, L=l)
    ball = problem.declare_function(functions.ConvexIndicatorFunction)
    return loss, ball, (loss + ball).stationary_point(), problem.set_initial_point()


def _steps() -> Any:
    return optional("PEPit.primitive_steps")


def _ascent_terms(
    v: Expr,
    g: Expr,
    t: Expr,
    k: int,
    *,
    mu: Rational,
    l: Rational,  # noqa: E741
    rho: Rational,
) -> tuple[dict[str, Expr], list[tuple[Expr, Any]]]:
    """One step of projected ascent from distance v: its assumptions and its terms, as in the theorem."""
    q = 1 - rho * mu if rho * (l + mu) <= 2 else rho * l - 1
    short = q == 1 - rho * mu
    left_over = g - mu * v if short else l * v - g
    assumed = {f"co-coercivity {k}": Dot(g - mu * v, l * v - g), f"normal cone {k}": Dot(t, v - rho * g - rho * t)}
    terms = [
        (2 * rho * q / (l - mu), f"co-coercivity {k}"),
        (2 * rho, f"normal cone {k}"),
        (rho * abs(2 - rho * (l + mu)) / (l - mu), Norm2(left_over)),
        (rho**2, Norm2(t)),
    ]
    return assumed, terms


def _ascent_certificate(mu: Fraction, l: Fraction, rho: Fraction, K: Fraction) -> Certificate:  # noqa: E741
    m, s, h, steps = _exact(mu), _exact(l), _exact(rho), int(K)
    q2 = sympy.Max(1 - h * m, h * s - 1) ** 2
    v = start = vectors("d")[0]
    assumed: dict[str, Expr] = {}
    terms = []
    for k in range(steps):
        g, t = vectors(f"g{k} t{k}")
        more, parts = _ascent_terms(v, g, t, k, mu=m, l=s, rho=h)
        assumed |= more
        terms += [Term(q2 ** (steps - 1 - k) * c, fact) for c, fact in parts]
        v = v - h * g - h * t
    return assumed, Inequality("contraction", q2**steps * norm2(start) - norm2(v), tuple(terms))


def _monotone_problem(P: Any, mu: float, l: float, eta: float, K: float) -> Any:  # noqa: E741
    problem = P.PEP()
    operators = optional("PEPit.operators")
    field = problem.declare_function(operators.LipschitzStronglyMonotoneOperatorCheap, mu=mu, L=l)
    best, z = field.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((z - best) ** 2 <= 1)
    for _ in range(int(K)):
        z = z - eta * field.gradient(z)
    problem.set_performance_metric((z - best) ** 2)
    return problem


def _monotone_certificate(mu: Fraction, l: Fraction, eta: Fraction, K: Fraction) -> Certificate:  # noqa: E741
    m, s, h, steps = _exact(mu), _exact(l), _exact(eta), int(K)
    q2 = 1 - 2 * h * m + h**2 * s**2
    v = start = vectors("d")[0]
    assumed: dict[str, Expr] = {}
    terms = []
    for k in range(steps):
        (F,) = vectors(f"F{k},")
        assumed |= {f"monotone {k}": Dot(F, v) - m * norm2(v), f"Lipschitz {k}": s**2 * norm2(v) - norm2(F)}
        share = q2 ** (steps - 1 - k)
        terms += [Term(share * 2 * h, f"monotone {k}"), Term(share * h**2, f"Lipschitz {k}")]
        v = v - h * F
    return assumed, Inequality("contraction", q2**steps * norm2(start) - norm2(v), tuple(terms))


def _descent_problem(P: Any, kappa: float, l: float, eta: float, e_0: float) -> Any:  # noqa: E741
    problem = P.PEP()
    phi = problem.declare_function(optional("PEPit.functions").SmoothFunction, L=kappa * l)
    x, g = problem.set_initial_point(), P.Point()
    slope, value = phi.oracle(x)
    problem.add_constraint((g - slope) ** 2 <= (l * e_0) ** 2)
    problem.add_constraint(slope**2 <= 1)  # bounds the problem; its worst case does not depend on it
    problem.set_performance_metric(phi(x - eta * g) - value + eta / 2 * slope**2 + eta / 2 * (1 - kappa * l * eta) * g**2)
    return problem


def _descent_certificate(kappa: Fraction, l: Fraction, eta: Fraction, e_0: Fraction) -> Certificate:  # noqa: E741
    s, h, off = _exact(kappa * l), _exact(eta), _exact(l * e_0)
    (slope, g), (before, after) = vectors("G g"), symbols("Phi Phi_1", real=True)
    claimed = after - before + h / 2 * norm2(slope) + h / 2 * (1 - s * h) * norm2(g)
    assumed = {
        "smoothness": before - h * Dot(slope, g) + s * h**2 / 2 * norm2(g) - after,
        "inner error": off**2 - norm2(g - slope),
    }
    return assumed, Inequality("descent", h * off**2 / 2 - claimed, (Term(1, "smoothness"), Term(h / 2, "inner error")))


def _drift_problem(P: Any, kappa: float, eta: float, r_0: float, g_0: float) -> Any:
    """With l = 1. The follower moves towards its maximiser, which moves away by at most sqrt(kappa^2 - 1) eta g_0."""
    problem = P.PEP()
    loss, ball, best, y = _follower(P, problem, 1 / kappa, 1.0)
    later = P.Point()
    problem.add_constraint((y - best) ** 2 <= r_0**2)
    problem.add_constraint((best - later) ** 2 <= (kappa**2 - 1) * (eta * g_0) ** 2)
    y, _, _ = _steps().proximal_step(y - loss.gradient(y), ball, 1.0)
    problem.set_performance_metric((y - later) ** 2)
    return problem


def _drift_certificate(kappa: Fraction, eta: Fraction, r_0: Fraction, g_0: Fraction) -> Certificate:
    k, m, one = _exact(kappa), _exact(1 / kappa), sympy.Integer(1)
    near, away = _exact(r_0) ** 2, (k**2 - 1) * (_exact(eta) * _exact(g_0)) ** 2
    d, c, g, t = vectors("d c g t")  # c: how the maximiser moves
    q, a, p = 1 - m, 1 / (k - 1), d - g - t  # Young's inequality with 1 + a = 1/q
    assumed, parts = _ascent_terms(d, g, t, 0, mu=m, l=one, rho=one)
    assumed |= {"follower before": near - norm2(d), "maximiser moves": away - norm2(c)}
    terms = [Term(a, Norm2(p - c / a)), Term(q, "follower before"), Term(k, "maximiser moves")]
    terms += [Term(w / q, fact) for w, fact in parts]
    return assumed, Inequality("drift", q * near + k * away - norm2(p + c), tuple(terms))


def _sharpest_drift(kappa: Fraction, root: Fraction) -> Parameters:
    """eta = 1/kappa^2 (l = 1, root = sqrt(kappa^2 - 1)) and the slope at which Young's inequality is an equality."""
    return {"kappa": kappa, "eta": 1 / kappa**2, "r_0": Fraction(1), "g_0": kappa / root}


def _gradient_descent_problem(P: Any, L: float, N: float) -> Any:
    """PEPit's own example, as in its examples/nonconvex_optimization/gradient_descent.py."""
    problem = P.PEP()
    phi = problem.declare_function(optional("PEPit.functions").SmoothFunction, L=L)
    x = problem.set_initial_point()
    slope, first = phi.oracle(x)
    problem.set_performance_metric(slope**2)
    value = first
    for _ in range(int(N)):
        x = x - slope / L
        slope, value = phi.oracle(x)
        problem.set_performance_metric(slope**2)
    problem.set_initial_condition(first - value <= 1)
    return problem


def _smoothness(i: int, j: int, n: int, L: Rational) -> Expr:
    """What an L-smooth function satisfies at steps i and j of gradient descent (Taylor et al. 2017, Theorem 3.10)."""
    slopes, values = vectors(f"g:{n + 1}"), symbols(f"f:{n + 1}", real=True)
    between = sympy.Add(*slopes[i:j]) / L if i < j else -sympy.Add(*slopes[j:i]) / L  # x_i - x_j
    a, b = slopes[i], slopes[j]
    return values[i] - values[j] + L / 4 * norm2(between) - Dot(a + b, between) / 2 - norm2(a - b) / (4 * L)


def _gradient_descent_certificate(L: Fraction, N: Fraction) -> Certificate:
    s, n = _exact(L), int(N)
    tau = 4 * s / (3 * n)
    moves = {(k, k + 1): tau for k in range(n)}
    weights = [tau * (2 if k == 0 else 1 if k == n else 3) / (4 * s) for k in range(n + 1)]
    return _least_gradient(tau, moves, weights, s)


def _least_gradient(
    tau: Rational, moves: Mapping[tuple[int, int], Rational], weights: Sequence[Any], L: Rational
) -> Certificate:
    """tau (f_0 - f_n) >= m = min |g_k|^2 from multipliers of smoothness and of |g_k|^2 >= m; the rest as squares, signs as
    they come out."""
    n = len(weights) - 1
    slopes, values, m = vectors(f"g:{n + 1}"), symbols(f"f:{n + 1}", real=True), Symbol("m", real=True)
    assumed = {f"smooth {i} {j}": _smoothness(i, j, n, L) for i, j in moves}
    assumed |= {f"least {k}": norm2(slopes[k]) - m for k in range(n + 1)}
    terms = [Term(c, f"smooth {i} {j}") for (i, j), c in moves.items()]
    terms += [Term(w, f"least {k}") for k, w in enumerate(weights)]
    gap = tau * (values[0] - values[n]) - m
    return assumed, Inequality("rate", gap, (*terms, *_left_over(gap, terms, assumed, slopes)))


def _inexact_problem(P: Any, L: float, eta: float, e: float, N: float) -> Any:
    problem = P.PEP()
    phi = problem.declare_function(optional("PEPit.functions").SmoothFunction, L=L)
    x, slopes = problem.set_initial_point(), []
    first = phi(x)
    for _ in range(int(N)):
        slopes.append(phi.gradient(x))
        x, _, _ = _steps().inexact_gradient_step(x, phi, eta, e)
    problem.set_initial_condition(first - phi(x) <= 1)
    problem.set_performance_metric(sum(s**2 for s in slopes) / len(slopes))
    return problem


def _inexact_certificate(L: Fraction, eta: Fraction, e: Fraction, N: Fraction) -> Certificate:
    s, h, off, n = _exact(L), _exact(eta), _exact(e), int(N)
    values = symbols(f"f:{n + 1}", real=True)
    pairs = [vectors(f"G{k} g{k}") for k in range(n)]
    assumed, terms = {"start": 1 - (values[0] - values[n])}, [Term(2 / (h * n), "start")]
    for k, (slope, g) in enumerate(pairs):
        assumed[f"smoothness {k}"] = values[k] - h * Dot(slope, g) + s * h**2 / 2 * norm2(g) - values[k + 1]
        assumed[f"inner error {k}"] = off**2 - norm2(g - slope)
        terms += [Term(2 / (h * n), f"smoothness {k}"), Term(Rational(1, n), f"inner error {k}")]
        terms += [Term((1 - s * h) / n, Norm2(g))] if s * h < 1 else []
    gap = 2 / (h * n) + off**2 - sympy.Add(*(norm2(slope) for slope, _ in pairs)) / n
    return assumed, Inequality("mean gradient", gap, tuple(terms))


def _moreau_problem(P: Any, l: float, eta: float, delta: float, G: float) -> Any:  # noqa: E741
    """Phi and h = f(., y) <= Phi, both plus (l/2)|.|^2 and so convex."""
    problem = P.PEP()
    convex = optional("PEPit.functions").ConvexFunction
    upper, lower = problem.declare_function(convex), problem.declare_function(convex)
    x = problem.set_initial_point()
    g = lower.gradient(x) - l * x

    def prox(z: Any) -> tuple[Any, Any]:
        near, value = P.Point(), P.Expression()
        upper.add_point((near, 2 * l * (z - near) + l * near, value))
        problem.add_constraint(lower(near) <= value)
        return near, value - l / 2 * near**2 + l * (near - z) ** 2

    near, envelope = prox(x)
    _, after = prox(x - eta * g)
    problem.add_constraint(upper(x) - lower(x) >= 0)
    problem.add_constraint(upper(x) - lower(x) <= delta)
    problem.add_constraint(g**2 <= G**2)
    problem.set_performance_metric(after - envelope + 2 * eta * l**2 * (near - x) ** 2)
    return problem


def _moreau_certificate(l: Fraction, eta: Fraction, delta: Fraction, G: Fraction) -> Certificate:  # noqa: E741
    s, h = _exact(l), _exact(eta)
    w, g = vectors("w g")  # w = prox(x) - x
    at_x, at_prox, f_x, f_prox, after = symbols("Phi_x Phi_prox f_x f_prox after", real=True)
    assumed = {
        "envelope": at_prox + s * norm2(w + h * g) - after,
        "weak convexity": f_prox - f_x - Dot(g, w) + s / 2 * norm2(w),
        "maximum": at_prox - f_prox,
        "prox": at_x - at_prox - 3 * s / 2 * norm2(w),
        "inner error": _exact(delta) - (at_x - f_x),
        "slope": _exact(G) ** 2 - norm2(g),
    }
    claimed = after - (at_prox + s * norm2(w)) + 2 * h * s**2 * norm2(w)
    terms = [Term(1, "envelope"), Term(s * h**2, "slope")]
    terms += [Term(2 * s * h, name) for name in ("weak convexity", "maximum", "prox", "inner error")]
    gap = 2 * s * h * _exact(delta) + s * h**2 * _exact(G) ** 2 - claimed
    return assumed, Inequality("Moreau step", gap, tuple(terms))


@dataclass(frozen=True)
class Statement:
    """One statement that an SDP represents.

    Attributes:
        name: of the row.
        theorem: the theorem of this package it belongs to; empty: a textbook case beside them.
        says: what is compared, in words.
        bound: ours.
        fixed: values of the bound's symbols that are no parameters (the normalised start).
        tight: whether ours should equal the SDP's value; otherwise it may only lie above.
        squared: the SDP speaks of squared distances.
        problem: (PEPit, parameters) -> the SDP.
        certificate: parameters -> the exact proof of ours at these numbers.
        choices: parameters; the first and the middle one are the fast check's.
    """

    name: str
    theorem: str
    says: str
    bound: Bound
    fixed: Mapping[str, float]
    tight: bool
    squared: bool
    problem: Callable[..., Any]
    certificate: Callable[..., Certificate]
    choices: tuple[Parameters, ...]

    def ours(self, choice: Parameters) -> float:
        """The bound's value."""
        needed = {str(s) for s in self.bound.expression.free_symbols}
        return float(self.bound(**{k: float(v) for k, v in choice.items() if k in needed}, **self.fixed))


def _choices(**ranges: Sequence[str | int]) -> tuple[Parameters, ...]:
    return tuple(dict(zip(ranges, map(Fraction, values), strict=True)) for values in product(*ranges.values()))


def _steps_of(mu: Fraction, l: Fraction) -> tuple[Fraction, ...]:  # noqa: E741
    return 1 / (2 * l), 1 / l, 2 / (l + mu), Fraction(5, 3) / l, Fraction(7, 4) / l


STATEMENTS = (
    Statement(
        "projected ascent", "projected-ascent", "distance to the maximiser after K steps, Y any convex set", CONTRACTION,
        {"r_0": 1.0}, True, True, _ascent_problem, _ascent_certificate,
        tuple(
            {"mu": c["mu"], "l": c["l"], "rho": step, "K": c["K"]}
            for c in _choices(K=(1, 2, 3), mu=("1/10", "1/3"), l=(1, 3))
            for step in _steps_of(c["mu"], c["l"])[:4]
        ),
    ),
    Statement(
        "simultaneous steps, monotone", "bilinear", "z = (x, y), f mu-strongly convex-concave and l-smooth; mu = 0: divergence",
        MONOTONE, {"r_0": 1.0}, True, True, _monotone_problem, _monotone_certificate,
        _choices(mu=("1/10", "1/2", 0), l=(1,), eta=("1/10", "1/2"), K=(1, 2, 3)),
    ),
    Statement(
        "one descent", "gradient-descent-ascent", "one step of the leader, Phi kappa l-smooth, |g - grad Phi| <= l e_0",
        DESCENT, {}, True, False, _descent_problem, _descent_certificate,
        _choices(kappa=(1, 4), l=(1,), eta=("1/8", "1/4"), e_0=("1/10", "1/2")),
    ),
    Statement(
        "one drift", "gradient-descent-ascent", "one step of the follower at 1/l, whose maximiser moves away by "
        "sqrt(kappa^2 - 1) eta g_0", DRIFT, {}, True, False, _drift_problem, _drift_certificate,
        tuple(
            _sharpest_drift(Fraction(k), Fraction(root)) for k, root in (("5/3", "4/3"), ("13/5", "12/5"), ("101/20", "99/20"))
        ),
    ),
    Statement(
        "gradient descent", "", "least squared gradient in N steps of 1/L, Phi L-smooth, Phi(x_0) - Phi(x_N) <= D",
        GRADIENT_DESCENT, {"D": 1.0}, True, False, _gradient_descent_problem, _gradient_descent_certificate,
        _choices(L=(1,), N=(1, 2, 5, 10)),
    ),
    Statement(
        "inner errors, eta = 1/L", "", "mean squared gradient of the leader in N steps, |g_t - grad Phi| <= e", INEXACT,
        {"D": 1.0}, True, False, _inexact_problem, _inexact_certificate,
        _choices(L=(1,), eta=(1,), e=("1/10", "1/2"), N=(1, 2, 4)),
    ),
    Statement(
        "inner errors, eta < 1/L", "", "the same with shorter steps: not sharp, as the term in |g|^2 is dropped", INEXACT,
        {"D": 1.0}, False, False, _inexact_problem, _inexact_certificate,
        _choices(L=(1,), eta=("1/2",), e=("1/10", "1/2"), N=(1, 2, 4)),
    ),
    Statement(
        "Moreau envelope", "moreau-envelope", "one subgradient step, f(., y) l-weakly convex, |g| <= G, Phi - f(x, y) <= delta",
        MOREAU, {}, True, False, _moreau_problem, _moreau_certificate,
        _choices(l=(1, 2), eta=("1/10", "1/4"), delta=(0, "1/10"), G=(1,)),
    ),
)  # fmt: skip
"""Every statement of the theory that a performance-estimation SDP represents."""


def cross_check(effort: Effort = FULL, solver: str = "CLARABEL") -> list[dict[str, Any]]:
    """PEPit's value beside ours.

    Args:
        effort: anything but `FULL` takes two or three choices of parameters a statement.
        solver: cvxpy's name of it.

    Returns:
        One dict a row: statement, theorem, says, parameters (text), pepit, ours, difference ((pepit - ours)/ours), tight
        (whether the two should agree), agrees, status, solve_seconds (PEPit's solve, with its modelling), sdp_seconds (the
        solver alone), verify_seconds (the stand-alone verifier on the exact proof of the same inequality).

    Raises:
        ModuleNotFoundError: without the extra ``pep``.
        Rejected: an exact proof is refused.
    """
    P = optional("PEPit")
    rows = []
    for statement in STATEMENTS:
        chosen = statement.choices if effort.name == FULL.name else statement.choices[:: max(1, len(statement.choices) // 2)]
        for choice in chosen:
            problem = statement.problem(P, **{k: float(v) for k, v in choice.items()})
            start = time.perf_counter()
            value = problem.solve(verbose=0, solver=solver)
            seconds = time.perf_counter() - start
            value = sqrt(value) if statement.squared else float(value)
            ours = statement.ours(choice)
            difference = (value - ours) / ours if ours else value
            rows.append(
                {
                    "statement": statement.name,
                    "theorem": statement.theorem,
                    "says": statement.says,
                    "parameters": {k: str(v) for k, v in choice.items()},
                    "pepit": value,
                    "ours": ours,
                    "difference": difference,
                    "tight": statement.tight,
                    "agrees": abs(difference) <= AGREEMENT if statement.tight else difference <= AGREEMENT,
                    "status": str(problem.wrapper.prob.status),
                    "solve_seconds": seconds,
                    "sdp_seconds": float(problem.wrapper.prob.solver_stats.solve_time),
                    "verify_seconds": _verification_seconds(exact_proof(statement, choice)),
                }
            )
    return rows


AGREEMENT = 1e-4
"""Relative difference that is put down to the solver."""


def exact_proof(statement: Statement, choice: Parameters) -> dict[str, Any]:
    """Our bound's proof at these numbers, for `convergence.verifier`."""
    assumed, step = statement.certificate(**choice)
    return document(statement.name, assumed, [step])


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


# --- From duals to proofs --------------------------------------------------------------------------------------------------


def sum_of_squares(matrix: Sequence[Sequence[Fraction]]) -> list[tuple[Fraction, list[Fraction]]]:
    """Write a quadratic form as a sum of multiples of squares, exactly (Lagrange's reduction, an LDL^T).

    Args:
        matrix: symmetric, of fractions.

    Returns:
        (multiplier, coefficients of the linear form); the form is non-negative exactly if no multiplier is negative.
    """
    S, n = [list(row) for row in matrix], len(matrix)
    parts = []
    while any(any(row) for row in S):
        k = next((i for i in range(n) if S[i][i]), None)
        if k is None:  # 2 S_ij x_i x_j = (S_ij/2) ((x_i + x_j)^2 - (x_i - x_j)^2)
            i, j = next((i, j) for i in range(n) for j in range(n) if S[i][j])
            half = S[i][j] / 2
            pair = [(half, [Fraction(k in (i, j)) for k in range(n)])]
            pair.append((-half, [Fraction((k == i) - (k == j)) for k in range(n)]))
        else:
            pair = [(S[k][k], [S[k][j] / S[k][k] for j in range(n)])]
        for c, v in pair:
            S = [[S[i][j] - c * v[i] * v[j] for j in range(n)] for i in range(n)]
        parts += pair
    return parts


def _gram(expression: Expr, basis: Sequence[Symbol]) -> list[list[Fraction]]:
    """The matrix of a quadratic form in formal vectors, which must hold nothing else."""
    expanded = sympy.expand(expand_dots(expression))
    found = expanded.as_coefficients_dict()
    matrix = [[Fraction(0)] * len(basis) for _ in basis]
    for i, j in product(range(len(basis)), repeat=2):
        c: Any = found.pop(Dot(*sorted((basis[i], basis[j]), key=str)), sympy.Integer(0)) if i <= j else sympy.Integer(0)
        share = Fraction(int(c.p), int(c.q))
        if i == j:
            matrix[i][i] += share
        elif share:
            matrix[i][j] += share / 2
            matrix[j][i] += share / 2
    if any(found.values()):
        raise ValueError(f"not a quadratic form in {basis}: {expanded}")
    return matrix


def _left_over(gap: Expr, terms: Sequence[Term], assumed: Mapping[str, Expr], basis: Sequence[Symbol]) -> list[Term]:
    """What the terms leave of the gap, as multiples of squares."""
    rest = gap - sympy.Add(*(t.multiplier * assumed[str(t.facts[0])] for t in terms))
    return [
        Term(_exact(c), Norm2(sympy.Add(*(_exact(a) * b for a, b in zip(form, basis, strict=True)))))
        for c, form in sum_of_squares(_gram(rest, basis))
    ]


CHOICES = tuple(
    {"mu": Fraction(m), "l": Fraction(s), "rho": step}
    for m, s in (("1/2", 1), ("1/4", 1), ("1/10", 1), ("1/20", 1), ("1/3", 3), (1, 2))
    for step in _steps_of(Fraction(m), Fraction(s))
)
"""Parameters of the stored certificates of projected ascent."""
RELAXED = Fraction(1, 10_000)


def certificate(mu: Fraction, l: Fraction, rho: Fraction, solver: str = "CLARABEL") -> dict[str, Any]:  # noqa: E741
    """Prove a rate of projected ascent (K = 1) from the solver's duals alone: no closed form goes in.

    PEPit gives a squared rate; relaxed by 1e-4 and rounded up it is a fraction. At that rate the multipliers which leave
    the most positive definite rest are rounded to the smallest denominators that keep the rest a sum of squares.

    Returns:
        parameters, pepit (its squared rate), rate (the fraction that is proved), closed (ours, q^2), excess (rate/closed - 1),
        duals and closed_duals (PEPit's multipliers beside 2 rho q and 2 rho), multipliers (of co-coercivity and the normal
        cone), denominator, seconds (of PEPit, of rounding), assumptions and step (for `as_document`).

    Raises:
        Rejected: no rounding up to a denominator of 10^6 is a proof.
    """
    P, cp = optional("PEPit"), optional("cvxpy")
    np = importlib.import_module("numpy")
    start = time.perf_counter()
    problem = _ascent_problem(P, float(mu), float(l), float(rho), 1.0)
    tau = float(problem.solve(verbose=0, solver=solver))
    solved = time.perf_counter()
    smooth, normal = (f.get_class_constraints_duals() for f in P.Function.list_of_functions[:2])
    duals = [smooth["smoothness_strong_convexity"].to_numpy().sum() / 2, normal["convexity"].to_numpy().sum() / 2]

    rate = Fraction(-int(-tau * (1 + float(RELAXED)) * 10**6 // 1), 10**6)
    d, g, t = vectors("d g t")
    m, s, h = _exact(mu), _exact(l), _exact(rho)
    p = d - h * g - h * t
    name = ", ".join(f"{k} = {v}" for k, v in (("mu", mu), ("l", l), ("rho", rho)))
    assumed = {f"co-coercivity: {name}": Dot(g - m * d, s * d - g), f"normal cone: {name}": Dot(t, p)}
    gap = _exact(rate) * norm2(d) - norm2(p)
    goal, *facts = (np.array(_gram(form, (d, g, t)), dtype=float) for form in (gap, *assumed.values()))
    weights = cp.Variable(2, nonneg=True)
    least = cp.lambda_min(goal - sum(weights[i] * facts[i] for i in range(2)))
    cp.Problem(cp.Maximize(least)).solve(solver=solver)
    for denominator in (10**k for k in range(1, 7)):
        rounded = [Fraction(float(w)).limit_denominator(denominator) for w in weights.value]
        terms = [Term(_exact(w), fact) for w, fact in zip(rounded, assumed, strict=True)]
        terms += _left_over(gap, terms, assumed, (d, g, t))
        if all(term.multiplier >= 0 for term in terms):
            break
    else:
        raise Rejected(f"projected ascent, {name}: no rounding of the duals leaves a sum of squares")
    written = document("projected-ascent", assumed, [Inequality(name, gap, tuple(terms))])
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
        "multipliers": [str(w) for w in rounded],
        "denominator": denominator,
        "seconds": [solved - start, time.perf_counter() - solved],
        "assumptions": written["assumptions"],
        "step": written["steps"][0],
    }


def certificates(choices: Sequence[Parameters] = CHOICES) -> list[dict[str, Any]]:
    """`certificate` for every choice."""
    return [certificate(choice["mu"], choice["l"], choice["rho"]) for choice in choices]


def as_document(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Certificates as one file for the stand-alone verifier, a step a choice; what else is known of them beside it."""
    assumed: dict[str, str] = {}
    for one in found:
        assumed |= one["assumptions"]
    return {
        "theorem": "projected-ascent",
        "vectors": ["d", "g", "t"],
        "positive": [],
        "nonnegative": [],
        "real": [],
        "assumptions": assumed,
        "steps": [one["step"] for one in found],
        "choices": [{k: v for k, v in one.items() if k not in ("assumptions", "step", "seconds")} for one in found],
    }


def stored(name: str = "projected_ascent") -> dict[str, Any]:
    """A stored certificate, for the stand-alone verifier.

    Args:
        name: "projected_ascent" (an `as_document`), "gradient_descent" (the `false_bound` record's proof of the truth) or
            "false_bound" (its false proof, and the record under "record").
    """
    return json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))


# --- A false bound ---------------------------------------------------------------------------------------------------------


def worst_descent(n: int) -> tuple[Fraction, Fraction]:
    """n steps of gradient descent, exactly, on the worst 1-smooth function: f' = 1 - (distance to the nearest integer).

    Returns:
        (min |f'(x_t)|^2 over t = 0 .. n, f(x_0) - f(x_n)), from x_0 = 0.
    """
    x, slopes, fallen = Fraction(0), [], Fraction(0)
    for step in range(n + 1):
        slope = _worst_slope(x)
        slopes.append(slope)
        if step < n:
            fallen += _fall(x - slope, x)
            x -= slope
    return min(s**2 for s in slopes), fallen


def _worst_slope(x: Fraction) -> Fraction:
    return 1 - abs(x - round(x))


def _fall(low: Fraction, high: Fraction) -> Fraction:
    """The integral of the slope, exact: it is linear between half-integers."""
    inner = [Fraction(k, 2) for k in range(int(2 * low // 1), int(2 * high // 1) + 2)]
    at = [low, *(k for k in inner if low < k < high), high]
    return sum(((b - a) * (_worst_slope(a) + _worst_slope(b)) / 2 for a, b in pairwise(at)), Fraction(0))


def false_bound(solver: str = "SCS", steps: Sequence[int] = (1, 2, 3, 4, 5, 6, 8)) -> dict[str, Any]:
    """Catch a solver below the truth, and let the exact check tell.

    PEPit's own example: N steps of 1/L on an L-smooth function (L = 1) give min |f'|^2 <= tau (f(x_0) - f(x_N)). The truth is
    tau = 4/(3 N) (Abbaszadehpeivasti, de Klerk and Zamani 2022), attained by `worst_descent`. SCS is what PEPit uses where
    no solver is named and MOSEK is not installed.

    Args:
        solver: cvxpy's name of it.
        steps: the N tried; the one with the falsest bound is returned.

    Returns:
        solver, status, N, tau (the solver's), primal (its lower bound), true (text), below (1 - tau/true), instance (its
        squared gradient and decrease, text, and violation: the first over tau times the second, minus 1), refused (the
        solver's duals as a proof at tau: document and the verifier's reason), proved (the same duals rounded to denominators
        of at most 60, at the true tau: document, steps).

    Raises:
        ValueError: no bound of this solver is false, by more than 1e-8, for these N.
    """
    P = optional("PEPit")
    falsest: dict[str, Any] = {"below": 1e-8}
    for n in steps:
        problem = _gradient_descent_problem(P, 1.0, float(n))
        tau = float(problem.solve(verbose=0, solver=solver))
        true = Fraction(4, 3 * n)
        gradient, fallen = worst_descent(n)
        violation = float(gradient / (Fraction(tau) * fallen) - 1)
        if float(1 - Fraction(tau) / true) <= falsest["below"] or violation <= 0:
            continue
        duals = P.Function.list_of_functions[0].get_class_constraints_duals()["smoothness"].to_numpy()
        # PEPit keeps the multipliers of its performance metrics with the constraints it made of them, in order.
        weights = [c.eval_dual() for c in problem._list_of_prepared_constraints[: n + 1]]
        falsest = {
            "solver": solver,
            "status": str(problem.wrapper.prob.status),
            "N": n,
            "tau": tau,
            "primal": float(problem.objective.eval()),
            "true": str(true),
            "below": float(1 - Fraction(tau) / true),
            "instance": {"gradient": str(gradient), "decrease": str(fallen), "violation": violation},
            "refused": _judged(_from_duals(Fraction(tau), duals, weights, 10**6)),
            "proved": _judged(_from_duals(true, duals, weights, 60)),
        }
    if "tau" not in falsest:
        raise ValueError(f"{solver} gave no false bound for N in {tuple(steps)}")
    return falsest


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
    flow = tau
    for k in range(n):  # what f_k still needs goes into the move from k to k + 1
        flow += sum((c for (_, j), c in moves.items() if j == k and _ != k - 1), Fraction(0))
        flow -= sum((c for (i, j), c in moves.items() if i == k and j != k + 1), Fraction(0))
        moves[k, k + 1] = flow
    moves = {pair: c for pair, c in moves.items() if c}
    exact_moves = {pair: _exact(c) for pair, c in moves.items()}
    assumed, step = _least_gradient(_exact(tau), exact_moves, [_exact(w) for w in rounded], sympy.Integer(1))
    return document(f"gradient descent, N = {n}, tau = {float(tau)}", assumed, [step])


def _judged(proof: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"document": proof, "accepted": True, "steps": verifier.verify(proof), "reason": ""}
    except verifier.Rejected as error:
        return {"document": proof, "accepted": False, "steps": 0, "reason": str(error)}


# --- Printing --------------------------------------------------------------------------------------------------------------


def write() -> None:
    """Make the stored files anew."""
    for name, record in _records().items():
        write_whole(STORED / f"{name}.json", json.dumps(record, indent=1) + "\n")


def _records() -> dict[str, dict[str, Any]]:
    false = false_bound()
    proved, refused = (false[key].pop("document") for key in ("proved", "refused"))
    return {
        "projected_ascent": as_document(certificates()),
        "gradient_descent": proved,
        "false_bound": refused | {"record": false},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m convergence.pep", description="PEPit's values and duals beside our bounds."
    )
    parser.add_argument("--fast", action="store_true", help="fewer parameters")
    parser.add_argument("--write", action="store_true", help="make convergence/pep_certificates/ anew, and stop")
    options = parser.parse_args(arguments)
    try:
        if options.write:
            write()
            return 0
        _print_cross_check(cross_check(FAST if options.fast else FULL))
        _print_certificates(certificates(CHOICES[::6] if options.fast else CHOICES))
        _print_false_bound(false_bound())
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        print(f"stored certificates, without a solver: {verifier.verify(stored())} accepted")
        return 1
    return 0


def _print_cross_check(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'statement':36}{'parameters':38}{'PEPit':>13}{'ours':>13}{'difference':>12}  {'SDP':>8}{'exact':>9}")
    for row in rows:
        parameters = " ".join(f"{k}={v}" for k, v in row["parameters"].items())
        mark = "=" if row["tight"] and row["agrees"] else "<=" if row["agrees"] else "DIFFERS"
        mark += "" if row["status"] == "optimal" else f" ({row['status']})"
        times = f"{row['solve_seconds'] * 1e3:6.0f}ms{row['verify_seconds'] * 1e3:7.2f}ms"
        values = f"{row['pepit']:13.8f}{row['ours']:13.8f}{row['difference']:12.1e}"
        print(f"{row['statement']:36}{parameters:38}{values}  {times} {mark}")
    for name, why in NOT_REPRESENTABLE.items():
        print(f"not representable: {name}. {why}")


def _print_certificates(found: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'exact certificates from duals':36}{'rate proved':>18}{'above q^2':>11}{'denominator':>13}{'duals off by':>14}")
    for one in found:
        off = max(abs(a - b) for a, b in zip(one["duals"], one["closed_duals"], strict=True))
        parameters = " ".join(f"{k}={v}" for k, v in one["parameters"].items())
        print(f"{parameters:36}{one['rate']:>18}{one['excess']:11.1e}{one['denominator']:13d}{off:14.1e}")
    seconds = [sum(one["seconds"][k] for one in found) for k in range(2)]
    print(f"{len(found)} of {len(found)} exact; {seconds[0]:.2f} s of PEPit, {seconds[1]:.2f} s of rounding")


def _print_false_bound(record: dict[str, Any]) -> None:
    print(
        f"\nfalse bound: {record['solver']} ({record['status']}) says tau <= {record['tau']:.10f} at N = {record['N']}, ",
        end="",
    )
    print(f"the truth is {record['true']}: {record['below']:.1e} below it")
    instance = record["instance"]
    print(f"  an exact instance has |f'|^2 = {instance['gradient']} at a decrease of {instance['decrease']}: ", end="")
    print(f"{instance['violation']:.1e} above the bound")
    print(f"  its duals as a proof of that bound: refused, {record['refused']['reason'][:100]}")
    print(f"  its duals, rounded, as a proof of {record['true']}: {'accepted' if record['proved']['accepted'] else 'refused'}")


if __name__ == "__main__":
    sys.exit(main())
