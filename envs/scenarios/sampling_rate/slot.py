"""A slot of `sampling_rate`, compiled: every device and the server of every cell.

Cells are worked on a group at a time, so that what lies between two passes stays in the cache. Numbers in brackets are
the paper's equations, E1 to E17 the errata of docs/sampling_rate.md, as in `scenario.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum

AT_ONCE = 1024
"""Devices of a group of cells; a larger cell is a group by itself."""
DELAYS = ("local_delay_s", "offload_delay_s", "process_delay_s", "queue_delay_s", "wait_delay_s")
PARTS = (
    *(f"device_{name}" for name in DELAYS),
    *("device_accuracy", "device_sent_bits", "device_served_bits", "device_dropped_per_device_bits"),
    *("queue_bits", "cost"),
)
"""What the slot computes of every device; the queue is the next one."""
LOCAL_S, OFFLOAD_S, PROCESS_S, QUEUE_S, WAIT_S, ACCURACY, SENT, SERVED, DROPPED, NEXT_QUEUE, COST = range(len(PARTS))
SERVICE_PARTS = (
    *("service_accuracy", "share", "offloaded_bits", "server_served_bits", "server_dropped_per_service_bits"),
    *("queue_bits", "deficit"),
)
"""The same of every service of the server."""
MEAN_ACCURACY, SHARE, OFFLOADED, SERVER_SERVED, SERVER_DROPPED, NEXT_SERVER_QUEUE, NEXT_DEFICIT = range(7)
DETAILS = (
    *PARTS[:6],
    *("service_accuracy", "share", "offloaded_bits", "device_sent_bits", "device_served_bits", "server_served_bits"),
    *("device_dropped_per_device_bits", "server_dropped_per_service_bits"),
)
SUMS = (
    *("service_delay_s", "delay_s", "delay_per_device_s", *DELAYS, "reward", "local_task_ratio", "mean_rate_fraction"),
    *("device_dropped_bits", "server_dropped_bits", "device_queue_bits_mean", "server_queue_bits_total"),
    *("device_utilisation", "server_utilisation"),
)
FIXED, GIVEN, BEST, CORRECTED = range(4)
"""Who divides the server's CPU: constant shares, those of the decisions, Theorem 1, or it times their weights."""
SCRATCH = 4
BATCH, KEPT, FREE, HELD = range(SCRATCH)


class SamplingConstants(NamedTuple):
    """What a slot needs of a config."""

    slot_s: float
    num_rates: float
    server_hz: float
    device_queue_limit_bits: float
    server_queue_limit_bits: float
    overflow_penalty_s: float
    balance_per_s: float  # V
    literal_wait: float  # 0 or 1


class Services(NamedTuple):
    """Constants of the services, (M,)."""

    ends: Array  # int (M + 1,): first device of each service, and N
    size: Array  # devices, as floats
    raw_bits_per_task: Array
    device_bits_per_slot: Array
    server_cycles_per_bit: Array
    server_bits_per_slot: Array
    accuracy_target: Array
    fixed_share: Array
    accuracy_of_options: Array  # (M, 2K)


_NUMBERS, _ROWS = (types.Array(types.float64, d, "C", readonly=True) for d in (1, 2))
_COUNTS = types.Array(types.int64, 1, "C", readonly=True)
_CONSTANTS = types.NamedUniTuple(types.float64, len(SamplingConstants._fields), SamplingConstants)
_SERVICES = types.NamedTuple([types.int64[::1], *[types.float64[::1]] * 7, types.float64[:, ::1]], Services)


@compiled(inline="always", error_model="numpy")
def _sum(values: Array, first: int, count: int) -> float:
    """Sum over a service's devices, in the order of `np.add.reduceat`."""
    total: float = values[first] + pairwise_sum(values, first + 1, count - 1) if count > 1 else values[first]
    return total


@compiled(error_model="numpy")
def _sample(
    of: Services, c: SamplingConstants, arrival_rate: Array, level: Array, local: Array, lo: int, hi: int, cell: Array,
    parts: Array,
) -> None:  # fmt: skip
    """Batch, what stays on the device and what is sent (out: cell, parts), and accuracy (12)."""
    n = of.ends[-1]
    for start in range(lo, hi, n):
        for m in range(len(of.size)):
            for j in range(of.ends[m], of.ends[m + 1]):
                i, at = np.uintp(start + j), np.uintp(start - lo + j)
                o = 1.0 if local[i] else 0.0
                batch = arrival_rate[i] * of.raw_bits_per_task[m] * level[i] / c.num_rates
                cell[BATCH, at], cell[KEPT, at], parts[SENT, i] = batch, o * batch, (1.0 - o) * batch
                cell[FREE, at] = 1.0 - o
                option = level[i] - 1 + (np.int64(c.num_rates) if local[i] else 0)
                parts[ACCURACY, i] = of.accuracy_of_options[m, option]


@compiled(error_model="numpy")
def _proportional(weight: Array, at: int, count: int) -> None:
    """`allocation.proportional_shares` in place."""
    total = pairwise_sum(weight, at, count)
    for m in range(at, at + count):
        weight[m] = 1.0 / count if total == 0.0 else weight[m] / total


@compiled(error_model="numpy")
def _correct(share: Array, at: int, count: int, weight: Array, held: Array) -> None:
    """`allocation.corrected_shares` in place: even weights change no bit."""
    even = True
    for m in range(count):
        held[m] = share[at + m] * weight[at + m]
        even &= weight[at + m] == weight[at]
    total = pairwise_sum(held, 0, count)
    if not even and total != 0.0:
        scale = pairwise_sum(share, at, count) / total
        for m in range(count):
            share[at + m] = held[m] * scale


@compiled(error_model="numpy")
def _serve(
    of: Services, c: SamplingConstants, backlog: Array, given: Array, rule: int, lo: int, hi: int, cell: Array,
    parts: Array, service: Array,
) -> None:  # fmt: skip
    """CPU shares (Theorem 1, (26)) and the server's queues (8, 9) (out: service)."""
    n, services = of.ends[-1], len(of.size)
    sent, free, share, held = parts[SENT], cell[FREE], service[SHARE], np.empty(services)
    for start in range(lo, hi, n):
        at = start // n * services
        for m in range(services):
            first, count, s = of.ends[m], of.ends[m + 1] - of.ends[m], at + m
            offloaded = _sum(sent, start + first, count)
            charged = of.size[m] if c.literal_wait != 0.0 else _sum(free, start - lo + first, count)
            charged = max(charged, 1.0)  # a backlog that nobody adds to is served
            load = of.server_cycles_per_bit[m] * ((charged + 1.0) / 2.0 * offloaded + charged * backlog[s])
            service[OFFLOADED, s] = offloaded
            share[s] = of.fixed_share[m] if rule == FIXED else given[s] if rule == GIVEN else np.sqrt(load)
        if rule != FIXED:
            _proportional(share, at, services)
        if rule == CORRECTED:
            _correct(share, at, services, given, held)
        for m in range(services):
            s = at + m
            able = share[s] * of.server_bits_per_slot[m]
            offered = backlog[s] + service[OFFLOADED, s]
            left = max(offered - able, 0.0)
            service[NEXT_SERVER_QUEUE, s] = min(left, c.server_queue_limit_bits)
            service[SERVER_SERVED, s] = min(offered, able)
            service[SERVER_DROPPED, s] = left - service[NEXT_SERVER_QUEUE, s]


@compiled(error_model="numpy")
def _wait(
    of: Services, c: SamplingConstants, queue: Array, rate_bps: Array, backlog: Array, deficit: Array, lo: int, hi: int,
    cell: Array, parts: Array, service: Array,
) -> None:  # fmt: skip
    """Delays (1), (4), (6), (7), (10) and queues (2, 3) of the devices, and their ledger entries (20)."""
    n, services = of.ends[-1], len(of.size)
    for start in range(lo, hi, n):
        for m in range(services):
            s = start // n * services + m
            hz = service[SHARE, s] * c.server_hz
            per_bit_s = of.server_cycles_per_bit[m] / hz if hz > 0.0 else 0.0
            ahead_s, able, offloaded = per_bit_s * backlog[s], of.device_bits_per_slot[m], service[OFFLOADED, s]
            price, target = deficit[s] / of.size[m], of.accuracy_target[m]
            for j in range(of.ends[m], of.ends[m + 1]):
                i, at = np.uintp(start + j), np.uintp(start - lo + j)
                sent, charged = parts[SENT, i], 1.0 if c.literal_wait != 0.0 else cell[FREE, at]
                local_s = (1.0 - cell[FREE, at]) * (queue[i] + cell[BATCH, at]) / able * c.slot_s
                offload_s, process_s = sent / rate_bps[i], per_bit_s * sent
                queue_s, wait_s = charged * ahead_s, charged * per_bit_s * (offloaded - sent) / 2.0
                offered = queue[i] + cell[KEPT, at]
                left = max(offered - able, 0.0)
                kept = min(left, c.device_queue_limit_bits)
                dropped = left - kept
                total_s = local_s + offload_s + process_s + queue_s + wait_s
                total_s += c.overflow_penalty_s * (1.0 if dropped > 0.0 else 0.0)
                parts[LOCAL_S, i], parts[OFFLOAD_S, i], parts[PROCESS_S, i] = local_s, offload_s, process_s
                parts[QUEUE_S, i], parts[WAIT_S, i], parts[NEXT_QUEUE, i] = queue_s, wait_s, kept
                parts[SERVED, i], parts[DROPPED, i] = min(offered, able), dropped
                parts[COST, i] = c.balance_per_s * total_s + price * (target - parts[ACCURACY, i])


@compiled(error_model="numpy")
def _delays(c: SamplingConstants, n: int, b: int, parts: Array, sums: Array) -> float:
    """The sums of the five delays of a cell (out: sums), and of all."""
    sums[3, b] = pairwise_sum(parts[LOCAL_S], b * n, n)
    sums[4, b], sums[5, b] = pairwise_sum(parts[OFFLOAD_S], b * n, n), pairwise_sum(parts[PROCESS_S], b * n, n)
    sums[7, b] = pairwise_sum(parts[WAIT_S], b * n, n)
    queue = 0.0
    for j in range(n):  # one after another, as tables have always added it up
        queue += parts[QUEUE_S, np.uintp(b * n + j)]
    sums[6, b] = queue
    delay: float = sums[3, b] + sums[4, b] + sums[5, b] + sums[6, b] + sums[7, b]
    sums[1, b], sums[2, b] = delay, delay / n
    return delay


@compiled(error_model="numpy")
def _book(
    of: Services, c: SamplingConstants, deficit: Array, lo: int, hi: int, parts: Array, service: Array, sums: Array,
    counts: Array, server_cost: Array, by_service: Array,
) -> None:  # fmt: skip
    """Accuracy and its deficit (15, 16), the server's ledger entry, delays and overflows of every cell."""
    n, services, accuracy, lost = of.ends[-1], len(of.size), parts[ACCURACY], parts[DROPPED]
    for start in range(lo, hi, n):
        b, overflows, server_overflows = start // n, 0, 0
        for j in range(n):
            overflows += 1 if lost[np.uintp(start + j)] > 0.0 else 0
        for m in range(services):
            s, first, count = b * services + m, of.ends[m], of.ends[m + 1] - of.ends[m]
            mean = _sum(accuracy, start + first, count) / of.size[m]
            service[MEAN_ACCURACY, s] = mean
            service[NEXT_DEFICIT, s] = max(deficit[s] + of.accuracy_target[m] - mean, 0.0)
            server_overflows += 1 if service[SERVER_DROPPED, s] > 0.0 else 0
            by_service[m, 0, b], by_service[m, 1, b] = mean, service[NEXT_DEFICIT, s]
            by_service[m, 2, b] = service[SHARE, s]
        counts[0, b], counts[1, b] = overflows, server_overflows
        server_cost[b, 0] = c.balance_per_s * c.overflow_penalty_s * server_overflows
        sums[0, b] = _delays(c, n, b, parts, sums) + c.overflow_penalty_s * (overflows + server_overflows)
        sums[8, b] = -(pairwise_sum(parts[COST], start, n) + server_cost[b, 0])


@compiled(error_model="numpy")
def _load(
    of: Services, c: SamplingConstants, arrival_rate: Array, level: Array, lo: int, hi: int, cell: Array, parts: Array,
    service: Array, sums: Array,
) -> None:  # fmt: skip
    """Metrics of what arrives, is served and is dropped (out: sums)."""
    n, services, held, used = of.ends[-1], len(of.size), cell[HELD], np.empty(len(of.size))
    for start in range(lo, hi, n):
        b, levels = start // n, 0
        for j in range(n):
            i, at = np.uintp(start + j), np.uintp(start - lo + j)
            held[at] = (1.0 - cell[FREE, at]) * arrival_rate[i]
            levels += level[i]
        arrived, at_start = pairwise_sum(arrival_rate, start, n), start - lo
        sums[9, b] = pairwise_sum(held, at_start, n) / arrived if arrived > 0.0 else 0.0
        sums[10, b] = levels / n / c.num_rates
        sums[11, b] = pairwise_sum(parts[DROPPED], start, n)
        sums[12, b] = pairwise_sum(service[SERVER_DROPPED], b * services, services)
        sums[13, b] = pairwise_sum(parts[NEXT_QUEUE], start, n) / n
        sums[14, b] = pairwise_sum(service[NEXT_SERVER_QUEUE], b * services, services)
        for m in range(services):
            for j in range(of.ends[m], of.ends[m + 1]):
                held[np.uintp(at_start + j)] = parts[SERVED, np.uintp(start + j)] / of.device_bits_per_slot[m]
            used[m] = service[SERVER_SERVED, b * services + m] / of.server_bits_per_slot[m]
        sums[15, b] = pairwise_sum(held, at_start, n) / n
        sums[16, b] = pairwise_sum(used, 0, services)


@compiled(
    types.void(
        *(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, _COUNTS, types.Array(types.boolean, 1, "C", readonly=True)),
        *(_NUMBERS, types.int64, _SERVICES, _CONSTANTS, types.float64[:, ::1], types.float64[:, ::1]),
        *(types.float64[:, ::1], types.int64[:, ::1], types.float64[:, ::1], types.float64[:, :, ::1]),
    ),
    error_model="numpy",
    cache=True,
)
def run_slot(
    queue_bits: Array, backlog_bits: Array, deficit: Array, rate_bps: Array, arrival_rate: Array, level: Array,
    local: Array, given: Array, rule: int, of: Services, c: SamplingConstants, parts: Array, service: Array,
    sums: Array, counts: Array, server_cost: Array, by_service: Array,
) -> None:  # fmt: skip
    """The slot of all cells: batches, the server's shares and queues, delays, accuracy and its deficit, metrics.

    Args:
        queue_bits, rate_bps, arrival_rate, level, local: (B N,) of the devices.
        backlog_bits, deficit, given: (B M,) of the services; `given` are shares or weights, as the rule says.
        rule: who divides the server's CPU.
        of, c: constants.
        parts: out, (PARTS, B N).
        service: out, (SERVICE_PARTS, B M).
        sums: out, (SUMS, B).
        counts: out, (2, B) overflows of devices and server.
        server_cost: out, (B, 1).
        by_service: out, (M, 3, B) accuracy, deficit and share.
    """
    n, total = of.ends[-1], len(queue_bits)
    step = max(1, AT_ONCE // n) * n
    cell = np.empty((SCRATCH, min(step, total)))
    for lo in range(0, total, step):
        hi = min(lo + step, total)
        _sample(of, c, arrival_rate, level, local, lo, hi, cell, parts)
        _serve(of, c, backlog_bits, given, rule, lo, hi, cell, parts, service)
        _wait(of, c, queue_bits, rate_bps, backlog_bits, deficit, lo, hi, cell, parts, service)
        _book(of, c, deficit, lo, hi, parts, service, sums, counts, server_cost, by_service)
        _load(of, c, arrival_rate, level, lo, hi, cell, parts, service, sums)
