"""SAM: the adversary moves the weights, not the input."""

from __future__ import annotations

import torch
from torch import Tensor

from paper_repro.rivals.rival import MicroBatch, Rival


class Sam(Rival):
    """Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412): the gradient is taken at x + rho g/||g||_2.

    g is the gradient of the micro-batch at x, over all parameters together: their m-sharpness with m the micro-batch, so
    accumulation needs one traversal, and under DDP each process ascends on its own samples. The leader, whichever it is, then
    moves from x. A sample costs two gradient evaluations. Memory: a second copy of the weights.
    """

    reads = frozenset({"sam_rho", "noise_delay", "same_dropout"})
    _kept: tuple[tuple[Tensor, Tensor], ...] = ()

    def play(self, micro: MicroBatch) -> Tensor:
        """Move the weights uphill, and return the loss there; `settle` puts them back."""
        parameters = [p for group in self.leader.param_groups for p in group["params"] if p.requires_grad]
        with self.same_dropout_next(micro):
            loss = micro.inner(None)
        # Not backward(): gradients that micro-batches before this one left behind stay as they are.
        gradients = torch.autograd.grad(loss * micro.loss_scale, parameters, allow_unused=True)
        moved = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        norm = torch.nn.utils.get_total_norm([g for _, g in moved])
        if norm.isfinite():  # else stay: the leader's own gradient meets the guard, or fp16's scaler
            self._kept = tuple((p, p.detach().clone()) for p, _ in moved)
            with torch.no_grad():
                for p, g in moved:
                    p.addcmul_(g, self.config.sam_rho / (norm + 1e-12))
        self.gradient_evaluations += len(micro.ids)
        return micro.objective(None)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the weights back, exactly."""
        super().settle()
        for p, before in self._kept:
            p.copy_(before)
        self._kept = ()
