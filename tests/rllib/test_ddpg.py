"""DDPG and TD3: losses and targets by hand, delay, smoothing, Polyak averaging, checkpoints, noise, a task solved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.tune.registry import register_env

from marl.rllib.ddpg import DDPGConfig, TD3Config, wu_2021_config
from marl.rllib.ddpg_learner import DDPGLearner
from marl.rllib.ddpg_module import DDPGModule, ExplorationNoise

STATES, ACTIONS, ROWS = 3, 2, 6
SPACES = {"observation_space": Box(-1, 1, (STATES,)), "action_space": Box(np.array([-2, 0]), np.array([2, 1]), (2,))}
GAMMA, TAU = 0.9, 0.25


def build_learner(config: DDPGConfig, **settings: Any) -> DDPGLearner:
    """A learner of its own, without Ray, on small networks."""
    config.training(actor_hidden=(8,), critic_hidden=(8,), gamma=GAMMA, tau=TAU, **settings)
    config.environment(**SPACES).debugging(seed=1, log_level="ERROR")
    torch.manual_seed(1)
    spec = config.get_multi_rl_module_spec(spaces={DEFAULT_MODULE_ID: tuple(SPACES.values())})
    learner = DDPGLearner(config=config, module_spec=spec)
    learner.build()
    return learner


def module_of(learner: DDPGLearner) -> DDPGModule:
    return learner.module[DEFAULT_MODULE_ID]


def transitions(seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of which two terminate; rewards, weights and steps are not all alike."""
    rng = np.random.default_rng(seed)
    return {
        Columns.OBS: rng.normal(size=(ROWS, STATES)).astype(np.float32),
        Columns.NEXT_OBS: rng.normal(size=(ROWS, STATES)).astype(np.float32),
        Columns.ACTIONS: rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32),
        Columns.REWARDS: rng.normal(size=ROWS).astype(np.float32),
        Columns.TERMINATEDS: np.array([0, 1, 0, 0, 1, 0], bool),
        "weights": np.array([1, 1, 1, 1, 0.5, 2], np.float32),
        "n_step": np.array([1, 1, 1, 2, 1, 1], np.float32),
    }


def tensors(rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in rows.items()}


def update(learner: DDPGLearner, rows: dict[str, np.ndarray], steps: int = 1) -> None:
    learner.update(batch=MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(rows)}, ROWS), timesteps={})


def weights(network: torch.nn.Module) -> np.ndarray:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()


def by_hand(network: Any, inputs: np.ndarray) -> np.ndarray:
    """A perceptron of one hidden layer in numpy, float64."""
    w, b = ([p.detach().numpy().astype(float) for p in part] for part in (network.weights, network.biases))
    return np.maximum(inputs.astype(float) @ w[0].T + b[0], 0.0) @ w[1].T + b[1]


def value_by_hand(network: Any, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return by_hand(network, np.concatenate([observations, actions], axis=1))[:, 0]


def moved_targets(module: DDPGModule) -> None:
    """Targets that differ from their networks, so that a mix-up shows."""
    for _, target in module.get_target_network_pairs():
        for p in target.parameters():
            p.data += 0.1 * torch.randn_like(p)


@pytest.mark.parametrize("twin", [False, True])
def test_losses_equal_those_computed_by_hand(twin: bool) -> None:
    learner = build_learner(DDPGConfig(), twin_q=twin)
    module, rows = module_of(learner), transitions()
    moved_targets(module)
    batch = tensors(rows)
    loss = learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=learner.config, batch=batch, fwd_out=module.forward_train(batch)
    )
    critics = ["qf", "qf_twin"][: 1 + twin]
    next_actions = np.tanh(by_hand(module.target_actor, rows[Columns.NEXT_OBS]))
    following = np.min(
        [value_by_hand(getattr(module, f"target_{c}"), rows[Columns.NEXT_OBS], next_actions) for c in critics], axis=0
    )
    discount = np.array([0.9, 0.0, 0.9, 0.81, 0.0, 0.9])  # none where terminated, squared over two steps
    target = rows[Columns.REWARDS] + discount * following
    squares = [
        (value_by_hand(getattr(module, c), rows[Columns.OBS], rows[Columns.ACTIONS]) - target) ** 2 for c in critics
    ]
    critic_loss = sum(float(np.mean(rows["weights"] * s)) for s in squares)
    own = np.tanh(by_hand(module.actor, rows[Columns.OBS]))
    actor_loss = -float(np.mean(value_by_hand(module.qf, rows[Columns.OBS], own)))
    assert float(learner._losses[DEFAULT_MODULE_ID, "qf"].detach()) == pytest.approx(critic_loss, rel=1e-5)
    assert float(learner._losses[DEFAULT_MODULE_ID, "policy"].detach()) == pytest.approx(actor_loss, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(critic_loss + actor_loss, rel=1e-5)


def test_each_loss_moves_its_own_network_only() -> None:
    """The actor's gradient equals that of its loss alone (by differences), the critic's has no part of it."""
    learner = build_learner(DDPGConfig())
    module, batch = module_of(learner), tensors(transitions())
    learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=learner.config, batch=batch, fwd_out=module.forward_train(batch)
    )
    gradients = learner.compute_gradients({DEFAULT_MODULE_ID: None})
    observations = batch[Columns.OBS]

    def actor_loss() -> torch.Tensor:
        inputs = torch.cat([observations, torch.tanh(module.actor(observations))], dim=1)
        return -module.qf(inputs).mean()

    def critic_loss() -> torch.Tensor:
        target = batch[Columns.REWARDS] + GAMMA ** batch["n_step"] * (
            1.0 - batch[Columns.TERMINATEDS].float()
        ) * module.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})
        error = module.compute_q_values(batch) - target
        return (batch["weights"] * error**2).mean()

    for network, loss in ((module.actor, actor_loss()), (module.qf, critic_loss())):
        expected = torch.autograd.grad(loss, list(network.parameters()))
        for p, e in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(gradients[p], e)


def test_delayed_update_moves_actor_and_targets_every_third_time_only() -> None:
    learner = build_learner(DDPGConfig(), policy_delay=3)
    module = module_of(learner)
    for count in range(1, 7):
        before = {name: weights(getattr(module, name)) for name in ("actor", "qf", "target_actor", "target_qf")}
        update(learner, transitions(count))
        moved = {name: bool((weights(getattr(module, name)) != old).any()) for name, old in before.items()}
        due = count % 3 == 0
        assert moved == {"actor": due, "qf": True, "target_actor": due, "target_qf": due}
    states = optimiser_states(learner)
    steps = {name: float(state["state"][0]["step"]) for name, state in states.items()}
    assert steps == {f"{DEFAULT_MODULE_ID}_qf": 6.0, f"{DEFAULT_MODULE_ID}_policy": 2.0}


def test_targets_are_polyak_averages() -> None:
    learner = build_learner(TD3Config(), policy_delay=1)
    module = module_of(learner)
    moved_targets(module)
    before = [weights(target) for _, target in module.get_target_network_pairs()]
    update(learner, transitions())
    pairs = module.get_target_network_pairs()
    assert len(pairs) == 3  # actor and two critics
    for (network, target), old in zip(pairs, before, strict=True):
        np.testing.assert_allclose(weights(target), TAU * weights(network) + (1 - TAU) * old, rtol=1e-5, atol=1e-6)


def test_smoothing_noise_is_clipped_and_so_is_the_action() -> None:
    module = module_of(build_learner(TD3Config(), target_noise=0.2, target_noise_clip=0.3))
    torch.manual_seed(0)
    noise = module.smoothed(torch.zeros(20_000, 2)).numpy()
    assert np.abs(noise).max() == pytest.approx(0.3)
    assert np.mean(np.abs(noise) > 0.2999) == pytest.approx(0.1336, abs=0.01)  # both tails beyond 1.5 sigma
    assert noise.std() == pytest.approx(0.1760, abs=0.003)  # of a Gaussian of 0.2 censored at 0.3
    assert module.smoothed(torch.full((1000, 2), 0.95)).max() == 1.0
    plain = module_of(build_learner(DDPGConfig()))
    assert torch.equal(plain.smoothed(torch.full((5, 2), 0.3)), torch.full((5, 2), 0.3))


def test_noise_scale_follows_its_schedule_and_actions_stay_in_range() -> None:
    torch.manual_seed(0)
    noise = ExplorationNoise("gaussian", [[0, 0.4], [1000, 0.1]], 0.15)
    for step, scale in ((0, 0.4), (500, 0.25), (1000, 0.1), (5000, 0.1)):
        assert float(noise.draw(torch.Size([40_000, 1]), step).std()) == pytest.approx(scale, rel=0.02)
    module = module_of(build_learner(DDPGConfig(), noise="gaussian", noise_scale=0.2, random_steps=10))
    rows = {Columns.OBS: torch.zeros(20_000, STATES)}
    greedy = module.forward_inference(rows)[Columns.ACTIONS]
    assert float((module.forward_exploration(rows, t=10)[Columns.ACTIONS] - greedy).std()) == pytest.approx(
        0.2, rel=0.02
    )
    random = module.forward_exploration(rows, t=9)[Columns.ACTIONS]
    assert float(random.std()) == pytest.approx(1 / np.sqrt(3), rel=0.02)
    assert float(random.abs().max()) <= 1.0
    loud = module_of(build_learner(DDPGConfig(), noise="gaussian", noise_scale=3.0))
    assert float(loud.forward_exploration(rows, t=0)[Columns.ACTIONS].abs().max()) == 1.0


def test_ornstein_uhlenbeck_noise_has_the_variance_and_correlation_of_theory() -> None:
    torch.manual_seed(0)
    noise, theta = ExplorationNoise("ornstein_uhlenbeck", 0.2, 0.15), 0.15
    path = torch.stack([noise.draw(torch.Size([4000, 1]), 0) for _ in range(60)])[..., 0]
    assert float(path[0].std()) == pytest.approx(0.2, rel=0.05)
    assert float(path[-1].std()) == pytest.approx(0.2 / np.sqrt(2 * theta - theta**2), rel=0.05)
    assert np.corrcoef(path[-2], path[-1])[0, 1] == pytest.approx(1 - theta, abs=0.02)


def optimiser_states(learner: DDPGLearner) -> dict[str, Any]:
    return {name: entry["state"] for name, entry in learner.get_state()["optimizer"].items()}


def assert_same(a: Any, b: Any) -> None:
    """Nested dictionaries and lists of arrays and numbers, equal to the last bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(a, b)


class Bandit(gymnasium.Env[np.ndarray, np.ndarray]):
    """One step; the reward is -(a - best(s))^2 with best(s) = 3 + 2 s in the actions' own range [0, 6]."""

    def __init__(self, settings: Any = None) -> None:
        self.observation_space = Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = Box(0.0, 6.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.row = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.row, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.row, -float((action[0] - 3.0 - 2.0 * self.row[0]) ** 2), True, False, {}


register_env("bandit", Bandit)


def bandit_config(config: DDPGConfig, **settings: Any) -> DDPGConfig:
    return (
        config.environment("bandit")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=4)
        .debugging(seed=3, log_level="ERROR")
        .reporting(min_sample_timesteps_per_iteration=200)
        .training(
            actor_hidden=(32,), critic_hidden=(32, 32), actor_lr=5e-3, critic_lr=1e-2, gamma=0.5, tau=0.05,
            noise="gaussian", noise_scale=0.2, random_steps=200, train_batch_size_per_learner=32,
            num_steps_sampled_before_learning_starts=200, store_buffer_in_checkpoints=True, **settings,
        )
    )  # fmt: skip


@pytest.fixture
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield


@pytest.mark.parametrize("config", [DDPGConfig, TD3Config])
def test_finds_the_best_action_of_a_bandit(local_cluster: None, seeded: None, config: type[DDPGConfig]) -> None:
    """Best action 1.2..4.8 depending on the state: the best constant is off by 1.1 on the root mean square."""
    algorithm = bandit_config(config(), training_intensity=16.0).build_algo()
    states = np.linspace(-0.9, 0.9, 19, dtype=np.float32)[:, None]

    def error() -> float:
        action = algorithm.get_module().forward_inference({Columns.OBS: torch.from_numpy(states)})[Columns.ACTIONS]
        return float(np.sqrt(np.mean((3.0 + 3.0 * action.numpy() - 3.0 - 2.0 * states) ** 2)))

    try:
        assert error() > 0.8
        for _ in range(4):
            algorithm.train()
        assert error() < 0.3
    finally:
        algorithm.stop()


def test_checkpoint_restores_everything_and_training_goes_on_alike(
    local_cluster: None, seeded: None, tmp_path: Path
) -> None:
    first = bandit_config(TD3Config(), policy_delay=2).build_algo()
    try:
        first.train()
        first.train()
        path = str(tmp_path / "checkpoint")
        first.save_to_path(path)
        second = bandit_config(TD3Config(), policy_delay=2).build_algo()
        try:
            second.restore_from_path(path)
            a, b = (x.learner_group._learner for x in (first, second))
            assert int(module_of(a).updates) > 0
            assert_same(a.module.get_state(), b.module.get_state())  # weights, targets, number of updates
            assert_same(optimiser_states(a), optimiser_states(b))
            buffers = [x.local_replay_buffer for x in (first, second)]
            draws = [x.sample(num_items=8, n_step=1, gamma=0.5, sample_episodes=True) for x in buffers]
            assert_same(*[[episode.get_observations() for episode in drawn] for drawn in draws])
            for seed in range(3):  # an odd number: the delay continues where it stopped
                rows = {**transitions(seed), Columns.OBS: np.full((ROWS, 1), 0.1 * seed, np.float32)}
                rows |= {Columns.NEXT_OBS: rows[Columns.OBS], Columns.ACTIONS: rows[Columns.ACTIONS][:, :1]}
                for learner in (a, b):
                    torch.manual_seed(seed)
                    update(learner, rows)
            assert_same(a.module.get_state(), b.module.get_state())
            second.train()
        finally:
            second.stop()
    finally:
        first.stop()


def test_table_iii_trains_on_the_central_environment_with_a_remote_runner(local_cluster: None) -> None:
    config = wu_2021_config(num_env_runners=1, horizon_slots=10).debugging(seed=0, log_level="ERROR")
    config.reporting(min_sample_timesteps_per_iteration=20)
    algorithm = config.training(num_steps_sampled_before_learning_starts=10).build_algo()
    try:
        assert (algorithm.config.gamma, algorithm.config.tau) == (0.85, 0.005)
        result = algorithm.train()
        losses = result["learners"][DEFAULT_MODULE_ID]
        remote = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.module.get_state(), local_env_runner=False
        )
        assert len(remote) == 1 and not [name for name in remote[0] if "qf" in name]  # a runner holds no critics
        learner = algorithm.learner_group._learner.module.get_state()[DEFAULT_MODULE_ID]
        assert_same(remote[0], {name: learner[name] for name in remote[0]})
        assert np.isfinite([float(losses["qf_loss"]), float(losses["policy_loss"])]).all()
        assert np.isfinite(result["env_runners"]["episode_return_mean"])
    finally:
        algorithm.stop()


def test_illegal_settings_and_spaces_are_named() -> None:
    for settings, message in (
        ({"noise": "pink"}, "noise = 'pink'"),
        ({"policy_delay": 0}, "policy_delay = 0 updates"),
        ({"target_noise": -1.0}, "target_noise = -1.0"),
        ({"noise_theta": 0.0}, "noise_theta = 0.0 per step"),
    ):
        with pytest.raises(ValueError, match=message):
            DDPGConfig().environment("bandit").training(**settings).validate()
    config = DDPGConfig().model_config
    for spaces, message in (
        ((Box(-1, 1, (2, 2)), SPACES["action_space"]), "must be a Box of one dimension"),
        ((SPACES["observation_space"], Discrete(3)), "must be a bounded Box"),
        ((SPACES["observation_space"], Box(-np.inf, 1, (1,))), "must be a bounded Box"),
    ):
        with pytest.raises(ValueError, match=message):
            DDPGModule(observation_space=spaces[0], action_space=spaces[1], model_config=config)
