"""Names of scenarios -> classes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgemarl.envs.api import Scenario
from edgemarl.envs.config import unknown_name

_SCENARIOS = {
    "sequential_offloading": "edgemarl.envs.scenarios.sequential_offloading:SequentialOffloading",
    "sampling_rate": "edgemarl.envs.scenarios.sampling_rate:SamplingRate",
    "model_partitioning": "edgemarl.envs.scenarios.model_partitioning:ModelPartitioning",
    "model_pruning": "edgemarl.envs.scenarios.model_pruning:ModelPruning",
    "model_placement": "edgemarl.envs.scenarios.model_placement:ModelPlacement",
}


def scenario_names() -> tuple[str, ...]:
    """The registered scenarios."""
    return tuple(_SCENARIOS)


def scenario_class(name: str) -> type[Scenario]:
    """The class of a scenario.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in _SCENARIOS:
        raise ValueError(unknown_name("scenario", name, _SCENARIOS))
    module, attribute = _SCENARIOS[name].split(":")
    found: type[Scenario] = getattr(import_module(module), attribute)
    return found


def make_scenario(name: str, **overrides: Any) -> Scenario:
    """A scenario with some config fields replaced.

    Args:
        name: one of `scenario_names()`.
        **overrides: fields of the scenario's config (strings are parsed, so command-line text works).

    Raises:
        ValueError: unknown scenario or field, a value of wrong type or outside its range.
    """
    cls = scenario_class(name)
    return cls(cls.config_type(**overrides))


def register_scenario(name: str, target: str) -> None:
    """Add a scenario of your own: `target` is "module:Class"."""
    _SCENARIOS[name] = target


def scenario_target(name: str) -> str:
    """The "module:Class" behind a registered name, with which another process can register it."""
    scenario_class(name)
    return _SCENARIOS[name]
