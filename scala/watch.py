"""What watches a training: it counts the game's rounds, guards the leader's step, warns, and makes the numbers of the log."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scala.game import Game
from scala.heads import fresh_regression_head
from scala.lamb import Lamb
from scala.onset import Onset

if TYPE_CHECKING:
    from scala.trainer import ScalaMixin


class Watch(TrainerCallback):
    """Keeps the game's round equal to the Trainer's step, and guards the leader's step.

    Attributes:
        follower_rounds: rounds of the training so far that the follower took part in.
        losses_played: losses that the game was asked for since the step began.
        onset: what is seen of the first step with noise; None: it is not looked at, or has been.
    """

    def __init__(self, trainer: ScalaMixin) -> None:
        """Watch this trainer."""
        self.trainer = trainer
        self.reset()

    def reset(self) -> None:
        """A training begins."""
        self.follower_rounds = self.losses_played = 0
        args = self.trainer.args
        # Only where the leader descends a plain mean loss under the noise, and the ascent starts from the clean one.
        plain = args.adversarial_weight is None and not args.label_smoothing_factor
        plain = plain and self.trainer.compute_loss_func is None and args.noise_start != "random"
        self.onset = Onset() if plain else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at what the training is given."""
        if state.is_world_process_zero:
            _warn_of_small_data(self.trainer)
            if self.trainer.args.leader == "lamb":
                _warn_of_head(self.trainer)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A round begins."""
        self.trainer.game.rounds = state.global_step
        self.losses_played = 0

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Refuse a step that was not played, or is not finite."""
        if not self.losses_played:
            raise RuntimeError(
                f"{type(self.trainer).__name__}.training_step goes round the game: it must call super().training_step, or the "
                "leader would play alone in silence"
            )
        # With fp16 an overflowing gradient is ordinary: the scaler skips that step by itself.
        self.trainer.game.check(gradients=self.trainer.accelerator.scaler is None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A round has ended."""
        game = self.trainer.game
        self.follower_rounds += game.report is not None and game.report.follower_moved
        if state.global_step == game.delay + 1:
            losses, self.onset = None if self.onset is None else self.onset.losses(), None
            if losses is not None and state.is_world_process_zero:
                _warn_of_onset(self.trainer, *losses)
        if control.should_evaluate or control.should_save or state.global_step >= state.max_steps:
            game.check_weights()


def diagnostics(game: Game, leader: Any) -> dict[str, float]:
    """What a log says of the last micro-batch: of the follower, and of LAMB's trust ratios. Waits for the device."""
    found: dict[str, float] = {}
    report = game.report
    if report is not None:
        found["follower"] = float(report.follower_moved)
        for name, value in (
            ("noise_norm", report.noise_norm),
            ("noise_radius", report.radius),
            ("noise_still", report.still),
            ("loss_rise", report.loss_rise),
        ):
            if value is not None:
                found[name] = float(value)
    if isinstance(leader, Lamb) and (ratios := list(leader.trust_ratios().values())):
        ratio = torch.stack([torch.as_tensor(r, dtype=torch.float32).flatten().mean() for r in ratios])
        for name, value in (("min", ratio.min()), ("median", ratio.median()), ("max", ratio.max())):
            found[f"trust_ratio_{name}"] = float(value)
    return found


def columns_of(data: Any) -> list[str]:
    """The names of a data set's columns; none, if it has no such thing."""
    return getattr(data, "column_names", None) or []


def _warn_of_onset(trainer: ScalaMixin, clean: float, noisy: float, constant: float) -> None:
    if clean < constant <= noisy:
        warnings.warn(
            f"the noise begins at step {trainer.game.delay} and takes all that the model has learnt: its loss is {clean:.3f}, "
            f"{noisy:.3f} under the noise, and {constant:.3f} for the best constant answer. Training may go back to that "
            f"answer; take a smaller noise_radius (now {trainer.args.noise_radius:g}) or a larger noise_delay",
            stacklevel=2,
        )


def _warn_of_head(trainer: ScalaMixin) -> None:
    data: Any = trainer.train_dataset
    column = next((name for name in ("label", "labels") if name in columns_of(data)), None)
    if column is None or not hasattr(data, "__len__") or fresh_regression_head(trainer.model) is None:
        return
    if getattr(getattr(trainer.model, "config", None), "problem_type", None) not in (None, "regression"):
        return
    try:
        labels = torch.as_tensor(data[column][:], dtype=torch.float64)
    except (TypeError, ValueError):  # no numbers: the collator makes them
        return
    mean, spread = float(labels.mean()), float(labels.std(correction=0))
    if abs(mean) > spread:
        warnings.warn(
            f"the head of this regression starts at 0, its labels have mean {mean:.3g} and deviation {spread:.3g}, "
            "and LAMB moves a layer by a share of its own size: training may end with one answer for all inputs. Call "
            "scala.heads.start_regression_head(model, labels) before it",
            stacklevel=2,
        )


def _warn_of_small_data(trainer: ScalaMixin) -> None:
    data: Any = trainer.train_dataset
    batch = trainer.batch_per_process * trainer.args.world_size
    if hasattr(data, "__len__") and len(data) < batch:
        warnings.warn(
            f"the batch of {batch} samples is larger than the training set of {len(data)}: every step has all of it, and the "
            "learning rate may be one for a larger batch",
            stacklevel=2,
        )
