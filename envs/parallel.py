"""One cell of any scenario as a PettingZoo parallel environment; no physics inside."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv
from pettingzoo.utils.env_logger import EnvLogger

from edgemarl.envs.actions import ActionShapeError, form_hint
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import masks_of
from edgemarl.envs.checks import checked_integer, checked_mapping, checked_number
from edgemarl.envs.config import unknown_name
from edgemarl.envs.episode import Episode
from edgemarl.envs.names import AgentNames, agent_groups, group_map
from edgemarl.envs.registry import given_scenario
from edgemarl.envs.scenario import Role, Scenario, Step
from edgemarl.envs.spaces import from_unit, unit_space
from edgemarl.envs.view import RENDER_FPS, RENDER_MODES, View

ActionUnits = Literal["own", "unit"]
"""Whether actions are those of the scenario's spaces, or every entry of a Box lies in [-1, 1]."""


class ScenarioParallelEnv(ParallelEnv[str, Array, Any]):  # type: ignore[misc] # PettingZoo has no types
    """Every agent of one cell acts at once on what it sees locally.

    Args:
        scenario: a scenario or the name of a registered one.
        reward: "local" (minus the own ledger entry), "team" (minus the sum), or a further mode of the scenario.
        render_mode: "rgb_array", "human" or None.
        max_cycles: slots of an episode; default: the scenario's horizon.
        agent_names: other names of the agents: role -> word before the number, role -> all names, or a function of
            role and index.
        actions: "own" (the scenario's spaces), or "unit" ([-1, 1] for every entry of a Box).
        reward_scale: factor on every reward.
        **overrides: config fields, if `scenario` is a name.

    | | |
    |---|---|
    | agents | `wd_0`, .. (devices), `gateway_0`, .., `server`, order of `scenario.roles`; by role in `group_map` |
    | spaces | those of the role; an observation is local (float32); `state_space` is that of `state()` |
    | reward | minus the cost of the slot, times `reward_scale` |
    | end | truncation after `max_cycles` slots, or at the end of the replayed trace; never termination |
    | infos | of every agent: the cell's metrics of the slot (0 at reset), `action_mask` where the scenario has one |

    `reset(seed=..)` fixes the whole episode; `reset(options={"trace": ..})` replays a trace of one cell. To show the
    agents of some roles only and let named controllers play the others, use `edgemarl.agents.PartneredParallelEnv`.

    Version history: v0 (EdgeMARL 0.2): the first with a version. EdgeMARL 0.1 named devices `device_0`, gave metrics as
    `infos[agent]["metrics"]`, not at reset, and raised `ValueError` at a step after the end.
    """

    def __init__(
        self,
        scenario: Scenario | str,
        reward: str = "local",
        render_mode: str | None = None,
        max_cycles: int | None = None,
        agent_names: AgentNames | None = None,
        actions: ActionUnits = "own",
        reward_scale: float = 1.0,
        **overrides: Any,
    ) -> None:
        if "fixed" in overrides:
            raise ValueError("fixed = .. names controllers: use edgemarl.agents.PartneredParallelEnv, which takes them")
        self.scenario = given_scenario(scenario, overrides)
        if reward not in self.scenario.reward_modes:
            raise ValueError(unknown_name("reward mode", reward, self.scenario.reward_modes))
        max_cycles = None if max_cycles is None else checked_integer("max_cycles", max_cycles, 1, "slots")
        self.reward, self.render_mode, self.max_cycles = reward, render_mode, max_cycles
        self.reward_scale, self.action_units = checked_scale(reward_scale), checked_units(actions)
        self.metadata = {
            "name": f"{self.scenario.name}_v0", "render_modes": list(RENDER_MODES), "is_parallelizable": True,
            "render_fps": RENDER_FPS,
        }  # fmt: skip
        self._view = View(self.scenario, render_mode)
        self._episode = Episode(self.scenario)
        self._show(self.scenario.roles, agent_names)

    def _show(self, roles: Mapping[str, Role], agent_names: AgentNames | None) -> None:
        """Name the agents of roles and give each its spaces."""
        groups = agent_groups(roles, agent_names)
        self._agents_of = groups
        self._role_of = {agent: (role, i) for role, group in groups.items() for i, agent in enumerate(group)}
        self.group_map = group_map(groups, agent_names)
        self.possible_agents = list(self._role_of)
        self.agents: list[str] = []
        self.state_space = deepcopy(self.scenario.global_state_space)
        acted = {name: self._action_space_of(role.action_space) for name, role in roles.items()}
        # a space carries the generator of its `sample`: every agent of every environment has its own
        self.observation_spaces = {a: deepcopy(roles[r].observation_space) for a, (r, _) in self._role_of.items()}
        self.action_spaces = {a: deepcopy(acted[r]) for a, (r, _) in self._role_of.items()}

    def _action_space_of(self, space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        return unit_space(space) if self.action_units == "unit" else space

    def observation_space(self, agent: str) -> Any:
        self.role_of(agent)
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        self.role_of(agent)
        return self.action_spaces[agent]

    def role_of(self, agent: str) -> str:
        """The role of an agent, by which the scenario, ledgers and controllers know it."""
        if not isinstance(agent, str) or agent not in self._role_of:
            raise ValueError(unknown_name("agent", agent, self.possible_agents))
        return self._role_of[agent][0]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        anew = seed is not None or not self._episode.started
        self._episode.reset(seed, options, self.max_cycles)
        self._begin(seed, anew)
        self.agents = list(self.possible_agents)
        return self._observations(), self._infos()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Play a slot; after the end PettingZoo's warning and empty dicts.

        Raises:
            AssertionError: before the first reset, as PettingZoo has it.
            ValueError: an agent without action, an unknown agent, an illegal action.
        """
        if not self._episode.started:
            EnvLogger.error_step_before_reset()
        if not self.agents:
            EnvLogger.warn_step_after_terminated_truncated()
            return {}, {}, {}, {}, {}
        step = self._played(self._raw(actions))
        over = self._episode.over
        per_role = self._rewards(step)
        rewards = {agent: self.reward_scale * float(per_role[r][0, i]) for agent, (r, i) in self._role_of.items()}
        going = dict.fromkeys(self.agents, False)
        result = (self._observations(), rewards, going, dict.fromkeys(self.agents, over), self._infos())
        if over:
            self.agents = []
        if self.render_mode == "human":
            self.render()
        return result

    def state(self) -> Array:
        """Global state (D,) float32 for a centralized critic.

        Raises:
            AssertionError: before the first reset, as PettingZoo has it.
        """
        if not self._episode.started:
            EnvLogger.error_state_before_reset()
        values: Array = self.scenario.global_state(self._episode.state, self._episode.exogenous)[0]
        return values

    @property
    def metrics(self) -> dict[str, float]:
        """The cell's metrics of the slot just played, 0 before one was; also in every agent's infos."""
        return {name: float(values[0]) for name, values in self._episode.metrics().items()}

    def render(self) -> Array | None:
        """Draw the cell: an RGB array (H, W, 3) uint8 with "rgb_array"; a window, and None, with "human".

        Raises:
            AssertionError: before the first reset, as PettingZoo has it.
        """
        if not self._episode.started:
            EnvLogger.error_render_before_reset()
        return self._view.show(self._episode)

    def close(self) -> None:
        self._view.close()

    # --- what a subclass may see and decide otherwise ----------------------------------------------------------------

    def _begin(self, seed: int | None, anew: bool) -> None:
        """An episode starts, the first one or a seeded one if `anew`."""

    def _rows(self) -> Mapping[str, Array]:
        """Role -> (1, n, d) of the present slot."""
        return self.scenario.observe(self._episode.state, self._episode.exogenous)

    def _played(self, raw: Mapping[str, Array]) -> Step[Any]:
        """Play the slot: raw actions of the shown roles, (1, n, ...)."""
        episode = self._episode
        try:
            decisions = self.scenario.decode(episode.state, raw, episode.exogenous)
        except ActionShapeError as error:
            raise ValueError(f"{error}{form_hint(self.scenario, error.role)}") from None
        return episode.step(decisions)

    def _rewards(self, step: Step[Any]) -> Mapping[str, Array]:
        """Role -> (1, n) before the factor."""
        return self.scenario.rewards(step, self.reward)

    # --- by agent ----------------------------------------------------------------------------------------------------

    def _raw(self, actions: Mapping[str, Any]) -> dict[str, Array]:
        for name in checked_mapping("actions", actions, "agents to their actions"):
            if name not in self._role_of:
                raise ValueError(unknown_name("agent", name, self.possible_agents))
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"action of agent '{missing[0]}' is missing ({len(missing)} of {len(self.agents)})")
        raw = {}
        for role, agents in self._agents_of.items():
            values = _together(role, [actions[agent] for agent in agents])
            space = self.scenario.roles[role].action_space
            raw[role] = from_unit(space, values) if self.action_units == "unit" else values
        return raw

    def _observations(self) -> dict[str, Array]:
        rows = self._rows()
        return {agent: rows[r][0, i] for agent, (r, i) in self._role_of.items()}

    def _infos(self) -> dict[str, Any]:
        metrics = self.metrics
        masks = masks_of(self.scenario, self._episode.state, self._episode.exogenous)
        infos: dict[str, Any] = {}
        for agent, (role, i) in self._role_of.items():
            infos[agent] = dict(metrics)
            if role in masks:
                infos[agent]["action_mask"] = masks[role][0, i].astype(np.int8)
        return infos


def _together(role: str, actions: list[Any]) -> Array:
    """(1, n, ...) actions of a role's agents."""
    try:
        return np.asarray(actions)[None]
    except ValueError:
        shapes = ", ".join(sorted({str(np.asarray(action, object).shape) for action in actions}))
        raise ValueError(f"actions of agents of role '{role}' have the shapes {shapes}, must have one") from None


def checked_units(actions: str) -> ActionUnits:
    """`actions` of an environment, checked."""
    if actions not in ("own", "unit"):
        raise ValueError(unknown_name("unit of actions", actions, ("own", "unit")))
    return actions  # type: ignore[return-value]


def checked_scale(scale: float) -> float:
    """`reward_scale` of an environment, checked."""
    return checked_number("reward_scale", scale, 0.0, above=True)
