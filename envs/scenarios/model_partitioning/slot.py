"""A slot of `model_partitioning`, compiled: every device and the shared edge of every cell.

Cells are worked on a group at a time, so that what lies between two passes stays in the cache. Equation numbers are
the paper's, errata those of docs/model_partitioning.md, as in `scenario.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.cpu_rate import best_cpu_hz
from edgemarl.envs.physics.elementary import log_terms, pairwise_sum
from edgemarl.envs.physics.fdma import divide_bands, log_excess

AT_ONCE = 1024
"""Devices of a group of cells; a larger cell is a group by itself."""
PARTS = (
    *("device_cpu_hz", "bandwidth_share", "edge_cpu_share", "delay_s", "device_delay_s", "transmission_delay_s"),
    *("edge_delay_s", "transmission_cost", "full_band_snr", "energy_j", "memory_bytes"),
    *("cost", "energy_queue", "memory_queue", "last_sent_fraction", "last_edge_fraction", "utilisation"),
)
"""What the slot computes of every device; the queues are the next ones."""
DETAILS = PARTS[:11]
CPU, BAND, EDGE, DELAY, LOCAL_S, AIR_S, EDGE_S, AIR_COST, SNR, ENERGY, MEMORY = range(11)
COST, NEXT_ENERGY, NEXT_MEMORY, SENT_FRACTION, EDGE_FRACTION, UTILISATION = range(11, 17)
SCRATCH = 8
WORK, EDGE_WORK, BITS, AIR_WEIGHT, EDGE_LOAD, BAND_PRICE, EDGE_PRICE, OFFLOADS = range(SCRATCH)
"""What is needed of a group's devices within the slot only."""
SUMS = (
    *("objective", "mean_device_delay_s", "mean_transmission_delay_s", "mean_edge_delay_s", "mean_utilisation"),
    *("unstable_devices", "bandwidth_price", "edge_cpu_price", "signalling_bytes"),
)
MEANS = (
    *("mean_delay_s", "mean_energy_j", "mean_memory_bytes", "mean_energy_queue", "mean_memory_queue"),
    "offload_ratio",
)
QUEUE_COSTS = ("energy_queue_cost", "memory_queue_cost")
"""Metrics of a cell; of the means each is followed by those over the devices of each network. Queues are those before
the slot; what they cost are the sums over devices of energy (J) and memory at the prices Q and W."""
OPTIMAL, CORRECTED, WEIGHTS, EQUAL = range(4)
"""Rules of who divides a resource, as `config.Rule`; EQUAL also where "action" comes without weights."""


def rule(name: str, weighted: bool) -> int:
    """A rule of the config as compiled code takes it: without weights nothing is corrected, and "action" is even."""
    if name == "corrected":
        return CORRECTED if weighted else OPTIMAL
    return {"optimal": OPTIMAL, "equal": EQUAL, "action": WEIGHTS if weighted else EQUAL}[name]


def flat(values: Array) -> Array:
    """As compiled code takes them; no copy if they are so already."""
    return np.ascontiguousarray(values, np.float64).reshape(-1)


class PartitioningConstants(NamedTuple):
    """What a slot needs of a config."""

    delay_weight: float  # V, 1/s
    slot_s: float
    transmit_power_w: float
    snr_per_gain: float  # p / (W N0)
    bandwidth_hz: float
    edge_cpu_hz: float
    device_cpu_hz: float
    hz_min: float
    energy_coefficient: float
    utilisation_cap: float
    memory_unit_bytes: float
    energy_queue_scale: float  # nu_e
    memory_queue_scale: float  # nu_c over the unit of memory
    bytes_per_offload: float
    bytes_per_slot: float
    signal_smoothing: float


class CutTables(NamedTuple):
    """Constants of the devices (N,), and of every cut of theirs."""

    cuts: Array  # (N, M+1, 6): local and edge cycles, bits sent, memory in bytes; bits and edge cycles over cut 0's
    layers: Array  # int
    gain_floor: Array
    energy_budget: Array  # nu_e e
    memory_budget: Array  # nu_c C
    by_network: Array  # int, devices in order of their networks
    network_ends: Array  # int (networks + 1,), 0 and where each network ends in that order


class Devices(NamedTuple):
    """State, exogenous and decisions of the devices, (B N,): those of a cell one after another."""

    energy_queue: Array
    memory_queue: Array
    arrival_rate_hz: Array
    channel_gain: Array
    partition_layer: Array  # int
    device_cpu_hz: Array  # (0,): the best
    bandwidth_weight: Array  # (0,) where the rule takes none
    edge_cpu_weight: Array


_NUMBERS, _COUNTS = (types.Array(of, 1, "C", readonly=True) for of in (types.float64, types.int64))
_CONSTANTS = types.NamedUniTuple(types.float64, len(PartitioningConstants._fields), PartitioningConstants)
_TABLES = types.NamedTuple(
    [types.float64[:, :, ::1], types.int64[::1], *[types.float64[::1]] * 3, *[types.int64[::1]] * 2], CutTables
)


@compiled(error_model="numpy")
def _look_up(given: Devices, tables: CutTables, lo: int, hi: int, layer: Array, cut: Array, parts: Array) -> None:
    """Cut of each device, its local work, edge work and bits (out: layer, cut), memory (eq. 6) and floored gain."""
    n = len(tables.layers)
    for start in range(lo, hi, n):
        for j in range(n):
            i, k = np.uintp(start + j), np.uintp(start - lo + j)
            at = min(given.partition_layer[i], tables.layers[j])
            layer[i] = at
            cut[WORK, k], cut[EDGE_WORK, k] = tables.cuts[j, at, 0], tables.cuts[j, at, 1]
            cut[BITS, k], parts[MEMORY, i] = tables.cuts[j, at, 2], tables.cuts[j, at, 3]
            parts[SENT_FRACTION, i], parts[EDGE_FRACTION, i] = tables.cuts[j, at, 4], tables.cuts[j, at, 5]
            parts[SNR, i] = max(given.channel_gain[i], tables.gain_floor[j])


@compiled(error_model="numpy")
def _work_alone(given: Devices, c: PartitioningConstants, lo: int, hi: int, cut: Array, parts: Array) -> None:
    """CPU rates (P3), device delay (eq. 2), energy (eq. 5) and their cost; bands' signal-to-noise ratios (eq. 3)."""
    per_load, per_byte = 1.0 / c.utilisation_cap, 1.0 / c.memory_unit_bytes
    per_slot_j, chosen = c.energy_coefficient * c.slot_s, len(given.device_cpu_hz) == 0
    if chosen:
        for k in range(hi - lo):
            i = np.uintp(lo + k)
            rate, work = given.arrival_rate_hz[i], cut[WORK, k]
            least = min(max(rate * work * per_load, c.hz_min), c.device_cpu_hz)
            price = given.energy_queue[i] * rate * per_slot_j
            parts[CPU, i] = best_cpu_hz(work, rate, price, c.delay_weight, least, c.device_cpu_hz)
    for k in range(hi - lo):
        i = np.uintp(lo + k)
        rate, work = given.arrival_rate_hz[i], cut[WORK, k]
        given_hz = parts[CPU, i] if chosen else given.device_cpu_hz[i]
        hz = given_hz if work > 0.0 else 0.0
        service = work / (hz if work > 0.0 else 1.0)
        used = rate * service
        u = min(used, c.utilisation_cap)
        delay = service * (1.0 + 0.5 * u / (1.0 - u))
        energy = c.energy_coefficient * work * hz * hz * (rate * c.slot_s)
        memory_cost = given.memory_queue[i] * (parts[MEMORY, i] * per_byte)
        parts[CPU, i], parts[LOCAL_S, i], parts[ENERGY, i] = hz, delay, energy
        parts[COST, i] = given.energy_queue[i] * energy + memory_cost + c.delay_weight * delay
        parts[UTILISATION, i] = used
        parts[SNR, i] *= c.snr_per_gain
        air_price = given.energy_queue[i] * rate * (c.transmit_power_w * c.slot_s) + c.delay_weight
        cut[AIR_WEIGHT, k] = air_price * cut[BITS, k]
        cut[EDGE_LOAD, k] = cut[EDGE_WORK, k] * (c.delay_weight / c.edge_cpu_hz)


@compiled(error_model="numpy")
def _optimal_band(lo: int, hi: int, n: int, cut: Array, parts: Array) -> None:
    """Shares of the band that minimise the cost of transmission (P5); 0 for those that send nothing."""
    root = np.empty(hi - lo)
    for k in range(hi - lo):
        root[k] = np.sqrt(cut[AIR_WEIGHT, k])
    divide_bands(root, parts[SNR, lo:hi], n, parts[BAND, lo:hi])


@compiled(error_model="numpy")
def _normalise(lo: int, hi: int, n: int, shares: Array) -> None:
    """Shares in proportion to what each device of a cell holds, 0 where nobody holds anything."""
    for start in range(lo, hi, n):
        total = pairwise_sum(shares, start, n)
        total = total if total > 0.0 else 1.0
        for j in range(n):
            shares[np.uintp(start + j)] /= total


@compiled(error_model="numpy")
def _correct(lo: int, hi: int, n: int, weight: Array, shares: Array) -> None:
    """`allocation.corrected_shares`: shares times weights, with their sum again; even weights change no bit."""
    held = np.empty(n)
    for start in range(lo, hi, n):
        even = True
        for j in range(n):
            i = np.uintp(start + j)
            held[j] = shares[i] * weight[i]
            even &= weight[i] == weight[start]
        total = pairwise_sum(held, 0, n)
        if not even and total != 0.0:
            scale = pairwise_sum(shares, start, n) / total
            for j in range(n):
                shares[np.uintp(start + j)] = held[j] * scale


@compiled(error_model="numpy")
def _divide(given: Devices, rules: tuple[int, int], lo: int, hi: int, n: int, cut: Array, parts: Array) -> None:
    """Shares of band (P5) and edge CPU (P4), each under its rule."""
    band, edge = parts[BAND], parts[EDGE]
    if rules[0] <= CORRECTED:
        _optimal_band(lo, hi, n, cut, parts)
    else:
        for k in range(hi - lo):
            i = np.uintp(lo + k)
            band[i] = 0.0 if cut[BITS, k] <= 0.0 else given.bandwidth_weight[i] if rules[0] == WEIGHTS else 1.0
        _normalise(lo, hi, n, band)
    for k in range(hi - lo):
        i = np.uintp(lo + k)
        load = cut[EDGE_LOAD, k]
        if rules[1] <= CORRECTED:
            edge[i] = np.sqrt(load)
        else:
            edge[i] = 0.0 if load <= 0.0 else given.edge_cpu_weight[i] if rules[1] == WEIGHTS else 1.0
    _normalise(lo, hi, n, edge)
    if rules[0] == CORRECTED:
        _correct(lo, hi, n, given.bandwidth_weight, band)
    if rules[1] == CORRECTED:
        _correct(lo, hi, n, given.edge_cpu_weight, edge)


@compiled(error_model="numpy")
def _send(given: Devices, c: PartitioningConstants, lo: int, hi: int, cut: Array, parts: Array) -> None:
    """Transmission and edge delays (eqs. 3, 4), their cost, and what a share of either is worth (out: cut)."""
    s_per_nat = np.log(2.0) / c.bandwidth_hz
    for k in range(hi - lo):
        i = np.uintp(lo + k)
        share, bits = parts[BAND, i], cut[BITS, k]
        alpha = share if share > 0.0 else 1.0
        x = parts[SNR, i] / alpha
        log, y = log_terms(x)
        inverse = 1.0 / (alpha * log)
        air_s = bits * (s_per_nat * inverse) if share > 0.0 else 0.0
        worth = cut[AIR_WEIGHT, k] * s_per_nat * log_excess(x, log, y) * (inverse * inverse)
        parts[AIR_S, i], cut[BAND_PRICE, k] = air_s, worth if share > 0.0 else 0.0
    s_per_cycle = 1.0 / c.edge_cpu_hz
    for k in range(hi - lo):
        i = np.uintp(lo + k)
        share, load, air_s = parts[EDGE, i], cut[EDGE_LOAD, k], parts[AIR_S, i]
        inverse = 1.0 / share if share > 0.0 else 0.0
        edge_s = cut[EDGE_WORK, k] * (s_per_cycle * inverse)
        cut[EDGE_PRICE, k] = load * (inverse * inverse)
        sent_j = air_s * given.arrival_rate_hz[i] * (c.transmit_power_w * c.slot_s)
        cost = given.energy_queue[i] * sent_j + c.delay_weight * air_s
        parts[EDGE_S, i], parts[AIR_COST, i], parts[ENERGY, i] = edge_s, cost, parts[ENERGY, i] + sent_j
        parts[COST, i] = parts[COST, i] + cost + c.delay_weight * edge_s
        parts[DELAY, i] = parts[LOCAL_S, i] + air_s + edge_s


@compiled(error_model="numpy")
def _advance(given: Devices, tables: CutTables, c: PartitioningConstants, lo: int, hi: int, parts: Array) -> None:
    """Virtual queues of the budgets (eqs. 8, 9)."""
    n = len(tables.layers)
    for start in range(lo, hi, n):
        for j in range(n):
            i = np.uintp(start + j)
            spent_j, held = c.energy_queue_scale * parts[ENERGY, i], c.memory_queue_scale * parts[MEMORY, i]
            parts[NEXT_ENERGY, i] = max(given.energy_queue[i] + spent_j - tables.energy_budget[j], 0.0)
            parts[NEXT_MEMORY, i] = max(given.memory_queue[i] + held - tables.memory_budget[j], 0.0)


@compiled(error_model="numpy")
def _mean_by_network(
    values: Array, first: int, by_network: Array, ends: Array, metrics: Array, at: int, b0: int, cells: int
) -> None:
    """Means over the devices of each cell, and over those of each network (out: metrics, from row `at` on)."""
    n = len(by_network)
    held = np.empty(n)
    for b in range(cells):
        start = first + b * n
        metrics[at, b0 + b] = pairwise_sum(values, start, n) / n
        for j in range(n):
            held[j] = values[np.uintp(start + by_network[j])]
        for g in range(len(ends) - 1):
            count = ends[g + 1] - ends[g]
            metrics[at + 1 + g, b0 + b] = pairwise_sum(held, ends[g], count) / count


@compiled(error_model="numpy")
def _means(given: Devices, tables: CutTables, lo: int, hi: int, cut: Array, parts: Array, metrics: Array) -> None:
    """The metrics `MEANS` of a group of cells (out: metrics)."""
    of, ends, n = tables.by_network, tables.network_ends, len(tables.layers)
    b, cells, at, each = lo // n, (hi - lo) // n, len(SUMS), len(tables.network_ends)
    _mean_by_network(parts[DELAY], lo, of, ends, metrics, at, b, cells)
    _mean_by_network(parts[ENERGY], lo, of, ends, metrics, at + each, b, cells)
    _mean_by_network(parts[MEMORY], lo, of, ends, metrics, at + 2 * each, b, cells)
    _mean_by_network(given.energy_queue, lo, of, ends, metrics, at + 3 * each, b, cells)
    _mean_by_network(given.memory_queue, lo, of, ends, metrics, at + 4 * each, b, cells)
    _mean_by_network(cut[OFFLOADS], 0, of, ends, metrics, at + 5 * each, b, cells)


@compiled(error_model="numpy")
def _sums(
    tables: CutTables,
    c: PartitioningConstants,
    lo: int,
    hi: int,
    layer: Array,
    cut: Array,
    parts: Array,
    metrics: Array,
) -> None:
    """The metrics `SUMS` of a group of cells (out: metrics), and who offloads (out: cut)."""
    n, layers, limit = len(tables.layers), tables.layers, c.utilisation_cap * (1.0 + 1e-9)
    cost, local_s, air_s, edge_s = parts[COST], parts[LOCAL_S], parts[AIR_S], parts[EDGE_S]
    used, band_price, edge_price = parts[UTILISATION], cut[BAND_PRICE], cut[EDGE_PRICE]
    for start in range(lo, hi, n):
        b, at = start // n, start - lo
        sending = at_edge = offloading = unstable = 0
        for j in range(n):
            i, k = np.uintp(start + j), np.uintp(at + j)
            offloads = layer[i] < layers[j]
            cut[OFFLOADS, k] = 1.0 if offloads else 0.0
            offloading += 1 if offloads else 0
            sending += 1 if cut[BITS, k] > 0.0 else 0
            at_edge += 1 if cut[EDGE_LOAD, k] > 0.0 else 0
            unstable += 1 if used[i] > limit else 0
        metrics[0, b], metrics[5, b] = pairwise_sum(cost, start, n), unstable
        metrics[1, b] = pairwise_sum(local_s, start, n) / n
        metrics[2, b] = pairwise_sum(air_s, start, n) / n
        metrics[3, b], metrics[4, b] = pairwise_sum(edge_s, start, n) / n, pairwise_sum(used, start, n) / n
        metrics[6, b] = pairwise_sum(band_price, at, n) / max(sending, 1)
        metrics[7, b] = pairwise_sum(edge_price, at, n) / max(at_edge, 1)
        metrics[8, b] = offloading * c.bytes_per_offload + c.bytes_per_slot


@compiled(error_model="numpy")
def _queue_costs(
    given: Devices, c: PartitioningConstants, lo: int, hi: int, n: int, parts: Array, metrics: Array
) -> None:
    """The metrics `QUEUE_COSTS` of a group of cells (out: the last rows of metrics)."""
    joules, held, at = np.empty(hi - lo), np.empty(hi - lo), len(metrics) - len(QUEUE_COSTS)
    for k in range(hi - lo):
        i = np.uintp(lo + k)
        joules[k], held[k] = given.energy_queue[i] * parts[ENERGY, i], given.memory_queue[i] * parts[MEMORY, i]
    for start in range(0, hi - lo, n):
        b = (lo + start) // n
        metrics[at, b] = pairwise_sum(joules, start, n)
        metrics[at + 1, b] = pairwise_sum(held, start, n) / c.memory_unit_bytes


@compiled(error_model="numpy")
def _smooth(signals: Array, metrics: Array, smoothing: float, networks: int, following: Array) -> None:
    """Moving averages (3, B) of what is broadcast: crowd, and the prices of band and edge CPU (out: following)."""
    ratio = len(SUMS) + (len(MEANS) - 1) * (1 + networks)
    for b in range(signals.shape[1]):
        for s, metric in enumerate((ratio, 6, 7)):
            following[s, b] = signals[s, b] + smoothing * (metrics[metric, b] - signals[s, b])


@compiled(
    types.void(
        *(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, _COUNTS, _NUMBERS, _NUMBERS, _NUMBERS),
        *(types.float64[:, ::1], _TABLES, _CONSTANTS, types.UniTuple(types.int64, 2), types.int64[::1]),
        *(types.float64[:, ::1], types.float64[:, ::1], types.float64[:, ::1]),
    ),
    error_model="numpy",
    cache=True,
)
def run_slot(
    energy_queue: Array, memory_queue: Array, arrival_rate_hz: Array, channel_gain: Array, partition_layer: Array,
    device_cpu_hz: Array, bandwidth_weight: Array, edge_cpu_weight: Array, signals: Array, tables: CutTables,
    c: PartitioningConstants, rules: tuple[int, int], layer: Array, parts: Array, metrics: Array, following: Array,
) -> None:  # fmt: skip
    """The slot of all cells: what each device does alone, the shares, what is sent, the queues, the metrics (eq. 11).

    Args:
        energy_queue to edge_cpu_weight: the fields of `Devices`, which see.
        signals: (3, B) crowd and the two mean prices.
        tables, c: constants of the devices and of the cell.
        rules: of band and edge CPU.
        layer: out, (B N,) the cuts.
        parts: out, (PARTS, B N).
        metrics: out, (SUMS + MEANS (1 + networks) + QUEUE_COSTS, B).
        following: out, (3, B) the next signals.
    """
    given = Devices(
        energy_queue, memory_queue, arrival_rate_hz, channel_gain, partition_layer, device_cpu_hz, bandwidth_weight,
        edge_cpu_weight,
    )  # fmt: skip
    n, total = len(tables.layers), len(layer)
    step = max(1, AT_ONCE // n) * n
    cut = np.empty((SCRATCH, min(step, total)))
    for lo in range(0, total, step):
        hi = min(lo + step, total)
        _look_up(given, tables, lo, hi, layer, cut, parts)
        _work_alone(given, c, lo, hi, cut, parts)
        _divide(given, rules, lo, hi, n, cut, parts)
        _send(given, c, lo, hi, cut, parts)
        _advance(given, tables, c, lo, hi, parts)
        _sums(tables, c, lo, hi, layer, cut, parts, metrics)
        _means(given, tables, lo, hi, cut, parts, metrics)
        _queue_costs(given, c, lo, hi, n, parts, metrics)
    _smooth(signals, metrics, c.signal_smoothing, len(tables.network_ends) - 1, following)
