"""Bilinear games: simultaneous play spirals out, the core's alternating play stays bounded, extragradient converges."""

from collections.abc import Callable, Sequence

import torch
from sympy import Expr, Integer, Rational, sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Repeat, Square, Sum, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.theorem import Argument, Assumption, Citation, Theorem
from convergence.unit_steps import path
from toy_problems import Bilinear, DiracGAN, MinMaxProblem

eta, h, s, T, r_0, C, p = symbols("eta h s T r_0 C p", positive=True)
x, y, g, off, x_0, y_0, x_T, y_T, Q_0, Q_T = symbols("x y g off x_0 y_0 x_T y_T Q_0 Q_T", real=True)
P = symbols("P_1:4", nonnegative=True)
A, Z = (symbols(f"{letter}_1:4", real=True) for letter in "AZ")

SETTING = {r"no constraint on $x$ and $y$, no noise": None}
GROWTH = Bound(
    "simultaneous",
    r"\|z_T\|",
    (1 + h**2) ** (T / 2) * r_0,
    lower=True,
    where=SETTING,
    proofs=(Proved("T simultaneous steps", Z[0], {A[0]: r_0**2}, power=2),),
)
BOUNDED = Bound(
    "alternating",
    r"\max_{t \le T} \|z_t\|",
    sqrt(C * (2 + h) / (2 - h)) * r_0,
    {C: Rational(1)},
    where={r"$0 < h < 2$": h < 2} | SETTING,
    proofs=(Proved("ellipse", x_T**2 + y_T**2, {x_0: sqrt(r_0**2 - y_0**2)}, power=2, factor=1 - h / 2),),
)
EXTRAGRADIENT = Bound(
    "extragradient",
    r"\|z_T\|",
    (1 - h**2 + h**4) ** (T / 2) * r_0,
    where=SETTING,
    proofs=(
        Proved("T extragradient steps, h < 1", Z[1], {A[1]: r_0**2}, power=2),
        Proved("T extragradient steps, h > 1", Z[2], {A[2]: r_0**2}, power=2),
    ),
)
DIRAC = Bound(
    "Dirac-GAN", r"\|z_1\|", sqrt(1 + eta**2 * s**2) * r_0, lower=True, where=SETTING,
    proofs=(
        Proved("Dirac-GAN step", (x - eta * g * y) ** 2 + (y + eta * g * x) ** 2, {x: sqrt(r_0**2 - y**2), g: s}, power=2),
    ),
)  # fmt: skip


def _invariant(x: Expr, y: Expr) -> Expr:
    return x**2 + y**2 + h * x * y


y_next = y + h * x
x_next = x - h * y_next
x_half, y_half = x - h * y, y + h * x
EXTRA = {x: x - h * y_half, y: y + h * x_half}

PROOF = (
    Argument(
        "one pair at a time",
        r"The singular value decomposition of $B$ splits $f = x^\top By$ into independent games $\sigma xy$ (and coordinates "
        r"that never move); with steps $\eta$ each is $xy$ with steps $h = \eta\sigma$.",
    ),
    Identity(
        "simultaneous step",
        (x - h * y) ** 2 + (y + h * x) ** 2,
        (1 + h**2) * (x**2 + y**2),
        says=r"Both answer to the other's old move: $\|z\|$ grows by exactly $\sqrt{1 + h^2}$.",
    ),
    Repeat(
        "T simultaneous steps",
        "simultaneous step",
        T,
        (T, h),
        {x: x - h * y, y: y + h * x},
        1 + h**2,
        x**2 + y**2,
        P[0],
        A[0],
        Z[0],
        grows=True,
    ),
    Identity(
        "alternating step",
        _invariant(x_next, y_next),
        _invariant(x, y),
        says=r"The follower first, warm, then the leader against its new answer: $Q = x^2 + y^2 + hxy$ is invariant.",
    ),
    Sum(
        "T alternating steps",
        "alternating step, reversed",
        T,
        (T, h),
        {x: x_next, y: y_next},
        telescopes=((Integer(1), _invariant(x, y), Q_0, Q_T),),
        says=r"$Q_0 \ge Q_T$ (indeed they are equal).",
    ),
    Inequality(
        "ellipse from inside",
        _invariant(x_T, y_T) - (1 - h / 2) * (x_T**2 + y_T**2),
        (Term(h / 2, Square(x_T + y_T)),),
        says=r"$(1 - h/2)\|z\|^2 \le Q$",
    ),
    Inequality(
        "ellipse from outside",
        (1 + h / 2) * (x_0**2 + y_0**2) - _invariant(x_0, y_0),
        (Term(h / 2, Square(x_0 - y_0)),),
        says=r"$Q \le (1 + h/2)\|z\|^2$",
    ),
    Inequality(
        "ellipse",
        (1 + h / 2) * (x_0**2 + y_0**2) - (1 - h / 2) * (x_T**2 + y_T**2),
        (
            Term(1, "ellipse from outside"),
            Term(1, "Q at the start"),
            Term(1, "T alternating steps"),
            Term(1, "Q in the end"),
            Term(1, "ellipse from inside"),
        ),
        region={h: 2 / (1 + p)},
        says=r"So $\|z_T\|^2 \le \frac{2+h}{2-h}\|z_0\|^2$ for every $T$ where $h < 2$.",
    ),
    Identity(
        "areas",
        (x - h * (y + h * x)).diff(x) * (y + h * x).diff(y) - off,
        Integer(1),
        region={off: (x - h * (y + h * x)).diff(y) * (y + h * x).diff(x)},
        says=r"The alternating step $\begin{pmatrix}1 - h^2 & -h\\ h & 1\end{pmatrix}$ has determinant 1 (here off is the "
        r"product of its off-diagonal entries) and trace $2 - h^2$.",
    ),
    Inequality(
        "beyond",
        -((2 - h**2) + 2),
        (Term(4 * p + p**2),),
        region={h: 2 + p},
        says=r"For $h > 2$ its trace is below $-2$: one of the two real eigenvalues exceeds 1 in size, and play diverges.",
    ),
    Identity(
        "extragradient step",
        (x - h * y_half) ** 2 + (y + h * x_half) ** 2,
        (1 - h**2 + h**4) * (x**2 + y**2),
        says=r"Gradients at a half step: $\|z\|$ shrinks by exactly $\sqrt{1 - h^2 + h^4}$.",
    ),
    Repeat(
        "T extragradient steps, h < 1",
        "extragradient step, reversed",
        T,
        (T, h, p),
        EXTRA,
        1 - h**2 + h**4,
        x**2 + y**2,
        P[1],
        A[1],
        Z[1],
        region={h: 1 / (1 + p)},
    ),
    Repeat(
        "T extragradient steps, h > 1",
        "extragradient step, reversed",
        T,
        (T, h, p),
        EXTRA,
        1 - h**2 + h**4,
        x**2 + y**2,
        P[2],
        A[2],
        Z[2],
        region={h: 1 + p},
    ),
    Inequality(
        "extragradient shrinks",
        1 - (1 - h**2 + h**4),
        (Term(h**2 * (1 - h**2)),),
        region={h: 1 / (1 + p)},
        says=r"for $h < 1$",
    ),
    Inequality(
        "best extragradient",
        (1 - h**2 + h**4) - Rational(3, 4),
        (Term(1, Square(h**2 - Rational(1, 2))),),
        says=r"and at best by $\sqrt3/2$, at $h = 1/\sqrt2$.",
    ),
    Identity(
        "Dirac-GAN step",
        (x - eta * g * y) ** 2 + (y + eta * g * x) ** 2,
        (1 + eta**2 * g**2) * (x**2 + y**2),
        says=r"$f = -\log(1 + e^{-xy})$ has gradient $g\,(y, x)$, $g = 1/(1 + e^{xy})$: simultaneous steps spiral out too.",
    ),
    Citation(
        "known",
        "Growth of simultaneous play, boundedness of alternating play, convergence of extragradient.",
        "Korpelevich 1976; Mescheder, Geiger and Nowozin 2018 (Dirac-GAN); Gidel et al. 2019",
    ),
)


def _norms(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], -1).norm(dim=-1)


def _simultaneous(game: MinMaxProblem, x: Tensor, y: Tensor, eta: float, rounds: int, *, extra: bool = False) -> Tensor:
    """What the core does not do: |z_t|, [rounds + 1, n]."""
    norms = [_norms(x, y)]
    for _ in range(rounds):
        u, v = (x - eta * game.grad_x(x, y), y + eta * game.grad_y(x, y)) if extra else (x, y)
        x, y = x - eta * game.grad_x(u, v), y + eta * game.grad_y(u, v)
        norms.append(_norms(x, y))
    return torch.stack(norms)


def _pairs(h: Tensor, start: Tensor) -> tuple[Bilinear, Tensor, Tensor, dict[str, Tensor]]:
    x, y = start[:, :1], start[:, 1:]
    return Bilinear(h[:, None, None]), x, y, {"h": h, "r_0": _norms(x, y)}


def _core_on_pairs(h: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Twelve rounds of the core: step sizes 1, all in the coupling h."""
    game, x, y, values = _pairs(h, start)
    return _norms(*path(game, x, y, (1.0, 1.0), 12)).amax(0), values


def _others_on_pairs(*, extra: bool) -> Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    def rounds(h: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        game, x, y, values = _pairs(h, start)
        return _simultaneous(game, x, y, 1.0, 4, extra=extra)[-1], values | {"T": torch.full_like(h, 4.0)}

    return rounds


def _dirac(eta: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """One simultaneous step; eta differs between instances, so it is not the core's scalar."""
    game, x, y = DiracGAN(torch.full_like(eta, 8.0)), start[:, :1], start[:, 1:]
    after = _norms(x - eta[:, None] * game.grad_x(x, y), y + eta[:, None] * game.grad_y(x, y))
    slope = torch.sigmoid(-(x * y)[:, 0])
    return after, {"eta": eta, "s": slope, "r_0": _norms(x, y)}


def _core_beside_others(effort: Effort) -> Sequence[Curve]:
    """Random orthogonal couplings in three dimensions, 300 rounds."""
    eta, rounds, n = 0.2, int(300 * max(effort.rounds, 0.5)), effort.seeds
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    game = Bilinear(torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)).Q)
    start, t = _norms(x, y), torch.arange(0, rounds + 1, 10)
    core = _norms(*path(game, x, y, (eta, eta), rounds))[t] / start
    values: dict[str, Tensor | float] = {"h": eta, "r_0": torch.ones(n, dtype=torch.float64)}
    later = t[:, None].double()
    return [
        Curve(
            "simultaneous",
            t,
            _simultaneous(game, x, y, eta, rounds)[t] / start,
            GROWTH(T=later, **values),
            lower=True,
            of="simultaneous",
        ),
        Curve("alternating: the core, warm follower", t, core, BOUNDED(**values)[None].expand_as(core)),
        Curve(
            "extragradient",
            t,
            _simultaneous(game, x, y, eta, rounds, extra=True)[t] / start,
            EXTRAGRADIENT(T=later, **values),
            of="extragradient",
        ),
    ]


_STEP = {"h": Range(0.125, 1.75), "start": Range(-1, 1, size=2)}

THEOREM = Theorem(
    name="bilinear",
    title="Bilinear games: who sees whose move decides",
    about=r"On $f = x^\top By$ simultaneous descent-ascent grows by $\sqrt{1+h^2}$ a step at any step size. The "
    r"sequential game, "
    r"follower first and from where it was, keeps an ellipse invariant: bounded for ever, and not convergent, where $h < 2$. "
    r"Extragradient converges.",
    source="Known, see the proof; the constant of the ellipse is ours.",
    symbols={
        "h": r"$\eta\sigma$, step size times singular value; all of them equal for $\|z\|$ as a whole",
        "T": "rounds",
        "z": "$(x, y)$",
        "r_0": r"$\|z_0\|$",
        "s": r"the Dirac-GAN's $1/(1 + e^{xy})$ at $z_0$",
    },
    assumptions=(
        Assumption("free follower", r"$Y$ is the whole space, both players take raw steps of the same size $\eta$."),
        Assumption("Q at the start", r"$Q_0$ is $Q$ at $z_0 = (x_0, y_0)$,", _invariant(x_0, y_0) - Q_0),
        Assumption("Q in the end", r"$Q_T$ at $z_T$.", Q_T - _invariant(x_T, y_T)),
    ),
    bounds=(BOUNDED, GROWTH, EXTRAGRADIENT, DIRAC),
    facts=(
        Equation(_invariant(x_next, y_next), _invariant(x, y), "alternating step"),
        Equation((x - h * y) ** 2 + (y + h * x) ** 2, (1 + h**2) * (x**2 + y**2), "simultaneous step"),
    ),
    proof=PROOF,
    attacks=(
        Attack("the core stays in its ellipse", BOUNDED, _core_on_pairs, _STEP, constant="C"),
        Attack("simultaneous growth", GROWTH, _others_on_pairs(extra=False), _STEP),
        Attack("extragradient factor", EXTRAGRADIENT, _others_on_pairs(extra=True), _STEP),
        Attack("Dirac-GAN growth", DIRAC, _dirac, {"eta": Range(0.125, 4), "start": Range(-2, 2, size=2)}),
    ),
    measurements=(
        Measurement(
            "spirals",
            "The same game: simultaneous explodes, the core circles, extragradient converges",
            "round t",
            r"$\|z_t\| / \|z_0\|$",
            _core_beside_others,
            log="y",
            alt="On a logarithmic axis simultaneous play rises and extragradient falls along straight dashed lines; the core's "
            "alternating play stays in a narrow band around 1, below its bound.",
        ),
    ),
    remarks=(
        r"With different steps $\eta_x, \eta_y$ rescale $y$: $h = \sigma\sqrt{\eta_x\eta_y}$, and the ellipse is one of "
        r"$x^2/\eta_x + y^2/\eta_y + \sigma xy$.",
        r"With several singular values the bounds hold in each pair of singular directions: with the least $h$ for growth, the "
        r"greatest for the ellipse, and the greatest of the factors for extragradient.",
        "Simultaneous play and extragradient are not what the package does; they are written out here to stand beside it.",
    ),
    order=73,
)
