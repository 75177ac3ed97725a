"""Tables as spreadsheets, data-frame libraries and instruments write them: read right, or refused with what to do."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.marl.evaluation.tables import read_about, read_table
from edgemarl.marl.evaluation.text_tables import TextForm
from edgemarl.marl.evaluation.traces import load_trace, save_trace, trace_table

NETWORK = make_scenario("model_partitioning", num_devices=2)
TRACE = NETWORK.sample_trace(np.random.default_rng(2), cells=2, slots=6)
ROWS = trace_table(TRACE)


def german(path: Path) -> Path:
    ROWS.to_csv(path, index=False, sep=";", decimal=",")
    return path


def excel_text(path: Path) -> Path:
    """ "Unicode text" of a spreadsheet: UTF-16, tabs, carriage returns, decimal commas."""
    path.write_bytes(ROWS.to_csv(index=False, sep="\t", decimal=",", lineterminator="\r\n").encode("utf-16"))
    return path


def text(change: Callable[[str], str | bytes]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        changed = change(ROWS.to_csv(index=False))
        path.write_bytes(changed.encode() if isinstance(changed, str) else changed)
        return path

    return write


def parquet(**options: Any) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        frame: pd.DataFrame = options.get("frame", ROWS)
        frame.to_parquet(path, **{"index": False, **{k: v for k, v in options.items() if k != "frame"}})
        return path

    return write


def dictionaries(path: Path) -> Path:
    table = pyarrow.Table.from_pandas(ROWS, preserve_index=False)
    for name in ("cell", "channel_gain"):
        i = table.column_names.index(name)
        table = table.set_column(i, name, table.column(name).dictionary_encode())
    pyarrow.parquet.write_table(table, path)
    return path


def decimals(path: Path) -> Path:
    table = pyarrow.Table.from_pandas(ROWS.assign(arrival_rate_hz=1.25), preserve_index=False)
    i = table.column_names.index("arrival_rate_hz")
    column = table.column("arrival_rate_hz").cast(pyarrow.decimal128(10, 4))
    pyarrow.parquet.write_table(table.set_column(i, "arrival_rate_hz", column), path)
    return path


def folder_of_csv(path: Path) -> Path:
    for cell, rows in ROWS.groupby("cell"):
        (path / f"cell={cell}").mkdir(parents=True)
        rows.drop(columns="cell").to_csv(path / f"cell={cell}" / "part-0.csv", index=False)
    (path / "_SUCCESS").touch()
    return path


FORMS: dict[str, Callable[[Path], Path]] = {
    "a German spreadsheet": german,
    "a spreadsheet's Unicode text": excel_text,
    "a byte order mark": text(lambda t: b"\xef\xbb\xbf" + t.encode()),
    "comment lines": text(lambda t: "# lab 3\n% linear gains\n\n" + t.replace("\n1,", "\n# second network\n1,", 1)),
    "a spreadsheet's sep line": text(lambda t: "sep=;\n" + t.replace(",", ";")),
    "quotes": text(lambda t: "\n".join(",".join(f'"{e}"' for e in line.split(",")) for line in t.splitlines())),
    "spaces": text(lambda t: t.replace(",", "   ")),
    "bars": text(lambda t: t.replace(",", "|")),
    "old line ends": text(lambda t: t.replace("\n", "\r")),
    "a column without name that numbers the rows": lambda path: ROWS.to_csv(path) or path,
    "delimiters at the line ends": text(lambda t: t.replace("\n", ",\n")),
    "gzip": text(lambda t: gzip.compress(t.encode())),
    "bzip2": text(lambda t: bz2.compress(t.encode())),
    "xz": text(lambda t: lzma.compress(t.encode())),
    "zstd": text(lambda t: pyarrow.compress(t.encode(), "zstd", asbytes=True)),
    "Arrow types": parquet(frame=ROWS.convert_dtypes(dtype_backend="pyarrow")),
    "nullable types": parquet(frame=ROWS.convert_dtypes()),
    "index columns": parquet(frame=ROWS.set_index(["cell", "slot", "agent"]), index=True),
    "an index without name": parquet(frame=ROWS.sample(frac=1.0, random_state=1), index=True),
    "texts": parquet(frame=ROWS.astype(str)),
    "dictionaries": dictionaries,
    "partitions": parquet(partition_cols=["cell"]),
    "a folder of CSV files": folder_of_csv,
    "feather": lambda path: ROWS.to_feather(path) or path,
}


@pytest.mark.parametrize("what", FORMS)
def test_a_form_is_read_right(what: str, tmp_path: Path) -> None:
    loaded = load_trace(FORMS[what](tmp_path / "table"), NETWORK)
    assert (loaded.measured, loaded.sampled) == (("channel_gain", "arrival_rate_hz"), ())
    np.testing.assert_allclose(loaded.trace.channel_gain, TRACE.channel_gain, rtol=1e-15)
    np.testing.assert_allclose(loaded.trace.arrival_rate_hz, TRACE.arrival_rate_hz, rtol=1e-15)


def test_decimals_of_a_database(tmp_path: Path) -> None:
    assert (load_trace(decimals(tmp_path / "t.parquet"), NETWORK).trace.arrival_rate_hz == 1.25).all()


def test_whole_numbers_first_and_fractions_later_than_a_block(tmp_path: Path) -> None:
    """A reader that guesses types from the first megabyte takes this column for whole numbers."""
    lines = ["a,b", *["1,2"] * 400_000, "1,2.5"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    column = read_table(tmp_path / "t.csv").frame["b"]
    assert column.dtype == np.float64 and column.iloc[-1] == 2.5


REFUSED: dict[str, tuple[bytes, str]] = {
    "a workbook": (b"PK\x03\x04" + bytes(50), "a workbook or a zip archive: save the sheet as CSV"),
    "an old workbook": (b"\xd0\xcf\x11\xe0" + bytes(50), "an old Excel workbook: save"),
    "HDF5": (b"\x89HDF\r\n" + bytes(50), "an HDF5 file: write the table with pandas"),
    "a pickle": (b"\x80\x05\x95" + bytes(50), "a pickle, which may run code"),
    "JSON": (b'[{"cell": 0}]', "is JSON"),
    "an array": (b"\x93NUMPY" + bytes(50), "a NumPy array without column names"),
    "bytes": (bytes(range(256)), "is no text"),
    "damaged gzip": (gzip.compress(b"cell,slot\n" * 50)[:30], "cannot be unpacked"),
    "two decimal signs": (b"cell;slot;agent;channel_gain\n0;0;0;0,5\n0;1;0;0.5\n", "decimal commas .* and decimal poi"),
    "no header": (b"0,0,0,1e-12\n0,1,0,1e-12\n", "no line with the names of its columns; edgemarl trace import"),
    "ragged rows": (b"cell,slot,agent,channel_gain\n0,0,0,1,1\n", "Expected 4 columns, got 5"),
    "a column twice": (b"cell,slot,agent,agent\n0,0,0,0\n", "two columns 'agent'"),
    "nothing": (b"", "holds no rows"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_anything_else_is_refused_with_what_to_do(what: str, tmp_path: Path) -> None:
    data, message = REFUSED[what]
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        load_trace(tmp_path / "t", NETWORK)
    assert "\n" not in str(error.value) and str(tmp_path / "t") in str(error.value)


def test_lists_in_a_column_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"cell": [0], "a": [[1, 2]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"column 'a' holds list.*write one column for each entry"):
        read_table(tmp_path / "t.parquet")


def test_names_may_be_given_where_the_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("0\t1.5\n1\t-\n")
    form = TextForm(names=("time", "rate"), missing=("-",))
    frame = read_table(tmp_path / "t", form).frame
    assert list(frame) == ["time", "rate"] and np.isnan(frame["rate"][1])
    (tmp_path / "t").write_text("time\trate\n0\t1.5\n")
    assert len(read_table(tmp_path / "t", form).frame) == 1


def test_what_a_file_says_of_itself_survives_a_spreadsheet(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.csv", NETWORK, TRACE)
    first, rest = path.read_text().split("\n", 1)
    said = first.removeprefix("# ").replace('"', '""')
    path.write_text(f'"# {said}";;;;\n' + rest.replace(",", ";"))
    assert read_about(path)["scenario"] == "model_partitioning"
    np.testing.assert_allclose(load_trace(path, NETWORK).trace.channel_gain, TRACE.channel_gain)
    path.write_text(first[:-20] + "\n" + rest)
    with pytest.raises(ValueError, match=r"what the file says of itself .* is damaged"):
        load_trace(path, NETWORK)
