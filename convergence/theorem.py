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

from convergence.attack import Attack
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Rejected, document
from convergence.measurement import Measurement


@dataclass(frozen=True)
class Assumption:
    """What a proof may use.

    Attributes:
        name: proofs refer to it by this.
        says: the assumption in words, with ``$...$`` for formulas.
        expression: for certificates: an expression that the assumption makes >= 0; None if none uses it as such.
        proved_by: name of the theorem of this package that proves it; empty: it is assumed.
        definition: it holds by the choice of the letters (a unit vector has norm 1), so that nothing is assumed.
    """

    name: str
    says: str
    expression: Expr | None = None
    proved_by: str = ""
    definition: bool = False


@dataclass(frozen=True)
class Argument:
    """A step in words, which no machine here has checked.

    Attributes:
        name: unique in its theorem.
        says: the argument, with ``$...$`` for formulas.
        gives: what it shows to be >= 0, for later certificates to use by its name; None: nothing they need.
    """

    name: str
    says: str
    gives: Expr | None = None


@dataclass(frozen=True)
class Citation:
    """A step taken from the literature."""

    name: str
    says: str
    source: str


Step = Inequality | Identity | Argument | Citation


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
        facts: what is claimed otherwise (an invariance, a threshold), as LaTeX equations from sympy.
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
    facts: tuple[sympy.Basic, ...] = ()
    attacks: tuple[Attack, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    remarks: tuple[str, ...] = ()
    order: int = 100

    @property
    def certificates(self) -> tuple[Inequality | Identity, ...]:
        """The steps a machine can check."""
        return tuple(step for step in self.proof if isinstance(step, Inequality | Identity))

    def document(self) -> dict[str, Any]:
        """The certificates as plain data for the stand-alone verifier."""
        return document(self.name, self.unchecked, self.certificates)

    def verify(self) -> int:
        """Check every certificate with sympy.

        Returns:
            How many.

        Raises:
            Rejected: with the theorem's and the step's name.
        """
        known: dict[str, Expr] = dict(self.unchecked)
        earlier: dict[str, Inequality] = {}
        for step in self.certificates:
            if step.name in known:
                raise Rejected(f"{self.name}, {step.name}: there are two facts of this name")
            try:
                if isinstance(step, Identity):
                    step.verify()
                else:
                    step.verify(known, earlier)
                    earlier[step.name] = step
                    known[step.name] = step.gap
            except Rejected as error:
                raise Rejected(f"{self.name}, {error}") from error
        return len(self.certificates)

    @property
    def unchecked(self) -> dict[str, Expr]:
        """What certificates may use and no machine has checked: assumptions, and what arguments in words give."""
        given = {step.name: step.gives for step in self.proof if isinstance(step, Argument) and step.gives is not None}
        return {a.name: a.expression for a in self.assumptions if a.expression is not None} | given
