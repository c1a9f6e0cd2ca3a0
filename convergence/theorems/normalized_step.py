"""The key lemma of the ScaLA rate: what noise and bias cost a step of fixed length."""

from collections.abc import Sequence

import torch
from sympy import Expr, Integer, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Norm2, Square, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import BallHuber, MinMaxProblem

G, B, s, e, r, m, C = symbols("G B s e r m C", positive=True)
c, v, cos = symbols("c v cos", real=True)
g, w, n = vectors("g w n")

LOST = r"\|g\| - \mathbb{E}\left\langle g, \tfrac{u}{\|u\|}\right\rangle"
UNITS: dict[Expr, Expr] = {s: s / G}  # certificates measure the noise in units of the gradient
SAMPLES = {r"$\mathbb{E}\|u - \mathbb{E}u\|^2 \le s^2$, and the step does not look at the noise in advance": None}
NOISE = Bound(
    "noise",
    LOST,
    C * G * s**2 / (G**2 + s**2),
    {C: Integer(2)},
    where=SAMPLES | {r"$\mathbb{E}u = g$": None},
    proofs=(Proved("lemma", G * (1 - cos), UNITS, factor=1 / G),),
)
SIMPLE = Bound(
    "noise, simple form",
    LOST,
    C * s,
    {C: Integer(1)},
    where=SAMPLES | {r"$\mathbb{E}u = g$": None},
    proofs=(Proved("simple form", G * (1 - cos), UNITS, factor=1 / G),),
)
BIASED = Bound(
    "noise and bias", LOST, s + C * e, {C: Integer(2)}, where=SAMPLES | {r"$\|\mathbb{E}u - g\| \le e$": None},
    proofs=(Proved("bias costs twice", G - Dot(g, n)),),
)  # fmt: skip

CHOICE = {m: 1 + s**2}
PROOF = (
    Argument(
        "units",
        r"Let first $e = 0$. Measure gradients in units of $\|g\|$ (for $g = 0$ both sides are 0), so $\|g\| = 1$. Write "
        r"$r = \|u\|/m$ for a number $m$ to be chosen, and $c = \langle g, u\rangle/\|u\|$, or $c = 0$ where $u = 0$ and no "
        r"step is made. Then $\|u/m - g\|^2 = r^2 - 2rc + 1$ in both cases.",
    ),
    Inequality(
        "one outcome",
        c - (1 - 2 * (r**2 - 2 * r * c + 1)),
        (Term(1, "cosine from below", Square(1 - r)), Term(2 * r + r**2, "cosine from above")),
        says=r"Every outcome has $c \ge 1 - \frac{2}{m^2}\|u - m g\|^2$.",
    ),
    Identity(
        "second moment",
        norm2(g + w - m * g),
        norm2(w) + (m - 1) ** 2 * norm2(g) - 2 * (m - 1) * Dot(w, g),
        says=r"$\|u - mg\|^2$ with $w = u - g$; the last term has mean 0.",
    ),
    Argument(
        "mean",
        r"The mean over the outcomes is $1 - \mathbb{E} c \le \frac{2}{m^2}\,(v + (m-1)^2)$ with $v = \mathbb{E}\|u - g\|^2$; "
        r"cos is $\mathbb{E} c$.",
        2 * (v + (m - 1) ** 2) / m**2 - (1 - cos),
    ),
    Inequality(
        "choice of m",
        2 * s**2 / (1 + s**2) - 2 * (v + (m - 1) ** 2) / m**2,
        (Term(2 / (1 + s**2) ** 2, "variance"),),
        region=CHOICE,
        says=r"$m = 1 + s^2$ turns this into $1 - \mathbb{E} c \le 2s^2/(1+s^2)$: the first bound, in units of $\|g\|$.",
    ),
    Inequality("lemma", 2 * s**2 / (1 + s**2) - (1 - cos), (Term(1, "choice of m"), Term(1, "mean")), region=CHOICE),
    Inequality(
        "simple form",
        s - (1 - cos),
        (Term(1, "lemma"), Term(s / (1 + s**2), Square(1 - s))),
        region=CHOICE,
        says=r"The first bound is at most $s$, and equals $s$ at $s = \|g\|$.",
    ),
    Inequality(
        "bias turns the step",
        e - Dot(w, n),
        (Term(1 / (2 * e), Norm2(w - e * n)), Term(1 / (2 * e), "bias"), Term(e / 2, "mean of directions")),
        says=r"Now $w = \bar g - g$ is the bias and $n = \mathbb{E}\,u/\|u\|$: $\langle w, n\rangle \le e$.",
    ),
    Argument(
        "lemma without bias",
        r"The simple form, for $\bar g = g + w$ in place of $g$: $\langle\bar g, n\rangle \ge B - s$ with $B = \|\bar g\|$.",
        Dot(g + w, n) - (B - s),
    ),
    Inequality(
        "bias costs twice",
        Dot(g, n) - (G - s - 2 * e),
        (Term(1, "lemma without bias"), Term(1, "bias turns the step"), Term(1, "triangle inequality")),
        says=r"$\langle g, n\rangle \ge \|g\| - s - 2e$: once for the length of $\bar g$, once for its direction.",
    ),
)


def worst_noise(problem: MinMaxProblem, g: Tensor, s: Tensor | float, uniform: Tensor, tilt: float = 2.0**-20) -> Tensor:
    """Noise for gradients g that attains the lemma, layer by layer: rarely far along g, else just beyond 0 against it.

    With q = s^2/|g_i|^2 the layer's gradient becomes a large multiple of g_i with probability 1/(1 + q/(1 + tilt)^2) and
    -tilt g_i otherwise. Mean 0, variance exactly s^2; a layer whose gradient is 0 gets none.

    Args:
        problem: says where layers begin.
        g: [..., d_x], gradients.
        s: the standard deviation of a layer, a number or [...].
        uniform: [..., h], independent and uniform in [0, 1).
        tilt: size of the small outcome.
    """
    parts = []
    for k, part in enumerate(problem.split(g)):
        q = torch.as_tensor(s, dtype=torch.float64) ** 2 / part.square().sum(-1).clamp_min(1e-300)
        p = 1 / (1 + q / (1 + tilt) ** 2)
        factor = torch.where(uniform[..., k] < p, (1 + tilt) / p - tilt, -tilt) - 1
        parts.append(part * factor[..., None])
    return torch.cat(parts, -1)


def _three_points(G: Tensor, p: Tensor, against: Tensor, across: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outcomes [n, 3, 2] with mean (G, 0), one of them near 0; their probabilities [n, 3]; their standard deviation [n]."""
    p = torch.cat([1 - p.sum(-1, keepdim=True), p], -1)
    mean = torch.stack([G, 0 * G], -1)
    second, third = torch.stack([-against, across], -1) * G[:, None], third * G[:, None]
    first = (mean - p[:, 1:2] * second - p[:, 2:] * third) / p[:, :1]
    u = torch.stack([first, second, third], 1)
    return u, p, (p * (u - mean[:, None]).square().sum(-1)).sum(-1).sqrt()


def _lost(g: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """|g| - E<g, u/|u|>, [n]."""
    size = u.norm(dim=-1, keepdim=True)
    direction = torch.where(size > 0, u / torch.where(size > 0, size, 1.0), 0.0)
    return g.norm(dim=-1) - (p * (g[:, None] * direction).sum(-1)).sum(-1)


def _noisy(G: Tensor, **points: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    u, p, s = _three_points(G, **points)
    return _lost(torch.stack([G, 0 * G], -1), u, p), {"G": G, "s": s}


def _noisy_simple(**parameters: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    measured, values = _noisy(**parameters)
    return measured, {"s": values["s"]}


def _biased(G: Tensor, bias: Tensor, **points: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """G is the length of the mean here, and the true gradient lies at distance |bias| from it."""
    u, p, s = _three_points(G, **points)
    return _lost(torch.stack([G, 0 * G], -1) - bias, u, p), {"s": s, "e": bias.norm(dim=-1)}


POINTS = {
    "G": Range(0.25, 4),
    "p": Range(0.0, 0.484375, size=2),
    "against": Range(0.015625, 0.25),
    "across": Range(-0.125, 0.125),
    "third": Range(-1, 1, size=2),
}


def _core_over_noise(effort: Effort) -> Sequence[Curve]:
    """One step of the core on a slope, in 10 dimensions: what it loses against |g|, over s/|g|."""
    generator = torch.Generator().manual_seed(0)
    ratios = [0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0]
    seeds, draws, d = effort.seeds, 200, 10
    directions = torch.randn(seeds, d, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=-1, keepdim=True)

    def lost(copies: int, noise: Tensor) -> Tensor:
        """|g| - <g, step>, [seeds, copies], on the slope of a ball-Huber game, where |g| = 1; noise [seeds * copies, d]."""
        one = torch.ones(seeds * copies, dtype=torch.float64)
        problem, slope = BallHuber(one, one, one, d), directions.repeat_interleave(copies, 0)
        x = 10 * slope
        after = play(
            problem, x, normalized(1.0), follower(1.0), rounds=1, observe=lambda seen: {"y": seen.y}, noise=lambda *_: noise
        )["final"]
        return 1 - (slope * (x - after)).sum(-1).reshape(seeds, copies)

    worst, gaussian = [], []
    for q in ratios:
        # The two outcomes of the worst law, one after the other, and their probabilities: an exact mean.
        outcomes = torch.tensor([0.0, 1 - 2.0**-50], dtype=torch.float64).repeat(seeds)[:, None]
        one = torch.ones(2 * seeds, dtype=torch.float64)
        u = worst_noise(BallHuber(one, one, one, d), directions.repeat_interleave(2, 0), q, outcomes)
        p = 1 / (1 + q**2 / (1 + 2.0**-20) ** 2)
        worst.append(lost(2, u) @ torch.tensor([p, 1 - p], dtype=torch.float64))
        normal = torch.randn(seeds * draws, d, generator=generator, dtype=torch.float64)
        gaussian.append(lost(draws, q / d**0.5 * normal).mean(1))
    s_over_g = torch.tensor(ratios, dtype=torch.float64)[:, None]
    return [
        Curve("worst noise", ratios, torch.stack(worst), NOISE(G=1.0, s=s_over_g)),
        Curve("Gaussian noise", ratios, torch.stack(gaussian), SIMPLE(s=s_over_g), of=SIMPLE.name),
    ]


THEOREM = Theorem(
    name="normalized-step",
    title="What noise and bias cost a step of fixed length",
    about=r"A normalised step does not know how long its gradient is, so noise can turn it. This lemma says by how much at "
    r"most: at noise of standard deviation $s$ the step loses at most $s$ of its expected descent, a bias of size $e$ costs "
    r"$2e$, and no constant can be smaller. It is the heart of the ScaLA rate.",
    source=r"Ours in this form. Lemmas of this kind, with larger constants, carry normalised SGD in Cutkosky and Mehta 2020; "
    r"bounding each outcome by itself gives $2s$, its mean $s$.",
    symbols={
        "u": r"the stochastic gradient; $u/\|u\|$ is read as 0 where $u = 0$: no move",
        "g": "the true gradient",
        "G": r"$\|g\|$",
        r"\bar g": r"$\mathbb{E}\, u$; equal to $g$ in the first two bounds",
        "s": r"$\mathbb{E}\|u - \bar g\|^2 \le s^2$",
        "e": r"$\|\bar g - g\| \le e$",
    },
    assumptions=(
        Assumption(
            "cosine from above", r"$c$ is a cosine, or 0: $c \le 1$ (Cauchy-Schwarz), in units where $\|g\| = 1$.", 1 - c
        ),
        Assumption("cosine from below", r"and $c \ge -1$.", 1 + c),
        Assumption("variance", r"$v = \mathbb{E}\|u - \bar g\|^2 \le s^2$.", s**2 - v),
        Assumption("bias", r"$w = \bar g - g$ has $\|w\| \le e$.", e**2 - norm2(w)),
        Assumption("mean of directions", r"$n = \mathbb{E}\,u/\|u\|$ has $\|n\| \le 1$, as a mean of such.", 1 - norm2(n)),
        Assumption("triangle inequality", r"$B = \|\bar g\| \ge G - e$.", B - G + e),
    ),
    bounds=(NOISE, SIMPLE, BIASED),
    proof=PROOF,
    attacks=(
        Attack("constant of the noise", NOISE, _noisy, POINTS, constant="C"),
        Attack("constant of the simple form", SIMPLE, _noisy_simple, POINTS, constant="C"),
        Attack(
            "constant of the bias",
            BIASED,
            _biased,
            POINTS | {"G": Range(0.015625, 1), "bias": Range(-4, 4, size=2)},
            constant="C",
        ),
    ),
    measurements=(
        Measurement(
            "noise",
            "The worst noise costs a step all that the lemma allows; Gaussian noise far less",
            "noise over gradient, s/|g|",
            "descent lost by one step of the core, over |g|",
            _core_over_noise,
            alt="Lost descent over relative noise. Under the worst two-point noise it lies exactly on the bound; under "
            "Gaussian noise in ten dimensions it grows like the square of the noise and stays below the simple bound.",
        ),
    ),
    remarks=(
        r"Equality for every $s$: $u = m g$ with probability $1/m$, $m = 1 + s^2/\|g\|^2$, and else just beyond 0 against $g$.",
        r"At $s \gg \|g\|$ the worst noise costs $2\|g\|$: on average the step goes uphill as fast as it should go downhill. "
        r"Under it a normalised method settles at gradients of size $s$ and stays there; a smaller step does not help.",
    ),
    order=40,
)
