"""The orthogonal direction, against singular value decomposition and torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scala.orthogonal import orthogonal


def matrix(n, m, seed=0, decay=1.0):
    """Singular values 1, 2^-decay, 3^-decay ..."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(k, min(n, m), generator=generator, dtype=torch.float64))[0] for k in (n, m))
    return left * torch.arange(1, min(n, m) + 1, dtype=torch.float64) ** -decay @ right.mT


@given(n=st.integers(1, 24), m=st.integers(1, 24), seed=st.integers(0, 100), scale=st.sampled_from([1e-30, 1.0, 1e30]))
def test_singular_values_come_near_one_and_vectors_stay(n, m, seed, scale):
    given_matrix = matrix(n, m, seed)
    [found] = orthogonal([given_matrix * scale])
    left, _, right = torch.linalg.svd(given_matrix, full_matrices=False)
    diagonal = left.mT @ found @ right.mT
    values = diagonal.diagonal()
    assert values.min() > 0.68
    assert values.max() < 1.21
    torch.testing.assert_close(diagonal, torch.diag(values), rtol=0, atol=1e-9)


def test_it_is_the_direction_of_torchs_muon():
    given_matrix = matrix(48, 160, decay=0.5).float()
    weights = torch.nn.Parameter(torch.zeros(48, 160))
    weights.grad = given_matrix.clone()
    torch.optim.Muon([weights], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, adjust_lr_fn="original").step()
    [found] = orthogonal([given_matrix])
    assert (found + weights.detach()).norm() < 0.02 * found.norm()  # theirs is of bfloat16


def test_many_at_once_are_each_alone_in_their_shapes_and_precisions():
    shapes = [(3, 7), (7, 3), (3, 7), (5, 5), (1, 4), (6, 12)]
    matrices = [matrix(*shape, seed).to(torch.float32 if seed % 2 else torch.float64) for seed, shape in enumerate(shapes)]
    together = orthogonal(matrices)
    for given_matrix, found in zip(matrices, together, strict=True):
        assert (found.shape, found.dtype) == (given_matrix.shape, given_matrix.dtype)
        torch.testing.assert_close(found, orthogonal([given_matrix])[0])


@pytest.mark.parametrize("shape", [(3, 3), (2, 9)])
def test_zeros_stay(shape):
    [found] = orthogonal([torch.zeros(shape)])
    assert not found.any()
