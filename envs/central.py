"""One cell of any scenario as a Gymnasium environment: one controller sees the global state and sets every action."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_seed
from edgemarl.envs.episode import Episode
from edgemarl.envs.joint import JointAction, learner_reward_scale
from edgemarl.envs.parallel import ActionUnits, checked_scale, checked_units
from edgemarl.envs.registry import given_scenario
from edgemarl.envs.scenario import Scenario, total_cost
from edgemarl.envs.spaces import batched
from edgemarl.envs.view import RENDER_FPS, RENDER_MODES, View


class CentralEnv(gymnasium.Env[Array, Any]):
    """The network under one centralized controller.

    Args:
        scenario: a scenario or the name of a registered one.
        reward_scale: factor on the reward; None: `learner_reward_scale`, which brings it to the size that learners are
            used to. What a slot really cost is in the infos.
        hybrid: the action is `hybrid_space`, a Dict of discrete and continuous parts, instead of `central_space`.
        actions: "unit" ([-1, 1] for every entry of a Box, which learners elsewhere need), or "own" (the scenario's).
        render_mode: "rgb_array", "human" or None.
        **overrides: config fields, if `scenario` is a name.

    | | |
    |---|---|
    | observation | `global_state` (D,) float32 |
    | action | `central_space` or `hybrid_space` in the units of `actions`; `action_masks()` if it is made of choices |
    | reward | minus the sum of the ledger, times `reward_scale` |
    | end | truncation after the scenario's horizon, or at the end of the replayed trace; never termination |
    | infos | the cell's metrics of the slot by name; 0 at reset |

    `reset(seed=..)` fixes the whole episode; `reset(options={"trace": ..})` replays a trace of one cell. Gymnasium
    knows it as `EdgeMARL/SequentialOffloading-v0` and so on; `make_vec` steps all cells at once (`CentralVectorEnv`).

    Version history: v0 (EdgeMARL 0.2): the first with a version. In EdgeMARL 0.1 actions were the scenario's own, the
    reward unscaled, metrics under `infos["metrics"]`.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": RENDER_FPS}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        scenario: Scenario | str,
        reward_scale: float | None = None,
        hybrid: bool = False,
        actions: ActionUnits = "unit",
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        self.scenario = given_scenario(scenario, overrides)
        self.reward_scale = checked_scale(learner_reward_scale(self.scenario) if reward_scale is None else reward_scale)
        self.hybrid, self.render_mode = hybrid, render_mode
        self._joint = JointAction(self.scenario, hybrid, checked_units(actions) == "unit")
        self.observation_space = deepcopy(self.scenario.global_state_space)
        self.action_space = self._joint.space
        self._view = View(self.scenario, render_mode)
        self._episode = Episode(self.scenario)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        seed = None if seed is None else checked_seed("seed", seed)
        super().reset(seed=seed)
        self._episode.reset(seed, options)
        return self._observation(), self._infos()

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Play a slot.

        Raises:
            ResetNeeded: before the first reset, or after the end of the episode.
            ValueError: an illegal action.
        """
        episode = self._episode
        if not episode.started or episode.over:
            raise ResetNeeded("the episode is over: call reset()" if episode.started else "call reset() before step()")
        one = batched(action) if self.hybrid else np.asarray(action)[None]
        step = episode.step(self._joint.decode(episode.state, one, episode.exogenous))
        if self.render_mode == "human":
            self.render()
        reward = -self.reward_scale * float(total_cost(step)[0])
        return self._observation(), reward, False, episode.over, self._infos()

    def action_masks(self) -> Array:
        """(choices,) bool, as `sb3_contrib.MaskablePPO` asks for it.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: an action that is not made of choices.
        """
        episode = self._episode
        if not episode.started:
            raise ResetNeeded("call reset() before action_masks()")
        masks: Array = self._joint.masks(episode.state, episode.exogenous, 1)[0]
        return masks

    def render(self) -> Array | None:  # type: ignore[override] # one of the forms that Gymnasium allows
        """Draw the cell: an RGB array (H, W, 3) uint8 with "rgb_array"; a window, and None, with "human".

        Raises:
            ResetNeeded: before the first reset.
        """
        if not self._episode.started:
            raise ResetNeeded("call reset() before render()")
        return self._view.show(self._episode)

    def close(self) -> None:
        self._view.close()

    def _observation(self) -> Array:
        row: Array = self.scenario.global_state(self._episode.state, self._episode.exogenous)[0]
        return row

    def _infos(self) -> dict[str, Any]:
        return {name: float(values[0]) for name, values in self._episode.metrics().items()}
