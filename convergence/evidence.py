"""What may be seen of an expression without trust: its sign, its poles, its letters. The sympy checker's side of `verifier`.

A polynomial is *evidently* not negative if it has no negative coefficient and no symbol that may be negative. A quotient is
used only where its denominator is evidently positive, or negative, or a product of such and of what is declared not to be 0:
a fact with a pole proves anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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


def short(expression: Any, limit: int = 160) -> str:
    """As text, cut off where it is long."""
    text = str(expression)
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def numerator(expression: Expr, region: Mapping[Symbol, Expr]) -> Expr:
    """What must be 0 for the expression to be 0, where it is defined."""
    return sympy.expand(sympy.fraction(sympy.together(expand_dots(expression).subs(region, simultaneous=True)))[0])


def rational(expression: Expr) -> bool:
    """Whether it is a rational function, with fractions as coefficients, which the stand-alone verifier can read."""
    plain = _plain(expand_dots(expression))
    return bool(plain.is_rational_function(*plain.free_symbols)) and not plain.atoms(sympy.NumberSymbol, sympy.Float)


def _plain(expression: Expr) -> Expr:
    """With a symbol for every inner product; a squared norm is not negative."""
    names = {dot: Symbol(str(dot), real=True, nonnegative=dot.args[0] == dot.args[1] or None) for dot in expression.atoms(Dot)}
    return expression.subs(names)


def not_negative(polynomial: Expr) -> bool:
    """No negative coefficient, and no symbol that may be negative."""
    return all(c.is_Rational and c >= 0 and all(s.is_nonnegative for s in letters) for c, letters in _monomials(polynomial))


def above_zero(polynomial: Expr) -> bool:
    """Not negative, and one of its monomials holds positive symbols only, or none."""
    return not_negative(polynomial) and any(c > 0 and all(s.is_positive for s in m) for c, m in _monomials(polynomial))


def _monomials(polynomial: Expr) -> list[tuple[Expr, tuple[Symbol, ...]]]:
    plain = sympy.expand(_plain(expand_dots(polynomial)))
    symbols = sorted(plain.free_symbols, key=str)
    if not symbols:
        return [(plain, ())]
    try:
        terms = sympy.Poly(plain, *symbols).terms()
    except sympy.PolynomialError:
        return [(sympy.nan, ())]
    return [(c, tuple(s for s, k in zip(symbols, powers, strict=True) if k)) for powers, c in terms]


def check_multiplier(step: str, multiplier: Expr) -> None:
    """A quotient of polynomials with non-negative coefficients in non-negative symbols is non-negative: no more is needed."""
    top, bottom = sympy.fraction(sympy.cancel(sympy.together(multiplier)))
    for sign in (1, -1):  # cancel may move a sign into the denominator
        if above_zero(sign * bottom) and not_negative(sign * top):
            return
    raise Rejected(f"{step}: the multiplier {short(multiplier)} is not evidently non-negative")


def check_poles(step: str, expressions: Iterable[Expr], region: Mapping[Symbol, Expr], nonzero: Sequence[Expr]) -> None:
    """Nothing is divided by that might be 0 in the region.

    Raises:
        Rejected: with the denominator.
    """
    for expression in expressions:
        if expression.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
            raise Rejected(f"{step}: {short(expression)} has no value")
        for part in sympy.preorder_traversal(expression):
            if isinstance(part, sympy.Pow) and not part.exp.is_nonnegative and not _is_nonzero(part.base, region, nonzero):
                raise Rejected(
                    f"{step}: {short(part.base)} is divided by; it is not evidently positive, nor declared not to be 0"
                )


def _is_nonzero(base: Expr, region: Mapping[Symbol, Expr], nonzero: Sequence[Expr]) -> bool:
    value = expand_dots(base).subs(region, simultaneous=True)
    if not rational(value):  # roots and logarithms, in identities that rest on sympy anyway
        return bool(value.is_positive or value.is_negative)
    top = sympy.factor_list(sympy.fraction(sympy.together(value))[0])
    declared = [
        factor for each in nonzero for factor, _ in sympy.factor_list(numerator(each, region))[1]
    ]  # a product is not 0 exactly if no factor is
    return top[0] != 0 and all(
        above_zero(factor)
        or above_zero(-factor)
        or any(sympy.expand(factor - c * one) == 0 for one in declared for c in (1, -1))
        for factor, _ in top[1]
    )


def check_region(step: str, region: Mapping[Symbol, Expr], nonzero: Sequence[Expr]) -> None:
    """Scalars only, written in others, with values that have the signs which the letters have.

    Raises:
        Rejected: with the letter.
    """
    free = [each for each in nonzero if not each.free_symbols & region.keys()]
    check_poles(step, region.values(), {}, free)
    for letter, value in region.items():
        if isinstance(letter, VectorSymbol):
            raise Rejected(f"{step}: the region replaces {letter}, which is no scalar")
        if inside := sorted(map(str, value.free_symbols & region.keys())):
            raise Rejected(f"{step}: the region's value of {letter} holds {inside[0]}, which the region replaces itself")
        check_sign(step, letter, value, "in the region")
    for each in nonzero:
        if numerator(each, region) == 0:
            raise Rejected(f"{step}: the region makes {short(each)} vanish, which is declared not to be 0")


def check_sign(step: str, letter: Symbol, value: Expr, where: str) -> None:
    """Refuse a value that may lack its letter's sign; raises `Rejected`."""
    top, bottom = sympy.fraction(sympy.together(value))
    for wanted, seen in (("positive", above_zero), ("nonnegative", not_negative)):
        if getattr(letter, f"is_{wanted}") and not (seen(top) and above_zero(bottom)):
            raise Rejected(f"{step}: {letter} is {wanted}, and its value {where}, {short(value)}, is not evidently so")


def check_letters(step: str, expressions: Iterable[Expr], known: dict[str, Symbol], scalars: bool = True) -> None:
    """Real numbers and vectors, each of one name; a vector inside `Dot` only.

    Args:
        step: for the message.
        expressions: what to look at.
        known: letters seen before, by name; new ones are added.
        scalars: the expressions are numbers, not vectors.

    Raises:
        Rejected: with the letter.
    """
    for expression in expressions:
        if expression.has(sympy.Float):
            raise Rejected(f"{step}: {short(expression)} holds a floating-point number; write a fraction")
        for s in sorted(expression.free_symbols, key=str):
            if known.setdefault(str(s), s) != s:
                raise Rejected(f"{step}: there are two different symbols of the name {s}")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(s)):
                raise Rejected(f"{step}: {s} is no plain name of a symbol")
            if not (s.is_real or isinstance(s, VectorSymbol)):
                raise Rejected(f"{step}: {s} is not declared real")
        if scalars and (loose := sorted(str(s) for s in _plain(expression).free_symbols if isinstance(s, VectorSymbol))):
            raise Rejected(f"{step}: the vector {loose[0]} stands where a number is needed")
