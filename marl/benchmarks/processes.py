"""Training in one process against remote runners, sampling ahead and several Learners: wall-clock time on this machine.

The same recipe on all sides: `sequential_offloading`, 100 devices, one shared policy, one pass over a batch, networks
64 x 64. A runner samples 20,000 agent-steps per iteration, so that with two of them the Learner has twice as many. The
sides take turns, so that what else the machine does slows all of them. A turn with sampling ahead ends when the batch
that is under way has arrived: it samples as many batches as it learns from.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from edgemarl.marl.benchmarks.rllib import _config
from edgemarl.marl.rllib.node import local_ray
from edgemarl.marl.training.config import resolve
from edgemarl.marl.training.setup import set_up

DEVICES, EPOCHS = 100, 1
SIDES: dict[str, dict[str, Any]] = {
    "one_process": {},
    "1_runner": {"num_env_runners": 1},
    "2_runners": {"num_env_runners": 2},
    "1_runner_overlap": {"num_env_runners": 1, "overlap": True},
    "2_runners_overlap": {"num_env_runners": 2, "overlap": True},
    "1_learner": {"num_learners": 1},
    "2_learners": {"num_learners": 2},
}
TURN_STEPS = 800_000
"""Agent-steps of a turn."""


def speeds(rounds: int = 5) -> dict[str, float]:
    """Agent-steps per second of every side, median of the rounds, and what each makes of one process."""
    processes = sum(fields.get("num_env_runners", 0) + fields.get("num_learners", 0) for fields in SIDES.values())
    with local_ray(processes), contextlib.ExitStack() as stack:
        built = {name: stack.enter_context(_built(fields)) for name, fields in SIDES.items()}
        for algorithm in built.values():
            _turn(algorithm, 1)  # starts, warms up
        rates = np.array([[_turn(algorithm, TURN_STEPS) for algorithm in built.values()] for _ in range(rounds)])
    found = {f"train_agent_steps_per_s_{name}": float(np.median(rates[:, i])) for i, name in enumerate(SIDES)}
    times = rates / rates[:, :1]  # round by round
    return {**found, **{f"train_speedup_{n}": float(np.median(times[:, i])) for i, n in enumerate(SIDES) if i}}


@contextlib.contextmanager
def _built(fields: dict[str, Any]) -> Iterator[Any]:
    algorithm = set_up(resolve(_config(DEVICES, epochs=EPOCHS, **fields)))
    try:
        yield algorithm
    finally:
        algorithm.stop()


def _turn(algorithm: Any, agent_steps: int) -> float:
    """Agent-steps per second of wall-clock time over at least so many."""
    algorithm.settle()
    started_s, first, done = time.perf_counter(), _sampled(algorithm), 0
    while done < agent_steps:
        algorithm.train()
        done = _sampled(algorithm) - first
    algorithm.settle()
    return done / (time.perf_counter() - started_s)


def _sampled(algorithm: Any) -> int:
    """Agent-steps that were learned from so far."""
    return DEVICES * int(algorithm.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))
