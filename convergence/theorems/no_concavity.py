"""Without strong concavity the inner error is only bounded: by the radius if f is concave in y, by the diameter if not."""

from collections.abc import Sequence

import torch
from sympy import Integer, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Sum, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower
from convergence.theorem import Argument, Assumption, Theorem
from convergence.theorems.restart import errors
from toy_problems import Bilinear, DiracGAN, MinMaxProblem, RobustLeastSquares

beta_i, omega, rho, l, R_0, s = symbols("beta_i omega rho l R_0 s", positive=True)  # noqa: E741 - the theory's letter
C_1, C_2 = symbols("C_1 C_2", positive=True)
A, Z = symbols("A Z", nonnegative=True)
K = symbols("K", positive=True)
d, g, t, y_K, y_star, e = vectors("d g t y_K y_star e")
p = d - rho * g - rho * t

CONCAVE = Bound(
    "concave",
    r"e_i",
    C_1 * beta_i * omega,
    constants={C_1: Integer(1)},
    proofs=(Proved("from zero", norm2(e), power=2),),
    where={r"$f(x,\cdot)$ is concave, $y_0 = 0$, $\rho \le 2/l_{yy}$": None},
)
ANY = Bound(
    "no concavity", r"e_i", C_2 * beta_i * omega, constants={C_2: Integer(2)},
    proofs=(Proved("no concavity", norm2(e), power=2),),
)  # fmt: skip

PROOF = (
    Argument(
        "one step as a difference",
        r"As in theorem projected-ascent: $d = y - y^*$, $g$ the difference of the gradients of $-f$, $t$ that of the normals, "
        r"and the step gives $p = d - \rho g - \rho t$.",
    ),
    Inequality(
        "not expansive",
        norm2(d) - norm2(p),
        (
            Term(2 * rho / l, "co-coercivity"),
            Term(2 * rho, "normal cone"),
            Term(rho * (2 - rho * l) / l, Norm2(g)),
            Term(rho**2, Norm2(t)),
        ),
        region={rho: 2 / (l * (1 + s))},
        says=r"$f$ concave and $l$-smooth in $y$, $\rho \le 2/l$: a step never leads away from $y^*$.",
    ),
    Sum(
        "not further",
        "not expansive",
        K,
        (K, rho, l, s),
        {d: p},
        telescopes=((Integer(1), norm2(d), A, Z),),
        region={rho: 2 / (l * (1 + s))},
        says=r"$A = \|y_0 - y^*\|^2$ is not below $Z = \|y_K - y^*\|^2$.",
    ),
    Inequality(
        "concave",
        beta_i**2 * A - norm2(e),
        (Term(1, "coupling"), Term(beta_i**2, "the last distance"), Term(beta_i**2, "not further")),
        region={rho: 2 / (l * (1 + s))},
        says=r"$e_i \le \beta_i\|y_0 - y^*\|$",
    ),
    Inequality(
        "from zero",
        beta_i**2 * omega**2 - norm2(e),
        (Term(1, "concave"), Term(beta_i**2, "the first distance"), Term(beta_i**2, "answer in the ball")),
        region={rho: 2 / (l * (1 + s))},
        says=r"which is $\beta_i\|y^*\| \le \beta_i\omega$ from $y_0 = 0$.",
    ),
    Inequality(
        "diameter",
        4 * omega**2 - norm2(y_K - y_star),
        (Term(1, Norm2(y_K + y_star)), Term(2, "noise in the ball"), Term(2, "answer in the ball")),
        says=r"Two points of the ball.",
    ),
    Inequality(
        "no concavity",
        4 * beta_i**2 * omega**2 - norm2(e),
        (Term(1, "coupling"), Term(beta_i**2, "diameter")),
    ),
)


def ascend(slope: Tensor, bend: Tensor, kink: Tensor, omega: Tensor, steps: int) -> Tensor:
    """y_K [n] of the core's follower (rho = 1, from 0) on slope y + bend y^2/2 right of the kink, slope y left of it.

    With a bend the maximum may be on the right, while the slope at 0 leads to the left.
    """

    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        y = noise[:, 0]
        return (slope * y + bend / 2 * (y - kink).clamp_min(0) ** 2).sum()

    return follower(1.0, steps).respond(objective, omega[:, None]).noise[:, 0]


def _concave(b: Tensor, x: Tensor, curvature: Tensor, omega: Tensor) -> tuple[Tensor, Values]:
    """f = b x y - curvature y^2/2, rho = 1, so that curvature = 2 is the longest step allowed; K = 2."""
    slope = b * x

    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        y = noise[:, 0]
        return (slope * y - curvature * y**2 / 2).sum()

    found = follower(1.0, 2).respond(objective, omega[:, None]).noise[:, 0]
    return b * (found - (slope / curvature).clamp_max(omega)).abs(), {"beta_i": b, "omega": omega}


def _any(b: Tensor, x: Tensor, bend: Tensor, kink: Tensor, omega: Tensor) -> tuple[Tensor, Values]:
    """f = -b x y + (bend/2)(y - kink omega)_+^2, x > 0, which is convex; its maximum is at an end of the ball. K = 8."""
    slope, kink = -b * x, kink * omega
    found = ascend(slope, bend, kink, omega, 8)
    right = slope * omega + bend / 2 * (omega - kink) ** 2
    best = torch.where(right > -slope * omega, omega, -omega)
    return b * (found - best).abs(), {"beta_i": b, "omega": omega}


def _toys(B: int) -> dict[str, tuple[MinMaxProblem, Tensor, Bound]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    one = torch.ones(B, dtype=torch.float64)
    x = draw(B, 3)
    x = x / x.norm(dim=-1, keepdim=True)
    return {
        "bilinear, concave": (Bilinear(draw(B, 3, 3) / 2, omega=one), 0.1 * x, CONCAVE),
        "Dirac-GAN, concave": (DiracGAN(one, omega=one), 0.05 + 0.1 * draw(B, 1).abs(), CONCAVE),
        "robust least squares, not concave": (
            RobustLeastSquares(draw(B, 1, 3), draw(B, 1), omega=one, region=one),
            0.25 * x,
            ANY,
        ),
    }


def _relative_error(problem: MinMaxProblem, x: Tensor, steps: int) -> Tensor:
    """e / (beta omega) of the core's round, one layer, [B]."""
    c = problem.constants
    assert c.beta is not None
    assert problem.omega is not None
    return errors(problem, x, 1.0, steps)[:, 0] / (c.beta[:, 0] * problem.omega)


def _over_steps(effort: Effort) -> Sequence[Curve]:
    steps, curves = [1, 2, 4, 8, 16, 32], []
    for label, (problem, x, bound) in _toys(effort.seeds).items():
        measured = torch.stack([_relative_error(problem, x, k) for k in steps])
        curves.append(Curve(label, steps, measured, bound(beta_i=1.0, omega=1.0).expand_as(measured), of=bound.name))
    # The sharp one: slopes that lead away from the maximum.
    one = torch.ones(effort.seeds, dtype=torch.float64)
    slope = torch.linspace(-0.3, -0.06, effort.seeds, dtype=torch.float64)
    measured = torch.stack([(ascend(slope, 4 * one, 0.1 * one, one, k) - one).abs() for k in steps])
    curves.append(
        Curve("misleading slope, not concave", steps, measured, ANY(beta_i=1.0, omega=1.0).expand_as(measured), of=ANY.name)
    )
    return curves


def _over_radius(effort: Effort) -> Sequence[Curve]:
    """So weak a slope that the follower never gets far: what is left is the radius."""
    radii = torch.logspace(-1, 1, 7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    b, x = (torch.rand(effort.seeds, generator=generator, dtype=torch.float64) for _ in range(2))
    measured, bounds = [], []
    for radius in radii.tolist():
        problem = Bilinear((0.5 + b)[:, None, None], omega=torch.full((effort.seeds,), radius))
        at = 0.002 * (0.1 + x[:, None])
        measured.append(_relative_error(problem, at, 1) * (0.5 + b) * radius)
        bounds.append(CONCAVE(beta_i=0.5 + b, omega=radius))
    return [Curve("bilinear, K = 1", radii, torch.stack(measured), torch.stack(bounds), slope=1.0)]


THEOREM = Theorem(
    name="no-concavity",
    title="Without strong concavity the inner error is only bounded",
    about=r"Where $f(x,\cdot)$ is concave but not strongly, ascent steps of size $\rho \le 2/l_{yy}$ from $y_0 = 0$ leave an "
    r"error of at most $\beta_i\omega$, as much as no follower at all. Without concavity it is $2\beta_i\omega$, and a "
    r"follower may be worse than none. Neither constant can be improved.",
    source="Derived here; non-expansiveness is textbook (Baillon, Haddad 1977), the certificate with the projection is ours.",
    symbols={
        "e_i": r"$\|\nabla_{x_i} f(x,y_K) - \nabla_{x_i} f(x,y^*)\|$, $y^*$ a maximiser",
        r"\beta_i": r"bound of $\|\partial^2 f/\partial x_i\partial y\|$",
        r"\omega": "radius of the ball",
        r"\rho": r"ascent step size; concave case: $\rho \le 2/l_{yy}$",
        "l": r"$l_{yy}$, smoothness of $f(x,\cdot)$",
    },
    assumptions=(
        Assumption(
            "co-coercivity",
            r"concave case: $-f(x,\cdot)$ is convex and $l$-smooth: $\langle g, l d - g\rangle \ge 0$ "
            "(Nesterov 2004, Theorem 2.1.5).",
            Dot(g, l * d - g),
        ),
        Assumption("normal cone", r"$Y$ is convex and closed: $\langle t, p\rangle \ge 0$.", Dot(t, p)),
        Assumption(
            "coupling",
            r"$\|e\| \le \beta_i\|y_K - y^*\|$, $e$ the error of layer $i$.",
            beta_i**2 * norm2(y_K - y_star) - norm2(e),
        ),
        Assumption("the first distance", r"$A = \|y_0 - y^*\|^2$ is $\|y^*\|^2$, as $y_0 = 0$.", norm2(y_star) - A),
        Assumption("the last distance", r"$Z = \|y_K - y^*\|^2$.", Z - norm2(y_K - y_star)),
        Assumption("noise in the ball", r"$\|y_K\| \le \omega$.", omega**2 - norm2(y_K)),
        Assumption("answer in the ball", r"$\|y^*\| \le \omega$.", omega**2 - norm2(y_star)),
    ),
    bounds=(CONCAVE, ANY),
    proof=PROOF,
    attacks=(
        Attack(
            "concave",
            CONCAVE,
            _concave,
            {
                "b": Range(0.25, 4),
                "x": Range(0.0078125, 1, log=True),
                "curvature": Range(0.0078125, 2, log=True),
                "omega": Range(0.5, 2),
            },
            constant="C_1",
        ),
        Attack(
            "no concavity",
            ANY,
            _any,
            {
                "b": Range(0.25, 4),
                "x": Range(0.0625, 1),
                "bend": Range(0, 8),
                "kink": Range(0.0625, 0.5),
                "omega": Range(0.5, 2),
            },
            constant="C_2",
        ),
    ),
    measurements=(
        Measurement(
            "steps",
            "Concave: steps help, at no rate. Not concave: they may lead away",
            "ascent steps K",
            r"$e_i / (\beta_i\omega)$",
            _over_steps,
            log="x",
            alt="Relative error against ascent steps: on the concave games it starts near 1 and falls late; on the game with a "
            "misleading slope it rises to 2; robust least squares needs few steps.",
        ),
        Measurement(
            "radius",
            "Concave only: the error is as large as the ball",
            r"radius $\omega$",
            "$e_i$",
            _over_radius,
            alt="Error against radius: proportional, just under the dashed bound.",
        ),
    ),
    remarks=(
        r"From another start, such as a kept or random noise, the concave bound is $\beta_i\|y_0 - y^*\| \le 2\beta_i\omega$.",
        r"The condition $\rho \le 2/l_{yy}$ is needed: with $f = \frac\omega3 y - \frac12 y^2$ and $\rho = 3$ the follower "
        r"goes $0, \omega, -\omega$, which is $\frac43\omega$ from $y^* = \omega/3$.",
        r"Sharp, concave: $f = \beta x y$ as $x \to 0$, where the gradient is too weak to reach the sphere in $K$ steps. Not "
        r"concave: a slope at $0$ that leads to $-\omega$ while the maximum is at $\omega$; with steps $\rho = 1/l_{yy}$ the "
        r"family attacked here needs more than four of them to get there.",
        r"Where $y^*$ is not unique, $\Phi$ need not be differentiable and $e_i$ is measured against the chosen maximiser; "
        r"compare theorem moreau-envelope for what can then be said.",
        r"Being bounded is not being bad: robust losses are convex in $y$, and one long step is often exact.",
    ),
    order=54,
)
