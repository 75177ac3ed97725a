"""Names of controllers -> builders, per scenario: what `compare --controllers a,b` understands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from edgemarl.agents.api import Announcement, Controller, Policy
from edgemarl.envs.api import Scenario
from edgemarl.envs.config import unknown_name

Builder = Callable[[Scenario], Policy]
RoleBuilder = Callable[[Scenario], Controller]


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
    "model_partitioning": "edgemarl.agents.teams.model_partitioning",
    "sampling_rate": "edgemarl.agents.teams.sampling_rate",
    "model_pruning": "edgemarl.agents.teams.model_pruning",
    "sequential_offloading": "edgemarl.agents.teams.sequential_offloading",
    "model_placement": "edgemarl.agents.teams.model_placement",
}
"""Scenario -> module with `CONTROLLERS: dict[str, Entry]` and `REFERENCE: str`, its nearest-to-optimal controller.

A module may also have `ROLE_CONTROLLERS`: role -> name -> builder of that role's part, `ORDER`: roles that act one
after another within a slot where some of them play by name and others are learned, and `ANNOUNCEMENTS`: role -> what
learned agents of the role tell of their actions.
"""


def scenarios_with_controllers() -> tuple[str, ...]:
    """Scenarios that have named controllers."""
    return tuple(_MODULES)


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


def role_controllers(scenario: str) -> dict[str, dict[str, RoleBuilder]]:
    """Role -> name -> builder, e.g. for a server that plays a fixed scheme while devices are trained."""
    controllers(scenario)
    found: dict[str, dict[str, RoleBuilder]] = getattr(import_module(_MODULES[scenario]), "ROLE_CONTROLLERS", {})
    return found


def announcements(scenario: Scenario, learned: Collection[str], fixed: Collection[str]) -> dict[str, Announcement]:
    """Learned role -> what its agents tell the fixed roles of their actions, where the scenario has it so."""
    module = import_module(_MODULES[scenario.name]) if scenario.name in _MODULES else None
    known: dict[str, Callable[[Scenario], Announcement]] = getattr(module, "ANNOUNCEMENTS", {})
    return {role: known[role](scenario).to(fixed) for role in learned if role in known}


def acting_order(scenario: Scenario, learned: Collection[str], fixed: Collection[str]) -> list[list[str]]:
    """Groups of roles that act one after another.

    Where the scenario has an order: fixed roles that come before every learned one, the learned ones at once, so that
    they hear the former in the same slot, then the other fixed ones. Else all at once.
    """
    module = import_module(_MODULES[scenario.name]) if scenario.name in _MODULES else None
    order: Sequence[str] = getattr(module, "ORDER", ())
    if not order:
        return [[role for role in scenario.roles if role in learned or role in fixed]]
    first = next((i for i, role in enumerate(order) if role in learned), 0)
    together = [[r for r in scenario.roles if r in learned]] if learned else []
    before, after = ([[role] for role in part if role in fixed] for part in (order[:first], order[first:]))
    return [*before, *together, *after]


def make_controller(scenario: Scenario, role: str, name: str) -> Controller:
    """A fresh controller of one role by name.

    Raises:
        ValueError: unknown role or controller; the message lists the known ones.
    """
    known = role_controllers(scenario.name)
    if role not in known:
        raise ValueError(unknown_name("role", role, known))
    if name not in known[role]:
        raise ValueError(unknown_name(f"controller of role '{role}'", name, known[role]))
    return known[role][name](scenario)


def message_entries(scenario: Scenario, controllers: Mapping[str, str]) -> dict[str, int]:
    """Role -> entries that messages of the named controllers (role -> name) add to each of its rows."""
    entries = dict.fromkeys(scenario.roles, 0)
    for role, name in controllers.items():
        controller = make_controller(scenario, role, name)
        controller.reset(scenario, 1)  # some know only now whom they tell how much
        for receiver, size in controller.messages.items():
            entries[receiver] += size
    return entries


def make_policy(scenario: Scenario, name: str) -> Policy:
    """A fresh policy by name.

    Raises:
        ValueError: unknown controller; the message lists the known ones.
    """
    known = controllers(scenario.name)
    if name not in known:
        raise ValueError(unknown_name("controller", name, known))
    return known[name].build(scenario)
