"""Near-optimal references of `sequential_offloading`: value iteration of every device for itself and of the server.

A device's problem is a Markov decision process of its own (the decomposition of the paper), so its optimum is computed
exactly on a lattice of queues; it only needs the mean gain of its channel. The server's problem is one of its own given
the offloads that arrive. `PricedPlan` iterates both to the fixed point of a price on offloaded work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import binom

from edgemarl.agents.api import Act, Controller
from edgemarl.agents.sequential_offloading.model import (
    DeviceModel,
    Lattice,
    ServerModel,
    ValueTable,
    read_device_rows,
    work_set,
)
from edgemarl.agents.sequential_offloading.q_device import OffloadingController, device_act
from edgemarl.agents.sequential_offloading.q_server import read_queue_tasks
from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.radio import from_db
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading, SequentialOffloadingTrace
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

TENTHS = 10
QUEUE_ROWS = 31
"""Whole tasks 0..30 of the device lattice; values continue linearly above."""
FADING_BINS = 12
GAIN_STEP_DB = 2.0
ACCURACY = 1e-6
"""Error bound of a value, relative to the largest one."""
SWEEPS_MAX = 2000
SERVER_POINTS = 400
SERVER_GRID_TASKS_MIN = 5.0
LOAD_BLOCKS, LOAD_WARM_UP = 300, 50


def fading_bins(bins: int) -> Array:
    """(bins,) equiprobable values of a unit-mean exponential: -ln(1 - (i + 0.5)/bins)."""
    return -np.log(1.0 - (np.arange(bins) + 0.5) / bins)


def arrival_distribution(config: SequentialOffloadingConfig) -> Array:
    """(n+1,) probabilities of 0..n arrivals in a block."""
    n, p = config.slots_per_block, config.arrival_probability
    k = np.arange(n + 1)
    return np.asarray(binom(n, k) * p**k * (1.0 - p) ** (n - k))


def accelerated(
    old: Array, new: Array, discount: float, axes: tuple[int, ...], accuracy: float = ACCURACY
) -> tuple[Array, bool]:
    """One step of value iteration moved to the middle of its error bounds (MacQueen), and whether it is accurate.

    The fixed point lies within gamma/(1-gamma) times the smallest and the largest change of this sweep; problems that
    do not interact are the remaining axes.
    """
    change = new - old
    scale = 0.5 * discount / (1.0 - discount)
    low, high = change.min(axes, keepdims=True), change.max(axes, keepdims=True)
    accurate = bool((scale * (high - low) <= accuracy * np.abs(new).max(axes, keepdims=True)).all())
    return new + scale * (low + high), accurate


class DeviceValues:
    """Optimal value of the kept queue for devices of several mean gains (and prices), solved at once.

    Args:
        scenario: the network.
        kind, even_fraction: choices of a device, see `work_set`.
        mean_gain_per_w: (G,).
        price: (G,) cost per offloaded task.
        bins: equiprobable fading values.
        start: `values` of similar problems, as a first guess.
        accuracy: error bound relative to the largest value.

    Attributes:
        values: (10, 31, G) value of a queue before the block.
        table: value of a kept queue, one column per problem.
    """

    def __init__(
        self,
        scenario: SequentialOffloading,
        mean_gain_per_w: Array,
        price: Array,
        kind: str = "grid",
        even_fraction: float = 0.5,
        bins: int = FADING_BINS,
        start: Array | None = None,
        accuracy: float = ACCURACY,
    ) -> None:
        model = DeviceModel(scenario, work_set(scenario.config, kind, even_fraction))
        gain = fading_bins(bins)[:, None] * mean_gain_per_w
        if start is None:
            coarse = _Lattice(model, 1, gain, price)
            guess = coarse.solve(np.zeros((1, QUEUE_ROWS, len(mean_gain_per_w))), accuracy)
            start = coarse.refined(guess, TENTHS)
        fine = _Lattice(model, TENTHS, gain, price)
        self.values = fine.solve(start, accuracy)
        kept = fine.after_arrivals(self.values)[:, :QUEUE_ROWS]
        flat = kept.transpose(1, 0, 2).reshape(TENTHS * QUEUE_ROWS, -1)
        self.table = ValueTable(flat, 1.0 / TENTHS, np.maximum(flat[-1] - flat[-1 - TENTHS], 0.0))


class _Lattice:
    """Bellman operator of devices on queues m + i/parts, m < 31; values are (parts, rows, G).

    A lattice of whole tasks is a cheap first guess for one of tenths.
    """

    def __init__(self, model: DeviceModel, parts: int, gain_per_w: Array, price: Array) -> None:
        self.parts, self.config = parts, model.config
        self.arrivals = arrival_distribution(model.config)
        self.lattice = Lattice(model, [i / parts for i in range(parts)])
        queue = np.arange(QUEUE_ROWS) + np.arange(parts)[:, None] / parts
        self._hold = (model.hold_cost * queue)[:, :, None]
        self._sent, self._outage = self.lattice.transmit(gain_per_w, price)
        self._no_residual = int(np.argmin(self.lattice.residual_tasks))
        anywhere: Array = np.logical_or.reduce(self._outage, axis=1)  # (R, G)
        self._blocked = [int(np.flatnonzero(row).max(initial=-1)) + 1 for row in anywhere]
        self._held = np.where(self._outage, 0.0, np.inf)
        self._only_idle = model.works.avoid_outage
        at = self.lattice.residual_tasks * parts
        self._below = np.floor(at + 1e-6).astype(int)
        self._inside = np.maximum(at - self._below, 0.0)[:, None, None]

    def solve(self, values: Array, accuracy: float) -> Array:
        """Iterate to the fixed point."""
        for _ in range(SWEEPS_MAX):
            values, accurate = accelerated(values, self.sweep(values), self.config.discount, (0, 1), accuracy)
            if accurate:
                return values
        raise RuntimeError(f"value iteration of the devices did not converge in {SWEEPS_MAX} sweeps")

    def refined(self, values: Array, parts: int) -> Array:
        """Values of whole tasks (1, rows, G) -> (parts, rows, G) by linear interpolation."""
        after = np.concatenate([values[0, 1:], 2.0 * values[0, -1:] - values[0, -2:-1]])
        result: Array = values + np.arange(parts)[:, None, None] / parts * (after - values[0])
        return result

    def after_arrivals(self, values: Array) -> Array:
        """Expectation of the value over the coming arrivals, at kept queues of up to `rows` whole tasks."""
        n = len(self.arrivals) - 1
        slope = values[:, -1:] - values[:, -2:-1]
        extended = np.concatenate([values, values[:, -1:] + slope * np.arange(1, n + 2)[:, None]], axis=1)
        expected = np.zeros((self.parts, QUEUE_ROWS + 1, values.shape[2]))
        for a, probability in enumerate(self.arrivals):
            expected += probability * extended[:, a : a + QUEUE_ROWS + 1]
        return expected

    def sweep(self, values: Array) -> Array:
        """Bellman operator."""
        after = self.config.discount * self.after_arrivals(values)
        carried = np.concatenate([after[:, :-1], after[:1, 1:]], axis=0)  # the last one is the next whole task
        kept = np.full((len(self._below), self.lattice.depth + QUEUE_ROWS, values.shape[2]), np.inf)
        low = carried[self._below]
        kept[:, self.lattice.depth :] = low + self._inside * (carried[np.minimum(self._below + 1, self.parts)] - low)
        best = [self._best(i, kept) for i in range(self.parts)]
        result: Array = self._hold + np.stack(best)
        return result

    def _best(self, fraction: int, kept: Array) -> Array:
        """Expectation over fading of the smallest cost + continuation, (rows, G)."""
        possible = np.where(self._outage, np.inf, self._sent)
        if self.config.residual_leaves_device:
            best = self.lattice.best_leaving(fraction, QUEUE_ROWS, kept[self._no_residual], possible)
        else:
            best = np.full((len(self._sent[0]), QUEUE_ROWS, kept.shape[2]), np.inf)
            self.lattice.lower_by(best, fraction, kept, possible, only_idle=False)
        blocked = [part[:, :n] for part, n in zip(kept, self._blocked, strict=True)]
        self.lattice.lower_by(best, fraction, blocked, self._held, self._only_idle)
        return np.asarray(best.mean(axis=0))


_CACHE: dict[tuple[object, ...], Array] = {}
_CACHE_ENTRIES = 2000


def unpriced_values(scenario: SequentialOffloading, mean_gain_db: Array, kind: str, even_fraction: float) -> ValueTable:
    """`DeviceValues` without price for mean gains in dB (G,); each is solved once per process."""
    config = dataclasses.replace(scenario.config, num_devices=1)
    keys = [(config, kind, even_fraction, float(gain)) for gain in mean_gain_db]
    missing = sorted({key[-1] for key in keys if key not in _CACHE})
    if missing:
        solved = DeviceValues(scenario, from_db(missing), np.zeros(len(missing)), kind, even_fraction).table
        if len(_CACHE) + len(missing) > _CACHE_ENTRIES:
            keys_needed = set(keys)
            for key in [key for key in _CACHE if key not in keys_needed]:
                del _CACHE[key]
        for i, gain in enumerate(missing):
            _CACHE[(config, kind, even_fraction, gain)] = np.append(solved.table[:, i], solved.slope[i])
    columns = np.stack([_CACHE[key] for key in keys], axis=1)
    return ValueTable(columns[:-1], 1.0 / TENTHS, columns[-1])


class ValueIterationDevice(OffloadingController):
    """Every device plays the optimum of its own sub-problem: one step ahead on its actual gain, then the value.

    Values are those of the mean gain rounded to 2 dB. `needs_statistics`: a device must know its own mean gain.

    Args:
        kind, even_fraction: choices of a device, see `work_set`.
        plan: gives the price of every cell; default: no price.
    """

    needs_statistics = True

    def __init__(self, kind: str = "grid", even_fraction: float = 0.5, plan: PricedPlan | None = None) -> None:
        self.kind, self.even_fraction, self.plan = kind, even_fraction, plan

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.model = DeviceModel(self.scenario, work_set(self.scenario.config, self.kind, self.even_fraction))

    def know_statistics(self, statistics: Mapping[str, Array]) -> None:
        mean_gain = statistics["mean_gain_per_w"]
        if self.plan is not None:
            self.plan.solve(self.scenario, mean_gain)
            self.use(self.plan.values, self.plan.columns, self.plan.price)
            return
        bins_db, columns = gain_bins_db(mean_gain)
        values = unpriced_values(self.scenario, bins_db, self.kind, self.even_fraction)
        self.use(values, columns.ravel(), np.zeros(len(mean_gain)))

    def use(self, values: ValueTable, columns: Array, price: Array) -> None:
        """Play given values: `columns` (B K,) names the column of each device, `price` (B,) is that of its cell."""
        self.values, self.columns = values, columns
        self._price = np.repeat(price, len(columns) // len(price))

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        rows = dataclasses.replace(read_device_rows(self.scenario.config, observations), price=self._price)
        return device_act(self.model, self.model.greedy(rows, self.values, self.columns), self.cells)


def gain_bins_db(mean_gain_per_w: Array) -> tuple[Array, Array]:
    """Mean gains rounded to 2 dB: the distinct ones (G,), and the index of each entry, same shape as the input."""
    with np.errstate(divide="ignore"):
        rounded = GAIN_STEP_DB * np.round(10.0 * np.log10(mean_gain_per_w) / GAIN_STEP_DB)
    bins_db, columns = np.unique(np.maximum(rounded, -300.0), return_inverse=True)
    return bins_db, columns.reshape(mean_gain_per_w.shape)


# --- server -----------------------------------------------------------------------------------------------------------


@compiled(cache=True)
def _arrival_matrix(offloaded_tasks: Array, step: Array, points: int) -> Array:
    """(B, P, P): weights of the values that the queue has after each offload, linear between and above the grid.

    Args:
        offloaded_tasks: (S, B).
        step: (B,) of the grids.
        points: P.
    """
    samples, cells = offloaded_tasks.shape
    matrix = np.zeros((cells, points, points))
    for b in range(cells):
        for p in range(points):
            for above in range(2):
                for s in range(samples):
                    position = p + offloaded_tasks[s, b] / step[b]
                    index = min(int(position), points - 2)
                    weight = position - index
                    matrix[b, p, index + above] += (weight if above else 1.0 - weight) / samples
    return matrix


@compiled(cache=True)
def _least(cost: Array, discount: float, after: Array, below: Array, inside: Array) -> Array:
    """(P, B) smallest cost + continuation of the choices (P, B, C); `after` (P, B) is linear between its points."""
    least = np.full(cost.shape[:2], np.inf)
    for p in range(cost.shape[0]):
        for b in range(cost.shape[1]):
            for c in range(cost.shape[2]):
                low, high = after[below[p, b, c], b], after[below[p, b, c] + 1, b]
                least[p, b] = min(least[p, b], cost[p, b, c] + discount * (low + inside[p, b, c] * (high - low)))
    return least


class ServerValues:
    """Optimal value of the server's queue after service, given samples of what the devices offload per block.

    Args:
        config: the network.
        offloaded_tasks: (S, B) samples for each cell.

    Attributes:
        table: value, one column per cell, on that cell's own grid with step `step` (B,).
    """

    def __init__(self, config: SequentialOffloadingConfig, offloaded_tasks: Array) -> None:
        self.config, self.model = config, ServerModel(config)
        top = np.maximum(6.0 * offloaded_tasks.mean(axis=0), 2.5 * offloaded_tasks.max(axis=0))
        self.step = np.maximum(top, SERVER_GRID_TASKS_MIN) / (SERVER_POINTS - 1)  # (B,)
        queue = np.arange(SERVER_POINTS)[:, None] * self.step  # (P, B)
        served = self.model.served(queue)  # (P, B, 51)
        left = (queue[..., None] - served) / self.step[:, None]
        self._below = np.minimum(left, SERVER_POINTS - 2).astype(np.int64)
        self._inside = left - self._below
        self._cost = self.model.serve_cost(served)
        self._hold = self.model.hold_cost * queue
        self._transition = _arrival_matrix(offloaded_tasks, self.step, SERVER_POINTS)
        self.table = self._iterate()

    def _iterate(self) -> Array:
        """(P, B) value after service."""
        values = np.zeros_like(self._hold)
        for _ in range(SWEEPS_MAX):
            after = np.einsum("bpq,qb->pb", self._transition, values)
            new = self._hold + _least(self._cost, self.config.discount, after, self._below, self._inside)
            values, accurate = accelerated(values, new, self.config.discount, (0,))
            if accurate:
                result: Array = np.einsum("bpq,qb->pb", self._transition, values)
                return result
        raise RuntimeError(f"value iteration of the server did not converge in {SWEEPS_MAX} sweeps")

    def greedy(self, queue_tasks: Array) -> Array:
        """Tasks served (B,)."""
        served = self.model.served(queue_tasks)
        left = queue_tasks[:, None] - served
        total = self.model.serve_cost(served) + self.config.discount * self.at(left)
        return np.take_along_axis(served, np.argmin(total, axis=1)[:, None], 1)[:, 0]

    def at(self, left_tasks: Array) -> Array:
        """Value (B, C) of what is left (B, C)."""
        unit = ValueTable(self.table, 1.0, np.maximum(self.table[-1] - self.table[-2], 0.0))
        return unit.at(left_tasks / self.step[:, None])


DeviceBuilder = Callable[[], Controller]


class ValueIterationServer(OffloadingController):
    """The server plays the optimum of its own sub-problem for the load that a device scheme brings.

    Its statistics, the offloads per block, are sampled beforehand: the devices' scheme is played on a trace of its own
    with the cell's mean gains. `needs_statistics`.

    Args:
        devices: makes the devices' controller.
        plan: of a priced fixed point; then `devices` is not needed.
    """

    needs_statistics = True

    def __init__(self, devices: DeviceBuilder | None = None, plan: PricedPlan | None = None) -> None:
        if (devices is None) == (plan is None):
            raise ValueError("a server needs either devices or plan")
        self.devices, self.plan = devices, plan

    def know_statistics(self, statistics: Mapping[str, Array]) -> None:
        mean_gain = statistics["mean_gain_per_w"]
        if self.plan is not None:
            self.plan.solve(self.scenario, mean_gain)
            self.values = self.plan.server
        elif self.devices is not None:
            load = offload_samples(self.scenario, self.devices(), mean_gain)
            self.values = ServerValues(self.scenario.config, load)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        served = self.values.greedy(read_queue_tasks(self.scenario.config, observations))
        return Act(decisions={"server_cpu_hz": self.values.model.rate_hz(served)})


def sampled_trace(
    scenario: SequentialOffloading, mean_gain_per_w: Array, blocks: int, seed: int
) -> SequentialOffloadingTrace:
    """A trace of cells with given mean gains (B, K); the same draws for the same shape."""
    drawn = scenario.sample_trace(np.random.default_rng(seed), len(mean_gain_per_w), blocks)
    gain = drawn.channel_gain_per_w / drawn.mean_gain_per_w * mean_gain_per_w
    return SequentialOffloadingTrace(gain, drawn.task_arrivals, mean_gain_per_w)


def offload_samples(
    scenario: SequentialOffloading,
    devices: Controller,
    mean_gain_per_w: Array,
    blocks: int = LOAD_BLOCKS,
    warm_up: int = LOAD_WARM_UP,
) -> Array:
    """Offloaded tasks per block (blocks - warm_up, B) when a scheme plays cells with these mean gains (B, K)."""
    trace = sampled_trace(scenario, mean_gain_per_w, blocks, seed=20220301)
    rng = np.random.default_rng(20220302)
    state, load = scenario.initial_state(trace), []
    devices.reset(scenario, trace.cells)
    if devices.needs_statistics:
        devices.know_statistics({"mean_gain_per_w": mean_gain_per_w})
    full_rate = {"server_cpu_hz": np.full(trace.cells, scenario.config.server_cpu_hz_max)}
    for t in range(blocks):
        exogenous = scenario.exogenous(trace, t)
        act = devices.act(scenario.observe(state, exogenous)["device"], rng)
        step = scenario.step(state, scenario.decisions_type(**act.decisions, **full_rate), exogenous)
        devices.feedback(step.costs["device"])
        state = step.state
        load.append(state.last_offloaded_cycles / scenario.config.task_cycles)
    return np.array(load[warm_up:])


# --- price ------------------------------------------------------------------------------------------------------------


class PricedPlan:
    """Fixed point of the price on offloaded work, cell by cell, computed offline from the mean gains.

    Devices' optimum under lambda -> their offloads -> server's optimum -> lambda = gamma E[dV_ser/dq], damped by one
    half. Devices and server of one team share the plan; the price is a constant known to both.

    Attributes:
        price: (B,); values, columns: of the devices; server: of the server.
    """

    ROUNDS = 6
    DAMPING = 0.5
    ACCURACY = 1e-3  # before the last round

    def __init__(self) -> None:
        self._solved: tuple[object, Array] | None = None

    def solve(self, scenario: SequentialOffloading, mean_gain_per_w: Array) -> None:
        """Compute the plan of these cells (B, K), once."""
        if self._solved and self._solved[0] == scenario.config and np.array_equal(self._solved[1], mean_gain_per_w):
            return
        cells = len(mean_gain_per_w)
        self.price = np.full(cells, lowest_price(scenario.config))
        start = None
        for _ in range(self.ROUNDS):
            newest, start = self._round(scenario, mean_gain_per_w, start, self.ACCURACY)
            self.price = (1.0 - self.DAMPING) * self.price + self.DAMPING * newest
        self._round(scenario, mean_gain_per_w, start, ACCURACY)
        self._solved = (scenario.config, mean_gain_per_w.copy())

    def _round(
        self, scenario: SequentialOffloading, mean_gain_per_w: Array, start: Array | None, accuracy: float
    ) -> tuple[Array, Array]:
        """Solve devices and server under the present price; the price (B,) that this server would ask, and values."""
        bins_db, columns = gain_bins_db(mean_gain_per_w)
        cells = np.repeat(np.arange(len(mean_gain_per_w)), mean_gain_per_w.shape[1])
        pairs, self.columns = np.unique(np.stack([columns.ravel(), cells]), axis=1, return_inverse=True)
        gain = from_db(bins_db[pairs[0]])
        solved = DeviceValues(scenario, gain, self.price[pairs[1]], start=start, accuracy=accuracy)
        self.values = solved.table
        devices = _PlannedDevices(self)
        load = offload_samples(scenario, devices, mean_gain_per_w)
        self.server = ServerValues(scenario.config, load)
        return marginal_cost(self.server, load), solved.values


class _PlannedDevices(ValueIterationDevice):
    """Devices under the price of an unfinished plan."""

    def know_statistics(self, statistics: Mapping[str, Array]) -> None:
        assert self.plan is not None
        self.use(self.plan.values, self.plan.columns.ravel(), self.plan.price)

    def __init__(self, plan: PricedPlan) -> None:
        super().__init__(plan=plan)


def lowest_price(config: SequentialOffloadingConfig) -> float:
    """gamma w1 W: every offloaded task waits at least one block at the server."""
    return config.discount * config.server_queue_weight * config.task_cycles


def marginal_cost(server: ServerValues, offloaded_tasks: Array) -> Array:
    """gamma E[dV/dq] (B,) at the queue after service, along a path of the server's own greedy play."""
    config = server.config
    queue = np.zeros(offloaded_tasks.shape[1])
    total = np.zeros_like(queue)
    for offloaded in offloaded_tasks:
        left = queue - server.greedy(queue)
        width = server.step
        low, high = server.at(np.stack([left, left + width], axis=1)).T
        total += (high - low) / width
        queue = left + offloaded
    return config.discount * total / len(offloaded_tasks)


def value_iteration_roles(
    kind: str = "grid", even_fraction: float = 0.5
) -> tuple[ValueIterationDevice, ValueIterationServer]:
    """Devices and server that each play their own optimum."""

    def devices() -> ValueIterationDevice:
        return ValueIterationDevice(kind, even_fraction)

    return devices(), ValueIterationServer(devices)


def priced_roles() -> Sequence[Controller]:
    """Devices and server at the fixed point of the price."""
    plan = PricedPlan()
    return ValueIterationDevice(plan=plan), ValueIterationServer(plan=plan)
