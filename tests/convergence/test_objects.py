"""Theorem objects that would not mean what they say are refused when they are made."""

from dataclasses import replace

import pytest
import sympy

from convergence.certificate import Argument, Dot, Inequality, Rejected, Square, Term, norm2, vectors
from convergence.theorem import Assumption, Theorem
from convergence.theorems import all_theorems, check_references

x = sympy.Symbol("x", real=True)
a = sympy.Symbol("a", positive=True)
u, v, w = vectors("u v w")
STEP = Inequality("step", x**2, (Term(1, Square(x)),))


def theorem(*assumptions, proof=(STEP,), name="t"):
    return Theorem(name, "T", "about", "source", {}, assumptions, proof)


def chosen(name, expression):
    return Assumption(name, "by choice", expression, definition=True)


def test_unit_vectors_and_directions_are_definitions():
    theorem(
        chosen("v is a unit", norm2(v) - 1),
        chosen("v at most a unit", 1 - norm2(v)),
        chosen("u in a ball", a**2 - norm2(u)),
        chosen("u is the direction of w", Dot(w - v, u)),
    )


@pytest.mark.parametrize(
    "expressions",
    [
        (x,),
        (a - x,),
        (1 - x**2,),
        (None,),
        (norm2(v),),
        (norm2(v) - 1,),
        (x - norm2(v),),
        (-1 - norm2(v),),
        (1 - norm2(u + v),),
        (1 - norm2(v), norm2(v) - 2),
        (a - norm2(v), norm2(v) - 1),
        (1 - norm2(v), Dot(u, v) - 1),
        (1 - norm2(v), Dot(u, v) + Dot(u, w)),
        (1 - norm2(v), Dot(u, v), Dot(w, v)),
        (Dot(u, v),),
        (1 - norm2(v), 2 - norm2(v)),
    ],
)
def test_what_is_no_definition_is_not_called_one(expressions):
    with pytest.raises(ValueError, match=r"is no definition|is not free to be chosen"):
        theorem(*(chosen(f"choice {i}", expression) for i, expression in enumerate(expressions)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((Assumption("one", "", x), Assumption("one", "", a)), "two assumptions or steps are called 'one'"),
        ((Assumption("step", "", x),), "two assumptions or steps are called 'step'"),
        ((Assumption("one", "", 1 - norm2(v), "other", definition=True),), "'one' is one of a definition, proved elsewhere"),
        ((Assumption("one", "", x, nonzero=a - 1),), "'one' is one of a thing that is >= 0 and a thing that is not 0"),
        ((Assumption("one", "", nonzero=a - 1, proved_by="other"),), "'one' is one of a definition, proved elsewhere"),
    ],
)
def test_assumptions_that_contradict_themselves(parts, message):
    with pytest.raises(ValueError, match=message):
        theorem(*parts)


def test_an_argument_that_overrides_an_assumption():
    with pytest.raises(ValueError, match="two assumptions or steps are called 'fact'"):
        theorem(Assumption("fact", "", x), proof=(Argument("fact", "", -x), STEP))


def test_an_argument_that_is_used_before_it_stands():
    early = theorem(proof=(Inequality("step", x, (Term(1, "fact"),)), Argument("fact", "", x)))
    with pytest.raises(Rejected, match="no assumption or earlier step is called 'fact'"):
        early.verify()
    theorem(proof=(Argument("fact", "", x), Inequality("step", x, (Term(1, "fact"),)))).verify()


def test_what_is_proved_by_no_theorem_or_by_itself():
    def resting(name, other):
        return theorem(Assumption("one", "", x, proved_by=other), name=name)

    check_references([resting("t", "other"), theorem(name="other")])
    with pytest.raises(ValueError, match="t: an assumption is proved by 'fermat', and no theorem is called so"):
        check_references([resting("t", "fermat")])
    with pytest.raises(ValueError, match="in a circle"):
        check_references([resting("t", "t")])
    with pytest.raises(ValueError, match="in a circle"):
        check_references([resting("one", "two"), resting("two", "one")])


def test_the_theorems_that_are_there_rest_on_something():
    theorems = all_theorems()
    check_references(theorems)
    with pytest.raises(ValueError, match="no theorem is called so"):
        check_references([replace(t, name="gone") if t.name == "danskin" else t for t in theorems])


def test_what_is_declared_not_to_be_0_is_in_the_document():
    t = theorem(
        Assumption("a is not 1", "", nonzero=a - 1), proof=(Inequality("s", 1 / (a - 1) ** 2, (Term(1, Square(1 / (a - 1))),)),)
    )
    t.verify()
    assert t.document()["nonzero"] == {"a is not 1": "a - 1"}
