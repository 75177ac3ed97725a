"""What a controller's name means: `compare --controllers a,b`, `fixed` and `imitate` of a training run.

A name is one of the scenario's playbook, "module:Name" or "path/to/file.py:Name", or a team of parts such as
"device=mine:HalfSpeed+server=parametric_q", each a name or a target of one role.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgemarl.agents.api import Announcement, CentralController, Controller, Policy, Team
from edgemarl.agents.playbook import Entry, Playbook
from edgemarl.agents.uniform import uniform_team
from edgemarl.envs.config import unknown_name
from edgemarl.envs.registry import scenario_class
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.targets import is_target, load_target

GROUP = "edgemarl.controllers"
"""Entry points of other packages: "SCENARIO/NAME" = "module:Name"; a name of `*` for all scenarios."""
SHIPPED = "edgemarl.envs.scenarios."


def playbook_of(scenario: str | Scenario) -> Playbook:
    """Who can play a scenario: its own playbook, and controllers of installed packages.

    Args:
        scenario: the scenario, or what names it (`edgemarl.envs.registry.scenario_class`).

    Raises:
        ValueError: unknown scenario.
    """
    return _playbook(scenario_class(scenario) if isinstance(scenario, str) else type(scenario))


@cache
def _playbook(scenario: type[Scenario]) -> Playbook:
    target = scenario.playbook
    if not target and scenario.__module__.startswith(SHIPPED):
        target = f"edgemarl.agents.{scenario.name}.playbook:PLAYBOOK"
    found = load_target(target, "playbook") if target else Playbook()
    if not isinstance(found, Playbook):
        raise ValueError(f"playbook '{target}' of scenario '{scenario.name}' is no edgemarl.agents.Playbook")
    further = {name: _installed_entry(entry) for name, entry in _installed(scenario.name).items()}
    uniform = Entry(uniform_team, "raw actions drawn uniformly from the action spaces of all agents", "baseline")
    first = {name: found.controllers[name] for name in ("random",) if name in found.controllers}
    return replace(found, controllers={**further, **first, "uniform": uniform, **found.controllers})


def _installed(scenario: str) -> dict[str, EntryPoint]:
    """Name -> controller that another package brings for a scenario."""
    found = {}
    for entry in entry_points(group=GROUP):
        where, slash, name = entry.name.partition("/")
        if slash and where in (scenario, "*"):
            found[name] = entry
    return found


def _installed_entry(entry: EntryPoint) -> Entry:
    name = entry.name.partition("/")[2]
    return Entry(lambda scenario: _policy_of(entry.value, scenario, name), f"of {entry.value}", "baseline")


def make_policy(scenario: Scenario, name: str) -> Policy:
    """A fresh policy for the whole network.

    Args:
        scenario: what it plays.
        name: a name of the playbook; a target; parts of a team as "role=NAME+role=NAME", where roles that are left out
            are played by the playbook's partners.

    Raises:
        ValueError: unknown controller, the message lists the known ones; a target that is none.
    """
    known = playbook_of(scenario).controllers
    if name in known:
        return known[name].build(scenario)
    if is_part_list(name):
        parts = [part.partition("=") for part in name.split("+")]
        return _team(scenario, name, {role: make_controller(scenario, role, chosen) for role, _, chosen in parts})
    if is_target(name):
        return _policy_of(name, scenario, name.rpartition(":")[2])
    raise ValueError(unknown_name("controller", name, known))


def is_part_list(name: str) -> bool:
    """Whether a name lists parts of a team, "role=NAME+role=NAME"."""
    return all("=" in part for part in name.split("+"))


def is_controller(scenario: Scenario, name: str) -> bool:
    """Whether `make_policy` knows a name; what a target holds is not looked at."""
    return name in playbook_of(scenario).controllers or is_part_list(name) or is_target(name)


def targets_in(name: str) -> list[str]:
    """The "module:Name" and "file.py:Name" of a controller's name."""
    parts = [part.partition("=")[2] for part in name.split("+")] if is_part_list(name) else [name]
    return [part for part in parts if is_target(part)]


def make_controller(scenario: Scenario, role: str, name: str) -> Controller:
    """A fresh controller of one role.

    Args:
        scenario: what it plays.
        role: which role.
        name: a name of the playbook's `roles`, or a target.

    Raises:
        ValueError: unknown role or controller; the message lists the known ones.
    """
    if role not in scenario.roles:
        raise ValueError(unknown_name("role", role, scenario.roles))
    known = playbook_of(scenario).roles.get(role, {})
    if name in known:
        return known[name](scenario)
    if not is_target(name):
        raise ValueError(unknown_name(f"controller of role '{role}'", name, known))
    found = _made(load_target(name, "controller"), name, scenario)
    if not isinstance(found, Controller):
        raise ValueError(f"controller '{name}' of role '{role}' is a {type(found).__name__}, must be a Controller")
    return found


def _policy_of(target: str, scenario: Scenario, name: str) -> Policy:
    """The policy that a class, a function or a role's controller of the user's makes."""
    found = _made(load_target(target, "controller"), target, scenario)
    if isinstance(found, Mapping):
        return _team(scenario, name, dict(found))
    if isinstance(found, Controller):
        role = found.role or next(iter(scenario.roles))
        return _team(scenario, name, {role: found})
    if isinstance(found, CentralController) and not hasattr(found, "name"):
        found.name = name
    missing = [need for need in ("name", "reset", "decide", "feedback", "message_bytes") if not hasattr(found, need)]
    if missing:
        raise ValueError(
            f"controller '{target}' is a {type(found).__name__} without '{missing[0]}': must be a Controller of one "
            "role, a mapping of roles to such, or a policy of the whole network (edgemarl.agents.Policy)"
        )
    policy: Policy = found
    return policy


def _made(found: Any, target: str, scenario: Scenario) -> Any:
    """What a class or function makes: called with the scenario if it takes an argument, else without."""
    if not callable(found):
        return found
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:  # some compiled classes tell nothing
        parameters = ()  # type: ignore[assignment]
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) > 1:
        names = ", ".join(p.name for p in required)
        raise ValueError(f"controller '{target}' needs {names}: must take the scenario or nothing")
    return found(scenario) if required else found()


def _team(scenario: Scenario, name: str, given: Mapping[str, Controller]) -> Team:
    """The given controllers with the playbook's partners for the other roles."""
    book = playbook_of(scenario)
    members = dict(given)
    for role in scenario.roles:
        if role not in members:
            if role not in book.partners:
                raise ValueError(
                    f"controller '{name}' plays {', '.join(given)}; role '{role}' needs one too: "
                    f"{'+'.join(f'{r}=NAME' for r in scenario.roles)}"
                )
            members[role] = make_controller(scenario, role, book.partners[role])
    order = acting_order(scenario, (), list(scenario.roles))
    return Team(name, {role: members[role] for role in scenario.roles}, order)


def message_entries(scenario: Scenario, controllers: Mapping[str, str]) -> dict[str, int]:
    """Role -> entries that messages of the named controllers (role -> name) add to each of its rows."""
    entries = dict.fromkeys(scenario.roles, 0)
    for role, name in controllers.items():
        controller = make_controller(scenario, role, name)
        controller.reset(scenario, 1)  # some know only now whom they tell how much
        for receiver, size in controller.messages.items():
            entries[receiver] += size
    return entries


def announcements(scenario: Scenario, learned: Collection[str], fixed: Collection[str]) -> dict[str, Announcement]:
    """Learned role -> what its agents tell the fixed roles of their actions, where the scenario has it so."""
    known = playbook_of(scenario).announcements
    return {role: known[role](scenario).to(fixed) for role in learned if role in known}


def acting_order(scenario: Scenario, learned: Collection[str], fixed: Collection[str]) -> list[list[str]]:
    """Groups of roles that act one after another.

    Where the scenario has an order: fixed roles that come before every learned one, the learned ones at once, so that
    they hear the former in the same slot, then the other fixed ones. Else all at once.
    """
    order = playbook_of(scenario).order
    if not order:
        return [[role for role in scenario.roles if role in learned or role in fixed]]
    first = next((i for i, role in enumerate(order) if role in learned), 0)
    together = [[r for r in scenario.roles if r in learned]] if learned else []
    before, after = ([[role] for role in part if role in fixed] for part in (order[:first], order[first:]))
    return [*before, *together, *after]


def pricing(scenario: Scenario) -> Any:
    """What the scenario tells a price-conditioned learner.

    Raises:
        ValueError: the scenario has nothing to price.
    """
    price = playbook_of(scenario).pricing
    if price is None:
        raise ValueError(
            f"priced_dqn needs a scenario that can be priced; the playbook of {scenario.name} has no pricing"
        )
    return price(scenario)
