"""Price-conditioned DQN: rewards against the scenario's delay, candidates and targets by hand, a whole run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents.sampling_rate.prices import FIRST_SHARES, SamplingRatePrices
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.priced_network import PricedQNetwork
from edgemarl.agents.trained.spec import NetworkSpec, network_spec
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate, SamplingRateState
from edgemarl.marl.algorithms.priced_dqn import _price_loss
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import load_policy

SETTINGS: dict[str, Any] = {"devices_per_service": (2, 3), "balance_per_s": 0.1}
RUN: dict[str, Any] = {
    "scenario": "sampling_rate", "set": SETTINGS, "fixed": {"server": "closed_form"},
    "algorithm": "priced_dqn", "discount": 0.0, "cells": 4, "slots": 10,
    "minibatch": 50, "updates": 4, "price_updates": 2, "agent_steps": 6 * 200, "hidden": (16,), "lr_final": 1.0,
}  # fmt: skip


def scenario_and_slot(seed: int = 0) -> tuple[SamplingRate, SamplingRateState, Any]:
    """A slot of three cells with backlogs and deficits."""
    scenario = SamplingRate(SamplingRate.config_type(**SETTINGS))
    rng = np.random.default_rng(seed)
    trace = scenario.sample_trace(rng, 3, 1)
    state = SamplingRateState(rng.uniform(0, 1e5, (3, 5)), rng.uniform(0, 1e5, (3, 2)), rng.uniform(0, 0.4, (3, 2)))
    return scenario, state, scenario.exogenous(trace, 0)


def network(scenario: SamplingRate, seed: int = 0) -> PricedQNetwork:
    torch.manual_seed(seed)
    role = scenario.roles["device"]
    spec = network_spec(9, role.action_space, hidden=(8,), activation="relu", output_gain=1.0)
    return PricedQNetwork(dataclasses.replace(spec, price=SamplingRatePrices(scenario).spec()))


def test_rewards_at_the_optimal_shares_add_up_to_the_slots_delay() -> None:
    """Theorem 1: at the shares that the step takes, the devices' separate prices sum to the delay of all of them."""
    scenario, state, exogenous = scenario_and_slot()
    game, actions = SamplingRatePrices(scenario), np.random.default_rng(1).integers(0, 8, (3, 5))
    step = scenario.step(state, scenario.decisions_of(actions), exogenous)
    game.__dict__["shares"] = step.details["share"]  # candidate b is what cell b's server does
    rewards = game.rewards(state, actions, exogenous, np.arange(3))
    assert rewards.min() > -2.0  # none at its floor
    missing = scenario.accuracy_target - step.details["service_accuracy"]
    priced = (game.scenario.shifted_price_s(state.accuracy_deficit) * missing).sum(axis=1)
    waiting = step.metrics["queue_delay_s"]  # of backlogs, which no device of this slot causes
    np.testing.assert_allclose(-rewards.sum(axis=1), step.metrics["delay_s"] - waiting + priced, rtol=1e-9)


def test_the_price_of_accuracy_is_its_multiplier_at_the_middle_deficit_in_every_population() -> None:
    for size in (5, 50):
        scenario = make_scenario("sampling_rate", devices_per_service=(size, size))
        game = SamplingRatePrices(scenario)
        np.testing.assert_allclose(game.scenario.shifted_price_s(np.full((1, 2), 0.15))[0], scenario.accuracy_price_s)
        slope = game.scenario.shifted_price_s(np.full((1, 2), 0.16)) - game.scenario.shifted_price_s(
            np.full((1, 2), 0.15)
        )
        np.testing.assert_allclose(slope, 0.05 * size / 5)
        assert game.deficit_max == pytest.approx(0.5)


def test_a_tight_networks_prices_move_no_faster_than_the_smallest_balance_lets_them() -> None:
    for size in (5, 50):
        tight = make_scenario("sampling_rate", devices_per_service=(size, size), balance_per_s=0.1 / size)
        game = SamplingRatePrices(tight)
        step = game.scenario.shifted_price_s(np.full((1, 2), 0.16)) - game.scenario.shifted_price_s(
            np.full((1, 2), 0.15)
        )
        np.testing.assert_allclose(step, 0.1 * size / 5)
        assert game.deficit_max == pytest.approx(0.25)


def test_only_the_chosen_cells_are_drawn_anew() -> None:
    scenario, state, _ = scenario_and_slot()
    game, rng = SamplingRatePrices(scenario), np.random.default_rng(0)
    assert game.randomised(state, 7, slice(0, 2), rng) is state
    tenth, hundredth = (game.randomised(state, slot, slice(0, 2), rng) for slot in (10, 100))
    for found in (tenth, hundredth):
        np.testing.assert_array_equal(found.accuracy_deficit[2], state.accuracy_deficit[2])
        assert (found.accuracy_deficit[:2] != state.accuracy_deficit[:2]).all()
        assert (found.accuracy_deficit[:2] <= game.deficit_max).all()
    np.testing.assert_array_equal(tenth.server_queue_bits, state.server_queue_bits)
    np.testing.assert_array_equal(hundredth.server_queue_bits[:2], 0.0)
    np.testing.assert_array_equal(hundredth.device_queue_bits[2], state.device_queue_bits[2])


def test_a_device_values_its_options_at_the_cheapest_candidate_of_its_broadcast() -> None:
    scenario, state, exogenous = scenario_and_slot()
    net, rows = network(scenario), torch.from_numpy(scenario.observe(state, exogenous)["device"])
    scaled = rows.numpy() * np.array([1, 1, 1, 1, 1, 4, 4, 0, 0], np.float32)
    costs = by_hand(net.price, scaled[..., 5:7])
    best = costs.argmin(axis=-1)
    first = np.array(FIRST_SHARES)[best]
    own = np.log(np.where(scenario.service == 0, first, 1.0 - first)).astype(np.float32)
    expected = by_hand(net.q, np.concatenate([scaled, own[..., None]], axis=-1))
    with torch.no_grad():
        np.testing.assert_allclose(net(rows).numpy(), expected, atol=1e-5)
        every = net.values_of_all(rows).numpy()
    for candidate in (0, 7):
        with torch.no_grad():
            at = net.values(rows, torch.full(rows.shape[:2], candidate)).numpy()
        np.testing.assert_allclose(every[..., candidate, :], at, atol=1e-5)


def test_the_price_target_is_what_a_candidate_costs_the_slot() -> None:
    scenario, state, exogenous = scenario_and_slot()
    net = network(scenario)
    rows = torch.from_numpy(scenario.observe(state, exogenous)["device"])
    with torch.no_grad():
        costs = net.costs(rows[:, 0]).numpy()
        target = -net.values_of_all(rows).numpy().max(axis=-1).sum(axis=1)
    error = np.abs(costs - (target - target.mean(axis=1, keepdims=True)))
    assert error.min() < 3.0 < error.max()  # both branches of the loss
    expected = np.mean(np.where(error <= 3.0, error**2, 6.0 * error - 9.0))
    loss = _price_loss(net, rows)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert all(p.grad is None for p in net.q.parameters())  # the Q-network does not move towards the price


def by_hand(perceptron: Any, inputs: np.ndarray) -> np.ndarray:
    """A perceptron of one hidden layer in numpy."""
    w, b = ([p.detach().numpy() for p in part] for part in (perceptron.weights, perceptron.biases))
    hidden = np.maximum(inputs @ w[0].T + b[0], 0.0)
    return np.asarray(hidden @ w[1].T + b[1])


def test_a_run_resumes_and_its_policy_controls_other_populations(local_cluster: None, tmp_path: Path) -> None:
    curve = train(TrainConfig(**RUN), tmp_path).curve
    assert np.isfinite(curve["device_qf_loss"]).all() and len(curve) == 6
    assert (curve["device_price_loss"][:4] == 0).all() and (curve["device_price_loss"][4:] > 0).all()
    longer = TrainConfig(**{**RUN, "agent_steps": 7 * 200})
    assert len(train(longer, tmp_path, resume=True).curve) == 7
    policy = TrainedPolicy.load(tmp_path / "policy" / "device.pt")
    assert isinstance(policy.network, PricedQNetwork)
    assert NetworkSpec.from_dict(policy.spec.to_dict()) == policy.spec
    many = make_scenario("sampling_rate", devices_per_service=(20, 30))
    team = load_policy(tmp_path, many)
    trace = many.sample_trace(np.random.default_rng(1), cells=2, slots=3)
    team.reset(many, trace)
    state, exogenous = many.initial_state(trace), many.exogenous(trace, 0)
    step = many.step(state, team.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    assert np.isfinite(step.metrics["service_delay_s"]).all()
    assert team.information == "local" and team.message_bytes() == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"discount": 0.9}, "without discount"),
        ({"policies": "independent"}, "shared"),
        ({"scenario": "model_partitioning", "set": {}, "fixed": {"server": "closed_form"}}, "has no pricing"),
        ({"fixed": {"server": "fixed_shares"}}, "closed_form"),
        ({"set": {"share_mode": "fixed"}, "fixed": {}}, "share_mode = 'optimal'"),
        ({"set": {"share_mode": "action"}, "fixed": {"server": "fixed_shares"}}, "share_mode = 'optimal'"),
    ],
)
def test_what_it_cannot_learn_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(TrainConfig(**{**RUN, **fields}), tmp_path)
