"""What only some scenarios can do: base classes beside `Scenario`, asked for with `isinstance`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.scenario import Scenario

if TYPE_CHECKING:
    import gymnasium

T = TypeVar("T")


CENTRAL = "central"
"""Stands in place of a role where one controller decides for all from the global state."""


class Masked(ABC):
    """Not every choice of an agent makes sense in every slot."""

    @abstractmethod
    def action_masks(self, state: Any, exogenous: Any) -> dict[str, Array]:
        """Role -> (B, n, choices) bool of the choices that make sense, for roles with a Discrete space that need it."""

    @property
    def constant_masks(self) -> dict[str, Array]:
        """Role -> (n, choices) of `action_masks` where it is the same in every slot and cell; by default of no role."""
        return {}


@dataclass(frozen=True)
class RowEntry:
    """One number of a row or of a raw action.

    Attributes:
        name: of the quantity, with the agent that it is of where a row holds several.
        unit: SI unit of the quantity, or "-".
        scale: quantity that an entry of 1 stands for, in `unit`: quantity = entry x scale.
        meaning: what the name does not say.
    """

    name: str
    unit: str = "-"
    scale: float = 1.0
    meaning: str = ""


class Described(ABC):
    """It says what the numbers of rows and raw actions are, for whoever feeds a policy outside of this project."""

    @property
    @abstractmethod
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        """Role -> the entries of its row, in order; `CENTRAL` -> those of the global state."""

    @property
    @abstractmethod
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        """Role -> the entries of its raw action, in order; `CENTRAL` -> those of the joint action."""


class Counterfactual(ABC):
    """It can say exactly what every choice of an agent would have paid.

    Learners take the difference as the agent's own credit (`algorithm="counterfactual"`).
    """

    counterfactual_roles: ClassVar[tuple[str, ...]]
    """Roles with a Discrete space for which `choice_rewards` is given."""

    @abstractmethod
    def choice_rewards(self, state: Any, decisions: Any, exogenous: Any) -> dict[str, Array]:
        """Role -> (B, n, choices): the group's reward under each choice of an agent, all others' decisions fixed.

        RowEntry a is what `step` would have paid the agent's group had it alone chosen a.
        """


class Foreseeing(ABC):
    """It can say what each slot of a trace brings an agent, whatever anybody decides.

    A critic that sees the slots to come in training takes the noise of arrivals and fading out of the advantages
    (`foresight`); a policy never sees them.
    """

    foreseen_roles: ClassVar[tuple[str, ...]]
    """Roles for which `outlook` is given."""

    @abstractmethod
    def outlook(self, trace: Any) -> dict[str, Array]:
        """Role -> (T+1, B, n, e) of a trace."""


class HybridActions(ABC):
    """The joint action of one controller has named discrete and continuous parts."""

    @property
    @abstractmethod
    def hybrid_space(self) -> gymnasium.spaces.Dict:
        """The joint action by part."""

    @abstractmethod
    def decode_hybrid(self, state: Any, action: Mapping[str, Array], exogenous: Any) -> Any:
        """Joint action by part of `hybrid_space`, each (B, ...) -> the scenario's decisions."""


@dataclass(frozen=True)
class ActionGroups:
    """Groups of a joint action and of the global state, such as gateways with their devices, all of one size.

    The global state is `group_entries` blocks of one number per group, then `member_entries` blocks of one per member,
    group by group.

    Attributes:
        count: groups G.
        members: of a group, M.
        member_parts: parts of `hybrid_space` with an entry per member; the others have one per group.
        group_entries, member_entries: numbers of the global state of each.
        levels: of every member's number, how many values it takes on an even grid from 0 to 1; 0: any.
    """

    count: int
    members: int
    member_parts: tuple[str, ...]
    group_entries: int = 1
    member_entries: int = 1
    levels: tuple[int, ...] = (0,)


class GroupedActions(HybridActions):
    """The joint action and the global state divide into like groups, and the objective is a sum over them."""

    @property
    @abstractmethod
    def action_groups(self) -> ActionGroups:
        """The groups; `ValueError` where the config makes them unequal."""

    @abstractmethod
    def group_rewards(self, step: Any) -> Array:
        """(B, G) parts of minus the sum of the ledger."""


class Grouped(ABC):
    """Consecutive agents of a role form groups, such as a gateway's devices, that share one reward ("group")."""

    @property
    @abstractmethod
    def group_sizes(self) -> dict[str, int]:
        """Role -> agents of a group."""


@dataclass(frozen=True)
class Portrait:
    """What a picture of the cell shows of the agents of one role.

    Attributes:
        level: (B, n) what colours an agent, usually its backlog, in `level_label`'s unit.
        level_label: name and unit, such as "queue [task]".
        level_full: level of the strongest colour.
        link: (B, n) strength of the agent's uplink from 0 (none) to 1, or None if it has none.
        link_label: what makes a link strong.
        distance: (B, n) from 0 (at the centre) to 1 (at the edge), or None for a plain ring.
    """

    level: Array
    level_label: str
    level_full: float
    link: Array | None = None
    link_label: str = ""
    distance: Array | None = None


class Portrayed(ABC):
    """It says what a picture of a cell shows of its agents."""

    @abstractmethod
    def portrait(self, state: Any, exogenous: Any) -> dict[str, Portrait]:
        """Role -> what a picture shows of its agents."""


def masks_of(scenario: Scenario, state: Any, exogenous: Any) -> dict[str, Array]:
    """`Masked.action_masks`, or nothing where every choice makes sense."""
    return scenario.action_masks(state, exogenous) if isinstance(scenario, Masked) else {}


def row_entries(scenario: Scenario, role: str) -> tuple[RowEntry, ...]:
    """Entries of a role's row, or of the global state (`CENTRAL`); numbered where the scenario does not describe them.

    Raises:
        ValueError: a role that decides nothing.
    """
    if isinstance(scenario, Described):
        return _of_role(scenario.row_entries, role)
    spaces = {name: declared.observation_space for name, declared in scenario.roles.items()}
    return _numbered(_of_role({**spaces, CENTRAL: scenario.global_state_space}, role), "entry")


def action_entries(scenario: Scenario, role: str) -> tuple[RowEntry, ...]:
    """Entries of a role's raw action, or of the joint one (`CENTRAL`); as `row_entries`."""
    if isinstance(scenario, Described):
        return _of_role(scenario.action_entries, role)
    spaces = {name: declared.action_space for name, declared in scenario.roles.items()}
    return _numbered(_of_role({**spaces, CENTRAL: scenario.central_space}, role), "action")


def _of_role(by_role: Mapping[str, T], role: str) -> T:
    if role not in by_role:
        raise ValueError(unknown_name("role", role, by_role))
    return by_role[role]


def _numbered(space: gymnasium.Space[Any], name: str) -> tuple[RowEntry, ...]:
    return tuple(RowEntry(f"{name}_{i}") for i in range(math.prod(space.shape or ())))


def foreseen_roles(scenario: Scenario) -> tuple[str, ...]:
    """`Foreseeing.foreseen_roles`, or none."""
    return scenario.foreseen_roles if isinstance(scenario, Foreseeing) else ()


def hybrid_space(scenario: Scenario) -> gymnasium.spaces.Dict:
    """The joint action as named parts; the central space as one part where a scenario names none."""
    if isinstance(scenario, HybridActions):
        return scenario.hybrid_space
    import gymnasium

    return gymnasium.spaces.Dict({"action": scenario.central_space})


def decode_hybrid(scenario: Scenario, state: Any, action: Mapping[str, Array], exogenous: Any) -> Any:
    """Joint action by part of `hybrid_space(scenario)` -> the scenario's decisions."""
    if isinstance(scenario, HybridActions):
        return scenario.decode_hybrid(state, action, exogenous)
    return scenario.decode_central(state, action["action"], exogenous)


def portrait_of(scenario: Scenario, state: Any, exogenous: Any) -> dict[str, Portrait]:
    """`Portrayed.portrait`; by default the first entry of every agent's row."""
    if isinstance(scenario, Portrayed):
        return scenario.portrait(state, exogenous)
    portraits = {}
    for role, rows in scenario.observe(state, exogenous).items():
        high = float(scenario.roles[role].observation_space.high.reshape(-1)[0])
        portraits[role] = Portrait(rows[..., 0], "first observation entry", high)
    return portraits
