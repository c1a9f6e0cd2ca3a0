"""What counts as obeying a bound."""

import math

import pytest

from convergence.measurement import Curve, summarise


@pytest.mark.parametrize(("measured", "violations"), [(0.5, 0), (1.0, 0), (1.1, 1), (math.inf, 1), (math.nan, 1)])
def test_only_what_lies_below_obeys(measured, violations):
    curve = Curve("c", [1.0], [[measured, 0.5]], [[1.0, 1.0]])
    assert summarise(curve).violations == violations


def test_a_bound_from_below():
    report = summarise(Curve("c", [1.0], [[0.9, 2.0]], [[1.0, 1.0]], lower=True))
    assert report.violations == 1
    assert report.tightness == (0.9, 1.45, 2.0)
