"""Statements on distances: the follower's steps, its moving target, and both players at once."""
# ruff: noqa: E741 - l is the theory's letter

from __future__ import annotations

from fractions import Fraction
from typing import Any

from sympy import Expr, Max, Rational, sqrt, symbols

from convergence.bound import Bound
from convergence.certificate import Dot, norm2, vectors
from convergence.pep.statement import Facts, Parameters, Statement, grid
from convergence.theorems.gradient_descent_ascent import DRIFT
from convergence.theorems.projected_ascent import CONTRACTION


def ascent_problem(P: Any, mu: float, l: float, rho: float, K: float) -> Any:
    """K steps of projected ascent from distance 1 to the maximiser; squared."""
    problem = P.PEP()
    loss, ball, best, y = _follower(P, problem, mu, l)
    problem.set_initial_condition((y - best) ** 2 <= 1)
    for _ in range(int(K)):
        y, _, _ = P.primitive_steps.proximal_step(y - rho * loss.gradient(y), ball, rho)
    problem.set_performance_metric((y - best) ** 2)
    return problem


def _follower(P: Any, problem: Any, mu: float, l: float) -> tuple[Any, Any, Any, Any]:
    """-f(x, .), the indicator of Y, its minimiser and a start."""
    loss = problem.declare_function(P.functions.SmoothStronglyConvexFunction, mu=mu, L=l)
    ball = problem.declare_function(P.functions.ConvexIndicatorFunction)
    return loss, ball, (loss + ball).stationary_point(), problem.set_initial_point()


def ascent_facts(v: Expr, g: Expr, t: Expr, *, mu: Any, l: Any, rho: Any) -> list[tuple[str, Expr, Expr]]:
    """Of one step from v = y - y*, with the theorem's multipliers: they leave squares of q^2 |v|^2 - |v - rho g - rho t|^2."""
    q = Max(1 - rho * mu, rho * l - 1)
    return [
        ("co-coercivity", 2 * rho * q / (l - mu), Dot(g - mu * v, l * v - g)),
        ("normal cone", 2 * rho, Dot(t, v - rho * g - rho * t)),
    ]


def _ascent_proof(mu: Rational, l: Rational, rho: Rational, K: Rational) -> tuple[Expr, Facts]:
    q2 = Max(1 - rho * mu, rho * l - 1) ** 2
    v = start = vectors("d")[0]
    facts: dict[str, tuple[Expr, Expr]] = {}
    for k in range(int(K)):
        g, t = vectors(f"g{k} t{k}")
        facts |= {f"{name} {k}": (q2 ** (K - 1 - k) * c, fact) for name, c, fact in ascent_facts(v, g, t, mu=mu, l=l, rho=rho)}
        v = v - rho * g - rho * t
    return q2**K * norm2(start) - norm2(v), facts


def _drift_problem(P: Any, kappa: float, eta: float, r_0: float, g_0: float) -> Any:
    """With l = 1. The follower moves towards its maximiser, which moves away by at most sqrt(kappa^2 - 1) eta g_0."""
    problem = P.PEP()
    loss, ball, best, y = _follower(P, problem, 1 / kappa, 1.0)
    later = P.Point()
    problem.add_constraint((y - best) ** 2 <= r_0**2)
    problem.add_constraint((best - later) ** 2 <= (kappa**2 - 1) * (eta * g_0) ** 2)
    y, _, _ = P.primitive_steps.proximal_step(y - loss.gradient(y), ball, 1.0)
    problem.set_performance_metric((y - later) ** 2)
    return problem


def _drift_proof(kappa: Rational, eta: Rational, r_0: Rational, g_0: Rational) -> tuple[Expr, Facts]:
    near, away = r_0**2, (kappa**2 - 1) * (eta * g_0) ** 2
    d, c, g, t = vectors("d c g t")  # c: how the maximiser moves
    q = 1 - 1 / kappa  # Young's inequality with 1 + a = 1/q
    step = ascent_facts(d, g, t, mu=1 / kappa, l=Rational(1), rho=Rational(1))
    facts = {name: (weight / q, fact) for name, weight, fact in step}
    facts |= {"follower before": (q, near - norm2(d)), "maximiser moves": (kappa, away - norm2(c))}
    return q * near + kappa * away - norm2(d - g - t + c), facts


def _sharpest_drift(kappa: str, root: str) -> Parameters:
    """eta = 1/kappa^2 (l = 1, root = sqrt(kappa^2 - 1)) and the slope at which Young's inequality is an equality."""
    k = Fraction(kappa)
    return {"kappa": k, "eta": 1 / k**2, "r_0": Fraction(1), "g_0": k / Fraction(root)}


def _monotone_problem(P: Any, mu: float, l: float, eta: float, K: float) -> Any:
    problem = P.PEP()
    field = problem.declare_function(P.operators.LipschitzStronglyMonotoneOperatorCheap, mu=mu, L=l)
    best, z = field.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((z - best) ** 2 <= 1)
    for _ in range(int(K)):
        z = z - eta * field.gradient(z)
    problem.set_performance_metric((z - best) ** 2)
    return problem


def _monotone_proof(mu: Rational, l: Rational, eta: Rational, K: Rational) -> tuple[Expr, Facts]:
    q2 = 1 - 2 * eta * mu + eta**2 * l**2
    v = start = vectors("d")[0]
    facts = {}
    for k in range(int(K)):
        (F,), share = vectors(f"F{k},"), q2 ** (K - 1 - k)
        facts[f"monotone {k}"] = share * 2 * eta, Dot(F, v) - mu * norm2(v)
        facts[f"Lipschitz {k}"] = share * eta**2, l**2 * norm2(v) - norm2(F)
        v = v - eta * F
    return q2**K * norm2(start) - norm2(v), facts


def step_sizes(mu: Fraction, l: Fraction) -> tuple[Fraction, ...]:
    """Of both kinds: up to 2/(l + mu) the rate is 1 - rho mu, beyond it rho l - 1."""
    return 1 / (2 * l), 1 / l, 2 / (l + mu), Fraction(5, 3) / l, Fraction(7, 4) / l


_l, _mu, _eta, _K, _r_0 = symbols("l mu eta K r_0", positive=True)

ASCENT = Statement(
    "projected ascent", "projected-ascent", "distance to the maximiser after $K$ steps, $Y$ any convex set", CONTRACTION,
    ascent_problem, _ascent_proof,
    tuple(
        {"mu": c["mu"], "l": c["l"], "rho": step, "K": c["K"]}
        for c in grid(K=(1, 2, 3), mu=("1/10", "1/3"), l=(1, 3))
        for step in step_sizes(c["mu"], c["l"])[:4]
    ),
    squared=True,
)  # fmt: skip
MONOTONE = Statement(
    "simultaneous steps, monotone", "bilinear", r"$f$ $\mu$-strongly convex-concave, $l$-smooth; $\mu = 0$: divergence",
    Bound("monotone", r"\|z_K - z^*\|", sqrt(1 - 2 * _eta * _mu + _eta**2 * _l**2) ** _K * _r_0),
    _monotone_problem, _monotone_proof, grid(mu=("1/10", "1/2", 0), l=(1,), eta=("1/10", "1/2"), K=(1, 2, 3)), squared=True,
)  # fmt: skip
FOLLOWER_DRIFT = Statement(
    "one drift", "gradient-descent-ascent", r"one step of the follower at $1/l$, whose maximiser moves away by "
    r"$\sqrt{\kappa^2 - 1}\,\eta g_0$", DRIFT, _drift_problem, _drift_proof,
    tuple(_sharpest_drift(*pair) for pair in (("5/3", "4/3"), ("13/5", "12/5"), ("101/20", "99/20"))),
)  # fmt: skip
