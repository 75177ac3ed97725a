"""Theory of the sampling-rate scenario: conservation, optimal shares, monotone delays, permutations, idle networks."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test

from edgemarl.envs import make_scenario
from edgemarl.envs.parallel import ScenarioParallelEnv
from edgemarl.envs.scenario import Step, joint_reward, total_cost
from edgemarl.envs.scenarios.sampling_rate import (
    SamplingRate,
    SamplingRateDecisions,
    SamplingRateExogenous,
    SamplingRateState,
)
from edgemarl.envs.scenarios.sampling_rate.config import (
    PRESETS,
    SamplingRateConfig,
    accuracy_prices_s,
    default_config,
    printed_config,
    scaled,
    tight_config,
    training_balance_per_s,
)

CELLS = 3
SEEDS = st.integers(0, 2**32 - 1)
MODES = ("optimal", "fixed", "action")


@dataclasses.dataclass(frozen=True)
class Slot:
    """A scenario in an arbitrary state with arbitrary exogenous values and actions."""

    scenario: SamplingRate
    state: SamplingRateState
    decisions: SamplingRateDecisions
    exogenous: SamplingRateExogenous

    def step(self) -> Step:
        return self.scenario.step(self.state, self.decisions, self.exogenous)

    def change(self, **parts: Any) -> Slot:
        """The same slot with some fields of state, decisions or exogenous replaced, or of the config."""
        values: dict[str, Any] = {"scenario": self.scenario}
        for name in ("state", "decisions", "exogenous"):
            part = getattr(self, name)
            mine = {f.name for f in dataclasses.fields(part)} & set(parts)
            values[name] = dataclasses.replace(part, **{n: parts.pop(n) for n in mine})
        if parts:
            values["scenario"] = SamplingRate(dataclasses.replace(self.scenario.config, **parts))
        return Slot(**values)


@st.composite
def slots(draw: st.DrawFn, modes: tuple[str, ...] = MODES, services: int | None = None) -> Slot:
    """Any legal slot: loads from idle to overflow, some devices without a batch."""
    rng = np.random.default_rng(draw(SEEDS))
    m = services or draw(st.integers(1, 3))
    population = tuple(draw(st.integers(1, 4)) for _ in range(m))
    config = SamplingRateConfig(
        devices_per_service=population,
        raw_task_bits=tuple(rng.uniform(1e5, 1e6, m)),
        device_cycles_per_bit=tuple(rng.uniform(40, 400, m)),
        server_cycles_per_bit=tuple(rng.uniform(100, 800, m)),
        device_model_accuracy=tuple(rng.uniform(0.5, 0.9, m)),
        server_model_accuracy=tuple(rng.uniform(0.9, 1.0, m)),
        accuracy_target=tuple(rng.uniform(0.5, 1.0, m)),
        server_hz=draw(st.sampled_from([1e8, 1e9])),
        device_hz=draw(st.sampled_from([1e7, 1e8])),
        share_mode=draw(st.sampled_from(modes)),
        wait_mode=draw(st.sampled_from(["literal", "offloaders"])),
    )
    n, some = sum(population), draw(st.sampled_from([0.0, 0.5, 1.0]))
    state = SamplingRateState(
        rng.uniform(0, 3.84e6, (CELLS, n)) * (rng.random((CELLS, n)) < some),
        rng.uniform(0, 19.2e6, (CELLS, m)) * (rng.random((CELLS, m)) < some),
        rng.uniform(0, 3, (CELLS, m)) * (rng.random((CELLS, m)) < some),
    )
    exogenous = SamplingRateExogenous(
        rng.uniform(1e-13, 1e-12, (CELLS, n)), rng.uniform(0, 2, (CELLS, n)) * (rng.random((CELLS, n)) < 0.8)
    )
    decisions = SamplingRateDecisions(
        rng.integers(1, 5, (CELLS, n)), rng.integers(0, 2, (CELLS, n)), rng.dirichlet(np.ones(m), CELLS)
    )
    return Slot(SamplingRate(config), state, decisions, exogenous)


def every_backlog_is_charged(slot: Slot) -> np.ndarray:
    """(CELLS,) cells where the shares are optimal: a backlog that delays nobody is still served (E2)."""
    charged = slot.scenario.charged_count(slot.decisions.local)
    return np.asarray(((charged >= 1) | (slot.state.server_queue_bits == 0)).all(axis=1))


@given(slots())
@settings(max_examples=60, deadline=None)
def test_ledger_is_delay_and_priced_accuracy(slot: Slot) -> None:
    step, c = slot.step(), slot.scenario.config
    missing = slot.scenario.accuracy_target - step.details["service_accuracy"]
    objective = c.balance_per_s * step.metrics["service_delay_s"] + (slot.state.accuracy_deficit * missing).sum(axis=1)
    np.testing.assert_allclose(total_cost(step), objective, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(step.metrics["reward"], -objective, rtol=1e-12, atol=1e-12)


@given(slots())
@settings(max_examples=60, deadline=None)
def test_the_multiplier_reward_is_delay_and_accuracy_at_the_shifted_price(slot: Slot) -> None:
    step, s = slot.step(), slot.scenario
    missing = s.accuracy_target - step.details["service_accuracy"]
    price = np.maximum(
        0.0, s.accuracy_price_s + (slot.state.accuracy_deficit - 0.15) / training_balance_per_s(s.config)
    )
    compared = step.metrics["service_delay_s"] + (price * missing).sum(axis=1)
    np.testing.assert_allclose(
        joint_reward(s, step, "multiplier"), -s.config.balance_per_s * compared, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(joint_reward(s, step), -total_cost(step), rtol=1e-12)


@given(slots())
@settings(max_examples=60, deadline=None)
def test_work_is_conserved(slot: Slot) -> None:
    step, s, d = slot.step(), slot.scenario, slot.decisions
    batch = s.raw_bits(slot.exogenous.arrival_rate) * d.rate_level / s.config.num_rates
    parts = {
        "device": (slot.state.device_queue_bits + d.local * batch, step.state.device_queue_bits),
        "server": (slot.state.server_queue_bits + s.per_service((1 - d.local) * batch), step.state.server_queue_bits),
    }
    dropped = {"device": "device_dropped_per_device_bits", "server": "server_dropped_per_service_bits"}
    for role, (offered, left) in parts.items():
        served, lost = step.details[f"{role}_served_bits"], step.details[dropped[role]]
        np.testing.assert_allclose(offered, served + left + lost, rtol=1e-12, atol=1e-6)
        assert (served >= 0).all() and (left >= 0).all() and (lost >= 0).all()
    assert (step.state.device_queue_bits <= s.config.device_queue_limit_bits).all()
    assert (step.state.server_queue_bits <= s.config.server_queue_limit_bits).all()
    assert (step.metrics["server_utilisation"] <= 1 + 1e-12).all()


@given(slots(modes=("optimal",)), SEEDS)
@settings(max_examples=60, deadline=None)
def test_optimal_shares_minimise_the_delay(slot: Slot, seed: int) -> None:
    step = slot.step()
    np.testing.assert_allclose(step.details["share"].sum(axis=1), 1.0, rtol=1e-12)
    s = slot.scenario
    if s.config.wait_mode == "literal":
        load = s.server_load_cycles(step.details["offloaded_bits"], slot.state.server_queue_bits, s.service_size)
        at_server = sum(step.metrics[f"{part}_delay_s"] for part in ("process", "queue", "wait"))
        np.testing.assert_allclose(at_server, np.sqrt(load).sum(axis=1) ** 2 / s.config.server_hz, rtol=1e-9)
    given_shares = slot.change(share_mode="action")
    rng = np.random.default_rng(seed)
    for concentration in (0.3, 1.0, 50.0):
        near = concentration * np.maximum(step.details["share"], 1e-3)
        other = np.stack([rng.dirichlet(row) for row in near])
        probe = given_shares.change(share=np.maximum(other, 1e-12)).step()
        worse = probe.metrics["delay_s"] >= step.metrics["delay_s"] * (1 - 1e-9)
        assert worse[every_backlog_is_charged(slot)].all()


@given(slots(modes=("optimal",), services=2))
@settings(max_examples=20, deadline=None)
def test_optimal_shares_of_two_services_by_line_search(slot: Slot) -> None:
    best = slot.step().metrics["delay_s"][0]
    shares = np.linspace(0.001, 0.999, 999)
    repeated = {
        f.name: np.repeat(getattr(part, f.name)[:1], len(shares), axis=0)
        for part in (slot.state, slot.exogenous, slot.decisions)
        for f in dataclasses.fields(part)
        if getattr(part, f.name) is not None
    }
    probe = slot.change(**repeated).change(share_mode="action", share=np.stack([shares, 1 - shares], axis=1))
    found = probe.step().metrics["delay_s"].min()
    if every_backlog_is_charged(slot)[0]:
        assert best * (1 - 1e-9) <= found <= best * 1.01  # above by the grid's own coarseness


@given(slots(modes=("optimal", "fixed")), SEEDS)
@settings(max_examples=60, deadline=None)
def test_delay_is_monotone(slot: Slot, seed: int) -> None:
    before, c = slot.step().metrics["delay_s"], slot.scenario.config
    rng = np.random.default_rng(seed)
    state, exogenous = slot.state, slot.exogenous
    n, m = exogenous.arrival_rate.shape[1], c.num_services
    slower = (
        slot.change(device_queue_bits=state.device_queue_bits + rng.uniform(0, 1e6, (CELLS, n))),
        slot.change(server_queue_bits=state.server_queue_bits + rng.uniform(0, 1e6, (CELLS, m))),
        slot.change(arrival_rate=exogenous.arrival_rate + rng.uniform(0, 1, (CELLS, n))),
        slot.change(channel_gain=exogenous.channel_gain * rng.uniform(0.1, 1, (CELLS, n))),
        slot.change(server_hz=c.server_hz * 0.7),
        slot.change(device_hz=c.device_hz * 0.7),
        slot.change(bandwidth_hz=c.bandwidth_hz * 0.7),
    )
    for i, worse in enumerate(slower):
        assert (worse.step().metrics["delay_s"] >= before * (1 - 1e-9)).all(), i


@given(slots())
@settings(max_examples=60, deadline=None)
def test_accuracy_lies_between_the_options(slot: Slot) -> None:
    step, options = slot.step(), slot.scenario.accuracy_of_options
    accuracy = step.details["service_accuracy"]
    assert (accuracy >= options.min() - 1e-12).all() and (accuracy <= options.max() + 1e-12).all()
    moved = slot.state.accuracy_deficit + slot.scenario.accuracy_target - accuracy
    np.testing.assert_allclose(step.state.accuracy_deficit, np.maximum(moved, 0.0), atol=1e-12)


@given(slots())
@settings(max_examples=60, deadline=None)
def test_devices_pay_for_the_waiting_that_they_cause(slot: Slot) -> None:
    """All waiting is caused by somebody, and a device alone in its service, or that sends nothing, causes none."""
    step, s = slot.step(), slot.scenario
    caused = s.waiting_caused_s(step)
    np.testing.assert_allclose(caused.sum(axis=1), step.metrics["wait_delay_s"], rtol=1e-9, atol=1e-12)
    per_bit_s = s.server_cycles_per_bit / np.maximum(step.details["share"] * s.config.server_hz, 1e-300)
    others = s.charged_count(slot.decisions.local) - 1.0
    expected = (per_bit_s * others)[:, s.service] * step.details["device_sent_bits"] / 2.0
    np.testing.assert_allclose(caused, expected, rtol=1e-9, atol=1e-12)
    local, priced = (s.rewards(step, mode) for mode in ("local", "priced"))
    np.testing.assert_allclose(
        local["device"] - priced["device"], s.config.balance_per_s * caused, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(local["server"], priced["server"])


@given(slots(modes=("fixed",)), SEEDS)
@settings(max_examples=60, deadline=None)
def test_at_fixed_shares_a_priced_reward_changes_with_a_choice_as_the_cost_of_everybody(slot: Slot, seed: int) -> None:
    rng, n = np.random.default_rng(seed), slot.scenario.config.num_devices
    slot, who = slot.change(wait_mode="literal", server_queue_limit_bits=1e18), int(rng.integers(n))
    level, local = slot.decisions.rate_level.copy(), slot.decisions.local.copy()
    level[:, who], local[:, who] = rng.integers(1, 5, CELLS), rng.integers(0, 2, CELLS)
    before, after = slot.step(), slot.change(rate_level=level, local=local).step()
    paid = [slot.scenario.rewards(step, "priced")["device"][:, who] for step in (before, after)]
    np.testing.assert_allclose(paid[0] - paid[1], total_cost(after) - total_cost(before), rtol=1e-8, atol=1e-9)


def test_deficit_bounds_the_missed_accuracy() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(0), CELLS, 60)
    state, rng, seen = s.initial_state(trace), np.random.default_rng(1), []
    for t in range(60):
        exogenous = s.exogenous(trace, t)
        step = s.step(state, s.decode(state, {"device": rng.integers(0, 8, (CELLS, 10))}, exogenous), exogenous)
        seen.append(step.details["service_accuracy"])
        state = step.state
    assert (np.mean(seen, axis=0) >= s.accuracy_target - state.accuracy_deficit / 60 - 1e-12).all()


@given(slots(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_devices_of_a_service_are_exchangeable(slot: Slot, seed: int) -> None:
    rng, order, first = np.random.default_rng(seed), [], 0
    for size in slot.scenario.config.devices_per_service:
        order += list(first + rng.permutation(size))
        first += size
    names = ("device_queue_bits", "channel_gain", "arrival_rate", "rate_level", "local")
    parts = {n: getattr(p, n) for p in (slot.state, slot.exogenous, slot.decisions) for n in names if hasattr(p, n)}
    step, moved = slot.step(), slot.change(**{n: values[:, order] for n, values in parts.items()}).step()
    np.testing.assert_allclose(moved.costs["device"], step.costs["device"][:, order], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moved.state.device_queue_bits, step.state.device_queue_bits[:, order])
    for name, values in step.metrics.items():
        np.testing.assert_allclose(moved.metrics[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


@given(slots(), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_device_sees_only_itself_and_the_broadcast(slot: Slot, who: int) -> None:
    n = slot.scenario.config.num_devices
    me = who % n
    others = np.arange(n) != me
    mask = others.astype(float)
    changed = slot.change(
        device_queue_bits=slot.state.device_queue_bits + 1e5 * mask,
        channel_gain=slot.exogenous.channel_gain * (1 + mask),
        arrival_rate=slot.exogenous.arrival_rate + 0.1 * mask,
    )
    before = slot.scenario.observe(slot.state, slot.exogenous)["device"]
    after = slot.scenario.observe(changed.state, changed.exogenous)["device"]
    np.testing.assert_array_equal(after[:, me], before[:, me])
    if n > 1:
        assert (after[:, others] != before[:, others]).any()


@given(slots())
@settings(max_examples=40, deadline=None)
def test_without_arrivals_only_backlog_waits(slot: Slot) -> None:
    idle = slot.change(arrival_rate=np.zeros_like(slot.exogenous.arrival_rate)).step()
    assert (idle.metrics["offload_delay_s"] == 0).all() and (idle.metrics["process_delay_s"] == 0).all()
    assert (idle.metrics["wait_delay_s"] == 0).all() and (idle.metrics["local_task_ratio"] == 0).all()
    assert (idle.metrics["device_dropped_bits"] == 0).all() and (idle.metrics["server_dropped_bits"] == 0).all()
    backlog = slot.decisions.local * slot.state.device_queue_bits
    expected = backlog / slot.scenario.device_bits_per_slot * slot.scenario.config.slot_s
    np.testing.assert_allclose(idle.metrics["local_delay_s"], expected.sum(axis=1), atol=1e-12)
    quiet = slot.change(
        arrival_rate=np.zeros_like(slot.exogenous.arrival_rate),
        server_queue_bits=np.zeros_like(slot.state.server_queue_bits),
    ).step()
    assert (quiet.metrics["queue_delay_s"] == 0).all()


@pytest.mark.parametrize(
    ("bandwidth_hz", "mbit_per_s"), [(5e6, (1.70, 1.44, 1.03)), (20e6, (3.52, 2.74, 1.69)), (25e6, (3.85, 2.96, 1.77))]
)
def test_link_rates(bandwidth_hz: float, mbit_per_s: tuple[float, ...]) -> None:
    s = SamplingRate(SamplingRateConfig(bandwidth_hz=bandwidth_hz))
    np.testing.assert_allclose(s.link_rate_bps(np.asarray(s.config.channel_gains)) / 1e6, mbit_per_s, atol=0.0051)


def test_trace_follows_its_processes() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(0), 20, 200)
    assert trace.channel_gain.shape == (201, 20, 10)
    states, counts = np.unique(trace.channel_gain, return_counts=True)
    np.testing.assert_array_equal(states, [2e-13, 4e-13, 6e-13])
    np.testing.assert_allclose(counts / counts.sum(), [5 / 24, 14 / 24, 5 / 24], atol=0.01)
    assert trace.arrival_rate.min() >= 0.3 and trace.arrival_rate.max() <= 1.3
    assert trace.arrival_rate.mean() == pytest.approx(0.8, abs=0.005)
    with pytest.raises(ValueError, match="channel_gain"):
        s.check_trace(dataclasses.replace(trace, channel_gain=trace.channel_gain * (trace.channel_gain > 3e-13)))


@pytest.mark.parametrize(("mode", "roles"), [(None, ["device", "server"]), ("corrected", ["device", "server"]),
                                             ("optimal", ["device"]), ("fixed", ["device"])])  # fmt: skip
def test_the_server_is_an_agent_unless_its_shares_are_computed(mode: Any, roles: list[str]) -> None:
    s = SamplingRate(SamplingRateConfig(share_mode=mode) if mode else SamplingRateConfig())
    assert list(s.roles) == roles
    assert s.central_space.shape == (20,)


@given(slots(modes=("corrected",)), SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_server_corrects_the_closed_form(slot: Slot, seed: int) -> None:
    """An even action is Theorem 1 to the last bit; another one moves the shares by its exponentials."""
    s, rng = slot.scenario, np.random.default_rng(seed)
    m = s.config.num_services
    theorem = slot.change(share_mode="optimal").step()
    device = rng.integers(0, 8, (CELLS, s.config.num_devices))
    level, local = slot.decisions.rate_level, slot.decisions.local
    for logits in (np.zeros((CELLS, 1, m)), np.full((CELLS, 1, m), rng.uniform(-1, 1))):
        decoded = s.decode(slot.state, {"device": device, "server": logits}, slot.exogenous)
        even = s.step(slot.state, dataclasses.replace(decoded, rate_level=level, local=local), slot.exogenous)
        np.testing.assert_array_equal(even.details["share"], theorem.details["share"])
    logits = rng.uniform(-1, 1, (CELLS, 1, m))
    decoded = s.decode(slot.state, {"device": device, "server": logits}, slot.exogenous)
    moved = s.step(slot.state, dataclasses.replace(decoded, rate_level=level, local=local), slot.exogenous)
    held = theorem.details["share"] * np.exp(3.0 * logits[:, 0])
    np.testing.assert_allclose(moved.details["share"], held / held.sum(axis=1, keepdims=True), rtol=1e-12)
    with pytest.raises(ValueError, match="server"):
        s.decode(slot.state, {"device": device, "server": logits * np.nan}, slot.exogenous)


def test_a_server_that_hears_no_loads() -> None:
    action = SamplingRate(SamplingRateConfig(share_mode="action"))
    assert list(action.roles) == ["device", "server"]
    assert action.ledger == SamplingRate().ledger == {"device": 10, "server": 1}
    assert action.signalling().decentralized_bytes == 26 and SamplingRate().signalling().decentralized_bytes == 66
    assert action.signalling().centralized_bytes == 130
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel_api_test(ScenarioParallelEnv(action), num_cycles=10)
    trace = action.sample_trace(np.random.default_rng(0), 2, 1)
    state, exogenous = action.initial_state(trace), action.exogenous(trace, 0)
    device = np.zeros((2, 10), int)
    with pytest.raises(ValueError, match="server"):
        action.decode(state, {"device": device}, exogenous)
    decisions = action.decode(state, {"device": device, "server": [[[1.0, -1.0]]] * 2}, exogenous)
    np.testing.assert_allclose(decisions.share[:, 0], 1 / (1 + np.exp(-6)))
    with pytest.raises(ValueError, match="share"):
        action.step(state, dataclasses.replace(decisions, share=None), exogenous)


def test_an_action_of_the_idle_server_is_checked_and_ignored() -> None:
    s = SamplingRate(SamplingRateConfig(share_mode="optimal"))
    trace = s.sample_trace(np.random.default_rng(0), 1, 1)
    state, exogenous = s.initial_state(trace), s.exogenous(trace, 0)
    device = np.zeros((1, 10), int)
    assert s.decode(state, {"device": device, "server": np.ones((1, 1, 2))}, exogenous).share is None
    for bad in (np.full((1, 1, 2), np.nan), np.ones((1, 1, 3))):
        with pytest.raises(ValueError, match="server"):
            s.decode(state, {"device": device, "server": bad}, exogenous)


def test_central_actions() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(0), 1, 1)
    state, exogenous = s.initial_state(trace), s.exogenous(trace, 0)
    x = np.concatenate([[-1, -0.6, -0.4, 0.1, 0.4, 0.6, 1, 1, 1, 1], [-1, 0, 1e-3, 1, -1, -1, -1, -1, -1, 1]])
    decisions = s.decode_central(state, x[None], exogenous)
    np.testing.assert_array_equal(decisions.rate_level[0], [1, 1, 2, 3, 3, 4, 4, 4, 4, 4])
    np.testing.assert_array_equal(decisions.local[0], [0, 0, 1, 1, 0, 0, 0, 0, 0, 1])
    index = s.decode_central(state, np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1]]), exogenous)
    np.testing.assert_array_equal(index.rate_level[0], [1, 2, 3, 4, 1, 2, 3, 4, 1, 2])
    np.testing.assert_array_equal(index.local[0], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0])


def test_presets_and_scaling() -> None:
    assert set(PRESETS) == {"default", "printed", "tight"}
    assert printed_config() == dataclasses.replace(default_config(), server_hz=2e9)
    assert (tight_config().server_hz, tight_config().arrival_mean, tight_config().balance_per_s) == (8e8, 1.0, 0.02)
    big = scaled(default_config(), (50, 50))
    assert big.bandwidth_hz == 20e7 and big.server_hz == 1e10 and big.server_queue_limit_bits == 19.2e7
    assert big.balance_per_s == pytest.approx(0.005)
    s, large = SamplingRate(), SamplingRate(big)
    assert large.link_rate_bps(4e-13) == pytest.approx(s.link_rate_bps(4e-13))


def test_accuracy_prices() -> None:
    assert accuracy_prices_s(default_config()) == (14.05, 12.90)
    assert accuracy_prices_s(tight_config()) == (19.35, 18.27)
    assert accuracy_prices_s(printed_config()) == (5.22, 6.48)
    assert accuracy_prices_s(scaled(default_config(), (1, 1))) == pytest.approx((2.81, 2.58))
    assert accuracy_prices_s(SamplingRateConfig(arrival_mean=0.62)) == (9.98, 9.15)
    assert accuracy_prices_s(SamplingRateConfig(arrival_mean=0.75, server_hz=1.1e9)) == (11.72, 10.61)
    three = {"raw_task_bits": (1e5,) * 3, "device_cycles_per_bit": (80,) * 3, "server_cycles_per_bit": (200,) * 3}
    accuracies = dict.fromkeys(("device_model_accuracy", "server_model_accuracy", "accuracy_target"), (0.9,) * 3)
    other = SamplingRateConfig(devices_per_service=(4, 3, 3), **three, **accuracies)
    assert accuracy_prices_s(other) == pytest.approx((13.475,) * 3)
    assert accuracy_prices_s(SamplingRateConfig(accuracy_price_s=(1.0, 2.0))) == (1.0, 2.0)


def test_episode_metrics_price_missed_accuracy() -> None:
    means = {"service_delay_s": np.array([4.0, 4.0]), "accuracy_0": np.array([0.79, 0.85])}
    means["accuracy_1"] = np.array([0.899, 0.95])
    got = SamplingRate().episode_metrics(means)
    np.testing.assert_allclose(got["priced_delay_s"], [4.0 + 0.1405 + 0.0129, 4.0])
    np.testing.assert_allclose(got["accuracy_shortfall_0"], [0.0125, 0.0])
    np.testing.assert_array_equal(got["accuracy_error"], [1.0, 0.0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("devices_per_service", (5, 0)),
        ("raw_task_bits", (1e5,)),
        ("accuracy_target", (0.8, 1.2)),
        ("rate_accuracy", (0.9, 0.5)),
        ("channel_gains", (1e-13, 0.0, 1e-13)),
        ("channel_transition", ((0.5, 0.5), (0.5, 0.5))),
        ("accuracy_price_s", (-1.0, 1.0)),
        ("server_hz", 0.0),
        ("share_mode", "best"),
    ],
)
def test_bad_config_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        make_scenario("sampling_rate", **{field: value})


def test_portrait_shows_load_links_and_backlog() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(0), 2, 1)
    exogenous = s.exogenous(trace, 0)
    state = dataclasses.replace(s.initial_state(trace), server_queue_bits=np.array([[5e6, 0.0], [0.0, 2.5e6]]))
    portraits = s.portrait(state, exogenous)
    np.testing.assert_allclose(portraits["server"].level, [[1.0], [1.0]])
    np.testing.assert_allclose(portraits["device"].level[:, 0], 768e3 * 80 * exogenous.arrival_rate[:, 0] / 1e8)
    link = portraits["device"].link
    assert link is not None and (link[exogenous.channel_gain == 6e-13] == 1).all() and (link > 0).all()


def test_vectors_from_the_command_line() -> None:
    same = make_scenario("sampling_rate", devices_per_service="10, 12", channel_gains="[5e-13,3e-13,1e-13]").config
    assert same.devices_per_service == (10, 12) and same.channel_gains == (5e-13, 3e-13, 1e-13)
    chain = make_scenario("sampling_rate", channel_transition="[[0,1,0],[0,0,1],[1,0,0]]").config.channel_transition
    assert chain == ((0, 1, 0), (0, 0, 1), (1, 0, 0))
    for text in ("10;12", "ten", "1.5,2"):
        with pytest.raises(ValueError, match=r"devices_per_service = .*must be int and >= 1 and <= 10000, with commas"):
            make_scenario("sampling_rate", devices_per_service=text)
