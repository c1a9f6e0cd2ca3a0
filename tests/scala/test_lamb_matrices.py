"""The dialect of matrices, and who takes it."""

import lamb_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lamb_cases import EVERY_PATH, advance, assert_close, parameters, runs
from torch import nn

from scala.lamb import Lamb, parameter_groups

pytestmark = pytest.mark.usefixtures("no_layer_is_small")


MATRICES = st.lists(st.integers(1, 5), min_size=2, max_size=3)


@EVERY_PATH
@given(run=runs(MATRICES))
def test_orthogonal_equals_its_formula(foreach, run):
    start, gradients, options = run
    params = parameters(start)
    advance(Lamb(params, dialect="orthogonal", foreach=foreach, **options), params, gradients)
    assert_close(params, reference.orthogonal(start, gradients, **options), 1e-9)


def test_matrices_of_many_shapes_dtypes_and_stacks_equal_each_alone(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4, 3), (8, 2), (2, 8), (3, 4), (5, 5), (2, 2, 4)]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) for shape in shapes] for _ in range(3)]
    monkeypatch.setattr("scala.lamb.matrices.STACK", 20)

    together = [parameters([x], dtype)[0] for x, dtype in zip(start, dtypes, strict=True)]
    advance(Lamb(together, lr=0.1, dialect="orthogonal"), together, gradients)
    for i, p in enumerate(together):
        [alone] = parameters([start[i]], dtypes[i])
        advance(Lamb([alone], lr=0.1, dialect="orthogonal"), [alone], [[step[i]] for step in gradients])
        torch.testing.assert_close(p, alone)


def test_a_matrix_step_is_large_along_no_direction():
    """A gradient of rank one: Adam's direction is as long along it as the layer's norm allows, the orthogonal one is not."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(64, 256))
    gradient = np.outer(rng.normal(size=64), rng.normal(size=256)) + 1e-2 * rng.normal(size=(64, 256))

    def along(dialect):
        [x] = params = parameters([start])
        advance(Lamb(params, lr=1e-2, weight_decay=0, dialect=dialect), params, [[gradient]])
        moved = x.detach().numpy() - start
        assert np.linalg.norm(moved) == pytest.approx(1e-2 * np.linalg.norm(start), rel=1e-6)  # of the same length
        return np.linalg.norm(moved, 2) / np.linalg.norm(start, 2)

    assert along("debiased") > 4 * along("orthogonal")


def test_the_state_of_a_matrix_is_its_momentum_alone():
    [x] = params = parameters([np.ones((2, 3))])
    optimizer = Lamb(params, dialect="orthogonal")
    advance(optimizer, params, [[np.ones((2, 3))]])
    assert set(optimizer.state[x]) == {"step", "exp_avg", "trust_ratio"}


def test_groups_of_a_network_with_orthogonal_matrices():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 4)
            self.hidden = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

    groups = parameter_groups(Classifier(), weight_decay=0.1, dialect="orthogonal")
    found = [(group["dialect"], group["weight_decay"], [name for name, _ in group["params"]]) for group in groups]
    assert found == [
        ("orthogonal", 0.1, ["hidden.weight"]),
        ("relative", 0.1, ["words.weight", "head.weight"]),
        ("relative", 0.0, ["hidden.bias", "norm.weight", "norm.bias", "head.bias"]),
    ]
    assert all("dialect" not in group for group in parameter_groups(Classifier()))  # the optimizer's own applies


def test_a_tied_table_is_a_table_and_not_a_matrix():
    table, hidden, head = nn.Embedding(5, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 5, bias=False)
    head.weight = table.weight
    [matrices, tables] = parameter_groups(nn.Sequential(table, hidden, head), dialect="orthogonal")
    assert [name for name, _ in matrices["params"]] == ["1.weight"]
    assert [name for name, _ in tables["params"]] == ["0.weight"]
