"""A fresh critic starts at the level of the first rewards: a constant in them changes nothing that is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.evaluation.postprocessing import Postprocessing

from edgemarl.marl.rllib.advantages import advantages_and_targets, shortfall
from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import rllib_config

SET = {"num_devices": 3, "episode_blocks": 20, "device_action": "split"}
CONTROLS: dict[str, dict[str, str]] = {
    "shared": {},
    "independent": {"policies": "independent"},
    "pooled": {"control": "central", "reward": "local"},
    "sets": {"control": "central", "central_policy": "sets", "reward": "local"},
    "joint": {"control": "central", "central_policy": "joint"},
    "mappo": {"algorithm": "mappo"},
}


def config(**values: Any) -> Any:
    fields = {"set": SET, "cells": 4, "slots": 10, "hidden": (8,), "seed": 5, **values}
    return rllib_config(resolve(TrainConfig(**fields)))


def test_shortfall_of_a_critic_at_the_right_level_is_nothing() -> None:
    """Rewards of 3 for ever under a discount of 0.9 are worth 30; per agent each has its own."""
    rewards = np.full((5, 2, 3), 3.0)
    assert shortfall(rewards, np.full((5, 2, 3), 30.0), 0.9, per_agent=False) == pytest.approx(0.0)
    rewards[..., 1] = 6.0
    np.testing.assert_allclose(shortfall(rewards, np.zeros((5, 2, 3)), 0.9, per_agent=True), [30.0, 60.0, 30.0])


def test_constant_rewards_have_no_advantage_at_the_level_and_one_that_tells_the_slot_at_zero() -> None:
    """What is wrong with a start at 0: equal rewards, and yet the advantages fall from slot to slot."""
    rewards, ends = np.full((6, 2, 1), -4.0), np.zeros((6, 2), bool)
    values = np.zeros((6, 2, 1))
    wrong, _ = advantages_and_targets(rewards, values, values, ends, 0.9, 0.9)
    assert (np.diff(wrong[:, 0, 0]) > 0).all()
    level = values + shortfall(rewards, values, 0.9, per_agent=False)
    right, targets = advantages_and_targets(rewards, level, level, ends, 0.9, 0.9)
    np.testing.assert_allclose(right, 0.0, atol=1e-5)
    np.testing.assert_allclose(targets, -40.0, rtol=1e-6)


@pytest.mark.parametrize("control", list(CONTROLS))
def test_a_constant_in_the_rewards_changes_no_first_advantage(control: str) -> None:
    batches = [
        BatchedEnvRunner(config=config(reward_offset=offset, **CONTROLS[control]), worker_index=0).sample(fresh=True)
        for offset in (0.0, 50.0)
    ]
    for module, rows in batches[0].policy_batches.items():
        other = batches[1].policy_batches[module]
        np.testing.assert_allclose(rows[Postprocessing.ADVANTAGES], other[Postprocessing.ADVANTAGES], atol=2e-3)
        assert abs(rows[Postprocessing.VALUE_TARGETS] - other[Postprocessing.VALUE_TARGETS]).min() > 1.0


@pytest.mark.parametrize("control", list(CONTROLS))
def test_the_first_iteration_brings_critics_to_their_level(local_cluster: None, control: str) -> None:
    """With a learning rate of nearly nothing: what moved the critics is the level alone; at "zero" nothing does."""
    for start, moved in (("rewards", True), ("zero", False)):
        algorithm = config(lr=1e-9, critic_start=start, **CONTROLS[control]).build_algo()
        try:
            algorithm.train()
            runner = algorithm.env_runner
            batch = runner.sample()
            for name, rows in batch.policy_batches.items():
                module = runner.module[name]
                columns = {key: torch.as_tensor(value) for key, value in rows.items()}
                values = module.compute_values(columns).detach().numpy()
                short = rows[Postprocessing.VALUE_TARGETS] - values
                axis = 0 if module.critic.per_agent else None
                level = np.abs(values.mean(axis=axis))
                assert (np.abs(short.mean(axis=axis)) < 0.35 * level).all() == moved, name
        finally:
            algorithm.stop()
