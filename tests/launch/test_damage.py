"""Damage, a full disk and doubtful names end in one line, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_training import TINY, preset, rows_of, run, write_run

import edgemarl.launch.commands.compare as command
from edgemarl.launch.cli import main
from edgemarl.launch.commands.replay import replay_command
from edgemarl.launch.commands.train import saved_config
from edgemarl.launch.experiment.plan import run_labels
from edgemarl.marl.training.config import TrainConfig

ROOT = Path(__file__).parents[2]


def test_a_file_that_ends_early_is_no_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(command, "load_preset", fail)
    assert run("compare", "--preset", "quick") == 2
    err = capsys.readouterr().err
    assert "damaged: Ran out of input" in err
    assert "goes on" not in err


def test_settings_that_are_cut_short_name_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_run(tmp_path / "mine", TrainConfig(set=TINY)) / "config.json"
    file.write_text(file.read_text()[:-20])
    assert run("train", "--resume", str(tmp_path / "mine")) == 2
    assert f"{file} cannot be read" in capsys.readouterr().err


def test_settings_with_any_damage_name_their_file(tmp_path: Path) -> None:
    """Cut at any place, and values that are no settings: for `train --resume` and for `replay`."""
    run = write_run(tmp_path / "mine", TrainConfig(set=TINY))
    file, whole = run / "config.json", (run / "config.json").read_text()
    wrong = [{"algorithm": "ppo", "cells": -1}, {"algorithm": "pop"}, {"algorithm": "ppo", "settings": [1]}, {}, []]
    texts = [whole[:n] for n in range(0, len(whole), 7)] + [json.dumps(values) for values in wrong]
    for text in texts:
        file.write_text(text)
        with pytest.raises(ValueError) as refused:
            saved_config(run, None)
        assert str(file) in str(refused.value) and "\n" not in str(refused.value), text
    for text in (whole[:-9], json.dumps({"algorithm": "ppo", "cells": -1})):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"{file}"):
            replay_command([str(run)], None, tmp_path / "a.gif", 2, 0, None, [], 0, 5.0)


def test_a_damaged_result_is_computed_again_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ("compare", "--preset", preset(tmp_path, controllers=["random", "vi"]), "--out", str(tmp_path / "out"))
    assert run(*words) == 0
    before = rows_of(tmp_path / "out")
    part = tmp_path / "out" / "parts" / "vi__0.part"
    part.write_bytes(part.read_bytes()[:-100])
    capsys.readouterr()
    assert run(*words) == 0
    assert "1 finished results" in capsys.readouterr().out
    assert f"{part} is damaged: it is computed again" in caplog.text
    after = rows_of(tmp_path / "out")
    assert after["vi"]["cost"] == before["vi"]["cost"]


def test_a_disk_that_takes_no_more_is_one_line_and_what_is_done_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: `OSError` from the same calls."""
    words = [sys.executable, "-m", "launch", "compare", "--preset", preset(tmp_path), "--out", str(tmp_path / "out")]

    def compare(limit: int | None) -> subprocess.CompletedProcess[str]:
        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # which writes files, too
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=limited)

    full = compare(2000)  # a result has more
    assert full.returncode == 2, full.stderr[-2000:]
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("edgemarl: File too large")
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "out" / "parts").iterdir())


def test_runs_of_one_name_are_told_apart_by_their_paths() -> None:
    assert run_labels(["a/ppo", "b/ppo"], {"random"}) == {"a/ppo": "a/ppo", "b/ppo": "b/ppo"}
    assert run_labels(["x/a/ppo", "y/a/ppo", "z/sac"], ()) == {
        "x/a/ppo": "x/a/ppo", "y/a/ppo": "y/a/ppo", "z/sac": "sac",
    }  # fmt: skip
    assert run_labels(["other/vi"], {"vi"}) == {"other/vi": "other/vi"}
    assert run_labels(["s3://b/run/"], ()) == {"s3://b/run/": "run"}
    with pytest.raises(ValueError, match="are one run"):
        run_labels(["a/ppo", "a/../a/ppo"], ())


def test_runs_of_one_name_and_one_named_as_a_controller_are_rows_of_their_own(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, TrainConfig(set=TINY, seed=i)) for i, name in enumerate(("a/ppo", "b/ppo", "c/vi"))
    ]
    names = ",".join(["random", "vi", *map(str, runs)])
    assert run("compare", "--preset", preset(tmp_path), "--controllers", names, "--out", str(tmp_path / "out")) == 0
    rows = rows_of(tmp_path / "out")
    assert set(rows) == {"random", "vi", "a/ppo", "b/ppo", "c/vi"}
    assert rows["vi"]["kind"] == "reference"
    assert rows["c/vi"]["kind"] == "learned"
    assert len(list((tmp_path / "out" / "parts").glob("*.part"))) == 5


def test_a_result_of_other_policies_than_the_run_has_now_is_played_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = write_run(tmp_path / "mine", TrainConfig(set=TINY, agent_steps=100))
    more = write_run(tmp_path / "more", TrainConfig(set=TINY, agent_steps=200, seed=1), 99.0)
    words = ("compare", "--preset", preset(tmp_path), "--controllers", f"random,{mine}", "--out", str(tmp_path / "out"))
    assert run(*words) == 0
    assert rows_of(tmp_path / "out")["mine"]["training_s"] == 12.5
    for name in ("policy/device.pt", "policy/server.pt", "curve.parquet"):  # the run was trained on
        (mine / name).write_bytes((more / name).read_bytes())
    assert run(*words) == 0
    assert "it is played again" in caplog.text
    assert rows_of(tmp_path / "out")["mine"]["training_s"] == 99.0


def test_policies_of_different_saves_of_an_old_run_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an earlier version that was killed between its two policies."""
    old, new = (
        write_run(tmp_path / name, TrainConfig(set=TINY, agent_steps=n)) for name, n in (("old", 100), ("new", 200))
    )
    first = sorted((new / "policy").iterdir())[0]
    first.write_bytes((old / "policy" / first.name).read_bytes())
    with pytest.raises(SystemExit) as stop:
        main(
            ["compare", "--preset", preset(tmp_path), "--controllers", f"random,{new}", "--out", str(tmp_path / "out")]
        )
    assert stop.value.code == 2
    assert "are of different saves" in capsys.readouterr().err
