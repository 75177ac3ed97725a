"""Stable-Baselines3: one PPO that every agent acts by, through SuperSuit, as its docs and ours have it."""

from __future__ import annotations

from typing import Any

import supersuit
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from edgemarl.agents import PartneredParallelEnv, policy_of
from edgemarl.agents.api import Policy
from edgemarl.agents.clients.sb3 import controller_of
from edgemarl.agents.registry import make_controller
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.studies.clients.job import Job, Learned, Looks

SETTINGS = {"decisions_per_rollout": 4000, "batch_size": 256, "n_epochs": 10, "learning_rate": 1e-3}
"""Decisions are those of all agents. Its defaults (2048, 64, 10, 3e-4) take 2.6 times as long for a policy as good."""


class _AfterTraining(BaseCallback):
    """Says after every update how far the model is; a rollout begins where an update has ended."""

    def __init__(self, job: Job, at: Looks) -> None:
        super().__init__()
        self._job, self._at, self._scenario = job, at, job.make()

    def _on_rollout_start(self) -> None:
        self.look()

    def _on_step(self) -> bool:
        return True

    def look(self) -> None:
        self._at(self.num_timesteps, lambda: _policy(self.model, self._scenario, self._job))


def learn(job: Job, at: Looks) -> None:
    """Train to the budget."""
    learned, settings = Learned.of(job), {**SETTINGS, **job.settings}
    devices = PartneredParallelEnv(
        job.scenario, fixed=job.fixed, actions="unit", reward_scale=learned.reward_scale, **job.config
    )
    devices.reset(seed=job.seed)  # the vector's own `seed` is missing in SuperSuit 3.11: later resets draw on from here
    set_random_seed(job.seed)
    vector = supersuit.concat_vec_envs_v1(
        supersuit.pettingzoo_env_to_vec_env_v1(devices), 1, base_class="stable_baselines3"
    )
    model = PPO(
        "MlpPolicy", vector, n_steps=max(2, settings["decisions_per_rollout"] // learned.agents),
        batch_size=settings["batch_size"], n_epochs=settings["n_epochs"], learning_rate=settings["learning_rate"],
        gamma=learned.discount, device="cpu",
    )  # fmt: skip
    callback = _AfterTraining(job, at)
    at.begin()
    model.learn(job.budget, callback=callback)
    callback.look()


def _policy(model: Any, scenario: Scenario, job: Job) -> Policy:
    learned = Learned.of(job)
    members: dict[str, Any] = {role: make_controller(scenario, role, name) for role, name in job.fixed.items()}
    members[learned.role] = controller_of(model, scenario, job.client, learned.role)
    return policy_of(scenario, members, job.client)
