"""`compare --concurrent`: the results of the command that does one thing after another, from several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgemarl.launch.cli import main

PRESET = """
title: Small
description: Three devices.
scenario: sequential_offloading
set: {num_devices: 3, device_action: split}
networks: 2
slots: 12
warmup: 2
window: 5
controllers: [random, parametric_q, ppo, vi]
learned: {ppo: {train: {cells: 2, slots: 10, minibatch: 40, epochs: 1, agent_steps: 80, hidden: [8]}}}
figures: []
"""


def run(out: Path, preset: Path, *more: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--preset", str(preset), "--out", str(out), *more])
    assert ended.value.code in (0, None)
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def costs(summary: Any) -> dict[str, Any]:
    """Controller -> what its row says of costs and columns."""
    return {row["controller"]: (row["cost"], row["columns"]) for row in rows(summary)}


def rows(summary: Any) -> list[dict[str, Any]]:
    if isinstance(summary, dict):
        if "controller" in summary and "cost" in summary:
            return [summary]
        summary = list(summary.values())
    return [row for part in summary for row in rows(part)] if isinstance(summary, list) else []


def test_results_equal_those_of_one_after_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = tmp_path / "small.yaml"
    preset.write_text(PRESET, encoding="utf-8")
    alone = costs(run(tmp_path / "one", preset))
    assert set(alone) == {"random", "parametric_q", "ppo", "vi"}
    at_once = costs(run(tmp_path / "two", preset, "--concurrent", "2"))
    assert at_once == alone
    capsys.readouterr()
    assert costs(run(tmp_path / "two", preset)) == alone
    assert "4 finished results of the same settings were taken" in capsys.readouterr().out


def test_a_number_of_processes_that_is_not_legal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--scenario", "sequential_offloading", "--concurrent", "0", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "concurrent" in capsys.readouterr().err
