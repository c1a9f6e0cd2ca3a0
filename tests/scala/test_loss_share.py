import functools

import pytest
import torch
from tiny_models import VOCABULARY
from torch.nn import functional

from scala import loss_share
from scala.loss_share import IGNORED, LABELS, SAMPLES, SHIFTED, LossShare, counts, rows_of, samples_in

found_out = functools.partial(loss_share.found_out, precision=1e-5)

WEIGHTS = torch.tensor([1.0, 3.0, 2.0])


def batch(samples=6, length=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (samples, length), generator=generator)
    for row, kept in enumerate(torch.randint(1, length + 1, (samples,), generator=generator)):
        labels[row, kept:] = IGNORED
    logits = torch.randn(samples, length, 3, generator=generator, dtype=torch.float64)
    return {"logits": logits, "labels": labels, "names": [str(i) for i in range(samples)], "scale": torch.tensor(2.0)}


def tokens(rows, _=None):
    return functional.cross_entropy(rows["logits"].flatten(0, 1), rows["labels"].flatten()).item()


def shifted(rows, _=None):
    return functional.cross_entropy(rows["logits"][:, :-1].flatten(0, 1), rows["labels"][:, 1:].flatten()).item()


def told(rows, items=None):
    total = functional.cross_entropy(rows["logits"].flatten(0, 1), rows["labels"].flatten(), reduction="sum")
    return (total / ((rows["labels"] != IGNORED).sum() if items is None else items)).item()


def samples(rows, _=None):
    each = functional.cross_entropy(rows["logits"].mT, rows["labels"], reduction="none").sum(1)
    return (each / (rows["labels"] != IGNORED).sum(1)).mean().item()


def weighted(rows, _=None):
    return functional.cross_entropy(rows["logits"].flatten(0, 1), rows["labels"].flatten(), weight=WEIGHTS.double()).item()


def pairs(rows, _=None):
    return torch.pdist(rows["logits"].flatten(1)).sum().item()


def own(rows, _=None):
    return WEIGHTS[rows["labels"][rows["labels"] != IGNORED]].sum().item()


@pytest.mark.parametrize(
    ("loss", "items", "weigh", "found"),
    [
        (tokens, torch.tensor(40), None, LossShare(LABELS)),
        (shifted, None, None, LossShare(SHIFTED)),
        (samples, None, None, LossShare(SAMPLES)),
        (told, torch.tensor(40), None, LossShare(None)),
        (told, None, None, LossShare(LABELS)),
        (weighted, None, own, LossShare("own")),
    ],
)
def test_what_a_loss_is_a_mean_over_is_found_out(loss, items, weigh, found):
    assert found_out(loss, [batch(), batch(1)], items, weigh) == found


@pytest.mark.parametrize("loss", [weighted, pairs])
def test_a_loss_that_is_no_mean_over_anything_known_is_not_exact(loss):
    assert not found_out(loss, [batch()]).exact


def test_a_count_that_does_not_fit_the_loss_is_not_trusted():
    assert found_out(samples, [batch()], None, own).over == SAMPLES


def test_classes_that_are_alike_in_both_halves_do_not_hide_their_weights():
    rows = {"logits": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), "labels": torch.tensor([0, 1, 0, 1])}

    def loss(part, _=None):
        return functional.cross_entropy(part["logits"], part["labels"], weight=WEIGHTS).item()

    assert not found_out(loss, [rows]).exact


def test_a_second_micro_batch_tells_what_the_first_cannot():
    """All of one class, there is nothing to weigh."""
    same = {
        "logits": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        "labels": torch.zeros(4, dtype=torch.int64),
    }

    def loss(part, _=None):
        return functional.cross_entropy(part["logits"], part["labels"], weight=WEIGHTS).item()

    assert found_out(loss, [same]).exact
    assert not found_out(loss, [same, same | {"labels": torch.tensor([0, 1, 2, 0])}]).exact


def test_of_one_sample_the_labels_decide():
    assert found_out(tokens, [batch(1)]) == LossShare(LABELS)
    assert found_out(lambda rows, _=None: 1.0, [{"x": torch.zeros(1, 2)}]) == LossShare(SAMPLES)


def test_counts_and_rows_of_any_batch():
    rows = batch()
    found = {name: int(value) for name, value in counts(rows, 6).items()}
    labelled = rows["labels"] != IGNORED
    assert found == {SAMPLES: 6, LABELS: int(labelled.sum()), SHIFTED: int(labelled[:, 1:].sum())}
    assert counts({"labels": torch.rand(4)}, 4).keys() == {SAMPLES}
    part = rows_of(rows, 1, 3, 6)
    assert part["labels"].equal(rows["labels"][1:3])
    assert (part["names"], part["scale"]) == (["1", "2"], rows["scale"])
    assert samples_in(rows) == 6
    assert samples_in({"flag": torch.tensor(True), "input_ids": torch.zeros(VOCABULARY, 2)}) == VOCABULARY
    with pytest.raises(ValueError, match="no tensor with samples in its first dimension; it has: flag"):
        samples_in({"flag": torch.tensor(True)})
