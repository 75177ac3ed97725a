"""Runners that sample while the Learner learns: one update behind, whoever is faster; resumed bit by bit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from test_reliability import FIELDS, SET, weights

from edgemarl.marl.lock import LOCK
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import Training, train

REPLAY = {"algorithm": "dqn", "fixed": {"server": "parametric_q"}, "grid": {"device": (3, 4)}, "replay": 3000}
PER_ITERATION = {"ppo": 2 * 160, "dqn": 2 * 120}
"""Agent-steps of both runners."""


def config(algorithm: str, iterations: int, **more: Any) -> TrainConfig:
    fields = {**FIELDS, "set": SET, "seed": 3, "agent_steps": iterations * PER_ITERATION[algorithm]}
    if algorithm == "dqn":
        del fields["epochs"]
        fields |= {**REPLAY, "updates": 2}
    return TrainConfig(**{**fields, "num_env_runners": 2, "overlap": True, **more})


def slow() -> Callable[[Any], None]:
    """The first runner takes its time; a function that is sent whole, since runners do not import tests."""

    def make_slow(runner: Any) -> None:
        sample = runner.sample

        def late(**asked: Any) -> Any:
            time.sleep(0.3 * (runner.worker_index == 1))
            return sample(**asked)

        runner.sample = late

    return make_slow


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_batch_is_one_update_behind_and_a_run_goes_on_bit_by_bit_and_without_a_killed_runner(
    local_cluster: None, tmp_path: Path, algorithm: str
) -> None:
    """Saved while batches are under way; the runners of the whole run are slow, those of the resumed one are not.

    At its end the whole run of PPO loses a runner.
    """
    whole = config(algorithm, 5)
    with Training(whole, tmp_path / "whole") as training:
        group = training.algorithm.env_runner_group
        group.foreach_env_runner(slow(), local_env_runner=False)
        behind = []
        for _ in range(3):
            training.step()
            behind.append(updates_behind(training.algorithm))
        assert behind == [0, 1, 1]
        training.save()
        shutil.copytree(tmp_path / "whole", tmp_path / "stopped", ignore=shutil.ignore_patterns(f"{LOCK}*"))
        while not training.finished:
            training.step()
        training.save()
        assert len(training.rows) == 5
        if algorithm == "ppo":  # with the runners that are there: to start others takes seconds
            goes_on_when_a_runner_is_killed(training)
    train(whole, tmp_path / "stopped", resume=True)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def updates_behind(algorithm: Any) -> int:
    """Updates between the weights that the runners have sampled the next batch with and the Learner's."""
    held = algorithm.env_runner_group.foreach_env_runner(lambda runner: runner._weights_seq_no, local_env_runner=False)
    assert len(set(held)) == 1
    under_way = algorithm._under_way
    learned = int(algorithm.learner_group._learner._weights_seq_no)
    return learned - held[0] if under_way else 0


def goes_on_when_a_runner_is_killed(training: Training) -> None:
    """The other runner's batches alone until it is back."""
    group = training.algorithm.env_runner_group
    ray.kill(group._worker_manager._actors[1], no_restart=False)
    before = training.rows[-1]["agent_steps"]
    deadline = time.monotonic() + 600.0
    while group.num_remote_worker_restarts() < 1 and time.monotonic() < deadline:
        assert training.step()["agent_steps"] >= before + PER_ITERATION["ppo"] // 2
        before = training.rows[-1]["agent_steps"]
    training.step()
    assert training.step()["agent_steps"] - training.rows[-2]["agent_steps"] == PER_ITERATION["ppo"]


def test_overlap_without_remote_runners_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap = True is not legal without remote runners: num_env_runners must"):
        resolve(config("ppo", 1, num_env_runners=0))
