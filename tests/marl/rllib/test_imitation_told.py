"""Networks that imitate, which may take minutes: what is told meanwhile, and that a SIGTERM ends it at once."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest

from edgemarl.launch.cli import main
from edgemarl.launch.commands import train as command
from edgemarl.marl.training import run
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.stop import Terminated

SLOTS = 8
FIELDS = {
    "cells": 2, "slots": SLOTS, "minibatch": 40, "epochs": 1, "discount": 0.0, "imitate_steps": 30,
    "imitate": {"device": "static"}, "fixed": {"gateway": "deadline", "server": "deadline"},
}  # fmt: skip
Told = tuple[str, int, int, float]


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run._Looks, "every_s", 0.0)


@pytest.mark.parametrize("role", ["", "device"])
def test_a_sigterm_ends_an_imitation_at_its_next_step(role: str, tmp_path: Path) -> None:
    """While the teachers play, and while a network is fitted; no save is left, so that the run begins anew."""
    told: list[Told] = []

    def imitated(*what: str | float) -> None:
        told.append(what)  # type: ignore[arg-type]
        if what[:2] == (role, 2):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated) as end:
        config = TrainConfig(scenario="model_placement", set={"episode_slots": SLOTS}, agent_steps=60, **FIELDS)
        train(config, tmp_path / "run", imitated=imitated)
    assert end.value.code == 143
    assert told[-1][:2] == (role, 2)
    assert not list((tmp_path / "run").rglob("*.pt")) and not list((tmp_path / "run").rglob("curve.parquet"))


def test_train_says_how_far_an_imitation_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.Lines, "every_s", 0.0)
    monkeypatch.setattr(command.ImitationLines, "growth", 0.0)
    fields = [f"{name}={json.dumps(value)}" for name, value in FIELDS.items()]
    words = [word for field in fields for word in ("--train", field)]
    words += ["--scenario", "model_placement", "--set", f"episode_slots={SLOTS}"]
    with pytest.raises(SystemExit) as end:
        main(["train", *words, "--agent-steps", "60", "--out", str(tmp_path / "run")])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("iteration 1:"))
    assert lines[0].startswith("imitation, slot 1 of 8, the named controllers play, ")
    assert lines[first - 1].startswith("imitation, device: step 30 of 30, loss ")


def test_a_short_imitation_is_not_told_and_a_long_one_ever_less(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    lines = command.ImitationLines()
    for step in range(1, 301):
        now[0] = float(step)
        lines("device", step, 300, 0.5)
    said = [int(line.split("step ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert said[:4] == [10, 20, 30, 40]
    assert said[-1] - said[-2] > 40
    assert math.isclose(said[-1] / said[-2], 1.25, rel_tol=0.02)
    assert lines("", 1, 10, math.nan, printed=False) == "the named controllers play"
    assert not capsys.readouterr().out
