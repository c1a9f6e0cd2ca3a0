"""What all rivals share: a game without a follower, whose loss is the rival's from the delay on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scala.adversary import Objective
from scala.balls import Ball, Norm
from scala.embedding_noise import EmbeddingNoise
from scala.game import Game

if TYPE_CHECKING:
    from paper_repro.rivals.trainer import RivalConfig


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass.

    Attributes:
        objective: noise or None -> the mean loss, as the leader differentiates it.
        inner: the same outside DDP's wrapper, for passes that must not wake its reducer.
        ids: token ids, shape [B, L].
        mask: 1 where a token is, 0 on padding, shape [B, L].
        loss_scale: multiplies a loss before the rival itself differentiates it (fp16 underflow).
    """

    objective: Objective
    inner: Objective
    ids: Tensor
    mask: Tensor
    loss_scale: float


class Rival(Game, ABC):
    """A method that changes the loss which the leader descends; a subclass says how in `play`.

    The game counts gradients and refuses what is not finite, as for ScaLA. `RivalTrainer` back-propagates every loss that
    `play` returns, `passes` of them for each micro-batch, and calls `settle` after the last.

    Attributes:
        reads: the options of `RivalConfig` that the method reads; any other is refused.
        ball: where the noise of the present micro-batch lies, if the method has a ball.
        noise: the noise of the present micro-batch, shape [B, L, d], if the method has one.
    """

    reads: ClassVar[frozenset[str]]
    ball: Ball | None = None
    noise: Tensor | None = None

    def __init__(self, config: RivalConfig, model: nn.Module, leader: Optimizer, delay: int) -> None:
        """Set up the game.

        Args:
            config: the options.
            model: not wrapped by DDP.
            leader: any torch optimizer over the model's parameters.
            delay: the first step of the leader, counted from 0, in which the rival takes part.
        """
        super().__init__(leader, delay=delay)
        self.config = config
        self.model = model
        self._injection = EmbeddingNoise(model)

    @property
    def moves(self) -> bool:
        """Whether the rival takes part in the present step of the leader."""
        return self.rounds >= self.delay

    @property
    def passes(self) -> int:
        """Losses, and so backward passes, for each micro-batch of the present step."""
        return 1

    @abstractmethod
    def play(self, micro: MicroBatch) -> Tensor:
        """The loss that is back-propagated next."""

    def settle(self) -> None:
        """Forget the micro-batch, after its last backward pass or after an error."""
        self.ball = self.noise = None

    def loss(
        self,
        objective: Objective,
        at: Tensor,
        mask: Tensor | None = None,
        keys: Any = None,
        *,
        ascent_objective: Objective | None = None,
        loss_scale: float = 1.0,
    ) -> Tensor:
        """As in `Game`; `at` are the token ids, which is what `ScalaTrainer` hands to a game without a follower."""
        if not self.moves:
            return super().loss(objective, at)
        exists = torch.ones_like(at) if mask is None else mask
        micro = MicroBatch(objective, ascent_objective or objective, at, exists, loss_scale)
        loss = super().loss(lambda _: self.play(micro), at)
        if self.report is not None:
            self.report = replace(self.report, follower_moved=True)
            if self.ball is not None and self.noise is not None:
                sizes = self.ball.sizes(self.noise.detach())
                self.report = replace(self.report, radius=self.ball.radius.mean(), noise_norm=sizes.mean())
        return loss

    def embeddings(self, micro: MicroBatch) -> Tensor:
        """Where noise is added, shape [B, L, d], fp32 or wider."""
        found = self._injection.embeddings(micro.ids)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def ball_around(self, at: Tensor, micro: MicroBatch, norm: Norm) -> Ball:
        """The ball that ScaLA's follower would have."""
        relative = not self.config.noise_absolute
        return Ball.around(at, self.config.noise_radius, norm, relative=relative, mask=micro.mask)

    def same_dropout_next(self, micro: MicroBatch) -> AbstractContextManager[None]:
        """Around a forward pass: the next one draws the same dropout masks, if `same_dropout` asks for it."""
        device = micro.ids.device
        devices = [] if device.type == "cpu" else [device]
        return torch.random.fork_rng(devices, enabled=self.config.same_dropout, device_type=device.type if devices else "cuda")


def per_sample(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1], to multiply noise."""
    return values[:, None, None]
