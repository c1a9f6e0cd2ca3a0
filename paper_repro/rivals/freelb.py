"""FreeLB: the ascent's passes also give gradients of the weights."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from paper_repro.rivals.rival import MicroBatch, Rival, per_sample


class FreeLB(Rival):
    """FreeLB-K (Zhu et al. 2020, arXiv 1909.11764, Algorithm 1).

    y_0 uniform in [-eps, eps] / sqrt(N), N the sample's number of entries; y_k = P(y_{k-1} + alpha g/||g||_2), P the projection
    on the L2 ball of radius eps. The weights descend the mean of the losses at y_0 ... y_{K-1}. Each of the K backward passes
    gives the gradient of the weights and of the noise together, and counts as one evaluation: K for each sample. The same
    dropout masks in all K passes, as they advise, are `same_dropout`. eps is noise_radius, alpha is noise_step_size, K is
    noise_steps. Ours: eps and alpha are relative to the sample's embeddings, unless noise_absolute; padding never gets noise.
    """

    reads = frozenset({"noise_radius", "noise_absolute", "noise_step_size", "noise_steps", "noise_delay", "same_dropout"})
    _done = 0

    @property
    def passes(self) -> int:
        """K, or the leader's one before the delay."""
        return self.config.noise_steps if self.moves else 1

    def play(self, micro: MicroBatch) -> Tensor:
        """The next of the K losses, divided by K."""
        self.noise = self._start(micro) if self._done == 0 else self._ascended()
        self._done += 1
        last = self._done == self.passes
        self.noise.requires_grad_(not last)
        with nullcontext() if last else self.same_dropout_next(micro):
            return micro.objective(self.noise) / self.passes

    def settle(self) -> None:
        """Start the next micro-batch from a new y_0."""
        super().settle()
        self._done = 0

    def _start(self, micro: MicroBatch) -> Tensor:
        at = self.embeddings(micro)
        self.ball = self.ball_around(at, micro, "l2")
        entries = micro.mask.sum(dim=1) * at.shape[-1]
        scale = per_sample(self.ball.radius / entries.clamp(min=1).to(at.dtype).sqrt())
        return (2 * torch.rand_like(at) - 1) * scale * micro.mask[..., None]

    @torch.no_grad()
    def _ascended(self) -> Tensor:
        assert self.ball is not None
        assert self.noise is not None
        assert self.noise.grad is not None
        eps, alpha = self.config.noise_radius, self.config.noise_step_size
        length = self.ball.radius * (1.0 if alpha is None else alpha / eps)
        # The direction does not see the loss's share of the batch, nor fp16's loss scale.
        return self.ball.project(self.noise.detach() + self.ball.direction(self.noise.grad) * per_sample(length))
