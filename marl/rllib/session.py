"""Building RLlib algorithms from a `TrainConfig`, and a small local Ray where none runs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from edgemarl.agents.registry import message_entries, pricing
from edgemarl.agents.trained.hybrid import hybrid_action
from edgemarl.agents.trained.networks import NetworkSpec, network_spec
from edgemarl.agents.trained.policy import CENTRAL, row_size
from edgemarl.agents.trained.priced_network import ActingNetwork
from edgemarl.envs.api import Scenario
from edgemarl.marl.rllib.counterfactual import CounterfactualConfig, PolicyModule
from edgemarl.marl.rllib.ddpg import DDPG_EXTRAS, TD3_EXTRAS, DDPGConfig
from edgemarl.marl.rllib.ddpg_module import DDPGModule
from edgemarl.marl.rllib.env_runner import SCENARIO_METRICS, BatchedEnvRunner, RunnerSettings, settings_for
from edgemarl.marl.rllib.hybrid_sac import HybridSACConfig, HybridSACModule
from edgemarl.marl.rllib.modules import ActorCriticModule
from edgemarl.marl.rllib.off_policy import BatchedDQNConfig, BatchedSACConfig, QModule, SACModule
from edgemarl.marl.rllib.ppo import BatchedPPOConfig
from edgemarl.marl.rllib.priced_dqn import PricedDQNConfig, PricedModule, PricedRunner
from edgemarl.marl.training.config import DETERMINISTIC, OFF_POLICY, TrainConfig

SQUASHED: dict[str, Any] = {"state_std": True, "squash": "tanh", "log_std_min": -5.0, "log_std_max": 1.0}
"""SAC's policy: RLlib's squashed Gaussian with a standard deviation that depends on the state."""
TANH: dict[str, Any] = {"deterministic": True, "squash": "tanh"}
"""The policy of DDPG and TD3."""
MODULES = {
    "priced_dqn": PricedModule,
    "dqn": QModule,
    "sac": SACModule,
    "ddpg": DDPGModule,
    "td3": DDPGModule,
    "counterfactual": PolicyModule,
    "hybrid_sac": HybridSACModule,
}
START_ATTEMPTS = 4
END_S = 10.0
"""Time that killed processes have to be gone, in s."""
PROBE_S = 5.0
"""Time in s that an iteration waits for a lost runner to answer (how often: `edgemarl.marl.rllib.recovery`)."""
OBJECT_STORE_BYTES = 200 * 1024**2


@contextlib.contextmanager
def local_ray(num_env_runners: int) -> Iterator[None]:
    """Ray for the block: the running or given one (`RAY_ADDRESS`), else a small local one that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        _start_node(num_env_runners)
    try:
        yield
    finally:
        ray.shutdown()


def _start_node(num_env_runners: int) -> None:
    """A small Ray node bound to this machine; a start that times out because the machine is busy is repeated."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                num_cpus=num_env_runners + 1,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}} if num_env_runners else None,
                _system_config={"prestart_worker_first_driver": False},  # workers are started when they are asked for
            )
            return
        except Exception as error:  # Ray raises no narrower class
            if attempt == START_ATTEMPTS or "timed out" not in str(error):
                raise
            ray.shutdown()
            _end_failed_start()


def _end_failed_start() -> None:
    """End the processes of a start that timed out: Ray keeps them until this process ends, and a busy machine busy."""
    import psutil  # Ray ships it, and puts it on the path when it is imported

    own = re.compile(rf"session_[\d_-]+_{os.getpid()}\b")  # Ray names a session after its time and the driver
    left = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(own.search(part) for part in process.cmdline()):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=END_S)


def set_up(config: TrainConfig) -> Any:
    """The RLlib algorithm of a training run."""
    for name in ("ray", "ray.rllib"):  # RLlib sets a level of its own when it is imported
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(config.threads)  # PyTorch's default oversubscribes the cores next to runners
    build = off_policy_config if config.algorithm in OFF_POLICY else ppo_config
    return build(config).build_algo()


def default_discount(config: TrainConfig, scenario: Scenario) -> float:
    """The run's discount, else the scenario's own, else 0.99."""
    return float(config.discount if config.discount is not None else getattr(scenario.config, "discount", 0.99))


def runner_settings(config: TrainConfig) -> RunnerSettings:
    """What the run's runners sample."""
    scenario = config.make_scenario()
    return settings_for(
        config.scenario,
        overrides=dict(config.set),
        roles=config.learned_roles(),
        fixed=dict(config.fixed),
        reward=config.reward_mode,
        scales=reward_scales(config, scenario),
        offset=config.reward_offset,
        cells=config.cells,
        slots=config.slots,
        with_global_state=config.algorithm == "mappo",
        pooled=config.pooled,
        foresight=config.foresight,
        hybrid=config.algorithm == "hybrid_sac",
        output={**dict.fromkeys(OFF_POLICY, "transitions"), "counterfactual": "choices"}.get(
            config.algorithm, "advantages"
        ),
    )


def reward_scales(config: TrainConfig, scenario: Scenario) -> dict[str, float]:
    """Learned role -> factor on its reward.

    Sums over a cell (team) are divided by its number of agents; "coupled", whose noise grows with its root, by that.
    """
    agents = sum(scenario.ledger.values())
    scales = {role: float(scenario.learner_scale[role]) for role in scenario.ledger}
    if config.joint:
        return {CENTRAL: config.reward_scale or float(np.mean(list(scales.values()))) / agents}
    share = {"team": agents, "coupled": math.sqrt(agents)}.get(config.reward_mode, 1)
    return {role: config.reward_scale or scales[role] / share for role in config.learned_roles()}


def module_specs(config: TrainConfig, scenario: Scenario) -> MultiRLModuleSpec:
    """A module per learned role, or one for central control."""
    hidden = config.hidden or ((256, 256) if config.joint else (64, 64))
    entries = message_entries(scenario, config.fixed)
    deterministic = config.algorithm in DETERMINISTIC
    kind = TANH if deterministic else SQUASHED if config.algorithm == "sac" else {}
    extras = {"td3": TD3_EXTRAS, "ddpg": DDPG_EXTRAS}.get(config.algorithm, {})
    specs = {}
    for name in config.learned_roles():
        if config.joint:
            observation_space, action_space, agents = scenario.global_state_space, scenario.central_space, 1
            size = observation_space.shape[0]
        else:
            role = scenario.roles[name]
            observation_space, action_space, agents = role.observation_space, role.action_space, role.count
            size = row_size(scenario, name, config.pooled) + entries.get(name, 0)
        if config.algorithm == "hybrid_sac":
            specs[name] = _hybrid_module(config, scenario, hidden)
            continue
        spec = network_spec(
            size,
            action_space,
            hidden=hidden,
            agents=agents if config.policies == "independent" and agents > 1 else 0,
            normalise=config.normalise,
            log_std=config.log_std,
            grid=() if config.joint else config.grid_of(name),
            activation=config.activation or ("relu" if deterministic else "tanh"),
            output_gain=config.output_gain or (0.1 if deterministic else 0.01),
            one_hot=tuple(sorted((int(c), int(n)) for c, n in config.one_hot.get(name, {}).items())),
            parts=() if config.joint else parts_of(config, scenario, name),
            **kind,
        )
        if spec.grid:
            action_space = gymnasium.spaces.Discrete(spec.outputs)
        if config.algorithm == "priced_dqn":
            spec = dataclasses.replace(spec, price=pricing(scenario).spec())
        specs[name] = RLModuleSpec(
            module_class=MODULES.get(config.algorithm, ActorCriticModule),
            observation_space=observation_space,
            action_space=action_space,
            model_config={
                "spec": spec.to_dict(),
                "critic_hidden": tuple(config.critic_hidden or hidden),
                "global_size": scenario.global_state_space.shape[0] if config.algorithm == "mappo" else 0,
                "agents": agents,
                "first_action": config.first_action.get(name, ()),
                "foreseen": foreseen_entries(config, scenario, name),
                "cell_size": scenario.cell_sizes.get(name, 0) if config.reward_mode == "cell" else 0,
                **extras,
            },
        )
    return MultiRLModuleSpec(rl_module_specs=specs)


def foreseen_entries(config: TrainConfig, scenario: Scenario, role: str) -> int:
    """Entries beside a role's row that tell its critic what the next slots bring."""
    if not config.foresight or role not in scenario.foreseen_roles:
        return 0
    trace = scenario.sample_trace(np.random.default_rng(0), cells=1, slots=1)
    return config.foresight * int(scenario.outlook(trace)[role].shape[-1])


def _hybrid_module(config: TrainConfig, scenario: Scenario, hidden: tuple[int, ...]) -> RLModuleSpec:
    """The module of one network for all parts of the joint action; its actions are relaxed."""
    action = hybrid_action(scenario.hybrid_space, config.relaxation, restrict=config.restrict)
    spec = NetworkSpec(
        scenario.global_state_space.shape[0],
        "hybrid",
        hidden=hidden,
        activation=config.activation or "relu",
        output_gain=config.output_gain or 0.01,
        hybrid=action.to_dict(),
    )
    return RLModuleSpec(
        module_class=HybridSACModule,
        observation_space=scenario.global_state_space,
        action_space=gymnasium.spaces.Box(-1.0, 1.0, (action.relaxed_size,), np.float32),
        model_config={
            "spec": spec.to_dict(),
            "critic_hidden": tuple(config.critic_hidden or hidden),
            "soft_target": config.soft_target,
        },
    )


def parts_of(config: TrainConfig, scenario: Scenario, role: str) -> tuple[int, ...]:
    """How a role's row and Box action divide into like parts, if its network is to treat them alike."""
    parts = scenario.roles[role].parts if config.network == "parts" else None
    return () if parts is None else dataclasses.astuple(parts)


def ppo_config(config: TrainConfig) -> BatchedPPOConfig:
    """RLlib's configuration of a run that learns from what it has just sampled: ppo, mappo, counterfactual."""
    scenario = config.make_scenario()
    roles = config.learned_roles()
    agents = config.learned_agents()
    lr = config.lr or (3e-4 if config.joint else 1e-3)
    env_steps = max(1, config.agent_steps // agents)
    return (
        (CounterfactualConfig() if config.algorithm == "counterfactual" else BatchedPPOConfig())
        .environment(env_config=runner_settings(config).to_dict())
        .env_runners(
            env_runner_cls=BatchedEnvRunner,
            num_env_runners=config.num_env_runners,
            sample_timeout_s=600.0,
        )
        .fault_tolerance(restart_failed_env_runners=True, env_runner_health_probe_timeout_s=PROBE_S)
        .learners(num_learners=0)
        .multi_agent(policies=set(roles), policy_mapping_fn=_module_of)
        .rl_module(rl_module_spec=module_specs(config, scenario))
        .debugging(seed=config.seed, log_level="ERROR")
        .training(
            lr=[[0, lr], [env_steps, lr * config.lr_final]],
            gamma=default_discount(config, scenario),
            lambda_=config.gae_lambda,
            clip_param=config.clip,
            vf_clip_param=float("inf"),
            vf_loss_coeff=config.value_weight,
            entropy_coeff=entropy_schedule(config, env_steps),
            use_kl_loss=False,
            grad_clip=config.gradient_clip,
            grad_clip_by="global_norm",
            num_epochs=config.epochs,
            minibatch_size=config.minibatch,
            train_batch_size_per_learner=max(config.minibatch, config.cells * config.slots * agents),
        )
    )


def entropy_schedule(config: TrainConfig, env_steps: int) -> float | list[list[float]]:
    """The entropy bonus: constant, or linear to 0 over a share of the budget."""
    if config.entropy_until is None:
        return config.entropy
    return [[0, config.entropy], [max(1, round(config.entropy_until * env_steps)), 0.0]]


def off_policy_config(config: TrainConfig) -> Any:
    """RLlib's configuration of a run with a replay buffer."""
    scenario = config.make_scenario()
    roles = config.learned_roles()
    env_steps = max(1, config.agent_steps // config.learned_agents())
    kinds: dict[str, Any] = {
        "priced_dqn": PricedDQNConfig,
        "dqn": BatchedDQNConfig,
        "sac": BatchedSACConfig,
        "ddpg": DDPGConfig,
        "td3": DDPGConfig,
        "hybrid_sac": HybridSACConfig,
    }
    built = (
        kinds[config.algorithm]()
        .environment(env_config=runner_settings(config).to_dict())
        .env_runners(env_runner_cls=BatchedEnvRunner, num_env_runners=config.num_env_runners, sample_timeout_s=600.0)
        .fault_tolerance(restart_failed_env_runners=True, env_runner_health_probe_timeout_s=PROBE_S)
        .learners(num_learners=0)
        .multi_agent(policies=set(roles), policy_mapping_fn=_module_of)
        .rl_module(rl_module_spec=module_specs(config, scenario))
        .debugging(seed=config.seed, log_level="ERROR")
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)  # a sample and its updates
        .training(
            gamma=default_discount(config, scenario),
            tau=config.target_rate,
            target_network_update_freq=0,
            grad_clip=config.gradient_clip,
            grad_clip_by="global_norm",
            num_steps_sampled_before_learning_starts=0,
        )
    )
    largest = max(1 if config.joint else scenario.roles[r].count for r in roles)
    built.replay_rows = max(config.replay // (largest if config.policies == "independent" else 1), 1)
    built.replay_batch, built.updates_per_step = config.minibatch, config.updates
    _FINISH[config.algorithm](built, config, env_steps)
    return built


def _set_dqn(built: Any, config: TrainConfig, env_steps: int) -> None:
    lr = config.lr or 1e-3
    built.training(lr=_falling(lr, config, env_steps), double_q=True, dueling=False, num_atoms=1)
    built.exploration_steps, built.epsilon_final = max(1, int(config.exploration * env_steps)), config.epsilon


def _set_sac(built: Any, config: TrainConfig, env_steps: int) -> None:
    rate = _falling(config.lr or (3e-4 if config.joint else 1e-3), config, env_steps)
    built.training(actor_lr=rate, critic_lr=rate, alpha_lr=rate, initial_alpha=0.1, twin_q=True, lr=None)


def _set_ddpg(built: Any, config: TrainConfig, env_steps: int) -> None:
    actor, critic = (1e-4, 1e-3) if config.algorithm == "ddpg" else (3e-4, 3e-4)
    built.actor_lr = _falling(config.lr or actor, config, env_steps)
    built.critic_lr = _falling(config.critic_lr or critic, config, env_steps)
    built.noise, built.noise_steps = config.noise, env_steps
    built.noise_final = config.noise if config.noise_final is None else config.noise_final
    built.random_steps, built.action_penalty = config.random_steps, config.action_penalty


def _set_priced(built: Any, config: TrainConfig, env_steps: int) -> None:
    _set_dqn(built, config, env_steps)
    built.env_runners(env_runner_cls=PricedRunner)
    built.replay_rows = max(1, config.replay // config.learned_agents())
    built.budget_steps, built.price_updates = env_steps, config.price_updates


def _set_hybrid(built: Any, config: TrainConfig, env_steps: int) -> None:
    """SAC's settings; a fixed temperature is one that is not learned, and updates start with a full minibatch."""
    _set_sac(built, config, env_steps)
    action = hybrid_action(config.make_scenario().hybrid_space, config.relaxation, restrict=config.restrict)
    built.training(target_entropy=-float(action.learned_entries))
    if config.alpha is not None:
        built.training(initial_alpha=config.alpha, alpha_lr=0.0)
    built.random_steps = config.minibatch


_FINISH = {
    "priced_dqn": _set_priced,
    "dqn": _set_dqn,
    "sac": _set_sac,
    "ddpg": _set_ddpg,
    "td3": _set_ddpg,
    "hybrid_sac": _set_hybrid,
}


def _falling(lr: float, config: TrainConfig, env_steps: int) -> list[list[float]]:
    """A learning rate that falls linearly over the budget, as RLlib writes a schedule."""
    return [[0, lr], [env_steps, lr * config.lr_final]]


def _module_of(agent_id: str, episode: Any = None, **_: Any) -> str:
    """`device_3` -> `device`: the modules are the roles."""
    return agent_id.split("_")[0]


def curve_row(result: dict[str, Any], config: TrainConfig) -> dict[str, float]:
    """One row of the learning curve from RLlib's result of an iteration."""
    sampled = result[ENV_RUNNER_RESULTS]
    roles = config.learned_roles()
    env_steps = int(sampled[NUM_ENV_STEPS_SAMPLED_LIFETIME])
    row = {
        "iteration": int(result["training_iteration"]),
        "env_steps": env_steps,
        "agent_steps": env_steps * config.learned_agents(),
        "episode_return": float(sampled.get(EPISODE_RETURN_MEAN, float("nan"))),
    }
    row.update({name: float(value) for name, value in sampled.get(SCENARIO_METRICS, {}).items()})
    for role in roles:
        losses = result.get(LEARNER_RESULTS, {}).get(role, {})
        for name in ("policy_loss", "vf_loss", "qf_loss", "price_loss", "entropy", "default_optimizer_learning_rate"):
            if name in losses:
                row[f"{role}_{name}"] = float(losses[name])
    return row


def policy_networks(algorithm: Any) -> dict[str, ActingNetwork]:
    """Role -> a copy of the policy network as the learner holds it."""
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    networks = {}
    for role, spec in algorithm.config.rl_module_spec.rl_module_specs.items():
        module = spec.build()
        module.set_state(state[role])
        networks[role] = module.policy
    return networks
