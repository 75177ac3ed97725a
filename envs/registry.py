"""Names of scenarios -> classes: those of `envs/scenarios`, of installed packages, and targets of the user's own."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgemarl.envs.scenarios as scenarios
from edgemarl.envs.targets import is_target, load_target

if TYPE_CHECKING:
    from edgemarl.envs.scenario import Scenario

GROUP = "edgemarl.scenarios"
"""Entry points of other packages: name of the scenario = "module:Class"."""

_registered: dict[str, str] = {}
"""Scenarios of this process: name -> target."""


@cache
def _shipped() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(scenarios.__path__) if module.ispkg)


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def register_shipped_ids() -> None:
    """Let Gymnasium know the scenarios of this project; nothing of theirs is imported."""
    from edgemarl.envs.gym_ids import register_gym_id

    for name in _shipped():
        register_gym_id(name)


def scenario_names() -> tuple[str, ...]:
    """The scenarios that have a name here."""
    return tuple(dict.fromkeys([*_shipped(), *_installed(), *_registered]))


def scenario_class(name: str) -> type[Scenario]:
    """The class of a scenario.

    Args:
        name: one of `scenario_names()`, "module:Class" or "path/to/file.py:Class".

    Raises:
        ValueError: unknown name, the message lists the known ones; a target that is no scenario.
    """
    from edgemarl.envs.config import quoted, unknown_name

    if not isinstance(name, str):
        raise ValueError(
            f"scenario = {quoted(name)} is not legal: must be a name. Known: {', '.join(scenario_names())}"
        )
    if name in _registered:
        return _checked(load_target(_registered[name], "scenario"), name)
    if name in _shipped():
        return _of_package(name)
    if name in _installed():
        return _checked(load_target(_installed()[name].value, "scenario"), name)
    if is_target(name):
        return _checked(load_target(name, "scenario"), name)
    raise ValueError(unknown_name("scenario", name, scenario_names()))


def scenario_texts(name: str) -> tuple[str, str]:
    """Title and paper of a scenario; of a shipped one as its source has them, which takes no loading.

    Raises:
        ValueError: as `scenario_class`.
    """
    if name in _shipped() and name not in _registered:
        texts = _literals(Path(scenarios.__path__[0]) / name / "scenario.py", name)
        if {"title", "paper"} <= set(texts):
            return texts["title"], texts["paper"]
    loaded = scenario_class(name)
    return loaded.title, loaded.paper


def _literals(file: Path, name: str) -> dict[str, str]:
    """Texts that the class whose `name` is given assigns in its body."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    for definition in tree.body:
        if isinstance(definition, ast.ClassDef):
            texts = {
                target.id: line.value.value
                for line in definition.body
                if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
                for target in line.targets
                if isinstance(target, ast.Name) and isinstance(line.value.value, str)
            }
            if texts.get("name") == name:
                return texts
    return {}


def _checked(candidate: Any, name: str) -> type[Scenario]:
    from edgemarl.envs.scenario import Scenario

    if not (isinstance(candidate, type) and issubclass(candidate, Scenario)):
        raise ValueError(f"scenario '{name}' is no subclass of edgemarl.envs.Scenario")
    return candidate


def _of_package(name: str) -> type[Scenario]:
    """The scenario that a folder of `envs/scenarios` holds: the class whose `name` is the folder's."""
    from edgemarl.envs.scenario import Scenario

    module = import_module(f"{scenarios.__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Scenario) and getattr(value, "name", "") == name:
            return value
    raise ValueError(f"{module.__name__} holds no scenario named '{name}'")


def make_scenario(name: str, **overrides: Any) -> Scenario:
    """A scenario with some config fields replaced.

    Args:
        name: as of `scenario_class`.
        **overrides: fields of the scenario's config (strings are parsed, so command-line text works).

    Raises:
        ValueError: unknown scenario or field, a value of wrong type or outside its range.
    """
    cls = scenario_class(name)
    return cls(cls.config_type(**overrides))


def register_scenario(name: str, target: str) -> None:
    """Name a scenario of your own in this process: `target` is "module:Class" or "path/to/file.py:Class".

    Gymnasium then knows it too, as `edgemarl.envs.gym_ids.gym_id(name)`.

    Raises:
        ValueError: a name that is none, or another form of target; what it holds is looked at when it is made.
    """
    from edgemarl.envs.config import quoted
    from edgemarl.envs.gym_ids import register_gym_id

    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"name = {quoted(name)} is not legal: must be letters, digits and _, such as 'corridor'")
    if not isinstance(target, str) or not is_target(target):
        raise ValueError(f"target = {quoted(target)} is not legal: must be module:Class or path/to/file.py:Class")

    _registered[name] = target
    register_gym_id(name)


def given_scenario(scenario: Scenario | str, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """A scenario, or the one of a name with config fields replaced.

    Raises:
        ValueError: neither of them; as `make_scenario`; config fields beside a scenario that is made already.
    """
    from edgemarl.envs.scenario import checked_scenario

    if isinstance(scenario, str):
        return make_scenario(scenario, **(overrides or {}))
    made = checked_scenario(scenario)
    if overrides:
        raise ValueError(f"{next(iter(overrides))} = .. is not legal beside a scenario that is made: give its name")
    return made


def scenario_target(name: str) -> str:
    """What another process makes the scenario of this name from: the name itself, or the target registered here."""
    scenario_class(name)
    return _registered.get(name, name)
