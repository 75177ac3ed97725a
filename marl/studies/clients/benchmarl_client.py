"""BenchMARL: IPPO and MAPPO with its MLP, parameters shared by the group, on a task made of a scenario."""

from __future__ import annotations

from typing import Any

import torch
from benchmarl.algorithms import IppoConfig, MappoConfig
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig

from edgemarl.agents import policy_of
from edgemarl.agents.api import Policy
from edgemarl.agents.clients.benchmarl_task import EdgeMARLTask
from edgemarl.agents.clients.torchrl import controllers_of
from edgemarl.agents.registry import make_controller
from edgemarl.marl.scratch import scratch
from edgemarl.marl.studies.clients.job import ClientJob, LearnedRole, Looks

ALGORITHMS = {"benchmarl_ippo": IppoConfig, "benchmarl_mappo": MappoConfig}


class _BenchMARLLooks(Callback):
    """Says after every update how far the experiment is."""

    def __init__(self, job: ClientJob, learned: LearnedRole, at: Looks) -> None:
        super().__init__()
        self._job, self._learned, self._at, self._scenario = job, learned, at, job.make()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # an experiment pickles its callbacks

    def on_train_end(self, training_td: Any, group: str) -> None:
        self._at(self.experiment.total_frames * self._learned.agents, self._policy)

    def _policy(self) -> Policy:
        job, role = self._job, self._learned.role
        members = {role: make_controller(self._scenario, role, name) for role, name in job.fixed.items()}
        members[role] = controllers_of(self.experiment.policy, self._scenario, job.client)[role]
        return policy_of(self._scenario, members, job.client)


def learn(job: ClientJob, at: Looks) -> None:
    """Train to the budget."""
    learned, settings = LearnedRole.of(job), job.settings
    frames = max(1, settings["decisions_per_batch"] // learned.agents)
    given = {"fixed": dict(job.fixed), "reward": job.reward, "reward_scale": learned.reward_scale}
    task = EdgeMARLTask(job.scenario, {**job.config, **given})
    config = ExperimentConfig.get_from_yaml()
    config.loggers, config.create_json, config.evaluation, config.render = [], False, False, False
    config.gamma, config.lr = learned.discount, settings["lr"]
    config.on_policy_n_envs_per_worker = max(1, frames // settings["slots"])
    config.on_policy_collected_frames_per_batch = frames
    config.on_policy_minibatch_size = max(1, settings["decisions_per_minibatch"] // learned.agents)
    config.on_policy_n_minibatch_iters = settings["epochs"]
    config.max_n_iters, config.max_n_frames = -(-job.budget // (frames * learned.agents)), None
    with scratch() as folder:
        config.save_folder = str(folder)
        experiment = Experiment(
            task=task,
            algorithm_config=ALGORITHMS[job.client].get_from_yaml(),
            model_config=MlpConfig.get_from_yaml(),
            critic_model_config=MlpConfig.get_from_yaml(),
            seed=job.seed,
            config=config,
            callbacks=[_BenchMARLLooks(job, learned, at)],
        )
        torch.set_num_threads(1)
        at.begin()
        experiment.run()
