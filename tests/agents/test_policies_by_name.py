"""Policies that others made as controllers by name and from Python: functions, files, checkpoints; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents import Controller, TrainedPolicy, export_policy, make_controller, make_policy, policy_of
from edgemarl.agents.api import Act
from edgemarl.agents.clients.predict import PredictCentral, PredictController, as_actions, fitting
from edgemarl.agents.environment import PartneredParallelEnv
from edgemarl.agents.registry import files_in, is_controller
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import NetworkController
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs import make_scenario
from edgemarl.envs.arrays import Array
from edgemarl.envs.files import temporary_name
from edgemarl.launch.cli import main
from edgemarl.marl import compare_controllers, load_policy
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.training.trained import saved_policies

SETTINGS: dict[str, Any] = {"num_devices": 3}
SCENARIO = make_scenario("sequential_offloading", **SETTINGS)
FUNCTION = """
import numpy as np


def half(observations, rng):
    return np.full((*observations.shape[:2], 2), 0.5)
"""


def network(role: str, scenario: Any = SCENARIO) -> TrainedPolicy:
    torch.manual_seed(1)
    found = scenario.roles[role]
    spec = network_spec(found.observation_space.shape[0], found.action_space, output_gain=3.0)
    train = {"scenario": scenario.name, "set": SETTINGS}
    return TrainedPolicy(PolicyNetwork(spec), scenario.name, role, {"train": train})


def costs(policy: Any, scenario: Any = SCENARIO) -> Any:
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 20)
    return rollout(policy, scenario, trace, np.random.default_rng(1)).means["cost"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


class Half(Controller):
    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(np.full((*observations.shape[:2], 2), 0.5))


def test_a_function_is_a_controller(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION)
    found = make_policy(SCENARIO, f"{tmp_path / 'mine.py'}:half")
    np.testing.assert_array_equal(costs(found), costs(policy_of(SCENARIO, Half(), "half")))
    np.testing.assert_array_equal(costs(found), costs(policy_of(SCENARIO, Half, "half")))


def test_an_onnx_file_acts_as_the_policy_that_it_holds(tmp_path: Path) -> None:
    policy = network("device")
    policy.save(tmp_path / "device.pt")
    export_policy(policy, tmp_path / "some.onnx")
    of_file = make_policy(SCENARIO, f"{tmp_path}/device.pt")
    named = make_policy(SCENARIO, f"{tmp_path}/some.onnx")  # the role follows from its input
    part = make_policy(SCENARIO, f"device={tmp_path}/some.onnx+server=parametric_q")
    np.testing.assert_allclose(costs(named), costs(of_file), rtol=1e-5)
    np.testing.assert_allclose(costs(part), costs(of_file), rtol=1e-5)
    assert not np.allclose(costs(named), costs(policy_of(SCENARIO, Half(), "half")))
    assert is_controller(SCENARIO, f"{tmp_path}/some.onnx")
    assert files_in(f"device={tmp_path}/some.onnx+server=parametric_q") == [tmp_path / "some.onnx"]


def test_a_run_plays_a_role(tmp_path: Path) -> None:
    network("server").save(tmp_path / "run" / "policy" / "server.pt")
    env = PartneredParallelEnv("sequential_offloading", fixed={"server": str(tmp_path / "run")}, **SETTINGS)
    env.reset(seed=0)
    env.step({agent: np.full(2, 0.5, np.float32) for agent in env.agents})
    assert list(env.group_map) == ["wd"]


def test_what_a_run_that_trains_is_just_writing_is_none_of_its_files(tmp_path: Path) -> None:
    """It is gone when it is to be read: a result's digest, the policies of a run of an earlier version."""
    policies = tmp_path / "run" / "policy"
    network("server").save(policies / "server.pt")
    half = temporary_name(policies / "server.pt")
    half.write_bytes(b"half")
    assert files_in(f"server={tmp_path / 'run'}") == [policies / "server.pt"]
    assert set(saved_policies(tmp_path / "run").policies) == {"server"}
    (policies / "server.pt").unlink()
    with pytest.raises(ValueError, match="holds no trained policy"):
        saved_policies(tmp_path / "run")


def test_a_file_is_a_row_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By command line and from Python, the same numbers; a changed file is played again."""
    file, out = tmp_path / "mine.onnx", tmp_path / "out"
    export_policy(network("device"), file)
    (tmp_path / "mine.py").write_text(FUNCTION)
    function = f"{tmp_path / 'mine.py'}:half"
    arguments = [
        "compare", "--scenario", "sequential_offloading", "--controllers", f"random,{function},{file}", "--slots", "40",
        "--networks", "2", "--out", str(out), "--set", "num_devices=3",
    ]  # fmt: skip
    assert run(*arguments) == 0
    rows = {
        r["controller"]: r for r in json.loads((out / "summary.json").read_text())["points"][0]["comparison"]["rows"]
    }
    assert rows[str(file)]["kind"] == "learned"
    table = compare_controllers(SCENARIO, {"random": "random", "mine": str(file), "half": Half()}, networks=2, slots=40)
    for ours, theirs in ((str(file), "mine"), (function, "half"), ("random", "random")):
        assert table.row(theirs).cost.value == pytest.approx(rows[ours]["cost"]["value"], rel=1e-9)
    torch.manual_seed(2)
    other = network("device")
    with torch.no_grad():
        next(other.network.parameters()).mul_(-1.0)
    export_policy(other, file)
    capsys.readouterr()
    assert run(*arguments) == 0
    assert "2 finished results" in capsys.readouterr().out


def test_a_policy_of_other_settings_is_refused(tmp_path: Path) -> None:
    policy = network("device", make_scenario("sequential_offloading", device_action="split", **SETTINGS))
    policy.information["train"] = {"scenario": "sequential_offloading", "set": {"device_action": "split", **SETTINGS}}
    policy.save(tmp_path / "device.pt")
    with pytest.raises(ValueError, match="was trained with device_action = 'split', the scenario has"):
        make_controller(SCENARIO, "device", f"{tmp_path}/device.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.onnx", "policy file nowhere.onnx does not exist"),
        ("{}/text.onnx", "is no ONNX file that runs"),
        ("{}/text.pt", "needs TorchRL|does not load"),
        ("{}/text.zip", "needs Stable-Baselines3|is no model of"),
        ("server={}/device.onnx", "takes 7 observation entries|does not take rows"),
    ],
)
def test_files_that_are_no_policies_are_refused(tmp_path: Path, name: str, message: str) -> None:
    for suffix in (".onnx", ".pt", ".zip"):
        (tmp_path / f"text{suffix}").write_text("no policy")
    export_policy(network("device"), tmp_path / "device.onnx")
    with pytest.raises(ValueError, match=message) as refused:
        costs(make_policy(SCENARIO, name.format(tmp_path)))
    assert "\n" not in str(refused.value)


def test_a_policy_that_fits_nothing_is_told_what_there_is(tmp_path: Path) -> None:
    space = SCENARIO.roles["device"].action_space
    assert fitting(SCENARIO, SCENARIO.roles["device"].observation_space.shape, space, "mine") == "device"
    assert fitting(SCENARIO, SCENARIO.global_state_space.shape, SCENARIO.central_space, "mine") is None
    with pytest.raises(ValueError, match=r"fits nothing in sequential_offloading \(device: .*central: .*ROLE=mine"):
        fitting(SCENARIO, (99,), space, "mine")


def test_actions_come_in_the_forms_that_libraries_have() -> None:
    pruning = make_scenario("model_pruning", num_devices=10)
    space = make_scenario("model_partitioning").roles["device"].action_space
    assert as_actions(np.array([2, 0, 1]), space, (1, 3), "mine").tolist() == [[2, 0, 1]]
    scores = np.eye(int(space.n))[[2, 0, 1]]
    assert as_actions(scores, space, (1, 3), "mine").tolist() == [[2, 0, 1]]
    with pytest.raises(ValueError, match=r"mine gave actions of shape \(3, 2\)"):
        as_actions(np.zeros((3, 2)), pruning.roles["gateway"].action_space, (1, 5), "mine")


def test_units_are_those_of_training() -> None:
    own = PredictController(lambda rows, mask: np.full((*rows.shape[:2], 2), 0.75), role="device")
    unit = PredictController(lambda rows, mask: np.full((*rows.shape[:2], 2), 0.5), role="device", actions="unit")
    np.testing.assert_array_equal(costs(policy_of(SCENARIO, own, "a")), costs(policy_of(SCENARIO, unit, "b")))
    size = int(np.prod(SCENARIO.central_space.shape))
    middle = PredictCentral(lambda states, mask: np.zeros((len(states), size)))
    half = PredictCentral(lambda states, mask: np.full((len(states), size), 0.5), actions="own")
    np.testing.assert_array_equal(costs(middle), costs(half))


def test_a_function_that_fails_is_named() -> None:
    def broken(rows: Array, mask: Array | None) -> Array:
        raise RuntimeError("mat1 and mat2 shapes\ncannot be multiplied")

    with pytest.raises(
        ValueError, match=r"mine does not take rows of shape \(2, 3, \d+\): RuntimeError: mat1 and mat2 shapes"
    ):
        costs(policy_of(SCENARIO, PredictController(broken, "mine"), "mine"))


def test_what_is_no_controller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown controller 'rondom'"):
        compare_controllers(SCENARIO, ["rondom"])
    with pytest.raises(ValueError, match="'mine' is a int without 'name'"):
        compare_controllers(SCENARIO, {"mine": 3})
    with pytest.raises(ValueError, match="networks = 0"):
        compare_controllers(SCENARIO, ["random"], networks=0)
    with pytest.raises(ValueError, match="no checkpoint of RLlib"):
        load_policy(tmp_path, SCENARIO)


HINT = " ({} here; a controller written for another form needs {})"
EARLIER = "; from before EdgeMARL 0.2: --set device_action=cpu)"
ONE_NUMBER = "--set device_action=cpu or --set device_action=power"


@pytest.mark.parametrize(
    ("name", "entries", "hint"),
    [
        (
            "sequential_offloading",
            1,
            HINT.format("device_action=residual", ONE_NUMBER)[:-1] + EARLIER,
        ),
        ("model_partitioning", 3, HINT.format("local_cpu_rule=optimal", "--set local_cpu_rule=action")),
        ("model_pruning", 3, ""),
    ],
)
def test_actions_of_another_form_name_the_field_that_sets_it(name: str, entries: int, hint: str) -> None:
    class Other(Controller):
        def act(self, observations: Array, rng: np.random.Generator) -> Act:
            return Act(np.zeros((*observations.shape[:2], entries)))

    scenario = make_scenario(name)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 2)
    with pytest.raises(ValueError, match=r"actions of device have shape .* \(cells, agents") as error:
        rollout(policy_of(scenario, Other(), "mine"), scenario, trace, np.random.default_rng(1))
    assert str(error.value).partition(") = (")[2].partition(")")[2] == hint


class Said(Controller):
    """Said of everything; what it gives back and tells is set."""

    answer: Any = None

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        act = Act(np.full((*observations.shape[:2], 2), 0.5))
        return act if self.answer is None else self.answer(act)


def test_a_mapping_with_an_unknown_role_is_refused() -> None:
    """Else the scenario's partner would play the role that was meant, under the name of the controller."""
    with pytest.raises(ValueError, match="controller 'mine': unknown role 'devise'; did you mean 'device'"):
        policy_of(SCENARIO, {"devise": Said()}, "mine")
    with pytest.raises(ValueError, match="controller 'mine' has a int for role 'device', needs a Controller"):
        policy_of(SCENARIO, {"device": 3}, "mine")


def test_a_controller_that_is_not_whole_is_named() -> None:
    class Nothing(Controller):
        pass

    with pytest.raises(ValueError, match="controller 'mine' is a class without act, which a controller needs"):
        policy_of(SCENARIO, Nothing, "mine")


@pytest.mark.parametrize(("answer", "kind"), [(lambda act: act.actions, "ndarray"), (lambda act: 0, "int")])
def test_what_is_no_act_is_named(answer: Any, kind: str) -> None:
    given = Said()
    given.answer = answer
    with pytest.raises(ValueError, match=f"Said of role 'device' gives a {kind}, must give an Act"):
        costs(policy_of(SCENARIO, given, "mine"))


def test_messages_to_an_unknown_role_are_refused() -> None:
    given = Said()
    given.messages = {"sever": 1}
    with pytest.raises(ValueError, match="messages of Said: unknown role 'sever'; did you mean 'server'"):
        costs(policy_of(SCENARIO, given, "mine"))


def test_a_policy_beside_others_than_in_its_training_says_what_its_rows_lack() -> None:
    policy = network("device")
    rows = np.zeros((2, 3, policy.spec.observation_size + 1))
    with pytest.raises(ValueError, match=r"rows of \d+ entries, 0 of them messages .* play it beside .* \(none\)"):
        NetworkController(policy).act(rows, np.random.default_rng(0))
