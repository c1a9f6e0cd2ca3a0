"""A follower that starts anew every round errs by a constant that no number of rounds removes."""

from collections.abc import Sequence
from functools import partial

import torch
from sympy import Integer, Min, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower, layer_norms, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from convergence.theorems.projected_ascent import CONTRACTION
from toy_problems import MinMaxProblem, Quadratic

beta_i, omega, mu, q, K, G_0, Q = symbols("beta_i omega mu q K G_0 Q", positive=True)
C_1, C_2 = symbols("C_1 C_2", positive=True)
y, p, n, z, e = vectors("y p n z e")

ERROR = Bound(
    "inner error",
    r"e_i",
    beta_i * q**K * Min(C_1 * omega, C_2 * G_0 / mu),
    constants={C_1: Integer(1), C_2: Integer(1)},
    proofs=(
        Proved("by the radius", norm2(e), {Q: q ** (2 * K)}, power=2),
        Proved("by the gradient", norm2(e), {Q: q ** (2 * K), norm2(p): G_0**2}, power=2, factor=mu**2),
    ),
    where={r"$\mu > 0$, $y_0 = 0$, $q$ as in theorem projected-ascent": None},
)

PROOF = (
    Inequality(
        "growth",
        Dot(p, y) - mu * norm2(y),
        (Term(1, "strong concavity"), Term(1, "optimality")),
        says=r"$\langle\nabla_y f(x,0), y^*\rangle \ge \mu\|y^*\|^2$: the constraint's normal only helps.",
    ),
    Inequality(
        "distance from the gradient",
        norm2(p) - mu**2 * norm2(y),
        (Term(1, Norm2(p - mu * y)), Term(2 * mu, "growth")),
        says=r"$\|y^*\| \le \|\nabla_y f(x,0)\|/\mu$, with a constraint as without.",
    ),
    Inequality(
        "error from distance",
        beta_i**2 * Q * norm2(y) - norm2(e),
        (Term(1, "coupling"), Term(beta_i**2, "contraction")),
        says=r"$e_i \le \beta_i q^K\|0 - y^*\|$.",
    ),
    Inequality(
        "by the radius",
        beta_i**2 * Q * omega**2 - norm2(e),
        (Term(1, "error from distance"), Term(beta_i**2 * Q, "ball")),
    ),
    Inequality(
        "by the gradient",
        beta_i**2 * Q * norm2(p) - mu**2 * norm2(e),
        (Term(mu**2, "error from distance"), Term(beta_i**2 * Q, "distance from the gradient")),
    ),
    Argument("roots", r"Take roots of the last two and the smaller right-hand side."),
)


def _one_round(K: int, mu: Tensor, l: Tensor, reach: Tensor, x: Tensor) -> tuple[Tensor, Values]:  # noqa: E741
    """The core's follower, K steps, on a game with a linear coupling, curvatures mu and l, in a ball; rho = 1 is the unit.

    The radius is `reach` times the size of the answer without a ball: below 1 the ball is active.
    """
    l = torch.maximum(l, 3 * mu)  # noqa: E741
    eye, curvature = torch.eye(2, dtype=torch.float64), torch.stack([mu, l], -1)
    omega = (reach * (2 * x / curvature).norm(dim=-1)).clamp_min(2.0**-10)
    problem = Quadratic(torch.zeros(len(mu), 2, 2), (2 * eye).expand(len(mu), 2, 2), torch.diag_embed(curvature), omega=omega)
    gradient = problem.grad_y(x, torch.zeros_like(x)).norm(dim=-1)
    rate = CONTRACTION(l=l, mu=mu, rho=1.0, K=1.0, r_0=1.0)
    return errors(problem, x, 1.0, K).sum(-1), {
        "beta_i": torch.tensor(2.0),
        "q": rate,
        "K": torch.tensor(float(K)),
        "omega": omega,
        "mu": mu,
        "G_0": gradient,
    }


def inner_error(problem: Quadratic, x: Tensor, u: Tensor) -> Tensor:
    """Sum over layers of |u_i - grad_i Phi(x)|, [B]."""
    return layer_norms(problem, u - problem.grad_phi(x)).sum(-1)


def games(batch: int, kappa_y: float, omega: Tensor, d: int = 4, seed: int = 0) -> Quadratic:
    """Random quadratic games, two layers, curvatures in y from 1/kappa_y to 1 (so that rho = 1 is 1/l_yy)."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(batch, d, d, generator=generator, dtype=torch.float64)).Q
    curvature = torch.logspace(0, 1, d, base=1 / kappa_y, dtype=torch.float64)
    B = torch.randn(batch, d, d, generator=generator, dtype=torch.float64) / d**0.5
    C = axes @ (curvature[:, None] * axes.mT)
    return Quadratic(torch.zeros(batch, d, d), B, (C + C.mT) / 2, layers=(d // 2, d - d // 2), omega=omega)


def starts(problem: Quadratic, size: float = 1.0, seed: int = 1) -> Tensor:
    """Points x of norm `size`, [B, d_x]."""
    x = torch.randn(problem.batch, problem.d_x, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return size * x / x.norm(dim=-1, keepdim=True)


def errors(problem: MinMaxProblem, x: Tensor, rho: float, steps: int) -> Tensor:
    """e_i in one round of the core at x, [B, h]."""
    seen = play(
        problem, x, normalized(0.0), follower(rho, steps), rounds=1,
        observe=lambda r: {"e": layer_norms(problem, r.u - problem.grad_phi(r.x))},
    )  # fmt: skip
    return seen["e"][0]


def error_bound(problem: Quadratic, x: Tensor, rho: float, steps: int) -> Tensor:
    """ERROR, summed over layers, for the follower of step rho and K = steps at x [..., B, d_x]."""
    c = problem.constants
    assert c.mu is not None
    assert c.l_yy is not None
    assert c.beta is not None
    assert problem.omega is not None
    gradient = problem.grad_y(x, x.new_zeros(*x.shape[:-1], problem.d_y)).norm(dim=-1)
    rate = CONTRACTION(l=c.l_yy, mu=c.mu, rho=rho, K=1.0, r_0=1.0)
    return ERROR(beta_i=c.beta.sum(-1), q=rate, K=float(steps), omega=problem.omega, mu=c.mu, G_0=gradient)


def _over_steps(effort: Effort) -> Sequence[Curve]:
    steps, curves = [1, 2, 4, 8, 16, 32], []
    for kappa in (3.0, 10.0, 30.0):
        problem = games(effort.seeds, kappa, torch.full((effort.seeds,), 100.0))
        x = starts(problem)
        measured = torch.stack([errors(problem, x, 1.0, k).sum(-1) for k in steps]).clamp_min(1e-14)  # less is rounding
        bounds = torch.stack([error_bound(problem, x, 1.0, k) for k in steps])
        curves.append(Curve(rf"$l_{{yy}}/\mu = {kappa:.0f}$", steps, measured, bounds))
    return curves


def _over_radius(effort: Effort) -> Sequence[Curve]:
    radii, curves = torch.logspace(-1.5, 1.5, 13, dtype=torch.float64), []
    for k in (1, 4):
        measured, bounds = [], []
        for radius in radii.tolist():
            problem = games(effort.seeds, 5.0, torch.full((effort.seeds,), radius))
            x = starts(problem)
            measured.append(errors(problem, x, 0.3, k).sum(-1).clamp_min(1e-14))
            bounds.append(error_bound(problem, x, 0.3, k))
        curves.append(Curve(f"K = {k}", radii, torch.stack(measured), torch.stack(bounds)))
    return curves


def _resting(problem: Quadratic, x: Tensor, steps: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Mean error and mean bound, [B], of a game with a linear term that makes x a resting point of the algorithm."""
    move = follower(1.0, steps)
    tilt = play(problem, x, normalized(0.0), move, rounds=1, observe=lambda r: {"u": r.u})["u"][0]
    seen = play(
        problem,
        x + 0.2 * starts(problem, seed=3),
        normalized(0.1 / rounds**0.5),
        move,
        rounds=rounds,
        noise=lambda t, x: -tilt,
        observe=lambda r: {"e": inner_error(problem, r.x, r.u + tilt), "bound": error_bound(problem, r.x, 1.0, steps)},
    )
    return seen["e"].mean(0), seen["bound"].mean(0)


def _over_rounds(effort: Effort) -> Sequence[Curve]:
    """The leader's step shrinks as 1/sqrt(T), as the theory's best one does."""
    horizons, curves = [25, 100, 400], []
    problem = games(effort.seeds, 5.0, torch.full((effort.seeds,), 2.0))
    for k in (1, 4):
        found = [_resting(problem, starts(problem), k, T) for T in horizons]
        measured, bounds = (torch.stack(column) for column in zip(*found, strict=True))
        curves.append(Curve(f"K = {k}", horizons, measured, bounds, slope=0.0))
    return curves


THEOREM = Theorem(
    name="restart",
    title="A follower that restarts errs by a constant",
    about=r"With $y_0 = 0$ in every round and $K$ ascent steps, the leader's gradient in layer $i$ is off by at most "
    r"$\beta_i q^K \min(\omega, \|\nabla_y f(x,0)\|/\mu)$. More steps shrink it geometrically, a smaller ball linearly; more "
    r"rounds do not.",
    source="Derived here from theorem projected-ascent; the bound on $\\|y^*\\|$ is textbook.",
    symbols={
        "e_i": r"$\|\nabla_{x_i} f(x,y_K) - \nabla_i\Phi(x)\|$",
        r"\beta_i": r"bound of $\|\partial^2 f/\partial x_i\partial y\|$",
        "q": "factor of one ascent step, theorem projected-ascent",
        "K": "ascent steps",
        r"\omega": "radius of the ball $Y$",
        r"\mu": r"strong concavity of $f(x,\cdot)$",
        "G_0": r"$\|\nabla_y f(x,0)\|$",
    },
    assumptions=(
        Assumption(
            "strong concavity",
            r"of $f(x,\cdot)$ between $0$ and $y = y^*(x)$: with $p = \nabla_y f(x,0)$, $n = \nabla_y f(x,y^*)$, "
            r"$\langle p - n, y\rangle \ge \mu\|y\|^2$.",
            Dot(p - n, y) - mu * norm2(y),
        ),
        Assumption(
            "optimality", r"$y^*$ maximises over a convex $Y$ that contains $0$: $\langle n, 0 - y^*\rangle \le 0$.", Dot(n, y)
        ),
        Assumption("ball", r"$\|y^*\| \le \omega$.", omega**2 - norm2(y)),
        Assumption(
            "contraction",
            r"$\|z\| \le q^K\|0 - y^*\|$, $z = y_K - y^*$, $Q = q^{2K}$.",
            Q * norm2(y) - norm2(z),
            proved_by="projected-ascent",
        ),
        Assumption(
            "coupling",
            r"$\nabla_{x_i} f(x,\cdot)$ is $\beta_i$-Lipschitz: $\|e\| \le \beta_i\|z\|$, $e$ the error of layer $i$.",
            beta_i**2 * norm2(z) - norm2(e),
        ),
        Assumption("envelope", r"$\nabla_i\Phi(x) = \nabla_{x_i} f(x,y^*(x))$.", proved_by="danskin"),
    ),
    bounds=(ERROR,),
    proof=PROOF,
    attacks=tuple(
        Attack(
            f"{name}, K = {K}",
            ERROR,
            partial(_one_round, K),
            {"mu": Range(0.0625, 0.5), "l": Range(0.5, 2), "reach": reach, "x": Range(-1, 1, size=2)},
            constant=constant,
        )
        for name, constant, reach in (("radius", "C_1", Range(0.9, 1)), ("gradient", "C_2", Range(1, 2)))
        for K in (1, 2, 4)
    ),
    measurements=(
        Measurement(
            "steps",
            "More ascent steps shrink the leader's error geometrically",
            "ascent steps K",
            r"$\sum_i e_i$",
            _over_steps,
            alt="Error against ascent steps for three conditionings: all fall, the worst conditioned slowest, all below "
            "their dashed bounds.",
        ),
        Measurement(
            "radius",
            "The error grows with the radius until the gradient limits it",
            r"radius $\omega$",
            r"$\sum_i e_i$",
            _over_radius,
            alt="Error against radius for one and four ascent steps: it rises and then levels off, as do the dashed bounds.",
        ),
        Measurement(
            "rounds",
            "More rounds do not shrink it, even with shrinking steps",
            "rounds T",
            r"mean over rounds of $\sum_i e_i$",
            _over_rounds,
            alt="Mean error against the number of rounds: flat lines, lower for four ascent steps than for one.",
        ),
    ),
    remarks=(
        r"The bound is attained for every $K$: $f = \beta x y - \mu y^2/2$ at $\beta x = \mu\omega$, $\rho \le 1/\mu$, where "
        r"$y^* = \omega$ and $y_K = (1 - q^K)\omega$.",
        r"Where the ball is active the projection helps, and small balls do better than the bound: figure radius.",
        r"It needs $0 \in Y$ only, and no condition on the step size beyond $q < 1$.",
    ),
    order=50,
)
