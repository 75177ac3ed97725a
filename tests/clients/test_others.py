"""Libraries that are made and stepped, not trained: each test runs where its library is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pettingzoo.utils.conversions import parallel_to_aec

from edgemarl.agents import PartneredParallelEnv
from edgemarl.envs import sequential_offloading


def test_skrl_sees_states_of_a_known_space() -> None:
    wrap = pytest.importorskip("skrl.envs.wrappers.torch")
    env: Any = wrap.wrap_env(sequential_offloading.parallel_env(num_devices=2), wrapper="pettingzoo")
    env.reset()
    assert env.state_spaces["wd_0"].contains(
        env.state()["wd_0"].numpy()[0] if isinstance(env.state(), dict) else env.state().numpy()[0]
    )


def test_tianshou_takes_turns() -> None:
    wrapper = pytest.importorskip("tianshou.env.pettingzoo_env")
    devices = PartneredParallelEnv("sequential_offloading", fixed={"server": "parametric_q"}, num_devices=2)
    env = wrapper.PettingZooEnv(parallel_to_aec(devices))
    observation, _ = env.reset(seed=0)
    assert observation["agent_id"] == "wd_0"
    _, rewards, *_ = env.step(np.full(1, 0.5, np.float32))
    assert len(rewards) == len(env.agents)


def test_agilerl_steps_over_the_end_of_an_episode() -> None:
    wrapper = pytest.importorskip("agilerl.wrappers.pettingzoo_wrappers")
    env = wrapper.PettingZooAutoResetParallelWrapper(
        PartneredParallelEnv("sequential_offloading", fixed={"server": "parametric_q"}, num_devices=2, max_cycles=3)
    )
    env.reset(seed=0)
    for _ in range(5):
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        observations, *_ = env.step(actions)
        assert set(observations) == {"wd_0", "wd_1"}
