"""Scaling studies: sizes and resources, what is measured, each result from a process of its own and kept."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import edgemarl.launch.commands.scale
import edgemarl.launch.experiment.alone
import edgemarl.launch.experiment.elsewhere
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.launch.cli import main
from edgemarl.launch.commands.scale import ScaleOptions, first_below, make_study, parse_sizes, sized, target_cost
from edgemarl.launch.experiment.alone import AloneExperiment, measured_part
from edgemarl.launch.experiment.plan import Learned
from edgemarl.launch.experiment.run import Experiment
from edgemarl.launch.experiment.trained import learned_config
from tests import other_process

ROOT = Path(__file__).parents[2]
SCENARIOS = ("sequential_offloading", "sampling_rate", "model_partitioning", "model_pruning", "model_placement")
TINY = ["--devices", "2,3", "--controllers", "parametric_q,vi_priced", "--networks", "2"]


def run(*arguments: str) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


BAD = {
    "not a number": (["--devices", "10,x"], "--devices 10,x is not legal"),
    "twice": (["--devices", "10,10"], "different integers"),
    "no device": (["--devices", "0"], "integers >= 1"),
    "misspelt controller": (["--controllers", "ppo_centrl"], "did you mean 'ppo_central'"),
    "unknown scenario": (["--scenario", "offloading"], "unknown scenario 'offloading'"),
    "a size that the scenario cannot have": (["--scenario", "sampling_rate", "--devices", "1"], "one for each service"),
    "no size to train at": (["--trained-at", "0"], "--trained-at 0 is not legal"),
    "misspelt setting": (["--set", "bandwith_hz=1"], "did you mean 'bandwidth_hz'"),
    "no budget": (["--agent-steps", "0"], "agent_steps = 0"),
    "no time": (["--minutes", "-1"], "minutes = -1.0 min"),
    "no seed": (["--training-seeds", "0"], "training_seeds = 0"),
    "no network": (["--networks", "0"], "networks = 0"),
    "nothing at once": (["--concurrent", "0"], "concurrent = 0"),
    "no margin": (["--within", "0"], "within = 0 %"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[name]
    assert run("scale", *arguments, "--out", str(tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_sizes_rise() -> None:
    assert parse_sizes("50, 10,200") == (10, 50, 200)


def test_large_networks_have_a_server_that_grows() -> None:
    study = make_study((50, 100, 200), ScaleOptions())
    for plan, size in zip(study.sizes, (50, 100, 200), strict=True):
        factor = 4.0 if size == 200 else 1.0
        config = plan.points[0].scenario.config
        assert config.num_devices == size
        assert config.server_cpu_hz_max == pytest.approx(1e11 * factor)
        assert config.server_capacitance == pytest.approx(1e-29 / factor**2)
    told = dict(study.remarks)["Resources"]
    assert "At 50, 100, 200 devices" in told and "server_cpu_hz_max" in told
    assert [point.value for point in study.plan.points] == [50, 100, 200]


def test_a_setting_of_the_server_is_scaled_too() -> None:
    study = make_study((200,), ScaleOptions(settings=["server_cpu_hz_max=2e11"]))
    assert study.plan.points[0].scenario.config.server_cpu_hz_max == pytest.approx(8e11)


def test_budgets_reach_every_training_run() -> None:
    study = make_study((10, 500), ScaleOptions(agent_steps=77, minutes=2.0, training_seeds=3))
    for plan, cells in zip(study.sizes, (8, 1), strict=True):
        learned = plan.preset.learned["ppo_central"]
        config = learned_config("sequential_offloading", learned, plan.points[0], 0)
        assert learned.training_seeds == 3
        assert (config.agent_steps, config.minutes, config.cells, config.control) == (77, 2.0, cells, "central")
    assert (
        sized("sequential_offloading", Learned(train={"cells": 50}), 500).train["cells"] == 2
    )  # 50 are for 20 devices


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_is_studied_at_sizes_of_its_own(scenario: str) -> None:
    """From 20 to 1,000 devices: both sides learn, by the same algorithm from the same rewards."""
    study = make_study((20, 1000), ScaleOptions(scenario=scenario, trained_at=(20,)))
    preset = study.plan.preset
    for plan, size in zip(study.sizes, (20, 1000), strict=True):
        assert plan.points[0].scenario.roles["device"].count == size
    config = {name: learned_config(scenario, study.sizes[1].preset.learned[name], study.sizes[1].points[0], 0)
              for name in preset.controllers if name in preset.learned}  # fmt: skip
    own = {name: run for name, run in config.items() if "@" not in name}
    assert {run.control for run in own.values()} == {"decentralized", "central"}
    central = next(run for run in own.values() if run.control == "central")
    alike = [run for run in own.values() if run.control == "decentralized" and run.settings == central.settings]
    assert alike and alike[0].reward_mode == central.reward_mode and alike[0].fixed == central.fixed
    for name, run in config.items():
        assert run.make_scenario().roles["device"].count == (20 if name.endswith("@20") else 1000)
    assert study.plan.reference in preset.controllers


def test_a_policy_of_a_small_network_is_trained_once(tmp_path: Path) -> None:
    """Its run is one folder for all sizes, and it plays there unchanged."""
    options = ScaleOptions(controllers=["random", "ppo"], trained_at=(3,), agent_steps=600, networks=2)
    study = make_study((3, 6), options)
    assert study.plan.preset.controllers == ["random", "ppo", "ppo@3"]
    runs = set()
    for plan in study.sizes:
        experiment = Experiment(plan, tmp_path)
        runs |= {job.run for job in experiment.jobs_at[plan.points[0].label] if job.controller == "ppo@3"}
    assert len(runs) == 1


def test_time_to_a_cost_is_read_from_the_smoothed_curve() -> None:
    # 3 agents, 10 slots of a cell per iteration
    curve = {"agent_steps": [30.0, 60, 90, 120, 150], "time_s": [1.0, 2, 3, 4, 5], "cost": [9.0, 1, 9, 3, 1]}
    assert first_below(curve, 2.0, smooth_slots=0, agents=3) == (60, 2.0)
    assert first_below(curve, 2.0, smooth_slots=20, agents=3) == (150, 5.0)  # (3 + 1) / 2
    assert first_below(curve, 0.5, smooth_slots=20, agents=3) == (math.inf, math.inf)


def test_a_training_run_is_measured(tmp_path: Path) -> None:
    study = make_study((2,), ScaleOptions(controllers=["ppo_selfish"], agent_steps=600, networks=2))
    plan = study.sizes[0]
    experiment = Experiment(plan, tmp_path)
    (job,) = experiment.jobs_at[plan.points[0].label]
    assert job.run is not None
    config = learned_config("sequential_offloading", plan.preset.learned["ppo_selfish"], plan.points[0], 0)
    torch.manual_seed(0)
    for name, role in config.make_scenario().roles.items():
        network = PolicyNetwork(network_spec(role.observation_space.shape[0], role.action_space))
        TrainedPolicy(network, config.scenario, name, {"train": config.to_dict(), "agent_steps": 600}).save(
            job.run / "policy" / f"{name}.pt"
        )
    (job.run / "checkpoint").mkdir()
    (job.run / "checkpoint" / "state").write_bytes(b"x" * 1000)
    (job.run / "config.json").write_text(json.dumps(config.to_dict()))
    curve = pd.DataFrame({"agent_steps": [200, 400, 600], "time_s": [9.0, 10.0, 11.0], "cost": [8.0, 6.0, 4.0]})
    curve.to_parquet(job.run / "curve.parquet")
    about = measured_part(experiment, job, "").about
    assert about["measured"]["agent_steps_per_s"] == 200.0  # the first iteration is left out
    assert about["measured"]["checkpoint_bytes"] == 1000
    assert about["measured"]["policy_bytes"] == sum(f.stat().st_size for f in (job.run / "policy").iterdir())
    assert about["measured"]["peak_memory_bytes"] > 2**20
    assert about["curve"]["cost"] == [8.0, 6.0, 4.0]
    assert about["training_s"] == 11.0


def test_peak_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(50_000_000)  # 400 MB here must not count there
    code = (
        "import numpy as np; from edgemarl.launch.experiment.alone import peak_memory_bytes; a = peak_memory_bytes(); "
        "np.ones(15_000_000); print(a, peak_memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < ballast.nbytes
    assert 100e6 < after - before < 160e6


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [(other_process.dies, RuntimeError, "exit code 3"), (other_process.complains, ValueError, "= 0 Hz")],
)
def test_what_goes_wrong_in_the_other_process_is_told(
    target: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgemarl.launch.experiment.alone, "_play", target)
    study = make_study((2,), ScaleOptions(controllers=["random"], networks=2))
    with pytest.raises(error, match=message):
        AloneExperiment(study.sizes[0], tmp_path).run()
    assert not list((tmp_path / "parts").iterdir())


def count_pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of sizes on the pages that are written from now on."""
    written, write = [], edgemarl.launch.commands.scale.write

    def counted(study: Any, results: Any, *more: Any) -> Any:
        written.append(len(results))
        return write(study, results, *more)

    monkeypatch.setattr(edgemarl.launch.commands.scale, "write", counted)
    return written


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study, each result from a process after the other, each size on a page when it is done."""
    out = tmp_path_factory.mktemp("studied") / "out"
    with pytest.MonkeyPatch.context() as patch:
        pages = count_pages(patch)
        assert run("scale", *TINY, "--out", str(out)) == 0
    assert pages == [1, 2]
    return out


def test_a_study_writes_everything_and_keeps_what_is_done(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = studied
    summary = json.loads((out / "summary.json").read_text())
    assert [point["value"] for point in summary["points"]] == [2, 3]
    for point in summary["points"]:
        rows = {row["controller"]: row for row in point["comparison"]["rows"]}
        columns = rows["parametric_q"]["columns"]
        assert columns["agent-steps/s"]["value"] > 0
        assert columns["peak memory [MiB]"]["value"] > 20
        assert columns["checkpoint [KiB]"]["value"] > 0
        assert rows["vi_priced"]["columns"]["time to 10% [s]"]["value"] is None  # nothing is learned
        assert rows["parametric_q"]["signalling_bytes"] == 4 * point["value"]
    table = pd.read_parquet(out / "results.parquet")
    assert len(table) == 2 * 2 * 2  # sizes, controllers, networks
    assert (table["peak_memory_bytes"] > 2**20).all()
    assert (out / "figures" / "1-scaling.png").is_file()
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "edgemarl scale --devices 2,3" in page
    assert 'src="http' not in page
    pages = count_pages(monkeypatch)
    assert run("scale", *TINY, "--concurrent", "3", "--out", str(tmp_path / "at once")) == 0
    at_once = pd.read_parquet(tmp_path / "at once" / "results.parquet")
    pd.testing.assert_series_equal(at_once["cost"], table["cost"])
    before = {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    monkeypatch.setattr(edgemarl.launch.experiment.alone, "_play", other_process.dies)
    assert run("scale", *TINY, "--out", str(out)) == 0  # nothing is played again
    assert pages == [2, 2], "a page of some sizes is written where others wait to be played"
    assert {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == before
    capsys.readouterr()


def test_jobs_are_tasks_of_ray_and_results_meet_in_a_storage(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal to what one process after the other gives; given again, nothing is played again."""
    storage = f"file://{tmp_path}/storage"
    assert run("scale", *TINY, "--storage", storage, "--out", "study") == 0
    assert f"report: {storage}/study/report.html" in capsys.readouterr().out
    there = tmp_path / "storage" / "study"
    assert (there / "report.html").is_file()
    found, expected = (pd.read_parquet(f / "results.parquet") for f in (there, studied))
    pd.testing.assert_series_equal(found["cost"], expected["cost"])
    before = {path.name: path.stat().st_mtime_ns for path in (there / "parts").glob("*.part")}
    assert len(before) == 4
    monkeypatch.setattr(edgemarl.launch.experiment.alone, "_play", other_process.dies)
    monkeypatch.setattr(edgemarl.launch.experiment.elsewhere, "_play_group", other_process.dies)
    assert run("scale", *TINY, "--storage", storage, "--out", "study") == 0
    assert {path.name: path.stat().st_mtime_ns for path in (there / "parts").glob("*.part")} == before


@pytest.mark.parametrize("when", ["while the other process starts", "while it works"])
def test_ctrl_c_ends_the_other_process_too(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal goes to this process; on a terminal the other one gets it too, and leaves it to this one."""
    monkeypatch.setattr(edgemarl.launch.experiment.alone, "_play", other_process.sleeps)
    experiment = AloneExperiment(make_study((2,), ScaleOptions(controllers=["random"], networks=2)).sizes[0], tmp_path)
    start = SpawnProcess.start

    def started(process: SpawnProcess) -> None:
        if when == "while the other process starts":
            signal.raise_signal(signal.SIGINT)
        start(process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        if when == "while it works":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", started)
    with pytest.raises(KeyboardInterrupt):
        experiment.run()
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "launch", "scale", "--devices", "300", "--networks", "16", "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--controllers", "random,parametric_q"],  # the second takes long, if it isn't stopped
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    while not list(out.glob("parts/[!.]*.part")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: both processes
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "finished results are kept" in err
    assert "Traceback" not in err
    assert list(out.glob("parts/*random*.part"))
    assert not list(out.glob("parts/.*"))


def test_the_target_is_over_an_episode_from_empty_queues(tmp_path: Path) -> None:
    study = make_study((2,), ScaleOptions(controllers=["vi_priced"], networks=2))
    plan = study.sizes[0]
    experiment = Experiment(plan, tmp_path)
    (result,) = experiment.run()
    part = result.parts["vi_priced"][0]
    windows = np.arange(1.0, part.cost_windows.shape[1] + 1)  # 1, 2, .. : an episode is 8 windows of 25 slots
    changed = dataclasses.replace(part, cost_windows=np.stack([windows, windows]))
    result = dataclasses.replace(
        result, comparison=dataclasses.replace(result.comparison, reference="vi_priced"), parts={"vi_priced": [changed]}
    )
    assert target_cost(result, 0.1, plan.preset.window) == pytest.approx(1.1 * 4.5)
