"""Prices of the server's band and CPU that are learned from its load: theory of the step, and what it repairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemarl.agents.api import Team
from edgemarl.agents.model_placement.learned_prices import PriceLearning
from edgemarl.agents.model_placement.q_priced import stepped, worth_it
from edgemarl.agents.registry import make_policy
from edgemarl.envs.scenarios.model_placement import ModelPlacement, scaled


def played(scenario: ModelPlacement, name: str, slots: int, cells: int = 2) -> tuple[Team, np.ndarray]:
    """A team after `slots` slots, and its accuracy (slots, B)."""
    trace = scenario.sample_trace(np.random.default_rng(5), cells, slots)
    policy, state, rng, found = make_policy(scenario, name), scenario.initial_state(trace), np.random.default_rng(1), []
    assert isinstance(policy, Team)
    policy.reset(scenario, trace)
    for t in range(slots):
        exogenous = scenario.exogenous(trace, t)
        step = scenario.step(state, policy.decide(state, exogenous, rng), exogenous)
        state = step.state
        found.append(step.metrics["mean_accuracy"])
    return policy, np.stack(found)


@pytest.fixture(scope="module")
def server() -> Any:
    scenario = ModelPlacement(scaled(2, 5))
    team, _ = played(scenario, "cell_plan_priced", 2)
    return team.controllers["server"]


def rows_of(server: Any, relayed: int) -> np.ndarray:
    """Rows of a server whose first devices relay heavy tasks; gateways leave it 0.4 of the deadlines."""
    scenario = server.scenario
    exogenous = scenario.exogenous(scenario.sample_trace(np.random.default_rng(0), 2, 1), 0)
    state = scenario.initial_state(scenario.sample_trace(np.random.default_rng(0), 2, 1))
    told = np.where(np.arange(10) < relayed, 2.0, 3.0)
    told = np.broadcast_to(np.concatenate([told, [0.6, 0.6]]), (2, 1, 12))
    return np.concatenate([scenario.observe(state, exogenous)["server"], told], axis=2).astype(np.float32)


def test_load_is_the_derivative_of_the_least_cost(server: Any) -> None:
    rows, before = rows_of(server, 4), server.prices.copy()

    def cost(prices: Any) -> np.ndarray:
        tasks = server.relayed_tasks(rows)
        root = np.sqrt(prices[0] * tasks.band_s) + np.sqrt(prices[1] * tasks.cpu_s)
        return np.where(tasks.relayed, root**2 / tasks.rest_s, 0.0).sum(axis=1)

    server.prices = np.tile([0.7, 1.9], (2, 1))
    load = server.load(rows)
    step = 1e-5
    np.testing.assert_allclose(load[:, 0], (cost([0.7 + step, 1.9]) - cost([0.7 - step, 1.9])) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(load[:, 1], (cost([0.7, 1.9 + step]) - cost([0.7, 1.9 - step])) / (2 * step), rtol=1e-6)
    server.prices = before


def test_prices_fall_without_load_and_rise_with_too_much(server: Any) -> None:
    rng = np.random.default_rng(0)
    for relayed, rises in ((0, False), (10, True)):
        before = server.prices.copy()
        message = server.act(rows_of(server, relayed), rng).messages["gateway"]
        assert ((server.prices > before) == rises).all()
        np.testing.assert_allclose(message, np.broadcast_to(server.prices[:, None], message.shape), rtol=1e-6)
        server.prices = before


def test_what_is_told_beside_the_decisions_is_counted() -> None:
    scenario = ModelPlacement(scaled(3, 4))
    assert played(scenario, "cell_plan", 1)[0].message_bytes() == 0
    assert played(scenario, "cell_plan_priced", 1)[0].message_bytes() == 4 * 2 + 4 * 3


def test_the_server_leaves_first_hops_the_time_that_gateways_take() -> None:
    team, _ = played(ModelPlacement(scaled(2, 5, gateway_cpu_hz=1e8)), "cell_plan_priced", 3)
    told = team.inbox["server"]["gateway"][:, 0]
    assert (told != 0.67).any() and ((told >= 0.2) & (told <= 0.9)).all()
    np.testing.assert_allclose(team.controllers["server"].first_hop(told), np.repeat(told, 5, axis=1))


def test_learned_prices_relieve_a_server_behind_weak_gateways() -> None:
    weak = ModelPlacement(scaled(4, 10, gateway_cpu_hz=0.15e9))
    constant, learned = (played(weak, name, 14)[1][7:].mean() for name in ("cell_plan", "cell_plan_priced"))
    assert learned > constant + 0.15


def test_learners_of_every_role_come_near_the_rule_with_tuned_prices() -> None:
    """Devices, gateways and server learn online, and end above devices that learn selfishly."""
    scenario = ModelPlacement(scaled(4, 10))
    learned, rule, selfish = (
        played(scenario, name, 60, cells=1)[1][30:].mean()
        for name in ("parametric_q_priced", "static_level2", "device_q")
    )
    assert learned > rule - 0.02 and learned > selfish


def test_a_task_that_costs_more_than_it_gains_moves_no_price() -> None:
    taken = np.array([[[0.1, 0.2], [3.0, 0.0], [0.0, 0.5]]])
    prices = np.array([[[1.0, 1.0]]])
    np.testing.assert_array_equal(worth_it(taken, prices), [[[0.1, 0.2], [0.0, 0.0], [0.0, 0.5]]])
    low = stepped(np.ones(2), np.array([0.5, 1.2]), PriceLearning(target=0.8), 0)
    assert low[0] < 1.0 < low[1]
