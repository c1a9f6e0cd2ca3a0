"""The convergence theory, machine-checked: each theorem stated, proved by exact certificates, attacked, measured on the core.

``convergence.theorems.all_theorems()`` gives the theorems; ``python -m convergence`` (or ``make theory``) checks them all.
"""

from convergence.attack import Attack, Range
from convergence.certificate import Dot, Identity, Inequality, Norm2, Rejected, Square, Term, norm2, vectors
from convergence.effort import FAST, FULL, Effort
from convergence.measurement import Curve, Measurement
from convergence.theorem import Argument, Assumption, Bound, Citation, Theorem

__all__ = [
    "FAST",
    "FULL",
    "Argument",
    "Assumption",
    "Attack",
    "Bound",
    "Citation",
    "Curve",
    "Dot",
    "Effort",
    "Identity",
    "Inequality",
    "Measurement",
    "Norm2",
    "Range",
    "Rejected",
    "Square",
    "Term",
    "Theorem",
    "norm2",
    "vectors",
]
