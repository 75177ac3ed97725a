"""A slot of `model_placement`, compiled: every task, gateway and server of every cell, one cell after another.

Equation numbers are the paper's, errata those of docs/model_placement.md, as in `scenario.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum
from edgemarl.envs.physics.sharing import divide_pool

PARTS = (
    *("gained", "delay_s", "band_share", "gateway_cpu_share", "relay_share", "edge_cpu_share"),
    "cost",
)
"""What the slot computes of every device, as numbers; the last is its ledger entry."""
GAINED, DELAY, BAND, GATEWAY_CPU, RELAY, EDGE_CPU, COST = range(len(PARTS))
FLAGS = ("done", "ready", "hit", "late", "admitted")
DONE, READY, HIT, LATE, ADMITTED = range(len(FLAGS))
SUMS = (
    *("mean_accuracy", "gateway_cache_utilisation", "edge_cache_utilisation", "cloud_transfer_bits"),
    *("edge_transfer_bits", "mean_completed_delay_s"),
)
COUNTS = (
    *("completed_local", "completed_edge", "completed_heavy", "completed_light", "assigned_local", "selected_heavy"),
    *("cache_hits", "rejected_space", "rejected_late", "placed_gateway", "placed_edge", "completed", "ready"),
)
"""Metrics of a cell: numbers, and counts of tasks or models; the last two counts are given as ratios."""
SCRATCH = 8
BITS, CYCLES, FETCH, FIRST_NEED, SECOND_NEED, CPU_NEED, HELD, WEIGHT = range(SCRATCH)
"""What is needed of a cell's devices within the slot only."""


class SlotConstants(NamedTuple):
    """What a slot needs of a config."""

    gateway_band_hz: float
    relay_bandwidth_hz: float
    gateway_cpu_hz: float
    edge_cpu_hz: float
    gateway_cache_bits: float
    edge_cache_bits: float
    edge_rate_bps: float
    cloud_rate_bps: float
    edge_miss_bps: float  # rate at which the server fetches a model, by erratum or as printed
    shared_by_need: float  # 0 or 1, as the following
    first_hop_counted: float
    all_or_nothing: float
    device_unit: float  # cost of an accuracy in the ledger of a device, of its gateway, of the server
    gateway_unit: float
    server_unit: float


class Tasks(NamedTuple):
    """State, exogenous and decisions of the devices; (B N,) and, by level, (B N, 2): light, heavy."""

    task_bits: Array
    deadline_s: Array
    efficiency: Array  # g, bit/s/Hz
    relay_efficiency: Array  # g^e of the gateways, (B G,)
    accuracy: Array  # (B N, 4): clean light, heavy; noisy light, heavy
    model_bits: Array
    model_cycles: Array
    noisy: Array  # bool, as the following
    local: Array
    heavy: Array
    cached_gateway: Array
    cached_edge: Array
    keep_gateway: Array
    keep_edge: Array
    band_score: Array
    gateway_cpu_score: Array
    relay_score: Array
    edge_cpu_score: Array


class Found(NamedTuple):
    """What the slot writes."""

    parts: Array  # (PARTS, B N)
    flags: Array  # (FLAGS, B N) bool
    next_gateway: Array  # (B N, 2) uint8 caches of the next slot
    next_edge: Array
    sums: Array  # (SUMS, B)
    counts: Array  # (COUNTS, B)
    gateway_cost: Array  # (B, G)
    server_cost: Array  # (B, 1)


_NUMBERS, _PAIRS = (types.Array(types.float64, d, "C", readonly=True) for d in (1, 2))
_FLAGS, _FLAG_PAIRS = (types.Array(types.boolean, d, "C", readonly=True) for d in (1, 2))
_TASKS = (
    *[_NUMBERS] * 4, *[_PAIRS] * 3, *[_FLAGS] * 3, *[_FLAG_PAIRS] * 4, *[_NUMBERS] * 4
)  # fmt: skip
_CONSTANTS = types.NamedUniTuple(types.float64, len(SlotConstants._fields), SlotConstants)
_FOUND = types.NamedTuple(
    [
        *(types.float64[:, ::1], types.boolean[:, ::1], types.uint8[:, ::1], types.uint8[:, ::1]),
        *(types.float64[:, ::1], types.int64[:, ::1], types.float64[:, ::1], types.float64[:, ::1]),
    ],
    Found,
)


@compiled(error_model="numpy")
def _want(of: Tasks, c: SlotConstants, start: int, n: int, cell: Array, flags: Array) -> None:
    """Size, work and time of arrival of the wanted model (eqs. 7, 8; out: cell), and whether it is there, or late."""
    for j in range(n):
        i = np.uintp(start + j)
        local, heavy = of.local[i], of.heavy[i]
        bits = of.model_bits[i, 1] if heavy else of.model_bits[i, 0]
        here = of.cached_gateway[i, 1] if heavy else of.cached_gateway[i, 0]
        there = of.cached_edge[i, 1] if heavy else of.cached_edge[i, 0]
        through_edge_s = bits / c.edge_rate_bps + (0.0 if there else bits / c.cloud_rate_bps)
        edge_s = bits / c.edge_miss_bps
        at_gateway_s, at_edge_s = 0.0 if here else through_edge_s, 0.0 if there else edge_s
        fetch_s, hit = at_gateway_s if local else at_edge_s, here if local else there
        cell[BITS, j], cell[FETCH, j] = bits, fetch_s
        cell[CYCLES, j] = of.model_cycles[i, 1] if heavy else of.model_cycles[i, 0]
        flags[HIT, i], flags[LATE, i] = hit, (not hit) & (fetch_s > of.deadline_s[i])


@compiled(error_model="numpy")
def _space_used(bits: Array, cached: Array, start: int, n: int, pairs: Array) -> None:
    """Space that every cached model of a cell takes, 0 for others (out: pairs, (2 N,))."""
    for j in range(n):
        i = np.uintp(start + j)
        pairs[2 * j] = bits[i, 0] if cached[i, 0] else 0.0
        pairs[2 * j + 1] = bits[i, 1] if cached[i, 1] else 0.0


@compiled(error_model="numpy")
def _admit(
    of: Tasks, c: SlotConstants, start: int, k: int, used: Array, used_edge: float, cell: Array, flags: Array
) -> None:
    """Missing models that are not late are fetched in order while they fit (erratum: space of gateway or server)."""
    edge_bits = used_edge
    for g in range(len(used)):
        gateway_bits = used[g]
        for j in range(g * k, g * k + k):
            i = np.uintp(start + j)
            bits, local = cell[BITS, np.uintp(j)], of.local[i]
            asks = (not flags[HIT, i]) & (not flags[LATE, i])
            here = asks & local & (gateway_bits + bits <= c.gateway_cache_bits)
            there = asks & (not local) & (edge_bits + bits <= c.edge_cache_bits)
            gateway_bits += bits if here else 0.0
            edge_bits += bits if there else 0.0
            flags[ADMITTED, i] = here | there
            flags[READY, i] = here | there | flags[HIT, i]


@compiled(error_model="numpy")
def _fill(
    of: Tasks, c: SlotConstants, b: int, used: Array, cell: Array, pairs: Array, flags: Array, sums: Array
) -> None:
    """The admission of a cell: space used before, who is admitted, space used then (out: used, flags, sums)."""
    gateways = len(used)
    n = cell.shape[1]
    k, start = n // gateways, b * n
    _space_used(of.model_bits, of.cached_edge, start, n, pairs)
    used_edge = pairwise_sum(pairs, 0, 2 * n)
    _space_used(of.model_bits, of.cached_gateway, start, n, pairs)
    for g in range(gateways):
        used[g] = pairwise_sum(pairs, 2 * g * k, 2 * k)
    _admit(of, c, start, k, used, used_edge, cell, flags)
    held = cell[HELD]
    for j in range(n):
        i = np.uintp(start + j)
        held[j] = cell[BITS, j] if flags[ADMITTED, i] & of.local[i] else 0.0
    for g in range(gateways):
        used[g] += pairwise_sum(held, g * k, k)
    sums[1, b] = pairwise_sum(used, 0, gateways) / (gateways * c.gateway_cache_bits)
    for j in range(n):
        i = np.uintp(start + j)
        held[j] = cell[BITS, j] if flags[ADMITTED, i] & (not of.local[i]) else 0.0
    sums[2, b] = (used_edge + pairwise_sum(held, 0, n)) / c.edge_cache_bits


@compiled(error_model="numpy")
def _needs(of: Tasks, c: SlotConstants, b: int, gateways: int, cell: Array) -> None:
    """What a task needs of each pool to make its deadline, up to a common factor (out: cell); 0 without a channel."""
    n = cell.shape[1]
    for j in range(n):
        i = np.uintp(b * n + j)
        g, relay_g = of.efficiency[i], of.relay_efficiency[np.uintp(b * gateways + j * gateways // n)]
        per_s = of.task_bits[i] / of.deadline_s[i]
        cell[FIRST_NEED, j] = per_s / g if g > 0.0 else 0.0
        cell[SECOND_NEED, j] = per_s / relay_g if relay_g > 0.0 else 0.0
        cell[CPU_NEED, j] = cell[CYCLES, j] / of.deadline_s[i]


@compiled(error_model="numpy")
def _weigh(score: Array, c: SlotConstants, start: int, need: Array, weight: Array) -> None:
    """Weight of each task in a pool, (1 + score)/2, times its need where the config says so (out: weight)."""
    for j in range(len(weight)):
        weight[j] = (1.0 + score[np.uintp(start + j)]) / 2.0
    if c.shared_by_need != 0.0:
        for j in range(len(weight)):
            weight[j] *= need[j]


@compiled(error_model="numpy")
def _share(of: Tasks, c: SlotConstants, b: int, gateways: int, cell: Array, member: Array, out: Found) -> None:
    """Shares of the four pools (constraints C4 to C6); 0 for tasks outside a pool."""
    n = cell.shape[1]
    start, k, weight = b * n, n // gateways, cell[WEIGHT]
    ready, band, parts = out.flags[READY], out.parts[BAND], out.parts
    if c.shared_by_need != 0.0:
        _needs(of, c, b, gateways, cell)
    for j in range(n):
        i = np.uintp(start + j)
        member[j] = ready[i] & of.local[i]
    _weigh(of.gateway_cpu_score, c, start, cell[CPU_NEED], weight)
    for g in range(gateways):
        divide_pool(weight, member, g * k, k, parts[GATEWAY_CPU], start + g * k, cell[HELD])
    if c.first_hop_counted != 0.0:
        for j in range(n):
            member[j] = ready[np.uintp(start + j)]
    _weigh(of.band_score, c, start, cell[FIRST_NEED], weight)
    for g in range(gateways):
        divide_pool(weight, member, g * k, k, band, start + g * k, cell[HELD])
    for j in range(n):
        i = np.uintp(start + j)
        member[j] = ready[i] & (not of.local[i])
        band[i] = 1.0 if member[j] & (c.first_hop_counted == 0.0) else band[i]
    _weigh(of.relay_score, c, start, cell[SECOND_NEED], weight)
    divide_pool(weight, member, 0, n, parts[RELAY], start, cell[HELD])
    _weigh(of.edge_cpu_score, c, start, cell[CPU_NEED], weight)
    divide_pool(weight, member, 0, n, parts[EDGE_CPU], start, cell[HELD])


@compiled(error_model="numpy")
def _finish(of: Tasks, c: SlotConstants, b: int, gateways: int, cell: Array, parts: Array, flags: Array) -> None:
    """Completion delays (eqs. 2 to 9): upload and model transfer in parallel, then computing; what is gained in time.

    Without a share a delay is infinite, so that a refused task is not done.
    """
    n = cell.shape[1]
    done = 0
    for j in range(n):
        i = np.uintp(b * n + j)
        local, bits = of.local[i], of.task_bits[i]
        relay_g = of.relay_efficiency[np.uintp(b * gateways + j * gateways // n)]
        first = bits / (parts[BAND, i] * c.gateway_band_hz * of.efficiency[i])
        second = bits / (parts[RELAY, i] * c.relay_bandwidth_hz * relay_g)
        upload = first if local else first + second
        cpu_hz = parts[GATEWAY_CPU, i] * c.gateway_cpu_hz if local else parts[EDGE_CPU, i] * c.edge_cpu_hz
        delay = max(upload, cell[FETCH, j]) + cell[CYCLES, j] / cpu_hz
        clean = of.accuracy[i, 1] if of.heavy[i] else of.accuracy[i, 0]
        noisy = of.accuracy[i, 3] if of.heavy[i] else of.accuracy[i, 2]
        in_time = delay <= of.deadline_s[i]
        done += 1 if in_time else 0
        parts[DELAY, i], flags[DONE, i] = delay, in_time
        parts[GAINED, i] = (noisy if of.noisy[i] else clean) if in_time else 0.0
    if c.all_or_nothing != 0.0 and done < n:
        for j in range(n):
            parts[GAINED, np.uintp(b * n + j)] = 0.0
    for j in range(n):
        i = np.uintp(b * n + j)
        parts[COST, i] = parts[GAINED, i] * c.device_unit


@compiled(error_model="numpy")
def _keep(of: Tasks, start: int, n: int, flags: Array, next_gateway: Array, next_edge: Array) -> tuple[int, int]:
    """Caches of the next slot (out), and models at gateways and server before some are deleted."""
    placed_gateway = placed_edge = 0
    for j in range(n):
        i = np.uintp(start + j)
        fetched, local, heavy = flags[ADMITTED, i], of.local[i], of.heavy[i]
        light_here = of.cached_gateway[i, 0] | (fetched & local & (not heavy))
        heavy_here = of.cached_gateway[i, 1] | (fetched & local & heavy)
        light_there = of.cached_edge[i, 0] | (fetched & (not local) & (not heavy))
        heavy_there = of.cached_edge[i, 1] | (fetched & (not local) & heavy)
        placed_gateway += (1 if light_here else 0) + (1 if heavy_here else 0)
        placed_edge += (1 if light_there else 0) + (1 if heavy_there else 0)
        next_gateway[i, 0], next_gateway[i, 1] = light_here & of.keep_gateway[i, 0], heavy_here & of.keep_gateway[i, 1]
        next_edge[i, 0], next_edge[i, 1] = light_there & of.keep_edge[i, 0], heavy_there & of.keep_edge[i, 1]
    return placed_gateway, placed_edge


@compiled(error_model="numpy")
def _count(of: Tasks, start: int, n: int, flags: Array, counts: Array) -> None:
    """The metrics `COUNTS` of a cell, but for the models placed (out: counts)."""
    done_here = done_heavy = done = local = heavy = hits = late = ready = 0
    for j in range(n):
        i = np.uintp(start + j)
        done += 1 if flags[DONE, i] else 0
        done_here += 1 if flags[DONE, i] & of.local[i] else 0
        done_heavy += 1 if flags[DONE, i] & of.heavy[i] else 0
        local += 1 if of.local[i] else 0
        heavy += 1 if of.heavy[i] else 0
        hits += 1 if flags[HIT, i] else 0
        late += 1 if flags[LATE, i] else 0
        ready += 1 if flags[READY, i] else 0
    counts[0], counts[1], counts[2], counts[3] = done_here, done - done_here, done_heavy, done - done_heavy
    counts[4], counts[5], counts[6], counts[7], counts[8] = local, heavy, hits, n - ready - late, late
    counts[11], counts[12] = done, ready


@compiled(error_model="numpy")
def _transferred(of: Tasks, start: int, cell: Array, flags: Array, from_cloud: bool) -> float:
    """Bits that models take over the link from the cloud, or from the server to the gateways."""
    held = cell[HELD]
    for j in range(cell.shape[1]):
        i = np.uintp(start + j)
        there = of.cached_edge[i, 1] if of.heavy[i] else of.cached_edge[i, 0]
        over = not (of.local[i] & there) if from_cloud else of.local[i]
        held[j] = cell[BITS, j] if flags[ADMITTED, i] & over else 0.0
    return pairwise_sum(held, 0, cell.shape[1])


@compiled(error_model="numpy")
def _book(of: Tasks, c: SlotConstants, b: int, gained_at: Array, cell: Array, out: Found) -> None:
    """Ledger of gateways and server, and the metrics `SUMS` of a cell but for the caches."""
    gateways, n, held = len(gained_at), cell.shape[1], cell[HELD]
    start, k, gained = b * n, n // gateways, out.parts[GAINED]
    for g in range(gateways):
        gained_at[g] = pairwise_sum(gained, start + g * k, k)
        out.gateway_cost[b, g] = gained_at[g] * c.gateway_unit
    out.server_cost[b, 0] = pairwise_sum(gained_at, 0, gateways) * c.server_unit
    out.sums[0, b] = pairwise_sum(gained, start, n) / n
    out.sums[3, b] = _transferred(of, start, cell, out.flags, True)
    out.sums[4, b] = _transferred(of, start, cell, out.flags, False)
    for j in range(n):
        i = np.uintp(start + j)
        held[j] = out.parts[DELAY, i] if out.flags[DONE, i] else 0.0
    out.sums[5, b] = pairwise_sum(held, 0, n) / max(out.counts[11, b], 1)


@compiled(types.void(*_TASKS, _CONSTANTS, types.int64, types.int64, _FOUND), error_model="numpy", cache=True)
def run_slot(
    task_bits: Array, deadline_s: Array, efficiency: Array, relay_efficiency: Array, accuracy: Array, model_bits: Array,
    model_cycles: Array, noisy: Array, local: Array, heavy: Array, cached_gateway: Array, cached_edge: Array,
    keep_gateway: Array, keep_edge: Array, band_score: Array, gateway_cpu_score: Array, relay_score: Array,
    edge_cpu_score: Array, c: SlotConstants, gateways: int, per_gateway: int, out: Found,
) -> None:  # fmt: skip
    """The slot of all cells: space and admission, shares, delays and what is gained in time, caches, metrics.

    Args:
        task_bits to edge_cpu_score: the fields of `Tasks`, which see.
        c: constants.
        gateways, per_gateway: G, K.
        out: what is written.
    """
    of = Tasks(
        task_bits, deadline_s, efficiency, relay_efficiency, accuracy, model_bits, model_cycles, noisy, local, heavy,
        cached_gateway, cached_edge, keep_gateway, keep_edge, band_score, gateway_cpu_score, relay_score,
        edge_cpu_score,
    )  # fmt: skip
    n = gateways * per_gateway
    cell, pairs, member, at = np.empty((SCRATCH, n)), np.empty(2 * n), np.empty(n, np.bool_), np.empty(gateways)
    counts = np.empty(len(COUNTS), np.int64)
    for b in range(len(task_bits) // n):
        _want(of, c, b * n, n, cell, out.flags)
        _fill(of, c, b, at, cell, pairs, out.flags, out.sums)
        _share(of, c, b, gateways, cell, member, out)
        _finish(of, c, b, gateways, cell, out.parts, out.flags)
        _count(of, b * n, n, out.flags, counts)
        counts[9], counts[10] = _keep(of, b * n, n, out.flags, out.next_gateway, out.next_edge)
        out.counts[:, b] = counts
        _book(of, c, b, at, cell, out)
