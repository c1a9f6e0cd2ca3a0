"""Without strong concavity: plain descent brings the Moreau envelope's gradient down, to the follower's gap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sympy import Integer, Rational, symbols
from torch import Tensor

from convergence.attack import Attack, Range
from convergence.bound import Bound
from convergence.certificate import Dot, Identity, Inequality, Sum, Term, norm2, vectors
from convergence.claim import Proved
from convergence.effort import Effort
from convergence.measurement import Curve, Measurement
from convergence.play import descent, follower, play
from convergence.theorem import Argument, Assumption, Citation, Theorem
from scala import Adversary
from toy_problems import AbsoluteWell, Bilinear, Constants, MinMaxProblem, RobustLogisticRegression, Stall
from toy_problems.problem import spectral_norm
from toy_problems.quadratic import concave_quadratic_maximiser

D, T, G, eta, l, Delta = symbols("D T G eta l Delta", positive=True)  # noqa: E741 - the theory's letter
C_1, C_2, C_3 = symbols("C_1 C_2 C_3", positive=True)
F, F_hat, v, v_hat, M_next, G_2 = symbols("F F_hat v v_hat M_next G_2", real=True)
E, E_0, E_T, gap = symbols("E E_0 E_T gap", real=True)
M = symbols("M", nonnegative=True)
e, g = vectors("e g")

RATE = Bound(
    "rate",
    r"\frac1T\sum_t\mathbb E\|\nabla\Phi_{1/2l}(x_t)\|^2",
    C_1 * D / (eta * T) + C_2 * eta * l * G**2 + C_3 * l * Delta,
    {C_1: Rational(2), C_2: Rational(2), C_3: Rational(4)},
    proofs=(Proved("solved for the mean", M, {gap: Delta}),),
    where={
        r"$f(\cdot, y)$ is $l$-weakly convex, gradients are unbiased and bounded by $G$, $\inf\Phi > -\infty$, no "
        r"constraint on $x$": None
    },
)

PROOF = (
    Citation(
        "envelope, cited",
        r"$\Phi = \max_y f(\cdot,y)$ is $l$-weakly convex, so $\Phi(z) + l\|z - x\|^2$ has one minimiser $\hat x$; with $e = "
        r"\hat x - x$, $\nabla\Phi_{1/2l}(x) = -2le$, and it is a subgradient of $\Phi$ at $\hat x$.",
        "Moreau 1965; Rockafellar and Wets 1998; Davis and Drusvyatskiy 2019, section 2; Lin, Jin and Jordan 2020",
    ),
    Argument(
        "notation",
        r"$F = \Phi(x)$, $\hat F = \Phi(\hat x)$, $v = f(x,y_t)$, $\hat v = f(\hat x,y_t)$, $g = \nabla_xf(x,y_t)$, $M_+$ the "
        r"expectation of $\Phi_{1/2l}(x_{t+1})$ given the past, $G_2$ that of $\|u_t\|^2$. $\Phi_{1/2l}(x) = "
        r"\hat F + l\|e\|^2$.",
    ),
    Inequality(
        "growth from the proximal point",
        F - F_hat - 3 * l * norm2(e) / 2,
        (Term(1, "weak convexity of Phi"),),
        says=r"$\Phi(x) \ge \Phi(\hat x) + \frac{3l}2\|e\|^2$: half an $l$ more than from minimality alone.",
    ),
    Inequality(
        "the step points towards it",
        F - v - l * norm2(e) - Dot(g, e),
        (Term(1, "growth from the proximal point"), Term(1, "maximum"), Term(1, "weak convexity of f")),
        says=r"$\langle g, \hat x - x\rangle \le \Phi(x) - f(x,y_t) - l\|\hat x - x\|^2$",
    ),
    Inequality(
        "one step",
        E - M_next - eta * norm2(2 * l * e) / 2 + 2 * l * eta * (F - v) + l * eta**2 * G**2,
        (
            Term(1, "envelope"),
            Term(1, "envelope at the next point"),
            Term(2 * l * eta, "the step points towards it"),
            Term(l * eta**2, "bounded gradients"),
        ),
        says=r"$\Phi_{1/2l}$ falls by $\frac\eta2\|\nabla\Phi_{1/2l}(x_t)\|^2$, up to the follower's gap and the "
        r"step's own size.",
    ),
    Sum(
        "all steps",
        "one step",
        T,
        (T, eta, l, G),
        {E: M_next},
        telescopes=((Integer(1), E, E_0, E_T),),
        means=((-eta / 2, norm2(2 * l * e), M), (2 * l * eta, F - v, gap)),
        rest=l * eta**2 * G**2,
        says=r"In expectation. $M$ is the theorem's mean, gap that of $\Phi(x_t) - f(x_t, y_t)$, which is $\Delta$.",
    ),
    Inequality(
        "solved for the mean",
        2 * D / (eta * T) + 2 * eta * l * G**2 + 4 * l * gap - M,
        (Term(2 / (eta * T), "all steps"), Term(2 / (eta * T), "bounded below")),
    ),
    Identity(
        "best step",
        (2 * D / (eta * T) + 2 * eta * l * G**2) ** 2,
        16 * l * G**2 * D / T,
        region={D: eta**2 * l * G**2 * T},
        says=r"At $\eta = \sqrt{D/(lG^2T)}$ the first two terms are $4G\sqrt{lD/T}$.",
    ),
)


@dataclass(frozen=True, eq=False)
class _KinkedWell(MinMaxProblem):
    """f(x, y) = c y x - h(x), |y| <= 1, h Huber's function of curvature l and slope at most c/2: Phi has a kink at 0.

    Between the kink and c/2l the proximal point is 0 and Phi bends down as much as weak convexity allows.
    """

    c: Tensor
    l: Tensor  # noqa: E741
    layers = (1,)

    @property
    def batch(self) -> int:
        return len(self.c)

    @property
    def d_y(self) -> int:
        return 1

    @property
    def omega(self) -> Tensor:  # type: ignore[override]
        return torch.ones_like(self.c)

    @property
    def constants(self) -> Constants:
        return Constants(l_xx=self.l, l_xy=self.c)

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        x, corner = x[..., 0], self.c / (2 * self.l)
        bend = self.l * torch.minimum(x.abs(), corner) * (x.abs() - torch.minimum(x.abs(), corner) / 2)
        return self.c * y[..., 0] * x - bend

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        limit = (self.c / 2)[:, None]
        return self.c[:, None] * y - (self.l[:, None] * x).clamp(-limit, limit)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        return self.c[:, None] * x + 0 * y

    def y_star(self, x: Tensor) -> Tensor:
        return self.support_point(x)


Proximal = Callable[[Tensor], Tensor]
"""x [..., B, d] -> the minimiser of Phi(z) + l |z - x|^2."""


def _well_point(problem: _KinkedWell, x: Tensor) -> Tensor:
    """At the kink, on the bend or on the straight part, by the size of the envelope's gradient there."""
    c, l, far = problem.c[:, None], problem.l[:, None], x.abs()  # noqa: E741
    size = torch.minimum(2 * l * far, torch.maximum(c / 2, 2 * c - 2 * l * far))
    return x - x.sign() * size / (2 * l)


def _absolute_point(problem: AbsoluteWell, l: Tensor, x: Tensor) -> Tensor:  # noqa: E741
    """The best of the kinks and of the stationary points outside and between them."""
    omega, wide, one = problem.omega[:, None], l[:, None], torch.ones_like(x)
    z = torch.stack([one, -one, wide * x / (wide + omega), wide * x / (wide - omega)])
    value = problem.phi(z) + l * (z - x).square().sum(-1)
    return z.gather(0, value.argmin(0)[None, ..., None].expand(1, *x.shape))[0]


def _bilinear_point(problem: Bilinear, l: Tensor, x: Tensor) -> Tensor:  # noqa: E741
    """Through the dual: z = x - By/2l, y the maximiser of <B'x, y> - |By|^2/4l in the ball."""
    lam, V = torch.linalg.eigh(problem.B.mT @ problem.B / (2 * l[:, None, None]))
    y = concave_quadratic_maximiser(lam, V, problem.grad_y(x, x), problem.omega)
    return x - problem.grad_x(x, y) / (2 * l[:, None])


def _logistic_point(problem: RobustLogisticRegression, l: Tensor, x: Tensor) -> Tensor:  # noqa: E741
    """Newton's method on a smooth convex function (away from the kink at 0); refuses to answer unless it has converged."""
    z, eye = x, torch.eye(problem.d_x, dtype=torch.float64)
    a, labels, w = problem.features, problem.targets, problem.omega[:, None, None]
    for _ in range(12):
        unit = (z / z.norm(dim=-1, keepdim=True))[..., None, :]
        rows = w * unit - labels[..., None] * a
        s = torch.sigmoid(-labels * (a @ z[..., None])[..., 0] + problem.omega[:, None] * z.norm(dim=-1, keepdim=True))
        slope = (s[..., None] * rows).sum(-2) + 2 * l[:, None] * (z - x)
        turn = (s.sum(-1) * problem.omega / z.norm(dim=-1))[..., None, None] * (eye - unit.mT * unit)
        hessian = rows.mT @ ((s * (1 - s))[..., None] * rows) + turn + 2 * l[:, None, None] * eye
        z = z - torch.linalg.solve(hessian, slope)
    if slope.norm(dim=-1).max() > 1e-9:
        raise ArithmeticError("Newton's method has not found a proximal point")
    return z


def _played(
    problem: MinMaxProblem,
    x: Tensor,
    lr: float,
    adversary: Adversary,
    rounds: int,
    *,
    l: Tensor,  # noqa: E741
    point: Proximal,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The core plays; mean |grad Phi_{1/2l}|^2, and the bound's values."""
    seen = play(
        problem, x, descent(lr), adversary, rounds=rounds,
        observe=lambda r: {"at": r.x, "u": r.u.norm(dim=-1), "gap": problem.phi(r.x) - problem.f(r.x, r.y)},
    )  # fmt: skip
    at = torch.cat([seen["at"], seen["final"][None]])
    nearest = point(at)
    envelope = problem.phi(nearest) + l * (nearest - at).square().sum(-1)
    squares = 4 * l**2 * (nearest - at).square().sum(-1)
    return squares[:-1].mean(0), {
        "D": envelope[0] - envelope[-1],
        "T": torch.full_like(l, rounds),
        "G": seen["u"].amax(0),
        "eta": torch.full_like(l, lr),
        "l": l,
        "Delta": seen["gap"].mean(0).clamp_min(0),
    }


EXACT = 1e12
"""Raw step of the follower from which one ascent step ends on the ball's boundary."""


def _attack(name: str, constant: str, rounds: int, rho: float, sharp: dict[str, float]) -> Attack:
    """The core on the kinked well, steps of size 1, all in the scale of l."""

    def core(c: Tensor, l: Tensor, start: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: E741
        problem = _KinkedWell(c, l)
        x = (start * c / (2 * l))[:, None]
        return _played(problem, x, 1.0, follower(rho), rounds, l=l, point=lambda at: _well_point(problem, at))

    ranges = {"c": Range(0.5, 4), "l": Range(0.125, 4), "start": Range(0.25, 1.5)}
    return Attack(name, RATE, core, ranges, constant=constant, sharp=sharp)


def _core_over_rounds(effort: Effort) -> Sequence[Curve]:
    """Four families without strong concavity, steps proportional to T^-1/2."""
    m, generator = effort.seeds, torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(m, *shape, generator=generator, dtype=torch.float64)

    horizons = [64, 256, 1024, 4096][: 3 if effort.rounds < 1 else 4]
    well = AbsoluteWell(uniform(0.75, 1.25), uniform(4, 4))
    bilinear = Bilinear(uniform(-0.4, 0.4, 2, 2) + torch.eye(2), omega=uniform(0.75, 1.25))
    stall = Stall(uniform(0.4, 0.6), uniform(0.75, 1.25))
    clean = uniform(-1, 1, 6, 2)
    labels = torch.where(clean @ torch.tensor([1.0, 0.5], dtype=torch.float64) >= 0, 1.0, -1.0).double()
    logistic = RobustLogisticRegression(clean, labels, uniform(0.05, 0.1), uniform(8, 8))
    one = torch.ones(m, dtype=torch.float64)
    steep, root2 = spectral_norm(bilinear.B), 2**0.5 * one
    families: list[tuple[str, MinMaxProblem, Tensor, float, Adversary, Tensor, Proximal]] = [
        (r"$\omega|x^2 - 1|$", well, uniform(1.5, 2.5, 1), 0.25, follower(EXACT), 2 * well.omega,
         lambda x: _absolute_point(well, 2 * well.omega, x)),
        ("bilinear, ball", bilinear, uniform(1, 2, 2), 0.5, follower(EXACT), steep,
         lambda x: _bilinear_point(bilinear, steep, x)),
        ("stall's game, plain steps", stall, uniform(1, 2, 2), 0.5, follower(EXACT), root2,
         lambda x: x - stall.moreau_gradient(x) / 8**0.5),
        ("robust logistic regression", logistic, uniform(3, 4, 2) * torch.tensor([1.0, -1.0]), 1.0, follower(0.1), one,
         lambda x: _logistic_point(logistic, one, x)),
    ]  # fmt: skip
    curves = []
    for label, problem, x, scale, adversary, l, point in families:  # noqa: E741
        measured, bounds = [], []
        for T in horizons:
            mean, values = _played(problem, x, scale * T**-0.5, adversary, T, l=l, point=point)
            measured.append(mean)
            bounds.append(RATE(**values))
        curves.append(Curve(label, horizons, torch.stack(measured), torch.stack(bounds), slope=-0.5))
    return curves


THEOREM = Theorem(
    name="moreau-envelope",
    title="Without strong concavity: a rate in the Moreau envelope",
    about=r"Where $f(x,\cdot)$ need not be strongly concave, $\Phi$ has kinks and its gradient says little; the "
    r"gradient of its "
    r"Moreau envelope does. Plain descent against any follower brings its mean square down like $T^{-1/2}$, to four times $l$ "
    r"times the follower's mean gap. Nothing is asked of the follower, not even concavity: what it misses is in the gap.",
    source="The route of Davis and Drusvyatskiy 2019 and of Lin, Jin and Jordan 2020 (arXiv 1906.00331); the "
    "constants are ours.",
    symbols={
        "l": r"weak convexity of $f(\cdot,y)$ (or any larger number)",
        r"\Phi_{1/2l}(x)": r"$\min_z \Phi(z) + l\|z - x\|^2$",
        "D": r"$\Phi_{1/2l}(x_0) - \mathbb E\,\Phi_{1/2l}(x_T)$, at most $\Phi_{1/2l}(x_0) - \min\Phi$",
        "G^2": r"bound on $\mathbb E\|u_t\|^2$ at the points visited",
        r"\eta": "step size, not normalised",
        "T": "rounds",
        r"\Delta": r"$\frac1T\sum_t\mathbb E[\Phi(x_t) - f(x_t,y_t)]$, the follower's mean gap",
    },
    assumptions=(
        Assumption(
            "weak convexity of f",
            r"$f(\cdot,y)$ is $l$-weakly convex: $f(\hat x,y_t) \ge f(x,y_t) + \langle g, e\rangle - \frac l2\|e\|^2$.",
            v_hat - v - Dot(g, e) + l * norm2(e) / 2,
        ),
        Assumption(
            "weak convexity of Phi",
            r"so is $\Phi$, a maximum of such functions, with subgradient $-2le$ at $\hat x$: $\Phi(x) \ge \Phi(\hat x) + "
            r"\langle -2le, -e\rangle - \frac l2\|e\|^2$.",
            F - F_hat - Dot(-2 * l * e, -e) + l * norm2(e) / 2,
        ),
        Assumption("envelope", r"$E = \Phi_{1/2l}(x) = \Phi(\hat x) + l\|e\|^2$.", E - F_hat - l * norm2(e)),
        Assumption("bounded below", r"$D$ is finite: $\Phi_{1/2l}(x_0) - \Phi_{1/2l}(x_T) \le D$.", D - (E_0 - E_T)),
        Assumption("maximum", r"$\Phi(\hat x) \ge f(\hat x, y_t)$.", F_hat - v_hat),
        Assumption(
            "envelope at the next point",
            r"$\Phi_{1/2l}(x - \eta u) \le \Phi(\hat x) + l\|e + \eta u\|^2$, by its definition; in expectation, with "
            r"$\mathbb E[u \mid x_t, y_t] = g$.",
            F_hat + l * (norm2(e) + 2 * eta * Dot(g, e) + eta**2 * G_2) - M_next,
        ),
        Assumption("bounded gradients", r"$\mathbb E\|u_t\|^2 \le G^2$.", G**2 - G_2),
    ),
    bounds=(RATE,),
    proof=PROOF,
    attacks=(
        _attack("one step from the edge of the kink", "C_1", 1, EXACT, {"c": 1, "l": 1, "start": 1}),
        _attack("jumping over the kink for ever", "C_2", 8, EXACT, {"c": 1, "l": 2, "start": 1}),
        _attack("a follower that cancels the slope", "C_3", 8, 1.0, {"c": 2, "l": 4, "start": 1}),
    ),
    measurements=(
        Measurement(
            "rounds",
            r"The core on four games without strong concavity: $T^{-1/2}$",
            "rounds T, at steps proportional to $T^{-1/2}$",
            r"mean $\|\nabla\Phi_{1/2l}(x_t)\|^2$",
            _core_over_rounds,
            alt="Four lines fall with slope about -1/2 in logarithmic axes, each below its dashed bound.",
        ),
    ),
    remarks=(
        "All three constants are attained: the first two together by one step from the edge of a kink, the "
        "second by jumping over "
        "it for ever, the third by a follower whose answer leaves no slope.",
        r"Using minimality of $\hat x$ alone instead of the growth step gives twice all three constants, $4, 4, 8$.",
        r"$G$ bounds the gradients met on the way; where only a Lipschitz constant of $f(\cdot,y)$ is known, "
        r"that serves as $G$.",
        r"The third term does not vanish with $T$: a follower with a fixed gap leaves a floor.",
    ),
    order=60,
)
