"""Sorted micro-batches hold the large batches that the Trainer would draw anyway."""

from itertools import pairwise

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st

from scala.length_sorted import LengthSorted


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    micro_batch=st.integers(1, 5),
    several=st.integers(1, 5),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_the_same_large_batches_sorted(lengths, micro_batch, several, seed, epoch):
    batch = micro_batch * several
    ours = LengthSorted(lengths, batch, micro_batch, seed)
    theirs = SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=seed)
    for sampler in (ours, theirs):
        sampler.set_epoch(epoch)
    drawn, expected = torch.tensor(list(ours)), torch.tensor(list(theirs))
    assert len(ours) == len(lengths)
    for mine, other in zip(drawn.split(batch), expected.split(batch), strict=True):
        assert sorted(mine.tolist()) == sorted(other.tolist())
        parts = [[lengths[i] for i in part] for part in mine.split(micro_batch)]
        assert all(min(longer) >= max(shorter) for longer, shorter in pairwise(parts))


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        sampler = LengthSorted([1] * 40, 20, 5, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed, epoch in [(0, 0), (0, 1), (7, 0)]}) == 3


@pytest.mark.parametrize(("batch", "micro_batch"), [(10, 3), (0, 1), (4, 0)])
def test_a_batch_that_micro_batches_do_not_fill_is_refused(batch, micro_batch):
    with pytest.raises(ValueError, match="positive multiple"):
        LengthSorted([1, 2], batch, micro_batch, 0)
