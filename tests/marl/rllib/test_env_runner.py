"""The batched runner: every scenario and role, staggered episodes, topologies, state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from edgemarl.agents.pooling import pool_size
from edgemarl.envs.registry import scenario_names
from edgemarl.marl.rllib.advantages import advantages_and_targets
from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.rllib.modules import POOL
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import rllib_config

CELLS, SLOTS = 3, 4
CONTROLS: dict[str, dict[str, str]] = {
    "decentralized": {},
    "pooled": {"control": "central"},
    "sets": {"control": "central", "central_policy": "sets"},
    "joint": {"control": "central", "central_policy": "joint"},
    "mappo": {"algorithm": "mappo", "reward": "team"},
}


def runner(**values: Any) -> BatchedEnvRunner:
    config = TrainConfig(**{"cells": CELLS, "slots": SLOTS, "hidden": (8,), **values})
    return BatchedEnvRunner(config=rllib_config(resolve(config)), worker_index=0)


@pytest.mark.parametrize("scenario", scenario_names())
@pytest.mark.parametrize("control", list(CONTROLS))
def test_every_scenario_is_sampled(scenario: str, control: str) -> None:
    sampler = runner(scenario=scenario, **CONTROLS[control])
    batch = sampler.sample()
    assert batch.env_steps() == CELLS * SLOTS
    roles = sampler.scenario.roles
    for name, rows in batch.policy_batches.items():
        agents = 1 if control == "joint" else roles[name].count
        lead = (CELLS * SLOTS, agents) if control == "sets" and agents > 1 else (CELLS * SLOTS * agents,)
        for column in (Columns.ACTION_LOGP, Postprocessing.ADVANTAGES, Postprocessing.VALUE_TARGETS):
            assert rows[column].shape == lead
            assert np.isfinite(rows[column]).all()
        if control == "mappo":
            assert rows[POOL].shape == (*lead, pool_size(sampler.scenario))
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


@pytest.mark.parametrize("fixed", [{}, {"server": "parametric_q_priced"}])
def test_state_continues_the_same_stream(fixed: dict[str, str]) -> None:
    first, second = (runner(set=SHORT, seed=4, fixed=fixed, foresight=2) for _ in range(2))
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


def test_a_learner_sees_the_price_of_the_slot_before_and_pays_it() -> None:
    """Price lambda/10 is the row's last entry, one block old; the reward is -0.1 (cost + lambda residual/W)."""
    sampler = runner(set=SHORT, fixed={"server": "parametric_q_priced"}, cells=2, slots=1)
    sampler.make_env()
    cells = sampler.cells
    assert cells is not None and cells.team is not None
    server: Any = cells.team.controllers["server"]
    entries = sampler.scenario.roles["device"].observation_space.shape[0]
    price = np.zeros(2)
    for _ in range(8):
        rows = cells.slot().observations["device"]
        assert rows.shape == (2, 2, entries + 1)
        np.testing.assert_allclose(rows[..., -1], np.repeat(price[:, None] / 10.0, 2, axis=1), rtol=1e-6)
        step, _, _ = cells.step({"device": np.full((2, 2, 2), 0.4)})
        paid = price[:, None] * step.details["residual_cycles"] / 5e8
        earned = sampler.rewards(step, cells)["device"]
        np.testing.assert_allclose(earned, -0.1 * (step.costs["device"] + paid), rtol=1e-5)
        price = server.price.copy()
    assert (price > 0.1).all() and paid.any()
    assert sampler.sample()["device"][Columns.OBS].shape == (4, entries + 1)


@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_a_critic_foresees_what_its_own_agent_meets_and_a_policy_does_not(policies: str) -> None:
    """Beside a row stand share of arrivals and CSI of the next slots; past the end the trace starts again."""
    sampler = runner(set=SHORT, fixed={"server": "parametric_q"}, cells=2, slots=4, foresight=3, policies=policies)
    plain = runner(set=SHORT, fixed={"server": "parametric_q"}, cells=2, slots=4, policies=policies)
    batch = sampler.sample()["device"]
    assert sampler.cells is not None
    seen = batch["foreseen"].reshape(4, 2, 2, 3, 2)  # slot, cell, device, ahead, entry
    trace = sampler.cells.traces[0]  # the first cell starts at slot 0 and does not end within four slots of six
    slots = np.arange(4)[:, None] + np.arange(3)
    np.testing.assert_allclose(seen[:, 0, :, :, 0], trace.task_arrivals[slots, 0].mean(-1).swapaxes(1, 2), rtol=1e-6)
    rows = sampler.cells.slot()
    assert sampler.cells.clock[0] == 4
    csi = [sampler.scenario.outlook(trace)["device"][t, 0, :, 1] for t in (4, 5, 6)]
    np.testing.assert_array_equal(rows.foreseen["device"].reshape(2, 2, 3, 2)[0, :, :, 1], np.stack(csi, axis=1))
    sampler.cells.clock[0] = 6
    again = sampler.cells.slot().foreseen["device"].reshape(2, 2, 3, 2)[0, :, 1:]
    np.testing.assert_array_equal(again, sampler.scenario.outlook(trace)["device"][[0, 1], 0].swapaxes(0, 1))
    policy, critic = (sum(p.numel() for p in part.parameters()) for part in _networks(sampler))
    policy_plain, critic_plain = (sum(p.numel() for p in part.parameters()) for part in _networks(plain))
    assert policy == policy_plain
    assert critic == critic_plain + 3 * 2 * 8 * (2 if policies == "independent" else 1)


def _networks(sampler: BatchedEnvRunner) -> tuple[Any, Any]:
    return sampler.module["device"].policy, sampler.module["device"].critic


def test_foresight_explains_what_a_row_must_leave_as_noise() -> None:
    """Under one policy, returns regressed on rows and on what the next slots bring: arrivals and fading to come."""
    low_load = {"num_devices": 4, "episode_blocks": 100, "device_action": "split", "arrival_probability": 0.2}
    sampler = runner(
        set=low_load, fixed={"server": "parametric_q"}, cells=8, slots=90, discount=0.5, gae_lambda=1.0, foresight=6
    )
    batch = sampler.sample(explore=False)["device"]
    returns, row = batch[Postprocessing.VALUE_TARGETS], batch[Columns.OBS]
    known = np.concatenate([row, row[:, :2] ** 2, np.ones((len(row), 1), np.float32)], axis=1)
    left = {}
    for name, columns in (("row", known), ("foresight", np.concatenate([known, batch["foreseen"]], axis=1))):
        fitted = columns @ np.linalg.lstsq(columns, returns, rcond=None)[0]
        left[name] = float(np.var(returns - fitted))
    assert left["foresight"] < 0.5 * left["row"], left
