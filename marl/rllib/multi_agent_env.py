"""A scenario for RLlib's own multi-agent runner: its runner, connectors and modules as they come.

Also the yardstick of the batched runner, in tests and in benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from edgemarl.agents.environment import PartneredParallelEnv
from edgemarl.envs.capabilities import Masked
from edgemarl.envs.scenario import Scenario

MASK, ROW = "action_mask", "observations"
"""Entries of an observation with its mask, as RLlib's action masking modules take them."""


class ScenarioMultiAgentEnv(MultiAgentEnv):
    """`PartneredParallelEnv` under RLlib's interface; agents in the scenario's order, named after their role.

    So `policy_mapping_fn=lambda agent, *_, **__: agent.split("_")[0]` gives each role a module. Infos hold the
    `action_mask` of agents that have one; `env.metrics` the cell's metrics of the slot just played.

    Args:
        scenario: a scenario or the name of a registered one.
        reward: reward mode.
        scales: role -> factor on its reward.
        traces: replay these one after another (then from the first again) instead of drawing new ones.
        fixed: role -> named controller that plays it; RLlib sees the other roles' agents only.
        masked_observations: observations of roles with masks are Dicts of `action_mask` and `observations`, as
            `ray.rllib.examples.rl_modules.classes.action_masking_rlm` takes them.
        **overrides: config fields, if `scenario` is a name.
    """

    def __init__(
        self, scenario: Scenario | str, reward: str = "local", scales: Mapping[str, float] | None = None,
        traces: Sequence[Any] = (), fixed: Mapping[str, str] | None = None, masked_observations: bool = False,
        **overrides: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.env = PartneredParallelEnv(scenario, reward, fixed=fixed, agent_names=_after_role, **overrides)
        self._scales = dict(scales or {})
        self._traces = list(traces)
        self._episodes = 0
        self.agents = list(self.env.possible_agents)
        self.possible_agents = list(self.env.possible_agents)
        self._masked = self._masked_agents() if masked_observations else frozenset()
        self.action_spaces: dict[str, Any] = dict(self.env.action_spaces)
        self.observation_spaces = {a: self._space(a, space) for a, space in self.env.observation_spaces.items()}
        self.observation_space = gymnasium.spaces.Dict({**self.observation_spaces})
        self.action_space = gymnasium.spaces.Dict({**self.action_spaces})
        self._role = {agent: self.env.role_of(agent) for agent in self.possible_agents}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        if self._traces:
            options = {"trace": self._traces[self._episodes % len(self._traces)]}
        self._episodes += 1
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._seen(observations, infos), _masks(infos)

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        observations, rewards, _, truncated, infos = self.env.step(action_dict)
        scaled = {agent: reward * self._scales.get(self._role[agent], 1.0) for agent, reward in rewards.items()}
        over = all(truncated.values())
        return self._seen(observations, infos), scaled, {"__all__": False}, {"__all__": over}, _masks(infos)

    @property
    def metrics(self) -> dict[str, float]:
        """The cell's metrics of the slot just played, 0 before one was."""
        return self.env.metrics

    def _masked_agents(self) -> frozenset[str]:
        """Agents whose infos hold a mask."""
        if not isinstance(self.env.scenario, Masked):
            return frozenset()
        _, infos = self.env.reset(seed=0)
        return frozenset(agent for agent, info in infos.items() if MASK in info)

    def _space(self, agent: str, rows: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        if agent not in self._masked:
            return rows
        choices = int(self.action_spaces[agent].n)
        return gymnasium.spaces.Dict({MASK: gymnasium.spaces.Box(0.0, 1.0, (choices,), np.float32), ROW: rows})

    def _seen(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, Any]:
        return {
            agent: {MASK: infos[agent][MASK].astype(np.float32), ROW: row} if agent in self._masked else row
            for agent, row in observations.items()
        }


def _masks(infos: Mapping[str, Any]) -> dict[str, Any]:
    """What RLlib stores of every agent and step: masks alone."""
    return {agent: {MASK: info[MASK]} for agent, info in infos.items() if MASK in info}


def _after_role(role: str, index: int) -> str:
    """`device_3`; the one server is `server`."""
    return role if role == "server" else f"{role}_{index}"
