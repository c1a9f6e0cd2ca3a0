"""Quadratic forms as sums of multiples of squares, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from sympy import Add, Expr, Rational, Symbol, expand

from convergence.certificate import Dot, Norm2, Term, expand_dots


def sum_of_squares(matrix: Sequence[Sequence[Fraction]]) -> list[tuple[Fraction, list[Fraction]]]:
    """Write a quadratic form as a sum of multiples of squares, exactly (Lagrange's reduction, an LDL^T).

    Args:
        matrix: symmetric, of fractions.

    Returns:
        (multiplier, coefficients of the linear form); the form is non-negative exactly if no multiplier is negative.
    """
    S, n = [list(row) for row in matrix], len(matrix)
    parts = []
    for _ in range(n):  # each time one more row and column becomes zero
        k = next((i for i in range(n) if S[i][i]), None)
        if k is None:
            break
        c, v = S[k][k], [entry / S[k][k] for entry in S[k]]
        parts.append((c, v))
        S = [[S[i][j] - c * v[i] * v[j] for j in range(n)] for i in range(n)]
    for i, j in combinations(range(n), 2):  # the diagonal is zero: 2 s x_i x_j = (s/2) ((x_i + x_j)^2 - (x_i - x_j)^2)
        if half := S[i][j] / 2:
            parts.append((half, [Fraction(k in (i, j)) for k in range(n)]))
            parts.append((-half, [Fraction((k == i) - (k == j)) for k in range(n)]))
    return parts


def gram(form: Expr, basis: Sequence[Symbol]) -> list[list[Fraction]]:
    """The matrix of a quadratic form in formal vectors, which must hold nothing else."""
    found = dict(expand(expand_dots(form)).as_coefficients_dict())
    matrix = [[Fraction(0)] * len(basis) for _ in basis]
    for i, u in enumerate(basis):
        for j, v in enumerate(basis[: i + 1]):
            c = Fraction(str(found.pop(Dot(*sorted((u, v), key=str)), 0)))
            matrix[i][j] = matrix[j][i] = c if i == j else c / 2
    if any(found.values()):
        raise ValueError(f"not a quadratic form in {basis}: {form}")
    return matrix


def squares(form: Expr, basis: Sequence[Symbol]) -> list[Term]:
    """`sum_of_squares` of a form in formal vectors, as terms of a certificate."""
    return [
        Term(Rational(c), Norm2(Add(*(Rational(a) * b for a, b in zip(linear, basis, strict=True)))))
        for c, linear in sum_of_squares(gram(form, basis))
    ]
