"""Runs of a few layers for the tests of `scala.lamb`: drawn by hypothesis, made into parameters, and played."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from scala.lamb import DIALECTS

EVERY_DIALECT = pytest.mark.parametrize("dialect", [name for name, dialect in DIALECTS.items() if not dialect.orthogonal])
"""Of layers of any shape; the one of matrices has tests of its own."""
EVERY_PATH = pytest.mark.parametrize("foreach", [False, None, True], ids=["plain", "fused", "batched"])
FAST_PATHS = pytest.mark.parametrize("foreach", [None, True], ids=["fused", "batched"])
FEWER = settings(max_examples=settings().max_examples // 2)  # an example for each dialect and path is many

SHAPES = st.lists(st.integers(1, 4), max_size=3)
ROWS = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def runs(draw, shapes=SHAPES):
    """Ragged layers, some of them zero, a few steps of gradients, some of them zero, and hyper-parameters."""
    layers = draw(st.lists(shapes.map(tuple), min_size=1, max_size=4))
    steps = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scales = st.sampled_from([0.0, 1e-3, 1.0, 1.0, 30.0])
    start = [rng.normal(size=shape) * draw(scales) for shape in layers]
    size = [draw(scales) for _ in layers]
    gradients = [[rng.normal(size=shape) * s for shape, s in zip(layers, size, strict=True)] for _ in range(steps)]
    options = {
        "lr": draw(st.floats(1e-4, 0.5)),
        "betas": (draw(st.floats(0, 0.95)), draw(st.floats(0, 0.9999))),
        "eps": draw(st.sampled_from([1e-8, 1e-6, 1e-2])),
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 1.0])),
    }
    return start, gradients, options


def parameters(layers, dtype=torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.as_tensor(np.asarray(x), dtype=dtype).clone()) for x in layers]


def advance(optimizer: torch.optim.Optimizer, params, gradients) -> None:
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else torch.as_tensor(np.asarray(g)).to(p.dtype)
        optimizer.step()


def assert_close(params, expected, tolerance: float = 1e-12) -> None:
    for p, x in zip(params, expected, strict=True):
        want = np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)
        # Relative to the layer, or to a step: weights may come back to zero by cancellation.
        atol = tolerance * max(np.abs(want).max(), 0.1)
        np.testing.assert_allclose(p.detach().numpy(), want, rtol=tolerance, atol=atol)
