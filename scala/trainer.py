"""The method for transformers users: a `Trainer` that plays the game.

config = ScalaConfig(output_dir="out", global_batch_size=512, per_device_train_batch_size=32, num_train_epochs=3)
ScalaTrainer(model, config, train_dataset=train, eval_dataset=dev, processing_class=tokenizer).train()

Any subclass of `Trainer` plays it by `ScalaMixin`:

class Config(ScalaConfig, Seq2SeqTrainingArguments): ...  # a dataclass
class MyTrainer(ScalaMixin, Seq2SeqTrainer): ...
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from scala import checkpoints, loss_share
from scala.adversary import Adversary, random_state_kept
from scala.ascent_view import evaluation_mode
from scala.batches import length_sorted, without_repeats
from scala.checkpoints import last_checkpoint
from scala.config import RATES, SAMPLE_KEY, ScalaConfig
from scala.embedding_noise import EmbeddingNoise, Points, masks_of
from scala.game import Game, RoundReport, frozen
from scala.lamb import Lamb, parameter_groups
from scala.loss_share import LossShare
from scala.watch import Watch, columns_of, diagnostics

__all__ = ["NOISE_MASK", "RATES", "SAMPLE_KEY", "ScalaConfig", "ScalaMixin", "ScalaTrainer", "last_checkpoint"]

NOISE_MASK = "noise_mask"
"""The entry of a batch that says which tokens get noise, [B, L]; without it the attention mask does."""

_WEIGHTLESS = "_weightless"
"""Marks a micro-batch whose samples all repeat earlier ones."""
_TRIED = 4
"""Micro-batches of the first step that tell what the loss is."""

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class ScalaMixin(_Base):
    """What makes a `Trainer` play the game; put it before the Trainer: `class MyTrainer(ScalaMixin, Seq2SeqTrainer)`.

    - The game is played around the loss that the trainer has, whatever it is: a model's own, `compute_loss_func`, an overridden
      `compute_loss`. A step that went round it is an error, not a step without noise.
    - Large batches: the gradient of N accumulated micro-batches is that of one batch holding all their samples, ragged ones
      included, for a loss that is a mean over samples or labelled tokens, or is told `num_items_in_batch`. Which one it is, the
      first step tells (`scala.loss_share`); of another mean `loss_items` says the weights.
    - The follower is tried once in the first step, however long the delay, so that what cannot be played fails at once.
    - Its passes run on the unwrapped model, outside DDP's reducer, and take gradients of the noise only.
    - The delay counts optimizer steps of the whole training, so it survives a resume; checkpoints also hold the follower's
      state (gradient evaluations so far; the noises of a warm start, kept per process).
    - A non-finite loss or gradient stops training with `scala.game.NonFiniteLoss` before it reaches the weights.
    - If the noise takes all that the model has learnt when it begins (see `scala.onset`), a `UserWarning` says so, once.
    - Logs hold the follower's diagnostics: `noise_norm`, `noise_radius`, `loss_rise` and `noise_still` of the last
      micro-batch, `follower`, `follower_rounds` so far, `gradient_evaluations`, and the minimum, median and maximum trust ratio
      of LAMB.
    """

    args: ScalaConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    game: Game
    injection: EmbeddingNoise | None
    # The game returns its share of the whole batch's mean; the Trainer must not rescale it.
    loss_is_scaled_for_ga = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an order of bases in which the Trainer's methods would hide these."""
        super().__init_subclass__(**kwargs)
        if Trainer in cls.__mro__ and cls.__mro__.index(Trainer) < cls.__mro__.index(ScalaMixin):
            raise TypeError(
                f"{cls.__name__}: ScalaMixin must stand before the Trainer, as in class {cls.__name__}(ScalaMixin, ...)"
            )

    def __init__(self, model: nn.Module | None = None, args: ScalaConfig | None = None, *others: Any, **kwargs: Any) -> None:
        """As the Trainer beside it; `optimizers=(leader, scheduler)` makes any torch optimizer the leader.

        Raises:
            TypeError: args is not a ScalaConfig, or the model does not name its input embeddings.
            ValueError: a parallelism other than DDP (one process per GPU), a warm start without a column of sample keys, or an
                argument that nothing would read.
        """
        if not isinstance(args, ScalaConfig):
            raise TypeError(
                f"args must be a ScalaConfig, got {type(args).__name__}; for a trainer whose arguments are of a class of their "
                f"own make one of both: @dataclass class Config(ScalaConfig, {type(args).__name__}): pass"
            )
        if kwargs.get("optimizer_cls_and_kwargs") is not None and args.leader == "lamb":
            raise ValueError("leader='lamb' does not read optimizer_cls_and_kwargs: set leader='optim', or leave it out")
        super().__init__(model, args, *others, **kwargs)
        if args.n_gpu > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError(
                "ScalaTrainer runs on one device or under DDP (torchrun, one process per GPU): LAMB's norms and the noise need "
                "whole layers and whole batches, so DataParallel, FSDP and DeepSpeed are refused"
            )
        self._place_noise()
        self._warm = args.noise == "adversarial" and args.noise_start == "warm"
        if self._warm and SAMPLE_KEY not in (columns_of(self.train_dataset) or [SAMPLE_KEY]):
            raise ValueError(f"noise_start='warm' needs a column {SAMPLE_KEY!r} of integers in the training set")
        self._watch = Watch(self)
        self.add_callback(self._watch)
        self.batch_per_process = args.per_device_train_batch_size * args.gradient_accumulation_steps

    def loss_items(self, inputs: Mapping[str, Any]) -> Tensor | float | None:
        """The sum of the weights by which this micro-batch's loss is a mean; override it for a loss that weighs its items.

        A cross-entropy with class weights, for one, is a mean by `weights[labels]`. None, the default: it is found out.

        Args:
            inputs: the micro-batch, as the loss gets it.
        """
        return None

    def _place_noise(self) -> None:
        """Find where the noise enters; anew for every training, since `model_init` makes a new model."""
        self.injection = None if self.args.noise == "none" else EmbeddingNoise(self.model, self.args.noise_module)
        self._runs: int | None = None
        self._tried = False
        self._share: LossShare | None = None
        self._whole: dict[str, Tensor] = {}

    # --- leader, game, batches -------------------------------------------------------------------------------------------

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
        """Also sets up the game, since only now the leader and the number of steps are known.

        Raises:
            ValueError: the noise would begin after the last step.
        """
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        delay = self.args.delay_steps(num_training_steps)
        if self.args.noise != "none" and delay >= num_training_steps > 0:
            raise ValueError(
                f"noise_delay {self.args.noise_delay:g} begins the noise at step {delay}, and training has "
                f"{num_training_steps} steps: it would never begin. Lower noise_delay, train for longer, or set noise='none'"
            )
        self._place_noise()
        self._watch.reset()
        self.game = Game(
            self.optimizer,
            self.args.adversary(),
            delay=delay,
            every=self.args.noise_every,
            adversarial_weight=self.args.adversarial_weight,
        )
        return scheduler

    def get_train_dataloader(self) -> Any:
        """Also keeps the large batch when `auto_find_batch_size` has made the micro-batches smaller."""
        if self._train_batch_size * self.args.gradient_accumulation_steps != self.batch_per_process:
            micro = max(n for n in range(1, self._train_batch_size + 1) if self.batch_per_process % n == 0)
            self._train_batch_size, self.args.gradient_accumulation_steps = micro, self.batch_per_process // micro
        return super().get_train_dataloader()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        data = self.train_dataset if train_dataset is None else train_dataset
        several = self.args.world_size * self.args.gradient_accumulation_steps
        other = getattr(self.args, "train_sampling_strategy", "random") != "random"  # the first 5.x versions have no other
        if several > 1 and not other and self.args.sort_by_length:
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            if sampler := length_sorted(data, self._train_batch_size * several, self._train_batch_size, seed):
                return sampler
        return super()._get_train_sampler(train_dataset)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of one leader's step; what they hold over all processes is counted on the way."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, items
        if self.accelerator.gradient_state.end_of_dataloader and not self.args.dataloader_drop_last:
            data, world = self.train_dataset, self.args.world_size
            samples = self._samples(batches[-1])
            last, left = without_repeats(
                batches[-1], samples, data, self._train_batch_size, process=self.args.process_index, world=world
            )
            batches[-1] = last if left else {**last, _WEIGHTLESS: True}
            if items is not None and world > 1:
                unlabelled = {k: torch.full_like(v, loss_share.IGNORED) if "label" in k else v for k, v in last.items()}
                items = self._get_num_items_in_batch([*batches[:-1], last if left else unlabelled], device)
        found = [self._counted(batch) for batch in batches]
        sums = {name: torch.stack([one[name].to(device, torch.float64) for one in found]).sum() for name in found[0]}
        reduced = self.accelerator.reduce(torch.stack(list(sums.values())), "sum")
        self._whole = dict(zip(sums, reduced.unbind(), strict=True))
        if self._share is None:
            self._share = self._found_share(batches, items)
        return batches, items

    def _counted(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What a mean may be over in a micro-batch; nothing, in one that weighs nothing."""
        found = loss_share.counts(batch, self._samples(batch))
        own = self.loss_items(batch)
        if own is not None:
            found["own"] = torch.as_tensor(own)
        return {name: torch.zeros_like(value) for name, value in found.items()} if _WEIGHTLESS in batch else found

    def _samples(self, batch: Mapping[str, Any]) -> int:
        return loss_share.samples_in(batch, self._main_input)

    @property
    def _main_input(self) -> str:
        return getattr(self.model, "main_input_name", None) or "input_ids"

    # --- a micro-batch ---------------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *others: Any, **kwargs: Any) -> Tensor:
        """One micro-batch of a round of the game, around the loss that the trainer has."""
        with self._played_around_the_loss():
            return super().training_step(model, inputs, *others, **kwargs)

    @contextmanager
    def _played_around_the_loss(self) -> Iterator[None]:
        # The loss that is asked for is the game's, as long as this lasts, and only on this object: `super().compute_loss` in a
        # subclass is the trainer's own still, and so is the loss of an evaluation.
        loss_of = self.compute_loss

        def played(model: nn.Module, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            loss, outputs = self._play(loss_of, model, inputs, kwargs.get("num_items_in_batch"))
            return (loss, outputs) if return_outputs else loss

        self.compute_loss = cast(Any, played)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.compute_loss

    def _play(self, loss_of: Callable[..., Any], model: nn.Module, inputs: Any, items: Any) -> tuple[Tensor, Any]:
        """This micro-batch's share of the loss that the leader descends, and the model's outputs."""
        batch = inputs
        inputs, keys = self._loss_inputs(batch)
        samples = self._samples(inputs)
        if "num_items_in_batch" not in inspect.signature(loss_of).parameters:
            items = None
        share = self._share or LossShare(None)
        told = {} if items is None or share.over is not None else {"num_items_in_batch": items}
        points: Points | None = None
        outputs: Any = None

        def objective(noise: Tensor | None, module: nn.Module = model) -> Tensor:
            nonlocal outputs
            # A follower that moves a share of the samples asks for the loss of those alone.
            rows = dict(inputs) if noise is None else loss_share.rows_of(inputs, 0, len(noise), samples)
            with self._noisy(noise, points):
                loss, outputs = loss_of(module, rows, return_outputs=True, **told)
            return loss

        def ascent_objective(noise: Tensor | None) -> Tensor:
            # On the unwrapped model: DDP's forward prepares its reducer for a backward pass that the ascent never makes.
            with self.args.ascent_view().of(self.model):
                return objective(noise, self.model)

        if self.game.adversary is not None and (self.game.follower_moves or not self._tried):
            points = self._points(ascent_objective, inputs, samples, batch.get(NOISE_MASK))
            if not self._tried and not self.game.follower_moves:
                self._try_follower(ascent_objective, points, keys)
                points = None
            self._tried = True
        self._watch.losses_played += 1
        main = inputs.get(self._main_input)
        loss = self.game.loss(
            objective,
            # A plain round only counts samples.
            at=points.at if points is not None else main if isinstance(main, Tensor) else torch.empty(samples),
            mask=points.mask if points is not None else inputs.get("attention_mask"),
            keys=keys,
            ascent_objective=ascent_objective,
            loss_scale=1.0 if self.accelerator.scaler is None else self.accelerator.scaler.get_scale(),
        )
        if self._watch.onset is not None and self.game.rounds == self.game.delay:
            self._watch.onset.see(cast(RoundReport, self.game.report), inputs.get("labels"))
        return self._weighted(loss, batch), outputs

    def _weighted(self, loss: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """A mean loss as a share of the whole batch's mean. DDP averages over processes, so each multiplies by their number."""
        if _WEIGHTLESS in inputs:
            return loss * 0
        if self._share is None:  # a trainer that draws its micro-batches in a way of its own
            return loss / getattr(self, "current_gradient_accumulation_steps", 1)
        if self._share.over is None:
            return loss
        part = self._counted(inputs)[self._share.over]
        return loss * (part * self.args.world_size) / self._whole[self._share.over].to(loss.dtype)

    def _found_share(self, batches: list[Any], items: Any) -> LossShare:
        """What the loss is: see `scala.loss_share`. All processes come to one answer."""
        several = self.args.gradient_accumulation_steps * self.args.world_size
        if several == 1:
            return LossShare(None)  # the whole batch's mean as it is
        loss_of = self.compute_loss
        tried = [self._loss_inputs(self._prepare_inputs(batch))[0] for batch in batches[:_TRIED]]
        tells = "num_items_in_batch" in inspect.signature(loss_of).parameters

        def score(batch: Mapping[str, Any], number: Tensor | None) -> float:
            told: Any = {} if number is None else {"num_items_in_batch": number}
            with evaluation_mode(self.model), random_state_kept(self.args.device), torch.no_grad():
                return float(cast(Tensor, loss_of(self.model, dict(batch), **told)))

        def own(batch: Mapping[str, Any], _: Tensor | None) -> float:
            return float(cast(Any, self.loss_items(batch)))

        low = self.args.bf16 or self.args.fp16 or next(self.model.parameters()).dtype in (torch.bfloat16, torch.float16)
        share = loss_share.found_out(
            score,
            tried,
            items if tells else None,
            None if self.loss_items(tried[0]) is None else own,
            precision=1e-3 if low else 1e-5,
        )
        share = cast(list, broadcast_object_list([share]))[0]
        if not share.exact and self.is_world_process_zero():
            loss_share.warn_inexact(several)
        return share

    def _loss_inputs(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """What the loss gets of a micro-batch; and its samples' keys, for a warm start."""
        inputs = {name: value for name, value in batch.items() if name not in (NOISE_MASK, _WEIGHTLESS)}
        return inputs, inputs.pop(SAMPLE_KEY, None) if self._warm else None

    # --- the follower ----------------------------------------------------------------------------------------------------

    def _noisy(self, noise: Tensor | None, points: Points | None) -> AbstractContextManager[None]:
        if self.injection is None or noise is None:
            return nullcontext()
        return self.injection.added(noise, None if points is None else points.shapes)

    def _points(self, objective: Callable[[None], Tensor], inputs: Any, samples: int, noise_mask: Tensor | None) -> Points:
        """Where the noise is added in this micro-batch."""
        assert self.injection is not None
        masks = masks_of(inputs, samples) if noise_mask is None else [noise_mask]
        with random_state_kept(self.args.device), torch.no_grad():
            points = self.injection.points(lambda: objective(None), samples, masks, self._runs)
        self._runs = len(points.shapes)
        if points.mask is None and masks and not self._tried:
            shapes = ", ".join(str(list(shape)) for shape in points.shapes)
            if noise_mask is not None:
                raise ValueError(
                    f"{NOISE_MASK} has shape {list(noise_mask.shape)}, no prefix of where the noise goes: {shapes}"
                )
            warnings.warn(
                f"no attention mask fits where the noise goes ({shapes}), so padding gets noise as well; put {NOISE_MASK!r} "
                "[samples, positions] into the batches to say what exists",
                stacklevel=2,
            )
        return points

    def _try_follower(self, objective: Callable[[Tensor | None], Tensor], points: Points, keys: Any) -> None:
        """Let a follower of the same options answer once, and forget its answer.

        Raises:
            RuntimeError: it cannot play.
        """
        stranger = cast(Adversary, self.args.adversary())
        try:
            with frozen(self.game.leader), random_state_kept(self.args.device):
                stranger.respond(objective, points.at, points.mask, keys)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            hint = "; use gradient_checkpointing_kwargs={'use_reentrant': False}" if "checkpoint" in str(error) else ""
            raise RuntimeError(
                f"the follower, tried before the first step although its noise begins at step {self.game.delay}, cannot play: "
                f"{error}{hint}"
            ) from error

    # --- logs and warnings -----------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the follower's and the leader's diagnostics beside the training loss."""
        if "loss" in logs and hasattr(self, "game"):
            logs["gradient_evaluations"] = self.game.gradient_evaluations * self.args.world_size
            logs["follower_rounds"] = self._watch.follower_rounds
            logs.update(diagnostics(self.game, getattr(self.optimizer, "optimizer", self.optimizer)))
        super().log(logs, start_time)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        columns += [name for name in (NOISE_MASK, *([SAMPLE_KEY] if self._warm else [])) if name not in columns]

    # --- checkpoints -----------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with checkpoints.full_disk_explained(folder):
            if self.is_world_process_zero():
                checkpoints.remove_stale(folder)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero():
                checkpoints.seal(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not checkpoints.load_weights(self.model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or not checkpoints.load_weights(self.model, best):
            super()._load_best_model()

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first process writes trainer_state.json next, which says that all the others' files are there.
        self.accelerator.wait_for_everyone()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        state = {
            "gradient_evaluations": torch.tensor(self.game.gradient_evaluations),
            "follower_rounds": torch.tensor(self._watch.follower_rounds),
        }
        if self.game.adversary is not None:
            state |= {f"noise.{key}": noise for key, noise in self.game.adversary.memory.items()}
        Path(output_dir).mkdir(parents=True, exist_ok=True)  # this process may be the first to get here
        save_file(state, self._follower_file(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return super()._load_optimizer_and_scheduler(checkpoint)
        file = self._follower_file(checkpoint)
        if not file.exists():
            raise ValueError(
                f"{file} is missing: the checkpoint holds the model alone (save_only_model), was not written by ScalaTrainer, "
                "or by fewer processes than now; continue with as many as before, or start anew from its weights"
            )
        leader = getattr(self.optimizer, "optimizer", self.optimizer)
        ours = checkpoints.options_of(leader)
        super()._load_optimizer_and_scheduler(checkpoint)
        checkpoints.refuse_overridden(ours, checkpoints.options_of(leader), checkpoint)
        state = load_file(file)
        self.game.gradient_evaluations = int(state.pop("gradient_evaluations"))
        self._watch.follower_rounds = int(state.pop("follower_rounds", torch.tensor(0)))
        if self.game.adversary is not None:
            self.game.adversary.memory = {int(key.removeprefix("noise.")): noise for key, noise in state.items()}

    def _follower_file(self, folder: str) -> Path:
        return Path(folder) / f"follower-{self.args.process_index}.safetensors"


class ScalaTrainer(ScalaMixin, Trainer):
    """A `Trainer` whose training step is a round of the game; everything else is transformers' own. See `ScalaMixin`."""
