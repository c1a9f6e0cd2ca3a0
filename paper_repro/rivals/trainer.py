"""A `ScalaTrainer` that plays a rival's game when asked to, and the options for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from paper_repro.rivals.freelb import FreeLB
from paper_repro.rivals.leaders import LEADERS
from paper_repro.rivals.random_noise import Gaussian, Neftune
from paper_repro.rivals.rival import Rival
from paper_repro.rivals.sam import Sam
from paper_repro.rivals.smart import Smart
from scala.trainer import ScalaConfig, ScalaTrainer

RIVALS: dict[str, type[Rival]] = {"gaussian": Gaussian, "neftune": Neftune, "freelb": FreeLB, "smart": Smart, "sam": Sam}

_OF_THE_BATCH = {"global_batch_size", "sort_by_length"}


@dataclass
class RivalConfig(ScalaConfig):
    """`ScalaConfig` plus the choice of a rival method, or another leader. What nothing reads is refused."""

    leader: str = field(
        default="lamb",
        metadata={
            "help": "'lamb', another of `paper_repro.rivals.leaders`, or 'optim': the optimizer that --optim names.",
            "choices": ["lamb", "optim", *LEADERS],
        },
    )
    rival: str = field(
        default="none",
        metadata={"help": "A rival in place of ScaLA's follower, a key of RIVALS; 'none': the follower."},
    )
    neftune_alpha: float = field(default=5.0, metadata={"help": "NEFTune's alpha; the paper tried 5, 10 and 15."})
    smart_lambda: float = field(default=1.0, metadata={"help": "SMART's lambda_s, the weight of the divergence."})
    smart_sigma: float | None = field(
        default=None,
        metadata={"help": "SMART's sigma, of its random start, in the radius's units; None: the radius, as in the paper."},
    )
    sam_rho: float = field(default=0.05, metadata={"help": "SAM's rho, how far the weights go uphill; the paper's default."})

    def __post_init__(self) -> None:
        """Check the options at once.

        Raises:
            ValueError: an unknown rival, a number out of its range, or an option that is set and that nothing would read.
        """
        super().__post_init__()
        if self.rival not in ("none", *RIVALS):
            raise ValueError(f"unknown rival {self.rival!r}; choose one of none, {', '.join(RIVALS)}")
        for name in ("neftune_alpha", "smart_lambda", "smart_sigma", "sam_rho"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.rival == "freelb" and self.noise_steps < 2:
            raise ValueError("FreeLB needs noise_steps (its K) of 2 or more: with 1 there is no ascent, only its random start")
        changed = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        refuse_unread(changed, self.rival, self.noise, self.leader)


def refuse_unread(options: Iterable[str], rival: str, noise: str, leader: str) -> None:
    """Refuse options that are set and that nothing would read; ValueError."""
    for name in unread(rival, noise, leader).intersection(options):
        raise ValueError(f"rival = {rival!r}, noise = {noise!r}, leader = {leader!r} does not read {name}; leave it out")


def unread(rival: str, noise: str, leader: str) -> frozenset[str]:
    """The names of `RivalConfig`'s fields that nothing reads in a run with this rival, noise and leader."""
    follower = _game_options(ScalaConfig) if noise != "none" else {"noise"}
    reads = follower if rival == "none" else RIVALS[rival].reads
    lamb = {f.name for f in dataclasses.fields(RivalConfig) if f.name.startswith("lamb_")}
    return (
        (_game_options(RivalConfig) - reads)
        | (set() if leader == "optim" else _OF_OPTIM)
        | (set() if leader == "lamb" else lamb)
    )


_OF_OPTIM = {"optim", "adam_epsilon"}
"""What the optimizers of transformers read."""


def _game_options(config: type[ScalaConfig]) -> frozenset[str]:
    """The options of the follower and its rivals: not transformers' own, not the leader's, not the batch's."""
    own = {f.name for f in dataclasses.fields(config)} - {f.name for f in dataclasses.fields(TrainingArguments)}
    return frozenset(name for name in own - {"rival"} - _OF_THE_BATCH if not name.startswith(("leader", "lamb_")))


class RivalTrainer(ScalaTrainer):
    """`ScalaTrainer` for every method: what is said there of accumulation, DDP, resuming and the guard holds for the rivals."""

    args: RivalConfig

    def __init__(self, model: nn.Module | None = None, args: RivalConfig | None = None, **kwargs: Any) -> None:
        """As `ScalaTrainer`.

        Raises:
            TypeError: args is not a RivalConfig.
        """
        if not isinstance(args, RivalConfig):
            raise TypeError(f"args must be a RivalConfig, got {type(args).__name__}")
        super().__init__(model=model, args=args, **kwargs)

    def create_optimizer(self, *model: nn.Module) -> torch.optim.Optimizer:
        """Also makes the leaders that `ScalaTrainer` does not know."""
        if self.optimizer is None and self.args.leader in LEADERS:
            self.optimizer = LEADERS[self.args.leader](model[0] if model else self.model, self.args)
        return super().create_optimizer(*model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Also puts the rival's game in the place of ScaLA's."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self.args.rival != "none":
            rival = RIVALS[self.args.rival]
            delay = self.game.delay if "noise_delay" in rival.reads else 0
            self.game = rival(self.args, self.model, self.game.leader, delay)
        return scheduler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """One micro-batch: as many ordinary training steps as the rival has passes; gradients are exchanged in the last."""
        game = self.game
        if not isinstance(game, Rival):
            return super().training_step(model, inputs, num_items_in_batch)
        loss = torch.zeros((), device=self.args.device)
        try:
            for left in reversed(range(game.passes)):
                with self.accelerator.no_sync(model) if left else nullcontext():
                    loss = loss + super().training_step(model, inputs, num_items_in_batch)
        finally:
            game.settle()
        return loss
