"""A penalty on the noise makes the follower contract where f is not concave, and changes the maximum by little."""

from collections.abc import Sequence

import torch
from sympy import Integer, Max, Rational, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Norm2, Repeat, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import Forsaken, MinMaxProblem, Quadratic, RobustLeastSquares, RobustLogisticRegression

lamda, l_0, rho, K, r_0, omega, Phi = symbols("lamda l_0 rho K r_0 omega Phi", positive=True)
C_0, C_1, extra = symbols("C_0 C_1 extra", positive=True)
F, F_lamda, f_z = symbols("F F_lamda f_z", real=True)
P, A, Z = (symbols(f"{letter}_1:3", nonnegative=True) for letter in "PAZ")
a, s = symbols("a s", positive=True)
d, g, y, z, p, p_l = vectors("d g y z p p_l")

RATE = Bound(
    "contraction",
    r"\|y_K - y^*_\lambda(x)\|",
    Max(abs(1 - rho * (lamda - l_0)), abs(1 - rho * (lamda + l_0))) ** K * r_0,
    proofs=(
        Proved("K short steps", Z[0], {A[0]: r_0**2}, power=2),
        Proved("K long steps", Z[1], {A[1]: r_0**2}, power=2),
    ),
    where={r"$\lambda > l_0$": lamda > l_0},
)
GAP = Bound(
    "gap",
    r"\Phi(x) - \Phi_\lambda(x)",
    C_1 * lamda * omega**2,
    constants={C_1: Rational(1, 2)},
    proofs=(Proved("gap from above", F - F_lamda),),
)
BELOW = Bound(
    "never above",
    r"\Phi_\lambda(x)",
    C_0 * Phi,
    constants={C_0: Integer(1)},
    proofs=(Proved("gap from below", f_z - lamda / 2 * norm2(z), {F: Phi}),),
)

PROOF = (
    Identity(
        "co-coercivity",
        Dot((lamda * d - g) - (lamda - l_0) * d, (lamda + l_0) * d - (lamda * d - g)),
        l_0**2 * norm2(d) - norm2(g),
        says=r"$\lambda d - g$ is the difference of the gradients of $-f_\lambda$. What theorem projected-ascent asks of it, "
        r"with $\mu = \lambda - l_0$ and $l = \lambda + l_0$, is what smoothness of $f$ says, to the letter.",
    ),
    Inequality(
        "strong concavity",
        Dot(lamda * d - g, d) - (lamda - l_0) * norm2(d),
        (Term(1 / (2 * l_0), Norm2(l_0 * d - g)), Term(1 / (2 * l_0), "smooth")),
        says=r"$\mu = \lambda - l_0$, positive for $\lambda > l_0$.",
    ),
    Inequality(
        "aligned",
        l_0 * norm2(d) + Dot(g, d),
        (Term(1 / (2 * l_0), Norm2(l_0 * d + g)), Term(1 / (2 * l_0), "smooth")),
    ),
    Inequality(
        "smoothness",
        (lamda + l_0) ** 2 * norm2(d) - norm2(lamda * d - g),
        (Term(2 * lamda, "aligned"), Term(1, "smooth")),
        says=r"$l_{yy} = \lambda + l_0$.",
    ),
    Repeat(
        "K short steps",
        "short steps contract",
        K,
        (K, rho, lamda, l_0, a, s),
        {d: p},
        (1 - rho * (lamda - l_0)) ** 2,
        norm2(d),
        P[0],
        A[0],
        Z[0],
        region={lamda: l_0 + a, rho: 1 / ((l_0 + a) * (1 + s))},
    ),
    Repeat(
        "K long steps",
        "long steps contract",
        K,
        (K, rho, lamda, l_0, a, s),
        {d: p_l},
        (1 - rho * (lamda + l_0)) ** 2,
        norm2(d),
        P[1],
        A[1],
        Z[1],
        region={lamda: l_0 + a, rho: (1 + s) / (l_0 + a)},
    ),
    Argument(
        "best step",
        r"So theorem projected-ascent holds for $f_\lambda$; its best step $\rho = 1/\lambda$ gives $q = l_0/\lambda$.",
    ),
    Inequality(
        "gap from above",
        lamda * omega**2 / 2 - (F - F_lamda),
        (Term(1, "best with penalty"), Term(lamda / 2, "ball")),
        says=r"$\Phi_\lambda \ge f_\lambda(x,y^*) = \Phi - \frac\lambda2\|y^*\|^2$.",
    ),
    Inequality(
        "gap from below",
        F - (f_z - lamda / 2 * norm2(z)),
        (Term(1, "best without penalty"), Term(lamda / 2, Norm2(z))),
        says=r"$\Phi \ge f(x,z) = \Phi_\lambda + \frac\lambda2\|z\|^2$, $z = y^*_\lambda$.",
    ),
)

PENALTY, STEP = 1.0, 0.75


class _NonConcave(Quadratic):
    """f + (PENALTY/2)|y|^2 for a quadratic game: indefinite in y. Its y_star is that with the penalty taken off again."""

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        return super().f(x, y) + PENALTY / 2 * y.square().sum(-1)


def answer(
    problem: MinMaxProblem, x: Tensor, omega: Tensor, penalty: float, steps: int, *, step: float | None = None
) -> Tensor:
    """y_K of the core's follower with its regulariser, started at 0, at its best step 1/penalty if none is given, [B, d_y]."""
    at = torch.zeros(problem.batch * problem.samples, problem.d_y // problem.samples, dtype=torch.float64)
    at[:, 0] = omega.repeat_interleave(problem.samples)
    shape = (problem.batch, problem.d_y)
    adversary = follower(1 / penalty if step is None else step, steps, regularizer=penalty)

    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        return problem.f(x, noise.reshape(shape)).sum()

    return adversary.respond(objective, at).noise.reshape(shape)


def indefinite(slope: Tensor, curvature: Tensor, omega: Tensor) -> _NonConcave:
    """f(x, y) = sum_j slope_j x_j y_j + curvature_j y_j^2/2 in a ball, curvatures [B, d] of either sign below PENALTY."""
    return _NonConcave(
        torch.zeros(*slope.shape, slope.shape[1]), torch.diag_embed(slope), torch.diag_embed(PENALTY - curvature), omega=omega
    )


def _contraction(l_0: Tensor, curvature: Tensor, slope: Tensor, omega: Tensor) -> tuple[Tensor, Values]:
    """The core on indefinite quadratics: lambda = 1 is the unit of curvature, rho = 0.75, K = 2."""
    problem = indefinite(slope, l_0[:, None] * curvature, omega)
    x = torch.ones_like(slope)
    best = problem.y_star(x)
    measured = (answer(problem, x, omega, PENALTY, 2, step=STEP) - best).norm(dim=-1)
    fixed = {"lamda": PENALTY, "rho": STEP, "K": 2.0}
    return measured, {"l_0": l_0, "r_0": best.norm(dim=-1)} | {name: torch.tensor(value) for name, value in fixed.items()}


def highest(slope: Tensor, curvature: Tensor, omega: Tensor) -> Tensor:
    """max over |y| <= omega of 1 + slope y + curvature y^2/2, for a curvature of any sign."""
    concave = curvature < 0
    best = torch.where(concave, torch.minimum(slope.abs() / torch.where(concave, -curvature, 1.0), omega), omega)
    return 1 + slope.abs() * best + curvature * best**2 / 2


def _gap(l_0: Tensor, more: Tensor, curvature: Tensor, slope: Tensor, omega: Tensor) -> tuple[Tensor, Values]:
    h, penalty = l_0 * curvature, l_0 * (1 + more)
    return highest(slope, h, omega) - highest(slope, h - penalty, omega), {"lamda": penalty, "omega": omega}


def _below(l_0: Tensor, more: Tensor, curvature: Tensor, slope: Tensor, omega: Tensor) -> tuple[Tensor, Values]:
    h, penalty = l_0 * curvature, l_0 * (1 + more)
    return highest(slope, h - penalty, omega), {"Phi": highest(slope, h, omega)}


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _toys(B: int) -> dict[str, tuple[MinMaxProblem, Tensor, Tensor]]:
    """Problems that are not concave in y, with points x, |x| <= 1, and radii."""
    one = torch.ones(B, dtype=torch.float64)
    features, targets = _draw(B, 3, 3), _draw(B, 3)
    x = _draw(B, 3)
    x = x / x.norm(dim=-1, keepdim=True)
    return {
        "robust logistic": (RobustLogisticRegression(features, targets.sign(), one, one), x, one),
        "robust least squares": (RobustLeastSquares(features, targets, one, one), x, one),
        "Forsaken, ball of radius 1": (Forsaken(one), torch.tanh(_draw(B, 1)), one),
    }


def _over_steps(effort: Effort) -> Sequence[Curve]:
    steps, curves = [1, 2, 4, 8, 16], []
    for label, (problem, x, omega) in _toys(effort.seeds).items():
        k = problem.constants
        assert k.l_yy is not None
        penalty = 1.5 * float(k.l_yy.max())
        best = answer(problem, x, omega, penalty, 120)
        measured = [(answer(problem, x, omega, penalty, n) - best).norm(dim=-1) for n in steps]
        bounds = [
            RATE(lamda=penalty, l_0=k.l_yy, rho=1 / penalty, K=float(n), r_0=best.norm(dim=-1)) for n in steps
        ]  # fmt: skip
        curves.append(Curve(label, steps, torch.stack(measured).clamp_min(1e-14), torch.stack(bounds)))
    return curves


def _over_penalty(effort: Effort) -> Sequence[Curve]:
    multiples, curves = [1.25, 2, 4, 8, 16, 32, 64, 128], []
    for label, (problem, x, omega) in _toys(effort.seeds).items():
        if not problem.has_phi:
            continue
        k = problem.constants
        assert k.l_yy is not None
        measured, bounds = [], []
        for multiple in multiples:
            penalty = multiple * float(k.l_yy.max())
            y = answer(problem, x, omega, penalty, 100)
            measured.append(problem.phi(x) - (problem.f(x, y) - penalty / 2 * y.square().sum(-1)))
            bounds.append(GAP(lamda=penalty, omega=omega * problem.samples**0.5))
        curves.append(Curve(label, multiples, torch.stack(measured), torch.stack(bounds)))
    return curves


VALUES = {
    "l_0": Range(0.25, 2),
    "more": Range(0.0625, 2),
    "curvature": Range(-1, 1),
    "slope": Range(0, 8),
    "omega": Range(0.25, 2),
}

THEOREM = Theorem(
    name="regularizer",
    title="A penalty on the noise replaces concavity",
    about=r"Let $f(x,\cdot)$ be smooth with constant $l_0$, concave or not. The follower of "
    r"$f_\lambda = f - \frac\lambda2\|y\|^2$ with $\lambda > l_0$ contracts towards its one best answer, and the maximum that "
    r"is then minimised lies within $\lambda\omega^2/2$ below $\Phi$: little for small balls.",
    source="Folklore (Tikhonov regularisation); the certificates are ours.",
    symbols={
        r"\lambda": "weight of the penalty; lamda in code",
        "l_0": r"bound of $\|\partial^2 f/\partial y^2\|$",
        r"\Phi_\lambda": r"$\max_{y \in Y} f(x,y) - \frac\lambda2\|y\|^2$, attained at $y^*_\lambda$",
        r"\omega": r"radius: $\|y\| \le \omega$ on $Y$",
        r"\rho": "ascent step size",
        "K": "ascent steps",
        "r_0": r"$\|y_0 - y^*_\lambda(x)\|$",
    },
    assumptions=(
        Assumption(
            "smooth",
            r"$\nabla_y f(x,\cdot)$ is $l_0$-Lipschitz: $\|g\| \le l_0\|d\|$, $d$ a difference of two $y$, $g$ of gradients.",
            l_0**2 * norm2(d) - norm2(g),
        ),
        Assumption("best without penalty", r"$F = \Phi(x) \ge f_z = f(x,z)$, $z = y^*_\lambda$.", F - f_z),
        Assumption(
            "best with penalty",
            r"$\Phi_\lambda(x) = F_\lambda \ge f(x,y^*) - \frac\lambda2\|y^*\|^2$, $y = y^*(x)$ a maximiser of $f$.",
            F_lamda - (F - lamda / 2 * norm2(y)),
        ),
        Assumption("ball", r"$\|y^*\| \le \omega$.", omega**2 - norm2(y)),
        Assumption(
            "short steps contract",
            r"A step $\rho \le 1/\lambda$ takes $d = y - y^*_\lambda$ to $p$ with $\|p\| \le |1 - \rho\mu|\,\|d\|$, "
            r"$\mu = \lambda - l_0$.",
            (1 - rho * (lamda - l_0)) ** 2 * norm2(d) - norm2(p),
            proved_by="projected-ascent",
        ),
        Assumption(
            "long steps contract",
            r"A step $\rho \ge 1/\lambda$ takes $d$ to $p_l$ with $\|p_l\| \le |1 - \rho l|\,\|d\|$, $l = \lambda + l_0$.",
            (1 - rho * (lamda + l_0)) ** 2 * norm2(d) - norm2(p_l),
            proved_by="projected-ascent",
        ),
    ),
    bounds=(GAP, BELOW, RATE),
    proof=PROOF,
    attacks=(
        Attack("gap", GAP, _gap, VALUES, constant="C_1"),
        Attack("never above", BELOW, _below, VALUES, constant="C_0"),
        Attack(
            "contraction",
            RATE,
            _contraction,
            {
                "l_0": Range(0.125, 0.9375),
                "curvature": Range(-1, 1, size=2),
                "slope": Range(-2, 2, size=2),
                "omega": Range(1, 4),
            },
        ),
    ),
    measurements=(
        Measurement(
            "steps",
            "With a penalty the follower contracts on games that are not concave",
            "ascent steps K",
            r"$\|y_K - y^*_\lambda\|$",
            _over_steps,
            log="y",
            alt="Distance to the penalised best answer falls geometrically on three non-concave games, below (2/3)^K.",
            of="contraction",
        ),
        Measurement(
            "penalty",
            r"What the penalty takes from the maximum is at most $\lambda\omega^2/2$",
            r"$\lambda / l_0$",
            r"$\Phi - \Phi_\lambda$",
            _over_penalty,
            alt="Gap against the penalty: proportional to it at first, then levelling off, below the dashed line.",
        ),
    ),
    remarks=(
        r"$\Phi_\lambda \le \Phi$ holds for any sign; it is attacked where $\Phi > 0$.",
        r"Sharper: $\frac\lambda2\|y^*_\lambda\|^2 \le \Phi - \Phi_\lambda \le \frac\lambda2\|y^*\|^2$.",
        r"Values are close, best answers and gradients need not be: $\lambda > l_0$ may pull $y^*_\lambda$ from the sphere to "
        r"near $0$. What contracts is the error with respect to $\Phi_\lambda$, the function that is then minimised.",
        r"For $f$ concave in $y$ every $\lambda > 0$ will do: then $\mu = \lambda$ and $l_{yy} = \lambda + l_0$.",
    ),
    order=53,
)
