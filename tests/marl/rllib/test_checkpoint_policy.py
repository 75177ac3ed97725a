"""A checkpoint of the batched runner is the policy that its run's folder gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.envs import make_scenario
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.rllib.checkpoint import checkpoint_in
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import load_policy

SETTINGS = {"num_devices": 3, "device_action": "split"}
CONTROLS: dict[str, dict[str, Any]] = {
    "a partner that sends prices": {"fixed": {"server": "parametric_q_priced"}},
    "pooled": {"control": "central"},
    "joint": {"control": "central", "central_policy": "joint"},
    "independent": {"policies": "independent", "algorithm": "sac"},
}


@pytest.mark.parametrize("control", list(CONTROLS))
def test_a_checkpoint_acts_as_its_run(local_cluster: None, tmp_path: Path, control: str) -> None:
    config = TrainConfig(set=SETTINGS, cells=2, slots=5, agent_steps=30, **CONTROLS[control])
    train(config, tmp_path / "run")
    scenario = config.make_scenario()
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 20)
    trial = tmp_path / "trial" / "checkpoint_000001"
    (save,) = sorted((tmp_path / "run" / "saves").iterdir())[-1:]
    shutil.copytree(save / "checkpoint", trial)
    found = []
    for path in (tmp_path / "run", save / "checkpoint", tmp_path / "trial"):
        policy = load_policy(path, scenario)
        found.append(rollout(policy, scenario, trace, np.random.default_rng(1)).means["cost"])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    assert checkpoint_in(tmp_path / "trial") == trial
    with pytest.raises(ValueError, match="is of scenario 'sequential_offloading', not of 'sampling_rate'"):
        load_policy(trial, make_scenario("sampling_rate"))
