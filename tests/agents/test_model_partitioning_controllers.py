"""Controllers of `model_partitioning`: exactness of the references, locality of the rules, calibrated results."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from edgemarl.agents.api import Team
from edgemarl.agents.model_partitioning.reference import (
    CutProblem,
    best_of,
    dual_bound,
    many_starts,
    slot_optimum,
    two_starts,
    undominated,
)
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
)
from edgemarl.envs.scenarios.model_partitioning.priced import priced_cuts
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.studies.same_state_excess import same_state_excess

RULES = [name for name, entry in playbook_of("model_partitioning").controllers.items() if entry.kind == "baseline"]


def scenario(**fields: Any) -> ModelPartitioning:
    made = make_scenario("model_partitioning", **fields)
    assert isinstance(made, ModelPartitioning)
    return made


def numbered_traces(made: ModelPartitioning, cells: int = 5, slots: int = 200) -> Any:
    """Cell k is drawn from generator k itself, as the calibrated values were."""
    parts = [made.sample_cell(np.random.default_rng(k), slots) for k in range(cells)]
    return made.trace_type(**{name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]})


def random_problem(made: ModelPartitioning, rng: np.random.Generator, cells: int) -> tuple[CutProblem, Any, Any]:
    n = made.config.num_devices
    state = dataclasses.replace(
        made.initial_state(made.sample_trace(rng, cells, 1)),
        energy_queue=rng.exponential(25, (cells, n)) * (rng.random((cells, n)) < 0.7),
        memory_queue=rng.exponential(3, (cells, n)) * (rng.random((cells, n)) < 0.5),
    )
    exogenous = ModelPartitioningExogenous(
        made.mean_gain * rng.exponential(1, (cells, n)), rng.uniform(0, 5, (cells, n))
    )
    return CutProblem.of(made, state, exogenous), state, exogenous


def all_vectors(made: ModelPartitioning) -> np.ndarray:
    return np.array(list(itertools.product(*[range(layers + 1) for layers in made.layers])))


def tiny_networks(rng: np.random.Generator) -> dict[str, Any]:
    """Random networks of 1 to 5 layers whose cuts really compete."""
    networks = {}
    for name in ("a", "b", "c"):
        layers = int(rng.integers(1, 6))
        networks[name] = {
            "input_elements": float(rng.integers(1_000, 200_000)),
            "macs": rng.integers(0, 400_000_000, layers).tolist()[:-1] + [100_000_000],
            "parameters": rng.integers(0, 20_000_000, layers).tolist(),
            "output_elements": rng.integers(100, 150_000, layers).tolist(),
            "energy_budget_j": 0.05,
            "memory_budget_bytes": 30e6,
        }
    return networks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_slot_optimal_equals_enumeration_on_random_networks(seed: int, result_is_sent: bool) -> None:
    rng = np.random.default_rng(seed)
    made = scenario(
        num_devices=int(rng.integers(1, 5)), model_pattern="a,b,c", profiles=tiny_networks(rng),
        transmit_result_when_local=result_is_sent, bandwidth_hz=10 ** rng.uniform(5.5, 8),
        edge_cpu_hz=10 ** rng.uniform(9, 11),
    )  # fmt: skip
    problem, _, _ = random_problem(made, rng, 2)
    cut, cost = slot_optimum(problem)
    vectors = all_vectors(made)
    for b in range(2):
        values = problem.value(np.full(len(vectors), b), vectors)
        assert cost[b] == pytest.approx(values.min(), rel=1e-11)
        np.testing.assert_allclose(problem.value(np.array([b]), cut[b : b + 1]), cost[b], rtol=1e-12)


@pytest.mark.parametrize("bits", [(32, 16), (32, 32), (8, 32)])
def test_slot_optimal_equals_enumeration_of_five_devices(bits: tuple[int, int]) -> None:
    """All 107 811 cut vectors of the paper's cell."""
    made = scenario(input_bits_per_element=bits[0], feature_bits_per_element=bits[1])
    problem, _, _ = random_problem(made, np.random.default_rng(bits[0] + bits[1]), 2)
    cut, cost = slot_optimum(problem)
    vectors = all_vectors(made)
    assert len(vectors) == 107_811
    for b in range(2):
        values = problem.value(np.full(len(vectors), b), vectors)
        assert cost[b] == pytest.approx(values.min(), rel=1e-12)
        np.testing.assert_array_equal(cut[b], vectors[values.argmin()])


def test_the_references_value_is_the_steps_objective() -> None:
    for fields in ({}, {"transmit_result_when_local": True}, {"num_devices": 12}):
        made = scenario(**fields)
        problem, state, exogenous = random_problem(made, np.random.default_rng(0), 6)
        cut = np.random.default_rng(1).integers(0, made.layers + 1, (6, made.config.num_devices))
        step = made.step(state, ModelPartitioningDecisions(cut), exogenous)
        np.testing.assert_allclose(problem.value(np.arange(6), cut), step.metrics["objective"], rtol=1e-11)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_the_references(seed: int) -> None:
    """Property 11, with the dual's bound below all of them."""
    problem, _, _ = random_problem(scenario(), np.random.default_rng(seed), 4)
    cell = np.arange(4)
    fixed = np.minimum(*(problem.value(cell, start) for start in two_starts(problem)))
    coordinate = best_of(problem, two_starts(problem))[1]
    many = best_of(problem, many_starts(problem))[1]
    exact = slot_optimum(problem)[1]
    bound = dual_bound(problem)[0]
    for lower, upper in itertools.pairwise([bound, exact, many, coordinate, fixed]):
        assert (lower <= upper * (1 + 1e-9)).all()


def test_no_single_change_improves_a_coordinate_descent() -> None:
    made = scenario(num_devices=8, bandwidth_hz=8e6, edge_cpu_hz=24e9)
    problem, _, _ = random_problem(made, np.random.default_rng(3), 2)
    cut, cost = best_of(problem, two_starts(problem))
    for b, device in itertools.product(range(2), range(8)):
        trial = np.repeat(cut[b : b + 1], made.layers[device] + 1, axis=0)
        trial[:, device] = np.arange(made.layers[device] + 1)
        assert (problem.value(np.full(len(trial), b), trial) >= cost[b] * (1 - 1e-9)).all()


def test_price_greedy_minimises_its_priced_cost() -> None:
    """Both inner minima against a bounded scalar minimiser."""
    made = scenario()
    _, state, exogenous = random_problem(made, np.random.default_rng(5), 1)
    snr = made.full_band_snr(exogenous)
    terms = made.cut_terms(state.energy_queue, state.memory_queue, exogenous.arrival_rate_hz, snr)
    cost, _, _ = priced_cuts(terms, (np.asarray(1.3), np.asarray(0.4)), made.config.bandwidth_hz)
    for device, cut in itertools.product(range(5), (0, 1, 4, 6)):
        c, s, load = terms.weight[0, device, cut], terms.snr[0, device], terms.load[0, device, cut]

        def air(alpha: float, c: float = c, s: float = s) -> float:
            return float(c / (alpha * 5e6 * np.log2(1 + s / alpha)) + 1.3 * alpha)

        def edge(x: float, load: float = load) -> float:
            return float(load / x + 0.4 * x)

        least = sum(
            minimize_scalar(f, bounds=(1e-9, 1.0), method="bounded", options={"xatol": 1e-12}).fun for f in (air, edge)
        )
        assert cost[0, device, cut] == pytest.approx(terms.own_cost[0, device, cut] + least, rel=1e-7)


@pytest.mark.parametrize("name", ["local", "edge", "equal_share_greedy", "crowd_greedy", "price_greedy"])
def test_a_devices_cut_depends_on_its_own_row(name: str) -> None:
    made = scenario(num_devices=7)
    trace = made.sample_trace(np.random.default_rng(0), 3, 5)
    team = make_policy(made, name)
    assert isinstance(team, Team) and team.information == "local"
    team.reset(made, trace)
    _, state, exogenous = random_problem(made, np.random.default_rng(1), 3)
    rows, rng = made.observe(state, exogenous), np.random.default_rng(2)
    before = team.combine(rows, state, exogenous, rng).partition_layer
    for device in range(7):
        others = rows["device"].copy()
        mask = np.arange(7) != device
        others[:, mask] = rng.uniform(0, 1, others[:, mask].shape)
        after = team.combine({**rows, "device": others}, state, exogenous, rng).partition_layer
        np.testing.assert_array_equal(after[:, device], before[:, device])


def test_rows_give_back_the_state_that_rules_need() -> None:
    made = scenario()
    team = make_policy(made, "price_greedy")
    team.reset(made, made.sample_trace(np.random.default_rng(0), 3, 1))
    problem, state, exogenous = random_problem(made, np.random.default_rng(4), 3)
    assert isinstance(team, Team)
    device: Any = team.controllers["device"]
    q, w, rate, snr = device.own_state(made.observe(state, exogenous)["device"])
    for got, want in ((q, state.energy_queue), (w, state.memory_queue), (rate, exogenous.arrival_rate_hz),
                      (snr, problem.terms.snr)):  # fmt: skip
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-6)


# mean objective, delay in s, energy queue of the ResNet18 devices; 200 slots at 2.5 requests/s on five numbered traces
CALIBRATED = {
    "local": (21.544, 0.2258, 52.16),
    "edge": (967.226, 0.7190, 1048.74),
    "equal_share_greedy": (14.487, 0.1713, 28.83),
    "price_greedy": (13.625, 0.1619, 26.76),
    "crowd_greedy": (13.712, 0.1717, 24.64),
    "slot_optimal": (12.216, 0.1492, 22.70),
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibrated_results(name: str) -> None:
    made = scenario(mean_arrival_rate_hz=2.5)
    trace = numbered_traces(made)
    found = rollout(make_policy(made, name), made, trace, np.random.default_rng(0)).means
    objective, delay, queue = CALIBRATED[name]
    assert found["objective"].mean() == pytest.approx(objective, rel=1e-3)
    assert found["mean_delay_s"].mean() == pytest.approx(delay, abs=1.5e-4)
    assert found["mean_energy_queue_resnet18"].mean() == pytest.approx(queue, rel=1e-3)


def test_random_cuts_are_the_same_whatever_the_load() -> None:
    cuts = []
    for load in (0.5, 2.5):
        made = scenario(mean_arrival_rate_hz=load)
        policy = make_policy(made, "random")
        trace = numbered_traces(made, 2, 20)
        policy.reset(made, trace)
        rng = np.random.default_rng(7)
        state = made.initial_state(trace)
        cuts.append([policy.decide(state, made.exogenous(trace, t), rng).partition_layer for t in range(20)])
    np.testing.assert_array_equal(*cuts)
    assert (np.unique(np.array(cuts[0])[..., 0]) == np.arange(9)).all() and np.max(cuts[0]) == 10


def test_prices_without_smoothing_make_devices_swing_together() -> None:
    """All devices see the same stale price: unsmoothed, they all leave and all come back."""
    swings = {}
    for smoothing in (0.05, 1.0):
        made = scenario(num_devices=40, bandwidth_hz=40e6, edge_cpu_hz=120e9, mean_arrival_rate_hz=2.5,
                        signal_smoothing=smoothing)  # fmt: skip
        played = rollout(
            make_policy(made, "price_greedy"), made, made.sample_trace(np.random.default_rng(0), 2, 60),
            np.random.default_rng(0), record=("offload_ratio",),
        )  # fmt: skip
        swings[smoothing] = np.abs(np.diff(played.records["offload_ratio"][20:], axis=0)).mean()
    assert swings[1.0] > 3 * swings[0.05]


@pytest.mark.parametrize("name", [*RULES, "slot_optimal"])
def test_every_controller_plays_under_every_rule(name: str) -> None:
    """Where a server or the devices set their own resources, rules and references still decide the cuts."""
    made = scenario(local_cpu_rule="action", bandwidth_rule="action", edge_cpu_rule="action")
    played = rollout(make_policy(made, name), made, made.sample_trace(np.random.default_rng(0), 2, 4),
                     np.random.default_rng(0))  # fmt: skip
    assert np.isfinite(played.means["objective"]).all()


def test_references_of_large_cells() -> None:
    made = scenario(num_devices=30, bandwidth_hz=30e6, edge_cpu_hz=90e9, mean_arrival_rate_hz=2.5)
    policy = make_policy(made, "slot_optimal")
    assert policy.name == "multi_start"
    problem, state, exogenous = random_problem(made, np.random.default_rng(0), 1)
    policy.reset(made, made.sample_trace(np.random.default_rng(0), 1, 1))
    cut = policy.decide(state, exogenous, np.random.default_rng(0)).partition_layer
    value, bound = problem.value(np.arange(1), cut), dual_bound(problem)[0]
    assert bound <= value and value <= 1.02 * bound


def test_smoothed_prices_stay_near_the_centralized_search_at_the_same_state() -> None:
    found = same_state_excess(scenario(mean_arrival_rate_hz=2.5).config, 16)
    assert 0 <= found["central_bound_excess"] < 0.005 and found["bound_excess"] < 0.06
    assert found["bound_excess"] == pytest.approx(
        (1 + found["excess"]) * (1 + found["central_bound_excess"]) - 1, abs=1e-3
    )
    unsmoothed = same_state_excess(scenario(mean_arrival_rate_hz=2.5, signal_smoothing=1.0).config, 16)
    assert unsmoothed["excess"] > 0.15 and unsmoothed["swing"] > 4 * found["swing"]
    assert found["bytes"] < 0.5 * found["central_bytes"] == 14 * 16


def growing_networks(rng: np.random.Generator) -> dict[str, Any]:
    """Networks whose feature maps grow, as a decoder's: the earlier cut sends less, the later one spares the server."""
    networks = {}
    for name in ("a", "b", "c"):
        layers = int(rng.integers(2, 5))
        sizes = np.sort(rng.integers(100, 20_000, layers)).tolist()
        networks[name] = {
            "input_elements": float(sizes[0] // 2 + 1), "macs": (10 ** rng.uniform(7, 9.5, layers)).tolist(),
            "parameters": [0] * layers, "output_elements": sizes, "energy_budget_j": 0.05, "memory_budget_bytes": 3e7,
        }  # fmt: skip
    return networks


@pytest.mark.parametrize("seed", [*range(20), 31, 71, 124, 128])
def test_a_dominated_cut_is_never_needed(seed: int) -> None:
    """Whatever the other devices do, some undominated cut is at least as good."""
    rng = np.random.default_rng(seed)
    made = scenario(
        num_devices=3, model_pattern="a,b,c", profiles=growing_networks(rng), bandwidth_hz=1e9,
        edge_cpu_hz=10 ** rng.uniform(9, 10.3),
    )  # fmt: skip
    problem, _, _ = random_problem(made, rng, 1)
    vectors = all_vectors(made)
    values = problem.value(np.zeros(len(vectors), int), vectors).reshape(made.layers + 1)
    for device in range(3):
        kept = undominated(problem)[0, device, : made.layers[device] + 1]
        best, best_kept = values.min(axis=device), values.compress(kept, axis=device).min(axis=device)
        np.testing.assert_allclose(best_kept, best, rtol=1e-11)
