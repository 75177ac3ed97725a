"""Traces in files: one tidy table per file, so that a measured channel or arrival log can replace a sampled one.

A row is one (cell, slot, agent). A field of the trace is a column; a field with a second axis has one column per entry
(`task_arrivals_0`, `task_arrivals_1`, ..). Fields drawn once per episode, or once at its start, stand in the rows of
slot 0; fields without agents stand in the rows of agent 0; other entries are empty. A trace of L steps has L+1 slots.
Parquet files carry the scenario's name and config in their metadata, CSV files in a first line `# edgemarl {..}`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields

if TYPE_CHECKING:
    import pandas as pd

INDEX = ("cell", "slot", "agent")
_KEY = "edgemarl"


@dataclasses.dataclass(frozen=True)
class LoadedTrace:
    """A trace from a file.

    Attributes:
        trace: the scenario's trace.
        measured: fields that the file gave.
        sampled: fields that were drawn because the file lacks them.
        derived: fields that follow from the given ones.
    """

    trace: Any
    measured: tuple[str, ...]
    sampled: tuple[str, ...]
    derived: tuple[str, ...]


def save_trace(path: str | Path, scenario: Scenario, trace: Any) -> Path:
    """Write a trace to a `.parquet` or `.csv` file; the file appears whole or not at all.

    Raises:
        ValueError: another ending, a trace that does not fit the scenario, a folder that cannot be written.
    """
    path = _checked_ending(path)
    scenario.check_trace(trace)
    table = trace_table(trace)
    about = {
        "scenario": scenario.name, "cells": trace.cells, "slots": trace.slots,
        "config": dataclasses.asdict(scenario.config),
    }  # fmt: skip
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            with temporary.open("w", encoding="utf-8") as file:
                file.write(f"# {_KEY} {json.dumps(about)}\n")
                table.to_csv(file, index=False)
        else:
            _write_parquet(temporary, table, about)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write trace file {path}: {error.strerror or error}") from None
    finally:
        if temporary.exists():
            temporary.unlink()
    return path


def trace_table(trace: Any) -> pd.DataFrame:
    """The tidy table of a trace: rows (cell, slot, agent), a column per field entry."""
    import pandas as pd

    kinds = trace_fields(type(trace))
    cells, length = trace.cells, trace.slots + 1
    agents = max([_agents(getattr(trace, name), meta) for name, meta in kinds.items()], default=1)
    shape = (cells, length, agents)
    columns: dict[str, Any] = {
        name: index.reshape(-1) for name, index in zip(INDEX, np.indices(shape, np.int64), strict=True)
    }
    for name, meta in kinds.items():
        values = getattr(trace, name)
        values = np.moveaxis(values, 0, 1) if meta["kind"] == "slot" else values[:, None]
        if not meta["axes"]:
            values = values[:, :, None]
        entries = values.reshape(*values.shape[:3], -1)
        for i, label in enumerate(_labels(name, entries.shape[3], meta)):
            full = np.full(shape, np.nan)
            full[:, : values.shape[1], : values.shape[2]] = entries[..., i]
            whole = meta["integer"] and np.isfinite(full).all()
            columns[label] = (full.astype(np.int64) if whole else full).reshape(-1)
    return pd.DataFrame(columns)


def load_trace(path: str | Path, scenario: Scenario, seed: int = 0) -> LoadedTrace:
    """Read a trace for a scenario; fields that the file lacks follow from the others or are drawn from `seed`.

    Raises:
        ValueError: no such file, not a table, missing columns or rows, NaN, a value outside its range, a trace of
            another scenario or of another number of agents.
    """
    table, about = read_table(path)
    if about.get("scenario", scenario.name) != scenario.name:
        raise ValueError(f"{path} is a trace of scenario '{about['scenario']}', not of '{scenario.name}'")
    missing = [name for name in INDEX if name not in table]
    if missing:
        raise ValueError(
            f"{path} has no column '{missing[0]}'; a trace has the columns {', '.join(INDEX)} and its fields"
        )
    cells, length = _extents(path, table)
    example = scenario.sample_trace(np.random.default_rng(seed), cells, max(length - 1, 1))
    if length < 2:
        raise ValueError(f"{path} holds 1 slot; a trace of L steps has L + 1 slots, at least 2")
    given = {}
    for name, meta in trace_fields(scenario.trace_type).items():
        values = _field(path, table, name, meta, getattr(example, name))
        if values is not None:
            given[name] = values
    if not given:
        kinds = trace_fields(scenario.trace_type)
        known = [c for name, meta in kinds.items() for c in _columns_of(getattr(example, name), name, meta)]
        stray = [str(c) for c in table if c not in INDEX]
        hint = unknown_name("column", stray[0], known) if stray else f"known columns: {', '.join(known[:12])}"
        raise ValueError(f"{path} has no field of a {scenario.name} trace: {hint}")
    derived = {n: v for n, v in scenario.derived_trace_fields(given).items() if n not in given}
    trace = dataclasses.replace(example, **given, **derived)
    try:
        scenario.check_trace(trace)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    sampled = tuple(n for n in trace_fields(scenario.trace_type) if n not in given and n not in derived)
    return LoadedTrace(trace, tuple(given), sampled, tuple(derived))


def read_table(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of a trace file and what it says about itself (empty for a foreign file).

    Raises:
        ValueError: no such file, another ending, not readable as its ending says.
    """
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    path = _checked_ending(path)
    if not path.is_file():
        raise ValueError(f"trace file {path} does not exist")
    about: dict[str, Any] = {}
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                first = file.readline()
            if first.startswith(f"# {_KEY} "):
                about = json.loads(first.removeprefix(f"# {_KEY} "))
            options = pyarrow.csv.ReadOptions(skip_rows=1 if about else 0)
            return pyarrow.csv.read_csv(path, options).to_pandas(), about
        found = pyarrow.parquet.read_table(path)
        about = json.loads((found.schema.metadata or {}).get(_KEY.encode(), b"{}"))
        return found.to_pandas(), about
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is not a readable {path.suffix[1:]} table: {str(error).splitlines()[0]}") from None


def _write_parquet(path: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _KEY.encode(): json.dumps(about).encode()}
    pyarrow.parquet.write_table(arrow.replace_schema_metadata(metadata), path)


def _checked_ending(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"trace file {path} must end in .parquet or .csv")
    return path


def _agents(values: Array, meta: Mapping[str, Any]) -> int:
    return int(values.shape[2 if meta["kind"] == "slot" else 1]) if meta["axes"] else 1


def _labels(name: str, entries: int, meta: Mapping[str, Any]) -> list[str]:
    return [name] if len(meta["axes"]) < 2 else [f"{name}_{i}" for i in range(entries)]


def _columns_of(values: Array, name: str, meta: Mapping[str, Any]) -> list[str]:
    lead = 2 if meta["kind"] == "slot" else 1
    return _labels(name, int(np.prod(values.shape[lead + 1 :])), meta)


def _extents(path: str | Path, table: pd.DataFrame) -> tuple[int, int]:
    """Number of cells and slots; the index columns must be whole, start at 0 and hold no row twice."""
    if table.empty:
        raise ValueError(f"{path} holds no rows")
    for name in INDEX:
        column = table[name]
        if column.to_numpy().dtype.kind not in "iuf" or column.isna().any() or (column % 1 != 0).any():
            raise ValueError(f"{path}: column '{name}' must hold whole numbers from 0 on")
        if column.min() != 0:
            raise ValueError(f"{path}: column '{name}' starts at {column.min():g}, must start at 0")
    if table.duplicated(list(INDEX)).any():
        row = table[table.duplicated(list(INDEX))].iloc[0]
        raise ValueError(f"{path}: cell {row['cell']:g}, slot {row['slot']:g}, agent {row['agent']:g} occurs twice")
    return int(table["cell"].max()) + 1, int(table["slot"].max()) + 1


def _field(path: str | Path, table: pd.DataFrame, name: str, meta: Mapping[str, Any], example: Array) -> Array | None:
    """One field from its columns, shaped and typed like `example`; None if the file has none of them."""
    labels = _columns_of(example, name, meta)
    present = [label for label in labels if label in table]
    if not present:
        return None
    if len(present) < len(labels):
        absent = next(label for label in labels if label not in table)
        raise ValueError(f"{path} has no column '{absent}' ({name} needs {len(labels)} columns)")
    rows = table if meta["kind"] == "slot" else table[table["slot"] == 0]
    agents = _agents(example, meta)
    beyond = rows[rows["agent"] >= agents].dropna(subset=labels, how="all")  # rows of a role with more agents are empty
    rows = rows[rows["agent"] < agents]
    found = int((beyond if len(beyond) else rows)["agent"].max()) + 1 if len(rows) else 0
    if found != agents:
        axis = meta["axes"][0] if meta["axes"] else "one value per cell, agents"
        raise ValueError(f"{path}: {name} is given for {found} agents; the scenario has {axis} = {agents}")
    values, where = rows[labels].to_numpy(), f"{path}: {name}"
    if values.dtype.kind not in "fiub" or not np.isfinite(values.astype(np.float64)).all():
        raise ValueError(f"{where} holds NaN, infinity or text; every value must be a finite number ({meta['unit']})")
    if meta["integer"] and (values % 1 != 0).any():
        raise ValueError(f"{where} holds fractions; every value must be a whole number ({meta['unit']})")
    if meta["low"] is not None and (values < meta["low"]).any():
        raise ValueError(f"{where} holds {values.min():g} {meta['unit']}; every value must be >= {meta['low']:g}")
    lead = example.shape[:2] if meta["kind"] == "slot" else example.shape[:1]
    if len(rows) != np.prod(lead) * agents:
        raise ValueError(
            f"{path}: {name} has {len(rows)} values, must have {int(np.prod(lead) * agents)}: one for each "
            f"{'cell, slot' if meta['kind'] == 'slot' else 'cell'} and agent"
        )
    keys = ["slot", "cell", "agent"] if meta["kind"] == "slot" else ["cell", "agent"]
    ordered = values[np.lexsort([rows[key].to_numpy() for key in reversed(keys)])]
    return ordered.reshape(example.shape).astype(example.dtype)
