"""Every problem verifies the constants and closed forms that it declares itself."""

from dataclasses import fields

import torch
from torch import Tensor

from toy_problems.problem import Constants, MinMaxProblem, spectral_norm


class ConstantsViolated(AssertionError):
    """A declared constant or closed form is wrong.

    Attributes:
        name: which one (a field of ``Constants``, or f, grad_x, phi, y_star, stationary_points, ..).
        declared: its declared value at the offending instance.
        measured: what was found there.
        instance: index of the instance in the batch.
    """

    def __init__(self, problem: MinMaxProblem, name: str, declared: float, measured: float, instance: int, *, why: str):
        """Compose the message."""
        self.name, self.declared, self.measured, self.instance = name, declared, measured, instance
        super().__init__(
            f"{type(problem).__name__}, instance {instance}: {name} is declared {declared:.10g}, "
            f"but {measured:.10g} was measured ({why})"
        )


def probes(problem: MinMaxProblem, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Feasible points on which the constants must hold: random ones of many scales, then the extremal points.

    Args:
        problem: B instances.
        points: how many random points an instance.
        generator: source of randomness.

    Returns:
        x [P, B, d_x] within the region and y [P, B, d_y] in Y (within the region where Y is the whole space).
    """

    def ball(d: int, radius: Tensor | None) -> Tensor:
        z = torch.randn(points, problem.batch, d, generator=generator, dtype=torch.float64)
        share = torch.rand(points, problem.batch, 1, generator=generator, dtype=torch.float64)
        if radius is None:
            return z * 10 ** (2 * share - 1)
        return z / z.norm(dim=-1, keepdim=True) * share * radius[:, None]

    x = ball(problem.d_x, problem.region)
    if problem.omega is None:
        y = ball(problem.d_y, problem.region)
    else:  # a wide spread, so that the projection leaves points both inside and on the sphere
        y = problem.project_y(2 * problem.omega[:, None] * ball(problem.d_y, None))
    extremal = problem.extremal_points()
    return torch.cat([x, *(e[0][None] for e in extremal)]), torch.cat([y, *(e[1][None] for e in extremal)])


def hessian(problem: MinMaxProblem, x: Tensor, y: Tensor) -> Tensor:
    """The whole Hessian of f, by automatic differentiation of the problem's own gradients.

    Args:
        problem: B instances.
        x: [..., B, d_x].
        y: [..., B, d_y].

    Returns:
        [..., B, d_x + d_y, d_x + d_y].
    """
    with torch.enable_grad():
        z = torch.cat([x, y], -1).detach().requires_grad_()
        zx, zy = z.split([problem.d_x, problem.d_y], -1)
        gradient = torch.cat([problem.grad_x(zx, zy), problem.grad_y(zx, zy)], -1)
        rows = [
            torch.autograd.grad(entry.sum(), z, retain_graph=True, materialize_grads=True)[0]
            if entry.requires_grad
            else torch.zeros_like(z)
            for entry in gradient.unbind(-1)
        ]
    return torch.stack(rows, -2)


def measure(problem: MinMaxProblem, x: Tensor, y: Tensor) -> Constants:
    """Estimates of f's constants from the Hessians at given points: each smoothness from below, mu from above.

    Args:
        problem: B instances.
        x: [P, B, d_x].
        y: [P, B, d_y].

    Returns:
        Every constant of f but L, which belongs to Phi.
    """
    H = hessian(problem, x, y)
    xx, xy, yy = (
        H[..., : problem.d_x, : problem.d_x],
        H[..., : problem.d_x, problem.d_x :],
        H[..., problem.d_x :, problem.d_x :],
    )
    return Constants(
        l=spectral_norm(H).amax(0),
        mu=torch.linalg.eigvalsh(-yy)[..., 0].amin(0),
        l_xx=spectral_norm(xx).amax(0),
        l_xy=spectral_norm(xy).amax(0),
        l_yy=spectral_norm(yy).amax(0),
        beta=torch.stack([spectral_norm(block) for block in xy.split(problem.layers, -2)], -1).amax(0),
    )


def layer_curvature(problem: MinMaxProblem, L: Tensor, x: Tensor, step: float = 1e-4) -> Tensor:
    """The factor by which L must be multiplied for Phi to be layer-wise L-smooth around the given points.

    Differences of grad Phi make an approximate Hessian H; the direction d that is worst for H <= blockdiag(L_i I) is
    then tried for itself, so that <grad Phi(x + d) - grad Phi(x - d), 2d> / (sum_i L_i |2d_i|^2) is a true lower estimate
    even across kinks of grad Phi.

    Args:
        problem: B instances with ``has_phi``.
        L: [B, h].
        x: [P, B, d_x].
        step: half length of the differences.

    Returns:
        [P, B], at most 1 where L is right.
    """
    weight = L.repeat_interleave(torch.tensor(problem.layers), dim=1)
    weight = weight + 1e-9 * (1 + weight.amax(1, keepdim=True))  # a layer with L_i = 0 must not divide by 0

    def bend(d: Tensor) -> Tensor:
        return (problem.grad_phi(x + d) - problem.grad_phi(x - d)) / (2 * step)

    eye = step * torch.eye(problem.d_x, dtype=torch.float64)
    H = torch.stack([bend(e) for e in eye], -1)
    root = weight.sqrt()
    _, vectors = torch.linalg.eigh((H + H.mT) / 2 / (root[:, :, None] * root[:, None, :]))
    d = vectors[..., -1] / root
    d = d / d.norm(dim=-1, keepdim=True)
    return (bend(step * d) * d).sum(-1) / (weight * d**2).sum(-1)


def maximise(problem: MinMaxProblem, x: Tensor, y: Tensor, steps: int = 3000) -> Tensor:
    """Brute-force maximisation over Y: projected ascent with backtracking, momentum, and a restart where f falls.

    Args:
        problem: B instances.
        x: [..., B, d_x].
        y: [..., B, d_y], the start, in Y.
        steps: at most so many.

    Returns:
        The best y found, [..., B, d_y].
    """
    z, value = y, problem.f(x, y)
    rho, age = torch.ones_like(value), torch.zeros_like(value)
    growing = torch.ones_like(value, dtype=torch.bool)  # rho doubles until it is refused once: f may be far from curved
    checkpoint = value
    for step in range(1, steps + 1):
        gradient, start = problem.grad_y(x, z), problem.f(x, z)
        candidate = problem.project_y(z + rho.unsqueeze(-1) * gradient)
        new, move = problem.f(x, candidate), candidate - z
        promised = (gradient * move).sum(-1) - move.square().sum(-1) / (2 * rho)  # kept by every rho <= 1/l_yy
        kept = new >= start + promised - 1e-15 * (1 + start.abs())
        better = kept & (new > value)
        growing &= kept
        rho = torch.where(kept, torch.where(growing, (2 * rho).clamp_max(1e9), rho), rho / 2)
        age = torch.where(better, age + 1, 0.0)
        momentum = (age / (age + 3)).unsqueeze(-1) * (candidate - y)
        y = torch.where(better.unsqueeze(-1), candidate, y)
        z = torch.where(better.unsqueeze(-1), candidate + momentum, y)
        value = torch.where(better, new, value)
        if step % 50 == 0:
            if (value - checkpoint <= 1e-12 * (1 + value.abs())).all():
                break
            checkpoint = value
    return y


def verify(
    problem: MinMaxProblem,
    constants: Constants | None = None,
    *,
    points: int = 8,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> Constants:
    """Check everything that a problem declares, on random and extremal points.

    Gradients against central differences of f; every constant of f against the spectra of the Hessians, and the ``tight``
    ones also for being attained; Phi and y* against brute-force maximisation; grad Phi against differences of Phi; L
    against Phi's curvature; stationary points for being stationary; the projection for feasibility.

    Args:
        problem: B instances, checked at once.
        constants: what to check instead of ``problem.constants``.
        points: random points an instance.
        seed: of the points.
        tolerance: relative slack.

    Returns:
        The measured constants (``measure``): lower estimates of the smoothnesses, an upper one of mu.

    Raises:
        ConstantsViolated: names what is wrong, with both numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = probes(problem, points, generator)
    _check_gradients(problem, x, y, tolerance)
    measured = measure(problem, x, y)
    declared = problem.constants if constants is None else constants
    _check_constants(problem, declared, measured, tolerance)
    _check_projection(problem, generator, tolerance)
    if problem.has_phi:
        _check_phi(problem, x, y, generator, tolerance)
        _check_layer_smoothness(problem, declared, x, tolerance)
    _check_stationary_points(problem, tolerance)
    return measured


def _require(problem: MinMaxProblem, name: str, declared: Tensor, measured: Tensor, excess: Tensor, *, why: str) -> None:
    """Raise for the worst instance (leading axes: anything, instances last) where excess is not <= 0."""
    if (excess <= 0).all():
        return
    declared, measured, excess = torch.broadcast_tensors(declared, measured, excess)
    worst = int(excess.nan_to_num(torch.inf).argmax())
    numbers = declared.flatten()[worst].item(), measured.flatten()[worst].item()
    raise ConstantsViolated(problem, name, *numbers, worst % problem.batch, why=why)


def _check_gradients(problem: MinMaxProblem, x: Tensor, y: Tensor, tolerance: float) -> None:
    for name, gradient, at in (("grad_x", problem.grad_x(x, y), x), ("grad_y", problem.grad_y(x, y), y)):
        for k in range(at.shape[-1]):
            step = 1e-6 * torch.eye(at.shape[-1], dtype=at.dtype)[k]
            ends = [(x + s * step, y) if at is x else (x, y + s * step) for s in (1, -1)]
            high, low = (problem.f(*end) for end in ends)
            slack = 10 * tolerance * (1 + gradient.abs().amax(-1) + high.abs())
            slope = (high - low) / 2e-6
            gap = (gradient[..., k] - slope).abs()
            _require(problem, name, gradient[..., k], slope, gap - slack, why=f"central difference of f, coordinate {k}")


def _check_constants(problem: MinMaxProblem, declared: Constants, measured: Constants, tolerance: float) -> None:
    for name in (field.name for field in fields(Constants) if field.name != "L"):
        value, found = getattr(declared, name), getattr(measured, name)
        if value is None:
            continue
        if value.shape != found.shape:
            raise ValueError(f"{type(problem).__name__}: {name} must have shape {list(found.shape)}, got {list(value.shape)}")
        slack = tolerance * (1e-3 + torch.maximum(value.abs(), found.abs()))
        violated = value - found if name == "mu" else found - value
        value, found, violated, slack = (t.movedim(0, -1) for t in (value, found, violated, slack))
        why = "least eigenvalue of -d2f/dy2" if name == "mu" else "norm of a Hessian"
        _require(problem, name, value, found, violated - slack, why=why)
        if name in problem.tight:
            _require(problem, name, value, found, -violated - slack, why="declared tight, but not attained")


def _check_projection(problem: MinMaxProblem, generator: torch.Generator, tolerance: float) -> None:
    if problem.omega is None:
        return
    far = 3 * problem.omega[:, None] * torch.randn(32, problem.batch, problem.d_y, generator=generator, dtype=torch.float64)
    near = problem.project_y(far)
    radius = near.unflatten(-1, (problem.samples, -1)).norm(dim=-1).amax(-1)
    excess = radius - problem.omega * (1 + tolerance)
    _require(problem, "omega", problem.omega, radius, excess, why="norm of a projected point")
    # The nearest point of Y makes an obtuse angle with every other one.
    other = torch.randn(far.shape, generator=generator, dtype=far.dtype).unflatten(-1, (problem.samples, -1))
    other = (other / other.norm(dim=-1, keepdim=True) * problem.omega[:, None, None]).flatten(-2)
    angle = ((far - near) * (other - near)).sum(-1)
    slack = tolerance * problem.omega**2 * problem.samples
    _require(problem, "project_y", torch.zeros_like(angle), angle, angle - slack, why="obtuse angle at the nearest point")


def _check_phi(problem: MinMaxProblem, x: Tensor, y: Tensor, generator: torch.Generator, tolerance: float) -> None:
    phi, best = problem.phi(x), problem.y_star(x)
    slack = tolerance * (1 + phi.abs())
    distance = (problem.project_y(best) - best).norm(dim=-1)
    _require(problem, "y_star", torch.zeros_like(distance), distance, distance - slack, why="its distance from Y")
    attained = problem.f(x, best)
    _require(problem, "phi", phi, attained, (phi - attained).abs() - slack, why="f at y_star")
    random = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    # Next to 0 rather than at 0, where the gradient of a symmetric f vanishes at its minimum.
    starts = [problem.project_y(start) for start in (1e-6 * random, random)]
    found = torch.stack([problem.f(x, maximise(problem, x, start)) for start in starts]).amax(0)
    _require(problem, "phi", phi, found, (phi - found).abs() - slack, why="brute-force maximum of f over y")

    gradient, step = problem.grad_phi(x), 1e-6
    for k in range(problem.d_x):
        e = step * torch.eye(problem.d_x, dtype=x.dtype)[k]
        high, low = problem.phi(x + e), problem.phi(x - e)
        forward, backward = (high - phi) / step, (phi - low) / step
        # At a kink of Phi any slope between the two one-sided ones is right.
        slack = 1e-4 * (1 + gradient.abs().amax(-1) + phi.abs())
        outside = torch.maximum(
            gradient[..., k] - torch.maximum(forward, backward), torch.minimum(forward, backward) - gradient[..., k]
        )
        _require(problem, "grad_phi", gradient[..., k], forward, outside - slack, why=f"difference of Phi, coordinate {k}")


def _check_layer_smoothness(problem: MinMaxProblem, declared: Constants, x: Tensor, tolerance: float) -> None:
    if declared.L is None:
        return
    if declared.L.shape != (problem.batch, len(problem.layers)):
        raise ValueError(
            f"{type(problem).__name__}: L must have shape {[problem.batch, len(problem.layers)]}, got {list(declared.L.shape)}"
        )
    step = 1e-4
    inside = x  # the differences must stay within the region
    if problem.region is not None:
        inside = x * (1 - step / problem.region[:, None]).clamp_min(0)
    factor, total = layer_curvature(problem, declared.L, inside, step).amax(0), declared.L.sum(1)
    why = "sum of the L_i, scaled until it bounds Phi's curvature"
    _require(problem, "L", total, factor * total, factor - 1 - 10 * tolerance, why=why)
    if "L" in problem.tight:  # differences see a little less than the curvature at the edge of a region
        _require(problem, "L", total, factor * total, 1 - 1e-2 - factor, why="declared tight, but not attained")


def _check_stationary_points(problem: MinMaxProblem, tolerance: float) -> None:
    for x, y in problem.stationary_points():
        g = problem.grad_y(x, y)
        residual = problem.grad_x(x, y).norm(dim=-1) + (problem.project_y(y + g) - y).norm(dim=-1)
        _require(
            problem,
            "stationary_points",
            torch.zeros_like(residual),
            residual,
            residual - tolerance,
            why="norm of the gradients",
        )
