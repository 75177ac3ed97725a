"""A backlog that grows when the run ends is told from one that only wanders."""

from __future__ import annotations

import numpy as np
import pytest

from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario
from edgemarl.marl.evaluation.growth import growth_of
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout
from edgemarl.marl.evaluation.table import compare_controllers

SLOTS = 400


def quarters(series: np.ndarray) -> np.ndarray:
    """(1, B) growth per slot of series (L, B)."""
    quarter = len(series) // 4
    return (series[-quarter:].mean(axis=0) - series[-2 * quarter : -quarter].mean(axis=0))[None] / quarter


def queues(rng: np.random.Generator, arrivals: float, cells: int, slots: int = SLOTS) -> np.ndarray:
    """(slots, cells) lengths of queues that serve one task per slot, Poisson arrivals, empty at first."""
    lengths, queue = np.empty((slots, cells)), np.zeros(cells)
    for t in range(slots):
        queue = np.maximum(queue + rng.poisson(arrivals, cells) - 1.0, 0.0)
        lengths[t] = queue
    return lengths


def test_a_stable_queue_gives_no_alarm_and_an_overloaded_one_does() -> None:
    """M/D/1 below and above capacity; what it grows by is the surplus of arrivals."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stable = queues(rng, 0.8, 10)
        assert not growth_of("q", quarters(stable), stable.mean(axis=0)[None], SLOTS).not_stationary
        over = queues(rng, 1.3, 20)
        found = growth_of("q", quarters(over), over.mean(axis=0)[None], SLOTS)
        assert found.not_stationary
        assert found.per_slot == pytest.approx(0.3, abs=0.06)


def test_the_p_value_is_one() -> None:
    """Under a stationary law it is uniform: as many below each level as the level says."""
    rng = np.random.default_rng(3)
    found = [growth_of("q", rng.normal(size=(1, 6)), np.ones((1, 6)), SLOTS).p_value for _ in range(4000)]
    for level in (0.05, 0.5, 0.9):
        assert np.mean(np.array(found) < level) == pytest.approx(level, abs=0.03)


def test_growth_must_be_clear_and_matter() -> None:
    steady = np.full((1, 5), 0.001) + np.linspace(0, 1e-5, 5)
    assert not growth_of("q", steady, np.full((1, 5), 100.0), SLOTS).not_stationary  # 0.2% of the backlog
    assert growth_of("q", steady, np.full((1, 5), 1.0), SLOTS).not_stationary
    assert not growth_of("q", -steady, np.full((1, 5), 1.0), SLOTS).not_stationary
    alone = growth_of("q", steady[:, :1], np.ones((1, 1)), SLOTS)
    assert np.isnan(alone.p_value) and not alone.not_stationary
    assert growth_of("q", np.ones((2, 3)), np.ones((2, 3)), SLOTS).not_stationary  # every network alike


def test_a_rollout_measures_the_growth_whatever_the_chunks() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=3)
    source = SampledTraces(scenario, 1, 5, 47)
    found = [
        rollout(
            make_policy(scenario, "local"), scenario, source, np.random.default_rng(0),
            record=["device_queue_tasks"], chunk_cells=chunk,
        )
        for chunk in (2, 64)
    ]  # fmt: skip
    for result in found:
        assert result.growth["device_queue_tasks"] == pytest.approx(quarters(result.records["device_queue_tasks"])[0])
    short = rollout(
        make_policy(scenario, "local"), scenario, SampledTraces(scenario, 1, 2, 12), np.random.default_rng(0)
    )
    assert short.growth == {}


def test_an_overloaded_network_is_said_to_be_so() -> None:
    """A server of a twentieth of the rate takes less than `random` sends; its queue has room for the whole run."""
    scenario = make_scenario("sequential_offloading", server_cpu_hz_max=4e9)
    table = compare_controllers(scenario, ["random", "local"], networks=5, slots=120)
    alarms = {row.controller: [g.backlog for g in row.growth if g.not_stationary] for row in table.rows}
    assert alarms == {"random": ["queue of the server [task]"], "local": []}
    usual = compare_controllers("sequential_offloading", ["random", "even"], networks=5, slots=120)
    assert not any(growth.not_stationary for row in usual.rows for growth in row.growth)
