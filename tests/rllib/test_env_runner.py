"""The batched runner: every scenario and role, staggered episodes, topologies, state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from envs.registry import scenario_names
from marl.rllib.advantages import advantages_and_targets
from marl.rllib.env_runner import BatchedEnvRunner
from marl.rllib.modules import GLOBAL_STATE
from marl.rllib.session import ppo_config
from marl.train_config import TrainConfig

CELLS, SLOTS = 3, 4
CONTROLS: dict[str, dict[str, str]] = {
    "decentralized": {},
    "pooled": {"control": "central"},
    "joint": {"control": "central", "central_policy": "joint"},
    "mappo": {"algorithm": "mappo", "reward": "team"},
}


def runner(**values: Any) -> BatchedEnvRunner:
    config = TrainConfig(**{"cells": CELLS, "slots": SLOTS, "hidden": (8,), **values})
    return BatchedEnvRunner(config=ppo_config(config), worker_index=0)


@pytest.mark.parametrize("scenario", scenario_names())
@pytest.mark.parametrize("control", ["decentralized", "pooled", "joint", "mappo"])
def test_every_scenario_is_sampled(scenario: str, control: str) -> None:
    sampler = runner(scenario=scenario, **CONTROLS[control])
    batch = sampler.sample()
    assert batch.env_steps() == CELLS * SLOTS
    roles = sampler.scenario.roles
    for name, rows in batch.policy_batches.items():
        agents = 1 if control == "joint" else roles[name].count
        lead = (CELLS * SLOTS, agents) if control == "mappo" else (CELLS * SLOTS * agents,)
        for column in (Columns.ACTION_LOGP, Postprocessing.ADVANTAGES, Postprocessing.VALUE_TARGETS):
            assert rows[column].shape == lead
            assert np.isfinite(rows[column]).all()
        if control == "mappo":
            assert rows[GLOBAL_STATE].shape == (CELLS * SLOTS, *sampler.scenario.global_state_space.shape)
    assert set(batch.policy_batches) == ({"central"} if control == "joint" else set(roles))


SHORT = {"num_devices": 2, "episode_blocks": 6, "device_action": "split"}


def test_cells_are_staggered_and_episodes_bring_new_topologies() -> None:
    sampler = runner(set=SHORT, cells=6, slots=1)
    sampler.sample()
    cells = sampler.cells
    assert cells is not None
    assert cells.clock.tolist() == [1, 2, 3, 4, 5, 0]
    before = [trace.mean_gain_per_w.copy() for trace in cells.traces]
    for _ in range(6):
        sampler.sample()
    assert all((a != trace.mean_gain_per_w).all() for a, trace in zip(before, cells.traces, strict=True))


def test_state_continues_the_same_stream() -> None:
    first, second = runner(set=SHORT, seed=4), runner(set=SHORT, seed=4)
    for _ in range(3):
        first.sample()
    second.set_state(first.get_state())
    one, two = first.sample(), second.sample()
    for column, values in one["device"].items():
        np.testing.assert_array_equal(values, two["device"][column])


def test_an_ended_episode_is_bootstrapped_with_its_own_last_row() -> None:
    """By hand: two cells, the first ends after slot 1; gamma 0.5, lambda 1."""
    rewards = np.array([[[1.0], [1.0]], [[2.0], [2.0]], [[4.0], [4.0]]])
    values = np.zeros((3, 2, 1))
    following = np.array([[[0.0], [0.0]], [[10.0], [0.0]], [[6.0], [6.0]]])
    ends = np.array([[False, False], [True, False], [False, False]])
    _, targets = advantages_and_targets(rewards, values, following, ends, 0.5, 1.0)
    np.testing.assert_allclose(targets[:, 0, 0], [1 + 0.5 * (2 + 5), 2 + 5, 4 + 3])
    np.testing.assert_allclose(targets[:, 1, 0], [1 + 0.5 * (2 + 0.5 * 7), 2 + 0.5 * 7, 7])


def test_fixed_role_is_played_and_not_learned() -> None:
    batch = runner(set=SHORT, fixed={"server": "parametric_q"}).sample()
    assert list(batch.policy_batches) == ["device"]
