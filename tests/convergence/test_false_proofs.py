"""False proofs, each of a kind: both checkers refuse them, and say why."""

import json

import pytest
import sympy

from convergence import verifier
from convergence.certificate import (
    Argument,
    Identity,
    Inequality,
    Norm2,
    Rejected,
    Repeat,
    Square,
    Sum,
    Term,
    norm2,
    vectors,
    verify,
)  # fmt: skip
from convergence.document import document

a, b, c, p, T = sympy.symbols("a b c p T", positive=True)
x, y, now, after, mean, first, last = sympy.symbols("x y now after mean first last", real=True)
size = sympy.Symbol("size", nonnegative=True)
kappa = sympy.Symbol("kappa", positive=True)
u, v = vectors("u v")
MINUS_ONE = sympy.Integer(-1)
POLE = "is divided by; it is not evidently positive, nor declared not to be 0"


def with_sympy(steps, assumptions, nonzero=None):
    verify(assumptions, nonzero or {}, steps)


def alone(steps, assumptions, nonzero=None):
    return verifier.verify(verifier.loads(json.dumps(document("t", assumptions, steps, nonzero))))


def false(name, match, *steps, **assumptions):
    return pytest.param(steps, assumptions, match, id=name)


SHADOW = Inequality("shadow", x - a, (Term(p),), {x: a + p})

POLES = [
    false("where two assumptions meet", POLE, Inequality("s", MINUS_ONE, (Term(1, "up", "down", Square(1 / x)),)),
          up=x, down=-x),
    false("where a square vanishes", POLE, Inequality("s", MINUS_ONE, (Term(1, "none", Square(1 / (kappa - 1))),)),
          none=-((kappa - 1) ** 2)),
    false("in a product of facts", POLE, Inequality("s", -a, (Term(a, "none", Norm2(u / (a - b)), "unit"),)),
          none=-((a - b) ** 2), unit=1 / norm2(u)),
    false("in the gap", POLE, Inequality("s", a / (a - b), (Term(1, "fact"), Term(1, "other"))), fact=b, other=a / (a - b) - b),
    false("in a multiplier", POLE, Inequality("s", x**2, (Term((a**2 - b**2) / (a - b) / (a + b), Square(x)),))),
    false("in a vector's weight", POLE, Inequality("s", norm2(u), (Term(a, Norm2(u / (a - b))), Term(1, Norm2(u))))),
    false("in a region", POLE, Inequality("s", x**2, (Term(1, Square(x)),), {y: 1 / (a - b)})),
    false("in an identity", POLE, Identity("s", (a**2 - b**2) / (a - b), a + b)),
    false("in an assumption", POLE, Inequality("s", x**2, (Term(1, Square(x)),)), fact=1 / x),
    false("in an argument", POLE, Argument("fact", "", 1 / x), Inequality("s", x**2, (Term(1, Square(x)),))),
    false("at a size that may be 0", POLE, Inequality("s", x**2 / size, (Term(1 / size, Square(x)),))),
    false("of an even power", POLE, Inequality("s", 1 / x**2, (Term(1, Square(1 / x)),))),
    false("in what is added up", POLE, Sum("s", "fact", T, (T, a, b), rest=1 / (a - b)), fact=x**2),
]  # fmt: skip
REGIONS = [
    false("a region that shadows", "holds a, which the region replaces itself", SHADOW,
          Inequality("s", MINUS_ONE, (Term(1, "shadow"),), {x: a + p, a: a + p + 1})),
    false("a region that holds its own letter", "holds a, which the region replaces itself",
          Inequality("s", x**2, (Term(1, Square(x)),), {a: a + 1})),
    false("two letters in a circle", "which the region replaces itself",
          Inequality("s", x**2, (Term(1, Square(x)),), {a: b + 1, b: a + 1})),
    false("a step outside its region", "shadow", SHADOW, Inequality("s", x - a, (Term(1, "shadow"),))),
    false("a step in another region", "shadow", SHADOW, Inequality("s", x - a, (Term(1, "shadow"),), {x: a + b})),
    false("a positive letter that is made negative", "a is positive, and its value in the region",
          Inequality("s", MINUS_ONE, (Term(1, "fact"),), {a: sympy.Integer(-1)}), fact=a),
    false("a positive letter that is made 0", "a is positive, and its value in the region",
          Inequality("s", x**2, (Term(1, Square(x)),), {a: size})),
    false("a size that is made negative", "size is (nonnegative|not negative), and its value in the region",
          Inequality("s", x**2, (Term(1, Square(x)),), {size: x})),
    false("a vector that is made a number", "the region replaces u, which is no scalar",
          Inequality("s", x**2, (Term(1, Square(x)),), {u: a})),
]  # fmt: skip
SUMS = [
    false("a coefficient that moves", "is not constant: it holds x",
          Sum("s", "fact", T, (T,), means=((x, y, mean),)), fact=x * y),
    false("a rest that moves", "is not constant: it holds x", Sum("s", "fact", T, (T,), rest=x), fact=x),
    false("a letter without a next value", "y is not constant and has no next value",
          Sum("s", "fact", T, (T,), telescopes=((sympy.Integer(1), y, first, last),), rest=sympy.Integer(1)),
          fact=sympy.Integer(1)),
    false("a part left out", "the parts that are added up|the parts added up",
          Sum("s", "fact", T, (T,), means=((sympy.Integer(1), x**2, mean),)), fact=x**2 - 1),
    false("a mean under an old name", "is not a new letter|stands for a sum, and in what is added up",
          Sum("s", "fact", T, (T,), means=((sympy.Integer(1), x, x),)), fact=x),
    false("one letter for two means", "is not a new letter",
          Sum("s", "fact", T, (T,), means=((sympy.Integer(1), x, mean),)),
          Sum("r", "other", T, (T,), means=((sympy.Integer(1), y, mean),)), fact=x, other=y),
    false("a mean that is said to be a size", "size is declared not negative",
          Sum("s", "fact", T, (T,), means=((sympy.Integer(1), x, size),)), fact=x),
    false("a mean that is said to be positive", "a is not a new letter",
          Sum("s", "fact", T, (T,), means=((sympy.Integer(1), size, a),)), fact=size),
    false("a number of items that may be negative", "the number of items",
          Sum("s", "fact", y, (y,), rest=sympy.Integer(1)), fact=sympy.Integer(1)),
    false("a positive letter that is negative at the next item", "a is positive, and its value at the next item",
          Sum("s", "fact", T, (T,), {a: -b}, telescopes=((sympy.Integer(1), a, first, last),)), fact=a + b),
    false("a size that is negative at the next item", "size is (nonnegative|not negative), and its value at the next item",
          Sum("s", "fact", T, (T,), {size: x}, telescopes=((sympy.Integer(1), size, first, last),)), fact=size - x),
    false("a sum of nothing known", "hope", Sum("s", "hope", T, (T,), rest=sympy.Integer(-1))),
    false("a region that moves", "p is not constant|p stands in the region",
          SHADOW, Sum("s", "shadow", T, (T, a, x), means=((sympy.Integer(1), x - a, mean),), region={x: a + p})),
]  # fmt: skip
power = sympy.Symbol("power", nonnegative=True)


def repeat(ratio, now, **other):
    return Repeat("s", "fact", T, (T, a, b), {x: y}, ratio, now, **{"power": power, "first": first, "last": last} | other)


REPEATS = [
    false("a ratio that may be negative", "is not evidently non-negative", repeat(1 - a, x), fact=(1 - a) * x - y),
    false("a ratio that moves", "is not constant: it holds size", repeat(size + a, x), fact=(size + a) * x - y),
    false("another ratio", "the parts", repeat(a, x), fact=b * x - y),
    false("what it is at the next step", "the parts", repeat(a, x), fact=a * x - x),
    false("a power under an old name", "is not a new letter", repeat(a, x, power=a), fact=a * x - y),
    false("a first that is said to be a size", "size is declared not negative", repeat(a, x, first=size), fact=a * x - y),
]  # fmt: skip
NAMES = [
    false("an argument that overrides an assumption", "two facts of this name", Argument("fact", "", -x),
          Inequality("s", MINUS_ONE, (Term(1, "fact"),)), fact=x),
    false("an argument before it stands", "'later'", Inequality("s", x, (Term(1, "later"),)), Argument("later", "", x)),
    false("a step before it stands", "'later'", Inequality("s", x, (Term(1, "later"),)),
          Inequality("later", x, (Term(1, "fact"),)), fact=x),
    false("a step that is its own fact", "'s'", Inequality("s", MINUS_ONE, (Term(1, "s"),))),
    false("two steps of one name", "two facts of this name", SHADOW, SHADOW),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "assumptions", "match"), [*POLES, *REGIONS, *SUMS, *REPEATS, *NAMES])
def test_a_false_proof_is_refused_by_both(steps, assumptions, match):
    with pytest.raises(Rejected, match=match):
        with_sympy(steps, assumptions)
    with pytest.raises(verifier.Rejected, match=match):
        alone(steps, assumptions)


ROOT = sympy.sqrt(x)
COMPLEX = sympy.Symbol("w")


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (Inequality("s", x, (Term(1, Square(ROOT)),)), "is no rational function"),
        (Inequality("s", MINUS_ONE, (Term(1, Square(sympy.I)),)), "has no value"),
        (Inequality("s", -(x**2), (Term(1, Square(sympy.I * x)),)), "has no value"),
        (Inequality("s", COMPLEX**2, (Term(1, Square(COMPLEX)),)), "w is not declared real"),
        (Inequality("s", u**2, (Term(1, Square(u)),)), "the vector u stands where a number is needed"),
        (Inequality("s", x**2, (Term(1, Square(1.0 * x)),)), "floating-point"),
        (Inequality("s", x + sympy.Symbol("x", positive=True), (Term(1, Square(x)),)), "two different symbols of the name x"),
        (Inequality("s", sympy.zoo * x, (Term(1, Square(x)),)), "has no value"),
        (Identity("s", (a - 1) / (sympy.sqrt(a) - 1), sympy.sqrt(a) + 1), POLE),
    ],
)
def test_what_only_sympy_reads_is_refused_by_it(step, match):
    with pytest.raises(Rejected, match=match):
        with_sympy((step,), {})


def test_two_symbols_of_one_name_are_not_written():
    with pytest.raises(Rejected, match="two different symbols of the name x"):
        document("t", {"fact": sympy.Symbol("x", positive=True)}, [Inequality("s", x**2, (Term(1, Square(x)),))])


def test_what_is_declared_not_to_be_0_may_be_divided_by():
    steps = (
        Identity("product", (1 - a**4) / (1 - a), (1 + a) * (1 + a**2)),
        Inequality("square", 1 / (1 - a) ** 2, (Term(1, Square(1 / (1 - a))),)),
        Inequality("elsewhere", 1 / (1 - a), (Term(1 + 1 / p),), {a: 1 / (1 + p)}),
        Identity("through a region", (b - 1) / (b - 1) ** 2, 1 / (b - 1), {b: a}),
    )  # fmt: skip
    nonzero = {"a is not 1": 1 - a, "b is not 1": b - 1}
    with_sympy(steps, {}, nonzero)
    assert alone(steps, {}, nonzero) == len(steps)
    for left_out in nonzero:
        less = {name: expression for name, expression in nonzero.items() if name != left_out}
        with pytest.raises(Rejected, match=POLE):
            with_sympy(
                steps[:1] if left_out == "a is not 1" else (Identity("b", 1 / (b - 1) / a, 1 / (a * (b - 1))),), {}, less
            )
    with pytest.raises(Rejected, match="which is declared not to be 0"):
        with_sympy((Identity("s", x, x + 0, {a: sympy.Integer(1)}),), {}, nonzero)
    with pytest.raises(verifier.Rejected, match="which is declared not to be 0"):
        alone((Identity("s", x, x + 0, {a: sympy.Integer(1)}),), {}, nonzero)


def test_a_sum_over_rounds_telescopes():
    """What descends by a x^2 a round has a mean a x^2 of at most (first - last) / T."""
    d = vectors("d")[0]
    step = Inequality("round", now + norm2(d) - after - norm2(u) - a * x**2 - 2, (Term(1, "falls"),))
    total = Sum(
        "rounds", "round", T, (T, a), {now: after, d: u},
        telescopes=((sympy.Integer(1), now + norm2(d), first, last),), means=((-a, x**2, mean),), rest=sympy.Integer(-2),
    )  # fmt: skip
    solved = Inequality("solved", (first - last) / (a * T) - 2 / a - mean, (Term(1 / (a * T), "rounds"),))
    steps, assumptions = (step, total, solved), {"falls": step.gap}
    with_sympy(steps, assumptions)
    assert alone(steps, assumptions) == 3
    wrong = Inequality("solved", (first - last) / (2 * a * T) - 2 / a - mean, (Term(1 / (a * T), "rounds"),))
    with pytest.raises(Rejected):
        with_sympy((step, total, wrong), assumptions)
    with pytest.raises(verifier.Rejected):
        alone((step, total, wrong), assumptions)


def test_a_contraction_repeats():
    d, z = vectors("d z")
    step = Inequality("step", a**2 * norm2(d) - norm2(z), (Term(1, "contracts"),), {a: 1 / (1 + b)})
    R, R_K = sympy.symbols("R R_K", nonnegative=True)
    total = Repeat("steps", "step", T, (T, a, b), {d: z}, a**2, norm2(d), power, R, R_K, region={a: 1 / (1 + b)})
    with_sympy((step, total), {"contracts": step.gap})
    assert alone((step, total), {"contracts": step.gap}) == 2
    assert total.gap == power * R - R_K
