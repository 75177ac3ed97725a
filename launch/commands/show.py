"""What the short commands print: scenarios and their parameters."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from edgemarl.envs.registry import scenario_class, scenario_names, scenario_texts
from edgemarl.launch.report.tables import wide_console


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
    console.print(f"[bold]{cls.title}[/bold]\n{cls.paper}\n")
    table = Table(
        "field", "default", "unit", "legal", "symbol", "source", "meaning", title="Parameters", title_justify="left"
    )
    for row in config_fields(cls.config_type()):
        value = f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"])
        texts = [row["name"], value, *(row[key] for key in ("unit", "legal", "symbol", "source", "meaning"))]
        table.add_row(*(escape(text) for text in texts))
    console.print(table)
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
