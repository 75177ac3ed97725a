"""Policy files: saved, read, refused."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.registry import make_scenario
from edgemarl.marl.training.trained import load_policy

BOX = gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 6]))


def policy(space: gymnasium.Space = BOX, agents: int = 0, grid: tuple[int, ...] = ()) -> TrainedPolicy:
    torch.manual_seed(1)
    network = PolicyNetwork(network_spec(7, space, grid, agents=agents, normalise=True))
    for weight in network.body.weights:
        weight.data.mul_(4.0)  # a fresh output layer puts out nearly nothing
    return TrainedPolicy(network, "sequential_offloading", "device", {"note": 1})


@pytest.mark.parametrize(("agents", "grid"), [(0, ()), (3, ()), (0, (4, 3))], ids=["shared", "independent", "grid"])
def test_saved_policy_acts_the_same(agents: int, grid: tuple[int, ...], tmp_path: Path) -> None:
    before = policy(agents=agents, grid=grid)
    before.save(tmp_path / "device.pt")
    after = TrainedPolicy.load(tmp_path / "device.pt")
    rows = np.random.default_rng(0).random((4, 3, 7), dtype=np.float32)
    for greedy in (True, False):
        actions = [p.act(rows, np.random.default_rng(2), greedy) for p in (before, after)]
        np.testing.assert_array_equal(*actions)
        assert all(BOX.contains(a.astype(np.float32)) for a in actions[0].reshape(-1, 2))
    assert after.information == {"note": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["device.pt"]


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not a policy")
    with pytest.raises(ValueError, match="not a policy file"):
        TrainedPolicy.load(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="does not exist"):
        TrainedPolicy.load(tmp_path / "missing.pt")


def test_independent_policy_needs_the_same_number_of_agents() -> None:
    with pytest.raises(ValueError, match="each of 3 agents"):
        policy(agents=3).check(make_scenario("sequential_offloading", num_devices=4, device_action="split"))


def test_a_run_from_before_the_server_was_an_agent_plays_beside_the_closed_form(tmp_path: Path) -> None:
    """Its file names neither the rule of the shares nor who plays the server."""
    now, then = make_scenario("sampling_rate"), make_scenario("sampling_rate", share_mode="optimal")
    role = now.roles["device"]
    network = PolicyNetwork(network_spec(role.observation_space.shape[0], role.action_space))
    (tmp_path / "policy").mkdir()
    run = {"scenario": "sampling_rate", "algorithm": "ppo", "set": {}, "fixed": {}}
    TrainedPolicy(network, "sampling_rate", "device", {"train": run}).save(tmp_path / "policy" / "device.pt")
    team = load_policy(tmp_path, now)
    trace = now.sample_trace(np.random.default_rng(0), 2, 3)
    team.reset(now, trace)
    state, exogenous = now.initial_state(trace), now.exogenous(trace, 0)
    decisions = team.decide(state, exogenous, np.random.default_rng(0))
    found, before = now.step(state, decisions, exogenous), then.step(state, decisions, exogenous)
    np.testing.assert_array_equal(found.details["share"], before.details["share"])
    np.testing.assert_array_equal(found.costs["device"], before.costs["device"])
