"""Who can play a scenario: what the folder of a scenario says of its controllers, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgemarl.agents.api import Announcement, Controller, Policy
from edgemarl.envs.arrays import Array
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


class NoBound(ValueError):
    """Why there is no bound: the network, the warm-up or the trace is outside what its proof covers."""


@dataclass(frozen=True)
class Bound:
    """A certified lower bound of a scenario's cost metric, not divided by `Scenario.cost_divisor`.

    Attributes:
        values: (B,), one for each cell of a trace: what the mean of the metric after warm-up cannot lie below.
        each_trace: True if that holds on every single trace, False if in expectation over the traces that have this
            cell's per-episode fields, so that a mean over cells lies below by statistical error alone.
        binds: which controllers, and what of them, in one sentence.
        discounted: (B,) the same for the discounted sum from the first slot on, where it was asked for.
    """

    values: Array
    each_trace: bool
    binds: str
    discounted: Array | None = None


BoundBuilder = Callable[..., Bound]
"""(scenario, trace, warmup, discounted=False) -> `Bound`; raises `NoBound`."""


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
        bound: what no controller can do better than: (scenario, trace, warmup, discounted) -> `Bound`, or `NoBound`.
        bound_each_trace: the bound holds on every single trace (`Bound.each_trace`), so also on a measured one.
        bound_devices: devices, in all networks of a comparison together, for which its bound is computed; 0: all.
        slack: share of its cost by which another controller may lie below the reference, in the mean over traces.
        slack_reason: why it may.
    """

    controllers: Mapping[str, Entry] = field(default_factory=dict)
    reference: str = ""
    roles: Mapping[str, Mapping[str, RoleBuilder]] = field(default_factory=dict)
    partners: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    announcements: Mapping[str, Callable[[Scenario], Announcement]] = field(default_factory=dict)
    pricing: Callable[[Scenario], Any] | None = None
    at_size: Callable[[Any, int], Any] | None = None
    bound: BoundBuilder | None = None
    bound_each_trace: bool = True
    bound_devices: int = 0
    slack: float = 0.0
    slack_reason: str = ""
