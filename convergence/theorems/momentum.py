"""Momentum in the leader removes the floor of the noise: a rate of T^(-1/4) at any fixed batch size."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from sympy import Integer, Rational, atan, diff, log, pi, sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Norm2, Sum, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import Round, follower, layer_norms, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import BallHuber, Quadratic, Sigmoid
from toy_problems.quadratic import layerwise_smoothness

alpha_l, alpha_u, eta, T, D, Lam, S, q, ebar = symbols("alpha_l alpha_u eta T D Lambda S q ebar", positive=True)
C_1, C_2, C_3, C_4, C_5, C_6 = symbols("C_1 C_2 C_3 C_4 C_5 C_6", positive=True)
error = symbols("e", nonnegative=True)
START = pi / 4 + log(2) / 2

beta, n, z, tau, s, a, c = symbols("beta n z tau s a c", positive=True)
size, L = symbols("size L", nonnegative=True)
r = symbols("r", positive=True)
phi = symbols("phi", nonnegative=True)
h, span, lag = symbols("h span lag", positive=True)
errors, L_1, E, W = symbols("errors L_1 E W", nonnegative=True)
X, G_t, M, Phi_now, Phi_next, Phi_0, Phi_T = symbols("X G_t M Phi_now Phi_next Phi_0 Phi_T", real=True)
v, k, o, d, w = vectors("v k o d w")
e = error
g = size * v - e * o  # mhat = size * v minus its error e * o
Phi_x, Phi_z, Phi_p, Phi_m, x_w, x_d, z_w, z_d = symbols("Phi_x Phi_z Phi_p Phi_m x_w x_d z_w z_d", real=True)
PRIMITIVE = -log(1 + s) + log(1 + s**2) / 2 + atan(s)
SQUARES, LAGS = (1 - z**2) / (1 - beta**2), (beta - n * z + (n - 1) * z * beta) / (1 - beta) ** 2

SETTING = {
    r"$0 < \alpha_l \le \alpha_u$, $0 < q \le 1$, $\inf\Phi > -\infty$, no constraint on $x$": alpha_l <= alpha_u,
    r"A1', A2: the noise of a round is unbiased given the past": None,
}

RATE = Bound(
    "rate",
    r"\frac1T\sum_{t<T}\sum_i \mathbb{E}\|\nabla_i\Phi(x_t)\|",
    C_1 * D / (alpha_l * eta * T)
    + eta * alpha_u**2 * Lam * (C_2 + C_3 * (1 - q) / q) / alpha_l
    + alpha_u * (C_4 * S * (sqrt(q) + C_6 / (sqrt(q) * T)) + C_5 * ebar) / alpha_l,
    constants={C_1: 1, C_2: Rational(1, 2), C_3: 1, C_4: 2, C_5: 2, C_6: START},
    proofs=(Proved("solved for the mean", M, {r: sqrt(q), C_6: START}),),
    where=SETTING,
)
TUNED = Bound(
    "tuned",
    r"\frac1T\sum_{t<T}\sum_i \mathbb{E}\|\nabla_i\Phi(x_t)\|",
    alpha_u
    * (C_1 * (D * Lam * S**2 / T) ** Rational(1, 4) + C_2 * (S**6 / (D * Lam * T**3)) ** Rational(1, 4) + C_5 * ebar)
    / alpha_l,
    constants={C_1: 4, C_2: 2 * START, C_5: 2},
    proofs=(Proved("tuned, solved for the mean", M, {r: (D * Lam / T) ** Rational(1, 4) / sqrt(S), C_6: START}),),
    where={
        r"$q = \sqrt{D\Lambda/T}/S \le 1$": D * Lam / T <= S**2,
        r"$\eta = \sqrt{qD/(T\Lambda)}/\alpha_u$": None,
    }
    | SETTING,
)
LOSS = Bound(
    "lost descent", r"\|g\| - \langle g, m/\|m\|\rangle", C_1 * error, constants={C_1: 2},
    proofs=(Proved("lost descent", Dot(g, k) - Dot(g, v)),),
)  # fmt: skip
DRIFT = Bound(
    "drift", r"\sum_i\|\nabla_i\Phi(x+d) - \nabla_i\Phi(x)\|", C_1 * Lam * eta * alpha_u, constants={C_1: 1},
    proofs=(Proved("drift", z_w - x_w, {tau: eta * alpha_u}),),
)  # fmt: skip
LAG = Bound(
    "lag",
    r"\sum_s w_{t,s}(t-s)",
    C_1 * (1 - q) / (2 * q),
    constants={C_1: 1},
    proofs=(Proved("mean lag", (1 - beta) / (1 - z) * LAGS, {beta: (1 - q) / (1 + q)}),),
    where={r"$0 < q \le 1$": q <= 1},
)
AVERAGE = Bound(
    "averaged noise",
    r"\frac1T\sum_{t<T}\Big(\sum_s w_{t,s}^2\Big)^{1/2}",
    C_1 * (sqrt(q) + C_6 / (sqrt(q) * T)),
    constants={C_1: 1, C_6: START},
    proofs=(Proved("averaged noise", W, {r: sqrt(q), C_6: START}),),
    where={r"$0 < q \le 1$": q <= 1},
)

PROOF = (
    Argument(
        "the scale of m",
        r"$m_t = (1-\beta^{t+1})\,\hat m_t$ with $\hat m_t = \sum_{s\le t} w_{t,s}u_s$, $w_{t,s} = "
        r"(1-\beta)\beta^{t-s}/(1-\beta^{t+1})$, $\sum_s w_{t,s} = 1$, and a normalised step does not see the scale. Below "
        r"$n = t+1$, $z = \beta^n$, $q = (1-\beta)/(1+\beta)$, $g_s = \nabla\Phi(x_s)$.",
    ),
    Inequality(
        "lost descent",
        Dot(g, v) - Dot(g, k) + 2 * e,
        (
            Term(size / 2, Norm2(v - k)),
            Term(size / 2, "v is a unit"),
            Term(size / 2, "k at most a unit"),
            Term(e / 2, Norm2(o - v)),
            Term(e / 2, Norm2(o + k)),
            Term(e, "o at most a unit"),
            Term(e / 2, "v at most a unit"),
            Term(e / 2, "k at most a unit"),
        ),
        says=r"$\langle g, m/\|m\|\rangle \ge \|g\| - 2\|\hat m - g\|$ on every path: $\hat m = \text{size}\,v$, $\hat m - g "
        r"= e\,o$, $\|g\| = \langle g,k\rangle$. (If $m = 0$ the layer rests, and $0 \ge \|g\| - 2\|g\|$.)",
    ),
    Inequality(
        "one layer, one step",
        eta * phi * Dot(g, v)
        - L * (eta * phi) ** 2 / 2
        - (eta * alpha_l * Dot(g, k) - 2 * eta * alpha_u * e - L * (eta * alpha_u) ** 2 / 2),
        (
            Term(eta * phi, "lost descent"),
            Term(eta, "phi from below", "k is the direction of g"),
            Term(2 * eta * e, "phi from above"),
            Term(L * eta**2 * (alpha_u + phi) / 2, "phi from above"),
        ),
        says=r"What A1' promises of a layer's step, from $\alpha_l \le \phi \le \alpha_u$: at least $\eta\alpha_l\|g_i\| - "
        r"2\eta\alpha_u\|\hat m_i - g_i\| - \frac12 L_i\eta^2\alpha_u^2$.",
    ),
    Sum(
        "all layers",
        "one layer, one step",
        h,
        (h, eta, alpha_l, alpha_u),
        sums=(
            (Integer(1), eta * phi * Dot(g, v) - L * (eta * phi) ** 2 / 2, X),
            (-eta * alpha_l, Dot(g, k), G_t),
            (2 * eta * alpha_u, e, errors),
            (eta**2 * alpha_u**2 / 2, L, L_1),
        ),
        says=r"Over the $h$ layers: $X$ is the descent by A1', errors $= \sum_i\|\hat m_i - g_i\|$.",
    ),
    Inequality(
        "one step",
        Phi_now - Phi_next - eta * alpha_l * G_t + 2 * eta * alpha_u * errors + eta**2 * alpha_u**2 / 2 * L_1,
        (Term(1, "A1' from above"), Term(1, "all layers")),
    ),
    Sum(
        "all steps",
        "one step",
        T,
        (T, eta, alpha_l, alpha_u, L_1),
        {Phi_now: Phi_next},
        telescopes=((Integer(1), Phi_now, Phi_0, Phi_T),),
        means=((-eta * alpha_l, G_t, M), (2 * eta * alpha_u, errors, E)),
        rest=eta**2 * alpha_u**2 / 2 * L_1,
        says=r"In expectation; $M$ is the theorem's mean, $E$ that of the errors.",
    ),
    Inequality(
        "gradients differ little",
        tau * norm2(w) / 2 + norm2(d) / (2 * tau) - (z_w - x_w),
        tuple(Term(1 / tau, name) for name in ("z to p", "x to p", "x to m", "z to m")),
        says=r"Four uses of A1' between $x$, $z = x+d$ and $p, m = x + \frac d2 \pm \frac\tau2 w$, with $\|w\|^2 = \sum "
        r"L_i\|w_i\|^2$: $\langle\nabla\Phi(z) - \nabla\Phi(x), w\rangle \le \frac\tau2\|w\|^2 + \frac1{2\tau}\|d\|^2$; no "
        r"second derivative is needed.",
    ),
    Inequality(
        "drift",
        Lam * tau - (z_w - x_w),
        (
            Term(1, "gradients differ little"),
            Term(tau / 2, "test directions are units"),
            Term(1 / (2 * tau), "steps are at most tau"),
        ),
        says=r"With $\tau = \eta\alpha_u$ and $w_i$ the direction of layer $i$'s change: $\sum_i\|\nabla_i\Phi(x_{t+1}) - "
        r"\nabla_i\Phi(x_t)\| \le |L|_1\eta\alpha_u$, so over $t-s$ steps at most $(t-s)$ times that.",
    ),
    Identity(
        "sum of squares, next term", SQUARES.subs(z, beta * z) - SQUARES, z**2, says=r"$\sum_{j<n}\beta^{2j}$, by induction."
    ),
    Identity(
        "sum of squared weights",
        (1 - beta) ** 2 / (1 - z) ** 2 * SQUARES,
        (1 - beta) * (1 + z) / ((1 + beta) * (1 - z)),
        says=r"$\sum_s w_{t,s}^2 = q\,(1+\beta^n)/(1-\beta^n)$.",
    ),
    Identity(
        "sum of lags, next term",
        LAGS.subs({z: beta * z, n: n + 1}, simultaneous=True) - LAGS,
        n * z,
        says=r"$\sum_{j<n}j\beta^j$, by induction.",
    ),
    Inequality(
        "mean lag",
        beta / (1 - beta) - (1 - beta) / (1 - z) * LAGS,
        (Term(n * z / (1 - z)),),
        region={beta: 1 / (1 + a), z: 1 / (1 + c)},
        says=r"$\sum_s w_{t,s}(t-s) \le \beta/(1-\beta) = (1-q)/(2q)$.",
    ),
    Argument(
        "noise",
        r"The noises are martingale differences, so $\mathbb{E}\|\sum_s w_{t,s}\,\text{noise}_{s,i}\|^2 \le "
        r"(\sigma_i^2/b)\sum_s w_{t,s}^2$, and $\mathbb{E}\|\cdot\| \le (\mathbb{E}\|\cdot\|^2)^{1/2}$. With $\beta^n = "
        r"e^{-2u}$, $u = n h$, $h = -\frac12\ln\beta$: $(1+\beta^n)/(1-\beta^n) = \coth u$, and as $\sqrt{\coth u} - 1$ "
        r"falls, $\sum_{n\le T}(\sqrt{\coth nh} - 1) \le \frac1h\int_0^\infty(\sqrt{\coth u} - 1)\,du$.",
    ),
    Identity(
        "substitute s for sqrt(coth u)",
        (s - 1) * 2 * s / (s**4 - 1),
        2 * s / ((s + 1) * (s**2 + 1)),
        says=r"$s^2 = \coth u$, $-du = 2s\,ds/(s^4-1)$.",
    ),
    Identity(
        "a primitive",
        diff(PRIMITIVE, s),
        2 * s / ((s + 1) * (s**2 + 1)),
        says=r"of $F(s) = -\ln(1+s) + \frac12\ln(1+s^2) + \arctan s$.",
    ),
    Identity(
        "the integral",
        PRIMITIVE - PRIMITIVE.subs(s, 1),
        START - (pi / 2 - atan(s)) + log(sqrt(1 + s**2) / (1 + s)),
        says=r"The integral from 1 to $s$; the last two terms vanish as $s\to\infty$: what the first rounds cost.",
    ),
    Inequality(
        "h is at least q",
        1 / (1 - q**2) - 1,
        (Term(q**2 / (1 - q**2)),),
        region={q: 1 / (1 + a)},
        says=r"$h = \operatorname{artanh} q$ has the derivative $1/(1-q^2) \ge 1$, so $h \ge q$ and the mean of $(\sum_s "
        r"w_{t,s}^2)^{1/2}$ is at most $\sqrt q\,(1 + C_6/(qT))$. ($\beta = 0$: $q = 1$ and the mean is 1.)",
    ),
    Argument(
        "mean over rounds",
        r"With $q = r^2$: $W$, the mean of $(\sum_s w_{t,s}^2)^{1/2}$, is at most $r\,(1 + C_6/(hT))$; $h$ is called span.",
        r * (1 + C_6 / (span * T)) - W,
    ),
    Argument("span", r"$h \ge q$, by 'h is at least q'.", span - r**2),
    Inequality(
        "averaged noise",
        r + C_6 / (r * T) - W,
        (Term(1, "mean over rounds"), Term(C_6 / (T * r * span), "span")),
    ),
    Argument(
        "parts of the error",
        r"$\hat m_t - g_t = \sum_s w_{t,s}(\text{noise}_s + \text{bias}_s + g_s - g_t)$: noise, bias, and drift times lag, the "
        r"greatest mean lag.",
        S * W + ebar + Lam * eta * alpha_u * lag - E,
    ),
    Argument("lag", r"By 'mean lag', with $q = r^2$.", (1 - r**2) / (2 * r**2) - lag),
    Inequality(
        "solved for the mean",
        D / (alpha_l * eta * T)
        + eta * alpha_u**2 * Lam * (Rational(1, 2) + (1 - q) / q) / alpha_l
        + 2 * alpha_u / alpha_l * (S * (r + C_6 / (r * T)) + ebar)
        - M,
        (
            Term(1 / (alpha_l * eta * T), "all steps"),
            Term(1 / (alpha_l * eta * T), "bounded below"),
            Term(eta * alpha_u**2 / (2 * alpha_l), "sum of smoothness"),
            Term(2 * alpha_u / alpha_l, "parts of the error"),
            Term(2 * alpha_u / alpha_l * S, "averaged noise"),
            Term(2 * alpha_u / alpha_l * Lam * eta * alpha_u, "lag"),
        ),
        region={q: r**2},
    ),
    Identity(
        "drift and curvature",
        eta * alpha_u**2 * Lam / (2 * alpha_l) + 2 * alpha_u / alpha_l * eta * alpha_u * Lam * beta / (1 - beta),
        eta * alpha_u**2 * Lam * (1 / q - Rational(1, 2)) / alpha_l,
        region={q: 1 / (1 + a), beta: a / (2 + a)},
        says=r"The two terms in eta as one: $\beta = (1-q)/(1+q)$, here $a/(2+a)$ with $q = 1/(1+a)$; in the second, "
        r"$(1-q)/q = 2\beta/(1-\beta)$.",
    ),
    Inequality(
        "tuned",
        alpha_u / alpha_l * (4 * S * r + 2 * C_6 * S / (r * T) + 2 * ebar)
        - (
            D / (alpha_l * eta * T)
            + eta * alpha_u**2 * Lam * (1 / r**2 - Rational(1, 2)) / alpha_l
            + 2 * alpha_u / alpha_l * (S * (r + C_6 / (r * T)) + ebar)
        ),
        (Term(alpha_u * S * r**3 / (2 * alpha_l)),),
        region={D: T * S**2 * r**4 / Lam, eta: S * r**3 / (alpha_u * Lam)},
        says=r"$q = r^2 = \sqrt{D|L|_1/T}\,/S \le 1$ and $\eta = \sqrt{qD/(T|L|_1)}/\alpha_u$.",
    ),
    Inequality(
        "tuned, solved for the mean",
        alpha_u / alpha_l * (4 * S * r + 2 * C_6 * S / (r * T) + 2 * ebar) - M,
        (Term(1, "tuned"), Term(1, "solved for the mean")),
        region={q: r**2, D: T * S**2 * r**4 / Lam, eta: S * r**3 / (alpha_u * Lam)},
    ),
    Identity("in T", (S * r) ** 4, D * Lam * S**2 / T, region={D: T * S**2 * r**4 / Lam}, says="The first term in $T$."),
    Identity(
        "in T, second", (S / (r * T)) ** 4, S**6 / (D * Lam * T**3), region={D: T * S**2 * r**4 / Lam}, says="The second."
    ),
)


ASSUMPTIONS = (
    Assumption(
        "A1'",
        r"$|\Phi(x+d) - \Phi(x) - \langle\nabla\Phi(x),d\rangle| \le \frac12\sum_i L_i\|d_i\|^2$: layer-wise smoothness, on "
        "both sides, as the gradients of different rounds are averaged. From $f$: $L_i + \\beta_i\\sum_j\\beta_j/\\mu$, as for "
        "theorem (d), with $L_i$ the sum of the norms of the Hessian's blocks in row $i$. The next four lines are A1' at "
        "four steps.",
    ),
    Assumption("z to p", "from below", Phi_p - Phi_z - (tau * z_w - z_d) / 2 + norm2(tau * w - d) / 8),
    Assumption("A1' from above", "for the core's step, layer by layer.", Phi_now - Phi_next - X),
    Assumption(
        "bounded below", r"$D = \Phi(x_0) - \inf\Phi$ is finite, so $\Phi(x_0) - \Phi(x_T) \le D$.", D - (Phi_0 - Phi_T)
    ),
    Assumption("sum of smoothness", r"$\Lambda = \sum_i L_i$.", Lam - L_1),
    Assumption("phi from below", r"$\phi \ge \alpha_l$.", phi - alpha_l),
    Assumption("phi from above", r"$\phi \le \alpha_u$.", alpha_u - phi),
    Assumption("x to p", "from above", Phi_x - Phi_p + (tau * x_w + x_d) / 2 + norm2(tau * w + d) / 8),
    Assumption("x to m", "from below", Phi_m - Phi_x - (x_d - tau * x_w) / 2 + norm2(d - tau * w) / 8),
    Assumption("z to m", "from above", Phi_z - Phi_m - (tau * z_w + z_d) / 2 + norm2(tau * w + d) / 8),
    Assumption(
        "test directions are units",
        r"$\sum_i L_i\|w_i\|^2 \le |L|_1$, as $\|w_i\| \le 1$.",
        Lam - norm2(w),
        definition=True,
    ),
    Assumption(
        "steps are at most tau",
        r"$\sum_i L_i\|d_i\|^2 \le \tau^2|L|_1$, as the core's steps have $\|d_i\| \le \eta\alpha_u = \tau$.",
        tau**2 * Lam - norm2(d),
    ),
    Assumption("v is a unit", r"$v = m/\|m\|$.", norm2(v) - 1, definition=True),
    Assumption("v at most a unit", "as above.", 1 - norm2(v), definition=True),
    Assumption("k at most a unit", r"$k = g/\|g\|$ (0 if $g = 0$).", 1 - norm2(k), definition=True),
    Assumption("k is the direction of g", r"$\langle g,k\rangle = \|g\| \ge 0$.", Dot(g, k), definition=True),
    Assumption(
        "o at most a unit", r"$o$ is the direction of $\hat m - g$ (0 if there is none).", 1 - norm2(o), definition=True
    ),
    Assumption("beta is not 1", r"$\beta \ne 1$; indeed $0 \le \beta < 1$.", nonzero=1 - beta),
    Assumption("beta^n is not 1", r"$z = \beta^n \ne 1$, as $n \ge 1$.", nonzero=1 - z),
    Assumption("s^4 is not 1", r"$s = \sqrt{\coth u} > 1$ for $u > 0$, so $s^4 \ne 1$.", nonzero=s**4 - 1),
    Assumption(
        "A2",
        r"$u_t = \nabla\Phi(x_t) + \text{bias}_t + \text{noise}_t$; the past fixes $x_t$ and the bias, "
        r"$\|\text{bias}_{t,i}\| \le e_{t,i}$ (the follower's error, any follower); $\mathbb{E}[\text{noise}_t \mid "
        r"\text{past}] = 0$, $\mathbb{E}[\|\text{noise}_{t,i}\|^2 \mid \text{past}] \le \sigma_i^2/b$.",
    ),
)


def _lost(share: Tensor, angle: Tensor, length: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """g = length (1, 0), and an average of length `share` of any direction."""
    gradient = torch.stack([length, 0 * length], -1)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    error = ((share * length)[:, None] * direction - gradient).norm(dim=-1)
    return length - (gradient * direction).sum(-1), {"e": error}


def _drifted(L: Tensor, step: Tensor, mirror: Tensor, turn: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Phi = x'Hx/2 with scalar layers, H = D^(1/2) Q D^(1/2), |Q| <= 1: the identity mixed with a reflection."""
    unit = torch.stack([mirror.cos(), mirror.sin()], -1)
    moved = L.sqrt() * step
    moved = moved - 2 * turn[:, None] * unit * (unit * moved).sum(-1, keepdim=True)
    longest = step.abs().amax(-1)
    return (L.sqrt() * moved).abs().sum(-1), {"Lambda": L.sum(-1), "eta": longest, "alpha_u": torch.ones_like(longest)}


def _weights(beta: Tensor, rounds: int) -> Tensor:
    """beta^j, [n, rounds]: unnormalised weights of the last, last but one, ... gradient."""
    return beta[:, None] ** torch.arange(rounds, dtype=torch.float64)


def _lagging(q: Tensor, n: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    powers = _weights((1 - q) / (1 + q), 128)
    j = torch.arange(128, dtype=torch.float64)
    powers = torch.where(j < n[:, None], powers, 0.0)
    return (powers * j).sum(-1) / powers.sum(-1), {"q": q}


def _averaging(q: Tensor, T: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The exact root mean square of the average of t + 1 independent noises of size 1, over rounds."""
    T, powers = T.floor(), _weights((1 - q) / (1 + q), 1024)
    size = powers.square().cumsum(-1).sqrt() / powers.cumsum(-1)
    mean = torch.where(torch.arange(1024) < T[:, None], size, 0.0).sum(-1) / T
    return mean, {"q": q, "T": T}


def _lagged(errors: Tensor, momentum: float) -> Tensor:
    """Mean over t of sum_s w_{t,s} errors_s, for errors [T, ...]."""
    T = len(errors)
    ages = torch.arange(T)[:, None] - torch.arange(T)
    weights = torch.where(ages >= 0, momentum ** ages.clamp_min(0).double(), 0.0)
    shares = (weights / weights.sum(1, keepdim=True)).mean(0)
    return torch.tensordot(shares, errors, 1)


def _every_toss(momentum: float, T: int) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """The core on every outcome of T coins, weighted by its probability: expectations without sampling, eta = 1.

    Ball-Huber games of two scalar layers; the follower takes one step of size 1, which is too short where mu < 1.
    """
    tosses = torch.tensor(list(itertools.product((True, False), repeat=T)))

    def attack(
        *, b: Tensor, mu: Tensor, omega: Tensor, start: Tensor, sigma: Tensor, p: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        n, P = len(b), len(tosses)
        problem = BallHuber(b.repeat_interleave(P), mu.repeat_interleave(P), omega.repeat_interleave(P), d=2, layers=(1, 1))
        up = tosses.repeat(n, 1)
        chance = torch.where(tosses, p[:, None, None], 1 - p[:, None, None]).prod(-1)  # [n, P]
        odds = ((1 - p) / p).sqrt().repeat_interleave(P)
        coin = torch.where(up, odds[:, None], -1 / odds[:, None])[..., None] * sigma.repeat_interleave(P, 0)[:, None, :]
        x = start.repeat_interleave(P, 0)

        def observe(now: Round) -> dict[str, Tensor]:
            gradient = problem.grad_phi(now.x)
            return {"g": gradient.abs().sum(-1), "e": (now.u - coin[:, now.t] - gradient).abs().sum(-1)}

        seen = play(
            problem,
            x,
            normalized(1.0, momentum=momentum),
            follower(1.0),
            rounds=T,
            observe=observe,
            noise=lambda t, _: coin[:, t],
        )
        mean = {name: (seen[name].unflatten(1, (n, P)) * chance).sum(-1) for name in ("g", "e")}
        one = torch.ones(n, dtype=torch.float64)
        return mean["g"].mean(0), {
            "alpha_l": one,
            "alpha_u": one,
            "eta": one,
            "T": T * one,
            "q": (1 - momentum) / (1 + momentum) * one,
            "D": problem.phi(x).unflatten(0, (n, P))[:, 0],
            "Lambda": 2 * b**2 / mu,
            "S": sigma.sum(-1),
            "ebar": _lagged(mean["e"], momentum),
        }

    return attack


def _tuned(momentum: float, T: int, *, L: Tensor, start: Tensor, share: Tensor, p: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The core at the corollary's step and momentum, on sum_i L_i x_i^2/2, every outcome of T coins played.

    The noise is what makes this momentum the corollary's, and the unit of length what makes eta = 1 its step.
    """
    q, n = (1 - momentum) / (1 + momentum), len(L)
    tosses = torch.tensor(list(itertools.product((True, False), repeat=T)))
    P, Lam = len(tosses), L.sum(-1)
    x = start * (T * Lam / q / (L * start**2 / 2).sum(-1)).sqrt()[:, None]  # D = T Lam / q
    D = (L * x**2 / 2).sum(-1)
    S = (D * Lam / T).sqrt() / q
    sigma = S[:, None] * torch.stack([share, 1 - share], -1)
    chance = torch.where(tosses, p[:, None, None], 1 - p[:, None, None]).prod(-1)
    odds = ((1 - p) / p).sqrt().repeat_interleave(P)
    coin = torch.where(tosses.repeat(n, 1), odds[:, None], -1 / odds[:, None])[..., None]
    coin = coin * sigma.repeat_interleave(P, 0)[:, None, :]
    rows = L.repeat_interleave(P, 0)
    seen = play(
        Quadratic.oscillator(rows, torch.ones(len(rows))),
        x.repeat_interleave(P, 0),
        normalized(1.0, momentum=momentum),
        None,
        rounds=T,
        observe=lambda now: {"g": (rows * now.x).abs().sum(-1)},
        noise=lambda t, _: coin[:, t],
    )
    one = torch.ones(n, dtype=torch.float64)
    mean = (seen["g"].unflatten(1, (n, P)) * chance).sum(-1).mean(0)
    return mean, {"alpha_u": one, "alpha_l": one, "D": D, "Lambda": Lam, "S": S, "T": T * one, "ebar": 0 * one}


GAMES = {
    "b": Range(0.5, 2),
    "mu": Range(0.5, 1),
    "omega": Range(0.25, 4),
    "start": Range(-2, 2, size=2),
    "sigma": Range(0, 2, size=2),
    "p": Range(0.25, 0.75),
}
SHARP = {"b": 1.0, "mu": 1.0, "omega": 4.0, "start": [0.5, 0.5], "sigma": [0.0, 0.0], "p": 0.5}

SIGMA, HEADS = 1.0, 0.3
"""Each entry's noise: SIGMA sqrt(.7/.3) with probability .3, else -SIGMA sqrt(.3/.7): unbiased, yet its median is not 0."""


def _robust_sigmoid(copies: int, instances: int = 1) -> tuple[Sigmoid, Tensor, Tensor]:
    """Non-convex games of four scalar layers with a ball, a start, and the two-sided |L|_1; [instances * copies]."""
    generator = torch.Generator().manual_seed(4)

    def randn(*shape: int) -> Tensor:
        return torch.randn(instances, *shape, generator=generator, dtype=torch.float64).repeat_interleave(copies, 0)

    features, B, x = 0.5 * randn(3, 4), 0.5 * randn(4, 3), randn(4)
    C = torch.diag_embed(torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64)).expand(len(x), 3, 3)
    omega = torch.ones(len(x), dtype=torch.float64)
    problem = Sigmoid(features, Quadratic(0 * C.new_ones(len(x), 4, 4), B, C, layers=(1,) * 4, omega=omega))
    # s'' >= -1/2, and the quadratic part of Phi is convex: Phi'' >= -gram/2.
    below = layerwise_smoothness(features.mT @ features / 2, problem.layers)
    above = problem.constants.L
    assert above is not None
    return problem, x, torch.maximum(above, below).sum(-1)


def _descend(problem: Sigmoid, x: Tensor, eta: float, q: float, T: int) -> tuple[Tensor, Tensor]:
    """Mean gradient norm of each instance, and the averaged error of the follower (one step from 0)."""
    generator = torch.Generator().manual_seed(T)
    momentum = (1 - q) / (1 + q)
    high = SIGMA * ((1 - HEADS) / HEADS) ** 0.5
    low = -SIGMA * (HEADS / (1 - HEADS)) ** 0.5

    def noise(_: int, x: Tensor) -> Tensor:
        heads = torch.rand(x.shape, generator=generator, dtype=torch.float64) < HEADS
        return torch.where(heads, high, low)

    def observe(now: Round) -> dict[str, Tensor]:
        gradient, given = problem.grad_phi(now.x), problem.grad_x(now.x, now.y)
        return {"g": layer_norms(problem, gradient).sum(-1), "e": layer_norms(problem, given - gradient).sum(-1)}

    seen = play(problem, x, normalized(eta, momentum=momentum), follower(1.0), rounds=T, observe=observe, noise=noise)
    return seen["g"].mean(0), _lagged(seen["e"], momentum)


def _over_rounds(effort: Effort) -> Sequence[Curve]:
    """One game, many seeds, one sample a step: the corollary's steps, and theorem (d)'s without momentum."""
    problem, x, Lam = _robust_sigmoid(effort.seeds)
    D, L, S = float(problem.phi(x)[0]), float(Lam[0]), 4 * SIGMA
    rounds = [int(T * effort.rounds) for T in (32, 128, 512, 2048)]
    measured: dict[str, list[Tensor]] = {"with": [], "without": []}
    bounds: dict[str, list[Tensor]] = {"with": [], "without": []}
    for T in rounds:
        q = min(1.0, (D * L / T) ** 0.5 / S)
        values = {"alpha_l": 1.0, "alpha_u": 1.0, "D": D, "Lambda": L, "S": S, "T": float(T)}
        gradient, errors = _descend(problem, x, (q * D / (T * L)) ** 0.5, q, T)
        measured["with"].append(gradient)
        bounds["with"].append(TUNED(ebar=errors.mean().expand_as(gradient), **values))
        eta = (2 * D / (T * L)) ** 0.5
        gradient, errors = _descend(problem, x, eta, 1.0, T)
        measured["without"].append(gradient)
        # Theorem (d), which is better here: its key lemma needs C_4 = 1 only, and no first rounds.
        bounds["without"].append(
            RATE({"C_4": 0.5, "C_6": 0.0}, ebar=errors.mean().expand_as(gradient), eta=eta, q=1.0, **values)
        )
    return [
        Curve(f"{name} momentum", rounds, torch.stack(measured[name]), torch.stack(bounds[name]), of=of)
        for name, of in (("without", "the rate of ScaLA"), ("with", TUNED.name))
    ]


def _over_momentum(effort: Effort) -> Sequence[Curve]:
    """Many games at a fixed number of rounds: which momentum is best, and which the theory picks."""
    T = int(512 * effort.rounds)
    problem, x, Lam = _robust_sigmoid(1, effort.seeds)
    D, S = problem.phi(x), 4 * SIGMA
    kept = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]
    measured, bounds = [], []
    for q in kept:
        eta = float((D / Lam).mean() / T / (1 / q - 0.5)) ** 0.5
        gradient, errors = _descend(problem, x, eta, q, T)
        measured.append(gradient)
        bounds.append(RATE(alpha_l=1.0, alpha_u=1.0, eta=eta, T=float(T), D=D, Lambda=Lam, S=S, q=q, ebar=errors))
    return [Curve(f"{T} rounds", [2 * q / (1 + q) for q in kept], torch.stack(measured), torch.stack(bounds))]


THEOREM = Theorem(
    name="momentum",
    title="Momentum removes the floor of the noise",
    about=r"Layer-wise normalised steps without momentum need not get below $|\sigma|_1/\sqrt b$: a step's direction does "
    r"not tell a large gradient from a small one, so what the noise does to the direction does not average out. Momentum "
    r"averages before normalising. With $q = (1-\beta)/(1+\beta)$, the share of the noise's variance that the average keeps, "
    r"the bound falls like $T^{-1/4}$ at any fixed batch size, and its main term depends on the number $bT$ of samples alone.",
    source="Beyond the paper. The idea is Cutkosky & Mehta 2020 (Momentum improves normalized SGD): global normalisation, no "
    "follower. Layers, bounds on phi, an inexact follower, zero start and the constants are ours.",
    symbols={
        r"\alpha_l, \alpha_u": r"$\alpha_l \le \phi \le \alpha_u$",
        r"\eta": "step size of the leader",
        "T": "rounds",
        "D": r"$\Phi(x_0) - \inf\Phi$",
        r"\Lambda": r"$|L|_1 = \sum_i L_i$, two-sided",
        "S": r"$|\sigma|_1/\sqrt b$",
        "q": r"$(1-\beta)/(1+\beta)$; tuned: $\sqrt{D\Lambda/T}/S$, if that is at most 1",
        r"ebar": r"the follower's error, averaged: $\frac1T\sum_t\sum_{s\le t} w_{t,s}\sum_i \mathbb{E}\,e_{s,i} \le "
        r"\max_s\sum_i\mathbb{E}\,e_{s,i}$",
        "C_6": r"$\pi/4 + (\ln 2)/2$: the price of the first rounds, whose averages are short",
    },
    assumptions=ASSUMPTIONS,
    bounds=(RATE, TUNED, LOSS, DRIFT, LAG, AVERAGE),
    proof=PROOF,
    attacks=(
        Attack(
            "core, little momentum",
            RATE,
            _every_toss(0.005, 3),
            GAMES,
            sharp=SHARP,
            at_once=2_500,
        ),
        Attack("core, momentum", RATE, _every_toss(0.5, 3), GAMES, falls_at=0.3, sharp=SHARP, at_once=2_500),
        Attack(
            "core, tuned",
            TUNED,
            partial(_tuned, 0.05, 4),
            {"L": Range(0.25, 4, size=2), "start": Range(0.0625, 2, size=2), "share": Range(0, 1), "p": Range(0.25, 0.75)},
            falls_at=0.6,
            at_once=1_250,
        ),
        Attack(
            "two vectors",
            LOSS,
            _lost,
            {"share": Range(2**-6, 2), "angle": Range(0, 3.2), "length": Range(0.25, 4)},
            constant="C_1",
        ),
        Attack(
            "coupled curvature",
            DRIFT,
            _drifted,
            {"L": Range(0.25, 4, size=2), "step": Range(-1, 1, size=2), "mirror": Range(0, 3.2), "turn": Range(0, 1)},
            constant="C_1",
            sharp={"L": [1.0, 2.0], "step": [1.0, 1.0], "mirror": 0.0, "turn": 0.0},
        ),
        Attack("age of the average", LAG, _lagging, {"q": Range(0.0625, 0.5), "n": Range(1, 128)}, constant="C_1"),
        Attack(
            "first rounds",
            AVERAGE,
            _averaging,
            {"q": Range(0.003, 0.5, log=True), "T": Range(4, 1024)},
            constant="C_6",
            sharp={"q": 0.003, "T": 1024.0},
            at_once=2_000,
        ),
    ),
    measurements=(
        Measurement(
            "rounds",
            "At one sample a step, momentum removes the floor of the noise",
            "rounds T",
            "mean of the sum of gradient norms",
            _over_rounds,
            alt="Without momentum the mean gradient norm stops falling at a floor; with momentum it goes on falling. Dashed "
            "bounds above.",
        ),
        Measurement(
            "momentum",
            "Too little momentum and too much: the best lies between",
            r"$1 - \beta$",
            "mean of the sum of gradient norms",
            _over_momentum,
            alt="Mean gradient norm over one minus beta: a valley between no momentum and too much; the dashed bound has one "
            "too.",
        ),
    ),
    remarks=(
        r"At $\beta = 0$ theorem (d) is better: its key lemma takes the expectation over the last sample and loses $S$, not "
        r"$2S$. An average is not independent of the gradient at the point it led to, so here only the path-wise loss of "
        r"$2\|\hat m - g\|$ is known; whether $C_4 = 2$ can be 1 for every $\beta$ is open. With this proof momentum wins "
        r"once $S$ is about 9 times $\sqrt{2D\Lambda/T}$ or more: $4(D\Lambda S^2/T)^{1/4} < S + \sqrt{2D\Lambda/T}$, the "
        r"follower aside.",
        r"The constants of the steps (lost descent, drift, lag, first rounds) are sharp one by one: their attacks fall at 0.9. "
        r"Of the whole theorem only the descent and curvature terms are seen to be sharp, for $\beta \to 0$ and without noise. "
        r"At $\beta = 0.5$, three rounds, every toss of the coins counted, the worst instance found reaches a third of the "
        r"bound, so that attack falls at 0.3 only, and $C_3$, $C_4$, $C_5$ are not attacked one by "
        r"one. At the tuned step and momentum, four rounds, the worst found reaches 0.73 of the tuned bound.",
        r"The bound is on an expectation; the measurement over rounds compares it with every single seed, and that over "
        r"momentum with one play of each game.",
        r"The tuned bound's main term is $4(D|L|_1|\sigma|_1^2/(bT))^{1/4}$: only the number of samples $bT$ counts, as long "
        r"as $q \le 1$, that is $b \le |\sigma|_1^2T/(D|L|_1)$.",
        r"The noise of the measurements is unbiased and skewed on purpose. The median of symmetric noise is 0, so that the "
        r"step of a scalar layer points downhill on average however small its gradient, and no floor is to be seen.",
    ),
    order=80,
)
