"""Training in one process against remote runners, sampling ahead and several Learners: wall-clock time on this machine.

The same recipe on all sides: `sequential_offloading`, 100 devices, one shared policy, one pass over a batch, networks
64 x 64. A runner samples 20,000 agent-steps per iteration, so that with two of them the Learner has twice as many. The
sides take turns, so that what else the machine does slows all of them. A turn with sampling ahead ends when the batch
that is under way has arrived: it samples as many batches as it learns from.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from edgemarl.marl.benchmarks.rllib import _config
from edgemarl.marl.rllib.node import local_ray
from edgemarl.marl.training.config import resolve
from edgemarl.marl.training.setup import set_up

DEVICES, EPOCHS = 100, 1
ONE = "one_process"
SIDES: dict[str, dict[str, Any]] = {
    ONE: {},
    "1_runner": {"num_env_runners": 1},
    "2_runners": {"num_env_runners": 2},
    "1_runner_overlap": {"num_env_runners": 1, "overlap": True},
    "2_runners_overlap": {"num_env_runners": 2, "overlap": True},
    "1_learner": {"num_learners": 1},
    "2_learners": {"num_learners": 2},
}
TURN_STEPS = 400_000
"""Agent-steps of a turn."""
CORES = 2
"""Cores for which the limits are given."""


@dataclass(frozen=True)
class Turn:
    """What a turn took per agent-step, in s: wall-clock time, processor time of the main process and of the others."""

    wall_s: float
    main_s: float
    remote_s: float

    def limit_s(self, processes: int, overlap: bool) -> float:
        """Wall-clock time on free cores where processes wait for nothing but each other and processor time stays."""
        if overlap:
            return max(self.main_s, self.remote_s / processes, (self.main_s + self.remote_s) / CORES)
        return self.main_s + self.remote_s / max(1, min(processes, CORES))


def speeds(rounds: int = 5) -> dict[str, float]:
    """Agent-steps per second of every side and the speed-up over one process, the best of the rounds.

    The limit is what the same processor time could give on two free cores: it says how far a busy machine can be
    believed.
    """
    processes = {
        name: fields.get("num_env_runners", 0) + fields.get("num_learners", 0) for name, fields in SIDES.items()
    }
    with local_ray(sum(processes.values())), contextlib.ExitStack() as stack:
        built = {name: stack.enter_context(_built(fields)) for name, fields in SIDES.items()}
        for algorithm in built.values():
            _turn(algorithm, 1)  # starts, warms up
        turns = [{name: _turn(algorithm, TURN_STEPS) for name, algorithm in built.items()} for _ in range(rounds)]
    best = {name: _best([turn[name] for turn in turns]) for name in SIDES}
    found = {f"train_agent_steps_per_s_{name}": 1.0 / turn.wall_s for name, turn in best.items()}
    one = best.pop(ONE)
    for name, turn in best.items():
        found[f"train_speedup_{name}"] = one.wall_s / turn.wall_s
        limit_s = turn.limit_s(processes[name], bool(SIDES[name].get("overlap")))
        found[f"train_speedup_limit_{name}"] = one.main_s / limit_s
    return found


def _best(turns: Sequence[Turn]) -> Turn:
    """The least of each time."""
    return Turn(min(t.wall_s for t in turns), min(t.main_s for t in turns), min(t.remote_s for t in turns))


@contextlib.contextmanager
def _built(fields: dict[str, Any]) -> Iterator[Any]:
    algorithm = set_up(resolve(_config(DEVICES, epochs=EPOCHS, **fields)))
    try:
        yield algorithm
    finally:
        algorithm.stop()


def _turn(algorithm: Any, agent_steps: int) -> Turn:
    """One turn of at least so many agent-steps."""
    algorithm.settle()
    first, before, started_s, done = _sampled(algorithm), _processor_s(algorithm), time.perf_counter(), 0
    while done < agent_steps:
        algorithm.train()
        done = _sampled(algorithm) - first
    algorithm.settle()
    wall_s = time.perf_counter() - started_s
    main_s, remote_s = (after - then for after, then in zip(_processor_s(algorithm), before, strict=True))
    return Turn(wall_s / done, main_s / done, remote_s / done)


def _sampled(algorithm: Any) -> int:
    """Agent-steps that were learned from so far."""
    return DEVICES * int(algorithm.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def _processor_s(algorithm: Any) -> tuple[float, float]:
    """Processor time so far of this process, and of remote runners and Learners together."""
    group = algorithm.env_runner_group
    spent = group.foreach_env_runner(lambda _: time.process_time(), local_env_runner=False)
    if algorithm.learner_group.is_remote:
        spent += [result.get() for result in algorithm.learner_group.foreach_learner(lambda *_: time.process_time())]
    return time.process_time(), sum(spent)
