"""`trace`: draw a trace to a file, say what a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from edgemarl.envs.api import Scenario, trace_fields
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.experiment.played import field_origin, file_network, file_scenario
from edgemarl.launch.report.tables import wide_console
from edgemarl.marl.evaluation.traces import load_trace, save_trace


def sample(name: str, out: Path, cells: int, slots: int | None, settings: Sequence[str], seed: int) -> None:
    """Draw a trace and write it."""
    if seed < 0:
        raise ValueError(f"seed = {seed} is not legal: must be an integer >= 0")
    built = make_scenario(name, **parse_overrides(settings))
    trace = built.sample_trace(np.random.default_rng(seed), cells, slots)
    path = save_trace(out, built, trace)
    wide_console().print(f"{path}: {trace.cells} cells, {trace.slots} steps of {name}", soft_wrap=True)


def described_scenario(file: Path, name: str | None, settings: Sequence[str]) -> Scenario:
    """The network that a file is of: what it says of itself, or a named scenario, with the fields that are set.

    Raises:
        ValueError: a file that does not say of which scenario it is.
    """
    found = name or file_scenario(file)
    if found is None:
        raise ValueError(
            f"{file} does not say of which scenario it is: give --scenario, one of {', '.join(scenario_names())}"
        )
    return make_scenario(found, **{**file_network(file, found), **parse_overrides(settings)})


def describe(file: Path, name: str | None, ignore: Sequence[str], settings: Sequence[str]) -> None:
    """Check a file against its scenario and print what its fields hold."""
    built = described_scenario(file, name, settings)
    loaded = load_trace(file, built, ignore=ignore)
    trace, console = loaded.trace, wide_console()
    console.print(f"{file}: {trace.cells} cells, {trace.slots} steps of {built.name}", soft_wrap=True)
    table = Table("field", "unit", "drawn", "shape", "from", "mean", "lowest", "highest")
    for field, meta in trace_fields(type(trace)).items():
        values = getattr(trace, field)
        numbers = [f"{number:.4g}" for number in (values.mean(), values.min(), values.max())]
        origin = field_origin(loaded, field)
        table.add_row(field, meta["unit"], f"per {meta['kind']}", str(values.shape), origin, *numbers)
    console.print(table)
