"""Small policies with known behaviour, for tests of what plays and compares policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.agents.api import Act, CentralController, Controller, Team
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


class Constant(Controller):
    """Every agent of a role always plays the same number in every entry of its action."""

    def __init__(self, role: str, action: float) -> None:
        self.role, self.action = role, action

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        shape = self.scenario.roles[self.role].action_space.shape or ()
        return Act(np.full((*observations.shape[:2], *shape), self.action))


class Noisy(Controller):
    """Raw actions drawn uniformly."""

    def __init__(self, role: str) -> None:
        self.role = role

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        shape = self.scenario.roles[self.role].action_space.shape or ()
        return Act(rng.random((*observations.shape[:2], *shape)))


class Central(CentralController):
    """Full speed everywhere, from global information, and five bytes of messages."""

    name = "central"

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        space = self.scenario.central_space
        return self.scenario.decode_central(state, np.ones((self.cells, *(space.shape or ()))), exogenous)

    def message_bytes(self) -> float:
        return 5.0


def constant_team(scenario: Scenario, action: float, name: str = "constant") -> Team:
    return Team(name, {role: Constant(role, action) for role in scenario.roles})


def noisy_team(scenario: Scenario, name: str = "noisy") -> Team:
    return Team(name, {role: Noisy(role) for role in scenario.roles})
