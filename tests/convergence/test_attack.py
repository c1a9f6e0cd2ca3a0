"""The attack itself: it spares a true bound, breaks a false one, and shrinks what it finds."""

import math
from dataclasses import replace

import pytest
import sympy
import torch

from convergence.attack import Attack, Range, run
from convergence.bound import Bound
from convergence.effort import FAST

x, y, C = sympy.symbols("x y C", positive=True)
PRODUCT = Bound("product", "2xy", C * (x**2 + y**2), {C: sympy.Integer(1)})


def play(x, y):
    return 2 * x * y, {"x": x, "y": y}


ATTACK = Attack("product", PRODUCT, play, {"x": Range(1, 4), "y": Range(1, 4)})


def test_a_true_bound_stands_and_falls_below_its_constant():
    report = run(ATTACK, FAST)
    assert report.passed
    assert report.broken is None
    assert report.worst.ratio == pytest.approx(1, abs=1e-6)
    assert report.fallen.parameters == {"x": 1.0, "y": 1.0}, "shrunk to the simplest"
    assert report.instances >= FAST.instances


def test_one_constant_can_be_attacked_alone():
    assert run(replace(ATTACK, constant="C"), FAST).passed


def test_a_false_bound_is_broken():
    false = Bound("product", "2xy", sympy.Rational(9, 10) * (x**2 + y**2))
    report = run(replace(ATTACK, bound=false), FAST)
    assert not report.passed
    assert report.broken.parameters == {"x": 1.0, "y": 1.0}


def test_a_loose_bound_is_not_called_sharp():
    report = run(replace(ATTACK, bound=Bound("product", "2xy", 2 * (x**2 + y**2))), FAST)
    assert report.broken is None
    assert report.fallen is None
    assert not report.passed


def test_a_bound_from_below():
    lower = Bound("sum", "x+y", 2 * sympy.sqrt(x * y), lower=True)
    attack = Attack("sum", lower, lambda x, y: (x + y, {"x": x, "y": y}), ATTACK.parameters)
    assert run(attack, FAST).passed
    false = Bound("sum", "x+y", sympy.Rational(11, 10) * 2 * sympy.sqrt(x * y), lower=True)
    assert run(replace(attack, bound=false), FAST).broken is not None


def test_instances_outside_the_assumptions_do_not_count():
    def outside(x, y):
        measured, values = play(x, y)
        return torch.where(x > 2, 100.0, measured).where(x <= 2, torch.nan), values

    assert run(replace(ATTACK, play=outside), FAST).passed


def test_the_sharp_instance_finds_what_chance_and_search_do_not():
    needle = Attack(
        "needle", Bound("needle", "f", sympy.Integer(1) + 0 * x), lambda x: (torch.where(x == 2.71828, 1.0, 0.0), {}),
        {"x": Range(0, 1000)}, sharp={"x": 2.71828},
    )  # fmt: skip
    report = run(needle, FAST)
    assert report.worst.by == "the sharp instance"
    assert report.fallen is not None


def test_lists_and_logarithmic_ranges():
    attack = Attack(
        "vector", Bound("norm", "|v|_1", sympy.sqrt(3) * x), lambda v, s: (v.abs().sum(-1) * s, {"x": v.norm(dim=-1) * s}),
        {"v": Range(-1, 1, size=3), "s": Range(0.01, 100, log=True)},
    )  # fmt: skip
    report = run(attack, FAST)
    assert report.passed
    assert math.isclose(report.worst.ratio, 1, rel_tol=1e-3)


def test_a_bound_wants_every_symbol():
    with pytest.raises(ValueError, match=r"needs values for \['C', 'x', 'y'\]"):
        PRODUCT(x=1.0)
    with pytest.raises(ValueError, match="needs values"):
        PRODUCT(x=1.0, y=1.0, z=1.0)
