"""Parts of pages that the code knows best: spaces, rewards, parameters, controllers, settings, help."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np

from edgemarl.agents import playbook_of
from edgemarl.envs import make_scenario, scenario_class, scenario_names
from edgemarl.envs.config import config_fields, legal_range
from edgemarl.envs.trace import trace_fields


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; bars and line breaks of cells are kept from breaking it."""

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(re.sub(r"\s*\n\s*", " ", str(cell)).replace("|", "\\|") for cell in cells) + " |"

    names = list(head)
    return "\n".join([line(names), "|" + "---|" * len(names), *map(line, rows)])


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.cleandoc(text or "").split("\n\n")[0]).split())


def space_text(space: gymnasium.Space[Any]) -> str:
    """A space on one line: bounds once where they are alike, a shape else."""
    if isinstance(space, gymnasium.spaces.Box):
        low, high = np.unique(space.low), np.unique(space.high)
        bounds = [f"{ends[0]:g}" if len(ends) == 1 else f"{ends[0]:g}..{ends[-1]:g}" for ends in (low, high)]
        return f"`Box({bounds[0]}, {bounds[1]}, {space.shape}, {space.dtype})`"
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.ravel()]
        return f"`MultiDiscrete({sizes})`" if len(sizes) <= 12 else f"`MultiDiscrete`, {len(sizes)} entries"
    return f"`{space}`"


def spaces(name: str) -> str:
    """Who observes and does what, at the scenario's defaults."""
    scenario = make_scenario(name)
    rows: list[list[str]] = [
        [f"`{role.agent_ids[0]}`" + (f" .. `{role.agent_ids[-1]}`" if role.count > 1 else ""), str(role.count),
         space_text(role.observation_space), space_text(role.action_space)]
        for role in scenario.roles.values()
    ]  # fmt: skip
    rows.append(
        ["one controller of all", "1", space_text(scenario.global_state_space), space_text(scenario.central_space)]
    )
    text = table(["agent", "how many", "observation of one", "action of one"], rows)
    entries = ", ".join(f"{count} of role `{role}`" for role, count in scenario.ledger.items())
    return (
        f"{text}\n\nAn episode has {scenario.horizon} slots and ends by truncation. Ledger: {entries}. Compared by "
        f"`{scenario.cost_metric}` ({scenario.cost_label})."
    )


def rewards(name: str) -> str:
    """The reward modes, and what the scenario says of them."""
    cls = scenario_class(name)
    meaning = {"local": "minus the agent's own ledger entry", "team": "minus the sum of the ledger, for everybody"}
    rows = [[f"`{mode}`", meaning.get(mode, "see below")] for mode in cls.reward_modes]
    own = inspect.cleandoc(cls.rewards.__doc__ or "") if "rewards" in vars(cls) else ""
    return table(["`reward=`", "an agent is paid"], rows) + (f"\n\n{own.replace(chr(34), '`')}" if own else "")


def signalling(name: str) -> str:
    """Bytes per slot and cell, by link."""
    told = make_scenario(name).signalling()
    rows = [
        [control, link, f"{amount:,.0f}"]
        for control, links in (("decentralized", told.decentralized), ("centralized", told.centralized))
        for link, amount in (*links.items(), ("**sum**", sum(links.values())))
    ]
    return table(["control", "link", "bytes per slot"], rows)


def randomness(name: str) -> str:
    """What a trace of the scenario holds."""
    rows = [
        [f"`{field}`", meta["unit"], "per slot" if meta["kind"] == "slot" else "once", meta["process"] or "-"]
        for field, meta in trace_fields(scenario_class(name).trace_type).items()
    ]
    return table(["field of a trace", "unit", "drawn", "process"], rows)


def parameters(name: str) -> str:
    """Every config field."""
    rows = []
    for row in config_fields(scenario_class(name).config_type()):
        value = f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"])
        value = value if len(value) <= 40 else value[:37] + "..."
        rows.append([f"`{row['name']}`", f"`{value}`", *(row[key] for key in ("unit", "legal", "source", "meaning"))])
    return table(["field", "default", "unit", "legal", "source", "meaning"], rows)


def controllers(name: str) -> str:
    """Every named controller."""
    book = playbook_of(name)
    rows = [
        [f"`{key}`", entry.kind + (" (of the gap)" if key == book.reference else ""), entry.meaning]
        for key, entry in book.controllers.items()
    ]
    return table(["controller", "kind", "what it does"], rows)


def presets(name: str) -> str:
    """The presets of a scenario."""
    from edgemarl.launch.experiment.plan import load_preset, preset_names

    rows = [[f"`{key}`", load_preset(key).title] for key in preset_names() if load_preset(key).scenario == name]
    return table(["`compare --preset`", "what it shows"], rows)


def recipes(name: str) -> str:
    """The training recipes of a scenario."""
    from edgemarl.launch.recipes import recipes as named

    rows = [[f"`{key}`", str(fields.get("about", ""))] for key, fields in named(name).items()]
    return table(["`train --recipe`", "what it trains"], rows) if rows else "No recipes."


def scenarios() -> str:
    """One row for each scenario."""
    rows = []
    for name in sorted(scenario_names()):
        scenario = make_scenario(name)
        agents = ", ".join(f"{role.count} {role.name}{'s' * (role.count > 1)}" for role in scenario.roles.values())
        rows.append([f"[`{name}`]({name}.md)", scenario.title, agents, scenario.cost_label])
    return table(["scenario", "title", "agents that decide, at the defaults", "compared by"], rows)


def settings(name: str) -> str:
    """The settings of a learning algorithm."""
    from edgemarl.marl.algorithms.registry import make_algorithm

    return _fields(make_algorithm(name).Settings)


def run_fields() -> str:
    """The fields that every training run has."""
    from edgemarl.marl.algorithms.settings import RunFields

    return _fields(RunFields)


def _fields(cls: Any) -> str:
    rows = []
    for field in dataclasses.fields(cls):
        info = cls.__pydantic_fields__[field.name]
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        default = info.get_default(call_default_factory=True)
        rows.append(
            [f"`{field.name}`", f"`{default}`", extra.get("unit", "-"), legal_range(info), info.description or ""]
        )
    return table(["field", "default", "unit", "legal", "meaning"], rows)


def algorithms() -> str:
    """One row for each learning algorithm."""
    from edgemarl.marl.algorithms.registry import make_algorithm, shipped

    pages = {"td3": "ddpg"}
    rows = [
        [f"[`{name}`](algorithms/{pages.get(name, name)}.md)", make_algorithm(name).meaning]
        for name in sorted(shipped())
    ]
    return table(["`--algorithm`", "what it is"], rows)


def command_line() -> str:
    """Every command with its arguments and options, as its help has them."""
    import typer

    from edgemarl.launch.cli import app

    def pages(command: Any, words: tuple[str, ...]) -> Iterable[str]:
        children = getattr(command, "commands", None)
        if not children:
            yield f"## {' '.join(words)}\n\n{first_sentence(command.help)}\n\n{_options(command)}"
        for name in children or ():
            yield from pages(children[name], (*words, name))

    return "\n\n".join(pages(typer.main.get_command(app), ()))


def _options(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        named = parameter.param_type_name == "option"
        name = " ".join(parameter.opts) if named else parameter.name.upper()
        default = "" if parameter.default in (None, "") or parameter.required else f"`{parameter.default}`"
        rows.append([f"`{name}`", default, getattr(parameter, "help", None) or ""])
    return table(["argument or option", "default", "meaning"], rows) if rows else "No options."


def api(package: str) -> str:
    """mkdocstrings' directives for the public names of a package, where each is defined."""
    module = import_module(package)
    lines = []
    for name in module.__all__:
        value = getattr(module, name)
        home = getattr(value, "__module__", None)
        if inspect.isclass(value) or inspect.isfunction(value):
            lines.append(f"::: {home}.{value.__qualname__}\n")
    return "\n".join(lines)


MADE: Mapping[str, Callable[..., str]] = {
    made.__name__: made
    for made in (
        spaces, rewards, signalling, randomness, parameters, controllers, presets, recipes, scenarios,
        settings, run_fields, algorithms,
        command_line, api,
    )
}  # fmt: skip
"""Word after `<!-- made:` in a page -> what takes its place."""
