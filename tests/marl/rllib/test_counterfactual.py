"""Exact counterfactual credit: its loss by hand, what it learns, and which roles it is refused for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from edgemarl.agents.model_pruning.rules import PlanningGateway, static_shares
from edgemarl.agents.registry import make_controller
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_pruning import ModelPruning
from edgemarl.marl.algorithms.base import entropy_schedule
from edgemarl.marl.algorithms.counterfactual import all_action_loss
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.imitation import demonstrations
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import load_policy

CELL = {"num_devices": 20, "num_gateways": 1, "bandwidth_hz": 1e6, "gateway_broadcast": "rank"}


def run(**values: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "scenario": "model_pruning", "algorithm": "counterfactual", "set": CELL, "fixed": {"server": "equal"},
        "cells": 16, "slots": 4, "minibatch": 320, "epochs": 1, "lr": 3e-3, "reward_scale": 1.0, "discount": 0.0,
        "one_hot": {"device": {0: 6}}, "entropy": 0.01, "entropy_until": 0.8, "agent_steps": 21 * 64 * 20,
    }  # fmt: skip
    return TrainConfig(**{**settings, **values})


def test_gradient_is_the_policys_weighted_advantage() -> None:
    """d/d logit_a of -sum_a pi_a r_a is -pi_a (r_a - sum_b pi_b r_b), over the rows."""
    rng = np.random.default_rng(0)
    values, rewards = rng.standard_normal((2, 5, 3))
    logits = torch.tensor(values, requires_grad=True)
    loss, entropy = all_action_loss(logits, torch.tensor(rewards))
    loss.backward()  # type: ignore[no-untyped-call]
    probability = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    mean = (probability * rewards).sum(axis=1, keepdims=True)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), -probability * (rewards - mean) / 5, atol=1e-12)
    assert entropy.item() == pytest.approx(-(probability * np.log(probability)).sum(axis=1).mean())


@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_team_learns_to_serve_one_gateway(policies: str, local_cluster: None, tmp_path: Path) -> None:
    """What was learned drops less than half as many tasks as fair bits and models do."""
    curve = train(run(policies=policies), tmp_path).curve
    scenario = make_scenario("model_pruning", **CELL)
    policy = load_policy(tmp_path, scenario)
    trace = scenario.sample_trace(np.random.default_rng(1), cells=200, slots=1)
    policy.reset(scenario, trace)
    assert policy.message_bytes() == -24.0, "equal shares do without the tasks per level of the gateway"
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    step = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    assert step.metrics["drop_ratio"].mean() < 0.5 * curve["drop_ratio"].iloc[0]


def test_central_policy_with_a_fixed_server_follows_its_rule(local_cluster: None, tmp_path: Path) -> None:
    network = {**CELL, "num_gateways": 3}
    train(run(control="central", set=network, fixed={"server": "static_100"}, agent_steps=1), tmp_path)
    scenario = make_scenario("model_pruning", **network)
    assert isinstance(scenario, ModelPruning)
    policy = load_policy(tmp_path, scenario)
    trace = scenario.sample_trace(np.random.default_rng(1), cells=5, slots=1)
    policy.reset(scenario, trace)
    state = scenario.initial_state(trace)
    decisions = policy.decide(state, scenario.exogenous(trace, 0), np.random.default_rng(0))
    assert policy.information == "global"
    np.testing.assert_allclose(decisions.edge_share, static_shares(scenario, state.channel_gain, 1.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenario": "model_placement", "set": {}, "fixed": {}, "one_hot": {}}, "no role"),
        ({"scenario": "sequential_offloading", "set": {}, "fixed": {}}, "no role"),
        ({"control": "central", "central_policy": "joint", "fixed": {}}, "does not decide a joint action"),
    ],
)
def test_roles_without_known_choices_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(run(**values))


def test_entropy_bonus_falls_to_zero_at_its_share_of_the_budget() -> None:
    agents = resolve(run()).agents
    budget = {"agent_steps": 1000 * agents}
    assert entropy_schedule(resolve(run(**budget))) == [[0, 0.01], [800, 0.0]]
    assert entropy_schedule(resolve(run(entropy_until=None, **budget))) == 0.01


PLANNERS = {"device": "cell_plan", "gateway": "cell_plan"}


def test_demonstrated_devices_follow_the_plan_of_their_own_slot() -> None:
    scenario = make_scenario("model_pruning", **CELL)
    assert isinstance(scenario, ModelPruning)
    shown = demonstrations(resolve(run(imitate=PLANNERS)))
    planner = make_controller(scenario, "gateway", "cell_plan")
    rows, bits = shown["device"]
    planner.reset(scenario, len(rows))
    plan = planner.act(shown["gateway"][0], np.random.default_rng(0)).messages["device"]
    level, rank = np.rint(rows[..., 0] * 5).astype(int), np.rint(rows[..., -1] * 20)
    np.testing.assert_array_equal(bits, rank < np.take_along_axis(plan, level[..., None], axis=2)[..., 0])
    assert 0.2 < bits.mean() < 1.0


def test_as_many_choices_are_shown_as_were_asked_for() -> None:
    """Also more than one episode of the run's cells holds: then more cells play, none longer than an episode."""
    drawn = mock.patch.object(ModelPruning, "sample_trace", autospec=True, side_effect=ModelPruning.sample_trace)

    def rows(**settings: object) -> dict[str, tuple[int, ...]]:
        return {
            role: seen.shape for role, (seen, _) in demonstrations(resolve(run(imitate=PLANNERS, **settings))).items()
        }

    cells, agents = resolve(run()).config.cells, resolve(run()).scenario.roles
    horizon = make_scenario("model_pruning", **CELL).horizon
    episode = cells * horizon
    gateways = agents["gateway"].count
    assert rows()["gateway"][:2] == (min(episode, cells * -(-8192 // (cells * gateways))), gateways)
    for wanted in (1, episode * gateways, episode * gateways + 1, 3 * episode * gateways):
        with drawn as sample:
            shown = rows(imitate_rows=wanted)
        assert sample.call_args.args[3] <= horizon
        assert shown["device"][0] == shown["gateway"][0]
        played = shown["gateway"][0] * gateways
        a_slot = gateways * cells * -(-wanted // (episode * gateways))
        assert wanted <= played < wanted + a_slot


def test_networks_of_normalised_rows_keep_what_they_imitated(local_cluster: None, tmp_path: Path) -> None:
    """One iteration with no learning rate to speak of: the saved policy still does what it was shown."""
    config = run(imitate=PLANNERS, imitate_steps=600, minibatch=1600, normalise=True, lr=1e-9, agent_steps=1)
    train(config, tmp_path)
    rows, bits = demonstrations(resolve(config))["device"]
    device = TrainedPolicy.load(tmp_path / "policy" / "device.pt")
    assert (device.act(rows, np.random.default_rng(0)) == bits).mean() > 0.9


def test_gateways_that_take_their_share_for_granted_plan_as_those_that_are_told() -> None:
    scenario = make_scenario("model_pruning", **{**CELL, "num_devices": 60, "num_gateways": 3, "bandwidth_hz": 3e6})
    assert isinstance(scenario, ModelPruning)
    trace = scenario.sample_trace(np.random.default_rng(3), cells=50, slots=1)
    state = scenario.initial_state(trace)
    rows = scenario.observe(state, scenario.exogenous(trace, 0))["gateway"]
    share = static_shares(scenario, state.channel_gain, 0.5)
    told, granted = PlanningGateway("announced"), PlanningGateway(0.5)
    for planner in (told, granted):
        planner.reset(scenario, 50)
    rng = np.random.default_rng(0)
    first = told.act(np.concatenate([rows, share[..., None]], axis=2), rng)
    second = granted.act(rows, rng)
    but_last = slice(0, 40)  # the last gateway gets the rest, which it cannot know
    np.testing.assert_array_equal(first.actions[:, :2], second.actions[:, :2])
    np.testing.assert_array_equal(first.messages["device"][:, but_last], second.messages["device"][:, but_last])
