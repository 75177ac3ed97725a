"""Who plays the corridor."""

from __future__ import annotations

import numpy as np

from corridor.scenario import Corridor, CorridorDecisions, CorridorExogenous, CorridorState, at_size
from edgemarl.agents import Act, CentralController, Controller, Entry, Playbook, Team
from edgemarl.envs import Array, Scenario


class AllSend(Controller):
    """Every sensor offers all it has."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(np.ones((*observations.shape[:2], 1)))


class Backlog(Controller):
    """A sensor offers the more of its backlog the longer it is."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(observations[..., :1])


class SlotOptimum(CentralController):
    """Fills the capacity with the bits that cost least energy: the minimum of the slot's cost."""

    name = "optimum"

    def decide(self, state: CorridorState, exogenous: CorridorExogenous, rng: np.random.Generator) -> CorridorDecisions:
        scenario = self.scenario
        assert isinstance(scenario, Corridor)
        c = scenario.config
        waiting = state.backlog_bits + exogenous.arrived_bits
        worth = c.backlog_weight > c.energy_weight * scenario.energy_per_bit_j  # sensors are sorted by energy
        left = np.maximum(c.capacity_bits - np.cumsum(waiting, axis=1) + waiting, 0.0)
        return CorridorDecisions(np.where(worth, np.minimum(waiting, left), 0.0))


def _team(name: str, rule: type[Controller]) -> Entry:
    return Entry(lambda scenario: Team(name, {"device": rule()}), (rule.__doc__ or "").rstrip("."), "baseline")


def _rule(scenario: Scenario) -> Controller:
    return Backlog()


PLAYBOOK = Playbook(
    controllers={
        "all_send": _team("all_send", AllSend),
        "backlog": _team("backlog", Backlog),
        "optimum": Entry(lambda scenario: SlotOptimum(), "exact minimum of the slot's cost, sees all", "reference"),
    },
    reference="optimum",
    roles={"device": {"backlog": _rule}},
    partners={"device": "backlog"},
    at_size=at_size,
)
