"""Learners and references of `sequential_offloading` against brute force, numeric gradients and known results."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

from edgemarl.agents.api import Team
from edgemarl.agents.registry import make_policy
from edgemarl.agents.sequential_offloading.model import OffloadingRows, read_device_rows, work_set
from edgemarl.agents.sequential_offloading.paper_gradient import (
    PaperGradientDevice,
    bellman_residual,
    printed_gradients,
)
from edgemarl.agents.sequential_offloading.q_device import DEVICE_GRID, ParametricQDevice
from edgemarl.agents.sequential_offloading.q_server import SERVER_GRID, ParametricQServer
from edgemarl.agents.sequential_offloading.value_iteration import (
    DeviceValues,
    ServerValues,
    arrival_distribution,
    fading_bins,
    value_iteration_roles,
)
from edgemarl.agents.sequential_offloading.values import ValueFunction, sigmoid
from edgemarl.envs import make_scenario
from edgemarl.envs.scenarios.sequential_offloading import (
    SequentialOffloadingDecisions,
    SequentialOffloadingExogenous,
    SequentialOffloadingState,
)
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.studies.price_of_decentralization import CoupledProblem, price_of_decentralization

LOAD_TASKS, BACKLOG_TASKS = 68.0, 150.0
KINDS = ("grid", "binary", "even", "local")


@cache
def one_device(**overrides: Any) -> Any:
    return make_scenario("sequential_offloading", num_devices=1, **overrides)


def step_choices(scenario: Any, queue_tasks: float, gain: float, works: np.ndarray) -> tuple[np.ndarray, ...]:
    """The scenario's own step for many choices at once: cost without queueing, kept tasks, residual tasks, outage."""
    w, n, c = scenario.config.task_cycles, len(works), scenario.config
    state = SequentialOffloadingState(
        np.full((n, 1), queue_tasks * w), np.zeros(n), np.zeros(n), np.zeros((n, 1, c.slots_per_block), np.uint8)
    )
    exogenous = SequentialOffloadingExogenous(
        np.full((n, 1), gain), np.zeros((n, 1, c.slots_per_block), np.uint8), np.ones((n, 1))
    )
    step = scenario.step(state, SequentialOffloadingDecisions(works[:, None] * w, np.zeros(n)), exogenous)
    cost = step.costs["device"][:, 0] - c.device_queue_weight * queue_tasks * w
    kept = step.state.device_queue_cycles[:, 0] / w
    return cost, kept, step.details["residual_cycles"][:, 0] / w, step.details["outage"][:, 0]


def brute_force_minimum(
    scenario: Any, kind: str, queue_tasks: float, gain: float, price: float, value: Any
) -> tuple[float, dict[float, float]]:
    """Smallest stage cost + gamma value over the choices of a scheme, and the total of each choice."""
    limit = scenario.config.device_work_cycles_max / scenario.config.task_cycles
    whole = [float(m) for m in range(4)]
    works = {
        "grid": [*(i / 10 for i in range(31)), *(m + 1e-3 for m in whole), queue_tasks],
        "binary": [*whole, *(m + 1e-3 for m in whole)],
        "even": [*whole, *(m + 0.5 for m in whole)],
        "local": whole,
    }[kind]
    possible = np.array(sorted({x for x in works if x <= min(limit, queue_tasks) + 1e-9}))
    cost, kept, residual, outage = step_choices(scenario, queue_tasks, gain, possible)
    total = cost + price * residual + scenario.config.discount * value(kept)
    if kind != "grid":
        total = np.where(outage & (possible > 0.0), np.inf, total)
    return float(total.min()), dict(zip(possible, total, strict=True))


def piecewise_linear(grid: np.ndarray, values: np.ndarray) -> Any:
    slope = max(values[-1] - values[-2], 0.0) / (grid[-1] - grid[-2])
    return lambda y: np.interp(y, grid, values) + slope * np.maximum(np.asarray(y) - grid[-1], 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leaves", [True, False])
def test_learner_targets_and_decisions_equal_brute_force(kind: str, leaves: bool) -> None:
    """On the scenario's own step: every target of an update, and the choice made, for weak and strong channels."""
    scenario = one_device(residual_leaves_device=leaves)
    learner = ParametricQDevice(kind)
    learner.reset(scenario, cells=5)
    rng = np.random.default_rng(8)
    learner.values = np.cumsum(rng.uniform(0.0, 8.0, learner.values.shape), axis=0).astype(np.float32)
    gain, arrived = np.array([20.0, 300.0, 900.0, 2500.0, 4e4]), np.array([0, 5, 2, 1, 3])
    price = np.array([0.0, 2.0, 0.0, 1.0, 3.0])
    targets = learner._targets(learner.values, arrived, gain, price)
    for k in range(5):
        value = piecewise_linear(DEVICE_GRID, learner.values[:, k].astype(float))
        for j, y in enumerate(DEVICE_GRID):
            best, _ = brute_force_minimum(scenario, kind, y + arrived[k], gain[k], price[k], value)
            assert targets[j, k] == pytest.approx(best + y + arrived[k], rel=2e-6)
    for queue in (0.0, 0.4, 1.0, 2.5, 3.0, 7.0, 12.3):
        chosen = learner.decide(OffloadingRows(np.full(5, queue), gain, arrived, price))
        for k in range(5):
            value = piecewise_linear(DEVICE_GRID, learner.values[:, k].astype(float))
            best, totals = brute_force_minimum(scenario, kind, queue, gain[k], price[k], value)
            played = min(totals, key=lambda x: abs(x - min(chosen[k], queue)))
            assert abs(played - min(chosen[k], queue)) < 1e-9
            assert totals[played] == pytest.approx(best, abs=1e-4)


def test_server_targets_equal_brute_force() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=30, server_cpu_hz_max=8e9)
    server = ParametricQServer()
    server.reset(scenario, cells=1)
    server.values = np.cumsum(np.random.default_rng(3).uniform(0, 60, server.values.shape), axis=0)
    value, c = piecewise_linear(SERVER_GRID, server.values[:, 0]), scenario.config
    targets = server._targets(np.array([7.3]), server.function.table(server.values))[:, 0]
    for target, y in zip(targets, SERVER_GRID, strict=True):
        queue = 30 * y + 7.3
        totals = []
        for part in range(51):
            served = part / 50 * min(queue, c.block_s * c.server_cpu_hz_max / c.task_cycles)
            energy = c.server_capacitance * (served * c.task_cycles) ** 3 / c.block_s**2
            totals.append(c.server_energy_weight * energy + c.discount * value((queue - served) / 30))
        assert target == pytest.approx(c.server_queue_weight * c.task_cycles * queue + min(totals), rel=1e-9)


@pytest.mark.parametrize(("kind", "price"), [("grid", 0.0), ("grid", 2.5), ("binary", 0.0)])
def test_value_iteration_satisfies_bellmans_equation_by_brute_force(kind: str, price: float) -> None:
    """On the scenario's own step, at queues with and without fractions, in a strong and a weak channel."""
    scenario, c = one_device(), one_device().config
    mean_gain = np.array([10**3.4, 10**1.8])
    values = DeviceValues(scenario, mean_gain, np.full(2, price), kind, bins=3).values
    grid = np.arange(310) / 10.0
    for k in range(2):
        flat = values[:, :, k].T.ravel()
        value = piecewise_linear(grid, flat)
        after = _expected_after_arrivals(value, arrival_distribution(c))
        for queue in (0.0, 0.3, 1.0, 2.7, 4.0, 11.5):
            gains = fading_bins(3) * mean_gain[k]
            best = [brute_force_minimum(scenario, kind, queue, h, price, after)[0] for h in gains]
            assert flat[round(queue * 10)] == pytest.approx(queue + np.mean(best), rel=5e-6)


def _expected_after_arrivals(value: Any, probability: np.ndarray) -> Any:
    return lambda y: sum(p * value(np.asarray(y) + a) for a, p in enumerate(probability))


def test_server_value_iteration_against_policies_by_brute_force() -> None:
    """Under a constant load the optimum costs what it promises, and less than serving any fixed share."""
    scenario = make_scenario("sequential_offloading", num_devices=100)
    load = np.full((50, 1), LOAD_TASKS)
    solved, c = ServerValues(scenario.config, load), scenario.config
    promised = float(solved.at(np.full((1, 1), BACKLOG_TASKS))[0, 0])  # before the first offload
    costs = {}
    for share in (0.3, 0.5, 0.7, 0.9, 1.0):
        costs[share] = _discounted_server_cost(c, lambda s, share=share: share * np.minimum(s, 100.0))
    optimum = _discounted_server_cost(c, lambda s: solved.greedy(s[:1])[0] + 0.0 * s)
    assert optimum == pytest.approx(promised, rel=3e-4)
    assert optimum < 0.999 * min(costs.values())


def _discounted_server_cost(c: Any, serve: Any) -> float:
    """Cost of a constant load, block by block."""
    queue, total, weight = np.full(1, BACKLOG_TASKS), 0.0, 1.0
    for _ in range(400):
        queue = queue + LOAD_TASKS
        served = serve(queue)
        energy = c.server_capacitance * (served[0] * c.task_cycles) ** 3 / c.block_s**2
        total += weight * (c.server_queue_weight * c.task_cycles * queue[0] + c.server_energy_weight * energy)
        queue, weight = queue - served, weight * c.discount
    return total


def test_paper_gradients_against_numeric_ones() -> None:
    """Equation (27) is the derivative of delta^2/2; the sum in (26) has the reversed sign, as printed (E10)."""
    rng, n, m, gamma, slope = np.random.default_rng(2), 3, 30, 0.95, 1.5
    theta, mu = rng.normal(size=(n, m)), rng.normal(size=(n, m, 4))
    decision, rows = rng.uniform(0.2, 0.8, n), rng.uniform(0, 1, (2, n, 3))

    def parts(theta: np.ndarray, decision: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        now, then = (
            sigmoid(np.einsum("nmd,nd->nm", mu, np.concatenate([decision[:, None], row], axis=1))) for row in rows
        )
        cost = 2.0 + slope * decision
        return bellman_residual(theta, cost, now, then, gamma), now, then

    def loss(theta: np.ndarray, decision: np.ndarray) -> np.ndarray:
        return 0.5 * parts(theta, decision)[0] ** 2

    delta, now, then = parts(theta, decision)
    found_decision, found_theta = printed_gradients(theta, delta, now, then, mu[:, :, 0], np.full(n, slope), gamma)
    step = 1e-6
    for i in range(m):
        shift = np.zeros((n, m))
        shift[:, i] = step
        numeric = (loss(theta + shift, decision) - loss(theta - shift, decision)) / (2 * step)
        np.testing.assert_allclose(found_theta[:, i], numeric, rtol=1e-5, atol=1e-7)
    numeric = (loss(theta, decision + step) - loss(theta, decision - step)) / (2 * step)
    np.testing.assert_allclose(2.0 * delta * slope - found_decision, numeric, rtol=1e-5)


def test_paper_gradient_moves_as_its_gradients_say_and_can_be_frozen() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=2)
    trace = scenario.sample_trace(np.random.default_rng(1), 2, 6)
    frozen, moving = PaperGradientDevice(frozen=True), PaperGradientDevice()
    for device in (frozen, moving):
        team = Team("paper", {"device": device, "server": ParametricQServer()})
        rollout(team, scenario, trace, np.random.default_rng(0))
    assert (frozen.decision == 0.5).all() and not frozen.theta.any()
    assert (moving.decision != 0.5).any() and moving.theta.any()
    assert ((moving.decision >= 0.0) & (moving.decision <= 1.0)).all()


@pytest.mark.parametrize("features", ["hat", "sigmoid"])
def test_value_function_is_the_one_its_grid_values_say(features: str) -> None:
    function = ValueFunction(DEVICE_GRID, 0.1, features, 1e-2, np.float64)
    values = np.stack([6.0 * DEVICE_GRID, DEVICE_GRID**1.5], axis=1)
    points = np.array([[0.0, 0.25, 3.3, 7.5, 19.0, 20.0, 26.0], [1.0, 2.2, 4.0, 5.1, 8.0, 12.7, 33.0]])
    found = function.table(values).at(points)
    exact = np.stack([piecewise_linear(DEVICE_GRID, v)(p) for p, v in zip(points, values.T, strict=True)])
    tolerance = {"hat": {"rtol": 1e-12, "atol": 1e-12}, "sigmoid": {"rtol": 0.03, "atol": 0.6}}[features]
    np.testing.assert_allclose(found, exact, **tolerance)


def test_rows_give_back_queue_gain_arrivals_and_price() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=4)
    rng = np.random.default_rng(6)
    queue = np.array([[0.0, 33.0, 0.4, 39.999]])
    gain = 10.0 ** rng.uniform(-1, 6, (1, 4))
    arrivals = rng.integers(0, 2, (1, 4, 5)).astype(np.uint8)
    state = SequentialOffloadingState(queue * scenario.config.task_cycles, np.zeros(1), np.zeros(1), arrivals)
    rows = scenario.observe(state, SequentialOffloadingExogenous(gain, arrivals, gain))["device"]
    found = read_device_rows(scenario.config, np.append(rows, np.full((1, 4, 1), 0.13), axis=2), priced=True)
    np.testing.assert_allclose(found.queue_tasks, queue[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.gain_per_w, gain[0], rtol=1e-5)
    np.testing.assert_array_equal(found.arrived_tasks, arrivals[0].sum(axis=1))
    np.testing.assert_allclose(found.price, 1.3, rtol=1e-6)


@pytest.mark.parametrize(("num_devices", "decentralized", "priced"), [(20.0, 0.0081, 0.0005), (100.0, 0.175, 0.015)])
def test_price_of_decentralization(num_devices: float, decentralized: float, priced: float) -> None:
    """The decomposition is not optimal, and one price removes nearly all of the gap."""
    found = price_of_decentralization(one_device().config, 34.0, num_devices)
    assert found["coupled"] == pytest.approx({20.0: 114.44, 100.0: 136.15}[num_devices], rel=2e-3)
    assert found["decentralized_excess"] == pytest.approx(decentralized, abs=0.002)
    assert found["priced_excess"] == pytest.approx(priced, abs=0.001)
    assert found["priced_excess"] > -1e-6  # the coupled optimum is a lower bound


def test_the_price_of_an_idle_server_is_one_block_of_waiting() -> None:
    """lambda >= gamma w1 W, with equality if everything is served at once: offline and learned."""
    assert CoupledProblem(one_device().config).priced_fixed_point() == pytest.approx(0.95, abs=0.01)
    scenario = make_scenario("sequential_offloading", num_devices=4)
    server = ParametricQServer(priced=True)
    team = Team("priced", {"device": ParametricQDevice(priced=True), "server": server})
    rollout(team, scenario, scenario.sample_trace(np.random.default_rng(9), 2, 250), np.random.default_rng(0))
    assert ((server.price > 0.94) & (server.price < 1.02)).all()
    assert team.message_bytes() == 4.0


def test_value_iteration_costs_less_than_random_play() -> None:
    """On five fresh cells, and with the shares of cost that the optimum has at K = 20."""
    scenario = make_scenario("sequential_offloading")
    trace = scenario.sample_trace(np.random.default_rng(314), 5, 160)
    means = {n: rollout(make_policy(scenario, n), scenario, trace, np.random.default_rng(0), warmup=50).means
             for n in ("vi", "random")}  # fmt: skip
    assert (means["vi"]["cost"] < 0.85 * means["random"]["cost"]).all()
    per_device = {name: float(values.mean()) / 20.0 for name, values in means["vi"].items()}
    c = scenario.config
    shares = {
        "queue": float(means["vi"]["device_queue_tasks"].mean()),
        "local": c.device_energy_weight * per_device["local_energy_j"],
        "transmit": c.device_energy_weight * per_device["transmit_energy_j"],
        "server queue": per_device["server_queue_tasks"],
        "server energy": c.server_energy_weight * per_device["server_energy_j"],
        "offloaded": per_device["offloaded_cycles"] / c.task_cycles,
    }
    known = {"queue": 2.92, "local": 2.68, "transmit": 0.44, "server queue": 0.68, "server energy": 0.07,
             "offloaded": 0.68}  # fmt: skip
    for name, value in known.items():
        assert shares[name] == pytest.approx(value, rel=0.15), name


@pytest.mark.parametrize("switch", [{"residual_leaves_device": False}, {"idle_energy_charged": True},
                                    {"arrival_lookahead": True}, {"server_observation": "full"},
                                    {"server_observation": "own"}, {"slots_per_block": 2},
                                    {"device_cpu_hz_max": 2.7e9}])  # fmt: skip
def test_learners_and_references_play_every_variant(switch: dict[str, Any]) -> None:
    """A learner stays near the optimum of the variant, whose values it does not know."""
    scenario = make_scenario("sequential_offloading", num_devices=3, arrival_probability=0.3, **switch)
    trace = scenario.sample_trace(np.random.default_rng(21), 3, 150)
    device, server = value_iteration_roles()
    cost = {
        policy.name: rollout(policy, scenario, trace, np.random.default_rng(0), warmup=50).means["cost"].mean()
        for policy in (Team("vi", {"device": device, "server": server}), make_policy(scenario, "parametric_q"))
    }
    assert cost["parametric_q"] == pytest.approx(cost["vi"], rel=0.05)


def test_choices_are_checked() -> None:
    config = one_device().config
    with pytest.raises(ValueError, match="did you mean 'binary'"):
        work_set(config, "binery")
    for fraction, kind in itertools.product((0.0, 1.0, -0.5), KINDS):
        with pytest.raises(ValueError, match="even_fraction"):
            work_set(config, kind, fraction)
    assert work_set(config, "even", 0.7).work_tasks == pytest.approx([0, 1, 2, 3, 0.3, 1.3, 2.3])


def test_a_state_of_another_network_is_refused() -> None:
    small, large = make_scenario("sequential_offloading", num_devices=2), make_scenario("sequential_offloading")
    one, other = ParametricQDevice(), ParametricQDevice()
    one.reset(small, 1)
    other.reset(large, 1)
    with pytest.raises(ValueError, match="'values' has shape"):
        other.load_state_dict(one.state_dict())
