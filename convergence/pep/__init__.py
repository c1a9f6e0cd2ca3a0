"""Performance estimation beside our bounds: PEPit's values, its duals as exact proofs, and one false bound of its solver.

A performance-estimation problem (Drori and Teboulle 2014; Taylor, Hendrickx and Glineur 2017) finds the worst case of a
method by a semidefinite program (SDP), which a solver answers in floating point. It is an independent check of our
constants (`cross_check`), not a proof: `false_bound` shows an "upper bound" below a value that is attained. What turns it
into a proof is its dual: multipliers, rounded to fractions, so that what is left over is a sum of squares, exactly.
`certificates` does so, and `convergence.verifier` checks the result without a solver.

Needs the extra ``pep`` (PEPit, cvxpy), except for what is `stored`: ``python convergence/verifier.py
convergence/pep/certificates/projected_ascent.json``. ``python -m convergence.pep`` prints the tables of this package;
``--write`` makes the stored files anew.
"""

from convergence.pep.comparison import cross_check
from convergence.pep.duals import certificates
from convergence.pep.extra import STORED, pepit, stored
from convergence.pep.refutation import false_bound
from convergence.pep.statements import NOT_REPRESENTABLE, STATEMENTS

__all__ = ["NOT_REPRESENTABLE", "STATEMENTS", "STORED", "certificates", "cross_check", "false_bound", "pepit", "stored"]
