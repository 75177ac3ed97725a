"""Recipes: named training settings of a scenario, written once and used by presets, `train`, `sweep` and `scale`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from edgemarl.envs.config import cut, quoted, unknown_name
from edgemarl.envs.reading import read_mapping

NOT_FIELDS = ("about", "based_on", "default")


def recipes(scenario: str) -> dict[str, dict[str, Any]]:
    """Name -> recipe of a scenario as its file has it: training fields, `about`, `based_on` where it builds on another.

    Args:
        scenario: its name; one that has no recipes gives none.
    """
    return copy.deepcopy(_shipped(scenario))


@lru_cache
def _shipped(scenario: str) -> dict[str, dict[str, Any]]:
    file = resources.files("edgemarl.launch") / "recipes" / f"{scenario}.yaml"
    recipes: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return recipes


def fields_of(scenario: str, recipe: str) -> dict[str, Any]:
    """The training fields of a recipe, with those that it builds on.

    Args:
        scenario: name of the scenario.
        recipe: name in the scenario's file, or "path/to/file.yaml:NAME" of the user's own.

    Raises:
        ValueError: unknown recipe, a file that cannot be read, recipes that build on each other.
    """
    file, colon, name = recipe.rpartition(":")
    known = _file_recipes(Path(file), recipe) if colon else recipes(scenario)
    fields: dict[str, Any] = {}
    seen: list[str] = []
    while name:
        if name in seen:
            raise ValueError(f"recipes build on each other: {' -> '.join([*seen, name])}")
        if name not in known:
            raise ValueError(unknown_name(f"recipe of {scenario}", name, known))
        seen.append(name)
        fields = merged({k: v for k, v in known[name].items() if k not in NOT_FIELDS}, fields)
        name = known[name].get("based_on", "")
    return fields


def default_recipe(scenario: str, fields: Mapping[str, Any]) -> str | None:
    """The recipe that training starts from where none is named: the best one known for an algorithm and a control.

    Args:
        scenario: its name.
        fields: training fields; `algorithm`, `control` and whether the policy is of joint actions count.
    """
    for name, recipe in recipes(scenario).items():
        if recipe.get("default") and _way(fields_of(scenario, name)) == _way(fields):
            return name
    return None


def _way(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a default recipe is the best one of."""
    control = fields.get("control", "decentralized")
    joint = control == "central" and fields.get("central_policy") == "joint"
    return fields.get("algorithm", "ppo"), control, joint


def with_default(scenario: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Training fields that name no recipe, with the default one; `recipe: none` keeps the algorithm's own defaults.

    A field of the scenario's config that contradicts the recipe's own leaves no recipe: its settings were found for
    another action or another row.
    """
    own = dict(fields)
    if "recipe" in own:
        if own["recipe"] == "none":
            del own["recipe"]
        return own
    name = default_recipe(scenario, own)
    if name is None:
        return own
    given, own_set = own.get("set", {}), fields_of(scenario, name).get("set", {})
    if not isinstance(given, Mapping):
        return own  # refused where it is read
    contradicted = any(str(given.get(key, value)).lower() != str(value).lower() for key, value in own_set.items())
    return own if contradicted else {"recipe": name, **own}


def resolved(scenario: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Training fields whose entry `recipe`, if there is one, is replaced by what it stands for; own fields win.

    Raises:
        ValueError: as `fields_of`; a name that is no text, such as 1.0e-3 before a colon was forgotten.
    """
    own = dict(fields)
    sets = own.get("set")
    for name in [*own, *(sets if isinstance(sets, Mapping) else ())]:
        if not isinstance(name, str):
            raise ValueError(f"training fields: {quoted(name)} is not legal: must be the name of a field")
    recipe = own.pop("recipe", None)
    return own if recipe is None else merged(fields_of(scenario, str(recipe)), own)


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of which the second win; config fields of the scenario (`set`) are merged one by one."""
    for fields in (base, own):
        if not isinstance(fields.get("set", {}), Mapping):
            raise ValueError(f"set = {quoted(fields['set'])} is not legal: must map config fields to values")
    sets = {**base.get("set", {}), **own.get("set", {})}
    for one, other in (("cells", "iteration_steps"), ("iteration_steps", "cells")):  # two ways to say the same
        if one in own and other not in own:
            base = {name: value for name, value in base.items() if name != other}
    return {**base, **own, **({"set": sets} if sets else {})}


def _file_recipes(path: Path, recipe: str) -> dict[str, Any]:
    recipes = read_mapping(path, f"recipe {cut(recipe)}")
    if not all(isinstance(value, dict) for value in recipes.values()):
        raise ValueError(f"recipe {cut(recipe)}: {path} must map names to training fields")
    return recipes
