"""How near prices bring local cuts to a centralized search, in large cells and at the same state."""

from __future__ import annotations

import dataclasses
from time import perf_counter

import numpy as np

from edgemarl.agents.model_partitioning.reference import CutProblem, dual_bound
from edgemarl.agents.registry import make_policy
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig, scaled_resources

WARMUP_SLOTS, SAMPLED_SLOTS, EVERY = 60, 5, 8


def same_state_excess(config: ModelPartitioningConfig, num_devices: float) -> dict[str, float]:
    """Objective of price_greedy's cuts above a centralized search and above a lower bound, slot by slot.

    One cell with 1 MHz and 3 GHz per device runs under price_greedy; after 60 slots every eighth slot is also given to
    the centralized search, with the same queues and channels, five times.

    Args:
        config: every field but the number of devices, band and edge CPU is kept (the smoothing, for example).
        num_devices: devices N >= 7, a whole number.

    Returns:
        `excess`, `excess_max` of price_greedy over multi_start; `bound_excess` and `central_bound_excess`, excess of
        either over the dual's lower bound; `swing`, the mean change of the offload ratio from slot to slot;
        `decision_s`, `central_decision_s` per slot (all devices, one core); `bytes`, `central_bytes` per slot.
    """
    scenario = ModelPartitioning(scaled_resources(dataclasses.replace(config, num_devices=int(num_devices))))
    rng = np.random.default_rng(int(num_devices))
    trace = scenario.sample_trace(rng, 1, WARMUP_SLOTS + SAMPLED_SLOTS * EVERY)
    priced, central = make_policy(scenario, "price_greedy"), make_policy(scenario, "multi_start")
    priced.reset(scenario, trace)
    central.reset(scenario, trace)
    state, rows, ratios, sent = scenario.initial_state(trace), [], [], []
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        start = perf_counter()
        decisions = priced.decide(state, exogenous, rng)
        decision_s = perf_counter() - start
        if t >= WARMUP_SLOTS and (t - WARMUP_SLOTS) % EVERY == 0:
            problem, one = CutProblem.of(scenario, state, exogenous), np.arange(1)
            start = perf_counter()
            best = central.decide(state, exogenous, rng)
            central_s = perf_counter() - start
            values = [problem.value(one, d.partition_layer)[0] for d in (decisions, best)]
            rows.append([*values, dual_bound(problem)[0][0], decision_s, central_s])
        step = scenario.step(state, decisions, exogenous)
        if t >= WARMUP_SLOTS // 2:
            ratios.append(step.metrics["offload_ratio"][0])
            sent.append(step.metrics["signalling_bytes"][0])
        state = step.state
    local, best_value, bound, decide, search = np.array(rows).T
    return {
        "num_devices": float(num_devices),
        "excess": float(np.mean(local / best_value - 1.0)),
        "excess_max": float(np.max(local / best_value - 1.0)),
        "bound_excess": float(np.mean(local / bound - 1.0)),
        "central_bound_excess": float(np.mean(best_value / bound - 1.0)),
        "swing": float(np.abs(np.diff(ratios)).mean()),
        "decision_s": float(np.median(decide)),
        "central_decision_s": float(np.median(search)),
        "bytes": float(np.mean(sent)),
        "central_bytes": scenario.signalling().centralized_bytes,
    }
