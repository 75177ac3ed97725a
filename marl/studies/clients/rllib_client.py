"""RLlib with its own runner, modules and connectors: its PPO, one module for all agents of the role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgemarl.marl.rllib.checkpoint import RLlibCheckpoint, module_policy, read_checkpoint
from edgemarl.marl.rllib.multi_agent_env import ScenarioMultiAgentEnv
from edgemarl.marl.rllib.node import local_ray
from edgemarl.marl.scratch import scratch
from edgemarl.marl.studies.clients.job import ClientJob, LearnedRole, Looks


def learn(job: ClientJob, at: Looks) -> None:
    """Train to the budget."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    learned, settings = LearnedRole.of(job), job.settings
    register_env("edgemarl_client", lambda given: ScenarioMultiAgentEnv(**given))
    given = {
        "scenario": job.scenario, "reward": job.reward, "fixed": dict(job.fixed),
        "scales": {learned.role: learned.reward_scale}, **job.config,
    }  # fmt: skip
    slots = max(1, settings["decisions_per_batch"] // learned.agents)
    config = (
        PPOConfig()
        .environment("edgemarl_client", env_config=given, disable_env_checking=True)
        .env_runners(num_env_runners=0)
        .multi_agent(policies={learned.role}, policy_mapping_fn=lambda agent, *_, **__: agent.split("_")[0])
        .debugging(seed=job.seed, log_level="ERROR")
        .training(
            lr=settings["lr"], gamma=learned.discount, lambda_=settings["lambda"], num_epochs=settings["num_epochs"],
            minibatch_size=settings["minibatch_size"], train_batch_size_per_learner=slots,
        )
        .experimental(_validate_config=False)  # its check counts slots against a minibatch of decisions
    )  # fmt: skip
    scenario = job.make()
    with local_ray(0), scratch() as folder:
        algorithm = config.build_algo()
        try:
            at.begin()
            decisions = 0
            while decisions < job.budget:
                algorithm.train()
                decisions += slots * learned.agents
                at(decisions, lambda: module_policy(_saved(algorithm, folder), scenario))
        finally:
            algorithm.stop()


def _saved(algorithm: Any, folder: Path) -> RLlibCheckpoint:
    algorithm.save_to_path(str(folder / "checkpoint"))
    return read_checkpoint(folder / "checkpoint")
