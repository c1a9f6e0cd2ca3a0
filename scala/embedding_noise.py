"""Where the noise enters a transformer: the output of its input embedding layer, by a hook that lives for one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EmbeddingNoise:
    """Adds noise to the word embeddings of any model that names its input embedding layer.

    The hook exists only inside `with injection.added(noise):`, so noise cannot leak into evaluation, saved models or copies.
    Every token is perturbed, the special ones too, padding never (see `Ball`), and before positions, segments and
    normalisation are added, as in FreeLB (arXiv 1909.11764) and NEFTune (arXiv 2310.05914).
    """

    def __init__(self, model: nn.Module) -> None:
        """Find the model's input embedding layer.

        Args:
            model: a module with `get_input_embeddings()` (every transformers model), not wrapped by DDP.

        Raises:
            TypeError: the model does not name its input embeddings.
        """
        get = getattr(model, "get_input_embeddings", None)
        layer = get() if callable(get) else None
        if not isinstance(layer, nn.Module):
            raise TypeError(
                f"{type(model).__name__} has no input embedding layer; give it a method get_input_embeddings() that returns one"
            )
        self.layer = layer

    @torch.no_grad()
    def embeddings(self, input_ids: Tensor) -> Tensor:
        """The clean embeddings of `input_ids` [B, L], shape [B, L, d]: where the noise is added."""
        return self.layer(input_ids)

    @contextmanager
    def added(self, noise: Tensor | None) -> Iterator[None]:
        """Add `noise` in the one forward pass made inside this context; None adds nothing and installs no hook.

        Args:
            noise: shape [B, L, d] of the embeddings.

        Raises:
            ValueError: the embeddings' shape differs from the noise's.
            RuntimeError: the embedding layer ran not exactly once inside the context.
        """
        if noise is None:
            yield
            return
        calls = 0

        def add(_layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if output.shape != noise.shape:
                raise ValueError(
                    f"noise of shape {tuple(noise.shape)} cannot be added to embeddings of shape {tuple(output.shape)}; "
                    "the batch must reach the embedding layer padded, as [batch, length]"
                )
            return output + noise.to(output.dtype)

        handle = self.layer.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()
        if calls != 1:
            raise RuntimeError(
                f"the input embedding layer ran {calls} times in one forward pass, not once, so the noise was not added as "
                "asked; pass input_ids (not inputs_embeds), and use a model that embeds its input once"
            )
