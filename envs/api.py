"""The contract that every scenario fulfils: roles, spaces, traces, a pure batched step.

Shapes: B cells (independent networks), n agents of a role, L slots. Axis 0 of every array is the cell, except in a
`Trace`, whose per-slot arrays have the slot first.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar, Literal, TypeVar, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from edgemarl.envs.config import unknown_name

Array = npt.NDArray[Any]
S = TypeVar("S")

TraceKind = Literal["slot", "episode", "initial"]


@dataclass(frozen=True)
class Parts:
    """A row that divides into like parts, such as one per device, so that a network can treat all of them alike.

    The row holds `count` parts of `entries`, then one entry for each of `groups` equally large groups of consecutive
    parts, then `common` entries. The action holds blocks of `count` numbers, one of every block for each part.
    """

    count: int
    entries: int
    groups: int = 0
    common: int = 0

    @property
    def size(self) -> int:
        """Entries of the row."""
        return self.count * self.entries + self.groups + self.common


@dataclass(frozen=True)
class Role:
    """One kind of agent: all its agents have the same spaces.

    Attributes:
        name: "device", "gateway" or "server".
        count: number of agents n in one cell.
        observation_space: space of ONE agent's local observation (float32 Box).
        action_space: space of ONE agent's raw action.
        parts: how row and Box action divide into like parts, if they do.
    """

    name: str
    count: int
    observation_space: gymnasium.spaces.Box
    action_space: gymnasium.Space[Any]
    parts: Parts | None = None

    @cached_property
    def agent_ids(self) -> tuple[str, ...]:
        """`device_0`, `device_1`, ..; the one server is `server`."""
        return agent_ids(self.name, self.count)


def agent_ids(role: str, count: int) -> tuple[str, ...]:
    """Agent ids of a role in order; the one server is `server`."""
    return ("server",) if role == "server" else tuple(f"{role}_{i}" for i in range(count))


@dataclass(frozen=True)
class Signalling:
    """Bytes that one cell exchanges per slot, by link (float32 = 4 bytes)."""

    decentralized: Mapping[str, float]
    centralized: Mapping[str, float]

    @property
    def decentralized_bytes(self) -> float:
        return float(sum(self.decentralized.values()))

    @property
    def centralized_bytes(self) -> float:
        return float(sum(self.centralized.values()))


@dataclass(frozen=True)
class Step:
    """What one slot did.

    Attributes:
        state: the next state.
        costs: role -> (B, n), additive: summed over roles and agents it is the paper's per-slot objective.
        metrics: name -> (B,), one number per cell.
        details: name -> (B, ...), arrays for figures and tests.
    """

    state: Any
    costs: Mapping[str, Array]
    metrics: Mapping[str, Array]
    details: Mapping[str, Array] = field(default_factory=dict)


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


def drawn(
    kind: TraceKind, unit: str, *axes: str, process: str, low: float | None = None, high: float | str | None = None,
    integer: bool = False, after: str = "",
) -> Any:  # fmt: skip
    """A field of a trace: when it is drawn, its unit, its axes beside slot and cell, its process and limits.

    Args:
        kind: "slot" -> array (L+1, B, *axes); "episode" and "initial" -> array (B, *axes).
        unit: SI unit, or "-".
        axes: names of config fields or properties that give the length of each further axis.
        process: name of the random process in `edgemarl.envs.physics.processes` that a sampled trace uses.
        low: smallest legal value, if any.
        high: largest legal value, if any: a number, or the name of a config field or property that holds it.
        integer: the values are whole numbers.
        after: slot t holds what slot t+1 brings; this field of the trace, drawn once, holds what the first slot brings.
    """
    return field(
        metadata={
            "kind": kind, "unit": unit, "axes": axes, "process": process, "low": low, "high": high, "integer": integer,
            "after": after,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """ALL exogenous draws of an episode, drawn before it starts; subclasses declare fields with `drawn`.

    Per-slot arrays are (L+1, B, ...): one slot more than steps, since the last observation is needed.
    """

    @property
    def cells(self) -> int:
        """Number of cells B."""
        name, meta = next(iter(trace_fields(type(self)).items()))
        return int(getattr(self, name).shape[1 if meta["kind"] == "slot" else 0])

    @property
    def slots(self) -> int:
        """Number of steps L that the trace carries."""
        name = next(n for n, meta in trace_fields(type(self)).items() if meta["kind"] == "slot")
        return int(getattr(self, name).shape[0]) - 1

    def select(self: S, cells: Any) -> S:
        """The trace of some cells (slice or index array)."""
        parts = {
            name: getattr(self, name)[:, cells] if meta["kind"] == "slot" else getattr(self, name)[cells]
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)

    def shortened(self: S, slots: int) -> S:
        """The first `slots` steps of the trace."""
        parts = {
            name: getattr(self, name)[: slots + 1] if meta["kind"] == "slot" else getattr(self, name)
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)


def trace_fields(trace_type: type) -> Mapping[str, Mapping[str, Any]]:
    """Name -> metadata of a trace's fields, in order; its keys are the arguments of `drawn`."""
    return _trace_fields(cast(Hashable, trace_type))


@cache
def _trace_fields(trace_type: Any) -> Mapping[str, Mapping[str, Any]]:
    return {f.name: f.metadata for f in dataclasses.fields(trace_type)}


def trace_limits(meta: Mapping[str, Any], config: Any) -> tuple[float | None, float | None]:
    """Smallest and largest legal value of a trace's field under a config; None where there is no limit."""
    high = meta["high"]
    return meta["low"], float(getattr(config, high)) if isinstance(high, str) else high


class Scenario(ABC):
    """A network of one paper: pure functions of arrays, no hidden state, no randomness but `sample_trace`.

    Class attributes name the dataclasses: `config_type`, `state_type`, `trace_type`, `exogenous_type`,
    `decisions_type`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    config_type: ClassVar[type]
    state_type: ClassVar[type]
    trace_type: ClassVar[type[Trace]]
    exogenous_type: ClassVar[type]
    decisions_type: ClassVar[type]
    reward_modes: ClassVar[tuple[str, ...]] = ("local", "team")
    counterfactual_roles: ClassVar[tuple[str, ...]] = ()
    """Roles with a Discrete space for which `choice_rewards` is given."""
    foreseen_roles: ClassVar[tuple[str, ...]] = ()
    """Roles for which `outlook` is given."""
    cost_metric: ClassVar[str] = "cost"
    """Metric by which controllers are compared (lower is better)."""
    cost_label: ClassVar[str] = "cost per slot"
    """The compared number in words, for tables and figures; after division by `cost_divisor`."""
    summary_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Further columns of comparison tables: label with its unit -> metrics that are added up."""
    controller_fields: ClassVar[tuple[str, ...]] = ()
    """Config fields that each controller brings along, such as who sets a quantity; all others are the network's.

    A trained policy is played under the values it was trained with, on the traces that everybody meets.
    """
    playbook: ClassVar[str] = ""
    """Who can play it, as "module:OBJECT" of a `edgemarl.agents.playbook.Playbook`; scenarios of this project have it
    in `agents/<name>/playbook.py`."""

    def __init__(self, config: Any = None) -> None:
        self.config = self.config_type() if config is None else config
        if not isinstance(self.config, self.config_type):
            raise ValueError(f"config must be a {self.config_type.__qualname__}, got {type(self.config).__name__}")

    # --- what an agent sees and may do -------------------------------------------------------------------------

    @property
    @abstractmethod
    def roles(self) -> dict[str, Role]:
        """The roles that decide something under this config, in order."""

    @property
    @abstractmethod
    def central_space(self) -> gymnasium.Space[Any]:
        """Action space of one controller that decides for all."""

    @property
    def hybrid_space(self) -> gymnasium.spaces.Dict:
        """The joint action as named discrete and continuous parts; by default the central space as one part."""
        return gymnasium.spaces.Dict({"action": self.central_space})

    @property
    @abstractmethod
    def global_state_space(self) -> gymnasium.spaces.Box:
        """Space (D,) of `global_state` of one cell."""

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Slots of an episode; episodes end by truncation, never by termination."""

    @property
    def ledger(self) -> dict[str, int]:
        """Role -> number of entries in `Step.costs`, also for roles that decide nothing."""
        return {name: role.count for name, role in self.roles.items()}

    @property
    def cost_divisor(self) -> float:
        """Number by which tables divide the cost metric: the agents over which it is a sum, where it is one."""
        return 1.0

    @property
    def cell_sizes(self) -> dict[str, int]:
        """Role -> consecutive agents that share one reward of the mode "cell", where a scenario has it."""
        return {}

    @property
    def learner_scale(self) -> dict[str, float]:
        """Role -> positive factor on the reward that learners see (not part of the ledger)."""
        return dict.fromkeys(self.ledger, 1.0)

    # --- randomness, drawn beforehand ----------------------------------------------------------------------------

    @abstractmethod
    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        """Draw one cell's trace: per-slot arrays (slots+1, ...), others (...). The only randomness of a scenario."""

    def sample_trace(self, rng: np.random.Generator, cells: int, slots: int | None = None) -> Any:
        """Draw a trace of `cells` cells; cell b draws from `rng.spawn(cells)[b]` and does not depend on the others.

        Args:
            rng: parent generator.
            cells: B >= 1.
            slots: steps L >= 1 (default: the horizon); per-slot arrays are (L+1, B, ...).

        Raises:
            ValueError: cells or slots below 1.
        """
        slots = self.horizon if slots is None else slots
        for what, value in (("cells", cells), ("slots", slots)):
            if value < 1:
                raise ValueError(f"{what} = {value} is not legal: must be an integer >= 1")
        kinds = trace_fields(self.trace_type)
        parts: dict[str, Array] = {}
        for b, child in enumerate(rng.spawn(cells)):
            for name, values in self.sample_cell(child, slots).items():
                per_slot = kinds[name]["kind"] == "slot"
                if b == 0:
                    shape = (slots + 1, cells, *values.shape[1:]) if per_slot else (cells, *values.shape)
                    parts[name] = np.empty(shape, values.dtype)
                parts[name][(slice(None), b) if per_slot else b] = values
        return self.trace_type(**parts)

    def derived_trace_fields(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Trace fields that follow from given (measured) ones, such as a mean from its series; the rest is drawn."""
        return {}

    def check_trace(self, trace: Any) -> None:
        """Raise `ValueError` if a trace does not fit this scenario: type, shapes, NaN, limits."""
        if not isinstance(trace, self.trace_type):
            raise ValueError(f"trace must be a {self.trace_type.__qualname__}, got {type(trace).__name__}")
        for name, meta in trace_fields(self.trace_type).items():
            values = getattr(trace, name)
            lead = (trace.slots + 1, trace.cells) if meta["kind"] == "slot" else (trace.cells,)
            want = lead + tuple(int(getattr(self.config, axis)) for axis in meta["axes"])
            if values.shape != want:
                axes = ", ".join([*(["slots+1"] if meta["kind"] == "slot" else []), "cells", *meta["axes"]])
                raise ValueError(f"trace field {name} has shape {values.shape}, must be ({axes}) = {want}")
            if not np.isfinite(values).all():
                raise ValueError(
                    f"trace field {name} holds NaN or infinity; every value must be finite ({meta['unit']})"
                )
            (low, high), least, most = trace_limits(meta, self.config), values.min(), values.max()
            if low is not None and least < low:
                raise ValueError(f"trace field {name} holds {least:g} {meta['unit']}; every value must be >= {low:g}")
            if high is not None and most > high:
                raise ValueError(f"trace field {name} holds {most:g} {meta['unit']}; every value must be <= {high:g}")

    @abstractmethod
    def initial_state(self, trace: Any) -> Any:
        """The state before the first slot: the scenario's values, or what the trace drew."""

    def exogenous(self, trace: Any, t: int) -> Any:
        """Slot t of the trace, fields (B, ...); per-episode fields repeat in every slot."""
        kinds = trace_fields(self.trace_type)
        parts = {}
        for f in dataclasses.fields(self.exogenous_type):
            values = getattr(trace, f.name)
            parts[f.name] = values[t] if kinds[f.name]["kind"] == "slot" else values
        return self.exogenous_type(**parts)

    # --- information -------------------------------------------------------------------------------------------------

    @abstractmethod
    def observe(self, state: Any, exogenous: Any) -> dict[str, Array]:
        """Role -> (B, n, d) float32: what each agent sees locally, and what the scenario broadcasts to it."""

    @abstractmethod
    def global_state(self, state: Any, exogenous: Any) -> Array:
        """(B, D) float32 for a centralized controller."""

    def action_masks(self, state: Any, exogenous: Any) -> dict[str, Array]:
        """Role -> (B, n, choices) bool of the choices that make sense, for roles with a Discrete space that need it."""
        return {}

    def choice_rewards(self, state: Any, decisions: Any, exogenous: Any) -> dict[str, Array]:
        """Role -> (B, n, choices): the group's reward under each choice of an agent, all others' decisions fixed.

        For the roles named in `counterfactual_roles`; entry a is what `step` would have paid the agent's group had it
        alone chosen a. Learners take the difference as the agent's own credit (`algorithm="counterfactual"`).
        """
        return {}

    def outlook(self, trace: Any) -> dict[str, Array]:
        """Role -> (T+1, B, n, e): what each slot of a trace brings an agent, whatever anybody decides.

        For the roles named in `foreseen_roles`. A critic that sees the slots to come in training takes the noise of
        arrivals and fading out of the advantages (`foresight`); a policy never sees them.
        """
        return {}

    def portrait(self, state: Any, exogenous: Any) -> dict[str, Portrait]:
        """Role -> what a picture shows of its agents; by default the first entry of their observations."""
        found = {}
        for role, rows in self.observe(state, exogenous).items():
            high = float(self.roles[role].observation_space.high.reshape(-1)[0])
            found[role] = Portrait(rows[..., 0], "first observation entry", high)
        return found

    # --- decisions and dynamics ----------------------------------------------------------------------------------

    @abstractmethod
    def decode(self, state: Any, actions: Mapping[str, Array], exogenous: Any) -> Any:
        """Raw actions {role: (B, n, ...)} -> `decisions_type`, agent by agent, from its own row.

        Raises:
            ValueError: a role without action, wrong shape, NaN, infinity, an integer outside its space.
        """

    @abstractmethod
    def decode_central(self, state: Any, action: Array, exogenous: Any) -> Any:
        """Raw joint action (B, ...) of `central_space` -> `decisions_type`."""

    def decode_hybrid(self, state: Any, action: Mapping[str, Array], exogenous: Any) -> Any:
        """Joint action by part of `hybrid_space`, each (B, ...) -> `decisions_type`."""
        return self.decode_central(state, action["action"], exogenous)

    @abstractmethod
    def step(self, state: Any, decisions: Any, exogenous: Any) -> Step:
        """One slot of all cells: pure and deterministic; inputs are left unchanged."""

    @abstractmethod
    def signalling(self) -> Signalling:
        """Bytes per slot and cell."""

    def episode_metrics(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """Metrics of a whole episode that no single slot has, such as a price on a missed long-run target.

        Args:
            means: metric of `Step.metrics` -> (B,) its mean over the episode's slots.

        Returns:
            name -> (B,); `cost_metric` may name one of them.
        """
        return {}

    def rewards(self, step: Step, mode: str = "local") -> dict[str, Array]:
        """Role -> (B, n): minus the own ledger entry ("local") or minus the sum of the ledger ("team")."""
        if mode not in self.reward_modes:
            raise ValueError(unknown_name("reward mode", mode, self.reward_modes))
        if mode == "local":
            return {role: -cost for role, cost in step.costs.items()}
        total = total_cost(step)
        return {role: np.broadcast_to(-total[:, None], cost.shape) for role, cost in step.costs.items()}


def total_cost(step: Step) -> Array:
    """(B,) sum of the ledger over roles and agents."""
    return np.sum([cost.sum(axis=1) for cost in step.costs.values()], axis=0)


def checked_actions(role: str, count: int, space: gymnasium.Space[Any], actions: Any, cells: int) -> Array:
    """Raw actions of one role as an array (B, n, ...) inside its space; finite numbers outside a Box are clipped.

    Args:
        role: name for messages.
        count: agents n; 0 for a joint action without an agent axis.
        space: Box, Discrete or MultiDiscrete of one agent.
        actions: array-like (B, n, *space.shape).
        cells: B.

    Raises:
        ValueError: wrong shape, NaN, infinity, not a number, an integer outside the space.
    """
    values = np.asarray(actions)
    want = (cells, count, *(space.shape or ())) if count else (cells, *(space.shape or ()))
    if values.dtype.kind not in "fiub":
        raise ValueError(f"actions of {role} must be numbers, got dtype {values.dtype}")
    if values.shape != want:
        raise ValueError(f"actions of {role} have shape {values.shape}, must be (cells, agents, ...) = {want}")
    if isinstance(space, gymnasium.spaces.Box):
        values = values.astype(np.float64, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(f"actions of {role} hold NaN or infinity; every entry must be a finite number")
        return np.clip(values, space.low, space.high)
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
