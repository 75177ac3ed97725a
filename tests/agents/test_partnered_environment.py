"""An environment in which named controllers play some roles: what its agents see and are paid is what training has."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from edgemarl.agents import PartneredParallelEnv, make_controller
from edgemarl.envs import ScenarioParallelEnv, make_scenario
from edgemarl.envs.testing import random_actions
from edgemarl.marl.rllib.cells import Cells
from edgemarl.marl.rllib.settings import settings_for

CASES: dict[str, tuple[str, dict[str, Any], dict[str, str], str]] = {
    "messages and a price": ("sequential_offloading", {"num_devices": 3, "device_action": "split"},
                             {"server": "parametric_q_priced"}, "local"),
    "acting before": ("model_pruning", {"num_devices": 10}, {"server": "static_50", "gateway": "cell_plan"}, "group"),
    "acting between": ("model_pruning", {"num_devices": 10}, {"server": "static_50", "device": "threshold"}, "local"),
    "hearing what others do": ("model_placement", {"num_gateways": 2, "devices_per_gateway": 3},
                               {"gateway": "deadline", "server": "deadline"}, "group"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rows_and_rewards_are_those_of_training(case: str) -> None:
    name, overrides, fixed, mode = CASES[case]
    env = PartneredParallelEnv(name, reward=mode, fixed=fixed, **overrides)
    scenario = env.scenario
    trace = scenario.sample_trace(np.random.default_rng(1), 1, 8)
    shown = tuple(role for role in scenario.roles if role not in fixed)
    settings = settings_for(name, overrides=overrides, roles=shown, fixed=fixed, reward=mode, cells=1, stagger=False)
    partners = {role: make_controller(scenario, role, who) for role, who in fixed.items()}
    cells = Cells(scenario, settings, partners, np.random.default_rng(0), lambda _: trace)
    observations, _ = env.reset(options={"trace": trace})
    rng, charged = np.random.default_rng(2), 0.0
    for _ in range(7):
        slot, raw = cells.slot(), random_actions(scenario, rng, 1)
        ids = {role: [agent for agent in env.agents if env.role_of(agent) == role] for role in shown}
        for role, agents in ids.items():
            np.testing.assert_array_equal(slot.observations[role][0], [observations[agent] for agent in agents])
            assert all(env.observation_space(agent).contains(observations[agent]) for agent in agents)
        actions = {agent: raw[role][0, i] for role, agents in ids.items() for i, agent in enumerate(agents)}
        step, _, _ = cells.step({role: raw[role] for role in shown})
        observations, rewards, *_ = env.step(actions)
        per_role = scenario.rewards(step, mode)
        for role, agents in ids.items():
            charge = np.zeros(len(agents)) if mode != "local" else cells.charges.get(role, np.zeros((1, len(agents))))
            charged += float(np.abs(charge).sum())
            expected = (per_role[role] - charge)[0]
            np.testing.assert_allclose([rewards[agent] for agent in agents], expected, rtol=1e-12)
    assert (charged > 0) == (case == "messages and a price")


def test_pettingzoos_checkers_pass() -> None:
    def make() -> PartneredParallelEnv:
        return PartneredParallelEnv("sequential_offloading", fixed={"server": "parametric_q_priced"}, num_devices=3)

    parallel_api_test(make(), num_cycles=30)
    parallel_seed_test(make, num_cycles=10)


def test_a_seed_fixes_partners_that_learn_and_without_one_they_go_on() -> None:
    env = PartneredParallelEnv("sequential_offloading", fixed={"server": "parametric_q"}, num_devices=3)
    server: Any = env._team.controllers["server"]

    def episode(seed: int | None) -> tuple[float, np.ndarray]:
        env.reset(seed=seed)
        start = np.array(server.state_dict()["values"])
        rewards = 0.0
        for _ in range(20):
            rewards += env.step({agent: np.full(2, 0.5, np.float32) for agent in env.agents})[1]["wd_0"]
        return rewards, start

    first, fresh = episode(3)
    _, learned = episode(None)
    assert (learned != fresh).any()
    again, anew = episode(3)
    assert again == first and (anew == fresh).all()


def test_no_partner_is_the_plain_environment() -> None:
    scenario = make_scenario("model_pruning", num_devices=10)
    trace = scenario.sample_trace(np.random.default_rng(1), 1, 2)
    found = []
    for env in (PartneredParallelEnv(scenario), ScenarioParallelEnv(scenario)):
        env.reset(options={"trace": trace})
        for agent, space in env.action_spaces.items():
            space.seed(env.possible_agents.index(agent))
        found.append(env.step({agent: env.action_space(agent).sample() for agent in env.agents})[1])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"sensor": "random"}, "unknown role of fixed 'sensor'"),
        ({"server": "rondom"}, "unknown controller of role 'server'"),
        ({"device": "random", "gateway": "random", "server": "random"}, "fixed names every role"),
    ],
)
def test_partners_that_are_none_are_refused(fixed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartneredParallelEnv("model_pruning", fixed=fixed)


def test_a_partner_may_be_a_controller_itself() -> None:
    scenario = make_scenario("model_pruning", num_devices=10)
    gateway = make_controller(scenario, "gateway", "cell_plan")
    env = PartneredParallelEnv(scenario, fixed={"gateway": gateway, "server": "static_50"})
    assert set(env.group_map) == {"wd"} and env.reset(seed=0)[0].keys() == set(env.possible_agents)
    assert dataclasses.is_dataclass(env._episode.state)
