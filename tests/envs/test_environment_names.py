"""What environments are called and how they are made: agents, groups, modules in PettingZoo's form, Gymnasium's ids."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from pettingzoo.test import api_test
from pettingzoo.test.state_test import state_test

from edgemarl.envs import CentralEnv, CentralVectorEnv, ScenarioParallelEnv, register_scenario, scenario_names
from edgemarl.envs.gym_ids import gym_id

SMALL: dict[str, dict[str, Any]] = {
    "model_placement": {"num_gateways": 2, "devices_per_gateway": 3},
    "model_pruning": {"num_devices": 10},
}
LIBRARIES_OWN = ("device", "batch_size", "names", "shape", "keys", "values", "items", "is_locked")
"""Attributes of TorchRL's specs and tensordicts, under which no group can be kept."""


def parallel(**values: Any) -> ScenarioParallelEnv:
    return ScenarioParallelEnv("model_pruning", **{"num_devices": 10, **values})


@pytest.mark.parametrize("scenario", scenario_names())
def test_a_module_in_pettingzoos_form_makes_both_environments(scenario: str) -> None:
    module, small = import_module(f"edgemarl.envs.{scenario}"), SMALL.get(scenario, {})
    env = module.parallel_env(max_cycles=2, **small)
    env.reset(seed=0)
    ends = [set(env.step({a: env.action_space(a).sample() for a in env.agents})[3].values()) for _ in range(2)]
    assert ends == [{False}, {True}]
    assert not set(env.group_map) & set(LIBRARIES_OWN)
    assert str(env) == f"{scenario}_v0" and "Version history" in module.__doc__


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pettingzoos_checkers_pass_on_turns_and_states() -> None:
    from edgemarl.envs import model_pruning

    api_test(model_pruning.env(max_cycles=4, num_devices=10), num_cycles=40)
    state_test(model_pruning.env(num_devices=10), model_pruning.parallel_env(num_devices=10), num_cycles=3)


def test_agents_take_names_of_ones_own() -> None:
    default = parallel()
    assert default.possible_agents[:2] == ["wd_0", "wd_1"] and default.possible_agents[-2:] == ["gateway_4", "server"]
    words = parallel(agent_names={"device": "sensor", "server": "mec"})
    assert words.possible_agents[0] == "sensor_0" and words.possible_agents[-1] == "mec"
    assert list(words.group_map) == ["sensor", "gateway", "mec"] and words.role_of("sensor_9") == "device"
    every = parallel(agent_names={"gateway": ["a", "b", "c", "d", "e"]})
    assert every.group_map["gateway"] == ["a", "b", "c", "d", "e"] and every.possible_agents[0] == "wd_0"
    counted = parallel(agent_names=lambda role, i: f"{role}{i}")
    assert counted.possible_agents[9:11] == ["device9", "gateway0"] and counted.group_map["wd"][0] == "device0"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"sensor": "x"}, "unknown role of agent_names 'sensor'"),
        ({"gateway": ["a", "b"]}, "'gateway' has 2 names, must have 5"),
        (lambda role, i: role, "two agents the name 'device'"),
    ],
)
def test_names_that_name_nobody_are_refused(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parallel(agent_names=names)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_cycles": 0}, "max_cycles = 0 slots is not legal"),
        ({"actions": "units"}, "did you mean 'unit'"),
        ({"reward_scale": 0.0}, "reward_scale = 0.0 is not legal"),
        ({"render_mode": "ansi"}, "unknown render mode 'ansi'"),
        ({"fixed": {"server": "equal"}}, "edgemarl.agents.PartneredParallelEnv"),
    ],
)
def test_what_an_environment_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parallel(**values)


@pytest.mark.parametrize("scenario", scenario_names())
def test_gymnasium_knows_every_scenario(scenario: str) -> None:
    small = SMALL.get(scenario, {})
    env: Any = gymnasium.make(gym_id(scenario), **small)
    assert isinstance(env.unwrapped, CentralEnv)
    vector = gymnasium.make_vec(gym_id(scenario), num_envs=3, **small)
    assert isinstance(vector, CentralVectorEnv)
    np.testing.assert_array_equal(vector.reset(seed=7)[0][0], env.reset(seed=7)[0])


def test_an_id_works_without_an_import_before_it() -> None:
    """Gymnasium has no plugins any more: the id names the module."""
    code = "import gymnasium; print(gymnasium.make('edgemarl.envs:EdgeMARL/SequentialOffloading-v0', num_devices=2))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "CentralEnv" in found.stdout, found.stderr


def test_a_scenario_registered_here_has_an_id_too() -> None:
    register_scenario("short_offloading", "edgemarl.envs.scenarios.sequential_offloading:SequentialOffloading")
    env: Any = gymnasium.make("EdgeMARL/ShortOffloading-v0", num_devices=2)
    assert env.unwrapped.scenario.config.num_devices == 2


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_vector_form_does_as_gymnasiums(mode: str) -> None:
    """Number for number, over two ends of an episode; infos too."""
    small = {"num_devices": 3, "episode_blocks": 3}
    ours = gymnasium.make_vec("EdgeMARL/SequentialOffloading-v0", 2, autoreset_mode=mode, **small)
    theirs = SyncVectorEnv(
        [lambda: CentralEnv("sequential_offloading", **small)] * 2, autoreset_mode=ours.metadata["autoreset_mode"]
    )
    assert ours.action_space == theirs.action_space and ours.observation_space == theirs.observation_space
    seen = [[env.reset(seed=1)] for env in (ours, theirs)]
    ours.action_space.seed(0)
    for _ in range(8):
        actions = ours.action_space.sample()
        for env, found in zip((ours, theirs), seen, strict=True):
            found.append(env.step(actions))
    for mine, others in zip(*seen, strict=True):
        for a, b in zip(mine[:-1], others[:-1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        assert mine[-1].keys() == others[-1].keys()
        np.testing.assert_allclose(mine[-1]["cost"], others[-1]["cost"])
        if "final_obs" in mine[-1]:
            np.testing.assert_allclose(np.stack(mine[-1]["final_obs"]), np.stack(others[-1]["final_obs"]), rtol=1e-6)


def test_masks_of_a_joint_action_are_those_of_its_choices() -> None:
    env = CentralEnv("model_partitioning")
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True] * int(env.action_space.nvec.sum())  # every cut that a network has
    with pytest.raises(ValueError, match=r"is for choices; the joint action of sampling_rate is Box"):
        continuous = CentralEnv("sampling_rate")
        continuous.reset(seed=0)
        continuous.action_masks()


def test_central_control_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    env = CentralEnv("sequential_offloading", render_mode="rgb_array", num_devices=3)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.render()
    env.reset(seed=0)
    picture = env.render()
    assert picture is not None and picture.shape == (600, 900, 3)
    env.close()
    silent = ScenarioParallelEnv("sequential_offloading", num_devices=3)
    silent.reset(seed=0)
    with pytest.warns(UserWarning, match="render\\(\\) shows nothing without render_mode"):
        assert silent.render() is None


def test_rewards_of_central_control_are_of_the_size_that_learners_take() -> None:
    scaled, raw = CentralEnv("sequential_offloading"), CentralEnv("sequential_offloading", reward_scale=1.0)
    rewards = []
    for env in (scaled, raw):
        env.reset(seed=0)
        rewards.append([env.step(np.zeros(env.action_space.shape, np.float32))[1] for _ in range(20)])
    np.testing.assert_allclose(rewards[0], np.multiply(rewards[1], 0.1 / 21))  # scale of a device, over 21 entries
    assert np.abs(rewards[0]).max() < 5 < np.abs(rewards[1]).max()
