"""DQN and SAC: an interrupted run continues exactly, and remote runners fill the buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.marl.rllib.replay import ReplayBuffer
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import train
from edgemarl.marl.training.setup import set_up

SMALL = {"device_action": "split", "num_devices": 3, "episode_blocks": 20}
KINDS: dict[str, dict[str, Any]] = {"sac": {}, "dqn": {"grid": {"device": (3, 4)}, "exploration": 0.01}}


def small(algorithm: str, **values: Any) -> TrainConfig:
    settings = {
        "set": SMALL, "fixed": {"server": "parametric_q"}, "cells": 4, "slots": 10, "minibatch": 40, "updates": 4,
        "seed": 7, "replay": 300, "agent_steps": 480, "lr_final": 1.0, **KINDS[algorithm],
    }  # fmt: skip
    return TrainConfig(algorithm=algorithm, **{**settings, **values})


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_resume_continues_as_if_never_stopped(algorithm: str, local_cluster: None, tmp_path: Path) -> None:
    """Half the budget, then the rest: curve and weights equal those of the uninterrupted run, with a full buffer."""
    whole = train(small(algorithm), tmp_path / "whole")
    train(small(algorithm, agent_steps=360), tmp_path / "parts")
    parts = train(small(algorithm), tmp_path / "parts", resume=True)
    assert parts.curve["iteration"].tolist() == [1, 2, 3, 4]
    for column in ("cost", "device_qf_loss"):
        np.testing.assert_array_equal(parts.curve[column], whole.curve[column])
    a, b = (TrainedPolicy.load(run.path / "policy" / "device.pt").network.state_dict() for run in (whole, parts))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_checkpoint_holds_temperature_targets_and_rows(local_cluster: None, tmp_path: Path) -> None:
    """What RLlib does not save of SAC, and what a resumed run would miss."""
    first = set_up(resolve(small("sac")))
    second = set_up(resolve(small("sac", seed=8)))
    try:
        for _ in range(3):
            first.train()
        first.save_to_path(str(tmp_path / "checkpoint"))
        second.restore_from_path(str(tmp_path / "checkpoint"))
        one, two = (a.learner_group._learner for a in (first, second))
        assert abs(one.curr_log_alpha["device"].item() - np.log(0.1)) > 1e-4
        assert two.curr_log_alpha["device"].item() == one.curr_log_alpha["device"].item()
        target, source = (learner.module["device"].target_qf.state_dict() for learner in (two, one))
        for name in source:
            torch.testing.assert_close(target[name], source[name], rtol=0, atol=0)
        kept, held = second._buffers["device"], first._buffers["device"]
        assert kept.count == held.count == 300
        np.testing.assert_array_equal(kept.sample(50, np.random.default_rng(0))["obs"],
                                      held.sample(50, np.random.default_rng(0))["obs"])  # fmt: skip
    finally:
        first.stop()
        second.stop()


def test_several_gradient_steps_in_one_call_equal_as_many_calls(local_cluster: None) -> None:
    """Weights and targets after four minibatches at once and one by one: targets follow after each."""
    first, second = set_up(resolve(small("dqn"))), set_up(resolve(small("dqn")))
    try:
        first._buffers["device"] = ReplayBuffer(300)
        first._buffers["device"].add(first.env_runner.sample()["device"])
        batch = first._drawn(np.random.default_rng(0), 4)
        one, two = (a.learner_group._learner for a in (first, second))
        two.module.set_state(one.module.get_state())
        one.update(batch=batch.copy(), num_total_minibatches=4)
        for i in range(4):
            part = batch["device"][i * 40 : (i + 1) * 40]
            two.update(batch=MultiAgentBatch({"device": part}, 40), num_total_minibatches=1)
        for name, value in one.module["device"].state_dict().items():
            torch.testing.assert_close(two.module["device"].state_dict()[name], value)
        moved = one.module["device"].target.body.biases[0]
        assert 0 < moved.abs().max().item() < one.module["device"].policy.body.biases[0].abs().max().item()
    finally:
        first.stop()
        second.stop()


def test_remote_runners_fill_the_buffer_and_receive_the_weights(local_cluster: None) -> None:
    algorithm = set_up(resolve(small("dqn", num_env_runners=1, replay=10_000)))
    try:
        for _ in range(2):
            algorithm.train()
        assert algorithm._buffers["device"].count == 2 * 4 * 10 * 3
        learned = algorithm.learner_group._learner.module["device"].policy.body.biases[2]
        group = algorithm.env_runner_group
        held = group.foreach_env_runner(
            lambda r: r.module["device"].policy.body.biases[2].tolist(), local_env_runner=False
        )
        assert held == [learned.tolist()]
        epsilons = group.foreach_env_runner(lambda r: float(r.module["device"].epsilon), local_env_runner=False)
        assert epsilons == pytest.approx([0.05])
    finally:
        algorithm.stop()


def test_replay_buffer_keeps_the_newest_rows() -> None:
    buffer = ReplayBuffer(5)
    for first in (0, 3, 6):
        buffer.add(SampleBatch({"x": np.arange(first, first + 3)}))
    again = ReplayBuffer.from_state(buffer.get_state(), 5)
    for rows in (buffer, again):
        assert set(rows.sample(200, np.random.default_rng(0))["x"]) == {4, 5, 6, 7, 8}
        rows.add(SampleBatch({"x": np.arange(9, 11)}))
        assert set(rows.sample(200, np.random.default_rng(0))["x"]) == {6, 7, 8, 9, 10}
