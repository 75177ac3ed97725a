"""DDPG or TD3 on Gymnasium's Pendulum-v1: a check of the algorithm against published returns (-150 to -200).

    python -m marl.rllib.pendulum ddpg --steps 15000 --seed 0

Prints the mean return of the last episodes (with exploration noise) while it trains, and of 20 fresh episodes without
noise at the end.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN, NUM_ENV_STEPS_SAMPLED_LIFETIME

from marl.rllib.ddpg import DDPGConfig, TD3Config
from marl.rllib.session import local_ray

ENVIRONMENT, EVALUATION_EPISODES = "Pendulum-v1", 20


def pendulum_config(algorithm: str, seed: int) -> DDPGConfig:
    """Settings of both algorithms: small networks, one update per env step."""
    config = TD3Config() if algorithm == "td3" else DDPGConfig()
    return (
        config.environment(ENVIRONMENT)
        .env_runners(num_env_runners=0, rollout_fragment_length=10)
        .debugging(seed=seed, log_level="ERROR")
        .training(
            actor_hidden=(64, 64),
            critic_hidden=(64, 64),
            actor_lr=1e-3,
            critic_lr=1e-3,
            tau=0.005,
            noise="gaussian",
            noise_scale=0.1,
            random_steps=1000,
            train_batch_size_per_learner=64,
            training_intensity=64.0,
        )
    )


def returns_without_noise(module: Any, episodes: int, seed: int) -> np.ndarray:
    """Undiscounted returns (episodes,) of the deterministic policy, each from its own start."""
    env = gymnasium.make(ENVIRONMENT)
    space = env.action_space
    low, high = space.low, space.high  # type: ignore[attr-defined]
    returns = np.zeros(episodes)
    for episode in range(episodes):
        row, over = env.reset(seed=seed + episode)[0], False
        while not over:
            rows = {Columns.OBS: torch.from_numpy(np.asarray(row, np.float32))[None]}
            action = module.forward_inference(rows)[Columns.ACTIONS].numpy()[0]
            row, reward, terminated, truncated, _ = env.step(low + (action + 1.0) / 2.0 * (high - low))
            returns[episode] += float(reward)
            over = terminated or truncated
    return returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm", choices=("ddpg", "td3"))
    parser.add_argument("--steps", type=int, default=15_000, help="env steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, cpu = time.perf_counter(), time.process_time()
    with local_ray(0):
        algorithm = pendulum_config(options.algorithm, options.seed).build_algo()
        steps = 0
        while steps < options.steps:
            result = algorithm.train()[ENV_RUNNER_RESULTS]
            steps = int(result[NUM_ENV_STEPS_SAMPLED_LIFETIME])
            mean = result.get(EPISODE_RETURN_MEAN, float("nan"))
            print(f"{steps:7d} env steps  {mean:9.1f}  {time.perf_counter() - started:6.0f} s", flush=True)
        returns = returns_without_noise(algorithm.get_module(), EVALUATION_EPISODES, 10_000)
        algorithm.stop()
    print(
        f"{options.algorithm}, seed {options.seed}, {steps} env steps: return {returns.mean():.1f}, standard deviation"
    )
    print(f"{returns.std(ddof=1):.1f}, worst {returns.min():.1f} over {EVALUATION_EPISODES} episodes without noise);")
    print(f"{time.perf_counter() - started:.0f} s of wall clock, {time.process_time() - cpu:.0f} s of processor time")


if __name__ == "__main__":
    main()
