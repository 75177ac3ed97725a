"""Trace files with arbitrary damage: read, or refused in one line, in little time and memory.

`EDGEMARL_FUZZ=2000 pytest tests/marl/test_trace_fuzz.py` tries more than the hundred of each kind of the suite.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs.registry import make_scenario
from edgemarl.launch.experiment.played import file_network
from edgemarl.marl.evaluation.measured.importer import Request, import_trace
from edgemarl.marl.evaluation.measured.mapping import load_mapping
from edgemarl.marl.evaluation.traces import load_trace, save_trace, trace_table
from tests.marl.test_trace_import import G_NETTRACK, TASKS

EXAMPLES = int(os.environ.get("EDGEMARL_FUZZ", "100"))
SECONDS_MAX, BYTES_MAX = 20.0, 200e6
SCENARIO = make_scenario("sequential_offloading", num_devices=2, slots_per_block=2)
TRACE = SCENARIO.sample_trace(np.random.default_rng(0), cells=2, slots=4)
TOKENS = (
    *(b",", b";", b"\t", b"|", b'"', b"\n", b"\r", b"\0", b"#", b"%", b"-", b"=", b"{", b"[", b"}"),
    *(b"\xff", b"\xef\xbb\xbf", b"2020-01-01"),
    *(b"nan", b"inf", b"-1", b"0.5", b"1e308", b"1e400", b"0,5", b"99999999999", b"9" * 400, b"cell", b"slot,agent"),
    *(b"# edgemarl {}", b'# edgemarl {"scenario": 3}', b'{"config": {"num_devices": 1000000000}}', b"[" * 3000),
)  # fmt: skip


def whole(ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_trace(Path(folder) / f"t.{ending}", SCENARIO, TRACE).read_bytes()


WHOLE = {ending: whole(ending) for ending in ("csv", "parquet")}


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after a few cuts, insertions, repetitions and flips."""
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        kind = draw(st.sampled_from(["insert", "replace", "cut", "repeat", "flip", "end"]))
        token = draw(st.sampled_from(TOKENS))
        if kind == "insert":
            data = data[:at] + token + data[at:]
        elif kind == "replace":
            data = data[:at] + token + data[at + len(token) :]
        elif kind == "cut":
            data = data[:at] + data[to:]
        elif kind == "repeat":
            data = data[:to] + data[at:to] * 2 + data[to:]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "end":
            data = data[:to]
    return data


def load(path: Path) -> None:
    file_network(path, SCENARIO.name)
    SCENARIO.check_trace(load_trace(path, SCENARIO).trace)


def survives(write: Callable[[Path], object], read: Callable[[Path], object] = load) -> None:
    """Reading ends well or with one line of `ValueError`, soon and without much memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        write(path)
        started = time.perf_counter()
        tracemalloc.start()
        try:
            read(path)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, str(error)[:2000]
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert time.perf_counter() - started < SECONDS_MAX
    assert peak < BYTES_MAX and pyarrow.default_memory_pool().bytes_allocated() < BYTES_MAX


@settings(max_examples=EXAMPLES)
@given(data=damaged(WHOLE["csv"]))
def test_damaged_text(data: bytes) -> None:
    survives(lambda path: path.write_bytes(data))


@settings(max_examples=EXAMPLES)
@given(data=damaged(WHOLE["csv"].split(b"\n", 1)[1]))
def test_damaged_foreign_text(data: bytes) -> None:
    """Without the line that says of which network the file is."""
    survives(lambda path: path.write_bytes(data))


@settings(max_examples=EXAMPLES)
@given(data=damaged(WHOLE["parquet"]))
def test_damaged_parquet(data: bytes) -> None:
    survives(lambda path: path.write_bytes(data))


@settings(max_examples=EXAMPLES)
@given(data=damaged(G_NETTRACK.encode()), also=st.booleans())
def test_damaged_drive_test(data: bytes, also: bool) -> None:
    survives_import("5gdataset", data, G_NETTRACK.encode() if also else None)


@settings(max_examples=EXAMPLES)
@given(data=damaged(TASKS.encode()))
def test_damaged_task_list(data: bytes) -> None:
    survives_import("raycloudsim", data, None)


def survives_import(form: str, data: bytes, other: bytes | None) -> None:
    """As `survives`, for measurements."""

    def write(path: Path) -> None:
        path.write_bytes(data)
        path.with_name("other").write_bytes(other or b"")

    def read(path: Path) -> None:
        files = (path, path.with_name("other")) if other else (path,)
        import_trace(Request(files, load_mapping(form)), SCENARIO)

    survives(write, read)


VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.none(), st.text(max_size=5), st.booleans(), st.just(257)
)


@settings(max_examples=EXAMPLES)
@given(
    columns=st.lists(st.sampled_from([*trace_table(TRACE), "other", ""]), min_size=1, max_size=3),
    values=st.lists(VALUES, min_size=1, max_size=3),
    keep=st.integers(0, 20),
)
def test_illegal_tables(columns: list[str], values: list[object], keep: int) -> None:
    table = trace_table(TRACE).head(keep).astype(object)
    for column, value in zip(columns, values, strict=False):
        old = table.get(column, pd.Series([0] * len(table)))
        table[column] = [value if i % 3 == 0 else v for i, v in enumerate(old)]
    out = io.BytesIO()
    try:
        table.infer_objects().to_parquet(out, index=False)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):  # no table at all
        return
    survives(lambda path: path.write_bytes(out.getvalue()))
