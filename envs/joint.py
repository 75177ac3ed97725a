"""The joint action of one controller that decides for the whole network: its space, units, masks and meaning."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np

from edgemarl.envs.actions import form_hint
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL, decode_hybrid, hybrid_space, masks_of
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.spaces import from_unit, unit_space


class JointAction:
    """What one controller decides.

    Args:
        scenario: the network.
        hybrid: the action has named parts (`hybrid_space`) instead of being one of `central_space`.
        unit: every entry of a Box lies in [-1, 1].

    Attributes:
        space: of one cell's action.
    """

    def __init__(self, scenario: Scenario, hybrid: bool = False, unit: bool = True) -> None:
        self.scenario, self.hybrid, self.unit = scenario, hybrid, unit
        self._own: gymnasium.Space[Any] = hybrid_space(scenario) if hybrid else scenario.central_space
        self.space = deepcopy(unit_space(self._own) if unit else self._own)

    def decode(self, state: Any, action: Any, exogenous: Any) -> Any:
        """Actions of B cells, (B, ...) or named parts (B, ...), as the scenario's decisions.

        Raises:
            ValueError: a Box action of another shape, entries that are not legal.
        """
        if isinstance(self.space, gymnasium.spaces.Box) and np.shape(action)[1:] != self.space.shape:
            hint = form_hint(self.scenario, CENTRAL)
            raise ValueError(f"the joint action has shape {np.shape(action)[1:]}, must be {self.space.shape}{hint}")
        if self.unit:
            action = from_unit(self._own, action)
        if self.hybrid:
            return decode_hybrid(self.scenario, state, action, exogenous)
        return self.scenario.decode_central(state, np.asarray(action), exogenous)

    def masks(self, state: Any, exogenous: Any, cells: int) -> Array:
        """(B, choices) bool of the choices that make sense, those of a MultiDiscrete action one after another.

        The mask of a role counts where the action is one choice of each of its agents.

        Raises:
            ValueError: an action that is not made of choices.
        """
        if isinstance(self.space, gymnasium.spaces.Discrete):
            sizes = np.array([int(self.space.n)])
        elif isinstance(self.space, gymnasium.spaces.MultiDiscrete):
            sizes = np.asarray(self.space.nvec, np.int64).ravel()
        else:
            raise ValueError(f"action_masks() is for choices; the joint action of {self.scenario.name} is {self.space}")
        for mask in masks_of(self.scenario, state, exogenous).values():
            if mask.shape[1] == len(sizes) and mask.shape[2] >= sizes.max():
                choices: Array = mask[:, np.arange(mask.shape[2]) < sizes[:, None]]
                return choices
        return np.ones((cells, int(sizes.sum())), bool)


def learner_reward_scale(scenario: Scenario) -> float:
    """Factor that brings minus the sum of the ledger to the size that learners are used to.

    The mean of `Scenario.learner_scale`, divided by the number of ledger entries: what our own joint control learns by.
    """
    scales = [scenario.learner_scale[role] for role in scenario.ledger]
    return float(np.mean(scales)) / sum(scenario.ledger.values())
