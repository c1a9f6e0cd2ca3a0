"""The separability trap: what each layer's own smoothness says of a step in all layers, and what it does not."""

from collections.abc import Sequence

import torch
from sympy import Rational, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Norm2, Square, Term, norm2, vectors
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import Round, follower, layer_norms, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import Quadratic
from toy_problems.quadratic import layerwise_smoothness

mu, Lambda, C = symbols("mu Lambda C", positive=True)
b, w = symbols("b w", nonnegative=True)
beta = symbols("beta_1:4", nonnegative=True)
t = symbols("t_1:4", nonnegative=True)
L = symbols("L_1:4", real=True)
F, F_next, v, slope = symbols("F F_next v slope", real=True)
x_1, x_2, d_1, d_2 = symbols("x_1 x_2 d_1 d_2", real=True)
n, q, r = vectors("n q r")

SMOOTHNESS = Bound(
    "layer-wise smoothness",
    r"2\,(\Phi(x+d) - \Phi(x) - \langle\nabla\Phi(x), d\rangle)",
    Lambda + C * b * w / mu,
    {C: Rational(1)},
    proofs=(
        Proved(
            "the step",
            2 * (F_next - F - slope),
            factor=Rational(1, 2),
            stands={
                Lambda: sum(L_i * t_i**2 for L_i, t_i in zip(L, t, strict=True)),
                b: sum(beta),
                w: sum(b_i * t_i**2 for b_i, t_i in zip(beta, t, strict=True)),
            },
        ),
    ),
)

total = sum(beta)
reach = sum(b_i * t_i for b_i, t_i in zip(beta, t, strict=True))
PAIRS = tuple(Term(beta[i] * beta[j] / (2 * mu), Square(t[i] - t[j])) for i, j in ((0, 1), (0, 2), (1, 2)))

PROOF = (
    Argument(
        "notation",
        r"$F = \Phi(x)$, $F_+ = \Phi(x+d) = f(x+d, y^+)$, $v = f(x+d, y^*(x))$, $n = \nabla_y f(x, y^*(x))$, $q$ the change of "
        r"$\nabla_y f(\cdot, y^*(x))$ from $x$ to $x+d$, $r = y^+ - y^*(x)$, $t_i = \|d_i\|$, slope $= \langle\nabla\Phi(x), "
        r"d\rangle$, which is $\langle\nabla_x f(x,y^*(x)), d\rangle$ by Danskin's theorem.",
    ),
    Inequality(
        "what the follower can gain",
        v + norm2(q) / (2 * mu) - F_next,
        (Term(1, "strong concavity"), Term(1, "best answer"), Term(1 / (2 * mu), Norm2(q - mu * r))),
        says=r"$\Phi(x+d) \le f(x+d, y^*(x)) + \|q\|^2/(2\mu)$.",
    ),
    Inequality(
        "Cauchy-Schwarz over layers",
        total * sum(b_i * t_i**2 for b_i, t_i in zip(beta, t, strict=True)) / (2 * mu) - reach**2 / (2 * mu),
        PAIRS,
        says=r"$(\sum_i\beta_i t_i)^2 \le \sum_j\beta_j\,\sum_i\beta_i t_i^2$, here with three layers; with $h$ it is the same "
        r"sum of $\beta_i\beta_j(t_i - t_j)^2$ over pairs.",
    ),
    Inequality(
        "the step",
        F + slope + sum((L_i + b_i * total / mu) * t_i**2 for L_i, b_i, t_i in zip(L, beta, t, strict=True)) / 2 - F_next,
        (
            Term(1, "blocks of f"),
            Term(1, "what the follower can gain"),
            Term(1 / (2 * mu), "mixed blocks"),
            Term(1, "Cauchy-Schwarz over layers"),
        ),
        says=r"$\Phi$ satisfies A1 with $L_i(\Phi) = L_i + \beta_i\sum_j\beta_j/\mu$.",
    ),
    Identity(
        "the trap",
        (x_1 + d_1) * (x_2 + d_2) - x_1 * x_2 - (x_2 * d_1 + x_1 * d_2),
        d_1 * d_2,
        says=r"For $\Phi = x_1x_2$ each $\nabla_i\Phi$ is constant in $x_i$, so $L = (0,0)$ by layers alone, and the descent "
        r"lemma would have $d_1d_2 \le 0$ for all $d$: false at $d = (1,1)$.",
    ),
    Identity(
        "the trap is a game",
        (x_1 + x_2) ** 2 / 2 - x_1**2 / 2 - x_2**2 / 2,
        x_1 * x_2,
        says=r"$\Phi = x_1x_2$ is $\max_y\,(x_1+x_2)y - y^2/2 - x_1^2/2 - x_2^2/2$: $L_i = -1$, $\beta_i = \mu = 1$, "
        r"$L_i(\Phi) = 1$, and A1 holds with equality at $d_1 = d_2$.",
    ),
)


def _values(problem: Quadratic, d: Tensor) -> dict[str, Tensor]:
    """The bound's symbols, from the blocks of f; f(., y) has the layer-wise constants of A."""
    c, squares = problem.constants, layer_norms(problem, d) ** 2
    assert c.mu is not None
    assert c.beta is not None
    own = layerwise_smoothness(problem.A, problem.layers)
    return {
        "Lambda": (own * squares).sum(-1),
        "b": c.beta.sum(-1),
        "w": (c.beta * squares).sum(-1),
        "mu": c.mu,
    }


def _excess(problem: Quadratic, x: Tensor, d: Tensor) -> Tensor:
    return 2 * (problem.phi(x + d) - problem.phi(x) - (problem.grad_phi(x) * d).sum(-1))


def _games(
    *, A: Tensor, B: Tensor, mu: Tensor, c: Tensor, omega: Tensor, x: Tensor, d: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Two scalar layers, y in a ball of the plane, every entry free."""
    problem = Quadratic(
        torch.stack([A[:, :2], A[:, 1:]], 1),
        B.unflatten(-1, (2, 2)),
        torch.diag_embed(torch.stack([mu, mu + c], -1)),
        (1, 1),
        omega,
    )
    return _excess(problem, x, d), _values(problem, d)


def _sum_of_layers(h: int, m: int, spread: float) -> Quadratic:
    """f = y sum_i b_i x_i - y^2/2, h scalar layers, b_i in 1 +- spread: Phi = (sum_i b_i x_i)^2 / 2."""
    b = 1 + spread * (2 * torch.rand(m, h, 1, generator=torch.Generator().manual_seed(h), dtype=torch.float64) - 1)
    return Quadratic(torch.zeros(m, h, h), b, torch.ones(m, 1, 1), (1,) * h)


def _core_over_layers(effort: Effort) -> Sequence[Curve]:
    """Excess over the linear prediction of the core's own steps, over the number of layers."""
    eta, rounds, layers = 0.1, 10, [1, 2, 4, 8, 16, 32]
    measured, bounds, own = [], [], []
    for h in layers:
        problem = _sum_of_layers(h, effort.seeds, 0.5)
        x = torch.randn(effort.seeds, h, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

        def observe(r: Round) -> dict[str, Tensor]:
            return {"at": r.x}

        seen = play(problem, x, normalized(eta), follower(1.0), rounds=rounds, observe=observe)
        at = torch.cat([seen["at"], seen["final"][None]])
        step = at[1:] - at[:-1]
        curvature = torch.diagonal(problem.hessian_phi, dim1=-2, dim2=-1)
        measured.append(_excess(problem, at[:-1], step).mean(0) / eta**2)
        bounds.append(torch.stack([SMOOTHNESS(**_values(problem, d)) for d in step]).mean(0) / eta**2)
        own.append((curvature * step**2).sum(-1).mean(0) / eta**2)
    return [
        Curve("the core's steps", layers, torch.stack(measured), torch.stack(bounds), slope=2.0),
        Curve(r"false claim: each layer's own smoothness $L_i = \beta_i^2/\mu$", layers, torch.stack(own)),
    ]


THEOREM = Theorem(
    name="separability",
    title="Layers do not separate: the smoothness that a layer-wise theorem needs",
    about=r"A step in all layers at once needs A1, $\Phi(x+d) \le \Phi(x) + \langle\nabla\Phi(x),d\rangle + "
    r"\frac12\sum_i L_i\|d_i\|^2$. That each $\nabla_i\Phi$ is $L_i$-Lipschitz in $x_i$ alone does not give it; through the "
    r"follower all layers are coupled, and $L_i(\Phi) = L_i + \beta_i\sum_j\beta_j/\mu$ does.",
    source="Ours; the example is folklore.",
    symbols={
        "L_i": "layer-wise smoothness of $f(\\cdot,y)$, in the sense of A1",
        r"\Lambda": r"$\sum_i L_i\|d_i\|^2$",
        r"\beta_i": r"Lipschitz constant of $\nabla_y f$ in $x_i$",
        "b": r"$\sum_j\beta_j$",
        "w": r"$\sum_i\beta_i\|d_i\|^2$",
        r"\mu": "strong concavity of $f(x,\\cdot)$",
    },
    assumptions=(
        Assumption(
            "strong concavity",
            r"$f(x+d,\cdot)$ is $\mu$-strongly concave: $f(x+d,y^+) \le f(x+d,y^*) + \langle n+q, r\rangle - "
            r"\frac{\mu}{2}\|r\|^2$.",
            v + Dot(n + q, r) - mu * norm2(r) / 2 - F_next,
        ),
        Assumption("best answer", r"$y^*(x)$ is optimal over the convex $Y$: $\langle n, r\rangle \le 0$.", -Dot(n, r)),
        Assumption(
            "blocks of f",
            r"A1 for $f(\cdot,y^*(x))$, with $L_i$.",
            F + slope + sum(L_i * t_i**2 for L_i, t_i in zip(L, t, strict=True)) / 2 - v,
        ),
        Assumption("mixed blocks", r"$\|q\| \le \sum_i\beta_i\|d_i\|$.", reach**2 - norm2(q)),
    ),
    bounds=(SMOOTHNESS,),
    facts=(Equation((x_1 + d_1) * (x_2 + d_2) - x_1 * x_2 - (x_2 * d_1 + x_1 * d_2), d_1 * d_2, "the trap"),),
    proof=PROOF,
    attacks=(
        Attack(
            "coupling through the follower",
            SMOOTHNESS,
            _games,
            {
                "A": Range(-1, 1, size=3),
                "B": Range(-2, 2, size=4),
                "mu": Range(0.125, 1),
                "c": Range(0, 3),
                "omega": Range(0.5, 64, log=True),
                "x": Range(-1, 1, size=2),
                "d": Range(-1, 1, size=2),
            },
            constant="C",
            sharp={"A": [-1, 0, -1], "B": [1, 0, 1, 0], "mu": 1, "c": 1, "omega": 64, "x": [1, -1], "d": [1, 1]},
        ),
    ),
    measurements=(
        Measurement(
            "layers",
            "Layers' own smoothness undercounts a step by the number of layers",
            "layers h",
            r"$2(\Phi(x+d) - \Phi(x) - \langle\nabla\Phi, d\rangle)/\eta^2$",
            _core_over_layers,
            alt="The curvature that the core's steps meet grows with the square of the number of layers and lies at the "
            "dashed bound; the sum of the layers' own smoothness grows only linearly and is exceeded.",
        ),
    ),
    remarks=(
        r"The trap is broken by its sharp instance: $\Phi = x_1x_2$, $d = (1,1)$ has excess 1 where $L = (0,0)$ allows 0.",
        r"$L_i$ of $f$ must be a layer-wise constant in the sense of A1 too: $f = x_1x_2$ without a follower is the same trap.",
        r"The proof uses no second derivative and any convex $Y$.",
    ),
    order=71,
)
