"""The configuration of a run: settings by algorithm, runs of earlier versions, algorithms from outside."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgemarl.marl.algorithms.registry import algorithm_names, make_algorithm, setting_names
from edgemarl.marl.training.config import RUN_FIELDS, TrainConfig, resolve

EARLIER = {
    "scenario": "sequential_offloading", "set": {"num_devices": 3}, "algorithm": "sac", "control": "decentralized",
    "policies": "shared", "central_policy": "pooled", "reward": None, "fixed": {"server": "parametric_q"},
    "agent_steps": 640, "cells": 4, "slots": 10, "minibatch": 40, "epochs": 8, "lr": None, "lr_final": 0.1,
    "discount": None, "gae_lambda": 0.9, "clip": 0.2, "entropy": 0.0, "value_weight": 0.5, "gradient_clip": None,
    "reward_scale": None, "hidden": [32, 32], "critic_hidden": None, "replay": 300, "updates": 4, "target_rate": 0.005,
    "epsilon": 0.05, "exploration": 0.3, "normalise": False, "log_std": -0.7, "seed": 7, "threads": 1,
    "num_env_runners": 0, "minutes": None, "checkpoint_s": 60.0,
}  # fmt: skip
"""A run's config.json before algorithms had settings of their own."""


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_is_found_by_its_files_name(name: str) -> None:
    algorithm = make_algorithm(name)
    assert algorithm.name == name and algorithm.meaning
    assert not set(setting_names(algorithm)) & set(RUN_FIELDS)  # both are given side by side
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(algorithm.Settings))


def test_a_run_of_an_earlier_version_is_read() -> None:
    config = TrainConfig.from_dict(EARLIER)
    assert config == TrainConfig(
        scenario="sequential_offloading", set={"num_devices": 3}, algorithm="sac", fixed={"server": "parametric_q"},
        agent_steps=640, cells=4, slots=10, minibatch=40, gradient_clip=None, hidden=(32, 32), replay=300, updates=4,
        seed=7,
    )  # fmt: skip
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert resolve(config).roles == ("device",)


def test_settings_follow_the_algorithm_when_it_changes() -> None:
    config = TrainConfig(lr=0.002)
    assert config.settings.lr == 0.002
    assert dataclasses.replace(config, agent_steps=9).settings == config.settings
    with pytest.raises(ValueError, match=r"ddpg has no setting 'clip'; it is one of mappo, ppo"):
        TrainConfig(algorithm="ddpg", clip=0.1)
    with pytest.raises(ValueError, match=r"noise = -1 is not legal"):
        TrainConfig(algorithm="td3", noise=-1)


MINE = """
from edgemarl.marl.algorithms.ppo import PPO


class Timid(PPO):
    name = "timid"
    meaning = "PPO that changes little"

    def build(self, run):
        return super().build(run).training(clip_param=0.01)
"""


def test_an_algorithm_of_a_users_file_trains(local_cluster: None, tmp_path: Path) -> None:
    from edgemarl.marl.training.run import train
    from edgemarl.marl.training.setup import rllib_config
    from edgemarl.marl.training.trained import load_policy

    (tmp_path / "agents").mkdir()  # a name that this project has too
    file = tmp_path / "agents" / "timid.py"
    file.write_text(MINE)
    small = {"set": {"device_action": "split", "num_devices": 3}, "cells": 2, "slots": 5, "agent_steps": 40}
    config = TrainConfig(algorithm=f"{file}:Timid", epochs=1, **small)
    assert rllib_config(resolve(config)).clip_param == 0.01
    result = train(config, tmp_path / "run")
    assert load_policy(result.path, config.make_scenario()).name.endswith("shared")
    with pytest.raises(ValueError, match=r"is no subclass of edgemarl\.marl\.Algorithm"):
        TrainConfig(algorithm="pathlib:Path")


@pytest.mark.parametrize(("devices", "cells"), [(1, 64), (5, 16), (20, 4), (100, 1), (500, 1)])
def test_cells_follow_from_the_agent_steps_of_an_iteration(devices: int, cells: int) -> None:
    """4,000 decisions in 50 slots are 80 agents; one that is fixed does not count; a larger network has one cell."""
    config = TrainConfig(set={"num_devices": devices}, fixed={"server": "parametric_q"}, iteration_steps=4000)
    assert config.cells == cells
    again = TrainConfig.from_dict(config.to_dict())
    assert again == config
    assert dataclasses.replace(config, agent_steps=7).cells == cells


def test_cells_that_contradict_an_iteration_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cells = 3 and iteration_steps = 4000 are not legal together.*4 cells of 50"):
        TrainConfig(iteration_steps=4000, cells=3)
