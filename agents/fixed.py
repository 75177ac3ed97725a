"""A controller by name for one role that is not learned while others are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from agents.api import Controller
from envs.api import Scenario
from envs.config import unknown_name

_MODULES: dict[str, str] = {}
"""Scenario -> module with `ROLE_CONTROLLERS: {role: {name: builder}}`; a builder takes the scenario."""


def register_fixed(scenario: str, module: str) -> None:
    """Name the module that holds a scenario's `ROLE_CONTROLLERS`."""
    _MODULES[scenario] = module


def fixed_controller(scenario: Scenario, role: str, name: str) -> Controller:
    """A fresh controller of a role.

    Raises:
        ValueError: the scenario has no such role or the role no such controller.
    """
    known: Mapping[str, Mapping[str, Callable[[Scenario], Any]]] = {}
    if scenario.name in _MODULES:
        known = import_module(_MODULES[scenario.name]).ROLE_CONTROLLERS
    if name not in known.get(role, {}):
        raise ValueError(unknown_name(f"controller of role '{role}'", name, known.get(role, {})))
    built: Controller = known[role][name](scenario)
    return built
