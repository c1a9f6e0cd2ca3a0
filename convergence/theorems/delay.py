"""A delayed start saves ascent steps and pays with the follower's absence: the exact exchange rate."""

from collections.abc import Sequence
from functools import partial

import torch
from sympy import Integer, Rational, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Square, Sum, Term
from convergence.claim import Equation, Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import follower, normalized, play
from convergence.theorem import Assumption, Theorem
from convergence.theorems.projected_ascent import CONTRACTION
from convergence.theorems.restart import games, inner_error, starts
from toy_problems import Quadratic

beta, omega, q, K, T, t_s, cost = symbols("beta omega q K T t_s cost", positive=True)
Q, Y, R, e_before, e_after, late, s = symbols("Q Y R e_before e_after late s", positive=True)
B_1, B_2 = symbols("B_1 B_2", nonnegative=True)
C_1, C_2 = symbols("C_1 C_2", positive=True)

ERROR = Bound(
    "mean inner error",
    r"\frac1T \sum_{t<T} \sum_i e_{t,i}",
    beta * omega * (C_1 * t_s / T + C_2 * (1 - t_s / T) * q**K),
    constants={C_1: Integer(1), C_2: Integer(1)},
    proofs=(Proved("all rounds", (B_1 + B_2) / T, {Q: q**K, late: T - t_s}),),
    where={r"$0 \le t_s \le T$, $y_0 = 0$, $q$ as in theorem projected-ascent": t_s <= T},
)
COST = t_s + (1 + K) * (T - t_s)

PROOF = (
    Inequality(
        "before the delay",
        beta * omega - e_before,
        (Term(1, "coupling before"), Term(beta, "ball")),
        says=r"The leader sees $y = 0$: $\sum_i e_i \le (\sum_i\beta_i)\|0 - y^*\| \le (\sum_i\beta_i)\omega$.",
    ),
    Inequality(
        "after the delay",
        beta * omega * Q - e_after,
        (Term(1, "coupling after"), Term(beta, "contraction"), Term(beta * Q, "ball")),
        says=r"The follower starts from $0$ and makes $K$ steps, $Q = q^K$.",
    ),
    Sum(
        "rounds before",
        "before the delay",
        t_s,
        (t_s, beta, omega),
        sums=((Integer(-1), e_before, B_1),),
        rest=beta * omega,
        says=r"$B_1$ is the sum of errors over the first $t_s$ rounds,",
    ),
    Sum(
        "rounds after",
        "after the delay",
        late,
        (late, beta, omega, Q),
        sums=((Integer(-1), e_after, B_2),),
        rest=beta * omega * Q,
        says=r"$B_2$ that over the others.",
    ),
    Inequality(
        "all rounds",
        beta * omega * (t_s / T + (1 - t_s / T) * Q) - (B_1 + B_2) / T,
        (Term(1 / T, "rounds before"), Term(1 / T, "rounds after")),
        region={T: t_s + late},
        says=r"Their mean over the $T$ rounds.",
    ),
    Identity(
        "cost",
        t_s + (1 + K) * late,
        COST,
        region={T: t_s + late},
        says=r"A gradient a round before the follower joins, $K$ more in each of the others.",
    ),
    Identity(
        "bound as a function of cost",
        1 - (1 - Q) * (cost - T) / (K * T),
        (t_s / T + (1 - t_s / T) * Q).subs(t_s, T - (cost - T) / K),
        says=r"Put $t_s = T - (\mathrm{cost} - T)/K$: every gradient beyond $T$ lowers the bound by "
        r"$(\sum_i\beta_i)\omega\,(1-q^K)/(KT)$.",
    ),
    Inequality(
        "one step is worth more than half of two",
        (1 - q) - (1 - q**2) / 2,
        (Term(Rational(1, 2), Square(1 - q)),),
        says=r"$(1-q^K)/K = (1 + q + \dots + q^{K-1})/K$ is a mean of falling numbers, so it is largest at $K = 1$.",
    ),
)


def _rounds(T: int, t_s: int, K: int, *, mu: Tensor, b: Tensor, reach: Tensor, x: Tensor) -> tuple[Tensor, Values]:
    """The core, rho = 1: two scalar layers that both couple to one noise.

    The radius is `reach` times the size of the first answer without a ball.
    """
    omega = (reach * 2.5 * b * x / mu).abs().clamp_min(2.0**-10)
    B = torch.stack([b, 1.5 * b], -1)[:, :, None]
    problem = Quadratic(torch.zeros(len(mu), 2, 2), B, mu[:, None, None], layers=(1, 1), omega=omega)
    seen = play(
        problem,
        torch.stack([x, x], -1),
        normalized(2.0**-10),
        follower(1.0, K),
        rounds=T,
        delay=t_s,
        observe=lambda r: {"e": inner_error(problem, r.x, r.u)},
    )
    rate = CONTRACTION(l=mu, mu=mu, rho=1.0, K=1.0, r_0=1.0)
    fixed = {"K": K, "T": T, "t_s": t_s}
    return seen["e"].mean(0), {"beta": 2.5 * b, "omega": omega, "q": rate} | {
        k: torch.tensor(float(v)) for k, v in fixed.items()
    }


def campaign(problem: Quadratic, x: Tensor, *, step: float, ascent: int, delay: int, rounds: int) -> tuple[Tensor, int]:
    """The core's game with its own count of gradients: mean over rounds of sum_i e_i [B], and gradients a sample."""
    seen = play(
        problem,
        x,
        normalized(step),
        follower(1.0, ascent),
        rounds=rounds,
        delay=delay,
        observe=lambda r: {"e": inner_error(problem, r.x, r.u)},
    )
    return seen["e"].mean(0), int(seen["gradients"])


def _family(effort: Effort) -> tuple[Quadratic, Tensor, Tensor, Tensor]:
    """Games whose best answer stays near the sphere: (problem, start, q, sum of beta)."""
    problem = games(effort.seeds, 3.0, torch.ones(effort.seeds))
    c = problem.constants
    assert c.l_yy is not None
    assert c.mu is not None
    assert c.beta is not None
    return problem, starts(problem), CONTRACTION(l=c.l_yy, mu=c.mu, rho=1.0, K=1.0, r_0=1.0), c.beta.sum(-1)


def _trade_off(effort: Effort) -> Sequence[Curve]:
    (problem, x, rate, betas), horizon = _family(effort), 40
    assert problem.omega is not None
    curves = []
    for k in (1, 2, 4):
        costs, measured, bounds = [], [], []
        for delay in (40, 30, 20, 10, 0):
            error, spent = campaign(problem, x, step=0.005, ascent=k, delay=delay, rounds=horizon)
            expected = COST.subs({t_s: delay, T: horizon, K: k})
            if spent != expected:
                raise AssertionError(f"the core counts {spent} gradients a sample, the formula {expected}")
            costs.append(spent / horizon)
            measured.append(error)
            bounds.append(ERROR(beta=betas, omega=problem.omega, q=rate, K=float(k), T=float(horizon), t_s=float(delay)))
        curves.append(Curve(f"K = {k}", costs, torch.stack(measured), torch.stack(bounds)))
    return curves


def _over_delay(effort: Effort) -> Sequence[Curve]:
    (problem, x, rate, betas), horizon = _family(effort), 40
    assert problem.omega is not None
    curves = []
    for k in (1, 4):
        measured, bounds = [], []
        for delay in (0, 10, 20, 30, 40):
            measured.append(campaign(problem, x, step=0.005, ascent=k, delay=delay, rounds=horizon)[0])
            bounds.append(ERROR(beta=betas, omega=problem.omega, q=rate, K=float(k), T=float(horizon), t_s=float(delay)))
        curves.append(Curve(f"K = {k}", [0, 0.25, 0.5, 0.75, 1], torch.stack(measured), torch.stack(bounds)))
    return curves


THEOREM = Theorem(
    name="delay",
    title="What a delayed start saves and costs",
    about=r"The follower joins at round $t_s$ of $T$ and restarts from $0$ every round. The mean error interpolates between "
    r"$(\sum_i\beta_i)\omega$, no follower, and $(\sum_i\beta_i)\omega q^K$, a follower throughout; the cost, in gradients a "
    r"sample, between $T$ and $(1+K)T$.",
    source="Derived here from theorem projected-ascent.",
    symbols={
        "e_{t,i}": r"$\|\nabla_{x_i} f(x_t,y_t) - \nabla_i\Phi(x_t)\|$, $y_t$ what the leader sees in round $t$",
        r"\beta": r"$\sum_i\beta_i$, $\beta_i$ a bound of $\|\partial^2 f/\partial x_i\partial y\|$",
        r"\omega": "radius of the ball",
        "q": "factor of one ascent step, theorem projected-ascent",
        "K": "ascent steps a round",
        "T": "rounds",
        "t_s": "first round with the follower, counted from 0",
        "cost": "gradients of one sample's loss, both players together",
    },
    assumptions=(
        Assumption("ball", r"$Y = \|y^*\| \le \omega$.", omega - Y),
        Assumption("coupling before", r"$y = 0$: $\sum_i e_i \le (\sum_i\beta_i) Y$.", beta * Y - e_before),
        Assumption("coupling after", r"$\sum_i e_i \le (\sum_i\beta_i) R$, $R = \|y_K - y^*\|$.", beta * R - e_after),
        Assumption("contraction", r"$R \le q^K Y$ from $y_0 = 0$.", Q * Y - R, proved_by="projected-ascent"),
        Assumption("envelope", r"$\nabla_i\Phi(x) = \nabla_{x_i} f(x,y^*(x))$.", proved_by="danskin"),
    ),
    bounds=(ERROR,),
    facts=(Equation(cost, COST, "cost", {late: T - t_s}, stands={cost: t_s + (1 + K) * (T - t_s)}),),
    proof=PROOF,
    attacks=tuple(
        Attack(
            f"{name}, {t_s} of {T}, K = {K}",
            ERROR,
            partial(_rounds, T, t_s, K),
            {"mu": Range(0.0625, 0.5), "b": Range(0.5, 2), "reach": Range(0.9, 1.2), "x": Range(0.25, 1)},
            constant=constant,
        )
        for name, constant, (T, t_s, K) in (
            ("rounds without", "C_1", (3, 1, 2)),
            ("rounds with", "C_2", (3, 1, 2)),
            ("rounds without", "C_1", (5, 3, 1)),
            ("rounds with", "C_2", (5, 1, 3)),
        )
    ),
    measurements=(
        Measurement(
            "trade-off",
            "Error bought by gradients: K = 1 first",
            "gradients a sample and round, counted by the core",
            r"mean over rounds of $\sum_i e_i$",
            _trade_off,
            log="",
            alt="Error against cost: straight lines falling from the same point without a follower; that of one ascent step is "
            "the steepest, those of more steps reach further.",
        ),
        Measurement(
            "delay",
            "The error grows in proportion to the rounds without noise",
            r"share of rounds before the follower, $t_s/T$",
            r"mean over rounds of $\sum_i e_i$",
            _over_delay,
            log="",
            alt="Error against the delay's share: straight lines rising to the same point, below dashed bounds.",
        ),
    ),
    remarks=(
        r"Honest consequence: with $y = 0$ throughout $\sum_i e_i \le (\sum_i\beta_i)\omega$ as well. So this bound alone "
        r"cannot show that noise helps; it shows how much of the error each gradient buys back. Theorem shipped-follower does, "
        r"where the gradient at 0 is long.",
        r"At equal cost, up to $2T$ gradients a sample, $K = 1$ from an earlier round has the smallest bound, as $(1-q^K)/K$ "
        r"falls with $K$. More ascent steps pay only once the follower plays in every round.",
    ),
    order=52,
)
