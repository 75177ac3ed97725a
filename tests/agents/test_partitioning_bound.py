"""The bound of `model_partitioning` against every sequence of cuts there is, and a controller with foresight."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgemarl.agents.model_partitioning import far_sighted
from edgemarl.agents.model_partitioning.bound import DEVICES_MAX, bound
from edgemarl.agents.playbook import NoBound
from edgemarl.agents.registry import make_policy
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningConfig,
    ModelPartitioningDecisions,
)
from edgemarl.marl.evaluation.rollout import rollout


def network(devices: int, rate_hz: float) -> ModelPartitioning:
    return ModelPartitioning(ModelPartitioningConfig(num_devices=devices, mean_arrival_rate_hz=rate_hz))


def best_of_all(scenario: ModelPartitioning, trace, warmup: int) -> float:  # type: ignore[no-untyped-def]
    """Least mean objective over all sequences of cuts of all devices on a trace of one cell, shares optimal."""
    cuts = list(itertools.product(*(range(int(layers) + 1) for layers in scenario.layers)))
    plans = np.array(list(itertools.product(range(len(cuts)), repeat=trace.slots)))
    played = trace.select(np.zeros(len(plans), np.int64))
    state, total = scenario.initial_state(played), np.zeros(len(plans))
    for t in range(trace.slots):
        decisions = ModelPartitioningDecisions(np.array(cuts)[plans[:, t]])
        step = scenario.step(state, decisions, scenario.exogenous(played, t))
        state = step.state
        if t >= warmup:
            total += step.metrics["objective"]
    return float(total.min() / (trace.slots - warmup))


@pytest.mark.parametrize(("devices", "slots", "warmup", "close"), [(1, 4, 0, 0.01), (1, 4, 2, 0.02), (2, 2, 0, 0.06)])
def test_no_sequence_of_cuts_is_below_and_the_best_is_close(
    devices: int, slots: int, warmup: int, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_sighted, "PLAN_SLOTS", 12)  # any prices give a bound
    monkeypatch.setattr(far_sighted, "_PLANS", {})
    scenario = network(devices, 2.5)
    trace = scenario.sample_trace(np.random.default_rng(3), 1, slots)
    lower, best = bound(scenario, trace, warmup).values[0], best_of_all(scenario, trace, warmup)
    assert lower <= best
    assert lower > (1.0 - close) * best


def test_foresight_pays_where_queues_are_long() -> None:
    """One device at 2.5 requests/s: the minimum of each slot and the online learner both pay more."""
    scenario = network(1, 2.5)
    trace = scenario.sample_trace(np.random.default_rng(4), 4, 200)
    cost = {
        name: rollout(make_policy(scenario, name), scenario, trace, np.random.default_rng(0), warmup=50)
        .means["objective"]
        .mean()
        for name in ("slot_optimal", "parametric_q", "far_sighted")
    }
    assert cost["far_sighted"] <= min(cost.values())


def test_what_the_proof_does_not_cover_has_no_bound() -> None:
    own = ModelPartitioning(ModelPartitioningConfig(num_devices=1, local_cpu_rule="action"))
    with pytest.raises(NoBound, match="local_cpu_rule"):
        bound(own, own.sample_trace(np.random.default_rng(0), 1, 4), 0)
    many = network(DEVICES_MAX + 1, 1.0)
    with pytest.raises(NoBound, match=f"num_devices = {DEVICES_MAX + 1}"):
        bound(many, many.sample_trace(np.random.default_rng(0), 1, 4), 0)
