"""A block of `sequential_offloading`, compiled: every device and the server of every cell in one pass.

Equation numbers are the paper's, as in `envs/scenarios/sequential_offloading.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.compute import cpu_energy_j
from edgemarl.envs.physics.transmit_power import required_power_w

OUTAGE_MARGIN = 1.0 + 1e-5
SUMS = (
    *("queue", "local_j", "power", "residual", "work", "outages", "dropped"),
    *("server_queue", "served", "server_j", "lost"),
    *("offload_ratio", "drop_ratio"),
)
"""Sums over a cell in a block, the server's entries and two ratios, from which all its metrics follow."""


class BlockConstants(NamedTuple):
    """What a block needs of a config: cycles and tasks per device unless a name says server."""

    task_cycles: float
    block_s: float
    residual_tolerance: float  # tasks
    residual_leaves_device: float  # 0 or 1
    idle_energy_charged: float  # 0 or 1
    work_cycles_max: float
    queue_tasks_max: float
    capacitance: float
    efficiency_per_cycle: float  # bit/s/Hz that a residual cycle needs during its slot
    snr_gap: float
    power_w_max: float
    queue_weight: float  # cost per cycle
    energy_weight: float  # cost per J
    slot_s: float
    drop_cost: float  # per task
    server_work_cycles_max: float
    server_queue_cycles_max: float
    server_capacitance: float


_energy_j = compiled()(cpu_energy_j)
_NUMBERS, _ROWS = types.Array(types.float64, 1, "C", readonly=True), types.Array(types.float64, 2, "C", readonly=True)
_ARRIVALS = types.Array(types.uint8, 3, "C", readonly=True)
_CONSTANTS = types.NamedUniTuple(types.float64, len(BlockConstants._fields), BlockConstants)


@compiled(inline="always")
def _clip(value: float, limit: float) -> float:
    return max(min(value, limit), 0.0)


@compiled(inline="always")
def _serve(queue: float, cpu_hz: float, c: BlockConstants) -> tuple[float, float, float]:
    """What is left of the server's queue after its work, that work in cycles, and its energy in J (eqs. 5 to 7)."""
    able = _clip(cpu_hz * c.block_s, c.server_work_cycles_max)
    served = min(able, queue)
    return queue - served, served, _energy_j(able if c.idle_energy_charged else served, c.server_capacitance, c.block_s)


@compiled(
    types.void(_ROWS, _ROWS, _CONSTANTS, types.float64[:, ::1], types.float64[:, ::1], types.boolean[:, ::1]),
    cache=True,
)
def send_residuals(
    left_cycles: Array, gain_per_w: Array, c: BlockConstants, residual_cycles: Array, power_w: Array, outage: Array
) -> None:
    """Residual, power and outage (out; rows, columns) of what local work leaves; both 0 in an outage (eqs. 3, 4)."""
    least = c.residual_tolerance * c.task_cycles
    for i in range(left_cycles.shape[0]):
        for j in range(left_cycles.shape[1]):  # passes of their own, of which the first and the last are vectorised
            left = left_cycles[i, j]
            residual_cycles[i, j] = left - np.floor(left / c.task_cycles + c.residual_tolerance) * c.task_cycles
        for j in range(left_cycles.shape[1]):
            power_w[i, j] = required_power_w(
                residual_cycles[i, j] * c.efficiency_per_cycle, gain_per_w[i, j], c.snr_gap
            )
        for j in range(left_cycles.shape[1]):
            partial = residual_cycles[i, j] >= least
            possible = power_w[i, j] <= c.power_w_max * OUTAGE_MARGIN
            outage[i, j] = partial & (not possible)
            sent = 1.0 if partial & possible else 0.0  # multiplied in, since the processor cannot predict a branch
            residual_cycles[i, j] *= sent
            power_w[i, j] *= sent


@compiled()
def _arrived(arrivals: Array) -> Array:
    """Tasks (B, K) that arrive at each device during the block."""
    cells, devices, slots = arrivals.shape
    arrived = np.zeros((cells, devices))
    for b in range(cells):
        for k in range(devices):
            tasks = 0
            for n in range(slots):
                tasks += arrivals[b, k, n]
            arrived[b, k] = tasks
    return arrived


@compiled(
    types.void(
        *(_ROWS, _ROWS, _ROWS, _ROWS, _ARRIVALS, _NUMBERS, _NUMBERS, _CONSTANTS),
        *(types.float64[:, :, ::1], types.boolean[:, ::1], types.float64[:, ::1], types.float64[::1]),
    ),
    cache=True,
)
def run_block(
    queue_cycles: Array,
    work_cycles: Array,
    billed_cycles: Array,
    gain_per_w: Array,
    arrivals: Array,
    server_queue_cycles: Array,
    server_cpu_hz: Array,
    c: BlockConstants,
    parts: Array,
    outage: Array,
    sums: Array,
    next_server_queue_cycles: Array,
) -> None:
    """Devices work, send what is left of a started task and take arrivals; the server works, then takes what was sent.

    Args:
        queue_cycles, work_cycles, gain_per_w: (B, K), q, commanded x (cut to what is possible) and channel gain.
        billed_cycles: (B, K) work that energy is charged for, used with `idle_energy_charged`.
        arrivals: (B, K, n), 0 or 1.
        server_queue_cycles, server_cpu_hz: (B,).
        parts: out, (6, B, K): next queue, cost (eq. 8), work x, residual, power, dropped tasks.
        outage: out, (B, K).
        sums: out, (SUMS, B).
        next_server_queue_cycles: out, (B,).
    """
    cells, devices = queue_cycles.shape
    next_queue, cost, worked, residual, power, dropped = parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]
    left, local_j = np.empty((cells, devices)), np.empty((cells, devices))
    for b in range(cells):
        for k in range(devices):
            work = _clip(min(work_cycles[b, k], c.work_cycles_max), queue_cycles[b, k])
            billed = _clip(billed_cycles[b, k], c.work_cycles_max) if c.idle_energy_charged else work
            worked[b, k], left[b, k] = work, queue_cycles[b, k] - work
            local_j[b, k] = _energy_j(billed, c.capacitance, c.block_s)
    send_residuals(left, gain_per_w, c, residual, power, outage)
    arrived = _arrived(arrivals)
    for b in range(cells):
        for k in range(devices):
            kept = left[b, k] - residual[b, k] * c.residual_leaves_device
            room = np.floor(c.queue_tasks_max + c.residual_tolerance - kept / c.task_cycles)
            accepted = _clip(arrived[b, k], room)
            next_queue[b, k], dropped[b, k] = kept + accepted * c.task_cycles, arrived[b, k] - accepted
            energy_j = local_j[b, k] + c.slot_s * power[b, k]
            cost[b, k] = c.queue_weight * queue_cycles[b, k] + c.energy_weight * energy_j + c.drop_cost * dropped[b, k]
    for b in range(cells):
        held = energy_j = power_w = offloaded = local = outages = lost = tasks = 0.0
        for k in range(devices):
            held, energy_j, power_w = held + queue_cycles[b, k], energy_j + local_j[b, k], power_w + power[b, k]
            offloaded, local, outages = offloaded + residual[b, k], local + worked[b, k], outages + outage[b, k]
            lost, tasks = lost + dropped[b, k], tasks + arrived[b, k]
        kept, served, server_j = _serve(server_queue_cycles[b], server_cpu_hz[b], c)
        next_server_queue_cycles[b] = min(kept + offloaded, c.server_queue_cycles_max)
        sums[0, b], sums[1, b], sums[2, b], sums[3, b] = held, energy_j, power_w, offloaded
        sums[4, b], sums[5, b], sums[6, b] = local, outages, lost
        sums[7, b], sums[8, b], sums[9, b] = server_queue_cycles[b], served, server_j
        sums[10, b] = kept + offloaded - next_server_queue_cycles[b]
        sums[11, b] = offloaded / (offloaded + local) if offloaded > 0.0 else 0.0
        sums[12, b] = lost / tasks if tasks > 0.0 else 0.0
