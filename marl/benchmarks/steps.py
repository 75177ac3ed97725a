"""The step of every scenario on one scale, how it grows with the network, and what drawing the trace costs.

All scenarios take turns in one run, so that other work on the machine slows all of them: ratios between them hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from time import thread_time
from typing import Any

import numpy as np

from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout

SCENARIOS = ("sequential_offloading", "sampling_rate", "model_partitioning", "model_pruning", "model_placement")
REFERENCE = "sequential_offloading"
CELLS, DEVICES, SINGLE_DEVICES = 64, 100, 20
FEW, MANY = 10, 2000
"""Sizes of the networks between which growth is measured, at equal numbers of devices in all."""
SLOTS, TRACE_SLOTS = 6, 50
ROUNDS, REPEATS = 30, 3


def at_size(name: str, devices: int) -> Scenario:
    """A scenario with so many devices and the resources that they need."""
    grown = playbook_of(name).at_size
    assert grown is not None, f"the playbook of {name} does not say how it grows"
    scenario = make_scenario(name)
    return type(scenario)(grown(scenario.config, devices))


def step_run(name: str, cells: int, devices: int) -> Callable[[], None]:
    """A run of a few slots in mid-episode under random decisions, ready to be stepped again and again."""
    scenario, rng = at_size(name, devices), np.random.default_rng(0)
    trace = scenario.sample_trace(rng, cells, SLOTS)
    policy = make_policy(scenario, "random")
    policy.reset(scenario, trace)
    state, parts = scenario.initial_state(trace), []
    for t in range(SLOTS):
        exogenous = scenario.exogenous(trace, t)
        decisions = policy.decide(state, exogenous, rng)
        parts.append((state, decisions, exogenous))
        state = scenario.step(state, decisions, exogenous).state

    def run() -> None:
        for before, decided, drawn in parts:
            scenario.step(before, decided, drawn)

    return run


def least_seconds(runs: Mapping[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """Shortest computing time in s of each of several things that take turns."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for key, run in runs.items():
            for _ in range(REPEATS):
                started = thread_time()
                run()
                best[key] = min(best[key], thread_time() - started)
    return best


def step_speeds() -> dict[str, float]:
    """Device-steps per second with all metrics, of every scenario NAME.

    Keys: `steps_per_s_NAME` (64 cells x 100 devices), `steps_per_s_single_NAME` (1 x 20), `steps_speedup_NAME` (the
    first over that of `sequential_offloading`), `steps_growth_10_to_2000_NAME` (time per device-step at 2000 devices
    over that at 10, at equal total size).
    """
    many = max(1, CELLS * DEVICES // MANY)
    sizes = {
        "all": (CELLS, DEVICES),
        "single": (1, SINGLE_DEVICES),
        "few": (many * MANY // FEW, FEW),
        "many": (many, MANY),
    }
    runs = {(name, what): step_run(name, *size) for name in SCENARIOS for what, size in sizes.items()}
    each = {(name, what): seconds / (SLOTS * math.prod(sizes[what])) for (name, what), seconds in
            least_seconds(runs, ROUNDS).items()}  # fmt: skip
    speeds: dict[str, float] = {}
    for name in SCENARIOS:
        speeds |= {
            f"steps_per_s_{name}": 1.0 / each[name, "all"],
            f"steps_per_s_single_{name}": 1.0 / each[name, "single"],
            f"steps_speedup_{name}": each[REFERENCE, "all"] / each[name, "all"],
            f"steps_growth_10_to_2000_{name}": each[name, "many"] / each[name, "few"],
        }
    return speeds


def trace_shares() -> dict[str, float]:
    """What share of a rollout is spent on drawing its trace, of every scenario NAME (64 cells x 100 devices, 50 slots).

    Keys: `trace_share_of_rollout_NAME` (of a rollout of the controller `random`), `trace_share_of_steps_NAME` (of
    drawing and stepping alone), `trace_draws_per_s_NAME` (device-slots drawn per second).
    """
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name in SCENARIOS:
        scenario = at_size(name, DEVICES)
        traces = SampledTraces(scenario, 0, CELLS, TRACE_SLOTS)
        runs[name, "draw"] = lambda traces=traces: list(traces.chunks(CELLS))  # type: ignore[misc]
        runs[name, "play"] = lambda scenario=scenario, traces=traces: rollout(  # type: ignore[misc]
            make_policy(scenario, "random"), scenario, traces, np.random.default_rng(0), chunk_cells=CELLS
        )
        runs[name, "step"] = step_run(name, CELLS, DEVICES)
    best = least_seconds(runs, max(1, ROUNDS // 10))
    speeds: dict[str, float] = {}
    for name in SCENARIOS:
        drawing, stepping = best[name, "draw"], best[name, "step"] * TRACE_SLOTS / SLOTS
        speeds |= {
            f"trace_share_of_rollout_{name}": drawing / best[name, "play"],
            f"trace_share_of_steps_{name}": drawing / (drawing + stepping),
            f"trace_draws_per_s_{name}": CELLS * DEVICES * (TRACE_SLOTS + 1) / drawing,
        }
    return speeds


def speeds() -> dict[str, float]:
    """All numbers of this file."""
    return {**step_speeds(), **trace_shares()}
