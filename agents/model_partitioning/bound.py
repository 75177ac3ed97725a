"""What no controller of `model_partitioning` can do better than on a trace: a certified lower bound of its objective.

**Claim.** For all prices b_t, u_t >= 0 of the band and of the edge CPU in slot t, the mean objective over slots after
warm-up of every controller that leaves CPU rates to the network (`local_cpu_rule` "optimal"), even one that knows the
trace beforehand, is at least

    [ sum_n D_n(b, u) - sum_t (b_t + u_t) ] / slots.

D_n is what device n pays at least if it buys its shares at these prices, alone with its two virtual queues.

**Proof.** Add b_t (sum_n alpha_n - 1) + u_t (sum_n x_n - 1) <= 0 to the objective of every slot: the devices separate.

**What is computed.** The trace is given, so D_n is a deterministic dynamic programme over two queues Q and W, from the
last slot back to empty queues. Queues, shares and cuts are relaxed, so that its value is below the true one:

- *Between points of the grid* the value of later slots is linear, and so below the true one: the cost of a slot is
  concave in the queues (the best CPU rate is a minimum of functions linear in Q); a next queue, linear in the present
  one up to the curvature of E(Q), spans no more than one cell, in which a function linear on either side of a kink lies
  below its secant by at most (rise of slope) cell/4. That is subtracted, and (slope)(cell/4)(rise of nu E') for the
  curvature: E(Q) is convex where the CPU rate is not at its limits.
- *Share of the band*: alpha(T), the share that transmits in the time T, is convex; tangents bound it from below.
- *Above the grid* the value is that of its top, lowered by what a return to the grid may be worth.

The prices begin as those of `far_sighted` and climb along supergradients of a coarse copy; the last step is certified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edgemarl.agents.model_partitioning.far_sighted import FarSighted
from edgemarl.agents.playbook import Bound, NoBound
from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.dnn.cuts import CutCosts
from edgemarl.envs.physics.allocation import fdma_price, fdma_shares
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.scenario import LocalPart

TANGENTS = 14
SHARE_MIN = 0.03
"""Smallest share of the band at which a tangent touches; below it the last tangent falls to 0."""
ENERGY_CELL, MEMORY_CELL = 0.5, 0.125
"""Cells of the queues in the last, certified step, in units of the queues."""
COARSE_ENERGY, COARSE_MEMORY = 32, 8
"""Cells of the coarse copy."""
HEADROOM = 2.5
"""Top of a grid over the longest queue that `far_sighted` meets."""
ENERGY_TOP_MIN, MEMORY_TOP_MIN = 8.0, 1.0
STEPS, STEP = 16, 0.3
"""Steps along the supergradient of the logarithms of the prices, and the first one's length."""
PRICE_MIN = 0.01
"""Smallest price with which the climb begins, in V."""
DEVICES_MAX = 30
"""Most devices of a network in a comparison: seconds each; `cell_bound` takes any number."""
ROUNDING = 1e-9
BINDS = (
    "every controller that leaves the CPU rates to the network, even one that knows the trace beforehand, on every "
    "single trace"
)


class DeviceTrace(NamedTuple):
    """One device on one trace; T slots, L cuts, K tangents, E points of the energy queue; for compiled code."""

    counted: Array  # (T,) 1.0 in slots after warm-up, else 0.0
    local_cost: Array  # (T, E, L) V T + Q E of the device's own part
    local_queue: Array  # (T, E, L) energy queue after the device's own part, not yet cut at 0
    curvature: Array  # (T, E-1, L) most by which a next queue lies below its secant in a cell
    energy_rate: Array  # (T,) units of the energy queue per second of transmission
    second_cost: Array  # (T, E) cost of a second of transmission
    seconds: Array  # (T, L, K) break points of the tangents: transmission time
    share: Array  # (T, L, K) and the share that it needs at least
    edge_load: Array  # (L,) cost at the edge with the whole edge CPU
    memory_cost: Array  # (L,) of a unit of the memory queue
    memory_step: Array  # (L,) what a cut adds to the memory queue
    energy_cell: float
    memory_cell: float
    memory_points: int
    energy_budget: float  # most that the energy queue falls in a slot


@compiled(cache=True)
def _tangents(sent_bits: Array, snr: Array, band_hz: float, count: int, least: float) -> tuple[Array, Array]:
    """Break points (T, L, count) of tangents to alpha(T), from the whole band on; 0 where nothing is sent.

    alpha falls and is convex, since R(alpha) is concave; tangents touch at shares of equal ratio and meet in between.
    """
    slots, cuts = len(snr), len(sent_bits)
    seconds, share = np.zeros((slots, cuts, count)), np.zeros((slots, cuts, count))
    ratio = least ** (1.0 / (count - 2))
    for t in range(slots):
        before = (0.0, 0.0, 0.0)
        for k in range(count - 1):
            alpha = ratio**k
            x = snr[t] / alpha
            rate = alpha * band_hz * np.log1p(x) / np.log(2.0)
            time = 1.0 / rate  # of one bit
            slope = -rate * rate / (band_hz / np.log(2.0) * (np.log1p(x) - x / (1.0 + x)))
            if k == 0:
                seconds[t, :, 0], share[t, :, 0] = time * sent_bits, 1.0
            else:
                meet = (alpha - before[1] + before[2] * before[0] - slope * time) / (before[2] - slope)
                seconds[t, :, k], share[t, :, k] = meet * sent_bits, before[1] + before[2] * (meet - before[0])
            before = (time, alpha, slope)
        seconds[t, :, count - 1] = (before[0] - before[1] / before[2]) * sent_bits
    for cut in range(cuts):
        if sent_bits[cut] == 0.0:
            share[:, cut] = 0.0
    return seconds, share


@compiled(cache=True)
def _next_memory(value: Array, step: float, width: float, lowered: bool) -> Array:
    """(W, E) value after a cut for every memory queue, from values (W, E); lowered by what secants lie above it."""
    points = value.shape[0]
    memory_values = np.empty(value.shape)
    gap = np.zeros((points, value.shape[1]))  # of the cell above each point
    for j in range(points):
        position = (j * width + step) / width
        below = int(np.floor(position))
        part = position - below
        for i in range(value.shape[1]):
            low = value[min(max(below, 0), points - 1), i]
            high = value[min(max(below + 1, 0), points - 1), i]
            memory_values[j, i] = low + part * (high - low)
            if lowered:  # the image of the cell above j has a kink at the grid's next point
                after = value[min(max(below + 2, 0), points - 1), i]
                gap[j, i] = max(after - 2.0 * high + low, 0.0) * part * (1.0 - part)
    if lowered:
        for j in range(points):
            for i in range(value.shape[1]):
                memory_values[j, i] -= max(gap[j, i], gap[j - 1, i] if j > 0 else 0.0)
    return memory_values


@compiled(cache=True)
def _cells(row: Array, lowered: bool) -> tuple[Array, Array]:
    """Values (E+2,) at the left and right end of the cells -2, -1, 0, .., E-1 of the energy queue; below 0 all is flat.

    Lowered by a quarter of the larger rise of slope at the two ends of the cell; above the top the value is constant.
    """
    count = len(row)
    left, right = np.full(count + 2, row[0]), np.full(count + 2, row[0])
    left[2:], right[2:-1], right[-1] = row, row[1:], row[-1]
    if lowered:
        drop = np.zeros(count + 2)
        for i in range(count):
            before = row[i] - row[i - 1] if i > 0 else 0.0
            after = row[i + 1] - row[i] if i + 1 < count else 0.0
            rise = 0.25 * max(after - before, 0.0)
            drop[i + 1], drop[i + 2] = max(drop[i + 1], rise), rise
        left -= drop
        right -= drop
    return left, right


@compiled(cache=True)
def _value(left: Array, right: Array, x: float, width: float) -> float:
    """Value of `_cells` at an energy queue x that is not yet cut at 0."""
    position = x / width
    c = min(max(int(np.floor(position)) + 2, 0), len(left) - 1)
    return float(left[c] + min(max(position + 2.0 - c, 0.0), 1.0) * (right[c] - left[c]))


@compiled(cache=True)
def _transmissions(d: DeviceTrace, t: int, i: int, cut: int, price: float, lowered: bool) -> tuple[Array, Array]:
    """Next energy queues, before they are cut at 0, and costs of all times of transmission that may be best.

    The cost of time and share is linear between the tangents' break points, the value of later slots between grid
    points, and neither helps beyond the time at which the former is smallest: the minimum is at one of these points.
    """
    count = d.seconds.shape[2] if price > 0.0 and d.seconds[t, cut, 0] > 0.0 else 1
    x0, rate = d.local_queue[t, i, cut], d.energy_rate[t]
    cost = d.second_cost[t, i] * d.seconds[t, cut, :count] + price * d.share[t, cut, :count]
    last = int(np.argmin(cost))
    most = last + 1
    if lowered:
        most += 2 * int((d.seconds[t, cut, last] - d.seconds[t, cut, 0]) * rate / d.energy_cell) + 2 * (last + 1)
    queue, paid = np.empty(most), np.empty(most)
    n = 0
    for k in range(last + 1):
        x = x0 + rate * d.seconds[t, cut, k]
        queue[n], paid[n] = x, cost[k]
        n += 1
        if lowered and k < last:
            x_next = x0 + rate * d.seconds[t, cut, k + 1]
            for g in range(int(np.floor(x / d.energy_cell)) + 1, int(np.ceil(x_next / d.energy_cell))):
                at = (g * d.energy_cell - x) / (x_next - x)
                for side in (-1e-9, 1e-9):  # lowered values differ on the two sides of a grid point
                    queue[n], paid[n] = (g + side) * d.energy_cell, cost[k] + at * (cost[k + 1] - cost[k])
                    n += 1
    return queue[:n], paid[:n]


@compiled(cache=True)
def _edge(load: float, price: float) -> tuple[float, float]:
    """Smallest cost of a share of the edge CPU bought at a price, and the share."""
    if load <= 0.0:
        return 0.0, 0.0
    share = min(np.sqrt(load / price), 1.0) if price > 0.0 else 1.0
    return load / share + price * share, share


@compiled(cache=True)
def _backward(d: DeviceTrace, band_price: Array, edge_price: Array, lowered: bool) -> Array:
    """Values (T+1, W, E) of the queues before each slot: what the device still pays at least, at these prices."""
    slots, points, cuts = d.local_cost.shape
    values = np.full((slots + 1, d.memory_points, points), np.inf)
    values[slots] = 0.0
    width = d.energy_cell
    for t in range(slots - 1, -1, -1):
        counted = d.counted[t]
        for cut in range(cuts):
            at_edge, _ = _edge(d.edge_load[cut] * counted, edge_price[t])
            later = _next_memory(values[t + 1], d.memory_step[cut], d.memory_cell, lowered)
            left, right = np.empty((d.memory_points, points + 2)), np.empty((d.memory_points, points + 2))
            for j in range(d.memory_points):
                left[j], right[j] = _cells(later[j], lowered)
            for i in range(points):
                queue, paid = _transmissions(d, t, i, cut, band_price[t], lowered)
                bent = 0.0
                if lowered:
                    bent = max(d.curvature[t, min(i, points - 2), cut], d.curvature[t, max(i - 1, 0), cut]) / width
                for j in range(d.memory_points):
                    here = counted * (d.local_cost[t, i, cut] + j * d.memory_cell * d.memory_cost[cut]) + at_edge
                    best = np.inf
                    for n in range(len(queue)):
                        x = queue[n]
                        value = _value(left[j], right[j], x, width)
                        if lowered:
                            value -= bent * _rise(later[j], x, width)
                        best = min(best, paid[n] + value)
                    if i == points - 1:  # from above the grid a slot leads back by the budget at most
                        back = _value(left[j], right[j], i * width - d.energy_budget, width)
                        best = min(best, paid.min() + back)
                    values[t, j, i] = min(values[t, j, i], here + best)
        for j in range(d.memory_points):
            for i in range(points - 2, -1, -1):
                values[t, j, i] = min(values[t, j, i], values[t, j, i + 1])
    return values


@compiled(cache=True)
def _rise(row: Array, x: float, width: float) -> float:
    """Largest rise of a row (E,) in the cells next to x."""
    c = int(np.floor(x / width))
    rise = 0.0
    for i in range(max(c - 1, 0), min(c + 2, len(row) - 1)):
        rise = max(rise, row[i + 1] - row[i])
    return rise


@compiled(cache=True)
def _forward(d: DeviceTrace, values: Array, band_price: Array, edge_price: Array) -> tuple[Array, Array]:
    """Shares (T,) of band and edge CPU along a path that these values suggest, from empty queues."""
    slots, points, cuts = d.local_cost.shape
    band, edge = np.zeros(slots), np.zeros(slots)
    energy = memory = 0.0
    for t in range(slots):
        i = min(int(energy / d.energy_cell), points - 2)
        part = min(energy / d.energy_cell - i, 1.0)
        best = np.inf
        for cut in range(cuts):
            at_edge, share = _edge(d.edge_load[cut] * d.counted[t], edge_price[t])
            local = d.local_cost[t, i, cut] + part * (d.local_cost[t, i + 1, cut] - d.local_cost[t, i, cut])
            x0 = d.local_queue[t, i, cut] + part * (d.local_queue[t, i + 1, cut] - d.local_queue[t, i, cut])
            second = d.second_cost[t, i] + part * (d.second_cost[t, i + 1] - d.second_cost[t, i])
            w = max(memory + d.memory_step[cut], 0.0)
            j = min(int(w / d.memory_cell), d.memory_points - 2)
            inside = min(w / d.memory_cell - j, 1.0)
            below, above = _cells(values[t + 1, j], False), _cells(values[t + 1, j + 1], False)
            for k in range(d.seconds.shape[2] if band_price[t] > 0.0 and d.seconds[t, cut, 0] > 0.0 else 1):
                x = x0 + d.energy_rate[t] * d.seconds[t, cut, k]
                low = _value(below[0], below[1], x, d.energy_cell)
                high = _value(above[0], above[1], x, d.energy_cell)
                cost = d.counted[t] * (local + memory * d.memory_cost[cut]) + at_edge + low + inside * (high - low)
                cost += second * d.seconds[t, cut, k] + band_price[t] * d.share[t, cut, k]
                if cost < best:
                    best, chosen = cost, (max(x, 0.0), w)
                    band[t], edge[t] = d.share[t, cut, k], share
        energy, memory = chosen
    return band, edge


# --- one network -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueueGrid:
    """Points of the two queues of a device."""

    energy_cell: float
    energy_points: int
    memory_cell: float
    memory_points: int

    @classmethod
    def up_to(cls, energy_top: float, memory_top: float, coarse: bool) -> QueueGrid:
        """A grid up to these queues."""
        if coarse:
            return cls(energy_top / COARSE_ENERGY, COARSE_ENERGY + 1, memory_top / COARSE_MEMORY, COARSE_MEMORY + 1)
        energy, memory = int(np.ceil(energy_top / ENERGY_CELL)), int(np.ceil(memory_top / MEMORY_CELL))
        return cls(ENERGY_CELL, energy + 1, MEMORY_CELL, memory + 1)


@dataclass(frozen=True)
class CellTrace:
    """One network's trace, and the prices and longest queues of `far_sighted` on it.

    Attributes:
        rate_hz, snr: (T, N); counted: (T,).
        band_price, edge_price: (T,).
        energy_top, memory_top: (N,).
    """

    rate_hz: Array
    snr: Array
    counted: Array
    band_price: Array
    edge_price: Array
    energy_top: Array
    memory_top: Array


def device_trace(network: ModelPartitioning, cell: CellTrace, device: int, coarse: bool) -> DeviceTrace:
    """The dynamic programme of one device on one trace."""
    c, cuts = network.config, network.cuts.of(device, int(network.layers[device]))
    grid = QueueGrid.up_to(cell.energy_top[device], cell.memory_top[device], coarse)
    rate = cell.rate_hz[:, device, None, None]
    queue = (np.arange(grid.energy_points) * grid.energy_cell)[:, None]
    local = network.local_part(cuts, queue, np.zeros(1), rate)
    budget = c.energy_queue_scale * network.energy_budget_j[device]
    joule_rate = c.transmit_power_w * c.slot_s * cell.rate_hz[:, device]
    seconds, share = _tangents(
        cuts.sent_bits, np.ascontiguousarray(cell.snr[:, device]), c.bandwidth_hz, TANGENTS, SHARE_MIN
    )
    step = c.memory_queue_scale / c.memory_unit_bytes * (cuts.memory_bytes - network.memory_budget_bytes[device])
    return DeviceTrace(
        counted=cell.counted,
        local_cost=local.cost,
        local_queue=queue + c.energy_queue_scale * local.energy_j - budget,
        curvature=_curvature(network, cuts, queue, rate, local, grid.energy_cell),
        energy_rate=c.energy_queue_scale * joule_rate,
        second_cost=cell.counted[:, None] * network.transmission_weight(queue[:, 0], cell.rate_hz[:, device, None]),
        seconds=seconds,
        share=share,
        edge_load=network.edge_load(cuts.edge_cycles),
        memory_cost=cuts.memory_bytes / c.memory_unit_bytes,
        memory_step=step,
        energy_cell=grid.energy_cell,
        memory_cell=grid.memory_cell,
        memory_points=grid.memory_points,
        energy_budget=budget,
    )


def _curvature(
    network: ModelPartitioning, cuts: CutCosts, queue: Array, rate: Array, local: LocalPart, width: float
) -> Array:
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
    slope = np.where(free, 2.0 * unit * cuts.local_cycles * safe * per_price * unit, 0.0)
    held = c.energy_queue_scale * slope
    if (held * width < -2.0).any():
        raise NoBound("energy_queue_scale is so large that a cell of the energy queue maps onto more than one")
    slowest = np.maximum(a / c.utilisation_cap, c.cpu_floor_fraction * c.device_cpu_hz)
    after = np.where(f > slowest * (1.0 + ROUNDING), held, 0.0)  # E stays where the rate is at its lower limit
    constant = local.energy_j[:, 1:] == local.energy_j[:, :-1]
    return np.where(constant, 0.0, 0.25 * width * np.maximum(after[:, 1:] - held[:, :-1], 0.0))


def _climb(devices: list[DeviceTrace], cell: CellTrace) -> tuple[Array, Array]:
    """Prices (T,) of band and edge CPU along supergradients of the bound that coarse copies give; the best ones met."""
    band, edge = np.log(cell.band_price), np.log(cell.edge_price)
    best, best_prices = -np.inf, (cell.band_price, cell.edge_price)
    for i in range(STEPS):
        prices = np.exp(band) * cell.counted, np.exp(edge) * cell.counted
        value, used = -prices[0].sum() - prices[1].sum(), np.zeros((2, len(band)))
        for d in devices:
            values = _backward(d, *prices, False)
            value += values[0, 0, 0]
            used += _forward(d, values, *prices)
        if value > best:
            best, best_prices = value, prices
        step = STEP / (1.0 + i / 8.0) * np.clip(used - 1.0, -1.0, 1.5)
        band, edge = band + step[0], edge + step[1]
    return best_prices


def cell_bound(network: ModelPartitioning, cell: CellTrace) -> float:
    """Certified lower bound of the sum of the objective over the slots that count, of one network on its trace."""
    count = network.config.num_devices
    none = np.zeros_like(cell.counted)
    prices = (none, none)  # one device has everything to itself
    if count > 1:
        prices = _climb([device_trace(network, cell, n, True) for n in range(count)], cell)
    total = -prices[0].sum() - prices[1].sum()
    for n in range(count):
        total += _backward(device_trace(network, cell, n, False), *prices, True)[0, 0, 0]
    return float(total - ROUNDING * abs(total))


def cells_of(network: ModelPartitioning, trace: Any, warmup: int) -> list[CellTrace]:
    """The networks of a trace, each with the prices and longest queues that `far_sighted` meets."""
    policy, state = FarSighted(), network.initial_state(trace)
    policy.reset(network, trace)
    band, edge = np.empty((2, trace.slots, trace.cells))
    longest = np.zeros((2, trace.cells, network.config.num_devices))
    for t in range(trace.slots):
        exogenous = network.exogenous(trace, t)
        problem = policy.problem(state, exogenous)
        cut = policy.solve(problem)
        terms = problem.terms
        weight, load = (np.take_along_axis(v, cut[..., None], axis=2)[..., 0] for v in (terms.weight, terms.load))
        share = fdma_shares(weight, terms.snr)
        band[t] = fdma_price(weight, terms.snr, share, network.config.bandwidth_hz).max(axis=1)
        edge[t] = np.sqrt(load).sum(axis=1) ** 2
        state = network.step(state, policy.decisions(cut, state, exogenous), exogenous).state
        longest = np.maximum(longest, [state.energy_queue, state.memory_queue])
    counted = (np.arange(trace.slots) >= warmup).astype(np.float64)
    least = PRICE_MIN * network.config.delay_weight
    snr = np.stack([network.full_band_snr(network.exogenous(trace, t)) for t in range(trace.slots)])
    return [
        CellTrace(
            rate_hz=np.ascontiguousarray(trace.arrival_rate_hz[: trace.slots, b]), snr=snr[:, b], counted=counted,
            band_price=np.maximum(band[:, b], least), edge_price=np.maximum(edge[:, b], least),
            energy_top=np.maximum(HEADROOM * longest[0, b], ENERGY_TOP_MIN),
            memory_top=np.maximum(HEADROOM * longest[1, b], MEMORY_TOP_MIN),
        )
        for b in range(trace.cells)
    ]  # fmt: skip


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: devices set their own CPU rates, there are many, or queues move too far in a slot.
    """
    assert isinstance(scenario, ModelPartitioning)
    if scenario.config.local_cpu_rule != "optimal":
        raise NoBound("local_cpu_rule = 'action': the bound is for devices whose CPU rates the network sets")
    if scenario.config.num_devices > DEVICES_MAX:
        raise NoBound(f"num_devices = {scenario.config.num_devices}: beyond {DEVICES_MAX} devices it takes too long")
    slots = trace.slots - warmup
    values = [cell_bound(scenario, cell) / slots for cell in cells_of(scenario, trace, warmup)]
    return Bound(np.array(values), each_trace=True, binds=BINDS)
