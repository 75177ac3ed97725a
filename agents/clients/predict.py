"""Any function of observations as a controller: the common form of policies that other libraries made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from edgemarl.agents.api import Act, Announcing, CentralController
from edgemarl.envs.actions import form_hint
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL, masks_of
from edgemarl.envs.joint import JointAction
from edgemarl.envs.parallel import ActionUnits
from edgemarl.envs.scenario import Role, Scenario
from edgemarl.envs.spaces import from_unit, unit_space

Predict = Callable[[Array, Array | None], Any]
"""Rows (B, n, d) float32 of a role, or states (B, D) for central control, and their masks or None -> actions."""


class PredictController(Announcing):
    """All agents of a role act by one function of their rows.

    Args:
        predict: rows (B, n, d) float32 and masks (B, n, choices) or None -> actions (B, n, ...) or (B n, ...); for
            Discrete actions also one number per choice, of which the largest counts.
        what: what the function is, for messages.
        role: the role, where a team needs to be told.
        actions: "unit" if every entry of a Box action lies in [-1, 1], "own" for the role's space.
    """

    masked = True

    def __init__(self, predict: Predict, what: str = "policy", role: str = "", actions: ActionUnits = "own") -> None:
        self.predict, self.what, self.role, self.units = predict, what, role, actions

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self._role = self.role or next(iter(scenario.roles))
        self._space = scenario.roles[self._role].action_space

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return self._acted(observations, None)

    def act_masked(self, observations: Array, mask: Array, rng: np.random.Generator) -> Act:
        return self._acted(observations, mask)

    def _acted(self, observations: Array, mask: Array | None) -> Act:
        rows = np.ascontiguousarray(observations, np.float32)
        answer = called(self.predict, self.what, rows, mask)
        actions = as_actions(
            answer, self._space, rows.shape[:2], self.what, partial(form_hint, self.scenario, self._role)
        )
        return self._told(from_unit(self._space, actions) if self.units == "unit" else actions)


class PredictCentral(CentralController):
    """One function of the global state decides the joint action.

    Args:
        predict: states (B, D) float32 and masks (B, choices) or None -> actions (B, ...) of `central_space`.
        name: name in tables.
        actions: "unit" ([-1, 1] for every entry of a Box, as `CentralEnv` has it by default) or "own".
    """

    def __init__(self, predict: Predict, name: str = "central", actions: ActionUnits = "unit") -> None:
        self.predict, self.name, self.units = predict, name, actions

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(scenario, trace)
        self._joint = JointAction(scenario, unit=self.units == "unit")

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        states = np.ascontiguousarray(self.scenario.global_state(state, exogenous), np.float32)
        choices = not isinstance(self._joint.space, gymnasium.spaces.Box)
        known = choices and bool(masks_of(self.scenario, state, exogenous))
        mask = self._joint.masks(state, exogenous, len(states)) if known else None
        answer = called(self.predict, self.name, states, mask)
        hint = partial(form_hint, self.scenario, CENTRAL)
        actions = as_actions(answer, self._joint.space, states.shape[:1], self.name, hint)
        return self._joint.decode(state, actions, exogenous)


def called(predict: Predict, what: str, rows: Array, mask: Array | None) -> Any:
    """What a function of others gives; where it fails, a line that says so."""
    try:
        return predict(rows, mask)
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{what} does not take rows of shape {rows.shape}: {type(error).__name__}: {reason}"
        ) from error


def as_actions(
    answer: Any, space: gymnasium.Space[Any], lead: tuple[int, ...], what: str, hint: Callable[[], str] = str
) -> Array:
    """Actions (*lead, *space.shape) from what a policy gave: also flat, or as one number per choice.

    Args:
        answer: what it gave.
        space: of one action.
        lead: axes before it.
        what: what gave it, for messages.
        hint: what to add to a message about the shape.

    Raises:
        ValueError: another number of entries.
    """
    values = np.asarray(answer)
    shape = (*lead, *(space.shape or ()))
    agents = int(np.prod(lead))
    if values.size == int(np.prod(shape)):
        return values.reshape(shape)
    if isinstance(space, gymnasium.spaces.Discrete) and values.size == agents * int(space.n):
        chosen: Array = values.reshape(*lead, int(space.n)).argmax(axis=-1) + int(space.start)
        return chosen
    raise ValueError(f"{what} gave actions of shape {values.shape}; the space {space} needs {shape}{hint()}")


def fitting(
    scenario: Scenario, observation_shape: tuple[int, ...] | None, action_space: gymnasium.Space[Any] | None, what: str
) -> str | None:
    """The role whose rows and actions a policy takes, or None for central control.

    Args:
        observation_shape: of one observation, if known.
        action_space: if known.

    Raises:
        ValueError: it fits nothing in the scenario, or more than one role.
    """
    roles = [
        name
        for name, role in scenario.roles.items()
        if _fits(observation_shape, role.observation_space.shape) and _acts(action_space, role.action_space)
    ]
    if len(roles) == 1:
        return roles[0]
    central = scenario.central_space
    if not roles and _fits(observation_shape, scenario.global_state_space.shape) and _acts(action_space, central):
        return None
    known = {name: (role.observation_space.shape, role.action_space) for name, role in scenario.roles.items()}
    known["central"] = (scenario.global_state_space.shape, central)
    seen = [name for name, (shape, _) in known.items() if observation_shape is not None and shape == observation_shape]
    hint = next((said for name in seen if (said := form_hint(scenario, name))), "")
    listed = "; ".join(f"{name}: observations {shape}, {space}" for name, (shape, space) in known.items())
    raise ValueError(
        f"{what} takes observations {observation_shape} and gives {action_space}: it fits "
        f"{' and '.join(roles) if roles else 'nothing'} in {scenario.name} ({listed}){hint}. Name the role: ROLE={what}"
    )


def units_of(action_space: gymnasium.Space[Any] | None, own: gymnasium.Space[Any]) -> ActionUnits:
    """Whether a policy's Box is [-1, 1] where the scenario's is another."""
    if isinstance(own, gymnasium.spaces.Box) and isinstance(action_space, gymnasium.spaces.Box):
        unit = unit_space(own)
        assert isinstance(unit, gymnasium.spaces.Box)
        same = np.allclose(action_space.low, unit.low) and np.allclose(action_space.high, unit.high)
        return "unit" if same else "own"
    return "own"


def role_controller(predict: Predict, what: str, role: str, played: Role, space: Any) -> PredictController:
    """The controller of a role from a function and the action space that it was trained with."""
    return PredictController(predict, what, role, units_of(space, played.action_space))


def _fits(given: tuple[int, ...] | None, own: tuple[int, ...] | None) -> bool:
    return given is None or (own is not None and tuple(given) == tuple(own))


def _acts(given: gymnasium.Space[Any] | None, own: gymnasium.Space[Any]) -> bool:
    if given is None:
        return True
    if isinstance(own, gymnasium.spaces.Discrete):
        return isinstance(given, gymnasium.spaces.Discrete) and given.n == own.n
    return isinstance(given, type(own)) and given.shape == own.shape
