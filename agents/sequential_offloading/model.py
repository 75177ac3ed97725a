"""What an agent of `sequential_offloading` knows about itself: its row, its choices, and what each of them costs.

Queues are counted in tasks here. Shapes: N agents in a flat array (cells times agents of a role), C choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.physics.compute import cpu_energy_j
from edgemarl.envs.physics.transmit_power import required_power_w
from edgemarl.envs.scenarios.sequential_offloading import SLIVER_TASKS, SequentialOffloading
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

WorkKind = Literal["grid", "binary", "even", "local"]
WORK_KINDS = ("grid", "binary", "even", "local")

QUEUE_DECIMALS = 5
"""A float32 row gives a queue of 40 tasks to 2.4e-6 tasks; rounding to 1e-5 restores the exact multiples."""
QUEUE_ERROR_TASKS = 1e-5
SERVER_RATES = 51
WORK_TASKS_MAX = 1000
"""Most tasks of a block that the choices of a controller cover."""


@dataclass(frozen=True)
class OffloadingRows:
    """The rows of N devices in physical units."""

    queue_tasks: Array  # (N,) float64
    gain_per_w: Array  # (N,) float64
    arrived_tasks: Array  # (N,) int, in the block before (in the coming one with arrival_lookahead)
    price: Array  # (N,) cost per offloaded task, 0 without a price


def read_device_rows(config: SequentialOffloadingConfig, rows: Array, priced: bool = False) -> OffloadingRows:
    """Undo the scaling of device rows (B, K, n+2), or (B, K, n+3) with the server's price appended."""
    flat = rows.reshape(-1, rows.shape[-1])
    n = config.slots_per_block
    queue = np.round(flat[:, 0].astype(np.float64) * config.queue_scale_tasks, QUEUE_DECIMALS)
    csi_bits = flat[:, 1].astype(np.float64) * config.spectral_efficiency_scale
    # log2(1 + h p / Gamma) is symmetric in h and p: the power formula also returns the gain
    gain = required_power_w(csi_bits, config.reference_power_w, config.snr_gap)
    arrived = np.rint(flat[:, 2 : 2 + n].sum(axis=1)).astype(np.int64)
    price = flat[:, 2 + n].astype(np.float64) * PRICE_SCALE if priced else np.zeros(len(flat))
    return OffloadingRows(queue, gain, arrived, price)


PRICE_SCALE = 10.0
"""Cost per offloaded task that a row shows as 1."""


@dataclass(frozen=True)
class WorkSet:
    """Amounts of local work that a device chooses from.

    Attributes:
        work_tasks: (C,) fixed amounts.
        whole_queue: working off everything is a choice too, also when the queue is a fraction.
        avoid_outage: leave out choices whose residual cannot be sent, unless nothing is worked off.
    """

    kind: str
    work_tasks: Array
    whole_queue: bool
    avoid_outage: bool


def work_set(config: SequentialOffloadingConfig, kind: str = "grid", even_fraction: float = 0.5) -> WorkSet:
    """The choices of a scheme.

    Args:
        config: gives the largest work X of a block.
        kind: "grid" (tenths of a task, and a sliver above each whole task, so that a whole task may be offloaded: E9),
            "binary" (residual 0 or a whole task), "even" (0 or `even_fraction` of a task), "local" (0).
        even_fraction: offloaded part of a task in (0, 1).

    Raises:
        ValueError: unknown kind, fraction outside (0, 1), a device that works off thousands of tasks in a block.
    """
    if kind not in WORK_KINDS:
        raise ValueError(unknown_name("work set", kind, WORK_KINDS))
    if not 0.0 < even_fraction < 1.0:
        raise ValueError(f"even_fraction = {even_fraction!r} task is not legal: must be > 0 and < 1")
    held = config.device_queue_tasks_max + config.slots_per_block  # more is never there to be worked off
    limit = min(config.device_work_cycles_max / config.task_cycles, held) + 1e-9
    if limit > WORK_TASKS_MAX:
        raise ValueError(
            f"a device can work off {limit:.0f} tasks in a block, more than the {WORK_TASKS_MAX} that a controller's "
            "tables hold: raise task_cycles, or lower device_queue_tasks_max, device_cpu_hz_max or slot_s"
        )
    whole = np.arange(int(limit) + 1, dtype=np.float64)
    amounts = {
        "grid": np.concatenate([np.arange(int(10 * limit) + 1) / 10.0, whole + SLIVER_TASKS]),
        "binary": np.concatenate([whole, whole + SLIVER_TASKS]),
        "even": np.concatenate([whole, whole + (1.0 - even_fraction)]),
        "local": whole,
    }[kind]
    return WorkSet(kind, amounts[amounts <= limit], whole_queue=kind == "grid", avoid_outage=kind != "grid")


class DeviceModel:
    """Cost of a device's block, from its own queue and gain: local energy, transmit energy, what stays behind.

    Args:
        scenario: gives the residual rule and the prices of energy and waiting.
        works: the choices.
    """

    def __init__(self, scenario: SequentialOffloading, works: WorkSet) -> None:
        self.scenario, self.config, self.works = scenario, scenario.config, works
        c = self.config
        self.work_max_tasks = c.device_work_cycles_max / c.task_cycles
        self.hold_cost = c.device_queue_weight * c.task_cycles  # per task and block
        self.work_cost = self.local_cost(works.work_tasks)  # (C,)

    def local_cost(self, work_tasks: Array) -> Array:
        """Cost of local energy for work at the constant rate x/T, any shape."""
        c = self.config
        result: Array = c.device_energy_weight * cpu_energy_j(
            work_tasks * c.task_cycles, c.device_capacitance, c.block_s
        )
        return result

    def transmit(self, left_tasks: Array, gain_per_w: Array) -> tuple[Array, Array, Array]:
        """Residual (tasks), cost of sending it, and outages for what local work leaves, any shape."""
        c = self.config
        residual, power, outage = self.scenario.residual_and_power(left_tasks * c.task_cycles, gain_per_w)
        return residual / c.task_cycles, power * (c.slot_s * c.device_energy_weight), outage

    def choices(self, queue_tasks: Array) -> tuple[Array, Array, Array]:
        """Work (N, C'), its cost (N, C') and whether it is possible (N, C'); C' = C + 1 with `whole_queue`."""
        n = len(queue_tasks)
        work, cost = self.works.work_tasks, self.work_cost
        if self.works.whole_queue:
            all_work = np.empty((n, len(work) + 1))
            all_work[:, :-1], all_work[:, -1] = work, queue_tasks
            all_cost = np.empty_like(all_work)
            all_cost[:, :-1], all_cost[:, -1] = cost, self.local_cost(queue_tasks)
        else:
            all_work, all_cost = np.broadcast_to(work, (n, len(work))), np.broadcast_to(cost, (n, len(work)))
        possible = all_work <= queue_tasks[:, None] + QUEUE_ERROR_TASKS
        if self.works.whole_queue:
            possible[:, -1] = queue_tasks <= self.work_max_tasks + QUEUE_ERROR_TASKS
        return all_work, all_cost, possible

    def greedy(self, rows: OffloadingRows, values: ValueTable, columns: Array | None = None) -> Array:
        """Work x (N,) in tasks that minimises stage cost + gamma * value of what is kept.

        Args:
            rows: N devices.
            values: value of the kept queue.
            columns: (N,) column of the table for each device; default: one column per device, in order.
        """
        work, cost, possible = self.choices(rows.queue_tasks)
        left = np.maximum(rows.queue_tasks[:, None] - work, 0.0)
        residual, transmit, outage = self.transmit(left, rows.gain_per_w[:, None])
        kept = left - residual if self.config.residual_leaves_device else left
        total = values.at(kept, columns) * self.config.discount
        total += cost
        total += transmit
        if rows.price.any():
            total += rows.price[:, None] * residual
        if self.works.avoid_outage:
            possible = possible & ~(outage & (work > 0.0))
        np.copyto(total, np.inf, where=~possible)
        pick = np.argmin(total, axis=1)
        chosen: Array = np.take_along_axis(work, pick[:, None], 1)[:, 0]
        if self.works.whole_queue:  # the row's rounding must leave no crumb behind: the step clips to the queue
            chosen = chosen + QUEUE_ERROR_TASKS * (pick == work.shape[1] - 1)
        return chosen


@dataclass(frozen=True)
class ValueTable:
    """Values on a uniform grid, one column per device or per kind of device; linear between and above.

    Attributes:
        table: (P, G) value at 0, step, .., (P-1) step.
        step: grid step in tasks.
        slope: (G,) per task above the grid.
    """

    table: Array
    step: float
    slope: Array

    def at(self, points: Array, columns: Array | None = None) -> Array:
        """Values (N, C) at points (N, C) >= 0; row i uses column `columns[i]` (default i)."""
        rows, width = self.table.shape
        base = (np.arange(width) if columns is None else columns)[:, None]
        position = points * (1.0 / self.step)
        index = position.astype(np.int64)
        above = bool(position.max() >= rows - 1)
        if above:
            np.minimum(index, rows - 2, out=index)
            beyond = np.maximum(position - (rows - 1), 0.0)
            position -= beyond
        position -= index
        index *= width
        index += base
        table = self.table.ravel()
        low = table.take(index)
        index += width
        values: Array = position * (table.take(index) - low)
        values += low
        if above:
            values += beyond * (self.slope[base] * self.step)
        return values


class Lattice:
    """All choices of a device on a lattice of queues m + f, m whole and f one of a few fractions, at once.

    A choice x turns the queue m + f into m - d whole tasks and a residual r, where d and r depend on f and x only. So
    the minimum over x is taken residual by residual on arrays shifted by d rows, without any gather.

    Args:
        model: costs and choices of the device.
        fractions: the fractions f in tasks.

    Attributes:
        residual_tasks: (R,) all residuals that occur.
        depth: largest d.
    """

    def __init__(self, model: DeviceModel, fractions: Sequence[float]) -> None:
        self.model = model
        works, tol = model.works, model.config.residual_tolerance
        index_of: dict[float, int] = {}
        self._picks: list[dict[int, list[tuple[int, float, bool]]]] = []
        for fraction in fractions:
            picks: dict[int, list[tuple[int, float, bool]]] = {}
            for work, cost in zip(works.work_tasks, model.work_cost, strict=True):
                whole = int(np.floor(fraction - work + tol))
                residual = fraction - work - whole
                key = 0.0 if residual < tol else round(float(residual), 9)
                index = index_of.setdefault(key, len(index_of))
                picks.setdefault(index, []).append((-whole, float(cost), bool(work == 0.0)))
            self._picks.append(picks)
        self._by_depth = [_grouped_by_depth(picks) for picks in self._picks]
        self.residual_tasks = np.array(list(index_of))
        self.depth = max(d for picks in self._picks for options in picks.values() for d, _, _ in options)

    def transmit(self, gain_per_w: Array, price: Array) -> tuple[Array, Array]:
        """Cost of sending each residual (R, F, G), price included, and where it cannot be sent (R, F, G).

        Args:
            gain_per_w: (F, G).
            price: (G,) cost per offloaded task, for deciding only.
        """
        residual = self.residual_tasks[:, None, None]
        _, cost, outage = self.model.transmit(np.broadcast_to(residual, (len(residual), 1, 1)), gain_per_w[None])
        return cost + residual * price, outage

    def best_leaving(self, fraction: int, rows: int, whole: Array, sent: Array) -> Array:
        """Smallest cost + continuation (F, rows, G) of the queues f, 1 + f, .. if residuals are sent and leave.

        What stays is whole, so all residuals with the same d share a continuation: the cheapest of them is found first.

        Args:
            fraction: index of f.
            rows: number of queues.
            whole: (depth + rows, G) continuation of m whole tasks, from m = -depth on (infinite below 0).
            sent: (R, F, G) cost of sending, infinite in an outage.
        """
        best: Array | None = None
        for d, residuals, work_cost in self._by_depth[fraction]:
            cheapest = (sent[residuals] + work_cost.astype(sent.dtype)).min(axis=0)
            start = self.depth - d
            value = whole[start : start + rows] + cheapest[:, None, :]
            best = value if best is None else np.minimum(best, value, out=best)
        assert best is not None
        return best

    def lower_by(
        self, best: Array, fraction: int, kept: Array | Sequence[Array], cost: Array | None, only_idle: bool
    ) -> None:
        """Lower `best` (F, rows, G), in place, to what choices cost whose residual stays or matters afterwards.

        Args:
            best: smallest cost + continuation so far.
            fraction: index of f.
            kept: residual -> (depth + rows, G_r) continuation of m + r, for the first G_r <= G columns.
            cost: (R, F, G) on top of it; None for 0.
            only_idle: leave out choices that work something off.
        """
        rows = best.shape[1]
        for r, options in self._picks[fraction].items():
            allowed = [option for option in options if option[2] or not only_idle]
            columns = kept[r].shape[1]
            if columns and allowed:
                part = best[:, :, :columns]
                value = self._shifted(kept[r], allowed, rows)[None]
                np.minimum(part, value if cost is None else value + cost[r][:, None, :columns], out=part)

    def _shifted(self, values: Array, options: list[tuple[int, float, bool]], rows: int) -> Array:
        smallest: Array | None = None
        scratch = np.empty((rows, values.shape[1]), values.dtype)
        for d, cost, _ in options:
            start = self.depth - d
            if smallest is None:
                smallest = values[start : start + rows] + values.dtype.type(cost)
            else:
                np.add(values[start : start + rows], values.dtype.type(cost), out=scratch)
                np.minimum(smallest, scratch, out=smallest)
        assert smallest is not None
        return smallest


def _grouped_by_depth(picks: dict[int, list[tuple[int, float, bool]]]) -> list[tuple[int, Array, Array]]:
    """(d, indices of residuals (C,), work costs (C, 1, 1)) for each d that occurs."""
    flat = [(d, r, cost) for r, options in picks.items() for d, cost, _ in options]
    groups = []
    for depth in sorted({d for d, _, _ in flat}):
        chosen = [(r, cost) for d, r, cost in flat if d == depth]
        groups.append((depth, np.array([r for r, _ in chosen]), np.array([c for _, c in chosen])[:, None, None]))
    return groups


class ServerModel:
    """Cost of the server's block, from its own queue: what it serves, what that energy costs."""

    def __init__(self, config: SequentialOffloadingConfig) -> None:
        self.config = config
        self.serve_max_tasks = config.block_s * config.server_cpu_hz_max / config.task_cycles
        self.hold_cost = config.server_queue_weight * config.task_cycles
        self.fractions = np.linspace(0.0, 1.0, SERVER_RATES)

    def serve_cost(self, served_tasks: Array) -> Array:
        """Cost of energy for serving at a constant rate, any shape."""
        c = self.config
        result: Array = c.server_energy_weight * cpu_energy_j(
            served_tasks * c.task_cycles, c.server_capacitance, c.block_s
        )
        return result

    def served(self, queue_tasks: Array) -> Array:
        """Choices (..., 51): evenly spaced up to the queue or the fastest rate."""
        return np.minimum(queue_tasks, self.serve_max_tasks)[..., None] * self.fractions

    def greedy(self, queue_tasks: Array, values: ValueTable) -> Array:
        """Tasks served (B,) that minimise energy + gamma * value of what is left; one column of values per cell."""
        served = self.served(queue_tasks)
        left = queue_tasks[:, None] - served
        total = self.serve_cost(served) + self.config.discount * values.at(left)
        return np.take_along_axis(served, np.argmin(total, axis=1)[:, None], 1)[:, 0]

    def rate_hz(self, served_tasks: Array) -> Array:
        """CPU rate that serves this in a block; a trifle faster, so that rounding leaves no crumb behind."""
        return served_tasks * (self.config.task_cycles / self.config.block_s * (1.0 + 1e-6))
