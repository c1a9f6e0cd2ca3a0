"""Gradient descent on a smooth function, PEPit's own example: its problem, its proof, and its worst function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from sympy import Add, Expr, Rational, Symbol, symbols

from convergence.bound import Bound
from convergence.certificate import Dot, norm2, vectors
from convergence.pep.statement import Facts, Statement, grid


def problem(P: Any, L: float, N: float) -> Any:
    """As in PEPit's examples/nonconvex_optimization/gradient_descent.py."""
    made = P.PEP()
    phi = made.declare_function(P.functions.SmoothFunction, L=L)
    x = made.set_initial_point()
    slope, first = phi.oracle(x)
    made.set_performance_metric(slope**2)
    value = first
    for _ in range(int(N)):
        x = x - slope / L
        slope, value = phi.oracle(x)
        made.set_performance_metric(slope**2)
    made.set_initial_condition(first - value <= 1)
    return made


def _proof(L: Rational, N: Rational) -> tuple[Expr, Facts]:
    tau = 4 * L / (3 * N)
    weights = [tau * (2 if k == 0 else 1 if k == N else 3) / (4 * L) for k in range(int(N) + 1)]
    return proof(tau, {(k, k + 1): tau for k in range(int(N))}, weights, L)


def proof(
    tau: Rational, moves: Mapping[tuple[int, int], Rational], weights: Sequence[Rational], L: Rational | int = 1
) -> tuple[Expr, Facts]:
    """tau (f_0 - f_n) >= m = min |g_k|^2, from multipliers of smoothness at pairs of steps and of |g_k|^2 >= m."""
    n = len(weights) - 1
    slopes, values, m = vectors(f"g:{n + 1}"), symbols(f"f:{n + 1}", real=True), Symbol("m", real=True)
    facts = {}
    for (i, j), multiplier in moves.items():  # an L-smooth function at steps i and j (Taylor et al. 2017, Theorem 3.10)
        between = Add(*slopes[i:j]) / L if i < j else -Add(*slopes[j:i]) / L  # x_i - x_j
        a, b = slopes[i], slopes[j]
        smooth = values[i] - values[j] + L * norm2(between) / 4 - Dot(a + b, between) / 2 - norm2(a - b) / (4 * L)
        facts[f"smooth {i} {j}"] = multiplier, smooth
    facts |= {f"least {k}": (weight, norm2(slopes[k]) - m) for k, weight in enumerate(weights)}
    return tau * (values[0] - values[n]) - m, facts


def worst_descent(n: int) -> tuple[Fraction, Fraction]:
    """n steps, exactly, from 0 on the worst 1-smooth function: f' = 1 - (distance to the nearest integer).

    Returns:
        (min |f'(x_t)|^2 over t = 0 .. n, f(x_0) - f(x_n)).
    """
    points = [Fraction(0)]
    for _ in range(n):
        points.append(points[-1] - worst_slope(points[-1]))
    return min(worst_slope(x) ** 2 for x in points), worst_fall(points[-1], points[0])


def worst_slope(x: Fraction) -> Fraction:
    """f' of the worst function."""
    return 1 - abs(x - round(x))


def worst_fall(low: Fraction, high: Fraction) -> Fraction:
    """f(high) - f(low), exact: the slope is linear between half-integers."""
    inner = [Fraction(k, 2) for k in range(int(2 * low // 1), int(2 * high // 1) + 2)]
    at = [low, *(k for k in inner if low < k < high), high]
    return sum(((b - a) * (worst_slope(a) + worst_slope(b)) / 2 for a, b in pairwise(at)), Fraction(0))


_L, _N, _D = symbols("L N D", positive=True)

GRADIENT_DESCENT = Statement(
    "gradient descent", "", r"least squared gradient in $N$ steps of $1/L$, $\Phi(x_0) - \Phi(x_N) \le D$",
    Bound("gradient descent", r"\min_{t \le N}\|\nabla\Phi(x_t)\|^2", 4 * _L * _D / (3 * _N)),
    problem, _proof, grid(L=(1,), N=(1, 2, 5, 10)),
)  # fmt: skip
