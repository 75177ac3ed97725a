"""Sampling and training through the batched runner against RLlib's own multi-agent runner.

Both sides run in this process on one thread, on the same scenario, with equal networks (64, 64), agent-steps per
batch, minibatch and epochs; time is CPU time of the process, the best of several iterations. RLlib's side steps several
environments per runner, which was its fastest setting.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marl.train_config import TrainConfig

EPOCHS, MINIBATCH = 4, 4000
ENV_STEPS = {20: 200, 100: 200, 500: 40}
"""Devices -> env steps per batch; RLlib's side needs seconds for the larger ones."""
CELLS = 8


def training_speeds() -> dict[str, float]:
    """Speed-ups of training with one shared policy at 20, 100 and 500 devices, and of sampling at 100."""
    from marl.rllib.session import local_ray

    found = {}
    with local_ray(0):
        for devices in (20, 100, 500):
            with _ours(devices) as ours, _theirs(devices) as theirs:
                found[f"rllib_train_speedup_{devices}"] = _seconds(theirs.train, 1) / _seconds(ours.train, 4)
                if devices == 100:
                    found["rllib_sample_speedup_100"] = _seconds(
                        lambda: theirs.env_runner.sample(num_timesteps=ENV_STEPS[100]), 1
                    ) / _seconds(lambda: ours.env_runner.sample(num_timesteps=ENV_STEPS[100]), 5)
    return found


def independent_policies() -> dict[str, float]:
    """Speed-up with a policy per agent at 100 devices; files of a checkpoint at 300; growth from 20 to 1000 devices."""
    from marl.rllib.session import local_ray

    found = {}
    with local_ray(0):
        with _ours(100, policies="independent") as ours, _theirs(100, independent=True) as theirs:
            found["rllib_train_speedup_independent_100"] = _seconds(theirs.train, 2) / _seconds(ours.train, 4)
        with _ours(300, policies="independent") as ours, tempfile.TemporaryDirectory() as folder:
            ours.train()
            ours.save_to_path(str(Path(folder) / "checkpoint"))
            found["checkpoint_files_independent_300"] = sum(file.is_file() for file in Path(folder).rglob("*"))
        # the same agent-steps per iteration: 8 x 50 cells of 20 devices, 8 cells of 1000
        with _ours(20, cells=50 * CELLS, slots=5) as few, _ours(1000, cells=CELLS, slots=5) as many:
            found["rllib_growth_20_to_1000"] = _seconds(many.train, 4) / _seconds(few.train, 4)
    return found


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
    from marl.rllib.session import set_up

    algorithm = set_up(_config(devices, **values))
    try:
        yield algorithm
    finally:
        algorithm.stop()


@contextmanager
def _theirs(devices: int, independent: bool = False) -> Iterator[Any]:
    """RLlib's PPO with its own runner; the server's actions come from a module that is not trained."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.tune.registry import register_env

    from marl.rllib.multi_agent_env import ScenarioMultiAgentEnv

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
            num_epochs=EPOCHS,
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


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    """Least CPU time of several runs after one that warms up."""
    run()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)
