"""A run from the command line that is ended by SIGTERM; what it listens on; checkpoints that somebody else made."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.launch.cli import main
from edgemarl.marl import trust
from edgemarl.marl.lock import LOCK
from edgemarl.marl.training import curve
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.folder import RunFolder
from edgemarl.marl.training.run import Training, train
from edgemarl.marl.training.saves import CHECKPOINT, commit, save_folders
from edgemarl.marl.training.trained import load_policy, saved_policies

ROOT = Path(__file__).parents[3]
SET = {"device_action": "split", "num_devices": 3, "episode_blocks": 20}
FIELDS = {"cells": 4, "slots": 10, "minibatch": 40, "epochs": 1, "lr_final": 1.0}
OTHER_KEY = "the key of somebody else ............"


def small(**values: Any) -> TrainConfig:
    return TrainConfig(**{"set": SET, **FIELDS, "seed": 3, "agent_steps": 320, **values})


def words(out: Path, agent_steps: int, **more: Any) -> list[str]:
    fields = [part for name, value in {**FIELDS, **more}.items() for part in ("--train", f"{name}={value}")]
    settings = [part for name, value in SET.items() for part in ("--set", f"{name}={value}")]
    return ["train", *settings, *fields, "--seed", "3", "--agent-steps", str(agent_steps), "--out", str(out)]


def listening(process: psutil.Process) -> set[str]:
    """Addresses on which a process and those that it started listen."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        connections = getattr(one, "net_connections", None) or one.connections  # of older versions
        found |= {c.laddr.ip for c in connections("tcp") if c.status == psutil.CONN_LISTEN}
    return found


def test_sigterm_saves_what_was_trained_and_ray_is_bound_to_this_machine(local_cluster: None, tmp_path: Path) -> None:
    """One run: while it trains, what listens; then SIGTERM; then it goes on from what was saved."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", *words(out, 10**9, num_env_runners=1)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**{n: v for n, v in os.environ.items() if not n.startswith("RAY_")}, "EDGEMARL_GRACE_S": "240"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("iteration 1:")
    own = psutil.Process(process.pid)
    assert listening(own) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    (token,) = [f for p in Path("/tmp").glob("edgemarl-*") for f in p.glob("token") if str(p) in session(own)]
    assert token.stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err[-2000:]
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert not token.exists()
    saved = saved_policies(out)
    iterations = saved.steps // 160
    assert iterations >= 1
    before = RunFolder(out).curve()["cost"]
    given = {name: str(value) for name, value in SET.items()}  # as the command line has them
    goal = small(set=given, agent_steps=(iterations + 2) * 160, num_env_runners=1)
    train(goal, out, resume=True)
    assert saved_policies(out).steps == (iterations + 2) * 160
    pd.testing.assert_series_equal(RunFolder(out).curve()["cost"][: len(before)], before)
    train(goal, tmp_path / "whole")
    assert weights(out) == weights(tmp_path / "whole"), "the run that was stopped has learned something else"


def weights(run: Path) -> dict[str, dict[str, Any]]:
    """Role -> name -> numbers of the saved networks."""
    policies = saved_policies(run).policies
    return {role: {n: w.tolist() for n, w in policy.network.state_dict().items()} for role, policy in policies.items()}


def test_two_runners_go_on_where_each_of_them_stopped(
    local_cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cells, traces and random streams of both; another number of runners cannot be the same run, and is said."""
    whole = small(agent_steps=960, num_env_runners=2)
    with Training(whole, tmp_path / "whole") as training:
        training.step()
        training.save()
        for copy in ("stopped", "in-process"):
            shutil.copytree(tmp_path / "whole", tmp_path / copy, ignore=shutil.ignore_patterns(f"{LOCK}*"))
        while not training.finished:
            training.step()
        training.save()
    train(whole, tmp_path / "stopped", resume=True)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert not caplog.messages
    train(small(agent_steps=480, num_env_runners=0), tmp_path / "in-process", resume=True)
    (line,) = caplog.messages
    assert "holds 2 remote runners, 0 sample now" in line


def session(process: psutil.Process) -> str:
    """The command lines of what a process started."""
    return " ".join(part for child in process.children(recursive=True) for part in child.cmdline())


class Marker:
    """What a hostile pickle is: unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_checkpoint_of_somebody_else_is_not_unpickled(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, marker = tmp_path / "run", tmp_path / "marker"
    train(small(), run)
    with monkeypatch.context() as attacker:
        attacker.setenv(trust.KEY, OTHER_KEY)
        save = save_folders(run)[0]

        def hostile(folder: Path) -> None:
            shutil.copytree(save, folder, dirs_exist_ok=True)
            for file in folder.rglob("*.pkl"):
                file.write_bytes(pickle.dumps(Marker(marker)))
            for name in ("manifest.json", "signature"):
                (folder / name).unlink()

        about = {"iteration": 2, "agent_steps": 320, "time_s": 1.0, "config": small().to_dict(), "problem": ""}
        commit(run, about, hostile)
        for old in save_folders(run)[1:]:
            shutil.rmtree(old)
    with pytest.raises(trust.UntrustedError, match="was not made by this user on this machine"):
        train(small(agent_steps=640), run, resume=True)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(run), "--agent-steps", "640"])
    assert stop.value.code == 2
    assert "--trust" in capsys.readouterr().err
    assert not marker.exists()
    assert load_policy(run, small().make_scenario()).name  # networks are read without unpickling


def test_a_run_from_elsewhere_goes_on_where_the_user_trusts_it(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setenv(trust.KEY, OTHER_KEY)
        train(small(), tmp_path)
    assert not save_of(tmp_path).trusted
    train(small(agent_steps=480), tmp_path, resume=True, trust=True)
    assert save_of(tmp_path).trusted
    train(small(agent_steps=640), tmp_path, resume=True)


def save_of(run: Path) -> Any:
    save = saved_policies(run).save
    assert save is not None
    return save


def test_code_that_a_run_of_somebody_else_names_is_not_imported(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, code = tmp_path / "marker", tmp_path / "mine.py"
    code.write_text(f"open({str(marker)!r}, 'w')\nclass Server: pass\n")
    run = tmp_path / "run"
    train(small(), run)
    config = {**small().to_dict(), "fixed": {"server": f"{code}:Server"}, "algorithm": f"{code}:Server"}
    with monkeypatch.context() as attacker:
        attacker.setenv(trust.KEY, OTHER_KEY)
        save = save_folders(run)[0]

        def hostile(folder: Path) -> None:
            for name in (CHECKPOINT, "policy"):
                shutil.copytree(save / name, folder / name)
            shutil.copy(save / "curve.parquet", folder)

        commit(run, {"iteration": 3, "agent_steps": 320, "time_s": 1.0, "config": config}, hostile)
    scenario = make_scenario("sequential_offloading", **SET)
    for use in (lambda: load_policy(run, scenario), lambda: RunFolder(run).settings()):
        with pytest.raises(trust.UntrustedError, match="names code to run"):
            use()
    assert not marker.exists()


def test_training_that_explodes_is_said_and_the_last_good_save_stays(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RLlib's losses are infinite from the second iteration on."""
    honest = curve.curve_row

    def exploding(*given: Any) -> dict[str, float]:
        row = honest(*given)
        return row if row["iteration"] < 2 else {**row, "device_vf_loss": math.inf}

    monkeypatch.setattr(curve, "curve_row", exploding)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        main(words(out, 800, checkpoint_s=1e-9))
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert "training went wrong: device_vf_loss = inf, since iteration 2" in err
    assert save_of(out).problem
    assert [path.name for path in save_folders(out)] == ["00000005", "00000004", "00000001"]
