"""A follower that keeps its noise between visits errs by O(eta): less than one that restarts, if visits are not too rare."""

from collections.abc import Sequence
from functools import partial

import torch
from sympy import Integer, Max, Symbol, sqrt, symbols
from torch import Tensor, nn

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Inequality, Sum, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import UNBOUNDED, follower, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from convergence.theorems.projected_ascent import CONTRACTION
from convergence.theorems.restart import games, starts
from scala import Game
from toy_problems import Quadratic

q, K, r_0, V, n, L_y, alpha_u, h, eta, omega = symbols("q K r_0 V n L_y alpha_u h eta omega", positive=True)
Q, s, root, step, phi, later = symbols("Q s root step phi later", positive=True)
r, r_next, dist, drift = symbols("r r_next dist drift", nonnegative=True)
n_star = Symbol("n^*", positive=True)
square, way, r_first, r_last, drifts, later_drifts, R = symbols(
    "square way r_first r_last drifts later_drifts R", nonnegative=True
)
C_0, C_1 = symbols("C_0 C_1", positive=True)

DRIFT = n * L_y * alpha_u * sqrt(h) * eta
"""How far y* of a sample moves at most between two of its visits."""

SETTING = {
    r"$q < 1$, as in theorem projected-ascent; a sample is visited every $n$ rounds, the first time before anything moved": q
    < 1
}
MEAN = Bound(
    "mean distance",
    r"\frac1V \sum_{v<V} r_v",
    q**K / (1 - q**K) * (C_0 * r_0 / V + C_1 * (1 - 1 / V) * DRIFT),
    constants={C_0: Integer(1), C_1: Integer(1)},
    proofs=(Proved("mean", R / V, {Q: q**K, r_first: r_0, root: sqrt(h), later: V - 1}),),
    where={r"$V \ge 1$": V >= 1} | SETTING,
)
EVERY = Bound(
    "every visit",
    r"\max_{v<V} r_v",
    q**K * Max(r_0, C_1 * DRIFT / (1 - q**K)),
    constants={C_1: Integer(1)},
    proofs=(
        Proved("induction, slow drift", r_next, {Q: q**K, r_first: r_0}),
        Proved("induction, fast drift", r_next, {Q: q**K, root: sqrt(h)}),
    ),
    where=SETTING,
)

CONTRACTS = {Q: 1 / (1 + s)}  # Q = q^K < 1
APART = n * L_y * alpha_u * root * eta
"""`DRIFT`, with a letter for the root of h."""

PROOF = (
    Inequality(
        "one layer, one round",
        eta**2 * alpha_u**2 - eta**2 * phi**2,
        (Term(eta**2 * (alpha_u + phi), "phi from above"),),
        says=r"A layer moves by $\eta\phi$, or not at all.",
    ),
    Sum(
        "all layers, one round",
        "one layer, one round",
        h,
        (h, eta, alpha_u),
        sums=((Integer(-1), eta**2 * phi**2, square),),
        rest=eta**2 * alpha_u**2,
        says=r"Over the $h$ layers: the square of $x$'s way in a round.",
    ),
    Inequality(
        "one round",
        root * eta * alpha_u - step,
        (Term(1 / (root * eta * alpha_u + step), "all layers, one round"), Term(1 / (root * eta * alpha_u + step), "length")),
        region={h: root**2},
        says=r"So $x$ moves by at most $\alpha_u\sqrt h\,\eta$ a round,",
    ),
    Sum(
        "n rounds",
        "one round",
        n,
        (n, eta, alpha_u, h, root),
        sums=((Integer(-1), step, way),),
        rest=root * eta * alpha_u,
        region={h: root**2},
        says=r"and by at most $n$ times that in $n$ rounds.",
    ),
    Inequality(
        "drift",
        APART - drift,
        (Term(1, "moving target"), Term(L_y, "n rounds")),
        region={h: root**2},
        says=r"$\|y^*(x_{v+1}) - y^*(x_v)\| \le c = n L_y\alpha_u\sqrt h\,\eta$.",
    ),
    Inequality(
        "one visit",
        Q * (r + drift) - r_next,
        (Term(1, "contraction"), Term(Q, "triangle")),
        says=r"$r_{v+1} \le q^K(r_v + \text{drift})$.",
    ),
    Inequality(
        "solved",
        Q / (1 - Q) * (drift + r - r_next) - r_next,
        (Term(1 / (1 - Q), "one visit"),),
        region=CONTRACTS,
        says=r"$r_{v+1} \le \frac{Q}{1-Q}(\text{drift} + r_v - r_{v+1})$, $Q = q^K$.",
    ),
    Sum(
        "all visits",
        "solved",
        V,
        (V, Q, s),
        {r: r_next},
        telescopes=((Q / (1 - Q), r, r_first, r_last),),
        sums=((Q / (1 - Q), drift, drifts), (Integer(-1), r_next, R)),
        region=CONTRACTS,
        says=r"Over the $V$ visits; $R$ is the sum of the distances after them.",
    ),
    Sum(
        "later drifts",
        "drift",
        later,
        (later, n, L_y, alpha_u, root, eta, h),
        sums=((Integer(-1), drift, later_drifts),),
        rest=APART,
        region={h: root**2},
        says=r"Over all visits but the first.",
    ),
    Argument(
        "before the first",
        r"$x$ has not moved before the first visit, so the drifts are the later ones.",
        later_drifts - drifts,
    ),
    Inequality(
        "mean",
        Q / (1 - Q) * (r_first / V + (1 - 1 / V) * APART) - R / V,
        (
            Term(1 / V, "all visits"),
            Term(Q / ((1 - Q) * V), "before the first"),
            Term(Q / ((1 - Q) * V), "later drifts"),
            Term(Q / ((1 - Q) * V) * r_last),
        ),
        region=CONTRACTS | {h: root**2, V: later + 1},
    ),
    Argument(
        "slow",
        r"First case: $c \le (1-Q) r_0$. Before the first visit nothing has moved, so that $r_1 \le Q r_0$.",
        (1 - Q) * r_first - APART,
    ),
    Argument("so far, slow", r"Hypothesis of an induction over visits: $r_v \le Q r_0$.", Q * r_first - r),
    Inequality(
        "induction, slow drift",
        Q * r_first - r_next,
        (Term(1, "one visit"), Term(Q, "drift"), Term(Q, "slow"), Term(Q, "so far, slow")),
        region={h: root**2},
        says=r"Then $r_{v+1} \le Q r_0$.",
    ),
    Argument(
        "so far, fast",
        r"Second case: $c \ge (1-Q) r_0$. Hypothesis: $(1-Q) r_v \le Qc$; it holds of $r_1 \le Q r_0$.",
        Q * APART - (1 - Q) * r,
    ),
    Inequality(
        "induction, fast drift",
        Q * APART / (1 - Q) - r_next,
        (Term(1, "one visit"), Term(Q, "drift"), Term(Q / (1 - Q), "so far, fast")),
        region=CONTRACTS | {h: root**2},
        says=r"Then $r_{v+1} \le Qc/(1-Q)$.",
    ),
    Argument(
        "worse than a restart",
        r"Let this, $Qc/(1-Q)$, be no better than the restarted follower's $Q\omega$.",
        APART - (1 - Q) * omega,
    ),
    Inequality(
        "more visits than n^*",
        n - (1 - Q) * omega / (L_y * alpha_u * root * eta),
        (Term(1 / (L_y * alpha_u * root * eta), "worse than a restart"),),
        says=r"Then $n \ge n^*$.",
    ),
)

ETA, ROUNDS, PHI = 0.5, 5, (1.0, 2.0)


def _chase(mu: Tensor, b: Tensor, x: Tensor, measure: str) -> tuple[Tensor, Values]:
    """The core with a warm follower, K = 1, rho = 1, every round; two layers that run from the origin at full speed.

    f = b<x,y> - mu|y|^2/2 - a|x|^2/2 with a > b^2/mu, so that y* = bx/mu runs away and the noise lags behind it. Y is the
    whole space; then one sample can carry the noise of all instances, which keeps the follower's memory fast.
    """
    weights = nn.Parameter(x.reshape(-1, 1).clone())  # a row is a layer
    adversary = follower(1.0, 1, start="warm")
    game = Game(normalized(ETA, phi=PHI)([weights]), adversary)
    at = torch.zeros(1, x.numel(), dtype=torch.float64)
    at[0, 0] = UNBOUNDED
    b, mu = b[:, None], mu[:, None]

    def objective(noise: Tensor | None) -> Tensor:
        here = weights.reshape(x.shape)
        y = torch.zeros_like(x) if noise is None else noise.reshape(x.shape)
        return (b * here * y - mu * y**2 / 2 - 1.1 * b**2 / mu * here**2 / 2).sum()

    distances = []
    for _ in range(ROUNDS):
        best = b / mu * weights.detach().reshape(x.shape)
        game.round(objective, at, keys=[0])
        distances.append((adversary.memory[0].reshape(x.shape) - best).norm(dim=-1))
    found = torch.stack(distances)
    one = torch.ones_like(mu[:, 0])
    values = {
        "q": CONTRACTION(l=mu[:, 0], mu=mu[:, 0], rho=1.0, K=1.0, r_0=1.0),
        "K": one,
        "r_0": (b / mu * x).norm(dim=-1),
        "n": one,
        "L_y": (b / mu)[:, 0],
        "alpha_u": PHI[1] * one,
        "h": 2 * one,
        "eta": ETA * one,
    }
    return (found.mean(0), values | {"V": ROUNDS * one}) if measure == "mean" else (found.amax(0), values)


def _visited(measure: str, n: int, K: int, *, mu: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Values]:
    """The core's follower with K steps a visit, every n rounds, while as many layers as x has entries run at full speed."""
    problem = Quadratic(torch.zeros(len(x), 1, 1), b[:, None, None], mu[:, None, None])
    adversary = follower(1.0, K, start="warm")
    at = torch.zeros(1, x.numel(), dtype=torch.float64)
    at[0, 0] = UNBOUNDED
    distances, h = [], x.shape[1]
    for v in range(ROUNDS):
        here = x + v * n * ETA * PHI[1] * x.sign()
        best = b[:, None] / mu[:, None] * here

        def objective(noise: Tensor | None, here: Tensor = here) -> Tensor:
            assert noise is not None
            y = noise.reshape(here.shape)
            return (b[:, None] * here * y - mu[:, None] * y**2 / 2).sum()

        answer = adversary.respond(objective, at, keys=[0]).noise.reshape(x.shape)
        distances.append((answer - best).norm(dim=-1))
    found, one = torch.stack(distances), torch.ones_like(mu)
    rate, lip = lipschitz(problem)
    values = {
        "q": rate, "K": K * one, "r_0": lip * x.norm(dim=-1), "n": n * one, "L_y": lip, "alpha_u": PHI[1] * one, "h": h * one,
        "eta": ETA * one,
    }  # fmt: skip
    return (found.mean(0), values | {"V": ROUNDS * one}) if measure == "mean" else (found.amax(0), values)


def _mean(mu: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Values]:
    return _chase(mu, b, x, "mean")


def _every(mu: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Values]:
    return _chase(mu, b, x, "every")


def lipschitz(problem: Quadratic) -> tuple[Tensor, Tensor]:
    """(q at rho = 1, Lip(y*) <= l_xy / mu)."""
    k = problem.constants
    assert k.l_yy is not None
    assert k.mu is not None
    assert k.l_xy is not None
    return CONTRACTION(l=k.l_yy, mu=k.mu, rho=1.0, K=1.0, r_0=1.0), k.l_xy / k.mu


def _over_eta(effort: Effort) -> Sequence[Curve]:
    """The leader travels the same way for every eta, so that only the follower's error can differ."""
    etas, curves = [0.02, 0.01, 0.005, 0.002][: 4 if effort.rounds == 1 else 3], []
    problem = games(effort.seeds, 3.0, torch.full((effort.seeds,), 10.0))
    x, (rate, lip) = 3 * starts(problem), lipschitz(problem)
    for label, start in START.items():
        measured, bounds = [], []
        for step in etas:
            T = round(1 / step)
            seen = play(
                problem,
                x,
                normalized(step),
                follower(1.0, 1, start=start),
                rounds=T,
                observe=lambda r: {"r": (r.y - problem.y_star(r.x)).norm(dim=-1)},
            )
            measured.append(seen["r"].mean(0))
            r_start = problem.y_star(x).norm(dim=-1)
            bounds.append(MEAN(q=rate, K=1.0, r_0=r_start, V=float(T), n=1.0, L_y=lip, alpha_u=1.0, h=2.0, eta=step))
        warm = start == "warm"
        curves.append(Curve(label, etas, torch.stack(measured), torch.stack(bounds) if warm else None, slope=float(warm)))
    return curves


def _over_steps(effort: Effort) -> Sequence[Curve]:
    steps, curves, T, step = [1, 2, 4, 8], [], round(100 * effort.rounds), 0.01
    problem = games(effort.seeds, 3.0, torch.full((effort.seeds,), 10.0))
    x, (rate, lip) = 3 * starts(problem), lipschitz(problem)
    for label, start in START.items():
        measured, bounds = [], []
        for k in steps:
            seen = play(
                problem,
                x,
                normalized(step),
                follower(1.0, k, start=start),
                rounds=T,
                observe=lambda r: {"r": (r.y - problem.y_star(r.x)).norm(dim=-1)},
            )
            measured.append(seen["r"].mean(0))
            r_start = problem.y_star(x).norm(dim=-1)
            bounds.append(MEAN(q=rate, K=float(k), r_0=r_start, V=float(T), n=1.0, L_y=lip, alpha_u=1.0, h=2.0, eta=step))
        curves.append(Curve(label, steps, torch.stack(measured), torch.stack(bounds) if start == "warm" else None))
    return curves


def visits(problem: Quadratic, path: Tensor, every: int, start: str, steps: int = 1) -> Tensor:
    """Distances [V, B] after the core's follower has visited at rounds 0, every, 2 every ... of a path of weights [T, B, d_x].

    Between visits other samples were trained on; they moved x, but not this sample's noise.
    """
    adversary = follower(1.0, steps, start=start)
    assert problem.omega is not None
    at = torch.zeros(problem.batch, problem.d_y, dtype=torch.float64)
    at[:, 0] = problem.omega
    found = []
    for x in path[::every]:
        answer = adversary.respond(lambda y, x=x: problem.f(x, y).sum(), at, keys=range(problem.batch))  # type: ignore[misc]
        found.append((answer.noise - problem.y_star(x)).norm(dim=-1))
    return torch.stack(found)


def noisy_path(problem: Quadratic, step: float, rounds: int) -> Tensor:
    """Weights of the core's leader under gradient noise, [T, B, d_x]: it keeps roaming, as in fine-tuning at a fixed rate."""
    generator = torch.Generator().manual_seed(2)
    x = starts(problem)

    def noise(t: int, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    return play(problem, x, normalized(step), None, rounds=rounds, observe=lambda r: {"path": r.x}, noise=noise)["path"]


def _over_visits(effort: Effort) -> Sequence[Curve]:
    """Staleness n against the threshold, here (1 - q) omega / (L_y sqrt(h) eta)."""
    T, step = round(512 * max(effort.rounds, 0.5)), 0.04
    rare = [2**k for k in range(9) if 2**k <= T / 4]
    problem = games(effort.seeds, 3.0, torch.full((effort.seeds,), 2.0))
    path, (rate, lip) = noisy_path(problem, step, T), lipschitz(problem)
    assert problem.omega is not None
    curves = []
    for label, start in START.items():
        measured, bounds = [], []
        for every in rare:
            found = visits(problem, path, every, start)
            measured.append(found.mean(0))
            if start == "zero":
                bounds.append(rate * problem.omega)
            else:
                bounds.append(
                    MEAN(q=rate, K=1.0, r_0=problem.omega, V=float(len(found)), n=float(every), L_y=lip, alpha_u=1.0, h=2.0,
                         eta=step)
                )  # fmt: skip
        curves.append(Curve(label, rare, torch.stack(measured), torch.stack(bounds)))
    return curves


START = {"restart": "zero", "warm start": "warm"}
RANGES = {"mu": Range(0.4, 0.75), "b": Range(0.25, 2), "x": Range(-4, 4, size=2)}
NEAR_SHARP = {"mu": Range(0.5, 0.75), "b": Range(0.25, 2), "x": Range(2, 4, size=2)}
FAR = {"mu": 0.75, "b": 0.5, "x": [4.0, 4.0]}

THEOREM = Theorem(
    name="warm-start",
    title="A follower that remembers errs by O(eta)",
    about=r"Keep each sample's noise and start its next ascent there. The noise then chases a $y^*$ that moves by at most "
    r"$c = n L_y\alpha_u\sqrt h\,\eta$ between visits, $n$ rounds apart ($n = 1$: every round; fine-tuning: the rounds of an "
    r"epoch), and the mean distance is $O(\eta)$ where a restarted follower's is constant.",
    source="Derived here from theorems projected-ascent and danskin.",
    symbols={
        "r_v": r"$\|y - y^*(x)\|$ after the ascent at visit $v = 0, \dots, V-1$",
        "r_0": r"in the bound: $\|y - y^*(x)\|$ before the first ascent; at most $\omega$ from $y = 0$",
        "V": "visits",
        "n": "rounds from one visit of a sample to the next",
        "q": "factor of one ascent step, theorem projected-ascent; $q < 1$",
        "K": "ascent steps a visit",
        "L_y": r"Lipschitz constant of $y^*$: $l_{xy}/\mu$ or $\sqrt{\kappa^2-1}$, theorem danskin",
        r"\alpha_u": r"upper bound of $\phi$",
        "h": "layers",
        r"\eta": "leader's step size",
        r"\omega": "radius of the ball",
    },
    assumptions=(
        Assumption(
            "contraction",
            r"$K$ ascent steps: $r_{v+1} \le q^K d$, $d$ the distance of the kept noise from the new $y^*$.",
            Q * dist - r_next,
            proved_by="projected-ascent",
        ),
        Assumption("triangle", r"$d \le r_v + \|y^*(x_{v+1}) - y^*(x_v)\|$, the drift.", r + drift - dist),
        Assumption(
            "moving target",
            r"$\|y^*(x_{v+1}) - y^*(x_v)\| \le L_y\|x_{v+1} - x_v\|$, which is at most $L_y$ times the way of $x$.",
            L_y * way - drift,
            proved_by="danskin",
        ),
        Assumption("phi from above", r"$\phi \le \alpha_u$.", alpha_u - phi),
        Assumption("length", r"step$^2$ is the sum of the squares of the layers' moves.", square - step**2),
    ),
    bounds=(MEAN, EVERY),
    facts=(
        Equation(
            n_star,
            (1 - q**K) * omega / (L_y * alpha_u * sqrt(h) * eta),
            "more visits than n^*",
            {Q: q**K, root: sqrt(h), n: n_star},
        ),
    ),
    proof=PROOF,
    attacks=(
        Attack("the first distance", MEAN, _mean, NEAR_SHARP, constant="C_0", sharp=FAR),
        Attack("the drift", MEAN, _mean, NEAR_SHARP, constant="C_1", sharp=FAR),
        Attack("every visit", EVERY, _every, RANGES, constant="C_1"),
        Attack(
            "rare visits, two steps each, three layers",
            MEAN,
            partial(_visited, "mean", 4, 2),
            {"mu": Range(0.25, 0.75), "b": Range(0.25, 2), "x": Range(1, 4, size=3)},
            constant="C_1",
        ),
        Attack(
            "every rare visit, three layers",
            EVERY,
            partial(_visited, "every", 3, 1),
            {"mu": Range(0.25, 0.75), "b": Range(0.25, 2), "x": Range(0.25, 4, size=3)},
            constant="C_1",
        ),
    ),
    measurements=(
        Measurement(
            "eta",
            "Smaller steps shrink the error of a warm follower, not of one that restarts",
            r"leader's step $\eta$",
            r"mean of $\|y_K - y^*\|$",
            _over_eta,
            alt="Mean distance against the leader's step: the warm follower's falls in proportion, that of restarts is flat.",
        ),
        Measurement(
            "steps",
            "A warm follower gains from every ascent step too",
            "ascent steps K",
            r"mean of $\|y_K - y^*\|$",
            _over_steps,
            alt="Mean distance against ascent steps: both fall; the warm follower's is far below.",
        ),
        Measurement(
            "visits",
            "Rare visits make a remembered noise stale; its guarantee ends long before its use",
            "rounds n from one visit of a sample to its next",
            r"mean of $\|y_K - y^*\|$",
            _over_visits,
            alt="Mean distance against the rounds between visits: the restarted follower's is flat, the warm one's rises and "
            "levels off near it; the bounds cross early, the measured means do not.",
        ),
    ),
    remarks=(
        r"The sum has $V - 1$ drifts, not $V$, since nothing has moved before the first visit.",
        r"Practical rule: a sample is visited once in an epoch of $n$ rounds. While "
        r"$n \le n^* = (1-q^K)\,\omega/(L_y\alpha_u\sqrt h\,\eta)$, the second bound says that every visit of a warm follower "
        r"ends within $q^K\omega$, the restarted follower's guarantee. Beyond, restart: a stale noise may be $2\omega$ from "
        r"the best answer, $0$ only $\omega$.",
        r"$n^*$ supposes that the weights run straight for a whole epoch. Weights that wander come back: in figure "
        r"visits the bounds cross after a few rounds, and the measured means, though they approach, do not cross in its range.",
    ),
    order=51,
)
