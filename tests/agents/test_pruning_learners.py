"""Q-learners of `model_pruning`: recursive least squares, whose cost a gateway learns from, and what is learned."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_pruning.q_learner import PruningQDevice, PruningQGateway
from edgemarl.agents.model_pruning.q_planner import Bounds, best_plans
from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario
from edgemarl.marl.evaluation.rollout import rollout


def test_weights_are_those_of_ridge_regression_on_the_own_samples() -> None:
    rng = np.random.default_rng(0)
    model = LeastSquares((2, 3), 4, variance=2.0)
    features, targets = rng.standard_normal((2, 30, 4)), rng.standard_normal((2, 30))
    for t in range(30):
        model.update((np.array([0, 1]), np.array([2, 0])), features[:, t], targets[:, t])
    for row, pick in enumerate([(0, 2), (1, 0)]):
        x, y = features[row], targets[row]
        np.testing.assert_allclose(model.weights[pick], np.linalg.solve(x.T @ x + 0.5 * np.eye(4), x.T @ y), rtol=1e-8)
    assert not model.weights[0, :2].any() and not model.weights[1, 1:].any()


def test_a_gateway_hears_the_costs_of_its_own_devices() -> None:
    scenario = make_scenario("model_pruning", num_devices=7, num_gateways=3)
    device = PruningQDevice()
    device.reset(scenario, 2)
    rows = np.zeros((2, 7, scenario.roles["device"].observation_space.shape[0]), np.float32)
    assert not device.act(rows, np.random.default_rng(0)).messages["gateway"].any()
    device.feedback(np.arange(14.0).reshape(2, 7))
    told = device.act(rows, np.random.default_rng(0)).messages["gateway"][..., 0]
    np.testing.assert_allclose(told, [[0 + 1 + 2, 3 + 4, 5 + 6], [7 + 8 + 9, 10 + 11, 12 + 13]])


def test_a_gateway_learns_the_cost_of_its_cell_for_the_model_that_it_ran() -> None:
    scenario = make_scenario("model_pruning", num_devices=4, num_gateways=2)
    gateway = PruningQGateway(exploration=0.0, floor=0.0)
    gateway.reset(scenario, 1)
    rows = np.zeros((1, 2, scenario.roles["gateway"].observation_space.shape[0] + 1), np.float32)
    rows[..., 2] = 1.0  # all tasks of the lowest level
    gateway.act(rows, np.random.default_rng(0))
    gateway.feedback(np.array([[-0.5, -1.0]]))
    rows[..., -1] = [2.5, 5.0]
    gateway.act(rows, np.random.default_rng(0))
    np.testing.assert_allclose(gateway.model.weights[0, :, 0, 1], [2.0 / 2, 4.0 / 2])  # one sample against the prior
    assert not gateway.model.weights[0, :, 1:].any()


def test_devices_learn_to_serve_more_tasks_than_at_first() -> None:
    scenario = make_scenario("model_pruning", num_devices=40, num_gateways=2, gateway_broadcast="rank")
    policy, rng = make_policy(scenario, "parametric_q"), np.random.default_rng(1)
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 200)
    policy.reset(scenario, trace)
    state, dropped = scenario.initial_state(trace), []
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        step = scenario.step(state, policy.decide(state, exogenous, rng), exogenous)
        policy.feedback(step.costs)
        state = step.state
        dropped.append(step.metrics["drop_ratio"].mean())
    assert np.mean(dropped[-50:]) < 0.5 * np.mean(dropped[:10])


def test_a_plan_is_the_best_of_all_plans() -> None:
    """Against enumeration of models and numbers sent, with learned bounds and values drawn at random."""
    rng = np.random.default_rng(3)
    cases, k, models = 60, 3, 2
    tasks = rng.integers(0, 4, (cases, 1, k))
    places = np.sort(rng.integers(-1, 14, (cases, 1, k)))[..., ::-1]
    kept_most = np.sort(rng.integers(-1, 8, (cases, 1, models, k)))[..., ::-1]
    sent_value, kept_value = rng.uniform(0, 1, (cases, 1)), rng.uniform(0, 1, (cases, 1, models))
    model, sent = best_plans(tasks, places, kept_most, sent_value, kept_value, 0.7)

    def value(p: int, v: int, n: tuple[int, ...]) -> float:
        kept, total = int(tasks[p, 0].sum()) - sum(n), 0.0
        for level in range(k):
            place = 2 * sum(n[level + 1 :]) + n[level] - 1
            total += n[level] * (sent_value[p, 0] if place <= places[p, 0, level] else -0.7)
            local = kept_value[p, 0, v] if kept <= kept_most[p, 0, v, level] else -0.7
            total += (tasks[p, 0, level] - n[level]) * local
        return total

    for p in range(cases):
        plans = itertools.product(range(models), itertools.product(*(range(h + 1) for h in tasks[p, 0])))
        best = max(value(p, v, n) for v, n in plans)
        assert value(p, int(model[p, 0]), tuple(sent[p, 0])) == pytest.approx(best, rel=1e-12)


def test_bounds_are_found_by_bisection_and_hold_for_stricter_levels() -> None:
    true = np.array([[[[13, 9, 9, 2]]]])
    bounds, never = Bounds((1, 1, 1, 4), 16), np.zeros((1, 1), np.int64)
    for _ in range(6):
        x = np.maximum(bounds.believed()[:, :, 0], 0)
        bounds.learn(never, x, x <= true[:, :, 0], np.ones(x.shape, bool))
    np.testing.assert_array_equal(bounds.believed(), true)
    one = Bounds((1, 1, 1, 4), 16)
    only = np.array([[[False, True, False, False]]])
    one.learn(never, np.full((1, 1, 4), 6), np.zeros((1, 1, 4), bool), only)
    np.testing.assert_array_equal(one.fails[0, 0, 0], [17, 6, 6, 6])
    one.learn(never, np.full((1, 1, 4), 3), np.ones((1, 1, 4), bool), only)
    np.testing.assert_array_equal(one.works[0, 0, 0], [3, 3, -1, -1])


def test_learned_plans_come_near_the_exact_ones() -> None:
    """Online and from nothing, devices, gateways and server: most of what the exact plan earns after 300 slots."""
    scenario = make_scenario("model_pruning", num_devices=30, num_gateways=3, gateway_broadcast="rank")
    trace = scenario.sample_trace(np.random.default_rng(0), 4, 450)
    learned, exact, bandit = (
        rollout(make_policy(scenario, name), scenario, trace, np.random.default_rng(1), warmup=300).means["reward"]
        for name in ("parametric_q", "cell_plan_static_100", "bandit_q")
    )
    assert learned.mean() > exact.mean() - 0.25 > bandit.mean()


def test_illegal_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"decay_slots = 0\.0 slots"):
        PruningQDevice(decay_slots=0.0)
