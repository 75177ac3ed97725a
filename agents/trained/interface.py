"""What an exported policy takes and gives: every number of a row and of an action by name, unit, scale and bounds.

It is what somebody needs who runs the file on a device without this project: how to fill the row from physical
quantities, which mask to give, and what the numbers that come out mean.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgemarl.agents.registry import entries_told, make_controller
from edgemarl.agents.trained.heads import Choice, Grid, Head, Hybrid
from edgemarl.agents.trained.policy import CENTRAL, TrainedPolicy
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Masked, RowEntry, action_entries, row_entries
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario

NAMED = 2
"""Entries of an action that are described in one line; more stand in the file alone."""

MaskKind = Literal["none", "constant", "input"]


@dataclass(frozen=True)
class Mask:
    """How the choices that make sense reach the exported graph.

    Attributes:
        kind: "none" where every choice makes sense, "constant" where the graph holds them, "input" where whoever runs
            it gives them, since they differ from slot to slot or between the agents that share the network.
        values: (choices,), or (n, choices) with one network per agent; what a constant mask holds.
        of_agents: (n, choices) of every agent's, where they differ between agents but never change.
    """

    kind: MaskKind
    values: Array | None = None
    of_agents: Array | None = None


@dataclass(frozen=True)
class Interface:
    """What goes into an exported policy and what comes out.

    Attributes:
        scenario, role: what it was trained for.
        agents: 0 for one network that all agents of the role share, n for one network per agent.
        observations: entries of a row.
        low, high: (d,) their bounds.
        actions: entries of an action.
        head: what the network's numbers mean.
        mask: choices that make sense.
        agent_ids: of the role.
        sets: one network decides for any number of agents of a cell from all their rows.
    """

    scenario: str
    role: str
    agents: int
    observations: tuple[RowEntry, ...]
    low: Array
    high: Array
    actions: tuple[RowEntry, ...]
    head: Head
    mask: Mask
    agent_ids: tuple[str, ...]
    sets: bool = False

    @property
    def of_cells(self) -> bool:
        """Whether the graph takes the rows of all agents of a cell together."""
        return bool(self.agents) or self.sets

    @property
    def lead(self) -> str:
        """Leading axes of inputs and outputs, as text."""
        return f"M, {self.agents or 'n'}" if self.of_cells else "M"

    @property
    def inputs(self) -> str:
        """What goes in, in one line."""
        rows = f"observations float32 ({self.lead}, {len(self.observations)})"
        return f"{rows}, mask bool ({self.lead}, {self.head.outputs})" if self.mask.kind == "input" else rows

    @property
    def outputs(self) -> str:
        """What comes out, in one line."""
        kind, shape = self.head.output()
        text = f"actions {kind} ({', '.join([self.lead, *map(str, shape)])}): {self.head.meaning()}"
        return text if len(self.actions) > NAMED else f"{text}; {', '.join(map(_said, self.actions))}"

    def __str__(self) -> str:
        return f"role '{self.role}' of '{self.scenario}': {self.inputs} -> {self.outputs}"

    def metadata(self) -> dict[str, str]:
        """Name -> text; lists and mappings are JSON. It stands in the file."""
        rows = [
            {**dataclasses.asdict(entry), "low": _bound(low), "high": _bound(high)}
            for entry, low, high in zip(self.observations, self.low, self.high, strict=True)
        ]
        texts = {
            "producer": "edgemarl",
            "scenario": self.scenario,
            "role": self.role,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "observations": json.dumps(rows),
            "actions": json.dumps([dataclasses.asdict(entry) for entry in self.actions]),
        }
        if self.mask.of_agents is not None:
            masks = {
                name: row.astype(int).tolist() for name, row in zip(self.agent_ids, self.mask.of_agents, strict=True)
            }
            texts["masks"] = json.dumps(masks)
        return texts


def interface_of(policy: TrainedPolicy, scenario: Scenario | None = None) -> Interface:
    """The interface of a policy.

    Args:
        policy: a trained policy.
        scenario: the network for which it is exported; default: the one in which it was trained.

    Raises:
        ValueError: a scenario that cannot be made or in which the policy cannot act.
    """
    scenario = scenario or training_scenario(policy)
    policy.check(scenario)
    role, head = policy.role, policy.network.head
    observations, low, high = _row(policy, scenario)
    ids = () if role == CENTRAL else scenario.roles[role].agent_ids
    actions = tuple(_hybrid_entries(head)) if isinstance(head, Hybrid) else action_entries(scenario, role)
    return Interface(
        scenario.name, role, policy.spec.agents, observations, low, high, actions, head, _mask(policy, scenario), ids,
        policy.spec.sets,
    )  # fmt: skip


def training_scenario(policy: TrainedPolicy) -> Scenario:
    """The network in which a policy was trained.

    Raises:
        ValueError: the policy does not say, or its scenario cannot be made here.
    """
    train: Mapping[str, Any] = policy.information.get("train", {})
    if "scenario" not in train:
        raise ValueError(f"the policy of role '{policy.role}' does not say in which network it was trained")
    return make_scenario(train["scenario"], **train.get("set", {}))


def _row(policy: TrainedPolicy, scenario: Scenario) -> tuple[tuple[RowEntry, ...], Array, Array]:
    """Entries of the policy's row and their bounds: its own, the pooled rows of all, messages of fixed controllers."""
    if policy.role == CENTRAL:
        space = scenario.global_state_space
        return row_entries(scenario, CENTRAL), space.low, space.high
    parts = list(_parts(policy, scenario))
    entries = tuple(entry for own, _, _ in parts for entry in own)
    low, high = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    return entries, low, high


def _parts(policy: TrainedPolicy, scenario: Scenario) -> Iterator[tuple[tuple[RowEntry, ...], Array, Array]]:
    """The parts of a row in the order in which `Team.row` puts them together."""
    space = scenario.roles[policy.role].observation_space
    yield row_entries(scenario, policy.role), space.low, space.high
    fixed = policy.information.get("train", {}).get("fixed", {})
    for sender in (name for name in scenario.roles if name in fixed):
        told = _told(scenario, sender, fixed[sender], policy.role)
        count = len(told)
        yield told, np.full(count, -np.inf), np.full(count, np.inf)
    if policy.information.get("pooled"):
        for name in scenario.roles:
            yield from _pooled_parts(scenario, name)


def _told(scenario: Scenario, sender: str, name: str, receiver: str) -> tuple[RowEntry, ...]:
    """What a named controller appends to a receiver's row; numbered where the controller does not say what it is."""
    controller = make_controller(scenario, sender, name)
    count = entries_told(scenario, {sender: controller})[receiver]
    said = controller.message_meaning.get(receiver, ())
    return said or tuple(RowEntry(f"{sender}_message_{i}", "-", 1.0, f"told by {name}") for i in range(count))


def _pooled_parts(scenario: Scenario, name: str) -> Iterator[tuple[tuple[RowEntry, ...], Array, Array]]:
    """What `edgemarl.agents.pooling.pool_of` makes of the rows of a role, and the bounds."""
    role, entries = scenario.roles[name], row_entries(scenario, name)
    low, high = role.observation_space.low, role.observation_space.high
    parts = role.parts
    alike = [range(len(entries))]
    if parts is not None:
        own = parts.count * parts.entries
        common = own + parts.groups
        groups = (range(parts.entries), range(own, min(own + 1, common)), range(common, len(entries)))
        alike = [columns for columns in groups if columns]
    for columns in alike:
        for what in ("mean", "max"):
            told = tuple(
                RowEntry(f"{what}_{name}_{_stem(entries[i].name) if parts and i < common else entries[i].name}",
                         entries[i].unit, entries[i].scale, f"{what} over the cell's {name}s: {entries[i].meaning}")
                for i in columns
            )  # fmt: skip
            yield told, low[list(columns)], high[list(columns)]


def _stem(name: str) -> str:
    """The name of like entries, without their number."""
    stem, _, number = name.rpartition("_")
    return stem if number.isdigit() else name


def _mask(policy: TrainedPolicy, scenario: Scenario) -> Mask:
    """How a policy's mask reaches the graph."""
    head = policy.network.head
    if policy.role == CENTRAL or not isinstance(scenario, Masked) or not isinstance(head, Choice):
        return Mask("none")
    if isinstance(head, Grid):  # the points of a grid stand in for a Box, which has no mask
        return Mask("none")
    constant = scenario.constant_masks.get(policy.role)
    if constant is None:
        return Mask("input") if policy.role in masked_roles(scenario) else Mask("none")
    if policy.spec.agents:
        return Mask("none") if constant.all() else Mask("constant", constant)
    if (constant == constant[0]).all():
        return Mask("none") if constant.all() else Mask("constant", constant[0])
    return Mask("input", of_agents=constant)


def masked_roles(scenario: Scenario) -> tuple[str, ...]:
    """Roles for which a scenario gives masks, as seen in the first slot of a trace."""
    if not isinstance(scenario, Masked):
        return ()
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 1)
    return tuple(scenario.action_masks(scenario.initial_state(trace), scenario.exogenous(trace, 0)))


def _hybrid_entries(head: Hybrid) -> Iterator[RowEntry]:
    meanings = {
        "binary": "0 or 1", "choice": "index", "simplex": "share; they sum to 1", "box": "value",
        "constant": "held constant",
    }  # fmt: skip
    for part in head.action.parts:
        for i in range(part.entries):
            yield RowEntry(f"{part.name}_{i}", "-", 1.0, meanings[part.kind])


def _said(entry: RowEntry) -> str:
    """An entry of an action in words."""
    scaled = "" if entry.unit == "-" or entry.scale == 1.0 else f" x {entry.scale:g} {entry.unit}"
    return f"{entry.name}{scaled} ({entry.meaning})" if entry.meaning else f"{entry.name}{scaled}"


def _bound(value: float) -> float | None:
    """A bound for JSON, which has no infinity."""
    return float(value) if math.isfinite(value) else None
