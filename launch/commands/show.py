"""What the short commands print: scenarios, parameters, traces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from edgemarl.agents.registry import playbook_of
from edgemarl.envs.capabilities import action_entries, row_entries
from edgemarl.envs.config import config_fields
from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.recipes import recipes
from edgemarl.launch.report.tables import wide_console
from edgemarl.marl.evaluation.traces import load_trace, read_table, save_trace


def scenarios() -> None:
    """The list of scenarios."""
    table = Table("scenario", "title", "paper")
    for name in scenario_names():
        cls = scenario_class(name)
        table.add_row(name, cls.title, cls.paper)
    wide_console().print(table)


def scenario(name: str) -> None:
    """One scenario: its parameters, then its controllers."""
    cls = scenario_class(name)
    console = wide_console()
    console.print(f"[bold]{cls.title}[/bold]\n{cls.paper}\n")
    table = Table(
        "field", "default", "unit", "legal", "symbol", "source", "meaning", title="Parameters", title_justify="left"
    )
    for row in config_fields(cls.config_type()):
        value = f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"])
        texts = [row["name"], value, *(row[key] for key in ("unit", "legal", "symbol", "source", "meaning"))]
        table.add_row(*(escape(text) for text in texts))
    console.print(table)
    console.print(rows_table(cls()))
    known = Table("controller", "kind", "what it does", title="Controllers", title_justify="left")
    book = playbook_of(name)
    for controller, entry in book.controllers.items():
        mark = " (of the gap)" if controller == book.reference else ""
        known.add_row(controller, entry.kind + mark, entry.meaning)
    console.print(known)
    named = recipes(cls.name)
    if named:
        table = Table("recipe", "what it trains", title="Recipes of `train --recipe`", title_justify="left")
        for recipe, fields in named.items():
            table.add_row(recipe, str(fields.get("about", "")))
        console.print(table)


def rows_table(scenario: Scenario) -> Table:
    """What each role sees and decides; like numbers of many agents are one line."""
    table = Table(
        "role", "", "entry", "an entry of 1 is", "meaning", title="Rows and raw actions", title_justify="left"
    )
    for role in scenario.roles:
        for what, entries in (("sees", row_entries(scenario, role)), ("decides", action_entries(scenario, role))):
            found: dict[tuple[str, ...], list[str]] = {}
            for entry in entries:
                stem, _, number = entry.name.rpartition("_")
                one = (
                    ""
                    if entry.unit == "-" and entry.scale == 1.0
                    else f"{entry.scale:g} {entry.unit.replace('-', '')}".strip()
                )
                key = (stem if number.isdigit() else entry.name, one, entry.meaning)
                found.setdefault(key, []).append(entry.name)
            for (_, one, meaning), names in found.items():
                name = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1].rpartition('_')[2]}"
                table.add_row(*(escape(text) for text in (role, what, name, one, meaning)))
        table.add_section()
    return table


def sample_trace(name: str, out: Path, cells: int, slots: int | None, settings: Sequence[str], seed: int) -> None:
    """Draw a trace and write it."""
    if seed < 0:
        raise ValueError(f"seed = {seed} is not legal: must be an integer >= 0")
    built = make_scenario(name, **parse_overrides(settings))
    trace = built.sample_trace(np.random.default_rng(seed), cells, slots)
    path = save_trace(out, built, trace)
    wide_console().print(f"{path}: {trace.cells} cells, {trace.slots} steps of {name}", soft_wrap=True)


def describe_trace(file: Path, name: str | None, settings: Sequence[str]) -> None:
    """Check a file against its scenario and print what its fields hold."""
    _, about = read_table(file)
    if name is None and "scenario" not in about:
        raise ValueError(
            f"{file} does not say of which scenario it is: give --scenario, one of {', '.join(scenario_names())}"
        )
    config = {} if name is not None else about["config"]
    built = make_scenario(name or about["scenario"], **{**config, **parse_overrides(settings)})
    loaded = load_trace(file, built)
    trace, console = loaded.trace, wide_console()
    console.print(f"{file}: {trace.cells} cells, {trace.slots} steps of {built.name}", soft_wrap=True)
    table = Table("field", "unit", "drawn", "shape", "from", "mean", "lowest", "highest")
    for field, meta in trace_fields(type(trace)).items():
        values = getattr(trace, field)
        origin = "file" if field in loaded.measured else "derived" if field in loaded.derived else "sampled"
        numbers = [f"{number:.4g}" for number in (values.mean(), values.min(), values.max())]
        table.add_row(field, meta["unit"], f"per {meta['kind']}", str(values.shape), origin, *numbers)
    console.print(table)
