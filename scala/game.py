"""The sequential game min_x max_y f(x, y): who moves when.

Before the delay t_s the leader moves alone, on the clean loss. From t_s on the follower answers first, and the leader moves on
the loss under the follower's noise. The same object moves the weights of a toy problem and of a transformer.

On many processes (DDP, FSDP2, tensor parallel) each process's follower answers for its own samples, and the checks see the
whole weights. Under DDP the ascent's forward passes must stay outside the wrapper: `ascent_objective` of `wrapped.module`.
A random start draws from each process's own random state: seed processes apart, or under tensor parallelism alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scala.adversary import Adversary, Objective
from scala.shards import total_norm


class NonFiniteLoss(ArithmeticError):
    """A loss or gradient is NaN or infinite; raised before the leader moves, so the weights are still those of before."""


@dataclass(frozen=True)
class RoundReport:
    """What happened when a loss was played for; tensors are detached scalars, and reading one waits for its device.

    Attributes:
        follower_moved: whether the noise was there.
        loss: the loss the leader descends.
        loss_rise: objective(y_K) - objective(y_0), what the ascent gained; None in a plain round and where `Response` has no
            objective(y_0).
        radius: mean radius omega_i over the samples; None in a plain round.
        noise_norm: mean ||y_i||; None in a plain round.
        still: share of samples whose noise is zero (no usable gradient); None in a plain round.
    """

    follower_moved: bool
    loss: Tensor
    loss_rise: Tensor | None = None
    radius: Tensor | None = None
    noise_norm: Tensor | None = None
    still: Tensor | None = None


class Game:
    """Leader and follower, and the round they are in.

    Attributes:
        rounds: t, rounds finished: leader's steps taken.
        gradient_evaluations: gradients of one sample's loss evaluated so far, by both players: a batch of B costs B in a
            plain round, (K + 1) B with a follower, (K + 2) B when the clean loss is kept beside the adversarial one.
        report: the `RoundReport` of the last loss played for.
    """

    def __init__(
        self,
        leader: Optimizer,
        adversary: Adversary | None = None,
        *,
        delay: int = 0,
        every: int = 1,
        adversarial_weight: float | None = None,
    ) -> None:
        """Set up the game.

        Args:
            leader: any torch optimizer over the weights x.
            adversary: the follower; None: the leader plays alone for ever.
            delay: t_s >= 0, the first round the follower takes part in, counted from 0.
            every: n >= 1; from t_s on the follower takes part in every n-th round, the others are plain.
            adversarial_weight: None: the leader descends f(x, y_K) alone. lambda > 0: f(x, 0) + lambda f(x, y_K).

        Raises:
            ValueError: delay, every or adversarial_weight out of range.
        """
        if isinstance(delay, bool) or not isinstance(delay, int) or delay < 0:
            raise ValueError(f"the delay t_s must be a whole number of rounds >= 0, got {delay!r}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of rounds >= 1, got {every!r}; for never play without a follower")
        if adversarial_weight is not None and not 0 < adversarial_weight < float("inf"):
            raise ValueError(
                f"adversarial_weight must be positive and finite, got {adversarial_weight}; for none play without a follower"
            )
        self.leader = leader
        self.adversary = adversary
        self.delay = delay
        self.every = every
        self.adversarial_weight = adversarial_weight
        self.rounds = 0
        self.gradient_evaluations = 0
        self.report: RoundReport | None = None
        self._losses: list[Tensor] = []  # of this round, not looked at yet

    @property
    def follower_moves(self) -> bool:
        """Whether the follower takes part in the present round."""
        return self.adversary is not None and self.rounds >= self.delay and (self.rounds - self.delay) % self.every == 0

    def loss(
        self,
        objective: Objective,
        at: Tensor,
        mask: Tensor | None = None,
        keys: Sequence[int] | Tensor | None = None,
        *,
        ascent_objective: Objective | None = None,
        loss_scale: float = 1.0,
    ) -> Tensor:
        """Let the follower answer if it is its time, and return the loss for the leader to differentiate.

        May be called several times a round, once a micro-batch, when gradients are accumulated. Whether it is finite is for
        `check` to see, before the leader's step: to look at a value is to wait for its device.

        Args:
            objective: objective(noise) -> scalar loss of the batch; noise None means no noise.
            at: the points the noise is added to, [B, ...]; they say how many samples there are and how big noise may be.
            mask: which entries of `at` exist, see `Ball.around`.
            keys: one integer a sample, for a warm start.
            ascent_objective: the follower's view of the same objective, if it must differ (outside DDP's wrapper; cheaper).
            loss_scale: see `Adversary.respond`.
        """
        samples = at.shape[0]
        self.gradient_evaluations += samples
        if not self.follower_moves:
            loss = objective(None)
            self.report = RoundReport(follower_moved=False, loss=loss.detach())
        else:
            assert self.adversary is not None
            with frozen(self.leader):
                response = self.adversary.respond(ascent_objective or objective, at, mask, keys, loss_scale)
            adversarial = objective(response.noise)
            loss = adversarial
            self.gradient_evaluations += response.gradients
            if self.adversarial_weight is not None:
                loss = objective(None) + self.adversarial_weight * adversarial
                self.gradient_evaluations += samples
            sizes = response.ball.sizes(response.noise.detach())
            self.report = RoundReport(
                follower_moved=True,
                loss=loss.detach(),
                loss_rise=None if response.start_loss is None else adversarial.detach() - response.start_loss,
                radius=response.ball.radius.mean(),
                noise_norm=sizes.mean(),
                still=(sizes == 0).to(sizes.dtype).mean(),
            )
        self._losses.append(loss.detach())
        return loss

    def check(self, *, gradients: bool = True) -> None:
        """Refuse to move on a loss of this round, or a gradient, that is NaN or infinite. Waits for the device, once.

        Args:
            gradients: also look at the leader's gradients (a finite loss can have others).

        Raises:
            NonFiniteLoss: a loss, or the norm of all gradients together, is not finite.
        """
        noisy = " under the follower's noise" if self.report is not None and self.report.follower_moved else ""
        found = [(f"the loss{noisy}", loss) for loss in self._losses]
        self._losses = []
        present = [p.grad for p in _parameters(self.leader) if p.grad is not None] if gradients else []
        if present:
            found.append(("the gradient's norm", total_norm(present)))
        values = torch.stack([value.double() for _, value in found]).tolist() if found else []
        for (name, _), value in zip(found, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"{name} is {value} in round {self.rounds}; the weights have not been moved. Lower the learning rate or "
                    "the radius, warm up for longer, look at the batch, and continue from the last checkpoint"
                )

    def check_weights(self) -> None:
        """Refuse to score or keep weights that are NaN or infinite: a finite step can overflow them. Waits for the device.

        Raises:
            NonFiniteLoss: the norm of all weights together is not finite.
        """
        norm = float(total_norm([p.detach() for p in _parameters(self.leader)]))
        if not math.isfinite(norm):
            raise NonFiniteLoss(
                f"the weights' norm is {norm} after round {self.rounds}. Lower the learning rate, warm up for longer, and "
                "continue from the last checkpoint"
            )

    def round(
        self,
        objective: Objective,
        at: Tensor,
        mask: Tensor | None = None,
        keys: Sequence[int] | Tensor | None = None,
        *,
        ascent_objective: Objective | None = None,
    ) -> Tensor:
        """Play one round: the follower's answer if it is its time, then the leader's step.

        Args as in `loss`. Returns the loss, detached.

        Raises:
            NonFiniteLoss: the loss or a gradient is NaN or infinite; the weights have not been moved.
        """
        self.leader.zero_grad()  # before the forward passes, so that old gradients take no memory beside them
        loss = self.loss(objective, at, mask, keys, ascent_objective=ascent_objective)
        loss.backward()
        self.check()
        self.leader.step()
        self.rounds += 1
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """What a game goes on from, beside the leader's own state_dict and torch's random state.

        Returns:
            rounds and gradient_evaluations; and with a warm follower its memory: sample key -> noise, on the CPU and shared
            with the follower. Of many processes each has counts and memory of its own samples. Loads with weights_only=True.
        """
        state: dict[str, Any] = {"rounds": self.rounds, "gradient_evaluations": self.gradient_evaluations}
        if self.adversary is not None and self.adversary.start == "warm":
            state["memory"] = dict(self.adversary.memory)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; the delay, and the other rules, are those that this game was made with.

        Raises:
            ValueError: it is no game's state, or it has a memory that this game's follower would not use, or has none that it
                needs. The game is then unchanged.
        """
        counts = [state.get(name) for name in ("rounds", "gradient_evaluations")]
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
            raise ValueError(f"no state of a Game: rounds and gradient_evaluations must be whole numbers >= 0, got {counts}")
        memory = state.get("memory")
        warm = self.adversary is not None and self.adversary.start == "warm"
        if (memory is not None) != warm:
            raise ValueError(
                "the state has the memory of a warm follower, which this game has not: make it with start='warm'"
                if memory is not None
                else "this game's follower starts warm, and the state has no memory: use the start that it was saved under"
            )
        self.rounds, self.gradient_evaluations = state["rounds"], state["gradient_evaluations"]
        if self.adversary is not None and memory is not None:
            self.adversary.memory = dict(memory)
        self._losses = []


@contextmanager
def frozen(leader: Optimizer) -> Iterator[None]:
    """The leader's parameters as constants: no gradient for them can be computed, and less is kept for the backward pass."""
    parameters = [p for p in _parameters(leader) if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def _parameters(leader: Optimizer) -> Iterator[Tensor]:
    for group in leader.param_groups:
        yield from group["params"]
