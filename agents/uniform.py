"""Uniform play: every agent draws its raw action uniformly from its action space; what no thought at all costs.

The `random` of a scenario is a rule that draws within limits which make sense there, so it costs less.
"""

from __future__ import annotations

import gymnasium
import numpy as np

from edgemarl.agents.api import Act, Controller, Policy, Team
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


class Uniform(Controller):
    """Raw actions uniform in the role's space, among the choices that make sense where the scenario says which.

    Args:
        role: whose agents it plays.
    """

    masked = True

    def __init__(self, role: str) -> None:
        self.role = role

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(self._drawn(rng, observations.shape[:2]))

    def act_masked(self, observations: Array, mask: Array, rng: np.random.Generator) -> Act:
        keys = np.where(mask, rng.random(mask.shape), -1.0)
        return Act(keys.argmax(axis=-1))

    def _drawn(self, rng: np.random.Generator, lead: tuple[int, ...]) -> Array:
        space = self.scenario.roles[self.role].action_space
        if isinstance(space, gymnasium.spaces.Box):
            return rng.uniform(space.low, space.high, (*lead, *space.shape))
        if isinstance(space, gymnasium.spaces.Discrete):
            return rng.integers(int(space.start), int(space.start) + int(space.n), lead)
        if isinstance(space, gymnasium.spaces.MultiDiscrete):
            start = np.asarray(space.start, np.int64)
            return rng.integers(start, start + np.asarray(space.nvec, np.int64), (*lead, *space.shape))
        raise ValueError(f"uniform play knows Box, Discrete and MultiDiscrete, not {type(space).__name__}")


def uniform_team(scenario: Scenario) -> Policy:
    """Uniform play of all roles."""
    return Team("uniform", {role: Uniform(role) for role in scenario.roles})
