"""Exact plan of one gateway of `model_pruning`: its model and how many tasks of each level it sends to the server.

Given the edge time, gateways decouple, and tasks of one level are interchangeable. A dynamic programme over the levels,
most critical first, with the number of tasks already sent as its state, is exact.

For a model v and L local tasks, the levels 0..q-1 (q depends on v and L) complete locally and the others are dropped.
So a plan splits into the levels from q up, whose local tasks are lost, and the levels below q, each of whose local
tasks earns the same. The best value of either part does not depend on v or L: both are tabulated once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from envs.api import Array
from envs.physics.airtime import expected_wait_s
from envs.scenarios.model_pruning import TOLERANCE, ModelPruning, Uplink

CHUNK_ENTRIES = 3_000_000
"""Table entries that are held at once."""
TIE = 1e-12
"""Values nearer than this are equal; the first model wins then, as where a gateway keeps no task."""


@dataclass(frozen=True)
class Cells:
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

    def part(self, which: slice | Array) -> Cells:
        return Cells(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def of(cls, histogram: Array, uplink: Uplink, edge_s: Array, must_send: Array | bool = False) -> Cells:
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

    def plan(self, cells: Cells) -> Plans:
        """The best plan of every gateway, O((M+1)^2 max(h) K) each for M tasks, at most h of a level."""
        states = int(cells.histogram.sum(axis=1).max(initial=0)) + 1
        size = max(1, CHUNK_ENTRIES // (states * states * (cells.histogram.shape[1] + 1)))
        parts = [_Tables(self, cells.part(slice(i, i + size)), states).best() for i in range(0, len(cells), size)]
        return Plans(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Plans)))


class _Tables:
    """Value tables of P gateways: `above[l][p, s]` and `below[l][p, s, t]`.

    above[l]: best value of the levels l.. when they send s tasks and their local tasks are lost.
    below[l]: best value of what the levels ..l-1 send when s tasks were sent before and t are sent in all.
    """

    def __init__(self, planner: CellPlanner, cells: Cells, states: int) -> None:
        self.planner, self.cells, self.states = planner, cells, states
        self.levels = cells.histogram.shape[1]
        self.sent_states = np.arange(states)
        values = [[self._sent_value(level, self.sent_states, n) for n in range(self._most(level) + 1)]
                  for level in range(self.levels)]  # fmt: skip
        self.above = self._fill_above(values)
        self.below = self._fill_below(values)

    def _most(self, level: int) -> int:
        return int(self.cells.histogram[:, level].max(initial=0))

    def _sent_value(self, level: int, ahead: Array, sent: Array | int) -> Array:
        """Value of sending `sent` tasks of a level after `ahead` others, broadcast to (P, ..); -inf if it has fewer."""
        p, cells = self.planner, self.cells
        on_air = (cells.transmission_s + cells.edge_s)[:, None]
        delay = expected_wait_s(ahead, sent, cells.reserved_s[:, None]) + on_air
        ok = delay <= p.scenario.deadline_s[level] + TOLERANCE
        ok &= (cells.edge_s <= cells.transmission_s + TOLERANCE)[:, None]
        completed = np.minimum(sent, np.maximum(cells.capacity_tasks[:, None] - ahead, 0)) * ok
        earned = on_air * p.busy_value_per_s - delay * p.delay_price_per_s
        value = completed * (earned + p.drop_price) - sent * p.drop_price
        return np.where(sent <= cells.histogram[:, level : level + 1], value, -np.inf)

    def _fill_above(self, values: list[list[Array]]) -> list[Array]:
        last = np.full((len(self.cells), self.states), -np.inf)
        last[:, 0] = 0.0
        tables = [last]
        for level in range(self.levels - 1, -1, -1):
            local_loss = self.cells.histogram[:, level, None] * self.planner.drop_price
            table = np.full_like(last, -np.inf)
            for n, value in enumerate(values[level]):
                until = self.states - n
                np.maximum(table[:, n:], (tables[-1] + value)[:, :until] + n * self.planner.drop_price,
                           out=table[:, n:])  # fmt: skip
            tables.append(table - local_loss)
        return tables[::-1]

    def _fill_below(self, values: list[list[Array]]) -> list[Array]:
        none = np.where(np.eye(self.states, dtype=bool), 0.0, -np.inf)
        tables = [np.broadcast_to(none, (len(self.cells), self.states, self.states))]
        for level in range(self.levels):
            table = np.full(tables[0].shape, -np.inf)
            for n, value in enumerate(values[level]):
                until = self.states - n
                np.maximum(table[:, :until], tables[-1][:, n:] + value[:, :until, None], out=table[:, :until])
            tables.append(table)
        return tables

    def best(self) -> Plans:
        """Combine the tables over models, levels served locally, tasks sent in all and tasks sent above."""
        p, cells, rows = self.planner, self.cells, np.arange(len(self.cells))
        total = self.sent_states
        size = cells.histogram.sum(axis=1)
        lower = np.concatenate([np.zeros((len(cells), 1), int), np.cumsum(cells.histogram, axis=1)], axis=1)
        joint = np.stack([self.above[q][:, :, None] + self.below[q] for q in range(self.levels + 1)], axis=1)
        found, choice = np.full(len(cells), -np.inf), np.zeros((4, len(cells)), int)
        for v in p.models:
            task_s = p.scenario.local_task_s[v]
            batch_s = task_s * np.maximum(size[:, None] - total, 0)  # (P, t)
            fits = batch_s[..., None] <= p.scenario.deadline_s + TOLERANCE
            fits &= p.scenario.accuracies[v] >= p.scenario.required_accuracy - TOLERANCE
            served = fits.sum(axis=2)  # levels 0..q-1: bounds tighten with the level
            earned = task_s * p.busy_value_per_s - batch_s * p.delay_price_per_s
            value = joint[rows[:, None], served, :, total]  # (P, t, s)
            local = lower[rows[:, None], served][..., None] - total[:, None] + self.sent_states
            value = value + earned[..., None] * local
            value[:, 0] = np.where(cells.must_send[:, None], -np.inf, value[:, 0])
            flat = value.reshape(len(cells), -1)
            at = flat.argmax(axis=1)
            better = flat[rows, at] > found + TIE
            t, s = np.divmod(at, self.states)
            found = np.where(better, flat[rows, at], found)
            choice = np.where(better, np.stack([np.full(len(cells), v), served[rows, t], t, s]), choice)
        model, served_levels, in_all, sent_above = choice
        return Plans(found, model, self._trace_back(served_levels, in_all, sent_above))

    def _trace_back(self, served: Array, in_all: Array, sent_above: Array) -> Array:
        """(P, K) tasks sent of each level on the best path."""
        rows = np.arange(len(self.cells))[:, None]
        sent = np.zeros(self.cells.histogram.shape, int)
        left = sent_above.copy()
        for level in range(self.levels):  # upwards: what the levels from here on sent
            n = np.arange(self._most(level) + 1)
            ahead = left[:, None] - n
            legal = np.maximum(ahead, 0)
            value = self._sent_value(level, legal, n) + self.above[level + 1][rows, legal]
            value = value + n * self.planner.drop_price
            chosen = np.where(ahead >= 0, value, -np.inf).argmax(axis=1) * (level >= served)
            sent[:, level] = chosen
            left -= chosen
        ahead = sent_above.copy()
        for level in range(self.levels - 1, -1, -1):
            n = np.arange(self._most(level) + 1)
            after = ahead[:, None] + n
            legal = np.minimum(after, self.states - 1)
            value = self._sent_value(level, ahead[:, None], n) + self.below[level][rows, legal, in_all[:, None]]
            chosen = np.where(after < self.states, value, -np.inf).argmax(axis=1) * (level < served)
            sent[:, level] += chosen
            ahead += chosen
        return sent


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
