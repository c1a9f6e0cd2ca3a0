"""What one compared statement consists of, and how its proof is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from sympy import Expr, Rational

from convergence.bound import Bound
from convergence.certificate import Inequality, Term, VectorSymbol
from convergence.document import document
from convergence.pep.squares import squares

Parameters = dict[str, Fraction]
Facts = Mapping[str, tuple[Any, Expr]]
"""Multipliers and assumptions (each >= 0), by name."""


@dataclass(frozen=True)
class Statement:
    """One statement that an SDP represents.

    Attributes:
        name: of the row.
        theorem: the theorem of this package it belongs to; empty: a textbook case beside them.
        says: what is compared; formulas between dollars.
        bound: ours; what stands in it beside the parameters is the start, which is normalised to 1.
        problem: (PEPit, parameters) -> the SDP.
        proof: parameters -> gap and facts, which prove ours at these numbers together with the squares that they leave.
        choices: parameters; the first and the middle one are the fast check's.
        tight: whether ours should equal the SDP's value; otherwise it may only lie above.
        squared: the SDP speaks of squared distances.
    """

    name: str
    theorem: str
    says: str
    bound: Bound
    problem: Callable[..., Any]
    proof: Callable[..., tuple[Expr, Facts]]
    choices: tuple[Parameters, ...]
    tight: bool = True
    squared: bool = False

    def ours(self, choice: Parameters) -> float:
        """The bound's value."""
        return float(self.bound(**{str(s): float(choice.get(str(s), 1)) for s in self.bound.expression.free_symbols}))

    def sdp(self, P: Any, choice: Parameters) -> Any:
        """The PEPit problem, not yet solved."""
        return self.problem(P, **{k: float(v) for k, v in choice.items()})

    def certificate(self, choice: Parameters) -> tuple[dict[str, Expr], Inequality]:
        """The bound's exact proof at these numbers: assumptions and step."""
        gap, facts = self.proof(**{k: Rational(v) for k, v in choice.items()})
        return {fact: assumed for fact, (_, assumed) in facts.items()}, prove(self.name, gap, facts)

    def document(self, choice: Parameters) -> dict[str, Any]:
        """The same for `convergence.verifier`."""
        assumed, step = self.certificate(choice)
        return document(self.name, assumed, [step])


def prove(name: str, gap: Expr, facts: Facts) -> Inequality:
    """gap = sum of multipliers times assumptions + multiples of squares, whose signs are as they come out."""
    rest = gap - sum(multiplier * assumed for multiplier, assumed in facts.values())
    basis = sorted(rest.atoms(VectorSymbol), key=str)
    return Inequality(name, gap, (*(Term(multiplier, fact) for fact, (multiplier, _) in facts.items()), *squares(rest, basis)))


def grid(**ranges: Sequence[str | int]) -> tuple[Parameters, ...]:
    """Every combination."""
    return tuple(dict(zip(ranges, map(Fraction, values), strict=True)) for values in product(*ranges.values()))
