"""A file exported for any scenario, algorithm and head acts as its trained controller and says what its numbers are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch

from edgemarl.agents.api import Team
from edgemarl.agents.registry import make_controller, playbook_of
from edgemarl.agents.trained import export
from edgemarl.agents.trained.export import check_inputs, export_policy, trained_actions
from edgemarl.agents.trained.heads import Box, Choice, Grid, Hybrid
from edgemarl.agents.trained.interface import Interface, interface_of
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import CENTRAL, GreedyAction, NetworkController, TrainedPolicy, policy_network
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import masks_of, row_entries
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.testing import play
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.algorithms.registry import shipped
from edgemarl.marl.training.config import TrainConfig, resolve
from tests.soak import LONG

ROWS = 10_000
SMALL: dict[str, dict[str, Any]] = {
    "sequential_offloading": {"num_devices": 3},
    "sampling_rate": {"devices_per_service": (2, 1)},
    "model_partitioning": {"num_devices": 3, "model_pattern": ("alexnet", "resnet18")},
    "model_pruning": {"num_devices": 4, "num_gateways": 2},
    "model_placement": {"num_gateways": 2, "devices_per_gateway": 2},
}
CONTROLS: dict[str, dict[str, Any]] = {
    "shared": {},
    "independent": {"policies": "independent"},
    "pooled": {"control": "central"},
    "joint": {"control": "central", "central_policy": "joint"},
}
FURTHER: list[tuple[str, str, dict[str, Any]]] = [
    (
        "sequential_offloading",
        "dqn",
        {"set": {"num_devices": 3, "device_action": "cpu"}, "grid": {"device": 5, "server": 4}},
    ),
    ("sequential_offloading", "ppo", {"set": {"num_devices": 3, "device_action": "split"}, "grid": {"device": (3, 4)}}),
    ("sequential_offloading", "ppo", {"normalise": True}),
    ("sequential_offloading", "ppo", {"normalise": True, "policies": "independent"}),
    ("sampling_rate", "ppo", {"set": {"devices_per_service": (2, 1), "share_mode": "action"}}),
    ("model_partitioning", "ppo", {"set": {"num_devices": 3, "model_pattern": ("alexnet",)}}),
    ("model_partitioning", "sac", {"set": {"num_devices": 3, "local_cpu_rule": "action"}}),
    ("model_pruning", "ppo", {"one_hot": {"device": {0: 6}}}),
    ("model_pruning", "hybrid_sac", {"control": "central", "central_policy": "joint", "relaxation": "gaussian"}),
    ("model_pruning", "hybrid_sac", {"control": "central", "central_policy": "joint", "restrict": {"model": 1.0}}),
    ("model_placement", "ppo", {"network": "parts", "fixed": {"server": "PARTNER"}}),
]
"""Settings that change the graph."""


def candidates() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Scenario, algorithm, fields: roles that an algorithm cannot decide are played by the scenario's partners."""
    for name in SMALL:
        for algorithm in shipped():
            for fields in CONTROLS.values():
                yield name, algorithm, fields
                yield name, algorithm, {**fields, "fixed": {"gateway": "PARTNER", "server": "PARTNER"}}
    yield from FURTHER


def runs() -> Iterator[Run]:
    """The legal ones."""
    for name, algorithm, fields in candidates():
        given = {
            "set": SMALL[name],
            "output_gain": 1.0,
            **({"discount": 0.0} if algorithm == "priced_dqn" else {}),
            **fields,
        }
        roles, partners = make_scenario(name, **given["set"]).roles, playbook_of(name).partners
        if "fixed" in given:
            given["fixed"] = {role: partners[role] for role in given["fixed"] if role in roles and role in partners}
        try:
            yield resolve(TrainConfig(scenario=name, algorithm=algorithm, **given))
        except ValueError:
            assert (name, algorithm, fields) not in FURTHER, f"{name} {algorithm} {fields} is not legal"


def policies() -> Iterator[tuple[str, TrainedPolicy]]:
    """Every policy that an algorithm can leave, once for each kind of network, with weights that decide something."""
    seen = set()
    for run in runs():
        for role in run.roles:
            spec = run.algorithm.spec(run, role)
            key = json.dumps([run.scenario.name, run.to_dict()["set"], role, spec.to_dict()], sort_keys=True)
            if key in seen:
                continue
            seen.add(key)
            torch.manual_seed(len(seen))
            network = policy_network(spec)
            if getattr(network, "normaliser", None) is not None:
                lead = (spec.agents,) if spec.agents else ()
                noise = np.random.default_rng(0).random((2, *lead, spec.observation_size))
                network.normaliser.merge(100, *noise)  # type: ignore[union-attr]
            about = {"train": run.to_dict(), "pooled": run.config.pooled, "message_entries": run.heard}
            control = "independent" if spec.agents else "shared"
            yield (
                f"{run.scenario.name}-{role}-{run.algorithm.name}-{control}-{len(seen)}",
                TrainedPolicy(network, run.scenario.name, role, about),
            )


@pytest.fixture(scope="module")
def trained() -> dict[str, TrainedPolicy]:
    return dict(policies())


def one_of_each(found: dict[str, TrainedPolicy]) -> list[TrainedPolicy]:
    """A policy for every kind of head, mask, sharing and scenario."""
    chosen: dict[Any, TrainedPolicy] = {}
    for policy in found.values():
        head, mask = policy.network.head, interface_of(policy).mask.kind
        parts = (type(head), head.output()[1] == (), mask, bool(policy.spec.agents))
        chosen.setdefault(parts, policy)
    return list(chosen.values())


def loaded(path: Path) -> Any:
    """The exported function: inputs by name -> actions."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)[0]
    module = torch.jit.load(str(path))
    return lambda inputs: module(*map(torch.from_numpy, inputs.values())).detach().numpy()


def held(policy: TrainedPolicy, path: Path) -> Interface:
    """Export, read the file, and hold it to the controller on many rows; ties of two choices may fall either way."""
    interface = export_policy(policy, path)
    inputs = check_inputs(interface, ROWS, seed=1)
    found, wanted = loaded(path)(inputs), trained_actions(policy, interface, inputs)
    kind, shape = interface.head.output()
    lead = (ROWS, interface.agents) if interface.agents else (ROWS,)
    assert found.dtype == kind and found.shape == wanted.shape == (*lead, *shape)
    differs = np.abs(found - wanted).reshape(ROWS, -1).max(axis=1) > 1e-5
    discrete = isinstance(interface.head, Choice | Hybrid)
    assert differs.sum() <= (10 if discrete else 0), f"{differs.sum()} of {ROWS} rows differ"
    return interface


def test_every_scenario_algorithm_and_head_is_here(trained: dict[str, TrainedPolicy]) -> None:
    assert set(SMALL) == set(scenario_names())
    assert {run.algorithm.name for run in runs()} == set(shipped())
    assert {type(policy.network.head) for policy in trained.values()} == {Box, Choice, Grid, Hybrid}
    assert {interface_of(policy).mask.kind for policy in trained.values()} == {"none", "constant", "input"}


def test_torchscript_acts_as_the_trained_controller(trained: dict[str, TrainedPolicy], tmp_path: Path) -> None:
    for i, policy in enumerate(trained.values()):
        interface = held(policy, tmp_path / f"{i}.ts")
        extra = {export.DESCRIPTION: ""}
        torch.jit.load(str(tmp_path / f"{i}.ts"), _extra_files=extra)
        assert json.loads(extra[export.DESCRIPTION]) == interface.metadata()


def test_onnx_acts_as_the_trained_controller(trained: dict[str, TrainedPolicy], tmp_path: Path) -> None:
    """A graph takes seconds to write: one for each kind of graph, all of them in `make soak`."""
    for i, policy in enumerate(trained.values() if LONG else one_of_each(trained)):
        interface = held(policy, tmp_path / f"{i}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{i}.onnx"), providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map == interface.metadata()
        assert [(given.name, given.type) for given in session.get_inputs()] == [
            ("observations", "tensor(float)"),
            *([("mask", "tensor(bool)")] if interface.mask.kind == "input" else []),
        ]


def partitioning(policies: str, pattern: tuple[str, ...] = ("alexnet", "resnet18")) -> TrainedPolicy:
    run = resolve(
        TrainConfig(
            scenario="model_partitioning", set={"num_devices": 3, "model_pattern": pattern}, policies=policies,
            output_gain=1.0,
        )
    )  # fmt: skip
    torch.manual_seed(0)
    network = policy_network(run.algorithm.spec(run, "device"))
    return TrainedPolicy(network, "model_partitioning", "device", {"train": run.to_dict()})


@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_an_exported_policy_takes_no_choice_that_makes_no_sense(policies: str, tmp_path: Path) -> None:
    """Cuts that a device's network does not have: rows and masks of an episode, as the controller meets them."""
    policy = partitioning(policies)
    interface = export_policy(policy, tmp_path / "device.ts")
    scenario = make_scenario("model_partitioning", **policy.information["train"]["set"])
    act = loaded(tmp_path / "device.ts")
    layers = np.array([8, 10, 8])
    without = 0
    for state, exogenous, *_ in play(scenario, scenario.sample_trace(np.random.default_rng(0), 50, 20), 1, 20):
        rows = scenario.observe(state, exogenous)["device"]
        masks = masks_of(scenario, state, exogenous)["device"]
        inputs = {"observations": rows} if policies == "independent" else flat(rows, masks)
        found = act(inputs).reshape(50, 3)
        np.testing.assert_array_equal(found, policy.act(rows, np.random.default_rng(0), mask=masks))
        assert (found <= layers).all()
        without += int((policy.act(rows, np.random.default_rng(0)) > layers).sum())
    assert without > 0, "without a mask this policy takes illegal cuts too: the test says nothing"
    assert interface.mask.kind == {"shared": "input", "independent": "constant"}[policies]


def flat(rows: Array, masks: Array) -> dict[str, Array]:
    """Rows and masks of all agents below each other, as a shared network takes them."""
    return {
        "observations": rows.reshape(-1, rows.shape[-1]),
        "mask": np.ascontiguousarray(masks).reshape(-1, masks.shape[-1]),
    }


def test_masks_of_agents_stand_in_the_file() -> None:
    found = json.loads(interface_of(partitioning("shared")).metadata()["masks"])
    assert list(found) == ["device_0", "device_1", "device_2"]
    assert found["device_0"] == [1] * 9 + [0] * 2 and found["device_1"] == [1] * 11
    assert interface_of(partitioning("shared", ("resnet18",))).mask.kind == "none"
    alike = interface_of(partitioning("independent", ("resnet18",)))
    assert alike.mask.kind == "none" and "masks" not in alike.metadata()


def test_interface_is_right_for_every_head(trained: dict[str, TrainedPolicy]) -> None:
    said = {type(policy.network.head).__name__: str(interface_of(policy)) for policy in trained.values()}
    assert "actions float32 (M, 1): one of 5 points within [0, 1]; device_cpu x 3e+09 Hz" in "".join(
        str(interface_of(policy)) for policy in trained.values()
    )
    assert "actions float32" in said["Box"] and "numbers within" in said["Box"]
    assert "float32" in said["Hybrid"] and "4 bits offload" in said["Hybrid"]
    discrete = [str(interface_of(p)) for p in trained.values() if type(p.network.head) is Choice]
    assert all("-> actions int64" in text and "from 0 to" in text for text in discrete)
    assert any("(M, 3): " in text for text in discrete), "independent networks: an index per agent"


def test_rows_are_named_in_the_order_in_which_a_team_builds_them(trained: dict[str, TrainedPolicy]) -> None:
    """Own entries, messages of fixed controllers, then the pooled rows of all."""
    sizes = set()
    for policy in trained.values():
        interface = interface_of(policy)
        names = [entry.name for entry in interface.observations]
        assert len(names) == len(set(names)) == policy.spec.observation_size
        sizes.add((policy.information["pooled"], any(policy.information["message_entries"].values())))
        own = len(row_entries(make_scenario(policy.scenario, **policy.information["train"]["set"]), policy.role)) if (
            policy.role != CENTRAL) else len(names)  # fmt: skip
        told = policy.information["message_entries"].get(policy.role, 0)
        assert not any(name.startswith(("mean_", "max_")) for name in names[own : own + told])
        if policy.information["pooled"]:
            assert names[own + told].startswith("mean_") and names[-1].startswith("max_")
        else:
            assert len(names) == own + told
    assert sizes == {(False, False), (False, True), (True, False), (True, True)}


def test_a_price_is_named_with_its_unit() -> None:
    """What a row holds of it times its scale is the price."""
    teller, scenario = "parametric_q_priced", "sequential_offloading"
    fields: dict[str, Any] = {"scenario": scenario, "set": SMALL[scenario], "fixed": {"server": teller}}
    run = resolve(TrainConfig(algorithm="ppo", **fields))
    about = {"train": run.to_dict(), "pooled": False, "message_entries": run.heard}
    policy = TrainedPolicy(policy_network(run.algorithm.spec(run, "device")), scenario, "device", about)
    prices = interface_of(policy).observations[len(row_entries(run.scenario, "device")) :]
    assert [(p.name, p.unit) for p in prices] == [("price", "1/task")]
    server = make_controller(run.scenario, "server", teller)
    server.reset(run.scenario, 1)
    rows = np.full((1, 1, *run.scenario.roles["server"].observation_space.shape), 0.5, np.float32)  # type: ignore[misc]
    said = server.act(rows, np.random.default_rng(0)).messages["device"]
    assert server.price[0] > 0.0  # type: ignore[attr-defined]
    np.testing.assert_allclose(said[0, :, 0] * prices[0].scale, server.price[0], rtol=1e-6)  # type: ignore[attr-defined]


def test_pooled_rows_have_the_names_of_what_they_hold(trained: dict[str, TrainedPolicy]) -> None:
    policy = next(p for p in trained.values() if p.information["pooled"] and p.scenario == "sequential_offloading")
    scenario = make_scenario(policy.scenario, **policy.information["train"]["set"])
    roles = dict.fromkeys(scenario.roles)
    team = Team("pooled", {role: NetworkController(policy) for role in roles}, pooled=tuple(roles))
    team.inbox, team._pool, team.scenario = {role: {} for role in roles}, None, scenario
    state, exogenous, *_ = play(scenario, scenario.sample_trace(np.random.default_rng(0), 2, 8), 1, 8)[-1]
    rows = scenario.observe(state, exogenous)
    names = [entry.name for entry in interface_of(policy).observations]
    row = team.row(policy.role, rows)
    wanted = {
        "mean_device_queue": rows["device"][..., 0].mean(axis=1),
        "max_device_spectral_efficiency": rows["device"][..., 1].max(axis=1),
        "max_server_offloaded": rows["server"][..., 1].max(axis=1),
    }
    for name, values in wanted.items():
        assert values.std() > 0
        np.testing.assert_allclose(row[:, 0, names.index(name)], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("space", "grid"),
    [
        (gymnasium.spaces.Discrete(5, start=2), ()),
        (gymnasium.spaces.MultiDiscrete([3, 4], start=[1, -2]), ()),
        (gymnasium.spaces.Box(np.float32([[0, -2]]), np.float32([[1, 6]])), ()),
        (gymnasium.spaces.Box(np.float32([[0, -2]]), np.float32([[1, 6]])), (3, 2)),
    ],
    ids=["first choice", "first choices", "shape", "grid"],
)
@pytest.mark.parametrize("agents", [0, 2])
def test_graph_of_a_head_is_what_the_controller_does(
    space: gymnasium.Space[Any], grid: tuple[int, ...], agents: int
) -> None:
    torch.manual_seed(0)
    network = PolicyNetwork(network_spec(4, space, grid, agents=agents, output_gain=1.0))
    rows = np.random.default_rng(0).standard_normal((50, 2, 4), dtype=np.float32)
    with torch.no_grad():
        found = GreedyAction(network)(torch.from_numpy(rows)).numpy()
    kind, shape = network.head.output()
    assert found.dtype == kind and found.shape == (50, 2, *shape) == (50, 2, *(space.shape or ()))
    wanted = TrainedPolicy(network, "any", "device").act(rows, np.random.default_rng(0))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert all(space.contains(action.astype(space.dtype)) for action in wanted.reshape(-1, *shape))


def test_policy_of_another_network_or_of_none_is_refused(tmp_path: Path) -> None:
    policy = partitioning("shared")
    with pytest.raises(ValueError, match="observation entries"):
        export_policy(policy, tmp_path / "x.ts", make_scenario("model_partitioning", show_model=True))
    lost = TrainedPolicy(policy.network, policy.scenario, policy.role, {})
    with pytest.raises(ValueError, match="does not say in which network"):
        export_policy(lost, tmp_path / "x.ts")
    other = TrainedPolicy(policy.network, policy.scenario, policy.role, {"train": {"scenario": "gone.module:Cell"}})
    with pytest.raises(ValueError, match="no module 'gone'"):
        export_policy(other, tmp_path / "x.ts")
    assert not list(tmp_path.iterdir())


def test_exported_file_that_acts_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = partitioning("shared")
    monkeypatch.setattr(torch.jit, "load", lambda path: GreedyAction(partitioning("shared").network))
    export_policy(policy, tmp_path / "same.ts")
    broken = GreedyAction(policy.network)
    broken.forward = lambda observations, mask: GreedyAction.forward(broken, observations)  # type: ignore[method-assign]
    monkeypatch.setattr(torch.jit, "load", lambda path: broken)
    with pytest.raises(ValueError, match="does not act as"):
        export_policy(policy, tmp_path / "device.ts")
    assert [path.name for path in tmp_path.iterdir()] == ["same.ts"]


def test_unknown_export_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown export format"):
        export_policy(partitioning("shared"), tmp_path / "device.tflite")
