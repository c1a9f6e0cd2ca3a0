"""Gradient descent ascent, non-convex strongly-concave, in the order of play of the core: the follower answers first."""

from collections.abc import Callable, Sequence

import torch
from sympy import Expr, Integer, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Sum, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.random_games import random_games
from convergence.theorem import Argument, Assumption, Theorem
from convergence.unit_steps import Noise, rounds
from toy_problems import BallHuber, MinMaxProblem, Quadratic

l, eta, T, D, a, s = symbols("l eta T D a s", positive=True)  # noqa: E741 - the theory's letter
kappa = symbols("kappa", positive=True)
r_0, e_0, g_0 = symbols("r_0 e_0 g_0", nonnegative=True)
Phi, Phi_next = symbols("Phi Phi_next", real=True)
G, g, d, u, v = vectors("G g d u v")
q = (kappa - 1) / kappa
weight = eta * kappa * l**2 * q**2 / 2
LEFT_OVER = 1 - kappa * l * eta - (kappa - 1) ** 3 * (kappa + 1) * (l * eta) ** 2
"""The share of (eta/2) |g|^2 that the descent keeps; not negative for eta <= 1/(kappa^2 l)."""
STEP = {kappa: 1 + a, eta: 1 / ((1 + a) ** 2 * l * (1 + s))}

M, R_0, R_T = symbols("M R_0 R_T", nonnegative=True)
Phi_0, Phi_T = symbols("Phi_0 Phi_T", real=True)
GAME = {r"$\kappa = l/\mu \ge 1$, the follower's step is $1/l$, the leader is not constrained": kappa >= 1}
STEP_SIZE = {r"$0 < \eta \le 1/(\kappa^2 l)$": eta <= 1 / (kappa**2 * l), r"$\inf\Phi > -\infty$": None}

RATE = Bound(
    "rate",
    r"\frac1T\sum_{t<T}\|\nabla\Phi(x_t)\|^2",
    (2 * D / eta + kappa * q**2 * l**2 * r_0**2) / T,
    proofs=(Proved("solved for the mean", M, {R_0: r_0**2}),),
    where=STEP_SIZE | GAME,
)
DESCENT = Bound(
    "one descent",
    r"\Phi(x_1) - \Phi(x_0) + \tfrac{\eta}{2}\|\nabla\Phi(x_0)\|^2 + \tfrac{\eta}{2}(1 - \kappa l\eta)\|g_0\|^2",
    eta * l**2 * e_0**2 / 2,
    proofs=(
        Proved(
            "descent",
            Phi_next - Phi + eta / 2 * norm2(G) + eta / 2 * (1 - kappa * l * eta) * norm2(g),
            {norm2(u): e_0**2},
        ),
    ),
    where=GAME,
)
DRIFT = Bound(
    "one drift",
    r"\|y_1 - y^*(x_1)\|^2",
    q * r_0**2 + kappa * (kappa**2 - 1) * eta**2 * g_0**2,
    proofs=(Proved("one ascent and drift", norm2(u + v), {norm2(d): r_0**2, norm2(g): g_0**2}),),
    where=GAME,
)

DESCENT_STEP = Inequality(
    "descent",
    Phi - Phi_next - eta / 2 * norm2(G) - eta / 2 * (1 - kappa * l * eta) * norm2(g) + eta / 2 * l**2 * norm2(u),
    (Term(1, "smoothness of Phi"), Term(eta / 2, "wrong answer")),
    says=r"$\Phi(x_{t+1}) \le \Phi(x_t) - \frac{\eta}{2}\|\nabla\Phi(x_t)\|^2 - \frac{\eta}{2}(1-\kappa l\eta)\|g_t\|^2 "
    r"+ \frac{\eta}{2}l^2\|u\|^2$.",
)
DRIFT_STEP = Inequality(
    "drift",
    kappa * norm2(u) + (kappa - 1) * kappa * (kappa**2 - 1) * eta**2 * norm2(g) - (kappa - 1) * norm2(u + v),
    (Term(kappa * (kappa - 1), "moving target"), Term(1, Norm2(u - (kappa - 1) * v))),
    region={kappa: 1 + a},
    says=r"Young's inequality at its best weight, $1/(\kappa-1)$, for $y_{t+1} - y^*(x_{t+1}) = u + v$.",
)

ALL_ROUNDS = Sum(
    "all rounds",
    "one round",
    T,
    (T, eta, kappa, l, a, s),
    {Phi: Phi_next, d: u + v},
    telescopes=((Integer(1), Phi, Phi_0, Phi_T), (weight, norm2(d), R_0, R_T)),
    means=((-eta / 2, norm2(G), M),),
    region=STEP,
    says=r"Added up over the rounds: $V_0 - V_T \ge \frac{\eta}{2} T M$.",
)
SOLVED = (
    Term(2 / (eta * T), "all rounds"),
    Term(2 / (eta * T), "bounded below"),
    Term(2 * weight / (eta * T) * R_T),
)

PROOF = (
    Argument(
        "the letters",
        r"In round $t$: $d = y_t - y^*(x_t)$ before the follower answers, $u = y_{t+1} - y^*(x_t)$ after it, "
        r"$G = \nabla\Phi(x_t)$, $g = \nabla_x f(x_t, y_{t+1})$ what the leader descends, $v = y^*(x_t) - y^*(x_{t+1})$.",
    ),
    DESCENT_STEP,
    DRIFT_STEP,
    Inequality(
        "one ascent and drift",
        q * norm2(d) + kappa * (kappa**2 - 1) * eta**2 * norm2(g) - norm2(u + v),
        (Term(1 / (kappa - 1), "drift"), Term(kappa / (kappa - 1), "ascent contracts")),
        region={kappa: 1 + a},
        says=r"The recursion of the error: $r_{t+1}^2 \le (1 - 1/\kappa) r_t^2 + \kappa(\kappa^2-1)\eta^2\|g_t\|^2$.",
    ),
    Inequality(
        "one round",
        (Phi + weight * norm2(d)) - (Phi_next + weight * norm2(u + v)) - eta / 2 * norm2(G),
        (
            Term(1, "descent"),
            Term(weight / (kappa - 1), "drift"),
            Term(eta * kappa * l**2 / 2, "ascent contracts"),
            Term(eta / 2 * LEFT_OVER, Norm2(g)),
        ),
        region=STEP,
        says=r"$V_t = \Phi(x_t) + \frac{\eta}{2}\kappa q^2 l^2 \|y_t - y^*(x_t)\|^2$ falls by "
        r"$\frac{\eta}{2}\|\nabla\Phi(x_t)\|^2$ a round: the $\|u\|^2$ cancel, and what is left of $\|g\|^2$ is not negative "
        r"for $\eta \le 1/(\kappa^2 l)$.",
    ),
    ALL_ROUNDS,
    Inequality(
        "solved for the mean",
        RATE.expression.subs(r_0**2, R_0) - M,
        SOLVED,
        region=STEP,
        says=r"$M$ is the mean squared gradient, $R_0 = r_0^2$.",
    ),
    Argument(
        "limits",
        r"The cases $\kappa = 1$ and $\eta = 1/(\kappa^2 l)$ are "
        r"limits of the region, in which every multiplier is continuous.",
    ),
)


def on_the_leader(h: Expr, letter: str) -> tuple[Assumption, Assumption, Assumption]:
    """What holds of a leader that descends h, written as `letter`."""
    return (
        Assumption(
            "smoothness of Phi",
            rf"$\Phi$ is $\kappa l$-smooth and $x_{{t+1}} = x_t - \eta {letter}$.",
            Phi - Phi_next - eta * Dot(G, h) + kappa * l * eta**2 / 2 * norm2(h),
            proved_by="danskin",
        ),
        Assumption(
            "wrong answer",
            r"$\|\nabla\Phi(x) - \nabla_x f(x,y)\| \le l\,\|y^*(x) - y\|$, from $\nabla\Phi(x) = \nabla_x f(x, y^*(x))$.",
            l**2 * norm2(u) - norm2(G - g),
            proved_by="danskin",
        ),
        Assumption(
            "moving target",
            r"$\|v\|^2 \le (\kappa^2-1)\|x_{t+1} - x_t\|^2$.",
            (kappa**2 - 1) * eta**2 * norm2(h) - norm2(v),
            proved_by="danskin",
        ),
    )


BOUNDED = Assumption(
    "bounded below", r"$D = \Phi(x_0) - \inf\Phi$ is finite, so $\Phi(x_0) - \Phi(x_T) \le D$.", D - (Phi_0 - Phi_T)
)
ASSUMPTIONS = (
    *on_the_leader(g, "g"),
    BOUNDED,
    Assumption(
        "ascent contracts",
        r"One projected step at $1/l$: $\|u\| \le q\|d\|$, $q = 1 - 1/\kappa$.",
        q**2 * norm2(d) - norm2(u),
        proved_by="projected-ascent",
    ),
)


def instances(kappa: Tensor, a: Tensor, share: Tensor) -> tuple[Quadratic, Tensor, Tensor]:
    """f = a mu x^2/2 + b x y - mu y^2/2 with l = 1 and mu = 1/kappa, a = 1 being Danskin's extremal game; l and eta."""
    mu = 1 / kappa
    # det[A - l, b; b, -mu - l] = 0 at l = 1; the other eigenvalue, a mu - mu - 1, has a smaller modulus for a >= 1, and
    # for a < 1 the two change places.
    A = a * mu
    b2 = torch.where(a >= 1, (1 - A) * (1 + mu), (1 + A) * (1 - mu))
    problem = Quadratic(A[:, None, None], b2.sqrt()[:, None, None], mu[:, None, None])
    return problem, torch.ones_like(kappa), share / kappa**2


def gap(problem: Quadratic, x: Tensor) -> Tensor:
    """Phi(x) - inf Phi = Phi''x^2/2."""
    return problem.hessian_phi[:, 0, 0] * x**2 / 2


def _rate(*, kappa: Tensor, a: Tensor, share: Tensor, x: Tensor, r: Tensor) -> tuple[Tensor, Values]:
    """Six rounds of the core from x and y*(x) + r."""
    problem, l, eta = instances(kappa, a, share)  # noqa: E741
    start = x[:, None]
    seen = rounds(problem, start, (eta, 1 / l), 6, y_0=problem.y_star(start) + r[:, None])
    values = {"D": gap(problem, x), "eta": eta, "kappa": kappa, "l": l, "r_0": r.abs(), "T": torch.full_like(x, 6)}
    return seen["G2"].mean(0), values


def descent(
    *, kappa: Tensor, a: Tensor, share: Tensor, x: Tensor, r: Tensor, noise: Noise | None = None
) -> tuple[Tensor, Values]:
    """One round of the core: what the leader gains, against what the follower's error costs."""
    problem, l, eta = instances(kappa, a, share)  # noqa: E741
    start = x[:, None]
    y_0 = problem.y_star(start) + r[:, None]
    seen = rounds(problem, start, (eta, 1 / l), 1, y_0=y_0, noise=noise, observe=lambda _, y: {"y": y})
    G, g = problem.grad_phi(start)[:, 0], problem.grad_x(start, seen["y"][0])[:, 0]
    gain = gap(problem, x) - gap(problem, seen["final"][:, 0])
    error = (seen["y"][0] - problem.y_star(start)).norm(dim=-1)
    measured = eta / 2 * G**2 + eta / 2 * (1 - kappa * l * eta) * g**2 - gain
    return measured, {"eta": eta, "l": l, "kappa": kappa, "e_0": error}


def _drift(*, kappa: Tensor, a: Tensor, share: Tensor, x: Tensor, r: Tensor) -> tuple[Tensor, Values]:
    """One round of the core: how far the follower's noise is from the new best answer."""
    problem, l, eta = instances(kappa, a, share)  # noqa: E741
    start = x[:, None]
    seen = rounds(problem, start, (eta, 1 / l), 1, y_0=problem.y_star(start) + r[:, None], observe=lambda _, y: {"y": y})
    g = problem.grad_x(start, seen["y"][0]).norm(dim=-1)
    measured = (seen["y"][0] - problem.y_star(seen["final"])).square().sum(-1)
    return measured, {"kappa": kappa, "eta": eta, "g_0": g, "r_0": r.abs()}


FAMILY = {
    "kappa": Range(3, 64, log=True),
    "a": Range(-1, 2),
    "share": Range(0.25, 1),
    "x": Range(-1, 1),
    "r": Range(-1, 1),
}


def prefix_means(G2: Tensor, Ts: Sequence[int]) -> Tensor:
    """Means over the first T rounds for each T, [Ts, B], of what was observed each round, [rounds, B]."""
    return torch.stack([G2[:T].mean(0) for T in Ts])


def plain_start(problem: MinMaxProblem, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 random, y_0 = 0: x_0, D for problems whose Phi is least at the origin, and r_0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(problem.batch, problem.d_x, generator=generator, dtype=torch.float64)
    return x, problem.phi(x) - problem.phi(torch.zeros_like(x)), problem.y_star(x).norm(dim=-1)


def _over_rounds(effort: Effort) -> Sequence[Curve]:
    """Random sigmoid games (non-convex in x): one play a condition number, the mean over its first T rounds."""
    Ts, n = [4**k for k in range(1, 7) if 4**k <= 1024 * effort.rounds], effort.seeds
    curves = []
    for kappa in (2.0, 8.0, 32.0):
        problem = random_games(kappa, n, sigmoid=True)
        x, least, r = plain_start(problem)
        eta = kappa**-2
        seen = rounds(problem, x, (eta, 1.0), Ts[-1])
        bound = torch.stack([RATE(D=least, eta=eta, kappa=kappa, l=1.0, r_0=r, T=float(T)) for T in Ts])
        curves.append(Curve(rf"$\kappa = {kappa:.0f}$", Ts, prefix_means(seen["G2"], Ts) / least, bound / least))
    return curves


def _slopes(effort: Effort) -> Sequence[Curve]:
    """For each T a game of Huber's whose slope lasts for T rounds and whose D is nearly 1: the order 1/T is attained."""
    Ts = torch.tensor([64, 128, 256, 512, 1024][: 5 if effort.rounds == 1 else 3])
    longer, curves = torch.tensor([1.0, 1.05, 1.1, 1.2], dtype=torch.float64), []
    for kappa in (4.0, 8.0):
        T = Ts.double().repeat_interleave(len(longer))
        mu, eta = torch.full_like(T, 1 / kappa), kappa**-2
        b = (1 - mu).sqrt()  # l = 1
        way = T * longer.repeat(len(Ts)) * eta * b**2
        omega = way**-0.5  # so that D = 1 + mu omega^2/2
        problem = BallHuber(b, mu, omega)
        x = ((mu + way) * omega / b)[:, None]
        seen = rounds(problem, x, (eta, 1.0), int(Ts[-1]))["G2"].cumsum(0)
        measured = seen[T.long() - 1, torch.arange(len(T))] / T
        bound = RATE(D=problem.phi(x), eta=eta, kappa=kappa, l=1.0, r_0=problem.y_star(x).norm(dim=-1), T=T)
        shape = (len(Ts), len(longer))
        curves.append(Curve(rf"$\kappa = {kappa:.0f}$", Ts.tolist(), measured.view(shape), bound.view(shape), slope=-1.0))
    return curves


def _over_conditioning(effort: Effort) -> Sequence[Curve]:
    """T = 128 rounds of random games; the step 1/(kappa^2 l) is the bound's, not the best for each game."""
    kappas, T, n = (2.0, 4.0, 8.0, 16.0, 32.0), 128, effort.seeds
    families: dict[str, Callable[[float], MinMaxProblem]] = {
        "quadratic, convex in x": lambda kappa: random_games(kappa, n, sign=1),
        "sigmoid": lambda kappa: random_games(kappa, n, sigmoid=True),
        "quadratic, in a ball": lambda kappa: random_games(kappa, n, sign=1, omega=1.0),
    }
    curves = []
    for label, family in families.items():
        measured, bounds = [], []
        for kappa in kappas:
            problem = family(kappa)
            x, least, r = plain_start(problem)
            eta = kappa**-2
            measured.append(rounds(problem, x, (eta, 1.0), T)["G2"].mean(0) / least)
            bounds.append(RATE(D=least, eta=eta, kappa=kappa, l=1.0, r_0=r, T=float(T)) / least)
        curves.append(Curve(label, kappas, torch.stack(measured), torch.stack(bounds)))
    return curves


FOUND = {"kappa": 3.0, "a": 1.0, "share": 1.0, "x": -0.415, "r": 1.0}
"""The worst instance of a long search."""

THEOREM = Theorem(
    name="gradient-descent-ascent",
    title="Gradient descent ascent, the follower first",
    about=r"One warm-started ascent step of length $1/l$, then one descent step of length $\eta \le 1/(\kappa^2 l)$ on the "
    r"fresh answer: the mean squared gradient of $\Phi$ falls like $1/T$. At the longest step the bound is "
    r"$(2\kappa^2 l D + \kappa q^2 l^2 r_0^2)/T$, $q = 1 - 1/\kappa$. $\Phi$ need not be convex.",
    source="After Lin, Jin, Jordan 2020, Theorem 4.4 (simultaneous steps, $\\eta = 1/(16(\\kappa+1)^2 l)$, larger constants). "
    "Order of play, constants and certificates are ours.",
    symbols={
        "l": "joint smoothness of $f$",
        r"\kappa": r"$l/\mu$, $\mu$ the strong concavity of $f(x,\cdot)$",
        r"\eta": r"the leader's step size, $0 < \eta \le 1/(\kappa^2 l)$; the follower's is $1/l$",
        "T": "rounds",
        "D": r"$\Phi(x_0) - \inf\Phi$",
        "r_0": r"$\|y_0 - y^*(x_0)\|$, before the follower's first answer",
        "e_0": r"$\|y_1 - y^*(x_0)\|$, after it",
        "g_0": r"$\nabla_x f(x_0, y_1)$",
    },
    assumptions=ASSUMPTIONS,
    bounds=(RATE, DESCENT, DRIFT),
    proof=PROOF,
    attacks=(
        Attack("one descent", DESCENT, descent, FAMILY, falls_at=0.9),
        Attack("one ascent and drift", DRIFT, _drift, FAMILY, falls_at=0.99),
        Attack("rate", RATE, _rate, FAMILY, falls_at=0.6, sharp=FOUND),
    ),
    measurements=(
        Measurement(
            "rounds",
            "Non-convex games: the mean squared gradient and its bound",
            "rounds T",
            r"mean $\|\nabla\Phi(x_t)\|^2 / D$",
            _over_rounds,
            alt="Mean squared gradient of Phi against rounds for three condition numbers: each falls and stays below its "
            "dashed bound, which falls like 1/T.",
        ),
        Measurement(
            "slope",
            "1/T is the true order: slopes that last T rounds",
            "rounds T",
            r"mean $\|\nabla\Phi(x_t)\|^2$ ($D \approx 1$)",
            _slopes,
            alt="On games made for each T the mean squared gradient falls like 1/T, at about half of the dashed bound.",
        ),
        Measurement(
            "conditioning",
            "128 rounds over conditioning, with and without a ball",
            r"condition number $\kappa$ ($l = 1$)",
            r"mean $\|\nabla\Phi(x_t)\|^2 / D$",
            _over_conditioning,
            alt="Mean squared gradient after 128 rounds against the condition number for three families, below the bounds.",
        ),
    ),
    remarks=(
        r"The order of play is the core's. Because the follower answers before the leader moves, the error that the leader "
        r"causes is contracted before it is felt, and the step $1/(\kappa^2 l)$ is allowed. Where both move at once the same "
        r"proof has $\kappa^2(\kappa^2-1)$ for $(\kappa-1)^3(\kappa+1)$ in what is left of $\|g\|^2$, which at that step is "
        r"negative, and allows about $0.86/(\kappa^2 l)$; the usual $1/(2\kappa^2 l)$ doubles the $D$ term.",
        r"The one-round inequalities are sharp (their attacks fall at 0.9 and 0.99). The whole constant is not known to be: "
        r"the worst play found reaches 0.63 of it, at $\kappa = 3$ and $T = 64$, and the slopes half of it, "
        r"so the rate is attacked at 0.6. "
        r"At $\kappa = 1$ and $T = 1$ it is an equality, which says little.",
    ),
    order=30,
)
