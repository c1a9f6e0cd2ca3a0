"""The first step with noise: does the noise take all that the model has learnt?

Where it does, the best answer that ignores the input has a lower loss than the model under the noise, and a leader that
descends the loss under the noise has reason to go back to that answer. `paper_repro.onset` measures what runs come to on
either side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from scala.game import RoundReport


def constant_loss(labels: Tensor) -> float:
    """The loss of the best answer that ignores the input: cross-entropy of classes (nats), squared error of numbers.

    Args:
        labels: [B], integers (classes) or floats (numbers).

    Returns:
        The entropy of the classes, or the variance of the numbers.
    """
    if labels.is_floating_point():
        return float(labels.double().var(correction=0))
    return float(torch.special.entr(torch.bincount(labels).double() / len(labels)).sum())


@dataclass
class Onset:
    """What was seen of one leader's batch, micro-batch by micro-batch."""

    _samples: list[int] = field(default_factory=list)
    _losses: list[Tensor] = field(default_factory=list)
    _labels: list[Tensor] = field(default_factory=list)

    def see(self, report: RoundReport, labels: Tensor | None) -> None:
        """Take in a micro-batch; one whose clean loss or labels [B] are not known is passed over."""
        if report.loss_rise is not None and labels is not None and labels.ndim == 1:
            self._samples.append(len(labels))
            self._losses.append(torch.stack([report.loss - report.loss_rise, report.loss]))
            self._labels.append(labels.detach())

    def losses(self) -> tuple[float, float, float] | None:
        """Mean losses without noise, under it, and of the best constant answer; None: not known. Waits for the device."""
        if not self._samples:
            return None
        shares = torch.tensor(self._samples, dtype=torch.float64) / sum(self._samples)
        clean, noisy = (shares @ torch.stack(self._losses).cpu().double()).tolist()
        labels = torch.cat(self._labels).cpu()
        if not labels.is_floating_point() and labels.min() < 0:  # samples that the loss ignores
            return None
        return clean, noisy, constant_loss(labels)
