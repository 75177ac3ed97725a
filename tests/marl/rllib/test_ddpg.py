"""DDPG and TD3: losses and targets by hand, delay, smoothing, Polyak averaging, noise, a task solved, whole runs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from edgemarl.agents.trained.policy import CENTRAL, TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.registry import make_scenario
from edgemarl.marl.algorithms.ddpg.algorithm import DDPGConfig
from edgemarl.marl.algorithms.ddpg.learner import DDPGLearner
from edgemarl.marl.algorithms.ddpg.module import DDPGModule
from edgemarl.marl.rllib.learner import FusedAdam
from edgemarl.marl.studies.pendulum import Pendulum, PendulumConfig, PendulumDecisions, PendulumExogenous, PendulumState
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import train
from edgemarl.marl.training.saves import save_folders
from edgemarl.marl.training.trained import load_policy

TANH: dict[str, Any] = {"deterministic": True, "squash": "tanh"}
DDPG_EXTRAS: dict[str, Any] = {"twin_q": False, "policy_delay": 1, "target_noise": 0.0, "target_noise_clip": 0.0}
TD3_EXTRAS: dict[str, Any] = {"twin_q": True, "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5}
MODULE = "device"
STATES, ACTIONS, ROWS = 3, 2, 6
SPACES = (Box(-1, 1, (STATES,)), Box(np.array([-2, 0]), np.array([2, 1]), (2,)))
GAMMA, TAU = 0.9, 0.25


def build_learner(
    extras: dict[str, Any] = DDPG_EXTRAS, spaces: tuple[Any, Any] = SPACES, agents: int = 0, updates: int = 1,
    hidden: tuple[int, ...] = (8,), **settings: Any,
) -> DDPGLearner:  # fmt: skip
    """A learner of its own, without Ray, on small networks; `settings` are attributes of `DDPGConfig`."""
    spec = network_spec(
        spaces[0].shape[0], spaces[1], hidden=hidden, agents=agents, activation="relu", output_gain=0.1, **TANH
    )
    config = DDPGConfig().training(gamma=GAMMA, tau=TAU, grad_clip=None).debugging(seed=1, log_level="ERROR")
    config.updates_per_step = updates
    for name, value in settings.items():
        setattr(config, name, value)
    module = RLModuleSpec(
        module_class=DDPGModule, observation_space=spaces[0], action_space=spaces[1],
        model_config={"spec": spec.to_dict(), "critic_hidden": hidden, **extras},
    )  # fmt: skip
    torch.manual_seed(1)
    learner = DDPGLearner(config=config, module_spec=MultiRLModuleSpec(rl_module_specs={MODULE: module}))
    learner.build()
    return learner


def module_of(learner: DDPGLearner) -> DDPGModule:
    return learner.module[MODULE]


def transitions(seed: int = 0, rows: int = ROWS, agents: int = 0) -> dict[str, np.ndarray]:
    """Rows of which some terminate."""
    rng = np.random.default_rng(seed)
    lead = (rows, agents) if agents else (rows,)
    return {
        Columns.OBS: rng.normal(size=(*lead, STATES)).astype(np.float32),
        Columns.NEXT_OBS: rng.normal(size=(*lead, STATES)).astype(np.float32),
        Columns.ACTIONS: rng.uniform(-1, 1, (*lead, ACTIONS)).astype(np.float32),
        Columns.REWARDS: rng.normal(size=lead).astype(np.float32),
        Columns.TERMINATEDS: rng.random(lead) < 0.3,
    }


def tensors(rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in rows.items()}


def update(learner: DDPGLearner, rows: dict[str, np.ndarray]) -> None:
    learner.update(batch=MultiAgentBatch({MODULE: SampleBatch(rows)}, len(rows[Columns.OBS])), timesteps={})


def weights(network: torch.nn.Module) -> np.ndarray:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()


def by_hand(network: Any, inputs: np.ndarray) -> np.ndarray:
    """A perceptron of one hidden layer in numpy, float64."""
    network = getattr(network, "body", network)
    w, b = ([p.detach().numpy().astype(float) for p in part] for part in (network.weights, network.biases))
    return np.maximum(inputs.astype(float) @ w[0].T + b[0], 0.0) @ w[1].T + b[1]


def value_by_hand(network: Any, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return by_hand(network, np.concatenate([observations, actions], axis=1))[:, 0]


def moved_targets(module: DDPGModule) -> None:
    """Targets that differ from their networks, so that a mix-up shows."""
    for _, target in module.get_target_network_pairs():
        for p in target.parameters():
            p.data += 0.1 * torch.randn_like(p)


@pytest.mark.parametrize("extras", [DDPG_EXTRAS, {**DDPG_EXTRAS, "twin_q": True}])
def test_losses_equal_those_computed_by_hand(extras: dict[str, Any]) -> None:
    learner = build_learner(extras, action_penalty=0.5)
    module, rows = module_of(learner), transitions()
    moved_targets(module)
    batch = tensors(rows)
    loss = learner.compute_loss_for_module(
        module_id=MODULE, config=learner.config, batch=batch, fwd_out=module.forward_train(batch)
    )
    critics = ["qf", "qf_twin"][: 1 + extras["twin_q"]]
    next_actions = np.tanh(by_hand(module.target_policy, rows[Columns.NEXT_OBS]))
    following = np.min(
        [value_by_hand(getattr(module, f"target_{c}"), rows[Columns.NEXT_OBS], next_actions) for c in critics], axis=0
    )
    target = rows[Columns.REWARDS] + GAMMA * ~rows[Columns.TERMINATEDS] * following
    squares = [
        (value_by_hand(getattr(module, c), rows[Columns.OBS], rows[Columns.ACTIONS]) - target) ** 2 for c in critics
    ]
    critic_loss = sum(float(np.mean(s)) for s in squares)
    outputs = by_hand(module.policy, rows[Columns.OBS])
    value = value_by_hand(module.qf, rows[Columns.OBS], np.tanh(outputs))
    actor_loss = -float(np.mean(value)) + 0.5 * float(np.mean(outputs**2))
    assert 0 < rows[Columns.TERMINATEDS].sum() < ROWS
    assert float(learner._losses[MODULE, "qf"].detach()) == pytest.approx(critic_loss, rel=1e-5)
    assert float(learner._losses[MODULE, "policy"].detach()) == pytest.approx(actor_loss, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(critic_loss + actor_loss, rel=1e-5)


@pytest.mark.parametrize("extras", [DDPG_EXTRAS, TD3_EXTRAS])
@pytest.mark.parametrize("gamma", [0.0, GAMMA])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("hidden", [(8,), (64, 32)])
def test_gradients_without_a_graph_are_those_of_autograd(
    extras: dict[str, Any], gamma: float, penalty: float, hidden: tuple[int, ...]
) -> None:
    """Bit by bit, in updates that move the actor and in those that do not, and what is logged."""
    learner = build_learner(extras, action_penalty=penalty, gamma=gamma, hidden=hidden)
    module, batch = module_of(learner), tensors(transitions(rows=64))
    moved_targets(module)
    for updates in range(2):
        module.updates.fill_(updates)
        torch.manual_seed(2)
        logged, found = learner._direct[MODULE](batch)
        torch.manual_seed(2)
        forward = module._forward_train(batch)
        learner.compute_loss_for_module(module_id=MODULE, config=learner.config, batch=batch, fwd_out=forward)
        expected = learner.compute_gradients({MODULE: None})
        assert [*found] == [*expected]
        assert all(torch.equal(found[p], expected[p]) for p in expected)
        latest = learner._latest.pop(MODULE)
        assert {name: float(value) for name, value in logged.items()} == {n: float(v) for n, v in latest.items()}


def test_agents_with_networks_of_their_own_keep_autograd() -> None:
    assert not build_learner(agents=3)._direct and build_learner()._direct


def test_a_critic_that_judges_the_actor_has_no_gradient_of_it() -> None:
    """Its weights' gradients would be computed and thrown away."""
    learner = build_learner(agents=2)
    module, batch = module_of(learner), tensors(transitions(agents=2))
    value = module._forward_train(batch)["q_curr"].mean()
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(value, list(module.qf.parameters()))
    assert all(p.requires_grad for p in module.qf.parameters())


def test_adam_without_hooks_takes_the_steps_of_adam() -> None:
    """Also where a parameter has no gradient, and after its state was saved and loaded."""
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(4)]
    pairs = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(2)]
    ours, theirs = FusedAdam(pairs[0], 1e-7), torch.optim.Adam(pairs[1], eps=1e-7, fused=True)
    for step in range(6):
        for group in (*ours.param_groups, *theirs.param_groups):
            group["lr"] = 0.1 / (1 + step)
        for i, shape in enumerate(((5, 3), (4,))):
            gradient = None if i == step % 3 else torch.randn(shape)
            for parameters in pairs:
                parameters[i].grad = gradient
        ours.move()
        theirs.step()
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
        if step == 3:
            ours = FusedAdam(pairs[0], 1e-7)
            ours.load_state_dict(deepcopy(theirs.state_dict()))


def test_each_loss_moves_its_own_network_only() -> None:
    """The actor's gradient equals that of its loss alone, the critic's has no part of it."""
    learner = build_learner()
    module, batch = module_of(learner), tensors(transitions())
    learner.compute_loss_for_module(
        module_id=MODULE, config=learner.config, batch=batch, fwd_out=module.forward_train(batch)
    )
    gradients = learner.compute_gradients({MODULE: None})
    observations = batch[Columns.OBS]
    actor_loss = -module.qf(torch.cat([observations, torch.tanh(module.policy(observations))], dim=1)).mean()
    target = batch[Columns.REWARDS] + GAMMA * ~batch[Columns.TERMINATEDS] * module.forward_target(batch)
    critic_loss = ((module.compute_q_values(batch) - target) ** 2).mean()
    assert len(gradients) == len(list(module.policy.parameters())) + len(list(module.qf.parameters()))
    for network, loss in ((module.policy, actor_loss), (module.qf, critic_loss)):
        expected = torch.autograd.grad(loss, list(network.parameters()))
        for p, e in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(gradients[p], e)


def test_delayed_update_moves_actor_and_targets_every_third_time_only() -> None:
    learner = build_learner({**DDPG_EXTRAS, "policy_delay": 3})
    module = module_of(learner)
    for count in range(1, 7):
        before = {name: weights(getattr(module, name)) for name in ("policy", "qf", "target_policy", "target_qf")}
        update(learner, transitions(count))
        moved = {name: bool((weights(getattr(module, name)) != old).any()) for name, old in before.items()}
        due = count % 3 == 0
        assert moved == {"policy": due, "qf": True, "target_policy": due, "target_qf": due}
    states = {name: entry["state"] for name, entry in learner.get_state()["optimizer"].items()}
    steps = {name: float(state["state"][0]["step"]) for name, state in states.items()}
    assert steps == {f"{MODULE}_qf": 6.0, f"{MODULE}_policy": 2.0}


def test_many_updates_in_one_call_equal_as_many_calls() -> None:
    """TD3 with two agents' stacked networks: the rows of one batch, minibatch after minibatch."""
    one, many = (build_learner(TD3_EXTRAS, agents=2, updates=n) for n in (1, 4))
    rows = transitions(3, 4 * ROWS, agents=2)
    torch.manual_seed(5)
    update(many, rows)
    torch.manual_seed(5)
    for first in range(0, 4 * ROWS, ROWS):
        update(one, {name: values[first : first + ROWS] for name, values in rows.items()})
    np.testing.assert_array_equal(weights(module_of(many)), weights(module_of(one)))
    assert int(module_of(many).updates) == 4


def test_targets_are_polyak_averages() -> None:
    learner = build_learner({**TD3_EXTRAS, "policy_delay": 1})
    module = module_of(learner)
    moved_targets(module)
    before = [weights(target) for _, target in module.get_target_network_pairs()]
    update(learner, transitions())
    pairs = module.get_target_network_pairs()
    assert len(pairs) == 3  # actor and two critics
    for (network, target), old in zip(pairs, before, strict=True):
        np.testing.assert_allclose(weights(target), TAU * weights(network) + (1 - TAU) * old, rtol=1e-5, atol=1e-6)


def test_smoothing_noise_is_clipped_and_so_is_the_action() -> None:
    module = module_of(build_learner({**TD3_EXTRAS, "target_noise_clip": 0.3}))
    torch.manual_seed(0)
    noise = module.smoothed(torch.zeros(20_000, 2)).numpy()
    assert np.abs(noise).max() == pytest.approx(0.3)
    assert np.mean(np.abs(noise) > 0.2999) == pytest.approx(0.1336, abs=0.01)  # both tails beyond 1.5 sigma
    assert noise.std() == pytest.approx(0.1760, abs=0.003)  # of a Gaussian of 0.2 censored at 0.3
    assert module.smoothed(torch.full((1000, 2), 0.95)).max() == 1.0
    plain = module_of(build_learner())
    assert torch.equal(plain.smoothed(torch.full((5, 2), 0.3)), torch.full((5, 2), 0.3))


def test_explored_actions_have_the_noise_asked_for_and_stay_in_range() -> None:
    module, rng = module_of(build_learner()), np.random.default_rng(0)
    outputs = np.full((20_000, 1), 0.3, np.float32)
    module.random_share.fill_(0.0)
    module.noise_scale.fill_(0.2)
    assert (module.explored(outputs, rng) - np.tanh(0.3)).std() == pytest.approx(0.2, rel=0.02)
    module.noise_scale.fill_(3.0)
    assert np.abs(module.explored(outputs, rng)).max() == 1.0
    module.random_share.fill_(1.0)
    assert module.explored(outputs, rng).std() == pytest.approx(1 / np.sqrt(3), rel=0.02)
    module.noise_scale.fill_(0.0)
    module.random_share.fill_(0.25)
    assert np.mean(module.explored(outputs, rng) != np.tanh(outputs)) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("extras", [DDPG_EXTRAS, TD3_EXTRAS])
def test_finds_the_best_action_of_a_one_step_task(extras: dict[str, Any]) -> None:
    """Reward -(a - s)^2, replayed at random actions: the best constant is off by 0.58 on the root mean square."""
    spaces = (Box(-1, 1, (1,)), Box(-1, 1, (1,)))
    learner = build_learner(
        extras, spaces, updates=400, hidden=(32, 32), gamma=0.5, tau=0.05, actor_lr=5e-3, critic_lr=1e-2
    )
    rng = np.random.default_rng(0)
    states, actions = (rng.uniform(-1, 1, (400 * 32, 1)).astype(np.float32) for _ in range(2))
    update(learner, {
        Columns.OBS: states, Columns.NEXT_OBS: states, Columns.ACTIONS: actions,
        Columns.REWARDS: -((actions - states)[:, 0] ** 2), Columns.TERMINATEDS: np.ones(len(states), bool),
    })  # fmt: skip
    rows = torch.linspace(-0.9, 0.9, 19)[:, None]
    with torch.no_grad():
        error = torch.tanh(module_of(learner).policy(rows)) - rows
    assert float(error.square().mean().sqrt()) < 0.15


SMALL: dict[str, Any] = {
    "scenario": "sampling_rate", "set": {"devices_per_service": (2, 2), "share_mode": "optimal"}, "control": "central",
    "central_policy": "joint", "cells": 4, "slots": 10, "minibatch": 16, "updates": 6, "random_steps": 60,
    "hidden": (16,), "discount": 0.85, "lr_final": 1.0, "seed": 3,
}  # fmt: skip


def test_a_run_resumes_with_the_state_of_its_learner_and_its_policy_acts_without_ray(
    local_cluster: None, tmp_path: Path
) -> None:
    config = TrainConfig(algorithm="td3", agent_steps=4 * 160, **SMALL)
    curve = train(config, tmp_path).curve
    assert curve["env_steps"].tolist() == [80, 120, 160]  # the first iteration plays the random steps
    assert np.isfinite(curve[[f"{CENTRAL}_qf_loss", f"{CENTRAL}_policy_loss"]]).all(axis=None)
    from edgemarl.marl.training.setup import set_up

    algorithm = set_up(resolve(config))
    try:
        algorithm.restore_from_path(str(save_folders(tmp_path)[0] / "checkpoint"))
        module = algorithm.learner_group._learner.module[CENTRAL].unwrapped()
        assert int(module.updates) == 18
        assert (weights(module.target_qf) != weights(module.qf)).any()
        policy = TrainedPolicy.load(tmp_path / "policy" / f"{CENTRAL}.pt")
        np.testing.assert_array_equal(weights(policy.network), weights(module.policy))
        rows = np.random.default_rng(0).random((5, policy.spec.observation_size), dtype=np.float32)
        expected = np.tanh(by_hand(policy.network, rows))
        for greedy in (True, False):  # a deterministic policy has nothing to draw
            np.testing.assert_allclose(policy.act(rows, np.random.default_rng(0), greedy), expected, atol=1e-5)
    finally:
        algorithm.stop()
    longer = TrainConfig(algorithm="td3", agent_steps=4 * 200, **SMALL)
    assert train(longer, tmp_path, resume=True).curve["env_steps"].tolist() == [80, 120, 160, 200]
    assert load_policy(tmp_path, make_scenario("sampling_rate", devices_per_service=(2, 2))).information == "global"


def test_decentralized_ddpg_trains_one_policy_per_agent_with_remote_runners(
    local_cluster: None, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "scenario": "sequential_offloading", "set": {"device_action": "split", "num_devices": 3},
        "policies": "independent", "control": "decentralized", "num_env_runners": 1, "gradient_clip": 0.5,
    }  # fmt: skip
    run = train(TrainConfig(algorithm="ddpg", agent_steps=4 * 120, **{**SMALL, **settings}), tmp_path)
    assert np.isfinite(run.curve["device_qf_loss"]).all()
    assert TrainedPolicy.load(tmp_path / "policy" / "device.pt").spec.agents == 3


@pytest.mark.parametrize("fields", [{"control": "decentralized"}, {"scenario": "model_partitioning", "set": {}}])
def test_discrete_actions_are_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ddpg needs continuous"):
        train(TrainConfig(algorithm="ddpg", **{**SMALL, **fields}), tmp_path)


def test_the_batched_pendulum_moves_as_gymnasiums() -> None:
    env, game, rng = gymnasium.make("Pendulum-v1"), Pendulum(PendulumConfig()), np.random.default_rng(0)
    env.reset(seed=1)
    angle, speed = env.unwrapped.state
    state = PendulumState(np.full(2, angle), np.full(2, speed))
    for t in range(100):
        torque = rng.uniform(-2, 2)
        row, reward, *_ = env.step(np.array([torque], np.float32))
        exogenous = PendulumExogenous(np.full(2, t))
        step = game.step(state, PendulumDecisions(np.full(2, np.float32(torque))), exogenous)
        state = step.state
        np.testing.assert_allclose(step.metrics["cost"], -reward, rtol=1e-6)
        np.testing.assert_allclose(game.global_state(state, exogenous)[1], row, atol=1e-5)
