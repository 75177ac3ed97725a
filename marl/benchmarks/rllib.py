"""Sampling and training through the batched runner against RLlib's own multi-agent runner.

Both sides run in this process on one thread, on the same scenario, with equal networks (64, 64), agent-steps per
batch, minibatch and epochs; time is CPU time of the process, the best of several iterations. The sides take turns, so
that a busy machine slows both. RLlib's side steps several environments per runner, which was its fastest setting.

A third side is the gradient work alone (`bare_gradient_work`): PyTorch's own layers and the PPO loss on tensors
that lie ready. RLlib's time over this one is the speed-up of a runner and learner that cost nothing.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgemarl.marl.training.config import TrainConfig, resolve

EPOCHS, MINIBATCH = 4, 4000
ENV_STEPS = {20: 200, 100: 200, 500: 40}
"""Devices -> env steps per batch; RLlib's side needs seconds for the larger ones."""
CELLS = 8


def training_speeds() -> dict[str, float]:
    """Speed-ups of training with one shared policy at 20, 100 and 500 devices, and of sampling at 100.

    At 100 and 500 also with one pass over a batch, where sampling weighs four times as much.
    """
    from edgemarl.marl.rllib.node import local_ray

    speeds: dict[str, float] = {}
    with local_ray(0):
        for devices in (20, 100, 500):
            speeds |= _shared_policy(devices)
        for devices in (100, 500):
            speeds |= _shared_policy(devices, epochs=1)
    return speeds


def _shared_policy(devices: int, epochs: int = EPOCHS) -> dict[str, float]:
    rows = ENV_STEPS[devices] * devices
    name = str(devices) if epochs == EPOCHS else f"{devices}_one_epoch"
    with _ours(devices, epochs=epochs) as ours, _theirs(devices, epochs=epochs) as theirs:
        times = _seconds(theirs.train, ours.train, ours.env_runner.sample, bare_gradient_work(rows, epochs=epochs))
        speeds = _named(name, rows, *times)
        if name == "100":
            alone = _seconds(lambda: theirs.env_runner.sample(num_timesteps=ENV_STEPS[devices]), ours.env_runner.sample)
            speeds["rllib_sample_speedup_100"] = alone[0] / alone[1]
    return speeds


def ddpg_speed() -> dict[str, float]:
    """Updates per second of centralized DDPG on the default `sampling_rate` (64, 32; batch 64), sampling left out."""
    from edgemarl.marl.rllib.node import local_ray
    from edgemarl.marl.training.setup import set_up

    config = TrainConfig(
        scenario="sampling_rate", algorithm="ddpg", control="central", central_policy="joint", agent_steps=10**8,
        hidden=(64, 32), minibatch=64, updates=200, random_steps=400, gradient_clip=None, discount=0.85,
    )  # fmt: skip
    with local_ray(0):
        algorithm = set_up(resolve(config))
        try:
            algorithm.train()
            rng = np.random.default_rng(0)
            return {"ddpg_updates_per_s": config.settings.updates / _seconds(lambda: algorithm._learn(rng, 1000))[0]}
        finally:
            algorithm.stop()


def independent_policies() -> dict[str, float]:
    """Speed-up with a policy per agent at 100 devices; files of a checkpoint at 300; growth from 20 to 1000 devices."""
    from edgemarl.marl.rllib.node import local_ray

    with local_ray(0):
        with _ours(100, policies="independent") as ours, _theirs(100, independent=True) as theirs:
            rows = ENV_STEPS[100] * 100
            bare = bare_gradient_work(rows, agents=100)
            times = _seconds(theirs.train, ours.train, ours.env_runner.sample, bare, rounds=2)
            speeds = _named("independent_100", rows, *times)
        with _ours(300, policies="independent") as ours, tempfile.TemporaryDirectory() as folder:
            ours.train()
            ours.save_to_path(str(Path(folder) / "checkpoint"))
            speeds["checkpoint_files_independent_300"] = sum(file.is_file() for file in Path(folder).rglob("*"))
        # the same agent-steps per iteration: 8 x 50 cells of 20 devices, 8 cells of 1000
        with _ours(20, cells=50 * CELLS, slots=5) as few, _ours(1000, cells=CELLS, slots=5) as many:
            large, small = _seconds(many.train, few.train)
            speeds["rllib_growth_20_to_1000"] = large / small
    return speeds


def _named(name: str, rows: int, theirs: float, ours: float, sampling: float, bare: float) -> dict[str, float]:
    """Keys of an iteration of `rows` agent-steps, from seconds: RLlib, ours, our sampling, gradient work alone."""
    return {
        f"rllib_train_speedup_{name}": theirs / ours,
        f"rllib_train_speedup_limit_{name}": theirs / bare,
        f"rllib_train_agent_steps_per_s_{name}": rows / ours,
        f"rllib_sample_share_{name}": sampling / ours,
        f"rllib_gradient_share_{name}": bare / ours,
    }


def bare_gradient_work(rows: int, agents: int = 0, epochs: int = EPOCHS) -> Callable[[], None]:
    """An iteration's gradient steps with nothing around them: policy and value network, PPO's loss, Adam.

    Args:
        rows: agent-steps of a batch.
        agents: networks in the batch (batched products), 0 for one that all rows share.
        epochs: passes over the batch.
    """
    size, rate = 7, 1e-3
    count = max(1, agents)
    shape = (count, MINIBATCH // count) if agents else (MINIBATCH,)
    tensors = [torch.randn(*shape, n) for n in (size, 2, 1, 1, 1)]
    networks = [
        [torch.randn(count, a, b).mul_(0.1).requires_grad_() for a, b in itertools.pairwise((size, 64, 64, outputs))]
        for outputs in (2, 1)
    ]
    biases = [[torch.zeros(count, 1, w.shape[2], requires_grad=True) for w in network] for network in networks]
    log_std = torch.zeros(2, requires_grad=True)
    parameters = [p for part in (*networks, *biases) for p in part]
    optimizer = torch.optim.Adam([*parameters, log_std], lr=rate, fused=True)

    def forward(x: torch.Tensor, weights: list[torch.Tensor], offsets: list[torch.Tensor]) -> torch.Tensor:
        for i, (w, b) in enumerate(zip(weights, offsets, strict=True)):
            x = torch.baddbmm(b, x, w) if agents else torch.addmm(b[0], x, w[0])
            x = torch.tanh(x) if i < len(weights) - 1 else x
        return x

    def step() -> None:
        observations, actions, old, advantages, targets = tensors
        distribution = torch.distributions.Normal(forward(observations, networks[0], biases[0]), log_std.exp())
        ratio = torch.exp(distribution.log_prob(actions).sum(-1, keepdim=True) - old)
        surrogate = torch.min(advantages * ratio, advantages * torch.clamp(ratio, 0.8, 1.2))
        value = forward(observations, networks[1], biases[1])
        optimizer.zero_grad()
        (0.5 * (value - targets).square() - surrogate).mean().backward()
        optimizer.step()

    def run() -> None:
        for _ in range(epochs * max(1, round(rows / MINIBATCH))):
            step()

    return run


def _config(devices: int, **values: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "set": {"device_action": "split", "num_devices": devices},
        "fixed": {"server": "parametric_q"},
        "cells": CELLS,
        "slots": ENV_STEPS.get(devices, 0) // CELLS or 1,
        "minibatch": MINIBATCH,
        "epochs": EPOCHS,
        "agent_steps": 10**8,
    }
    return TrainConfig(**{**settings, **values})


@contextmanager
def _ours(devices: int, **values: Any) -> Iterator[Any]:
    from edgemarl.marl.training.setup import set_up

    algorithm = set_up(resolve(_config(devices, **values)))
    try:
        yield algorithm
    finally:
        algorithm.stop()


@contextmanager
def _theirs(devices: int, independent: bool = False, epochs: int = EPOCHS) -> Iterator[Any]:
    """RLlib's PPO with its own runner; the server's actions come from a module that is not trained."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.tune.registry import register_env

    from edgemarl.marl.rllib.multi_agent_env import ScenarioMultiAgentEnv

    config = _config(devices)
    register_env("scenario", lambda _: ScenarioMultiAgentEnv(config.make_scenario(), "local", {"device": 0.1}))
    trained = [f"device_{i}" for i in range(devices)] if independent else ["device"]
    steps = ENV_STEPS[devices]
    rows = steps if independent else steps * devices

    def module_of(agent: str, *_: Any, **__: Any) -> str:
        return agent if independent else agent.split("_")[0]

    built = (
        PPOConfig()
        .environment("scenario", disable_env_checking=True)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=CELLS, rollout_fragment_length=steps // CELLS)
        .multi_agent(policies={*trained, "server"}, policy_mapping_fn=module_of, policies_to_train=trained)
        .rl_module(
            rl_module_spec=RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], vf_share_layers=False))
        )
        .training(
            train_batch_size_per_learner=steps,
            minibatch_size=min(MINIBATCH, rows),
            num_epochs=epochs,
            use_kl_loss=False,
        )
        .experimental(_validate_config=False)  # its check counts env steps against a minibatch of agent-steps
        .debugging(log_level="ERROR")
        .build_algo()
    )
    try:
        yield built
    finally:
        built.stop()


def _seconds(*runs: Callable[[], Any], rounds: int = 3) -> tuple[float, ...]:
    """Least CPU time of each of several things that take turns, after one round that warms up."""
    taken_s = np.full((rounds + 1, len(runs)), np.inf)
    for i, j in itertools.product(range(rounds + 1), range(len(runs))):
        started = time.process_time()
        runs[j]()
        taken_s[i, j] = time.process_time() - started
    return tuple(float(least) for least in taken_s[1:].min(axis=0))
