"""Check certificates with nothing but Python's standard library: ``python verifier.py certificate.json ...``.

This file can be copied out of the package and read in one sitting. It expands polynomials with fractions as coefficients and
compares them; it knows no theorem, runs no solver and imports nothing of the project. What a certificate file says:

- ``vectors``, ``positive``, ``nonnegative``, ``real``: the symbols, and what is known of their signs;
- ``assumptions``: expressions taken to be >= 0, by name;
- ``steps``: either ``gap >= 0`` because ``gap`` equals a sum of terms, each a multiplier times facts, or ``left = right``.
  A fact is the square of a scalar, the squared norm of a vector, an assumption, or an earlier step.
- ``region``: some symbols written in others, so that a multiplier's sign can be seen: it must become a quotient of
  polynomials without a negative coefficient in symbols that are not negative.
"""

from __future__ import annotations

import ast
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

Monomial = tuple[tuple[str, int], ...]
Polynomial = dict[Monomial, Fraction]
Factor = tuple[tuple[Monomial, Fraction], ...]


class Rejected(ArithmeticError):
    """A certificate does not prove what it claims, or cannot be read."""


def constant(value: Fraction | int) -> Polynomial:
    """A polynomial without symbols."""
    return {(): Fraction(value)} if value else {}


def plus(p: Polynomial, q: Polynomial, sign: int = 1) -> Polynomial:
    """p + sign * q."""
    total = dict(p)
    for monomial, c in q.items():
        value = total.get(monomial, Fraction(0)) + sign * c
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return total


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    """p * q."""
    product: Polynomial = {}
    for m, a in p.items():
        for n, b in q.items():
            powers = dict(m)
            for symbol, k in n:
                powers[symbol] = powers.get(symbol, 0) + k
            monomial = tuple(sorted(powers.items()))
            product[monomial] = product.get(monomial, Fraction(0)) + a * b
    return {m: c for m, c in product.items() if c}


def expanded(p: Polynomial, factors: dict[Factor, int]) -> Polynomial:
    """p times the product of factor ** power."""
    for factor, power in factors.items():
        for _ in range(power):
            p = times(p, dict(factor))
    return p


class Ratio:
    """A polynomial over a product of powers of polynomials, which is kept in factors: sums need few common multiples then."""

    def __init__(self, top: Polynomial, bottom: dict[Factor, int] | None = None) -> None:
        """The polynomial `top` over the product of factor ** power in `bottom`."""
        self.top, self.bottom = top, bottom or {}

    def __add__(self, other: Ratio) -> Ratio:
        """Self + other."""
        common = {factor: max(self.bottom.get(factor, 0), other.bottom.get(factor, 0)) for factor in self.bottom | other.bottom}
        return Ratio(plus(self._over(common), other._over(common)), common)

    def __neg__(self) -> Ratio:
        """The negative."""
        return Ratio(plus({}, self.top, -1), self.bottom)

    def __mul__(self, other: Ratio) -> Ratio:
        """Self * other."""
        powers = {f: self.bottom.get(f, 0) + other.bottom.get(f, 0) for f in self.bottom | other.bottom}
        return Ratio(times(self.top, other.top), powers)

    def inverse(self) -> Ratio:
        """1 / self; raises `Rejected` if self is 0."""
        if not self.top:
            raise Rejected("division by zero")
        return Ratio(expanded(constant(1), self.bottom), {tuple(sorted(self.top.items())): 1})

    def _over(self, common: dict[Factor, int]) -> Polynomial:
        """The numerator over a common denominator."""
        return expanded(self.top, {factor: power - self.bottom.get(factor, 0) for factor, power in common.items()})


Vector = dict[str, Ratio]


class Reader:
    """Turns text into polynomials, symbols being replaced by what the region says."""

    def __init__(self, vectors: list[str], scalars: list[str], region: dict[str, str]) -> None:
        """Names of vectors and scalars, and the region as text."""
        self.vectors, self.scalars = set(vectors), set(scalars)
        self.region: dict[str, Ratio] = {}
        # Read all before any is put in: a region is written in free symbols only.
        self.region = {name: self.scalar(text) for name, text in region.items()}

    def scalar(self, text: str) -> Ratio:
        """The value of an expression; raises `Rejected` if it is none."""
        value = self._read(_parse(text))
        if not isinstance(value, Ratio):
            raise Rejected(f"a vector where a number is needed: {text}")
        return value

    def norm2(self, text: str) -> Ratio:
        """The squared norm of a vector expression."""
        return self._dot(self._vector(_parse(text)), self._vector(_parse(text)))

    def _vector(self, node: ast.expr) -> Vector:
        value = self._read(node)
        if isinstance(value, Ratio):
            if value.top:
                raise Rejected(f"a number where a vector is needed: {ast.unparse(node)}")
            return {}
        return value

    def _read(self, node: ast.expr) -> Ratio | Vector:  # noqa: PLR0911, PLR0912 - a case a kind of expression
        match node:
            case ast.Constant(value=int() as value) if not isinstance(value, bool):
                return Ratio(constant(value))
            case ast.Name(id=name) if name in self.region:
                return self.region[name]
            case ast.Name(id=name) if name in self.vectors:
                return {name: Ratio(constant(1))}
            case ast.Name(id=name) if name in self.scalars:
                return Ratio({((name, 1),): Fraction(1)})
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return _scaled(self._read(inner), Ratio(constant(-1)))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _sum(self._read(left), self._read(right))
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return _sum(self._read(left), _scaled(self._read(right), Ratio(constant(-1))))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                first, second = self._read(left), self._read(right)
                return _scaled(second, first) if isinstance(first, Ratio) else _scaled(first, second)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                divisor = self._read(right)
                if isinstance(divisor, Ratio):
                    return _scaled(self._read(left), divisor.inverse())
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                base, exponent = self._read(left), _integer(right)
                if isinstance(base, Ratio):
                    base = base if exponent >= 0 else base.inverse()
                    power = Ratio(constant(1))
                    for _ in range(abs(exponent)):
                        power = power * base
                    return power
            case ast.Call(func=ast.Name(id="Dot"), args=[left, right], keywords=[]):
                return self._dot(self._vector(left), self._vector(right))
        raise Rejected(f"cannot read {ast.unparse(node)!r}: an unknown symbol or operation")

    @staticmethod
    def _dot(left: Vector, right: Vector) -> Ratio:
        total = Ratio({})
        for u, a in left.items():
            for v, b in right.items():
                first, second = sorted((u, v))
                total = total + a * b * Ratio({((f"Dot({first}, {second})", 1),): Fraction(1)})
        return total


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, TypeError) as error:
        raise Rejected(f"not an expression: {text!r}") from error


def _integer(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_integer(inner)
    raise Rejected(f"an exponent must be a whole number, got {ast.unparse(node)!r}")


def _scaled(value: Ratio | Vector, by: Ratio | Vector) -> Ratio | Vector:
    if not isinstance(by, Ratio):
        raise Rejected("the product of two vectors; write Dot(u, v)")
    if isinstance(value, Ratio):
        return value * by
    return {v: c * by for v, c in value.items()}


def _sum(left: Ratio | Vector, right: Ratio | Vector) -> Ratio | Vector:
    if isinstance(left, Ratio) and isinstance(right, Ratio):
        return left + right
    if isinstance(left, Ratio) or isinstance(right, Ratio):
        raise Rejected("the sum of a number and a vector")
    return {v: left.get(v, Ratio({})) + right.get(v, Ratio({})) for v in {**left, **right}}


def verify(document: dict[str, Any]) -> int:
    """Check every step of a certificate.

    Args:
        document: what the JSON file holds, see the module's docstring.

    Returns:
        How many steps were checked.

    Raises:
        Rejected: a step is not proved, with its name and the reason.
    """
    scalars = [*document["positive"], *document["nonnegative"], *document["real"]]
    positive = set(document["positive"])
    signs = positive | set(document["nonnegative"]), positive
    proved: dict[str, dict[str, Any]] = {}
    for step in document["steps"]:
        if step["name"] in proved or step["name"] in document["assumptions"]:
            raise Rejected(f"{step['name']}: there are two facts of this name")
        # An earlier step is a fact where this step's region says at least what its own did.
        known = document["assumptions"] | {
            name: earlier["gap"] for name, earlier in proved.items() if earlier["region"].items() <= step["region"].items()
        }
        try:
            reader = Reader(document["vectors"], scalars, step["region"])
            if "left" in step:
                residue = reader.scalar(step["left"]) + -reader.scalar(step["right"])
            else:
                residue = reader.scalar(step["gap"])
                for term in step["terms"]:
                    residue = residue + -_value(term, reader, known, *signs)
                proved[step["name"]] = step
        except Rejected as error:
            raise Rejected(f"{step['name']}: {error}") from error
        if residue.top:
            raise Rejected(f"{step['name']}: the two sides differ, by {len(residue.top)} monomials")
    return len(document["steps"])


def _value(term: dict[str, Any], reader: Reader, known: dict[str, str], not_negative: set[str], positive: set[str]) -> Ratio:
    """What a term is worth, once its multiplier is seen to be non-negative and its facts are found."""
    value = reader.scalar(term["multiplier"])
    parts = [(value.top, not_negative), *((dict(factor), positive) for factor in value.bottom)]
    if any(
        c < 0 or not {symbol for symbol, _ in monomial} <= allowed for part, allowed in parts for monomial, c in part.items()
    ):
        raise Rejected(f"the multiplier {term['multiplier']} is not evidently non-negative")
    for fact in term["facts"]:
        match fact:
            case {"square": text, **rest} if not rest:
                root = reader.scalar(text)
                value = value * root * root
            case {"norm": text, **rest} if not rest:
                value = value * reader.norm2(text)
            case str() if fact in known:
                value = value * reader.scalar(known[fact])
            case _:
                raise Rejected(f"no assumption or earlier step of this region is called {fact!r}")
    return value


def main(paths: list[str]) -> int:
    """Verify files; 0 if all are accepted."""
    if not paths:
        print("usage: python verifier.py certificate.json ...", file=sys.stderr)
        return 2
    failed = 0
    for path in paths:
        try:
            steps = verify(json.loads(Path(path).read_text(encoding="utf-8")))
        except (Rejected, OSError, ValueError, KeyError, TypeError) as error:
            failed += 1
            print(f"REJECTED  {path}: {type(error).__name__}: {error}")
        else:
            print(f"accepted  {path}: {steps} steps")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
