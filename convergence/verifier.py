"""Check certificates with nothing but Python's standard library: ``python verifier.py certificate.json ...``.

This file can be copied out of the package and read in one sitting. It expands polynomials with fractions as coefficients and
compares them; it knows no theorem, runs no solver and imports nothing of the project. What a certificate file says:

- ``vectors``, ``positive``, ``nonnegative``, ``real``: the symbols, and what is known of their signs;
- ``assumptions``: expressions taken to be >= 0, by name; ``nonzero``: expressions taken not to be 0, by name;
- ``steps``: ``gap >= 0`` because ``gap`` equals a sum of terms, each a multiplier times facts; or ``left = right``; or
  ``given >= 0``, which was argued in words; or something added up or repeated over rounds, see `_sum_over`, `_repeated`.
  A fact is the square of a scalar, the squared norm of a vector, an assumption, or an earlier step; an identity gives two,
  left - right by its name and right - left by its name with ", reversed".
- ``region``: some symbols written in others, so that a multiplier's sign can be seen: it must become a quotient of
  polynomials without a negative coefficient in symbols that are not negative. A step holds in its region only.

Whatever stands below a fraction line must be evidently positive in the step's region (or evidently negative, or a product of
such things and of what ``nonzero`` names): a fact with a pole proves anything. A file that asks for too much work is refused.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

Monomial = tuple[tuple[str, int], ...]
Polynomial = dict[Monomial, Fraction]
Factor = tuple[tuple[Monomial, Fraction], ...]

FILE, TEXT, DEPTH, POWER, BITS, WORK = 1_000_000, 5_000, 60, 64, 4_096, 60_000
"""Most bytes of a file, characters of an expression, operations inside one another, exponent, bits of a number, and units of
work, each about a product of two monomials: less than a second in all."""


class Rejected(ArithmeticError):
    """A certificate does not prove what it claims, or cannot be read."""


class _Work:
    """What the document at hand may still cost."""

    left = WORK


def _spend(units: int) -> None:
    _Work.left -= units
    if _Work.left < 0:
        raise Rejected("too much work: write it in smaller steps, or with smaller powers")


def constant(value: Fraction | int) -> Polynomial:
    """A polynomial without symbols."""
    if max(Fraction(value).numerator.bit_length(), Fraction(value).denominator.bit_length()) > BITS:
        raise Rejected(f"a number of more than {BITS} bits")
    return {(): Fraction(value)} if value else {}


def plus(p: Polynomial, q: Polynomial, sign: int = 1) -> Polynomial:
    """p + sign * q."""
    _spend(1 + (len(p) + len(q)) // 4)
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
    _spend(2 + len(p) * len(q))
    product: Polynomial = {}
    for m, a in p.items():
        for n, b in q.items():
            powers = dict(m)
            for symbol, k in n:
                powers[symbol] = powers.get(symbol, 0) + k
            monomial = tuple(sorted(powers.items()))
            _spend(len(monomial) // 8)
            c = product.get(monomial, Fraction(0)) + a * b
            if max(c.numerator.bit_length(), c.denominator.bit_length()) > BITS:
                raise Rejected(f"a number of more than {BITS} bits")
            _spend(c.denominator.bit_length() // 64 + c.numerator.bit_length() // 64)
            product[monomial] = c
    return {m: c for m, c in product.items() if c}


def expanded(p: Polynomial, factors: dict[Factor, int]) -> Polynomial:
    """p times the product of factor ** power."""
    for factor, power in factors.items():
        for _ in range(power):
            p = times(p, dict(factor))
    return p


def quotient(p: Polynomial, q: Polynomial) -> Polynomial | None:
    """p / q where that is a polynomial, else None: division from the greatest power down."""
    symbols = sorted({symbol for monomial in (*p, *q) for symbol, _ in monomial})

    def order(monomial: Monomial) -> tuple[int, ...]:
        powers = dict(monomial)
        return tuple(powers.get(symbol, 0) for symbol in symbols)

    lead, found = max(q, key=order), {}
    while p:
        top = max(p, key=order)
        powers = [(s, a - b) for s, a, b in zip(symbols, order(top), order(lead), strict=True) if a != b]
        if any(k < 0 for _, k in powers):
            return None
        found[tuple(powers)] = p[top] / q[lead]
        p = plus(p, times({tuple(powers): p[top] / q[lead]}, q), -1)
    return found


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


@dataclass(frozen=True)
class Signs:
    """What is known of the symbols' signs."""

    positive: frozenset[str] = frozenset()
    nonnegative: frozenset[str] = frozenset()

    def not_negative(self, p: Polynomial) -> bool:
        """No negative coefficient, and no symbol that may be negative; a squared norm is not."""
        return all(c > 0 and all(self._symbol(symbol) for symbol, _ in monomial) for monomial, c in p.items())

    def above_zero(self, p: Polynomial) -> bool:
        """Not negative, and one of its monomials holds positive symbols only, or none."""
        return self.not_negative(p) and any({symbol for symbol, _ in monomial} <= self.positive for monomial in p)

    def of_quotient(self, value: Ratio) -> bool:
        """Not negative over what is positive."""
        return self.not_negative(value.top) and all(self.above_zero(dict(factor)) for factor in value.bottom)

    def _symbol(self, symbol: str) -> bool:
        if symbol in self.positive or symbol in self.nonnegative:
            return True
        return (norm := re.fullmatch(r"Dot\((\w+), (\w+)\)", symbol)) is not None and norm[1] == norm[2]


@dataclass
class Symbols:
    """The symbols of a document."""

    vectors: frozenset[str]
    scalars: frozenset[str]
    signs: Signs = field(default_factory=Signs)


class Reader:
    """Turns text into polynomials, symbols being replaced by what the region says.

    Whatever is divided by is checked on the spot: it must be evidently positive, or negative, or declared not to be 0.
    """

    def __init__(self, symbols: Symbols, region: Mapping[str, str] | None = None, nonzero: Iterable[str] = ()) -> None:
        """The document's symbols, the region and the expressions declared not to be 0, both as text."""
        self.symbols, self.nonzero = symbols, list[Polynomial]()
        self.region: dict[str, Ratio | Vector] = {}
        region = region or {}
        declared = {text: self.scalar(text).top for text in nonzero}
        # What is declared of a symbol that the region replaces says nothing about the values it is replaced by.
        self.nonzero = [p for p in declared.values() if not {s for monomial in p for s, _ in monomial} & region.keys()]
        self.region.update(self._checked(region))
        self.nonzero = []
        for text in declared:
            top = self.scalar(text).top
            if not top:
                raise Rejected(f"the region makes {text} vanish, which is declared not to be 0")
            self.nonzero.append(top)

    def _checked(self, region: Mapping[str, str]) -> dict[str, Ratio]:
        values = {}
        for name, text in region.items():
            if name not in self.symbols.scalars:
                raise Rejected(f"the region replaces {name}, which is no scalar")
            value = values[name] = self.scalar(text)
            inside = {symbol for part in (value.top, *map(dict, value.bottom)) for monomial in part for symbol, _ in monomial}
            names = {name for symbol in inside for name in re.findall(r"\w+", symbol)}
            if both := names & region.keys():
                raise Rejected(f"the region's value of {name} holds {min(both)}, which the region replaces itself")
            self.check_sign(name, text, value, "in the region")
        return values

    def check_sign(self, name: str, text: str, value: Ratio | Vector, where: str) -> None:
        """Refuse a value that may lack its letter's sign."""
        signs = self.symbols.signs
        seen = isinstance(value, Ratio) and signs.of_quotient(value)
        if name in signs.positive and not (seen and isinstance(value, Ratio) and signs.above_zero(value.top)):
            raise Rejected(f"{name} is positive, and its value {where}, {text}, is not evidently so")
        if name in signs.nonnegative and not seen:
            raise Rejected(f"{name} is not negative, and its value {where}, {text}, is not evidently so")

    def scalar(self, text: str) -> Ratio:
        """The value of an expression; raises `Rejected` if it is none."""
        value = self._read(_parse(text))
        if not isinstance(value, Ratio):
            raise Rejected(f"a vector where a number is needed: {_short(text)}")
        return value

    def readable(self, text: str) -> Ratio | Vector:
        """A scalar or a vector; raises `Rejected` if the text is neither."""
        return self._read(_parse(text))

    def norm2(self, text: str) -> Ratio:
        """The squared norm of a vector expression."""
        return self._dot(self._vector(_parse(text)), self._vector(_parse(text)))

    def _vector(self, node: ast.expr) -> Vector:
        value = self._read(node)
        if isinstance(value, Ratio):
            if value.top:
                raise Rejected(f"a number where a vector is needed: {_short(ast.unparse(node))}")
            return {}
        return value

    def _read(self, node: ast.expr) -> Ratio | Vector:  # noqa: PLR0911, PLR0912 - a case a kind of expression
        match node:
            case ast.Constant(value=int() as value) if not isinstance(value, bool):
                return Ratio(constant(value))
            case ast.Name(id=name) if name in self.region:
                return self.region[name]
            case ast.Name(id=name) if name in self.symbols.vectors:
                return {name: Ratio(constant(1))}
            case ast.Name(id=name) if name in self.symbols.scalars:
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
                    return _scaled(self._read(left), self._inverse(divisor, right))
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                base, exponent = self._read(left), _integer(right)
                if isinstance(base, Ratio):
                    base = base if exponent >= 0 else self._inverse(base, left)
                    power = Ratio(constant(1))
                    for _ in range(abs(exponent)):
                        power = power * base
                    return power
            case ast.Call(func=ast.Name(id="Dot"), args=[left, right], keywords=[]):
                return self._dot(self._vector(left), self._vector(right))
        raise Rejected(f"cannot read {_short(ast.unparse(node))!r}: an unknown symbol or operation")

    def _inverse(self, value: Ratio, node: ast.expr) -> Ratio:
        """1 / value, if that has no pole."""
        top, signs = value.top, self.symbols.signs
        for declared in self.nonzero:
            while len(declared) > 1 or () not in declared:
                rest = quotient(top, declared) if top else None
                if rest is None:
                    break
                top = rest
        if not (top and (signs.above_zero(top) or signs.above_zero(plus({}, top, -1)))):
            raise Rejected(f"{_short(ast.unparse(node))} is divided by; it is not evidently positive, nor declared not to be 0")
        return value.inverse()

    @staticmethod
    def _dot(left: Vector, right: Vector) -> Ratio:
        total = Ratio({})
        for u, a in left.items():
            for v, b in right.items():
                first, second = sorted((u, v))
                total = total + a * b * Ratio({((f"Dot({first}, {second})", 1),): Fraction(1)})
        return total


def _parse(text: str) -> ast.expr:
    if len(text) > TEXT:
        raise Rejected(f"an expression of {len(text)} characters; {TEXT} is the most")
    # Python reads comments, letters that look alike and whole programs; nothing of that is needed.
    if not re.fullmatch(r"[A-Za-z0-9_+\-*/(), ]+", text):
        raise Rejected(f"not an expression: {_short(text)!r}")
    _spend(1 + len(text) // 4)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Rejected(f"not an expression: {_short(text)!r}") from error
    level: list[ast.AST] = [tree]
    for _ in range(DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise Rejected(f"more than {DEPTH} operations inside one another: {_short(text)!r}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:76] + " ..."


def _integer(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            if value > POWER:
                raise Rejected(f"an exponent above {POWER}")
            return value
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_integer(inner)
    raise Rejected(f"an exponent must be a whole number, got {_short(ast.unparse(node))!r}")


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


_LISTS = ("vectors", "positive", "nonnegative", "real")
_TOP = ({"theorem", *_LISTS, "assumptions", "steps"}, {"nonzero", "record", "choices"})
_STEPS = {
    "left": {"name", "region", "left", "right"},
    "terms": {"name", "region", "gap", "terms"},
    "given": {"name", "given"},
    "repeats": {
        "name",
        "region",
        "gap",
        "repeats",
        "count",
        "constant",
        "next",
        "ratio",
        "now",
        "power",
        "first",
        "last",
        "grows",
    },
    "of": {"name", "region", "gap", "of", "count", "constant", "next", "telescopes", "sums", "means", "rest"},
}
_TEXTS = ["left", "right", "gap", "given", "of", "repeats", "count", "rest", "ratio", "now", "power", "first", "last", "grows"]
_PARTS = {
    "terms": ("multiplier", "facts"),
    "telescopes": ("coefficient", "now", "first", "last"),
    "sums": ("coefficient", "each", "total"),
    "means": ("coefficient", "each", "mean"),
}


def loads(text: str) -> Any:
    """What a JSON text holds; raises `Rejected` where a key is there twice, or a number is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise Rejected(f"the key {_short(twice)!r} is there twice in one object")
        return found

    def none(name: str) -> Any:
        raise Rejected(f"{name} is no number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=none)
    except RecursionError as error:
        raise Rejected("lists or objects too deep inside one another") from error


def verify(document: Any) -> int:
    """Check every step of a certificate.

    Args:
        document: what the JSON file holds (`loads`), see the module's docstring.

    Returns:
        How many steps were checked; what was argued in words does not count.

    Raises:
        Rejected: a step is not proved, or the document is malformed, with the step's name and the reason.
    """
    _Work.left = WORK
    symbols = _symbols(document)
    facts: dict[str, tuple[str, dict[str, str]]] = {name: (text, {}) for name, text in document["assumptions"].items()}
    names, nonzero, bound = {*facts, *document.get("nonzero", {})}, document.get("nonzero", {}).values(), set[str]()
    if len(names) < len(facts) + len(nonzero):
        raise Rejected("an assumption and something declared not to be 0 have the same name")
    checked, anywhere = 0, Reader(symbols, {}, nonzero)
    for name, (text, _) in facts.items():
        try:
            anywhere.scalar(text)
        except Rejected as error:
            raise Rejected(f"{name}: {error}") from error
    for step in document["steps"]:
        name = step["name"]
        if name in names:
            raise Rejected(f"{name}: there are two facts of this name")
        names.add(name)
        _spend(20)
        try:
            if "given" in step:
                anywhere.scalar(step["given"])
                facts[name] = step["given"], {}
                continue
            reader = Reader(symbols, step["region"], nonzero)
            residue = _residue(step, reader, facts, bound)
        except Rejected as error:
            raise Rejected(f"{name}: {error}") from error
        if residue.top:
            raise Rejected(f"{name}: the two sides differ, by {len(residue.top)} monomials")
        checked += 1
        if "left" in step:
            left, right, other = step["left"], step["right"], f"{name}, reversed"
            if other in names:
                raise Rejected(f"{other}: there are two facts of this name")
            names.add(other)
            facts |= {name: (f"{left} - ({right})", step["region"]), other: (f"{right} - ({left})", step["region"])}
        else:
            facts[name] = step["gap"], step["region"]
    return checked


def _symbols(document: Any) -> Symbols:
    """The document's symbols, once its shape is seen to be right."""
    required, optional = _TOP
    _shape(document, "a certificate", required, optional)
    declared: dict[str, str] = {}
    for kind in _LISTS:
        if not isinstance(document[kind], list):
            raise Rejected(f"{kind} is no list")
        for name in document[kind]:
            if not (isinstance(name, str) and _is_name(name)):
                raise Rejected(f"{kind} holds {_short(repr(name))}, which is no name of a symbol")
            if name in declared:
                raise Rejected(f"the symbol {name} is declared twice, as {declared[name]} and as {kind}")
            declared[name] = kind
    lists = {kind: frozenset(document[kind]) for kind in _LISTS}
    signs = Signs(lists["positive"], lists["nonnegative"])
    symbols = Symbols(lists["vectors"], lists["positive"] | lists["nonnegative"] | lists["real"], signs)
    _texts(document["assumptions"], "assumptions")
    _texts(document.get("nonzero", {}), "nonzero")
    if not isinstance(document["theorem"], str):
        raise Rejected("theorem is no text")
    if not isinstance(document["steps"], list) or not document["steps"]:
        raise Rejected("steps is no list, or an empty one: there is nothing to verify")
    for step in document["steps"]:
        _step_shape(step)
    if all("given" in step for step in document["steps"]):
        raise Rejected("every step is in words: there is nothing to verify")
    return symbols


def _is_name(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text)) and text != "Dot" and not keyword.iskeyword(text)


def _shape(value: Any, what: str, required: Iterable[str], optional: Iterable[str] = ()) -> None:
    if not isinstance(value, dict):
        raise Rejected(f"{what} is no object")
    if missing := sorted({*required} - value.keys()):
        raise Rejected(f"{what} lacks {missing[0]!r}")
    if unknown := sorted(value.keys() - {*required} - {*optional}):
        raise Rejected(f"{what} has an unknown key, {_short(unknown[0])!r}")


def _texts(value: Any, what: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) and key for key, text in value.items()):
        raise Rejected(f"{what} is no object of texts by name")


def _step_shape(step: Any) -> None:
    name = step.get("name") if isinstance(step, dict) else None
    if not isinstance(name, str) or not name:
        raise Rejected("a step has no name")
    kinds = [kind for kind in _STEPS if kind in step]
    if len(kinds) != 1:
        raise Rejected(f"{_short(name)}: a step is one of an identity, a gap with terms, a sum, or given in words")
    what = f"the step {_short(name)}"
    _shape(step, what, _STEPS[kinds[0]])
    _texts(step.get("region", {}), f"{what}, its region,")
    if not all(isinstance(step.get(key, ""), str) for key in _TEXTS):
        raise Rejected(f"{what}: an expression is no text")
    for key, parts in _PARTS.items():
        if not isinstance(step.get(key, []), list):
            raise Rejected(f"{what}: {key} is no list")
        for entry in step.get(key, []):
            _shape(entry, f"{what}: one of {key}", parts)
            if not all(isinstance(entry[part], list if part == "facts" else str) for part in parts):
                raise Rejected(f"{what}: one of {key} is malformed")
    if "constant" in step:
        _texts(step["next"], f"{what}, next,")
        if not isinstance(step["constant"], list) or not all(isinstance(letter, str) for letter in step["constant"]):
            raise Rejected(f"{what}: constant is no list of symbols")


Facts = Mapping[str, tuple[str, Mapping[str, str]]]
"""By name: what is not negative, and the region in which it is not."""


def _residue(step: dict[str, Any], reader: Reader, facts: Facts, bound: set[str]) -> Ratio:
    """What must be 0 for the step to be proved."""
    if "left" in step:
        return reader.scalar(step["left"]) + -reader.scalar(step["right"])
    if "of" in step or "repeats" in step:
        return (_sum_over if "of" in step else _repeated)(step, reader, facts, bound)
    residue = reader.scalar(step["gap"])
    for term in step["terms"]:
        residue = residue + -_value(term, reader, facts, step["region"])
    return residue


def _value(term: dict[str, Any], reader: Reader, facts: Facts, region: dict[str, str]) -> Ratio:
    """What a term is worth, once its multiplier is seen to be non-negative and its facts are found."""
    value = reader.scalar(term["multiplier"])
    if not reader.symbols.signs.of_quotient(value):
        raise Rejected(f"the multiplier {_short(term['multiplier'])} is not evidently non-negative")
    for fact in term["facts"]:
        match fact:
            case {"square": str() as text, **rest} if not rest:
                root = reader.scalar(text)
                value = value * root * root
            case {"norm": str() as text, **rest} if not rest:
                value = value * reader.norm2(text)
            case str():
                value = value * reader.scalar(_known(fact, facts, region))
            case _:
                raise Rejected(f"{_short(repr(fact))} is no fact")
    return value


def _known(fact: str, facts: Facts, region: Mapping[str, str]) -> str:
    """An assumption or an earlier step, which is a fact where this step's region says at least what its own did."""
    text, own = facts.get(fact, ("", {"": ""}))
    if not own.items() <= region.items():
        raise Rejected(f"no assumption or earlier step of this region is called {_short(fact)!r}")
    return text


class _Items:
    """What may be said of all items (rounds, layers) at once: which letters are the same for each, which stand for sums."""

    def __init__(self, step: dict[str, Any], reader: Reader, bound: set[str]) -> None:
        """The step's constants, its letters at the next item, and the letters bound by earlier steps."""
        self.reader, self.constant, self.next, self.bound = reader, set(step["constant"]), step["next"], bound
        self.fresh: set[str] = set()
        inside = {symbol for value in step["region"].values() for symbol in re.findall(r"[A-Za-z_]\w*", value)}
        if moving := sorted((inside | step["region"].keys() | {step["count"]}) - self.constant):
            raise Rejected(f"{moving[0]} stands in the region or counts the items, and is not said to be constant")
        if step["count"] not in reader.symbols.signs.positive or not self.constant <= reader.symbols.scalars:
            raise Rejected("the number of items is no positive symbol, or a constant is no scalar")
        if fixed := sorted(self.constant & self.next.keys()):
            raise Rejected(f"{fixed[0]} is constant and has a next value")
        for name, text in self.next.items():
            reader.check_sign(name, text, reader.readable(text), "at the next item")
        self.after_reader = Reader(reader.symbols)
        self.after_reader.nonzero = reader.nonzero
        self.after_reader.region = {**reader.region} | {name: reader.readable(text) for name, text in self.next.items()}

    def fixed(self, text: str) -> Ratio:
        """An expression that is the same for every item."""
        value = self.reader.scalar(text)
        if moving := _letters(value) - self.constant:
            raise Rejected(f"{_short(text)} is not constant: it holds {min(moving)}")
        return value

    def now_and_after(self, text: str) -> tuple[Ratio, Ratio]:
        """An expression at an item and at the next."""
        now = self.reader.scalar(text)
        if moving := sorted(_letters(now) - self.constant - self.next.keys()):
            raise Rejected(f"{moving[0]} is not constant and has no next value")
        return now, self.after_reader.scalar(text)

    def new(self, letter: str, each: Ratio) -> Ratio:
        """A letter that stands for a sum or mean of `each`, or for one of them."""
        symbols = self.reader.symbols
        if letter in self.bound | self.constant | self.next.keys() or letter not in symbols.scalars - symbols.signs.positive:
            raise Rejected(f"{letter} is not a new letter that is declared real or not negative")
        if letter in symbols.signs.nonnegative and not symbols.signs.of_quotient(each):
            raise Rejected(f"{letter} is declared not negative, and what it stands for is not evidently so")
        self.bound.add(letter)
        self.fresh.add(letter)
        return self.reader.scalar(letter)

    def fact(self, name: str, facts: Facts, region: dict[str, str], parts: Ratio) -> None:
        """Refuse parts that do not make up the fact."""
        fact = self.reader.scalar(_known(name, facts, region))
        if both := self.fresh & _letters(fact):
            raise Rejected(f"{min(both)} stands for a sum, and in what is added up")
        if (fact + -parts).top:
            raise Rejected(f"{name} is not the sum of the parts that are added up")


def _sum_over(step: dict[str, Any], reader: Reader, facts: Facts, bound: set[str]) -> Ratio:
    """A fact that holds of every item (round, layer), added up over `count` of them.

    The fact must be a sum of coefficient * (now - after), coefficient * each, and a rest, where `after` is `now` in the
    letters of the next item, and coefficients and rest hold `constant` letters only. Added up, `now - after` becomes
    first - last, each becomes its total, or count times its mean, and the rest count times itself.
    """
    items = _Items(step, reader, bound)
    rest, count = items.fixed(step["rest"]), reader.scalar(step["count"])
    one, total = rest, count * rest
    for part in step["telescopes"]:
        coefficient, (now, after) = items.fixed(part["coefficient"]), items.now_and_after(part["now"])
        one = one + coefficient * (now + -after)
        total = total + coefficient * (items.new(part["first"], now) + -items.new(part["last"], now))
    for part in step["sums"]:
        each, coefficient = reader.scalar(part["each"]), items.fixed(part["coefficient"])
        one, total = one + coefficient * each, total + coefficient * items.new(part["total"], each)
    for part in step["means"]:
        each, coefficient = reader.scalar(part["each"]), items.fixed(part["coefficient"])
        one, total = one + coefficient * each, total + count * coefficient * items.new(part["mean"], each)
    items.fact(step["of"], facts, step["region"], one)
    return reader.scalar(step["gap"]) + -total


def _repeated(step: dict[str, Any], reader: Reader, facts: Facts, bound: set[str]) -> Ratio:
    """A fact ratio * now - after >= 0, used `count` times over: power * first - last >= 0, `power` for ratio ** count.

    With the other sign for what grows.
    """
    items = _Items(step, reader, bound)
    ratio, (now, after) = items.fixed(step["ratio"]), items.now_and_after(step["now"])
    if not reader.symbols.signs.of_quotient(ratio):
        raise Rejected(f"the ratio {_short(step['ratio'])} is not evidently non-negative")
    if step["grows"] not in ("yes", "no"):
        raise Rejected("whether it grows is neither yes nor no")
    sign = Ratio(constant(-1 if step["grows"] == "yes" else 1))
    items.fact(step["repeats"], facts, step["region"], sign * (ratio * now + -after))
    power, first, last = items.new(step["power"], ratio), items.new(step["first"], now), items.new(step["last"], now)
    return reader.scalar(step["gap"]) + -(sign * (power * first + -last))


def _letters(value: Ratio) -> set[str]:
    """The symbols of an expression."""
    parts = (value.top, *map(dict, value.bottom))
    return {name for p in parts for m in p for symbol, _ in m for name in re.findall(r"\w+", symbol)} - {"Dot"}


def main(paths: list[str]) -> int:
    """Verify files; 0 if all are accepted."""
    if not paths:
        print("usage: python verifier.py certificate.json ...", file=sys.stderr)
        return 2
    failed = 0
    for path in paths:
        try:
            steps = verify(loads(_text(Path(path))))
        except (Rejected, OSError, ValueError) as error:
            failed += 1
            print(f"REJECTED  {path}: {type(error).__name__}: {_short(str(error))}")
        else:
            print(f"accepted  {path}: {steps} steps")
    return 1 if failed else 0


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise Rejected("not a file")
    with path.open("rb") as file:
        found = file.read(FILE + 1)
    if len(found) > FILE:
        raise Rejected(f"more than {FILE} bytes")
    return found.decode("utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
