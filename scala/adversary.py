"""The follower: projected gradient ascent on the noise, y <- P_Y(y + rho * direction), K steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from scala.balls import Ball, Norm, check_ball

Objective = Callable[[Tensor | None], Tensor]
"""objective(noise) -> a scalar loss; noise is None in a plain round, else it has the shape of the points it is added to."""

Start = Literal["zero", "random", "warm"]
Direction = Literal["normalized", "raw"]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Response:
    """What the follower answers with.

    Attributes:
        noise: y_K, of the shape of the points it is added to, fp32 or wider, inside the ball; detached, or in one pass waiting
            for its gradient from the leader's backward pass.
        start_loss: objective(y_0), a detached scalar; the clean loss if the start is zero. None where it is not comparable with
            the leader's loss: in one pass, or when part of the samples ascend.
        ball: the ball that the noise lies in.
        gradients: gradient evaluations spent, K for each sample that ascends.
    """

    noise: Tensor
    start_loss: Tensor | None
    ball: Ball
    gradients: int


class Adversary:
    """Projected gradient ascent on per-sample noise (the follower of the sequential game min_x max_y f(x, y)).

    Paper (arXiv 2201.12469): y <- P_omega(y + rho * ascent direction), K = 1 ("PGA-1"). What the abstract leaves open is an
    option here; the defaults are this project's choice, see `scala.trainer.ScalaConfig` for how they were measured.
    """

    def __init__(
        self,
        radius: float | Tensor,
        step_size: float | None = None,
        steps: int = 1,
        norm: Norm = "l2",
        *,
        relative: bool = False,
        start: Start = "zero",
        direction: Direction = "normalized",
        regularizer: float = 0.0,
        reduction: Reduction = "mean",
        same_dropout: bool = True,
        share: float = 1.0,
        one_pass: bool = False,
    ) -> None:
        """Set the rules by which the follower moves.

        Args:
            radius: omega > 0, of each sample's ball of noise, or one a sample, [B]; see `Ball.around` for its units.
            step_size: rho > 0. With `direction="normalized"` in the radius's units, None meaning rho = omega, one step to the
                boundary. With "raw" it multiplies the gradient of each sample's own loss and must be given (theory: 1/l).
            steps: K >= 1 ascent steps.
            norm: "l2" or "linf".
            relative: radius (and a normalised step) as a fraction of each sample's own size.
            start: y_0: "zero"; "random", uniform in the ball; or "warm", where the sample's last visit ended (zero at its
                first), which needs `keys` in `respond` and keeps one noise a sample in CPU memory.
            direction: "normalized" (g/||g||_2, or sign(g) for "linf") or "raw" (g).
            regularizer: lambda >= 0: the follower maximises f(x, y) - (lambda/2)|y|^2 (per sample).
            reduction: whether the objective is the "mean" or the "sum" of the samples' losses; a raw step and the regulariser
                need to know, because the theory's y_i ascends sample i's own loss.
            same_dropout: every ascent step starts from the same state of torch's random generators, which is put back
                afterwards, so that the leader's pass draws the very same dropout masks.
            share: in (0, 1], of the samples that ascend: the first ones of each batch, rounded up. The others have no noise.
            one_pass: the follower makes no pass of its own. The leader plays against the noise of the sample's last visit, and
                its backward pass also gives the gradient of that noise, which moves it for the next visit (as in the free
                adversarial training of Shafahi et al. 2019, arXiv 1904.12843). Needs start="warm", steps=1 and a normalised
                direction, which does not see how the leader scales its loss; a sample's first visit is without noise.

        Raises:
            ValueError: an argument out of its range, or a combination that cannot be played.
        """
        check_ball(radius, norm)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps (K) must be an integer >= 1, got {steps!r}; for no ascent play without a follower")
        _one_of("start", start, Start)
        _one_of("direction", direction, Direction)
        _one_of("reduction", reduction, Reduction)
        if step_size is None and direction == "raw":
            raise ValueError("direction='raw' needs a step_size; the theory's is 1/l, l the smoothness of one sample's loss")
        if step_size is not None and not 0 < step_size < float("inf"):
            raise ValueError(f"step_size (rho) must be positive and finite, got {step_size}")
        if not 0 <= regularizer < float("inf"):
            raise ValueError(f"regularizer (lambda) must be non-negative and finite, got {regularizer}")
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}; for no noise at all play without a follower")
        if one_pass and (start != "warm" or steps != 1 or direction != "normalized" or regularizer or share < 1):
            raise ValueError(
                "one_pass needs start='warm', steps=1, direction='normalized', no regularizer and share=1: its only gradient "
                "is that of the leader's pass, at the noise of the last visit"
            )
        self.radius = radius
        self.step_size = step_size
        self.steps = steps
        self.norm: Norm = norm
        self.relative = relative
        self.start = start
        self.direction = direction
        self.regularizer = regularizer
        self.reduction = reduction
        self.same_dropout = same_dropout
        self.share = share
        self.one_pass = one_pass
        self.memory: dict[int, Tensor] = {}
        """Warm start only: sample key -> the noise its last visit ended with, [entries, ...] without padding, on the CPU."""

    def respond(
        self,
        objective: Objective,
        at: Tensor,
        mask: Tensor | None = None,
        keys: Sequence[int] | Tensor | None = None,
        loss_scale: float = 1.0,
    ) -> Response:
        """Ascend from y_0 for K steps. Takes gradients with respect to the noise only.

        Args:
            objective: noise -> scalar loss, its graph reaching the noise. With a share below 1 the noise has fewer rows than
                `at`, and the loss is that of the first samples alone.
            at: the points the noise is added to, shape [B, ...].
            mask: which entries exist, see `Ball.around`.
            keys: one integer a sample, needed by start="warm".
            loss_scale: multiplies the loss before differentiation and is divided out after it (fp16 underflow).

        Raises:
            ValueError: keys missing for a warm start, or a remembered noise that does not fit its sample.
            RuntimeError: the objective does not depend on the noise.
        """
        if self.share < 1:
            return self._respond_in_part(objective, at, mask, keys, loss_scale)
        ball = Ball.around(at, self.radius, self.norm, relative=self.relative, mask=mask)
        noise = self._start(at, ball, keys)
        if self.one_pass:
            noise.requires_grad_(True)
            noise.register_hook(lambda gradient: self._remember(self._step(noise.detach(), gradient, ball), ball, keys))
            return Response(noise, None, ball, gradients=0)
        scale = loss_scale * (at.shape[0] if self.reduction == "mean" else 1)
        start_loss: Tensor | None = None
        for _ in range(self.steps):
            noise.requires_grad_(True)
            with random_state_kept(at.device, self.same_dropout), torch.enable_grad():
                loss = objective(noise)
                gradient = _gradient(loss * scale, noise)
            start_loss = loss.detach() if start_loss is None else start_loss
            noise = self._step(noise.detach(), gradient / loss_scale, ball)
        if self.start == "warm":
            self._remember(noise, ball, keys)
        return Response(noise, start_loss, ball, gradients=self.steps * at.shape[0])

    def _respond_in_part(
        self,
        objective: Objective,
        at: Tensor,
        mask: Tensor | None,
        keys: Sequence[int] | Tensor | None,
        loss_scale: float,
    ) -> Response:
        """The first samples ascend as if they were alone."""
        chosen = math.ceil(self.share * at.shape[0])
        whole = copy.copy(self)  # which shares the memory
        whole.share = 1.0
        if isinstance(self.radius, Tensor):
            whole.radius = self.radius[:chosen]
        part = whole.respond(
            objective, at[:chosen], None if mask is None else mask[:chosen], None if keys is None else keys[:chosen], loss_scale
        )
        noise = torch.zeros_like(at, dtype=part.noise.dtype)
        noise[:chosen] = part.noise
        ball = Ball.around(at, self.radius, self.norm, relative=self.relative, mask=mask)
        return Response(noise, None, ball, part.gradients)

    @torch.no_grad()
    def _step(self, noise: Tensor, gradient: Tensor, ball: Ball) -> Tensor:
        """One projected ascent step, y + rho * direction(grad - lambda y), projected."""
        if self.regularizer:
            gradient = gradient - self.regularizer * noise
        if self.direction == "raw":
            assert self.step_size is not None
            return ball.project(noise + self.step_size * gradient)
        # In units of the radius, so that a relative radius makes a relative step.
        length = ball.radius
        if isinstance(self.radius, Tensor) and self.step_size is not None:
            own = self.radius.to(length)
            length = length * torch.where(own > 0, self.step_size / own, 0.0)
        elif self.step_size is not None:
            length = length * (self.step_size / self.radius)
        return ball.project(noise + ball.direction(gradient) * length.reshape(-1, *(1,) * (noise.ndim - 1)))

    @torch.no_grad()
    def _start(self, at: Tensor, ball: Ball, keys: Sequence[int] | Tensor | None) -> Tensor:
        if self.start == "random":
            return ball.uniform(at)
        noise = torch.zeros_like(at, dtype=ball.radius.dtype)
        if self.start == "warm":
            for i, key in enumerate(_sample_keys(keys, len(at))):
                if key in self.memory:
                    exists = _exists(noise[i], ball, i)
                    if self.memory[key].numel() != int(exists.sum()):
                        raise ValueError(
                            f"sample {key} was last seen with {self.memory[key].numel()} noise entries and now has "
                            f"{int(exists.sum())}; keys must name the same sample, tokenised the same way, at every visit"
                        )
                    noise[i][exists] = self.memory[key].to(noise)
            noise = ball.project(noise)  # the ball may have moved with the embeddings
        return noise

    def _remember(self, noise: Tensor, ball: Ball, keys: Sequence[int] | Tensor | None) -> None:
        for i, key in enumerate(_sample_keys(keys, len(noise))):
            self.memory[key] = noise[i][_exists(noise[i], ball, i)].cpu()


def _gradient(loss: Tensor, noise: Tensor) -> Tensor:
    gradient = torch.autograd.grad(loss, noise, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise RuntimeError(
            "the objective does not depend on the noise it is given: run the model inside `with injection.added(noise):` "
            "(scala.EmbeddingNoise), or add the noise to its input"
        )
    return gradient


def _exists(row: Tensor, ball: Ball, i: int) -> Tensor:
    """Which entries of sample i's noise are not padding, of row's shape."""
    if ball.mask is None:
        return torch.ones_like(row, dtype=torch.bool)
    return (ball.mask[i] != 0).expand_as(row)


def _sample_keys(keys: Sequence[int] | Tensor | None, samples: int) -> list[int]:
    if keys is None or len(keys) != samples:
        given = "none" if keys is None else str(len(keys))
        raise ValueError(f"start='warm' needs one integer key a sample ({samples} samples, {given} given)")
    return [int(key) for key in keys]


@contextmanager
def random_state_kept(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Put torch's random generators (the CPU's and the device's) back afterwards, if wanted."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, enabled=wanted, device_type=device.type if devices else "cuda"):
        yield


def _one_of(name: str, value: str, allowed: object) -> None:
    choices = get_args(allowed)
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
