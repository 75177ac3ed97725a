"""One cell of any scenario as a PettingZoo parallel environment; no physics inside."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import masks_of
from edgemarl.envs.config import unknown_name
from edgemarl.envs.episode import Episode
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario


class ScenarioParallelEnv(ParallelEnv[str, Array, Any]):  # type: ignore[misc] # PettingZoo has no types
    """Every agent of one cell acts at once on what it sees locally.

    Args:
        scenario: a scenario or the name of a registered one.
        reward: "local" (minus the own ledger entry), "team" (minus the sum), or a further mode of the scenario.
        render_mode: "rgb_array", "human" or None.
        **overrides: config fields, if `scenario` is a name.

    | | |
    |---|---|
    | agents | `device_0`, .., `gateway_0`, .., `server`; order of `scenario.roles` |
    | spaces | those of the role; an observation is local (float32) |
    | reward | minus the cost of the slot; unscaled |
    | end | truncation after `scenario.horizon` slots, or at the end of the replayed trace; never termination |
    | infos | `metrics`: the cell's metrics of the slot; `action_mask` where the scenario has one |

    `reset(seed=..)` fixes the whole episode; `reset(options={"trace": ..})` replays a trace of one cell.
    """

    def __init__(
        self, scenario: Scenario | str, reward: str = "local", render_mode: str | None = None, **overrides: Any
    ) -> None:
        self.scenario = make_scenario(scenario, **overrides) if isinstance(scenario, str) else scenario
        if reward not in self.scenario.reward_modes:
            raise ValueError(unknown_name("reward mode", reward, self.scenario.reward_modes))
        if render_mode not in (None, "rgb_array", "human"):
            raise ValueError(unknown_name("render mode", str(render_mode), ("rgb_array", "human")))
        self.reward, self.render_mode = reward, render_mode
        self.metadata = {
            "name": f"{self.scenario.name}_v0", "render_modes": ["human", "rgb_array"], "is_parallelizable": True,
            "render_fps": 4,
        }  # fmt: skip
        self._episode = Episode(self.scenario)
        self._role_of = {
            agent: (name, i) for name, role in self.scenario.roles.items() for i, agent in enumerate(role.agent_ids)
        }
        self.possible_agents = list(self._role_of)
        self.agents: list[str] = []
        self._canvas: Any = None
        self._last_step: Any = None
        roles = self.scenario.roles
        # a space carries the generator of its `sample`: every agent of every environment has its own
        self.observation_spaces = {a: deepcopy(roles[r].observation_space) for a, (r, _) in self._role_of.items()}
        self.action_spaces = {a: deepcopy(roles[r].action_space) for a, (r, _) in self._role_of.items()}

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        self._episode.reset(seed, options)
        self.agents = list(self.possible_agents)
        self._last_step = None
        return self._observations(), self._infos({})

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        self._episode.started("step()")
        if not self.agents:
            raise ValueError("the episode is over: call reset() first")
        for name in actions:
            if name not in self._role_of:
                raise ValueError(unknown_name("agent", name, self.possible_agents[:8]))
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"action of agent '{missing[0]}' is missing ({len(missing)} of {len(self.agents)})")
        raw = {
            name: np.asarray([actions[agent] for agent in role.agent_ids])[None]
            for name, role in self.scenario.roles.items()
        }
        episode = self._episode
        decisions = self.scenario.decode(episode.state, raw, episode.exogenous)
        step, over = episode.step(decisions)
        self._last_step = step
        per_role = self.scenario.rewards(step, self.reward)
        rewards = {agent: float(per_role[r][0, i]) for agent, (r, i) in self._role_of.items()}
        metrics = {name: float(values[0]) for name, values in step.metrics.items()}
        truncated = dict.fromkeys(self.agents, over)
        result = (self._observations(), rewards, dict.fromkeys(self.agents, False), truncated, self._infos(metrics))
        if over:
            self.agents = []
        if self.render_mode == "human":
            self.render()
        return result

    def state(self) -> Array:
        """Global state (D,) float32 for a centralized critic."""
        self._episode.started("state()")
        values: Array = self.scenario.global_state(self._episode.state, self._episode.exogenous)[0]
        return values

    def render(self) -> Array | None:
        """Draw the cell; an RGB array (H, W, 3) uint8 with `rgb_array`, a window with `human`."""
        if self.render_mode is None:
            raise ValueError("render() needs render_mode='rgb_array' or 'human'")
        self._episode.started("render()")
        from edgemarl.envs.render import Canvas  # matplotlib is only imported when something is drawn

        if self._canvas is None:
            self._canvas = Canvas(self.scenario, window=self.render_mode == "human")
        result: Array = self._canvas.draw(self._episode, self._last_step)
        return result

    def close(self) -> None:
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None

    def _observations(self) -> dict[str, Array]:
        rows = self.scenario.observe(self._episode.state, self._episode.exogenous)
        return {agent: rows[r][0, i] for agent, (r, i) in self._role_of.items()}

    def _infos(self, metrics: dict[str, float]) -> dict[str, Any]:
        masks = masks_of(self.scenario, self._episode.state, self._episode.exogenous)
        infos: dict[str, Any] = {}
        for agent, (role, i) in self._role_of.items():
            infos[agent] = {"metrics": metrics} if metrics else {}
            if role in masks:
                infos[agent]["action_mask"] = masks[role][0, i].astype(np.int8)
        return infos
