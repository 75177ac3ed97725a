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

import threading
from dataclasses import dataclass
from functools import lru_cache
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
STEPS, RISING = 60, 1e-12
"""Of the search of what is sent: at most so many steps, up to this slope relative to that of sending."""


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
        first_blocked: (F,) first cell of a task in progress that can be in an outage; unsigned.
    """

    weight: Array
    cost: Array
    residual_max: Array
    first_blocked: Array


@dataclass(frozen=True)
class Potential:
    """h by whole tasks (N+1, parts+2): with 0, 1, .., parts cells of a task in progress, then without one."""

    values: Array

    @property
    def whole(self) -> Array:
        """(N+1,) of whole queues."""
        return self.values[:, -1]

    @property
    def partial(self) -> Array:
        """(N+1, parts+1) of tasks in progress."""
        return self.values[:, :-1]

    @classmethod
    def zero(cls, device: Device) -> Potential:
        return cls(np.zeros((device.tasks_max + 1, device.parts + 2)))


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


@lru_cache(maxsize=16)
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


@lru_cache(maxsize=64)  # the same at every price
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
        first_blocked=np.maximum(np.tile(blocked, 2), 0).astype(np.uint64),
    )


@compiled(cache=True)
def _leaving(amount: float, b: float, residual_max: float, guess: float, d: Device) -> tuple[float, float, float]:
    """Smallest cost at which `amount` tasks leave, part computed, part sent, and its slope; infinite if they cannot.

    min over r of energy (amount - r)^3 + b (exp(growth r) - 1) + price r, whose slope `rising` Newton's method brings
    to 0; the last tangent bounds it from below.

    Args:
        guess: of r, which is returned, too.
    """
    low, high = max(0.0, amount - d.work_max), min(residual_max, amount)
    if low > high + 1e-12:
        return np.inf, np.inf, guess
    high = max(high, low)
    rising, _, sending = _slopes(amount, low, b, d)
    r, all_work_used = low, rising >= 0.0 and low > 0.0
    if rising < 0.0:
        r = high
        rising, steep, sending = _slopes(amount, high, b, d)
        if rising > 0.0:
            r = guess if low < guess < high else 0.5 * (low + high)
            for _ in range(STEPS):
                rising, steep, sending = _slopes(amount, r, b, d)
                low, high = (r, high) if rising < 0.0 else (low, r)
                if abs(rising) <= RISING * sending:
                    break
                following = r - rising / steep
                r = following if low < following < high else 0.5 * (low + high)
            rising, steep, sending = _slopes(amount, r, b, d)
    x = amount - r
    value = d.energy * x**3 + b * (np.exp(d.growth * r) - 1.0) + d.price * r
    value += min(rising * (high - r), rising * (low - r), 0.0)
    return value, sending if all_work_used else 3.0 * d.energy * x * x, r


@compiled(cache=True)
def _slopes(amount: float, r: float, b: float, d: Device) -> tuple[float, float, float]:
    """First and second derivative of what `_leaving` minimises, and what its sending adds to the first."""
    grows, x = b * d.growth * np.exp(d.growth * r), amount - r
    sending = grows + d.price
    return sending - 3.0 * d.energy * x * x, grows * d.growth + 6.0 * d.energy * x, sending


@compiled(cache=True, nogil=True)
def _leaving_tables(b: Array, residual_max: Array, d: Device) -> tuple[Array, Array]:
    """`_leaving` of multiples of a cell (J, F): exact, and lowered by what a secant may lie above it in a cell.

    The cell in which the largest possible amount lies has the tangent at its lower end.
    """
    most = min(d.work_max + 1.0, d.tasks_max + 2.0)  # no more leaves than a full buffer and a task in progress
    count = d.parts * int(np.ceil(most)) + 1
    exact, lowered, slope = np.empty((count, len(b))), np.empty((count, len(b))), np.empty(count)
    for f in range(len(b)):
        sent = 0.0
        for j in range(count):
            exact[j, f], slope[j], sent = _leaving(j / d.parts, b[f], residual_max[f], sent, d)
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


@compiled(cache=True, error_model="numpy")
def _after_arrivals(h: Array, arrivals: Array, d: Device) -> Array:
    """Discounted expectation of h (N+1, C) over arrivals; what finds no room, or is not wanted, is dropped."""
    after, best = np.zeros(h.shape), np.empty(h.shape[1])
    for k in range(h.shape[0]):
        sums = after[k]
        for a in range(len(arrivals)):
            best[:] = np.inf
            for accepted in range(min(a, d.tasks_max - k) + 1):
                kept, dropped = h[k + accepted], d.drop * (a - accepted)
                for c in range(len(best)):
                    value = kept[c] + dropped
                    best[c] = value if value < best[c] else best[c]
            for c in range(len(best)):
                sums[c] += arrivals[a] * best[c]
        for c in range(len(best)):
            sums[c] *= d.discount
    return after


@compiled(cache=True, error_model="numpy")
def _cells(partial: Array, d: Device) -> Array:
    """(5, (N+1) parts) cells of tasks in progress: lower and upper end, continuation at the lower end, its slope, and
    the work by which a queue above should come down to it.

    Args:
        partial: (N+1, parts+1) continuation of what is kept.
    """
    width, most = 1.0 / d.parts, np.ceil(d.work_max * d.parts - 1e-9) * (1.0 / d.parts)
    cells = np.empty((5, len(partial) * d.parts))
    for m in range(len(partial)):
        for c in range(d.parts):
            slope = (partial[m, c + 1] - partial[m, c]) * d.parts
            work = np.sqrt(max(slope, 0.0) / (3.0 * d.energy)) if d.energy > 0.0 else most * (slope > 0.0)
            cell = cells[:, m * d.parts + c]
            cell[0], cell[1], cell[2], cell[3], cell[4] = m + c * width, m + (c + 1) * width, partial[m, c], slope, work
    return cells


@compiled(cache=True, error_model="numpy")
def _blocked(unit: int, is_whole: bool, cells: Array, d: Device, values: Array, best: Array) -> None:
    """Writes the smallest cost + continuation of outages that leave a task in progress in cell c or in one above it.

    Args:
        unit: whole tasks of the queues.
        is_whole: one queue of whole tasks, a single point, so that nothing is subtracted for a secant; else queues
            that hold 0, 1, .., parts cells of a task in progress.
        cells: see `_cells`; values: as many numbers, overwritten; best: (I, parts+1) is written, a row per queue.
    """
    parts, worked = d.parts, int(np.ceil(d.work_max * d.parts - 1e-9))
    width, most = 1.0 / parts, worked * (1.0 / parts)
    scale = 0.0 if is_whole else 0.75 * width * d.energy  # its slope is that of the work, which moves by a cell at most
    for i in range(len(best)):
        q = unit + i / parts
        first = max(0, unit * parts + i - worked - 1)
        end = unit * parts + (0 if is_whole else min(i + 1, parts))
        low, high, kept = cells[0, first:end], cells[1, first:end], cells[2, first:end]
        slope, work, value, least = cells[3, first:end], cells[4, first:end], values[first:end], best[i]
        for g in range(len(value)):
            left = q - work[g]
            left = low[g] if left < low[g] else left
            left = q - most if left < q - most else left
            left = high[g] if left > high[g] else left
            left = q if left > q else left
            x = q - left
            below = x - width if x > width else 0.0
            lower = scale * ((x + width) * (x + width) - below * below)
            value[g] = d.energy * (x * x * x) + kept[g] + slope[g] * (left - low[g]) - lower
        least[:] = np.inf
        c = first % parts
        for g in range(len(value)):
            least[c] = value[g] if value[g] < least[c] else least[c]
            c = c + 1 if c + 1 < parts else 0
        for c in range(parts - 1, -1, -1):
            least[c] = min(least[c], least[c + 1])


@compiled(cache=True, error_model="numpy")
def _best(
    exact: Array, lowered: Array, unit: int, whole: Array, blocked: Array, first_blocked: Array, best: Array
) -> None:
    """Writes the best of what leaves whole tasks and of an outage, under every fading.

    Queues with `unit` whole tasks: those with 0, 1, .., parts cells of a task in progress, then the one without.

    Args:
        exact, lowered: (J, F) cost of what leaves, in cells; flat.
        whole: (N+1,) continuation of whole tasks kept; blocked: (parts+2, parts+1) of an outage.
        first_blocked: (F,) unsigned.
        best: (parts+2, F), flat, is written.
    """
    queues, points = np.uint64(len(blocked)), np.uint64(len(first_blocked))  # unsigned: no index counts from the end
    one, size = np.uint64(1), np.uint64(len(exact))
    for i in range(queues):
        kept = blocked[i]
        for f in range(points):
            best[i * points + f] = kept[first_blocked[f]]
    of_whole = (queues - one) * points
    for k in range(unit, -1, -1):
        row = np.uint64(unit - k) * (queues - one - one) * points
        if row >= size:
            break
        kept_whole = whole[k]
        for j in range(min(of_whole, size - row)):  # rows of all queues follow each other
            total = lowered[row + j] + kept_whole
            best[j] = total if total < best[j] else best[j]
        for j in range(points):
            total = exact[row + j] + kept_whole
            best[of_whole + j] = total if total < best[of_whole + j] else best[of_whole + j]


@compiled(cache=True, error_model="numpy")
def _expected(best: Array, weight: Array, found: Array) -> None:
    """Writes sums over the fading: best (I, F) times weight (F,) into found (I,); I is a multiple of four."""
    for i in range(0, len(best), 4):  # four sums side by side: one alone would wait for each of its additions
        a, b, c, d = best[i], best[i + 1], best[i + 2], best[i + 3]
        sum_a, sum_b, sum_c, sum_d = 0.0, 0.0, 0.0, 0.0
        for f in range(len(weight)):
            sum_a += weight[f] * a[f]
            sum_b += weight[f] * b[f]
            sum_c += weight[f] * c[f]
            sum_d += weight[f] * d[f]
        found[i], found[i + 1], found[i + 2], found[i + 3] = sum_a, sum_b, sum_c, sum_d


@compiled(cache=True)
def _sweep(
    h: Array, exact: Array, lowered: Array, weight: Array, first_blocked: Array, arrivals: Array, d: Device
) -> Array:
    """Relaxed Bellman operator on tasks in progress and whole queues (N+1, parts+2)."""
    kept = _after_arrivals(h, arrivals, d)
    cells, whole = _cells(kept, d), kept[:, -1].copy()
    queues = d.parts + 2
    new, blocked, values = np.empty(h.shape), np.empty((queues, d.parts + 1)), np.empty(cells.shape[1])
    best = np.zeros((-(-queues // 4) * 4, len(weight)))
    found, flat, flat_exact, flat_lowered = (
        np.empty(len(best)),
        best.reshape(-1),
        exact.reshape(-1),
        lowered.reshape(-1),
    )
    for m in range(len(h)):
        _blocked(m, False, cells, d, values, blocked[:-1])
        _blocked(m, True, cells, d, values, blocked[-1:])
        _best(flat_exact, flat_lowered, m, whole, blocked, first_blocked, flat)
        _expected(best, weight, found)
        for i in range(d.parts + 1):
            new[m, i] = d.hold * (m + i / d.parts) + found[i]
        new[m, d.parts + 1] = d.hold * m + found[d.parts + 1]
    return new


@compiled(cache=True, nogil=True)
def _iterate(
    h: Array, exact: Array, lowered: Array, weight: Array, first_blocked: Array, arrivals: Array, d: Device,
    span: float, sweeps: int,
) -> tuple[Array, float, float]:  # fmt: skip
    """Value iteration: T h of the last sweep (0 at the empty queue if undiscounted), the smallest T h - h, and how far
    the largest is above it."""
    low, high = -np.inf, np.inf
    for _ in range(sweeps):
        new = _sweep(h, exact, lowered, weight, first_blocked, arrivals, d)
        change = new - h
        low, high = change.min(), change.max()
        h = new - (new[0, -1] if d.discount == 1.0 else 0.0)
        if high - low < span:
            break
    return h, low, high - low


SWEEPS_AT_ONCE = 8
"""Sweeps between two looks at whether the computation is to end: compiled code hears no Ctrl-C."""


class Stopping(threading.local):
    """Of each thread: whether what it computes is wanted no more."""

    event: threading.Event | None = None

    def check(self) -> None:
        """Raise `InterruptedError` if it is to end."""
        if self.event is not None and self.event.is_set():
            raise InterruptedError("the bound is wanted no more")


STOPPING = Stopping()


def _iterated(
    h: Array, fixed: tuple[Array, Array, Array, Array, Array, Device], span: float, sweeps: int
) -> tuple[Array, float]:
    """`_iterate`, a few sweeps at once."""
    least, change = -np.inf, np.inf
    while sweeps > 0 and not change < span:
        STOPPING.check()
        h, least, change = _iterate(h, *fixed, span, min(sweeps, SWEEPS_AT_ONCE))
        sweeps -= SWEEPS_AT_ONCE
    return h, least


def sweep_operations(config: SequentialOffloadingConfig, resolution: Resolution = FINE) -> float:
    """Roughly how many numbers a sweep of value iteration touches; 1e9 take a core a second or two."""
    d = device_problem(config, 0.0, 1.0, resolution.parts)
    queues, worked = float(d.tasks_max + 1), min(d.work_max + 1.0, d.tasks_max + 1.0)
    each = 2.0 * resolution.cells * (worked + 1.0) + worked * d.parts + 0.5 * config.slots_per_block**2
    return queues * (d.parts + 2) * each


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
    h = Potential.zero(d) if start is None else start
    fixed = _fixed(config, mean_gain_per_w, d, resolution)
    found, least = _iterated(h.values, fixed, resolution.span, resolution.sweeps)
    discounted = discount < 1.0
    cost = float(found[0, -1]) + (discount * least - MARGIN) / (1.0 - discount) if discounted else least - MARGIN
    return DeviceBound(cost, Potential(found))


def cost_after(
    config: SequentialOffloadingConfig, mean_gain_per_w: float, price: float, blocks: int
) -> tuple[float, float]:
    """Cost of a block after so many blocks from an empty queue, and in the long run, at the optimum under a price."""
    d = device_problem(config, price, 1.0, FINE.parts)
    fixed = _fixed(config, mean_gain_per_w, d, FINE)
    h, _ = _iterated(Potential.zero(d).values, fixed, 0.0, blocks)
    after = float(_sweep(h, *fixed)[0, -1] - h[0, -1])
    return after, _iterated(h, fixed, FINE.span, FINE.sweeps)[1]


def _fixed(
    config: SequentialOffloadingConfig, mean_gain_per_w: float, d: Device, resolution: Resolution
) -> tuple[Array, Array, Array, Array, Array, Device]:
    """What the sweeps of value iteration have in common: tables of what leaves, fading, arrivals, problem."""
    fading = fading_points(config, mean_gain_per_w, d.growth, resolution)
    tables = _leaving_tables(fading.cost, fading.residual_max, d)
    return *tables, fading.weight, fading.first_blocked, arrival_distribution(config), d
