"""LAMB's dialects in plain numpy, float64, straight from the formulas: what `scala.lamb` is checked against.

Each function takes the layers (a list of arrays) and the gradients (for each step, one array a layer), and returns the
layers after the last step. Symbols as in You et al. 2020, arXiv 1904.00962, Algorithm 2.
"""

import math
from collections.abc import Callable

import numpy as np

Layers = list[np.ndarray]


def norm(z: np.ndarray) -> float:
    return math.sqrt(float(np.sum(z * z)))


def paper(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    (beta1, beta2), results = betas, []
    for i, start in enumerate(layers):
        x, m, v = start, 0.0, 0.0
        for step in gradients:
            m = beta1 * m + (1 - beta1) * step[i]
            v = beta2 * v + (1 - beta2) * step[i] ** 2
            u = m / (np.sqrt(v) + eps) + weight_decay * x
            phi = min(norm(x), 10.0)
            ratio = phi / norm(u) if phi > 0 and norm(u) > 0 else 1.0
            x = x - lr * ratio * u
        results.append(x)
    return results


def debiased(
    layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay, clamp: Callable = lambda ratio: ratio
) -> Layers:
    (beta1, beta2), results = betas, []
    for i, start in enumerate(layers):
        x, m, v = start, 0.0, 0.0
        for t, step in enumerate(gradients, start=1):
            m = beta1 * m + (1 - beta1) * step[i]
            v = beta2 * v + (1 - beta2) * step[i] ** 2
            m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
            u = m_hat / (np.sqrt(v_hat) + eps) + weight_decay * x
            ratio = norm(x) / norm(u) if norm(x) > 0 and norm(u) > 0 else 1.0
            x = x - lr * clamp(ratio) * u
        results.append(x)
    return results


def nvlamb(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    clipped_gradients = []
    for step in gradients:
        total = math.sqrt(sum(norm(g) ** 2 for g in step))
        clipped_gradients.append([g / max(1.0, total) for g in step])
    return debiased(layers, clipped_gradients, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def clipped(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    return debiased(
        layers,
        gradients,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        clamp=lambda ratio: min(max(ratio, 0.01), 10.0),
    )


def relative(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    (beta1, beta2), results = betas, []
    for i, start in enumerate(layers):
        x, m, v = start, 0.0, 0.0
        for t, step in enumerate(gradients, start=1):
            m = beta1 * m + (1 - beta1) * step[i]
            v = beta2 * v + (1 - beta2) * step[i] ** 2
            u = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps) + weight_decay * x
            rms_x, rms_u = norm(x) / math.sqrt(x.size), norm(u) / math.sqrt(u.size)
            x = x - lr * max(rms_x, 0.02) * u / max(rms_u, 1.0)
        results.append(x)
    return results


def orthogonal(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    """Of matrices: Muon's direction (Jordan 2024), one matrix at a time, and LAMB's ratio."""
    beta1, results = betas[0], []
    for i, start in enumerate(layers):
        x, m = start, np.zeros_like(start)
        for step in gradients:
            m = beta1 * m + (1 - beta1) * step[i]
            r = newton_schulz((beta1 * m + (1 - beta1) * step[i]).reshape(len(x), -1)).reshape(x.shape)
            u = r * math.sqrt(r.size) / norm(r) if norm(r) > 0 else r
            u = u + weight_decay * x
            if norm(u) > 0:
                x = x - lr * max(norm(x), 0.02 * math.sqrt(x.size)) * u / norm(u)
        results.append(x)
    return results


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    if norm(matrix) == 0:
        return matrix
    x = matrix / norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def normalized(layers: Layers, gradients: list[Layers], *, lr, betas, eps, weight_decay) -> Layers:
    beta1, results = betas[0], []
    for i, start in enumerate(layers):
        x, m = start, 0.0
        for step in gradients:
            m = beta1 * m + (1 - beta1) * step[i]
            u = m + weight_decay * x
            if norm(u) > 0:
                x = x - lr * u / norm(u)
        results.append(x)
    return results
