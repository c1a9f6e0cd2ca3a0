"""Every theorem: verified twice, every tampering caught, attacks that stand and fall, measurements within their bounds."""

from pathlib import Path

import pytest

from convergence import verifier
from convergence.certificate import Argument, Identity, Inequality, Known, Rejected, Term
from convergence.check import check
from convergence.effort import FAST
from convergence.faults import FAULTS, tampered
from convergence.theorems import all_theorems

ROOT = Path(__file__).parents[2]
THEOREMS = {theorem.name: theorem for theorem in all_theorems()}
EVERY = pytest.mark.parametrize("theorem", THEOREMS.values(), ids=list(THEOREMS))


@EVERY
def test_checks_pass(theorem):
    report = check(theorem, FAST)
    assert report["failures"] == []
    assert report["instances"] > 0
    assert theorem.certificates, "a theorem without a certificate"


@EVERY
def test_tampered_certificates_are_rejected(theorem):
    count = 0
    for what, document in tampered(theorem):
        count += 1
        with pytest.raises(verifier.Rejected):
            verifier.verify(document)
            pytest.fail(what)
    assert count >= len(theorem.document()["steps"])


@EVERY
def test_sympy_rejects_a_changed_multiplier(theorem):
    inequalities = [step for step in theorem.certificates if isinstance(step, Inequality)]
    given = {step.name: step.gives for step in theorem.proof if isinstance(step, Argument) and step.gives is not None}
    earlier = {step.name: (step.gap, step.region) for step in inequalities}
    facts = {name: (expression, {}) for name, expression in (theorem.assumed | given).items()} | earlier
    for step in inequalities[:2]:
        first, *rest = step.terms
        changed = Inequality(step.name, step.gap, (Term(first.multiplier * 2, *first.facts), *rest), step.region)
        with pytest.raises(Rejected):
            changed.verify(Known(dict(facts), tuple(theorem.nonzero.values())))


@EVERY
def test_no_certificate_is_empty(theorem):
    for step in theorem.certificates:
        if isinstance(step, Identity):
            assert step.left != step.right, f"{step.name} says that a thing equals itself"
        elif isinstance(step, Inequality):
            assert step.terms, step.name
        else:
            assert step.gap != 0, step.name


@EVERY
def test_what_a_reader_needs_is_there(theorem):
    assert theorem.bounds or theorem.facts
    assert theorem.about
    assert theorem.source
    names = [step.name for step in theorem.proof]
    assert len(set(names)) == len(names)
    for measurement in theorem.measurements:
        assert measurement.alt, f"{measurement.name}: a figure needs words for who cannot see it"


def test_every_fault_names_a_theorem_and_a_line_that_is_there():
    for fault in FAULTS:
        assert fault.caught_by in THEOREMS
        source = ROOT.joinpath(*fault.module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        assert source.count(fault.right) == 1, fault.name
