"""The gradient and its noise, from the gradients of equal batches: overall, layer by layer, and as the theory adds layers up.

All that is estimated is a function of the inner products of the batches' gradients, so a jackknife over batches costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from paper_repro.analysis.statistics import jackknife

Grams = Mapping[str, np.ndarray]
"""By layer, g_j . g_k for the gradients of batches j and k in that layer, [batches, batches]."""


@dataclass(frozen=True)
class NoiseScale:
    """Gradient, noise, and the batch size at which they are equal.

    Attributes:
        gradient: of the mean over all samples of the distribution: |G|^2; for `layerwise_noise_scale` |G|_1 = sum_i ||G_i||.
        noise: of one sample's gradient: tr Sigma; for `layerwise_noise_scale` |sigma|_1 = sum_i sqrt(tr Sigma_i).
        scale: the batch size b; infinite where no gradient can be told from the noise.
        interval: 95%, of the scale: jackknife over batches, Student's t, taken of 1 / b, whose error is nearly normal.
        norm: of the gradient of these very samples, which noise inflates: ||mean g_j||; layer-wise sum_i ||mean g_ij||.
    """

    gradient: float
    noise: float
    scale: float
    interval: tuple[float, float]
    norm: float


def gram_matrices(gradients: np.ndarray, layers: Mapping[str, slice]) -> Grams:
    """Inner products of the batches' gradients by layer.

    Args:
        gradients: [batches, n], see `Objective.batch_gradients`.
        layers: where each layer lies.
    """
    parts = {name: gradients[:, where] for name, where in layers.items()}
    return {name: (part @ part.T).astype(np.float64) for name, part in parts.items()}


def noise_scale(gram: np.ndarray, batch: int) -> NoiseScale:
    """The simple noise scale, tr Sigma / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).

    For one layer pass its Gram matrix, for the whole gradient the sum of all.

    Args:
        gram: inner products of the gradients of at least three batches of equal size, drawn at random: batches of like
            length, or in the order of a file, would make the noise look smaller or larger than it is.
        batch: samples in each.

    Raises:
        ValueError: fewer than three batches.
    """
    scale, interval = _inverted(lambda grams: moments(grams[0], batch), gram[None])
    return NoiseScale(*moments(gram, batch), scale, interval, _norm(gram))


def layerwise_noise_scale(grams: Grams, batch: int) -> NoiseScale:
    """(|sigma|_1 / |G|_1)^2: below this batch size the noise outweighs the gradient for a layer-wise normalised leader.

    It is b_min = (|sigma|_1 / epsilon)^2 of this project's theory, below which the batch-size law promises no mean
    sum_i ||G_i|| of epsilon (convergence/theorems/batch_size.py, alpha_u = alpha_l), for the epsilon that there is now.

    Args:
        grams: see `gram_matrices`; at least three random batches of equal size.
        batch: samples in each.

    Raises:
        ValueError: fewer than three batches.
    """

    def sums(stacked: np.ndarray) -> tuple[float, float]:
        found = np.array([moments(gram, batch) for gram in stacked])
        gradient, noise = np.sqrt(np.maximum(found, 0)).sum(axis=0)  # a layer that noise hides counts as zero
        return float(gradient), float(noise)

    def squares(stacked: np.ndarray) -> tuple[float, float]:
        gradient, noise = sums(stacked)
        return gradient**2, noise**2

    stacked = np.stack(list(grams.values()))
    scale, interval = _inverted(squares, stacked)
    return NoiseScale(*sums(stacked), scale, interval, sum(_norm(gram) for gram in stacked))


def moments(gram: np.ndarray, batch: int) -> tuple[float, float]:
    """Unbiased |G|^2 (it may be negative) and tr Sigma of one sample, from batches of equal size.

    With m = mean |g_j|^2 and s = |mean g_j|^2 over n batches of b: tr Sigma = b n (m - s) / (n - 1) and
    |G|^2 = (n s - m) / (n - 1), which are McCandlish et al.'s estimates from batch sizes b and n b.
    """
    n = len(gram)
    mean_square, square_mean = float(np.trace(gram)) / n, float(gram.mean())
    return (n * square_mean - mean_square) / (n - 1), batch * n * (mean_square - square_mean) / (n - 1)


def _norm(gram: np.ndarray) -> float:
    return float(np.sqrt(max(gram.mean(), 0)))


def _inverted(estimate: Callable[[np.ndarray], tuple[float, float]], grams: np.ndarray) -> tuple[float, tuple[float, float]]:
    """b = noise / signal and its interval, from what estimates signal and noise from Gram matrices [layers, n, n]."""
    n = grams.shape[-1]
    if n < 3:
        raise ValueError(f"an interval of the gradient's noise takes at least three batches, got {n}")
    without = [np.delete(np.delete(grams, j, axis=1), j, axis=2) for j in range(n)]
    signal, noise = np.array([estimate(each) for each in (grams, *without)]).T
    with np.errstate(divide="ignore", invalid="ignore"):  # gradients that do not differ: b = 0, or nan if they are zero
        whole, *parts = signal / noise
        low, high = jackknife(whole, parts).interval
    return _batch(whole), (_batch(high), _batch(low))


def _batch(inverse: float) -> float:
    return float("inf") if inverse <= 0 else float(1 / inverse)
