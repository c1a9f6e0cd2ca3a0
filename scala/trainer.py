"""The method for transformers users: a `Trainer` that plays the game.

config = ScalaConfig(output_dir="out", global_batch_size=512, per_device_train_batch_size=32, num_train_epochs=3)
ScalaTrainer(model, config, train_dataset=train, eval_dataset=dev, processing_class=tokenizer).train()
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from scala.adversary import Adversary, Direction, Start
from scala.ascent_view import AscentView
from scala.balls import Norm
from scala.embedding_noise import EmbeddingNoise
from scala.game import Game, RoundReport
from scala.heads import fresh_regression_head
from scala.lamb import DIALECTS, Lamb, parameter_groups
from scala.length_sorted import LengthSorted
from scala.onset import Onset
from scala.whole_file import write_whole

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
        if self.noise_every < 1:
            raise ValueError(f"noise_every must be a whole number of steps >= 1, got {self.noise_every}")
        if self.global_batch_size is not None:
            per_pass = self.per_device_train_batch_size * self.world_size
            if self.global_batch_size < 1 or self.global_batch_size % per_pass:
                raise ValueError(
                    f"global_batch_size {self.global_batch_size} is not a multiple of {per_pass} "
                    f"(per_device_train_batch_size {self.per_device_train_batch_size} x {self.world_size} processes)"
                )
            self.gradient_accumulation_steps = self.global_batch_size // per_pass

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


class ScalaTrainer(Trainer):
    """A `Trainer` whose training step is a round of the game; everything else is transformers' own.

    - Large batches: the gradient of N accumulated micro-batches is that of one batch holding all their samples, ragged ones
      included (for heads whose loss is a mean over samples).
    - The follower's passes run on the unwrapped model, outside DDP's reducer, and take gradients of the noise only.
    - The delay counts optimizer steps of the whole training, so it survives a resume; checkpoints also hold the follower's
      state (gradient evaluations so far; the noises of a warm start, kept per process).
    - A non-finite loss or gradient stops training with `scala.game.NonFiniteLoss` before it reaches the weights.
    - If the noise takes all that the model has learnt when it begins (see `scala.onset`), a `UserWarning` says so, once.
    - Logs hold the follower's diagnostics: `noise_norm`, `noise_radius`, `loss_rise` and `noise_still` of the last
      micro-batch, `follower`, `gradient_evaluations`, and the minimum, median and maximum trust ratio of LAMB.
    """

    args: ScalaConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    game: Game

    def __init__(self, model: nn.Module | None = None, args: ScalaConfig | None = None, **kwargs: Any) -> None:
        """As `transformers.Trainer`; `optimizers=(leader, scheduler)` makes any torch optimizer the leader.

        Raises:
            TypeError: args is not a ScalaConfig, or the model does not name its input embeddings.
            ValueError: a parallelism other than DDP (one process per GPU), or a warm start without a column of sample keys.
        """
        if not isinstance(args, ScalaConfig):
            raise TypeError(f"args must be a ScalaConfig, got {type(args).__name__}")
        super().__init__(model=model, args=args, **kwargs)
        if args.n_gpu > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError(
                "ScalaTrainer runs on one device or under DDP (torchrun, one process per GPU): LAMB's norms and the noise need "
                "whole layers and whole batches, so DataParallel, FSDP and DeepSpeed are refused"
            )
        self.injection = EmbeddingNoise(self.model)
        self._warm = args.noise == "adversarial" and args.noise_start == "warm"
        if self._warm and SAMPLE_KEY not in (self._columns() or [SAMPLE_KEY]):
            raise ValueError(f"noise_start='warm' needs a column {SAMPLE_KEY!r} of integers in the training set")
        # Only where the leader descends a plain mean loss under the noise, and the ascent starts from the clean one.
        plain = args.adversarial_weight is None and not args.label_smoothing_factor and self.compute_loss_func is None
        self._onset = Onset() if plain and args.noise_start != "random" else None
        # compute_loss below returns its share of the whole batch's mean; neither the Trainer nor the model may rescale it.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.add_callback(_Rounds(self))

    def create_optimizer(self, *model: nn.Module) -> torch.optim.Optimizer:  # the first 5.x versions pass no model
        """Make the leader: LAMB over named parameters, biases and norms not decayed, unless another was asked for."""
        if self.optimizer is None and self.args.leader == "lamb":
            self.optimizer = Lamb(
                parameter_groups(
                    model[0] if model else self.model,
                    self.args.weight_decay,
                    self.args.lamb_adapt_undecayed,
                    self.args.lamb_dialect,
                ),
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
            )
        return super().create_optimizer(*model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Also sets up the game, since only now the leader and the number of steps are known."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        self.game = Game(
            self.optimizer,
            self.args.adversary(),
            delay=self.args.delay_steps(num_training_steps),
            every=self.args.noise_every,
            adversarial_weight=self.args.adversarial_weight,
        )
        return scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        several = self.args.world_size * self.args.gradient_accumulation_steps
        other = getattr(self.args, "train_sampling_strategy", "random") != "random"  # the first 5.x versions have no other
        if several == 1 or other or not self.args.sort_by_length or not hasattr(data, "__len__") or "input_ids" not in data[0]:
            return super()._get_train_sampler(train_dataset)
        ids = data["input_ids"] if hasattr(data, "column_names") else (sample["input_ids"] for sample in data)
        micro_batch = self.args.per_device_train_batch_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthSorted([len(i) for i in ids], micro_batch * several, micro_batch, seed)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Tensor]:
        """The micro-batches of one leader's step, and the number of samples in them over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        samples = torch.tensor(sum(len(batch["input_ids"]) for batch in batches), device=device)
        return batches, self.accelerator.reduce(samples, "sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """In training the loss the leader descends, with the follower's noise if it is its time; else the plain loss.

        In training: this micro-batch's share of the mean over the samples of the whole batch, so that shares add up.
        """
        inputs = dict(inputs)
        keys = inputs.pop(SAMPLE_KEY, None)
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        plain_loss = super().compute_loss

        def objective(noise: Tensor | None, module: nn.Module = model) -> Tensor:
            # A follower that moves a share of the samples asks for the loss of those alone.
            rows = inputs if noise is None else {name: value[: len(noise)] for name, value in inputs.items()}
            with self.injection.added(noise):
                return cast(Tensor, plain_loss(module, dict(rows)))

        def ascent_objective(noise: Tensor | None) -> Tensor:
            # On the unwrapped model: DDP's forward prepares its reducer for a backward pass that the ascent never makes.
            with self.args.ascent_view().of(self.model):
                return objective(noise, self.model)

        ids = inputs["input_ids"]
        scaler = self.accelerator.scaler
        loss = self.game.loss(
            objective,
            at=self.injection.embeddings(ids) if self.game.follower_moves else ids,  # a plain round only counts samples
            mask=inputs.get("attention_mask"),
            keys=keys,
            ascent_objective=ascent_objective,
            loss_scale=1.0 if scaler is None else scaler.get_scale(),
        )
        if self._onset is not None and self.game.rounds == self.game.delay:
            self._onset.see(cast(RoundReport, self.game.report), inputs.get("labels"))
        if num_items_in_batch is not None:
            # DDP averages over processes, so each multiplies its share by their number.
            loss = loss * (len(ids) * self.args.world_size) / num_items_in_batch
        return (loss, None) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the follower's and the leader's diagnostics beside the training loss."""
        if "loss" in logs and hasattr(self, "game"):
            logs.update(self._diagnostics())
        super().log(logs, start_time)

    def _diagnostics(self) -> dict[str, float]:
        report = self.game.report
        found: dict[str, float] = {"gradient_evaluations": self.game.gradient_evaluations * self.args.world_size}
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
        leader = getattr(self.optimizer, "optimizer", self.optimizer)
        if isinstance(leader, Lamb) and (ratios := list(leader.trust_ratios().values())):
            ratio = torch.stack([torch.as_tensor(r, dtype=torch.float32).flatten().mean() for r in ratios])
            for name, value in (("min", ratio.min()), ("median", ratio.median()), ("max", ratio.max())):
                found[f"trust_ratio_{name}"] = float(value)
        return found

    def _warn_of_onset(self) -> None:
        losses = None if self._onset is None else self._onset.losses()
        self._onset = None
        if losses is None or not self.is_world_process_zero():
            return
        clean, noisy, constant = losses
        if clean < constant <= noisy:
            warnings.warn(
                f"the noise begins at step {self.game.delay} and takes all that the model has learnt: its loss is {clean:.3f}, "
                f"{noisy:.3f} under the noise, and {constant:.3f} for the best constant answer. Training may go back to that "
                f"answer; take a smaller noise_radius (now {self.args.noise_radius:g}) or a larger noise_delay",
                stacklevel=2,
            )

    def _warn_of_head(self) -> None:
        data: Any = self.train_dataset
        column = next((name for name in ("label", "labels") if name in self._columns()), None)
        if column is None or not hasattr(data, "__len__") or fresh_regression_head(self.model) is None:
            return
        if getattr(getattr(self.model, "config", None), "problem_type", None) not in (None, "regression"):
            return
        try:
            labels = torch.as_tensor(data[column][:], dtype=torch.float64)
        except (TypeError, ValueError):  # no numbers: the collator makes them
            return
        mean, spread = float(labels.mean()), float(labels.std(correction=0))
        if abs(mean) > spread and self.is_world_process_zero():
            warnings.warn(
                f"the head of this regression starts at 0, its labels have mean {mean:.3g} and deviation {spread:.3g}, "
                "and LAMB moves a layer by a share of its own size: training may end with one answer for all inputs. Call "
                "scala.heads.start_regression_head(model, labels) before it",
                stacklevel=2,
            )

    def _columns(self) -> list[str]:
        return getattr(self.train_dataset, "column_names", None) or []

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if self._warm and SAMPLE_KEY not in columns:
            columns.append(SAMPLE_KEY)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            if self.is_world_process_zero():
                # Left by a training that was cut off: this one writes them anew, and must not mistake them for newer ones.
                for old in _checkpoints(folder.parent):
                    if old == folder or (_step(old) > self.state.global_step and not _is_whole(old)):
                        shutil.rmtree(old)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero() and folder.exists():
                write_whole(folder / _DIGESTS, json.dumps(_digests(folder)))
        except (OSError, RuntimeError, SafetensorError) as error:  # as Python, torch and safetensors call a full disk
            free, reason = shutil.disk_usage(folder.parent).free / 2**20, str(error).partition("\n")[0]
            raise OSError(
                f"{folder} could not be written, with {free:.1f} MiB free on its disk ({reason}); the checkpoint before it is "
                "kept: make room and continue from there"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is None or not self._load_weights(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_weights(self, checkpoint: str) -> bool:
        """Load all weights of a checkpoint by `from_pretrained`; False for a model that does not have it, or has adapters.

        transformers 5 writes tensors under the names of the file that the model came from (bert-base-uncased's has
        LayerNorm.gamma) and its Trainer reads a checkpoint by the model's own names: tensors whose names differ would stay as
        they are, with nothing but a warning.
        """
        model = self.model
        if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
            return False
        if not list(Path(checkpoint).glob("*.safetensors*")):
            return False
        config = copy.deepcopy(model.config)
        saved = type(model).from_pretrained(checkpoint, config=config, dtype=model.dtype, use_safetensors=True)
        model.load_state_dict(saved.state_dict())
        return True

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first process writes trainer_state.json next, which says that all the others' files are there.
        self.accelerator.wait_for_everyone()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        state = {"gradient_evaluations": torch.tensor(self.game.gradient_evaluations)}
        if self.game.adversary is not None:
            state |= {f"noise.{key}": noise for key, noise in self.game.adversary.memory.items()}
        Path(output_dir).mkdir(parents=True, exist_ok=True)  # this process may be the first to get here
        save_file(state, self._follower_file(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        file = self._follower_file(checkpoint)
        if not file.exists():
            raise ValueError(
                f"{file} is missing: the checkpoint was not written by ScalaTrainer, or by fewer processes than now; "
                "continue with as many as before, or start anew"
            )
        state = load_file(file)
        self.game.gradient_evaluations = int(state.pop("gradient_evaluations"))
        if self.game.adversary is not None:
            self.game.adversary.memory = {int(key.removeprefix("noise.")): noise for key, noise in state.items()}

    def _follower_file(self, folder: str) -> Path:
        return Path(folder) / f"follower-{self.args.process_index}.safetensors"


class _Rounds(TrainerCallback):
    """Keeps the game's round equal to the Trainer's step, and guards the leader's step."""

    def __init__(self, trainer: ScalaTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.trainer.args.leader == "lamb":
            self.trainer._warn_of_head()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.game.rounds = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == self.trainer.game.delay + 1:
            self.trainer._warn_of_onset()
        if control.should_evaluate or control.should_save or state.global_step >= state.max_steps:
            self.trainer.game.check_weights()

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # With fp16 an overflowing gradient is ordinary: the scaler skips that step by itself.
        self.trainer.game.check(gradients=self.trainer.accelerator.scaler is None)


_LAST_WRITTEN = "trainer_state.json"
_DIGESTS = "digests.json"


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest whole checkpoint in a folder, or None.

    The Trainer writes trainer_state.json last, so one whose writing was cut off lacks that file or has half of it: it is passed
    over. So is, with a warning, one whose files are not those that were written, by their SHA-256 in digests.json, which is
    written right after and which checkpoints of other trainers lack.
    """
    for folder in sorted(_checkpoints(Path(output_dir)), key=_step, reverse=True):
        if _is_whole(folder):
            return folder
        if (folder / _DIGESTS).exists():
            warnings.warn(f"{folder} is damaged (it is not as it was written) and is passed over", stacklevel=2)
    return None


def _checkpoints(output_dir: Path) -> list[Path]:
    return list(output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-[0-9]*"))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _LAST_WRITTEN).read_text())
        written = checkpoint / _DIGESTS
        return not written.exists() or dict(json.loads(written.read_text())).items() <= _digests(checkpoint).items()
    except (OSError, ValueError, TypeError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint that must not change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _DIGESTS not in path.name:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
