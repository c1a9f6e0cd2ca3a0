"""The Hessian's spectrum from products with it: its ends, its trace, and its density.

Every function takes `product`, v -> Hv on float64 vectors of `size` entries, for instance `partial(objective.hvp, x)`, or
`partial(objective.hvp, x, layer=name)` for one layer's block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh

from paper_repro.analysis.statistics import Estimate, mean_of

Product = Callable[[np.ndarray], np.ndarray]

_SHIFT = 1.37
"""In root mean squares of the spectrum; not 1, which makes nothing of -I."""


@dataclass(frozen=True)
class Eigenpairs:
    """Some eigenvalues of H, and how well they are known.

    Attributes:
        values: lambda, the one nearest to its end of the spectrum first, [k].
        vectors: v, unit columns, [n, k].
        residuals: ||H v - lambda v||, [k]: some eigenvalue of H lies this near to lambda.
        products: products with H that it took.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    products: int


def extreme_eigenvalues(
    product: Product,
    size: int,
    count: int = 1,
    end: Literal["largest", "smallest"] = "largest",
    *,
    tolerance: float = 1e-3,
    basis: int | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """The algebraically largest, or smallest, eigenvalues by implicitly restarted Lanczos (ARPACK).

    Args:
        product: v -> Hv.
        size: n.
        count: k < n.
        end: of the spectrum.
        tolerance: of the eigenvalues, relative to them and to the root mean square of the spectrum, whatever is more.
        basis: vectors of the Krylov space before a restart, more than count; None: ARPACK's choice, at least 20. A few are
            enough where the eigenvalue stands apart.
        seed: of the start vector.

    Raises:
        ValueError: count out of range.
        scipy.sparse.linalg.ArpackNoConvergence: not found within ARPACK's limit of restarts; it holds those that were.
    """
    if not 1 <= count < size:
        raise ValueError(f"count must lie in [1, {size - 1}] for a matrix of {size} rows, got {count}")
    products = 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return product(np.ravel(v))

    start = np.random.default_rng(seed).standard_normal(size)
    # Of H + shift I: ARPACK begins with the product of its start vector, in which what lies in the null space is lost for good.
    shift = _SHIFT * float(np.linalg.norm(counted(start)) / np.linalg.norm(start)) or 1.0
    operator = LinearOperator((size, size), matvec=lambda v: counted(v) + shift * np.ravel(v), dtype=np.float64)
    values, vectors = eigsh(operator, count, which="LA" if end == "largest" else "SA", v0=start, tol=tolerance, ncv=basis)
    values = values - shift
    order = np.argsort(values)[:: -1 if end == "largest" else 1]
    values, vectors = values[order], vectors[:, order]
    images = np.stack([counted(v) for v in vectors.T], axis=1)
    return Eigenpairs(values, vectors, np.linalg.norm(images - values * vectors, axis=0), products)


def trace(product: Product, size: int, probes: int = 20, *, seed: int = 0) -> Estimate:
    """tr H as the mean of v'Hv over random signs v (Hutchinson 1990, Communications in Statistics B 19:433).

    `density` gives it too, from the same kind of probes: size times its first moment.

    Args:
        product: v -> Hv.
        size: n.
        probes: at least 2.
        seed: of the probes.
    """
    return mean_of(np.array([v @ product(v) for v in _signs(size, probes, seed)]))


@dataclass(frozen=True)
class Density:
    """The spectrum as points of mass, for each probe v the measure with the moments v'H^k v, k < 2 x steps.

    Attributes:
        nodes: Ritz values, [probes, steps].
        weights: their masses, [probes, steps]; each row sums to 1.
    """

    nodes: np.ndarray
    weights: np.ndarray

    def moment(self, k: int) -> Estimate:
        """tr(H^k) / n, unbiased for k < 2 x steps."""
        return mean_of(np.sum(self.weights * self.nodes**k, axis=1))

    def smooth(self, linear: float, width: float = 0.1, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """The density as a curve over an axis that is linear near zero and logarithmic away from it, on both sides.

        That is matplotlib's scale "asinh" with linear_width=linear: eigenvalue = linear sinh(t).

        Args:
            linear: the eigenvalue below which the axis is about linear.
            width: standard deviation of the Gaussian put in each node's place, in units of t (decades times 2.3).
            points: of the curve.

        Returns:
            The eigenvalues, [points], equally spaced in t, and the mass per unit of t, [points]: over t it integrates to 1.
        """
        t = np.arcsinh(self.nodes.ravel() / linear)
        grid = np.linspace(t.min() - 4 * width, t.max() + 4 * width, points)
        curve = stats.norm.pdf(grid[:, None], t, width) @ (self.weights.ravel() / len(self.weights))
        return linear * np.sinh(grid), curve


def density(product: Product, size: int, steps: int = 40, probes: int = 5, *, seed: int = 0) -> Density:
    """The spectrum by stochastic Lanczos quadrature (Ghorbani et al. 2019, arXiv 1901.10159; Yao et al. 2020, 1912.07145).

    Args:
        product: v -> Hv.
        size: n.
        steps: products with H for each probe; 8 x steps x n bytes of memory.
        probes: random signs v / sqrt(n), at least 2 for an interval.
        seed: of the probes.
    """
    nodes, weights = np.zeros((2, probes, min(steps, size)))
    for row, signs in enumerate(_signs(size, probes, seed)):
        diagonal, off_diagonal = lanczos(product, signs / np.sqrt(size), steps)
        ritz, vectors = eigh_tridiagonal(diagonal, off_diagonal)
        nodes[row, : len(ritz)], weights[row, : len(ritz)] = ritz, vectors[0] ** 2
        nodes[row, len(ritz) :] = ritz[0]  # of no weight: the start lay in an invariant subspace, and the rule is exact
    return Density(nodes, weights)


def lanczos(product: Product, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The tridiagonal matrix of H in the Krylov space of a unit vector, each new vector orthogonalised against all before.

    Args:
        product: v -> Hv.
        start: unit vector, [n].
        steps: size of the matrix; fewer where the Krylov space ends before.

    Returns:
        Its diagonal [m] and its off-diagonal [m - 1].
    """
    steps = min(steps, len(start))
    basis = np.empty((steps, len(start)))
    diagonal, off_diagonal = np.empty(steps), np.empty(steps)
    basis[0] = start
    for m in range(steps):
        image = product(basis[m])
        size = np.linalg.norm(image)
        diagonal[m] = basis[m] @ image
        known = basis[: m + 1]
        for _ in range(2):  # twice is enough for orthogonality to rounding
            image = image - known.T @ (known @ image)
        off_diagonal[m] = np.linalg.norm(image)
        if m + 1 == steps or off_diagonal[m] <= 1e-10 * size:
            break
        basis[m + 1] = image / off_diagonal[m]
    return diagonal[: m + 1], off_diagonal[:m]


def _signs(size: int, probes: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(probes):
        yield 2.0 * rng.integers(2, size=size, dtype=np.int8) - 1
