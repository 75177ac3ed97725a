"""What a training run of an earlier version left unsaid: fields whose defaults were others in its time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.capabilities import CENTRAL
from edgemarl.envs.registry import scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario


def earlier_defaults(overrides: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    """Earlier defaults of the fields that a run did not give.

    Args:
        overrides: config fields that the run gave.
        scenario: name of its scenario; of one without a name here no code is loaded.
    """
    if scenario not in scenario_names():
        return {}
    return {n: value for n, value in scenario_class(scenario).earlier_defaults.items() if n not in overrides}


def with_earlier_defaults(overrides: Mapping[str, Any], scenario: str, role: str, spec: NetworkSpec) -> dict[str, Any]:
    """The config fields of a run with the defaults of its time, where only these give actions as its network does.

    Args:
        overrides: config fields that the run gave.
        scenario: name of its scenario.
        role: role whose agents the network controls, or `CENTRAL`.
        spec: of the network.
    """
    given = dict(overrides)
    unsaid = earlier_defaults(given, scenario)
    if not unsaid or not spec.low:
        return given
    earlier, cls = {**unsaid, **given}, scenario_class(scenario)
    try:
        now, then = (_entries(cls(cls.config_type(**fields)), role) for fields in (given, earlier))
    except ValueError:
        return given  # whoever makes the scenario says what is wrong
    return earlier if len(spec.low) == then != now else given


def _entries(scenario: Scenario, role: str) -> int:
    """Numbers of an action; 0 for a role that decides nothing."""
    if role == CENTRAL:
        return math.prod(scenario.central_space.shape or (0,))
    return math.prod(scenario.roles[role].action_space.shape or (0,)) if role in scenario.roles else 0
