"""Trace files: round trips, partly measured traces, and one readable error per kind of bad file."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.marl.evaluation.traces import load_trace, read_table, save_trace, trace_table

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
    _, about = read_table(save_trace(tmp_path / "t.parquet", SCENARIO, TRACE))
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
    "two arrivals": (spoil("task_arrivals_1", 5, 2.0), "task_arrivals holds 2; every value must be 0 or 1"),
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
    "no rows": (trace_table(TRACE).query("slot < 0"), "holds no rows"),
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
        with pytest.raises(ValueError, match=f"given for 3 agents; the scenario has num_devices = {devices}"):
            load_trace(path, other)


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
    for name, message in [("t.parquet", "not a readable parquet"), ("empty.csv", "not a readable csv")]:
        with pytest.raises(ValueError, match=message):
            load_trace(tmp_path / name, SCENARIO)
    with pytest.raises(ValueError, match="does not exist"):
        load_trace(tmp_path / "none.csv", SCENARIO)
    with pytest.raises(ValueError, match=r"must end in \.parquet or \.csv"):
        load_trace(tmp_path / "t.xlsx", SCENARIO)
    with pytest.raises(ValueError, match="cannot write"):
        save_trace(tmp_path / "empty.csv" / "t.csv", SCENARIO, TRACE)
