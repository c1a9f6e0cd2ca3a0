"""How fast a round is: ScaLA's and its rivals' training steps on one batch, with the passes through the model that each needs.

A step is whole: gradients cleared, forward, backward, the leader's move. All of them share the model, the batch and the leader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from paper_repro.bench_leader import LAMB_BYTES
from paper_repro.encoders import resolve
from paper_repro.interleaved import interleaved
from scala import Adversary, Ball, EmbeddingNoise, Game, Lamb

REFERENCE = "plain step"
RADIUS = 0.03
SAM_RADIUS = 0.05


@dataclass(frozen=True)
class Passes:
    """Passes through the model in one step. For a linear layer, each of the three is one product of the same two sizes.

    Attributes:
        forward: forward passes.
        inward: backward passes to the activations, down to the embeddings.
        weights: backward passes to the parameters.
    """

    forward: int
    inward: int
    weights: int

    @property
    def total(self) -> int:
        """In units of a forward pass."""
        return self.forward + self.inward + self.weights


PLAIN = Passes(1, 1, 1)


def ascent(steps: int) -> Passes:
    """A plain step and K ascent steps: each 1 forward and the backward down to the embeddings, no parameter's gradient."""
    return Passes(1 + steps, 1 + steps, 1)


TWICE = Passes(2, 2, 2)


@dataclass(frozen=True)
class Bench:
    """One batch, and the ways to step on it.

    Attributes:
        model: a classifier that returns a loss.
        leader: over the model's parameters.
        batch: input_ids, attention_mask and labels.
        radius: omega, relative to the embeddings' norm.
    """

    model: nn.Module
    leader: Optimizer
    batch: dict[str, Tensor]
    radius: float = RADIUS

    def objective(self, noise: Tensor | None) -> Tensor:
        """The batch's mean loss under the noise."""
        with EmbeddingNoise(self.model).added(noise):
            return self.model(**self.batch).loss

    def embeddings(self) -> Tensor:
        """Where the noise is added."""
        return EmbeddingNoise(self.model).embeddings(self.batch["input_ids"])

    def plain(self) -> None:
        """What everybody does, without this project's code."""
        self._move(None)

    def gaussian(self) -> None:
        """Noise of the radius in a random direction, no ascent."""
        at, ball = self._ball()
        self._move(ball.project(ball.direction(torch.randn_like(at)) * ball.radius[:, None, None]))

    def naive(self) -> None:
        """The ascent as it is often written: a full backward pass, whose parameter gradients are thrown away."""
        at, ball = self._ball()
        noise = torch.zeros_like(at).requires_grad_()
        self.leader.zero_grad()
        with torch.random.fork_rng([]):  # the leader's pass draws the same dropout masks
            self.objective(noise).backward()
        assert noise.grad is not None
        self._move(ball.project(ball.direction(noise.grad) * ball.radius[:, None, None]))

    def sam(self) -> None:
        """Sharpness-aware minimisation (arXiv 2010.01412): the gradient is taken at x + rho g/||g||_2."""
        self.leader.zero_grad()
        self.objective(None).backward()
        moved = [p for group in self.leader.param_groups for p in group["params"] if p.grad is not None]
        kept = [p.detach().clone() for p in moved]
        with torch.no_grad():
            scale = SAM_RADIUS / (torch.nn.utils.get_total_norm([p.grad for p in moved]) + 1e-12)
            for p in moved:
                p.addcmul_(p.grad, scale)
        self.leader.zero_grad()
        self.objective(None).backward()
        with torch.no_grad():
            for p, before in zip(moved, kept, strict=True):
                p.copy_(before)
        self.leader.step()

    def steps(self) -> dict[str, tuple[Passes, Callable[[], object]]]:
        """Every compared step, and the passes that it needs."""
        return {
            REFERENCE: (PLAIN, self.plain),
            "Game, no follower": (PLAIN, self._round(None)),
            "Gaussian noise": (PLAIN, self.gaussian),
            "ScaLA, K = 1": (ascent(1), self._round(Adversary(self.radius, relative=True))),
            "ScaLA, own dropout": (ascent(1), self._round(Adversary(self.radius, relative=True, same_dropout=False))),
            "naive ascent": (TWICE, self.naive),
            "ScaLA, K = 2": (ascent(2), self._round(Adversary(self.radius, self.radius / 2, 2, relative=True))),
            "SAM": (TWICE, self.sam),
        }

    def _round(self, adversary: Adversary | None) -> Callable[[], object]:
        game = Game(self.leader, adversary)
        return lambda: game.round(self.objective, self.embeddings(), self.batch["attention_mask"])

    def _ball(self) -> tuple[Tensor, Ball]:
        at = self.embeddings()
        return at, Ball.around(at, self.radius, relative=True, mask=self.batch["attention_mask"])

    def _move(self, noise: Tensor | None) -> None:
        self.leader.zero_grad()
        self.objective(noise).backward()
        self.leader.step()


def classifier(encoder: str) -> PreTrainedModel:
    """A two-class model of an encoder's architecture, with random weights, in training mode."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(resolve(encoder))).train()


def bench_of(model: PreTrainedModel, batch: int, length: int) -> Bench:
    """Random tokens and labels, the second half of the samples a quarter shorter, and LAMB with its defaults."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[batch // 2 :, length - length // 4 :] = 0
    labels = torch.randint(2, (batch,), generator=generator)
    # The rate is small: this many steps on one batch must not blow up.
    return Bench(model, Lamb(model.parameters(), lr=1e-5), {"input_ids": ids, "attention_mask": mask, "labels": labels})


def time_rounds(bench: Bench, bandwidth: float, flops: float, pairs: int) -> list[dict[str, Any]]:
    """Time one step of each kind.

    Args:
        bench: what is stepped on.
        bandwidth: bytes per second.
        flops: floating-point operations per second.
        pairs: see `interleaved`.

    Returns:
        A dict a row: name, passes, floor_ratio (passes over a plain step's), floor (seconds: the passes' matrix products over
        the peak, and the leader's bytes over the bandwidth), and `Timing`'s fields.
    """
    steps = bench.steps()
    timings = interleaved({name: step for name, (_, step) in steps.items()}, REFERENCE, pairs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bench.objective(None)
    forward = counter.get_total_flops() / flops
    leader = LAMB_BYTES * sum(p.numel() for p in bench.model.parameters()) / bandwidth
    return [
        {
            "name": name,
            "passes": asdict(passes),
            "floor_ratio": passes.total / PLAIN.total,
            "floor": passes.total * forward + leader,
            **asdict(timings[name]),
        }
        for name, (passes, _) in steps.items()
    ]
