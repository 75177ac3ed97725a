"""Raw actions as agents or outside code give them, checked against their space."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL
from edgemarl.envs.config import named_choices, quoted

if TYPE_CHECKING:
    from edgemarl.envs.scenario import Scenario


class ActionShapeError(ValueError):
    """Actions of a role that have another shape than its action space."""

    def __init__(self, message: str, role: str) -> None:
        super().__init__(message)
        self.role = role


def checked_actions(role: str, count: int, space: gymnasium.Space[Any], actions: Any, cells: int) -> Array:
    """Raw actions of one role as an array (B, n, ...) inside its space; finite numbers outside a Box are clipped.

    Args:
        role: name for messages.
        count: agents n; 0 for a joint action without an agent axis.
        space: Box, Discrete or MultiDiscrete of one agent.
        actions: array-like (B, n, *space.shape).
        cells: B.

    Raises:
        ValueError: wrong shape (`ActionShapeError`), NaN, infinity, not a number, an integer outside the space.
    """
    try:
        values = np.asarray(actions)
    except ValueError:  # rows of different lengths
        raise ValueError(f"actions of {role} must have rows of one length") from None
    want = (cells, count, *(space.shape or ())) if count else (cells, *(space.shape or ()))
    if values.dtype.kind not in "fiub":
        raise ValueError(f"actions of {role} must be numbers, got dtype {values.dtype}")
    if values.shape != want:
        raise ActionShapeError(
            f"actions of {role} have shape {values.shape}, must be (cells, agents, ...) = {want}", role
        )
    if isinstance(space, gymnasium.spaces.Box):
        values = values.astype(np.float64, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(f"actions of {role} hold NaN or infinity; every entry must be a finite number")
        result: Array = np.clip(values, space.low, space.high)
        return result
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.floor(values)).any()):
        raise ValueError(f"actions of {role} must be integers, got fractions, NaN or infinity")
    low: Any
    high: Any
    if isinstance(space, gymnasium.spaces.Discrete):
        low, high = int(space.start), int(space.start) + int(space.n)
    elif isinstance(space, gymnasium.spaces.MultiDiscrete):
        low = np.asarray(space.start, np.int64)
        high = low + np.asarray(space.nvec, np.int64)
    else:
        raise ValueError(f"actions of {role}: spaces of type {type(space).__name__} are not supported")
    if (values < low).any() or (values >= high).any():
        raise ValueError(f"actions of {role} hold {values.min()}..{values.max()}, outside {space}")
    return values.astype(np.int64, copy=False)


def check_given(actions: Any, roles: Iterable[str]) -> None:
    """Refuse raw actions that are no mapping of roles, or that lack one of these roles."""
    if not isinstance(actions, Mapping):
        raise ValueError(f"actions = {quoted(actions)} is not legal: must map roles to arrays (cells, agents, ...)")
    for role in roles:
        if role not in actions:
            raise ValueError(f"actions of role '{role}' are missing")


def neutral_action(space: Any, lead: tuple[int, ...]) -> Array:
    """Zeros of a space's shape (its lowest entry where 0 is outside), for a role whose decisions are given."""
    shape = lead + tuple(space.shape or ())
    if hasattr(space, "low"):
        return np.broadcast_to(np.clip(0.0, space.low, space.high), shape)
    return np.broadcast_to(np.asarray(space.start, np.int64), shape)


def form_hint(scenario: Scenario, role: str) -> str:
    """Config fields on which the form of a role's actions depends, with their values here; empty if there is none."""
    others = {name: _other_forms(scenario, role, name) for name in named_choices(type(scenario.config))}
    fields = {name: choices for name, choices in others.items() if choices}
    if not fields:
        return ""
    here = ", ".join(f"{name}={getattr(scenario.config, name)}" for name in fields)
    other = " or ".join(f"--set {name}={choice}" for name, choices in fields.items() for choice in choices)
    earlier = {name: value for name, value in scenario.earlier_defaults.items() if name in fields}
    changed = " ".join(f"--set {n}={value}" for n, value in earlier.items() if getattr(scenario.config, n) != value)
    old = f"; from before EdgeMARL 0.2: {changed}" if changed else ""
    return f" ({here} here; a controller written for another form needs {other}{old})"


def _other_forms(scenario: Scenario, role: str, field: str) -> list[str]:
    """Choices of a config field that give the role, or all agents together, another action space."""
    space, found = _space(scenario, role), []
    for choice in named_choices(type(scenario.config))[field]:
        try:
            other = type(scenario)(dataclasses.replace(scenario.config, **{field: choice}))
        except ValueError:  # no legal network with the other fields as they are
            continue
        if space is not None and _space(other, role) not in (None, space):
            found.append(str(choice))
    return found


def _space(scenario: Scenario, role: str) -> Any:
    """The action space of a role, or of all agents together; None for a role that the scenario has not."""
    if role == CENTRAL:
        return scenario.central_space
    return scenario.roles[role].action_space if role in scenario.roles else None
