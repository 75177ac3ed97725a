"""Speed of the parametric Q-learner of `sequential_offloading`."""

from __future__ import annotations

import math
import time

import numpy as np

from edgemarl.agents.registry import make_policy
from edgemarl.agents.sequential_offloading.q_device import ParametricQDevice
from edgemarl.envs.arrays import Array
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.evaluation.rollout import play

BLOCKS = 30


def q_updates_per_s(devices: int = 500, repeats: int = 12, features: str = "hat") -> float:
    """Device-updates per second of `parametric_q` on one core: one update is a decision and what is learned from it.

    Args:
        devices: K of one cell.
        repeats: passes over the recorded rows; the fastest twentieth of all blocks counts, the least disturbed ones.
        features: "hat" or "sigmoid" (with replay).
    """
    scenario = make_scenario("sequential_offloading", num_devices=devices)
    rows = recorded_rows(scenario)
    learner, rng = ParametricQDevice(features=features), np.random.default_rng(1)
    seconds = []
    for _ in range(repeats):
        learner.reset(scenario, 1)
        learner.act(rows[0], rng)  # nothing is learned from the first row
        for row in rows[1:]:
            start = time.thread_time()
            learner.act(row, rng)
            seconds.append(time.thread_time() - start)
    fastest = sorted(seconds)[: math.ceil(len(seconds) / 20)]
    return devices / float(np.mean(fastest))


def speeds() -> dict[str, float]:
    """Key `q_updates_per_s`: 500 devices, the default features."""
    return {"q_updates_per_s": q_updates_per_s()}


def recorded_rows(scenario: Scenario) -> list[Array]:
    """Rows of the devices (1, K, d) while the learner plays one cell, block by block."""
    trace = scenario.sample_trace(np.random.default_rng(0), 1, BLOCKS)
    policy = make_policy(scenario, "parametric_q")
    policy.reset(scenario, trace)
    rows = [scenario.observe(scenario.initial_state(trace), scenario.exogenous(trace, 0))["device"]]
    for played in play(policy, scenario, trace, np.random.default_rng(0)):
        rows.append(scenario.observe(played.step.state, scenario.exogenous(trace, played.t + 1))["device"])  # noqa: PERF401
    return rows
