"""Trained controllers on the command line: trained once, reused, resumed, refused in another scenario."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import edgemarl.marl.training.run
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.launch.cli import main
from edgemarl.launch.report.numerals import significant
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import TrainResult

TINY: dict[str, Any] = {"device_action": "split", "num_devices": 2}


def run(*arguments: str) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def write_run(folder: Path, config: TrainConfig, seconds: float = 12.5) -> Path:
    """A finished run's folder with policies that nobody trained."""
    torch.manual_seed(config.seed)
    scenario = config.make_scenario()
    (folder / "checkpoint").mkdir(parents=True)
    for name, role in scenario.roles.items():
        spec = network_spec(role.observation_space.shape[0], role.action_space)
        TrainedPolicy(
            PolicyNetwork(spec), config.scenario, name, {"train": config.to_dict(), "agent_steps": config.agent_steps}
        ).save(folder / "policy" / f"{name}.pt")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    pd.DataFrame({"agent_steps": [config.agent_steps], "time_s": [seconds]}).to_parquet(folder / "curve.parquet")
    return folder


def preset(folder: Path, **changes: Any) -> str:
    text = {
        "title": "Tiny", "scenario": "sequential_offloading", "set": {"num_devices": 2}, "networks": 3, "slots": 8,
        "window": 4, "controllers": ["random"], "reference": "random", "figures": [], **changes,
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(text))
    return str(folder / "tiny.yaml")


def rows_of(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    return {row["controller"]: row for row in summary["points"][0]["comparison"]["rows"]}


def test_a_run_s_folder_is_a_controller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "mine", TrainConfig(set=TINY))
    names = f"random,{path}"
    assert run("compare", "--preset", preset(tmp_path), "--controllers", names, "--out", str(tmp_path / "out")) == 0
    row = rows_of(tmp_path / "out")["mine"]
    assert (row["kind"], row["information"], row["training_s"]) == ("learned", "local", 12.5)
    assert "12.5 s" in capsys.readouterr().out


def test_a_run_of_another_scenario_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "mine", TrainConfig(set=TINY))
    assert run("compare", "--scenario", "sampling_rate", "--controllers", str(path), "--out", str(tmp_path / "o")) == 2
    err = capsys.readouterr().err
    assert "is of scenario 'sequential_offloading', not of 'sampling_rate'" in err
    assert err.count("\n") == 1


def test_a_run_is_exported_for_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "mine", TrainConfig(set=TINY))
    assert run("export", str(path), "--format", "torchscript") == 0
    rows = torch.rand(3, TrainedPolicy.load(path / "policy" / "device.pt").spec.observation_size)
    actions = torch.jit.load(str(path / "export" / "device.ts"))(rows).detach().numpy()
    expected = TrainedPolicy.load(path / "policy" / "device.pt").act(rows.numpy(), np.random.default_rng(0))
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert sorted(file.name for file in (path / "export").iterdir()) == ["device.ts", "server.ts"]
    assert (
        "role 'device' of 'sequential_offloading': observations float32 (M, 7) -> actions float32 (M, 2)"
        in capsys.readouterr().out
    )


def test_what_cannot_be_exported_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "mine", TrainConfig(set=TINY))
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for words, told in [
        ([str(path), "--format", "onxx"], "did you mean 'onnx'?"),
        ([str(tmp_path / "empty")], "holds no trained policy"),
        ([str(path), "--format", "torchscript", "--out", str(tmp_path / "file" / "x")], "cannot be written"),
    ]:
        assert run("export", *words) == 2
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
    assert run("export", str(tmp_path), "--format", "torchscript") == 0, "the only run in a folder"
    assert list((path / "export").iterdir())
    write_run(tmp_path / "other", TrainConfig(set=TINY))
    assert run("export", str(tmp_path)) == 2
    assert f"{tmp_path} holds runs mine, other: name one" in capsys.readouterr().err


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Training replaced by writing an untrained run; the list of what was asked for."""
    asked: list[TrainConfig] = []

    def train(
        config: TrainConfig, out: Path, resume: bool = False, progress: Callable[..., None] | None = None, **_: Any
    ) -> Any:
        assert resume  # an interrupted run goes on
        asked.append(config)
        if progress is not None:
            progress({"agent_steps": 5.0}, 0.5)
        write_run(out, config, seconds=3.0)
        return TrainResult(out, 3.0, pd.read_parquet(out / "curve.parquet"))

    monkeypatch.setattr(edgemarl.marl.training.run, "train", train)
    return asked


def test_a_preset_trains_each_seed_once_and_reuses_it(tmp_path: Path, trainings: list[TrainConfig]) -> None:
    learned = {"ppo": {"training_seeds": 2, "train": {"set": {"device_action": "split"}, "agent_steps": 10}}}
    name, out = preset(tmp_path, controllers=["random", "ppo"], learned=learned), tmp_path / "out"
    assert run("compare", "--preset", name, "--out", str(out), "--seed", "7") == 0
    assert [config.seed for config in trainings] == [7, 8]
    assert trainings[0].set == {"num_devices": 2, "device_action": "split"}
    row = rows_of(out)["ppo"]
    assert (row["training_seeds"], row["training_s"]) == (2, 3.0)
    for part in (out / "parts").iterdir():
        part.unlink()
    assert run("compare", "--preset", name, "--out", str(out), "--seed", "7") == 0
    assert len(trainings) == 2
    assert rows_of(out)["ppo"]["cost"] == row["cost"]


def test_a_run_of_other_settings_is_trained_anew(tmp_path: Path, trainings: list[TrainConfig]) -> None:
    for steps in (10, 20):
        learned = {"ppo": {"train": {"set": {"device_action": "split"}, "agent_steps": steps}}}
        name = preset(tmp_path, controllers=["ppo"], learned=learned)
        assert run("compare", "--preset", name, "--out", str(tmp_path / "out")) == 0
    assert [config.agent_steps for config in trainings] == [10, 20]


def test_training_from_the_command_line_and_going_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["cells=2", "slots=5", "minibatch=10", "epochs=1", "hidden=[4]"]
    options = [word for setting in small for word in ("--train", setting)]
    options += [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    folder = tmp_path / "run"
    assert run("train", "--agent-steps", "40", *options, "--out", str(folder)) == 0
    before = pd.read_parquet(folder / "curve.parquet")
    assert before["agent_steps"].iloc[-1] >= 40
    out = capsys.readouterr().out
    cost = significant(before["cost"].iloc[-1] / TINY["num_devices"])
    assert f" s; last iteration: cost per device and block {cost}" in out
    assert f"--controllers random,{folder}" in out.replace("\n", "")
    assert run("train", "--resume", str(folder), "--agent-steps", "100") == 0
    after = pd.read_parquet(folder / "curve.parquet")
    assert after["agent_steps"].iloc[-1] >= 100
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)  # the curve goes on
