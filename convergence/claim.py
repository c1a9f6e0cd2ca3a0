"""What is displayed is what was proved: a bound is the last certificate's inequality, solved for what is measured.

A certificate ends with ``gap >= 0``. A bound says ``measured <= expression``. The step between the two is exact:
``gap = factor * (expression ** power - left)``, with `left` the measured quantity to that power in the certificate's letters.
Where an expression holds a minimum, every one of its arguments needs a proof; where it holds a maximum, the cases that the
arguments stand for do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import sympy
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from convergence.certificate import Dot, Identity, Inequality, Rejected, Repeat, Step, Sum, expand_dots
from convergence.evidence import above_zero, not_negative, short


@dataclass(frozen=True)
class Proved:
    """How a bound follows from a certificate.

    Attributes:
        by: the certificate's name.
        left: what is measured, to the power, in the certificate's letters; of an identity, its other side.
        letters: letters of the certificate (or inner products) in letters of the bound; shown beside it.
        stands: letters of the bound that stand for expressions in the certificate's letters; shown beside it too.
        power: of both sides, as certificates often are about squares.
        factor: what the certificate has beyond, not negative.
    """

    by: str
    left: Expr
    letters: Mapping[Expr, Expr] = field(default_factory=dict)
    stands: Mapping[Symbol, Expr] = field(default_factory=dict)
    power: int = 1
    factor: Expr = field(default_factory=lambda: sympy.Integer(1))


@dataclass(frozen=True)
class Equation:
    """``left = right``: an invariance, a threshold, a rule; or the definition of a letter that other equations hold.

    Attributes:
        left: one side.
        right: the other.
        by: the certificate that gives it, up to a factor: an identity, or an inequality that turns into an equation at a
            threshold; empty: it defines the letter `left`.
        letters: as for `Proved`.
        stands: as for `Proved`; what other equations define is put in by itself.
        power: of both sides.
        factor: what the certificate has beyond, positive.
    """

    left: Expr
    right: Expr
    by: str = ""
    letters: Mapping[Expr, Expr] = field(default_factory=dict)
    stands: Mapping[Symbol, Expr] = field(default_factory=dict)
    power: int = 1
    factor: Expr = field(default_factory=lambda: sympy.Integer(1))


def check_equation(equation: Equation, every: Sequence[Equation], steps: Sequence[Step]) -> None:
    """Whether a certificate gives an equation.

    Args:
        equation: it.
        every: all of the theorem's; those that define letters say what these are in the others.
        steps: the theorem's proof.

    Raises:
        Rejected: it does not, or a letter is defined that no proved equation holds.
    """
    shown = f"{short(equation.left)} = {short(equation.right)}"
    if not equation.by:
        others = [one for one in every if one.by and equation.left in (one.left - one.right).free_symbols]
        if not isinstance(equation.left, Symbol) or equation.left in equation.right.free_symbols or not others:
            raise Rejected(f"{shown} has no proof, and defines no letter of an equation that has one")
        return
    step = next((step for step in steps if step.name == equation.by), None)
    if not isinstance(step, Inequality | Identity):
        raise Rejected(f"{shown} is said to be given by {equation.by!r}, which is no certificate")
    if not _may_be_divided_by(equation.factor.subs(step.region, simultaneous=True)):
        raise Rejected(f"{shown}: the factor {short(equation.factor)} is not evidently positive")
    defined = {one.left: one.right for one in every if not one.by}
    left, right = (
        side.subs(equation.stands, simultaneous=True).subs(defined, simultaneous=True) ** equation.power
        for side in (equation.left, equation.right)
    )
    gap = step.left - step.right if isinstance(step, Identity) else step.gap
    given = expand_dots(gap).subs(dict(equation.letters), simultaneous=True)
    factor = equation.factor.subs(dict(equation.letters), simultaneous=True)
    if not any(_vanishes(given - sign * factor * (left - right)) for sign in (1, -1)):
        raise Rejected(f"{shown} is not what {equation.by!r} gives")


def check(
    claim: Expr, lower: bool, proofs: Sequence[Proved], steps: Sequence[Step], relations: Sequence[Relational] = ()
) -> None:
    """Whether certificates give ``measured <= claim`` (lower: ``>=``).

    Args:
        claim: the right-hand side, numbers put in for its constants.
        lower: the direction.
        proofs: how it follows.
        steps: the theorem's proof.
        relations: the bound's hypotheses, as far as numbers can violate them.

    Raises:
        Rejected: it is not what they give, with what they do give; or a letter of a certificate stands for something that may
            lack its sign under the hypotheses.
    """
    if not proofs:
        raise Rejected("no certificate is named that gives it")
    by_name = {step.name: step for step in steps}
    powers = {step.power: step.ratio**step.count for step in steps if isinstance(step, Repeat)}
    seen: set[Expr] = set()
    for proof in proofs:
        step = by_name.get(proof.by)
        if not isinstance(step, Inequality | Identity | Sum | Repeat):
            raise Rejected(f"it is said to be given by {proof.by!r}, which is no certificate")
        if not _may_be_divided_by(proof.factor.subs(step.region, simultaneous=True)):
            raise Rejected(f"the factor {short(proof.factor)} is not evidently positive")
        _check_region(step.region, proof, claim)
        _check_domain(proof, relations)
        letters = {expand_dots(k): v for k, v in (powers | dict(proof.letters)).items()}
        given = expand_dots(step.right - step.left if isinstance(step, Identity) else step.gap).subs(letters, simultaneous=True)
        left = expand_dots(proof.left).subs(letters, simultaneous=True)
        factor = expand_dots(proof.factor).subs(letters, simultaneous=True)
        signs = (1, -1) if isinstance(step, Identity) else (-1,) if lower else (1,)
        for variant, arguments in _variants(claim.subs(proof.stands, simultaneous=True)):
            if any(_vanishes(given - factor * sign * (variant**proof.power - left)) for sign in signs):
                seen |= arguments
                break
        else:
            raise Rejected(f"{proof.by!r} gives another: {short(given)} >= 0, and {short(claim)} was to be shown")
    if missing := _arguments(claim) - seen:
        raise Rejected(f"no certificate is named for {short(min(missing, key=str))} in {short(claim)}")


def _check_region(region: Mapping[Symbol, Expr], proof: Proved, claim: Expr) -> None:
    """Letters of the region that the bound has too, or that are said to be something in it, must agree with the region."""
    known = claim.free_symbols.union(*(value.free_symbols for value in proof.letters.values()))
    for letter, value in region.items():
        if letter in known | proof.letters.keys() and value.free_symbols <= known | proof.letters.keys():
            here = value.subs(proof.letters, simultaneous=True) - proof.letters.get(letter, letter)
            if not _vanishes(here):
                raise Rejected(f"{letter} is {short(value)} in the region of {proof.by!r}, and not so in the bound's letters")


def _check_domain(proof: Proved, relations: Sequence[Relational]) -> None:
    """A letter that is positive in the certificate must be so in the bound wherever the hypotheses hold, at random points."""
    signed = {k: v for k, v in proof.letters.items() if isinstance(k, Symbol) and k.is_nonnegative}
    unknown = sorted(set().union(*(v.free_symbols for v in (*signed.values(), *relations))), key=str)
    points = np.exp(np.random.default_rng(0).normal(size=(len(unknown), 400)) * 1.5)
    at = dict(zip(unknown, points, strict=True))

    def value(expression: Expr) -> np.ndarray:
        letters = sorted(expression.free_symbols, key=str)
        with np.errstate(all="ignore"):
            found = sympy.lambdify(letters, expression, "numpy", dummify=True)(*(at[s] for s in letters))
        return np.broadcast_to(found, points.shape[1:])

    holds = np.ones(points.shape[1:], bool)
    for relation in relations:
        holds &= value(relation.gts - relation.lts) > 0
    for letter, expression in signed.items():
        if not (value(expression)[holds] >= 0).all():  # a root of what is negative is no number, and not >= 0 either
            raise Rejected(f"{letter} is not negative in {proof.by!r}, and {short(expression)} may be under the hypotheses")


def _may_be_divided_by(factor: Expr) -> bool:
    top, bottom = sympy.fraction(sympy.together(expand_dots(factor)))
    return top != 0 and not_negative(top) and above_zero(bottom)


def _extremes(claim: Expr) -> list[Expr]:
    return sorted(claim.atoms(sympy.Max, sympy.Min), key=str)


def _arguments(claim: Expr) -> set[Expr]:
    return {argument for extreme in _extremes(claim) for argument in extreme.args}


def _variants(claim: Expr) -> list[tuple[Expr, set[Expr]]]:
    """The claim with one argument in place of each minimum and maximum, and a sign in place of each absolute value."""
    extremes, found = _extremes(claim), []
    for chosen in product(*(extreme.args for extreme in extremes)):
        one = claim.subs(dict(zip(extremes, chosen, strict=True)), simultaneous=True)
        sizes = sorted(one.atoms(sympy.Abs), key=str)
        for values in product(*((size, size.args[0], -size.args[0]) for size in sizes)):
            plain = dict(zip(sizes, values, strict=True))
            found.append((one.subs(plain, simultaneous=True), set(chosen)))
    return found


def _vanishes(difference: Expr) -> bool:
    """Whether an expression with roots and symbolic powers is 0: refuted by numbers, or proved by algebra."""
    plain = difference.subs({dot: Symbol(str(dot), positive=True) for dot in difference.atoms(Dot)})
    unknown = sorted(plain.free_symbols, key=str)
    numbers = [np.complex128((3 + 2 * i) / (2 + i) + 1 / (7 + i)) for i in range(len(unknown))]
    with np.errstate(all="ignore"):
        value = sympy.lambdify(unknown, plain, "numpy", dummify=True)(*numbers)
    if abs(value) > 1e-6:  # where there is no number, algebra decides
        return False
    over_one = sympy.numer(sympy.together(sympy.powsimp(sympy.expand(difference))))
    return sympy.expand(difference) == 0 or sympy.expand(over_one) == 0 or bool(sympy.simplify(difference) == 0)
