"""While a run trains: its cost in the table's unit against random and the reference; scalars by their names."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.launch.cli import main
from edgemarl.launch.commands import train
from edgemarl.launch.experiment import standing
from edgemarl.launch.experiment.standing import Standing, level, table_cost
from edgemarl.launch.experiment.tracking import Tracker, named
from edgemarl.marl.evaluation.rollout import rollout

SCENARIO = make_scenario("sequential_offloading", num_devices=4)
ROW = {
    "iteration": 1, "env_steps": 100, "agent_steps": 500, "episode_return": -3.0, "time_s": 2.5, "cost": 28.0,
    "device_queue_tasks": 1.5, "device_policy_loss": 0.25, "server_entropy": 1.25, "server_queue_tasks": 2.0,
}  # fmt: skip


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) in the event files of a folder: length, checksum, event, checksum each."""
    found = []
    for file in sorted(folder.glob("events.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += 16 + size
    return found


@pytest.mark.parametrize("name", scenario_names())
def test_the_cost_of_a_row_is_the_tables(name: str) -> None:
    """A learning curve's row holds means over slots, from which every scenario's compared number follows."""
    scenario = make_scenario(name)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 6)
    policy = make_policy(scenario, "random")
    slots = rollout(policy, scenario, trace, np.random.default_rng(0))
    row = {metric: float(values[0]) for metric, values in slots.means.items() if metric != "priced_delay_s"}
    assert table_cost(scenario, row) == pytest.approx(slots.means[scenario.cost_metric][0] / scenario.cost_divisor)
    assert table_cost(scenario, {"episode_return": 1.0}) is None


def test_words_grow_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Standing(SCENARIO)
    assert here.names == ["random", "vi_priced"]
    assert here.said(ROW) == "cost per device and block 7.00"
    here.levels["random"] = 9.0
    assert here.said(ROW) == "cost per device and block 7.00 (random 9.00)"
    here.levels["vi_priced"] = 6.5
    assert here.said(ROW) == "cost per device and block 7.00 (random 9.00, vi_priced 6.50: 80% of the gap)"
    assert here.said({**ROW, "cost": 72.0}).endswith("(random 9.00, vi_priced 6.50: 2 times random)")
    assert here.said({"episode_return": 2.0}) == "episode_return 2"


def test_levels_come_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = make_scenario("sequential_offloading", num_devices=2, episode_blocks=8)
    here = Standing(scenario, seed=3)
    here.names = ["random", "fixed_power"]
    here.start()
    here.start()
    here._process.join(120)
    here.said(ROW)
    here.stop()
    assert here.levels == {name: level(scenario, name, 3) for name in here.names}
    assert here.levels["random"] > here.levels["fixed_power"]


def test_stop_ends_the_process() -> None:
    here = Standing(make_scenario("sequential_offloading", num_devices=2))
    here.names = ["vi_priced"] * 1000
    here.start()
    here.stop()
    assert not here._process.is_alive()


def test_a_short_run_computes_no_levels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(standing.Standing, "start", lambda self: begun.append(True))
    now = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    lines = train.Lines(SCENARIO, 0)
    now[0] = 5.0
    assert lines(ROW, 0.1) == "cost per device and block 7.00"
    now[0] = 9.0
    lines({**ROW, "cost": 4.0}, 0.2)
    assert not begun
    now[0] = 16.0
    lines({**ROW, "iteration": 9, "cost": 4.0}, 0.3)
    assert begun == [True]
    assert capsys.readouterr().out == (
        "iteration 1: 500 agent-steps (10%), cost per device and block 7.00, 2 s\n"
        "iteration 9: 500 agent-steps (30%), cost per device and block 1.00, 2 s\n"
    )


def test_scalars_have_names() -> None:
    assert named(SCENARIO, ROW) == {
        "cost/cost_per_device_and_block": 7.0, "training/iteration": 1, "training/env_steps": 100,
        "training/episode_return": -3.0, "training/time_s": 2.5, "network/cost": 28.0,
        "network/device_queue_tasks": 1.5, "device/policy_loss": 0.25, "server/entropy": 1.25,
        "network/server_queue_tasks": 2.0,
    }  # fmt: skip


def test_event_files_hold_every_row_once_after_a_resume(tmp_path: Path) -> None:
    def rows(first: int, count: int) -> list[dict[str, float]]:
        return [{**ROW, "iteration": i, "agent_steps": 500 * i, "cost": 4.0 * i} for i in range(first, first + count)]

    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.old").write_bytes(b"")
    with Tracker(SCENARIO, tmp_path, {}) as track:
        for row in rows(1, 3):
            track({**row, "episode_return": math.nan})
    name = "cost/cost_per_device_and_block"
    found = scalars(tmp_path / "tensorboard")
    assert [(step, value) for tag, step, value in found if tag == name] == [(500, 1.0), (1000, 2.0), (1500, 3.0)]
    assert not [tag for tag, _, _ in found if tag == "training/episode_return"]
    assert not (tmp_path / "tensorboard" / "events.old").exists()
    with Tracker(SCENARIO, tmp_path, {}) as track:  # goes on from the checkpoint of iteration 3
        for row in rows(4, 1):
            track(row)
    assert [step for tag, step, _ in scalars(tmp_path / "tensorboard") if tag == name] == [500, 1000, 1500, 2000]
    with Tracker(SCENARIO, tmp_path, {}) as track:  # starts anew
        track(rows(1, 1)[0])
    assert [step for tag, step, _ in scalars(tmp_path / "tensorboard") if tag == name] == [500]


def test_wandb_where_it_is_absent_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgemarl.launch.experiment.tracking.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--wandb", "mine", "--agent-steps", "100"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "edgemarl: --wandb needs the package wandb: pip install 'edgemarl[wandb]'\n"
    assert not list(tmp_path.iterdir())


def test_wandb_gets_the_same_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Ray's own integration; the session is a stand-in."""

    class Session:
        def __init__(self, config: dict[str, Any], **words: Any) -> None:
            self.words, self.logged, self.code = {**words, "config": config}, [], -1  # type: ignore[var-annotated]
            sessions.append(self)

        def log(self, values: dict[str, float], step: int) -> None:
            self.logged.append((step, values))

        def finish(self, exit_code: int) -> None:
            self.code = exit_code

    sessions: list[Session] = []
    monkeypatch.setattr("edgemarl.launch.experiment.tracking.find_spec", lambda name: object())
    pytest.importorskip("ray.air.integrations.wandb")
    monkeypatch.setattr(sys.modules["ray.air.integrations.wandb"], "setup_wandb", Session)
    with Tracker(SCENARIO, tmp_path / "run", {"lr": 1.0}, "mine") as track:
        track(ROW)
    (session,) = sessions
    assert session.words == {"config": {"lr": 1.0}, "project": "mine", "name": "run"}
    assert session.logged == [(500, named(SCENARIO, ROW))]
    assert session.code == 0
