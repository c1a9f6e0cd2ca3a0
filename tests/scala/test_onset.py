import numpy as np
import pytest
import torch
from scipy import stats

from scala.game import RoundReport
from scala.onset import Onset, constant_loss


def report(loss, rise):
    return RoundReport(True, torch.tensor(loss), None if rise is None else torch.tensor(rise))


def test_the_best_constant_answers_loss_is_what_no_other_constant_goes_below():
    labels = torch.tensor([0, 2, 2, 1, 2, 2])
    assert constant_loss(labels) == pytest.approx(stats.entropy([1, 1, 4]))
    rng = np.random.default_rng(0)
    for answer in rng.dirichlet(np.ones(3), size=50):
        assert -np.log(answer)[labels.numpy()].mean() >= constant_loss(labels)
    numbers = torch.tensor([1.0, 4.0, 2.5])
    assert constant_loss(numbers) == pytest.approx(np.var([1, 4, 2.5]))
    assert constant_loss(torch.tensor([3, 3])) == 0.0


def test_micro_batches_count_by_their_samples():
    onset = Onset()
    onset.see(report(0.9, 0.4), torch.tensor([0, 1, 1]))
    onset.see(report(0.5, 0.1), torch.tensor([0]))
    clean, noisy, constant = onset.losses()
    assert (clean, noisy) == pytest.approx(((3 * 0.5 + 0.4) / 4, (3 * 0.9 + 0.5) / 4))
    assert constant == pytest.approx(np.log(2))


def test_what_is_not_comparable_is_passed_over():
    onset = Onset()
    onset.see(report(0.9, None), torch.tensor([0, 1]))  # a plain round, or a share of the samples
    onset.see(report(0.9, 0.1), None)
    onset.see(report(0.9, 0.1), torch.zeros(2, 3))  # several labels a sample
    assert onset.losses() is None
    onset.see(report(0.9, 0.1), torch.tensor([0, -100]))  # a sample that the loss ignores
    assert onset.losses() is None
