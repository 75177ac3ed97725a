"""Theory and properties of the sequential offloading scenario, over random networks, states and decisions."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs import make_scenario
from edgemarl.envs.physics.compute import cpu_energy_j
from edgemarl.envs.physics.radio import shannon_rate_bps
from edgemarl.envs.physics.transmit_power import FLOAT_MAX, required_power_w
from edgemarl.envs.scenario import Step, total_cost
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloadingState
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig, scaled_server

seeds = st.integers(0, 2**32 - 1)
CELLS = 3


def draw_block(seed: int, **config: Any) -> tuple[Any, Any, Any, Any]:
    """A scenario, and random state (whole tasks, fractions, empty and full buffers), decisions and exogenous values."""
    rng = np.random.default_rng(seed)
    scenario = make_scenario("sequential_offloading", num_devices=int(rng.integers(1, 8)), **config)
    c = scenario.config
    k, w = c.num_devices, c.task_cycles
    trace = scenario.sample_trace(rng, CELLS, 1)
    whole = rng.integers(0, int(c.device_queue_tasks_max) + 1, (CELLS, k)).astype(float)
    queue = np.where(rng.random((CELLS, k)) < 0.5, whole, rng.uniform(0, c.device_queue_tasks_max, (CELLS, k))) * w
    cap = c.server_queue_tasks_per_device_max * k * w
    state = SequentialOffloadingState(
        queue, rng.uniform(0, cap, CELLS), rng.uniform(0, k * w, CELLS), trace.task_arrivals[1]
    )
    work = rng.uniform(-0.1, 1.3, (CELLS, k)) * c.device_work_cycles_max
    work = np.where(rng.random((CELLS, k)) < 0.3, np.round(work / w) * w, work)
    decisions = scenario.decisions_type(work, rng.uniform(-0.1, 1.2, CELLS) * c.server_cpu_hz_max)
    return scenario, state, decisions, scenario.exogenous(trace, 0)


def run(block: tuple[Any, Any, Any, Any]) -> Step:
    scenario, state, decisions, exogenous = block
    step: Step = scenario.step(state, decisions, exogenous)
    return step


# --- physics ---------------------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 40.0), st.floats(1e-3, 1e9), st.floats(1.0, 10.0))
def test_power_is_the_inverse_of_the_rate(eta: float, gain: float, gap: float) -> None:
    power = required_power_w(np.array([eta]), np.array([gain]), gap)
    assert shannon_rate_bps(1.0, gain, power, gap)[0] == pytest.approx(eta, rel=1e-6)


def test_power_falls_with_gain_grows_with_bits_and_has_its_limits() -> None:
    eta, gain = np.linspace(0.1, 20, 50), np.logspace(0, 6, 50)
    assert (np.diff(required_power_w(eta, 10.0, 1.0)) > 0).all()
    assert (np.diff(required_power_w(5.0, gain, 1.0)) < 0).all()
    limits = required_power_w(np.array([0.0, 0.0, 1.0, 2000.0, -1e-9]), np.array([1.0, 0.0, 0.0, 1.0, 0.0]), 1.0)
    np.testing.assert_array_equal(limits, [0.0, 0.0, FLOAT_MAX, FLOAT_MAX, 0.0])


@given(st.lists(st.floats(0, 3e9), min_size=2, max_size=6))
def test_equal_rates_over_the_slots_are_optimal(rates_hz: list[float]) -> None:
    """Jensen: the same work at equal rates never costs more energy, since power grows with f^3."""
    slot_s = 0.1
    cycles = np.array(rates_hz) * slot_s
    uneven = cpu_energy_j(cycles, 1e-28, slot_s).sum()
    even = cpu_energy_j(cycles.sum(keepdims=True), 1e-28, slot_s * len(cycles))[0]
    assert even <= uneven * (1 + 1e-12)


# --- one block -------------------------------------------------------------------------------------------------------


@given(seeds, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_work_is_conserved(seed: int, leaves: bool, idle: bool) -> None:
    block = draw_block(seed, residual_leaves_device=leaves, idle_energy_charged=idle)
    scenario, state, _, exogenous = block
    step, w = run(block), scenario.config.task_cycles
    dropped = step.details["dropped_tasks"].sum(axis=1) * w
    after = step.state.device_queue_cycles.sum(axis=1) + step.state.server_queue_cycles
    out = step.metrics["local_cycles"] + step.metrics["served_cycles"] + dropped + step.metrics["server_dropped_cycles"]
    before = state.device_queue_cycles.sum(axis=1) + state.server_queue_cycles
    new = exogenous.task_arrivals.sum(axis=(1, 2)) * w
    twice = 0.0 if leaves else step.metrics["offloaded_cycles"]
    np.testing.assert_allclose(after + out, before + new + twice, rtol=1e-9)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_ranges(seed: int) -> None:
    block = draw_block(seed)
    scenario, state, _, _ = block
    c, step = scenario.config, run(block)
    d, w = step.details, scenario.config.task_cycles
    assert ((d["residual_cycles"] >= 0) & (d["residual_cycles"] < w)).all()
    legal = np.minimum(state.device_queue_cycles, c.device_work_cycles_max)
    assert ((d["local_work_cycles"] >= 0) & (d["local_work_cycles"] <= legal)).all()
    assert (d["transmit_power_w"] <= c.transmit_power_w_max * (1 + 1e-5)).all()
    assert (d["transmit_power_w"][d["residual_cycles"] == 0] == 0).all()
    assert (d["residual_cycles"][d["outage"]] == 0).all()
    limit = (c.device_queue_tasks_max + c.residual_tolerance) * w
    assert ((step.state.device_queue_cycles >= -1e-6) & (step.state.device_queue_cycles <= limit)).all()
    cap = c.server_queue_tasks_per_device_max * c.num_devices * w
    assert ((step.state.server_queue_cycles >= 0) & (step.state.server_queue_cycles <= cap)).all()
    for cost in step.costs.values():
        assert np.isfinite(cost).all() and (cost >= 0).all()
    np.testing.assert_allclose(step.metrics["cost"], total_cost(step), rtol=1e-12)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_an_outage_keeps_the_progress(seed: int) -> None:
    block = draw_block(seed, transmit_power_w_max=1e-3)
    _, state, _, exogenous = block
    step, w = run(block), 5e8
    out = step.details["outage"]
    kept = state.device_queue_cycles - step.details["local_work_cycles"]
    arrived = (exogenous.task_arrivals.sum(axis=2) - step.details["dropped_tasks"]) * w
    np.testing.assert_allclose(step.state.device_queue_cycles[out], (kept + arrived)[out], rtol=1e-12)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_more_power_means_fewer_outages(seed: int) -> None:
    small, large = (run(draw_block(seed, transmit_power_w_max=p)).details["outage"] for p in (0.01, 1.0))
    assert (small | ~large).all()


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_devices_do_not_touch_each_other(seed: int) -> None:
    scenario, state, decisions, exogenous = draw_block(seed)
    step = run((scenario, state, decisions, exogenous))
    order = np.random.default_rng(seed).permutation(scenario.config.num_devices)
    moved = run((
        scenario,
        dataclasses.replace(state, device_queue_cycles=state.device_queue_cycles[:, order]),
        dataclasses.replace(decisions, local_work_cycles=decisions.local_work_cycles[:, order]),
        dataclasses.replace(
            exogenous,
            channel_gain_per_w=exogenous.channel_gain_per_w[:, order],
            task_arrivals=exogenous.task_arrivals[:, order],
        ),
    ))  # fmt: skip
    np.testing.assert_array_equal(moved.costs["device"], step.costs["device"][:, order])
    np.testing.assert_allclose(moved.costs["server"], step.costs["server"], rtol=1e-12)
    np.testing.assert_allclose(moved.state.server_queue_cycles, step.state.server_queue_cycles, rtol=1e-12)


@given(seeds, st.sampled_from([2.0, 20.0]))
@settings(max_examples=40, deadline=None)
def test_scaling_law(seed: int, factor: float) -> None:
    """Work and rates times c, feature bits and queue weights over c, capacitance over c^3: costs stay."""
    scenario, state, decisions, exogenous = draw_block(seed)
    c = scenario.config
    scaled = make_scenario("sequential_offloading").__class__(
        dataclasses.replace(
            c,
            task_cycles=c.task_cycles * factor,
            device_cpu_hz_max=c.device_cpu_hz_max * factor,
            server_cpu_hz_max=c.server_cpu_hz_max * factor,
            bits_per_cycle=c.bits_per_cycle / factor,
            device_queue_weight=c.device_queue_weight / factor,
            server_queue_weight=c.server_queue_weight / factor,
            device_capacitance=c.device_capacitance / factor**3,
            server_capacitance=c.server_capacitance / factor**3,
        )
    )
    larger = SequentialOffloadingState(
        state.device_queue_cycles * factor,
        state.server_queue_cycles * factor,
        state.last_offloaded_cycles * factor,
        state.previous_arrivals,
    )
    more = scenario.decisions_type(decisions.local_work_cycles * factor, decisions.server_cpu_hz * factor)
    want, got = run((scenario, state, decisions, exogenous)), run((scaled, larger, more, exogenous))
    # a residual beside a whole task may round to either side: compare where both agree
    same = np.isclose(got.details["residual_cycles"], want.details["residual_cycles"] * factor, rtol=1e-6)
    assert same.mean() > 0.9
    np.testing.assert_allclose(got.costs["device"][same], want.costs["device"][same], rtol=1e-6)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_monotone_queues(seed: int) -> None:
    scenario, state, decisions, exogenous = draw_block(seed)
    step = run((scenario, state, decisions, exogenous))
    faster = dataclasses.replace(decisions, server_cpu_hz=decisions.server_cpu_hz + 1e9)
    assert (
        run((scenario, state, faster, exogenous)).state.server_queue_cycles <= step.state.server_queue_cycles + 1e-3
    ).all()
    busy = dataclasses.replace(exogenous, task_arrivals=np.ones_like(exogenous.task_arrivals))
    assert (
        run((scenario, state, decisions, busy)).state.device_queue_cycles >= step.state.device_queue_cycles - 1e-3
    ).all()


def test_an_idle_device_changes_nothing() -> None:
    small, large = (make_scenario("sequential_offloading", num_devices=k) for k in (2, 3))
    trace = large.sample_trace(np.random.default_rng(0), 1, 1)
    arrivals = trace.task_arrivals.copy()
    arrivals[:, :, 2] = 0
    trace = dataclasses.replace(trace, task_arrivals=arrivals)
    queue = np.array([[1.2e9, 0.7e9, 0.0]])
    steps = []
    for scenario, k in ((small, 2), (large, 3)):
        exogenous = large.exogenous(trace, 0)
        exogenous = dataclasses.replace(
            exogenous,
            channel_gain_per_w=exogenous.channel_gain_per_w[:, :k],
            task_arrivals=exogenous.task_arrivals[:, :k],
        )
        state = SequentialOffloadingState(queue[:, :k], np.array([3e8]), np.zeros(1), arrivals[0, :, :k])
        steps.append(scenario.step(state, scenario.decisions_type(queue[:, :k] * 0.4, np.array([1e9])), exogenous))
    np.testing.assert_array_equal(steps[0].costs["device"], steps[1].costs["device"][:, :2])
    assert steps[1].costs["device"][0, 2] == 0
    np.testing.assert_array_equal(steps[0].state.server_queue_cycles, steps[1].state.server_queue_cycles)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_whole_tasks_stay_whole_without_outage(seed: int) -> None:
    scenario, state, decisions, exogenous = draw_block(seed, transmit_power_w_max=1e3, bandwidth_hz=1e9)
    w = scenario.config.task_cycles
    state = dataclasses.replace(state, device_queue_cycles=np.round(state.device_queue_cycles / w) * w)
    tasks = run((scenario, state, decisions, exogenous)).state.device_queue_cycles / w
    np.testing.assert_allclose(tasks, np.round(tasks), atol=1e-5)


# --- actions and observations ----------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_power_is_split_at_full_effort(seed: int) -> None:
    scenario, state, _, exogenous = draw_block(seed, device_action="power")
    split = make_scenario("sequential_offloading", num_devices=scenario.config.num_devices, device_action="split")
    a = np.random.default_rng(seed).uniform(-0.5, 1.5, (CELLS, scenario.config.num_devices, 1))
    server = np.full((CELLS, 1, 1), 0.3)
    left = scenario.decode(state, {"device": a, "server": server}, exogenous)
    both = np.concatenate([np.ones_like(a), a], axis=2)
    right = split.decode(state, {"device": both, "server": server}, exogenous)
    np.testing.assert_array_equal(left.local_work_cycles, right.local_work_cycles)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_residual_leaves_a_share_of_what_the_channel_carries(seed: int) -> None:
    """The share of the largest residual is sent, without outage; at full effort as `split` at the power it takes."""
    scenario, state, _, exogenous = draw_block(seed, device_action="residual")
    c, k = scenario.config, scenario.config.num_devices
    split = make_scenario("sequential_offloading", num_devices=k, device_action="split")
    queue = np.full((CELLS, k), 4.0 * c.task_cycles)
    state = dataclasses.replace(state, device_queue_cycles=queue)
    actions = np.random.default_rng(seed).uniform(0.0, 1.0, (CELLS, k, 2))
    actions[..., 0] = 1.0  # one block's work is several tasks, so the residual can always be reached
    server = np.full((CELLS, 1, 1), 0.3)
    gain = exogenous.channel_gain_per_w
    largest = np.minimum(
        scenario.carried_cycles(np.full_like(gain, c.transmit_power_w_max), gain),  # type: ignore[attr-defined]
        0.999 * c.task_cycles,
    )
    decisions = scenario.decode(state, {"device": actions, "server": server}, exogenous)
    step = scenario.step(state, decisions, exogenous)
    asked = actions[..., 1] * largest
    sent = np.where(asked < scenario.config.residual_tolerance * c.task_cycles, 0.0, asked)
    np.testing.assert_allclose(step.details["residual_cycles"], sent, atol=1e-4 * c.task_cycles)
    assert not step.details["outage"].any()
    power = np.minimum(step.details["transmit_power_w"] / c.transmit_power_w_max, 1.0)
    same = np.stack([actions[..., 0], power], axis=2)
    np.testing.assert_allclose(
        split.decode(state, {"device": same, "server": server}, exogenous).local_work_cycles,
        decisions.local_work_cycles,
        atol=1e-4 * c.task_cycles,
    )


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_residual_effort_counts_tasks(seed: int) -> None:
    """Of whole tasks, as many leave as the effort names (3 at most are worked off in a block), sent or not."""
    scenario, state, _, exogenous = draw_block(seed, device_action="residual")
    c, k = scenario.config, scenario.config.num_devices
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 7, (CELLS, k))
    state = dataclasses.replace(state, device_queue_cycles=tasks * c.task_cycles)
    actions = rng.uniform(0.0, 1.0, (CELLS, k, 2))
    wanted = rng.integers(0, 4, (CELLS, k))
    actions[..., 0] = (wanted + rng.uniform(-0.45, 0.45, (CELLS, k))) / 3.0
    decisions = scenario.decode(state, {"device": actions, "server": np.full((CELLS, 1, 1), 0.3)}, exogenous)
    details = scenario.step(state, decisions, exogenous).details
    left = (details["local_work_cycles"] + details["residual_cycles"]) / c.task_cycles
    np.testing.assert_allclose(left, np.minimum(wanted, tasks), atol=1e-5)


@pytest.mark.parametrize("gain_per_w", [1e4, 0.0])
@pytest.mark.parametrize("left_tasks", [0.0, 1.0, 2.0 - 1e-7, 2.0 + 1e-7, 3.0])
def test_a_whole_task_has_no_residual(left_tasks: float, gain_per_w: float) -> None:
    scenario = make_scenario("sequential_offloading", num_devices=1)
    residual, power, outage = scenario.residual_and_power(  # type: ignore[attr-defined]
        np.array([left_tasks * scenario.config.task_cycles]), np.array([gain_per_w])
    )
    assert residual[0] == 0 and power[0] == 0 and not outage[0]


def test_observations_are_local_and_causal() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=3)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 3)
    state = scenario.step(
        scenario.initial_state(trace),
        scenario.decisions_type(np.zeros((1, 3)), np.zeros(1)),
        scenario.exogenous(trace, 0),
    ).state
    exogenous = scenario.exogenous(trace, 1)
    rows = scenario.observe(state, exogenous)
    future = dataclasses.replace(exogenous, task_arrivals=1 - exogenous.task_arrivals)
    np.testing.assert_array_equal(scenario.observe(state, future)["device"], rows["device"])
    np.testing.assert_array_equal(rows["device"][0, :, 2:], trace.task_arrivals[0, 0])
    other = dataclasses.replace(state, device_queue_cycles=state.device_queue_cycles + [[0.0, 7e8, 9e8]])
    np.testing.assert_array_equal(scenario.observe(other, exogenous)["device"][0, 0], rows["device"][0, 0])
    swapped = dataclasses.replace(other, device_queue_cycles=other.device_queue_cycles[:, ::-1])
    np.testing.assert_allclose(
        scenario.observe(swapped, exogenous)["server"], scenario.observe(other, exogenous)["server"], rtol=1e-6
    )
    ahead = make_scenario("sequential_offloading", num_devices=3, arrival_lookahead=True)
    np.testing.assert_array_equal(ahead.observe(state, exogenous)["device"][0, :, 2:], trace.task_arrivals[1, 0])


def test_means_of_the_named_processes() -> None:
    """Arrivals, fading and the cell's geometry have the moments that the parameters say."""
    scenario = make_scenario("sequential_offloading", num_devices=2000, shadowing_db_std=0.0)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 20)
    assert trace.task_arrivals.mean() == pytest.approx(0.4, abs=0.005)
    fading = trace.channel_gain_per_w / trace.mean_gain_per_w
    assert fading.mean() == pytest.approx(1.0, abs=0.02)
    assert fading.std() == pytest.approx(1.0, abs=0.03)
    c = scenario.config
    loss_db = -10 * np.log10(trace.mean_gain_per_w * c.noise_w)
    distance_m = 10 ** ((loss_db - c.pathloss_db_at_1m) / c.pathloss_db_per_decade)
    assert np.mean(distance_m**2) == pytest.approx((200.0**2 + 10.0**2) / 2, rel=0.05)


def test_scaled_server_keeps_the_load_per_device() -> None:
    c = scaled_server(SequentialOffloadingConfig(num_devices=200))
    assert c.server_cpu_hz_max == pytest.approx(4e11)
    assert c.server_capacitance == pytest.approx(1e-29 / 16)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("bandwidth_hz", -1.0, "bandwidth_hz = -1.0 Hz is not legal: must be float and >= "),
        ("num_devices", 0, "num_devices = 0 is not legal: must be int and >= 1"),
        ("num_devices", 2.5, "num_devices = 2.5"),
        ("bandwith_hz", 1.0, "did you mean 'bandwidth_hz'"),
        ("device_action", "fast", "one of 'cpu', 'power', 'split', 'residual'"),
        ("slot_s", float("nan"), "slot_s = nan s"),
        ("distance_m_min", 500.0, "must not exceed cell_radius_m"),
    ],
)
def test_bad_fields_are_named(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make_scenario("sequential_offloading", **{field: value})


@given(seeds)
@settings(max_examples=20)
def test_the_coupled_reward_holds_all_that_a_device_has_an_effect_on(seed: int) -> None:
    """Another decision of one device moves the team's reward by as much as its own coupled reward, now and later."""
    scenario, state, decisions, exogenous = draw_block(seed)
    work = decisions.local_work_cycles.copy()
    work[:, 0] = 0.37 * scenario.config.device_work_cycles_max
    rewards: dict[str, list[Any]] = {"team": [], "coupled": []}
    for chosen in (decisions, dataclasses.replace(decisions, local_work_cycles=work)):
        steps = [scenario.step(state, chosen, exogenous)]
        steps.append(scenario.step(steps[0].state, decisions, exogenous))
        for mode, found in rewards.items():
            found.append([scenario.rewards(step, mode)["device"][:, 0] for step in steps])
    team, coupled = (np.subtract(*rewards[mode]) for mode in ("team", "coupled"))
    np.testing.assert_allclose(coupled, team, rtol=1e-6, atol=1e-6 * abs(np.array(rewards["team"])).max())


@given(seeds)
@settings(max_examples=20)
def test_the_marginal_cost_is_the_slope_of_the_servers_cost(seed: int) -> None:
    """Where the server serves all of its queue: another cycle waits for a block and is served faster, both to come."""
    scenario, state, decisions, exogenous = draw_block(seed)
    c = scenario.config
    queue = np.minimum(state.server_queue_cycles, 0.3 * c.block_s * c.server_cpu_hz_max) + 0.05 * c.task_cycles
    fast = dataclasses.replace(decisions, server_cpu_hz=np.full(CELLS, 0.9 * c.server_cpu_hz_max))
    little = 1e-4 * queue
    less, more = (
        scenario.step(dataclasses.replace(state, server_queue_cycles=queue + sign * little), fast, exogenous)
        for sign in (-1.0, 1.0)
    )
    slope = (more.costs["server"] - less.costs["server"])[:, 0] / (2.0 * little)
    step = scenario.step(dataclasses.replace(state, server_queue_cycles=queue), fast, exogenous)
    np.testing.assert_allclose(scenario.marginal_cost_per_cycle(step), c.discount * slope, rtol=1e-5)
    paid = scenario.rewards(step, "priced")
    charge = -paid["device"] - step.costs["device"]
    price = scenario.marginal_cost_per_cycle(step)[:, None]
    np.testing.assert_allclose(charge, price * step.details["residual_cycles"], rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(paid["server"], -step.costs["server"])
