"""The names, units and scales of rows and actions are true: entry x scale is the quantity that the state holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL, action_entries, row_entries
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.testing import ScenarioTests, play

SLOTS = 6
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sequential_offloading": [
        {"num_devices": 3, "server_observation": seen, "device_action": action, "arrival_lookahead": ahead}
        for seen, action, ahead in (
            ("aggregate", "cpu", False), ("full", "power", True), ("own", "split", False), ("own", "residual", True),
        )
    ],
    "sampling_rate": [
        {"devices_per_service": (2, 3), "raw_task_bits": (768e3, 512e3)},
        {"devices_per_service": (2, 3), "share_mode": "action"},
    ],
    "model_partitioning": [
        {},
        {"share_queues": True, "share_bids": True, "show_costs": True, "show_model": True},
        {"local_cpu_rule": "action"},
        {"bandwidth_rule": "action"},
        {"local_cpu_rule": "action", "edge_cpu_rule": "action"},
    ],
    "model_pruning": [
        {"num_devices": 7, "num_gateways": 3},
        {"num_devices": 7, "num_gateways": 3, "gateway_broadcast": "channel"},
    ],
    "model_placement": [{"num_gateways": 2, "devices_per_gateway": 3}],
}  # fmt: skip
EVERY = [(name, i) for name, settings in SETTINGS.items() for i in range(len(settings))]


def slots_of(scenario: Scenario, cells: int = 2) -> list[Any]:
    return play(scenario, scenario.sample_trace(np.random.default_rng(3), cells, SLOTS), 4, SLOTS)


def quantity(scenario: Scenario, role: str, name: str, state: Any, exogenous: Any) -> Array:
    """What a row says of a quantity, in its unit: (B, n), of the global state (B,)."""
    entries = row_entries(scenario, role)
    i = [entry.name for entry in entries].index(name)
    rows = scenario.global_state(state, exogenous) if role == CENTRAL else scenario.observe(state, exogenous)[role]
    return np.asarray(rows[..., i] * entries[i].scale)


def test_all_scenarios_are_here() -> None:
    assert set(SETTINGS) == set(scenario_names())


@pytest.mark.parametrize(("name", "i"), EVERY)
def test_every_setting_names_its_numbers(name: str, i: int) -> None:
    class Here(ScenarioTests):
        def make(self) -> Scenario:
            return make_scenario(name, **SETTINGS[name][i])

    Here().test_every_number_of_rows_and_actions_has_a_name()
    Here().test_constant_masks_are_the_masks_of_every_slot()


def state_of(role: str, name: str, value: Callable[[Any, Any, Scenario], Any]) -> tuple[str, str, Any]:
    return role, name, value


SHOWN: dict[str, list[tuple[str, str, Callable[[Any, Any, Scenario], Any]]]] = {
    "sequential_offloading": [
        ("device", "queue", lambda s, x, n: s.device_queue_cycles),
        ("device", "spectral_efficiency", lambda s, x, n: np.log2(1.0 + x.channel_gain_per_w / n.config.snr_gap)),
        ("device", "arrived_1", lambda s, x, n: s.previous_arrivals[..., 1]),
        ("server", "server_queue", lambda s, x, n: s.server_queue_cycles[:, None]),
        ("server", "offloaded", lambda s, x, n: s.last_offloaded_cycles[:, None]),
        ("server", "queue_max", lambda s, x, n: s.device_queue_cycles.max(axis=1, keepdims=True)),
        (CENTRAL, "queue_2", lambda s, x, n: s.device_queue_cycles[:, 2]),
        (CENTRAL, "server_queue", lambda s, x, n: s.server_queue_cycles),
    ],
    "sampling_rate": [
        ("device", "backlog", lambda s, x, n: s.device_queue_bits / n.device_bits_per_slot),
        ("device", "link_rate", lambda s, x, n: n.link_rate_bps(x.channel_gain)),
        ("device", "arrival", lambda s, x, n: x.arrival_rate),
        ("device", "service_1", lambda s, x, n: np.broadcast_to(n.service == 1, x.arrival_rate.shape)),
        ("device", "accuracy_deficit_1", lambda s, x, n: np.repeat(s.accuracy_deficit[:, [1]], 5, axis=1)),
        (CENTRAL, "arrival_4", lambda s, x, n: x.arrival_rate[:, 4]),
        (CENTRAL, "server_backlog_0", lambda s, x, n: s.server_queue_bits[:, 0] / n.server_bits_per_slot[0]),
    ],
    "model_partitioning": [
        ("device", "fading", lambda s, x, n: np.log10(n.floored_gain(x) / n.mean_gain)),
        ("device", "energy_queue", lambda s, x, n: s.energy_queue / n.queue_reference[0]),
        ("device", "crowd", lambda s, x, n: np.repeat(s.crowd[:, None], 5, axis=1)),
        (CENTRAL, "memory_queue_3", lambda s, x, n: (s.memory_queue / n.queue_reference[1])[:, 3]),
    ],
    "model_pruning": [
        ("device", "criticality", lambda s, x, n: n.criticality[s.criticality_level]),
        ("device", "gain", lambda s, x, n: s.channel_gain[:, n.blocks.gateway]),
        ("gateway", "gain", lambda s, x, n: s.channel_gain),
        ("gateway", "devices", lambda s, x, n: np.broadcast_to(n.blocks.size, s.channel_gain.shape)),
        ("server", "gain_2", lambda s, x, n: s.channel_gain[:, [2]]),
        (CENTRAL, "criticality_6", lambda s, x, n: n.criticality[s.criticality_level[:, 6]]),
        (CENTRAL, "gain_1", lambda s, x, n: s.channel_gain[:, 1]),
    ],
    "model_placement": [
        ("device", "task_bits", lambda s, x, n: x.task_bits.reshape(2, -1)),
        ("device", "deadline", lambda s, x, n: x.deadline_s.reshape(2, -1)),
        ("device", "efficiency", lambda s, x, n: n.device_efficiency(x).reshape(2, -1)),
        ("device", "model_bits_heavy", lambda s, x, n: x.model_bits[..., 1].reshape(2, -1)),
        ("device", "model_cycles_light", lambda s, x, n: x.model_cycles[..., 0].reshape(2, -1)),
        ("device", "cached_edge_light", lambda s, x, n: s.cached_edge[..., 0].reshape(2, -1)),
        ("gateway", "relay_efficiency", lambda s, x, n: n.gateway_efficiency(x)),
        ("gateway", "task_bits_1", lambda s, x, n: x.task_bits[..., 1]),
        ("server", "relay_efficiency_1", lambda s, x, n: n.gateway_efficiency(x)[:, [1]]),
        ("server", "cached_edge_heavy_4", lambda s, x, n: s.cached_edge[:, 1, 1, 1][:, None]),
        ("server", "free_edge_cache", lambda s, x, n: (n.config.edge_cache_bits - n.used_bits(s, x)[1])[:, None]),
        (CENTRAL, "efficiency_5", lambda s, x, n: n.device_efficiency(x)[:, 1, 2]),
        (CENTRAL, "cached_gateway_heavy_0", lambda s, x, n: s.cached_gateway[:, 0, 0, 1]),
    ],
}
"""Quantities as states and exogenous values hold them, not as rows show them."""


@pytest.mark.parametrize("name", SHOWN)
def test_an_entry_times_its_scale_is_the_quantity(name: str) -> None:
    scenario = make_scenario(name, **SETTINGS[name][0])
    for state, exogenous, *_ in slots_of(scenario):
        for role, entry, value in SHOWN[name]:
            found, wanted = quantity(scenario, role, entry, state, exogenous), value(state, exogenous, scenario)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * abs(wanted).max(), err_msg=entry)


def decoded(scenario: Scenario, **raw: Array) -> tuple[Any, Any, Any]:
    """Decisions of raw actions, zeros for roles that are left out, in a slot with queues."""
    state, exogenous, *_ = slots_of(scenario, 1)[-1]
    actions = {name: np.zeros((1, r.count, *(r.action_space.shape or ()))) for name, r in scenario.roles.items()}
    return scenario.decode(state, {**actions, **raw}, exogenous), state, exogenous


def test_an_action_times_its_scale_is_what_is_decided() -> None:
    offloading = make_scenario("sequential_offloading", num_devices=2, device_action="cpu")
    found, *_ = decoded(offloading, device=np.full((1, 2, 1), 0.25), server=np.full((1, 1, 1), 0.5))
    clock, server = action_entries(offloading, "device")[0], action_entries(offloading, "server")[0]
    np.testing.assert_allclose(found.device_cpu_hz, 0.25 * clock.scale)
    np.testing.assert_allclose(found.server_cpu_hz, 0.5 * server.scale)
    assert (clock.unit, server.unit) == ("Hz", "Hz")

    cutting = make_scenario("model_partitioning", local_cpu_rule="action")
    found, *_ = decoded(cutting, device=np.full((1, 5, 2), [0.5, 0.75]))
    cut, clock = action_entries(cutting, "device")
    np.testing.assert_allclose(found.device_cpu_hz, 0.75 * clock.scale)
    np.testing.assert_array_equal(found.partition_layer[0], np.minimum(cutting.layers, (cutting.layers + 1) // 2))
    assert cut.unit == "-"

    sampling = make_scenario("sampling_rate", devices_per_service=(1, 1))
    found, *_ = decoded(sampling, device=np.array([[1, 6]]))
    assert "(a mod 4 + 1)/4" in action_entries(sampling, "device")[0].meaning
    assert found.rate_level.tolist() == [[2, 3]] and found.local.tolist() == [[0, 1]]


@pytest.mark.parametrize(("leaving", "share"), [(0.4, 0.8), (0.1, 0.0), (0.9, 0.5), (0.75, 1.0)])
def test_work_leaving_is_what_is_computed_and_sent(leaving: float, share: float) -> None:
    """In whole tasks that stay, next to the first number times its scale, whatever of it the second one sends."""
    scenario = make_scenario("sequential_offloading", num_devices=1, device_action="residual")
    task = scenario.config.task_cycles
    state, exogenous, *_ = slots_of(scenario, 1)[-1]
    state = dataclasses.replace(state, device_queue_cycles=np.full((1, 1), 5.0 * task))
    exogenous = dataclasses.replace(exogenous, channel_gain_per_w=np.full((1, 1), 1e9))  # it carries any residual
    raw = {"device": np.full((1, 1, 2), [leaving, share]), "server": np.zeros((1, 1, 1))}
    work, sent = scenario.decode(state, raw, exogenous).local_work_cycles[0, 0], share * 0.999 * task
    effort, residual = action_entries(scenario, "device")
    assert (effort.name, effort.unit, residual.unit, residual.scale) == ("work_leaving", "cycle", "-", 1.0)
    assert abs(work + sent - leaving * effort.scale) <= max(0.5 * task, sent) + 1.0
    kept = (5.0 * task - work - sent) / task
    assert kept == pytest.approx(round(kept), abs=1e-6), "whole tasks stay"
    assert "0.999 of a task" in residual.meaning


def test_only_split_bounds_the_local_work() -> None:
    names = {
        action: [e.name for e in action_entries(make_scenario("sequential_offloading", device_action=action), "device")]
        for action in ("split", "residual")
    }
    assert names == {"split": ["work_max", "power"], "residual": ["work_leaving", "residual"]}
