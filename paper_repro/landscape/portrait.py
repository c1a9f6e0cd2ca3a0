"""All measures of one checkpoint, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor, nn
from transformers import AutoTokenizer, DataCollatorWithPadding

from paper_repro.data.encoders import resolve
from paper_repro.data.tasks import Task
from paper_repro.landscape.gradients import NoiseScale, gram_matrices, layerwise_noise_scale, noise_scale
from paper_repro.landscape.objective import Objective, weights
from paper_repro.landscape.sharpness import embedding_sharpness, weight_sharpness
from paper_repro.landscape.slices import filter_normalized, line
from paper_repro.landscape.spectrum import density, extreme_eigenvalues, lanczos
from paper_repro.runs.experiment import Run
from scala import Adversary
from scala.labelled_text import tokenized

NOISE_RADIUS = 0.03
"""Of the follower whose gain is measured, relative to each sample's embeddings: that of main.toml's ScaLA on bert-tiny."""

WEIGHT_RADIUS = 1e-3
"""Of the ball of weights, relative to each layer's norm. Small: the ascent puts an embedding matrix's whole move into the few
tokens that every sentence has."""

LINE = tuple(np.linspace(-1, 1, 41).round(3).tolist())
"""Where the loss is taken along a filter-normalised direction; 1 is a move as large as the weights."""

DIRECTION_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Sizes:
    """How much data and how many products with the Hessian a portrait takes.

    Attributes:
        sentences: whose mean loss is the landscape.
        batch: sentences in one pass.
        batches: random equal batches for the gradient's noise, of `batch` sentences each.
        eigenvalues: how many of the largest at finished models; on the way there it is one.
        probes: of the spectral density, at least 2.
        lanczos: products of each probe.
        layer_sentences: for the layers' curvature.
        layer_lanczos: products for each layer.
    """

    sentences: int = 128
    batch: int = 64
    batches: int = 32
    eigenvalues: int = 5
    probes: int = 2
    lanczos: int = 16
    layer_sentences: int = 16
    layer_lanczos: int = 5


@dataclass(frozen=True)
class Data:
    """Training sentences, tokenised and padded: the same for every checkpoint.

    Attributes:
        sorted: of like length, so that little is padding: for the mean loss and its derivatives.
        random: equal batches in random order: for the noise between them.
        examples: of the training set.
        labels: classes; 1 for regression.
    """

    sorted: list[dict[str, Tensor]]
    random: list[dict[str, Tensor]]
    examples: int
    labels: int

    @classmethod
    def of(cls, task: Task, run: Run, sizes: Sizes) -> Data:
        """Draw them from the training set, in a fixed order whatever the run's seed."""
        tokenizer = AutoTokenizer.from_pretrained(resolve(run.model))
        wanted = max(sizes.sentences, sizes.batch * sizes.batches)
        if wanted > len(task.train):
            raise ValueError(f"the measures take {wanted} training examples, {task.name} has {len(task.train)}")
        drawn = tokenized(task.train.shuffle(seed=0).select(range(wanted)), tokenizer, run.max_length).remove_columns("idx")
        rows = [drawn[i] for i in range(wanted)]
        collate = DataCollatorWithPadding(tokenizer)

        def padded(chosen: list[Any]) -> list[dict[str, Tensor]]:
            return [dict(collate(chosen[i : i + sizes.batch])) for i in range(0, len(chosen), sizes.batch)]

        by_length = sorted(rows[: sizes.sentences], key=lambda row: -len(row["input_ids"]))
        equal = rows[: sizes.batch * sizes.batches]
        return cls(padded(by_length), padded(equal), len(task.train), len(task.labels or [0]))


def portrait(model: nn.Module, data: Data, sizes: Sizes, *, whole: bool) -> dict[str, Any]:
    """Measure a checkpoint.

    Args:
        model: in evaluation mode.
        data: to measure it on.
        sizes: of the measurement.
        whole: also what only finished models are asked for: density, layers, slices.

    Returns:
        - loss: mean over `data.sorted`; gradient_norm of it.
        - eigenvalues: the largest of the Hessian, the largest first; residuals.
        - weight_rise: `weight_sharpness` at WEIGHT_RADIUS, five steps; noise_rise, noise_rise_5: `embedding_sharpness`, the
          follower's own gain with one ascent step, and with five half as long.
        - noise_scale, layerwise_noise_scale, layer_noise_scale (by layer): scale, low, high (null: infinite); with the first
          also gradient_variance, tr Sigma of one sample.
        - with `whole`: trace (mean, low, high), smallest eigenvalue seen, density (nodes, weights), layers (curvature times
          squared norm, by layer), lines (the loss at LINE, one row a direction).
    """
    x = weights(model)
    objective = Objective.of_model(model, data.sorted)
    product = partial(objective.hvp, x)
    loss, gradient = objective.value_and_gradient(x)
    count = sizes.eigenvalues if whole else 1
    top = extreme_eigenvalues(product, objective.size, count, tolerance=1e-2, basis=min(count + 7, objective.size))
    grams = _grams(model, data.random, x)
    scale = noise_scale(np.sum(list(grams.values()), axis=0), sizes.batch)
    found: dict[str, Any] = {
        "loss": loss,
        "gradient_norm": float(np.linalg.norm(gradient)),
        "eigenvalues": top.values.tolist(),
        "residuals": top.residuals.tolist(),
        "weight_rise": weight_sharpness(objective, x, WEIGHT_RADIUS, 5).rise,
        "noise_rise": _noise_rise(model, data, steps=1),
        "noise_rise_5": _noise_rise(model, data, steps=5),
        "gradient_variance": scale.noise,
        "noise_scale": _scale(scale),
        "layerwise_noise_scale": _scale(layerwise_noise_scale(grams, sizes.batch)),
        "layer_noise_scale": {name: _scale(noise_scale(gram, sizes.batch)) for name, gram in grams.items()},
    }
    if whole:
        spectrum = density(product, objective.size, sizes.lanczos, sizes.probes)
        first = spectrum.moment(1)
        one = {name: tensor[: sizes.layer_sentences] for name, tensor in data.random[0].items()}
        directions = [filter_normalized(x, objective.shapes, seed) for seed in DIRECTION_SEEDS]
        found |= {
            "trace": dict(zip(("mean", "low", "high"), objective.size * np.array([first.mean, *first.interval]), strict=True)),
            "smallest": float(spectrum.nodes.min()),
            "density": {"nodes": spectrum.nodes.tolist(), "weights": spectrum.weights.tolist()},
            "layers": layer_curvatures(Objective.of_model(model, [one]), x, sizes.layer_lanczos),
            "lines": [line(objective.value, x, direction, np.array(LINE)).tolist() for direction in directions],
        }
    return rounded(found)


def layer_curvatures(objective: Objective, x: np.ndarray, steps: int) -> dict[str, float]:
    """lambda_max(H_ii) ||x_i||^2 by layer: what a step of length eta ||x_i|| in layer i meets is at most eta^2/2 times this.

    That is the smoothness which a layer-wise normalised leader sees: L_i of the theory, in units of the layer's own norm. The
    eigenvalue is the largest Ritz value of a few Lanczos steps from the layer's gradient and a little of everything: a lower
    bound.
    """
    gradient, rng = objective.gradient(x), np.random.default_rng(0)
    curvatures = {}
    for name, where in objective.layers.items():
        start = rng.standard_normal(where.stop - where.start)
        start = start / np.linalg.norm(start) + gradient[where] / max(float(np.linalg.norm(gradient[where])), 1e-30)
        diagonal, off = lanczos(partial(objective.hvp, x, layer=name), start / np.linalg.norm(start), steps)
        curvatures[name] = float(eigvalsh_tridiagonal(diagonal, off).max() * (x[where] @ x[where]))
    return curvatures


def rounded(value: Any) -> Any:
    """Numbers to six digits, through lists and dicts; infinite ones as null, which JSON has."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _grams(model: nn.Module, batches: Sequence[dict[str, Tensor]], x: np.ndarray) -> dict[str, np.ndarray]:
    objective = Objective.of_model(model, batches)
    return dict(gram_matrices(objective.batch_gradients(x), objective.layers))


def _noise_rise(model: nn.Module, data: Data, steps: int) -> float:
    step_size = None if steps == 1 else NOISE_RADIUS / 2
    return embedding_sharpness(model, data.sorted, Adversary(NOISE_RADIUS, step_size, steps, relative=True)).rise


def _scale(found: NoiseScale) -> dict[str, float]:
    return {"scale": found.scale, "low": found.interval[0], "high": found.interval[1]}
