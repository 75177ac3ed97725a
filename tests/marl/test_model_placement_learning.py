"""What learners of model placement stand on: mixed teams, the cell reward, networks over like parts, warm starts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents.registry import acting_order, make_controller, make_policy
from edgemarl.agents.trained.networks import PolicyNetwork, ValueNetwork, divided
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.scenario import Parts
from edgemarl.envs.scenarios.model_placement import ModelPlacement, ModelPlacementConfig, scaled
from edgemarl.marl.rllib.cells import Cells
from edgemarl.marl.rllib.settings import RunnerSettings, settings_for
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.imitation import demonstrations, fit
from edgemarl.marl.training.trained import training_world

FIXED = {"gateway": "deadline", "server": "deadline"}


def changed(config: ModelPlacementConfig) -> dict[str, Any]:
    """The fields that differ from the defaults."""
    return {n: v for n, v in dataclasses.asdict(config).items() if v != getattr(ModelPlacementConfig(), n)}


def outcomes(scenario: ModelPlacement, name: str, trace: Any) -> np.ndarray:
    policy, state, found = make_policy(scenario, name), scenario.initial_state(trace), []
    policy.reset(scenario, trace)
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        step = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
        state = step.state
        found.append(step.metrics["mean_accuracy"])
    return np.stack(found)


def settings(role: str) -> RunnerSettings:
    return settings_for("model_placement", roles=(role,), cells=1, slots=1)


def test_learned_devices_tell_their_rules_what_they_decide() -> None:
    """A learner that decides as the static rule does plays the static team, slot by slot."""
    scenario = ModelPlacement(scaled(2, 6, episode_slots=6))
    trace = scenario.sample_trace(np.random.default_rng(2), 1, 6)
    rules = {role: make_controller(scenario, role, name) for role, name in FIXED.items()}
    cells = Cells(scenario, settings("device"), rules, np.random.default_rng(0), make_trace=lambda rng: trace)
    static = make_controller(scenario, "device", "static")
    static.reset(scenario, 1)
    found = []
    for _ in range(5):
        actions = static.act(cells.slot().observations["device"], np.random.default_rng(0)).actions
        assert actions is not None
        found.append(cells.step({"device": actions})[0].metrics["mean_accuracy"])
    np.testing.assert_allclose(np.stack(found), outcomes(scenario, "static_rule2", trace)[:5], rtol=1e-12)
    assert np.ptp(np.stack(found)) > 0


def learned_gateways(devices: str, trace: Any, scenario: ModelPlacement) -> Cells:
    rules = {
        "device": make_controller(scenario, "device", devices),
        "server": make_controller(scenario, "server", "deadline_cacheless"),
    }
    return Cells(scenario, settings("gateway"), rules, np.random.default_rng(0), make_trace=lambda rng: trace)


def played_as_rule(cells: Cells, slots: int) -> np.ndarray:
    """Mean accuracy while the learned gateways do as the deadline rule does with their rows."""
    rule, found = make_controller(cells.scenario, "gateway", "deadline_cacheless"), []
    rule.reset(cells.scenario, 1)
    for _ in range(slots):
        rows = cells.slot().observations["gateway"]
        np.testing.assert_array_equal(rows, cells.slot().observations["gateway"])
        actions = rule.act(rows, np.random.default_rng(0)).actions
        assert actions is not None
        found.append(cells.step({"gateway": actions})[0].metrics["mean_accuracy"])
    return np.stack(found)


def test_learned_gateways_hear_what_devices_decide_in_the_same_slot() -> None:
    """Under devices that change their minds in every slot, also over the end of an episode."""
    scenario = ModelPlacement(scaled(2, 6, episode_slots=4))
    trace = scenario.sample_trace(np.random.default_rng(2), 1, 4)
    found = played_as_rule(learned_gateways("static_level", trace, scenario), 6)
    want = outcomes(scenario, "static_level2", trace)
    np.testing.assert_allclose(found, np.concatenate([want, want[:2]]), rtol=1e-12)
    assert order_of(scenario, ["gateway"]) == [["device"], ["gateway"], ["server"]]
    assert order_of(scenario, ["device"]) == [["device"], ["gateway"], ["server"]]
    assert order_of(scenario, ["device", "server"]) == [["device", "server"], ["gateway"]]


def order_of(scenario: ModelPlacement, learned: list[str]) -> list[list[str]]:
    return acting_order(scenario, learned, [role for role in scenario.roles if role not in learned])


def test_cells_go_on_where_they_stopped_when_devices_have_acted() -> None:
    scenario = ModelPlacement(scaled(2, 6, episode_slots=12))
    trace = scenario.sample_trace(np.random.default_rng(2), 1, 12)
    cells, restored = (learned_gateways("bandit", trace, scenario) for _ in range(2))
    played_as_rule(cells, 3)
    cells.slot()
    restored.set_state(cells.get_state())
    np.testing.assert_array_equal(played_as_rule(cells, 5), played_as_rule(restored, 5))


@pytest.mark.parametrize("name", ["static_rule2", "cell_plan_priced"])
def test_rules_give_the_same_shares_under_either_prior(name: str) -> None:
    config = scaled(2, 6)
    trace = ModelPlacement(config).sample_trace(np.random.default_rng(4), 2, 3)
    equal, need = (
        outcomes(ModelPlacement(dataclasses.replace(config, share_prior=prior)), name, trace)
        for prior in ("equal", "need")
    )
    np.testing.assert_allclose(equal, need, rtol=1e-12)


def test_a_policy_is_played_under_the_prior_that_it_was_trained_with() -> None:
    """Scores mean other shares under the other prior."""
    trained = TrainConfig(scenario="model_placement", set={"share_prior": "need"}, fixed={"device": "static"})
    played = ModelPlacement(scaled(2, 4))
    world = training_world(played, trained)
    assert world.config == dataclasses.replace(played.config, share_prior="need")


def test_devices_of_a_gateway_share_its_mean_as_reward() -> None:
    scenario = ModelPlacement(scaled(2, 3))
    trace = scenario.sample_trace(np.random.default_rng(1), 2, 1)
    exogenous, state = scenario.exogenous(trace, 0), scenario.initial_state(trace)
    policy = make_policy(scenario, "static_rule2")
    policy.reset(scenario, trace)
    step = scenario.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
    scaled_reward = scenario.rewards(step, "group")["device"] * scenario.learner_scale["device"]
    mean = step.details["gained"].mean(axis=2)
    np.testing.assert_allclose(scaled_reward, np.repeat(mean, 3, axis=1), rtol=1e-12)
    assert mean[0, 0] != mean[0, 1]


def test_parts_are_cut_where_the_row_says() -> None:
    parts = Parts(count=4, entries=2, groups=2, common=1)
    row = torch.arange(15.0)[None]  # 4 x 2 own, 2 group entries, 1 common, 4 messages
    found = divided(row, parts)[0]
    want = [[0, 1, 8, 11, 10], [2, 3, 8, 12, 10], [4, 5, 9, 13, 10], [6, 7, 9, 14, 10]]
    np.testing.assert_array_equal(found.numpy(), np.array(want, float))


def gateway_policy(scenario: ModelPlacement, seed: int = 0) -> TrainedPolicy:
    torch.manual_seed(seed)
    role = scenario.roles["gateway"]
    assert role.parts is not None
    spec = network_spec(role.parts.size, role.action_space, parts=dataclasses.astuple(role.parts), output_gain=1.0)
    return TrainedPolicy(PolicyNetwork(spec), "model_placement", "gateway", {"message_entries": {}})


def test_a_network_over_parts_turns_with_its_devices_and_fits_another_number() -> None:
    small, large = ModelPlacement(scaled(2, 4)), ModelPlacement(scaled(3, 7))
    policy = gateway_policy(small)
    rng = np.random.default_rng(0)
    rows = rng.uniform(0, 1, (2, 2, 4 * 12 + 3)).astype(np.float32)
    order = np.array([2, 0, 3, 1])
    turned = rows.copy()
    turned[..., :48] = rows[..., :48].reshape(2, 2, 4, 12)[:, :, order].reshape(2, 2, 48)
    plain, other = (policy.act(r, rng).reshape(2, 2, 4, 4) for r in (rows, turned))
    np.testing.assert_allclose(plain[..., order], other, atol=1e-6)
    assert np.ptp(plain, axis=-1).min() > 0
    with pytest.raises(ValueError, match="observation entries"):
        policy.check(large)
    fitted = policy.fitted(large)
    fitted.check(large)
    twice = np.concatenate([np.tile(rows[..., :48], 7)[..., : 7 * 12], rows[..., 48:]], axis=2)
    assert fitted.act(twice, rng).shape == (2, 2, 28)


def test_the_critic_of_a_cell_sees_all_its_agents_and_no_other() -> None:
    torch.manual_seed(0)
    spec = network_spec(5, ModelPlacement(scaled(2, 3)).roles["device"].action_space)
    critic = ValueNetwork(spec, (8, 8), group_size=3)
    rows = torch.rand(2, 6, 5)
    values = critic(rows)
    assert values.shape == (2, 6)
    torch.testing.assert_close(values[:, :3], values[:, :1].expand(2, 3))
    changed_rows = rows.clone()
    changed_rows[:, 4] += 1.0
    moved = critic(changed_rows) - values
    assert (moved[:, :3] == 0).all() and (moved[:, 3:].abs() > 1e-4).all()


def imitating(**fields: Any) -> TrainConfig:
    small = changed(scaled(2, 4, episode_slots=8))
    return TrainConfig(scenario="model_placement", set=small, discount=0.0, cells=16, **fields)


def test_a_network_learns_the_choices_of_a_rule() -> None:
    config = imitating(fixed=FIXED, imitate={"device": "static"})
    rows, actions = demonstrations(resolve(config))["device"]
    scenario = config.make_scenario()
    network = PolicyNetwork(network_spec(rows.shape[2], scenario.roles["device"].action_space))
    last = fit(network, rows, actions, 200, 512, 0)
    policy = TrainedPolicy(network, "model_placement", "device")
    assert (policy.act(rows, np.random.default_rng(0)) == actions).mean() > 0.99
    assert actions[..., 0].min() == 0 and actions[..., 0].max() == 1
    floor = 2 * -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))  # smoothed targets of two heads
    assert floor - 1e-3 < last < floor + 0.1


def test_imitation_of_scores_is_measured_in_the_actions_unit() -> None:
    config = imitating(fixed={"device": "static", "server": "deadline"}, imitate={"gateway": "deadline"})
    rows, actions = demonstrations(resolve(config))["gateway"]
    assert rows.shape[2] == 12 * 4 + 3 + 4, "what the devices told is part of the row"
    policy = gateway_policy(ModelPlacement(scaled(2, 4)))
    heard = torch.from_numpy(rows[:3, :, :51])
    out = policy.network(heard).detach()[..., :16]
    loss = policy.network.head.loss(policy.network(heard), torch.from_numpy(actions[:3]))
    np.testing.assert_allclose(float(loss.detach()), np.square(out.numpy() - actions[:3]).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"imitate": {"device": "statik"}, "fixed": FIXED}, "did you mean 'static'"),
        ({"imitate": {"gateway": "deadline"}, "fixed": FIXED}, "must name a controller for each of device"),
        ({"imitate": {"device": "static"}, "fixed": FIXED, "algorithm": "dqn"}, "dqn has no setting 'imitate'"),
        ({"network": "parts", "policies": "independent"}, "network = 'parts'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(imitating(**fields))


def test_rows_that_a_network_reads_in_parts_stay_as_they_are() -> None:
    """The normaliser has a moment for every entry, so that parts which are alike would be scaled apart."""
    run = resolve(imitating(network="parts", normalise=True))
    specs = {role: run.algorithm.spec(run, role) for role in run.roles}
    assert {role: bool(spec.parts) for role, spec in specs.items()} != dict.fromkeys(specs, False)
    assert all(spec.normalise != bool(spec.parts) for spec in specs.values())


def test_q_values_of_a_device_find_what_its_options_gain() -> None:
    """Options that gain a fixed linear function of the features are learned, each device from its own entry only."""
    scenario = ModelPlacement(scaled(2, 3))
    devices: Any = make_controller(scenario, "device", "bandit")
    devices.reset(scenario, 2)
    rng = np.random.default_rng(0)
    truth = rng.uniform(-0.3, 0.3, devices.parameters.shape)
    trace = scenario.sample_trace(np.random.default_rng(1), 2, 400)
    state = scenario.initial_state(trace)
    for t in range(400):
        rows = scenario.observe(state, scenario.exogenous(trace, t))["device"]
        devices.slots = 0  # explores in every slot
        devices.act(rows, rng)
        gained = np.einsum("af,af->a", truth[np.arange(12), devices._option], devices._features)
        devices.feedback(-gained.reshape(2, 6) / scenario.learner_scale["device"])
    found = devices.values(devices._features)
    want = np.einsum("aof,af->ao", truth, devices._features)
    start = np.abs(0.9 - want).mean()
    assert np.abs(found - want).mean() < 0.1 * start
