"""Policy files and exports: what a device takes away."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from edgemarl.agents.trained.export import export_policy
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import GreedyAction, TrainedPolicy
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


@pytest.mark.parametrize(
    ("suffix", "space", "agents", "grid"),
    [
        (".onnx", BOX, 0, ()),
        (".onnx", BOX, 0, (4, 3)),
        (".ts", BOX, 0, ()),
        (".ts", BOX, 3, ()),
        (".ts", gymnasium.spaces.MultiDiscrete([3, 4]), 0, ()),
    ],
    ids=["onnx", "grid", "box", "independent", "discrete"],
)
def test_exported_policy_acts_as_the_trained_one(
    suffix: str, space: gymnasium.Space, agents: int, grid: tuple[int, ...], tmp_path: Path
) -> None:
    export_policy(policy(space, agents, grid), tmp_path / f"device{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"device{suffix}"]


def test_exported_file_that_acts_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = policy()
    saved = torch.jit.load

    def broken(path: str) -> torch.nn.Module:
        other = GreedyAction(policy().network)
        other.network.head.low = other.network.head.low + 0.1  # type: ignore[union-attr]
        assert saved(path) is not None
        return other

    monkeypatch.setattr(torch.jit, "load", broken)
    with pytest.raises(ValueError, match="does not act as"):
        export_policy(trained, tmp_path / "device.ts")
    assert not list(tmp_path.iterdir())


def test_unknown_export_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown export format"):
        export_policy(policy(), tmp_path / "device.tflite")
