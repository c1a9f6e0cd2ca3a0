import copy
import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from itertools import product

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from convergence import pep, verifier
from convergence.certificate import Dot, Inequality, norm2, vectors
from convergence.document import document
from convergence.effort import FAST
from convergence.pep.__main__ import main
from convergence.pep.duals import CHOICES, RELAXED, as_document, certificate
from convergence.pep.gradient_descent import worst_descent, worst_fall, worst_slope
from convergence.pep.squares import sum_of_squares

FRACTIONS = st.fractions(-3, 3, max_denominator=12)


def _single(step, record):
    return {**record, "steps": [step]}


def _claim(parameters, rate):
    """What a stored step must say, from its parameters alone."""
    d, g, t = vectors("d g t")
    mu, l, rho = (sympy.Rational(parameters[k]) for k in ("mu", "l", "rho"))  # noqa: E741
    p = d - rho * g - rho * t
    name = ", ".join(f"{k} = {parameters[k]}" for k in ("mu", "l", "rho"))
    assumed = {f"co-coercivity: {name}": Dot(g - mu * d, l * d - g), f"normal cone: {name}": Dot(t, p)}
    return document("", assumed, [Inequality(name, sympy.Rational(rate) * norm2(d) - norm2(p), ())])


def test_thirty_stored_certificates_prove_what_their_parameters_say():
    record = pep.stored()
    assert verifier.verify(record) == len(CHOICES) == len(record["choices"]) == 30
    for choice, one, step in zip(CHOICES, record["choices"], record["steps"], strict=True):
        assert one["parameters"] == {k: str(v) for k, v in choice.items()}
        rate, closed = Fraction(one["rate"]), Fraction(one["closed"])
        assert closed == max(abs(1 - choice["rho"] * choice["mu"]), abs(1 - choice["rho"] * choice["l"])) ** 2
        assert closed < rate < closed * (1 + 2 * Fraction(RELAXED))
        claim = _claim(one["parameters"], rate)
        assert step["gap"] == claim["steps"][0]["gap"]
        assert {k: record["assumptions"][k] for k in claim["assumptions"]} == claim["assumptions"]
        assert one["duals"] == pytest.approx(one["closed_duals"], rel=0.01)


def test_the_verifier_needs_no_package():
    files = [str(pep.STORED / f"{name}.json") for name in ("projected_ascent", "gradient_descent")]
    done = subprocess.run([sys.executable, "-I", "-S", verifier.__file__, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("accepted") == 2


@pytest.mark.parametrize("k", range(30))
def test_tampered_certificates_are_rejected(k):
    record = pep.stored()
    record["steps"] = record["steps"][k : k + 1]
    step = record["steps"][0]
    assert verifier.verify(record) == 1
    mutants = []
    for i, term in enumerate(step["terms"]):
        changed = copy.deepcopy(record)
        changed["steps"][0]["terms"][i]["multiplier"] = f"{term['multiplier']}*1001/1000"
        missing = copy.deepcopy(record)
        del missing["steps"][0]["terms"][i]
        mutants += [changed, missing]
    lower = copy.deepcopy(record)  # a rate that is 1/100000 less
    lower["steps"][0]["gap"] = f"{step['gap']} - Dot(d, d)/100000"
    mutants.append(lower)
    name = next(name for name in record["assumptions"] if name == f"co-coercivity: {step['name']}")
    stronger = copy.deepcopy(record)
    stronger["assumptions"][name] = f"{record['assumptions'][name]} - 1/1000*Dot(d, d)"
    mutants.append(stronger)
    for mutant in mutants:
        assert mutant != record
        with pytest.raises(verifier.Rejected):
            verifier.verify(mutant)


def test_a_false_bound_is_refused_and_the_truth_is_accepted():
    false = pep.stored("false_bound")
    record = false["record"]
    gradient, decrease = worst_descent(record["N"])
    assert gradient > Fraction(record["tau"]) * decrease  # the instance breaks the solver's bound, in exact arithmetic
    assert gradient == Fraction(record["true"]) * decrease  # and attains the truth
    assert record["primal"] < float(Fraction(record["true"])) * (1 - 1e-6)
    with pytest.raises(verifier.Rejected, match="not evidently non-negative"):
        verifier.verify(false)
    true = pep.stored("gradient_descent")
    assert verifier.verify(true) == 1
    assert Fraction(record["true"]) == Fraction(4, 3 * record["N"])
    assert true["steps"][0]["gap"] == "4*f0/15 - 4*f5/15 - m"
    # Both speak of the same descent.
    assert true["assumptions"].items() <= false["assumptions"].items()
    assert record["proved"]["accepted"]
    assert not record["refused"]["accepted"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.lists(st.fractions(-3, 3, max_denominator=50), min_size=3, max_size=3, unique=True))
def test_the_worst_function_is_smooth_and_attains_the_rate(n, points):
    gradient, decrease = worst_descent(n)
    assert gradient == Fraction(4, 3 * n) * decrease
    a, b, c = sorted(points)
    slope, fall = worst_slope, worst_fall
    assert abs(slope(a) - slope(b)) <= b - a
    assert fall(a, b) + fall(b, c) == fall(a, c)
    # The descent lemma in both directions: |f(b) - f(a) - f'(a)(b - a)| <= (b - a)^2/2.
    assert abs(fall(a, b) - slope(a) * (b - a)) <= (b - a) ** 2 / 2


@settings(max_examples=40, deadline=None)
@given(st.lists(FRACTIONS, min_size=6, max_size=6), st.lists(FRACTIONS, min_size=3, max_size=3), st.booleans())
def test_sum_of_squares_is_exact(entries, x, positive):
    a, b, c, d, e, f = entries
    S = [[a, b, c], [b, d, e], [c, e, f]]
    if positive:
        S = [[sum(S[i][k] * S[j][k] for k in range(3)) for j in range(3)] for i in range(3)]
    parts = sum_of_squares(S)
    for i, j in product(range(3), repeat=2):
        assert sum(m * v[i] * v[j] for m, v in parts) == S[i][j]
    value = sum(S[i][j] * x[i] * x[j] for i, j in product(range(3), repeat=2))
    assert not positive or all(m >= 0 for m, _ in parts)
    assert value >= 0 or any(m < 0 for m, _ in parts)


def test_sum_of_squares_with_no_diagonal():
    S = [[Fraction(3 * (i != j)) for j in range(4)] for i in range(4)]
    parts = sum_of_squares(S)
    assert all(sum(m * v[i] * v[j] for m, v in parts) == S[i][j] for i, j in product(range(4), repeat=2))
    assert min(m for m, _ in parts) < 0


@pytest.mark.parametrize("statement", pep.STATEMENTS, ids=lambda s: s.name)
def test_our_bounds_are_proved_at_the_numbers_that_are_compared(statement):
    for choice in statement.choices[:: max(1, len(statement.choices) // 3)]:
        proof = statement.document(choice)
        assert verifier.verify(proof) == 1
        weaker = copy.deepcopy(proof)
        weaker["steps"][0]["terms"].pop()
        with pytest.raises(verifier.Rejected):
            verifier.verify(weaker)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'scala-adapt\[pep\]'"):
        pep.cross_check(FAST)
    assert main([]) == 1
    assert "30 accepted" in capsys.readouterr().out


def test_pepit_agrees_and_can_disagree():
    pytest.importorskip("PEPit")
    rows = pep.cross_check(FAST)
    assert {row["statement"] for row in rows} == {s.name for s in pep.STATEMENTS}
    assert all(row["agrees"] for row in rows), [row for row in rows if not row["agrees"]]
    wrong = tuple(
        dataclasses.replace(s, bound=dataclasses.replace(s.bound, expression=0.99 * s.bound.expression), choices=s.choices[:1])
        for s in pep.STATEMENTS
        if s.tight
    )
    assert not any(row["agrees"] for row in pep.cross_check(FAST, statements=wrong))


def test_a_certificate_can_be_made_anew():
    pytest.importorskip("PEPit")
    choice = CHOICES[7]
    made, kept = certificate(**choice), pep.stored()["choices"][7]
    assert made["parameters"] == kept["parameters"]
    assert made["pepit"] == pytest.approx(kept["pepit"], rel=1e-5)
    assert verifier.verify(as_document([made])) == 1


def test_a_false_bound_can_be_found_anew():
    pytest.importorskip("PEPit")
    record = pep.false_bound()
    json.dumps(record, allow_nan=False)
    assert record.keys() == pep.stored("false_bound")["record"].keys()
    assert Fraction(record["tau"]) < Fraction(record["true"])
    assert record["instance"]["violation"] > 0
    assert not record["refused"]["accepted"]
    assert record["refused"]["reason"].endswith("is not evidently non-negative")


def test_without_a_false_bound_the_stored_one_is_shown_and_says_so():
    pytest.importorskip("PEPit")
    record = pep.false_bound(steps=())
    assert record == pep.stored("false_bound")["record"] | {"stored": True}


def test_a_solver_without_an_answer_does_not_agree(monkeypatch):
    P = pytest.importorskip("PEPit")
    solve = P.PEP.solve

    def unbounded(self, **settings):
        solve(self, **settings)
        return float("inf")

    monkeypatch.setattr(P.PEP, "solve", unbounded)
    (row,) = pep.cross_check(statements=[dataclasses.replace(pep.STATEMENTS[0], choices=pep.STATEMENTS[0].choices[:1])])
    json.dumps(row, allow_nan=False)
    assert row["pepit"] is None
    assert not row["agrees"]
