"""The options: transformers' `TrainingArguments`, and those of the game."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import get_args

from transformers import TrainingArguments

from scala.adversary import Adversary, Direction, Start
from scala.ascent_view import AscentView
from scala.balls import Norm
from scala.lamb import DIALECTS

RATES = dict.fromkeys(DIALECTS, 1e-3) | {"relative": 4e-3, "orthogonal": 8e-3}
"""LAMB's default rates, by dialect: a step's length as a share of a layer's size. For some 90 steps in all; longer trainings
want less. The best of MiniLM's on the embedded task (`make leaders`), where published LAMB is `debiased`."""
SAMPLE_KEY = "idx"
"""The column that names a sample, needed by a warm start; GLUE has it."""


@dataclass
class ScalaConfig(TrainingArguments):
    """`TrainingArguments` plus the game's options. Unknown values of the paper are options; see each field's `help`."""

    learning_rate: float = field(  # type: ignore[assignment]  # None only until __post_init__
        default=None,
        metadata={
            "help": "The leader's peak learning rate eta; left out: the dialect's (8e-3), transformers' own for 'optim'."
        },
    )
    global_batch_size: int | None = field(
        default=None,
        metadata={"help": "Samples per leader's step over all processes; sets gradient_accumulation_steps. None: leave it."},
    )
    sort_by_length: bool = field(
        default=True,
        metadata={"help": "Make a large batch's micro-batches of samples of like length: the same gradient, less padding."},
    )
    leader: str = field(
        default="lamb", metadata={"help": "'lamb', or 'optim': the optimizer that --optim names.", "choices": ["lamb", "optim"]}
    )
    lamb_dialect: str = field(
        default="orthogonal",
        metadata={"help": "LAMB dialect, see scala.lamb; 'debiased' is LAMB as published.", "choices": list(DIALECTS)},
    )
    lamb_adapt_undecayed: bool = field(
        default=True,
        metadata={"help": "Biases and norms use LAMB's trust ratio; False: they take Adam's step, as in timm and apex."},
    )
    noise: str = field(
        default="adversarial",
        metadata={"help": "'adversarial', or 'none': the leader plays alone.", "choices": ["adversarial", "none"]},
    )
    noise_radius: float = field(
        default=0.003, metadata={"help": "Radius omega of each sample's ball of noise, relative to its embeddings' norm."}
    )
    noise_absolute: bool = field(default=False, metadata={"help": "Take radius and step in the embeddings' own units."})
    noise_step_size: float | None = field(
        default=None, metadata={"help": "Ascent step rho, in the radius's units; None: the radius, one step to the boundary."}
    )
    noise_steps: int = field(default=1, metadata={"help": "Ascent steps K of the follower."})
    noise_norm: str = field(default="l2", metadata={"help": "Norm of the ball.", "choices": list(get_args(Norm))})
    noise_start: str = field(
        default="zero",
        metadata={
            "help": f"Where the ascent starts; 'warm' needs a column '{SAMPLE_KEY}' of integers.",
            "choices": list(get_args(Start)),
        },
    )
    noise_direction: str = field(
        default="normalized", metadata={"help": "Ascent direction, g/||g|| or g.", "choices": list(get_args(Direction))}
    )
    noise_regularizer: float = field(
        default=0.0, metadata={"help": "lambda of the follower's objective f(x, y) - (lambda/2)|y|^2."}
    )
    noise_delay: float = field(
        default=0.5,
        metadata={"help": "t_s, the first step with noise: below 1 a fraction of all steps, else a number of steps."},
    )
    adversarial_weight: float | None = field(
        default=None, metadata={"help": "None: descend the adversarial loss alone; lambda: clean + lambda * adversarial."}
    )
    same_dropout: bool = field(default=True, metadata={"help": "Follower and leader see the same dropout masks."})
    noise_every: int = field(default=1, metadata={"help": "From t_s on the follower takes part in every n-th step."})
    noise_module: str | None = field(
        default=None,
        metadata={"help": "Module whose output [B, ...] gets the noise; None: the model's input embeddings, of every kind."},
    )
    noise_share: float = field(default=1.0, metadata={"help": "Share of each micro-batch's samples that get noise."})
    noise_one_pass: bool = field(
        default=False,
        metadata={"help": "No pass for the ascent: the leader's pass moves the noise for the next visit; needs a warm start."},
    )
    ascent_dropout: bool = field(default=True, metadata={"help": "The follower's passes have dropout."})
    ascent_bf16: bool = field(default=False, metadata={"help": "The follower's passes run under bfloat16 autocast."})
    ascent_layers: int | None = field(
        default=None,
        metadata={"help": "Top encoder layers that the follower's gradient goes through; None: all."},
    )

    def __post_init__(self) -> None:
        """Check the options at once, rather than at the first noisy step."""
        if self.learning_rate is None:
            rates = RATES if self.leader == "lamb" else {}
            self.learning_rate = rates.get(self.lamb_dialect, TrainingArguments.learning_rate)
        super().__post_init__()
        inherited = {option.name for option in fields(TrainingArguments)}  # transformers looks at its own
        for option in fields(self):
            value, choices = getattr(self, option.name), option.metadata.get("choices")
            if option.name not in inherited and choices is not None and value not in (option.default, *choices):
                raise ValueError(f"unknown {option.name} {value!r}; choose one of {', '.join(choices)}")
        if self.noise_delay < 0 or (self.noise_delay >= 1 and self.noise_delay != int(self.noise_delay)):
            raise ValueError(f"noise_delay must be a fraction in [0, 1) or a whole number of steps, got {self.noise_delay}")
        self.adversary()
        self.ascent_view()
        self._refuse_ignored()
        if self.noise_every < 1:
            raise ValueError(f"noise_every must be a whole number of steps >= 1, got {self.noise_every}")
        if self.global_batch_size is not None:
            per_pass = self.per_device_train_batch_size * self.world_size
            if self.global_batch_size < 1 or self.global_batch_size % per_pass:
                raise ValueError(
                    f"global_batch_size {self.global_batch_size} is not a multiple of {per_pass} "
                    f"(per_device_train_batch_size {self.per_device_train_batch_size} x {self.world_size} processes)"
                )
            accumulated = self.global_batch_size // per_pass
            if self.gradient_accumulation_steps not in (1, accumulated):
                raise ValueError(
                    f"global_batch_size {self.global_batch_size} makes {accumulated} accumulation steps of {per_pass} samples, "
                    f"and gradient_accumulation_steps says {self.gradient_accumulation_steps}: give one of the two"
                )
            self.gradient_accumulation_steps = accumulated

    def _refuse_ignored(self) -> None:
        """Refuse what nothing would read."""
        default = {option.name: option.default for option in fields(TrainingArguments)}
        for name in ("optim", "optim_args", "optim_target_modules", "adam_epsilon"):
            value = getattr(self, name)
            if self.leader == "lamb" and value not in (default[name], getattr(default[name], "value", None)):
                raise ValueError(
                    f"leader='lamb' does not read {name} (now {getattr(value, 'value', value)!r}): set leader='optim' for the "
                    "optimizers of transformers, or leave it out; optimizers=(scala.Lamb(...), None) makes a Lamb of your own"
                )
        if self.noise != "none" and self.neftune_noise_alpha is not None:
            raise ValueError(
                "neftune_noise_alpha adds noise of its own to the embeddings that the follower's radius is relative to: leave "
                "it out, or set noise='none'"
            )

    def adversary(self) -> Adversary | None:
        """The follower that the options describe; None for noise="none"."""
        if self.noise == "none":
            return None
        return Adversary(
            self.noise_radius,
            self.noise_step_size,
            self.noise_steps,
            self.noise_norm,  # type: ignore[arg-type]  # Adversary refuses what it does not know
            relative=not self.noise_absolute,
            start=self.noise_start,  # type: ignore[arg-type]
            direction=self.noise_direction,  # type: ignore[arg-type]
            regularizer=self.noise_regularizer,
            same_dropout=self.same_dropout,
            share=self.noise_share,
            one_pass=self.noise_one_pass,
        )

    def ascent_view(self) -> AscentView:
        """How the follower sees the model."""
        return AscentView(self.ascent_dropout, self.ascent_bf16, self.ascent_layers)

    def delay_steps(self, total: int) -> int:
        """t_s in steps, of `total` steps."""
        return round(self.noise_delay * total) if self.noise_delay < 1 else int(self.noise_delay)
