"""LAMB's second moment: what dividing by sqrt(v) costs the theory, and that it still converges with an inexact follower."""

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from sympy import Integer, Rational, sqrt, symbols
from torch import Tensor

from convergence.attack import Attack, Range, Values
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Norm2, Sum, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import Leader, Round, follower, layer_norms, normalized, play
from convergence.theorem import Argument, Assumption, Theorem
from toy_problems import BallHuber, Quadratic, Sigmoid

alpha_l, alpha_u, eta, T, D, Lam, S, ebar = symbols("alpha_l alpha_u eta T D Lambda S ebar", positive=True)
C_1, C_2, C_3, C_4, G, U, beta_2, d, n = symbols("C_1 C_2 C_3 C_4 G U beta_2 d n", positive=True)

p, p_j, share, lamda, N, a, y = symbols("p p_j share lamda N a y", positive=True)
z, x, k, e, L, phi, c, R = symbols("z x k e L phi c R", nonnegative=True)
h = symbols("h", positive=True)
price, errors, L_1, M, E = symbols("price errors L_1 M E", nonnegative=True)
X, Phi, Phi_next, Phi_0, Phi_T = symbols("X Phi Phi_next Phi_0 Phi_T", real=True)
u, v, o = vectors("u v o")
g = u - e * o

RATE = Bound(
    "rate",
    r"\frac1T\sum_{t<T}\sum_i \frac1G\sqrt{\frac{1-\beta_2}{d_i-\beta_2}}\;\mathbb{E}\|u_{t,i}\|^2",
    C_1 * D / (alpha_l * eta * T) + C_2 * eta * alpha_u**2 * Lam / alpha_l + alpha_u * (C_3 * S + C_4 * ebar) / alpha_l,
    constants={C_1: 1, C_2: Rational(1, 2), C_3: 1, C_4: 1},
    proofs=(Proved("solved for the mean", M),),
    where={
        r"$0 < \alpha_l \le \alpha_u$, $\inf\Phi > -\infty$, no constraint on $x$": alpha_l <= alpha_u,
        r"$|u_{t,i,j}| \le G$, $\beta_1 = 0$, $\epsilon = 0$, no weight decay, $0 \le \beta_2 < 1$": None,
    },
)
PROGRESS = Bound(
    "progress",
    r"\langle u, r/\|r\|\rangle",
    C_1 * U / (G * sqrt(1 + (d - 1) * (1 - beta_2**n) / (1 - beta_2))),
    constants={C_1: 1},
    lower=True,
    proofs=(
        Proved(
            "progress",
            (lamda * U / G) ** 2 / R,
            {k: d - 1, N: (1 - beta_2**n) / (1 - beta_2)},
            power=2,
            factor=R * (1 + k * N),
        ),
    ),
    where={r"$d \ge 1$": d >= 1, r"$0 \le \beta_2 < 1$, every entry of the last $n$ gradients at most $G$": beta_2 < 1},
)

PROOF = (
    Argument(
        "bounds on v",
        r"Bias correction does not turn $r$, so take $\hat v_j = \frac{1-\beta_2}{1-\beta_2^n}\sum_{s\le "
        r"t}\beta_2^{t-s}u_{s,j}^2$, $n = t+1$: a weighted mean of squares, so $u_j^2/N \le \hat v_j \le G^2$ with $N = "
        r"(1-\beta_2^n)/(1-\beta_2)$. With $\text{share}_j = |u_j|/G$ and $p_j = |r_j| = |u_j|/\sqrt{\hat v_j}$: "
        r"$\text{share}_j \le p_j \le \sqrt N$. Entries with $u_j = 0$ do not move and are left out.",
    ),
    Inequality(
        "entry, against the least",
        p_j * share - p * share**2,
        (Term(p_j * share - p * share**2),),
        region={p_j: p + x, share: 1 / (1 + y)},
        says=r"With $p = \min_j p_j$ and $\text{share}_j \le 1$; summed: $\langle u,r\rangle/G \ge p\,\|u\|^2/G^2$. So "
        r"$\lambda \ge p$ in $\langle u,r\rangle/G = \lambda\,\|u\|^2/G^2$.",
    ),
    Inequality(
        "entry, against its share",
        p_j * share - share**2,
        (Term(share * (p_j - share)),),
        region={p_j: share + x},
        says=r"Summed: $\lambda \ge 1$.",
    ),
    Argument(
        "all but one",
        r"$\|r\|^2 \le p^2 + (d-1)N$: one entry is the least, the others are at most $\sqrt N$.",
        p**2 + k * N - R,
    ),
    Inequality(
        "length of r",
        lamda**2 * (1 + k * N) - R,
        (Term(1, "all but one"), Term(lamda**2 - p**2), Term(k * N * (lamda**2 - 1))),
        region={lamda: 1 + x, p: (1 + x) / (1 + y)},
        says=r"$R = \|r\|^2$, $k = d-1$: $\|r\| \le \lambda\sqrt{1+(d-1)N}$, and $\lambda$ cancels in $\langle "
        r"u,r\rangle/\|r\| \ge \|u\|^2/(G\sqrt{1+(d-1)N})$.",
    ),
    Inequality(
        "progress",
        (lamda * U / G) ** 2 * (1 + k * N) - (U / G) ** 2 * R,
        (Term((U / G) ** 2, "length of r"),),
        region={lamda: 1 + x, p: (1 + x) / (1 + y)},
        says=r"In squares, with $\langle u,r\rangle = \lambda U/G$: $\langle u,r\rangle^2/\|r\|^2 \ge U^2/(G^2(1+(d-1)N))$.",
    ),
    Inequality(
        "N",
        1 / (1 - beta_2) - (1 - z) / (1 - beta_2),
        (Term(z / (1 - beta_2)),),
        region={beta_2: 1 / (1 + a)},
        says=r"$z = \beta_2^n$: $N \le 1/(1-\beta_2)$ at any time.",
    ),
    Identity(
        "at any time",
        1 + (d - 1) / (1 - beta_2),
        (d - beta_2) / (1 - beta_2),
        says=r"So $\langle u_i, r_i/\|r_i\|\rangle \ge c_i\|u_i\|^2$, $c_i = \frac1G\sqrt{(1-\beta_2)/(d_i-\beta_2)}$.",
    ),
    Argument("progress, in a layer's letters", r"With $c = c_i$: $\langle u,v\rangle \ge c\|u\|^2$.", Dot(u, v) - c * norm2(u)),
    Inequality(
        "one layer, one step",
        eta * phi * Dot(g, v)
        - L * (eta * phi) ** 2 / 2
        - (eta * alpha_l * c * norm2(u) - eta * alpha_u * e - L * (eta * alpha_u) ** 2 / 2),
        (
            Term(eta * phi, "progress, in a layer's letters"),
            Term(eta * c, "phi from below", Norm2(u)),
            Term(eta * phi * e / 2, Norm2(o - v)),
            Term(eta * phi * e / 2, "o at most a unit"),
            Term(eta * phi * e / 2, "v at most a unit"),
            Term(eta * e, "phi from above"),
            Term(L * eta**2 * (alpha_u + phi) / 2, "phi from above"),
        ),
        says=r"With $g = \nabla_i\Phi = u - e\,o$, $v = r/\|r\|$: what A1 promises of a layer's step.",
    ),
    Sum(
        "all layers",
        "one layer, one step",
        h,
        (h, eta, alpha_l, alpha_u),
        sums=(
            (Integer(1), eta * phi * Dot(g, v) - L * (eta * phi) ** 2 / 2, X),
            (-eta * alpha_l, c * norm2(u), price),
            (eta * alpha_u, e, errors),
            (eta**2 * alpha_u**2 / 2, L, L_1),
        ),
        says=r"Over the $h$ layers: $X$ is the descent by A1, price is $\sum_i c_i\|u_i\|^2$, errors "
        r"$\sum_i\|u_i - \nabla_i\Phi\|$.",
    ),
    Inequality(
        "one step",
        Phi - Phi_next - eta * alpha_l * price + eta * alpha_u * errors + eta**2 * alpha_u**2 / 2 * L_1,
        (Term(1, "A1"), Term(1, "all layers")),
    ),
    Sum(
        "all steps",
        "one step",
        T,
        (T, eta, alpha_l, alpha_u, L_1),
        {Phi: Phi_next},
        telescopes=((Integer(1), Phi, Phi_0, Phi_T),),
        means=((-eta * alpha_l, price, M), (eta * alpha_u, errors, E)),
        rest=eta**2 * alpha_u**2 / 2 * L_1,
        says=r"In expectation; $M$ is the theorem's mean.",
    ),
    Argument(
        "noise and bias",
        r"$\mathbb{E}\|u_i - \nabla_i\Phi\| \le \sigma_i/\sqrt b + \mathbb{E}\,e_i$ (A2, Jensen), summed over layers, "
        r"in the mean over rounds; and $L_1 = |L|_1 = \Lambda$.",
        S + ebar - E,
    ),
    Inequality(
        "solved for the mean",
        D / (alpha_l * eta * T) + eta * alpha_u**2 * Lam / (2 * alpha_l) + alpha_u / alpha_l * (S + ebar) - M,
        (
            Term(1 / (alpha_l * eta * T), "all steps"),
            Term(1 / (alpha_l * eta * T), "bounded below"),
            Term(alpha_u / alpha_l, "noise and bias"),
            Term(eta * alpha_u**2 / (2 * alpha_l), "sum of smoothness"),
        ),
        says=r"And $\mathbb{E}\|u_i\|^2 \ge \mathbb{E}\|\mathbb{E}[u_i \mid x_t]\|^2$.",
    ),
)

ASSUMPTIONS = (
    Assumption(
        "A1", r"$\Phi(x+d) \le \Phi(x) + \langle\nabla\Phi(x),d\rangle + \frac12\sum_i L_i\|d_i\|^2$.", Phi - Phi_next - X
    ),
    Assumption(
        "bounded below", r"$D = \Phi(x_0) - \inf\Phi$ is finite, so $\Phi(x_0) - \Phi(x_T) \le D$.", D - (Phi_0 - Phi_T)
    ),
    Assumption("sum of smoothness", r"$\Lambda = \sum_i L_i$.", Lam - L_1),
    Assumption("phi from below", r"$\phi \ge \alpha_l$.", phi - alpha_l),
    Assumption("phi from above", r"$\phi \le \alpha_u$.", alpha_u - phi),
    Assumption(
        "A2",
        r"$\|\mathbb{E}[u_i \mid x_t] - \nabla_i\Phi\| \le e_{t,i}$ (the follower's error), $\mathbb{E}\|u_i - "
        r"\mathbb{E}[u_i \mid x_t]\|^2 \le \sigma_i^2/b$.",
    ),
    Assumption("beta_2 is not 1", r"$\beta_2 \ne 1$; indeed $0 \le \beta_2 < 1$.", nonzero=1 - beta_2),
    Assumption("bounded", r"$|u_{t,i,j}| \le G$ for every entry, round and sample."),
    Assumption("v at most a unit", r"$v = r/\|r\|$.", 1 - norm2(v), definition=True),
    Assumption("o at most a unit", r"$o$ is the direction of $u - g$ (0 if there is none).", 1 - norm2(o), definition=True),
)


def _remembering(now: Tensor, past: Tensor, beta_2: Tensor, n: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """One layer: n - 1 rounds of gradients `past`, then `now`^4 (so that small ones are drawn), |entries| <= G = 1."""
    n, now, decay = n.floor(), now**4, beta_2[:, None]
    kept = decay ** n[:, None]
    v = ((1 - decay) * now**2 + (decay - kept) * past**2) / (1 - kept)
    r = now / v.sqrt()
    U = now.square().sum(-1)
    one = torch.ones_like(n)
    return (now * r).sum(-1) / r.norm(dim=-1), {"U": U, "G": one, "d": now.shape[1] * one, "beta_2": beta_2, "n": n}


def _lamb(lr: float, beta_2: float) -> Leader:
    """LAMB as published, with phi = 1, no momentum and eps = 0."""
    return normalized(lr, dialect="debiased", betas=(0.0, beta_2), eps=0.0)


def _price(u: Tensor, layers: tuple[int, ...], beta_2: float, G: Tensor) -> Tensor:
    """Mean over rounds of sum_i c_i |u_i|^2, u [T, B, d_x]."""
    parts = u.split(layers, -1)
    return sum(
        (part.square().sum(-1).mean(0) * ((1 - beta_2) / (part.shape[-1] - beta_2)) ** 0.5 / G for part in parts),
        torch.zeros(u.shape[1], dtype=torch.float64),
    )


def _on_the_core(b: Tensor, mu: Tensor, omega: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """LAMB on ball-Huber games of two scalar layers, eta = 1; the follower's step is too short where mu < 1."""
    problem, rounds, beta_2 = BallHuber(b, mu, omega, d=2, layers=(1, 1)), 5, 0.9

    def observe(now: Round) -> dict[str, Tensor]:
        return {"u": now.u, "e": (now.u - problem.grad_phi(now.x)).abs().sum(-1)}

    seen = play(problem, start, _lamb(1.0, beta_2), follower(1.0), rounds=rounds, observe=observe)
    one = torch.ones_like(b)
    return _price(seen["u"], problem.layers, beta_2, seen["u"].abs().amax((0, 2))), {
        "alpha_l": one,
        "alpha_u": one,
        "eta": one,
        "T": rounds * one,
        "D": problem.phi(start),
        "Lambda": 2 * b**2 / mu,
        "S": 0 * one,
        "ebar": seen["e"].mean(0),
    }


def _every_toss(beta_2: float, *, b: Tensor, mu: Tensor, omega: Tensor, start: Tensor, size: Tensor) -> tuple[Tensor, Values]:
    """Three rounds of LAMB on ball-Huber games with a coin in both scalar layers, every outcome of the three coins played."""
    rounds, n = 3, len(b)
    tosses = torch.tensor(list(itertools.product((1.0, -1.0), repeat=rounds)), dtype=torch.float64)
    P = len(tosses)
    b_, mu_, omega_, x, s = (v.repeat_interleave(P, 0) for v in (b, mu, omega, start, size))
    problem, coins = BallHuber(b_, mu_, omega_, d=2, layers=(1, 1)), tosses.repeat(n, 1)

    def noise(t: int, _: Tensor) -> Tensor:
        return coins[:, t, None] * s

    def observe(now: Round) -> dict[str, Tensor]:
        return {"u": now.u, "e": (now.u - noise(now.t, now.x) - problem.grad_phi(now.x)).abs().sum(-1)}

    seen = play(problem, x, _lamb(1.0, beta_2), follower(1.0), rounds=rounds, observe=observe, noise=noise)
    G = seen["u"].abs().amax((0, 2)).unflatten(0, (n, P)).amax(1)
    price = _price(seen["u"], problem.layers, beta_2, G.repeat_interleave(P)).unflatten(0, (n, P)).mean(1)
    one = torch.ones_like(b)
    return price, {
        "alpha_l": one,
        "alpha_u": one,
        "eta": one,
        "T": rounds * one,
        "D": problem.phi(x).unflatten(0, (n, P))[:, 0],
        "Lambda": 2 * b**2 / mu,
        "S": size.sum(-1),
        "ebar": seen["e"].mean(0).unflatten(0, (n, P)).mean(1),
    }


def _games(B: int, width: int) -> tuple[Sigmoid, Tensor]:
    """Non-convex games with a ball, two layers of `width` entries each, and starts."""
    generator = torch.Generator().manual_seed(width)

    def randn(*shape: int) -> Tensor:
        return torch.randn(B, *shape, generator=generator, dtype=torch.float64) / width**0.5

    features, coupling = randn(4, 2 * width), randn(2 * width, 4)
    C = torch.eye(4, dtype=torch.float64).expand(B, 4, 4)
    game = Quadratic(torch.zeros(B, 2 * width, 2 * width), coupling, C, (width, width), torch.ones(B))
    return Sigmoid(features, game), width**0.5 * randn(2 * width)


def _over_rounds(effort: Effort) -> Sequence[Curve]:
    """Random games, coin noise in every entry, step size best for the bound's first two terms."""
    width, size = 8, 0.02
    problem, x = _games(effort.seeds, width)
    assert problem.constants.L is not None
    D, Lam = problem.phi(x), problem.constants.L.sum(-1)
    rounds = [int(T * effort.rounds) for T in (64, 256, 1024, 2048)]
    curves = []
    for beta_2 in (0.9, 0.999):
        measured, bounds = [], []
        for T in rounds:
            eta = float((2 * D / (Lam * T)).sqrt().median())
            generator = torch.Generator().manual_seed(T)

            def noise(_: int, x: Tensor, generator: torch.Generator = generator) -> Tensor:
                return size * (2.0 * torch.randint(2, x.shape, generator=generator) - 1).double()

            def observe(now: Round) -> dict[str, Tensor]:
                error = problem.grad_x(now.x, now.y) - problem.grad_phi(now.x)
                return {"u": now.u, "e": layer_norms(problem, error).sum(-1)}

            seen = play(problem, x, _lamb(eta, beta_2), follower(0.9), rounds=T, observe=observe, noise=noise)
            measured.append(_price(seen["u"], problem.layers, beta_2, seen["u"].abs().amax((0, 2))))
            S, ebar = 2 * width**0.5 * size, seen["e"].mean(0)
            bounds.append(RATE(alpha_l=1.0, alpha_u=1.0, eta=eta, T=float(T), D=D, Lambda=Lam, S=S, ebar=ebar))
        curves.append(Curve(rf"$\beta_2 = {beta_2}$", rounds, torch.stack(measured), torch.stack(bounds)))
    return curves


def _over_memory(effort: Effort) -> Sequence[Curve]:
    """The least progress of any step of the core where one entry's gradient is steady and the others' wake up late."""
    memory, rounds, curves = (1.0, 2.0, 10.0, 100.0, 1000.0), 200, []
    for width in (1, 4, 64):
        generator = torch.Generator().manual_seed(width)
        zero = torch.zeros(effort.seeds, width, dtype=torch.float64)
        flat = Quadratic(torch.diag_embed(zero), zero[..., None], torch.ones(effort.seeds, 1, 1))
        wakes = rounds * (0.5 + 0.4 * torch.rand(effort.seeds, 1, generator=generator))

        def gradient(t: int, x: Tensor, wakes: Tensor = wakes) -> Tensor:
            late = torch.where(t < wakes, 1e-8, 1e-5).expand_as(x).double()
            return torch.cat([torch.ones_like(x[:, :1]), late[:, 1:]], -1)

        measured, bounds = [], []
        for length in memory:
            beta_2 = 1 - 1 / length
            seen = play(
                flat,
                zero,
                _lamb(1.0, beta_2),
                None,
                rounds=rounds,
                observe=lambda now: {"at": now.x, "u": now.u},
                noise=gradient,
            )
            steps = -torch.cat([seen["at"], seen["final"][None]]).diff(dim=0)
            progress = (seen["u"] * steps).sum(-1) / steps.norm(dim=-1)
            measured.append((progress / seen["u"].square().sum(-1)).amin(0))
            bounds.append(PROGRESS(U=1.0, G=1.0, d=float(width), beta_2=beta_2, n=float(rounds)).expand(effort.seeds))
        label = "layers of one entry" if width == 1 else f"layers of {width} entries"
        curves.append(Curve(label, memory, torch.stack(measured), torch.stack(bounds), lower=True))
    return curves


THEOREM = Theorem(
    name="second-moment",
    title="LAMB's second moment",
    about=r"The paper's leader is LAMB: it divides by $\sqrt v$ before it normalises a layer. That can turn the step away "
    r"from the gradient, but not further than $\langle u, r/\|r\|\rangle \ge \|u\|^2/(G\sqrt{1+(d-1)N})$; the inexact "
    r"follower enters as in theorem (d). The price grows with a layer's number of entries $d_i$ and with the memory "
    r"$1/(1-\beta_2)$; a layer of one entry pays nothing.",
    source="After You et al. 2020 (LAMB), whose factor is $\\sqrt{G^2d/(h(1-\\beta_2))}$; ours is layer-wise, "
    "with $d_i-\\beta_2$ in place of $d_i$, sharp for a step, an inexact follower, and explicit constants.",
    symbols={
        r"\alpha_l, \alpha_u": r"$\alpha_l \le \phi \le \alpha_u$",
        r"\eta": "step size of the leader",
        "T": "rounds",
        "D": r"$\Phi(x_0) - \inf\Phi$",
        r"\Lambda": r"$|L|_1 = \sum_i L_i$",
        "S": r"$|\sigma|_1/\sqrt b$",
        "ebar": r"the follower's error, $\frac1T\sum_t\sum_i\mathbb{E}\,e_{t,i}$",
        "G": "bound on every entry of every gradient",
        "U": r"$\|u\|^2$ of a layer",
        "d_i": "entries of layer i",
        "n": r"rounds so far; $N = (1-\beta_2^n)/(1-\beta_2)$",
        "r": r"$u/\sqrt{\hat v}$, LAMB's direction with $\beta_1 = 0$, $\epsilon = 0$, no weight decay",
    },
    assumptions=ASSUMPTIONS,
    bounds=(RATE, PROGRESS),
    proof=PROOF,
    attacks=(
        Attack(
            "one gradient after others",
            PROGRESS,
            _remembering,
            {
                "now": Range(0.125, 1, size=3),
                "past": Range(0, 1, size=3),
                "beta_2": Range(0, 0.95),
                "n": Range(1, 32),
            },
            constant="C_1",
            sharp={"now": [1.0, 0.125, 0.125], "past": [1.0, 0.0, 0.0], "beta_2": 0.9, "n": 32.0},
        ),
        Attack(
            "core",
            RATE,
            _on_the_core,
            {"b": Range(0.5, 2), "mu": Range(0.5, 1), "omega": Range(0.25, 4), "start": Range(0.125, 2, size=2)},
            sharp={"b": 1.0, "mu": 1.0, "omega": 4.0, "start": [0.5, 0.5]},
        ),
        *(
            Attack(
                rf"core with noise, beta_2 = {beta_2}",
                RATE,
                partial(_every_toss, beta_2),
                {
                    "b": Range(0.5, 2),
                    "mu": Range(0.5, 1),
                    "omega": Range(0.25, 4),
                    "start": Range(0.125, 2, size=2),
                    "size": Range(0, 1, size=2),
                },
                falls_at=0.8,
                at_once=2_500,
            )
            for beta_2 in (0.5, 0.999)
        ),
    ),
    measurements=(
        Measurement(
            "rounds",
            "LAMB with its second moment, against the bound",
            "rounds T",
            r"mean of $\sum_i c_i \|u_i\|^2$",
            _over_rounds,
            alt="The weighted mean of squared gradients falls with the rounds, for a short and a long memory, below the "
            "dashed bounds.",
        ),
        Measurement(
            "memory",
            "The longer the memory and the wider the layer, the less a step need descend",
            r"memory $1/(1-\beta_2)$",
            r"least $G\,\langle u, r/\|r\|\rangle / \|u\|^2$ of a step",
            _over_memory,
            alt="Least progress falls like one over the root of memory and width and lies on the dashed bound; one entry "
            "pays nothing.",
            of="progress",
        ),
    ),
    remarks=(
        r"The attacks on the whole bound play the core on layers of one entry, with and without noise. There LAMB takes the "
        r"sign, whatever $\beta_2$, and the descent and curvature terms are attained; $C_3$ and $C_4$ are not "
        r"attacked one by one. "
        r"On wide layers the bound is far off: see the measurement over rounds.",
        r"At the core's default $\beta_2 = 0.999$ and a layer of $768^2$ entries $c_i$ is $4\cdot10^{-5}/G$: true, sharp "
        r"step by step, and of little comfort. Gradients that keep their size pay far less; the bound with $N$ says how much "
        r"a layer pays at the start.",
        r"The floor $S$ stays: a second moment does not average the noise before normalising (theorem 'momentum' does).",
    ),
    order=83,
)
