"""Where implementations of LAMB disagree, as fields of a `Dialect`; the known combinations have names (`DIALECTS`)."""

import math
from dataclasses import dataclass, replace
from typing import Any

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Dialect:
    """What implementations of LAMB disagree about.

    Attributes:
        bias_correction: Divide the moments by 1 - beta^t, as Adam does.
        second_moment: Divide the momentum by sqrt(v) + eps. Without it v is not even allocated, and betas[1] and
            eps are not used.
        orthogonal: The direction of a matrix is its momentum made orthogonal (`scala.orthogonal`), of root mean square 1,
            in place of Adam's. Needs second_moment=False.
        phi_bounds: phi(z) is z clamped to these bounds; (0, inf) is the identity.
        ratio_bounds: The trust ratio is clamped to these bounds; (0, inf) leaves it alone.
        layer_floor: The root mean square of a layer counts as at least this, so that small and zero layers move too.
        direction_floor: The root mean square of u counts as at least this. At 1 the ratio never lengthens Adam's
            direction: entries whose gradients cancel, or are missing, keep the short step that Adam gives them.
        max_grad_norm: Before anything else the gradient is scaled down to at most this L2 norm, taken over all
            parameters of the optimizer; inf leaves it alone.
    """

    bias_correction: bool = True
    second_moment: bool = True
    orthogonal: bool = False
    phi_bounds: Bounds = (0.0, math.inf)
    ratio_bounds: Bounds = (0.0, math.inf)
    layer_floor: float = 0.0
    direction_floor: float = 0.0
    max_grad_norm: float = math.inf


DIALECTS: dict[str, Dialect] = {
    "paper": Dialect(bias_correction=False, phi_bounds=(0.0, 10.0)),
    "debiased": Dialect(),
    "nvlamb": Dialect(max_grad_norm=1.0),
    "clipped": Dialect(ratio_bounds=(0.01, 10.0)),
    "relative": Dialect(layer_floor=0.02, direction_floor=1.0),
    "orthogonal": Dialect(second_moment=False, orthogonal=True, layer_floor=0.02),
    "normalized": Dialect(bias_correction=False, second_moment=False, phi_bounds=(1.0, 1.0)),
}

_REPLACEABLE = ("phi_bounds", "ratio_bounds", "layer_floor", "direction_floor", "max_grad_norm")


def dialect_of(group: dict[str, Any]) -> Dialect:
    """The dialect of a parameter group, with the group's own bounds in place of the dialect's."""
    return replace(DIALECTS[group["dialect"]], **{name: group[name] for name in _REPLACEABLE if group[name] is not None})
