"""A bound: the right-hand side of a claim, as a formula that is rendered and as a number that is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
import torch
from sympy import Expr, Symbol
from sympy.core.relational import Relational
from torch import Tensor

from convergence.claim import Proved

_TORCH = {
    "sqrt": lambda z: torch.as_tensor(z, dtype=torch.float64).sqrt(),
    "Max": lambda *zs: _fold(torch.maximum, zs),
    "Min": lambda *zs: _fold(torch.minimum, zs),
    "log": lambda z: torch.as_tensor(z, dtype=torch.float64).log(),
    "Abs": lambda z: torch.as_tensor(z, dtype=torch.float64).abs(),
}


def _fold(pick: Any, values: tuple[Any, ...]) -> Tensor:
    first, *rest = (torch.as_tensor(z, dtype=torch.float64) for z in values)
    for z in rest:
        first = pick(first, z)
    return first


@dataclass(frozen=True)
class Bound:
    """``measured <= expression`` (or >=): the number that attacks and measurements use; `Theorem.statement` renders it.

    Attributes:
        name: unique in its theorem.
        measured: LaTeX of the left-hand side.
        expression: the right-hand side.
        constants: numbers inside the expression that can be attacked one by one: a symbol and its value.
        lower: the claim is ``measured >= expression``; an attack then divides by its share instead of multiplying.
        proofs: how it follows from the theorem's certificates; what does not is not displayed.
        where: its hypotheses, in words with ``$...$``, each with a relation that numbers can violate, or None. They stand
            beside it, and what violates one is not counted as an instance.
    """

    name: str
    measured: str
    expression: Expr
    constants: Mapping[Symbol, Expr] = field(default_factory=dict)
    lower: bool = False
    proofs: tuple[Proved, ...] = ()
    where: Mapping[str, Relational | None] = field(default_factory=dict)

    @property
    def value(self) -> Expr:
        """The right-hand side, numbers put in for its constants."""
        return self.expression.subs(self.constants)

    @property
    def relations(self) -> tuple[Relational, ...]:
        """The hypotheses that numbers can violate."""
        return tuple(relation for relation in self.where.values() if relation is not None)

    @cached_property
    def _conditions(self) -> list[tuple[list[str], Any]]:
        found = []
        for relation in self.relations:
            # In floating point the edge of a range is inside.
            slack = sympy.lambdify(
                names := sorted(relation.free_symbols, key=str), relation.gts - relation.lts, [_TORCH, "math"]
            )
            found.append(([str(s) for s in names], slack))
        return found

    def holds(self, **values: Tensor | float) -> Tensor:
        """Where the hypotheses hold, up to rounding; arguments as for a call.

        Raises:
            ValueError: a hypothesis needs a value that is not there.
        """
        met = torch.tensor(True)
        for names, slack in self._conditions:
            if missing := set(names) - values.keys():
                raise ValueError(f"bound {self.name!r}: a hypothesis needs a value for {min(missing)}")
            met = met & (torch.as_tensor(slack(*(values[name] for name in names)), dtype=torch.float64) >= -1e-9)
        return met

    @cached_property
    def _function(self) -> Any:
        symbols = sorted(self.expression.free_symbols, key=str)
        return [str(s) for s in symbols], sympy.lambdify(symbols, self.expression, modules=[_TORCH, "math"])

    def __call__(self, factor: Mapping[str, float] | None = None, /, **values: Tensor | float) -> Tensor:
        """The bound's value.

        Args:
            factor: multiplies constants, by name: the attack's weapon.
            values: numbers or float64 tensors for the other symbols, by name, broadcast together; those that only the
                hypotheses need may be there or not.

        Raises:
            ValueError: a symbol has no value, or a value has no symbol.
        """
        names, function = self._function
        extra = {name for letters, _ in self._conditions for name in letters} - set(names)
        given = {str(s): float(v) for s, v in self.constants.items()} | {k: v for k, v in values.items() if k not in extra}
        if set(given) != set(names):
            raise ValueError(f"bound {self.name!r} needs values for {names}, got {sorted(given)}")
        for name, scale in (factor or {}).items():
            given[name] = given[name] * scale
        return torch.as_tensor(function(*(given[name] for name in names)), dtype=torch.float64)
