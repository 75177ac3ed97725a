"""Runs from before a default changed, which say nothing of the field, play, export and resume in their form."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents import TrainedPolicy, make_controller
from edgemarl.agents.trained.earlier import with_earlier_defaults
from edgemarl.agents.trained.interface import interface_of
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs import CentralEnv, ScenarioParallelEnv
from edgemarl.envs.capabilities import CENTRAL
from edgemarl.envs.registry import make_scenario
from edgemarl.launch.commands.train import saved_config
from edgemarl.launch.experiment.trained import loaded_policy
from edgemarl.marl import TrainConfig, load_policy, train
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.training.folder import RunFolder

NAME, DEVICES = "sequential_offloading", {"num_devices": 2}
NOW, THEN = make_scenario(NAME, **DEVICES), make_scenario(NAME, **DEVICES, device_action="cpu")


def spec_of(scenario: Any, role: str) -> Any:
    if role == CENTRAL:
        return network_spec(scenario.global_state_space.shape[0], scenario.central_space)
    return network_spec(scenario.roles[role].observation_space.shape[0], scenario.roles[role].action_space)


@pytest.mark.parametrize("role", ["device", CENTRAL])
def test_the_network_tells_which_default_it_learned_under(role: str) -> None:
    old, new = spec_of(THEN, role), spec_of(NOW, role)
    assert with_earlier_defaults(DEVICES, NAME, role, old) == {**DEVICES, "device_action": "cpu"}
    assert with_earlier_defaults(DEVICES, NAME, role, new) == DEVICES
    said = {**DEVICES, "device_action": "power"}
    assert with_earlier_defaults(said, NAME, role, old) == said
    assert with_earlier_defaults(DEVICES, "mine.py:Corridor", role, old) == DEVICES


def test_a_server_acts_alike_under_either() -> None:
    assert with_earlier_defaults(DEVICES, NAME, "server", spec_of(THEN, "server")) == DEVICES


def costs(policy: Any, scenario: Any) -> Any:
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 20)
    return rollout(policy, scenario, trace, np.random.default_rng(1)).means["cost"]


def test_a_run_that_says_nothing_plays_as_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PolicyNetwork(dataclasses.replace(spec_of(THEN, "device"), output_gain=3.0))
    run = {"scenario": NAME, "algorithm": "ppo", "fixed": {"server": "parametric_q"}}
    for folder, fields in (("old", DEVICES), ("told", {**DEVICES, "device_action": "cpu"})):
        policy = TrainedPolicy(network, NAME, "device", {"train": {**run, "set": fields}})
        policy.save(tmp_path / folder / "policy" / "device.pt")
    old, told = (tmp_path / folder for folder in ("old", "told"))
    np.testing.assert_array_equal(costs(load_policy(old, NOW), NOW), costs(load_policy(told, THEN), THEN))
    entries = interface_of(TrainedPolicy.load(old / "policy" / "device.pt")).actions
    assert [entry.name for entry in entries] == ["device_cpu"]
    with pytest.raises(
        ValueError, match=r"with device_action = 'cpu', .* has 'residual': --set device_action=cpu"
    ) as no:
        make_controller(NOW, "device", str(old / "policy" / "device.pt"))
    assert "\n" not in str(no.value)


def test_such_a_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cells": 2, "slots": 10, "minibatch": 20, "epochs": 1, "hidden": (4,)}
    config = TrainConfig(set={**DEVICES, "device_action": "cpu", "episode_blocks": 20}, agent_steps=60, **sizes)

    def unsaid(self: Run) -> dict[str, Any]:
        values = dataclasses.asdict(self.config)
        del values["set"]["device_action"]
        return values

    with monkeypatch.context() as patch:  # as it was written when the default was another
        patch.setattr(Run, "to_dict", unsaid)
        train(config, tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"device_action": "cpu",', "")
    (tmp_path / "config.json").write_text(text)
    assert "device_action" not in json.loads((tmp_path / "config.json").read_text())["set"]
    assert loaded_policy(tmp_path, NOW).policy is not None
    (save,) = (tmp_path / "saves").glob("*/manifest.json")
    assert "device_action" not in json.loads(save.read_text())["config"]["set"]
    assert RunFolder(tmp_path).settings()["set"]["device_action"] == "cpu"
    assert train(saved_config(tmp_path, 120), tmp_path, resume=True).curve["agent_steps"].iloc[-1] >= 120
    assert json.loads((tmp_path / "config.json").read_text())["set"]["device_action"] == "cpu"


def test_an_environment_says_which_form_it_takes() -> None:
    """Whoever gives one number per device, as before, reads what to set."""
    devices = ScenarioParallelEnv(NAME, **DEVICES)
    devices.reset(seed=0)
    with pytest.raises(ValueError, match=r"= \(1, 2, 2\) \(device_action=residual here; .* --set device_action=cpu\)$"):
        devices.step({agent: np.full(1, 0.5, np.float32) for agent in devices.agents})
    central = CentralEnv(NAME, **DEVICES)
    central.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3,\), must be \(5,\) \(device_action=residual here; .*=cpu\)$"):
        central.step(np.zeros(3, np.float32))
