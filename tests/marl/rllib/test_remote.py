"""Remote runners: they sample, receive weights, and come back after one is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import set_up

CONFIG = TrainConfig(
    set={"device_action": "split", "num_devices": 3, "episode_blocks": 20}, cells=4, slots=10, minibatch=80, epochs=1,
    num_env_runners=2,
)  # fmt: skip
STEPS = 2 * 4 * 10
RESTART_S = 600.0
"""A new worker process has to import PyTorch and RLlib first."""


@pytest.fixture(scope="module")
def algorithm(local_cluster: None) -> Iterator[Any]:
    built = set_up(resolve(CONFIG))
    yield built
    built.stop()


def sampled(result: dict[str, Any]) -> int:
    return int(result["env_runners"]["num_env_steps_sampled_lifetime"])


def test_runners_sample_different_traces_and_receive_the_weights(algorithm: Any) -> None:
    assert sampled(algorithm.train()) == STEPS
    group = algorithm.env_runner_group
    queues = group.foreach_env_runner(lambda r: r.cells.state.device_queue_cycles.sum(), local_env_runner=False)
    assert len(set(queues)) == 2
    learned = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]["device"]
    held = group.foreach_env_runner(
        lambda r: r.module["device"].get_state()["policy.body.biases.2"].tolist(), local_env_runner=False
    )
    assert held == [learned["policy.body.biases.2"].tolist()] * 2


def test_runners_are_deterministic_without_pytorchs_compiler(algorithm: Any) -> None:
    """It takes over a second to load, and RLlib's seeding would load it."""

    def looked(_: Any) -> tuple[bool, bool]:
        import sys

        import torch

        return torch.are_deterministic_algorithms_enabled(), "torch._dynamo" in sys.modules

    found = algorithm.env_runner_group.foreach_env_runner(looked, local_env_runner=False)
    assert found == [(True, False)] * 2


def test_a_local_ray_has_no_process_that_only_clusters_need(algorithm: Any) -> None:
    own = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    words = {Path(part).name for words in own if any("/edgemarl-" in part for part in words) for part in words}
    assert {"raylet", "gcs_server"} <= words
    assert not {"monitor.py", "log_monitor.py", "dashboard.py"} & words


def test_training_goes_on_when_a_runner_is_killed(algorithm: Any) -> None:
    before = sampled(algorithm.train())
    group = algorithm.env_runner_group
    ray.kill(group._worker_manager._actors[1], no_restart=False)
    alone = sampled(algorithm.train())
    assert alone > before  # the other runner's half at least
    deadline = time.monotonic() + RESTART_S
    while group.num_healthy_remote_workers() < 2 and time.monotonic() < deadline:
        alone = sampled(algorithm.train())
    assert group.num_remote_worker_restarts() >= 1
    assert sampled(algorithm.train()) - alone == STEPS
