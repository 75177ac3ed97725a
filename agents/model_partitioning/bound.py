"""What no controller of `model_partitioning` can do better than on a trace: a certified lower bound of its objective.

**Claim.** For all prices b_t, u_t >= 0 of the band and of the edge CPU in slot t, the mean objective over slots after
warm-up of every controller that leaves CPU rates to the network (`local_cpu_rule` "optimal"), even one that knows the
trace beforehand, is at least

    [ sum_n D_n(b, u) - sum_t (b_t + u_t) ] / slots.

D_n is what device n pays at least if it buys its shares at these prices, alone with its two virtual queues.

**Proof.** Shares of a slot sum to at most 1, so b_t (sum_n alpha_n - 1) + u_t (sum_n x_n - 1) <= 0. Add it to the
objective of every slot that counts: the devices separate, and each can do no better than its own optimum.

`device_bound` computes D_n from below, in time linear in slots, so that the whole is linear in devices. Any prices give
a bound. They begin as those of `price_greedy` on the same trace and climb along supergradients of a coarse copy; the
last step is certified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgemarl.agents.api import Controller, Team
from edgemarl.agents.model_partitioning.device_bound import DeviceTrace, QueueGrid, device_trace, shares, values
from edgemarl.agents.model_partitioning.rules import EvenServer, PriceGreedy
from edgemarl.agents.playbook import Bound, NoBound
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning

ENERGY_CELLS, COARSE_ENERGY_CELLS = 60, 24
"""Cells of the energy queue in the last, certified step, and in the coarse copy."""
TABLE_POINTS, COARSE_TABLE_POINTS = 33, 17
"""Points of the table of what transmission costs."""
MEMORY_CELL, COARSE_MEMORY_CELL = 0.25, 0.5
MEMORY_CELLS = (4, 32)
"""Fewest and most cells of the memory queue."""
HEADROOM = 1.75
"""Top of a grid over the longest queue that `price_greedy` meets."""
TOP_MIN = 1.0
"""Lowest top of a grid: of the energy queue over the budget of a slot, and of the memory queue."""
STEPS, STEPS_MIN, STEP_DEVICES = 16, 4, 480
"""Steps along the supergradient: most, least, and devices in all steps together."""
STEP, LEVEL_STEP = 0.2, 0.6
"""First steps of the logarithms of the prices, slot by slot and of their level."""
GROW, SHRINK, FULL_STEP = 1.2, 0.4, 0.3
"""Change of a step that keeps its sign or turns, and the excess from which on it is taken in full."""
LEVEL_STEPS = 6
"""Steps in which all prices of a resource rise or fall alike."""
SAMPLE = 15
"""Devices that say so."""
KEPT = 100
"""Devices whose coarse copies are kept from step to step; of more they are made anew."""
PRICE_MIN = 0.01
"""Smallest price with which the climb begins, in V."""
SLOTS_MAX = 20_000
"""Of a trace: the values of a device's queues take 16 kB a slot, and one pass over them hears no Ctrl-C."""
ROUNDING = 1e-9
BINDS = (
    "every controller that leaves the CPU rates to the network, even one that knows the trace beforehand, on every "
    "single trace"
)


@dataclass(frozen=True)
class CellTrace:
    """One network's trace, and the prices and longest queues of `price_greedy` on it.

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

    def device(self, network: ModelPartitioning, device: int, coarse: bool) -> DeviceTrace:
        """The dynamic programme of one device."""
        energy, cells = self.energy_top[device], COARSE_ENERGY_CELLS if coarse else ENERGY_CELLS
        cell = COARSE_MEMORY_CELL if coarse else MEMORY_CELL
        memory = self.memory_top[device]
        parts = int(np.clip(np.ceil(memory / cell), *MEMORY_CELLS))
        table = COARSE_TABLE_POINTS if coarse else TABLE_POINTS
        grid = QueueGrid(energy / cells, cells + 1, memory / parts, parts + 1, table)
        return device_trace(network, self.rate_hz[:, device], self.snr[:, device], self.counted, device, grid)


@dataclass
class _Climb:
    """Prices (T,) of band and edge CPU on their way up the bound that coarse copies of the devices give."""

    network: ModelPartitioning
    cell: CellTrace
    kept: dict[int, DeviceTrace] = field(default_factory=dict)

    def device(self, n: int) -> DeviceTrace:
        """The coarse copy of a device."""
        if n not in self.kept:
            made = self.cell.device(self.network, n, True)
            if n >= KEPT:
                return made
            self.kept[n] = made
        return self.kept[n]

    def prices(self, logs: Array) -> tuple[Array, Array]:
        """Prices of their logarithms (2, T): none in slots that do not count."""
        return np.exp(logs[0]) * self.cell.counted, np.exp(logs[1]) * self.cell.counted

    def used(self, logs: Array, count: int) -> tuple[float, Array]:
        """The bound at these prices, and the parts (2, T) of the resources that devices ask, if all are as the first
        `count`."""
        prices, total = self.prices(logs), self.network.config.num_devices
        value, used = 0.0, np.zeros(logs.shape)
        for n in range(count):
            device = self.device(n)
            later = values(device, *prices)
            value += later[0, 0, 0]
            used += shares(device, later, *prices)
        return value * total / count - prices[0].sum() - prices[1].sum(), used * (total / count)

    def best(self) -> tuple[Array, Array]:
        """First the level, with a sample of the devices, then slot by slot with all; the best prices met."""
        count, counted = self.network.config.num_devices, self.cell.counted > 0.0
        prices = np.stack([self.cell.band_price, self.cell.edge_price])
        logs = np.log(prices[:, counted].mean(axis=1, keepdims=True)) + np.zeros(prices.shape)
        pace = _Pace(LEVEL_STEP, (2, 1))
        for _ in range(LEVEL_STEPS):
            _, used = self.used(logs, min(count, SAMPLE))
            logs += pace.step(used[:, counted].mean(axis=1, keepdims=True) - 1.0)
        best, best_logs, pace = -np.inf, logs, _Pace(STEP, logs.shape)
        for _ in range(int(np.clip(STEP_DEVICES // count, STEPS_MIN, STEPS))):
            value, used = self.used(logs, count)
            if value > best:
                best, best_logs = value, logs.copy()
            logs += pace.step(used - 1.0)
        return self.prices(best_logs)


class _Pace:
    """Steps that grow where they keep their sign and shrink where it turns (resilient propagation: M. Riedmiller,
    H. Braun, IEEE ICNN 1993), shorter where a resource is used nearly up."""

    def __init__(self, first: float, shape: tuple[int, ...]) -> None:
        self.length, self.sign = np.full(shape, first), np.zeros(shape)

    def step(self, excess: Array) -> Array:
        """Steps of the logarithms of prices where so much is asked beyond the whole."""
        turn = np.sign(excess) * self.sign
        self.length *= np.where(turn < 0.0, SHRINK, np.where(turn > 0.0, GROW, 1.0))
        self.sign = np.sign(excess)
        return np.asarray(self.length * np.clip(excess / FULL_STEP, -1.0, 1.0))


def cell_bound(network: ModelPartitioning, cell: CellTrace) -> float:
    """Certified lower bound of the sum of the objective over the slots that count, of one network on its trace."""
    count = network.config.num_devices
    none = np.zeros_like(cell.counted)
    prices = (none, none)  # one device has everything to itself
    if count > 1:
        prices = _Climb(network, cell).best()
    total = -prices[0].sum() - prices[1].sum()
    for n in range(count):
        total += values(cell.device(network, n, False), *prices)[0, 0, 0]
    return float(total - ROUNDING * abs(total))


def cells_of(network: ModelPartitioning, trace: Any, warmup: int) -> list[CellTrace]:
    """The networks of a trace, each with the prices and longest queues that `price_greedy` meets."""
    members: dict[str, Controller] = {"device": PriceGreedy()}
    if "server" in network.roles:
        members["server"] = EvenServer()
    policy, state, rng = Team("price_greedy", members), network.initial_state(trace), np.random.default_rng(0)
    policy.reset(network, trace)
    prices = np.empty((2, trace.slots, trace.cells))
    longest = np.zeros((2, trace.cells, network.config.num_devices))
    snr = np.empty((trace.slots, *longest.shape[1:]))
    for t in range(trace.slots):
        exogenous = network.exogenous(trace, t)
        snr[t] = network.full_band_snr(exogenous)
        step = network.step(state, policy.decide(state, exogenous, rng), exogenous)
        state = step.state
        prices[:, t] = step.metrics["bandwidth_price"], step.metrics["edge_cpu_price"]
        longest = np.maximum(longest, [state.energy_queue, state.memory_queue])
    counted = (np.arange(trace.slots) >= warmup).astype(np.float64)
    prices = np.maximum(prices, PRICE_MIN * network.config.delay_weight)
    energy_least = TOP_MIN * network.config.energy_queue_scale * network.energy_budget_j
    return [
        CellTrace(
            rate_hz=np.ascontiguousarray(trace.arrival_rate_hz[: trace.slots, b]), snr=snr[:, b], counted=counted,
            band_price=prices[0, :, b], edge_price=prices[1, :, b],
            energy_top=np.maximum(HEADROOM * longest[0, b], energy_least),
            memory_top=np.maximum(HEADROOM * longest[1, b], TOP_MIN),
        )
        for b in range(trace.cells)
    ]  # fmt: skip


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: devices set their own CPU rates, or a trace so long that its tables of values fill the memory.
    """
    assert isinstance(scenario, ModelPartitioning)
    if trace.slots > SLOTS_MAX:
        raise NoBound(f"it is computed for traces of up to {SLOTS_MAX} slots, got {trace.slots}")
    if scenario.config.local_cpu_rule != "optimal":
        raise NoBound("local_cpu_rule = 'action': the bound is for devices whose CPU rates the network sets")
    slots = trace.slots - warmup
    found = [cell_bound(scenario, cell) / slots for cell in cells_of(scenario, trace, warmup)]
    return Bound(np.array(found), each_trace=True, binds=BINDS)
