"""A scenario in the form of EPyMARL's `gymma`: a Gymnasium environment whose spaces, rows and actions are tuples.

EPyMARL makes it by its id, which names this module:

    env_args.key="edgemarl.agents.clients.tuple_env:EdgeMARL/SamplingRate-Tuple-v0"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.error import ResetNeeded

from edgemarl.agents.environment import PartneredParallelEnv
from edgemarl.agents.registry import playbook_of
from edgemarl.envs.arrays import Array
from edgemarl.envs.gym_ids import NAMESPACE, gym_id
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario


class TupleEnv(gymnasium.Env[tuple[Array, ...], Sequence[int]]):
    """The agents that choose, as EPyMARL takes them: entry i of every tuple is of agent i.

    Args:
        scenario: its name.
        fixed: role -> controller that plays it; default: the scenario's partners play the roles that do not choose.
        max_cycles: slots of an episode; default: the scenario's horizon. EPyMARL's `time_limit` should be no longer.
        **others: as of `PartneredParallelEnv`, config fields too.

    | | |
    |---|---|
    | spaces | Tuple of Box, Tuple of Discrete |
    | reward | list of n floats; `common_reward` adds them up |
    | end | truncation after `max_cycles` slots; never termination |
    | infos | the cell's metrics of the slot |

    Masks of choices are not told, as EPyMARL's wrapper takes every choice for legal.

    Raises:
        ValueError: no role chooses, or one that does not is left to learn.
    """

    def __init__(
        self,
        scenario: str,
        fixed: Mapping[str, str] | None = None,
        max_cycles: int | None = None,
        render_mode: str | None = None,
        **others: Any,
    ) -> None:
        own = {name: others.pop(name) for name in ("reward", "agent_names", "reward_scale") if name in others}
        made = make_scenario(scenario, **others)
        played = _partners(made) if fixed is None else dict(fixed)
        self.env = PartneredParallelEnv(made, fixed=played, max_cycles=max_cycles, render_mode=render_mode, **own)
        self.metadata = {**self.env.metadata}
        self.render_mode, self.n_agents = render_mode, len(self.env.possible_agents)
        agents = self.env.possible_agents
        self.observation_space = gymnasium.spaces.Tuple([self.env.observation_space(agent) for agent in agents])
        self.action_space = gymnasium.spaces.Tuple([_choices(self.env, agent) for agent in agents])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Array, ...], dict[str, Any]]:
        super().reset(seed=seed)
        rows, _ = self.env.reset(seed, options)
        return tuple(rows.values()), dict(self.env.metrics)

    def step(self, action: Sequence[int]) -> tuple[tuple[Array, ...], Any, bool, bool, dict[str, Any]]:
        """Play a slot.

        Raises:
            ResetNeeded: before the first reset, or after the end.
        """
        if not self.env.agents:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        given = dict(zip(self.env.possible_agents, action, strict=True))
        rows, rewards, _, truncated, _ = self.env.step(given)
        return tuple(rows.values()), list(rewards.values()), False, all(truncated.values()), dict(self.env.metrics)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


def _partners(scenario: Scenario) -> dict[str, str]:
    """Who plays the roles that do not choose.

    Raises:
        ValueError: no role chooses.
    """
    roles = scenario.roles.items()
    chooses = [name for name, role in roles if isinstance(role.action_space, gymnasium.spaces.Discrete)]
    if not chooses:
        spaces = ", ".join(f"{name} {role.action_space}" for name, role in roles)
        raise ValueError(f"EPyMARL's agents choose, and no role of {scenario.name} has a Discrete action: {spaces}")
    partners = playbook_of(scenario).partners
    return {role: partners[role] for role in scenario.roles if role not in chooses and role in partners}


def _choices(env: PartneredParallelEnv, agent: str) -> gymnasium.spaces.Discrete[Any]:
    space = env.action_space(agent)
    if not isinstance(space, gymnasium.spaces.Discrete):
        role = env.role_of(agent)
        raise ValueError(f"EPyMARL's agents choose: role '{role}' has {space}; name who plays it in fixed")
    return space


def tuple_id(scenario: str) -> str:
    """The id of a scenario's environment: `EdgeMARL/SamplingRate-Tuple-v0` of `sampling_rate`."""
    name, _, version = gym_id(scenario).removeprefix(f"{NAMESPACE}/").rpartition("-")
    return f"{NAMESPACE}/{name}-Tuple-{version}"


for _name in scenario_names():  # Gymnasium's checker wants one reward, EPyMARL one of every agent
    if tuple_id(_name) not in gymnasium.registry:
        gymnasium.register(
            tuple_id(_name),
            entry_point="edgemarl.agents.clients.tuple_env:TupleEnv",
            kwargs={"scenario": _name},
            disable_env_checker=True,
        )
