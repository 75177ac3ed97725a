"""Traces in files: one tidy table per file, so that a measured channel or arrival log can replace a sampled one.

A row is one (cell, slot, agent). A field of the trace is a column; a field with a second axis has one column per entry
(`task_arrivals_0`, `task_arrivals_1`, ..). Fields drawn once per episode, or once at its start, stand in the rows of
slot 0; fields without agents stand in the rows of agent 0; other entries are empty. A trace of L steps has L+1 slots.
Parquet files carry the scenario's name and config in their metadata, CSV files in a first line `# edgemarl {..}`.
Whatever a file holds is used, or refused, or left out by name; what it lacks is drawn, and said.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_names, checked_path, checked_seed
from edgemarl.envs.config import names_of_part, unknown_name
from edgemarl.envs.measured import meaning_fields
from edgemarl.envs.scenario import Scenario, checked_scenario
from edgemarl.envs.trace import trace_fields, trace_limits
from edgemarl.marl.evaluation.tables import ABOUT, ENTRIES_MAX, read_table

if TYPE_CHECKING:
    import pandas as pd

INDEX = ("cell", "slot", "agent")


@dataclasses.dataclass(frozen=True)
class LoadedTrace:
    """A trace from a file.

    Attributes:
        trace: the scenario's trace.
        measured: fields that the file gave.
        sampled: fields that were drawn because the file lacks them.
        derived: fields that follow from the given ones.
        ignored: columns that were left out because the caller said so.
        differences: config fields that had another value when the file was made, as "name = there (here: value)".
        about: what the file says of itself.
    """

    trace: Any
    measured: tuple[str, ...]
    sampled: tuple[str, ...]
    derived: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# --- writing -----------------------------------------------------------------------------------------------------


def save_trace(path: str | Path, scenario: Scenario, trace: Any) -> Path:
    """Write a trace to a `.parquet` or `.csv` file; the file appears whole or not at all.

    Raises:
        ValueError: another ending, a trace that does not fit the scenario, a folder that cannot be written.
    """
    checked_path("path", path)
    checked_scenario(scenario).check_trace(trace)
    about = {**about_scenario(scenario), "cells": trace.cells, "slots": trace.slots}
    return write_table(path, trace_table(trace), about)


def about_scenario(scenario: Scenario) -> dict[str, Any]:
    """What a trace file says of the scenario it is of."""
    return {"scenario": scenario.name, "config": dataclasses.asdict(scenario.config)}


def write_table(path: str | Path, table: pd.DataFrame, about: Mapping[str, Any]) -> Path:
    """Write a table and what it says of itself to a `.parquet` or `.csv` file; it appears whole or not at all.

    Raises:
        ValueError: another ending, a folder that cannot be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"trace file {path} must end in .parquet or .csv")
    text = json.dumps(about)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if path.suffix == ".csv":
                file.write(f"# {ABOUT.decode()} {text}\n".encode())
                file.write((",".join(arrow.column_names) + "\n").encode())
                plain = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
                pyarrow.csv.write_csv(arrow, file, plain)
            else:
                metadata = {**(arrow.schema.metadata or {}), ABOUT: text.encode()}
                pyarrow.parquet.write_table(arrow.replace_schema_metadata(metadata), file)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write trace file {path}: {error.strerror or error}") from None
    finally:
        if temporary.exists():
            temporary.unlink()
    return path


def trace_table(trace: Any, fields: Collection[str] | None = None) -> pd.DataFrame:
    """The tidy table of a trace: rows (cell, slot, agent), a column per field entry; all fields, or some."""
    kinds = trace_fields(type(trace))
    chosen = {name: meta for name, meta in kinds.items() if fields is None or name in fields}
    return arrays_table({name: getattr(trace, name) for name in chosen}, chosen, trace.cells, trace.slots + 1)


def arrays_table(
    arrays: Mapping[str, Array], kinds: Mapping[str, Mapping[str, Any]], cells: int, length: int
) -> pd.DataFrame:
    """The tidy table of trace fields: per-slot arrays (length, cells, ..), others (cells, ..)."""
    import pandas as pd

    agents = max([_agents(arrays[name], meta) for name, meta in kinds.items()], default=1)
    shape = (cells, length, agents)
    columns: dict[str, Any] = {
        name: index.reshape(-1) for name, index in zip(INDEX, np.indices(shape, np.int64), strict=True)
    }
    for name, meta in kinds.items():
        values = arrays[name]
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


# --- reading -----------------------------------------------------------------------------------------------------


def load_trace(path: str | Path, scenario: Scenario, seed: int = 0, ignore: Sequence[str] = ()) -> LoadedTrace:
    """Read a trace for a scenario; fields that the file lacks follow from the others or are drawn from `seed`.

    Args:
        path: a file or the folder of a partitioned table, in any form that `read_table` takes.
        scenario: whose trace it is.
        seed: of what is drawn.
        ignore: columns to leave out.

    Raises:
        ValueError: not a table, missing or unknown columns, missing rows, NaN, a value outside its range or finer than
            the scenario takes, a trace of another scenario, of another number of agents or in other units.
    """
    checked_path("path", path)
    checked_scenario(scenario)
    checked_seed("seed", seed)
    ignore = checked_names("ignore", ignore)
    file = read_table(path)
    if file.about.get("scenario", scenario.name) != scenario.name:
        raise ValueError(f"{path} is a trace of scenario '{file.about['scenario']}', not of '{scenario.name}'")
    differences = check_meaning(path, file.about, scenario)
    if not file.headed:
        raise ValueError(
            f"{path} has no line with the names of its columns; edgemarl trace import --map FIELD=COLUMN reads it"
        )
    frame = _known_columns(path, file.frame, scenario, ignore)
    rows = _Rows(path, scenario, frame, *_extents(path, frame))
    values = {name: rows.field(name, meta) for name, meta in trace_fields(scenario.trace_type).items()}
    present = {name: array for name, array in values.items() if array is not None}
    example = rows.example(seed)
    given = {name: rows.typed(name, array, getattr(example, name).dtype) for name, array in present.items()}
    derived = {n: v for n, v in scenario.derived_trace_fields(given).items() if n not in given}
    trace = dataclasses.replace(example, **given, **derived)
    try:
        scenario.check_trace(trace)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    sampled = tuple(n for n in trace_fields(scenario.trace_type) if n not in given and n not in derived)
    return LoadedTrace(trace, tuple(given), sampled, tuple(derived), tuple(ignore), differences, file.about)


def check_meaning(path: str | Path, about: Mapping[str, Any], scenario: Scenario) -> tuple[str, ...]:
    """Config fields that had another value when a file was made and that do not change how it is read.

    Raises:
        ValueError: another value of a field that gives the numbers their meaning (`edgemarl.envs.measured`).
    """
    if not about.get("config"):
        return ()
    here = json.loads(json.dumps(dataclasses.asdict(scenario.config)))
    network = names_of_part(scenario.config_type, "network")
    there = {n: value for n, value in about["config"].items() if n in network and value != here[n]}
    for name in (n for n in meaning_fields(type(scenario)) if n in there):
        text = ",".join(map(str, there[name])) if isinstance(there[name], list) else there[name]
        raise ValueError(
            f"{path} was made with {name} = {_short(there[name])}, this network has {name} = {_short(here[name])}: "
            f"--set {name}={text} plays it as it is"
        )
    return tuple(f"{name} = {_short(value)} (here: {_short(here[name])})" for name, value in there.items())


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}.."


def columns_of(scenario: Scenario) -> tuple[str, ...]:
    """Every column that a trace file of a scenario may have beside its index."""
    return tuple(
        label
        for name, meta in trace_fields(scenario.trace_type).items()
        for label in _labels(name, int(np.prod(_sizes(scenario, meta)[1:])), meta)
    )


def _known_columns(path: str | Path, frame: pd.DataFrame, scenario: Scenario, ignore: Sequence[str]) -> pd.DataFrame:
    """The table without what is ignored; every other column must be known."""
    for name in ignore:
        if name not in frame:
            raise ValueError(f"--ignore {name}: " + unknown_name("column", name, [str(c) for c in frame]))
        if name in INDEX:
            raise ValueError(f"--ignore {name} is not legal: a trace needs the columns {', '.join(INDEX)}")
    frame = frame.drop(columns=list(ignore))
    for name in INDEX:
        if name not in frame:
            raise ValueError(
                f"{path} has no column '{name}'; a trace has the columns {', '.join(INDEX)} and its fields; "
                f"edgemarl trace import reads measurements of another form"
            )
    known = columns_of(scenario)
    fields = [str(c) for c in frame if c not in INDEX]
    stray = [c for c in fields if c not in known]
    if stray:
        per_entry = next((label for label in known if label.rpartition("_")[0] == stray[0]), None)
        hint = f" {stray[0]} has one column per entry, such as {per_entry}." if per_entry else ""
        raise ValueError(f"{path}: {unknown_name('column', stray[0], known)}.{hint} --ignore {stray[0]} leaves it out")
    if not fields:
        raise ValueError(f"{path} has no field of a {scenario.name} trace. Known columns: {', '.join(known[:12])}")
    return frame


def _extents(path: str | Path, frame: pd.DataFrame) -> tuple[int, int]:
    """Number of cells and slots; the index columns must be whole, start at 0 and hold no row twice."""
    if frame.empty:
        raise ValueError(f"{path} holds no rows")
    for name in INDEX:
        column = _numbers(path, name, frame[name])
        if not np.isfinite(column).all() or (column % 1 != 0).any():
            raise ValueError(f"{path}: column '{name}' must hold whole numbers from 0 on")
        if column.min() != 0:
            raise ValueError(f"{path}: column '{name}' starts at {column.min():g}, must start at 0")
        if column.max() >= len(frame):  # before anything is drawn or reserved
            raise ValueError(
                f"{path}: column '{name}' goes up to {column.max():g}, but the file holds {len(frame)} rows; "
                f"it must number {name}s from 0 on without gaps"
            )
        frame[name] = column.astype(np.int64)
    cells, length = (int(frame[name].max()) + 1 for name in ("cell", "slot"))
    if cells * length > len(frame):
        raise ValueError(
            f"{path} holds {len(frame)} rows; {cells} cells of {length} slots have a row for each cell, slot and agent"
        )
    twice = frame.duplicated(list(INDEX))
    if twice.any():
        row = frame[twice].iloc[0]
        raise ValueError(f"{path}: cell {row['cell']:g}, slot {row['slot']:g}, agent {row['agent']:g} occurs twice")
    if length < 2:
        raise ValueError(f"{path} holds 1 slot; a trace of L steps has L + 1 slots, at least 2")
    return cells, length


def _numbers(path: str | Path, name: str, column: pd.Series) -> Array:
    """A column as numbers; numbers that were written as text are numbers."""
    import pandas as pd

    if column.dtype.kind not in "iufb":
        try:
            column = pd.to_numeric(column)
        except (ValueError, TypeError):
            texts = [str(v) for v in column.dropna() if not _is_number(v)]
            shown = f" such as {texts[0][:40]!r}" if texts else ""
            raise ValueError(f"{path}: column '{name}' holds text{shown}, must hold numbers") from None
    if column.dtype.kind not in "iufb":
        raise ValueError(f"{path}: column '{name}' holds {column.dtype}, must hold numbers")
    return column.to_numpy()


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


@dataclasses.dataclass
class _Rows:
    """The rows of a trace file, field by field."""

    path: str | Path
    scenario: Scenario
    frame: pd.DataFrame
    cells: int
    length: int

    def __post_init__(self) -> None:
        key = [self.frame[name].to_numpy() for name in ("agent", "cell", "slot")]
        order = np.lexsort(key)
        if not np.array_equal(order, np.arange(len(order))):
            self.frame = self.frame.iloc[order]
        self.slot, self.agent = (self.frame[name].to_numpy() for name in ("slot", "agent"))

    def field(self, name: str, meta: Mapping[str, Any]) -> Array | None:
        """One field as (length, cells, axes) or (cells, axes) numbers; None if the file has none of its columns."""
        sizes = _sizes(self.scenario, meta)
        labels = _labels(name, int(np.prod(sizes[1:])), meta)
        present = [label for label in labels if label in self.frame]
        if not present:
            return None
        if len(present) < len(labels):
            absent = next(label for label in labels if label not in self.frame)
            raise ValueError(f"{self.path} has no column '{absent}' ({name} needs {len(labels)} columns)")
        columns = [_numbers(self.path, label, self.frame[label]) for label in labels]
        per_slot, agents = meta["kind"] == "slot", sizes[0] if sizes else 1
        first = np.ones(len(self.slot), bool) if per_slot else self.slot == 0
        filled = ~np.logical_and.reduce([_missing(c) for c in columns])
        beyond = first & filled & (self.agent >= agents)  # rows of a role with more agents are empty
        there = first & (self.agent < agents)
        agents_found = int(self.agent[beyond if beyond.any() else there].max(initial=-1)) + 1
        if agents_found != agents:
            axis = meta["axes"][0] if meta["axes"] else "one value per cell, agents"
            raise ValueError(
                f"{self.path}: {name} is given for {agents_found} agents; the scenario has {axis} = {agents}"
            )
        lead = (self.length, self.cells) if per_slot else (self.cells,)
        wanted = int(np.prod(lead)) * agents
        if there.sum() != wanted:
            where = "cell, slot" if per_slot else "cell"
            raise ValueError(
                f"{self.path}: {name} has {there.sum()} values, must have {wanted}: one for each {where} and agent"
            )
        values = np.stack([c[there] for c in columns], axis=-1).astype(np.float64)
        if not per_slot:
            self._check_once(name, meta, columns, values, filled & ~first)
        self._check_values(name, meta, values)
        return values.reshape(*lead, *sizes)

    def _check_once(
        self, name: str, meta: Mapping[str, Any], columns: Sequence[Array], values: Array, later: Array
    ) -> None:
        """A field that is drawn once may stand in every slot only if it says the same in each."""
        agents = len(values) // self.cells
        rows = self.frame["cell"].to_numpy()[later] * agents + self.agent[later]
        outside = self.agent[later] >= agents
        again = np.stack([c[later] for c in columns], axis=-1)
        if not outside.any() and (again == values[np.where(outside, 0, rows)]).all():
            return
        kinds = trace_fields(self.scenario.trace_type)
        series = next((n for n, other in kinds.items() if other["after"] == name), None)
        when = "once, at the start" if meta["kind"] == "initial" else "once per episode"
        advice = f"; what every slot brings is {series}, whose slot t holds that of slot t+1" if series else ""
        raise ValueError(f"{self.path}: {name} changes from slot to slot; {self.scenario.name} takes it {when}{advice}")

    def _check_values(self, name: str, meta: Mapping[str, Any], values: Array) -> None:
        where, unit = f"{self.path}: {name}", meta["unit"]
        of_unit = "" if unit == "-" else f" {unit}"
        if not np.isfinite(values).all():
            raise ValueError(f"{where} holds NaN, infinity or nothing; every value must be a finite number ({unit})")
        if meta["integer"] and (values % 1 != 0).any():
            raise ValueError(f"{where} holds fractions; every value must be a whole number ({unit})")
        low, high = trace_limits(meta, self.scenario.config)
        if low is not None and values.min() < low:
            raise ValueError(
                f"{where} holds {values.min():g}{of_unit}; every value must be >= {low:g}{_reason(name, meta, False)}"
            )
        if high is not None and values.max() > high:
            legal = "0 or 1" if (low, high, meta["integer"]) == (0, 1, True) else f"<= {high:g}"
            raise ValueError(
                f"{where} holds {values.max():g}{of_unit}; every value must be {legal}{_reason(name, meta, True)}"
            )

    def typed(self, name: str, values: Array, dtype: np.dtype[Any]) -> Array:
        """Values in the type that the scenario draws them in; they must fit."""
        if dtype.kind in "iu" and (values.min() < np.iinfo(dtype).min or values.max() > np.iinfo(dtype).max):
            raise ValueError(f"{self.path}: {name} holds {values.max():g}; at most {np.iinfo(dtype).max} is taken")
        return values.astype(dtype)

    def example(self, seed: int) -> Any:
        """A drawn trace of this size, for what the file lacks."""
        entries = sum(
            int(np.prod([self.length if meta["kind"] == "slot" else 1, self.cells, *_sizes(self.scenario, meta)]))
            for meta in trace_fields(self.scenario.trace_type).values()
        )
        if entries > ENTRIES_MAX:
            raise ValueError(
                f"{self.path}: a trace of {self.cells} cells and {self.length} slots of this network holds {entries} "
                f"numbers; at most {ENTRIES_MAX} are played: cut the file"
            )
        return self.scenario.sample_trace(np.random.default_rng(seed), self.cells, self.length - 1)


def _reason(name: str, meta: Mapping[str, Any], above: bool) -> str:
    """Why a value is likely to be outside its range."""
    if "gain" in name:
        why = "a path gain is at most 1: dB taken for linear?" if above else "negative gains look like dB:"
        return f" ({why} edgemarl trace import --map {name}=COLUMN --unit dB)"
    if meta["integer"] and above and meta["unit"] == "task":
        return " (edgemarl trace import --counts spread puts further tasks into the slots that follow)"
    return ""


def _missing(column: Array) -> Array:
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)


def _sizes(scenario: Scenario, meta: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(getattr(scenario.config, axis)) for axis in meta["axes"])


def _agents(values: Array, meta: Mapping[str, Any]) -> int:
    return int(values.shape[2 if meta["kind"] == "slot" else 1]) if meta["axes"] else 1


def _labels(name: str, entries: int, meta: Mapping[str, Any]) -> list[str]:
    return [name] if len(meta["axes"]) < 2 else [f"{name}_{i}" for i in range(entries)]
