"""Names of controllers -> builders, per scenario: what `compare --controllers a,b` understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from agents.api import Policy
from envs.api import Scenario
from envs.config import unknown_name

Builder = Callable[[Scenario], Policy]


@dataclass(frozen=True)
class Entry:
    """A named controller of a scenario.

    Attributes:
        build: makes a fresh policy.
        meaning: one line for the list of controllers.
        kind: "learned", "baseline" or "reference".
    """

    build: Builder
    meaning: str
    kind: str


_MODULES = {
    "sequential_offloading": "agents.teams.sequential_offloading",
}
"""Scenario -> module with `CONTROLLERS: dict[str, Entry]` and `REFERENCE: str`, its nearest-to-optimal controller."""


def controllers(scenario: str) -> dict[str, Entry]:
    """The named controllers of a scenario."""
    if scenario not in _MODULES:
        raise ValueError(unknown_name("scenario", scenario, _MODULES))
    found: dict[str, Entry] = import_module(_MODULES[scenario]).CONTROLLERS
    return found


def reference_name(scenario: str) -> str:
    """The controller against which gaps are measured."""
    controllers(scenario)
    name: str = import_module(_MODULES[scenario]).REFERENCE
    return name


def make_policy(scenario: Scenario, name: str) -> Policy:
    """A fresh policy by name.

    Raises:
        ValueError: unknown controller; the message lists the known ones.
    """
    known = controllers(scenario.name)
    if name not in known:
        raise ValueError(unknown_name("controller", name, known))
    return known[name].build(scenario)
