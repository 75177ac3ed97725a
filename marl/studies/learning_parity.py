"""The same PPO through our batched runner and through RLlib's own multi-agent runner: do they learn the same?

    edgemarl check parity --training-seeds 5 --agent-steps 320000

`sequential_offloading`, 20 devices that share one policy; equal networks, loss, batch, minibatch, epochs, learning-rate
schedule and discount. A device's reward and queue do not depend on the server, so RLlib's side leaves the server to
an untrained module. Every policy is then played next to the same server (`parametric_q`) on the same fresh topologies.
Prints the cost of each side with its 95% t-interval over seeds and their difference, paired by seed. Policies are kept
in the folder, and those that are there are not trained again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env
from scipy import stats

from edgemarl.agents.api import Team
from edgemarl.agents.registry import make_controller
from edgemarl.agents.trained.policy import NetworkController, TrainedPolicy
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout
from edgemarl.marl.rllib.multi_agent_env import ScenarioMultiAgentEnv
from edgemarl.marl.rllib.node import local_ray
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.curve import policy_networks
from edgemarl.marl.training.setup import module_specs, rllib_config, runner_settings, set_up

SIDES = ("batched", "rllib")
SERVER = {"server": "parametric_q"}
CELLS, SLOTS, WARMUP, TEST_CELLS, TEST_SLOTS = 8, 50, 50, 16, 400


def run_config(seed: int, agent_steps: int, devices: int) -> TrainConfig:
    """Both sides' settings."""
    return TrainConfig(
        set={"device_action": "split", "num_devices": devices}, fixed=SERVER, agent_steps=agent_steps, cells=CELLS,
        slots=SLOTS, seed=seed,
    )  # fmt: skip


def batched_policy(config: TrainConfig) -> TrainedPolicy:
    """The device policy of our runner."""
    return _trained(set_up(resolve(config)), config)


def rllib_policy(config: TrainConfig) -> TrainedPolicy:
    """The device policy of RLlib's PPO with its own runner, connectors and Learner."""
    return _trained(rllib_algorithm(config), config)


def rllib_algorithm(config: TrainConfig) -> Any:
    """RLlib's PPO with its own runner, connectors and Learner, and the run's settings."""
    scenario = config.make_scenario()
    both = dataclasses.replace(config, fixed={})
    scales = {"device": runner_settings(resolve(config)).scales["device"]}
    register_env("learning_parity", lambda _: ScenarioMultiAgentEnv(scenario, "local", scales))
    ours = rllib_config(resolve(config))
    built = (
        PPOConfig()
        .environment("learning_parity", disable_env_checking=True)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=config.cells, rollout_fragment_length=config.slots)
        .multi_agent(
            policies={"device", "server"},
            policy_mapping_fn=lambda agent, *_, **__: agent.split("_")[0],
            policies_to_train=["device"],
        )
        .rl_module(rl_module_spec=module_specs(resolve(both)))
        .debugging(seed=config.seed, log_level="ERROR")
        .training(
            lr=ours.lr, gamma=ours.gamma, lambda_=ours.lambda_, clip_param=ours.clip_param,
            vf_clip_param=ours.vf_clip_param, vf_loss_coeff=ours.vf_loss_coeff, entropy_coeff=ours.entropy_coeff,
            use_kl_loss=ours.use_kl_loss, grad_clip=ours.grad_clip, grad_clip_by=ours.grad_clip_by,
            num_epochs=ours.num_epochs, minibatch_size=ours.minibatch_size,
            train_batch_size_per_learner=config.cells * config.slots,
        )
        .experimental(_validate_config=False)  # its check counts env steps against a minibatch of agent-steps
    )  # fmt: skip
    return built.build_algo()


def _trained(algorithm: Any, config: TrainConfig) -> TrainedPolicy:
    """Train to the budget and take the device's network."""
    torch.set_num_threads(1)
    per_iteration = CELLS * SLOTS * config.make_scenario().roles["device"].count
    try:
        for _ in range(-(-config.agent_steps // per_iteration)):
            algorithm.train()
        network = policy_networks(algorithm)["device"]
    finally:
        algorithm.stop()
    return TrainedPolicy(network, config.scenario, "device", {"train": config.to_dict()})


def cost_of(policy: TrainedPolicy, config: TrainConfig) -> np.ndarray:
    """Cost per device and block (topologies,) of the greedy policy on fresh topologies."""
    scenario = config.make_scenario()
    server = make_controller(scenario, "server", config.fixed["server"])
    team = Team("parity", {"device": NetworkController(policy), "server": server})
    source = SampledTraces(scenario, 10_000, TEST_CELLS, TEST_SLOTS)
    played = rollout(team, scenario, source, np.random.default_rng(0), warmup=WARMUP, window_slots=WARMUP)
    cost: np.ndarray = played.means[scenario.cost_metric] / scenario.cost_divisor
    return cost


def study(folder: Path, seeds: int, agent_steps: int, devices: int) -> dict[str, np.ndarray]:
    """Side -> costs (seeds, topologies); trains what the folder does not hold."""
    makers = dict(zip(SIDES, (batched_policy, rllib_policy), strict=True))
    costs: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
    with local_ray(0):
        for seed in range(seeds):
            config = run_config(seed, agent_steps, devices)
            for side in SIDES:
                file = folder / f"{side}-{devices}-{agent_steps}-{seed}.pt"
                if not file.is_file():
                    makers[side](config).save(file)
                cost = cost_of(TrainedPolicy.load(file), config)
                costs[side].append(cost)
                print(f"seed {seed}, {side}: cost {cost.mean():.3f}", flush=True)
    return {side: np.stack(per_seed) for side, per_seed in costs.items()}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95% t-interval; one value per seed."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
