"""The follower that is shipped: one normalised step to the sphere errs by O(omega^2), and needs no concavity."""

from collections.abc import Sequence

import torch
from sympy import Integer, Rational, sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Inequality, Norm2, Square, Term, norm2, vectors
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.theorem import Argument, Assumption, Theorem
from scala import Adversary

beta_i, l, omega, G_0 = symbols("beta_i l omega G_0", positive=True)  # noqa: E741 - the theory's letter
m, s, p, k, w = symbols("m s p k w", positive=True)
C = symbols("C", positive=True)
cos = symbols("cos", nonnegative=True)
HALF = Rational(1, 2)
a, b, e = vectors("a b e")

REACH = {r"$l\omega < G_0$": l * omega < G_0, r"$y_1 = \omega g/\|g\|$, one step from 0 to the sphere": None}
EXACT = Bound(
    "exact",
    "e_i",
    C * beta_i * omega * sqrt(2 - 2 * sqrt(1 - (l * omega / G_0) ** 2)),
    {C: Integer(1)},
    proofs=(Proved("error, exact", norm2(e), {k: sqrt(1 - (l * omega / G_0) ** 2)}, power=2),),
    where=REACH,
)
SIMPLE = Bound(
    "simple",
    "e_i",
    C * beta_i * l * omega**2 / G_0,
    {C: sqrt(2)},
    proofs=(Proved("error, simple", norm2(e), {m: l * omega}, power=2),),
    where=REACH,
)

ANGLE = {m: G_0 * 2 * (1 + p) / ((1 + p) ** 2 + 1), k: ((1 + p) ** 2 - 1) / ((1 + p) ** 2 + 1)}
"""m/G_0 and k are the sine and the cosine of an angle below 90 degrees, in a rational form."""

PROOF = (
    Argument(
        "the best answer is on the sphere",
        r"$g = \nabla_y f(x,0) = G_0 a$ with $\|a\| = 1$. In the ball $\|\nabla_y f(x,y) - g\| \le l\omega = m < G_0$, so the "
        r"gradient never vanishes, and a maximiser lies on the sphere: $y^* = \omega b$ with $\nabla_y "
        r"f(x,y^*) = s\,b$, $s > 0$ "
        r"($s = 0$ would need $G_0 \le m$).",
    ),
    Inequality(
        "the answers look the same way",
        Dot(a, b),
        (
            Term(1 / (2 * G_0 * s), "gradients differ little"),
            Term(G_0 / (2 * s), "a is a unit"),
            Term(s / (2 * G_0), "b is a unit"),
            Term((G_0**2 - m**2 + s**2) / (2 * G_0 * s)),
        ),
        region={G_0: m + p},
        says=r"$\langle a,b\rangle \ge 0$; below it is called $\cos$.",
    ),
    Inequality(
        "cosine, squared",
        G_0**2 * cos**2 - G_0**2 + m**2,
        (
            Term(1, Square(G_0 * cos - s)),
            Term(1, "gradients differ little"),
            Term(G_0**2, "a is a unit"),
            Term(s**2, "b is a unit"),
            Term(2 * G_0 * s, "cos"),
        ),
        says=r"$1 - \cos^2 \le (m/G_0)^2$: the sine of the angle between the two answers is at most $m/G_0$.",
    ),
    Inequality(
        "cosine",
        cos - k,
        (Term(1 / (G_0**2 * (cos + k)), "cosine, squared"),),
        region=ANGLE,
        says=r"With $k = \sqrt{1 - (m/G_0)^2}$.",
    ),
    Inequality(
        "chord",
        2 - 2 * cos - norm2(a - b),
        (Term(1, "a at most a unit"), Term(1, "b at most a unit"), Term(2, "cos is no more")),
    ),
    Inequality(
        "cosine at most 1",
        1 - cos,
        (
            Term(1, "cos is no more"),
            Term(HALF, Norm2(a - b)),
            Term(HALF, "a at most a unit"),
            Term(HALF, "b at most a unit"),
        ),
    ),
    Inequality(
        "error, exact",
        beta_i**2 * omega**2 * (2 - 2 * k) - norm2(e),
        (
            Term(1, "coupling"),
            Term(beta_i**2 * omega**2, "chord"),
            Term(2 * beta_i**2 * omega**2, "cosine"),
        ),
        region=ANGLE,
    ),
    Inequality(
        "error, simple",
        2 * beta_i**2 * omega**2 * m**2 / G_0**2 - norm2(e),
        (
            Term(1, "coupling"),
            Term(beta_i**2 * omega**2, "chord"),
            Term(2 * beta_i**2 * omega**2 / G_0**2, "cosine, squared"),
            Term(2 * beta_i**2 * omega**2 * cos, "cosine at most 1"),
        ),
        says=r"$1 - \cos \le 1 - \cos^2$.",
    ),
    Argument("no better than none", r"Let the bound be no better than $\beta_i\omega$: $2 - 2k \ge 1$.", 1 - 2 * k),
    Inequality(
        "no smaller than that",
        4 * w**2 - 3,
        (Term(1 + 2 * k, "no better than none"),),
        region={w: ANGLE[m] / G_0, k: ANGLE[k]},
        says=r"Then $w = m/G_0 \ge \frac{\sqrt3}{2}$.",
    ),
)
w_star = symbols("w_star", positive=True)


def best_on_disc(g: Tensor, H: Tensor, omega: Tensor) -> Tensor:
    """argmax over |y| <= omega of <g, y> + y'Hy/2 in the plane, where it is on the circle: a grid of angles, then Newton."""
    angles = torch.linspace(0, 2 * torch.pi, 721, dtype=torch.float64)[:-1]

    def at(angle: Tensor) -> tuple[Tensor, Tensor]:
        b = torch.stack([angle.cos(), angle.sin()], -1)
        return b, torch.stack([-angle.sin(), angle.cos()], -1)

    b, _ = at(angles)
    value = omega[:, None] * (g @ b.T) + omega[:, None] ** 2 / 2 * torch.einsum("ai,nij,aj->na", b, H, b)
    angle = angles[value.argmax(1)]
    for _ in range(20):
        b, t = at(angle)
        Hb, Ht = torch.einsum("nij,nj->ni", H, b), torch.einsum("nij,nj->ni", H, t)
        first = ((g + omega[:, None] * Hb) * t).sum(-1)
        second = -(g * b).sum(-1) + omega * ((Ht * t).sum(-1) - (Hb * b).sum(-1))
        angle = angle - torch.where(second < 0, first / second, 0.0)
    return omega[:, None] * at(angle)[0]


def answer(g: Tensor, H: Tensor, omega: Tensor) -> Tensor:
    """What scala.Adversary answers as it is shipped: one normalised step from 0 to its ball's sphere, [n, 2]."""
    at = torch.zeros_like(g)
    at[:, 0] = omega

    def objective(noise: Tensor | None) -> Tensor:
        assert noise is not None
        return ((g * noise).sum(-1) + torch.einsum("ni,nij,nj->n", noise, H, noise) / 2).sum()

    return Adversary(1.0, relative=True, reduction="sum").respond(objective, at).noise


def _game(*, G: Tensor, reach: Tensor, omega: Tensor, beta: Tensor, axis: Tensor, least: Tensor) -> tuple[Tensor, Values]:
    """f = beta <x, y> + <g, y> + y'Hy/2 at x = 0, H with eigenvalues l and least * l, in any direction."""
    l = reach * G / omega  # noqa: E741
    V = torch.stack([torch.stack([axis.cos(), axis.sin()], -1), torch.stack([-axis.sin(), axis.cos()], -1)], -1)
    H = V @ torch.diag_embed(torch.stack([l, least * l], -1)) @ V.mT
    g = torch.stack([G, 0 * G], -1)
    measured = beta * (answer(g, H, omega) - best_on_disc(g, H, omega)).norm(dim=-1)
    return measured, {"beta_i": beta, "omega": omega, "l": l, "G_0": G}


RANGES = {
    "G": Range(0.25, 4),
    "reach": Range(0.0625, 0.9375),
    "omega": Range(0.25, 4),
    "beta": Range(0.25, 4),
    "axis": Range(0, 3.125),
    "least": Range(-1, 1),
}


def _over_radius(effort: Effort) -> Sequence[Curve]:
    """Random games that are neither concave nor convex: the shipped follower against no follower."""
    generator = torch.Generator().manual_seed(0)
    n = 5 * effort.seeds
    A = torch.randn(n, 2, 2, generator=generator, dtype=torch.float64)
    H = A + A.mT
    H = H / torch.linalg.eigvalsh(H).abs().amax(-1)[:, None, None]
    g = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    g = g / g.norm(dim=-1, keepdim=True)
    radii, shipped, none, bounds = [0.01, 0.03, 0.1, 0.3, 0.6, 0.9], [], [], []
    for radius in radii:
        omega = torch.full((n,), radius, dtype=torch.float64)
        best = best_on_disc(g, H, omega)
        shipped.append((answer(g, H, omega) - best).norm(dim=-1))
        none.append(best.norm(dim=-1))
        bounds.append(EXACT(beta_i=1.0, omega=radius, l=1.0, G_0=1.0).expand(n))
    return [
        Curve("one step to the sphere", radii, torch.stack(shipped), torch.stack(bounds), slope=2.0),
        Curve("no follower", radii, torch.stack(none), slope=1.0),
    ]


THEOREM = Theorem(
    name="shipped-follower",
    title="One normalised step to the sphere errs by O(omega^2)",
    about=r"What the package does by default: one step from 0 along the normalised gradient to the sphere. "
    r"Where the gradient at 0 "
    r"is longer than it can change within the ball, $G_0 > l_{yy}\omega$, the error is at most "
    r"$\sqrt2\,\beta_i l_{yy}\omega^2/G_0$, "
    r"with no concavity at all. No follower errs by $\beta_i\omega$ there, so that the step pays from $l_{yy}\omega/G_0 < "
    r"\frac{\sqrt3}{2}$ on: for the inner error the noise does help.",
    source="Ours.",
    symbols={
        "e_i": r"$\|\nabla_{x_i} f(x,y_1) - \nabla_{x_i} f(x,y^*)\|$, $y^*$ a maximiser over the ball",
        r"\beta_i": r"bound of $\|\partial^2 f/\partial x_i\partial y\|$",
        "l": r"$l_{yy}$, smoothness of $f(x,\cdot)$",
        r"\omega": "radius of the ball",
        "G_0": r"$\|\nabla_y f(x,0)\|$",
        "w_{star}": r"$l_{yy}\omega/G_0$ where the bound is as large as the error of no follower",
    },
    assumptions=(
        Assumption(
            "gradients differ little",
            r"$f(x,\cdot)$ is $l_{yy}$-smooth: $\|G_0 a - s b\| \le m = l_{yy}\omega$.",
            m**2 - norm2(G_0 * a - s * b),
        ),
        Assumption("a is a unit", r"$a = g/G_0$.", norm2(a) - 1, definition=True),
        Assumption("a at most a unit", "as above.", 1 - norm2(a), definition=True),
        Assumption("b is a unit", r"$b = y^*/\omega$.", norm2(b) - 1, definition=True),
        Assumption("b at most a unit", "as above.", 1 - norm2(b), definition=True),
        Assumption("cos", r"$\cos = \langle a,b\rangle$, which is not negative.", cos - Dot(a, b)),
        Assumption("cos is no more", "as above.", Dot(a, b) - cos),
        Assumption(
            "coupling",
            r"$\nabla_{x_i}f(x,\cdot)$ is $\beta_i$-Lipschitz, and $y_1 - y^* = \omega(a - b)$.",
            beta_i**2 * omega**2 * norm2(a - b) - norm2(e),
        ),
        Assumption(
            "envelope", r"Where $y^*$ is the only maximiser, $\nabla_i\Phi(x) = \nabla_{x_i}f(x,y^*)$.", proved_by="danskin"
        ),
    ),
    bounds=(EXACT, SIMPLE),
    facts=(Equation(w_star, sqrt(3) / 2, "no smaller than that", {w: w_star}, power=2, factor=Integer(4)),),
    proof=PROOF,
    attacks=(
        Attack("exact", EXACT, _game, RANGES, constant="C"),
        Attack("simple", SIMPLE, _game, RANGES, constant="C", falls_at=0.75),
    ),
    measurements=(
        Measurement(
            "radius",
            "One normalised step errs like the square of the radius, no follower like the radius",
            r"$l_{yy}\omega/G_0$",
            r"$e_i/\beta_i$ ($l_{yy} = G_0 = 1$)",
            _over_radius,
            alt="Error over the radius: with one step to the sphere it falls with slope 2, without a follower with slope 1.",
        ),
    ),
    remarks=(
        r"Into the rate of ScaLA: its floor of the follower's error, $\frac{2\alpha_u}{\alpha_l}\sum_i "
        r"e_i$, is of order $\omega^2$.",
        r"The exact form is attained (by a gradient that turns with the noise); the simple one falls at about 0.75.",
        r"The condition $G_0 > l_{yy}\omega$ cannot be dropped: where the gradient at 0 vanishes, its direction says nothing.",
        r"Where $y^*$ is not unique $e_i$ is measured against any maximiser; with $G_0 > l_{yy}\omega$ "
        r"all are within this chord of $y_1$.",
    ),
    order=53,
)
