"""RLlib's own runner and the batched one train; their checkpoints are policies that do what the modules do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from sections import Section, costs

from edgemarl.envs import make_scenario
from edgemarl.marl import compare_controllers, load_policy
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.rllib.multi_agent_env import ScenarioMultiAgentEnv

SCENARIO = make_scenario("sequential_offloading", num_devices=3)


def test_a_checkpoint_of_rllibs_runner_does_what_its_module_does(local_cluster: None, section: Section) -> None:
    from ray.rllib.core.rl_module.rl_module import RLModule
    from ray.rllib.utils.spaces.space_utils import unsquash_action

    found = section("RLlib's own runner")
    path = found["folder"] / "own_runner" / "learner_group" / "learner" / "rl_module" / "device"
    module = RLModule.from_checkpoint(str(path))
    trace = SCENARIO.sample_trace(np.random.default_rng(0), 1, 20)
    env = ScenarioMultiAgentEnv(SCENARIO, traces=[trace], fixed={"server": "parametric_q"})
    rows, _ = env.reset(seed=1)
    space, spent = env.action_spaces["device_0"], []
    for _ in range(20):
        with torch.no_grad():
            out = module.forward_inference({Columns.OBS: torch.from_numpy(np.stack(list(rows.values())))})
        means = out[Columns.ACTION_DIST_INPUTS].numpy()[:, : space.shape[0]]
        rows, *_ = env.step({a: unsquash_action(np.array(m), space) for a, m in zip(env.agents, means, strict=True)})
        spent.append(env.metrics["cost"])
    policy = load_policy(found["folder"] / "own_runner", SCENARIO)
    result = rollout(policy, SCENARIO, trace, np.random.default_rng(1)).means["cost"][0]
    assert np.mean(spent) == pytest.approx(result, rel=1e-5)


def test_a_checkpoint_is_a_row_of_a_table(local_cluster: None, section: Section) -> None:
    found = section("RLlib's own runner")
    table = compare_controllers(SCENARIO, ["random", str(found["folder"] / "own_runner")], networks=2, slots=20)
    assert np.isfinite(table.rows[1].cost.value) and table.rows[1].cost != table.rows[0].cost


def test_a_batched_checkpoint_is_the_policy_of_its_run(local_cluster: None, section: Section) -> None:
    found = section("RLlib, the batched runner")
    assert found["result"]["evaluation"]["env_runners"]["num_episodes"] == 4
    assert found["result"]["env_runners"]["batches"] == 1
    network: Any = load_policy(found["folder"] / "batched", SCENARIO)
    assert set(network.controllers) == {"device", "server"} and np.isfinite(costs(network, SCENARIO)).all()


def test_ids_and_modules_make_environments(section: Section) -> None:
    found = section("Gymnasium and PettingZoo")
    assert found["observations"].shape == (4, *found["central"].observation_space.shape)
    assert found["env"].possible_agents[:3] == ["sensor_0", "sensor_1", "sensor_2"]


def test_a_function_is_a_row_of_a_table(section: Section) -> None:
    table = section("A policy of your own in a comparison")["table"]
    assert table.row("mine").cost == table.row("same").cost != table.row("random").cost
