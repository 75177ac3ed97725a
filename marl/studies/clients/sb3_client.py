"""Stable-Baselines3: one PPO that every agent acts by, through SuperSuit, as its docs and ours have it."""

from __future__ import annotations

from collections.abc import Callable
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
from edgemarl.marl.studies.clients.job import ClientJob, LearnedRole, Looks


class _SB3Looks(BaseCallback):
    """Says after every update how far the model is; a rollout begins where an update has ended."""

    def __init__(self, job: ClientJob, at: Looks) -> None:
        super().__init__()
        self._job, self._at, self._scenario = job, at, job.make()

    def _on_rollout_start(self) -> None:
        self.look()

    def _on_step(self) -> bool:
        return True

    def look(self) -> None:
        self._at(self.num_timesteps, lambda: _policy(self.model, self._scenario, self._job))


def learn(job: ClientJob, at: Looks) -> None:
    """Train to the budget."""
    learned, settings = LearnedRole.of(job), job.settings
    devices = PartneredParallelEnv(
        job.scenario, job.reward, fixed=job.fixed, actions="unit", reward_scale=learned.reward_scale, **job.config
    )
    devices.reset(seed=job.seed)  # the vector's own `seed` is missing in SuperSuit 3.11: later resets draw on from here
    set_random_seed(job.seed)
    vector = supersuit.concat_vec_envs_v1(
        supersuit.pettingzoo_env_to_vec_env_v1(devices), 1, base_class="stable_baselines3"
    )
    model = PPO(
        "MlpPolicy", vector, n_steps=max(2, settings["decisions_per_rollout"] // learned.agents),
        batch_size=settings["batch_size"], n_epochs=settings["n_epochs"], gamma=learned.discount, device="cpu",
        learning_rate=_falling(settings["lr"], settings["lr_final"]),
    )  # fmt: skip
    callback = _SB3Looks(job, at)
    at.begin()
    model.learn(job.budget, callback=callback)
    callback.look()


def _falling(first: float, share: float) -> Callable[[float], float]:
    """A rate that falls linearly to a share of the first one; its argument is the share of the budget that is left."""
    return lambda left: first * (share + (1.0 - share) * left)


def _policy(model: Any, scenario: Scenario, job: ClientJob) -> Policy:
    learned = LearnedRole.of(job)
    members: dict[str, Any] = {role: make_controller(scenario, role, name) for role, name in job.fixed.items()}
    members[learned.role] = controller_of(model, scenario, job.client, learned.role)
    return policy_of(scenario, members, job.client)
