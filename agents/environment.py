"""A PettingZoo environment that shows the agents of some roles; named controllers play the others, as in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from edgemarl.agents.api import Act, Controller, Supplied, Team
from edgemarl.agents.registry import acting_order, announcements, entries_told, make_controller
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_kind, checked_mapping
from edgemarl.envs.config import unknown_name
from edgemarl.envs.names import AgentNames
from edgemarl.envs.parallel import ScenarioParallelEnv
from edgemarl.envs.scenario import Role, Scenario, Step


class PartneredParallelEnv(ScenarioParallelEnv):
    """`ScenarioParallelEnv` with partners: learners that take one kind of agent meet a network of several.

    What partners tell the shown agents stands at the end of their rows, and what a partner charges them is part of
    their reward with `reward="local"`, as where our own learners train beside `fixed` controllers.

    Args:
        scenario: a scenario or the name of a registered one.
        fixed: role -> who plays it: a name as of `edgemarl.agents.make_controller`, or a controller.
        reward, render_mode, others: as of `ScenarioParallelEnv`; others also hold config fields.

    A seeded `reset` starts partners anew; without a seed those that learn go on learning over the episodes.

    Raises:
        ValueError: an unknown role or controller, or no role left to show.
    """

    def __init__(
        self,
        scenario: Scenario | str,
        reward: str = "local",
        render_mode: str | None = None,
        fixed: Mapping[str, str | Controller] | None = None,
        **others: Any,
    ) -> None:
        self.fixed = dict(checked_mapping("fixed", {} if fixed is None else fixed, "roles to controllers or names"))
        super().__init__(scenario, reward, render_mode, **others)

    def _show(self, roles: Mapping[str, Role], agent_names: AgentNames | None) -> None:
        for role in self.fixed:
            if role not in roles:
                raise ValueError(unknown_name("role of fixed", role, roles))
        shown = [role for role in roles if role not in self.fixed]
        if not shown:
            raise ValueError("fixed names every role: no agent is left to show")
        partners = {role: self._partner(role) for role in self.fixed}
        told = entries_told(self.scenario, partners)
        announced = announcements(self.scenario, shown, self.fixed)
        self._supplied = {role: Supplied(announced.get(role)) for role in shown}
        members: dict[str, Controller] = {**self._supplied, **partners}
        order = acting_order(self.scenario, shown, self.fixed)
        self._team = Team("partners", {role: members[role] for role in roles}, order)
        super()._show({role: _hearing(roles[role], told[role]) for role in shown}, agent_names)

    def _partner(self, role: str) -> Controller:
        given = self.fixed[role]
        if isinstance(given, str):
            return make_controller(self.scenario, role, given)
        controller: Controller = checked_kind(f"fixed['{role}']", given, Controller, "a name or one of your own")
        return controller

    def _begin(self, seed: int | None, anew: bool) -> None:
        if anew:
            self._noise = np.random.default_rng(None if seed is None else [seed, 1])
            self._team.reset(self.scenario, self._episode.trace)
        else:
            self._team.next_episode(self._episode.trace)

    def _rows(self) -> Mapping[str, Array]:
        """Rows with messages; partners that act before the shown agents have acted."""
        state, exogenous = self._episode.state, self._episode.exogenous
        self._observed = self.scenario.observe(state, exogenous)
        masks = self._team.masks(state, exogenous)
        self._acted: dict[str, Act] = self._team.act_before(self._supplied, self._observed, self._noise, masks)
        return {role: self._team.row(role, self._observed) for role in self._supplied}

    def _played(self, raw: Mapping[str, Array]) -> Step[Any]:
        team, episode = self._team, self._episode
        seen = {role: dict(senders) for role, senders in team.inbox.items()}
        given = {role: supplied.acts(raw[role]) for role, supplied in self._supplied.items()}
        masks = team.masks(episode.state, episode.exogenous)
        acts = team.act(self._observed, self._noise, self._acted, given, masks)
        step = episode.step(team.decisions(acts, self._observed, episode.state, episode.exogenous))
        self._charges = team.charges(seen, step)
        team.feedback(step.costs)
        return step

    def _rewards(self, step: Step[Any]) -> Mapping[str, Array]:
        rewards = super()._rewards(step)
        if self.reward != "local":  # a price is there to tell what a selfish learner does not see
            return rewards
        return {role: reward - self._charges.get(role, 0.0) for role, reward in rewards.items()}


def _hearing(role: Role, entries: int) -> Role:
    """A role whose rows have entries of messages at their end."""
    if not entries:
        return role
    rows = role.observation_space
    ends = ((rows.low, -np.inf), (rows.high, np.inf))
    low, high = (np.append(bound, np.full(entries, end, bound.dtype)) for bound, end in ends)
    return replace(role, observation_space=gymnasium.spaces.Box(low, high, dtype=np.float32))
