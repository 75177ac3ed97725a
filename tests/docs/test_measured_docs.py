"""docs/measured_data.md: its tables are the code's, its tutorial runs as it stands."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from edgemarl.envs.measured import measured
from edgemarl.envs.registry import scenario_class, scenario_names
from edgemarl.envs.trace import trace_fields
from edgemarl.marl.evaluation.measured.mapping import form_names
from tests.launch.test_cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "measured_data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", scenario_names())
def test_the_table_of_a_scenario_is_what_the_code_says(name: str) -> None:
    section = PAGE.split(f"### `{name}`")[1].split("###")[0]
    what = measured(scenario_class(name))
    for field, meta in trace_fields(scenario_class(name).trace_type).items():
        row = what.quantities[field]
        assert f"| `{field}` | {meta['unit']} | {row.meaning} | {row.enters} | {row.absent} |" in section
    assert all(f"`{field}`" in section for field in what.meaning)


def test_every_form_is_listed() -> None:
    assert all(f"| `{form}` |" in PAGE for form in form_names())


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "docs" / "measured", tmp_path / "docs" / "measured")
    monkeypatch.chdir(tmp_path)
    block = PAGE.split("## From files to an answer")[1].split("```bash\n")[1].split("```")[0]
    commands = [line for line in block.splitlines() if line]
    assert len(commands) == 4
    for command in commands:
        words = [path for word in shlex.split(command)[1:] for path in sorted(glob.glob(word)) or [word]]
        code, out, err = run(*words, capsys=capsys)
        assert code == 0, err
    assert "channel_gain, arrival_rate_hz measured (from the file)" in out
    costs = pd.read_parquet("results/cell/results.parquet").groupby("controller")["objective"].mean() / 0.8
    for controller, cost in re.findall(r"^\| `(\w+)` \|.*?\| ([\d.]+) \[", PAGE, re.MULTILINE):
        assert costs[controller] == pytest.approx(float(cost), rel=0.01)
