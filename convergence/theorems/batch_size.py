"""The batch-size law: what the ScaLA rate says when the batch grows."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from sympy import Integer, Rational, sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Square, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import Round, follower, normalized, play
from convergence.theorem import Argument, Assumption, Citation, Theorem
from convergence.theorems.scala_rate import BEST, Games
from toy_problems import Quadratic

D, L, sigma, b, T, N, a, epsilon, eta, alpha_u, C = symbols("D L sigma b T N a epsilon eta alpha_u C", positive=True)
b_min, T_inf, b_star, b_N = symbols(r"b_{\min} T_{\infty} b^* b_N", positive=True)
beta, tau, nu, w, q, y, more, f = symbols("beta tau nu w q y more f", positive=True)

ROOT = {w: sqrt(2 * D * L), beta: sqrt(b), nu: sqrt(N)}
SETTING = {r"the setting of the ScaLA rate, an exact follower, the best step size for $T$": None}
USABLE = {r"$b > b_{\min}$": epsilon / a > sigma / sqrt(b)}
STEPS = Bound(
    "steps at batch b",
    r"T(\epsilon, b)",
    C * D * L / (epsilon / a - sigma / sqrt(b)) ** 2,
    {C: Integer(2)},
    proofs=(Proved("steps", tau**2, ROOT | {f: epsilon / a - sigma / sqrt(b)}),),
    where=USABLE | SETTING,
)
SAMPLES = Bound(
    "samples, whatever the batch",
    r"b \cdot \frac{2DL}{(\epsilon/a - \sigma/\sqrt b)^2}",
    C * a**4 * D * L * sigma**2 / epsilon**4,
    {C: Integer(32)},
    lower=True,
    proofs=(
        Proved(
            "fewest samples",
            q**4 / (q - 1) ** 2 * 2 * a**4 * D * L * sigma**2 / epsilon**4,
            {q: epsilon * sqrt(b) / (a * sigma)},
            factor=epsilon**4 / (2 * a**4 * D * L * sigma**2),
        ),
    ),
    where=USABLE,
)
BUDGET = Bound(
    "error with N samples, whatever the batch",
    r"a\sqrt{2DL\,b/N} + a\,\sigma/\sqrt{b}",
    C * a * sqrt(sigma) * (2 * D * L / N) ** Rational(1, 4),
    {C: Integer(2)},
    lower=True,
    proofs=(
        Proved(
            "best batch for N samples",
            a**2 * (w * beta / nu + sigma / beta) ** 2,
            ROOT,
            power=2,
            factor=1 / a**2,
        ),
    ),
)

ROOTS = {T: tau**2, epsilon: a * (w / tau + sigma / beta)}
PROOF = (
    Argument(
        "the law",
        r"The rate at the best step size, with an exact follower and $a = \alpha_u/\alpha_l$, is "
        r"$a\sqrt{2DL/T} + a\sigma/\sqrt b$. In $b = \beta^2$, $T = \tau^2$, $2DL = w^2$ it is $a(w/\tau + \sigma/\beta)$, "
        r"free of roots. $T(\epsilon, b)$ is the least $T$ from which on the mean gradient is at most $\epsilon$.",
    ),
    Inequality(
        "noise stops mattering",
        2 * D * L / T - sigma**2 / b,
        (Term((2 * D * L) ** 2 * more / (T * (2 * D * L * more + sigma**2 * T))),),
        region={b: sigma**2 * T / (2 * D * L) + more},
        says=r"From $b^* = \sigma^2 T/(2DL)$ on the noise term is the smaller one (squares compared).",
    ),
    Argument(
        "noise is the greater", r"Let the noise term be the greater one (squares compared).", sigma**2 / b - 2 * D * L / T
    ),
    Inequality(
        "smaller batches than b^*",
        sigma**2 * T / (2 * D * L) - b,
        (Term(b * T / (2 * D * L), "noise is the greater"),),
        says=r"Then $b \le b^*$.",
    ),
    Argument("not yet", r"Let $T$ be so small that the law is not below $\epsilon$.", a * (w / tau + sigma / beta) - epsilon),
    Inequality(
        "steps",
        w**2 / f**2 - tau**2,
        (Term(tau / (f * a) * (w / f + tau), "not yet"),),
        region={epsilon: a * (sigma / beta + f)},
        says=r"Where $b > b_{\min} = (a\sigma/\epsilon)^2$, $f = \epsilon/a - \sigma/\beta > 0$: such a $T$ is at most "
        r"$w^2/f^2$. Below $b_{\min}$ no $T$ is enough.",
    ),
    Identity(
        "steps, attained",
        w**2 / (epsilon / a - sigma / beta) ** 2,
        T,
        region=ROOTS,
        says=r"The law solved for $T$.",
    ),
    Identity(
        "straight line",
        a * w / epsilon / tau,
        1 - a * sigma / epsilon / beta,
        region=ROOTS,
        says=r"With $T_\infty = 2DL(a/\epsilon)^2$, the steps without noise: $\sqrt{T_\infty/T} = 1 - \sqrt{b_{\min}/b}$.",
    ),
    Inequality(
        "fewest samples",
        q**4 / (q - 1) ** 2 - 16,
        (Term((q**2 + 4 * q - 4) / (q - 1) ** 2, Square(q - 2)),),
        region={q: 1 + y},
        says=r"With $q = \sqrt{b/b_{\min}} > 1$ it takes $b\,T(b) = b_{\min}T_\infty\, q^4/(q-1)^2$ samples: at least 16 times "
        r"$b_{\min}T_\infty$.",
    ),
    Identity(
        "samples",
        beta**2 * w**2 / (epsilon / a - sigma / beta) ** 2,
        q**4 / (q - 1) ** 2 * (a * sigma / epsilon) ** 2 * (w * a / epsilon) ** 2,
        region={q: 1 + y, epsilon: a * (1 + y) * sigma / beta},
        says=r"$q = \epsilon\beta/(a\sigma)$.",
    ),
    Identity(
        "fewest samples: attained",
        q**4 / (q - 1) ** 2,
        Integer(16),
        region={q: Integer(2)},
        says=r"$b_{\mathrm{crit}} = 4 b_{\min}$, where $T = 4T_\infty$.",
    ),
    Inequality(
        "best batch for N samples",
        (w * beta / nu + sigma / beta) ** 2 - 4 * w * sigma / nu,
        (Term(1, Square(w * beta / nu - sigma / beta)),),
        says=r"With $T = N/b$, $N = \nu^2$: the squared law, over $a^2$, is at least $4w\sigma/\nu$ for every $b$.",
    ),
    Argument(
        "the noise still counts more", r"Let $\sigma/\beta$ be the greater of the two terms.", sigma / beta - w * beta / nu
    ),
    Inequality(
        "smaller batches than b_N",
        sigma * nu / w - beta**2,
        (Term(nu * beta / w, "the noise still counts more"),),
        says=r"Then $b \le b_N$: the terms are equal at $b_N$ only.",
    ),
    Identity(
        "best batch for N samples: attained",
        (w * beta / nu + sigma / beta) ** 2,
        4 * w * sigma / nu,
        region={sigma: w * beta**2 / nu},
        says=r"At $b_N = \sigma\nu/w = \sigma\sqrt{N/(2DL)}$, where $b = b^*(N/b)$: both terms are equal.",
    ),
    Identity(
        "square-root rule",
        2 * D / (T * alpha_u**2 * L),
        b * (2 * D / (N * alpha_u**2 * L)),
        region={T: N / b},
        says=r"The best $\eta^2$ for $N$ samples in batches of $b$: $\eta$ grows like $\sqrt b$.",
    ),
    Citation(
        "square-root rule in practice",
        r"LAMB was run with $\eta \propto \sqrt b$, found by experiment; here it is a consequence of a fixed number of epochs.",
        "You et al. 2020 (arXiv 1904.00962)",
    ),
    Citation(
        "another law",
        r"For un-normalised SGD on a quadratic model, at the best step size in each step, "
        r"$(S/S_{\min} - 1)(E/E_{\min} - 1) = 1$ "
        r"for $S$ steps and $E$ samples. There small batches waste no samples; here, with steps of fixed length, noise sets a "
        r"floor that no step size lowers, so that samples have their minimum, $16\,b_{\min}T_\infty$, at a finite batch.",
        "McCandlish, Kaplan, Amodei et al. 2018 (arXiv 1812.06162)",
    ),
)

ROUNDS = 6


def _core(L: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Six steps of the core on a quadratic, at the step size that is best for six: they did not reach less than epsilon."""
    problem = Quadratic.oscillator(L, torch.ones(len(L)))
    # In units of length in which 2 D = |L|_1, so that one step size is best for all.
    x = start * (L.sum(-1) / (L * start**2).sum(-1)).sqrt()[:, None]

    def see(seen: Round) -> dict[str, Tensor]:
        return {"G": (L * seen.x).abs().sum(-1)}

    reached = play(problem, x, normalized(ROUNDS**-0.5), follower(1.0), rounds=ROUNDS, observe=see)["G"].mean(0)
    one = torch.ones_like(reached)
    return ROUNDS * one, {
        "D": (L * x**2 / 2).sum(-1),
        "L": L.sum(-1),
        "epsilon": reached,
        "a": one,
        "sigma": 0 * one,
        "b": one,
    }


def _noisy_core(a: float, L: Tensor, start: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The same with phi in [1, a] and a coin in every gradient of the first two rounds, all four outcomes played."""
    n, outcomes = len(L), torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    rows, coins = L.repeat_interleave(4, 0), outcomes.repeat(n, 1)
    problem = Quadratic.oscillator(rows, torch.ones(len(rows)))
    x = start * (L.sum(-1) / (L * start**2).sum(-1)).sqrt()[:, None]
    size = noise * L.sum(-1)[:, None]

    def shake(t: int, x: Tensor) -> Tensor:
        return coins[:, t, None] * size.repeat_interleave(4, 0) if t < coins.shape[1] else torch.zeros_like(x)

    def see(seen: Round) -> dict[str, Tensor]:
        return {"G": (rows * seen.x).abs().sum(-1)}

    leader = normalized(ROUNDS**-0.5 / a, phi=(1.0, a))
    seen = play(problem, x.repeat_interleave(4, 0), leader, follower(1.0), rounds=ROUNDS, observe=see, noise=shake)
    reached = seen["G"].mean(0).unflatten(0, (n, 4)).mean(1)
    one = torch.ones_like(reached)
    return ROUNDS * one, {
        "D": (L * x**2 / 2).sum(-1),
        "L": L.sum(-1),
        "epsilon": reached,
        "a": a * one,
        "sigma": size.sum(-1) * coins.shape[1] / ROUNDS,
        "b": one,
    }


def _least(reaches: Callable[[Tensor], Tensor], high: Tensor) -> Tensor:
    """The least T below `high` from which on the rate's bound reaches the target, by bisection."""
    low = torch.zeros_like(high)
    for _ in range(80):
        middle = (low + high) / 2
        enough = reaches(middle)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def _samples(
    *, D: Tensor, L: Tensor, sigma: Tensor, epsilon: Tensor, over: Tensor, a: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Batch times the rounds after which the rate of theorem scala-rate is below epsilon, found by bisection."""
    batch, one = over * (a * sigma / epsilon) ** 2, torch.ones_like(D)

    def reaches(T: Tensor) -> Tensor:
        return BEST(D=D, L=L, alpha_l=one, alpha_u=a, T=T, sigma=sigma, b=batch, e=0 * one) <= epsilon

    values = {"D": D, "L": L, "sigma": sigma, "epsilon": epsilon, "a": a}
    return batch * _least(reaches, 1e9 * one), values | {"b": batch}


def _budget(*, D: Tensor, L: Tensor, sigma: Tensor, N: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The rate of theorem scala-rate after N/b rounds."""
    one = torch.ones_like(D)
    law = BEST(D=D, L=L, alpha_l=one, alpha_u=a, T=N / b, sigma=sigma, b=b, e=0 * one)
    return law, {"D": D, "L": L, "sigma": sigma, "N": N, "a": a}


SIZES = {"D": Range(0.25, 4), "L": Range(0.25, 4), "sigma": Range(0.25, 4)}
TARGET, OVER = 0.3, (1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0)
"""epsilon in units of sqrt(2 D |L|_1), and b over b_min."""


@lru_cache(maxsize=2)
def _steps_to_target(effort: Effort) -> tuple[Tensor, Tensor, float, float]:
    """Steps until the core's mean gradient is below the target, [2 laws of noise, batches, games], beside T(b), [batches].

    Games are springs, Phi = sum_i L_i x_i^2/2 in three layers, with sigma = sqrt(2 D |L|_1), and a mean over copies of every
    game. As the law says, each T is a run of its own at its best step size; between two of them the crossing is interpolated.
    """
    count, copies = (10, 20) if effort.rounds == 1 else (5, 10)
    generator = torch.Generator().manual_seed(0)
    L, x = (low + torch.rand(count, 3, generator=generator, dtype=torch.float64) for low in (0.5, 0.5))
    x = x * (L.sum(-1) / (L * x**2).sum(-1)).sqrt()[:, None]
    L, x = (v.repeat_interleave(copies, 0).repeat(len(OVER), 1) for v in (L, x))
    games = Games(Quadratic.oscillator(L, torch.ones(len(L))), x, (L * x**2 / 2).sum(-1), L.sum(-1))
    least, infinite = TARGET**-2, TARGET**-2
    batch = least * torch.tensor(OVER, dtype=torch.float64)
    s = games.unit / batch.repeat_interleave(count * copies).sqrt()
    lengths = [round(2 ** (k / 2)) for k in range(2, 19, 1 if effort.rounds == 1 else 2)]
    laws = []
    for law in (games.worst, games.gaussian):
        means = []
        for rounds in lengths:
            G, _ = games.mean_gradient(rounds, noise=law(s, torch.Generator().manual_seed(rounds)))
            means.append((G / games.unit).reshape(len(OVER), count, copies).mean(-1))
        laws.append(_crossing(torch.tensor(lengths, dtype=torch.float64), torch.stack(means), TARGET))
    bound = STEPS(D=0.5, L=1.0, epsilon=TARGET, a=1.0, sigma=1.0, b=batch)
    return torch.stack(laws), bound, least, infinite


def _crossing(lengths: Tensor, means: Tensor, target: float) -> Tensor:
    """The T from which on the mean gradient, [T, ...], stays below the target, by interpolation in logarithms."""
    above = means > target
    last = (above * torch.arange(1, len(lengths) + 1).reshape(-1, *[1] * (means.ndim - 1))).amax(0)  # 1 + last one above
    low, high = (last - 1).clamp_min(0), last.clamp_max(len(lengths) - 1)
    y_low, y_high = (means.gather(0, k[None])[0].log() for k in (low, high))
    x_low, x_high = lengths[low].log(), lengths[high].log()
    share = (y_low - torch.tensor(target).log()) / (y_low - y_high).clamp_min(1e-12)
    reached = (x_low + share.clamp(0, 1) * (x_high - x_low)).exp()
    return torch.where(last == len(lengths), torch.inf, reached)


def _core_steps(effort: Effort) -> Sequence[Curve]:
    steps, bound, _, infinite = _steps_to_target(effort)
    return [
        Curve(label, OVER, measured / infinite, (bound / infinite)[:, None])
        for label, measured in zip(("worst noise", "Gaussian noise"), steps, strict=True)
    ]


def _core_samples(effort: Effort) -> Sequence[Curve]:
    steps, bound, _, infinite = _steps_to_target(effort)
    over = torch.tensor(OVER, dtype=torch.float64)
    return [
        Curve(label, OVER, over[:, None] * measured / infinite, (over * bound / infinite)[:, None])
        for label, measured in zip(("worst noise", "Gaussian noise"), steps, strict=True)
    ]


THEOREM = Theorem(
    name="batch-size",
    title="The batch-size law",
    about=r"How many steps, and how many samples, does the rate ask for at batch size $b$? Below $b_{\min}$ noise hides the "
    r"target for ever. Samples are spent best at $4b_{\min}$; from there on a larger batch saves steps, at most a factor 4 of "
    r"them. At a fixed number of epochs the learning rate should grow like $\sqrt b$.",
    source="Ours, beyond the paper: consequences of the ScaLA rate.",
    symbols={
        "D": r"$\Phi(x_0) - \inf\Phi$",
        "L": r"$|L|_1 = \sum_i L_i$",
        r"\sigma": r"$|\sigma|_1 = \sum_i \sigma_i$, noise of one sample",
        "a": r"$\alpha_u/\alpha_l$",
        "b": "batch size",
        "T": "steps",
        "N": r"samples, $bT$",
        r"\epsilon": "target for the mean gradient",
        r"b_{\min}": "batch below which the law promises nothing",
        r"T_{\infty}": "steps without noise",
        "b^*": "batch from which on noise is the smaller term",
        "b_N": "best batch for $N$ samples",
    },
    assumptions=(
        Assumption(
            "rate",
            r"A1 and A2 of the ScaLA rate with an exact follower ($e = 0$), and the step size that is best for $T$.",
            proved_by="scala-rate",
        ),
    ),
    bounds=(STEPS, SAMPLES, BUDGET),
    facts=(
        Equation(sqrt(T_inf / T), 1 - sqrt(b_min / b), "straight line", ROOT | {tau: sqrt(T)}),
        Equation(b_min, (a * sigma / epsilon) ** 2),
        Equation(T_inf, 2 * D * L * (a / epsilon) ** 2),
        Equation(b_star, sigma**2 * T / (2 * D * L), "smaller batches than b^*", {b: b_star}),
        Equation(b_N, sigma * sqrt(N / (2 * D * L)), "smaller batches than b_N", ROOT | {beta: sqrt(b_N)}),
        Equation(
            eta,
            sqrt(b) * sqrt(2 * D / (N * alpha_u**2 * L)),
            "square-root rule",
            stands={eta: sqrt(2 * D / (T * alpha_u**2 * L))},
            power=2,
        ),
    ),
    proof=PROOF,
    attacks=(
        Attack(
            "steps",
            STEPS,
            _core,
            {"L": Range(0.25, 4, size=2), "start": Range(0.25, 4, size=2)},
            constant="C",
            sharp={"L": [1.0, 1.0], "start": [1.0, 1.0]},
        ),
        *(
            Attack(
                f"steps with noise, a = {a:g}",
                STEPS,
                partial(_noisy_core, a),
                {"L": Range(0.25, 4, size=2), "start": Range(0.25, 4, size=2), "noise": Range(0, 0.5, size=2)},
                constant="C",
                falls_at=share,
            )
            for a, share in ((1.0, 0.9), (2.0, 0.25))
        ),
        Attack(
            "samples",
            SAMPLES,
            _samples,
            SIZES | {"epsilon": Range(0.25, 4), "over": Range(1.25, 64), "a": Range(1, 4)},
            constant="C",
        ),
        Attack("budget", BUDGET, _budget, SIZES | {"N": Range(1, 64), "b": Range(0.25, 16), "a": Range(1, 4)}, constant="C"),
    ),
    measurements=(
        Measurement(
            "steps",
            "Steps to the target fall with the batch as the law says, and then no further",
            r"batch size $b / b_{\min}$",
            r"steps to the target $T / T_\infty$",
            _core_steps,
            alt="Steps to a mean gradient of 0.3 over the batch size. Under the worst noise they follow the bound's shape: "
            "steep near the least batch, flat from some ten times it on. Under Gaussian noise they hardly depend on the batch.",
        ),
        Measurement(
            "samples",
            "Samples to the target are fewest at a finite batch under the worst noise, at small ones under Gaussian noise",
            r"batch size $b / b_{\min}$",
            r"samples to the target $bT / b_{\min}T_\infty$",
            _core_samples,
            alt="Samples over the batch size, with the bound, which is least at four times the least batch.",
        ),
    ),
    remarks=(
        r"$T(\epsilon, b)$ is an upper bound. It is nearly attained without noise (attacked on a quadratic whose last steps "
        r"oscillate around the minimum), and its floor $b_{\min}$ is attained by the worst law of noise (measured). "
        r"The other two statements are about the law, not about the algorithm: they say which batch the bound recommends.",
        r"Under Gaussian noise the core needs fewer steps, and batches below $b_{\min}$ work: it is where the "
        "guarantee ends.",
        r"With an inexact follower replace $\epsilon$ by $\epsilon - 2a e$.",
    ),
    order=82,
)
