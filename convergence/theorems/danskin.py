"""Danskin with the sharp constants: how smooth Phi is, and how fast the best answer moves."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from sympy import sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.random_games import random_games, symmetric_norm
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import MinMaxProblem, Quadratic
from toy_problems.problem import symmetric_2x2_norm

l, mu, l_xx, l_xy, a = symbols("l mu l_xx l_xy a", positive=True)  # noqa: E741 - the theory's letter
dx, dy, Adx, Bdy, Btdx, Cdy = vectors("dx dy Adx Bdy Btdx Cdy")

_CURVATURE = r"\|\nabla\Phi(x) - \nabla\Phi(x')\| \,/\, \|x - x'\|"
_ANSWER = r"\|y^*(x) - y^*(x')\| \,/\, \|x - x'\|"
_KAPPA = {r"$l \ge \mu > 0$": l >= mu}
SMOOTHNESS = Bound(
    "smoothness", _CURVATURE, l**2 / mu, where=_KAPPA,
    proofs=(Proved("smoothness, squared", norm2(Adx + Bdy) / norm2(dx), power=2, factor=norm2(dx)),),
)  # fmt: skip
ANSWER = Bound(
    "answer", _ANSWER, sqrt((l / mu) ** 2 - 1), where=_KAPPA,
    proofs=(Proved("answer, squared", norm2(dy) / norm2(dx), power=2, factor=mu**2 * norm2(dx)),),
)  # fmt: skip
BLOCK_SMOOTHNESS = Bound(
    "block smoothness", _CURVATURE, l_xx + l_xy**2 / mu,
    proofs=(Proved("block smoothness, squared", norm2(Adx + Bdy) / norm2(dx), power=2, factor=norm2(dx)),),
)  # fmt: skip
BLOCK_ANSWER = Bound(
    "block answer", _ANSWER, l_xy / mu,
    proofs=(Proved("block answer, squared", norm2(dy) / norm2(dx), power=2, factor=mu**2 * norm2(dx)),),
)  # fmt: skip

PROOF = (
    Argument(
        "the gradient",
        r"$f(x', y^*(x)) - f(x, y^*(x)) \le \Phi(x') - \Phi(x) \le f(x', y^*(x')) - f(x, y^*(x'))$, since $y^*$ maximises. "
        r"$y^*$ is continuous (see below), so both ends are $\langle \nabla_x f(x, y^*(x)), x' - x\rangle + o(\|x' - x\|)$: "
        r"$\nabla\Phi(x) = \nabla_x f(x, y^*(x))$.",
    ),
    Argument(
        "the averaged Hessian",
        r"Let $d_x = x' - x$, $d_y = y^*(x') - y^*(x)$, and $H = (A, B; B^\top, -C)$ the Hessian of $f$ averaged over the "
        r"segment between the two points: $H(d_x; d_y)$ is the difference of the gradients of $f$. The average keeps what "
        r"every Hessian of $f$ has: $\|H\| \le l$, $C \ge \mu I$, and the norms of the blocks. The assumptions below are "
        r"$H$ applied to $(d_x; d_y)$ and to $(0; d_y)$. In *optimality*, $y^*(x)$ and $y^*(x')$ satisfy their variational "
        r"inequalities on the convex set $Y$; added up they say that the second part of $H(d_x; d_y)$ has a non-negative inner "
        r"product with $d_y$, and $\langle B^\top d_x, d_y\rangle = \langle d_x, B d_y\rangle$.",
    ),
    Inequality(
        "answer, squared",
        (l**2 - mu**2) * norm2(dx) - mu**2 * norm2(dy),
        (
            Term(2 * mu, "optimality"),
            Term(2 * mu * l**2 / (l**2 - mu**2), "strong concavity"),
            Term(mu**2 / (l**2 - mu**2), "Hessian at (0, dy)"),
            Term(1 / (l**2 - mu**2), Norm2((l**2 - mu**2) * dx - mu * Bdy)),
            Term(mu**2 / (l**2 - mu**2), Norm2(Cdy - mu * dy)),
        ),
        region={l: mu + a},
        says=r"$\|d_y\|^2 \le (\kappa^2 - 1)\|d_x\|^2$ for $l > \mu$; for $l = \mu$ let $l$ decrease to $\mu$.",
    ),
    Inequality(
        "smoothness, squared",
        (l**2 / mu) ** 2 * norm2(dx) - norm2(Adx + Bdy),
        (
            Term(1, "Hessian at (dx, dy)"),
            Term(l**2 / mu**2, "answer, squared"),
            Term(1, Norm2(Btdx - Cdy)),
        ),
        region={l: mu + a},
        says=r"$\|\nabla\Phi(x') - \nabla\Phi(x)\|^2 = \|A d_x + B d_y\|^2 \le (\kappa l)^2\|d_x\|^2$.",
    ),
    Inequality(
        "block answer, squared",
        l_xy**2 * norm2(dx) - mu**2 * norm2(dy),
        (
            Term(2 * mu, "optimality"),
            Term(2 * mu, "strong concavity"),
            Term(mu**2 / l_xy**2, "norm of B"),
            Term(1 / l_xy**2, Norm2(l_xy**2 * dx - mu * Bdy)),
        ),
        says=r"$\|d_y\| \le (l_{xy}/\mu)\|d_x\|$.",
    ),
    Inequality(
        "block smoothness, squared",
        (l_xx + l_xy**2 / mu) ** 2 * norm2(dx) - norm2(Adx + Bdy),
        (
            Term(1 + l_xy**2 / (mu * l_xx), "norm of A"),
            Term(1 + mu * l_xx / l_xy**2, "norm of B"),
            Term((1 + mu * l_xx / l_xy**2) * l_xy**2 / mu**2, "block answer, squared"),
            Term(mu * l_xx / l_xy**2, Norm2(l_xy**2 / (mu * l_xx) * Adx - Bdy)),
        ),
        says=r"$\|A d_x + B d_y\| \le (l_{xx} + l_{xy}^2/\mu)\|d_x\|$; a block that vanishes is a limit.",
    ),
)


def _scalar(bound: Bound, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Values]:
    """f = a c x^2/2 + b x y - c y^2/2: the extremal family (a = 1) and its neighbourhood, in closed form."""
    a = a * c
    measured = (a + b**2 / c).abs() if bound is SMOOTHNESS else b.abs() / c
    return _conditioned(measured, {"l": symmetric_2x2_norm(a, b, -c), "mu": c}, bound)


def _hessian(A: Tensor, B: Tensor, mu: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks of n random Hessians of dimension 2 + 2; A and C diagonal, which a rotation of x and of y makes them."""
    return torch.diag_embed(A), B.view(-1, 2, 2), torch.diag_embed(torch.stack([mu, mu + g], -1))


def _measured_constants(A: Tensor, B: Tensor, C: Tensor) -> Values:
    """l, mu and the blocks' norms from the spectra: nothing is taken on trust from the way the blocks were drawn."""
    H = torch.cat([torch.cat([A, B], 2), torch.cat([B.mT, -C], 2)], 1)
    return {
        "l": symmetric_norm(H),
        "mu": torch.linalg.eigvalsh(C)[:, 0],
        "l_xx": symmetric_norm(A),
        "l_xy": symmetric_norm(B.mT @ B).sqrt(),
    }


def _conditioned(measured: Tensor, c: Values, bound: Bound) -> tuple[Tensor, Values]:
    """Only kappa >= 3 counts: at kappa = 1 the bounds are attained by everything."""
    names = {str(s) for s in bound.expression.free_symbols}
    measured = torch.where(c["l"] >= 3 * c["mu"], measured, torch.nan)
    return measured, {name: value for name, value in c.items() if name in names}


def _slope(bound: Bound, A: Tensor, B: Tensor, mu: Tensor, g: Tensor) -> tuple[Tensor, Values]:
    """Without a ball everything is linear: the norm of Phi'' = A + B C^-1 B', or of C^-1 B'."""
    A, B, C = _hessian(A, B, mu, g)
    W = torch.linalg.solve(C, B.mT)
    measured = symmetric_norm(A + B @ W) if bound is BLOCK_SMOOTHNESS else symmetric_norm(W.mT @ W).sqrt()
    return _conditioned(measured, _measured_constants(A, B, C), bound)


def _between_points(
    bound: Bound, *, A: Tensor, B: Tensor, mu: Tensor, g: Tensor, x: Tensor, step: Tensor
) -> tuple[Tensor, Values]:
    """Two points of a game in a ball, active at none, one or both of them."""
    A, B, C = _hessian(A, B, mu, g)
    problem = Quadratic(A, B, C, omega=4 * torch.ones_like(mu))
    of = problem.grad_phi if bound is SMOOTHNESS else problem.y_star
    return _conditioned((of(x + step) - of(x)).norm(dim=-1) / step.norm(dim=-1), _measured_constants(A, B, C), bound)


_BLOCKS = {"A": Range(-1, 1, size=2), "B": Range(-2, 2, size=4), "mu": Range(0.0625, 1), "g": Range(0, 2)}
# kappa = 8, l^2 = 65/64: the extremal game of the first two coordinates; the other two are idle.
_EXTREMAL = {"A": [0.125, 0], "B": [1.0, 0, 0, 0], "mu": 0.125, "g": 0.0}


def _scalar_attack(name: str, bound: Bound) -> Attack:
    scalars = {"a": Range(-4, 4), "b": Range(-1, 1), "c": Range(0.0625, 1)}
    return Attack(name, bound, partial(_scalar, bound), scalars, falls_at=0.99)


def _block_attack(name: str, bound: Bound) -> Attack:
    return Attack(name, bound, partial(_slope, bound), _BLOCKS, falls_at=0.99)


def _ball_attack(name: str, bound: Bound) -> Attack:
    points = {"x": Range(-1, 1, size=2), "step": Range(0.0625, 1, size=2)}
    sharp = _EXTREMAL | {"x": [0.0, 0], "step": [0.0625, 0]}
    return Attack(name, bound, partial(_between_points, bound), _BLOCKS | points, sharp=sharp)


_KAPPAS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def _over_conditioning(bound: Bound, effort: Effort) -> Sequence[Curve]:
    """Largest slope between 64 pairs of points, near and far, of each instance; l = 1."""
    n, near = effort.seeds, torch.logspace(-3, 0, 64, dtype=torch.float64)[:, None, None]

    def extremal(kappa: float) -> MinMaxProblem:
        return Quadratic.extremal(torch.ones(n), torch.full((n,), 1 / kappa, dtype=torch.float64))

    families: dict[str, Callable[[float], MinMaxProblem]] = {
        "extremal game": extremal,
        "random games": partial(random_games, batch=n),
        "random, f concave in x": partial(random_games, batch=n, sign=-1),
        "random, in an active ball": partial(random_games, batch=n, omega=1.0),
    }
    curves = []
    for label, family in families.items():
        measured = []
        for kappa in _KAPPAS:
            problem = family(kappa)
            of = problem.grad_phi if bound is SMOOTHNESS else problem.y_star
            generator = torch.Generator().manual_seed(1)
            x, d = torch.randn(2, 64, n, problem.d_x, generator=generator, dtype=torch.float64)
            measured.append(((of(x + near * d) - of(x)).norm(dim=-1) / (near * d).norm(dim=-1)).amax(0))
        bounds = torch.stack([bound(l=1.0, mu=1 / kappa) for kappa in _KAPPAS])[:, None]
        slope = 1.0 if label == "extremal game" and bound is SMOOTHNESS else None
        curves.append(Curve(label, _KAPPAS, torch.stack(measured), bounds, slope=slope))
    return curves


THEOREM = Theorem(
    name="danskin",
    title="Danskin, with the sharp constants",
    about=r"$\nabla\Phi(x) = \nabla_x f(x, y^*(x))$, $\Phi$ is $\kappa l$-smooth and $y^*$ is $\sqrt{\kappa^2-1}$-Lipschitz, "
    r"$\kappa = l/\mu$, for any convex $Y$; with separate blocks $l_{xx} + l_{xy}^2/\mu$ and $l_{xy}/\mu$. Every later theorem "
    r"stands on these numbers: they set the leader's step.",
    source="Danskin 1967 (the gradient); the textbook constants are $l + \\kappa l$ and $\\kappa$ (Lin, Jin, Jordan 2020, "
    "Lemma 4.3). The sharp joint ones and their certificates are ours.",
    symbols={
        "l": "joint smoothness of $f$: the largest norm of its Hessian",
        r"\mu": r"strong concavity of $f(x,\cdot)$",
        "l_{xx}": r"largest norm of $\partial^2 f/\partial x^2$",
        "l_{xy}": r"largest norm of $\partial^2 f/\partial x\,\partial y$",
        "d_x, d_y": "differences of the two points and of their best answers",
        "A, B, -C": "blocks of the Hessian, averaged over the segment between the two points",
    },
    assumptions=(
        Assumption(
            "twice differentiable",
            r"$f$ is twice continuously differentiable around $X \times Y$, $Y$ convex and closed. (If only its gradient is "
            r"$l$-Lipschitz, mollify: smooth functions with the same constants converge to it, and so do their $y^*$.)",
        ),
        Assumption(
            "optimality",
            r"$\langle d_x, B d_y\rangle \ge \langle d_y, C d_y\rangle$: $y^*$ maximises at both ends.",
            Dot(dx, Bdy) - Dot(dy, Cdy),
        ),
        Assumption("strong concavity", r"$\langle d_y, C d_y\rangle \ge \mu\|d_y\|^2$.", Dot(dy, Cdy) - mu * norm2(dy)),
        Assumption(
            "Hessian at (0, dy)",
            r"$\|B d_y\|^2 + \|C d_y\|^2 = \|H(0; d_y)\|^2 \le l^2\|d_y\|^2$.",
            l**2 * norm2(dy) - norm2(Bdy) - norm2(Cdy),
        ),
        Assumption(
            "Hessian at (dx, dy)",
            r"$\|A d_x + B d_y\|^2 + \|B^\top d_x - C d_y\|^2 = \|H(d_x; d_y)\|^2 \le l^2(\|d_x\|^2 + \|d_y\|^2)$.",
            l**2 * (norm2(dx) + norm2(dy)) - norm2(Adx + Bdy) - norm2(Btdx - Cdy),
        ),
        Assumption("norm of A", r"blocks only: $\|A d_x\| \le l_{xx}\|d_x\|$.", l_xx**2 * norm2(dx) - norm2(Adx)),
        Assumption("norm of B", r"blocks only: $\|B d_y\| \le l_{xy}\|d_y\|$.", l_xy**2 * norm2(dy) - norm2(Bdy)),
    ),
    bounds=(SMOOTHNESS, ANSWER, BLOCK_SMOOTHNESS, BLOCK_ANSWER),
    proof=PROOF,
    attacks=(
        _scalar_attack("smoothness", SMOOTHNESS),
        _scalar_attack("best answer", ANSWER),
        _block_attack("smoothness, by blocks", BLOCK_SMOOTHNESS),
        _block_attack("best answer, by blocks", BLOCK_ANSWER),
        _ball_attack("smoothness, in a ball", SMOOTHNESS),
    ),
    measurements=(
        Measurement(
            "smoothness",
            "Phi is kappa l-smooth, and the extremal game needs all of it",
            r"condition number $\kappa$ ($l = 1$)",
            r"$\|\nabla\Phi(x) - \nabla\Phi(x^\prime)\| / \|x - x^\prime\|$",
            partial(_over_conditioning, SMOOTHNESS),
            alt="Smoothness of Phi against the condition number: the extremal game lies on the dashed bound kappa, "
            "random games below it, those concave in x or in an active ball lower still.",
        ),
        Measurement(
            "answer",
            "The best answer moves at most sqrt(kappa^2 - 1) times as fast as x",
            r"condition number $\kappa$ ($l = 1$)",
            r"$\|y^*(x) - y^*(x^\prime)\| / \|x - x^\prime\|$",
            partial(_over_conditioning, ANSWER),
            alt="Lipschitz constant of the best answer against the condition number: the extremal game lies on the dashed "
            "bound, random games below it.",
            of="answer",
        ),
    ),
    remarks=(
        r"Sharp: $f = \frac{\mu}{2}x^2 + \sqrt{l^2-\mu^2}\,xy - \frac{\mu}{2}y^2$ attains both joint constants, any $\kappa$.",
        r"The sign of $A$ matters: equality needs $A = +\mu$ along the worst direction. Where $f(\cdot,y)$ is concave the same "
        r"argument in one dimension gives at most $(\kappa-1)l$ (from $A = 0$), and downwards $\Phi$ never bends by more than "
        r"$l_{xx} \le l$, because a maximum of $l_{xx}$-weakly convex functions is one: $\kappa l$ is needed upwards only.",
        r"A ball cannot make $\Phi$ less smooth and does not improve the constants: where it is inactive nothing changes.",
    ),
    order=10,
)
