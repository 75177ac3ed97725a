"""`compare --trace`: the file's network, its slots and its cells are what is played and what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.launch.experiment.played import TraceFile, _doubts
from edgemarl.marl.evaluation.traces import save_trace, trace_table
from tests.launch.test_cli import preset_file, run

SMALL = make_scenario("model_partitioning", num_devices=2, model_pattern="alexnet", slot_s=0.5)
TRACE = SMALL.sample_trace(np.random.default_rng(3), cells=2, slots=40)
ASK = ["compare", "--controllers", "local,edge"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_trace(tmp_path / "t.parquet", SMALL, TRACE)


def summary(out: Path) -> dict[str, object]:
    return json.loads((out / "summary.json").read_text())  # type: ignore[no-any-return]


def test_a_file_brings_its_network(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario, size and units come from the file; a quarter of its slots is warm-up, not of a default episode."""
    code, out, err = run(*ASK, "--trace", str(file), "--out", str(tmp_path / "o"), capsys=capsys)
    assert code == 0, err
    assert "channel_gain, arrival_rate_hz from the file" in out and "2 networks" in out
    said = summary(tmp_path / "o")
    config, preset = said["points"][0]["config"], said["preset"]  # type: ignore[index]
    assert (config["num_devices"], config["slot_s"]) == (2, 0.5)
    assert (preset["slots"], preset["warmup"], preset["networks"]) == (40, 10, 2)  # type: ignore[index]
    page = (tmp_path / "o" / "report.html").read_text()
    assert "slots <b>40</b>, the first 10 left out" in page and "networks <b>2</b>" in page


def test_measured_and_drawn_fields_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = trace_table(TRACE)[["cell", "slot", "agent", "channel_gain"]]
    table.query("cell == 0").assign(rssi=-70).to_csv(tmp_path / "t.csv", index=False)
    words = [*ASK, "--scenario", "model_partitioning", "--set", "num_devices=2", "--trace", str(tmp_path / "t.csv")]
    code, _, err = run(*words, capsys=capsys)
    assert code == 2 and "unknown column 'rssi'" in err
    code, out, _ = run(*words, "--ignore", "rssi", "--out", str(tmp_path / "o"), capsys=capsys)
    assert code == 0
    for text in ("channel_gain measured (from the file); arrival_rate_hz drawn", "left out: rssi", "gives no interval"):
        assert text in out and text in (tmp_path / "o" / "report.html").read_text()
    trace = summary(tmp_path / "o")["trace"]
    assert isinstance(trace, dict)
    assert (trace["measured"], trace["drawn"], trace["ignored"]) == (["channel_gain"], ["arrival_rate_hz"], ["rssi"])


def test_stretches_are_networks_and_give_an_interval(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*ASK, "--trace", str(file), "--cells-from", "10", "--warmup", "2", "--out", str(tmp_path / "o")]
    code, out, err = run(*words, capsys=capsys)
    assert code == 0, err
    assert "8 networks of 10 slots out of a file of 2 x 40 slots" in out
    (warning,) = (line for line in out.splitlines() if line.startswith("Warning: "))
    assert "8 networks give a rough interval" in warning and f"edgemarl trace describe {file}" in warning
    rows = pd.read_parquet(tmp_path / "o" / "results.parquet").query("controller == 'local'")
    assert len(rows) == 8 and rows["objective"].nunique() == 8


def test_a_bound_of_drawn_traces_is_not_asked_for_a_longer_warmup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = make_scenario("sequential_offloading", num_devices=2)
    file = save_trace(tmp_path / "t.parquet", network, network.sample_trace(np.random.default_rng(0), 2, 12))
    words = ["compare", "--controllers", "random,local", "--trace", str(file), "--out", str(tmp_path / "o")]
    code, out, err = run(*words, capsys=capsys)
    assert code == 0, err
    page = (tmp_path / "o" / "report.html").read_text()
    assert "No lower bound: for a trace file none is printed" in page and "warm-up of 50" not in page + out


def test_part_of_a_file_is_played_as_asked(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*ASK, "--trace", str(file), "--slots", "12", "--networks", "1", "--out", str(tmp_path / "o")]
    assert run(*words, capsys=capsys)[0] == 0
    preset = summary(tmp_path / "o")["preset"]
    assert isinstance(preset, dict) and (preset["slots"], preset["networks"], preset["warmup"]) == (12, 1, 3)


BAD = {
    "more slots than the file": (["--slots", "41"], "slots = 41 is not legal: .* holds 40 slots"),
    "more networks than the file": (["--networks", "3"], "networks = 3 is not legal: .* holds 2; --cells-from"),
    "a warm-up without rest": (["--warmup", "40"], "warmup = 40 slots leaves none: give --warmup below 40"),
    "other units": (["--set", "slot_s=1.0"], "made with slot_s = 0.5, this network has slot_s = 1: --set slot_s=0.5"),
    "another size": (["--set", "num_devices=3"], "made with num_devices = 2, this network has num_devices = 3"),
    "no stretch": (["--cells-from", "41"], "a stretch of 41 slots is not legal"),
    "no slots": (["--slots", "0"], "slots = 0 is not legal"),
    "a negative warm-up": (["--warmup", "-1"], "warmup = -1 is not legal"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_played_is_refused(what: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = BAD[what]
    code, _, err = run(*ASK, "--trace", str(file), *words, "--out", str(file.parent / "o"), capsys=capsys)
    assert code == 2 and err.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(err)


def test_options_of_a_trace_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--ignore", "x"], ["--cells-from", "5"]):
        code, _, err = run(*ASK, "--scenario", "model_partitioning", *words, capsys=capsys)
        assert code == 2 and "give --trace FILE" in err


def test_drawn_networks_may_be_shorter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = preset_file(tmp_path, controllers=["fixed_power"], figures=[])
    words = ["compare", "--preset", preset, "--slots", "6", "--warmup", "1", "--out", str(tmp_path / "o")]
    assert run(*words, capsys=capsys)[0] == 0
    said = summary(tmp_path / "o")["preset"]
    assert isinstance(said, dict) and (said["slots"], said["warmup"]) == (6, 1)


def test_a_name_in_a_file_is_not_loaded_as_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    about = json.dumps({"scenario": f"{tmp_path}/evil.py:X", "config": {}})
    (tmp_path / "t.csv").write_text(f"# edgemarl {about}\ncell,slot,agent,channel_gain\n0,0,0,1\n0,1,0,1\n")
    code, _, err = run("trace", "describe", str(tmp_path / "t.csv"), capsys=capsys)
    assert code == 2 and "does not say of which scenario it is" in err


def test_a_field_that_never_changes_is_not_named_as_the_longest_memory() -> None:
    scenario = make_scenario("model_partitioning", num_devices=1)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 2)  # too short to remember anything
    too_short, _ = _doubts(TraceFile(Path("t.parquet"), cells_from=1), trace, 2)
    assert "ten autocorrelation times of one slot, the least there is: networks" in too_short
