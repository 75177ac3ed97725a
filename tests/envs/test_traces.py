"""Trace files: round trips, partly measured traces, and one readable error per kind of bad file."""

from __future__ import annotations

import dataclasses
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.marl.evaluation.stretches import stretches
from edgemarl.marl.evaluation.tables import read_table
from edgemarl.marl.evaluation.traces import load_trace, save_trace, trace_table

SCENARIO = make_scenario("sequential_offloading", num_devices=3, slots_per_block=2)
TRACE = SCENARIO.sample_trace(np.random.default_rng(1), cells=2, slots=4)


def assert_same(a: object, b: object) -> None:
    for name in trace_fields(type(a)):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, name)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_s_trace_survives_a_file(name: str, ending: str, tmp_path: Path) -> None:
    scenario = scenario_class(name)()
    trace = scenario.sample_trace(np.random.default_rng(3), cells=2, slots=3)
    path = save_trace(tmp_path / f"trace.{ending}", scenario, trace)
    loaded = load_trace(path, scenario)
    assert_same(loaded.trace, trace)
    assert loaded.sampled == ()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@settings(max_examples=25, deadline=None)
@given(
    devices=st.integers(1, 4),
    n=st.integers(1, 3),
    cells=st.integers(1, 3),
    slots=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_size_survives_a_file_in_any_row_order(devices: int, n: int, cells: int, slots: int, seed: int) -> None:
    scenario = make_scenario("sequential_offloading", num_devices=devices, slots_per_block=n)
    trace = scenario.sample_trace(np.random.default_rng(seed), cells, slots)
    with tempfile.TemporaryDirectory() as folder:
        path = save_trace(Path(folder) / "t.csv", scenario, trace)
        pd.read_csv(path, comment="#").sample(frac=1.0, random_state=seed).to_csv(path, index=False)
        assert_same(load_trace(path, scenario).trace, trace)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    about = read_table(save_trace(tmp_path / "t.parquet", SCENARIO, TRACE)).about
    assert (about["scenario"], about["cells"], about["slots"]) == ("sequential_offloading", 2, 4)
    assert about["config"]["num_devices"] == 3


def test_a_measured_channel_replaces_the_channel_only(tmp_path: Path) -> None:
    table = trace_table(TRACE)[["cell", "slot", "agent", "channel_gain_per_w"]]
    table.to_csv(tmp_path / "t.csv", index=False)
    loaded, again = load_trace(tmp_path / "t.csv", SCENARIO, seed=7), load_trace(tmp_path / "t.csv", SCENARIO, seed=8)
    assert (loaded.measured, loaded.sampled) == (("channel_gain_per_w",), ("task_arrivals",))
    assert loaded.derived == ("mean_gain_per_w",)
    np.testing.assert_array_equal(loaded.trace.channel_gain_per_w, TRACE.channel_gain_per_w)
    np.testing.assert_allclose(loaded.trace.mean_gain_per_w, TRACE.channel_gain_per_w.mean(axis=0))
    assert (loaded.trace.task_arrivals != again.trace.task_arrivals).any()
    arrivals = TRACE.task_arrivals
    assert loaded.trace.task_arrivals.shape == arrivals.shape


def spoil(column: str, row: int, value: float) -> pd.DataFrame:
    table = trace_table(TRACE).astype({column: float})
    table.loc[row, column] = value
    return table


BAD = {
    "a NaN": (spoil("channel_gain_per_w", 5, np.nan), "channel_gain_per_w holds NaN"),
    "infinity": (spoil("channel_gain_per_w", 5, np.inf), "channel_gain_per_w holds NaN, infinity"),
    "a negative gain": (
        spoil("channel_gain_per_w", 5, -2.0),
        "channel_gain_per_w holds -2 1/W; every value must be >= 0",
    ),
    "half an arrival": (spoil("task_arrivals_1", 5, 0.5), "task_arrivals holds fractions"),
    "two arrivals": (spoil("task_arrivals_1", 5, 2.0), "task_arrivals holds 2 task; every value must be 0 or 1"),
    "no slot column": (trace_table(TRACE).drop(columns="slot"), "has no column 'slot'"),
    "half a field": (trace_table(TRACE).drop(columns="task_arrivals_1"), "has no column 'task_arrivals_1'"),
    "no field": (trace_table(TRACE)[["cell", "slot", "agent"]], "has no field"),
    "a misspelt field": (
        trace_table(TRACE)[["cell", "slot", "agent", "channel_gain_per_w"]].rename(
            columns={"channel_gain_per_w": "chanel_gain_per_w"}
        ),
        "unknown column 'chanel_gain_per_w'; did you mean 'channel_gain_per_w'",
    ),
    "a missing row": (trace_table(TRACE).drop(index=7), "has 29 values, must have 30"),
    "a row twice": (pd.concat([trace_table(TRACE), trace_table(TRACE).loc[[3]]]), "occurs twice"),
    "slots from 1": (trace_table(TRACE).assign(slot=trace_table(TRACE)["slot"] + 1), "starts at 1, must start at 0"),
    "half a slot": (trace_table(TRACE).assign(slot=0.5), "must hold whole numbers"),
    "one slot": (trace_table(TRACE).query("slot == 0"), "holds 1 slot"),
    "no rows": (trace_table(TRACE).query("slot < 0"), "no rows below it"),
    "text": (trace_table(TRACE).astype({"channel_gain_per_w": object}).replace({0: "x"}), "whole numbers|text"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_gets_one_readable_error(what: str, tmp_path: Path) -> None:
    table, message = BAD[what]
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=message) as error:
        load_trace(tmp_path / "t.csv", SCENARIO)
    assert "\n" not in str(error.value)
    assert "t.csv" in str(error.value)


def test_a_trace_of_another_number_of_devices_is_refused(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.parquet", SCENARIO, TRACE)
    for devices in (2, 4):
        other = make_scenario("sequential_offloading", num_devices=devices, slots_per_block=2)
        with pytest.raises(ValueError, match=f"made with num_devices = 3, this network has num_devices = {devices}"):
            load_trace(path, other)
        trace_table(TRACE).to_parquet(tmp_path / "foreign.parquet", index=False)
        with pytest.raises(ValueError, match=f"given for 3 agents; the scenario has num_devices = {devices}"):
            load_trace(tmp_path / "foreign.parquet", other)


class Renamed(scenario_class("sequential_offloading")):  # type: ignore[misc]
    name = "another_scenario"


def test_a_trace_of_another_scenario_is_refused(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.csv", SCENARIO, TRACE)
    other: Scenario = Renamed(dataclasses.replace(SCENARIO.config))
    with pytest.raises(ValueError, match="is a trace of scenario 'sequential_offloading', not of 'another_scenario'"):
        load_trace(path, other)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("not parquet")
    (tmp_path / "empty.csv").write_text("")
    for name, message in [("t.parquet", "not a readable parquet"), ("empty.csv", "holds no rows")]:
        with pytest.raises(ValueError, match=message):
            load_trace(tmp_path / name, SCENARIO)
    with pytest.raises(ValueError, match="does not exist"):
        load_trace(tmp_path / "none.csv", SCENARIO)
    with pytest.raises(ValueError, match=r"must end in \.parquet or \.csv"):
        save_trace(tmp_path / "t.xlsx", SCENARIO, TRACE)
    with pytest.raises(ValueError, match="cannot write"):
        save_trace(tmp_path / "empty.csv" / "t.csv", SCENARIO, TRACE)


# --- nothing of a file is ignored silently -----------------------------------------------------------------------

PRUNING = make_scenario("model_pruning", num_devices=6, num_gateways=2)
PRUNED = trace_table(PRUNING.sample_trace(np.random.default_rng(0), cells=2, slots=5))


def refused(table: pd.DataFrame, path: Path, scenario: Scenario, message: str, **options: Any) -> None:
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        load_trace(path, scenario, **options)
    assert "\n" not in str(error.value)


def test_an_unknown_column_is_refused_unless_it_is_ignored(tmp_path: Path) -> None:
    table, path = trace_table(TRACE).assign(chanel_gain_per_w=1.0), tmp_path / "t.csv"
    refused(table, path, SCENARIO, "unknown column 'chanel_gain_per_w'; did you mean 'channel_gain_per_w'.*--ignore")
    loaded = load_trace(path, SCENARIO, ignore=["chanel_gain_per_w"])
    assert loaded.ignored == ("chanel_gain_per_w",)
    assert_same(loaded.trace, TRACE)
    refused(table, path, SCENARIO, "--ignore rate: unknown column 'rate'", ignore=["rate"])
    refused(table, path, SCENARIO, "--ignore slot is not legal", ignore=["slot"])
    refused(table.rename(columns={"task_arrivals_0": "task_arrivals"}), path, SCENARIO, "one column per entry, such as")


def test_a_field_that_is_drawn_once_is_read_from_any_slot_or_refused(tmp_path: Path) -> None:
    """The same in every slot is what it is; a series is not cut to its first slot."""
    path = tmp_path / "t.csv"
    gain = PRUNED.groupby(["cell", "agent"])["channel_gain"].transform("first")
    PRUNED.assign(channel_gain=gain).to_csv(path, index=False)
    loaded = load_trace(path, PRUNING)
    np.testing.assert_array_equal(loaded.trace.channel_gain, gain[PRUNED.slot == 0].to_numpy().reshape(2, 6)[:, :2])
    series = PRUNED.assign(channel_gain=PRUNED["next_channel_gain"])
    refused(series, path, PRUNING, "channel_gain changes from slot to slot; model_pruning takes it once, at the start")
    refused(series, path, PRUNING, "is next_channel_gain, whose slot t holds that of slot t.1")
    own = trace_table(TRACE)
    own["mean_gain_per_w"] = own["channel_gain_per_w"]
    refused(own, path, SCENARIO, "takes it once per episode$")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("task_arrivals_1", 257.0, "holds 257 task; every value must be 0 or 1"),
        ("channel_gain_per_w", -70.0, "must be >= 0 .negative gains look like dB: edgemarl trace import"),
        ("channel_gain_per_w", 1e15, r"must be <= 2.5\d*e.14 .a path gain is at most 1: dB taken for linear"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_likely_reason(
    column: str, value: float, message: str, tmp_path: Path
) -> None:
    refused(spoil(column, 5, value), tmp_path / "t.csv", SCENARIO, message)


def test_a_level_that_does_not_fit_its_type_is_refused(tmp_path: Path) -> None:
    """65536 levels above the highest would wrap to a legal one in 16 bits."""
    spoilt = PRUNED.assign(next_criticality_level=PRUNED["next_criticality_level"] + 65536)
    refused(spoilt, tmp_path / "t.csv", PRUNING, "next_criticality_level holds 6554.; every value must be <= 5")


@pytest.mark.parametrize("column", ["cell", "slot", "agent"])
def test_a_huge_index_is_refused_before_anything_is_drawn(column: str, tmp_path: Path) -> None:
    """130 bytes must not reserve gigabytes."""
    row = {"cell": [0, 0], "slot": [0, 1], "agent": [0, 0], "channel_gain_per_w": [1.0, 1.0]}
    row[column] = [0, 99_999_999]
    tracemalloc.start()
    refused(pd.DataFrame(row), tmp_path / "t.csv", SCENARIO, f"'{column}' goes up to 1e.08, but the file holds 2 rows")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_what_a_file_says_of_its_network_is_no_bomb(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.parquet", SCENARIO, TRACE)
    huge = make_scenario("sequential_offloading", num_devices=10**4, slots_per_block=2)
    trace_table(TRACE).to_parquet(path, index=False)
    with pytest.raises(ValueError, match="given for 3 agents"):
        load_trace(path, huge)
    pd.DataFrame({"cell": 0, "slot": [0, 1], "agent": 0, "mean_gain_per_w": 1.0}).to_parquet(path)
    with pytest.raises(ValueError, match="given for 1 agents"):
        load_trace(path, huge)


@pytest.mark.parametrize("field", ["noise_w", "slot_s"])
def test_a_trace_in_other_units_is_refused(field: str, tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.csv", SCENARIO, TRACE)
    other = type(SCENARIO)(dataclasses.replace(SCENARIO.config, **{field: 2.0 * getattr(SCENARIO.config, field)}))
    with pytest.raises(ValueError, match=f"made with {field} = .*, this network has .*: --set {field}="):
        load_trace(path, other)


def test_other_differences_of_the_network_are_named(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.csv", SCENARIO, TRACE)
    other = type(SCENARIO)(dataclasses.replace(SCENARIO.config, arrival_probability=0.25))
    assert load_trace(path, other).differences == ("arrival_probability = 0.4 (here: 0.25)",)
    assert load_trace(path, SCENARIO).differences == ()


# --- stretches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenario_names())
def test_a_stretch_plays_as_the_whole_trace_does_from_there(name: str) -> None:
    scenario = scenario_class(name)()
    trace = scenario.sample_trace(np.random.default_rng(4), cells=2, slots=7)
    cut = stretches(trace, 3)
    scenario.check_trace(cut)
    assert (cut.cells, cut.slots) == (4, 3)  # two of three slots in each cell; the seventh is left over
    for field, meta in trace_fields(type(trace)).items():
        whole, part = getattr(trace, field), getattr(cut, field)
        assert part.dtype == whole.dtype
        for cell, first, row in ((0, 0, 0), (0, 3, 1), (1, 0, 2), (1, 3, 3)):
            if meta["kind"] == "slot":
                np.testing.assert_array_equal(part[:, row], whole[first : first + 4, cell])
            elif first and (series := [n for n, m in trace_fields(type(trace)).items() if m["after"] == field]):
                np.testing.assert_array_equal(part[row], getattr(trace, series[0])[first - 1, cell])
            else:
                np.testing.assert_array_equal(part[row], whole[cell])
    for slots in (0, 8):
        with pytest.raises(ValueError, match=f"a stretch of {slots} slots is not legal"):
            stretches(trace, slots)
