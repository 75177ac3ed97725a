"""Measurements become a trace: samples on the grid of slots, in the units of a scenario, in a network of their size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.measured import measured
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields, trace_limits
from edgemarl.marl.evaluation.measured import units
from edgemarl.marl.evaluation.measured.fields import FieldReader
from edgemarl.marl.evaluation.measured.grid import MISSING_MAX, SlotGrid
from edgemarl.marl.evaluation.measured.mapping import ARRIVALS, CHANNEL, Column, Layout
from edgemarl.marl.evaluation.measured.samples import Samples, read_samples
from edgemarl.marl.evaluation.traces import about_scenario, arrays_table, load_trace

if TYPE_CHECKING:
    import pandas as pd

STEPS_MAX = 2**25
"""Steps of all agents together that an import makes at most."""


@dataclass(frozen=True)
class Request:
    """What is to be imported.

    Attributes:
        files: measurement files of one layout.
        layout: which column is what.
        radio: the link that was measured.
        step_s: length of a step; None takes the scenario's.
        devices: agents of a cell: so many agents in turn are a network; None puts all into one.
        without: agents to leave out.
        given: config fields that the caller sets.
        fit: set the config fields that follow from what was measured, so that references plan with them.
        add_to: trace file whose fields are kept beside the new ones.
    """

    files: tuple[Path, ...]
    layout: Layout
    radio: units.Radio = units.Radio()
    step_s: float | None = None
    devices: int | None = None
    without: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    fit: bool = True
    add_to: Path | None = None


@dataclass(frozen=True)
class Imported:
    """A measured trace: its table, what it says of itself, its network, what is to be said of it line by line.

    `fields` are those that were measured and those that follow from them.
    """

    table: pd.DataFrame
    about: dict[str, Any]
    scenario: Scenario
    cells: int
    slots: int
    fields: tuple[str, ...]
    lines: tuple[str, ...]


def import_trace(request: Request, scenario: Scenario) -> Imported:
    """Turn measurement files into the table of a trace.

    Args:
        request: files, layout and units.
        scenario: the network as the caller set it; its size and step become those of the measurement.

    Raises:
        ValueError: files that are not as the layout says, gaps that nobody said how to fill, numbers that cannot be in
            their unit, fields that the scenario does not have.
    """
    columns = _fields(request.layout, scenario)
    what = measured(type(scenario))
    step_s = _step_s(request, scenario)
    samples = read_samples(request.files, request.layout, request.without, step_s)
    names = samples.agents
    wide = {len(column.columns) for column in columns.values()}
    if max(wide) > 1 and (len(wide) > 1 or len(names) > 1):
        raise ValueError("a field of several columns has an agent in each: all fields need as many, and no --agent")
    agents = max(wide) if max(wide) > 1 else len(names)
    size = request.devices or agents
    if size > agents:
        raise ValueError(f"devices = {size} is not legal: {agents} agents were measured")
    scenario = _sized(scenario, request, columns, size)
    grid = _grid(samples, request.layout, what.step_s(scenario.config))
    arrays: dict[str, Array] = {}
    lines: list[str] = []
    for field, column in columns.items():
        reader = FieldReader(field, column, samples, request.layout, request.radio, grid, scenario, what, agents)
        per_slot_values, said = reader.values()
        arrays[field] = per_slot_values[:, : agents // size * size].reshape(
            len(per_slot_values), agents // size, size, *per_slot_values.shape[2:]
        )
        lines += said
    if agents % size:
        lines.append(f"{agents % size} agents beyond {agents // size} networks of {size} left out")
    arrays = _with_first_slots(arrays, scenario)
    arrays, kept = _joined(arrays, scenario, request)
    lines = [*kept, *samples.notes, *lines]
    length, cells = _extent(arrays, scenario)
    _check_units(scenario, arrays)
    if request.fit:
        scenario = _fitted(scenario, arrays, request.given)
    arrays = {name: _shaped(name, values, scenario) for name, values in arrays.items()}
    _check(scenario, arrays, cells, length)
    kinds = {name: meta for name, meta in trace_fields(scenario.trace_type).items() if name in arrays}
    table = arrays_table({name: arrays[name] for name in kinds}, kinds, cells, length)
    about = {
        **about_scenario(scenario), "cells": cells, "slots": length - 1,
        "import": {
            "files": [path.name for path in request.files], "agents": list(names), "lines": lines,
            "layout": request.layout.model_dump(mode="json", exclude_defaults=True),
        },
    }  # fmt: skip
    fields = (*arrays, *scenario.derived_trace_fields(arrays))
    return Imported(table, about, scenario, cells, length - 1, fields, tuple(lines))


def _fields(layout: Layout, scenario: Scenario) -> dict[str, Column]:
    """Fields of the scenario's trace -> columns; `channel` and `arrivals` are what the scenario calls them."""
    what, kinds = measured(type(scenario)), trace_fields(scenario.trace_type)
    if not layout.fields:
        raise ValueError("nothing says what was measured: give --map FIELD=COLUMN, or --form NAME")
    columns: dict[str, Column] = {}
    for name, column in layout.fields.items():
        field = {CHANNEL: next(iter(what.links), ""), ARRIVALS: what.arrivals}.get(name, name)
        if not field:
            reason = "has its tasks in every slot" if name == ARRIVALS else "has no channel"
            raise ValueError(f"{scenario.name} takes no {name}: every agent {reason}; --map FIELD=COLUMN names another")
        field = next((n for n, meta in kinds.items() if meta["after"] == field), field)
        if field not in kinds:
            raise ValueError(unknown_name("field", field, kinds))
        if kinds[field]["kind"] != "slot":
            raise ValueError(f"{field} is drawn once, so that no series gives it; write it into a trace file")
        if layout.tasks and field != what.arrivals:
            raise ValueError(f"a task list gives {what.arrivals or 'no field'} of {scenario.name}, not {field}")
        columns[field] = column
    return columns


def _sized(scenario: Scenario, request: Request, columns: Mapping[str, Column], size: int) -> Scenario:
    """The network with as many agents as were measured, and steps as long as was asked."""
    what, config = measured(type(scenario)), scenario.config
    kinds = trace_fields(scenario.trace_type)
    fields: dict[str, Any] = {}
    for field in columns:
        axes = [axis for axis in kinds[field]["axes"] if axis != "slots_per_block"]
        if int(np.prod([getattr(config, axis) for axis in axes])) != size:
            if set(axes) & set(request.given):
                asked = " x ".join(f"{axis} = {getattr(config, axis)}" for axis in axes)
                raise ValueError(f"{field} was measured for {size} agents, the network has {asked}")
            ones = dict.fromkeys(axes[:-1], 1)
            fields |= {**ones, **what.population(config, axes[-1], size)}
    if request.step_s is not None:
        fields["slot_s"] = request.step_s / what.slots_in_step(config)
    return _changed(scenario, fields)


def _step_s(request: Request, scenario: Scenario) -> float:
    """Seconds of a step: as was asked, else the scenario's."""
    if request.step_s is None:
        return measured(type(scenario)).step_s(scenario.config)
    if not np.isfinite(request.step_s) or request.step_s <= 0.0:
        raise ValueError(f"resample = {request.step_s} s is not legal: must be > 0")
    return request.step_s


def _changed(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    return type(scenario)(dataclasses.replace(scenario.config, **fields)) if fields else scenario


def _grid(samples: Samples, layout: Layout, step_s: float) -> SlotGrid:
    """The steps that all agents were there for; of a task list those from the first task to the last."""
    start, end = (samples.times_s.min(), samples.times_s.max()) if layout.tasks else _common_time(samples)
    steps = (end - start) / step_s
    if not steps * len(samples.agents) < STEPS_MAX:
        raise ValueError(
            f"{end - start:g} s make {steps:.3g} steps of {step_s:g} s for each of {len(samples.agents)} agents, more "
            f"than {STEPS_MAX} in all: is the time unit right? --resample S makes longer steps"
        )
    slots = int(steps + 1e-9) + 1
    if slots < 2:
        raise ValueError(f"the measurement lasts {end - start:g} s, less than a step of {step_s:g} s: give --resample")
    return SlotGrid(float(start), step_s, slots)


def _common_time(samples: Samples) -> tuple[float, float]:
    """From when to when all agents were measured; it must be more than half of what the longest was."""
    first, last = samples.times_s[samples.bounds[:-1]], samples.times_s[samples.bounds[1:] - 1]
    spans = dict(zip(samples.agents, last - first, strict=True))
    whole = max(spans.values())
    short = [name for name, span in spans.items() if span < (1.0 - MISSING_MAX) * whole]
    if short:
        raise ValueError(
            f"{short[0]} was measured for {spans[short[0]]:g} s, another agent for {whole:g} s: it is missing for "
            f"more than half; leave out what is too short: {' '.join(f'--without {name}' for name in short)}"
        )
    start, end = float(first.max()), float(last.min())
    if end - start < (1.0 - MISSING_MAX) * whole:
        raise ValueError(
            f"the agents were measured at different times (in common {max(end - start, 0.0):g} s of {whole:g} s): "
            "--align start puts them side by side from their first samples on"
        )
    return start, end


def _with_first_slots(arrays: Mapping[str, Array], scenario: Scenario) -> dict[str, Array]:
    """Series of fields that hold the next slot's value: the first value is a field of its own."""
    kinds, split = trace_fields(scenario.trace_type), {}
    for name, values in arrays.items():
        first = kinds[name]["after"]
        if first:
            split[first], split[name] = values[0], values[1:]
        else:
            split[name] = values
    return split


def _joined(arrays: Mapping[str, Array], scenario: Scenario, request: Request) -> tuple[dict[str, Array], list[str]]:
    """The new fields beside those of a trace file, cut to the slots that both have; and what was said of that file."""
    if request.add_to is None:
        return dict(arrays), []
    old = load_trace(request.add_to, scenario)
    said = old.about.get("import", {}).get("lines", [])
    kept = {name: getattr(old.trace, name) for name in old.measured if name not in arrays}
    kinds = trace_fields(scenario.trace_type)
    both = {**{n: _shaped(n, v, scenario) for n, v in arrays.items()}, **kept}
    series = [values for name, values in both.items() if kinds[name]["kind"] == "slot"]
    cells = {values.shape[1] for values in series}
    if len(cells) > 1:
        raise ValueError(f"{request.add_to} and the measurement hold {' and '.join(map(str, sorted(cells)))} networks")
    length = min(len(values) for values in series)
    return {n: v[:length] if kinds[n]["kind"] == "slot" else v for n, v in both.items()}, [str(line) for line in said]


def _extent(arrays: Mapping[str, Array], scenario: Scenario) -> tuple[int, int]:
    kinds = trace_fields(scenario.trace_type)
    series = next(values for name, values in arrays.items() if kinds[name]["kind"] == "slot")
    if len(series) < 2:
        raise ValueError("the measurement makes a single step; a trace needs two or more: give --resample")
    return len(series), series.shape[1]


def _fitted(scenario: Scenario, arrays: Mapping[str, Array], given: Sequence[str]) -> Scenario:
    """The network with the config fields that follow from what was measured, unless the caller set them."""
    fitted = measured(type(scenario)).fitted(scenario.config, arrays)
    return _changed(scenario, {name: value for name, value in fitted.items() if name not in given})


def _shaped(name: str, values: Array, scenario: Scenario) -> Array:
    """The array as the trace has it: the agents' axis as the field's axes."""
    meta = trace_fields(scenario.trace_type)[name]
    lead = values.shape[:2] if meta["kind"] == "slot" else values.shape[:1]
    sizes = tuple(int(getattr(scenario.config, axis)) for axis in meta["axes"])
    if int(np.prod(sizes)) != int(np.prod(values.shape[len(lead) :])):
        asked = " x ".join(f"{axis} = {size}" for axis, size in zip(meta["axes"], sizes, strict=True))
        raise ValueError(
            f"{name} was measured for {values.shape[len(lead)]} agents, the network has {asked}: import fields of "
            "different agents one after the other, with --add-to"
        )
    return values.reshape(*lead, *sizes)


def _check_units(scenario: Scenario, arrays: Mapping[str, Array]) -> None:
    """Whether the values are of the size that the fields can have."""
    kinds = trace_fields(scenario.trace_type)
    for name, values in arrays.items():
        low, high = trace_limits(kinds[name], scenario.config)
        if (low is not None and values.min() < low) or (high is not None and values.max() > high):
            raise ValueError(
                f"{name} comes out as {values.min():.4g} to {values.max():.4g} {kinds[name]['unit']}, must be "
                + " and ".join(f"{s} {v:g}" for s, v in ((">=", low), ("<=", high)) if v is not None)
                + ": is the unit right?"
            )


def _check(scenario: Scenario, arrays: Mapping[str, Array], cells: int, length: int) -> None:
    """Whether the scenario takes the values."""
    _check_units(scenario, arrays)
    example = scenario.sample_trace(np.random.default_rng(0), cells, length - 1)
    trace = dataclasses.replace(
        example, **{name: values.astype(getattr(example, name).dtype) for name, values in arrays.items()}
    )
    try:
        scenario.check_trace(trace)
    except ValueError as error:
        raise ValueError(f"{error}; a number that means that nothing was measured is named by --missing") from None
