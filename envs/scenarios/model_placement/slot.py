"""A slot of `model_placement`, compiled: every task, gateway and server of every cell.

Cells are worked on a group at a time, so that what lies between two passes stays in the cache.

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

AT_ONCE = 1024
"""Devices of a group of cells; a larger cell is a group by itself."""
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
    *("edge_transfer_bits", "mean_completed_delay_s", "cost", "completion_ratio", "ready_ratio"),
)
COUNTS = (
    *("completed_local", "completed_edge", "completed_heavy", "completed_light", "assigned_local", "selected_heavy"),
    *("cache_hits", "rejected_space", "rejected_late", "placed_gateway", "placed_edge", "completed", "ready"),
)
"""Metrics of a cell: numbers, and counts of tasks or models; the last two counts are metrics as ratios only."""
SCRATCH = 9
BITS, CYCLES, FETCH, FAR, FIRST_NEED, SECOND_NEED, CPU_NEED, HELD, WEIGHT = range(SCRATCH)
"""What is needed of a group's devices within the slot only."""
ALL_FIT = 1.0 - 1e-9
"""Part of a cache up to which a sum of models fits in whatever order they are added."""


class PlacementConstants(NamedTuple):
    """What a slot needs of a config."""

    gateway_band_hz: float
    relay_bandwidth_hz: float
    gateway_cpu_hz: float
    edge_cpu_hz: float
    gateway_cache_bits: float
    edge_cache_bits: float
    edge_rate_bps: float
    cloud_rate_bps: float
    edge_miss_as_printed: float  # 0 or 1, as the following
    shared_by_need: float
    first_hop_counted: float
    all_or_nothing: float
    device_unit: float  # cost of an accuracy in the ledger of a device, of its gateway, of the server
    gateway_unit: float
    server_unit: float


class Tasks(NamedTuple):
    """State, exogenous and decisions of the devices; (B, G, K) and, by level, (B, G, K, 2): light, heavy.

    Within the slot the devices of all cells lie one after another: (B N,), (B N, 2).
    """

    task_bits: Array
    deadline_s: Array
    efficiency: Array  # g, bit/s/Hz
    relay_efficiency: Array  # g^e of the gateways, (B, G)
    accuracy: Array  # (B, G, K, 2, 2): clean light, heavy; noisy light, heavy
    model_bits: Array
    model_cycles: Array
    noisy: Array  # uint8, as the caches
    local: Array  # bool, as what is kept
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


def _given(kind: types.Type, dimensions: int) -> types.Array:
    return types.Array(kind, dimensions, "C", readonly=True)


_NUMBERS, _LEVELS = _given(types.float64, 3), _given(types.float64, 4)
_CACHES, _KEPT = _given(types.uint8, 4), _given(types.boolean, 4)
_TASKS = (
    *(_NUMBERS, _NUMBERS, _NUMBERS, _given(types.float64, 2), _given(types.float64, 5), _LEVELS, _LEVELS),
    *(_given(types.uint8, 3), _given(types.boolean, 3), _given(types.boolean, 3)),
    *(_CACHES, _CACHES, _KEPT, _KEPT, _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS),
)
_CONSTANTS = types.NamedUniTuple(types.float64, len(PlacementConstants._fields), PlacementConstants)
_FOUND = types.NamedTuple(
    [
        *(types.float64[:, ::1], types.boolean[:, ::1], types.uint8[:, ::1], types.uint8[:, ::1]),
        *(types.float64[:, ::1], types.int64[:, ::1], types.float64[:, ::1], types.float64[:, ::1]),
    ],
    Found,
)


@compiled(error_model="numpy")
def _want(of: Tasks, c: PlacementConstants, lo: int, hi: int, cell: Array, flags: Array) -> None:
    """Size, work and time of arrival of the wanted model (eqs. 7, 8; out: cell), and whether it is there, or late."""
    as_printed = c.edge_miss_as_printed != 0.0
    for j in range(hi - lo):  # everything is read and computed, then chosen: no branch to predict
        i = np.uintp(lo + j)
        heavy, local = of.heavy[i], of.local[i]
        light_bits, heavy_bits = of.model_bits[i, 0], of.model_bits[i, 1]
        light_here, heavy_here = of.cached_gateway[i, 0] != 0, of.cached_gateway[i, 1] != 0
        light_there, heavy_there = of.cached_edge[i, 0] != 0, of.cached_edge[i, 1] != 0
        light_cycles, heavy_cycles = of.model_cycles[i, 0], of.model_cycles[i, 1]
        bits = heavy_bits if heavy else light_bits
        here = heavy_here if heavy else light_here
        there = heavy_there if heavy else light_there
        edge_s, cloud_s = bits / c.edge_rate_bps, bits / c.cloud_rate_bps
        to_edge_s = 0.0 if there else cloud_s
        at_gateway_s = 0.0 if here else edge_s + to_edge_s
        missing_s = edge_s if as_printed else cloud_s
        at_edge_s = 0.0 if there else missing_s
        fetch_s, hit = at_gateway_s if local else at_edge_s, here if local else there
        cell[BITS, j], cell[FETCH, j], cell[FAR, j] = bits, fetch_s, 0.0 if there else 1.0
        cell[CYCLES, j] = heavy_cycles if heavy else light_cycles
        flags[HIT, i], flags[LATE, i] = hit, (not hit) & (fetch_s > of.deadline_s[i])


@compiled(error_model="numpy")
def _space_used(bits: Array, cached: Array, lo: int, hi: int, pairs: Array) -> None:
    """Space that every cached model takes, 0 for others (out: pairs, two of each device)."""
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        light, heavy = bits[i, 0], bits[i, 1]
        pairs[2 * j] = light if cached[i, 0] != 0 else 0.0
        pairs[2 * j + 1] = heavy if cached[i, 1] != 0 else 0.0


@compiled(error_model="numpy")
def _ask(of: Tasks, lo: int, hi: int, cell: Array, flags: Array) -> None:
    """Space that missing models which are not late ask for at gateways and at the server (out: cell)."""
    here, there, size, hit, late, local = cell[HELD], cell[WEIGHT], cell[BITS], flags[HIT], flags[LATE], of.local
    for j in range(hi - lo):  # times 0 or 1: no branch to predict
        i = np.uintp(lo + j)
        asks, at_gateway = (not hit[i]) & (not late[i]), local[i]
        here[j], there[j] = size[j] * (asks & at_gateway), size[j] * (asks & (not at_gateway))


@compiled(error_model="numpy")
def _admit_in_order(
    c: PlacementConstants, first: int, n: int, k: int, used: Array, edge_bits: float, here: Array, there: Array
) -> None:
    """The models of a cell, each of which is fetched if it fits beside those before it (out: 0 bits for others)."""
    for g in range(first // k, (first + n) // k):
        gateway_bits = used[g]
        for j in range(g * k, g * k + k):
            at = np.uintp(j)
            here[at] = here[at] if gateway_bits + here[at] <= c.gateway_cache_bits else 0.0
            there[at] = there[at] if edge_bits + there[at] <= c.edge_cache_bits else 0.0
            gateway_bits, edge_bits = gateway_bits + here[at], edge_bits + there[at]


@compiled(error_model="numpy")
def _admit(
    of: Tasks, c: PlacementConstants, lo: int, hi: int, used: Array, used_edge: Array, cell: Array, flags: Array
) -> None:
    """Missing models that are not late are fetched in order of index, each that fits beside those before it."""
    here, there, gateways = cell[HELD], cell[WEIGHT], len(used) // len(used_edge)
    n, k = (hi - lo) // len(used_edge), (hi - lo) // len(used)
    _ask(of, lo, hi, cell, flags)
    room, room_edge = c.gateway_cache_bits * ALL_FIT, c.edge_cache_bits * ALL_FIT
    for b in range(len(used_edge)):
        fit = used_edge[b] + pairwise_sum(there, b * n, n) <= room_edge
        for g in range(b * gateways, b * gateways + gateways):
            fit &= used[g] + pairwise_sum(here, g * k, k) <= room
        if not fit:
            _admit_in_order(c, b * n, n, k, used, used_edge[b], here, there)
    admitted, ready, hit = flags[ADMITTED], flags[READY], flags[HIT]
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        fetched = here[j] + there[j] > 0.0
        admitted[i], ready[i] = fetched, fetched | hit[i]


@compiled(error_model="numpy")
def _fill(
    of: Tasks, c: PlacementConstants, lo: int, hi: int, used: Array, used_edge: Array, cell: Array, pairs: Array,
    flags: Array, sums: Array,
) -> None:  # fmt: skip
    """The admission: space used before, who is admitted, what is transferred (out: sums, with what is used then)."""
    cells, gateways = len(used_edge), len(used) // len(used_edge)
    n, k, b0 = (hi - lo) // cells, (hi - lo) // len(used), lo // ((hi - lo) // cells)
    _space_used(of.model_bits, of.cached_edge, lo, hi, pairs)
    for b in range(cells):
        used_edge[b] = pairwise_sum(pairs, 2 * b * n, 2 * n)
    _space_used(of.model_bits, of.cached_gateway, lo, hi, pairs)
    for g in range(len(used)):
        used[g] = pairwise_sum(pairs, 2 * g * k, 2 * k)
    _admit(of, c, lo, hi, used, used_edge, cell, flags)
    here, there, far = cell[HELD], cell[WEIGHT], cell[FAR]
    for g in range(len(used)):
        used[g] += pairwise_sum(here, g * k, k)
    for b in range(cells):
        sums[1, b0 + b] = pairwise_sum(used, b * gateways, gateways) / (gateways * c.gateway_cache_bits)
        sums[2, b0 + b] = (used_edge[b] + pairwise_sum(there, b * n, n)) / c.edge_cache_bits
    for j in range(hi - lo):
        pairs[j] = there[j] + here[j] * far[j]
    for b in range(cells):  # from the cloud, and from the server to gateways
        sums[3, b0 + b], sums[4, b0 + b] = pairwise_sum(pairs, b * n, n), pairwise_sum(here, b * n, n)


@compiled(error_model="numpy")
def _needs(of: Tasks, lo: int, hi: int, k: int, cell: Array) -> None:
    """What a task needs of each pool to make its deadline, up to a common factor (out: cell); 0 without a channel."""
    for g in range((hi - lo) // k):
        relay_g = of.relay_efficiency[lo // k + g]
        for j in range(g * k, g * k + k):
            i, at = np.uintp(lo + j), np.uintp(j)
            per_s = of.task_bits[i] / of.deadline_s[i]
            cell[FIRST_NEED, at] = per_s / of.efficiency[i] if of.efficiency[i] > 0.0 else 0.0
            cell[SECOND_NEED, at] = per_s / relay_g if relay_g > 0.0 else 0.0
            cell[CPU_NEED, at] = cell[CYCLES, at] / of.deadline_s[i]


@compiled(error_model="numpy")
def _divide(
    score: Array, by_need: bool, need: Array, lo: int, hi: int, size: int, member: Array, weight: Array, shares: Array
) -> None:
    """Shares of the pools of `size` tasks each: weights (1 + score)/2, times the need where the config says so."""
    for j in range(hi - lo):
        weight[j] = (1.0 + score[np.uintp(lo + j)]) / 2.0
    if by_need:
        for j in range(hi - lo):
            weight[j] *= need[j]
    for start in range(0, hi - lo, size):
        divide_pool(weight, member, start, size, shares, lo + start)


@compiled(error_model="numpy")
def _share(
    of: Tasks, prior: Array, c: PlacementConstants, lo: int, hi: int, n: int, k: int, cell: Array, member: Array,
    out: Found,
) -> None:  # fmt: skip
    """Shares of the four pools (constraints C4 to C6); 0 for tasks outside a pool."""
    by_need, whole_hop = c.shared_by_need != 0.0, c.first_hop_counted == 0.0
    ready, local, band, weight = out.flags[READY], of.local, out.parts[BAND], cell[WEIGHT]
    if len(prior):
        for j in range(hi - lo):
            i = np.uintp(lo + j)
            cell[FIRST_NEED, j], cell[CPU_NEED, j], cell[SECOND_NEED, j] = prior[0, i], prior[1, i], prior[2, i]
    elif by_need:
        _needs(of, lo, hi, k, cell)
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        member[j] = ready[i] & (not local[i])
    _divide(of.relay_score, by_need, cell[SECOND_NEED], lo, hi, n, member, weight, out.parts[RELAY])
    _divide(of.edge_cpu_score, by_need, cell[CPU_NEED], lo, hi, n, member, weight, out.parts[EDGE_CPU])
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        member[j] = ready[i] & local[i]
    _divide(of.gateway_cpu_score, by_need, cell[CPU_NEED], lo, hi, k, member, weight, out.parts[GATEWAY_CPU])
    if not whole_hop:
        for j in range(hi - lo):
            member[j] = ready[np.uintp(lo + j)]
    _divide(of.band_score, by_need, cell[FIRST_NEED], lo, hi, k, member, weight, band)
    if whole_hop:
        for j in range(hi - lo):
            i = np.uintp(lo + j)
            band[i] = 1.0 if ready[i] & (not local[i]) else band[i]


@compiled(error_model="numpy")
def _upload(of: Tasks, c: PlacementConstants, lo: int, hi: int, k: int, cell: Array, parts: Array) -> None:
    """Time until a task is where it is executed (eqs. 2, 4; out: cell); infinite without a share."""
    band, relay, held = parts[BAND], parts[RELAY], cell[HELD]
    for g in range((hi - lo) // k):
        relay_g = of.relay_efficiency[lo // k + g]
        for j in range(k):
            at = np.uintp(g * k + j)
            i = np.uintp(lo) + at
            first = of.task_bits[i] / (band[i] * c.gateway_band_hz * of.efficiency[i])
            second = of.task_bits[i] / (relay[i] * c.relay_bandwidth_hz * relay_g)
            held[at] = first if of.local[i] else first + second


@compiled(error_model="numpy")
def _finish(
    of: Tasks, c: PlacementConstants, lo: int, hi: int, n: int, cell: Array, parts: Array, flags: Array
) -> None:
    """Completion delays (eqs. 5, 6, 9): upload and model transfer in parallel, then computing; what is gained in time.

    Without a share a delay is infinite, so that a refused task is not done.
    """
    upload, gateway_cpu, edge_cpu, gained = cell[HELD], parts[GATEWAY_CPU], parts[EDGE_CPU], parts[GAINED]
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        here_hz, there_hz = gateway_cpu[i] * c.gateway_cpu_hz, edge_cpu[i] * c.edge_cpu_hz
        delay = max(upload[j], cell[FETCH, j]) + cell[CYCLES, j] / (here_hz if of.local[i] else there_hz)
        clean_light, clean_heavy = of.accuracy[i, 0], of.accuracy[i, 1]
        noisy_light, noisy_heavy = of.accuracy[i, 2], of.accuracy[i, 3]
        clean, noisy = clean_heavy if of.heavy[i] else clean_light, noisy_heavy if of.heavy[i] else noisy_light
        accuracy, in_time = noisy if of.noisy[i] != 0 else clean, delay <= of.deadline_s[i]
        parts[DELAY, i], flags[DONE, i] = delay, in_time
        gained[i] = accuracy if in_time else 0.0
    if c.all_or_nothing != 0.0:
        for start in range(lo, hi, n):
            done = 0
            for j in range(n):
                done += 1 if flags[DONE, np.uintp(start + j)] else 0
            for j in range(n):
                gained[np.uintp(start + j)] *= 1.0 if done == n else 0.0
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        parts[COST, i] = gained[i] * c.device_unit


@compiled(error_model="numpy")
def _keep(of: Tasks, lo: int, hi: int, flags: Array, next_gateway: Array, next_edge: Array, placed: Array) -> None:
    """Caches of the next slot (out), and models at gateway and server before some are deleted (out: placed, (2, N))."""
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        fetched, local, heavy = flags[ADMITTED, i], of.local[i], of.heavy[i]
        light_here = (of.cached_gateway[i, 0] != 0) | (fetched & local & (not heavy))
        heavy_here = (of.cached_gateway[i, 1] != 0) | (fetched & local & heavy)
        light_there = (of.cached_edge[i, 0] != 0) | (fetched & (not local) & (not heavy))
        heavy_there = (of.cached_edge[i, 1] != 0) | (fetched & (not local) & heavy)
        placed[0, j] = (1 if light_here else 0) + (1 if heavy_here else 0)
        placed[1, j] = (1 if light_there else 0) + (1 if heavy_there else 0)
        next_gateway[i, 0], next_gateway[i, 1] = (
            light_here & of.keep_gateway[i, 0],
            heavy_here & of.keep_gateway[i, 1],
        )
        next_edge[i, 0], next_edge[i, 1] = (
            light_there & of.keep_edge[i, 0],
            heavy_there & of.keep_edge[i, 1],
        )


@compiled(error_model="numpy")
def _count(of: Tasks, lo: int, hi: int, n: int, flags: Array, placed: Array, counts: Array) -> None:
    """The metrics `COUNTS` (out: counts)."""
    done_at, ready_at, hit_at, late_at = flags[DONE], flags[READY], flags[HIT], flags[LATE]
    for start in range(lo, hi, n):
        done_here = done_heavy = done = local = heavy = hits = late = ready = here = there = 0
        for j in range(n):
            i, at = np.uintp(start + j), np.uintp(start - lo + j)
            done += 1 if done_at[i] else 0
            done_here += 1 if done_at[i] & of.local[i] else 0
            done_heavy += 1 if done_at[i] & of.heavy[i] else 0
            local += 1 if of.local[i] else 0
            heavy += 1 if of.heavy[i] else 0
            hits += 1 if hit_at[i] else 0
            late += 1 if late_at[i] else 0
            ready += 1 if ready_at[i] else 0
            here += placed[0, at]
            there += placed[1, at]
        b = start // n
        counts[0, b], counts[1, b], counts[2, b], counts[3, b] = (
            done_here,
            done - done_here,
            done_heavy,
            done - done_heavy,
        )
        counts[4, b], counts[5, b], counts[6, b], counts[7, b] = local, heavy, hits, n - ready - late
        counts[8, b], counts[9, b], counts[10, b], counts[11, b], counts[12, b] = late, here, there, done, ready


@compiled(error_model="numpy")
def _book(c: PlacementConstants, lo: int, hi: int, n: int, k: int, at: Array, cell: Array, out: Found) -> None:
    """Ledger of gateways and server, and the metrics of what was gained and how long it took."""
    gained, delay, done, held, gateways = out.parts[GAINED], out.parts[DELAY], out.flags[DONE], cell[HELD], n // k
    for j in range(hi - lo):
        i = np.uintp(lo + j)
        taken_s = delay[i]
        held[j] = taken_s if done[i] else 0.0
    for start in range(lo, hi, n):
        b = start // n
        for g in range(gateways):
            at[g] = pairwise_sum(gained, start + g * k, k)
            out.gateway_cost[b, g] = at[g] * c.gateway_unit
        out.server_cost[b, 0] = pairwise_sum(at, 0, gateways) * c.server_unit
        accuracy = pairwise_sum(gained, start, n) / n
        out.sums[0, b], out.sums[6, b] = accuracy, -accuracy
        out.sums[7, b], out.sums[8, b] = out.counts[11, b] / n, out.counts[12, b] / n
        out.sums[5, b] = pairwise_sum(held, start - lo, n) / max(out.counts[11, b], 1)


@compiled(
    types.void(*_TASKS, _given(types.float64, 2), _CONSTANTS, types.int64, types.int64, _FOUND),
    error_model="numpy",
    cache=True,
)
def run_slot(
    task_bits: Array, deadline_s: Array, efficiency: Array, relay_efficiency: Array, accuracy: Array, model_bits: Array,
    model_cycles: Array, noisy: Array, local: Array, heavy: Array, cached_gateway: Array, cached_edge: Array,
    keep_gateway: Array, keep_edge: Array, band_score: Array, gateway_cpu_score: Array, relay_score: Array,
    edge_cpu_score: Array, prior: Array, c: PlacementConstants, gateways: int, k: int, out: Found,
) -> None:  # fmt: skip
    """The slot of all cells: space and admission, shares, delays and what is gained in time, caches, metrics.

    Args:
        task_bits to edge_cpu_score: the fields of `Tasks`, which see.
        prior: (3, B N) what weights of band, CPU and relay are multiplied with, or (0, 0): as `c` says.
        c: constants.
        gateways: G.
        k: K, devices of a gateway.
        out: what is written.
    """
    of = Tasks(
        task_bits.reshape(-1), deadline_s.reshape(-1), efficiency.reshape(-1), relay_efficiency.reshape(-1),
        accuracy.reshape(-1, 4), model_bits.reshape(-1, 2), model_cycles.reshape(-1, 2), noisy.reshape(-1),
        local.reshape(-1), heavy.reshape(-1), cached_gateway.reshape(-1, 2), cached_edge.reshape(-1, 2),
        keep_gateway.reshape(-1, 2), keep_edge.reshape(-1, 2), band_score.reshape(-1), gateway_cpu_score.reshape(-1),
        relay_score.reshape(-1), edge_cpu_score.reshape(-1),
    )  # fmt: skip
    n, total = gateways * k, task_bits.size
    step = max(1, AT_ONCE // n) * n
    most = min(step, total)
    cell, pairs, member, placed = (
        np.empty((SCRATCH, most)),
        np.empty(2 * most),
        np.empty(most, np.bool_),
        np.empty((2, most), np.int8),
    )
    at_gateway, at_edge = np.empty(most // k), np.empty(most // n)
    for lo in range(0, total, step):
        hi = min(lo + step, total)
        used, used_edge = at_gateway[: (hi - lo) // k], at_edge[: (hi - lo) // n]
        _want(of, c, lo, hi, cell, out.flags)
        _fill(of, c, lo, hi, used, used_edge, cell, pairs, out.flags, out.sums)
        _share(of, prior, c, lo, hi, n, k, cell, member, out)
        _upload(of, c, lo, hi, k, cell, out.parts)
        _finish(of, c, lo, hi, n, cell, out.parts, out.flags)
        _keep(of, lo, hi, out.flags, out.next_gateway, out.next_edge, placed)
        _count(of, lo, hi, n, out.flags, placed, out.counts)
        _book(c, lo, hi, n, k, at_gateway, cell, out)
