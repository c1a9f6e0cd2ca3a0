"""The algorithm line by line: against its formulas, as every path's measure, and compiled."""

import math

import lamb_reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lamb_cases import EVERY_DIALECT, EVERY_PATH, FEWER, advance, assert_close, parameters, runs
from torch import nn
from torch._dynamo.utils import counters

from scala.lamb import DIALECTS, Lamb, lamb_step, parameter_groups

pytestmark = pytest.mark.usefixtures("no_layer_is_small")

MATRICES = st.lists(st.integers(1, 4), min_size=2, max_size=3)


def by_the_algorithm(start, gradients, dialect, **options):
    """All layers by `lamb_step`; the gradients are clipped already."""
    layers = [torch.tensor(np.asarray(x)) for x in start]
    for i, x in enumerate(layers):
        m, t = torch.zeros_like(x), torch.tensor(0.0)
        v = torch.zeros_like(x) if dialect.second_moment else None
        for step in gradients:
            lamb_step(x, torch.tensor(np.asarray(step[i])), m, v, t, dialect=dialect, **options)
    return layers


def clipped(gradients, bound):
    totals = [math.sqrt(sum(float((g**2).sum()) for g in step)) for step in gradients]
    return [[g / max(1.0, total / bound) for g in step] for step, total in zip(gradients, totals, strict=True)]


@EVERY_DIALECT
@FEWER
@given(run=runs())
def test_the_algorithm_equals_its_formulas(dialect, run):
    start, gradients, options = run
    found = by_the_algorithm(start, clipped(gradients, DIALECTS[dialect].max_grad_norm), DIALECTS[dialect], **options)
    assert_close(found, getattr(lamb_reference, dialect)(start, gradients, **options))


@given(run=runs(MATRICES))
def test_of_matrices_too(run):
    start, gradients, options = run
    found = by_the_algorithm(start, gradients, DIALECTS["orthogonal"], **options)
    assert_close(found, lamb_reference.orthogonal(start, gradients, **options), 1e-9)


@pytest.mark.parametrize("dialect", DIALECTS)
@EVERY_PATH
@FEWER
@given(run=runs(MATRICES), adapt=st.booleans(), per_row=st.booleans())
def test_every_path_equals_the_algorithm(dialect, foreach, run, adapt, per_row):
    start, gradients, options = run
    options |= {"adapt": adapt, "per_row": per_row and not DIALECTS[dialect].orthogonal}
    params = parameters(start)
    advance(Lamb(params, dialect=dialect, foreach=foreach, **options), params, gradients)
    expected = by_the_algorithm(start, clipped(gradients, DIALECTS[dialect].max_grad_norm), DIALECTS[dialect], **options)
    assert_close(params, expected, 1e-9 if DIALECTS[dialect].orthogonal else 1e-11)


@pytest.mark.parametrize(
    ("dialect", "maximize"), [("orthogonal", False), ("nvlamb", True), ("paper", False), ("normalized", False)]
)
def test_a_compiled_step_is_compiled_once_and_equals_the_plain_one(dialect, maximize):
    def trained(compiled):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2))
        model.append(nn.Linear(2, 3, dtype=torch.bfloat16))
        optimizer = Lamb(parameter_groups(model, dialect=dialect), lr=0.01, maximize=maximize)
        step = torch.compile(optimizer.step, backend="eager", fullgraph=True) if compiled else optimizer.step
        for t in range(7):
            for p in model.parameters():
                p.grad = torch.randn(p.shape).to(p.dtype)
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (1 + t)  # as a schedule does
            step()
            graphs.append(counters["stats"]["unique_graphs"])
        return model, optimizer

    torch._dynamo.reset()
    counters.clear()
    graphs: list[int] = []
    (fast, one), (plain, other) = trained(True), trained(False)
    assert graphs[0] == 1
    assert graphs[2] == graphs[6] <= 2  # the first change of the learning rate makes it an input of the graph
    for p, q in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5 if p.dtype == torch.float32 else 1e-2, atol=1e-6)
        assert one.state[p].keys() == other.state[q].keys()
        assert one.state[p]["step"] == other.state[q]["step"] == 7
    ratios = one.trust_ratios()
    torch.testing.assert_close(ratios, other.trust_ratios(), rtol=1e-4, atol=0)
    kept = {key: ratio.clone() for key, ratio in ratios.items()}
    one.step()
    torch.testing.assert_close(ratios, kept, rtol=0, atol=0)
