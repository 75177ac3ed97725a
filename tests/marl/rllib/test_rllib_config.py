"""What users of RLlib change in a configuration: evaluation, callbacks, modules; and what is refused, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch

from edgemarl.agents.api import Team
from edgemarl.agents.trained.policy import NetworkController, TrainedPolicy
from edgemarl.marl.algorithms.ppo import BatchedPPOConfig
from edgemarl.marl.evaluation.rollout import GivenTraces, rollout
from edgemarl.marl.rllib.cells import Cells
from edgemarl.marl.rllib.evaluation import PlayedEpisodes
from edgemarl.marl.rllib.modules import ActorCriticModule
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.curve import policy_networks
from edgemarl.marl.training.setup import build, rllib_config

SMALL: dict[str, Any] = {"cells": 2, "slots": 5, "hidden": (8,)}
SHORT = {"device_action": "split", "num_devices": 3, "episode_blocks": 6}


def config(**values: Any) -> Any:
    return rllib_config(resolve(TrainConfig(**{"set": SHORT, "epochs": 1, **SMALL, **values})))


def built(changed: Any) -> Any:
    return build(changed, 1)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_evaluation_is_greedy_on_traces_of_its_own(local_cluster: None, algorithm: str) -> None:
    """Number for number what the policy does in a rollout over the same traces, and the same every time."""
    changed = rllib_config(resolve(TrainConfig(set=SHORT, algorithm=algorithm, **SMALL)))
    algo = built(changed.evaluation(evaluation_interval=1, evaluation_duration=5))
    try:
        first = algo.evaluate()["env_runners"]
        assert algo.evaluate()["env_runners"]["episode_return_mean"] == first["episode_return_mean"]
        assert (first["num_episodes"], first["episode_len_mean"]) == (5, 6)
        scenario = algo.eval_env_runner.scenario
        networks = policy_networks(algo)
        drawn = np.random.default_rng(np.random.SeedSequence([0, 0, 1]).spawn(2)[0])
        costs = []
        for cell in range(5):
            if cell % 2 == 0:  # two cells side by side
                part = drawn.spawn(1)[0]
            team = Team(
                "greedy", {r: NetworkController(TrainedPolicy(n, scenario.name, r)) for r, n in networks.items()}
            )
            source = GivenTraces(scenario.sample_trace(part, cells=1))
            costs.append(rollout(team, scenario, source, np.random.default_rng(0)).means["cost"][0])
        assert first["scenario"]["cost"] == pytest.approx(np.mean(costs))
        trained = algo.train()["evaluation"]["env_runners"]
        assert trained["num_episodes"] == 5 and trained["scenario"]["cost"] > 0
    finally:
        algo.stop()


def test_evaluation_on_a_remote_runner(local_cluster: None) -> None:
    changed = config().evaluation(evaluation_interval=1, evaluation_num_env_runners=1, evaluation_duration=3)
    algo = built(changed)
    try:
        assert algo.evaluate()["env_runners"]["num_episodes"] == 3
    finally:
        algo.stop()


def test_evaluation_explores_where_asked() -> None:
    asked = config().evaluation(evaluation_config={"explore": True})
    assert asked.get_evaluation_config_object().explore is True
    assert config().get_evaluation_config_object().explore is False and config().explore is True


def test_evaluation_counts_steps(local_cluster: None) -> None:
    changed = config().evaluation(evaluation_interval=1, evaluation_duration=7, evaluation_duration_unit="timesteps")
    algo = built(changed)
    try:
        found = algo.evaluate()["env_runners"]
        assert found["num_env_steps_sampled"] == 8 and found["num_episodes"] == 0  # whole slots of two cells
    finally:
        algo.stop()


def test_evaluation_without_runners_is_refused(local_cluster: None) -> None:
    algo = built(config())
    try:
        with pytest.raises(ValueError, match=r"config\.evaluation\(evaluation_interval=N\) before build"):
            algo.evaluate()
    finally:
        algo.stop()


class Told(RLlibCallback):
    """What runners and the algorithm call."""

    seen: list[tuple[str, type]] = []  # noqa: RUF012 - a new object for every runner

    def on_environment_created(
        self, *, env_runner: Any, metrics_logger: Any, env: Any, env_context: Any, **_: Any
    ) -> None:
        assert env_context["scenario"] == env_runner.scenario.name
        self.seen.append(("created", type(env)))

    def on_sample_end(self, *, env_runner: Any, metrics_logger: Any, samples: Any, **_: Any) -> None:
        metrics_logger.log_value("mine", 3.0)
        found = samples[0] if env_runner.config.in_evaluation else samples
        self.seen.append(("sampled", type(found)))


def test_callbacks_of_runners_are_called(local_cluster: None) -> None:
    Told.seen = []
    rows: list[int] = []
    changed = config().callbacks(Told, on_sample_end=lambda samples, **_: rows.append(len(samples.policy_batches)))
    algo = built(changed)
    try:
        result = algo.train()
    finally:
        algo.stop()
    assert Told.seen == [("created", Cells), ("sampled", MultiAgentBatch)] and rows == [2]
    assert result["env_runners"]["mine"] == 3.0


def test_callbacks_of_evaluation_get_counts(local_cluster: None) -> None:
    Told.seen = []
    algo = built(config().callbacks(Told).evaluation(evaluation_interval=1, evaluation_duration=1))
    try:
        algo.evaluate()
    finally:
        algo.stop()
    assert Told.seen == [("sampled", PlayedEpisodes)]


class OfEpisodes(RLlibCallback):
    def on_episode_end(self, **_: Any) -> None:
        raise AssertionError("never called")


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"callbacks_class": OfEpisodes}, "on_episode_end of OfEpisodes"),
        ({"callbacks_class": [Told, OfEpisodes]}, "on_episode_end of OfEpisodes"),
        ({"on_episode_step": lambda **_: None}, "on_episode_step"),
    ],
)
def test_callbacks_of_episodes_are_refused(algorithm: str, given: dict[str, Any], name: str) -> None:
    fields = {"grid": {"device": 3, "server": 3}} if algorithm == "dqn" else {}
    settings = {**SMALL, "algorithm": algorithm, **fields}
    changed = rllib_config(resolve(TrainConfig(set={"num_devices": 2}, **settings))).callbacks(**given)
    with pytest.raises(ValueError, match=f"callback {name} gets an episode object.*use on_sample_end") as refused:
        changed.validate()
    assert "\n" not in str(refused.value)


class Quiet(ActorCriticModule):
    """A module of one's own."""


def test_modules_of_ones_own_are_taken(local_cluster: None) -> None:
    algo = built(config().role_modules(device=Quiet))
    try:
        algo.train()
        assert type(algo.env_runner.module["device"]) is Quiet
    finally:
        algo.stop()


def test_modules_of_rllib_are_refused_in_a_line() -> None:
    changed = config().role_modules(device=DefaultPPOTorchRLModule)
    with pytest.raises(ValueError, match=r"module of 'device' is DefaultPPOTorchRLModule: .* ActorCriticModule"):
        changed.validate()
    single = config().rl_module(rl_module_spec=RLModuleSpec(module_class=Quiet))
    with pytest.raises(ValueError, match="with a module for each of device, server"):
        single.validate()


def test_a_bare_configuration_says_what_it_misses() -> None:
    with pytest.raises(ValueError, match=r"BatchedPPOConfig alone misses env_runners\(env_runner_cls.*rllib_config"):
        BatchedPPOConfig().build_algo()
