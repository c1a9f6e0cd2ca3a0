"""Certificates: an inequality as an exact identity with non-negative multipliers, so that checking it is only arithmetic.

A certificate says ``gap = sum of terms``, each term a product of a multiplier that is evidently non-negative and of facts
that are: a square, a squared norm, an assumption, the gap of an earlier step. Whoever can expand polynomials can check it.
It is checked here with sympy, and again by `convergence.verifier`, which uses nothing but the standard library.

Vectors are formal: a symbol from `vectors`, and `Dot` for inner products, which are expanded bilinearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Expr, Symbol


class Rejected(ArithmeticError):
    """A certificate does not prove what it claims."""


class VectorSymbol(Symbol):
    """A formal vector of a Euclidean space, of any dimension."""


class Dot(sympy.Function):
    """The inner product of two linear combinations of `VectorSymbol`, kept as written until `expand_dots`."""

    nargs = 2
    is_real = True

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        left, right = (printer._print(arg) for arg in self.args)
        text = rf"\|{left}\|^2" if left == right else rf"\langle {left},\, {right}\rangle"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


def vectors(names: str) -> tuple[VectorSymbol, ...]:
    """Formal vectors, named as in ``sympy.symbols``."""
    made = sympy.symbols(names, cls=VectorSymbol, seq=True)
    return tuple(made)


def norm2(v: Expr) -> Expr:
    """|v|^2."""
    return Dot(v, v)


def expand_dots(expression: Expr) -> Expr:
    """Write every inner product as a combination of inner products of single vectors, in one order.

    Raises:
        ValueError: an argument of `Dot` is not linear in vectors.
    """
    return expression.replace(Dot, _bilinear)


def _bilinear(left: Expr, right: Expr) -> Expr:
    return sympy.Add(
        *(a * b * Dot(*sorted((u, v), key=str)) for u, a in _linear(left).items() for v, b in _linear(right).items())
    )


def _linear(combination: Expr) -> dict[Symbol, Expr]:
    found = sorted((s for s in combination.free_symbols if isinstance(s, VectorSymbol)), key=str)
    expanded = sympy.expand(combination)
    parts = {v: expanded.coeff(v, 1) for v in found}
    rest = sympy.simplify(expanded - sum(c * v for v, c in parts.items()))
    if rest != 0 or any(c.free_symbols & set(found) for c in parts.values()):
        raise ValueError(f"Dot({combination}, ..) needs a linear combination of vectors")
    return parts


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
    region: Mapping[Symbol, Expr] = field(default_factory=dict)
    says: str = ""

    def verify(self, known: Mapping[str, Expr], earlier: Mapping[str, Inequality]) -> None:
        """Check by exact arithmetic.

        Args:
            known: expressions that are >= 0, by name: assumptions and gaps of earlier steps.
            earlier: the earlier steps among them; one may be used only inside its own region.

        Raises:
            Rejected: the two sides differ, a multiplier may be negative, or a fact is unknown here.
        """
        total = sympy.Integer(0)
        for term in self.terms:
            product = term.multiplier
            _check_sign(self.name, term.multiplier.subs(self.region))
            for fact in term.facts:
                if isinstance(fact, str):
                    if fact not in known:
                        raise Rejected(f"{self.name}: no assumption or earlier step is called {fact!r}")
                    if fact in earlier and any(self.region.get(s) != e for s, e in earlier[fact].region.items()):
                        raise Rejected(f"{self.name}: step {fact!r} holds in {dict(earlier[fact].region)} only")
                product *= known[fact] if isinstance(fact, str) else fact.value
            total += product
        difference = _numerator((self.gap - total), self.region)
        if difference != 0:
            raise Rejected(f"{self.name}: gap - (sum of terms) = {_short(difference)}, not 0")


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
    region: Mapping[Symbol, Expr] = field(default_factory=dict)
    says: str = ""

    def verify(self) -> None:
        """Check by exact arithmetic. Raises `Rejected` if the two sides differ."""
        difference = _numerator(self.left - self.right, self.region)
        if difference != 0 and sympy.simplify(difference) != 0:
            raise Rejected(f"{self.name}: left - right = {_short(difference)}, not 0")

    @property
    def is_rational(self) -> bool:
        """Whether both sides are rational functions, which the stand-alone verifier can check too."""
        return all(_is_rational(side.subs(self.region)) for side in (self.left, self.right))


def _is_rational(expression: Expr) -> bool:
    expression = expand_dots(expression)
    plain = expression.subs({dot: sympy.Dummy() for dot in expression.atoms(Dot)})
    return bool(plain.is_rational_function(*plain.free_symbols)) if plain.free_symbols else bool(plain.is_Rational)


def _numerator(expression: Expr, region: Mapping[Symbol, Expr]) -> Expr:
    expression = expand_dots(expression).subs(region)
    return sympy.expand(sympy.fraction(sympy.together(expression))[0])


def _check_sign(step: str, multiplier: Expr) -> None:
    """A quotient of polynomials with non-negative coefficients in non-negative symbols is non-negative: no more is needed."""
    parts = sympy.fraction(sympy.cancel(sympy.together(multiplier)))
    # cancel may move a sign into the denominator
    parts = parts if parts[1].subs(dict.fromkeys(parts[1].free_symbols, 1)) > 0 else tuple(sympy.expand(-p) for p in parts)
    for part, wanted in zip(parts, ("nonnegative", "positive"), strict=True):
        symbols = sorted(part.free_symbols, key=str)
        for s in symbols:
            if not getattr(s, f"is_{wanted}"):
                raise Rejected(f"{step}: {s} stands in a multiplier's {_PART[wanted]} and is not declared {wanted}")
        coefficients = sympy.Poly(part, *symbols).coeffs() if symbols else [part]
        if any(not c.is_Rational or c < 0 for c in coefficients):
            raise Rejected(f"{step}: the multiplier {_short(multiplier)} is not evidently non-negative")


_PART = {"nonnegative": "numerator", "positive": "denominator"}


def _short(expression: Expr, limit: int = 160) -> str:
    text = str(expression)
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def document(theorem: str, assumptions: Mapping[str, Expr], steps: Sequence[Inequality | Identity]) -> dict[str, Any]:
    """A theorem's certificates as plain data for `convergence.verifier`: every expression is text.

    Args:
        theorem: its name.
        assumptions: what is taken to be >= 0, by name.
        steps: in order; identities that are not rational are left out.

    Returns:
        A dict that ``json.dump`` takes.
    """
    written: list[dict[str, Any]] = []
    used: set[Symbol] = set()
    for expression in assumptions.values():
        used |= expression.free_symbols
    for step in steps:
        entry: dict[str, Any] = {"name": step.name, "region": {str(k): str(v) for k, v in step.region.items()}}
        used |= set(step.region).union(*(v.free_symbols for v in step.region.values()))
        if isinstance(step, Identity):
            if not step.is_rational:
                continue
            entry |= {"left": str(step.left), "right": str(step.right)}
            used |= step.left.free_symbols | step.right.free_symbols
        else:
            entry |= {"gap": str(step.gap), "terms": [_written(term) for term in step.terms]}
            used |= step.gap.free_symbols.union(*(t.multiplier.free_symbols for t in step.terms))
            for fact in (fact for term in step.terms for fact in term.facts if not isinstance(fact, str)):
                used |= fact.value.free_symbols
        written.append(entry)
    kinds: dict[str, list[str]] = {"vectors": [], "positive": [], "nonnegative": [], "real": []}
    for symbol in sorted(used, key=str):
        if isinstance(symbol, VectorSymbol):
            kind = "vectors"
        else:
            kind = "positive" if symbol.is_positive else "nonnegative" if symbol.is_nonnegative else "real"
        kinds[kind].append(str(symbol))
    return {
        "theorem": theorem,
        **kinds,
        "assumptions": {name: str(expression) for name, expression in assumptions.items()},
        "steps": written,
    }


def _written(term: Term) -> dict[str, Any]:
    facts: list[Any] = []
    for fact in term.facts:
        if isinstance(fact, str):
            facts.append(fact)
        elif isinstance(fact, Square):
            facts.append({"square": str(fact.expression)})
        else:
            facts.append({"norm": str(fact.vector)})
    return {"multiplier": str(term.multiplier), "facts": facts}
