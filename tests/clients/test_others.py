"""CleanRL's way, skrl, Tianshou, AgileRL and EPyMARL train; each test runs where its library is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from sections import Section

from edgemarl.agents.clients.tuple_env import TupleEnv, tuple_id


def finite(*networks: Any) -> bool:
    """Whether all weights are numbers."""
    return all(bool(p.isfinite().all()) for network in networks for p in network.parameters())


def test_cleanrl_trains_central_control_and_devices(section: Section) -> None:
    pytest.importorskip("supersuit")
    found = section("CleanRL")
    for name in ("central", "shared"):
        assert finite(found[name])
        assert found[name].actor_logstd.abs().sum() > 0  # it starts at 0
    table = found["table"]
    assert np.isfinite(table.row("cleanrl").cost.value) and table.row("cleanrl").cost != table.row("random").cost


def test_skrl_trains_with_states_of_a_known_space(section: Section) -> None:
    pytest.importorskip("skrl")
    found = section("skrl")
    env, agents = found["env"], found["agents"]
    env.reset()
    for name in env.possible_agents:
        assert env.state_spaces[name].contains(env.state()[name].numpy()[0])
        assert agents.policies[name].log_std.abs().sum() > 0  # it starts at 0
        assert finite(agents.policies[name], agents.values[name])


def test_tianshou_trains_in_turns(section: Section) -> None:
    pytest.importorskip("tianshou")
    found = section("Tianshou")
    assert found["collector"].buffer.rew.shape[1] == len(found["env"].agents) == len(found["networks"]) == 3
    assert found["result"].update_step > 0 and finite(*found["networks"])


def test_agilerl_trains_on_and_off_policy(section: Section) -> None:
    pytest.importorskip("agilerl.algorithms", exc_type=ImportError)  # 2.58.0 needs peft, which it does not ask for
    found = section("AgileRL")
    assert list(found["ippo"].actors) == ["wd"]  # devices share a network
    rows = {name: found["env"].observation_space(name).sample()[None] for name in found["names"]}
    for actions in (found["ippo"].get_action(rows, {})[0], found["matd3"].get_action(rows)[0]):
        assert set(actions) == set(found["names"])
        assert all(np.isfinite(action).all() for action in actions.values())


def test_epymarl_gets_tuples(section: Section) -> None:
    found = section("EPyMARL")
    assert len(found["rows"]) == len(found["rewards"]) == found["env"].unwrapped.n_agents == 3
    assert found["env"].observation_space.contains(found["rows"])
    assert found["metrics"]["service_delay_s"] > 0.0


@pytest.mark.parametrize("scenario", ["sampling_rate", "model_partitioning", "model_pruning"])
def test_an_episode_of_tuples_ends_with_its_last_rows(scenario: str) -> None:
    small = {"num_devices": 10} if scenario == "model_pruning" else {}
    env = gymnasium.make(tuple_id(scenario), max_cycles=3, **small)
    env.reset(seed=0)
    ends = [env.step([0] * len(env.action_space))[2:4] for _ in range(3)]  # type: ignore[arg-type]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step([0] * len(env.action_space))  # type: ignore[arg-type]


def test_actions_that_are_no_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="no role of sequential_offloading has a Discrete action"):
        TupleEnv("sequential_offloading")
    with pytest.raises(ValueError, match=r"role 'server' has Box.*fixed"):
        TupleEnv("sampling_rate", fixed={})


def test_epymarl_trains(tmp_path: Path) -> None:
    """With the script of a checkout that `EPYMARL` names, where what it needs is installed."""
    if not os.environ.get("EPYMARL"):
        pytest.skip("EPYMARL names no checkout of EPyMARL")
    pytest.importorskip("sacred")
    few = [f"{name}=40" for name in ("t_max", "test_interval", "log_interval", "runner_log_interval")]
    words = [
        sys.executable, f"{os.environ['EPYMARL']}/src/main.py", "--config=iql", "--env-config=gymma", "with",
        f"env_args.key=edgemarl.agents.clients.tuple_env:{tuple_id('sampling_rate')}", "env_args.time_limit=10",
        "test_nepisode=1", "use_cuda=False", f"local_results_path={tmp_path}", *few,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Finished Training" in done.stdout + done.stderr, done.stderr[-2000:]
