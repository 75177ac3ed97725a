"""Rollouts: same numbers as stepping by hand, whatever the chunks; warm-up, windows, discounted sums."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.marl.evaluation.rollout import SampledTraces, decision_latency_s, rollout
from tests.policies import Central, constant_team, noisy_team

SCENARIO = make_scenario("sequential_offloading", num_devices=3)
TRACE = SCENARIO.sample_trace(np.random.default_rng(5), cells=5, slots=12)


def costs_by_hand(action: float) -> np.ndarray:
    """(L, B) costs of the constant policy, stepped without the rollout."""
    team, state, costs = constant_team(SCENARIO, action), SCENARIO.initial_state(TRACE), []
    team.reset(SCENARIO, TRACE)
    for t in range(TRACE.slots):
        exogenous = SCENARIO.exogenous(TRACE, t)
        step = SCENARIO.step(state, team.decide(state, exogenous, np.random.default_rng(0)), exogenous)
        costs.append(step.metrics["cost"])
        state = step.state
    return np.array(costs)


@pytest.mark.parametrize("chunk_cells", [1, 2, 64])
def test_a_rollout_equals_stepping_by_hand_in_chunks_of_any_size(chunk_cells: int) -> None:
    costs = costs_by_hand(0.7)
    found = rollout(
        constant_team(SCENARIO, 0.7), SCENARIO, TRACE, np.random.default_rng(0), warmup=4, window_slots=5, discount=0.9,
        record=["cost", "delay_s"], chunk_cells=chunk_cells,
    )  # fmt: skip
    np.testing.assert_allclose(found.means["cost"], costs[4:].mean(axis=0), rtol=1e-12)
    windows = np.stack([costs[:5].mean(0), costs[5:10].mean(0), costs[10:].mean(0)], axis=1)
    np.testing.assert_allclose(found.windows["cost"], windows, rtol=1e-12)
    assert found.discounted_cost is not None
    np.testing.assert_allclose(found.discounted_cost, 0.9 ** np.arange(12) @ costs, rtol=1e-12)
    # metrics are a matrix product over all cells, whose order of addition depends on their number
    np.testing.assert_allclose(found.records["cost"], costs, rtol=1e-12)
    assert found.records["delay_s"].shape == (12, 5)


def test_sampled_traces_are_the_same_for_every_policy_and_chunk_size() -> None:
    seed = np.random.SeedSequence([3, 1])
    source = SampledTraces(SCENARIO, seed, cells=5, slots=4)
    whole = next(source.chunks(8))
    pieces = list(source.chunks(2))
    assert [piece.cells for piece in pieces] == [2, 2, 1]
    joined = np.concatenate([piece.channel_gain_per_w for piece in pieces], axis=1)
    np.testing.assert_array_equal(joined, whole.channel_gain_per_w)
    other = next(SampledTraces(SCENARIO, np.random.SeedSequence([4, 1]), 5, 4).chunks(8))
    assert (other.channel_gain_per_w != whole.channel_gain_per_w).all()


def test_a_policy_s_randomness_is_its_own() -> None:
    first, again, other = (
        rollout(noisy_team(SCENARIO), SCENARIO, TRACE, np.random.default_rng(seed)).means["cost"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_information_messages_and_times_are_reported() -> None:
    start = time.perf_counter()
    found = rollout(Central(), SCENARIO, TRACE, np.random.default_rng(0))
    took_s = time.perf_counter() - start
    assert (found.policy, found.information, found.message_bytes) == ("central", "global", 5.0)
    assert found.decide_s > 0 and found.step_s > 0
    assert TRACE.slots * TRACE.cells * (found.decide_s + found.step_s) <= took_s  # both are of a slot of a cell
    start = time.perf_counter()
    latency_s = decision_latency_s(Central(), SCENARIO, TRACE, np.random.default_rng(0))
    assert 0 < latency_s <= time.perf_counter() - start


def test_progress_counts_every_cell_slot() -> None:
    told: list[int] = []
    rollout(
        constant_team(SCENARIO, 1.0), SCENARIO, TRACE, np.random.default_rng(0), chunk_cells=2, progress=told.append
    )
    assert sum(told) == 12 * 5


def test_memory_is_that_of_one_chunk_of_traces() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=50)
    source = SampledTraces(scenario, 0, cells=48, slots=100)
    chunk_bytes = sum(values.nbytes for values in vars(next(source.chunks(8))).values())
    tracemalloc.start()
    rollout(constant_team(scenario, 1.0), scenario, source, np.random.default_rng(0), chunk_cells=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * chunk_bytes  # the whole trace is 6 chunks; one cell of the next chunk is drawn beside it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 12}, "warmup = 12"),
        ({"warmup": -1}, "warmup = -1"),
        ({"window_slots": 0}, "window_slots = 0"),
        ({"chunk_cells": 0}, "chunk_cells = 0"),
        ({"record": ["costs"]}, "unknown metric 'costs'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rollout(constant_team(SCENARIO, 1.0), SCENARIO, TRACE, np.random.default_rng(0), **arguments)  # type: ignore[arg-type]


def test_no_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="cells = 0"):
        SampledTraces(SCENARIO, 0, cells=0, slots=3)
