"""From a resolved run to RLlib: what runners sample, the modules, the whole `AlgorithmConfig`."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.rllib.node import without_object_store
from edgemarl.marl.rllib.settings import RunnerSettings, settings_for

PROBE_S = 5.0
"""Time in s that an iteration waits for a lost runner to answer (how often: `edgemarl.marl.rllib.recovery`)."""


def rllib_config(run: Run) -> Any:
    """RLlib's configuration of a run: the algorithm's own, and what every run has alike."""
    algorithm = run.algorithm
    config = (
        algorithm.build(run)
        .environment(env_config=runner_settings(run).to_dict())
        .env_runners(
            env_runner_cls=algorithm.runner_class() or BatchedEnvRunner,
            num_env_runners=run.config.num_env_runners,
            sample_timeout_s=600.0,
        )
        .fault_tolerance(restart_failed_env_runners=True, env_runner_health_probe_timeout_s=PROBE_S)
        .learners(num_learners=run.config.num_learners)
        .multi_agent(policies=list(run.roles), policy_mapping_fn=_module_of)
        .rl_module(rl_module_spec=module_specs(run))
        .debugging(seed=run.config.seed, log_level="ERROR")
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)  # a sample and its updates
    )
    config.overlap = run.config.overlap
    config.module_bases = {role: algorithm.module_class_of(run, role) for role in run.roles}
    return config


def build(config: Any, threads: int) -> Any:
    """The RLlib algorithm of a configuration, in a process with so many computing threads."""
    for name in ("ray", "ray.rllib"):  # RLlib sets a level of its own when it is imported
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(threads)  # PyTorch's default oversubscribes the cores next to runners
    with without_object_store():
        return config.build_algo()


def set_up(run: Run) -> Any:
    """The RLlib algorithm of a run."""
    return build(rllib_config(run), run.config.threads)


def runner_settings(run: Run) -> RunnerSettings:
    """What the run's runners sample."""
    config, algorithm = run.config, run.algorithm
    return settings_for(
        config.scenario,
        overrides=dict(config.set),
        roles=run.roles,
        fixed=dict(config.fixed),
        reward=config.reward_mode,
        scales=run.reward_scales(),
        offset=run.settings.reward_offset,
        cells=config.cells,
        slots=config.slots,
        critic_pool=algorithm.critic_pool,
        pooled=config.pooled,
        foresight=algorithm.foresight(run),
        hybrid=algorithm.hybrid,
        trace=config.trace,
        trace_digest=config.trace_digest,
        trace_ignore=config.trace_ignore,
        train_share=config.train_share,
        output=algorithm.output,
    )


def module_specs(run: Run) -> MultiRLModuleSpec:
    """A module per learned role, or one for the joint action."""
    algorithm = run.algorithm
    specs = {}
    for role in run.roles:
        observation_space, action_space = algorithm.spaces(run, role)
        specs[role] = RLModuleSpec(
            module_class=algorithm.module_class_of(run, role),
            observation_space=observation_space,
            action_space=action_space,
            model_config=algorithm.module_config(run, role),
        )
    return MultiRLModuleSpec(rl_module_specs=specs)


def _module_of(agent_id: str, episode: Any = None, **_: Any) -> str:
    """`device_3` -> `device`: the modules are the roles."""
    return agent_id.split("_")[0]
