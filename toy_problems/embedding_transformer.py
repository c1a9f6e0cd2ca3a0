"""A one-layer attention classifier with noise on its embeddings: ScaLA's own game, small enough to differentiate twice."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from toy_problems.problem import Constants, MinMaxProblem


@dataclass(frozen=True, eq=False)
class EmbeddingTransformer(MinMaxProblem):
    """Mean logistic loss over n sentences of t embeddings of size d; x holds three layers, y one noise per sentence.

    With E_j = embeddings_j + y_j: scores E_j Q E_j' / sqrt(d), softmax, hidden = tanh(E_j + softmax(..) E_j V), logit =
    mean over positions of hidden times w. The layers of x are Q [d, d], V [d, d] and w [d], flattened in this order.

    Nothing is known in closed form: no constant is declared, and gradients come from autograd. ``measure`` gives lower
    estimates of l and beta_i, and of how far f is from concave in y.

    Args:
        embeddings: [B, n, t, d].
        labels: [B, n], -1 or +1.
        omega: [B], positive radius of each sentence's noise (Euclidean over its t d numbers).

    Raises:
        ValueError: wrong shapes, not finite, labels other than -1 and +1, omega <= 0.
    """

    embeddings: Tensor
    labels: Tensor
    omega: Tensor

    has_phi = False

    def __post_init__(self) -> None:
        """Check the data."""
        batch, n, _, d = self._parameter("embeddings", None, None, None, None).shape
        if not (self._parameter("labels", batch, n).abs() == 1).all():
            raise ValueError("EmbeddingTransformer.labels: must be -1 or +1")
        self._parameter("omega", batch, positive=True)
        object.__setattr__(self, "samples", n)
        object.__setattr__(self, "layers", (d * d, d * d, d))

    @classmethod
    def random(
        cls, generator: torch.Generator, batch: int, *, sentences: int = 2, tokens: int = 2, d: int = 2, omega: float = 0.5
    ) -> "EmbeddingTransformer":
        """Standard normal embeddings and fair labels."""
        shape = (batch, sentences, tokens, d)
        embeddings = torch.randn(shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(2, shape[:2], generator=generator) * 2.0 - 1
        return cls(embeddings, labels, torch.full((batch,), omega, dtype=torch.float64))

    @property
    def batch(self) -> int:
        """B."""
        return self.embeddings.shape[0]

    @property
    def d_y(self) -> int:
        """n t d."""
        return self.embeddings[0].numel()

    @property
    def constants(self) -> Constants:
        """None declared."""
        return Constants()

    def f(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean logistic loss."""
        d = self.embeddings.shape[-1]
        Q, V, w = self.split(x)
        Q, V = (matrix.unflatten(-1, (1, d, d)) for matrix in (Q, V))  # 1: the same for every sentence
        E = self.embeddings + y.unflatten(-1, self.embeddings.shape[1:])
        attention = (E @ Q @ E.mT / d**0.5).softmax(-1)
        hidden = torch.tanh(E + attention @ E @ V)
        logit = (hidden.mean(-2) * w.unsqueeze(-2)).sum(-1)
        return softplus(-self.labels * logit).mean(-1)

    def grad_x(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd."""
        x = x if x.requires_grad else x.detach().requires_grad_()
        return self._differentiate(x, y, x)

    def grad_y(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd."""
        y = y if y.requires_grad else y.detach().requires_grad_()
        return self._differentiate(x, y, y)

    def _differentiate(self, x: Tensor, y: Tensor, wrt: Tensor) -> Tensor:
        with torch.enable_grad():
            value = self.f(x, y).sum()
        twice = x.requires_grad and y.requires_grad  # the caller will differentiate again
        return torch.autograd.grad(value, wrt, create_graph=twice)[0]
