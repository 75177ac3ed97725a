"""What one device of `model_partitioning` pays at least on a trace if it buys band and edge CPU at given prices.

A deterministic dynamic programme over its two virtual queues Q (energy) and W (memory), from the last slot back to
empty queues. Its values L_t lie below the true ones J_t everywhere, not on the grid's points alone:

- *A line in place of the values.* Let L <= J after the slot, linear between points of the grid and rising in Q. A slot
  takes Q to y = F(Q) + r T, F what the device's own part leaves and T the time of transmission. Transmission beyond the
  T0 at which its own cost is least never pays, since L rises; so y stays in a window, in which L(y) >= a + m y for any
  slope m >= 0 and the a that the window's grid points and ends allow. (Any m is valid; one that is nearly tangent at
  the best T is tried, and the secant of the window.)
- *The slot under a line.* What is left is V T_n + Q E_n of the own part, concave in Q (the least over CPU rates of
  functions linear in Q); G(z) = min over shares alpha of (V + p lambda z) bits/R(alpha) + b alpha at z = Q + nu m,
  concave in z, in a table whose chords lie below; and m F(Q), which lies above its secant in a cell but for m times
  the `bent` of the energy. So in a cell of the grid the cost lies above its secant with m `bent` taken off, and a value
  at a point is the least that the two cells beside it and the cuts ask there.
- *Memory.* W moves by a constant, so that its secant errs where a kink lies inside: rise of slope times p (1 - p).
- *Above the grid* a slot costs what it costs at the top at least and leads back by the budget at most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.dnn.cuts import CutCosts
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.priced import LocalPart

TABLE_TOP = 4.0
"""Its top over that of the grid of Q; a slope m is cut to stay inside."""
CONTRACTIONS, NEWTON_STEPS = 3, 3
"""Of a share at a price, as `edgemarl.envs.physics.allocation.priced_fdma_share`; beside a share that is known,
quadratic steps are enough."""
TRIES = 1
"""Steps towards the slope at the best time of transmission."""
ROUNDING = 1e-9


class QueueGrid(NamedTuple):
    """Points of the two queues of a device, and of the table of z = Q + nu m."""

    energy_cell: float
    energy_points: int
    memory_cell: float
    memory_points: int
    table_points: int


class DeviceTrace(NamedTuple):
    """One device on one trace; T slots, L cuts, E points of the energy queue; for compiled code."""

    counted: Array  # (T,) 1.0 in slots after warm-up, else 0.0
    local_cost: Array  # (T, E, L) V T + Q E of the device's own part
    local_queue: Array  # (T, E, L) energy queue after the device's own part, not yet cut at 0
    bent: Array  # (T, E-1, L) most by which that lies below its secant in a cell
    joule_rate: Array  # (T,) J per second of transmission and slot
    snr: Array  # (T,) with the whole band
    sent_bits: Array  # (L,)
    edge_load: Array  # (L,) cost at the edge with the whole edge CPU
    memory_cost: Array  # (L,) of a unit of the memory queue
    memory_step: Array  # (L,) what a cut adds to the memory queue
    band_hz: float
    delay_weight: float
    energy_scale: float  # nu, units of the energy queue per joule
    energy_cell: float
    memory_cell: float
    memory_points: int
    table_points: int  # of z = Q + nu m
    energy_budget: float  # most that the energy queue falls in a slot


def device_trace(
    network: ModelPartitioning, rate_hz: Array, snr: Array, counted: Array, device: int, grid: QueueGrid
) -> DeviceTrace:
    """The dynamic programme of one device on one trace.

    Args:
        network: the network.
        rate_hz, snr: (T,) of the device; snr over the whole band.
        counted: (T,) 1 in slots whose cost counts.
        device: its index.
        grid: of its queues.
    """
    c, cuts = network.config, network.cuts.of(device, int(network.layers[device]))
    rate = rate_hz[:, None, None]
    queue = (np.arange(grid.energy_points) * grid.energy_cell)[:, None]
    local = network.local_part(cuts, queue, np.zeros(1), rate)
    budget = c.energy_queue_scale * network.energy_budget_j[device]
    step = c.memory_queue_scale / c.memory_unit_bytes * (cuts.memory_bytes - network.memory_budget_bytes[device])
    return DeviceTrace(
        counted=counted,
        local_cost=np.ascontiguousarray(local.cost),
        local_queue=queue + c.energy_queue_scale * local.energy_j - budget,
        bent=_bent(network, cuts, rate, local, grid.energy_cell),
        joule_rate=network.joule_rate(rate_hz),
        snr=np.ascontiguousarray(snr),
        sent_bits=cuts.sent_bits,
        edge_load=network.edge_load(cuts.edge_cycles),
        memory_cost=cuts.memory_bytes / c.memory_unit_bytes,
        memory_step=step,
        band_hz=c.bandwidth_hz,
        delay_weight=c.delay_weight,
        energy_scale=c.energy_queue_scale,
        energy_cell=grid.energy_cell,
        memory_cell=grid.memory_cell,
        memory_points=grid.memory_points,
        table_points=grid.table_points,
        energy_budget=budget,
    )


def _bent(network: ModelPartitioning, cuts: CutCosts, rate: Array, local: LocalPart, width: float) -> Array:
    """(T, E-1, L) most by which nu E(Q) lies below its secant in a cell of the energy queue.

    E is a convex function of Q wherever the CPU rate f is not at a limit: the price of energy 2 q f = (V/2) (1/f^2 +
    1/(f - a)^2) makes q a falling, convex function of f^2, to which E is proportional. A convex function lies below its
    secant by no more than a quarter of the cell times the rise of its slope.
    """
    c, f, a = network.config, local.cpu_hz, rate * cuts.local_cycles
    free = (f > a) & (cuts.local_cycles > 0.0)
    gap, safe = np.where(free, f - a, 1.0), np.where(free, f, 1.0)
    price = c.delay_weight / (4.0 * safe) * (safe**-2.0 + gap**-2.0)  # q at which f is the best rate
    per_price = -2.0 * safe / (2.0 * price + c.delay_weight * (safe**-3.0 + gap**-3.0))  # df/dq
    unit = c.energy_coefficient * c.slot_s * rate  # q over Q, and E over d f^2
    slope = c.energy_queue_scale * np.where(free, 2.0 * unit * cuts.local_cycles * safe * per_price * unit, 0.0)
    slowest = np.maximum(a / c.utilisation_cap, c.cpu_floor_fraction * c.device_cpu_hz)
    after = np.where(f > slowest * (1.0 + ROUNDING), slope, 0.0)  # E stays where the rate is at its lower limit
    constant = local.energy_j[:, 1:] == local.energy_j[:, :-1]
    return np.where(constant, 0.0, 0.25 * width * np.maximum(after[:, 1:] - slope[:, :-1], 0.0))


# --- shares at prices ------------------------------------------------------------------------------------------------


@compiled(cache=True)
def priced_share(weight: float, snr: float, price: float, band_hz: float, near: float) -> float:
    """Share in (0, 1] that minimises weight/R(alpha) + price alpha, as `allocation.priced_fdma_share`.

    Args:
        weight, snr, price, band_hz: see there.
        near: the share at nearly this weight; 0: unknown.
    """
    if price <= 0.0:
        return 1.0
    root = np.sqrt(weight * np.log(2.0) / (band_hz * price))
    share = near if near > 0.0 else 1.0
    for step in range(CONTRACTIONS if near > 0.0 else 0, CONTRACTIONS + NEWTON_STEPS):
        x = snr / share
        log, y = np.log1p(x), x / (1.0 + x)
        k = log - y if x > 1e-4 else x * x * (0.5 - x * (2.0 / 3.0 - 0.75 * x))
        t = root * np.sqrt(k) / log
        if step < CONTRACTIONS:
            share = min(t, 1.0)
        else:
            share = min(max(share + (t - share) / (1.0 - y / log + 0.5 * y * y / k), 0.5 * share), 1.0)
    return share


@compiled(cache=True)
def edge_cost(load: float, price: float) -> tuple[float, float]:
    """Smallest cost of a share of the edge CPU bought at a price, and the share."""
    if load <= 0.0:
        return 0.0, 0.0
    share = min(np.sqrt(load / price), 1.0) if price > 0.0 else 1.0
    return load / share + price * share, share


@compiled(cache=True)
def _air_tables(d: DeviceTrace, t: int, price: float, top: float, cost: Array, seconds: Array) -> None:
    """G(z) and the time of transmission there (out: cost, seconds, (L, Z)) at z from 0 to top; 0 where nothing is sent.

    A share that is not exactly the best costs more by its error squared: rounding, which `bound` takes off.
    """
    for cut in range(len(d.sent_bits)):
        bits, alpha = d.sent_bits[cut], 0.0
        for k in range(cost.shape[1]):
            if bits <= 0.0:
                cost[cut, k], seconds[cut, k] = 0.0, 0.0
                continue
            weight = bits * (d.counted[t] * d.delay_weight + d.joule_rate[t] * top * k / (cost.shape[1] - 1))
            alpha = priced_share(weight, d.snr[t], price, d.band_hz, alpha)
            time = 1.0 / (alpha * d.band_hz * np.log1p(d.snr[t] / alpha) / np.log(2.0))
            cost[cut, k], seconds[cut, k] = weight * time + price * alpha, bits * time


@compiled(cache=True)
def _between(table: Array, position: float) -> float:
    """Linear between the points of a table, its last value beyond."""
    k = min(int(position), len(table) - 2)
    return float(table[k] + min(position - k, 1.0) * (table[k + 1] - table[k]))


# --- values ----------------------------------------------------------------------------------------------------------


@compiled(cache=True)
def _next_memory(value: Array, step: float, width: float) -> Array:
    """(W, E) values after a cut for every memory queue, from values (W, E), lowered by what secants lie above them."""
    points = value.shape[0]
    after = np.empty(value.shape)
    gap = np.zeros((points, value.shape[1]))  # of the cell above each point
    for j in range(points):
        position = (j * width + step) / width
        below = int(np.floor(position))
        part = position - below
        first, second = min(max(below, 0), points - 1), min(max(below + 1, 0), points - 1)
        third = min(max(below + 2, 0), points - 1)  # the image of the cell above j has a kink at `second`
        for i in range(value.shape[1]):
            low, high = value[first, i], value[second, i]
            after[j, i] = low + part * (high - low)
            gap[j, i] = max(value[third, i] - 2.0 * high + low, 0.0) * part * (1.0 - part)
    for j in range(points):
        for i in range(value.shape[1]):
            after[j, i] -= max(gap[j, i], gap[j - 1, i] if j > 0 else 0.0)
    return after


@compiled(cache=True)
def _value(row: Array, x: float, width: float) -> float:
    """Value of a queue x that is not yet cut at 0; above the top that of the top."""
    return _between(row, max(x, 0.0) / width)


@compiled(cache=True)
def _intercept(row: Array, width: float, low: float, high: float, slope: float) -> float:
    """Largest a with a + slope y <= the row's value at every y in [low, high]."""
    low, high = max(low, 0.0), max(high, 0.0)
    a = min(_value(row, low, width) - slope * low, _value(row, high, width) - slope * high)
    for g in range(int(low / width) + 1, min(int(high / width) + 1, len(row))):
        a = min(a, row[g] - slope * g * width)
    return float(a)


@compiled(cache=True)
def _slope(row: Array, x: float, width: float) -> float:
    """Slope of a row around x, over half a cell to either side."""
    return max(_value(row, x + 0.5 * width, width) - _value(row, x - 0.5 * width, width), 0.0) / width


@compiled(cache=True)
def _cut_values(
    d: DeviceTrace, t: int, cut: int, later: Array, fixed: float, table: tuple[Array, Array], top: float, now: Array
) -> None:
    """Lower the values (W, E) of a slot to those of a cut (out: now); see the module's docstring.

    Args:
        d, t, cut: device, slot, cut.
        later: (W, E) values after the cut's step of the memory queue.
        fixed: what the edge CPU costs.
        table: G and the time of transmission (Z,) of the cut.
        top: of z.
        now: (W, E).
    """
    cost, seconds = table
    points, width, counted, nu = now.shape[1], d.energy_cell, d.counted[t], d.energy_scale
    rate, scale = nu * d.joule_rate[t], (len(cost) - 1) / top
    sends = d.sent_bits[cut] > 0.0
    shortest = d.sent_bits[cut] / (d.band_hz * np.log1p(d.snr[t]) / np.log(2.0)) if sends else 0.0
    for i in range(points - 1):
        z, z_next = counted * i * width, counted * (i + 1) * width
        here, there = d.local_queue[t, i, cut], d.local_queue[t, i + 1, cut]
        bent = d.bent[t, i, cut]
        low = min(here, there) - bent + rate * shortest
        high = max(here, there) + rate * seconds[int(z * scale)]
        middle, most = 0.5 * (here + there), (top - z_next) / nu
        own, own_next = counted * d.local_cost[t, i, cut] + fixed, counted * d.local_cost[t, i + 1, cut] + fixed
        air, air_next = _between(cost, z * scale), _between(cost, z_next * scale)
        for j in range(now.shape[0]):
            row = later[j]
            memory = counted * j * d.memory_cell * d.memory_cost[cut]
            best = best_next = _value(row, low, width)  # slope 0
            best, best_next = best + own + air + memory, best_next + own_next + air_next + memory
            if best >= now[j, i] and best_next >= now[j, i + 1]:
                continue
            slope = (_value(row, high, width) - _value(row, low, width)) / (high - low) if high > low else 0.0
            for k in range(1 + TRIES * sends):
                if k > 0:
                    y = middle + rate * _between(seconds, (0.5 * (z + z_next) + nu * slope) * scale)
                    slope = _slope(row, y, width)
                slope = min(max(slope, 0.0), most)
                line = _intercept(row, width, low, high, slope) - slope * bent + memory
                left = own + line + slope * here + _between(cost, (z + nu * slope) * scale)
                right = own_next + line + slope * there + _between(cost, (z_next + nu * slope) * scale)
                if left + right > best + best_next:
                    best, best_next = left, right
            now[j, i], now[j, i + 1] = min(now[j, i], best), min(now[j, i + 1], best_next)
    last = points - 1  # from above the grid a slot leads back by the budget at most
    for j in range(now.shape[0]):
        back = _value(later[j], last * width - d.energy_budget, width)
        memory = counted * j * d.memory_cell * d.memory_cost[cut]
        above = counted * d.local_cost[t, last, cut] + fixed + memory + _between(cost, counted * last * width * scale)
        now[j, last] = min(now[j, last], above + back)


@compiled(cache=True)
def values(d: DeviceTrace, band_price: Array, edge_price: Array) -> Array:
    """Values (T+1, W, E) of the queues before each slot: what the device still pays at least, at these prices (T,)."""
    slots, points, cuts = d.local_cost.shape
    result = np.full((slots + 1, d.memory_points, points), np.inf)
    result[slots] = 0.0
    top = TABLE_TOP * (points - 1) * d.energy_cell
    cost, seconds = np.empty((cuts, d.table_points)), np.empty((cuts, d.table_points))
    for t in range(slots - 1, -1, -1):
        _air_tables(d, t, band_price[t], top, cost, seconds)
        for cut in range(cuts - 1, -1, -1):
            fixed, _ = edge_cost(d.edge_load[cut] * d.counted[t], edge_price[t])
            later = _next_memory(result[t + 1], d.memory_step[cut], d.memory_cell)
            _cut_values(d, t, cut, later, fixed, (cost[cut], seconds[cut]), top, result[t])
        for j in range(d.memory_points):
            for i in range(points - 2, -1, -1):
                result[t, j, i] = min(result[t, j, i], result[t, j, i + 1])
    return result


@compiled(cache=True)
def shares(d: DeviceTrace, later: Array, band_price: Array, edge_price: Array) -> tuple[Array, Array]:
    """Shares (T,) of band and edge CPU along a path that values (T+1, W, E) suggest, from empty queues."""
    slots, points, cuts = d.local_cost.shape
    band, edge = np.zeros(slots), np.zeros(slots)
    energy = memory = 0.0
    width = d.energy_cell
    for t in range(slots):
        i = min(int(energy / width), points - 2)
        part = min(energy / width - i, 1.0)
        best, chosen = np.inf, (0.0, 0.0)
        for cut in range(cuts):
            at_edge, share = edge_cost(d.edge_load[cut] * d.counted[t], edge_price[t])
            local = d.local_cost[t, i, cut] + part * (d.local_cost[t, i + 1, cut] - d.local_cost[t, i, cut])
            x = d.local_queue[t, i, cut] + part * (d.local_queue[t, i + 1, cut] - d.local_queue[t, i, cut])
            w = max(memory + d.memory_step[cut], 0.0)
            j = min(int(w / d.memory_cell), d.memory_points - 2)
            inside = min(w / d.memory_cell - j, 1.0)
            row = later[t + 1, j] + inside * (later[t + 1, j + 1] - later[t + 1, j])
            cost = d.counted[t] * (local + memory * d.memory_cost[cut]) + at_edge
            alpha = 0.0
            if d.sent_bits[cut] > 0.0:
                y = x
                for _ in range(TRIES):
                    z = d.counted[t] * energy + d.energy_scale * _slope(row, y, width)
                    weight = d.sent_bits[cut] * (d.counted[t] * d.delay_weight + d.joule_rate[t] * z)
                    alpha = priced_share(weight, d.snr[t], band_price[t], d.band_hz, alpha)
                    seconds = d.sent_bits[cut] / (alpha * d.band_hz * np.log1p(d.snr[t] / alpha) / np.log(2.0))
                    y = x + d.energy_scale * d.joule_rate[t] * seconds
                x = y
                cost += d.counted[t] * (d.delay_weight + d.joule_rate[t] * energy) * seconds + band_price[t] * alpha
            cost += _value(row, x, width)
            if cost < best:
                best, chosen = cost, (max(x, 0.0), w)
                band[t], edge[t] = alpha, share
        energy, memory = chosen
    return band, edge
