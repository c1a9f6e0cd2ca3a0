"""SMART's smoothness-inducing regulariser."""

from __future__ import annotations

import torch
from torch import Tensor

from paper_repro.rivals.rival import MicroBatch, Rival, per_sample
from scala.adversary import Objective
from scala.game import frozen


class Smart(Rival):
    """The first half of SMART (Jiang et al. 2020, arXiv 1911.03437, Section 3.1); its Bregman proximal updates are left out.

    The leader descends loss(x) + lambda max over ||y||_inf <= eps of l(f(x + y), f(x)), where l is the symmetric
    Kullback-Leibler divergence between class probabilities, or the squared difference of regression outputs, averaged over
    samples. The ascent is their Algorithm 1: y_0 normal with standard deviation sigma; y <- P(y + eta g/||g||_inf), S times.
    The gradient of the weights goes through both outputs, as the formula says. eps is noise_radius, eta is noise_step_size, S
    is noise_steps; eps, eta and sigma are relative to the root mean square of the sample's embeddings, unless noise_absolute. A
    sample costs S + 2 gradient evaluations: the ascent's, the loss's, the divergence's.
    """

    reads = frozenset(
        {"noise_radius", "noise_absolute", "noise_step_size", "noise_steps", "noise_delay", "same_dropout"}
        | {"smart_lambda", "smart_sigma"}
    )

    def play(self, micro: MicroBatch) -> Tensor:
        """The loss and lambda times the divergence."""
        config = self.config
        at = self.embeddings(micro)
        self.ball = self.ball_around(at, micro, "linf")
        unit = per_sample(self.ball.radius) / config.noise_radius
        eta = unit * (config.noise_radius if config.noise_step_size is None else config.noise_step_size)
        sigma = unit * (config.noise_radius if config.smart_sigma is None else config.smart_sigma)
        noise = torch.randn_like(at) * sigma * micro.mask[..., None]
        with self.same_dropout_next(micro):
            loss, clean = self._outputs(micro.objective, None)
        with frozen(self.leader):
            for _ in range(config.noise_steps):
                noise.requires_grad_(True)
                with self.same_dropout_next(micro):
                    divergence = _divergence(self._outputs(micro.inner, noise)[1], clean.detach())
                (gradient,) = torch.autograd.grad(divergence * micro.loss_scale, noise)
                noise = self.ball.project(noise.detach() + eta * _by_largest(gradient))
        self.noise = noise
        self.gradient_evaluations += len(at) * (config.noise_steps + 1)
        return loss + config.smart_lambda * _divergence(self._outputs(micro.inner, noise)[1], clean)

    def _outputs(self, objective: Objective, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss and the logits [B, classes] of one forward pass."""
        logits: list[Tensor] = []
        handle = self.model.register_forward_hook(lambda _model, _inputs, outputs: logits.append(outputs.logits))
        try:
            loss = objective(noise)
        finally:
            handle.remove()
        return loss, logits[0]


def _divergence(noisy: Tensor, clean: Tensor) -> Tensor:
    if clean.shape[-1] == 1:
        return (noisy - clean).square().mean()
    log_p, log_q = noisy.log_softmax(dim=-1), clean.log_softmax(dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean()  # KL(p|q) + KL(q|p)


def _by_largest(gradient: Tensor) -> Tensor:
    """g/||g||_inf for each sample; zero where that is not a number."""
    largest = gradient.abs().amax(dim=(1, 2), keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    return torch.where(usable, gradient / torch.where(usable, largest, 1.0), 0.0)
