"""The bound of `model_partitioning` against every sequence of cuts there is, known optima, and every controller."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.interpolate import interpn

from edgemarl.agents.model_partitioning import far_sighted
from edgemarl.agents.model_partitioning.bound import bound, cells_of
from edgemarl.agents.model_partitioning.device_bound import priced_share, values
from edgemarl.agents.playbook import NoBound
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.physics.allocation import priced_fdma_share
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningConfig,
    ModelPartitioningDecisions,
)
from edgemarl.envs.scenarios.model_partitioning.config import at_size
from edgemarl.marl.evaluation.rollout import rollout


def network(devices: int, rate_hz: float, **fields: float) -> ModelPartitioning:
    return ModelPartitioning(ModelPartitioningConfig(num_devices=devices, mean_arrival_rate_hz=rate_hz, **fields))  # type: ignore[arg-type]


def grown(devices: int, rate_hz: float) -> ModelPartitioning:
    return ModelPartitioning(at_size(ModelPartitioningConfig(mean_arrival_rate_hz=rate_hz), devices))


@pytest.fixture(autouse=True)
def short_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_sighted, "PLAN_SLOTS", 12)
    monkeypatch.setattr(far_sighted, "_PLANS", {})


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
    devices: int, slots: int, warmup: int, close: float
) -> None:
    scenario = network(devices, 2.5)
    trace = scenario.sample_trace(np.random.default_rng(3), 1, slots)
    lower, best = bound(scenario, trace, warmup).values[0], best_of_all(scenario, trace, warmup)
    assert lower <= best
    assert lower > (1.0 - close) * best


@pytest.mark.parametrize("delay_weight", [1.0, 100.0])
def test_where_queues_jump_over_cells_of_the_grid_no_sequence_is_below(delay_weight: float) -> None:
    """With a small V the CPU rate, and so the next queue, falls by many cells of the grid within one."""
    scenario = network(1, 3.5, delay_weight=delay_weight)
    trace = scenario.sample_trace(np.random.default_rng(5), 3, 4)
    found = bound(scenario, trace, 0).values
    for cell in range(3):
        best = best_of_all(scenario, trace.select(np.array([cell])), 0)
        assert 0.9 * best < found[cell] <= best


@pytest.mark.parametrize(("device", "rate_hz", "delay_weight"), [(0, 2.5, 10.0), (3, 2.5, 10.0), (3, 3.5, 1.0)])
def test_values_are_below_what_a_slot_costs_at_any_queues(device: int, rate_hz: float, delay_weight: float) -> None:
    """The certificate: between points of the grid and above it, for all cuts and shares, against the scenario's own
    functions."""
    scenario = network(5, rate_hz, delay_weight=delay_weight)
    c, slots, rng = scenario.config, 24, np.random.default_rng(9)
    trace = scenario.sample_trace(rng, 1, slots)
    cell = cells_of(scenario, trace, 4)[0]
    d = cell.device(scenario, device, False)
    band, edge = 2.0 * cell.band_price * cell.counted, 2.0 * cell.edge_price * cell.counted
    later = values(d, band, edge)
    points = np.arange(later.shape[2]) * d.energy_cell, np.arange(later.shape[1]) * d.memory_cell
    cuts, alpha = scenario.cuts.of(device, int(scenario.layers[device])), np.geomspace(1e-4, 1.0, 300)
    for t in rng.integers(0, slots, 150):
        counted, rate = cell.counted[t], cell.rate_hz[t, device]
        q, w = (rng.uniform(0.0, 1.2) * p[-1] for p in points)
        local = scenario.local_part(cuts, q, w, np.array(rate))
        seconds = cuts.sent_bits[:, None] / fdma_rate_bps(alpha, c.bandwidth_hz, cell.snr[t, device])
        sends = cuts.sent_bits[:, None] > 0.0
        price = scenario.transmission_weight(np.array(q), np.array(rate)) * counted
        load = scenario.edge_load(cuts.edge_cycles) * counted
        share = np.minimum(np.sqrt(load / max(edge[t], 1e-9)), 1.0)
        at_edge = np.where(load > 0.0, load / np.where(share > 0.0, share, 1.0) + edge[t] * share, 0.0)
        cost = (counted * local.cost + at_edge)[:, None] + price * seconds + band[t] * np.where(sends, alpha, 0.0)
        joule = local.energy_j[:, None] + c.transmit_power_w * c.slot_s * rate * seconds
        after = q + c.energy_queue_scale * (joule - scenario.energy_budget_j[device]), w + d.memory_step[:, None]
        inside = [np.clip(np.broadcast_to(x, cost.shape), 0.0, p[-1]) for x, p in zip(after, points, strict=True)]
        least = (cost + interpn(points, later[t + 1].T, np.stack(inside, -1))).min()
        here = interpn(points, later[t].T, [min(x, p[-1]) for x, p in zip((q, w), points, strict=True)])[0]
        assert here <= least + 1e-9 * abs(least)


@pytest.mark.parametrize("devices", [1, 10])
def test_it_is_the_optimum_where_that_is_known(devices: int) -> None:
    """A band that carries nothing and budgets that never bind: every device alone, at its highest CPU rate."""
    scenario = network(devices, 0.5, bandwidth_hz=100.0)
    trace = scenario.sample_trace(np.random.default_rng(6), 2, 24)
    local = rollout(make_policy(scenario, "local"), scenario, trace, np.random.default_rng(0), warmup=10)
    cuts = scenario.cuts.at(scenario.layers)
    state = scenario.initial_state(trace)
    delay = [
        scenario.local_part(cuts, 0.0 * state.energy_queue, state.memory_queue, trace.arrival_rate_hz[t]).delay_s
        for t in range(10, 24)
    ]
    optimum = scenario.config.delay_weight * np.sum(delay, axis=2).mean(axis=0)
    np.testing.assert_allclose(local.means["objective"], optimum, rtol=1e-12)
    found = bound(scenario, trace, 10).values
    assert (found <= optimum).all()
    assert (found > 0.995 * optimum).all()


@pytest.mark.parametrize(("devices", "slots", "rate_hz"), [(30, 16, 2.5), (100, 8, 1.5)])
def test_every_controller_of_large_cells_lies_above(devices: int, slots: int, rate_hz: float) -> None:
    """`test_bounds_hold.py` has the small ones."""
    scenario = grown(devices, rate_hz)
    trace = scenario.sample_trace(np.random.default_rng(7), 1, slots)
    lower = bound(scenario, trace, 2).values
    for name in playbook_of("model_partitioning").controllers:
        if name == "slot_optimal" and devices > 30:  # there it is multi_start
            continue
        played = rollout(make_policy(scenario, name), scenario, trace, np.random.default_rng(0), warmup=2)
        assert (played.means["objective"] >= lower).all(), name


def test_any_prices_bound_and_those_that_are_found_are_better() -> None:
    scenario = network(5, 2.5)
    trace = scenario.sample_trace(np.random.default_rng(3), 1, 12)
    policy = make_policy(scenario, "slot_optimal")
    cost = 12 * rollout(policy, scenario, trace, np.random.default_rng(0)).means["objective"][0]
    climbed, cell = 12 * bound(scenario, trace, 0).values[0], cells_of(scenario, trace, 0)[0]
    for scale in (0.0, 0.3, 3.0):
        prices = scale * cell.band_price, scale * cell.edge_price
        total = sum(values(cell.device(scenario, n, False), *prices)[0, 0, 0] for n in range(5)) - np.sum(prices)
        assert total < climbed <= cost


def test_shares_at_prices_are_those_of_the_other_solver() -> None:
    rng = np.random.default_rng(8)
    weight, snr, price = (
        10.0 ** rng.uniform(4, 8, 200),
        10.0 ** rng.uniform(-2, 4, 200),
        10.0 ** rng.uniform(-1, 3, 200),
    )
    expected = priced_fdma_share(weight, snr, price, 5e6)
    found = [priced_share(w, s, p, 5e6, 0.0) for w, s, p in zip(weight, snr, price, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    near = [priced_share(w, s, p, 5e6, 0.9 * a) for w, s, p, a in zip(weight, snr, price, expected, strict=True)]
    np.testing.assert_allclose(near, expected, rtol=1e-9)


def test_foresight_pays_where_queues_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device at 2.5 requests/s: the minimum of each slot and the online learner both pay more."""
    monkeypatch.setattr(far_sighted, "PLAN_SLOTS", 80)
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
