"""Noise without an adversary: the controls for the claim that its direction matters."""

from __future__ import annotations

import torch
from torch import Tensor

from paper_repro.rivals.rival import MicroBatch, Rival, per_sample


class Gaussian(Rival):
    """Noise of ScaLA's size in a random direction: y_i = omega_i z_i/||z_i||, z_i normal ("linf": omega_i sign z_i)."""

    reads = frozenset({"noise_radius", "noise_absolute", "noise_norm", "noise_delay"})

    def play(self, micro: MicroBatch) -> Tensor:
        """The loss under the noise; one gradient a sample."""
        at = self.embeddings(micro)
        self.ball = self.ball_around(at, micro, self.config.noise_norm)  # type: ignore[arg-type]  # Ball refuses others
        self.noise = self.ball.direction(torch.randn_like(at)) * per_sample(self.ball.radius)
        return micro.objective(self.noise)


class Neftune(Rival):
    """NEFTune (Jain et al. 2023, arXiv 2310.05914, Algorithm 1): y_i uniform in [-1, 1] times alpha / sqrt(L_i d).

    L_i is the sample's own number of tokens, as in the paper, and padding gets none. transformers' `neftune_noise_alpha`
    divides by the length that the batch is padded to, and adds noise to the padding: there a sample's noise depends on its
    neighbours. There is no delay.
    """

    reads = frozenset({"neftune_alpha"})

    def play(self, micro: MicroBatch) -> Tensor:
        """The loss under the noise; one gradient a sample."""
        at = self.embeddings(micro)
        entries = micro.mask.sum(dim=1) * at.shape[-1]
        scale = per_sample(self.config.neftune_alpha / entries.to(at.dtype).sqrt())
        self.noise = (2 * torch.rand_like(at) - 1) * scale * micro.mask[..., None]
        return micro.objective(self.noise)
