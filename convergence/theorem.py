"""A theorem is an object: what it says, why it is true, how to attack it, where it is measured.

From it come the check, the attack, the figure, the LaTeX and the page. Adding a theorem is adding a file to
``convergence/theorems`` with one `Theorem` called ``THEOREM`` in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Expr

from convergence import claim
from convergence.attack import Attack
from convergence.bound import Bound
from convergence.certificate import (
    Argument,
    Certificate,
    Citation,
    Dot,
    Identity,
    Inequality,
    Rejected,
    Repeat,
    Step,
    Sum,
    VectorSymbol,
    norm2,
    verify,
)  # fmt: skip
from convergence.document import document
from convergence.evidence import above_zero, expand_dots
from convergence.measurement import Measurement

__all__ = ["Argument", "Assumption", "Citation", "Step", "Theorem"]


@dataclass(frozen=True)
class Assumption:
    """What a proof may use.

    Attributes:
        name: proofs refer to it by this.
        says: the assumption in words, with ``$...$`` for formulas.
        expression: for certificates: an expression that the assumption makes >= 0; None if none uses it as such.
        proved_by: name of the theorem of this package that proves it; empty: it is assumed.
        definition: it holds by the choice of a vector letter (a unit vector has norm 1), so that nothing is assumed.
        nonzero: for certificates: an expression that the assumption says is not 0, so that it may be divided by.
    """

    name: str
    says: str
    expression: Expr | None = None
    proved_by: str = ""
    definition: bool = False
    nonzero: Expr | None = None


@dataclass(frozen=True)
class Theorem:
    """One theorem.

    Attributes:
        name: unique, also the file's name, with hyphens.
        title: for people.
        about: what it is good for, one paragraph; ``$...$`` for formulas.
        source: where the statement comes from.
        symbols: the meaning of each letter, LaTeX to words.
        assumptions: what is assumed.
        bounds: what is claimed as an inequality; the first is the main one.
        facts: what is claimed otherwise: an invariance, a threshold.
        proof: steps in order.
        attacks: attempts to break each constant.
        measurements: the real core on toy problems against the bound.
        remarks: what a reader should know: limits, corrections, consequences.
        order: place on the page.
    """

    name: str
    title: str
    about: str
    source: str
    symbols: Mapping[str, str]
    assumptions: tuple[Assumption, ...]
    proof: tuple[Step, ...]
    bounds: tuple[Bound, ...] = ()
    facts: tuple[claim.Equation, ...] = ()
    attacks: tuple[Attack, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    remarks: tuple[str, ...] = ()
    order: int = 100

    def __post_init__(self) -> None:
        """Refuse what would not mean what it says; raises `ValueError`."""
        names = [part.name for part in (*self.assumptions, *self.proof)]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"{self.name}: two assumptions or steps are called {twice[0]!r}")
        for a in self.assumptions:
            if (a.definition, bool(a.proved_by), a.nonzero is not None).count(True) > 1:
                raise ValueError(f"{self.name}: {a.name!r} is one of a definition, proved elsewhere, or a thing that is not 0")
            if a.nonzero is not None and a.expression is not None:
                raise ValueError(f"{self.name}: {a.name!r} is one of a thing that is >= 0 and a thing that is not 0")
        _check_definitions(self)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The steps a machine can check."""
        return tuple(step for step in self.proof if isinstance(step, Inequality | Identity | Sum | Repeat))

    def document(self) -> dict[str, Any]:
        """The certificates as plain data for the stand-alone verifier."""
        return document(self.name, self.assumed, self._steps, self.nonzero)

    def verify(self) -> int:
        """Check every certificate with sympy.

        Returns:
            How many.

        Raises:
            Rejected: with the theorem's and the step's name.
        """
        verify(self.assumed, self.nonzero, self._steps, self.name)
        return len(self.certificates)

    def statement(self, bound: Bound) -> str:
        """A bound as LaTeX, if the proof gives it; raises `Rejected` with what it gives instead."""
        try:
            claim.check(bound.value, bound.lower, bound.proofs, self.proof, bound.relations)
        except Rejected as error:
            raise Rejected(f"{self.name}, the statement {bound.name!r}: {error}") from error
        sign = r"\ge" if bound.lower else r"\le"
        return rf"{bound.measured} \;{sign}\; {sympy.latex(bound.value)}"

    def equation(self, fact: claim.Equation) -> str:
        """A fact as LaTeX, if the proof gives it; raises `Rejected` if it does not."""
        try:
            claim.check_equation(fact, self.facts, self.proof)
        except Rejected as error:
            raise Rejected(f"{self.name}, the statement {error}") from error
        return rf"{sympy.latex(fact.left)} \;{'=' if fact.by else ':='}\; {sympy.latex(fact.right)}"

    @property
    def assumed(self) -> dict[str, Expr]:
        """What is taken to be >= 0, by name."""
        return {a.name: a.expression for a in self.assumptions if a.expression is not None}

    @property
    def nonzero(self) -> dict[str, Expr]:
        """What is taken not to be 0, by name."""
        return {a.name: a.nonzero for a in self.assumptions if a.nonzero is not None}

    @property
    def _steps(self) -> list[Certificate | Argument]:
        return [step for step in self.proof if not isinstance(step, Citation)]


def _check_definitions(theorem: Theorem) -> None:
    """A definition chooses a vector: no longer than something, of length 1, and not against another vector.

    Such a choice can always be made, so that nothing is assumed by it. Anything else is an assumption.
    """
    at_most: dict[VectorSymbol, Expr] = {}
    other: dict[VectorSymbol, list[str]] = {}
    for a in theorem.assumptions:
        if not a.definition:
            continue
        refused = ValueError(
            f"{theorem.name}: {a.name!r} is no definition: that would be a bound on the length of a vector letter, its unit "
            "length, or an inner product with a vector letter whose length is bounded"
        )
        if a.expression is None:
            raise refused
        expression = expand_dots(a.expression)
        vectors = [v for v in expression.free_symbols if isinstance(v, VectorSymbol)]
        if len(vectors) == 1 and above_zero(expression + norm2(vectors[0])) and vectors[0] not in at_most:
            at_most[vectors[0]] = expression + norm2(vectors[0])
            continue
        if len(vectors) == 1 and expression == norm2(vectors[0]) - 1:
            other.setdefault(vectors[0], []).append("unit")
            continue
        rest = expression.subs(dict.fromkeys(expression.atoms(Dot), 0))
        chosen = set.intersection(*(set(dot.args) for dot in expression.atoms(Dot)), set(vectors)) if vectors else set()
        if rest != 0 or not chosen:
            raise refused
        other.setdefault(min(chosen, key=lambda v: (v not in at_most, str(v))), []).append("direction")
    for vector, said in other.items():
        if vector not in at_most or len(set(said)) < len(said) or ("unit" in said and at_most[vector] != 1):
            raise ValueError(f"{theorem.name}: the letter {vector} is not free to be chosen as its definitions say")
