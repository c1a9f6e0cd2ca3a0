"""What is displayed is what was proved: a changed statement is refused, and a draw outside the hypotheses does not count."""

from dataclasses import replace

import pytest
import sympy
import torch

from convergence import page
from convergence.attack import Attack, Range, run
from convergence.bound import Bound
from convergence.certificate import Identity, Inequality, Norm2, Rejected, Repeat, Square, Term, norm2, vectors
from convergence.check import check
from convergence.claim import Equation, Proved
from convergence.effort import FAST
from convergence.faults import MISSTATEMENTS, misstated
from convergence.measurement import Curve, summarise
from convergence.theorem import Assumption, Theorem
from convergence.theorems import all_theorems

THEOREMS = {theorem.name: theorem for theorem in all_theorems()}
EVERY = pytest.mark.parametrize("theorem", THEOREMS.values(), ids=list(THEOREMS))

x, y = sympy.symbols("x y", positive=True)
M, s = sympy.symbols("M s", real=True)
u, v = vectors("u v")


@EVERY
def test_every_statement_is_given_by_its_proof(theorem):
    for bound in theorem.bounds:
        assert theorem.statement(bound)


@EVERY
def test_changed_statements_are_refused(theorem):
    for what, bound in misstated(theorem):
        with pytest.raises(Rejected, match="statement"):
            theorem.statement(bound)
            pytest.fail(what)


@EVERY
def test_equations_are_given_by_the_proof_and_changed_ones_are_refused(theorem):
    for i, fact in enumerate(theorem.facts):
        assert theorem.equation(fact)
        for other in (fact.right * sympy.Rational(7, 10), fact.right**2):
            facts = list(theorem.facts)
            facts[i] = replace(fact, right=other)
            changed = replace(theorem, facts=tuple(facts))
            with pytest.raises(Rejected, match="statement"):
                [changed.equation(one) for one in changed.facts]


def test_an_equation_needs_a_proof_or_defines_a_letter_that_is_used():
    sides = Identity("sides", x * (x + y), x**2 + x * y)
    proved = Equation(x * (x + y), x**2 + x * y, "sides")
    z = sympy.Symbol("z", positive=True)
    for facts, message in (
        ((Equation(x, y),), "has no proof, and defines no letter"),
        ((proved, Equation(z, x + y)), "has no proof, and defines no letter"),
        ((Equation(x + y, z),), "has no proof, and defines no letter"),
        ((Equation(x, y, "hope"),), "which is no certificate"),
        ((Equation(x * (x + y), x**2, "sides"),), "is not what 'sides' gives"),
    ):
        one = Theorem("t", "T", "about", "source", {}, (), (sides,), facts=facts)
        with pytest.raises(Rejected, match=message):
            [one.equation(fact) for fact in facts]
    one = Theorem(
        "t", "T", "about", "source", {}, (), (sides,), facts=(Equation(x * z, x**2 + x * y, "sides"), Equation(z, x + y))
    )
    assert ":=" in one.equation(one.facts[1])
    assert one.equation(one.facts[0])


def test_the_planted_statements_are_many_and_of_every_theorem():
    assert len(MISSTATEMENTS) >= 26
    assert {one.theorem for one in MISSTATEMENTS} == set(THEOREMS)


def test_a_statement_that_is_not_proved_fails_the_check_and_is_not_shown():
    theorem = THEOREMS["scala-rate"]
    rate = theorem.bounds[0]
    false = replace(rate, constants={**rate.constants, next(iter(rate.constants)): sympy.Rational(7, 10)})
    wrong = replace(theorem, bounds=(false,), attacks=(), measurements=())
    (failure,) = check(wrong, FAST)["failures"]
    assert "the statement 'rate': 'solve for the mean' gives another" in failure
    shown = str(page._statement_of(wrong, false))
    assert "not shown: scala-rate, the statement" in shown
    assert "<math" not in shown


def theorem(proof, *bounds, assumptions=()):
    return Theorem("t", "T", "about", "source", {}, assumptions, proof, bounds)


MEAN = Inequality("mean", 2 * x + y - M, (Term(1, "fact"),))
LENGTH = Inequality("length", 4 * x**2 * norm2(u) - norm2(v), (Term(1, "fact"),))


def said(expression, *proofs, step=MEAN, lower=False):
    bound = Bound("b", "m", sympy.sympify(expression), lower=lower, proofs=proofs)
    return theorem((step,), bound).statement(bound)


def test_a_statement_in_other_letters_and_powers():
    assert said(2 * x + y, Proved("mean", M))
    assert said(2 * sympy.sqrt(x) + 3, Proved("mean", M, {x: sympy.sqrt(x), y: sympy.Integer(3)}))
    assert said(2 * x, Proved("length", norm2(v) / norm2(u), power=2, factor=norm2(u)), step=LENGTH)
    assert said(x + y, Proved("mean", M, stands={x: 2 * x}))


@pytest.mark.parametrize(
    ("expression", "proofs", "message"),
    [
        (2 * x + y, (), "no certificate is named"),
        (2 * x + y, (Proved("hope", M),), "'hope', which is no certificate"),
        (2 * x, (Proved("mean", M),), "gives another"),
        (2 * x + y, (Proved("mean", 2 * M),), "gives another"),
        (2 * x + y, (Proved("mean", M, power=2),), "gives another"),
        (2 * x + y, (Proved("mean", M, factor=sympy.Integer(-1)),), "is not evidently positive"),
        (2 * x + y, (Proved("mean", M, factor=s),), "is not evidently positive"),
        (sympy.Min(2 * x + y, 3 * y), (Proved("mean", M),), r"no certificate is named for 3\*y"),
        (sympy.Max(2 * x + y, 3 * y), (Proved("mean", M),), r"no certificate is named for 3\*y"),
    ],
)
def test_what_does_not_follow_is_refused(expression, proofs, message):
    with pytest.raises(Rejected, match=message):
        said(expression, *proofs)


def test_a_bound_from_below_is_not_one_from_above():
    with pytest.raises(Rejected, match="gives another"):
        said(2 * x + y, Proved("mean", M), lower=True)


def test_a_letter_keeps_its_sign_under_the_hypotheses():
    step = Inequality("mean", x - M, (Term(1, "fact"),))
    for where, fails in (({}, True), ({"y above 2": y >= 2}, False), ({"y above 1/2": y >= sympy.Rational(1, 2)}, True)):
        bound = Bound("b", "m", y - 1, proofs=(Proved("mean", M, {x: y - 1}),), where=where)
        one = theorem((step,), bound)
        if fails:
            with pytest.raises(Rejected, match="x is not negative in 'mean', and y - 1 may be"):
                one.statement(bound)
        else:
            assert one.statement(bound)


def test_letters_agree_with_the_region():
    step = Inequality("tuned", 2 * x + y - M, (Term(1, "fact"),), {y: 3 * x})
    with pytest.raises(Rejected, match="in the region of 'tuned'"):
        said(2 * x + y, Proved("tuned", M), step=step)
    with pytest.raises(Rejected, match="in the region of 'tuned'"):
        said(4 * x, Proved("tuned", M, {y: 2 * x}), step=step)
    assert said(5 * x, Proved("tuned", M, {y: 3 * x}), step=step)


def test_a_power_means_what_the_repetition_says():
    q, K = sympy.symbols("q K", positive=True)
    P, first, last = sympy.symbols("P first last", nonnegative=True)
    step = Inequality("step", q**2 * norm2(u) - norm2(v), (Term(1, "fact"),))
    steps = Repeat("steps", "step", K, (K, q), {u: v}, q**2, norm2(u), P, first, last)
    for exponent, match in ((K, None), (2 * K, "gives another"), (K - 1, "gives another")):
        bound = Bound("b", "m", q**exponent * x, proofs=(Proved("steps", last, {first: x**2}, power=2),))
        one = theorem((step, steps), bound, assumptions=(Assumption("fact", "", step.gap),))
        one.verify()
        if match is None:
            assert one.statement(bound)
        else:
            with pytest.raises(Rejected, match=match):
                one.statement(bound)


def test_an_identity_gives_a_statement_both_ways():
    step = Identity("product", (x + y) * (x - y), x**2 - y**2)
    for lower in (False, True):
        assert said(x**2 - y**2, Proved("product", (x + y) * (x - y)), step=step, lower=lower)
        with pytest.raises(Rejected, match="gives another"):
            said(x**2 - 2 * y**2, Proved("product", (x + y) * (x - y)), step=step, lower=lower)


def test_hypotheses_stand_beside_the_bound_and_are_rendered():
    for one in THEOREMS.values():
        for row, bound in zip(page._statements(one), one.bounds, strict=True):
            assert row["by"]
            assert row["where"] == list(bound.where)
            assert all(page.rich(words) for words in row["where"])
    assert any("eta" in words for words in THEOREMS["gradient-descent-ascent"].bounds[0].where)
    assert any("b_{" in words for words in THEOREMS["batch-size"].bounds[0].where)


def play(x, y):
    return 2 * x * y, {"x": x, "y": y}


def test_a_draw_that_violates_a_hypothesis_is_no_instance():
    """2xy <= x^2 holds for y <= x/2 only: with the hypothesis nothing is broken, and what is outside is not counted."""
    bound = Bound("b", "2xy", x**2, where={r"$y \le x/2$": y <= x / 2, "in words": None})
    attack = Attack("a", bound, play, {"x": Range(1, 4), "y": Range(1, 4)})
    report = run(attack, FAST)
    assert report.broken is None
    assert report.fallen is not None
    assert 0 < report.instances < report.drawn == FAST.instances
    assert run(replace(attack, bound=replace(bound, where={"nearly always": y > x / 1000})), FAST).broken is not None


def test_a_hypothesis_needs_its_letters():
    bound = Bound("b", "2xy", x**2, where={r"$y \le x/2$": y <= x / 2})
    with pytest.raises(ValueError, match="a hypothesis needs a value for y"):
        bound.holds(x=1.0)
    assert bool(bound.holds(x=2.0, y=1.0))
    assert not bool(bound.holds(x=2.0, y=1.5))
    assert float(bound(x=2.0, y=1.0)) == 4.0, "a letter of a hypothesis may be given"


def test_what_play_calls_no_instance_is_not_counted():
    bound = Bound("b", "2xy", x**2 + y**2)

    def half(x, y):
        return torch.where(x > 2, 2 * x * y, torch.nan), {"x": x, "y": y}

    attack = Attack("a", bound, half, {"x": Range(1, 3), "y": Range(1, 3)})
    report = run(attack, FAST)
    assert abs(report.instances / report.drawn - 0.5) < 0.05


def test_a_slope_that_excludes_its_prediction_is_flagged():
    t = [1.0, 2.0, 4.0, 8.0]
    noisy = torch.tensor([[k**-0.4 * (1 + 0.01 * j) for j in range(5)] for k in t])
    assert summarise(Curve("c", t, noisy, slope=-0.5)).excluded
    assert not summarise(Curve("c", t, noisy, slope=-0.4)).excluded
    assert not summarise(Curve("c", t, noisy)).excluded
    assert not summarise(Curve("c", t, noisy[:, :1], slope=-0.5)).excluded, "one instance has no interval"


def test_squares_are_facts_still():
    step = Inequality("square", x**2 - 2 * x * y + y**2, (Term(1, Square(x - y)),))
    theorem((step, Inequality("norm", norm2(u), (Term(1, Norm2(u)),)))).verify()
