"""The round of the game written by hand in numpy: no torch, no automatic differentiation.

Gradients come from the complex step, Im f(z + ih e_k) / h, exact to rounding for an analytic f (h = 1e-30 leaves no
truncation error and no cancellation).
"""

from collections.abc import Callable

import numpy as np
from scipy.special import erf

STEP = 1e-30


def gradient(f: Callable[[np.ndarray], complex], z: np.ndarray) -> np.ndarray:
    found = np.zeros(z.size)
    for k in range(z.size):
        moved = z.astype(complex)
        moved.flat[k] += 1j * STEP
        found[k] = f(moved).imag / STEP
    return found.reshape(z.shape)


def follower(loss_of_noise, at: np.ndarray, mask: np.ndarray, radius: float, steps: int, step_size: float) -> np.ndarray:
    """K steps y <- P(y + rho g/|g|) per sample, zero start, radius and step relative to each sample's norm, L2."""
    y = np.zeros_like(at)
    size = [np.sqrt(np.sum((at[i] * mask[i][:, None]) ** 2)) for i in range(len(at))]
    for _ in range(steps):
        g = gradient(loss_of_noise, y)
        for i in range(len(at)):
            gi = g[i] * mask[i][:, None]
            y[i] = y[i] + step_size * size[i] * gi / np.sqrt(np.sum(gi**2))
            length = np.sqrt(np.sum(y[i] ** 2))
            if length > radius * size[i]:
                y[i] = y[i] * radius * size[i] / length
    return y


class DebiasedLamb:
    """You et al. 2020, Algorithm 2, phi the identity."""

    def __init__(self, lr: float, betas=(0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.01) -> None:
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.m: dict[str, np.ndarray] = {}
        self.v: dict[str, np.ndarray] = {}
        self.t = 0

    def step(self, x: dict[str, np.ndarray], g: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.t += 1
        moved = {}
        for name, weights in x.items():
            self.m[name] = self.betas[0] * self.m.get(name, 0.0) + (1 - self.betas[0]) * g[name]
            self.v[name] = self.betas[1] * self.v.get(name, 0.0) + (1 - self.betas[1]) * g[name] ** 2
            m, v = self.m[name] / (1 - self.betas[0] ** self.t), self.v[name] / (1 - self.betas[1] ** self.t)
            u = m / (np.sqrt(v) + self.eps) + self.weight_decay * weights
            x_norm, u_norm = np.sqrt(np.sum(weights**2)), np.sqrt(np.sum(u**2))
            ratio = x_norm / u_norm if x_norm > 0 and u_norm > 0 else 1.0
            moved[name] = weights - self.lr * ratio * u
        return moved


def bert_loss(
    w: dict[str, np.ndarray], ids: np.ndarray, mask: np.ndarray, labels: np.ndarray, noise: np.ndarray | float
) -> complex:
    """Cross-entropy of a one-layer, one-head BERT classifier without dropout, noise on the word embeddings."""
    prefix = "bert.encoder.layer.0."

    def linear(name: str, z: np.ndarray) -> np.ndarray:
        return z @ w[name + ".weight"].T + w[name + ".bias"]

    def layer_norm(name: str, z: np.ndarray) -> np.ndarray:
        centred = z - z.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.real.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    table = "bert.embeddings."
    h = w[table + "word_embeddings.weight"][ids] + noise
    h = h + w[table + "position_embeddings.weight"][: ids.shape[1]] + w[table + "token_type_embeddings.weight"][0]
    h = layer_norm(table + "LayerNorm", h)
    q, k, v = (linear(f"{prefix}attention.self.{part}", h) for part in ("query", "key", "value"))
    scores = q @ np.swapaxes(k, 1, 2) / np.sqrt(q.shape[-1])
    attended = softmax(np.where(mask[:, None, :] > 0, scores, -1e300)) @ v
    h = layer_norm(prefix + "attention.output.LayerNorm", h + linear(prefix + "attention.output.dense", attended))
    wide = linear(prefix + "intermediate.dense", h)
    wide = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
    h = layer_norm(prefix + "output.LayerNorm", h + linear(prefix + "output.dense", wide))
    logits = linear("classifier", np.tanh(linear("bert.pooler.dense", h[:, 0])))
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()
