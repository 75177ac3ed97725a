"""What a controller's name means: `compare --controllers a,b`, `fixed` and `imitate` of a training run.

A name is one of the scenario's playbook, "module:Name" or "path/to/file.py:Name", a policy's file (.zip, .onnx, .pt),
or a team of parts such as "device=mine:HalfSpeed+server=parametric_q", each a name, a target or a file of one role.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.api import (
    Act,
    Announcement,
    Announcing,
    CentralController,
    Controller,
    Policy,
    Team,
    check_heard,
    checked_policy,
)
from edgemarl.agents.clients.files import is_policy_file, policy_file, policy_object
from edgemarl.agents.playbook import Entry, Playbook
from edgemarl.agents.uniform import uniform_team
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import quoted, unknown_name
from edgemarl.envs.registry import scenario_class
from edgemarl.envs.scenario import Scenario, checked_scenario
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
    return _playbook(scenario_class(scenario) if isinstance(scenario, str) else type(checked_scenario(scenario)))


@cache
def _playbook(scenario: type[Scenario]) -> Playbook:
    target = scenario.playbook
    if not target and scenario.__module__.startswith(SHIPPED):
        target = f"edgemarl.agents.{scenario.name}.playbook:PLAYBOOK"
    playbook = load_target(target, "playbook") if target else Playbook()
    if not isinstance(playbook, Playbook):
        raise ValueError(f"playbook '{target}' of scenario '{scenario.name}' is no edgemarl.agents.Playbook")
    further = {name: _installed_entry(entry) for name, entry in _installed(scenario.name).items()}
    uniform = Entry(uniform_team, "raw actions drawn uniformly from the action spaces of all agents", "baseline")
    first = {name: playbook.controllers[name] for name in ("random",) if name in playbook.controllers}
    return replace(playbook, controllers={**further, **first, "uniform": uniform, **playbook.controllers})


def _installed(scenario: str) -> dict[str, EntryPoint]:
    """Name -> controller that another package brings for a scenario."""
    entries = {}
    for entry in entry_points(group=GROUP):
        where, slash, name = entry.name.partition("/")
        if slash and where in (scenario, "*"):
            entries[name] = entry
    return entries


def _installed_entry(entry: EntryPoint) -> Entry:
    name = entry.name.partition("/")[2]
    return Entry(lambda scenario: _policy_of(entry.value, scenario, name), f"of {entry.value}", "baseline")


def make_policy(scenario: Scenario, name: str) -> Policy:
    """A fresh policy for the whole network.

    Args:
        scenario: what it plays.
        name: a name of the playbook; a target; a policy's file (`edgemarl.agents.clients.files`); parts of a team as
            "role=NAME+role=NAME", where roles that are left out are played by the playbook's partners.

    Raises:
        ValueError: unknown controller, the message lists the known ones; a target that is none.
    """
    checked_scenario(scenario)
    _check_name("controller", name)
    known = playbook_of(scenario).controllers
    if name in known:
        return known[name].build(scenario)
    if is_policy_file(name) and (Path(name).is_file() or not is_part_list(name)):
        return policy_of(scenario, policy_file(name, scenario), name)
    if is_part_list(name):
        parts = [part.partition("=") for part in name.split("+")]
        return _team(scenario, name, {role: make_controller(scenario, role, chosen) for role, _, chosen in parts})
    if is_target(name):
        return _policy_of(name, scenario, name.rpartition(":")[2])
    raise ValueError(unknown_name("controller", name, known, f"edgemarl scenarios {scenario.name}"))


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str):
        raise ValueError(
            f"{what} = {quoted(name)} is not legal: must be a name; edgemarl.agents.policy_of takes objects"
        )


def is_part_list(name: str) -> bool:
    """Whether a name lists parts of a team, "role=NAME+role=NAME"."""
    return all("=" in part for part in name.split("+"))


def is_controller(scenario: Scenario, name: str) -> bool:
    """Whether `make_policy` knows a name; what a target holds is not looked at."""
    return name in playbook_of(scenario).controllers or is_part_list(name) or is_target(name) or is_policy_file(name)


def targets_in(name: str) -> list[str]:
    """The "module:Name" and "file.py:Name" of a controller's name."""
    return [part for part in _parts_of(name) if is_target(part)]


def files_in(name: str) -> list[Path]:
    """The files of policies, and of runs that play a role, in a controller's name.

    Hidden ones are what a run that trains is just writing.
    """
    parts = [Path(part) for part in _parts_of(name)]
    return [
        file
        for part in parts
        for file in (sorted(part.glob("policy/[!.]*.pt")) if part.is_dir() else [part])
        if file.is_file()
    ]


def _parts_of(name: str) -> list[str]:
    if is_part_list(name) and not Path(name).is_file():
        return [part.partition("=")[2] for part in name.split("+")]
    return [name]


def make_controller(scenario: Scenario, role: str, name: str) -> Controller:
    """A fresh controller of one role.

    Args:
        scenario: what it plays.
        role: which role.
        name: a name of the playbook's `roles`, a target, a policy's file, or the folder of a training run.

    Raises:
        ValueError: unknown role or controller; the message lists the known ones.
    """
    checked_scenario(scenario)
    if not isinstance(role, str) or role not in scenario.roles:
        raise ValueError(unknown_name("role", role, scenario.roles))
    _check_name(f"controller of role '{role}'", name)
    known = playbook_of(scenario).roles.get(role, {})
    if name in known:
        return known[name](scenario)
    of_run = Path(name) / "policy" / f"{role}.pt"
    if is_policy_file(name) or of_run.is_file():
        made = policy_file(of_run if of_run.is_file() else name, scenario, role)
        if isinstance(made, CentralController) or role not in made:
            raise ValueError(f"{name} does not play role '{role}' alone")
        return made[role]
    if not is_target(name):
        raise ValueError(unknown_name(f"controller of role '{role}'", name, known))
    controller = _made(load_target(name, "controller"), name, scenario)
    if not isinstance(controller, Controller):
        raise ValueError(f"controller '{name}' of role '{role}' is a {type(controller).__name__}, must be a Controller")
    return controller


def _policy_of(target: str, scenario: Scenario, name: str) -> Policy:
    """The policy that a class, a function or a role's controller of the user's makes."""
    return policy_of(scenario, load_target(target, "controller"), name, target)


def policy_of(scenario: Scenario, given: Any, name: str, what: str = "") -> Policy:
    """The policy that something given in Python is.

    Args:
        scenario: what it plays.
        given: a name as of `make_policy`; a policy; a `Controller` of one role; role -> controller or its name; a
            `CentralController`; a model of Stable-Baselines3 or an actor of TorchRL; a function (observations, rng) ->
            actions of the first role; or a class or function that makes one of these from the scenario, or of nothing.
        name: its name in tables.
        what: how messages call it; by default by its name.

    Raises:
        ValueError: it is none of these, or does not fit the scenario.
    """
    checked_scenario(scenario)
    if isinstance(given, str):
        return make_policy(scenario, given)
    what = what or name
    of_library = policy_object(given, scenario, what)
    given = _made(given, what, scenario) if of_library is None else of_library
    if isinstance(given, Mapping):
        return _team(
            scenario, name, {r: make_controller(scenario, r, c) if isinstance(c, str) else c for r, c in given.items()}
        )
    if isinstance(given, Controller):
        role = given.role or next(iter(scenario.roles))
        return _team(scenario, name, {role: given})
    if isinstance(given, CentralController) and not hasattr(given, "name"):
        given.name = name
    return checked_policy(given, f"controller '{what}'")


class FunctionController(Controller):
    """A function (observations, rng) -> raw actions (B, n, ...) or an `Act`, as of `Controller.act`."""

    def __init__(self, function: Callable[[Array, np.random.Generator], Any]) -> None:
        self.function = function

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        answer = self.function(observations, rng)
        return answer if isinstance(answer, Act) else Act(np.asarray(answer))


def _made(given: Any, target: str, scenario: Scenario) -> Any:
    """What a class or function makes: called with the scenario if it takes an argument, else without.

    A function of two arguments is a controller itself.
    """
    if not callable(given):
        return given
    try:
        parameters = inspect.signature(given).parameters.values()
    except ValueError:  # some compiled classes tell nothing
        parameters = ()  # type: ignore[assignment]
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) == 2 and inspect.isfunction(given):
        return FunctionController(given)
    if len(required) > 1:
        names = ", ".join(p.name for p in required)
        raise ValueError(f"controller '{target}' needs {names}: must take the scenario or nothing")
    if inspect.isabstract(given):
        lacking = ", ".join(sorted(given.__abstractmethods__))
        raise ValueError(f"controller '{target}' is a class without {lacking}, which a controller needs")
    return given(scenario) if required else given()


def _team(scenario: Scenario, name: str, given: Mapping[str, Controller]) -> Team:
    """The given controllers with the playbook's partners for the other roles."""
    book = playbook_of(scenario)
    members = dict(given)
    for role, member in members.items():
        if role not in scenario.roles:
            raise ValueError(f"controller '{name}': {unknown_name('role', role, scenario.roles)}")
        if not isinstance(member, Controller):
            raise ValueError(f"controller '{name}' has a {type(member).__name__} for role '{role}', needs a Controller")
    for role in scenario.roles:
        if role not in members:
            if role not in book.partners:
                raise ValueError(
                    f"controller '{name}' plays {', '.join(given)}; role '{role}' needs one too: "
                    f"{'+'.join(f'{r}=NAME' for r in scenario.roles)}"
                )
            members[role] = make_controller(scenario, role, book.partners[role])
    learned = [role for role in scenario.roles if isinstance(members[role], Announcing)]
    fixed = [role for role in scenario.roles if role not in learned]
    for role, announcement in announcements(scenario, learned, fixed).items():
        learner = members[role]
        assert isinstance(learner, Announcing)
        learner.announce(announcement)
    order = acting_order(scenario, learned, fixed)
    return Team(name, {role: members[role] for role in scenario.roles}, order)


def message_entries(scenario: Scenario, controllers: Mapping[str, str]) -> dict[str, int]:
    """Role -> entries that messages of the named controllers (role -> name) add to each of its rows."""
    return entries_told(scenario, {role: make_controller(scenario, role, name) for role, name in controllers.items()})


def entries_told(scenario: Scenario, controllers: Mapping[str, Controller]) -> dict[str, int]:
    """Role -> entries that messages of controllers (role -> fresh controller) add to each of its rows."""
    entries = dict.fromkeys(scenario.roles, 0)
    for controller in controllers.values():
        controller.reset(scenario, 1)  # some know only now whom they tell how much
        for receiver, size in controller.messages.items():
            entries[receiver] += size
    return entries


def check_fixed(scenario: Scenario, fixed: Mapping[str, str]) -> None:
    """Refuse named controllers of roles (role -> name) that wait for what the learned roles beside them do not tell.

    Raises:
        ValueError: unknown role or controller, a message that nobody sends.
    """
    controllers = {role: make_controller(scenario, role, name) for role, name in fixed.items()}
    for controller in controllers.values():
        controller.reset(scenario, 1)  # some know only now what they tell and hear
    learned = [role for role in scenario.roles if role not in fixed]
    told = {role: announcement.messages for role, announcement in announcements(scenario, learned, fixed).items()}
    check_heard(controllers, {**told, **{role: controller.messages for role, controller in controllers.items()}})


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
