"""The batched runner against RLlib's own multi-agent runner: same weights, same traces, same returns and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.tune.registry import register_env

from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.rllib.multi_agent_env import ScenarioMultiAgentEnv
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import module_specs, rllib_config

SLOTS, HORIZON, DEVICES = 30, 20, 3  # a sample spans the end of an episode
GAMMA, LAMBDA = 0.95, 0.9
CONFIG = TrainConfig(
    set={"device_action": "split", "num_devices": DEVICES, "episode_blocks": HORIZON}, cells=1, slots=SLOTS, seed=3,
    gae_lambda=LAMBDA, discount=GAMMA,
)  # fmt: skip


@pytest.fixture(scope="module")
def traces() -> list[Any]:
    return [CONFIG.make_scenario().sample_trace(np.random.default_rng(i), cells=1) for i in range(2)]


@pytest.fixture(scope="module")
def theirs(local_cluster: None, traces: list[Any]) -> Any:
    """RLlib's PPO with its own runner and connectors, on the same modules."""
    scenario = CONFIG.make_scenario()
    register_env("parity", lambda _: ScenarioMultiAgentEnv(scenario, "local", scenario.learner_scale, traces))
    config = (
        PPOConfig()
        .environment("parity", disable_env_checking=True)
        .env_runners(num_env_runners=0, explore=False, rollout_fragment_length=SLOTS)
        .multi_agent(policies={"device", "server"}, policy_mapping_fn=lambda agent, *_, **__: agent.split("_")[0])
        .rl_module(rl_module_spec=module_specs(resolve(CONFIG)))
        .training(gamma=GAMMA, lambda_=LAMBDA, train_batch_size_per_learner=SLOTS, minibatch_size=SLOTS)
        .debugging(seed=3, log_level="ERROR")
    )
    algorithm = config.build_algo()
    yield algorithm
    algorithm.stop()


@pytest.fixture(scope="module")
def targets_of_both(theirs: Any, traces: list[Any]) -> dict[str, tuple[Any, Any]]:
    """Role -> value targets (SLOTS, agents), through RLlib's connectors and through ours."""
    learner = theirs.learner_group._learner
    episodes = theirs.env_runner.sample(num_timesteps=SLOTS)
    each_agent = ConnectorV2.single_agent_episode_iterator(episodes, agents_that_stepped_only=False)
    lengths = [(part.agent_id, len(part)) for part in each_agent]
    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=episodes, shared_data={}, metrics=learner.metrics
    )
    ours = runner(traces)
    ours.module.set_state(learner.module.get_state())
    mine = ours.sample(explore=False)
    found = {}
    for role, count in (("device", DEVICES), ("server", 1)):
        rows = batch[role][Postprocessing.VALUE_TARGETS].numpy()[batch[role]["loss_mask"].numpy()]
        columns: dict[str, list[Any]] = {}
        for agent, length in lengths:
            if not agent.startswith(role):
                continue
            columns.setdefault(agent, []).append(rows[:length])
            rows = rows[length:]
        assert not len(rows)
        theirs_targets = np.stack([np.concatenate(columns[agent]) for agent in sorted(columns)], axis=1)
        found[role] = (theirs_targets, mine[role][Postprocessing.VALUE_TARGETS].reshape(SLOTS, count))
    return found


def runner(traces: list[Any]) -> BatchedEnvRunner:
    class Replay(BatchedEnvRunner):
        replayed = iter(traces)

        @staticmethod
        def make_trace(_: np.random.Generator) -> Any:
            return next(Replay.replayed)

    config = rllib_config(resolve(CONFIG)).env_runners(explore=False)
    config.env_config["stagger"] = False
    return Replay(config=config, worker_index=0)


@pytest.mark.parametrize("role", ["device", "server"])
def test_value_targets_equal_those_of_rllibs_connectors(targets_of_both: Any, role: str) -> None:
    expected, found = targets_of_both[role]
    assert expected.shape == found.shape
    assert np.abs(expected).max() > 1  # not all alike
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_episode_returns_equal_those_of_rllibs_runner(theirs: Any, traces: list[Any]) -> None:
    theirs.env_runner.env.envs[0].unwrapped._episodes = 0
    (episode,) = theirs.env_runner.sample(num_episodes=1)
    ours = runner(traces)
    ours.module.set_state(theirs.learner_group._learner.module.get_state())
    ours.sample(num_timesteps=HORIZON, explore=False)
    found = float(ours.get_metrics()["episode_return_mean"].peek())
    assert found == pytest.approx(episode.get_return(), rel=1e-5)
