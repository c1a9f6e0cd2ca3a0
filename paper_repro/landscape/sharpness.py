"""How far the loss rises nearby: under a move of the weights, and under noise on the input embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from paper_repro.landscape.objective import Objective
from scala import Adversary, AscentView, EmbeddingNoise


@dataclass(frozen=True)
class WeightSharpness:
    """The greatest rise that an ascent found: a lower bound of the greatest rise in the ball.

    Attributes:
        rise: f(x + d) - f(x), at least 0.
        move: d, [n].
        gradients: evaluations of f's gradient that it took.
    """

    rise: float
    move: np.ndarray
    gradients: int


def weight_sharpness(
    objective: Objective, x: np.ndarray, radius: float, steps: int = 10, *, restarts: int = 0, seed: int = 0
) -> WeightSharpness:
    """max f(x + d) - f(x) over ||d_i|| <= radius ||x_i|| in every layer i.

    Radii relative to each layer see no difference between networks that are one function with rescaled layers, as SAM's one
    ball does (Foret et al. 2021, arXiv 2010.01412; Kwon et al. 2021, arXiv 2102.11600). Projected ascent, in each layer along
    its own normalised gradient, its steps falling linearly from the radius: the first is SAM's own. The best point
    on the way counts. A layer of zeros does not move.

    Args:
        objective: f.
        x: the weights, [n].
        radius: epsilon > 0.
        steps: K >= 1 gradients of each ascent.
        restarts: further ascents, from random points on the boundary; where f'(x) = 0 the first one does not move.
        seed: of the restarts.

    Raises:
        ValueError: radius or steps out of range.
    """
    if not 0 < radius < float("inf") or steps < 1:
        raise ValueError(f"radius must be positive and finite and steps at least 1, got {radius} and {steps}")
    radii = {name: radius * float(np.linalg.norm(x[where])) for name, where in objective.layers.items()}
    rng = np.random.default_rng(seed)
    randoms = (_to_boundary(rng.standard_normal(objective.size), objective, radii) for _ in range(restarts))
    clean = objective.value(x)
    best, best_move = clean, np.zeros(objective.size)
    for start in itertools.chain([best_move], randoms):
        for value, move in _ascend(objective, x, start, radii, steps):
            if value > best:
                best, best_move = value, move
    return WeightSharpness(best - clean, best_move, (1 + restarts) * steps)


def _ascend(
    objective: Objective, x: np.ndarray, move: np.ndarray, radii: dict[str, float], steps: int
) -> Iterator[tuple[float, np.ndarray]]:
    """Each point that the ascent visits, and f there."""
    for step in range(steps):
        value, gradient = objective.value_and_gradient(x + move)
        yield value, move
        move = _project(move + (1 - step / steps) * _to_boundary(gradient, objective, radii), objective, radii)
    yield objective.value(x + move), move


def _to_boundary(direction: np.ndarray, objective: Objective, radii: dict[str, float]) -> np.ndarray:
    """Each layer of the direction scaled to its radius; a layer of zeros stays."""
    scaled = np.zeros(objective.size)
    for name, where in objective.layers.items():
        if size := float(np.linalg.norm(direction[where])):
            scaled[where] = direction[where] * (radii[name] / size)
    return scaled


def _project(move: np.ndarray, objective: Objective, radii: dict[str, float]) -> np.ndarray:
    boundary = _to_boundary(move, objective, radii)
    return np.where(np.abs(move) > np.abs(boundary), boundary, move)  # a layer is scaled as one, so all its entries agree


@dataclass(frozen=True)
class EmbeddingSharpness:
    """The follower's own gain.

    Attributes:
        rise: mean loss over the samples under the follower's noise, less that without.
        clean: mean loss without noise.
        rises: the rise of each batch, [batches].
        gradients: gradients of one sample's loss that it took.
    """

    rise: float
    clean: float
    rises: np.ndarray
    gradients: int


def embedding_sharpness(model: nn.Module, batches: Sequence[dict[str, Tensor]], adversary: Adversary) -> EmbeddingSharpness:
    """The rise of the mean loss when the follower answers with noise on the input embeddings of every sample.

    In evaluation mode, so it is a measure of the weights, not of a pass with dropout. The model is left as it was.

    Args:
        model: one that names its input embeddings and returns its mean loss, as transformers' models do.
        batches: "input_ids", "labels", an "attention_mask" where there is padding, and what else forward takes.
        adversary: its radius, norm and steps.
    """
    injection = EmbeddingNoise(model)
    rises, losses, gradients = [], [], 0
    with AscentView(dropout=False).of(model):
        for batch in batches:

            def objective(noise: Tensor | None, batch: dict[str, Tensor] = batch) -> Tensor:
                with injection.added(noise):
                    return model(**batch).loss

            at = injection.embeddings(batch["input_ids"])
            response = adversary.respond(objective, at, batch.get("attention_mask"))
            gradients += response.gradients
            with torch.no_grad():
                losses.append(float(objective(None)))
                rises.append(float(objective(response.noise)) - losses[-1])
    samples = [len(batch["labels"]) for batch in batches]
    return EmbeddingSharpness(
        float(np.average(rises, weights=samples)), float(np.average(losses, weights=samples)), np.array(rises), gradients
    )
