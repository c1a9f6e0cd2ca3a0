"""What performance estimation represents of the theory, and what it does not."""

from convergence.pep.distances import ASCENT, FOLLOWER_DRIFT, MONOTONE
from convergence.pep.gradient_descent import GRADIENT_DESCENT
from convergence.pep.values import LEADER_DESCENT, MEAN_GRADIENT, MOREAU_STEP, SHORTER_STEPS

STATEMENTS = (
    ASCENT,
    MONOTONE,
    LEADER_DESCENT,
    FOLLOWER_DRIFT,
    GRADIENT_DESCENT,
    MEAN_GRADIENT,
    SHORTER_STEPS,
    MOREAU_STEP,
)

NOT_REPRESENTABLE = {
    "danskin": "A Hessian's norm bounds joint smoothness, and $y^*(x)$ maximises at both ends of a segment: the class of such "
    "$f$ has no known interpolation conditions. The sharp constant comes from a 2 × 2 extremal Hessian instead.",
    "gradient-descent-ascent, whole": r"$\Phi = \max_y f$ and $f$ are tied by that same class. Its steps (descent, drift) are "
    "compared one by one.",
    "rate (normalised leader)": r"A step of length $\eta$ along $u/\|u\|$ is not linear in the Gram matrix of points and "
    r"gradients, nor is $\sum_i \|u_i\|$. A lemma in two variables and four sharp instances take its place.",
    "key lemma": r"It bounds an expectation of $\langle g, u/\|u\| \rangle$: not linear in the Gram matrix.",
    "stall, Hopf threshold": "These are single functions, computed exactly, not worst cases over a class.",
}
"""Statements that no performance-estimation SDP of today represents, and why."""
