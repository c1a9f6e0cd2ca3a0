"""Min-max problems whose constants and solutions are known, and verified by themselves.

Each family is a frozen dataclass of float64 tensors holding B instances of min_x max_{y in Y} f(x, y) at once: f, its
gradients, Phi, y*, the ball of y, the layers of x, the constants of the theory (``problem.constants``) and what is
known of its behaviour. ``verify(problem)`` checks all of it and raises ``ConstantsViolated`` on a wrong constant;
``toy_problems.strategies`` draws instances with hypothesis. Nothing here knows of the rest of the project.
"""

from toy_problems.absolute_well import AbsoluteWell
from toy_problems.ball_huber import BallHuber
from toy_problems.bilinear import Bilinear
from toy_problems.dirac_gan import DiracGAN
from toy_problems.embedding_transformer import EmbeddingTransformer
from toy_problems.forsaken import Forsaken
from toy_problems.hopf import Hopf
from toy_problems.problem import Constants, MinMaxProblem, NoClosedForm
from toy_problems.quadratic import Quadratic, oscillator_start
from toy_problems.robust_regression import RobustLeastSquares, RobustLogisticRegression
from toy_problems.sigmoid import Sigmoid
from toy_problems.stall import Stall
from toy_problems.verification import ConstantsViolated, measure, verify
from toy_problems.wave import Wave

__all__ = [
    "AbsoluteWell",
    "BallHuber",
    "Bilinear",
    "Constants",
    "ConstantsViolated",
    "DiracGAN",
    "EmbeddingTransformer",
    "Forsaken",
    "Hopf",
    "MinMaxProblem",
    "NoClosedForm",
    "Quadratic",
    "RobustLeastSquares",
    "RobustLogisticRegression",
    "Sigmoid",
    "Stall",
    "Wave",
    "measure",
    "oscillator_start",
    "verify",
]
