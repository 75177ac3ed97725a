"""A controller for a scenario of EdgeMARL."""

from __future__ import annotations

import numpy as np

from edgemarl.agents import Act, Controller
from edgemarl.envs import Array


class HalfSpeed(Controller):
    """`sequential_offloading`: half of the work that could leave a device does, and half of what could be sent is."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(0.5 + 0.0 * observations[..., :2])
