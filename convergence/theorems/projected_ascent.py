"""Projected ascent contracts: the follower's K steps bring it q^K closer to its best answer."""

from collections.abc import Sequence
from functools import partial

import torch
from sympy import Max, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Repeat, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import Quadratic

l, mu, rho, a, s = symbols("l mu rho a s", positive=True)  # noqa: E741 - the theory's letter
r_0, K = symbols("r_0 K", positive=True)
d, g, t = vectors("d g t")
P_s, A_s, Z_s, P_l, A_l, Z_l = symbols("P_s A_s Z_s P_l A_l Z_l", nonnegative=True)
p = d - rho * g - rho * t

CONTRACTION = Bound(
    "contraction",
    r"\|y_K - y^*(x)\|",
    Max(abs(1 - rho * mu), abs(1 - rho * l)) ** K * r_0,
    proofs=(
        Proved("K short steps", Z_s, {A_s: r_0**2}, power=2),
        Proved("K long steps", Z_l, {A_l: r_0**2}, power=2),
    ),
    where={r"$l \ge \mu > 0$, $\rho > 0$": l >= mu},
)
SHORT = {l: mu + a, rho: 2 / ((2 * mu + a) * (1 + s))}
LONG = {l: mu + a, rho: (2 + s) / (2 * mu + a)}

PROOF = (
    Argument(
        "one step as a sum",
        r"Write the step as $y^+ = y + \rho\nabla_y f(x,y) - \rho n^+$ with $n^+$ a normal of $Y$ at $y^+$, and the maximiser "
        r"as $y^* = y^* + \rho\nabla_y f(x,y^*) - \rho n^*$. With $d = y - y^*$, $g$ the difference of the gradients of $-f$, "
        r"$t$ the difference of the normals, $y^+ - y^* = d - \rho g - \rho t = p$.",
    ),
    Inequality(
        "short steps",
        (1 - rho * mu) ** 2 * norm2(d) - norm2(p),
        (
            Term(2 * rho * (1 - rho * mu) / (l - mu), "co-coercivity"),
            Term(2 * rho, "normal cone"),
            Term(rho * (2 - rho * (l + mu)) / (l - mu), Norm2(g - mu * d)),
            Term(rho**2, Norm2(t)),
        ),
        region=SHORT,
        says=r"For $\rho \le 2/(l+\mu)$ and $l > \mu$: $\|p\| \le (1 - \rho\mu)\|d\|$.",
    ),
    Inequality(
        "long steps",
        (1 - rho * l) ** 2 * norm2(d) - norm2(p),
        (
            Term(2 * rho * (rho * l - 1) / (l - mu), "co-coercivity"),
            Term(2 * rho, "normal cone"),
            Term(rho * (rho * (l + mu) - 2) / (l - mu), Norm2(l * d - g)),
            Term(rho**2, Norm2(t)),
        ),
        region=LONG,
        says=r"For $\rho \ge 2/(l+\mu)$: $\|p\| \le (\rho l - 1)\|d\|$.",
    ),
    Repeat(
        "K short steps",
        "short steps",
        K,
        (rho, mu, l, a, s, K),
        {d: p},
        (1 - rho * mu) ** 2,
        norm2(d),
        P_s,
        A_s,
        Z_s,
        region=SHORT,
        says=r"$\|y_K - y^*\|^2 \le (1-\rho\mu)^{2K}\|y_0 - y^*\|^2$.",
    ),
    Repeat(
        "K long steps",
        "long steps",
        K,
        (rho, mu, l, a, s, K),
        {d: p},
        (1 - rho * l) ** 2,
        norm2(d),
        P_l,
        A_l,
        Z_l,
        region=LONG,
        says=r"$\|y_K - y^*\|^2 \le (\rho l - 1)^{2K}\|y_0 - y^*\|^2$.",
    ),
    Argument("one curvature", r"The case $l = \mu$, where $g = \mu d$, follows by continuity in $l$."),
)


def _one_dimension(l: Tensor, mu: Tensor, omega: Tensor, x: Tensor, rho: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: E741
    """One ascent step on the separable quadratic with curvatures mu and l, from the origin, in a ball."""
    l = torch.maximum(l, mu)  # noqa: E741
    curvature = torch.stack([mu, l], -1)
    problem = Quadratic(
        torch.zeros(len(l), 2, 2), torch.diag_embed(torch.ones(len(l), 2)), torch.diag_embed(curvature), omega=omega
    )
    rho = rho * 2 / (l + mu)
    start = torch.zeros_like(x)
    best = problem.y_star(x)
    after = problem.project_y(start + rho[:, None] * problem.grad_y(x, start))
    r = (start - best).norm(dim=-1)
    return (after - best).norm(dim=-1), {"l": l, "mu": mu, "rho": rho, "K": torch.ones_like(l), "r_0": r}


def _core(K: int, curvature: Tensor, reach: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """K steps of scala.Adversary, rho = 1 being the unit, on a separable quadratic in a ball `reach` times its best answer."""
    problem = Quadratic(torch.zeros(len(x), 2, 2), torch.diag_embed(torch.ones(len(x), 2)), torch.diag_embed(curvature))
    r = problem.y_star(x).norm(dim=-1)
    omega = (reach * r).clamp_min(2.0**-10)
    problem = Quadratic(problem.A, problem.B, problem.C, omega=omega)
    at = torch.zeros_like(x)
    at[:, 0] = omega
    adversary = follower(1.0, K)

    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        return problem.f(x, noise).sum()

    best, found = problem.y_star(x), adversary.respond(objective, at).noise
    one = torch.ones_like(r)
    values = {"l": curvature.amax(-1), "mu": curvature.amin(-1), "rho": one, "K": K * one, "r_0": best.norm(dim=-1)}
    return (found - best).norm(dim=-1), values


def _core_over_steps(effort: Effort) -> Sequence[Curve]:
    """scala.Adversary itself on random quadratic games, K = 1 .. 16, two step sizes."""
    generator = torch.Generator().manual_seed(0)
    B, n = effort.seeds, 3
    G = torch.randn(B, n, n, generator=generator, dtype=torch.float64)
    C = G @ G.mT
    C = C / torch.linalg.eigvalsh(C)[:, -1, None, None] + 0.1 * torch.eye(n)
    problem = Quadratic(
        torch.zeros(B, n, n), torch.randn(B, n, n, generator=generator, dtype=torch.float64), C, omega=torch.ones(B)
    )
    x = torch.randn(B, n, generator=generator, dtype=torch.float64)
    c, best = problem.constants, problem.y_star(x)
    assert c.mu is not None
    assert c.l_yy is not None
    r_start, steps = best.norm(dim=-1), [1, 2, 4, 8, 16]
    curves = []
    for step in (0.9, 1.6):
        measured, bounds = [], []
        for k in steps:
            seen = play(
                problem, x, normalized(0.0), follower(step, k), rounds=1, observe=lambda r: {"r": (r.y - best).norm(dim=-1)}
            )
            measured.append(seen["r"][0])
            bounds.append(CONTRACTION(l=c.l_yy, mu=c.mu, rho=step, K=float(k), r_0=r_start))
        curves.append(Curve(rf"$\rho = {step}$", steps, torch.stack(measured), torch.stack(bounds)))
    return curves


THEOREM = Theorem(
    name="projected-ascent",
    title="Projected ascent contracts",
    about=r"The follower's $K$ projected ascent steps bring its noise closer to the best answer $y^*(x)$ by a factor $q$ each, "
    r"at any step size; $q = 1 - 1/\kappa$ at $\rho = 1/l$ and $(\kappa-1)/(\kappa+1)$ at $\rho = 2/(l+\mu)$.",
    source="Textbook (Nesterov 2004, Theorem 2.1.15, without constraint); the certificate with the projection is ours.",
    symbols={
        "l": "smoothness of $f(x,\\cdot)$",
        r"\mu": "strong concavity of $f(x,\\cdot)$",
        r"\rho": "ascent step size",
        "K": "ascent steps",
        "r_0": r"$\|y_0 - y^*(x)\|$",
    },
    assumptions=(
        Assumption(
            "co-coercivity",
            r"$-f(x,\cdot)$ is $\mu$-strongly convex and $l$-smooth: $\langle g - \mu d,\, l d - g\rangle \ge 0$ "
            "(Nesterov 2004, Theorem 2.1.12).",
            Dot(g - mu * d, l * d - g),
        ),
        Assumption(
            "normal cone", r"$Y$ is convex and closed, so $\langle t, p\rangle \ge 0$: normals are monotone.", Dot(t, p)
        ),
    ),
    bounds=(CONTRACTION,),
    proof=PROOF,
    attacks=(
        Attack(
            "rate",
            CONTRACTION,
            _one_dimension,
            {
                "l": Range(0.5, 4),
                "mu": Range(0.0625, 0.5),
                "omega": Range(1, 8),
                "x": Range(-1, 1, size=2),
                "rho": Range(0.25, 1.75),
            },
        ),
        *(
            Attack(
                f"{K} steps of the core",
                CONTRACTION,
                partial(_core, K),
                {"curvature": Range(0.0625, 1.9375, size=2), "reach": Range(0.75, 4), "x": Range(-1, 1, size=2)},
            )
            for K in (2, 5)
        ),
    ),
    measurements=(
        Measurement(
            "steps",
            "The core's follower against q^K",
            "ascent steps K",
            "distance to the best answer",
            _core_over_steps,
            log="y",
            alt="Distance to the best answer falls geometrically with the ascent steps and stays below the dashed bound.",
        ),
    ),
    order=20,
)
