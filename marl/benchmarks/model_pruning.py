"""Speed of the model pruning step, and of the plans of its near-optimal controller."""

from __future__ import annotations

import math
import time

import numpy as np

from edgemarl.agents.model_pruning.reference import NearOptimal
from edgemarl.envs.scenarios.model_pruning import ModelPruning
from edgemarl.envs.scenarios.model_pruning.config import preset

SLOTS = 10
DEVICES_PER_BATCH = 12_800
"""Devices that are stepped at once, whatever the size of a network."""
REPEATS = 20


def speeds() -> dict[str, float]:
    """Devices stepped per second at 200 and 2000 sensors (random decisions), and slots planned per second at 100."""
    return {
        "pruning_device_steps_per_s": _device_steps_per_s(200),
        "pruning_device_steps_per_s_2000": _device_steps_per_s(2000),
        "pruning_reference_plans_per_s": _reference_plans_per_s(),
    }


def _device_steps_per_s(num_devices: int) -> float:
    name = "printed" if num_devices <= 200 else "scaled"
    network = ModelPruning(preset(name, num_devices=num_devices))
    c, rng = network.config, np.random.default_rng(0)
    cells = max(1, DEVICES_PER_BATCH // num_devices)
    trace = network.sample_trace(rng, cells, SLOTS)
    raw = [
        {
            "device": rng.integers(0, 2, (cells, num_devices)),
            "gateway": rng.integers(0, c.num_models, (cells, c.num_gateways)),
            "server": rng.uniform(-1.0, 1.0, (cells, 1, c.num_gateways)),
        }
        for _ in range(SLOTS)
    ]
    first = network.initial_state(trace)
    decisions = [network.decode(first, actions, network.exogenous(trace, 0)) for actions in raw]
    shortest = math.inf
    for _ in range(REPEATS):
        state, started = first, time.thread_time()
        for t in range(SLOTS):
            state = network.step(state, decisions[t], network.exogenous(trace, t)).state
        shortest = min(shortest, time.thread_time() - started)
    return SLOTS * cells * num_devices / shortest


def _reference_plans_per_s() -> float:
    network, rng = ModelPruning(preset("printed")), np.random.default_rng(0)
    trace = network.sample_trace(rng, 1, SLOTS)
    policy = NearOptimal()
    policy.reset(network, trace)
    shortest, state = math.inf, network.initial_state(trace)
    for t in range(SLOTS):
        exogenous, started = network.exogenous(trace, t), time.thread_time()
        decisions = policy.decide(state, exogenous, rng)
        shortest = min(shortest, time.thread_time() - started)
        state = network.step(state, decisions, exogenous).state
    return 1.0 / shortest
