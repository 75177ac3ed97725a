"""A bound whose computation would take hours is none, with a reason at once; one that runs ends when it is told to."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from edgemarl.agents.playbook import NoBound
from edgemarl.agents.registry import playbook_of
from edgemarl.agents.sequential_offloading.bound import _of_each
from edgemarl.agents.sequential_offloading.device_bound import COARSE, device_bound, sweep_operations
from edgemarl.envs import make_scenario

LARGE = (
    ("sequential_offloading", {"device_queue_tasks_max": 20_000}, "device_queue_tasks_max = 20000"),
    ("sequential_offloading", {"device_queue_tasks_max": 1e6, "slots_per_block": 255}, "slots_per_block = 255"),
    ("sequential_offloading", {"task_cycles": 1e5, "device_queue_tasks_max": 2000}, "can work off 2005 tasks"),
    ("model_pruning", {"num_devices": 10_000}, "num_devices = 10000"),
    ("model_pruning", {"num_criticality_levels": 256, "num_devices": 1000}, "num_criticality_levels = 256"),
    ("sampling_rate", {"devices_per_service": (2000, 8000)}, "devices_per_service = 2000, 8000"),
)


@pytest.mark.parametrize(("name", "fields", "reason"), LARGE)
def test_a_bound_of_a_problem_that_takes_hours_is_none_at_once(name: str, fields: dict[str, Any], reason: str) -> None:
    scenario, book = make_scenario(name, **fields), playbook_of(name)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 60)
    started = time.perf_counter()
    with pytest.raises(NoBound, match=reason):
        assert book.bound is not None
        book.bound(scenario, trace, 58 if name != "sequential_offloading" else 55)
    assert time.perf_counter() - started < 5.0


def test_a_trace_whose_values_fill_the_memory_has_no_bound() -> None:
    scenario, book = make_scenario("model_partitioning", num_devices=1), playbook_of("model_partitioning")
    with pytest.raises(NoBound, match="20000 slots, got 20001"):
        assert book.bound is not None
        book.bound(scenario, scenario.sample_trace(np.random.default_rng(0), 1, 20_001), 10)


def test_networks_of_ten_thousand_devices_keep_their_bound() -> None:
    """Ten thousand devices at the defaults touch seven tenths of what a bound may touch."""
    operations = sweep_operations(make_scenario("sequential_offloading").config)
    assert operations == pytest.approx(1.7e5, rel=0.5)


def test_a_ctrl_c_ends_value_iteration_after_a_few_sweeps() -> None:
    """What ends the wait for one network, here at once, ends the others: alone they would take 600 such bounds."""
    config, done = make_scenario("sequential_offloading", device_queue_tasks_max=2000).config, list[float]()

    def of(gain: float) -> float:
        if gain == 0.0:
            raise KeyboardInterrupt
        for price in np.linspace(1.0, 9.0, 600):
            done.append(device_bound(config, gain, price, 1.0, None, COARSE).cost)
        return done[-1]

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        _of_each(of, [0.0, 1e8])
    end = time.monotonic() + 60.0
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.05)
    assert len(done) < 600
    assert set(threading.enumerate()) <= before
