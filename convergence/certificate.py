"""Certificates: an inequality as an exact identity with non-negative multipliers, so that checking it is only arithmetic.

A certificate says ``gap = sum of terms``, each term a product of a multiplier that is evidently non-negative and of facts
that are: a square, a squared norm, an assumption, the gap of an earlier step. Whoever can expand polynomials can check it.
It is checked here with sympy, and again by `convergence.verifier`, which uses nothing but the standard library.

Vectors are formal: a symbol from `vectors`, and `Dot` for inner products, which are expanded bilinearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Symbol

from convergence.evidence import (
    Dot,
    Rejected,
    VectorSymbol,
    above_zero,
    check_letters,
    check_multiplier,
    check_poles,
    check_region,
    check_sign,
    expand_dots,
    not_negative,
    numerator,
    rational,
    short,
)  # fmt: skip

__all__ = [
    "Argument", "Citation", "Dot", "Fact", "Identity", "Inequality", "Known", "Norm2", "Rejected", "Repeat",
    "Square", "Step", "Sum", "Term", "VectorSymbol", "expand_dots", "norm2", "reversed_name", "vectors", "verify",
]  # fmt: skip


def vectors(names: str) -> tuple[VectorSymbol, ...]:
    """Formal vectors, named as in ``sympy.symbols``."""
    made = sympy.symbols(names, cls=VectorSymbol, seq=True)
    return tuple(made)


def norm2(v: Expr) -> Expr:
    """|v|^2."""
    return Dot(v, v)


@dataclass(frozen=True)
class Square:
    """The fact ``expression**2 >= 0``, of a real scalar."""

    expression: Expr

    @property
    def value(self) -> Expr:
        """What is non-negative."""
        return self.expression**2


@dataclass(frozen=True)
class Norm2:
    """The fact ``|vector|^2 >= 0``."""

    vector: Expr

    @property
    def value(self) -> Expr:
        """What is non-negative."""
        return norm2(self.vector)


Fact = Square | Norm2 | str
"""A string is the name of an assumption or of an earlier step."""


@dataclass(frozen=True)
class Term:
    """multiplier * product of facts.

    Attributes:
        multiplier: a rational function that has only non-negative coefficients once the certificate's region is put in.
        facts: what it multiplies; none: the multiplier stands alone.
    """

    multiplier: Expr
    facts: tuple[Fact, ...] = ()

    def __init__(self, multiplier: Expr | int, *facts: Fact) -> None:
        object.__setattr__(self, "multiplier", sympy.sympify(multiplier))
        object.__setattr__(self, "facts", facts)


Region = Mapping[Symbol, Expr]


@dataclass
class Known:
    """What a step may use.

    Attributes:
        facts: what is >= 0, by name, and the region in which it is: assumptions, arguments and earlier steps.
        nonzero: what is declared not to be 0.
        letters: symbols seen so far, by name.
        bound: letters that stand for a sum.
    """

    facts: dict[str, tuple[Expr, Region]] = field(default_factory=dict)
    nonzero: tuple[Expr, ...] = ()
    letters: dict[str, Symbol] = field(default_factory=dict)
    bound: set[Symbol] = field(default_factory=set)

    def fact(self, step: str, name: str, region: Region) -> Expr:
        """What an assumption or earlier step says is >= 0; raises `Rejected` if it is unknown in the region."""
        if name not in self.facts:
            raise Rejected(f"{step}: no assumption or earlier step is called {name!r}")
        expression, own = self.facts[name]
        if any(region.get(s) != e for s, e in own.items()):
            raise Rejected(f"{step}: step {name!r} holds in {dict(own)} only")
        return expression

    def check(self, step: str, expressions: Sequence[Expr], region: Region) -> None:
        """Letters, poles and region of a step; raises `Rejected`."""
        check_letters(step, region, self.letters, scalars=False)
        check_letters(step, (*expressions, *region.values(), *self.nonzero), self.letters)
        check_region(step, region, self.nonzero)
        check_poles(step, expressions, region, self.nonzero)


@dataclass(frozen=True)
class Inequality:
    """A step ``gap >= 0``, proved by ``gap = sum of terms``.

    Attributes:
        name: unique in its theorem; later steps may use it as a fact.
        gap: what is shown to be non-negative.
        terms: the right-hand side.
        region: constrained symbols written in free ones, e.g. ``{l: mu + a}`` for l >= mu: this is where the step holds.
        says: one sentence for the reader.
    """

    name: str
    gap: Expr
    terms: tuple[Term, ...]
    region: Region = field(default_factory=dict)
    says: str = ""

    def verify(self, known: Known) -> None:
        """Check by exact arithmetic.

        Args:
            known: what it may use; an earlier step only inside its own region.

        Raises:
            Rejected: the two sides differ, a multiplier may be negative, a denominator 0, or a fact is unknown here.
        """
        total, parts = sympy.Integer(0), [self.gap]
        for term in self.terms:
            values = [known.fact(self.name, fact, self.region) if isinstance(fact, str) else fact.value for fact in term.facts]
            # Squaring hides a root, whose sign nobody has seen: what is squared is looked at as it stands.
            parts += [term.multiplier, *values, *(fact.expression for fact in term.facts if isinstance(fact, Square))]
            total += term.multiplier * sympy.Mul(*values)
        known.check(self.name, parts, self.region)
        for term in self.terms:
            check_multiplier(self.name, term.multiplier.subs(self.region, simultaneous=True))
        if odd := [part for part in parts if not rational(part)]:
            raise Rejected(f"{self.name}: {short(odd[0])} is no rational function, and its sign is not seen to")
        difference = numerator(self.gap - total, self.region)
        if difference != 0:
            raise Rejected(f"{self.name}: gap - (sum of terms) = {short(difference)}, not 0")


@dataclass(frozen=True)
class Identity:
    """A step ``left = right``, exactly.

    Attributes:
        name: unique in its theorem.
        left: one side.
        right: the other.
        region: as for `Inequality`.
        says: one sentence for the reader.
    """

    name: str
    left: Expr
    right: Expr
    region: Region = field(default_factory=dict)
    says: str = ""

    def verify(self, known: Known) -> None:
        """Check by exact arithmetic. Raises `Rejected` if the two sides differ, or a denominator may be 0."""
        known.check(self.name, (self.left, self.right), self.region)
        difference = numerator(self.left - self.right, self.region)
        if difference != 0 and sympy.simplify(difference) != 0:
            raise Rejected(f"{self.name}: left - right = {short(difference)}, not 0")

    @property
    def is_rational(self) -> bool:
        """Whether both sides are rational functions, which the stand-alone verifier can check too."""
        return all(rational(side.subs(self.region, simultaneous=True)) for side in (self.left, self.right))


@dataclass(frozen=True)
class Sum:
    """A fact that holds of every item (round, layer), added up over all items: a step ``gap >= 0``.

    The fact must equal sum of coefficient * (now - after) + sum of coefficient * each + rest, with coefficients and rest the
    same for every item, and `after` being `now` in the letters of the next item. Added up, now - after telescopes.

    Attributes:
        name: unique in its theorem.
        of: the fact's name.
        count: how many items, a positive symbol.
        constant: letters that are the same for every item.
        next: other letters, and what they are at the next item.
        telescopes: (coefficient, now, first, last): `first` and `last` are new letters, for `now` at the first item and
            after the last.
        sums: (coefficient, each, total): `total` is a new letter for the sum of `each`.
        means: (coefficient, each, mean): the same, for the mean.
        rest: what is left, for each item.
        region: the fact's, which must be constant.
        says: one sentence for the reader.
    """

    name: str
    of: str
    count: Symbol
    constant: tuple[Symbol, ...]
    next: Mapping[Symbol, Expr] = field(default_factory=dict)
    telescopes: tuple[tuple[Expr, Expr, Symbol, Symbol], ...] = ()
    sums: tuple[tuple[Expr, Expr, Symbol], ...] = ()
    means: tuple[tuple[Expr, Expr, Symbol], ...] = ()
    rest: Expr = field(default_factory=lambda: sympy.Integer(0))
    region: Region = field(default_factory=dict)
    says: str = ""

    @property
    def gap(self) -> Expr:
        """What is shown to be non-negative."""
        return sympy.Add(
            self.count * self.rest,
            *(c * (first - last) for c, _, first, last in self.telescopes),
            *(c * total for c, _, total in self.sums),
            *(self.count * c * mean for c, _, mean in self.means),
        )

    def verify(self, known: Known) -> None:
        """Check by exact arithmetic; raises `Rejected` if the fact is not what is added up, or something is not constant."""
        moments = [(now, letter) for _, now, *ends in self.telescopes for letter in ends]
        named = [(each, letter) for _, each, letter in (*self.sums, *self.means)]
        coefficients = [part[0] for part in (*self.telescopes, *self.sums, *self.means)]
        one = self.rest + sympy.Add(
            *(c * (now - now.subs(self.next, simultaneous=True)) for c, now, _, _ in self.telescopes),
            *(c * each for c, each, _ in (*self.sums, *self.means)),
        )
        _check_items(
            self,
            fixed=[*coefficients, self.rest],
            moments=[now for now, _ in moments],
            named=[*moments, *named],
            one=one,
            known=known,
        )


@dataclass(frozen=True)
class Repeat:
    """A fact ``ratio * now - after >= 0`` that holds at every step, used `count` times over: ``power * first - last >= 0``.

    Or ``after - ratio * now >= 0`` and ``last - power * first >= 0``, of what grows.

    Attributes:
        name: unique in its theorem.
        of: the fact's name.
        count: how many steps, a positive symbol.
        constant: letters that are the same at every step.
        next: other letters, and what they are at the next step.
        ratio: evidently not negative, and constant.
        now: what shrinks or grows.
        power: a new letter for ratio ** count.
        first: a new letter for `now` before the first step.
        last: a new letter for `now` after the last.
        grows: the other direction.
        region: the fact's, which must be constant.
        says: one sentence for the reader.
    """

    name: str
    of: str
    count: Symbol
    constant: tuple[Symbol, ...]
    next: Mapping[Symbol, Expr]
    ratio: Expr
    now: Expr
    power: Symbol
    first: Symbol
    last: Symbol
    grows: bool = False
    region: Region = field(default_factory=dict)
    says: str = ""

    @property
    def gap(self) -> Expr:
        """What is shown to be non-negative."""
        return (-1 if self.grows else 1) * (self.power * self.first - self.last)

    def verify(self, known: Known) -> None:
        """Check by exact arithmetic; raises `Rejected` if the fact is another, or something is not constant."""
        check_multiplier(self.name, self.ratio.subs(self.region, simultaneous=True))
        named = [(self.ratio, self.power), (self.now, self.first), (self.now, self.last)]
        one = (-1 if self.grows else 1) * (self.ratio * self.now - self.now.subs(self.next, simultaneous=True))
        _check_items(self, fixed=[self.ratio], moments=[self.now], named=named, one=one, known=known)


def _check_items(
    step: Sum | Repeat,
    *,
    fixed: list[Expr],
    moments: list[Expr],
    named: list[tuple[Expr, Symbol]],
    one: Expr,
    known: Known,
) -> None:
    """What sums and repetitions have in common.

    Args:
        step: it.
        fixed: what must be the same for every item.
        moments: what is taken at an item and at the next.
        named: what new letters stand for.
        one: what the fact must be.
        known: what the step may use.
    """
    fact, constant = known.fact(step.name, step.of, step.region), set(step.constant)
    for expression in (*fixed, step.count, *step.region, *step.region.values()):
        if moving := sorted(map(str, sympy.sympify(expression).free_symbols - constant)):
            raise Rejected(f"{step.name}: {short(expression)} is not constant: it holds {moving[0]}")
    if not step.count.is_positive or constant & step.next.keys():
        raise Rejected(f"{step.name}: the number of items is not positive, or a constant has a next value")
    for letter, value in step.next.items():
        if not isinstance(letter, VectorSymbol):
            check_sign(step.name, letter, value.subs(step.region, simultaneous=True), "at the next item")
    for now in moments:
        if moving := sorted(map(str, now.free_symbols - constant - step.next.keys())):
            raise Rejected(f"{step.name}: {moving[0]} is not constant and has no next value")
    for each, letter in named:
        if letter in known.bound | constant | step.next.keys() | fact.free_symbols or letter.is_positive:
            raise Rejected(f"{step.name}: {letter} is not a new letter that is declared real or not negative")
        top, bottom = sympy.fraction(sympy.together(each.subs(step.region, simultaneous=True)))
        if letter.is_nonnegative and not (not_negative(top) and above_zero(bottom)):
            raise Rejected(f"{step.name}: {letter} is declared not negative, and {short(each)} is not evidently so")
        known.bound.add(letter)
    known.check(step.name, [fact, one, step.gap, *fixed, *(each for each, _ in named)], step.region)
    difference = numerator(fact - one, step.region)
    if difference != 0:
        raise Rejected(f"{step.name}: {step.of!r} - (the parts added up) = {short(difference)}, not 0")


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


def reversed_name(identity: str) -> str:
    """The fact that an identity's right side is not below its left; by the identity's own name goes the other one."""
    return f"{identity}, reversed"


Certificate = Inequality | Identity | Sum | Repeat
Step = Certificate | Argument | Citation


def verify(
    assumptions: Mapping[str, Expr], nonzero: Mapping[str, Expr], steps: Sequence[Certificate | Argument], theorem: str = ""
) -> Known:
    """Check every certificate, in order: each may use assumptions and what stands before it.

    Args:
        assumptions: what is taken to be >= 0, by name.
        nonzero: what is taken not to be 0, by name.
        steps: certificates, and arguments in words with what they give.
        theorem: for the message.

    Returns:
        What is known in the end.

    Raises:
        Rejected: with the theorem's and the step's name.
    """
    known = Known({name: (expression, {}) for name, expression in assumptions.items()}, tuple(nonzero.values()))
    before = f"{theorem}, " if theorem else ""
    own = [(step.name, reversed_name(step.name)) if isinstance(step, Identity) else (step.name,) for step in steps]
    names = [*assumptions, *nonzero, *(name for names in own for name in names)]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise Rejected(f"{before}{twice[0]}: there are two facts of this name")
    try:
        for name, expression in assumptions.items():
            known.check(name, [expression], {})
        for step in steps:
            if isinstance(step, Argument):
                if step.gives is not None:
                    known.check(step.name, [step.gives], {})
                    known.facts[step.name] = step.gives, {}
                continue
            step.verify(known)
            if not isinstance(step, Identity):
                known.facts[step.name] = step.gap, step.region
            elif step.is_rational:
                known.facts[step.name] = step.left - step.right, step.region
                known.facts[reversed_name(step.name)] = step.right - step.left, step.region
    except (Rejected, ValueError) as error:
        raise Rejected(f"{before}{error}") from error
    return known
