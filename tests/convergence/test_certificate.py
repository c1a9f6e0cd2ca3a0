"""Certificates: what is true is accepted twice, what is not is rejected twice."""

import ast
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from convergence import verifier
from convergence.certificate import (
    Dot,
    Identity,
    Inequality,
    Norm2,
    Rejected,
    Square,
    Term,
    expand_dots,
    norm2,
    vectors,
    verify,
)  # fmt: skip
from convergence.document import document

a, b = sympy.symbols("a b", positive=True)
x, y = sympy.symbols("x y", real=True)
u, v = vectors("u v")

YOUNG = Inequality("young", norm2(u) * a + norm2(v) / a - 2 * Dot(u, v), (Term(1 / a, Norm2(a * u - v)),))
GROWN = Inequality("grown", a * x**2 - b * x**2, (Term(a - b, Square(x)),), region={a: b + sympy.Symbol("c", positive=True)})
CHAINED = Inequality("chained", 3 * YOUNG.gap + x**2, (Term(3, "young"), Term(1, Square(x))))
ASSUMED = Inequality("assumed", a * x, (Term(a, "x is not negative"),))
BINOMIAL = Identity("binomial", (x + y) ** 2, x**2 + 2 * x * y + y**2)
ASSUMPTIONS = {"x is not negative": x}


def with_sympy(*steps):
    verify(ASSUMPTIONS, {}, steps)


def alone(*steps):
    return verifier.verify(verifier.loads(json.dumps(document("t", ASSUMPTIONS, steps))))


def test_true_steps_are_accepted():
    steps = (YOUNG, GROWN, CHAINED, ASSUMED, BINOMIAL)
    with_sympy(*steps)
    assert alone(*steps) == len(steps)


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ((Inequality("s", norm2(u) * a, (Term(a + 1, Norm2(u)),)),), "s"),
        ((Inequality("s", -(x**2), (Term(-1, Square(x)),)),), "not evidently non-negative"),
        ((Inequality("s", x, (Term(x),)),), "s: "),
        ((Inequality("s", (a - b) * x**2, (Term(a - b, Square(x)),)),), "not evidently non-negative"),
        ((Inequality("s", x**2 / (a - b), (Term(1 / (a - b), Square(x)),)),), "s: "),
        ((CHAINED, YOUNG), "'young'"),
        ((Inequality("s", x, (Term(1, "hope"),)),), "'hope'"),
        ((GROWN, Inequality("s", GROWN.gap, (Term(1, "grown"),))), "'grown'"),
        ((Identity("s", (x + y) ** 2, x**2 + y**2),), "s: "),
    ],
)
def test_false_steps_are_rejected_by_both(steps, match):
    with pytest.raises(verifier.Rejected, match=match):
        alone(*steps)
    with pytest.raises(Rejected, match=match):
        with_sympy(*steps)


def test_two_steps_of_one_name_are_rejected():
    with pytest.raises(verifier.Rejected, match="two facts"):
        verifier.verify(document("t", {}, [YOUNG, YOUNG]))


def test_dots_expand_bilinearly_and_symmetrically():
    by_hand = norm2(u) + (a - 1) * Dot(v, u) - a * norm2(v)
    assert sympy.expand(expand_dots(Dot(u + a * v, u - v)) - expand_dots(by_hand)) == 0
    with pytest.raises(ValueError, match="linear combination"):
        expand_dots(Dot(u * v, u))


def test_a_square_root_is_left_to_sympy():
    root = Identity("root", sympy.sqrt(a) ** 2, a)
    true = Identity("true", (sympy.sqrt(a) + 1) * (sympy.sqrt(a) - 1), a - 1)
    with_sympy(true)
    assert root.is_rational
    assert not true.is_rational
    assert document("t", {}, [true])["steps"] == []
    with pytest.raises(Rejected):
        with_sympy(Identity("false", sympy.sqrt(a**2 + b**2), a + b))


SCALARS = verifier.Symbols(frozenset({"u"}), frozenset({"p", "q"}), verifier.Signs(positive=frozenset({"p", "q"})))


@st.composite
def expressions(draw, depth=3):
    """Text of a rational expression in p and q, and its value at p = 2/3, q = 5."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([("p", Fraction(2, 3)), ("q", Fraction(5)), ("2", Fraction(2)), ("1/3", Fraction(1, 3))]))
    (left, m), (right, n) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    operator = draw(st.sampled_from("+-*/^"))
    if operator == "^":
        return f"({left})**2", m**2
    if operator == "/":
        return (f"({left})/({right})", m / n) if n else (left, m)
    return f"({left}){operator}({right})", {"+": m + n, "-": m - n, "*": m * n}[operator]


@given(expressions())
def test_the_verifier_computes_as_fractions_do(expression):
    text, value = expression
    reader = verifier.Reader(SCALARS, {"p": "2/3", "q": "5"})
    ratio = reader.scalar(text)
    bottom = verifier.expanded(verifier.constant(1), ratio.bottom)
    assert ratio.top.get((), 0) / bottom[()] == value


@given(expressions(), expressions())
def test_the_verifier_knows_when_rational_functions_are_equal(first, second):
    left, right = sympy.sympify(first[0]), sympy.sympify(second[0])
    if sympy.zoo in (left, right) or sympy.nan in (left, right):
        return
    reader = verifier.Reader(SCALARS)
    try:
        residue = reader.scalar(first[0]) + -reader.scalar(second[0])
    except verifier.Rejected:
        return
    assert (not residue.top) == (sympy.simplify(left - right) == 0)


@pytest.mark.parametrize(
    "text", ["__import__('os')", "p.real", "p[0]", "lambda: 1", "1.5", "p**q", "p**0.5", "True", "u", "'p'", "p +"]
)
def test_the_verifier_reads_arithmetic_only(text):
    with pytest.raises(verifier.Rejected):
        verifier.Reader(SCALARS).scalar(text)


def test_the_verifier_stands_alone(tmp_path):
    source = Path(verifier.__file__).read_text(encoding="utf-8")
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)
    }  # fmt: skip
    assert imported <= sys.stdlib_module_names
    good, bad, broken = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "broken.json"
    good.write_text(json.dumps(document("t", {}, [YOUNG])))
    bad.write_text(good.read_text().replace("1/a", "2/a"))
    broken.write_text("{")

    def run(*paths):
        return subprocess.run([sys.executable, "-I", verifier.__file__, *paths], capture_output=True, text=True, check=False)

    assert run(good).returncode == 0
    done = run(good, bad, broken, tmp_path / "missing.json")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["accepted", "REJECTED", "REJECTED", "REJECTED"]
    assert "young" in done.stdout
    assert run().returncode == 2
