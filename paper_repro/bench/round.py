"""How fast a round is: ScaLA's and its rivals' training steps on one batch, with the passes through the model that each needs.

A step is whole: gradients cleared, forward, backward, the leader's move. All of them share the model, the batch and the leader.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from paper_repro.bench.interleaved import Action, interleaved
from paper_repro.bench.leader import LAMB_BYTES
from paper_repro.bench.machine import BF16, FP32, Machine
from paper_repro.data.encoders import resolve
from scala import Adversary, Ball, EmbeddingNoise, Game, Lamb
from scala.adversary import Objective
from scala.ascent_view import AscentView

REFERENCE = "plain step"
RADIUS = 0.03
SAM_RADIUS = 0.05


@dataclass(frozen=True)
class Passes:
    """Passes through the model in one step. For a linear layer, each of the three is one product of the same two sizes.

    A pass on part of the batch or of the layers is a part of a pass.

    Attributes:
        forward: forward passes.
        inward: backward passes to the activations, down to the embeddings.
        weights: backward passes to the parameters.
    """

    forward: float
    inward: float
    weights: float

    @property
    def total(self) -> float:
        """In units of a forward pass."""
        return self.forward + self.inward + self.weights


@dataclass(frozen=True)
class Step:
    """One row.

    Attributes:
        passes: that a round needs.
        play: plays the rounds.
        rounds: how many, where they are not all alike; times are then of one on average.
    """

    passes: Passes
    play: Action
    rounds: int = 1


class Played(NamedTuple):
    """A row of the core's."""

    passes: Passes
    game: Game
    view: AscentView


PLAIN = Passes(1, 1, 1)
WHOLE = AscentView()


def ascent(steps: float) -> Passes:
    """A plain step and K ascent steps: each 1 forward and the backward down to the embeddings, no parameter's gradient."""
    return Passes(1 + steps, 1 + steps, 1)


def full(times: int) -> Passes:
    """Whole passes, a parameter's gradient included."""
    return Passes(times, times, times)


@dataclass(frozen=True)
class Bench:
    """One batch, and the ways to step on it.

    Attributes:
        model: a classifier that returns a loss.
        leader: over the model's parameters.
        batch: input_ids, attention_mask and labels.
        radius: omega, relative to the embeddings' norm.
        precision: "fp32", or "bf16" for autocast to it in the forward passes.
    """

    model: PreTrainedModel
    leader: Optimizer
    batch: dict[str, Tensor]
    radius: float = RADIUS
    precision: str = FP32

    @property
    def device(self) -> torch.device:
        """Where the batch and the model are."""
        return self.batch["input_ids"].device

    def objective(self, noise: Tensor | None) -> Tensor:
        """The batch's mean loss under the noise; that of the first samples alone where the noise is for them alone."""
        batch = self.batch if noise is None else {name: rows[: len(noise)] for name, rows in self.batch.items()}
        # Not autocast(enabled=False) for fp32: that would end the follower's own.
        lower = torch.autocast(self.device.type, torch.bfloat16) if self.precision == BF16 else nullcontext()
        with lower, EmbeddingNoise(self.model).added(noise):
            return self.model(**batch).loss

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
        devices = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(devices):  # the leader's pass draws the same dropout masks
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

    def freelb(self, steps: int) -> None:
        """FreeLB (Zhu et al. 2020, arXiv 1909.11764): every ascent pass also gives the weights' gradient; the mean of K moves.

        In our ball: theirs has an absolute radius, and they start in the cube inside it.
        """
        at, ball = self._ball()
        length = (ball.radius / steps)[:, None, None]
        noise = ball.uniform(at)
        self.leader.zero_grad()
        for _ in range(steps):
            noise = noise.detach().requires_grad_()
            (self.objective(noise) / steps).backward()
            assert noise.grad is not None
            noise = ball.project(noise + ball.direction(noise.grad) * length)
        self.leader.step()

    def games(self) -> dict[str, Played]:
        """The core's rounds, with each of the options that make the ascent cheaper."""
        depth = self.model.config.num_hidden_layers
        top = Passes(2, 1 + (depth // 2) / depth, 1)
        without = AscentView(dropout=False)

        def played(passes: Passes, view: AscentView = WHOLE, every: int = 1, steps: int = 1, **options: Any) -> Played:
            adversary = Adversary(self.radius, self.radius / steps, steps, relative=True, **options)
            return Played(passes, Game(self.leader, adversary, every=every), view)

        return {
            "Game, no follower": Played(PLAIN, Game(self.leader), WHOLE),
            "ScaLA, K = 1": played(ascent(1)),
            "ScaLA, K = 2": played(ascent(2), steps=2),
            "own dropout": played(ascent(1), same_dropout=False),
            "ascent without dropout": played(ascent(1), without),
            "ascent in bf16": played(ascent(1), AscentView(bfloat16=True)),
            "gradient of top half": played(top, AscentView(layers=depth // 2)),
            "half the batch": played(ascent(0.5), share=0.5),
            "half, without dropout": played(ascent(0.5), without, share=0.5),
            "every 2nd round": played(ascent(0.5), every=2),
            "one pass": played(PLAIN, start="warm", one_pass=True),
        }

    def steps(self) -> dict[str, Step]:
        """Every compared step."""
        games = {
            name: Step(row.passes, self.round_of(row.game, row.view), row.game.every) for name, row in self.games().items()
        }
        return {
            REFERENCE: Step(PLAIN, self.plain),
            **games,
            "Gaussian noise": Step(PLAIN, self.gaussian),
            "naive ascent": Step(full(2), self.naive),
            "SAM": Step(full(2), self.sam),
            "FreeLB, K = 2": Step(full(2), lambda: self.freelb(2)),
            "FreeLB, K = 3": Step(full(3), lambda: self.freelb(3)),
        }

    def round_of(self, game: Game, view: AscentView = WHOLE) -> Action:
        """A round of the core on the batch, or as many as until the follower's next."""
        mask, keys = self.batch["attention_mask"], range(len(self.batch["labels"]))
        ascent_objective = self.seen(view)

        def play() -> None:
            for _ in range(game.every):
                game.round(self.objective, self.embeddings(), mask, keys, ascent_objective=ascent_objective)

        return play

    def seen(self, view: AscentView) -> Objective:
        """The objective as the follower sees it."""

        def objective(noise: Tensor | None) -> Tensor:
            with view.of(self.model):
                return self.objective(noise)

        return objective

    def _ball(self) -> tuple[Tensor, Ball]:
        at = self.embeddings()
        return at, Ball.around(at, self.radius, relative=True, mask=self.batch["attention_mask"])

    def _move(self, noise: Tensor | None) -> None:
        self.leader.zero_grad()
        self.objective(noise).backward()
        self.leader.step()


def classifier(encoder: str) -> PreTrainedModel:
    """A two-class model of an encoder's architecture, with random weights, in training mode."""
    return random_model(AutoConfig.from_pretrained(resolve(encoder)))


def random_model(config: PreTrainedConfig, device: str = "cpu") -> PreTrainedModel:
    """A two-class model with random weights, in training mode; `config` is copied, since forward passes write into it."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(copy.deepcopy(config)).to(device).train()


def bench_of(model: PreTrainedModel, batch: int, length: int, precision: str = FP32) -> Bench:
    """Random tokens and labels, the second half of the samples a quarter shorter, and LAMB with its defaults.

    Everything is made on the CPU and moved to where the model is: the same batch on every device.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[batch // 2 :, length - length // 4 :] = 0
    labels = torch.randint(2, (batch,), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    # The rate is small: this many steps on one batch must not blow up.
    leader = Lamb(model.parameters(), lr=1e-5)
    return Bench(model, leader, {name: t.to(model.device) for name, t in inputs.items()}, precision=precision)


def time_rounds(bench: Bench, machine: Machine, pairs: int, names: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Time one step of each kind.

    Args:
        bench: what is stepped on.
        machine: where, and its rates.
        pairs: see `interleaved`.
        names: only these steps, the reference among them; None: all.

    Returns:
        A dict a row: name, passes, floor_ratio (passes over a plain step's), floor (seconds: the passes' matrix products over
        the peak, and the leader's bytes over the bandwidth), and `Timing`'s fields.
    """
    steps = {name: step for name, step in bench.steps().items() if names is None or name in names}
    with torch.compiler.set_stance("force_eager"), torch.no_grad():  # what is compiled cannot be counted
        forward = flops_of(lambda: bench.objective(None)) / machine.flops[bench.precision]
    timings = interleaved({name: step.play for name, step in steps.items()}, REFERENCE, pairs, machine.device)
    leader = leader_floor(bench, machine)
    return [
        {
            "name": name,
            "passes": asdict(step.passes),
            "floor_ratio": step.passes.total / PLAIN.total,
            "floor": step.passes.total * forward + leader,
            **asdict(timings[name].over(step.rounds)),
        }
        for name, step in steps.items()
    ]


def flops_of(action: Action) -> int:
    """Floating-point operations of the matrix products and the attention in one call."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def leader_floor(bench: Bench, machine: Machine) -> float:
    """Seconds that the leader's step takes at least: its bytes over the bandwidth."""
    return LAMB_BYTES * sum(p.numel() for p in bench.model.parameters()) / machine.bandwidth
