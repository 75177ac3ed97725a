"""Parametric Q-learning for `sequential_offloading`: every agent has its own parameters and its own row.

The paper's Algorithms 1 and 2 as printed are in `paper_gradient`; `device` and `server` learn only the value of what is
left behind and compute the rest of the Q-function from what an agent knows about itself.
"""

from edgemarl.agents.parametric_q.device import ParametricQDevice
from edgemarl.agents.parametric_q.server import ParametricQServer

__all__ = ["ParametricQDevice", "ParametricQServer"]
