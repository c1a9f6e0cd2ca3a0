"""A bound: the right-hand side of a claim, as a formula that is rendered and as a number that is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
import torch
from sympy import Expr, Symbol
from torch import Tensor

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
    """``measured <= expression`` (or >=): the sentence that is rendered, and the number that attacks and measurements use.

    Attributes:
        name: unique in its theorem.
        measured: LaTeX of the left-hand side.
        expression: the right-hand side.
        constants: numbers inside the expression that can be attacked one by one: a symbol and its value.
        lower: the claim is ``measured >= expression``; an attack then divides by its share instead of multiplying.
    """

    name: str
    measured: str
    expression: Expr
    constants: Mapping[Symbol, Expr] = field(default_factory=dict)
    lower: bool = False

    @cached_property
    def _function(self) -> Any:
        symbols = sorted(self.expression.free_symbols, key=str)
        return [str(s) for s in symbols], sympy.lambdify(symbols, self.expression, modules=[_TORCH, "math"])

    def __call__(self, factor: Mapping[str, float] | None = None, /, **values: Tensor | float) -> Tensor:
        """The bound's value.

        Args:
            factor: multiplies constants, by name: the attack's weapon.
            values: numbers or float64 tensors for the other symbols, by name, broadcast together.

        Raises:
            ValueError: a symbol has no value, or a value has no symbol.
        """
        names, function = self._function
        given = {str(s): float(v) for s, v in self.constants.items()} | dict(values)
        if set(given) != set(names):
            raise ValueError(f"bound {self.name!r} needs values for {names}, got {sorted(given)}")
        for name, scale in (factor or {}).items():
            given[name] = given[name] * scale
        return torch.as_tensor(function(*(given[name] for name in names)), dtype=torch.float64)

    @property
    def latex(self) -> str:
        """The sentence."""
        sign = r"\ge" if self.lower else r"\le"
        return rf"{self.measured} \;{sign}\; {sympy.latex(self.expression.subs(self.constants))}"
