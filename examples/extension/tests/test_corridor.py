"""The corridor fulfils what every scenario must, and what it must itself."""

from __future__ import annotations

import numpy as np
from corridor.scenario import Corridor

from edgemarl.agents import make_policy
from edgemarl.envs.testing import ScenarioTests
from edgemarl.marl import rollout


class TestCorridor(ScenarioTests):
    def make(self) -> Corridor:
        return Corridor()


def test_bits_are_conserved() -> None:
    """What has arrived was carried or waits; never more is carried than the access point can."""
    scenario = Corridor()
    trace = scenario.sample_trace(np.random.default_rng(0), 3, 20)
    state, arrived, carried = scenario.initial_state(trace), np.zeros(3), np.zeros(3)
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        waiting = state.backlog_bits + exogenous.arrived_bits
        decisions = scenario.decode(state, {"device": np.ones((3, 6, 1))}, exogenous)
        state = scenario.step(state, decisions, exogenous).state
        arrived += exogenous.arrived_bits.sum(axis=1)
        carried += (waiting - state.backlog_bits).sum(axis=1)
        assert ((waiting - state.backlog_bits).sum(axis=1) <= scenario.config.capacity_bits + 1e-6).all()
    np.testing.assert_allclose(arrived, carried + state.backlog_bits.sum(axis=1))


def test_the_optimum_is_not_beaten_by_the_rules() -> None:
    scenario = Corridor()
    trace = scenario.sample_trace(np.random.default_rng(1), 5, 50)
    cost = {
        name: rollout(make_policy(scenario, name), scenario, trace, np.random.default_rng(0)).means["cost"].mean()
        for name in ("all_send", "backlog", "optimum")
    }
    assert cost["optimum"] < min(cost["all_send"], cost["backlog"])
