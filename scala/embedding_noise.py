"""Where the noise enters a model: the output of its input embedding layer, or of another module that is named."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scala.loss_share import IGNORED


@dataclass(frozen=True)
class Points:
    """The points that one batch's noise is added to.

    Attributes:
        at: [B, ...], one row a sample. The output itself, if the module ran once and gave a row a sample. Else all that a
            sample has, flattened: of several runs (an encoder's and a decoder's), or several rows (a question's choices).
        mask: which entries exist, a prefix of at's shape; None: all.
        shapes: of the output of each run.
    """

    at: Tensor
    mask: Tensor | None
    shapes: tuple[torch.Size, ...]


class EmbeddingNoise:
    """Adds noise to the word embeddings of any model that names its input embedding layer, or at another place.

    The hooks exist only inside `with injection.added(noise):`, so noise cannot leak into evaluation, saved models or copies.
    Every token is perturbed, the special ones too, padding never (see `Ball`), and before positions, segments and
    normalisation are added, as in FreeLB (arXiv 1909.11764) and NEFTune (arXiv 2310.05914).

    Noise is float32. A layer whose output is bfloat16 or float16 rounds the sum, so what such a model sees may lie outside the
    ball: by 4 to 7% at a relative radius of .003 in bfloat16. Keep weights in float32 under autocast where that matters.
    """

    def __init__(self, model: nn.Module, module: str | None = None) -> None:
        """Find the place.

        Args:
            model: not wrapped by DDP; without `module` it needs `get_input_embeddings()`, as every transformers model has.
            module: the name of a submodule whose output, or first output, is a float tensor [B, ...].

        Raises:
            TypeError: the model does not name its input embeddings.
            ValueError: the model has no submodule of that name.
        """
        if module is None:
            get = getattr(model, "get_input_embeddings", None)
            layer = get() if callable(get) else None
            if not isinstance(layer, nn.Module):
                raise TypeError(
                    f"{type(model).__name__} has no input embedding layer; name the module whose output gets the noise "
                    "(ScalaConfig: noise_module), or give the model a method get_input_embeddings() that returns one"
                )
        else:
            modules = dict(model.named_modules())
            if module not in modules or not module:
                near = difflib.get_close_matches(module, modules, n=1)
                raise ValueError(
                    f"{type(model).__name__} has no module {module!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "; model.named_modules() lists them")
                )
            layer = modules[module]
        self.layer = layer
        # T5's encoder and decoder look words up in tables of their own that share the weight of the one that the model names.
        self.layers = [layer]
        weight = getattr(layer, "weight", None) if module is None else None
        if weight is not None:
            same = (m for m in model.modules() if isinstance(m, nn.Embedding) and m is not layer)
            self.layers += [m for m in same if m.weight is weight]

    @torch.no_grad()
    def embeddings(self, input_ids: Tensor) -> Tensor:
        """The clean embeddings of `input_ids` [B, L], shape [B, L, d]: where the noise is added."""
        return self.layer(input_ids)

    @torch.no_grad()
    def points(self, run: Callable[[], Any], samples: int, masks: Sequence[Tensor] = (), runs: int | None = None) -> Points:
        """The points that a pass puts the noise at, found by making that pass.

        Args:
            run: makes one forward pass of the model.
            samples: B.
            masks: what may say which entries exist: [B, L], [B, choices, L], or an attention mask [B, 1, L, L]; each run takes
                the first that fits and was not taken. Where none fits all entries of a run exist.
            runs: how often the place runs in a pass, if that is known: then the pass is cut off after the last of them.

        Raises:
            RuntimeError: the place did not run.
            ValueError: its output is no float tensor, or has not B rows, or a multiple of B.
        """
        outputs: list[Tensor] = []

        def see(module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs.append(self._checked(_first(output), samples, type(module).__name__))
            if len(outputs) == runs:
                raise _SeenAll

        with self._hooked(see), suppress(_SeenAll):
            run()
        if not outputs:
            raise RuntimeError(
                f"the module that gets the noise ({type(self.layer).__name__}) did not run in a forward pass; pass input_ids "
                "(not inputs_embeds), or name another module (ScalaConfig: noise_module)"
            )
        shapes = tuple(output.shape for output in outputs)
        found = _fitting([_per_sample(shape, samples) for shape in shapes], masks)
        if len(outputs) == 1 and len(outputs[0]) == samples:
            return Points(outputs[0], found[0], shapes)
        flat = torch.cat([output.reshape(samples, -1) for output in outputs], dim=1)
        if all(mask is None for mask in found):
            return Points(flat, None, shapes)
        exists = [_spread(mask, _per_sample(shape, samples), flat.device) for mask, shape in zip(found, shapes, strict=True)]
        return Points(flat, torch.cat(exists, dim=1), shapes)

    @contextmanager
    def added(self, noise: Tensor | None, shapes: Sequence[torch.Size] | None = None) -> Iterator[None]:
        """Add `noise` in the one forward pass made inside this context; None adds nothing and installs no hook.

        Args:
            noise: of the shape of the embeddings [B, L, d]; or, with `shapes`, of `Points.at`, or of its first samples.
            shapes: `Points.shapes`; None: the place runs once.

        Raises:
            ValueError: the embeddings' shape differs from the noise's.
            RuntimeError: the place ran more or less often than that.
        """
        if noise is None:
            yield
            return
        wanted = 1 if shapes is None else len(shapes)
        parts = [noise] if shapes is None else _split(noise, shapes)
        calls = 0

        def add(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > wanted:
                return output
            part, clean = parts[calls - 1], _first(output)
            if clean.shape != part.shape:
                raise ValueError(
                    f"noise of shape {tuple(part.shape)} cannot be added to embeddings of shape {tuple(clean.shape)}; "
                    "the batch must reach the embedding layer padded, as [batch, length]"
                )
            noisy = clean + part.to(clean.dtype)
            return (noisy, *output[1:]) if isinstance(output, tuple) else noisy

        with self._hooked(add):
            yield
        if calls != wanted:
            raise RuntimeError(
                f"the input embedding layer ran {calls} times in one forward pass, not {_times(wanted)}, so the noise was not "
                "added as asked; pass input_ids (not inputs_embeds), or name another module (ScalaConfig: noise_module)"
            )

    @contextmanager
    def _hooked(self, hook: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in self.layers:
                stack.callback(layer.register_forward_hook(hook).remove)
            yield

    @staticmethod
    def _checked(output: Any, samples: int, name: str) -> Tensor:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise ValueError(f"{name}, which is to get the noise, gives no float tensor; name another module")
        if output.ndim == 0 or not len(output) or len(output) % samples:
            raise ValueError(
                f"{name}, which is to get the noise, gives a tensor of shape {tuple(output.shape)} for {samples} samples; its "
                "first dimension must be the samples. Name another module"
            )
        return output.detach()


class _SeenAll(BaseException):
    """Ends a pass that was made for its embeddings; no handler of errors in the model may take it for one."""


def masks_of(batch: Mapping[str, Any], samples: int) -> list[Tensor]:
    """A batch's attention masks, in its order, as `EmbeddingNoise.points` takes them.

    A decoder that is fed the labels, as T5's, has a mask made from them: an input exists if it, or one after it, has a label
    that is not left out of the loss (-100).

    Args:
        batch: what the model is called with.
        samples: B.
    """
    named = [value for name, value in batch.items() if name.endswith("attention_mask") and isinstance(value, Tensor)]
    found = [_of_keys(mask) for mask in named if mask.ndim and len(mask) == samples]
    labels = batch.get("labels")
    if "decoder_attention_mask" not in batch and isinstance(labels, Tensor) and labels.ndim == 2 and len(labels) == samples:
        found.append(labels.ne(IGNORED).flip(1).cumsum(1).flip(1) > 0)
    return found


def _of_keys(mask: Tensor) -> Tensor:
    """[B, heads, queries, keys] -> [B, keys]: what some query sees. Additive masks (floats <= 0) become booleans."""
    if mask.ndim != 4:
        return mask
    seen = mask > torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() and mask.max() <= 0 else mask != 0
    return seen.any(dim=2).any(dim=1)


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _per_sample(shape: torch.Size, samples: int) -> tuple[int, ...]:
    """A run's shape with the samples alone in front: [24, L, d] of 8 questions is [8, 3, L, d]."""
    return tuple(shape) if shape[0] == samples else (samples, shape[0] // samples, *shape[1:])


def _fitting(shapes: Sequence[tuple[int, ...]], masks: Sequence[Tensor]) -> list[Tensor | None]:
    left, found = list(masks), []
    for shape in shapes:
        # A mask that says nothing of what a sample consists of is none.
        fits = next((i for i, mask in enumerate(left) if mask.ndim > 1 and tuple(mask.shape) == shape[: mask.ndim]), None)
        found.append(None if fits is None else left.pop(fits))
    return found


def _spread(mask: Tensor | None, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """[B, entries], true where an entry exists."""
    if mask is None:
        return torch.ones(shape[0], math.prod(shape[1:]), dtype=torch.bool, device=device)
    return (mask != 0).reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)).expand(shape).reshape(shape[0], -1)


def _split(noise: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The noise of each run, of the samples that there is noise for."""
    if len(shapes) == 1 and noise.shape[1:] == shapes[0][1:]:
        return [noise]
    rows = len(noise)
    total = sum(math.prod(shape) for shape in shapes)
    samples = total // max(1, math.prod(noise.shape[1:]))
    sizes = [math.prod(shape) // samples for shape in shapes]
    parts = noise.reshape(rows, -1).split(sizes, dim=1)
    return [part.reshape(shape[0] // samples * rows, *shape[1:]) for part, shape in zip(parts, shapes, strict=True)]


def _times(runs: int) -> str:
    return "once" if runs == 1 else f"{runs} times"
