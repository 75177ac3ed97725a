"""Measurements in the forms of public data sets become traces: every number by hand, nonsense refused with a reason.

The excerpts are written for these tests in the form of the files that they are named after; none of their data is here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgemarl.envs.measured import Measured, measured
from edgemarl.envs.physics.processes import fitted_channel, markov_channel
from edgemarl.envs.physics.radio import antenna_path_distance_m, antenna_path_gain, shannon_rate_bps, snr_of_rate
from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.marl.evaluation.measured.grid import SlotGrid, per_slot, spread
from edgemarl.marl.evaluation.measured.mapping import load_mapping
from edgemarl.marl.evaluation.measured.stamps import seconds
from edgemarl.marl.evaluation.tables import read_about
from edgemarl.marl.evaluation.traces import LoadedTrace, load_trace
from tests.launch.test_cli import run

G_NETTRACK = """Timestamp,Longitude,Latitude,Speed,Operatorname,CellID,NetworkMode,RSRP,RSRQ,SNR,CQI,RSSI,\
DL_bitrate,UL_bitrate,State
2021.03.04_09.00.00,-8.47,51.89,0,A,3,5G,-95,-12,10.0,12,-80,3000,400,D
2021.03.04_09.00.01,-8.47,51.89,0,A,3,5G,-95,-12,20.0,12,-80,3000,400,D
2021.03.04_09.00.01,-8.47,51.89,0,A,3,5G,-95,-12,20.0,12,-80,3000,400,D
2021.03.04_09.00.02,-8.47,51.89,0,A,3,5G,-95,-12,-,12,-80,3000,400,D
2021.03.04_09.00.03,-8.47,51.89,0,A,3,5G,-95,-12,0.0,12,-80,3000,400,D
2021.03.04_09.00.04,-8.47,51.89,0,A,3,5G,-95,-12,30.0,12,-80,3000,400,D
"""
MODEM = """Time,rsrp(dBm),rsrq(dB),rssi(dBm),nr_rsrp(dBm),nr_rsrq(dB),nr_rssi(dBm),Sent Bytes,RATE(MBit/s)
Wed Dec 15 16:05:11 UTC 2021,-110,-18,-71,0,0,0,1000000,10
Wed Dec 15 16:05:14 UTC 2021,-110,-18,-70,-90,0,0,2000000,20
Wed Dec 15 16:05:17 UTC 2021,-110,-18,-70,-80,0,0,3000000,30
Wed Dec 15 16:05:20 UTC 2021,-110,-18,-70,-85,0,0,4000000,5
"""
TASKS = """TaskName,GenerationTime,TaskID,TaskSize,CyclesPerBit,TransBitRate,DDL,SrcName
t0,0.0,0,21,562,20,92,n10
t1,0.1,1,25,624,40,39,n9
t2,0.1,2,25,624,40,39,n9
t3,0.1,3,79,764,30,42,n9
t4,1.9,4,79,764,30,42,n10
"""
BATCH = "".join(f"task_{i},2,j_{i % 3},1,Terminated,{86400 + i},{86500 + i},100.0,0.5\n" for i in range(30))


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def imported(folder: Path, capsys: pytest.CaptureFixture[str], scenario: str, *words: str) -> tuple[LoadedTrace, str]:
    """The trace that `trace import` makes, loaded in the network that it names, and what was said."""
    end = ["--scenario", scenario, "--out", str(folder / "t.csv")]
    code, out, err = run("trace", "import", *words, *end, capsys=capsys)
    assert code == 0, err
    network = make_scenario(scenario, **read_about(folder / "t.csv")["config"])
    return load_trace(folder / "t.csv", network), out


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], scenario: str, *words: str) -> str:
    end = ["--scenario", scenario, "--out", str(folder / "t.csv")]
    code, _, err = run("trace", "import", *words, *end, capsys=capsys)
    assert code == 2 and err.count("\n") == 1 and not (folder / "t.csv").exists()
    return err


# --- the public forms ----------------------------------------------------------------------------------------------


def test_a_drive_test_of_the_5g_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SNR in dB -> path gain; a repeated stamp, a value that is missing, stamps with dots and underscores."""
    files = [write(tmp_path, f"{name}.csv", G_NETTRACK) for name in ("B_1", "B_2")]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *files, "--form", "5gdataset")
    noise_w = 10**-17.4 * 1e-3 * 5e6  # -174 dBm/Hz in 5 MHz, sent with 0.1 W
    snr = np.array([10.0, 100.0, 100.0, 1.0, 1000.0])  # the third slot holds the second's
    assert (loaded.measured, loaded.sampled) == (("channel_gain",), ("arrival_rate_hz",))
    np.testing.assert_allclose(loaded.trace.channel_gain[:, 0], np.stack([snr * noise_w / 0.1] * 2, axis=1))
    for text in ("2 bear the stamp of another one", "20.0% of the slots hold no sample (hold)", "num_devices=2"):
        assert text in said
    network = make_scenario("model_partitioning", **read_about(tmp_path / "t.csv")["config"])
    np.testing.assert_allclose(network.mean_gain, snr.mean() * noise_w / 0.1)  # type: ignore[attr-defined]


def test_an_uplink_test_of_measurements5g(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mbit/s -> gain by Shannon's inverse; dates with a zone; ten bit/s/Hz at most."""
    file = write(tmp_path, "drive.csv", MODEM)
    words = [file, "--form", "measurements5g", "--resample", "3", "--set", "bandwidth_hz=2.5e6"]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *words)
    snr = np.array([2**4 - 1, 2**8 - 1, 2**10 - 1, 2**2 - 1])  # 30 Mbit/s would be 12 bit/s/Hz
    noise_w = 10**-17.4 * 1e-3 * 2.5e6
    np.testing.assert_allclose(loaded.trace.channel_gain[:, 0, 0], snr * noise_w / 0.1)
    assert "25.0% of rates cut at 10 bit/s/Hz" in said and "slot_s=3" in said


def test_an_rsrp_of_0_dbm_means_that_there_was_no_5g(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dBm with the power that was sent -> path gain; the sentinel of the form is a gap."""
    words = [write(tmp_path, "drive.csv", MODEM), "--form", "measurements5g", "--resample", "3"]
    words += ["--map", "channel_gain=nr_rsrp(dBm)", "--unit", "dBm", "--power-dbm", "18"]
    loaded, _ = imported(tmp_path, capsys, "model_partitioning", *words)
    np.testing.assert_allclose(loaded.trace.channel_gain[:, 0, 0], 10 ** (np.array([-108.0, -98, -103]) / 10))


def test_cooked_throughput_of_pensieve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No header, tabs, irregular stamps: the mean rate of a slot, as gain over noise."""
    text = "0.0\t2.0\n0.2\t4.0\n0.55\t1.0\n1.0\t0.0\n1.6\t2.0\n"
    loaded, said = imported(
        tmp_path, capsys, "sequential_offloading", write(tmp_path, "bus", text), "--form", "pensieve"
    )  # fmt: skip
    rate = np.array([3e6, 1e6, 0.0, 2e6])  # slots of 0.5 s; 1 MHz, SNR gap 1.5, CSI at 1 W
    np.testing.assert_allclose(loaded.trace.channel_gain_per_w[:, 0, 0], 1.5 * (2 ** (rate / 1e6) - 1))
    assert loaded.derived == ("mean_gain_per_w",) and loaded.sampled == ("task_arrivals",)
    assert "5 samples, one every 0.4 s" in said


def test_walks_of_kaist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Positions every 30 s -> distance from the base station -> path loss, between samples on a straight line."""
    walk = "0.0000000e+00\t1.0000000e+02\t0.0000000e+00\n3.0000000e+01\t4.0000000e+02\t0.0000000e+00\n"
    words = [write(tmp_path, "KAIST_30sec_001.txt", walk), "--form", "kaist", "--base", "100,0", "--resample", "10"]
    loaded, _ = imported(tmp_path, capsys, "sequential_offloading", *words)
    distance = np.array([10.0, 150.0, 250.0, 300.0])  # 0 m is 10 m, the least; then the middles of the slots
    gain = 10 ** (-(30.6 + 37.6 * np.log10(distance)) / 10) / 10**-14.4
    np.testing.assert_allclose(loaded.trace.channel_gain_per_w[:, 0, 0], gain)


def test_a_task_list_of_raycloudsim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks -> 0/1 arrivals in slots of 0.1 s, blocks of 5; two that arrive beside another one come later."""
    words = [write(tmp_path, "testset.csv", TASKS), "--form", "raycloudsim"]
    loaded, said = imported(tmp_path, capsys, "sequential_offloading", *words)
    arrivals = loaded.trace.task_arrivals[:, 0].transpose(1, 0, 2).reshape(2, -1)  # n9, n10: in order of their numbers
    np.testing.assert_array_equal(np.flatnonzero(arrivals[0]), [1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(arrivals[1]), [0, 19])
    assert "5 tasks of 2 agents" in said and "2 of them arrived beside another one" in said
    assert read_about(tmp_path / "t.csv")["config"]["arrival_probability"] == 5 / 40
    words = [words[0], "--form", "raycloudsim", "--counts", "refuse"]
    (tmp_path / "t.csv").unlink()
    assert "3 tasks of n9 arrive in one slot of 0.1 s" in refusal(tmp_path, capsys, "sequential_offloading", *words)


def test_a_task_list_gives_rates_and_counts_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [write(tmp_path, "testset.csv", TASKS), "--form", "raycloudsim"]
    rates, _ = imported(tmp_path, capsys, "model_partitioning", *words, "--resample", "0.5")
    np.testing.assert_array_equal(rates.trace.arrival_rate_hz[:, 0], [[6, 2], [0, 0], [0, 0], [0, 2]])
    numbers, _ = imported(tmp_path, capsys, "sampling_rate", *words)
    np.testing.assert_array_equal(numbers.trace.arrival_rate[:, 0], [[3, 1], [0, 1]])


def test_batch_tasks_of_a_data_centre(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No header; jobs are dealt to devices, all tasks of one to the same; a column says how many tasks a row is."""
    words = [write(tmp_path, "batch_task.csv", BATCH), "--form", "alibaba", "--deal", "2", "--weight", "instance_num"]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *words)
    assert loaded.trace.arrival_rate_hz.sum() == 60 and "60 tasks of 2 agents" in said
    assert set(np.unique(loaded.trace.arrival_rate_hz.sum(axis=0))) in ({20.0, 40.0}, {0.0, 60.0})


FORMS = {
    "5gdataset": ("model_partitioning", G_NETTRACK, "local,edge"),
    "measurements5g": ("sampling_rate", MODEM, "random"),
    "pensieve": ("model_pruning", "".join(f"{t}\t{1 + t % 3}\n" for t in range(8)), "random"),
    "kaist": ("model_placement", "".join(f"{30 * t}\t{60 + t}\t{5 * t}\n" for t in range(4)), "random"),
    "raycloudsim": ("sequential_offloading", TASKS, "fixed_power"),
    "alibaba": ("model_partitioning", BATCH, "local,edge"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_public_form_is_compared_with_two_commands(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, text, controllers = FORMS[form]
    files = [write(tmp_path, f"measured_{i}.txt", text) for i in range(1 if form in ("raycloudsim", "alibaba") else 2)]
    _, said = imported(tmp_path, capsys, scenario, *files, "--form", form)
    words = said[said.index("edgemarl compare") :].split()[1:]
    code, out, err = run(*words, "--controllers", controllers, "--out", str(tmp_path / "o"), capsys=capsys)
    assert code == 0, err
    assert "measured (from the file)" in out


# --- tables of one's own -----------------------------------------------------------------------------------------


def test_dates_with_decimal_commas_of_a_german_spreadsheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Zeit;Gerät;SNR\n" + "".join(f"16.12.2019 13:40:{t:02};{g};{10 + t},5\n" for t in range(3) for g in "ab")
    (tmp_path / "m.csv").write_bytes(text.encode("cp1252"))
    words = [str(tmp_path / "m.csv"), "--map", "channel_gain=SNR", "--unit", "dB", "--time", "Zeit", "--agent", "Gerät"]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *words)
    ratio = loaded.trace.channel_gain[:, 0, 0] / loaded.trace.channel_gain[0, 0, 0]
    np.testing.assert_allclose(ratio, 10 ** np.array([0.0, 0.1, 0.2]))
    assert "[dB, read as SNR]" in said
    assert "taken as SNR at" in said and "--power-dbm and --noise-dbm: not given" in said


def test_a_wide_table_has_an_agent_in_each_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "t,a,b,c\n0,-100,-90,-80\n1,-101,-91,-81\n"
    words = [write(tmp_path, "m.csv", text), "--map", "channel_gain=a,b,c", "--unit", "dB", "--time", "t"]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *words)
    np.testing.assert_allclose(loaded.trace.channel_gain[0, 0], [1e-10, 1e-9, 1e-8])
    assert "[dB, read as path gain]" in said


def test_agents_may_be_several_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "t,who,g\n" + "".join(f"{t},{w},{-100 - w}\n" for w in range(5) for t in range(3))
    words = [write(tmp_path, "m.csv", text), "--map", "channel_gain=g", "--unit", "gain_dB", "--time", "t"]
    loaded, said = imported(tmp_path, capsys, "model_partitioning", *words, "--agent", "who", "--devices", "2")
    np.testing.assert_allclose(np.log10(loaded.trace.channel_gain[0]) * 10, [[-100, -101], [-102, -103]])
    assert "1 agents beyond 2 networks of 2 left out" in said


def test_channels_and_tasks_of_two_files_in_one_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    channel = "t,who,g\n" + "".join(f"{t / 2},{w},-100\n" for w in "ab" for t in range(4))
    words = ["--map", "channel_gain_per_w=g", "--unit", "gain_dB", "--time", "t", "--agent", "who"]
    imported(tmp_path, capsys, "sequential_offloading", write(tmp_path, "c.csv", channel), *words)
    (tmp_path / "t.csv").rename(tmp_path / "first.csv")
    tasks = write(tmp_path, "tasks.csv", TASKS)
    words = [tasks, "--form", "raycloudsim", "--add-to", str(tmp_path / "first.csv")]
    loaded, _ = imported(tmp_path, capsys, "sequential_offloading", *words)
    assert set(loaded.measured) == {"channel_gain_per_w", "task_arrivals"} and loaded.trace.slots == 3


def test_a_channel_that_is_drawn_once_and_then_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`model_pruning` holds the next slot's gain; the first one is a field of its own."""
    text = "t,g\n" + "".join(f"{t},{-100 - t}\n" for t in range(5))
    words = [write(tmp_path, "m.csv", text), "--map", "channel_gain=g", "--unit", "gain_dB", "--time", "t"]
    loaded, _ = imported(tmp_path, capsys, "model_pruning", *words)
    assert set(loaded.measured) == {"channel_gain", "next_channel_gain"}
    np.testing.assert_allclose(10 * np.log10(loaded.trace.channel_gain), [[-100.0]])
    np.testing.assert_allclose(10 * np.log10(loaded.trace.next_channel_gain[:, 0, 0]), [-101, -102, -103, -104])


def test_a_layout_may_be_kept_and_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "t,g\n0,-100\n1,-101\n2,x\n3,-99\n"
    file, kept = write(tmp_path, "m.csv", text), str(tmp_path / "layout.yaml")
    words = ["--map", "channel_gain=g", "--unit", "gain_dB", "--time", "t", "--missing", "x", "--fill", "interpolate"]
    first, _ = imported(tmp_path, capsys, "model_partitioning", file, *words, "--save-mapping", kept)
    again, _ = imported(tmp_path, capsys, "model_partitioning", file, "--form", kept)
    np.testing.assert_array_equal(first.trace.channel_gain, again.trace.channel_gain)
    assert yaml.safe_load(Path(kept).read_text())["missing"] == ["x"]


def test_units_of_other_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kB to bit, ms to s, per minute to per second."""
    text = "t,size,limit\n0,50,1600\n2,60,1800\n4,50,1700\n"
    words = [write(tmp_path, "m.csv", text), "--map", "task_bits=size", "--map", "deadline_s=limit", "--time", "t"]
    words += ["--unit", "task_bits=kB", "--unit", "deadline_s=ms"]
    loaded, _ = imported(tmp_path, capsys, "model_placement", *words)
    assert loaded.trace.task_bits.ravel().tolist() == [400e3, 480e3, 400e3]
    np.testing.assert_allclose(loaded.trace.deadline_s.ravel(), [1.6, 1.8, 1.7])
    words = [write(tmp_path, "r.csv", "t,r\n0,60\n1,120\n2,90\n"), "--map", "arrival_rate_hz=r", "--time", "t"]
    loaded, _ = imported(tmp_path, capsys, "model_partitioning", *words, "--unit", "1/min")
    np.testing.assert_allclose(loaded.trace.arrival_rate_hz.ravel(), [1.0, 2.0, 1.5])


# --- nonsense ------------------------------------------------------------------------------------------------------

SERIES = "t,who,g\n" + "".join(f"{t},{w},{10 + t}\n" for w in "ab" for t in range(10))
HOLES = "t,who,g\n" + "".join(f"{t},{w},{10 + t}\n" for w in "ab" for t in range(30) if w == "a" or not 3 < t < 28)
LATE = "t,who,g\n" + "".join(f"{t},{w},{10 + t}\n" for w in "ab" for t in range(30) if w == "a" or t > 24)
READ = ["--time", "t", "--agent", "who", "--map", "channel_gain=g"]
NONSENSE: dict[str, tuple[str, list[str], str]] = {
    "dB taken for linear": (SERIES, READ, "comes out as 10 to 19 -, must be >= 0 and <= 1: is the unit right"),
    "kbit taken for Mbit": (
        SERIES.replace(",1", ",1000"), [*READ, "--unit", "Mbit/s"], "which no link carries: kbit/s taken for Mbit/s"
    ),
    "Mbit taken for kbit": (SERIES, [*READ, "--unit", "bit/s"], "Mbit/s taken for kbit/s, or a narrower band"),
    "decibels of either kind": (SERIES.replace(",1", ",-4"), [*READ, "--unit", "dB"], "name it, snr_dB, gain_dB or"),
    "received power alone": (SERIES.replace(",1", ",-9"), [*READ, "--unit", "dBm"], "--power-dbm.*--noise-dbm"),
    "a device that is missing half the time": (HOLES, [*READ, "--unit", "dB", "--fill", "hold"], "b is missing 83% of"),
    "a device that came late": (LATE, [*READ, "--unit", "dB"], "b was measured for 4 s.*--without b"),
    "no column": (SERIES, ["--time", "t", "--map", "channel_gain=gg"], "unknown column 'gg'; did you mean 'g'"),
    "no field": (SERIES, ["--time", "t", "--map", "chanel_gain=g"], "did you mean 'channel_gain'"),
    "no time": (SERIES, ["--map", "channel_gain=g"], "nothing says when: give --time"),
    "no map": (SERIES, ["--time", "t"], "nothing says what was measured"),
    "an unknown unit": (SERIES, [*READ, "--unit", "dBmm"], "unknown unit 'dBmm'; did you mean 'dBm'"),
    "an unknown form": (SERIES, ["--form", "5gdatset"], "unknown form '5gdatset'; did you mean '5gdataset'"),
    "slots without samples": (
        SERIES, [*READ, "--unit", "dB", "--resample", "0.25"], "27 of 37 slots of 0.25 s hold no sample.*--fill hold"
    ),
    "text": (SERIES.replace(",15", ",-"), [*READ, "--unit", "dB"], "holds '-'; if that means.*--missing '-'"),
    "milliseconds": ("t,who,g\n1700000000000,a,5\n1700000001000,a,6\n", [*READ, "--unit", "dB"], "ms since 1970"),
    "another quantity": (SERIES, [*READ, "--unit", "kbit"], "is a path gain; it follows from dB"),
    "one coordinate": (SERIES, [*READ, "--unit", "deg"], "a position is two columns"),
    "a file of no columns": ("1,2\n3,4\n", ["--time", "t", "--map", "channel_gain=g"], "its columns are called 1, 2"),
    "a single step": (SERIES, [*READ, "--unit", "dB", "--resample", "100"], "less than a step of 100 s"),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_with_the_likely_reason(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words, message = NONSENSE[what]
    err = refusal(tmp_path, capsys, "model_partitioning", write(tmp_path, "m.csv", text), *words)
    with pytest.raises(ValueError, match=message):
        raise ValueError(err)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (["2021-03-04 09:00:00", "2021-03-04 09:00:01Z"], "mixes stamps with a zone .Z. and without"),
        (["Wed Dec 15 16:05:11 UTC 2021", "Wed Dec 15 16:05:14 IST 2021"], "mixes the zones IST, UTC"),
        (["03/04/2021 09:00:00", "03/05/2021 09:00:00"], "which may be %d/%m/%Y.* or %m/%d/%Y"),
        (["yesterday", "today"], "text that is no date that is known, such as 'yesterday': give --time-format"),
    ],
)
def test_stamps_that_may_be_misread_are_refused(stamps: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seconds(pd.Series(stamps, name="t"))


@pytest.mark.parametrize(
    "stamps",
    [
        ["2021-03-04 09:00:00", "2021-03-04 09:00:01.500"],
        ["2021-03-04T09:00:00+01:00", "2021-03-04T08:00:01.5Z"],
        ["2021.03.04_09.00.00.0", "2021.03.04_09.00.01.5"],
        ["13/04/2021 09:00:00", "13/04/2021 09:00:01.5"],
        ["16.12.2019 13:40:00", "16.12.2019 13:40:01,5"],
        ["09:00:00.0", "09:00:01.5"],
        [0.0, 1.5],
        pd.to_datetime(["2021-03-04 09:00:00.0", "2021-03-04 09:00:01.5"]),
        pd.to_datetime(["2021-03-04 09:00:00.0", "2021-03-04 09:00:01.5"]).tz_localize("Europe/Berlin"),
    ],
)
def test_stamps_of_many_forms_are_a_second_and_a_half_apart(stamps: Any) -> None:
    form = "%Y.%m.%d_%H.%M.%S.%f" if isinstance(stamps[0], str) and "_" in stamps[0] else ""
    assert np.diff(seconds(pd.Series(stamps, name="t"), form=form).seconds) == pytest.approx(1.5)


# --- theory ------------------------------------------------------------------------------------------------------


@given(npst.arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(0, 4)))
def test_spreading_keeps_every_task_and_takes_none_before_it_arrives(arrived: np.ndarray) -> None:
    taken, left = spread(arrived.astype(float), 1.0)
    assert set(np.unique(taken)) <= {0.0, 1.0}
    np.testing.assert_array_equal(taken.sum(axis=0) + left, arrived.sum(axis=0))
    assert (np.cumsum(taken, axis=0) <= np.cumsum(arrived, axis=0)).all()
    waiting = np.cumsum(arrived - taken, axis=0)
    assert (taken[waiting > 0] == 1.0).all()  # nobody waits beside an empty slot


def test_a_slot_holds_the_mean_of_its_samples_and_gaps_are_filled_as_told() -> None:
    times, values = np.array([0.0, 0.4, 1.2, 3.9]), np.array([1.0, 3.0, 5.0, 9.0])
    grid = SlotGrid(0.0, 1.0, 4)
    assert per_slot(times, values, grid, "mean", "hold").tolist() == [2.0, 5.0, 5.0, 9.0]
    assert per_slot(times, values, grid, "last", "hold").tolist() == [3.0, 5.0, 5.0, 9.0]
    assert per_slot(times, values, grid, "max", "interpolate")[2] == pytest.approx(5.0 + 4.0 * 1.3 / 2.7)
    with pytest.raises(ValueError, match="1 of 4 slots of 1 s hold no sample, the first one 2 s after the start"):
        per_slot(times, values, grid, "mean", "none")


COUNTED = "slot,SNR\n" + "".join(f"{i + 7},{i}\n" for i in range(20))


@pytest.mark.parametrize(
    ("scenario", "words"), [("sequential_offloading", []), ("model_partitioning", ["--resample", "3"])]
)
def test_stamps_may_count_slots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scenario: str, words: list[str]
) -> None:
    words = [write(tmp_path, "lab.csv", COUNTED), "--map", "channel=SNR", "--unit", "snr_dB", "--time", "slot", *words]
    loaded, _ = imported(tmp_path, capsys, scenario, *words, "--time-unit", "slot")
    gain = getattr(loaded.trace, loaded.measured[0])[:, 0, 0]
    np.testing.assert_allclose(gain / gain[0], 10 ** (np.arange(20) / 10))


def test_import_and_describe_propose_the_same_stretches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, snr = np.random.default_rng(0), 10.0
    lines = ["slot,SNR"]
    for i in range(600):
        snr = 10.0 + 0.6 * (snr - 10.0) + rng.normal()
        lines.append(f"{i},{snr:.3f}")
    words = [write(tmp_path, "lab.csv", "\n".join(lines)), "--map", "channel=SNR", "--unit", "snr_dB", "--time", "slot"]
    _, said = imported(tmp_path, capsys, "model_partitioning", *words)
    _, out, _ = run("trace", "describe", str(tmp_path / "t.csv"), capsys=capsys)
    proposed = re.findall(r"--cells-from (\d+)", said + out)
    assert len(proposed) == 2 and proposed[0] == proposed[1] != "60" and int(proposed[0]) > 20
    forgetting = write(tmp_path, "trend.csv", "slot,SNR\n" + "\n".join(f"{i},{i / 20}" for i in range(600)))
    assert "--cells-from" not in imported(tmp_path, capsys, "model_partitioning", forgetting, *words[1:])[1]


def test_stamps_that_may_count_slots_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--map", "channel=SNR", "--unit", "snr_dB", "--time", "slot"]
    asks = "do the stamps count slots? --time-unit slot"
    err = refusal(tmp_path, capsys, "sequential_offloading", write(tmp_path, "lab.csv", COUNTED), *words)
    assert "19 of 39 slots of 0.5 s hold no sample" in err and asks in err
    since_1970 = "slot,SNR\n" + "".join(f"{1_600_000_000 + i},{i}\n" for i in range(20))
    dates = "slot,SNR\n" + "".join(f"2021-03-04 09:00:{i:02d},{i}\n" for i in range(20))
    sparse = "slot,SNR\n" + "".join(f"{2 * i},{i}\n" for i in range(20))
    for text in (since_1970, dates, sparse):
        err = refusal(tmp_path, capsys, "sequential_offloading", write(tmp_path, "lab.csv", text), *words)
        assert "hold no sample" in err and asks not in err


def test_inverses_of_the_radio() -> None:
    snr = np.array([1e-3, 0.5, 31.0, 1e4])
    np.testing.assert_allclose(snr_of_rate(shannon_rate_bps(2e6, snr, 1.0, 1.5), 2e6, 1.5), snr, rtol=1e-12)
    law = (3.0, 915e6, 3.0)
    distance = np.array([10.0, 150.0, 900.0])
    np.testing.assert_allclose(antenna_path_distance_m(antenna_path_gain(distance, *law), *law), distance)


def test_a_fitted_channel_is_the_chain_that_drew_it() -> None:
    law = np.array([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.4, 0.6]])
    states = markov_channel(np.random.default_rng(0), law, 4000, 20)
    gains, found = fitted_channel(np.array([1.0, 2.0, 4.0])[states], 3)
    np.testing.assert_allclose(gains, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(found, law, atol=0.01)
    gains, found = fitted_channel(np.full((5, 2), 3.0), 3)
    assert gains.tolist() == [3.0] and found.tolist() == [[1.0]]


@pytest.mark.parametrize("name", scenario_names())
def test_what_may_be_measured_is_said_of_every_field(name: str) -> None:
    scenario = scenario_class(name)
    what = measured(scenario)
    assert isinstance(what, Measured)
    fields = {f.name for f in dataclasses.fields(scenario.trace_type)}
    assert set(what.quantities) == fields
    assert {*what.links, *([what.arrivals] if what.arrivals else [])} <= fields
    config = scenario.config_type()
    assert set(what.meaning) <= {f.name for f in dataclasses.fields(config)}
    for link in what.links.values():
        found = link(config)
        assert min(found.power_w, found.noise_w, found.bandwidth_hz) > 0.0 and math.isfinite(found.snr_gap)


def test_a_throughput_gives_the_rate_that_the_scenario_then_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The circle: a throughput of the scenario's own link becomes a gain that carries it."""
    text = "t,a,b\n0,8,1\n1,4,2\n2,6,3\n"
    words = [write(tmp_path, "m.csv", text), "--map", "channel_gain=a,b", "--unit", "Mbit/s", "--time", "t"]
    loaded, _ = imported(tmp_path, capsys, "sampling_rate", *words)
    network: Any = make_scenario("sampling_rate", **read_about(tmp_path / "t.csv")["config"])
    rate_bps = network.link_rate_bps(loaded.trace.channel_gain[:, 0])
    np.testing.assert_allclose(rate_bps, [[8e6, 1e6], [4e6, 2e6], [6e6, 3e6]])
    assert network.config.channel_gains == tuple(sorted(network.config.channel_gains, reverse=True))


def test_forms_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("trace", "forms", capsys=capsys)
    assert code == 0
    for form in ("5gdataset", "measurements5g", "pensieve", "kaist", "raycloudsim", "alibaba"):
        assert form in out and load_mapping(form).source


def test_a_bad_layout_is_named(tmp_path: Path) -> None:
    bad = {
        "tim: x": "unknown entry 'tim'; did you mean 'time'",
        "time: [1": "is not YAML",
        "- 1": "must map entries",
        "fields: {a: {column: b, unit: dBx}}": "unknown unit 'dBx'",
        "fields: {a: {column: b, unti: dB}}": "unti",
        "a: &a [*a]\ntime: *a": "an alias within what it stands for",
        "[" * 99_000: "is not YAML",
        "!!int ''": "is not YAML",
    }
    for text, message in bad.items():
        (tmp_path / "l.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_mapping(str(tmp_path / "l.yaml"))
