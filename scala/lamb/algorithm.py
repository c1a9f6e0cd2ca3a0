"""LAMB line by line: Algorithm 2 of You et al. 2020 (arXiv 1904.00962), and what a `Dialect` changes in it.

Start here. The other paths of this package compute the same in fewer passes over memory, and are tested against this one.
A step under torch.compile runs this one, since it reads no value back and the compiler saves the passes itself.
"""

import math

import torch
from torch import Tensor

from scala.lamb.dialects import Dialect
from scala.orthogonal import orthogonal


def lamb_step(
    x: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor | None,
    t: Tensor,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    dialect: Dialect = Dialect(),  # noqa: B008  # frozen
    adapt: bool = True,
    per_row: bool = False,
) -> Tensor | None:
    """Move one layer x along its gradient g, both of any one shape; x, m, v and t are changed in place.

    Args:
        x: the layer.
        g: its gradient, clipped already if the dialect clips.
        m: first moment, of x's shape, zero before the first step.
        v: second moment, likewise; None where the dialect has none.
        t: steps taken so far, a scalar.
        lr: eta.
        betas: (beta_1, beta_2).
        eps: added to the root of the second moment.
        weight_decay: lambda.
        dialect: see there; the default is Algorithm 2 as published, with phi the identity.
        adapt: False leaves the trust ratio out.
        per_row: each row of x is a layer of its own.

    Returns:
        The trust ratio, a scalar or [rows, 1, ...]; None without one.
    """
    beta1, beta2 = betas
    t += 1
    m.lerp_(g, 1 - beta1)  # m <- beta_1 m + (1 - beta_1) g
    r = m / (1 - beta1 ** t.double()) if dialect.bias_correction else m
    if v is not None:
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)  # v <- beta_2 v + (1 - beta_2) g^2
        v_hat = v / (1 - beta2 ** t.double()) if dialect.bias_correction else v
        r = r / (v_hat.sqrt() + eps)
    if dialect.orthogonal:  # Muon's direction, of root mean square 1, with Nesterov's look ahead
        [o] = orthogonal([m.lerp(g, 1 - beta1).flatten(1)])
        r = o.reshape(x.shape) * torch.where(o.any(), math.sqrt(x.numel()) / torch.linalg.vector_norm(o), 0.0)
    u = r + weight_decay * x
    if not adapt:
        x -= lr * u
        return None
    x_norm, u_norm = _norm(x, per_row), _norm(u, per_row)
    root = math.sqrt(x.numel() / max(x_norm.numel(), 1))  # the norm of a layer of ones
    ratio = trust_ratio(x_norm.clamp(min=dialect.layer_floor * root), u_norm.clamp(min=dialect.direction_floor * root), dialect)
    x -= lr * ratio * u  # x <- x - eta phi(||x||) / ||u|| u
    return ratio


def trust_ratio(x_norm: Tensor, u_norm: Tensor, dialect: Dialect) -> Tensor:
    """phi(||x||) / ||u||; 1 where either is zero, or a layer at zero could never leave it. Any shape."""
    phi = x_norm.clamp(*dialect.phi_bounds)
    ratio = torch.where((phi > 0) & (u_norm > 0), phi / u_norm, 1.0)
    lower, upper = dialect.ratio_bounds
    # A subnormal ||u|| must not make the ratio infinite: the step would be infinite too.
    return ratio.clamp(lower, min(upper, torch.finfo(ratio.dtype).max))


def _norm(z: Tensor, per_row: bool) -> Tensor:
    if not per_row:
        return torch.linalg.vector_norm(z)
    # The added dimension keeps a 1-d tensor from having no dimension to reduce, which torch takes to mean all.
    return torch.linalg.vector_norm(z.unsqueeze(-1), dim=tuple(range(1, z.ndim + 1)), keepdim=True).squeeze(-1)
