"""How the losses of micro-batches make up the loss of the whole batch, for whatever loss the user has.

A loss is one of two things. Most are a mean over something in their micro-batch: its samples, or its labelled tokens. Some are
told how many items the whole batch has (`num_items_in_batch`) and give their own share of its mean. Nothing in a loss says
which it is, so the first micro-batches tell: they are scored whole and in parts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The label that transformers' losses leave out."""
_INEXACT = 20
"""So many times the precision off, a loss is no mean."""
SAMPLES, LABELS, SHIFTED = "samples", "labels", "shifted labels"

Score = Callable[[Mapping[str, Any], Tensor | None], float]
"""score(batch, num_items_in_batch) -> its loss, without randomness and without a gradient."""


def samples_in(batch: Mapping[str, Any], main_input: str = "input_ids") -> int:
    """The samples of a batch: the rows of its main input, or else of its first tensor that has rows.

    Raises:
        ValueError: it has no such tensor.
    """
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor) and value.ndim}
    if not tensors:
        raise ValueError(
            f"a batch holds no tensor with samples in its first dimension; it has: {', '.join(batch) or 'nothing'}"
        )
    return len(tensors.get(main_input, next(iter(tensors.values()))))


def rows_of(batch: Mapping[str, Any], start: int, stop: int, samples: int) -> dict[str, Any]:
    """Some of a batch's samples: tensors and lists of as many entries as there are samples are cut, the rest stays."""

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[start:stop] if value.ndim and len(value) == samples else value
        return value[start:stop] if isinstance(value, list | tuple) and len(value) == samples else value

    return {name: cut(value) for name, value in batch.items()}


def counts(batch: Mapping[str, Any], samples: int) -> dict[str, Tensor]:
    """What a mean loss may be a mean over, in one micro-batch: scalars, int64, on the labels' device.

    Samples; labels that are not `IGNORED`; those of them that a causal model predicts, all but each sequence's first. Labels
    that are no whole numbers (scores) count with their samples.
    """
    labels = next((batch[name] for name in ("labels", "label") if isinstance(batch.get(name), Tensor)), None)
    device = None if labels is None else labels.device
    found = {SAMPLES: torch.tensor(samples, device=device)}
    if labels is not None and not labels.is_floating_point() and labels.ndim:
        found[LABELS] = labels.ne(IGNORED).sum()
        if labels.ndim > 1:
            found[SHIFTED] = labels[..., 1:].ne(IGNORED).sum()
    return found


@dataclass(frozen=True)
class LossShare:
    """What a loss is.

    Attributes:
        over: a key of `counts`, or "own": what the loss is a mean over. None: it gives its share of the whole batch's mean when
            it is told `num_items_in_batch`.
        exact: whether the micro-batches that were tried bore that out.
    """

    over: str | None
    exact: bool = True


def found_out(
    score: Score,
    batches: Sequence[Mapping[str, Any]],
    items: Tensor | None = None,
    own: Score | None = None,
    *,
    precision: float,
) -> LossShare:
    """Find out what a loss is, from some micro-batches.

    Args:
        score: the loss; called up to five times a batch.
        batches: micro-batches. In one of a single sample nothing can be told apart; in all of them, the labels' shape decides.
        items: `num_items_in_batch` of the whole batch, if the Trainer knows it.
        own: the user's sum of weights, if there is one: own(batch, None).
        precision: relative, of a loss that is computed in parts: 1e-5 in float32.
    """
    usual = "own" if own is not None else LABELS if LABELS in counts(batches[0], 1) else SAMPLES
    whole = score(batches[0], items)
    if items is not None and whole and abs(2 * score(batches[0], 2 * items) - whole) <= precision * abs(whole):
        return LossShare(None)
    errors = {usual: 0.0}
    for batch in batches:
        samples = samples_in(batch)
        if samples < 2:
            continue
        whole = score(batch, None)
        for cut in {1, samples // 2}:  # labels that are alike in both halves would hide the weights of classes
            parts = [rows_of(batch, 0, cut, samples), rows_of(batch, cut, samples, samples)]
            losses = [score(part, None) for part in parts]
            for over in {usual, LABELS, SHIFTED, SAMPLES}:
                weights = [_weight(over, part, own) for part in parts]
                if sum(weights) > 0:
                    mean = sum(w * loss for w, loss in zip(weights, losses, strict=True) if w) / sum(weights)
                    error = abs(mean - whole) / max(abs(whole), 1e-12)
                    errors[over] = max(errors.get(over, 0.0), math.inf if math.isnan(error) else error)
    over = min(errors, key=lambda name: errors[name])
    if errors[usual] <= precision:
        over = usual  # others may fit as well by chance
    return LossShare(over, exact=errors[over] <= _INEXACT * precision)


def _weight(over: str, part: Mapping[str, Any], own: Score | None) -> float:
    if own is not None and over == "own":
        return own(part, None)
    return float(counts(part, samples_in(part)).get(over, 0))


def warn_inexact(accumulated: int) -> None:
    """Say that a loss is no mean over samples or labels."""
    warnings.warn(
        "the loss of a micro-batch is no mean over its samples or labels (a batch of two parts has another loss than the mean "
        f"of both): the {accumulated} micro-batches of a step do not add up to one batch of all their samples exactly. If it "
        "weighs its items, override loss_items(inputs) to return the sum of their weights; a loss that compares the samples of "
        "a batch with each other sees those of one micro-batch only",
        stacklevel=2,
    )
