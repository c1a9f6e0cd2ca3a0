"""The follower must be fast enough: below a ratio of step sizes, descent-ascent circles a minimum of Phi for ever."""

from collections.abc import Sequence

import torch
from sympy import symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.theorem import Argument, Assumption, Citation, Theorem
from convergence.unit_steps import path
from toy_problems import Hopf

a, b, c, eta, tau, l, p = symbols("a b c eta tau l p", positive=True)  # noqa: E741 - the theory's letter
tau_star, z = symbols("tau_star z", real=True)

MINIMUM = {r"$b^2 > ac$, small steps": None}
CORE = Bound(
    "follower first", r"\tau^*_{\text{core}}", a / (c * (1 + a * eta)), proofs=(Proved("threshold", tau),), where=MINIMUM
)
SIMULTANEOUS = Bound(
    "simultaneous", r"\tau^*_{\text{simultaneous}}", a / (c - eta * (b**2 - a * c)),
    proofs=(Proved("simultaneous threshold", tau, {z: b**2 - a * c}),),
    where={r"$\eta(b^2 - ac) < c$": eta * (b**2 - a * c) < c} | MINIMUM,
)  # fmt: skip

s = tau * eta
trace = 2 + a * eta - c * s - eta * s * b**2
area = (1 + a * eta) * (1 - c * s)
trace_simultaneous = 2 + a * eta - c * s
area_simultaneous = (1 + a * eta) * (1 - c * s) + eta * s * b**2
at_threshold = a / (c * (1 + a * eta))

PROOF = (
    Argument(
        "linearised",
        r"At the origin $\nabla_x f = -ax + by$ and $\nabla_y f = bx - cy$. The flow $\dot x = -\nabla_x f$, $\dot y = "
        r"\tau\nabla_y f$ has matrix $\begin{pmatrix}a & -b\\ \tau b & -\tau c\end{pmatrix}$. A round of the core, $y^+ = y + "
        r"\tau\eta\nabla_y f(x,y)$ and then $x^+ = x - \eta\nabla_x f(x,y^+)$, has $\begin{pmatrix}1 + a\eta - \tau\eta^2b^2 & "
        r"-\eta b(1 - c\tau\eta)\\ \tau\eta b & 1 - c\tau\eta\end{pmatrix}$.",
    ),
    Identity(
        "flow",
        (z - a) * (z + tau * c) + tau * b**2,
        z**2 - (a - tau * c) * z + tau * (b**2 - a * c),
        says=r"Product of the eigenvalues $\tau(b^2 - ac) > 0$, sum $a - \tau c$: both real parts are negative exactly for "
        r"$\tau > a/c$ (Routh-Hurwitz).",
    ),
    Argument("the flow is not stable", r"Let $\tau$ be so small that the sum of the eigenvalues is not negative.", a - tau * c),
    Inequality("the flow's threshold", a / c - tau, (Term(1 / c, "the flow is not stable"),), says=r"Then $\tau \le a/c$."),
    Inequality(
        "below kappa",
        (l / c) ** 2 - (a / c) ** 2,
        (Term(1 / c**2, "smoothness"), Term(b**2 / c**2)),
        says=r"$a/c < l/\mu = \kappa$: a follower as slow as $\kappa$ allows is fast enough here.",
    ),
    Identity(
        "round",
        (z - (1 + a * eta - eta * s * b**2)) * (z - (1 - c * s)) + eta * b * (1 - c * s) * s * b,
        z**2 - trace * z + area,
        says=r"The characteristic polynomial $p$ of the core's round, $s = \tau\eta$.",
    ),
    Identity(
        "area",
        1 - area,
        eta * (c * tau * (1 + a * eta) - a),
        says=r"A round shrinks areas exactly for $\tau > a/(c(1 + a\eta))$.",
    ),
    Argument("areas that do not shrink", r"Let $\tau$ be so small that a round does not shrink areas.", area - 1),
    Inequality(
        "threshold",
        at_threshold - tau,
        (Term(1 / (eta * c * (1 + a * eta)), "areas that do not shrink"),),
        says=r"Then it is at most this: from here on areas shrink.",
    ),
    Identity("p(1)", 1 - trace + area, eta**2 * tau * (b**2 - a * c), says="positive always"),
    Identity(
        "p(-1)",
        1 + trace + area,
        4 + 2 * a * eta - eta * tau * (2 * c + eta * (b**2 + a * c)),
        says=r"positive until $\tau$ reaches $(4 + 2a\eta)/(\eta(2c + \eta(b^2 + ac)))$, where the follower overshoots",
    ),
    Inequality(
        "p(-1) at the threshold",
        (1 + trace + area).subs(tau, at_threshold) * (1 + a * eta),
        (Term(1 / c, "small steps"), Term(a**2 * eta**2)),
        says="The overshoot comes after the threshold.",
    ),
    Citation(
        "stability",
        r"Both roots of $z^2 - z\,\mathrm{tr} + \det$ lie inside the unit circle exactly if $\det < 1$, $p(1) "
        r"> 0$, $p(-1) > 0$.",
        "Jury 1964",
    ),
    Identity(
        "simultaneous area",
        1 - area_simultaneous,
        eta * (c * tau - a - eta * tau * (b**2 - a * c)),
        says=r"The same for simultaneous steps: areas shrink exactly for $\tau(c - \eta(b^2 - ac)) > a$.",
    ),
    Argument(
        "simultaneous areas that do not shrink",
        r"Let $\tau$ be so small that a simultaneous round does not shrink areas, $z = b^2 - ac$.",
        (1 + a * eta) * (1 - c * s) + eta * s * (z + a * c) - 1,
    ),
    Inequality(
        "simultaneous threshold",
        a / (c - eta * z) - tau,
        (Term(1 / (eta * (c - eta * z)), "simultaneous areas that do not shrink"),),
        region={z: p, c: eta * p + l},
    ),
    Identity("simultaneous p(1)", 1 - trace_simultaneous + area_simultaneous, eta**2 * tau * (b**2 - a * c)),
    Inequality(
        "follower first is easier",
        a / c - at_threshold,
        (Term(a**2 * eta / (c * (1 + a * eta))),),
        says="The core's threshold is below the flow's,",
    ),
    Inequality(
        "simultaneous is harder",
        a / (c - eta * z) - a / c,
        (Term(a * eta * p / (c * (c - eta * p))),),
        region={z: p, c: eta * p + l},
        says=r"and that of simultaneous steps above it, $z = b^2 - ac > 0$.",
    ),
    Citation(
        "cycle",
        r"As $\tau$ falls through $\tau^*$ a complex pair leaves the unit circle (half plane) and an "
        r"attracting cycle is born; its "
        r"amplitude is $2\sqrt{(a - \tau c)/3}$ to leading order for the flow, and with $a - \tau c(1 + a\eta)$ for the core.",
        "Hopf 1942; Neimark 1959 and Sacker 1964; Kuznetsov 2004, chapters 3 and 4",
    ),
)

ETA, SMALL = 0.125, 1e-8


def _area(x: Tensor) -> Tensor:
    """Determinant of a linear planar map from four x_t of one orbit, which obey x_{t+2} = trace x_{t+1} - area x_t."""
    x = x / x[0]
    return (x[1] * x[3] - x[2] ** 2) / (x[0] * x[2] - x[1] ** 2)


def _threshold(areas: tuple[Tensor, Tensor], rhos: tuple[float, float]) -> Tensor:
    """The ratio tau at which the area is 1: it is affine in tau."""
    (first, second), (low, high) = areas, (rho / ETA for rho in rhos)
    return low + (1 - first) * (high - low) / (second - first)


def _game(a: Tensor, c: Tensor, w: Tensor) -> tuple[Hopf, dict[str, Tensor]]:
    return Hopf(a, (a * c * (1 + w)).sqrt(), c, torch.ones_like(a)), {"a": a, "c": c, "eta": torch.full_like(a, ETA)}


def _core(a: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Three rounds of the core near the origin, at two ratios."""
    game, values = _game(a, c, w)
    start, rhos = torch.full((len(a), 1), SMALL, dtype=torch.float64), (0.0625, 0.25)
    low, high = (_area(path(game, start, 0 * start, (ETA, rho), 3)[0][..., 0]) for rho in rhos)
    return _threshold((low, high), rhos), values


def _simultaneous(a: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The same for simultaneous steps, which the core does not take."""
    game, values = _game(a, c, w)
    areas, rhos = [], (0.0625, 0.25)
    for rho in rhos:
        x, y = torch.full((len(a), 1), SMALL, dtype=torch.float64), torch.zeros(len(a), 1, dtype=torch.float64)
        orbit = [x]
        for _ in range(3):
            x, y = x - ETA * game.grad_x(x, y), y + rho * game.grad_y(x, y)
            orbit.append(x)
        areas.append(_area(torch.stack(orbit)[..., 0]))
    return _threshold((areas[0], areas[1]), rhos), values | {"b": game.b}


def _cycles(effort: Effort) -> Sequence[Curve]:
    """Largest |x| at the end of long plays of the core, over the ratio, for three step sizes."""
    m, rounds = effort.seeds, int(4000 * max(effort.rounds, 0.5))
    shares = torch.tensor([0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.3], dtype=torch.float64)
    u = torch.rand(3, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, c = 0.75 + u[0] / 2, 0.5 + u[1] / 2
    b = (a * c * (1.5 + u[2])).sqrt()
    n = len(shares)
    curves = []
    for eta in (0.1, 0.25, 0.5):
        tau = (shares[:, None] * CORE(a=a, c=c, eta=eta)).flatten()
        game = Hopf(a.repeat(n), b.repeat(n), c.repeat(n), torch.full((n * m,), 4.0))
        start = 0.3 * a.repeat(n).sqrt()[:, None]
        x, _ = path(game, start, 0 * start, (eta, tau * eta), rounds)
        amplitude = x[-rounds // 8 :, :, 0].abs().amax(0) / a.repeat(n).sqrt()
        curves.append(Curve(rf"core, $\eta = {eta}$", shares, amplitude.view(n, m)))
    leading = 2 * ((1 - shares).clamp_min(0) / 3).sqrt()
    return [*curves, Curve("leading order", shares, leading[:, None].expand(-1, m))]


THEOREM = Theorem(
    name="time-scale",
    title="A follower that is too slow: the Hopf threshold",
    about=r"On $f = -\frac a2x^2 + \frac14x^4 + bxy - \frac c2y^2$ with $b^2 > ac$ the origin minimises $\Phi$, yet a warm "
    r"follower that takes one step a round reaches it only where its step is $\tau > \tau^*$ times the leader's; below, play "
    r"settles on a cycle.",
    source="Ours; the mechanism is the Hopf bifurcation.",
    symbols={
        r"\tau": r"$\eta_y/\eta_x$, ratio of the step sizes",
        r"\tau^*": "the ratio above which the origin attracts",
        r"\eta": r"the leader's step $\eta_x$",
        "a, b, c": r"positive, $b^2 > ac$; $\mu = c$",
        "l": "joint smoothness of $f$",
    },
    assumptions=(
        Assumption("smoothness", r"$l$ is at least the norm of the Hessian's first column at the origin.", l**2 - a**2 - b**2),
        Assumption("small steps", r"$\eta^2ab^2 \le 4c(1 + a\eta)$.", 4 * c * (1 + a * eta) - a * eta**2 * b**2),
        Assumption("minimum", r"$b^2 > ac$, so that $\Phi''(0) = b^2/c - a > 0$."),
    ),
    bounds=(CORE, SIMULTANEOUS),
    facts=(
        Equation(tau_star, a / c, "the flow's threshold", {tau: tau_star}),
        Equation(1 - area, eta * (c * tau * (1 + a * eta) - a), "area"),
        Equation(1 - area_simultaneous, eta * (c * tau - a - eta * tau * (b**2 - a * c)), "simultaneous area"),
    ),
    proof=PROOF,
    attacks=tuple(
        Attack(name, bound, orbit, {"a": Range(0.125, 1.5), "c": Range(0.125, 1.5), "w": Range(0.25, 3)})
        for name, bound, orbit in (
            ("the core's threshold", CORE, _core),
            ("simultaneous threshold", SIMULTANEOUS, _simultaneous),
        )
    ),
    measurements=(
        Measurement(
            "cycle",
            "The limit cycle dies at the predicted ratio, whatever the step size",
            r"$\tau / \tau^*$, $\tau^* = a/(c(1 + a\eta))$",
            r"largest $|x| / \sqrt{a}$ after long play",
            _cycles,
            log="",
            alt="For three step sizes the amplitude of the core's limit cycle falls like a square root and is zero from the "
            "predicted threshold, 1 on the axis, on; the leading-order formula lies beside it.",
        ),
    ),
    remarks=(
        r"Both thresholds are equalities; they are attacked as upper bounds on the measured one.",
        r"The flow's threshold is $a/c$. The order of play matters at finite steps: the core, follower first, "
        r"needs less than the "
        r"flow, $a/(c(1+a\eta))$; simultaneous steps need more, $a/(c - \eta(b^2 - ac))$, or no ratio is enough.",
        r"The cycle itself is taken from the literature and measured, not proved.",
    ),
    order=72,
)
