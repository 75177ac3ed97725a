"""Exact plan of one gateway of `model_pruning`: its model and how many tasks of each level it sends to the server.

Given the edge time, gateways decouple, and tasks of one level are interchangeable. A dynamic programme over the levels,
most critical first, with the number of tasks already sent as its state, is exact.

For a model v and L local tasks, the levels 0..q-1 (q depends on v and L) complete locally and the others are dropped.
So a plan splits into the levels from q up, whose local tasks are lost, and the levels below q, each of whose local
tasks earns the same. The best value of either part does not depend on v or L: both are tabulated once. Compiled by
Numba.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.airtime import expected_wait_s
from edgemarl.envs.scenarios.model_pruning import TOLERANCE, ModelPruning, Uplink

TIE = 1e-12
"""Values nearer than this are equal; the first model wins then, as where a gateway keeps no task."""


@dataclass(frozen=True)
class GatewayTasks:
    """P independent gateways in one slot.

    Attributes:
        histogram: (P, K) tasks of each level.
        transmission_s: (P,) time to send one task.
        reserved_s: (P,) airtime of one task.
        capacity_tasks: (P,) tasks that fit in one slot.
        edge_s: (P,) edge time of one task: what deadlines are checked against.
        must_send: (P,) bool, at least one task goes to the server.
    """

    histogram: Array
    transmission_s: Array
    reserved_s: Array
    capacity_tasks: Array
    edge_s: Array
    must_send: Array

    def __len__(self) -> int:
        return len(self.edge_s)

    def part(self, which: slice | Array) -> GatewayTasks:
        return GatewayTasks(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def of(cls, histogram: Array, uplink: Uplink, edge_s: Array, must_send: Array | bool = False) -> GatewayTasks:
        """Flatten (.., G) arrays; `edge_s` may have further axes behind, over which the others repeat.

        `must_send` broadcasts to `edge_s`; a gateway without tasks is exempt.
        """
        lead = histogram.shape[:-1]
        extra = edge_s.ndim - len(lead)

        def flat(values: Array) -> Array:
            spread = np.asarray(values).reshape(lead + (1,) * extra)
            return np.broadcast_to(spread, edge_s.shape).ravel()

        levels = histogram.shape[-1]
        spread = np.broadcast_to(histogram.reshape(lead + (1,) * extra + (levels,)), (*edge_s.shape, levels))
        return cls(
            spread.reshape(-1, levels), flat(uplink.transmission_s), flat(uplink.reserved_s),
            flat(uplink.capacity_tasks), edge_s.ravel(), (must_send & spread.any(axis=-1)).ravel(),
        )  # fmt: skip


@dataclass(frozen=True)
class Plans:
    """What P gateways do, and what it earns."""

    value: Array  # (P,) reward of the gateway's tasks
    model: Array  # (P,)
    sent: Array  # (P, K) tasks of each level sent to the server


class CellPlanner:
    """Plans of gateways of one scenario.

    Args:
        scenario: gives models, deadlines, weights and penalty.
        models: indices of the models that may be used; default all.

    Raises:
        ValueError: the scenario counts dropped tasks as utilisation (a plan would have to value drops).
    """

    def __init__(self, scenario: ModelPruning, models: tuple[int, ...] | None = None) -> None:
        c = scenario.config
        if c.count_dropped_in_utilisation:
            raise ValueError("count_dropped_in_utilisation = True is not legal here: plans count completed tasks only")
        self.scenario = scenario
        self.models = tuple(range(c.num_models)) if models is None else models
        self.drop_price = c.drop_penalty / c.num_devices
        self.busy_value_per_s = c.utilisation_weight / c.slot_s
        self.delay_price_per_s = c.delay_weight / (c.num_devices * c.slot_s)

    def plan(self, cells: GatewayTasks) -> Plans:
        """The best plan of every gateway, O((M+1)^2 max(h) K) each for M tasks, at most h of a level."""
        scenario, count = self.scenario, len(cells)
        plans = Plans(np.empty(count), np.empty(count, np.int64), np.zeros(cells.histogram.shape, np.int64))
        served = np.asarray(scenario.accuracies)[:, None] >= scenario.required_accuracy - TOLERANCE
        prices = PlanPrices(self.drop_price, self.busy_value_per_s, self.delay_price_per_s)
        _plan(
            np.ascontiguousarray(cells.histogram, np.int64),
            np.ascontiguousarray(cells.transmission_s, float),
            np.ascontiguousarray(cells.reserved_s, float),
            np.ascontiguousarray(cells.capacity_tasks, float),
            np.ascontiguousarray(cells.edge_s, float),
            np.ascontiguousarray(cells.must_send, bool),
            np.ascontiguousarray(scenario.deadline_s, float),
            np.array(self.models, np.int64),
            np.ascontiguousarray(scenario.local_task_s, float),
            np.ascontiguousarray(served),
            prices,
            plans.value,
            plans.model,
            plans.sent,
        )
        return plans


class PlanPrices(NamedTuple):
    """What a dropped task costs, what a busy and a waiting second are worth."""

    drop: float
    busy_per_s: float
    delay_per_s: float


_wait_s = compiled()(expected_wait_s)
_INTEGERS, _NUMBERS, _FLAGS = (
    types.Array(t, 1, "C", readonly=True) for t in (types.int64, types.float64, types.boolean)
)
_COUNTS, _TABLE = (types.Array(t, 2, "C", readonly=True) for t in (types.int64, types.boolean))
_PRICES = types.NamedUniTuple(types.float64, len(PlanPrices._fields), PlanPrices)


@compiled()
def _sent_values(
    tasks: Array,
    transmission_s: float,
    reserved_s: float,
    capacity: float,
    edge_s: float,
    deadline_s: Array,
    p: PlanPrices,
) -> Array:
    """(K, S, S) value of sending n tasks of a level after s others; n at most the level's tasks."""
    states, on_air = tasks.sum() + 1, transmission_s + edge_s
    values = np.full((len(tasks), states, states), -np.inf)
    for level in range(len(tasks)):
        for s in range(states):
            for n in range(min(tasks[level], states - 1 - s) + 1):
                delay = _wait_s(s, n, reserved_s) + on_air
                ok = delay <= deadline_s[level] + TOLERANCE and edge_s <= transmission_s + TOLERANCE
                completed = min(float(n), max(capacity - s, 0.0)) if ok else 0.0
                earned = on_air * p.busy_per_s - delay * p.delay_per_s
                values[level, s, n] = completed * (earned + p.drop) - n * p.drop
    return values


@compiled()
def _above(tasks: Array, values: Array, p: PlanPrices) -> Array:
    """(K + 1, S) best value of the levels l.. when they send s tasks and their local tasks are lost."""
    levels, states = values.shape[0], values.shape[1]
    table = np.full((levels + 1, states), -np.inf)
    table[levels, 0] = 0.0
    for level in range(levels - 1, -1, -1):
        for s in range(states):
            for n in range(min(tasks[level], states - 1 - s) + 1):
                value = table[level + 1, s] + values[level, s, n] + n * p.drop
                table[level, s + n] = max(table[level, s + n], value)
        table[level] -= tasks[level] * p.drop
    return table


@compiled()
def _below(tasks: Array, values: Array) -> Array:
    """(K + 1, S, S) best value of what the levels ..l-1 send when s tasks were sent before and t are sent in all."""
    levels, states = values.shape[0], values.shape[1]
    table = np.full((levels + 1, states, states), -np.inf)
    for s in range(states):
        table[0, s, s] = 0.0
    for level in range(levels):
        for s in range(states):
            for n in range(min(tasks[level], states - 1 - s) + 1):
                for t in range(s + n, states):
                    value = table[level, s + n, t] + values[level, s, n]
                    table[level + 1, s, t] = max(table[level + 1, s, t], value)
    return table


@compiled()
def _best_split(
    tasks: Array,
    above: Array,
    below: Array,
    must_send: bool,
    deadline_s: Array,
    models: Array,
    local_task_s: Array,
    accurate: Array,
    p: PlanPrices,
) -> tuple[float, int, int, int, int]:
    """The best plan's value, model, levels served locally, tasks sent in all, and those sent of the levels above."""
    size, states = tasks.sum(), tasks.sum() + 1
    best = (-np.inf, 0, 0, 0, 0)
    for v in models:
        split = (-np.inf, v, 0, 0, 0)
        for t in range(1 if must_send else 0, states):
            batch_s = local_task_s[v] * (size - t)
            q = 0  # levels 0..q-1 are served locally: bounds tighten with the level
            for level in range(len(tasks)):
                q += accurate[v, level] and batch_s <= deadline_s[level] + TOLERANCE
            lower = tasks[:q].sum()
            earned = local_task_s[v] * p.busy_per_s - batch_s * p.delay_per_s
            for s in range(t + 1):
                value = above[q, s] + below[q, s, t] + earned * (lower - t + s)
                if value > split[0]:
                    split = (value, v, q, t, s)
        if split[0] > best[0] + TIE:
            best = split
    return best


@compiled()
def _trace_back(
    tasks: Array,
    values: Array,
    above: Array,
    below: Array,
    served: int,
    in_all: int,
    sent_above: int,
    p: PlanPrices,
    sent: Array,
) -> None:
    """Fill the tasks (K,) sent of each level on the best path through the tables."""
    levels, states = values.shape[0], values.shape[1]
    left = sent_above
    for level in range(served, levels):  # upwards: what the levels from here on sent
        chosen, highest = 0, -np.inf
        for n in range(min(tasks[level], left) + 1):
            value = values[level, left - n, n] + above[level + 1, left - n] + n * p.drop
            if value > highest:
                chosen, highest = n, value
        sent[level] = chosen
        left -= chosen
    ahead = sent_above
    for level in range(served - 1, -1, -1):
        chosen, highest = 0, -np.inf
        for n in range(min(tasks[level], states - 1 - ahead) + 1):
            value = values[level, ahead, n] + below[level, ahead + n, in_all]
            if value > highest:
                chosen, highest = n, value
        sent[level] = chosen
        ahead += chosen


@compiled(
    types.void(
        *(_COUNTS, _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, _FLAGS, _NUMBERS, _INTEGERS, _NUMBERS, _TABLE, _PRICES),
        *(types.float64[::1], types.int64[::1], types.int64[:, ::1]),
    ),
    cache=True,
)
def _plan(
    histogram: Array,
    transmission_s: Array,
    reserved_s: Array,
    capacity_tasks: Array,
    edge_s: Array,
    must_send: Array,
    deadline_s: Array,
    models: Array,
    local_task_s: Array,
    accurate: Array,
    p: PlanPrices,
    best: Array,
    best_model: Array,
    best_sent: Array,
) -> None:
    """Fill value, model and sent tasks of every gateway: tables over the levels, then all models and splits of them."""
    for g in range(len(histogram)):
        tasks = histogram[g]
        values = _sent_values(tasks, transmission_s[g], reserved_s[g], capacity_tasks[g], edge_s[g], deadline_s, p)
        above, below = _above(tasks, values, p), _below(tasks, values)
        best[g], best_model[g], served, in_all, sent_above = _best_split(
            tasks, above, below, must_send[g], deadline_s, models, local_task_s, accurate, p
        )
        _trace_back(tasks, values, above, below, served, in_all, sent_above, p, best_sent[g])


def offload_bits(scenario: ModelPruning, level: Array, rank: Array, sent: Array) -> Array:
    """(B, N) 0/1: of every level the lowest-ranked tasks go to the server.

    Args:
        scenario: gives the cells.
        level: (B, N).
        rank: (B, N) rank of each device among those of its gateway and level.
        sent: (B, G, K) tasks that each gateway sends of each level.
    """
    rows = np.arange(len(level))[:, None]
    return (rank < sent[rows, scenario.blocks.gateway, level]).astype(np.int64)
