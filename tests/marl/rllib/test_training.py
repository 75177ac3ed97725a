"""Training runs: checkpoint, resume, and the policy that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch

from edgemarl.agents.pooling import pool_of, with_pool
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Role
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.saves import save_folders
from edgemarl.marl.training.trained import load_policy

SMALL = {"device_action": "split", "num_devices": 3, "episode_blocks": 20}


def small(**values: Any) -> TrainConfig:
    settings = {"set": SMALL, "cells": 4, "slots": 10, "minibatch": 40, "seed": 7, "agent_steps": 640}
    on_policy = values.get("algorithm", "ppo") in ("ppo", "mappo", "counterfactual")
    return TrainConfig(**{**settings, **({"epochs": 2} if on_policy else {}), **values})


@pytest.fixture(scope="module")
def finished(local_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations (4 cells x 10 slots x 4 agents each)."""
    path = tmp_path_factory.mktemp("run")
    train(small(), path)
    return path


def test_curve_has_a_row_per_iteration(finished: Path) -> None:
    curve = pd.read_parquet(finished / "curve.parquet")
    assert curve["agent_steps"].tolist() == [160, 320, 480, 640]
    assert np.isfinite(curve["cost"]).all()


def test_same_seed_same_run_and_other_seed_another(finished: Path, tmp_path: Path) -> None:
    curve = pd.read_parquet(finished / "curve.parquet")
    again = train(small(), tmp_path / "again").curve
    other = train(small(seed=8), tmp_path / "other").curve
    np.testing.assert_array_equal(curve["cost"], again["cost"])
    assert (curve["cost"] != other["cost"]).all()


def test_resume_continues_as_if_never_stopped(finished: Path, tmp_path: Path) -> None:
    """Half the budget, then the rest from the checkpoint: curve and weights equal those of the uninterrupted run."""
    schedule = {"lr_final": 1.0}  # a schedule that ends with the budget would differ before the stop
    whole = train(small(**schedule), tmp_path / "whole")
    train(small(agent_steps=320, **schedule), tmp_path / "parts")
    parts = train(small(**schedule), tmp_path / "parts", resume=True)
    assert parts.curve["iteration"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(parts.curve["cost"], whole.curve["cost"])
    for role in ("device", "server"):
        a, b = (TrainedPolicy.load(run.path / "policy" / f"{role}.pt").network.state_dict() for run in (whole, parts))
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_resume_with_other_settings_is_refused(finished: Path) -> None:
    with pytest.raises(ValueError, match="gae_lambda"):
        train(small(gae_lambda=0.5), finished, resume=True)


def test_loaded_policy_acts_as_the_trained_module(finished: Path) -> None:
    """The file's network equals the Learner's module in the RLlib checkpoint, row by row."""
    from ray.rllib.core.rl_module.rl_module import RLModule

    newest = save_folders(finished)[0]
    module: Any = RLModule.from_checkpoint(newest / "checkpoint/learner_group/learner/rl_module/device")
    policy = TrainedPolicy.load(finished / "policy" / "device.pt")
    rows = np.random.default_rng(0).random((5, 3, 7), dtype=np.float32)
    with torch.no_grad():
        out = module.forward_inference({"obs": torch.from_numpy(rows)})["action_dist_inputs"]
    expected = (np.clip(out[..., :2].numpy(), -1, 1) + 1) / 2
    np.testing.assert_allclose(policy.act(rows, np.random.default_rng(0)), expected, atol=1e-6)


def test_shared_policy_controls_more_devices_than_it_was_trained_on(finished: Path) -> None:
    scenario = make_scenario("sequential_offloading", num_devices=11)  # default actions: the policy brings its own
    policy = load_policy(finished, scenario)
    trace = scenario.sample_trace(np.random.default_rng(1), cells=2, slots=5)
    policy.reset(scenario, trace)
    state = scenario.initial_state(trace)
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        state = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(t)), exogenous).state
    assert np.isfinite(state.device_queue_cycles).all()


def test_checkpoint_of_another_scenario_is_refused(finished: Path) -> None:
    with pytest.raises(ValueError, match="is of scenario 'sequential_offloading'"):
        load_policy(finished, make_scenario("sampling_rate"))


def test_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no trained policy"):
        load_policy(tmp_path, make_scenario("sequential_offloading"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fixed": {"gateway": "x"}}, "unknown role 'gateway'"),
        ({"reward": "temporal"}, "unknown reward mode"),
        ({"control": "central", "policies": "independent"}, "central"),
        ({"set": {"num_device": 3}}, "num_devices"),
        ({"grid": {"devices": 3}}, "device"),
        ({"grid": {"device": [3]}}, "2 integers"),
        ({"grid": {"device": 3}, "algorithm": "sac"}, "sac has no setting 'grid'; it is one of dqn, mappo, ppo"),
        ({"set": {}, "scenario": "model_partitioning", "algorithm": "sac"}, "sac needs continuous"),
        ({"epochss": 3}, "unknown training field 'epochss'; did you mean 'epochs'"),
        ({"cels": 3}, "unknown training field 'cels'; did you mean 'cells'"),
        ({"algorithm": "poo"}, "unknown algorithm 'poo'; did you mean 'ppo'"),
        ({"foresight": 2, "algorithm": "sac"}, "sac has no setting 'foresight'; it is one of mappo, ppo"),
        ({"foresight": 2, "scenario": "sampling_rate", "set": {}}, "no role"),
        ({"foresight": -1}, "foresight"),
        ({"first_action": {"device": [0.5, 2.0]}}, "must lie in Box"),
        ({"first_action": {"device": [0.5, 0.5, 0.5]}}, "must lie in Box"),
        ({"first_action": {"devices": [0.5]}}, "unknown learned role 'devices'"),
        ({"first_action": {"device": [0.5, 0.5]}, "grid": {"device": 3}}, "without a grid"),
        (
            {"first_action": {"device": [0.5]}, "algorithm": "sac"},
            "setting 'first_action'; it is one of mappo, ppo",
        ),
    ],
)
def test_illegal_runs_are_named(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(small(**values), tmp_path)


@pytest.mark.parametrize("central_policy", ["pooled", "joint"])
def test_central_run_gives_a_central_controller(central_policy: str, local_cluster: None, tmp_path: Path) -> None:
    train(small(control="central", central_policy=central_policy, agent_steps=160), tmp_path)
    scenario = make_scenario("sequential_offloading", num_devices=3)
    policy = load_policy(tmp_path, scenario)
    assert policy.information == "global"
    trace = scenario.sample_trace(np.random.default_rng(1), cells=2, slots=5)
    policy.reset(scenario, trace)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    step = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    assert np.isfinite(step.metrics["cost"]).all()


def test_a_policy_trained_under_a_price_plays_with_it(local_cluster: None, tmp_path: Path) -> None:
    train(small(fixed={"server": "parametric_q_priced"}, agent_steps=120), tmp_path)
    scenario = make_scenario("sequential_offloading", num_devices=5)
    policy = load_policy(tmp_path, scenario)
    trace = scenario.sample_trace(np.random.default_rng(1), cells=2, slots=5)
    policy.reset(scenario, trace)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    step = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    assert np.isfinite(step.metrics["cost"]).all()
    assert policy.message_bytes() == 4.0
    assert TrainedPolicy.load(tmp_path / "policy" / "device.pt").spec.observation_size == 8


def test_networks_of_their_own_under_a_critic_of_their_cell(local_cluster: None, tmp_path: Path) -> None:
    """Each device's policy is clipped by its own gradient; the critic that a gateway's devices share, by its own."""
    sizes = {"num_gateways": 2, "devices_per_gateway": 3}
    run = train(
        TrainConfig(
            scenario="model_placement",
            set=sizes,
            fixed={"gateway": "deadline", "server": "deadline"},
            reward="group",
            policies="independent",
            discount=0.0,
            cells=2,
            slots=4,
            minibatch=24,
            epochs=1,
            agent_steps=48,
        ),
        tmp_path,
    )
    assert np.isfinite(run.curve["device_vf_loss"]).all()
    assert TrainedPolicy.load(tmp_path / "policy" / "device.pt").spec.agents == 6


def test_mappo_trains_a_critic_of_the_whole_cell_and_a_local_actor(local_cluster: None, tmp_path: Path) -> None:
    run = train(small(algorithm="mappo", reward="team", agent_steps=320, normalise=True), tmp_path)
    assert np.isfinite(run.curve["device_vf_loss"]).all()
    scenario = make_scenario("sequential_offloading", num_devices=9)
    policy = TrainedPolicy.load(tmp_path / "policy" / "device.pt")
    assert policy.spec.observation_size == scenario.roles["device"].observation_space.shape[0]
    assert policy.network.normaliser is not None
    assert float(policy.network.normaliser.count) == 2 * 4 * 10 * 3  # rows of both iterations, saved with the policy
    assert load_policy(tmp_path, scenario).information == "local"


def test_pooled_rows_show_all_agents_in_any_order() -> None:
    rows = {"device": np.random.default_rng(0).random((2, 4, 3), dtype=np.float32), "server": np.ones((2, 1, 2), "f4")}
    box = gymnasium.spaces.Box(0, 1)
    roles = {role: Role(role, values.shape[1], box, box) for role, values in rows.items()}
    order = [2, 0, 3, 1]
    mixed = {**rows, "device": rows["device"][:, order]}
    pooled, shuffled = (
        {role: with_pool(values, pool_of(found, roles)) for role, values in found.items()} for found in (rows, mixed)
    )
    assert pooled["device"].shape == (2, 4, 3 + 2 * 5)
    np.testing.assert_allclose(shuffled["device"], pooled["device"][:, order], rtol=1e-6)
    np.testing.assert_allclose(pooled["server"][:, 0, 2:5], rows["device"].mean(axis=1), rtol=1e-6)


CLOSED_FORM = {"num_devices": 3, "bandwidth_rule": "optimal", "edge_cpu_rule": "optimal"}


@pytest.mark.parametrize(
    ("algorithm", "scenario", "settings", "role"),
    [
        ("sac", "sequential_offloading", SMALL, "device"),
        ("dqn", "sequential_offloading", SMALL, "device"),
        (
            "dqn",
            "model_partitioning",
            {"num_devices": 3, "bandwidth_rule": "optimal", "edge_cpu_rule": "optimal"},
            "device",
        ),
        ("dqn", "sampling_rate", {"devices_per_service": (2, 2), "share_mode": "optimal"}, "device"),
    ],
)
@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_off_policy_algorithms_train(
    algorithm: str,
    scenario: str,
    settings: dict[str, Any],
    role: str,
    policies: str,
    local_cluster: None,
    tmp_path: Path,
) -> None:
    config = small(
        algorithm=algorithm, scenario=scenario, set=settings, policies=policies, updates=3, replay=500, agent_steps=480,
        **({"grid": {"device": [3, 4], "server": 5}} if (algorithm, settings) == ("dqn", SMALL) else {}),
    )  # fmt: skip
    curve = train(config, tmp_path).curve
    assert np.isfinite(curve[f"{role}_qf_loss"]).all()
    game = make_scenario(scenario, **settings)
    policy = load_policy(tmp_path, game)
    trace = game.sample_trace(np.random.default_rng(1), cells=2, slots=3)
    policy.reset(game, trace)
    state, exogenous = game.initial_state(trace), game.exogenous(trace, 0)
    step = game.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    assert all(np.isfinite(cost).all() for cost in step.costs.values())


def test_algorithm_of_another_action_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dqn needs Discrete actions"):
        train(small(algorithm="dqn"), tmp_path)
