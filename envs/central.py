"""One cell of any scenario as a Gymnasium environment: one controller sees the global state and sets every action."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import decode_hybrid, hybrid_space
from edgemarl.envs.episode import Episode
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario, total_cost
from edgemarl.envs.spaces import batched


class CentralEnv(gymnasium.Env[Array, Any]):
    """The network under one centralized controller.

    Args:
        scenario: a scenario or the name of a registered one.
        reward_scale: factor on the reward, which is minus the sum of the ledger.
        hybrid: the action is `hybrid_space`, a Dict of discrete and continuous parts, instead of `central_space`.
        **overrides: config fields, if `scenario` is a name.

    Observation: `global_state` (D,) float32. Action: `central_space` or `hybrid_space`.
    End: truncation after the horizon.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self, scenario: Scenario | str, reward_scale: float = 1.0, hybrid: bool = False, **overrides: Any
    ) -> None:
        self.scenario = make_scenario(scenario, **overrides) if isinstance(scenario, str) else scenario
        self.reward_scale = reward_scale
        self.observation_space = deepcopy(self.scenario.global_state_space)
        self.hybrid = hybrid
        self.action_space = deepcopy(hybrid_space(self.scenario) if hybrid else self.scenario.central_space)
        self._episode = Episode(self.scenario)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode.reset(seed, options)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        episode = self._episode
        episode.started("step()")
        if self.hybrid:
            decisions = decode_hybrid(self.scenario, episode.state, batched(action), episode.exogenous)
        else:
            decisions = self.scenario.decode_central(episode.state, np.asarray(action)[None], episode.exogenous)
        step, over = episode.step(decisions)
        metrics = {name: float(values[0]) for name, values in step.metrics.items()}
        return self._observation(), -self.reward_scale * float(total_cost(step)[0]), False, over, {"metrics": metrics}

    def _observation(self) -> Array:
        row: Array = self.scenario.global_state(self._episode.state, self._episode.exogenous)[0]
        return row
