"""The stall: with a concave follower alone, layer-wise normalised steps can make no progress for ever."""

from collections.abc import Sequence
from functools import cache
from itertools import count, pairwise

import torch
from sympy import Abs, Min, Symbol, sqrt, symbols
from torch import Tensor, nn
from torch.optim import Optimizer

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Square, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import Leader, follower, normalized, play
from convergence.theorem import Argument, Assumption, Citation, Theorem
from scala import Adversary
from toy_problems import Stall

eps, omega, l, eta, p, q = symbols("varepsilon omega l eta p q", positive=True)  # noqa: E741 - the theory's letter
k = symbols("k", nonnegative=True)
u_0, x_1, x_2, sigma, s, e, d, y_2, X_1, X_2 = symbols("u_0 x_1 x_2 sigma s e d y_2 X_1 X_2", real=True)

NOW, AFTER = (tuple(Symbol(f"x_{{{t},{i}}}", real=True) for i in (1, 2)) for t in ("t", "t+1"))
SETTING = {r"$0 < \varepsilon < 1$, an exact follower, equal steps of both layers": None}
ENVELOPE = Bound(
    "envelope gradient", r"\min_t \|\nabla\Phi_{1/2l}(x_t)\|", sqrt(2) * Min(eps * omega, l * Abs(u_0)), lower=True,
    proofs=(
        Proved("gradient from below", (e + d) ** 2 + (e - d) ** 2, {e: eps * omega}, power=2),
        Proved("gradient from below", (e + d) ** 2 + (e - d) ** 2, {e: l * u_0}, power=2),
    ),
    where=SETTING,
)  # fmt: skip
SUM = Bound(
    "sum", r"\min_t |x_{t,1} + x_{t,2}|", Abs(u_0), lower=True, proofs=(Proved("invariance", X_1 + X_2, {x_1: u_0 - x_2}),),
    where=SETTING,
)  # fmt: skip

PROOF = (
    Argument(
        "the follower's answer",
        r"$f(x,\cdot)$ is linear, so the exact follower answers $y_2 = \sigma\omega$, $y_1 = s\sigma\omega$ with "
        r"$\sigma, s \in \{-1, 1\}$ (ties broken to a corner of $Y$).",
    ),
    Identity(
        "first layer",
        eps * (s * sigma * omega) + sigma * omega,
        sigma * (omega * (1 + s * eps)),
        says=r"$\nabla_1 f = \sigma\,\omega(1 + s\varepsilon)$",
    ),
    Identity(
        "second layer",
        eps * (s * sigma * omega) - sigma * omega,
        -sigma * (omega * (1 - s * eps)),
        says=r"$\nabla_2 f = -\sigma\,\omega(1 - s\varepsilon)$",
    ),
    Inequality(
        "signs",
        omega * (1 - eps),
        (Term(omega * (1 - eps)),),
        region={eps: 1 / (1 + p)},
        says=r"$\omega(1 \pm \varepsilon) > 0$ for $\varepsilon < 1$: the layers' normalised directions are "
        r"$\sigma$, $-\sigma$.",
    ),
    Identity(
        "invariance",
        X_1 + X_2,
        x_1 + x_2,
        region={X_1: x_1 - eta * sigma, X_2: x_2 + eta * sigma},
        says=r"Equal steps in opposite directions leave $x_1 + x_2$ as it was, whatever the step sizes $\eta_t$.",
    ),
    Identity(
        "coordinates",
        (x_1 - X_1) ** 2 + (x_2 - X_2) ** 2,
        ((x_1 + x_2 - X_1 - X_2) ** 2 + (x_1 - x_2 - X_1 + X_2) ** 2) / 2,
        says=r"In $u = x_1 + x_2$ and $v = x_1 - x_2$ both $\Phi = \omega(\varepsilon|u| + |v|)$ and the envelope's square "
        r"separate: $\Phi_{1/2l}$ is a sum of two envelopes of absolute values, with gradient $(e + d,\, e - d)$, $e$ the "
        r"slope in $u$ and $d$ the slope in $v$.",
    ),
    Identity(
        "far from the kink",
        eps * omega,
        l * (u_0 - e),
        region={e: u_0 - eps * omega / l},
        says=r"$u \ge \varepsilon\omega/l$: the proximal point $u - \varepsilon\omega/l$ (here $e$) is stationary: "
        r"the slope there, $\varepsilon\omega$, is $l$ times the way to it.",
    ),
    Inequality(
        "near the kink",
        eps * omega - l * u_0,
        (Term(p),),
        region={u_0: k, eps: (l * k + p) / omega},
        says=r"$0 \le lu \le \varepsilon\omega$: the slope $l(u - 0)$ is a subgradient at the kink, which is the proximal "
        r"point, so $|e| = l|u|$.",
    ),
    Inequality(
        "gradient from below",
        (e + d) ** 2 + (e - d) ** 2 - 2 * e**2,
        (Term(2, Square(d)),),
        says=r"$\|\nabla\Phi_{1/2l}\|^2 \ge 2e^2 = 2\min(\varepsilon\omega,\, l|u|)^2$, with equality where $v = 0$.",
    ),
    Inequality(
        "every subgradient",
        (eps * omega + y_2) ** 2 + (eps * omega - y_2) ** 2 - 2 * (eps * omega) ** 2,
        (Term(2, Square(y_2)),),
        says=r"The same seen without an envelope: where $u \ne 0$ every subgradient of $\Phi$ is at least "
        r"$\sqrt2\,\varepsilon\omega$ long.",
    ),
    Citation(
        "envelope",
        r"$\nabla\Phi_{1/2l}(x) = 2l(x - \hat x)$, a subgradient of $\Phi$ at the proximal point $\hat x$.",
        "Moreau 1965; Davis and Drusvyatskiy 2019, section 2",
    ),
)


EXACT, TIE = 1e110, 1e-100
"""Raw step of the follower from which one ascent step ends in a corner of Y; what makes that so at x_1 = x_2 too."""


class _TiedStall(Stall):
    """The same game, ties broken with y_2 = +omega: TIE is lost in rounding wherever x_1 - x_2 is not 0."""

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        return super().f(x, y) + TIE * y[..., 1]


class _OneLayer(_TiedStall):
    """Both weights in one layer: global normalisation."""

    layers = (2,)  # type: ignore[assignment]


def _scheduled(lr: float, power: float) -> Leader:
    """Layer-wise normalised steps of length lr * t^-power."""

    def make(layers: list[nn.Parameter]) -> Optimizer:
        leader, rounds = normalized(lr)(layers), count(1)
        leader.register_step_pre_hook(lambda *_: leader.param_groups[0].update(lr=lr * next(rounds) ** -power))
        return leader

    return make


def _start(u: Tensor, v: Tensor) -> Tensor:
    return torch.stack([u + v, u - v], -1) / 2


def _attacked(power: float, measure: str) -> Attack:
    """Four rounds of the core from random starts."""

    def core(eps: Tensor, omega: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        problem, x = _TiedStall(eps, omega), _start(u, v)
        seen = play(
            problem, x, _scheduled(0.2, power), follower(EXACT), rounds=4,
            observe=lambda r: {"sum": r.x.sum(-1).abs(), "gradient": problem.moreau_gradient(r.x).norm(dim=-1)},
        )  # fmt: skip
        assert problem.constants.l is not None
        values = {"varepsilon": eps, "omega": omega, "l": problem.constants.l, "u_0": u}
        return seen[measure].amin(0), {"u_0": u} if measure == "sum" else values

    ranges = {"eps": Range(0.125, 0.875), "omega": Range(0.25, 4), "u": Range(1 / 16, 2), "v": Range(1 / 64, 1)}
    name = f"{measure}, {'constant steps' if power == 0 else 'steps t^-1/2'}"
    return Attack(name, SUM if measure == "sum" else ENVELOPE, core, ranges)


@cache
def _plays(effort: Effort) -> tuple[list[int], dict[str, tuple[Tensor, Tensor]], Tensor]:
    """10^4 rounds of the core: observed rounds; by label |x_1 + x_2| relative to its start, and the envelope's gradient."""
    generator = torch.Generator().manual_seed(0)
    eps, omega, u, v = 0.2 + 0.6 * torch.rand(4, effort.seeds, generator=generator, dtype=torch.float64)
    u, omega = 0.5 + u, 2 * omega
    rounds = int(10_000 * effort.rounds)
    times = sorted({round(rounds ** (k / 24)) for k in range(25)})
    stall, one_layer = _TiedStall(eps, omega), _OneLayer(eps, omega)

    def core(problem: Stall, leader: Leader, adversary: Adversary) -> tuple[Tensor, Tensor]:
        at = play(problem, _start(u, v), leader, adversary, rounds=rounds, observe=lambda r: {"at": r.x})["at"]
        # The greatest of the rounds since the last shown: a sum that only crosses 0 has not arrived there.
        sums = [part.amax(0) for part in (at.sum(-1).abs() / u).split([1, *(j - i for i, j in pairwise(times))])]
        lowest = stall.moreau_gradient(at).norm(dim=-1).cummin(0).values
        return torch.stack(sums), lowest[torch.tensor(times) - 1]

    exact, root = follower(EXACT), _scheduled(0.1, 0.5)
    stalled = [core(stall, leader, exact) for leader in (_scheduled(0.01, 0), root, _scheduled(0.3, 1))]
    seen = {
        STALLED: (torch.cat([sums for sums, _ in stalled], 1), torch.cat([lowest for _, lowest in stalled], 1)),
        "repair: both weights in one layer": core(one_layer, root, exact),
        # rho = 1/lambda: from y = 0 one step is the exact answer of the regularised follower.
        r"repair: follower regularised, $\lambda = 0.5$": core(stall, root, follower(2.0, regularizer=0.5)),
    }
    return times, seen, ENVELOPE(varepsilon=eps, omega=omega, l=2**0.5, u_0=u).repeat(3)


STALLED = r"layer-wise: constant, $1/\sqrt{t}$, $1/t$ steps"


def _sums(effort: Effort) -> Sequence[Curve]:
    times, seen, lower = _plays(effort)
    one = SUM(u_0=torch.ones_like(lower))
    return [Curve(label, times, sums, one if label is STALLED else None, lower=True) for label, (sums, _) in seen.items()]


def _gradients(effort: Effort) -> Sequence[Curve]:
    times, seen, lower = _plays(effort)
    return [Curve(label, times, least, lower if label is STALLED else None, lower=True) for label, (_, least) in seen.items()]


THEOREM = Theorem(
    name="stall",
    title="Layer-wise normalisation can stall",
    about=r"Without strong concavity no rate in the Moreau envelope can hold for layer-wise normalised steps: on "
    r"$f = \varepsilon y_1(x_1 + x_2) + y_2(x_1 - x_2)$ with an exact follower the steps of two scalar layers cancel in "
    r"$x_1 + x_2$, at every step size, and the distance to stationarity never falls.",
    source="Ours.",
    symbols={
        r"\varepsilon": "weight of the direction in which nothing moves, in $(0, 1)$",
        r"\omega": "bound on each $|y_j|$",
        "l": r"parameter of the envelope; the joint smoothness of $f$ is $\sqrt2$",
        "u_0": r"$x_1 + x_2$ at the start",
    },
    assumptions=(
        Assumption("exact follower", r"$y_t$ maximises $f(x_t,\cdot)$ over $|y_j| \le \omega$ and lies in a corner."),
        Assumption(
            "equal steps",
            r"Both layers move by the same length $\eta_t$, any sequence: $\phi$ is constant, no noise, $\beta_1 = 0$.",
        ),
    ),
    bounds=(ENVELOPE, SUM),
    facts=(
        Equation(AFTER[0] + AFTER[1], NOW[0] + NOW[1], "invariance", {X_1: AFTER[0], X_2: AFTER[1], x_1: NOW[0], x_2: NOW[1]}),
    ),
    proof=PROOF,
    attacks=(_attacked(0, "gradient"), _attacked(0.5, "gradient"), _attacked(0.5, "sum")),
    measurements=(
        Measurement(
            "invariant",
            "The core makes no progress under any step schedule, and two repairs",
            "round t",
            r"$|x_1 + x_2|$, relative to the start",
            _sums,
            alt="Under three step schedules layer-wise normalised steps stay exactly at 1 for 10,000 rounds; with "
            "both weights in one layer, or "
            "with a regularised follower, the same game falls by orders of magnitude.",
            of="sum",
        ),
        Measurement(
            "stationarity",
            "Distance to stationarity: bounded below for ever, and repaired",
            "round t",
            r"least $\|\nabla\Phi_{1/2l}\|$ so far",
            _gradients,
            alt="The stalled games level off above the dashed lower bound; the two repaired ones fall below it towards zero.",
        ),
    ),
    remarks=(
        r"For $l = \sqrt2$ the bound is $\sqrt2\,\varepsilon\omega$ exactly when $|u_0| \ge \varepsilon\omega/\sqrt2$.",
        r"$\lambda = 0.5$ is the follower's regulariser, $f - (\lambda/2)\|y\|^2$. The other $\lambda$, the weight of "
        r"$f(x,0) + \lambda f(x,y)$, repairs nothing here: $f(x,0) = 0$, so the leader's direction is the same.",
        r"One ascent step from zero, $y = P_Y(\rho\,\nabla_y f)$, is the exact answer of the follower with regulariser "
        r"$1/\rho$. So the stall needs a large $\rho$: restarted one-step ascent with a moderate one repairs it by itself.",
        r"Where $x_1 = x_2$ exactly, $y_2$ is not unique, and an answer inside $(-\omega,\omega)$ lets the "
        r"sum move; here the tie "
        r"is broken with $y_2 = \omega$. That matters: under slowly decaying steps the signs of $x_1 - x_2$ cancel ever higher "
        r"differences of $\eta_t$, so that $x_1 - x_2$ comes, within 1000 rounds, so close to 0 that a follower with "
        r"$\rho = 10^{12}$ answers inside $Y$ and the sum starts to move (tested).",
        r"With $\phi(\|x_i\|) = \|x_i\|$ (LAMB) the layers' steps differ in length and the sum is not invariant.",
    ),
    order=70,
)
