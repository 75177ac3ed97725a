"""What the short commands print: scenarios and their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from edgemarl.envs.registry import scenario_class, scenario_names, scenario_texts
from edgemarl.launch.console import wide_console

if TYPE_CHECKING:
    from edgemarl.envs.scenario import Scenario


def scenarios() -> None:
    """The list of scenarios."""
    table = Table("scenario", "title", "paper")
    for name in scenario_names():
        table.add_row(name, *scenario_texts(name))
    wide_console().print(table)


def scenario(name: str) -> None:
    """One scenario: its parameters, then its controllers."""
    from edgemarl.agents.registry import playbook_of
    from edgemarl.envs.config import config_fields
    from edgemarl.launch.recipes import recipes

    cls = scenario_class(name)
    console = wide_console()
    console.print(cls.title, style="bold")
    console.print(f"{cls.paper}\n")
    table = Table(
        "field", "default", "unit", "legal", "symbol", "source", "meaning", title="Parameters", title_justify="left"
    )
    for row in config_fields(cls.config_type()):
        value = f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"])
        texts = [row["name"], value, *(row[key] for key in ("unit", "legal", "symbol", "source", "meaning"))]
        table.add_row(*texts)
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
    from edgemarl.envs.capabilities import action_entries, row_entries

    table = Table(
        "role", "", "entry", "an entry of 1 is", "meaning", title="Rows and raw actions", title_justify="left"
    )
    for role in scenario.roles:
        for what, entries in (("sees", row_entries(scenario, role)), ("decides", action_entries(scenario, role))):
            names_of: dict[tuple[str, ...], list[str]] = {}
            for entry in entries:
                stem, _, number = entry.name.rpartition("_")
                one = (
                    ""
                    if entry.unit == "-" and entry.scale == 1.0
                    else f"{entry.scale:g} {entry.unit.replace('-', '')}".strip()
                )
                key = (stem if number.isdigit() else entry.name, one, entry.meaning)
                names_of.setdefault(key, []).append(entry.name)
            for (_, one, meaning), names in names_of.items():
                name = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1].rpartition('_')[2]}"
                table.add_row(*(role, what, name, one, meaning))
        table.add_section()
    return table
