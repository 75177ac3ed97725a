"""Certified lower bound of what one device of `sequential_offloading` costs that pays a price for what it offloads.

The device alone is a Markov decision process of its queue. Its long-run mean cost is at least g if some bounded
function h of the queue satisfies `g + h(q) <= (T h)(q)` for every q, T being the Bellman operator: then the expected
cost of n blocks is at least n g + E h(first) - E h(last). Value iteration supplies h; g is the smallest (T h - h).

Queues, work and fading are continuous. Each is relaxed, so that the inequality holds everywhere, not on a lattice only:

- *Work and residual* of whole tasks that leave: the exact minimum of a convex function, from below by its tangent.
- *Queues.* Whole tasks exactly, which are all that occur without an outage. A task in progress, which only an outage
  leaves behind, is a fraction cut into cells. On a cell h is linear and every choice costs a convex function of the
  queue, so that it lies below its secant by width (slope right - slope left)/4 at most, which is subtracted.
- *Fading* is cut into cells. On a cell the largest residual that the power carries is that of its best end, outages are
  possible as at its worst end, and under these terms the minimum is concave in 1/gain: it is at least its secant.
- *Buffer*: a device may drop by choice, and tasks in progress have as much room as the whole tasks below them.
- Crumbs below the scenario's `residual_tolerance` count as nothing, which `MARGIN` covers.
- Billing of commanded rates (`idle_energy_charged`) is not counted. Where residuals stay in the queue as well
  (`residual_leaves_device` False) nothing has to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import exp1

from edgemarl.agents.sequential_offloading.model import DeviceModel, work_set
from edgemarl.agents.sequential_offloading.value_iteration import arrival_distribution
from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading
from edgemarl.envs.scenarios.sequential_offloading.block import OUTAGE_MARGIN
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

FADING_MIN, FADING_MAX = 1e-3, 8.0
"""Between these values of a unit-mean gain the cells of the fading are of equal ratio."""
MARGIN = 1e-4
"""Cost per block that crumbs below `residual_tolerance` and rounding can be worth."""
GAIN_MIN = 1e-30
BISECTIONS = 40


class Device(NamedTuple):
    """A device's problem in tasks and cost; for compiled code."""

    hold: float  # cost of a queued task per block
    energy: float  # local energy of y tasks costs energy y^3
    growth: float  # transmitting r tasks costs b (exp(growth r) - 1)
    work_max: float
    tasks_max: int  # whole tasks that the buffer holds
    drop: float
    price: float  # of an offloaded task
    discount: float  # 1: long-run mean
    parts: int  # cells of a task in progress


@dataclass(frozen=True)
class Fading:
    """Points that stand for the fading of one device: two for each cell, the ends of a secant.

    Attributes:
        weight: (F,) sums to 1.
        cost: (F,) b, cost of transmitting (inverse gain).
        residual_max: (F,) tasks that the highest power carries, at most 1.
        first_blocked: (F,) first cell of a task in progress that can be in an outage.
    """

    weight: Array
    cost: Array
    residual_max: Array
    first_blocked: Array


@dataclass(frozen=True)
class Potential:
    """h on whole queues (N+1,) and on tasks in progress (N+1, parts+1); the last column is the limit from below."""

    whole: Array
    partial: Array

    @classmethod
    def zero(cls, device: Device) -> Potential:
        return cls(np.zeros(device.tasks_max + 1), np.zeros((device.tasks_max + 1, device.parts + 1)))


@dataclass(frozen=True)
class Resolution:
    """How finely a device's problem is cut, and when value iteration ends; any choice gives a bound.

    Twice as many cells of everything raise the bound by less than 0.1 %.

    Attributes:
        parts, cells: of a task in progress, and of the fading.
        span: smallest and largest change of the last sweep.
        sweeps: at most so many.
    """

    parts: int = 10
    cells: int = 32
    span: float = 2e-3
    sweeps: int = 400


FINE, COARSE = Resolution(), Resolution(parts=2, cells=8, span=2e-2)


# --- the problem ---------------------------------------------------------------------------------------------


def device_problem(config: SequentialOffloadingConfig, price: float, discount: float, parts: int) -> Device:
    """The problem that every device of a network has, but for its gain."""
    model = DeviceModel(SequentialOffloading(config), work_set(config))
    return Device(
        hold=model.hold_cost,
        energy=float(model.local_cost(np.asarray(1.0))),
        growth=config.bits_per_s_per_hz_per_cycle * config.task_cycles * float(np.log(2.0)),
        work_max=model.work_max_tasks,
        tasks_max=int(config.device_queue_tasks_max + config.residual_tolerance),
        drop=config.drop_cost_per_task,
        price=price,
        discount=discount,
        parts=parts,
    )


def fading_points(
    config: SequentialOffloadingConfig, mean_gain_per_w: float, growth: float, resolution: Resolution
) -> Fading:
    """Cells of an exponential gain H, each by the secant in 1/H between its ends; see the module's docstring."""
    cells, parts = resolution.cells, resolution.parts
    edges = np.concatenate([[0.0], np.geomspace(FADING_MIN, FADING_MAX, cells - 1), [np.inf]])
    low, high = edges[:-1], edges[1:]
    chance = np.exp(-low) - np.exp(-high)
    with np.errstate(divide="ignore"):
        near, far = 1.0 / high, 1.0 / low  # inverse gains; far is infinite in the first cell
    mean = exp1(low) - exp1(np.where(np.isfinite(high), high, 1e3))  # E[1/H; cell]
    share_far = np.zeros(cells)
    share_far[1:] = (mean[1:] - near[1:] * chance[1:]) / (far[1:] - near[1:])
    gain = max(mean_gain_per_w, GAIN_MIN)
    cost = config.device_energy_weight * config.slot_s * config.snr_gap / gain
    snr = gain * config.transmit_power_w_max * OUTAGE_MARGIN / config.snr_gap

    def carried(fading: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.minimum(np.log1p(fading * snr) / growth, 1.0)

    blocked = np.minimum(np.floor(carried(low) * parts - 1e-9), parts).astype(np.int64)
    most = np.where(np.isfinite(high), carried(np.where(np.isfinite(high), high, 1.0)), 1.0)
    if not config.residual_leaves_device:  # what is sent brings the device nothing: nothing has to be sent
        most, blocked = np.zeros(cells), np.zeros(cells, np.int64)
    far[0] = near[0]  # cost grows with 1/H: the first cell is at least what its best end is
    return Fading(
        weight=np.concatenate([chance - share_far, share_far]),
        cost=cost * np.concatenate([near, far]),
        residual_max=np.tile(most, 2),
        first_blocked=np.maximum(np.tile(blocked, 2), 0),
    )


@compiled(cache=True)
def _leaving(amount: float, b: float, residual_max: float, d: Device) -> tuple[float, float]:
    """Smallest cost at which `amount` tasks leave, part computed, part sent, and its slope; infinite if they cannot.

    min over r of energy (amount - r)^3 + b (exp(growth r) - 1) + price r; the last tangent bounds it from below.
    """
    low, high = max(0.0, amount - d.work_max), min(residual_max, amount)
    if low > high + 1e-12:
        return np.inf, np.inf
    high = max(high, low)
    sending = b * d.growth * np.exp(d.growth * low) + d.price
    rising = sending - 3.0 * d.energy * (amount - low) ** 2
    all_work_used = rising >= 0.0 and low > 0.0
    if rising < 0.0:
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            steep = b * d.growth * np.exp(d.growth * middle) + d.price - 3.0 * d.energy * (amount - middle) ** 2
            if steep < 0.0:
                low, rising = middle, steep
            else:
                high = middle
    x = amount - low
    value = d.energy * x**3 + b * (np.exp(d.growth * low) - 1.0) + d.price * low + min(rising, 0.0) * (high - low)
    return value, sending if all_work_used else 3.0 * d.energy * x * x


@compiled(cache=True)
def _leaving_tables(b: Array, residual_max: Array, d: Device) -> tuple[Array, Array]:
    """`_leaving` of multiples of a cell (J, F): exact, and lowered by what a secant may lie above it in a cell.

    The cell in which the largest possible amount lies has the tangent at its lower end.
    """
    count = d.parts * int(np.ceil(d.work_max + 1.0)) + 1
    exact, lowered, slope = np.empty((count, len(b))), np.empty((count, len(b))), np.empty(count)
    for f in range(len(b)):
        for j in range(count):
            exact[j, f], slope[j] = _leaving(j / d.parts, b[f], residual_max[f], d)
            lowered[j, f] = exact[j, f]
            if exact[j, f] == np.inf and exact[j - 1, f] < np.inf:
                lowered[j, f], slope[j] = exact[j - 1, f] + slope[j - 1] / d.parts, slope[j - 1]
        for j in range(count):
            change = 0.0
            if j > 0 and slope[j] < np.inf:
                change = slope[j] - slope[j - 1]
            if j + 1 < count and slope[j + 1] < np.inf:
                change = max(change, slope[j + 1] - slope[j])
            lowered[j, f] -= change / (4.0 * d.parts)
    return exact, lowered


# --- value iteration -----------------------------------------------------------------------------------------


@compiled(cache=True)
def _after_arrivals(h: Array, arrivals: Array, d: Device) -> Array:
    """Discounted expectation of h (N+1, C) over arrivals; what finds no room, or is not wanted, is dropped."""
    after = np.zeros(h.shape)
    for k in range(h.shape[0]):
        for c in range(h.shape[1]):
            for a in range(len(arrivals)):
                best = np.inf
                for accepted in range(min(a, d.tasks_max - k) + 1):
                    best = min(best, h[k + accepted, c] + d.drop * (a - accepted))
                after[k, c] += arrivals[a] * best
            after[k, c] *= d.discount
    return after


@compiled(cache=True)
def _blocked(q: float, unit: int, own_cells: int, partial: Array, d: Device) -> Array:
    """(parts+1,) smallest cost + continuation of outages that leave a task in progress in cell c or in one above it.

    Args:
        q: queue; unit: its whole tasks.
        own_cells: cells below q of its own task in progress; 0 for whole queues, which are single points, so that
            nothing is subtracted for a secant.
        partial: (N+1, parts+1) continuation of what is kept.
    """
    width = 1.0 / d.parts
    most = np.ceil(d.work_max * d.parts - 1e-9) * width
    best = np.full(d.parts + 1, np.inf)
    for m in range(unit, -1, -1):
        if q - (m + 1.0) > most + 1e-9:
            break
        for c in range(own_cells if m == unit else d.parts):
            low, high = m + c * width, m + (c + 1) * width
            if q - high > most + 1e-9:
                continue
            slope = (partial[m, c + 1] - partial[m, c]) * d.parts
            x = np.sqrt(max(slope, 0.0) / (3.0 * d.energy)) if d.energy > 0.0 else most * (slope > 0.0)
            left = min(max(q - x, low, q - most), high, q)
            x = q - left
            value = d.energy * x**3 + partial[m, c] + slope * (left - low)
            if own_cells > 0:  # its slope in q is that of the work, which moves by a cell at most
                value -= 0.75 * width * d.energy * ((x + width) ** 2 - max(x - width, 0.0) ** 2)
            best[c] = min(best[c], value)
    for c in range(d.parts - 1, -1, -1):
        best[c] = min(best[c], best[c + 1])
    return best


@compiled(cache=True)
def _expected(
    table: Array, position: int, unit: int, whole: Array, blocked: Array, weight: Array, first_blocked: Array, d: Device
) -> float:
    """Expectation over the fading of the best of what leaves whole tasks and of an outage.

    Args:
        table: (J, F) cost of what leaves, in cells; position: cells of the queue; unit: its whole tasks.
        whole: (N+1,) continuation of whole tasks kept; blocked: (parts+1,) of an outage.
    """
    best = np.empty(len(weight))
    for f in range(len(weight)):
        best[f] = blocked[first_blocked[f]]
    for k in range(unit, -1, -1):
        row = position - k * d.parts
        if row >= table.shape[0]:
            break
        for f in range(len(weight)):
            best[f] = min(best[f], table[row, f] + whole[k])
    total = 0.0
    for f in range(len(weight)):
        total += weight[f] * best[f]
    return total


@compiled(cache=True)
def _sweep(
    whole: Array, partial: Array, exact: Array, lowered: Array, weight: Array, first_blocked: Array, arrivals: Array,
    d: Device,
) -> tuple[Array, Array]:  # fmt: skip
    """Relaxed Bellman operator: new values of whole queues (N+1,) and of tasks in progress (N+1, parts+1)."""
    kept_whole = _after_arrivals(whole.reshape(-1, 1), arrivals, d)[:, 0].copy()
    kept_partial = _after_arrivals(partial, arrivals, d)
    new_whole, new_partial = np.empty(whole.shape), np.empty(partial.shape)
    for m in range(len(whole)):
        blocked = _blocked(float(m), m, 0, kept_partial, d)
        rest = _expected(exact, m * d.parts, m, kept_whole, blocked, weight, first_blocked, d)
        new_whole[m] = d.hold * m + rest
        for i in range(d.parts + 1):
            q = m + i / d.parts
            blocked = _blocked(q, m, min(i + 1, d.parts), kept_partial, d)
            rest = _expected(lowered, m * d.parts + i, m, kept_whole, blocked, weight, first_blocked, d)
            new_partial[m, i] = d.hold * q + rest
    return new_whole, new_partial


@compiled(cache=True)
def _iterate(
    whole: Array, partial: Array, exact: Array, lowered: Array, weight: Array, first_blocked: Array, arrivals: Array,
    d: Device, span: float, sweeps: int,
) -> tuple[Array, Array, float]:  # fmt: skip
    """Value iteration: T h of the last sweep (0 at the empty queue if undiscounted), and the smallest T h - h."""
    low = -np.inf
    for _ in range(sweeps):
        new_whole, new_partial = _sweep(whole, partial, exact, lowered, weight, first_blocked, arrivals, d)
        low = min((new_whole - whole).min(), (new_partial - partial).min())
        high = max((new_whole - whole).max(), (new_partial - partial).max())
        base = new_whole[0] if d.discount == 1.0 else 0.0
        whole, partial = new_whole - base, new_partial - base
        if high - low < span:
            break
    return whole, partial, low


@dataclass(frozen=True)
class DeviceBound:
    """A lower bound of what a device costs, and the potential that certifies it."""

    cost: float
    potential: Potential


def device_bound(
    config: SequentialOffloadingConfig, mean_gain_per_w: float, price: float, discount: float = 1.0,
    start: Potential | None = None, resolution: Resolution = FINE,
) -> DeviceBound:  # fmt: skip
    """Certified lower bound of what one device costs that pays for what it offloads, starting with an empty queue.

    Args:
        config: the network.
        mean_gain_per_w: mean of the device's gain.
        price: lambda >= 0 per offloaded task.
        discount: 1 for the long-run mean per block, else of the discounted sum.
        start: potential of a similar problem, as a first guess.
        resolution: how finely it is computed.
    """
    d = device_problem(config, price, discount, resolution.parts)
    fading = fading_points(config, mean_gain_per_w, d.growth, resolution)
    exact, lowered = _leaving_tables(fading.cost, fading.residual_max, d)
    h = Potential.zero(d) if start is None else start
    whole, partial, least = _iterate(
        h.whole, h.partial, exact, lowered, fading.weight, fading.first_blocked, arrival_distribution(config), d,
        resolution.span, resolution.sweeps,
    )  # fmt: skip
    discounted = discount < 1.0
    cost = float(whole[0]) + (discount * least - MARGIN) / (1.0 - discount) if discounted else least - MARGIN
    return DeviceBound(cost, Potential(whole, partial))


def cost_after(
    config: SequentialOffloadingConfig, mean_gain_per_w: float, price: float, blocks: int
) -> tuple[float, float]:
    """Cost of a block after so many blocks from an empty queue, and in the long run, at the optimum under a price."""
    d = device_problem(config, price, 1.0, FINE.parts)
    fading = fading_points(config, mean_gain_per_w, d.growth, FINE)
    exact, lowered = _leaving_tables(fading.cost, fading.residual_max, d)
    fixed = (exact, lowered, fading.weight, fading.first_blocked, arrival_distribution(config), d)
    zero = Potential.zero(d)
    whole, partial, _ = _iterate(zero.whole, zero.partial, *fixed, 0.0, blocks)
    after = float(_sweep(whole, partial, *fixed)[0][0] - whole[0])
    return after, _iterate(whole, partial, *fixed, FINE.span, FINE.sweeps)[2]
