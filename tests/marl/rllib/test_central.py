"""Central control knows, hears and is paid no less than decentralized control, in every scenario."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents.api import Team
from edgemarl.agents.pooling import pool_of, pool_size
from edgemarl.agents.registry import acting_order, announcements, make_controller
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import CENTRAL, NetworkController, TrainedPolicy
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario, joint_reward
from edgemarl.launch.recipes import fields_of
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.curve import policy_networks
from edgemarl.marl.training.run import Training
from edgemarl.marl.training.setup import rllib_config

CELLS, SLOTS = 2, 6
CASES: list[dict[str, Any]] = [
    *({"scenario": name} for name in scenario_names()),
    {"scenario": "sequential_offloading", "fixed": {"server": "parametric_q_priced"}},
    {"scenario": "model_placement", "fixed": {"device": "static_level"}, "network": "parts"},
    {"scenario": "model_partitioning", "set": {"edge_cpu_rule": "action", "bandwidth_rule": "action"}},
]


def run_of(case: dict[str, Any], **values: Any) -> Run:
    fields = {"cells": CELLS, "slots": SLOTS, "hidden": (8, 8), "output_gain": 1.0, "seed": 3}
    return resolve(TrainConfig(**{**fields, **case, **values}))


def team_of(run: Run) -> Team:
    """Fresh networks of a run's roles beside its fixed controllers, as a trained run plays them."""
    scenario, policies = run.scenario, {}
    for role in run.roles:
        torch.manual_seed(run.config.seed)
        network = PolicyNetwork(run.algorithm.spec(run, role))
        information = {"pooled": run.config.pooled, "message_entries": run.heard}
        policies[role] = TrainedPolicy(network, scenario.name, role, information)
    told = announcements(scenario, policies, run.config.fixed)
    members: dict[str, Any] = {role: NetworkController(p, announcement=told.get(role)) for role, p in policies.items()}
    members |= {role: make_controller(scenario, role, name) for role, name in run.config.fixed.items()}
    order = acting_order(scenario, policies, run.config.fixed)
    controllers = {role: members[role] for role in scenario.roles}
    return Team("fresh", controllers, order, pooled=tuple(policies) if run.config.pooled else ())


def decided(team: Team, scenario: Scenario) -> list[dict[str, Any]]:
    trace = scenario.sample_trace(np.random.default_rng(5), CELLS, SLOTS)
    team.reset(scenario, trace)
    state, rng, found = scenario.initial_state(trace), np.random.default_rng(0), []
    for t in range(SLOTS):
        exogenous = scenario.exogenous(trace, t)
        decisions = team.decide(state, exogenous, rng)
        step = scenario.step(state, decisions, exogenous)
        team.feedback(step.costs)
        state = step.state
        found.append({f.name: getattr(decisions, f.name) for f in dataclasses.fields(decisions)})
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v) for v in case.values()))
@pytest.mark.parametrize("policy", ["pooled", "sets"])
def test_without_what_it_sees_beyond_a_row_it_acts_as_decentralized_control(case: dict[str, Any], policy: str) -> None:
    """A fresh central network has no use yet for the pool: what is left of it is the decentralized one."""
    if policy == "sets" and "network" in case:
        return  # parts of one row: refused
    alone = run_of(case)
    central = run_of(case, control="central", central_policy=policy)
    if policy == "pooled":
        apart = team_of(alone)
    else:  # another network: its own weights, each agent alone in its set
        apart = team_of(central)
        for controller in apart.controllers.values():
            if isinstance(controller, NetworkController):
                controller.policy = _each_alone(controller.policy)
    for ours, theirs in zip(decided(team_of(central), alone.scenario), decided(apart, alone.scenario), strict=True):
        for name, value in ours.items():
            assert (value is None) == (theirs[name] is None)
            if value is None:
                continue
            np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


def _each_alone(policy: TrainedPolicy) -> TrainedPolicy:
    """The policy as it acts where every agent sees itself as the only one, and an empty pool."""

    class Alone(TrainedPolicy):
        def act(self, observations: Any, rng: Any, greedy: bool = True, mask: Any = None) -> Any:
            rows = np.array(observations)
            rows[..., rows.shape[-1] - self.spec.pool :] = 0.0
            cells, agents, size = rows.shape
            flat = None if mask is None else np.array(mask).reshape(cells * agents, 1, -1)
            actions = super().act(rows.reshape(cells * agents, 1, size), rng, greedy, flat)
            return actions.reshape(cells, agents, *actions.shape[2:])

    return Alone(policy.network, policy.scenario, policy.role, policy.information)


@pytest.mark.parametrize("name", scenario_names())
def test_the_pool_knows_no_order_and_no_number_of_agents(name: str) -> None:
    scenario = make_scenario(name)
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 2)
    rows = scenario.observe(scenario.initial_state(trace), scenario.exogenous(trace, 0))
    pool = pool_of(rows, scenario.roles)
    assert pool.shape == (2, pool_size(scenario))
    device = scenario.roles["device"]
    shuffled = np.random.default_rng(1).permutation(device.count)
    mixed = {**rows, "device": rows["device"][:, shuffled]}
    np.testing.assert_allclose(pool_of(mixed, scenario.roles), pool, rtol=1e-5, atol=1e-7)


def test_rows_of_one_entry_per_device_are_pooled_by_their_parts() -> None:
    scenario = make_scenario("model_placement", num_gateways=2, devices_per_gateway=3)
    rows = {
        r: np.random.default_rng(0).random((1, s.count, *s.observation_space.shape)) for r, s in scenario.roles.items()
    }
    pool = pool_of(rows, scenario.roles)
    own = rows["server"][0, 0, : 6 * 8].reshape(6, 8)
    groups, common = rows["server"][0, 0, 48:50], rows["server"][0, 0, 50:]
    expected = np.concatenate([own.mean(0), own.max(0), [groups.mean()], [groups.max()], common, common])
    np.testing.assert_allclose(pool[0, -len(expected) :], expected, rtol=1e-6)


def test_it_hears_and_pays_the_price_that_decentralized_agents_hear_and_pay() -> None:
    case = {"scenario": "sequential_offloading", "set": {"num_devices": 4}, "fixed": {"server": "parametric_q_priced"}}
    batches = {}
    for control in ("decentralized", "central"):
        run = run_of(case, control=control, reward="local", slots=30)
        sampler = BatchedEnvRunner(config=rllib_config(run), worker_index=0)
        batches[control] = sampler.sample()["device"]
    heard, own = (batches[c]["obs"] for c in ("central", "decentralized"))
    size = own.shape[1]
    np.testing.assert_allclose(heard[0, :size], own[0])
    assert heard.shape[1] == size + pool_size(sampler.scenario)
    assert (heard[:, size - 1] != 0).any()  # the price


def test_lymdo_learns_with_the_actor_of_the_paper(local_cluster: None, tmp_path: Path) -> None:
    """A Gaussian number per device, its tanh floored to the cut (13)."""
    fields = fields_of("model_partitioning", "lymdo_gaussian")
    fields["set"]["mean_arrival_rate_hz"] = 2.5
    short = {"agent_steps": 60_000, "cells": 16, "minibatch": 200, "lr": 3e-3}
    with Training(TrainConfig(scenario="model_partitioning", **{**fields, **short}), tmp_path) as training:
        rows = [training.step() for _ in range(15)]
        network = policy_networks(training.algorithm)[CENTRAL]
    assert (network.spec.kind, network.spec.squash, len(network.spec.low)) == ("box", "tanh_late", 5)
    assert rows[-1]["objective"] < 0.75 * rows[0]["objective"]


def test_a_joint_action_is_judged_by_the_mode_that_it_is_asked_to_learn_from() -> None:
    ddpg = {"scenario": "sampling_rate", "algorithm": "ddpg", "control": "central", "central_policy": "joint"}
    steps: list[Any] = []
    for mode in ("team", "multiplier"):
        run = run_of(ddpg, reward=mode, reward_scale=2.0)
        sampler = BatchedEnvRunner(config=rllib_config(run), worker_index=0)
        step = sampler.scenario.step
        sampler.scenario.step = lambda *given, step=step: steps.append(step(*given)) or steps[-1]  # type: ignore[method-assign,func-returns-value]
        rewards = sampler.sample()[CENTRAL]["rewards"].reshape(SLOTS, CELLS)  # type: ignore[index]
        expected = [2.0 * joint_reward(run.scenario, played, mode) for played in steps[-SLOTS:]]
        np.testing.assert_allclose(rewards, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="judged by 'team' or 'multiplier'"):
        run_of(ddpg, reward="local")
