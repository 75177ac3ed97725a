"""Theory of the model placement scenario: admission, shares, delays, caches, ledger."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgemarl.envs.physics.caching import admit_in_order
from edgemarl.envs.physics.sharing import divide_pool
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import total_cost
from edgemarl.envs.scenarios.model_placement import ModelPlacement, ModelPlacementConfig, ModelPlacementState, scaled
from edgemarl.envs.scenarios.model_placement import slow_backhaul as slow

RATES = (
    "uplink_bandwidth_hz", "relay_bandwidth_hz", "gateway_cpu_hz", "edge_cpu_hz", "cloud_rate_bps", "edge_rate_bps",
)  # fmt: skip
CONFIGS: dict[str, ModelPlacementConfig] = {
    "ample": ModelPlacementConfig(num_gateways=2, devices_per_gateway=3),
    "scaled": scaled(2, 5),
    "roomy server": scaled(2, 5, edge_cache_bits=2e9),
    "tight caches": scaled(2, 4, gateway_cache_bits=1.6e8, edge_cache_bits=2.4e8, uplink_scope="reused"),
    "slow links": slow(scaled(2, 4)),
    "need": scaled(3, 3, share_prior="need", edge_cache_bits=2e8),
    "deadline": scaled(3, 4, share_prior="deadline"),
    "free first hop": scaled(2, 4, first_hop_counted_for_relayed=False, literal_edge_miss_delay=True),
    "all or nothing": ModelPlacementConfig(num_gateways=1, devices_per_gateway=2, reward_rule="all_or_nothing"),
}
cases = st.tuples(st.sampled_from(sorted(CONFIGS)), st.integers(0, 2**32 - 1))


def random_raw(scenario: ModelPlacement, rng: np.random.Generator, cells: int) -> dict[str, np.ndarray]:
    g, k, n = scenario.config.num_gateways, scenario.config.devices_per_gateway, scenario.config.num_devices
    return {
        "device": rng.integers(0, 2, (cells, n, 2)),
        "gateway": rng.uniform(-1.2, 1.2, (cells, g, 4 * k)),
        "server": rng.uniform(-1.2, 1.2, (cells, 1, 4 * n)),
    }


def situation(name: str, seed: int, slots: int = 3, cells: int = 2) -> tuple[ModelPlacement, Any, Any, dict[str, Any]]:
    """A scenario with a state that random control reached, exogenous values (some channels dead) and raw actions."""
    scenario, rng = ModelPlacement(CONFIGS[name]), np.random.default_rng(seed)
    trace = scenario.sample_trace(rng, cells, slots)
    dead = rng.random(trace.device_gain.shape) < 0.1
    trace = dataclasses.replace(trace, device_gain=np.where(dead, 0.0, trace.device_gain))
    state = scenario.initial_state(trace)
    for t in range(slots):
        exogenous = scenario.exogenous(trace, t)
        state = scenario.step(
            state, scenario.decode(state, random_raw(scenario, rng, cells), exogenous), exogenous
        ).state
    return scenario, state, scenario.exogenous(trace, slots), random_raw(scenario, rng, cells)


def run(scenario: ModelPlacement, state: Any, exogenous: Any, raw: dict[str, Any]) -> Any:
    return scenario.step(state, scenario.decode(state, raw, exogenous), exogenous)


def test_admission_equals_the_loop_over_entries() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows, n = rng.integers(1, 5), rng.integers(1, 30)
        bits = np.where(rng.random((rows, n)) < 0.5, rng.uniform(28, 44, (rows, n)), rng.uniform(72, 96, (rows, n)))
        wanted, used = rng.random((rows, n)) < 0.8, rng.uniform(0, 200, rows)
        capacity = rng.uniform(200, 1500)
        expected = np.zeros_like(wanted)
        for r in range(rows):
            filled = used[r]
            for j in range(n):
                if wanted[r, j] and filled + bits[r, j] <= capacity:
                    expected[r, j], filled = True, filled + bits[r, j]
        np.testing.assert_array_equal(admit_in_order(bits, wanted, used, capacity), expected)


def test_a_refused_model_leaves_its_space_to_later_ones() -> None:
    admitted = admit_in_order(np.array([[6.0, 6.0, 4.0, 1.0]]), np.ones((1, 4), bool), np.zeros(1), 10.0)
    np.testing.assert_array_equal(admitted, [[True, False, True, False]])


def test_shares_of_empty_and_weightless_pools() -> None:
    weights = np.array([[0.0, 0.0, 5.0], [1.0, 3.0, 9.0], [1.0, 1.0, 1.0]])
    members = np.array([[True, True, False], [True, True, False], [False] * 3])
    shares = np.full(9, np.nan)
    for row in range(3):
        divide_pool(weights.reshape(-1), members.reshape(-1), 3 * row, 3, shares, 3 * row)
    np.testing.assert_array_equal(shares.reshape(3, 3), [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 0.0]])


@settings(max_examples=40, deadline=None)
@given(cases)
def test_ledger_counts_and_ratios(case: tuple[str, int]) -> None:
    scenario, state, exogenous, raw = situation(*case)
    step = run(scenario, state, exogenous, raw)
    m, n = step.metrics, scenario.config.num_devices
    np.testing.assert_allclose(total_cost(step), -m["mean_accuracy"], rtol=0, atol=1e-12)
    assert (m["mean_accuracy"] >= 0).all() and (m["mean_accuracy"] <= m["completion_ratio"]).all()
    assert (m["completion_ratio"] <= m["ready_ratio"]).all() and (m["ready_ratio"] <= 1).all()
    done = np.rint(n * m["completion_ratio"])
    np.testing.assert_array_equal(m["completed_local"] + m["completed_edge"], done)
    np.testing.assert_array_equal(m["completed_heavy"] + m["completed_light"], done)
    refused = m["rejected_space"] + m["rejected_late"]
    np.testing.assert_array_equal(np.rint(n * m["ready_ratio"]) + refused, n)
    assert (m["cache_hits"] <= np.rint(n * m["ready_ratio"])).all()
    assert (m["mean_completed_delay_s"] <= scenario.config.deadline_max_s).all()


@settings(max_examples=40, deadline=None)
@given(cases)
def test_caches_hold_what_fits_and_only_what_was_wanted(case: tuple[str, int]) -> None:
    scenario, state, exogenous, raw = situation(*case)
    keep = {name: values.copy() for name, values in raw.items()}
    keep["gateway"][..., 2 * scenario.config.devices_per_gateway :] = 1.0
    keep["server"][..., 2 * scenario.config.num_devices :] = 0.0
    drop = {name: values.copy() for name, values in raw.items()}
    drop["gateway"][..., 2 * scenario.config.devices_per_gateway :] = -1.0
    drop["server"][..., 2 * scenario.config.num_devices :] = -1e-9
    kept, dropped = run(scenario, state, exogenous, keep), run(scenario, state, exogenous, drop)
    used_gateway, used_edge = scenario.used_bits(kept.state, exogenous)
    assert (used_gateway <= scenario.config.gateway_cache_bits * (1 + 1e-12)).all()
    assert (used_edge <= scenario.config.edge_cache_bits * (1 + 1e-12)).all()
    local = scenario.decode(state, raw, exogenous).local[..., None] != 0
    level = np.stack([scenario.decode(state, raw, exogenous).heavy == n for n in (0, 1)], axis=-1)
    for name, here in (("cached_gateway", local), ("cached_edge", ~local)):
        before, after = getattr(state, name) != 0, getattr(kept.state, name) != 0
        assert (after >= before).all(), "caches never shrink while everything is kept"
        assert (after <= (before | (level & here))).all(), "nothing is prefetched"
        assert not getattr(dropped.state, name).any()
    assert kept.metrics["placed_gateway"].sum() == kept.state.cached_gateway.sum()
    assert kept.metrics["placed_edge"].sum() == kept.state.cached_edge.sum()
    np.testing.assert_allclose(
        kept.metrics["edge_cache_utilisation"], used_edge / scenario.config.edge_cache_bits, rtol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(cases)
def test_shares_are_shares_of_the_ready_members(case: tuple[str, int]) -> None:
    scenario, state, exogenous, raw = situation(*case)
    decisions = scenario.decode(state, raw, exogenous)
    d = scenario.step(state, decisions, exogenous).details
    local, ready = decisions.local != 0, d["ready"]
    shared_band = ready if scenario.config.first_hop_counted_for_relayed else ready & local
    for pool, members, axes in (
        ("band", shared_band, (2,)),
        ("gateway_cpu", ready & local, (2,)),
        ("relay", ready & ~local, (1, 2)),
        ("edge_cpu", ready & ~local, (1, 2)),
    ):
        share = np.where(shared_band, d["band_share"], 0.0) if pool == "band" else d[f"{pool}_share"]
        assert (share >= 0).all() and not share[~members].any()
        np.testing.assert_allclose(share.sum(axis=axes), members.any(axis=axes), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(cases)
def test_keeps_do_not_touch_the_cost_and_scores_not_the_caches(case: tuple[str, int]) -> None:
    scenario, state, exogenous, raw = situation(*case)
    k, n = scenario.config.devices_per_gateway, scenario.config.num_devices
    base = run(scenario, state, exogenous, raw)
    other = random_raw(scenario, np.random.default_rng(case[1] + 1), 2)
    keeps = {name: values.copy() for name, values in raw.items()}
    keeps["gateway"][..., 2 * k :], keeps["server"][..., 2 * n :] = (
        other["gateway"][..., 2 * k :], other["server"][..., 2 * n :],
    )  # fmt: skip
    np.testing.assert_array_equal(run(scenario, state, exogenous, keeps).costs["device"], base.costs["device"])
    scores = {name: values.copy() for name, values in raw.items()}
    scores["gateway"][..., : 2 * k], scores["server"][..., : 2 * n] = (
        other["gateway"][..., : 2 * k], other["server"][..., : 2 * n],
    )  # fmt: skip
    after = run(scenario, state, exogenous, scores).state
    np.testing.assert_array_equal(after.cached_gateway, base.state.cached_gateway)
    np.testing.assert_array_equal(after.cached_edge, base.state.cached_edge)


@settings(max_examples=40, deadline=None)
@given(cases, st.sampled_from(RATES), st.floats(1.01, 5.0))
def test_more_of_a_resource_never_hurts_a_task(case: tuple[str, int], name: str, factor: float) -> None:
    assume(case[0] != "deadline")  # which may give up another task once there is more of something
    scenario, state, exogenous, raw = situation(*case)
    more = ModelPlacement(dataclasses.replace(scenario.config, **{name: getattr(scenario.config, name) * factor}))
    base, better = run(scenario, state, exogenous, raw), run(more, state, exogenous, raw)
    same = (base.details["ready"] == better.details["ready"]).all(axis=(1, 2))
    assert same.all() or name in ("cloud_rate_bps", "edge_rate_bps"), "band and CPU do not change the admission"
    assert (better.details["done"] >= base.details["done"])[same].all()


@settings(max_examples=30, deadline=None)
@given(cases, st.floats(0.2, 0.9))
def test_a_common_factor_on_the_weights_changes_nothing(case: tuple[str, int], factor: float) -> None:
    scenario, state, exogenous, raw = situation(*case)
    decisions = scenario.decode(state, raw, exogenous)
    names = ("band_score", "gateway_cpu_score", "relay_score", "edge_cpu_score")
    weaker = dataclasses.replace(decisions, **{n: (1 + getattr(decisions, n)) * factor - 1 for n in names})
    base, same = (scenario.step(state, d, exogenous).details for d in (decisions, weaker))
    for pool in ("band", "gateway_cpu", "relay", "edge_cpu"):
        np.testing.assert_allclose(same[f"{pool}_share"], base[f"{pool}_share"], rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(cases)
def test_a_gateway_touches_its_own_devices_only(case: tuple[str, int]) -> None:
    scenario, state, exogenous, raw = situation(*case)
    if scenario.config.num_gateways == 1 or scenario.config.reward_rule == "all_or_nothing":
        return
    changed = {name: values.copy() for name, values in raw.items()}
    changed["gateway"][:, 0] = random_raw(scenario, np.random.default_rng(case[1] + 7), 2)["gateway"][:, 0]
    base, other = run(scenario, state, exogenous, raw), run(scenario, state, exogenous, changed)
    np.testing.assert_array_equal(other.details["gained"][:, 1:], base.details["gained"][:, 1:])
    np.testing.assert_array_equal(other.state.cached_gateway[:, 1:], base.state.cached_gateway[:, 1:])
    np.testing.assert_array_equal(other.state.cached_edge, base.state.cached_edge)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_permuting_gateways_permutes_everything(seed: int) -> None:
    """The edge cache of this network refuses nobody, so index order does not matter between gateways."""
    scenario, state, exogenous, raw = situation("roomy server", seed)
    k = scenario.config.devices_per_gateway
    order = np.array([1, 0])
    swap = lambda values: values[:, order]  # noqa: E731 - axis 1 of every array is the gateway
    moved_state = ModelPlacementState(swap(state.cached_gateway), swap(state.cached_edge))
    moved = type(exogenous)(**{f.name: swap(getattr(exogenous, f.name)) for f in dataclasses.fields(exogenous)})
    moved_raw = {
        "device": swap(raw["device"].reshape(2, 2, k, 2)).reshape(2, -1, 2),
        "gateway": swap(raw["gateway"]),
        "server": raw["server"].reshape(2, 4, 2, k)[:, :, order].reshape(2, 1, -1),
    }
    base, other = run(scenario, state, exogenous, raw), run(scenario, moved_state, moved, moved_raw)
    np.testing.assert_allclose(other.details["gained"], swap(base.details["gained"]), rtol=1e-12)
    np.testing.assert_array_equal(other.state.cached_edge, swap(base.state.cached_edge))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_all_or_nothing_is_zero_or_the_sum(seed: int) -> None:
    scenario, state, exogenous, raw = situation("all or nothing", seed, cells=20)
    plain = ModelPlacement(dataclasses.replace(scenario.config, reward_rule="per_task"))
    strict = run(scenario, state, exogenous, raw).metrics
    full = run(plain, state, exogenous, raw).metrics
    every = full["completion_ratio"] == 1
    np.testing.assert_array_equal(strict["mean_accuracy"], np.where(every, full["mean_accuracy"], 0.0))
    np.testing.assert_array_equal(strict["completion_ratio"], full["completion_ratio"])


def test_a_reused_band_makes_the_first_hop_faster_by_the_number_of_gateways() -> None:
    delays = {}
    for scope in ("partitioned", "reused"):
        scenario = ModelPlacement(ModelPlacementConfig(num_gateways=4, devices_per_gateway=2, uplink_scope=scope))
        exogenous = scenario.exogenous(scenario.sample_trace(np.random.default_rng(0), 1, 1), 0)
        assert scenario.config.gateway_band_hz == (2.5e6 if scope == "partitioned" else 10e6)
        state = ModelPlacementState(np.ones((1, 4, 2, 2)), np.ones((1, 4, 2, 2)))
        decisions = scenario.decode(state, {"device": np.ones((1, 8, 2), int), "gateway": np.zeros((1, 4, 8)),
                                            "server": np.zeros((1, 1, 32))}, exogenous)  # fmt: skip
        details = scenario.step(state, decisions, exogenous).details
        np.testing.assert_array_equal(details["band_share"], 0.5)  # two tasks of equal score at each gateway
        compute_s = exogenous.model_cycles[..., 1] / (0.5 * scenario.config.gateway_cpu_hz)
        delays[scope] = details["delay_s"] - compute_s
    np.testing.assert_allclose(delays["partitioned"], 4 * delays["reused"], rtol=1e-9)


@pytest.mark.parametrize("cached", [0, 1])
@pytest.mark.parametrize("local", [0, 1])
def test_one_device_has_closed_form_delays_and_equality_counts(local: int, cached: int) -> None:
    """N = 1: all shares are 1; a deadline equal to the delay is met, the next smaller number is not."""
    scenario = ModelPlacement(ModelPlacementConfig(num_gateways=1, devices_per_gateway=1, rayleigh_fading=False))
    c = scenario.config
    exogenous = scenario.exogenous(scenario.sample_trace(np.random.default_rng(3), 1, 1), 0)
    state = ModelPlacementState(np.full((1, 1, 1, 2), cached), np.full((1, 1, 1, 2), cached))
    raw = {"device": np.array([[[local, 1]]]), "gateway": np.full((1, 1, 4), -1.0), "server": np.full((1, 1, 4), -1.0)}
    g, ge = scenario.device_efficiency(exogenous).item(), scenario.gateway_efficiency(exogenous).item()
    bits, work, task = exogenous.model_bits[..., 1].item(), exogenous.model_cycles[..., 1].item(), exogenous.task_bits
    first, second = task.item() / (c.uplink_bandwidth_hz * g), task.item() / (c.relay_bandwidth_hz * ge)
    cloud_s, edge_s = (1 - cached) * bits / c.cloud_rate_bps, (1 - cached) * bits / c.edge_rate_bps
    if local:
        expected = max(first, cloud_s + edge_s) + work / c.gateway_cpu_hz
    else:
        expected = max(first + second, cloud_s) + work / c.edge_cpu_hz
    delay = run(scenario, state, exogenous, raw).details["delay_s"]
    np.testing.assert_allclose(delay.item(), expected, rtol=1e-12)
    exact = dataclasses.replace(exogenous, deadline_s=delay)
    assert run(scenario, state, exact, raw).metrics["completion_ratio"] == 1
    short = dataclasses.replace(exogenous, deadline_s=np.nextafter(delay, 0))
    assert run(scenario, state, short, raw).metrics["completion_ratio"] == 0


@pytest.mark.parametrize("prior", ["equal", "need", "deadline"])
def test_a_dead_channel_is_a_missed_task_not_a_nan(prior: str) -> None:
    scenario, state, exogenous, raw = situation("scaled", 0)
    scenario = ModelPlacement(dataclasses.replace(scenario.config, share_prior=prior))
    gain = exogenous.device_gain.copy()
    gain[:, :, 1] = 0.0
    one = run(scenario, state, dataclasses.replace(exogenous, device_gain=gain), raw)
    assert not one.details["done"][:, :, 1].any()
    assert all(np.isfinite(one.details[f"{pool}_share"]).all() for pool in ("band", "relay"))
    assert prior == "equal" or not one.details["band_share"][:, :, 1].any(), "a task without channel needs no band"
    dead = dataclasses.replace(exogenous, device_gain=0 * gain, gateway_gain=np.zeros((2, 2)))
    step = run(scenario, state, dead, raw)
    assert not step.details["done"].any()
    assert all(np.isfinite(values).all() for values in step.metrics.values())


def test_a_model_that_comes_too_late_is_refused_before_space_is_looked_at() -> None:
    scenario = ModelPlacement(slow(scaled(1, 2, gateway_cache_bits=1.0)))
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 1)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    raw = {"device": np.ones((1, 2, 2), int), "gateway": np.ones((1, 1, 8)), "server": np.ones((1, 1, 8))}
    metrics = run(scenario, state, exogenous, raw).metrics
    assert metrics["rejected_late"] == 2 and metrics["rejected_space"] == 0


def test_presets_and_validation() -> None:
    config = scaled(20, 35)
    assert config.gateway_band_hz == pytest.approx(ModelPlacementConfig().gateway_band_hz)
    assert config.edge_cpu_hz == 2 * ModelPlacementConfig().edge_cpu_hz
    assert scaled(2, 7, edge_cpu_hz=1e9).edge_cpu_hz == 1e9
    assert slow().cloud_rate_bps == 45e6 and slow(scaled(2, 5)).num_devices == 10
    for wrong, words in (
        ({"deadline_min_s": 3.0}, "deadline_max_s = 2 s"),
        ({"model_bits_light": (5.0, 3.0)}, "low <= high"),
        ({"accuracy_clean_heavy": (0.9, 1.1)}, "<= 1"),
        ({"server_ledger_weight": 0.5}, "must add to 1"),
        ({"uplink_scope": "shared"}, "one of 'partitioned', 'reused'"),
        ({"edge_cpu_hz": 0.0}, "edge_cpu_hz = 0.0 cycle/s"),
    ):
        with pytest.raises(ValueError, match=words):
            make_scenario("model_placement", **wrong)


def test_a_trace_without_work_or_with_a_third_kind_of_noise_is_refused() -> None:
    scenario = ModelPlacement(CONFIGS["ample"])
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 1)
    with pytest.raises(ValueError, match="model_bits"):
        scenario.check_trace(dataclasses.replace(trace, model_bits=0 * trace.model_bits))
    with pytest.raises(ValueError, match="noisy"):
        scenario.check_trace(dataclasses.replace(trace, noisy=trace.noisy + 2))


def test_signalling_of_the_full_network() -> None:
    signalling = ModelPlacement().signalling()
    assert signalling.decentralized_bytes == 9960 and signalling.centralized_bytes == 15440


def test_rewards_scaled_for_learners_are_means_of_accuracy() -> None:
    scenario, state, exogenous, raw = situation("scaled", 1)
    step, scale = run(scenario, state, exogenous, raw), scenario.learner_scale
    gained = step.details["gained"]
    np.testing.assert_allclose(-step.costs["device"] * scale["device"], gained.reshape(2, -1))
    np.testing.assert_allclose(-step.costs["gateway"] * scale["gateway"], gained.mean(axis=2))
    np.testing.assert_allclose(-step.costs["server"][:, 0] * scale["server"], gained.mean(axis=(1, 2)))
