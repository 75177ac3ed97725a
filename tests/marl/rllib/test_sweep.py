"""Sweeps: every combination is a trial, an interrupted sweep goes on, all curves end up in one table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from edgemarl.launch.cli import main
from edgemarl.launch.commands.sweep import chosen_controllers
from edgemarl.marl.training.run import train
from edgemarl.marl.training.sweep import Trial, make_trials

BASE = {"set": {"device_action": "split", "episode_blocks": 20}, "cells": 4, "slots": 10, "minibatch": 40, "epochs": 1}
CONTROLLERS = {"shared": {}, "central": {"control": "central"}}


def trials(agent_steps: int = 320) -> list[Trial]:
    return make_trials({**BASE, "agent_steps": agent_steps}, CONTROLLERS, {"num_devices": [2, 3]}, range(1))


def command(out: Path, *more: str) -> list[str]:
    sets = [part for field, value in BASE["set"].items() for part in ("--set", f"{field}={value}")]  # type: ignore
    train_fields = [part for name in BASE if name != "set" for part in ("--train", f"{name}={BASE[name]}")]
    sizes = [
        "--sizes",
        "num_devices=2,3",
        "--agent-steps",
        "320",
        "--training-seeds",
        "1",
        "--controllers",
        "shared,central",
    ]
    return ["sweep", *sets, *train_fields, *sizes, "--out", str(out), *more]


def test_every_combination_is_a_trial_with_a_folder_of_its_own() -> None:
    found = make_trials(BASE, CONTROLLERS, {"num_devices": [2, 3]}, range(3))
    assert len({trial.name for trial in found}) == 2 * 2 * 3
    assert [t.config.set["num_devices"] for t in found if t.controller == "central"] == [2, 2, 2, 3, 3, 3]
    longer = make_trials({**BASE, "agent_steps": 10**6}, CONTROLLERS, {"num_devices": [2, 3]}, range(3))
    assert [t.name for t in longer] == [t.name for t in found]  # a larger budget goes on with the same runs
    other = make_trials({**BASE, "lr": 1e-5}, CONTROLLERS, {"num_devices": [2, 3]}, range(3))
    assert not {t.name for t in other} & {t.name for t in found}


def test_interrupted_sweep_goes_on_and_collects_every_curve(
    local_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run is finished, one is half done: the first is not touched, the second goes on, the others start."""
    whole, half = trials()[0], trials(160)[1]
    train(whole.config, tmp_path / whole.name)
    finished = (tmp_path / whole.name / "curve.parquet").stat().st_mtime_ns
    before = train(half.config, tmp_path / half.name).curve
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path, "--concurrent", "2"))
    assert ended.value.code == 0, capsys.readouterr()
    assert (tmp_path / whole.name / "curve.parquet").stat().st_mtime_ns == finished
    found = pd.read_parquet(tmp_path / "sweep.parquet")
    assert sorted(found["trial"].unique()) == sorted(trial.name for trial in trials())
    assert (found.groupby("trial")["agent_steps"].max() >= 320).all()
    assert found.groupby("trial")["iteration"].apply(lambda i: i.is_monotonic_increasing and i.is_unique).all()
    went_on = found[found["trial"] == half.name]
    assert went_on["cost"].tolist()[: len(before)] == before["cost"].tolist()
    assert {"controller", "seed", "num_devices"} <= set(found)
    for trial in trials()[2:]:  # one of them at least in a process that had trained another trial before
        alone = train(trial.config, tmp_path / "alone" / trial.name).curve
        assert found[found["trial"] == trial.name]["cost"].tolist() == alone["cost"].tolist(), trial.name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--controllers", "shred"), "shred"),
        (("--sizes", "num_devices=2,0"), "num_devices"),
        (("--sizes", "num_devcies=2"), "num_devices"),
        (("--train", "epocs=2"), "epochs"),
    ],
)
def test_bad_sweeps_are_one_line_before_anything_runs(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path / "out", *more))
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_controllers_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("wide: {hidden: [256, 256]}\nplain:\n")
    assert chosen_controllers(str(file), "sequential_offloading") == {"wide": {"hidden": [256, 256]}, "plain": {}}
    file.write_text("[shared]")
    with pytest.raises(ValueError, match="must map names"):
        chosen_controllers(str(file), "sequential_offloading")
