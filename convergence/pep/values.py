"""Statements on values: the leader's steps with inexact gradients, one by one, summed, and through the Moreau envelope."""
# ruff: noqa: E741 - l is the theory's letter

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sympy import Expr, Rational, symbols

from convergence.bound import Bound
from convergence.certificate import Dot, norm2, vectors
from convergence.pep.statement import Facts, Statement, grid
from convergence.theorems.gradient_descent_ascent import DESCENT


def _descent_problem(P: Any, kappa: float, l: float, eta: float, e_0: float) -> Any:
    problem = P.PEP()
    phi = problem.declare_function(P.functions.SmoothFunction, L=kappa * l)
    x, g = problem.set_initial_point(), P.Point()
    slope, value = phi.oracle(x)
    problem.add_constraint((g - slope) ** 2 <= (l * e_0) ** 2)
    problem.add_constraint(slope**2 <= 1)  # bounds the problem; its worst case does not depend on it
    problem.set_performance_metric(phi(x - eta * g) - value + eta / 2 * slope**2 + eta / 2 * (1 - kappa * l * eta) * g**2)
    return problem


def _descent_proof(kappa: Rational, l: Rational, eta: Rational, e_0: Rational) -> tuple[Expr, Facts]:
    L, off = kappa * l, l * e_0
    (slope, g), (before, after) = vectors("G g"), symbols("Phi Phi_1", real=True)
    claimed = after - before + eta / 2 * norm2(slope) + eta / 2 * (1 - L * eta) * norm2(g)
    return eta * off**2 / 2 - claimed, {
        "smoothness": (1, before - eta * Dot(slope, g) + L * eta**2 / 2 * norm2(g) - after),
        "inner error": (eta / 2, off**2 - norm2(g - slope)),
    }


def _mean_problem(P: Any, L: float, eta: float, e: float, N: float) -> Any:
    problem = P.PEP()
    phi = problem.declare_function(P.functions.SmoothFunction, L=L)
    x, slopes = problem.set_initial_point(), []
    first = phi(x)
    for _ in range(int(N)):
        slopes.append(phi.gradient(x))
        x, _, _ = P.primitive_steps.inexact_gradient_step(x, phi, eta, e)
    problem.set_initial_condition(first - phi(x) <= 1)
    problem.set_performance_metric(sum(s**2 for s in slopes) / len(slopes))
    return problem


def _mean_proof(L: Rational, eta: Rational, e: Rational, N: Rational) -> tuple[Expr, Facts]:
    values = symbols(f"f:{N + 1}", real=True)
    facts = {"start": (2 / (eta * N), 1 - (values[0] - values[-1]))}
    gap = 2 / (eta * N) + e**2
    for k in range(int(N)):
        slope, g = vectors(f"G{k} g{k}")
        descent = values[k] - eta * Dot(slope, g) + L * eta**2 / 2 * norm2(g) - values[k + 1]
        facts[f"smoothness {k}"] = 2 / (eta * N), descent
        facts[f"inner error {k}"] = 1 / N, e**2 - norm2(g - slope)
        gap -= norm2(slope) / N
    return gap, facts


def _moreau_problem(P: Any, l: float, eta: float, delta: float, G: float) -> Any:
    """Phi and h = f(., y) <= Phi, both plus (l/2)|.|^2 and so convex."""
    problem = P.PEP()
    upper, lower = (problem.declare_function(P.functions.ConvexFunction) for _ in range(2))
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


def _moreau_proof(l: Rational, eta: Rational, delta: Rational, G: Rational) -> tuple[Expr, Facts]:
    w, g = vectors("w g")  # w = prox(x) - x
    at_x, at_prox, f_x, f_prox, after = symbols("Phi_x Phi_prox f_x f_prox after", real=True)
    claimed = after - (at_prox + l * norm2(w)) + 2 * eta * l**2 * norm2(w)
    return 2 * l * eta * delta + l * eta**2 * G**2 - claimed, {
        "envelope": (1, at_prox + l * norm2(w + eta * g) - after),
        "weak convexity": (2 * l * eta, f_prox - f_x - Dot(g, w) + l / 2 * norm2(w)),
        "maximum": (2 * l * eta, at_prox - f_prox),
        "prox": (2 * l * eta, at_x - at_prox - 3 * l / 2 * norm2(w)),
        "inner error": (2 * l * eta, delta - (at_x - f_x)),
        "slope": (l * eta**2, G**2 - norm2(g)),
    }


_l, _eta, _N, _D, _e, _delta, _G = symbols("l eta N D e delta G", nonnegative=True)

LEADER_DESCENT = Statement(
    "one descent", "gradient-descent-ascent", r"one step of the leader, $\|g - \nabla\Phi\| \le l e_0$", DESCENT,
    _descent_problem, _descent_proof, grid(kappa=(1, 4), l=(1,), eta=("1/8", "1/4"), e_0=("1/10", "1/2")),
)  # fmt: skip
MEAN_GRADIENT = Statement(
    "inner errors", "", r"mean squared gradient of the leader in $N$ steps of $1/L$, $\|g_t - \nabla\Phi\| \le e$",
    Bound("inexact descent", r"\tfrac1N\sum_{t<N}\|\nabla\Phi(x_t)\|^2", 2 * _D / (_eta * _N) + _e**2),
    _mean_problem, _mean_proof, grid(L=(1,), eta=(1,), e=("1/10", "1/2"), N=(1, 2, 4)),
)  # fmt: skip
SHORTER_STEPS = replace(
    MEAN_GRADIENT,
    name="inner errors, shorter steps",
    says=r"the same with $\eta < 1/L$: not sharp, as the term in $\|g_t\|^2$ is dropped",
    choices=grid(L=(1,), eta=("1/2",), e=("1/10", "1/2"), N=(1, 2, 4)),
    tight=False,
)
MOREAU_STEP = Statement(
    "Moreau envelope", "moreau-envelope",
    r"one subgradient step, $f(\cdot, y)$ $l$-weakly convex, $\|g\| \le G$, $\Phi - f \le \delta$",
    Bound(
        "Moreau step",
        r"\Phi_{1/2l}(x - \eta g) - \Phi_{1/2l}(x) + \tfrac{\eta}{2}\|\nabla\Phi_{1/2l}(x)\|^2",
        2 * _l * _eta * _delta + _l * _eta**2 * _G**2,
    ),
    _moreau_problem, _moreau_proof, grid(l=(1, 2), eta=("1/10", "1/4"), delta=(0, "1/10"), G=(1,)),
)  # fmt: skip
