"""Who can play a scenario: what the folder of a scenario says of its controllers, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgemarl.agents.api import Announcement, Controller, Policy
from edgemarl.envs.scenario import Scenario

Builder = Callable[[Scenario], Policy]
RoleBuilder = Callable[[Scenario], Controller]


@dataclass(frozen=True)
class Entry:
    """A named controller of a scenario.

    Attributes:
        build: makes a fresh policy.
        meaning: one line for the list of controllers.
        kind: a rule ("baseline"), one that learns ("learned"), or a computed near-optimum ("reference").
    """

    build: Builder
    meaning: str
    kind: Literal["baseline", "learned", "reference"]


@dataclass(frozen=True)
class Playbook:
    """Who can play a scenario, and how its roles play together; `agents/<scenario>/playbook.py` holds one.

    Attributes:
        controllers: name -> controller of the whole network.
        reference: name of the controller against which gaps are measured, the nearest to the optimum.
        roles: role -> name -> builder of that role's part, for teams in which other roles learn.
        partners: role -> name in `roles` that plays it beside a controller of other roles alone.
        order: roles that act one after another within a slot where some play by name and others are learned.
        announcements: role -> what learned agents of the role tell of their actions.
        pricing: what a price-conditioned learner (`priced_dqn`) needs to know of the scenario, if it can be priced.
        at_size: a config and a number of devices -> the config with so many devices and the resources that they need.
    """

    controllers: Mapping[str, Entry] = field(default_factory=dict)
    reference: str = ""
    roles: Mapping[str, Mapping[str, RoleBuilder]] = field(default_factory=dict)
    partners: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    announcements: Mapping[str, Callable[[Scenario], Announcement]] = field(default_factory=dict)
    pricing: Callable[[Scenario], Any] | None = None
    at_size: Callable[[Any, int], Any] | None = None
