"""Gradient descent ascent with noise in both players' gradients: the same rate, and a floor of variance over batch size."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from sympy import symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.random_games import random_games
from convergence.theorem import Argument, Assumption, Theorem
from convergence.theorems.gradient_descent_ascent import (
    ALL_ROUNDS,
    BOUNDED,
    FAMILY,
    GAME,
    LEFT_OVER,
    R_0,
    SOLVED,
    STEP,
    STEP_SIZE,
    D,
    G,
    M,
    Phi,
    Phi_next,
    T,
    a,
    d,
    descent,
    e_0,
    eta,
    g,
    gap,
    instances,
    kappa,
    l,
    on_the_leader,
    prefix_means,
    q,
    r_0,
    u,
    v,
    weight,
)  # fmt: skip
from convergence.unit_steps import Noise, rounds
from toy_problems import MinMaxProblem, Quadratic

b = symbols("b", positive=True)
sigma_x, sigma_y, S_x, S_y = symbols("sigma_x sigma_y S_x S_y", nonnegative=True)
h, m, z = vectors("h m z")
LEADERS_SHARE = kappa * l * eta + (kappa - 1) ** 3 * (kappa + 1) * (l * eta) ** 2
"""1 - LEFT_OVER: at most 1 for eta <= 1/(kappa^2 l), and O(eta)."""

NOISE = {S_x: sigma_x**2 / b, S_y: sigma_y**2 / b}
BATCHES = {r"the two players' batches are drawn independently": None}

RATE = Bound(
    "rate",
    r"\frac1T\sum_{t<T}\mathbb{E}\|\nabla\Phi(x_t)\|^2",
    (2 * D / eta + kappa * q**2 * l**2 * r_0**2) / T + (LEADERS_SHARE * sigma_x**2 + kappa * sigma_y**2) / b,
    proofs=(Proved("solved for the mean", M, NOISE | {R_0: r_0**2}),),
    where=STEP_SIZE | GAME | BATCHES,
)
DESCENT = Bound(
    "one descent",
    r"\mathbb{E}\Phi(x_1) - \Phi(x_0) + \tfrac{\eta}{2}\|\nabla\Phi(x_0)\|^2 + \tfrac{\eta}{2}(1 - \kappa l\eta)\|g_0\|^2",
    eta * l**2 * e_0**2 / 2 + kappa * l * eta**2 * sigma_x**2 / (2 * b),
    proofs=(
        Proved(
            "descent",
            Phi_next - Phi + eta / 2 * norm2(G) + eta / 2 * (1 - kappa * l * eta) * norm2(g),
            NOISE | {norm2(u): e_0**2},
        ),
    ),
    where=GAME | BATCHES,
)
ANSWER = Bound(
    "one ascent",
    r"\mathbb{E}\|y_1 - y^*(x_0)\|^2",
    q**2 * r_0**2 + sigma_y**2 / (b * l**2),
    proofs=(Proved("noisy answer", norm2(u), NOISE | {norm2(d): r_0**2}),),
    where=GAME | BATCHES,
)

ASSUMPTIONS = (
    *on_the_leader(h, "h"),
    BOUNDED,
    Assumption(
        "ascent contracts",
        r"$\|m\| \le q\|d\|$ for $m = d + \frac1l(\nabla_y f(x,y) - \nabla_y f(x,y^*))$, the step before its projection.",
        q**2 * norm2(d) - norm2(m),
        proved_by="projected-ascent",
    ),
    Assumption(
        "projection",
        r"$\|u\| \le \|m + z/l\|$: projecting is non-expansive, and $y^*$ is that of $y^* + \frac1l\nabla_y f(x,y^*)$.",
        norm2(m + z / l) - norm2(u),
    ),
    Assumption(
        "leader unbiased",
        r"$\mathbb{E}[h \mid x_t, y_{t+1}] = g$, so $\mathbb{E}\langle G, h - g\rangle = 0$: the leader's batch is not the "
        "one that the follower has just answered.",
        Dot(G, h - g),
    ),
    Assumption(
        "leader variance",
        r"$\mathbb{E}\|h - g\|^2 \le S_x = \sigma_x^2/b$ and unbiased: $\mathbb{E}\|h\|^2 \le \mathbb{E}\|g\|^2 + S_x$.",
        norm2(g) + S_x - norm2(h),
    ),
    Assumption("follower unbiased", r"$\mathbb{E}[z \mid x_t, y_t] = 0$, so $\mathbb{E}\langle m, z\rangle = 0$.", -Dot(m, z)),
    Assumption("follower variance", r"$\mathbb{E}\|z\|^2 \le S_y = \sigma_y^2/b$.", S_y - norm2(z)),
)

PROOF = (
    Argument(
        "expectations",
        r"The letters are those of the theorem without noise; $h = g + $ noise is what the leader descends, $z$ the noise in "
        r"the follower's gradient. They are random vectors, and $\langle\cdot,\cdot\rangle$ below is "
        r"$\mathbb{E}\langle\cdot,\cdot\rangle$, $\|\cdot\|^2$ is $\mathbb{E}\|\cdot\|^2$, $\Phi$ is $\mathbb{E}\Phi$: "
        r"square-integrable random vectors are a Euclidean space too, so the same algebra holds.",
    ),
    Inequality(
        "descent",
        Phi - Phi_next - eta / 2 * norm2(G) - eta / 2 * (1 - kappa * l * eta) * norm2(g)
        + eta / 2 * l**2 * norm2(u) + kappa * l * eta**2 / 2 * S_x,
        (
            Term(1, "smoothness of Phi"),
            Term(eta, "leader unbiased"),
            Term(kappa * l * eta**2 / 2, "leader variance"),
            Term(eta / 2, "wrong answer"),
        ),
        says=r"The leader's noise costs $\frac12\kappa l\eta^2 S_x$.",
    ),
    Inequality(
        "noisy answer",
        q**2 * norm2(d) + S_y / l**2 - norm2(u),
        (
            Term(1, "ascent contracts"),
            Term(1, "projection"),
            Term(2 / l, "follower unbiased"),
            Term(1 / l**2, "follower variance"),
        ),
        region={kappa: 1 + a},
        says=r"$\mathbb{E}\|u\|^2 \le q^2\,\mathbb{E}\|d\|^2 + S_y/l^2$.",
    ),
    Inequality(
        "drift",
        kappa * norm2(u) + (kappa - 1) * kappa * (kappa**2 - 1) * eta**2 * (norm2(g) + S_x) - (kappa - 1) * norm2(u + v),
        (
            Term(kappa * (kappa - 1), "moving target"),
            Term(kappa * (kappa - 1) * (kappa**2 - 1) * eta**2, "leader variance"),
            Term(1, Norm2(u - (kappa - 1) * v)),
        ),
        region={kappa: 1 + a},
        says="Young's inequality; the leader's noise moves the target too.",
    ),
    Inequality(
        "one round",
        (Phi + weight * norm2(d)) - (Phi_next + weight * norm2(u + v)) - eta / 2 * norm2(G)
        + eta / 2 * (LEADERS_SHARE * S_x + kappa * S_y),
        (
            Term(1, "descent"),
            Term(weight / (kappa - 1), "drift"),
            Term(eta * kappa * l**2 / 2, "noisy answer"),
            Term(eta / 2 * LEFT_OVER, Norm2(g)),
        ),
        region=STEP,
        says=r"$\mathbb{E}V_{t+1} \le \mathbb{E}V_t - \frac{\eta}{2}\mathbb{E}\|\nabla\Phi(x_t)\|^2 + \frac{\eta}{2}(c\,S_x + "
        r"\kappa S_y)$, with $c = \kappa l\eta + (\kappa-1)^3(\kappa+1)(l\eta)^2$.",
    ),
    Inequality(
        "the leader's share",
        1 - LEADERS_SHARE,
        (Term(LEFT_OVER),),
        region=STEP,
        says=r"$c \le 1$ for $\eta \le 1/(\kappa^2 l)$.",
    ),
    replace(ALL_ROUNDS, constant=(*ALL_ROUNDS.constant, S_x, S_y), rest=eta / 2 * (LEADERS_SHARE * S_x + kappa * S_y)),
    Inequality(
        "solved for the mean",
        (2 * D / eta + kappa * q**2 * l**2 * R_0) / T + LEADERS_SHARE * S_x + kappa * S_y - M,
        SOLVED,
        region=STEP,
        says="Limits as without noise.",
    ),
)  # fmt: skip


def _two_points(x: Tensor, y: Tensor) -> Noise:
    """Noise +x, +y in the first half of the batch, -x, -y in the second: their mean is the expectation exactly."""
    return lambda _: (torch.cat([x, -x])[:, None], torch.cat([y, -y])[:, None])


def _mean_of_two(both: Tensor) -> Tensor:
    return torch.stack(both.chunk(2)).mean(0)


def _one_descent(*, sigma: Tensor, **instance: Tensor) -> tuple[Tensor, Values]:
    """One round of the core with noise +-sigma in the leader's gradient."""
    both, values = descent(**{name: of.repeat(2) for name, of in instance.items()}, noise=_two_points(sigma, 0 * sigma))
    values = {name: of[: len(sigma)] for name, of in values.items()}
    return _mean_of_two(both), values | {"kappa": instance["kappa"], "sigma_x": sigma, "b": torch.ones_like(sigma)}


def _one_ascent(*, kappa: Tensor, a: Tensor, x: Tensor, r: Tensor, sigma: Tensor) -> tuple[Tensor, Values]:
    """One answer of the core with noise +-sigma in the follower's gradient."""
    problem, l, eta = instances(kappa.repeat(2), a.repeat(2), torch.ones(2 * len(x)))  # noqa: E741
    start = x.repeat(2)[:, None]
    y_0, noise = problem.y_star(start) + r.repeat(2)[:, None], _two_points(0 * sigma, sigma)
    seen = rounds(problem, start, (eta, 1 / l), 1, y_0=y_0, noise=noise, observe=lambda _, y: {"y": y})
    error = (seen["y"][0] - problem.y_star(start)).square().sum(-1)
    values = {"kappa": kappa, "l": l[: len(x)], "r_0": r.abs(), "sigma_y": sigma, "b": torch.ones_like(x)}
    return _mean_of_two(error), values


def _rate(
    *, kappa: Tensor, a: Tensor, share: Tensor, x: Tensor, r: Tensor, sigma_x: Tensor, sigma_y: Tensor
) -> tuple[Tensor, Values]:
    """Six rounds of the core on linear games, where expectations are exact.

    Three plays: without noise, and from the solution with one unit of noise in the first round, in the leader's gradient
    or in the follower's. The variance of the gradient of Phi in round t is the sum of the squared responses up to t.
    """
    T, n = 6, len(x)
    problem, l, eta = instances(kappa.repeat(3), a.repeat(3), share.repeat(3))  # noqa: E741
    start = torch.cat([x, 0 * x, 0 * x])[:, None]
    y_0 = problem.y_star(start) + torch.cat([r, 0 * r, 0 * r])[:, None]
    kick = torch.zeros(2, 3 * n, 1, dtype=torch.float64)
    kick[0, n : 2 * n], kick[1, 2 * n :] = 1, 1
    seen = rounds(
        problem, start, (eta, 1 / l), T, y_0=y_0, noise=lambda t: (kick[0] * (t == 0), kick[1] * (t == 0))
    )  # fmt: skip
    mean, by_x, by_y = seen["G2"].split(n, 1)
    expected = mean + sigma_x**2 * by_x.cumsum(0) + sigma_y**2 * by_y.cumsum(0)
    values = {
        "D": gap(problem, start[:, 0])[:n], "eta": eta[:n], "kappa": kappa, "l": l[:n], "r_0": r.abs(),
        "T": torch.full_like(x, T), "sigma_x": sigma_x, "sigma_y": sigma_y, "b": torch.ones_like(x),
    }  # fmt: skip
    return expected.mean(0), values


_SIGMA = Range(0.0625, 2)
REPEATS = 16
"""Plays of each instance, whose mean stands for the expectation."""


def _noisy(problem: MinMaxProblem, batch_sizes: Tensor, seed: int = 2) -> Noise:
    """Gaussian noise of variance 1/b in each player's gradient."""
    generator = torch.Generator().manual_seed(seed)

    def draw(_: int) -> tuple[Tensor, Tensor]:
        both = torch.randn(problem.batch, problem.d_x + problem.d_y, generator=generator, dtype=torch.float64)
        x, y = both.split([problem.d_x, problem.d_y], 1)
        return x / (batch_sizes * problem.d_x).sqrt()[:, None], y / (batch_sizes * problem.d_y).sqrt()[:, None]

    return draw


def _averaged(G2: Tensor, points: int) -> Tensor:
    """[.., points * instances * REPEATS] to [.., points, instances], the mean over repeats."""
    return G2.unflatten(-1, (points, -1, REPEATS)).mean(-1)


def _over_batch_size(effort: Effort) -> Sequence[Curve]:
    """128 rounds from a solution, so that there is noise and nothing else; l = 1, kappa = 4."""
    condition, sizes, n = 4.0, [1, 4, 16, 64, 256], max(4, effort.seeds // 5)
    of_size = torch.tensor(sizes, dtype=torch.float64).repeat_interleave(n * REPEATS)
    one, copies = torch.ones_like(of_size), (len(sizes), REPEATS)
    families = {
        "extremal game": Quadratic.extremal(one, one / condition),
        "random quadratic": random_games(condition, n, sign=1, copies=copies),
        "random sigmoid": random_games(condition, n, sigmoid=True, copies=copies),
    }
    nothing = {"D": 0.0, "r_0": 0.0, "T": 1.0}
    bound = RATE(eta=condition**-2, kappa=condition, l=1.0, sigma_x=1.0, sigma_y=1.0, b=of_size, **nothing)
    curves = []
    for label, problem in families.items():
        start = torch.zeros(problem.batch, problem.d_x, dtype=torch.float64)
        seen = rounds(problem, start, (condition**-2, 1.0), 128, noise=_noisy(problem, of_size))
        measured = _averaged(seen["G2"].mean(0), len(sizes))
        curves.append(Curve(label, sizes, measured, _averaged(bound, len(sizes)), slope=-1.0))
    return curves


def _over_rounds(effort: Effort) -> Sequence[Curve]:
    """The extremal game, where noise is felt most, from many starts; l = 1, kappa = 4."""
    condition, sizes, n = 4.0, [1, 16, 256], max(4, effort.seeds // 5)
    Ts = [4**k for k in range(1, 7) if 4**k <= 4096 * effort.rounds]
    of_size = torch.tensor(sizes, dtype=torch.float64).repeat_interleave(n * REPEATS)
    one = torch.ones_like(of_size)
    problem, eta = Quadratic.extremal(one, one / condition), condition**-2
    x = torch.linspace(1, 2, n, dtype=torch.float64).repeat_interleave(REPEATS).repeat(len(sizes))[:, None]
    seen = rounds(problem, x, (eta, 1.0), Ts[-1], noise=_noisy(problem, of_size))
    measured = _averaged(prefix_means(seen["G2"], Ts), len(sizes))
    start = {"D": gap(problem, x[:, 0]), "r_0": problem.y_star(x).norm(dim=-1)}
    bound = [RATE(eta=eta, kappa=condition, l=1.0, T=float(k), sigma_x=1.0, sigma_y=1.0, b=of_size, **start) for k in Ts]
    bounds = _averaged(torch.stack(bound), len(sizes))
    return [Curve(f"b = {size}", Ts, measured[:, k], bounds[:, k]) for k, size in enumerate(sizes)]


FOUND = {"kappa": 3.0, "a": 1.0, "share": 1.0, "x": -0.45, "r": 1.0, "sigma_x": 0.0625, "sigma_y": 0.0625}
"""The worst instance of a long search."""

THEOREM = Theorem(
    name="stochastic-gradient-descent-ascent",
    title="Gradient descent ascent with noisy gradients",
    about=r"With minibatches of $b$ samples the rate keeps its $1/T$ and gets a floor, "
    r"$(c\,\sigma_x^2 + \kappa\sigma_y^2)/b$ with $c = \kappa l\eta + (\kappa-1)^3(\kappa+1)(l\eta)^2 \le 1$. A shorter "
    r"leader's step removes the leader's part; the follower's, which comes from its constant step $1/l$, only a larger batch.",
    source="After Lin, Jin, Jordan 2020, Theorem 4.5. Order of play, constants and certificates are ours.",
    symbols={
        "b": "batch size",
        r"\sigma_x^2, \sigma_y^2": "variance of one sample's gradient, in x and in y",
        r"l, \kappa, \eta, T, D, r_0": r"as without noise; $0 < \eta \le 1/(\kappa^2 l)$",
        "e_0": r"$\|y_1 - y^*(x_0)\|$",
        "g_0": r"$\nabla_x f(x_0, y_1)$",
    },
    assumptions=ASSUMPTIONS,
    bounds=(RATE, DESCENT, ANSWER),
    proof=PROOF,
    attacks=(
        Attack("one descent", DESCENT, _one_descent, FAMILY | {"sigma": _SIGMA}, falls_at=0.9),
        Attack(
            "one ascent",
            ANSWER,
            _one_ascent,
            {k: FAMILY[k] for k in ("kappa", "a", "x", "r")} | {"sigma": _SIGMA},
            falls_at=0.99,
        ),
        Attack("rate", RATE, _rate, FAMILY | {"sigma_x": _SIGMA, "sigma_y": _SIGMA}, falls_at=0.58, sharp=FOUND),
    ),
    measurements=(
        Measurement(
            "batch-size",
            "From a solution: the floor falls like 1/b",
            "batch size b",
            r"mean $\|\nabla\Phi(x_t)\|^2$, 128 rounds",
            _over_batch_size,
            alt="Started at a solution, the mean squared gradient is inversely proportional to the batch size, below the "
            "dashed bounds.",
        ),
        Measurement(
            "rounds",
            "First 1/T, then the floor of the batch size",
            "rounds T",
            r"mean $\|\nabla\Phi(x_t)\|^2$",
            _over_rounds,
            alt="Mean squared gradient against rounds for batch sizes 1, 16 and 256: each falls until the floor of its noise, "
            "lower for larger batches, and stays below its dashed bound.",
        ),
    ),
    remarks=(
        r"The leader's batch must be fresh. The core descends on the batch that the follower has just answered; there $h$ "
        r"depends on $z$ and is biased given $y_{t+1}$, unless every sample has its own $y$ (the ScaLA theorem's setting).",
        r"One rate for every $\kappa \ge 1$: the floor at the longest step is at most $(\sigma_x^2 + \kappa\sigma_y^2)/b$, "
        r"against $(2\kappa + \frac12)\sigma^2/b$ with $\max(\kappa, 2)$ for the usual order of play.",
        "The one-round inequalities are sharp. The whole constant is not known to be: plays of six rounds reach 0.6 of it (the "
        "part without noise, at kappa = 3), so that is where it is attacked; of the floor alone see the extremal game's play.",
    ),
    order=31,
)
