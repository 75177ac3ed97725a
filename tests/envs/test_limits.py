"""Every number of every scenario at both ends of its documented range: five slots, all finite, nothing raised."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgemarl.envs.capabilities import masks_of
from edgemarl.envs.config import range_of
from edgemarl.envs.registry import scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.testing import arrays, play

SLOTS = 5
FIELDS = [
    (scenario, name)
    for scenario in scenario_names()
    for name in scenario_class(scenario).config_type.__pydantic_fields__
    if range_of(scenario_class(scenario).config_type, name) is not None
]


def filled(default: Any, value: float) -> Any:
    """A value in the shape of a default: a number, or a vector or matrix of it, two entries for ()."""
    return tuple(filled(entry, value) for entry in default or (0.0, 0.0)) if isinstance(default, tuple) else value


@pytest.mark.parametrize("scenario, name", FIELDS)
def test_every_number_has_a_least_and_a_largest_value(scenario: str, name: str) -> None:
    config_type = scenario_class(scenario).config_type
    kind, least, largest = range_of(config_type, name)
    assert least is not None, f"{name} has no least value"
    assert largest is not None, f"{name} has no largest value"
    assert -1e18 <= least < largest <= 1e18
    default = getattr(config_type(), name)
    for beyond in (least - 1 if kind is int else math.nextafter(least, -math.inf), largest * 1.1 + 1, math.nan):
        with pytest.raises(ValueError, match=name):
            config_type(**{name: filled(default, beyond)})


def at_end(scenario: str, name: str, end: float) -> Scenario:
    """The scenario with one field at an end of its range, and beside it only what the field's own rule asks for."""
    cls = scenario_class(scenario)
    default = cls.config_type()
    together = next((names for names in ORDERED[scenario] if name in names), (name,))
    fields = {other: filled(getattr(default, other), end) for other in together}
    fields.update(BESIDE.get((scenario, name), lambda _: {})(end))
    return cls(cls.config_type(**fields))


ORDERED: dict[str, tuple[tuple[str, ...], ...]] = {
    "model_partitioning": (
        ("surge_start_slot", "surge_end_slot"), ("mean_arrival_rate_hz", "mean_arrival_rate_max_hz"),
    ),
    "model_placement": (
        ("device_distance_min_m", "device_distance_max_m"), ("gateway_distance_min_m", "gateway_distance_max_m"),
        ("task_bits_min", "task_bits_max"), ("deadline_min_s", "deadline_max_s"),
    ),
    "model_pruning": (("min_delay_s", "max_delay_s"), ("min_accuracy", "max_accuracy", "edge_model_accuracy")),
    "sampling_rate": (),
    "sequential_offloading": (("distance_m_min", "cell_radius_m"),),
}  # fmt: skip
"""Fields that must not fall in this order: they go to an end together."""

WEIGHTS = ("device_ledger_weight", "gateway_ledger_weight", "server_ledger_weight")
STAYS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ONE_SERVICE = {
    "raw_task_bits": (768e3,), "device_cycles_per_bit": (80.0,), "server_cycles_per_bit": (200.0,),
    "device_model_accuracy": (0.8,), "server_model_accuracy": (1.0,), "accuracy_target": (0.8,),
}  # fmt: skip
BESIDE: dict[tuple[str, str], Callable[[float], dict[str, Any]]] = {
    **{
        ("model_placement", name): lambda end, name=name: {
            **dict.fromkeys(WEIGHTS, (1 - end) / 2), name: end,
        }
        for name in WEIGHTS
    },
    ("model_pruning", "channel_transition"): lambda _: {"channel_transition": STAYS},  # rows sum to 1: both ends in one
    ("sampling_rate", "channel_transition"): lambda _: {"channel_transition": STAYS},
    ("sampling_rate", "devices_per_service"): lambda end: {"devices_per_service": (end,), **ONE_SERVICE},
}  # fmt: skip
"""Fields whose own rule needs others beside them."""


@pytest.mark.parametrize("scenario, name", FIELDS)
def test_five_slots_at_both_ends_are_finite(scenario: str, name: str) -> None:
    kind, *ends = range_of(scenario_class(scenario).config_type, name)
    for end in ends:
        network = at_end(scenario, name, kind(end))
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # an overflow that a later minimum hides
            trace = network.sample_trace(np.random.default_rng(0), 1, SLOTS)
            network.check_trace(trace)
            for state, exogenous, decisions, step in play(network, trace, 0, SLOTS):
                world = {"world": network.global_state(state, exogenous)}
                shown = {**network.observe(state, exogenous), **world, **masks_of(network, state, exogenous)}
                for part in (shown, decisions, step):
                    for path, values in arrays(part).items():
                        never = path == "details.delay_s."  # of a task that is refused
                        legal = ~np.isnan(values) if never else np.isfinite(values)
                        assert legal.all(), (name, end, path)
