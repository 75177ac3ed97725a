"""A scenario for RLlib's own multi-agent runner: the yardstick of the batched one, in tests and in benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from edgemarl.envs.parallel import ScenarioParallelEnv
from edgemarl.envs.scenario import Scenario


class ScenarioMultiAgentEnv(MultiAgentEnv):
    """`ScenarioParallelEnv` under RLlib's interface; agents in the scenario's order.

    Args:
        scenario: the scenario.
        reward: reward mode.
        scales: role -> factor on its reward.
        traces: replay these one after another (then from the first again) instead of drawing new ones.
    """

    def __init__(
        self, scenario: Scenario, reward: str = "local", scales: dict[str, float] | None = None,
        traces: Sequence[Any] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.env = ScenarioParallelEnv(scenario, reward=reward)
        self._scales = scales or {}
        self._traces = list(traces)
        self._episodes = 0
        self.agents = list(self.env.possible_agents)
        self.possible_agents = list(self.env.possible_agents)
        self.observation_spaces = dict(self.env.observation_spaces)
        self.action_spaces = dict(self.env.action_spaces)
        self.observation_space = gymnasium.spaces.Dict({**self.observation_spaces})
        self.action_space = gymnasium.spaces.Dict({**self.action_spaces})
        self._role = {agent: agent.split("_")[0] for agent in self.possible_agents}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        if self._traces:
            options = {"trace": self._traces[self._episodes % len(self._traces)]}
        self._episodes += 1
        observations, _ = self.env.reset(seed=seed, options=options)
        return observations, {}

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        observations, rewards, _, truncated, _ = self.env.step(action_dict)
        scaled = {agent: reward * self._scales.get(self._role[agent], 1.0) for agent, reward in rewards.items()}
        return observations, scaled, {"__all__": False}, {"__all__": all(truncated.values())}, {}
