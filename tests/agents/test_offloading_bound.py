"""Certified bounds of `sequential_offloading`: the certificate on the scenario's own step, known cases, simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemarl.agents.playbook import NoBound
from edgemarl.agents.registry import make_policy
from edgemarl.agents.sequential_offloading.bound import (
    best_price,
    bound,
    discounted_bound,
    highest_price,
    network_bound,
    server_bound,
    still_rising,
)
from edgemarl.agents.sequential_offloading.device_bound import (
    COARSE,
    FINE,
    Device,
    Potential,
    Resolution,
    _leaving,
    device_bound,
)
from edgemarl.agents.sequential_offloading.model import ServerModel
from edgemarl.agents.sequential_offloading.value_iteration import arrival_distribution
from edgemarl.envs import make_scenario
from edgemarl.envs.scenarios.sequential_offloading import (
    SequentialOffloadingDecisions,
    SequentialOffloadingExogenous,
    SequentialOffloadingState,
)
from edgemarl.marl.evaluation.rollout import rollout

LOCAL_ONLY = {"num_devices": 1, "transmit_power_w_max": 1e-6}


@pytest.mark.parametrize("price", [0.0, 1.3, 40.0])
@pytest.mark.parametrize("b", [1e-9, 1e-4, 0.01, 3.0, 1e6])
def test_what_leaves_costs_the_smallest_sum_of_computing_and_sending(b: float, price: float) -> None:
    d = Device(1.0, 0.75, 6.93, 3.0, 40, 50.0, price, 1.0, 10)
    for amount in (0.0, 0.4, 2.9, 3.0, 3.7, 4.0):
        for most in (0.0, 0.31, 1.0):
            low, high = max(0.0, amount - d.work_max), min(most, amount)
            if low > high:
                assert _leaving(amount, b, most, 0.5, d)[0] == np.inf
                continue
            r = np.linspace(low, high, 10_001)
            costs = d.energy * (amount - r) ** 3 + b * np.expm1(d.growth * r) + price * r
            step, steepest = (high - low) / 10_000, b * d.growth**2 * np.exp(d.growth * high) + 6 * d.energy * amount
            for guess in (0.0, 0.2, 0.999):
                value, _, sent = _leaving(amount, b, most, guess, d)
                assert low <= sent <= high
                assert costs.min() - steepest * step**2 - 1e-11 <= value <= costs.min() + 1e-11 * (1 + costs.min())


def at(h: Potential, queue_tasks: np.ndarray, parts: int) -> np.ndarray:
    """h, linear on the cells of a task in progress."""
    whole = np.rint(queue_tasks).astype(int)
    is_whole = np.abs(queue_tasks - whole) < 1e-9
    unit = np.minimum(np.floor(queue_tasks + 1e-9).astype(int), len(h.whole) - 1)
    position = (queue_tasks - unit) * parts
    cell = np.clip(position.astype(int), 0, parts - 1)
    low, high = h.partial[unit, cell], h.partial[unit, cell + 1]
    found: np.ndarray = np.where(is_whole, h.whole[np.minimum(whole, unit + 1)], low + (position - cell) * (high - low))
    return found


def step_of(scenario: Any, queue: float, work: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cost, residual and kept tasks (F, X) of the scenario's own step without arrivals."""
    c, w = scenario.config, scenario.config.task_cycles
    works, gains = (a.ravel() for a in np.meshgrid(work, gain))
    n = len(works)
    none = np.zeros((n, 1, c.slots_per_block), np.uint8)
    state = SequentialOffloadingState(np.full((n, 1), queue * w), np.zeros(n), np.zeros(n), none)
    exogenous = SequentialOffloadingExogenous(gains[:, None], none, np.ones((n, 1)))
    step = scenario.step(state, SequentialOffloadingDecisions(works[:, None] * w, np.zeros(n)), exogenous)
    found = (step.costs["device"], step.details["residual_cycles"] / w, step.state.device_queue_cycles / w)
    return tuple(a.reshape(len(gain), len(work)) for a in found)


@pytest.mark.parametrize("resolution", [FINE, COARSE], ids=["fine", "coarse"])
@pytest.mark.parametrize(("gain_db", "price"), [(36.0, 4.0), (20.0, 1.5), (8.0, 1.0), (-10.0, 1.0)])
def test_the_certificate_holds_on_the_scenarios_own_step(gain_db: float, price: float, resolution: Resolution) -> None:
    """g + h(q) <= E min over x of cost + price r + E h(next queue), at queues that no lattice was laid through.

    However coarse the cells are: what they lose is subtracted.
    """
    scenario = make_scenario("sequential_offloading", num_devices=1)
    assert hasattr(scenario, "config")
    found = device_bound(scenario.config, 10 ** (gain_db / 10), price, resolution=resolution)
    rng = np.random.default_rng(0)
    points = 400
    fading = -np.log(1.0 - (np.arange(points) + rng.random(points)) / points)  # one of each of 400 equal shares
    arrivals = arrival_distribution(scenario.config)
    slack = []
    for queue in [0.0, 1.0, 3.0, 6.0, *rng.uniform(0.0, 6.0, 12)]:
        work = np.unique(np.concatenate([np.linspace(0.0, min(queue, 3.0), 120), queue - np.arange(int(queue) + 1)]))
        work = work[(work >= 0.0) & (work <= 3.0)]
        cost, residual, kept = step_of(scenario, queue, work, fading * 10 ** (gain_db / 10))
        later = sum(p * at(found.potential, kept + a, resolution.parts) for a, p in enumerate(arrivals))
        best = (cost + price * residual + later).min(axis=1).mean()
        slack.append(best - float(at(found.potential, np.array([queue]), resolution.parts)[0]) - found.cost)
    assert min(slack) > -0.01  # the mean over 400 gains is off by that much
    if resolution is FINE:  # at queues that really occur little is given away
        assert max(slack[0], slack[2]) < 0.05


@pytest.mark.parametrize(
    ("changed", "gain", "price", "discount", "resolution", "cost", "partial", "whole"),
    [
        ({}, 1e3, 3.0, 1.0, FINE, 7.729999391741641, 156481.0468473541, 13841.91088412853),
        ({}, 3.0, 1.0, 0.95, FINE, 180.07703130551545, 212372.99721238646, 18970.20622153427),
        ({}, 1e3, 3.0, 1.0, COARSE, 7.656494698846852, 39967.05774015417, 12982.541865947163),
        (
            {"arrival_probability": 0.6}, 20.0, 4.0, 1.0, Resolution(parts=3, cells=11),
            26.11669260848531, 145067.71639498012, 35604.50187116996,
        ),
        (
            {"residual_leaves_device": False}, 1e3, 0.7, 0.95, COARSE,
            163.69459333308112, 55614.88028096756, 18264.509699929673,
        ),
    ],
)  # fmt: skip
def test_numbers_of_the_operator_written_out_queue_by_queue(
    changed: dict[str, Any], gain: float, price: float, discount: float, resolution: Resolution,
    cost: float, partial: float, whole: float,
) -> None:  # fmt: skip
    """An earlier form, a loop over queues that took three times as long, found these."""
    config = make_scenario("sequential_offloading", **changed).config
    found = device_bound(config, gain, price, discount, resolution=resolution)
    assert found.cost == pytest.approx(cost, rel=1e-12)
    assert found.potential.partial.sum() == pytest.approx(partial, rel=1e-12)
    assert found.potential.whole.sum() == pytest.approx(whole, rel=1e-12)


def test_steady_arrivals_and_no_radio_leave_one_sensible_thing_to_do() -> None:
    """Two tasks in every block, computed in the next one: 2 queued, 0.75 * 2^3 of energy, 8 per block."""
    scenario = make_scenario("sequential_offloading", **LOCAL_ONLY, slots_per_block=2, arrival_probability=1.0,
                             slot_s=0.25)  # fmt: skip
    gain = np.array([1e3])
    assert 7.9 < network_bound(scenario.config, gain) <= 8.0
    gamma = scenario.config.discount
    assert 0.985 < discounted_bound(scenario.config, gain, 400) / (8.0 * gamma / (1.0 - gamma)) <= 1.0


def test_nothing_arrives_nothing_is_paid() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=3, arrival_probability=0.0)
    assert network_bound(scenario.config, np.array([10.0, 1e3, 1e5])) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("discount", [1.0, 0.95])
def test_the_servers_part_is_the_minimum_over_constant_service(discount: float) -> None:
    config = make_scenario("sequential_offloading", num_devices=70).config
    model = ServerModel(config)
    served = np.linspace(0.0, min(model.serve_max_tasks, 70.0), 200_001)
    for price in (0.5, 3.0, 12.0):
        value = model.serve_cost(served) + (model.hold_cost - price / discount) * served
        assert server_bound(config, price, discount) == pytest.approx(value.min(), abs=1e-6)
    assert highest_price(config) == 50.0
    assert highest_price(config, 0.95) == pytest.approx(19.0)


def test_any_price_gives_a_bound_and_the_best_one_the_highest() -> None:
    config = make_scenario("sequential_offloading", num_devices=80).config
    gains = np.full(80, 10**3.82)
    price = best_price(config, gains)
    best = network_bound(config, gains, price)
    assert 3.0 < price < 5.0
    for other in (0.5 * price, 0.9 * price, 1.1 * price, 2.0 * price):
        assert network_bound(config, gains, other) < best + 1e-3 * best


def test_100_equal_devices_are_within_two_percent_of_the_bound() -> None:
    """38.2 dB each: no controller below, the price's fixed point 1.2% above."""
    scenario = make_scenario("sequential_offloading", num_devices=100)
    drawn = scenario.sample_trace(np.random.default_rng(0), cells=6, slots=250)
    mean = np.full_like(drawn.mean_gain_per_w, 10**3.82)
    gain = drawn.channel_gain_per_w / drawn.mean_gain_per_w * mean
    trace = type(drawn)(gain, drawn.task_arrivals, mean)
    lower = network_bound(scenario.config, mean[0]) / 100
    assert 6.89 < lower < 6.93
    for name in ("vi_priced", "parametric_q_priced"):
        played = rollout(make_policy(scenario, name), scenario, trace, np.random.default_rng(0), warmup=50)
        cost = played.means["cost"] / 100
        assert lower < cost.mean() < 1.02 * lower


def test_what_the_proof_does_not_cover_has_no_bound() -> None:
    foreseen = make_scenario("sequential_offloading", num_devices=2, arrival_lookahead=True)
    trace = foreseen.sample_trace(np.random.default_rng(0), 1, 5)
    with pytest.raises(NoBound, match="arrival_lookahead"):
        bound(foreseen, trace, 50)
    scenario = make_scenario("sequential_offloading", num_devices=2)
    with pytest.raises(NoBound, match="warm-up of 50 blocks, got 10"):
        bound(scenario, trace, 10)
    busy = make_scenario("sequential_offloading", num_devices=2, arrival_probability=0.6)
    weak = np.array([1.0, 10.0])
    assert still_rising(busy.config, weak, 1.0, 50) > 0.02
    assert still_rising(scenario.config, weak, 1.0, 50) < 0.001
    with pytest.raises(NoBound, match="queues still fill"):
        bound(busy, type(trace)(trace.channel_gain_per_w, trace.task_arrivals, weak[None]), 50)


def test_tasks_far_smaller_than_what_a_device_computes_need_no_more_memory_than_its_buffer() -> None:
    """A task of one cycle: 1.5e9 of them could leave in a block, 41 are there at most."""
    config = make_scenario("sequential_offloading", num_devices=1, task_cycles=1.0).config
    assert -1e-3 < device_bound(config, 1e9, 0.0, resolution=COARSE).cost < 1e-6
    more = make_scenario("sequential_offloading", num_devices=1, device_cpu_hz_max=1e13).config
    most = make_scenario("sequential_offloading", num_devices=1, device_cpu_hz_max=1e12).config
    found = [device_bound(config, 1e9, 1.0, resolution=COARSE).cost for config in (more, most)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)  # no limit binds


def test_a_bound_below_zero_is_none() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=1, task_cycles=1.0)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 100)
    with pytest.raises(NoBound, match="is below 0, which no cost is"):
        bound(scenario, trace, 50)
