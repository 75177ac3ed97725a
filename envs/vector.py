"""B cells of any scenario as one Gymnasium vector environment: a slot is one batched step, not B of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_integer
from edgemarl.envs.config import unknown_name
from edgemarl.envs.episode import Episode
from edgemarl.envs.joint import JointAction, learner_reward_scale
from edgemarl.envs.parallel import ActionUnits, checked_scale, checked_units
from edgemarl.envs.registry import given_scenario
from edgemarl.envs.scenario import Scenario, total_cost

MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)


class CentralVectorEnv(VectorEnv[Array, Any, Array]):
    """B networks, each under a centralized controller; what `gymnasium.make_vec("EdgeMARL/..")` gives.

    It does as Gymnasium's `SyncVectorEnv` over B `CentralEnv`, number for number. Cells start and end together.

    Args:
        scenario: a scenario or the name of a registered one.
        num_envs: cells B.
        reward_scale, actions: as of `CentralEnv`.
        max_episode_steps: slots of an episode; default: the scenario's horizon.
        autoreset_mode: "NextStep" (the step after the end only resets) or "SameStep" (the step that ends also resets;
            the last observations are `infos["final_obs"]`, its infos `infos["final_info"]`).
        **overrides: config fields, if `scenario` is a name.

    Observations (B, D) float32, actions (B, ...), rewards, ends (B,); infos: metric -> (B,) of the slot.

    Version history: v0 (EdgeMARL 0.2): the first with a version.
    """

    def __init__(
        self,
        scenario: Scenario | str,
        num_envs: int = 1,
        reward_scale: float | None = None,
        actions: ActionUnits = "unit",
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        num_envs = checked_integer("num_envs", num_envs, 1)
        if max_episode_steps is not None:
            max_episode_steps = checked_integer("max_episode_steps", max_episode_steps, 1, "slots")
        if render_mode is not None:
            raise ValueError(f"render_mode = '{render_mode}' is not legal: only a single network is drawn, by make")
        self.scenario = given_scenario(scenario, overrides)
        self.reward_scale = checked_scale(learner_reward_scale(self.scenario) if reward_scale is None else reward_scale)
        self.num_envs, self._slots = num_envs, max_episode_steps
        self._mode = _mode(autoreset_mode)
        self.metadata = {"autoreset_mode": self._mode, "render_modes": []}
        self._joint = JointAction(self.scenario, unit=checked_units(actions) == "unit")
        self.single_observation_space = deepcopy(self.scenario.global_state_space)
        self.single_action_space = self._joint.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space: gymnasium.Space[Any] = batch_space(self.single_action_space, num_envs)
        self._episode = Episode(self.scenario, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start all cells; cell b draws from `seed + b`, or from entry b of a sequence, as `SyncVectorEnv` does."""
        seed = self._episode.checked_seeds(seed)
        super().reset(seed=seed if isinstance(seed, int) else None)
        self._episode.reset(seed, options, self._slots)
        return self._observations(), self._infos()

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Play a slot of all cells, or start new episodes where the step before ended the old ones.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: an illegal action.
        """
        episode = self._episode
        if not episode.started:
            raise ResetNeeded("call reset() before step()")
        never = np.zeros(self.num_envs, bool)
        if episode.over:
            observations, infos = self.reset()
            return observations, np.zeros(self.num_envs), never, never.copy(), infos
        step = episode.step(self._joint.decode(episode.state, np.asarray(actions), episode.exogenous))
        rewards = -self.reward_scale * total_cost(step)
        over = np.full(self.num_envs, episode.over)
        observations, infos = self._observations(), self._infos()
        if episode.over and self._mode is AutoresetMode.SAME_STEP:
            last, told = observations, infos
            observations, infos = self.reset()
            # an array of arrays, as Gymnasium has it: learners ask for final_obs[b]
            final = np.empty(self.num_envs, object)
            final[:] = list(last)
            infos |= {"final_obs": final, "_final_obs": ~never, "final_info": told, "_final_info": ~never}
        return observations, rewards, never, over, infos

    def action_masks(self) -> Array:
        """(B, choices) bool of the choices that make sense.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: an action that is not made of choices.
        """
        episode = self._episode
        if not episode.started:
            raise ResetNeeded("call reset() before action_masks()")
        return self._joint.masks(episode.state, episode.exogenous, self.num_envs)

    def _observations(self) -> Array:
        return self.scenario.global_state(self._episode.state, self._episode.exogenous)

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for name, values in self._episode.metrics().items():
            infos[name], infos[f"_{name}"] = np.array(values, np.float64), np.ones(self.num_envs, bool)
        return infos


def _mode(given: AutoresetMode | str) -> AutoresetMode:
    for mode in MODES:
        if given in (mode, mode.value):
            return mode
    raise ValueError(unknown_name("autoreset mode", str(given), [mode.value for mode in MODES]))
