"""The leader: LAMB in named dialects.

`lamb_step` (algorithm.py) is the algorithm line by line. `Lamb` (optimizer.py) is the optimizer, by the fastest path for each
layer; `DIALECTS` (dialects.py) says where implementations disagree, `parameter_groups` (groups.py) who goes by which.
"""

from scala.lamb.algorithm import lamb_step
from scala.lamb.dialects import DIALECTS, Dialect
from scala.lamb.groups import parameter_groups
from scala.lamb.optimizer import Lamb

__all__ = ["DIALECTS", "Dialect", "Lamb", "lamb_step", "parameter_groups"]
