"""The contract that every scenario fulfils: roles, spaces, traces, a pure batched step.

Shapes: B cells (independent networks), n agents of a role, L slots. Axis 0 of every array is the cell, except in a
`Trace`, whose per-slot arrays have the slot first. What only some scenarios can do is in `edgemarl.envs.capabilities`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import numpy as np
from typing_extensions import TypeVar

from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_generator, checked_integer
from edgemarl.envs.config import quoted, unknown_name
from edgemarl.envs.trace import Trace, trace_fields, trace_limits

if TYPE_CHECKING:
    import gymnasium

Config = TypeVar("Config", default=Any)
State = TypeVar("State", default=Any)
T = TypeVar("T", bound=Trace, default=Any)
Exogenous = TypeVar("Exogenous", default=Any)
Decisions = TypeVar("Decisions", default=Any)


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
class Step(Generic[State]):
    """What one slot did.

    Attributes:
        state: the next state.
        costs: role -> (B, n), additive: summed over roles and agents it is the paper's per-slot objective.
        metrics: name -> (B,), one number per cell.
        details: name -> (B, ...), arrays for figures and tests.
    """

    state: State
    costs: Mapping[str, Array]
    metrics: Mapping[str, Array]
    details: Mapping[str, Array] = field(default_factory=dict)


class Scenario(ABC, Generic[Config, State, T, Exogenous, Decisions]):
    """A network of one paper: pure functions of arrays, no hidden state, no randomness but `sample_trace`.

    Class attributes name the dataclasses: `config_type`, `state_type`, `trace_type`, `exogenous_type`,
    `decisions_type`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    config_type: type[Config]
    state_type: type[State]
    trace_type: type[T]
    exogenous_type: type[Exogenous]
    decisions_type: type[Decisions]
    reward_modes: ClassVar[tuple[str, ...]] = ("local", "team")
    joint_reward_modes: ClassVar[tuple[str, ...]] = ("team",)
    """Those that can judge a joint action: "team", and modes whose sum over all agents counts nothing twice."""
    cost_metric: ClassVar[str] = "cost"
    """Metric by which controllers are compared (lower is better)."""
    cost_label: ClassVar[str] = "cost per slot"
    """The compared number in words, for tables and figures; after division by `cost_divisor`."""
    summary_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Further columns of comparison tables: label with its unit -> metrics that are added up; a terminal shows the
    first ones."""
    backlog_metrics: ClassVar[Mapping[str, str]] = {}
    """What waits, real and virtual queues that the cost depends on: label with its unit -> metric."""
    earlier_defaults: ClassVar[Mapping[str, Any]] = {}
    """Config fields that decide the form of actions and had another default before -> that one: the form of runs that
    say nothing of them and whose policies act in it."""
    playbook: ClassVar[str] = ""
    """Who can play it, as "module:OBJECT" of a `edgemarl.agents.playbook.Playbook`; scenarios of this project have it
    in `agents/<name>/playbook.py`."""

    def __init__(self, config: Config | None = None) -> None:
        self.config: Config = self.config_type() if config is None else config
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
    def learner_scale(self) -> dict[str, float]:
        """Role -> positive factor on the reward that learners see (not part of the ledger)."""
        return dict.fromkeys(self.ledger, 1.0)

    def reward_divisor(self, mode: str) -> float:
        """What learners divide the reward of a mode by, so that its spread is that of a single agent's entry."""
        return float(sum(self.ledger.values())) if mode == "team" else 1.0

    # --- randomness, drawn beforehand ----------------------------------------------------------------------------

    @abstractmethod
    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        """Draw one cell's trace: per-slot arrays (slots+1, ...), others (...). The only randomness of a scenario."""

    def sample_trace(self, rng: np.random.Generator, cells: int, slots: int | None = None) -> T:
        """Draw a trace of `cells` cells; cell b draws from `rng.spawn(cells)[b]` and does not depend on the others.

        Args:
            rng: parent generator.
            cells: B >= 1.
            slots: steps L >= 1 (default: the horizon); per-slot arrays are (L+1, B, ...).

        Raises:
            ValueError: rng is no generator, cells or slots is no integer from 1 on.
        """
        rng, cells = checked_generator("rng", rng), checked_integer("cells", cells, 1)
        slots = self.horizon if slots is None else checked_integer("slots", slots, 1)
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

    def check_trace(self, trace: T) -> None:
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
    def initial_state(self, trace: T) -> State:
        """The state before the first slot: the scenario's values, or what the trace drew."""

    def exogenous(self, trace: T, t: int) -> Exogenous:
        """Slot t of the trace, fields (B, ...); per-episode fields repeat in every slot.

        Raises:
            ValueError: t is none of the trace's L+1 slots.
        """
        if type(t) is not int or not 0 <= t <= trace.slots:  # the usual case costs next to nothing
            t = checked_integer("t", t, 0, high=trace.slots)
        kinds = trace_fields(self.trace_type)
        parts = {}
        for f in dataclasses.fields(self.exogenous_type):  # type: ignore[arg-type] # any dataclass
            values = getattr(trace, f.name)
            parts[f.name] = values[t] if kinds[f.name]["kind"] == "slot" else values
        return self.exogenous_type(**parts)

    # --- information -------------------------------------------------------------------------------------------------

    @abstractmethod
    def observe(self, state: State, exogenous: Exogenous) -> dict[str, Array]:
        """Role -> (B, n, d) float32: what each agent sees locally, and what the scenario broadcasts to it."""

    @abstractmethod
    def global_state(self, state: State, exogenous: Exogenous) -> Array:
        """(B, D) float32 for a centralized controller."""

    # --- decisions and dynamics ----------------------------------------------------------------------------------

    @abstractmethod
    def decode(self, state: State, actions: Mapping[str, Array], exogenous: Exogenous) -> Decisions:
        """Raw actions {role: (B, n, ...)} -> `decisions_type`, agent by agent, from its own row.

        Raises:
            ValueError: a role without action, wrong shape, NaN, infinity, an integer outside its space.
        """

    @abstractmethod
    def decode_central(self, state: State, action: Array, exogenous: Exogenous) -> Decisions:
        """Raw joint action (B, ...) of `central_space` -> `decisions_type`."""

    @abstractmethod
    def step(self, state: State, decisions: Decisions, exogenous: Exogenous) -> Step[State]:
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

    def cost_parts(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """The weighted terms of the compared cost in words; they add up to `cost_metric`, before `cost_divisor`.

        Args:
            means: metric of `Step.metrics` and `episode_metrics` -> its mean over an episode's slots, any shape.

        Returns:
            term -> array of that shape, negative where the term is earned; none where the cost is a single term.
        """
        return {}

    def rewards(self, step: Step[State], mode: str = "local") -> dict[str, Array]:
        """Role -> (B, n): minus the own ledger entry ("local") or minus the sum of the ledger ("team")."""
        if mode not in self.reward_modes:
            raise ValueError(unknown_name("reward mode", mode, self.reward_modes))
        if mode == "local":
            return {role: -cost for role, cost in step.costs.items()}
        total = total_cost(step)
        return {role: np.broadcast_to(-total[:, None], cost.shape) for role, cost in step.costs.items()}


def checked_scenario(value: Any) -> Scenario:
    """A scenario that somebody handed over; its name or its class is none."""
    if not isinstance(value, Scenario):
        name = value if isinstance(value, str) else getattr(value, "name", "NAME")
        raise ValueError(
            f"scenario = {quoted(value)} is not legal: must be a Scenario, such as make_scenario({quoted(name)})"
        )
    return value


def joint_reward(scenario: Scenario[Any, Any, Any, Any, Any], step: Step[Any], mode: str = "team") -> Array:
    """(B,) reward of a joint action: minus the sum of the ledger ("team"), or the sum of the agents' rewards."""
    if mode == "team":
        return -total_cost(step)
    paid = scenario.rewards(step, mode).values()
    return np.asarray(np.sum([reward.sum(axis=1) for reward in paid], axis=0))


def total_cost(step: Step[Any]) -> Array:
    """(B,) sum of the ledger over roles and agents."""
    result: Array = np.sum([cost.sum(axis=1) for cost in step.costs.values()], axis=0)
    return result
