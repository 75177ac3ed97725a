"""Who decides. A `Controller` acts for all agents of one role from their local observations; a `Team` is one per role;
a `CentralController` sees everything. Whatever decides for a network answers to `Policy`.

Shapes: B cells, n agents of the role, d entries of one agent's row.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from edgemarl.agents.pooling import pool_of, with_pool
from edgemarl.envs.actions import ActionShapeError, form_hint, neutral_action
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import RowEntry, masks_of
from edgemarl.envs.checks import checked_kind, checked_mapping
from edgemarl.envs.config import quoted, unknown_name
from edgemarl.envs.scenario import Scenario, Step
from edgemarl.envs.trace import trace_fields

Information = Literal["local", "global"]


@dataclass(frozen=True)
class Act:
    """What the agents of one role do in a slot: raw actions or physical decisions, and messages.

    Attributes:
        actions: raw actions (B, n, ...), or None if decisions are given.
        decisions: fields of the scenario's decisions that belong to this role.
        messages: receiving role -> (B, n_receivers, m), appended to the receivers' rows: in the same slot for roles
            that act later in `Team.order`, else in the next slot.
    """

    actions: Array | None = None
    decisions: Mapping[str, Array] = field(default_factory=dict)
    messages: Mapping[str, Array] = field(default_factory=dict)


class Policy(Protocol):
    """Whatever decides for a whole network, a team or one central controller; this is what a rollout runs."""

    name: str
    information: Information

    def reset(self, scenario: Scenario, trace: Any) -> None: ...

    def world(self, scenario: Scenario) -> Scenario: ...

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any: ...

    def feedback(self, costs: Mapping[str, Array]) -> None: ...

    def message_bytes(self) -> float: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Announcement:
    """What agents of a role tell of their raw actions in the slot in which they take them.

    Attributes:
        messages: receiving role -> entries of each receiver's row.
        tell: raw actions (B, n, ...) -> receiving role -> (B, n_receivers, m).
        signalled: receivers whose messages the scenario's own signalling already counts.
    """

    messages: Mapping[str, int]
    tell: Callable[[Array], Mapping[str, Array]]
    signalled: frozenset[str] = frozenset()

    def to(self, receivers: Collection[str]) -> Announcement:
        """The same, told to some receivers only."""
        tell = self.tell

        def told(actions: Array) -> Mapping[str, Array]:
            return {receiver: values for receiver, values in tell(actions).items() if receiver in receivers}

        return Announcement({r: m for r, m in self.messages.items() if r in receivers}, told, self.signalled)


class Controller(ABC):
    """Acts for all agents of one role; agent i's action depends on row i of the observations only.

    Subclasses that learn keep one row of parameters per agent and cell; no agent reads another's.

    Attributes:
        role: the role that it plays where it is named alone; by default the scenario's first.
        messages: receiving role -> entries that this controller appends to each receiver's row (float32, 4 bytes).
        message_meaning: receiving role -> what these entries are, where the controller says so.
        hears: sending role -> entries of its message without which this controller cannot act.
        broadcast: True if one message serves all receivers, so that its bytes count once.
        signalled: receivers whose messages the scenario's own signalling already counts.
        needs_statistics: True if an agent must know its own long-run statistics (the trace's per-episode fields).
        masked: True if it acts by `act_masked` where the scenario says which choices make sense.
    """

    role: str = ""
    messages: Mapping[str, int] = {}
    message_meaning: Mapping[str, tuple[RowEntry, ...]] = {}
    hears: Mapping[str, int] = {}
    broadcast = True
    signalled: frozenset[str] = frozenset()
    needs_statistics = False
    masked = False

    def reset(self, scenario: Scenario, cells: int) -> None:
        """Start an episode of `cells` cells; forget what was learned unless the controller is trained beforehand."""
        self.scenario = scenario
        self.cells = cells

    def know_statistics(self, statistics: Mapping[str, Array]) -> None:
        """Receive the trace's per-episode fields (B, n), each agent its own; only if `needs_statistics`."""
        raise TypeError(f"{type(self).__name__} does not use statistics")

    @abstractmethod
    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        """Decide for all agents of the role.

        Args:
            observations: (B, n, d) float32, each agent's own row, messages appended.
            rng: the policy's own randomness.
        """

    def act_masked(self, observations: Array, mask: Array, rng: np.random.Generator) -> Act:
        """`act` where the scenario says which choices make sense: `mask` (B, n, choices); only if `masked`."""
        return self.act(observations, rng)

    def feedback(self, costs: Array) -> None:
        """Receive the own ledger entries (B, n) of the slot just played; learners without a model use it."""
        return

    def charges(self, messages: Mapping[str, Array], step: Step) -> Mapping[str, Array]:
        """What these messages of this controller make the receivers pay for the slot just played, if they are prices.

        A policy that is trained beside this controller counts the charge as its own cost; the ledger does not hold it.

        Args:
            messages: receiving role -> (B, n_receivers, m), as they stood in the receivers' rows.
            step: the slot.

        Returns:
            receiving role -> (B, n_receivers) in the ledger's unit.
        """
        return {}

    def message_bytes(self) -> float:
        """Bytes per slot that this controller's messages add to the scenario's own signalling (4 per entry).

        Negative where it does without something that the scenario's signalling counts.
        """
        told = {receiver: entries for receiver, entries in self.messages.items() if receiver not in self.signalled}
        copies = {receiver: 1 if self.broadcast else self.scenario.roles[receiver].count for receiver in told}
        return float(sum(4 * entries * copies[receiver] for receiver, entries in told.items()))

    def state_dict(self) -> dict[str, Any]:
        """Everything that was learned, as arrays and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; call after `reset`."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {sorted(state)}")


class Announcing(Controller):
    """A controller of learned agents, who tell others of their actions where the scenario has it so."""

    tell: Callable[[Array], Mapping[str, Array]] | None = None

    def announce(self, announcement: Announcement | None) -> None:
        """Tell this of every action from the next reset on."""
        if announcement is not None:
            self.tell = announcement.tell
            self.messages, self.signalled = announcement.messages, announcement.signalled

    def _told(self, actions: Array) -> Act:
        return Act(actions, messages={} if self.tell is None else self.tell(actions))


class Supplied(Controller):
    """Stands in a team for a role whose acts come from elsewhere; its messages are what the role's agents tell."""

    def __init__(self, announcement: Announcement | None = None) -> None:
        self.tell = None if announcement is None else announcement.tell
        self.messages = {} if announcement is None else announcement.messages

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        raise RuntimeError("what this role does is supplied")

    def acts(self, actions: Array) -> Act:
        """Raw actions (B, n, ...) with what the agents tell of them."""
        return Act(actions, messages={} if self.tell is None else self.tell(actions))


class CentralController(ABC):
    """Decides for all agents, seeing the whole state and this slot's exogenous values."""

    name: str
    information: Information = "global"

    def reset(self, scenario: Scenario, trace: Any) -> None:
        """Start an episode on a trace (its per-episode fields may be read, its future may not)."""
        self.scenario = scenario
        self.cells = trace.cells

    def world(self, scenario: Scenario) -> Scenario:
        """The scenario in which it acts: the given one, unless it brings settings along."""
        return scenario

    @abstractmethod
    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        """The scenario's decisions for this slot."""

    def feedback(self, costs: Mapping[str, Array]) -> None:
        """Receive the ledger of the slot just played."""
        return

    def message_bytes(self) -> float:
        """Bytes per slot beside the scenario's own signalling."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {sorted(state)}")


POLICY_PARTS = ("name", "information", "reset", "world", "decide", "feedback", "message_bytes")
"""What a policy of a whole network has."""


def checked_policy(given: Any, what: str) -> Policy:
    """What is handed over as a policy of the whole network.

    Raises:
        ValueError: it lacks one of `POLICY_PARTS`.
    """
    missing = [need for need in POLICY_PARTS if isinstance(given, str) or not hasattr(given, need)]
    if missing:
        raise ValueError(
            f"{what} is a {type(given).__name__} without '{missing[0]}': must be a Controller of one role, a mapping "
            "of roles to such, or a policy of the whole network (edgemarl.agents.Policy)"
        )
    policy: Policy = given
    return policy


def check_heard(controllers: Mapping[str, Controller], told: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse controllers whose rows would not hold the messages that they read: none missing, none beside them.

    Args:
        controllers: role -> controller, after its reset.
        told: sending role -> receiving role -> entries of its message.

    Raises:
        ValueError: a message of `Controller.hears` that its sender does not send, or one that it does not expect.
    """
    for role, controller in controllers.items():
        name, hears = f"{type(controller).__name__} of role '{role}'", controller.hears
        for sender, entries in hears.items():
            if told.get(sender, {}).get(role, 0) != entries:
                raise ValueError(
                    f"{name} waits for messages of {entries} entries, which the controller of role '{sender}' does not "
                    f"send: choose another one for role '{role}' or '{sender}'"
                )
        for sender, receivers in told.items():
            if hears and receivers.get(role, 0) and sender not in hears:
                raise ValueError(
                    f"{name} does not expect the messages of the controller of role '{sender}': choose another one for "
                    f"role '{role}' or '{sender}'"
                )


def _groups(order: Any) -> list[list[str]]:
    """Groups of roles that act one after another."""
    try:
        groups = [list(group) for group in order if not isinstance(group, str)]
    except TypeError:
        groups = []
    if not groups or len(groups) < len(order):
        raise ValueError(f"order = {quoted(order)} is not legal: must be groups of roles, such as [['device']]")
    return groups


class Team:
    """One controller per role; together they decide for a network from local information.

    Args:
        name: name in tables.
        controllers: role -> controller, for every role of the scenario.
        order: groups of roles that act one after another within the slot; default: all at once.
        information: "global" only if a member is a reference that looks beyond its row.
        pooled: roles whose rows have the pooled rows of all agents appended (`edgemarl.agents.pooling`): central
            control by networks of the roles.

    `inbox` holds the newest messages: receiving role -> sending role -> (B, n_receivers, m).
    """

    def __init__(
        self,
        name: str,
        controllers: Mapping[str, Controller],
        order: Sequence[Sequence[str]] | None = None,
        information: Information = "local",
        pooled: Collection[str] = (),
    ) -> None:
        self.name = name
        self.controllers: dict[str, Controller] = dict(
            checked_mapping("controllers", controllers, "roles to controllers")
        )
        for role, controller in self.controllers.items():
            checked_kind(
                f"controller of role '{role}'", controller, Controller, "make_controller(scenario, role, 'NAME')"
            )
        if information not in ("local", "global"):
            raise ValueError(unknown_name("information", information, ("local", "global")))
        self.pooled = tuple(pooled)
        self.order = _groups(order) if order else [list(self.controllers)]
        self.information: Information = "global" if self.pooled else information
        self.masked = any(controller.masked for controller in self.controllers.values())
        if sorted(r for group in self.order for r in group) != sorted(self.controllers):
            raise ValueError(f"order {self.order} must name each of {sorted(self.controllers)} once")

    def reset(self, scenario: Scenario, trace: Any) -> None:
        """Start an episode: every member resets; members that need their own statistics receive them."""
        missing = [role for role in scenario.roles if role not in self.controllers]
        if missing:
            raise ValueError(f"team '{self.name}' has no controller for role '{missing[0]}'")
        self.scenario = scenario
        self.inbox: dict[str, dict[str, Array]] = {role: {} for role in self.controllers}
        self._pool: tuple[Mapping[str, Array], Array] | None = None
        """Observations and their pool, computed once for all roles."""
        statistics = {n: getattr(trace, n) for n, m in trace_fields(type(trace)).items() if m["kind"] == "episode"}
        for role, controller in self.controllers.items():
            controller.reset(scenario, trace.cells)
            if controller.needs_statistics:
                controller.know_statistics(statistics)
            for receiver, entries in controller.messages.items():
                if receiver not in scenario.roles:
                    raise ValueError(
                        f"messages of {type(controller).__name__}: {unknown_name('role', receiver, scenario.roles)}"
                    )
                count = scenario.roles[receiver].count
                self.inbox[receiver][role] = np.zeros((trace.cells, count, entries), np.float32)
        check_heard(self.controllers, {role: controller.messages for role, controller in self.controllers.items()})

    def next_episode(self, trace: Any) -> None:
        """Go on with another trace: what is learned and told stays, own statistics are those of the new trace."""
        statistics = {n: getattr(trace, n) for n, m in trace_fields(type(trace)).items() if m["kind"] == "episode"}
        for controller in self.controllers.values():
            if controller.needs_statistics:
                controller.know_statistics(statistics)

    def world(self, scenario: Scenario) -> Scenario:
        """The scenario in which the team acts: the given one, unless its members bring settings along."""
        return scenario

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        """The scenario's decisions: raw actions are decoded, physical decisions of a role replace decoded ones."""
        return self.combine(self.scenario.observe(state, exogenous), state, exogenous, rng)

    def combine(self, observations: Mapping[str, Array], state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        """`decide` with the rows given (a locality test perturbs them)."""
        acts = self.act(observations, rng, masks=self.masks(state, exogenous))
        return self.decisions(acts, observations, state, exogenous)

    def masks(self, state: Any, exogenous: Any) -> Mapping[str, Array]:
        """Role -> (B, n, choices) of the choices that make sense, if a member asks for them."""
        return masks_of(self.scenario, state, exogenous) if self.masked else {}

    def decisions(self, acts: Mapping[str, Act], observations: Mapping[str, Array], state: Any, exogenous: Any) -> Any:
        """What the acts of all roles decide."""
        given: dict[str, Array] = {}
        for act in acts.values():
            given.update(act.decisions)
        names = {f.name for f in dataclasses.fields(self.scenario.decisions_type) if f.default is dataclasses.MISSING}
        if names <= set(given):
            return self.scenario.decisions_type(**given)
        raw = {role: act.actions for role, act in acts.items() if act.actions is not None}
        for role, spec in self.scenario.roles.items():
            if role not in raw:  # its decisions are given: any legal action fills its place
                raw[role] = neutral_action(spec.action_space, (len(observations[role]), spec.count))
        try:
            decoded = self.scenario.decode(state, raw, exogenous)
        except ActionShapeError as error:
            raise ValueError(f"{error}{form_hint(self.scenario, error.role)}") from None
        return dataclasses.replace(decoded, **given) if given else decoded

    def act(
        self,
        observations: Mapping[str, Array],
        rng: np.random.Generator,
        acted: Mapping[str, Act] | None = None,
        given: Mapping[str, Act] | None = None,
        masks: Mapping[str, Array] | None = None,
    ) -> dict[str, Act]:
        """Role -> what its agents do; messages go to the receivers' rows.

        Args:
            observations: role -> rows (B, n, d) without messages.
            rng: the policies' own randomness.
            acted: what the roles of the first groups have already done in this slot (`act_before`).
            given: what roles do whose acts come from elsewhere, such as a learner, in place of their controllers'.
            masks: role -> (B, n, choices) of the choices that make sense (`Masked.action_masks`).
        """
        acts = dict(acted or {})
        for group in self.order:
            if group[0] not in acts:
                acts.update(self._act_group(group, observations, rng, given or {}, masks or {}))
        return acts

    def act_before(
        self,
        roles: Collection[str],
        observations: Mapping[str, Array],
        rng: np.random.Generator,
        masks: Mapping[str, Array] | None = None,
    ) -> dict[str, Act]:
        """What the groups do that act before any of `roles`; their messages then stand in these roles' rows."""
        acts: dict[str, Act] = {}
        for group in self.order:
            if not set(group).isdisjoint(roles):
                break
            acts.update(self._act_group(group, observations, rng, {}, masks or {}))
        return acts

    def _act_group(
        self,
        group: Sequence[str],
        observations: Mapping[str, Array],
        rng: np.random.Generator,
        given: Mapping[str, Act],
        masks: Mapping[str, Array],
    ) -> dict[str, Act]:
        acts: dict[str, Act] = {}
        for role in group:
            if role in given:
                acts[role] = given[role]
                continue
            controller, row = self.controllers[role], self.row(role, observations)
            if controller.masked and role in masks:
                acts[role] = controller.act_masked(row, masks[role], rng)
            else:
                acts[role] = controller.act(row, rng)
            if not isinstance(acts[role], Act):
                raise ValueError(
                    f"{type(controller).__name__} of role '{role}' gives a {type(acts[role]).__name__}, must give an "
                    "Act: return Act(actions=..)"
                )
        for role in group:
            for receiver, message in acts[role].messages.items():
                self.inbox[receiver][role] = np.asarray(message, np.float32)
        return acts

    def row(self, role: str, observations: Mapping[str, Array]) -> Array:
        """Rows (B, n, d) of a role as it sees them.

        Its own row, the messages that it received, in the team's order of senders, and the pooled rows of all where it
        has them.
        """
        rows = observations[role]
        inbox = [self.inbox[role][sender] for sender in self.controllers if sender in self.inbox[role]]
        if inbox:
            rows = np.concatenate([rows, *inbox], axis=2)
        return with_pool(rows, self.pool(observations)) if role in self.pooled else rows

    def pool(self, observations: Mapping[str, Array]) -> Array:
        """The cells' pooled rows (`edgemarl.agents.pooling.pool_of`), computed once for all roles of a slot."""
        if self._pool is None or self._pool[0] is not observations:
            self._pool = observations, pool_of(observations, self.scenario.roles)
        return self._pool[1]

    def feedback(self, costs: Mapping[str, Array]) -> None:
        for role, controller in self.controllers.items():
            controller.feedback(costs[role])

    def charges(self, shown: Mapping[str, Mapping[str, Array]], step: Step) -> dict[str, Array]:
        """Role -> (B, n), what messages made its agents pay for a slot, summed over senders (`Controller.charges`).

        Args:
            shown: the inbox as it was when the agents decided.
            step: the slot.
        """
        total: dict[str, Array] = {}
        for sender, controller in self.controllers.items():
            sent = {receiver: messages[sender] for receiver, messages in shown.items() if sender in messages}
            for receiver, charge in controller.charges(sent, step).items() if sent else ():
                total[receiver] = total[receiver] + charge if receiver in total else charge
        return total

    def message_bytes(self) -> float:
        """Bytes per slot beside the scenario's own signalling, of all members."""
        return sum(controller.message_bytes() for controller in self.controllers.values())

    def state_dict(self) -> dict[str, Any]:
        return {role: controller.state_dict() for role, controller in self.controllers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for role in state:
            if role not in self.controllers:
                raise ValueError(unknown_name("role", role, self.controllers))
        for role, controller in self.controllers.items():
            controller.load_state_dict(state.get(role, {}))


def check_entries(controller: Controller, state: Mapping[str, Any]) -> None:
    """Refuse a state that was saved by a version whose learner kept other things, before any of it is taken.

    Raises:
        ValueError: entries are missing.
    """
    needed = controller.state_dict()
    if missing := sorted(needed.keys() - state.keys()):
        raise ValueError(
            f"state of {type(controller).__name__} lacks {', '.join(missing)}; it holds {', '.join(sorted(state))}, "
            f"and needs {', '.join(sorted(needed))}: another version saved it, so let it learn anew"
        )


def restored(state: Mapping[str, Any], name: str, like: Array) -> Array:
    """A copy of `state[name]` with the shape and type of `like`.

    Raises:
        ValueError: missing, or learned for another number of cells or agents.
    """
    if name not in state:
        raise ValueError(f"state has no entry '{name}'; it holds {sorted(state)}")
    values = np.array(state[name], like.dtype)
    if values.shape != like.shape:
        raise ValueError(f"state entry '{name}' has shape {values.shape}, must be {like.shape}")
    return values
