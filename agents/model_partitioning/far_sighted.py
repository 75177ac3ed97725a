"""A central controller of `model_partitioning` that looks beyond the slot: cuts under values of the queues they leave.

What a slot leaves in the virtual queues is paid in later slots, which the minimum of each slot (`slot_optimal`) does
not see. The joint optimum of all queues is out of reach, so that every kind of device (network and mean gain) values
its own two queues by relative value iteration in a mean field: the roots of what the others bring to band and edge CPU
are constants, and a cut pays what it costs them as well as itself. In a slot the cuts of all devices are then chosen
together: the slot's objective plus the values of the queues after it, as exactly as `slot_optimal` minimises the
objective alone. The mean field comes from playing this on traces of its own, on which it is also found how much of the
mean field to expect and how much the values should count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from edgemarl.agents.model_partitioning.reference import (
    EXACT_DEVICES_MAX,
    CutProblem,
    SlotController,
    best_of,
    price_search,
    slot_optimum,
)
from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.allocation import fdma_price, fdma_shares
from edgemarl.envs.physics.queueing import virtual_queue
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning

ENERGY_POINTS, MEMORY_POINTS = 30, 12
ENERGY_TOP, MEMORY_TOP = 6.0, 12.0
"""Top of the grids, in the queue's reference and in the largest step of the memory queue; values go on linearly."""
GRID_POWER = 1.5
"""Points lie denser where queues are short."""
FADING_BINS, RATE_BINS = 8, 4
SWEEPS_MAX, SPAN = 200, 0.02
"""Value iteration ends when changes differ by less than this share of V over the lower two thirds of the grid."""
ROUNDS = 2
DAMPING = 0.5
OTHERS = (0.5, 0.75, 1.0)
"""Shares of the mean field that are tried: devices can take turns, which constant roots do not show."""
WEIGHTS = (0.0, 0.75)
"""How much of the values is tried beside 1; 0 is the minimum of each slot."""
DESCENT_DEVICES_MAX = 20
PRICE_STEPS = 40
PLAN_SEED = 20240607
PLAN_SLOTS = 80


class QueueModel(NamedTuple):
    """What one kind of device needs to value its queues; A arrival rates, F gains, L cuts; for compiled code."""

    energy_grid: Array  # (nq,) Q
    memory_grid: Array  # (nw,) W
    local_cost: Array  # (A, nq, L) V T + Q E of the device's own part
    local_energy: Array  # (A, nq, L) in units of the energy queue, less the budget
    energy_rate: Array  # (A,) units of the energy queue per second of transmission
    joule_rate: Array  # (A,) J per second of transmission
    whole_band_s: Array  # (F, L) transmission time over the whole band
    edge_root: Array  # (L,) root of the edge load
    memory_cost: Array  # (L,) C in memory units
    memory_step: Array  # (L,) what a cut adds to the memory queue
    delay_weight: float  # V


@compiled(cache=True)
def _cell(grid: Array, x: float) -> tuple[int, float]:
    """Index and position of x in a rising grid, linear beyond its top."""
    i = min(max(int(np.searchsorted(grid, x, side="right")) - 1, 0), len(grid) - 2)
    return i, (x - grid[i]) / (grid[i + 1] - grid[i])


@compiled(cache=True)
def _bellman(h: Array, m: QueueModel, others_band: float, others_edge: float) -> Array:
    """Bellman operator of a device among others whose roots on band and edge CPU are constant."""
    nq, nw = h.shape
    new = np.zeros(h.shape)
    memory_cell, memory_part = np.empty((nw, len(m.edge_root)), np.int64), np.empty((nw, len(m.edge_root)))
    for j in range(nw):
        for cut in range(len(m.edge_root)):
            memory_cell[j, cut], memory_part[j, cut] = _cell(
                m.memory_grid, max(m.memory_grid[j] + m.memory_step[cut], 0.0)
            )
    share = 1.0 / (len(m.energy_rate) * len(m.whole_band_s))
    for i in range(nq):
        k = min(i, nq - 2)
        for a in range(len(m.energy_rate)):
            weight = m.energy_grid[i] * m.joule_rate[a] + m.delay_weight
            for f in range(len(m.whole_band_s)):
                for j in range(nw):
                    slope = max((h[k + 1, j] - h[k, j]) / (m.energy_grid[k + 1] - m.energy_grid[k]), 0.0)
                    worth = weight + slope * m.energy_rate[a]
                    best = np.inf
                    for cut in range(len(m.edge_root)):
                        alone, root = m.whole_band_s[f, cut], m.edge_root[cut]
                        seconds = alone + others_band * np.sqrt(alone / worth)
                        cost = m.local_cost[a, i, cut] + m.memory_grid[j] * m.memory_cost[cut] + weight * seconds
                        cost += others_band * np.sqrt(alone * worth) + root * root + 2.0 * root * others_edge
                        queue = m.energy_grid[i] + m.local_energy[a, i, cut] + m.energy_rate[a] * seconds
                        e, p = _cell(m.energy_grid, max(queue, 0.0))
                        w, q = memory_cell[j, cut], memory_part[j, cut]
                        low = h[e, w] + q * (h[e, w + 1] - h[e, w])
                        high = h[e + 1, w] + q * (h[e + 1, w + 1] - h[e + 1, w])
                        best = min(best, cost + low + p * (high - low))
                    new[i, j] += share * best
    return new


@compiled(cache=True)
def _solved(h: Array, m: QueueModel, others_band: float, others_edge: float, span: float, sweeps: int) -> Array:
    """Relative values (nq, nw), 0 at empty queues."""
    lower = 2 * h.shape[0] // 3
    for _ in range(sweeps):
        new = _bellman(h, m, others_band, others_edge)
        change = (new - h)[:lower]
        h = new - new[0, 0]
        if change.max() - change.min() < span:
            break
    return h


@dataclass
class DeviceKind:
    """Devices that are alike, and what their queues are worth to them."""

    devices: Array  # indices
    model: QueueModel
    values: Array  # (nq, nw)

    def at(self, energy_queue: Array, memory_queue: Array) -> tuple[Array, Array]:
        """Value and its slope in the energy queue, any shape."""
        (i, p), (j, q) = (
            _cells(grid, x)
            for grid, x in ((self.model.energy_grid, energy_queue), (self.model.memory_grid, memory_queue))
        )
        h, width = self.values, np.diff(self.model.energy_grid)
        low = h[i, j] + q * (h[i, j + 1] - h[i, j])
        high = h[i + 1, j] + q * (h[i + 1, j + 1] - h[i + 1, j])
        return low + p * (high - low), np.maximum(high - low, 0.0) / width[i]


def _cells(grid: Array, x: Array) -> tuple[Array, Array]:
    i = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    return i, (x - grid[i]) / (grid[i + 1] - grid[i])


def device_model(network: ModelPartitioning, device: int) -> QueueModel:
    """The model of one device: quantiles of fading and load, its queues on a grid."""
    c, cuts = network.config, network.cuts.of(device, int(network.layers[device]))
    mean_gain = network.mean_gain[device]
    fading = -np.log1p(-(np.arange(FADING_BINS) + 0.5) / FADING_BINS)
    gain = mean_gain * np.maximum(fading, c.fading_floor)[:, None]
    snr = gain * (c.transmit_power_w / (c.bandwidth_hz * c.noise_psd_w_per_hz))
    spread = 0.0 if c.arrival_process == "constant" else c.arrival_spread
    rate = c.mean_arrival_rate_hz * (1.0 + spread * (2.0 * (np.arange(RATE_BINS) + 0.5) / RATE_BINS - 1.0))
    step = c.memory_queue_scale / c.memory_unit_bytes * (cuts.memory_bytes - network.memory_budget_bytes[device])
    memory_top = MEMORY_TOP * max(float(step.max()), 1e-3)
    energy_grid = ENERGY_TOP * network.queue_reference[0][device] * np.linspace(0.0, 1.0, ENERGY_POINTS) ** GRID_POWER
    local = network.local_part(cuts, energy_grid[:, None], np.zeros(1), rate[:, None, None])
    joule_rate = network.joule_rate(rate)
    return QueueModel(
        energy_grid=energy_grid,
        memory_grid=memory_top * np.linspace(0.0, 1.0, MEMORY_POINTS) ** GRID_POWER,
        local_cost=np.ascontiguousarray(local.cost),
        local_energy=c.energy_queue_scale * (local.energy_j - network.energy_budget_j[device]),
        energy_rate=c.energy_queue_scale * joule_rate,
        joule_rate=joule_rate,
        whole_band_s=np.ascontiguousarray(cuts.sent_bits / fdma_rate_bps(np.ones(1), c.bandwidth_hz, snr)),
        edge_root=np.sqrt(network.edge_load(cuts.edge_cycles)),
        memory_cost=cuts.memory_bytes / c.memory_unit_bytes,
        memory_step=step,
        delay_weight=c.delay_weight,
    )


# --- playing ---------------------------------------------------------------------------------------------------------


@dataclass
class ForesightPlan:
    """What is computed before the first slot.

    Attributes:
        kinds: the kinds of devices and their values.
        others_band, others_edge: (N,) mean roots of what the others bring to band and edge CPU.
        weight: how much the values count.
    """

    kinds: list[DeviceKind]
    others_band: Array
    others_edge: Array
    weight: float = 1.0


def valued_problem(network: ModelPartitioning, plan: ForesightPlan, state: Any, exogenous: Any) -> CutProblem:
    """The slot's problem with the values of the queues after it: of transmission energy to first order."""
    c, problem = network.config, CutProblem.of(network, state, exogenous)
    q, w, rate = (v[..., None] for v in (state.energy_queue, state.memory_queue, exogenous.arrival_rate_hz))
    nu_e, nu_c = c.energy_queue_scale, c.memory_queue_scale / c.memory_unit_bytes
    energy_rate = nu_e * c.transmit_power_w * c.slot_s * rate
    alone_s = network.cuts.sent_bits / fdma_rate_bps(np.ones(1), c.bandwidth_hz, problem.terms.snr[..., None])
    seconds = alone_s + plan.others_band[:, None] * np.sqrt(alone_s / network.transmission_weight(q, rate))
    queue = q + nu_e * (problem.terms.own_energy_j - network.energy_budget_j[:, None]) + energy_rate * seconds
    memory = virtual_queue(w, nu_c * network.cuts.memory_bytes, nu_c * network.memory_budget_bytes[:, None])
    own, weight = problem.terms.own_cost.copy(), problem.terms.weight.copy()
    for kind in plan.kinds:
        at = (slice(None), kind.devices)
        value, slope = kind.at(np.maximum(queue[at], 0.0), memory[at])
        slope = np.where(queue[at] > 0.0, plan.weight * slope, 0.0) * energy_rate[at]
        own[at] += plan.weight * value - slope * seconds[at]
        weight[at] += slope * network.cuts.sent_bits[kind.devices]
    return CutProblem(network, replace(problem.terms, own_cost=own, weight=weight))


def best_cuts(problem: CutProblem) -> Array:
    """Cuts (B, N): exact for few devices, for some more by descent from the best cuts of the dual, for many these."""
    devices = problem.scenario.config.num_devices
    if devices <= EXACT_DEVICES_MAX:
        return slot_optimum(problem)[0]
    tried, cells = price_search(problem, PRICE_STEPS, keep=True).cuts, np.arange(problem.cells)
    values = problem.value(np.tile(cells, len(tried)), np.concatenate(tried)).reshape(len(tried), -1)
    best = np.stack(tried)[values.argmin(axis=0), cells]
    return best_of(problem, [best])[0] if devices <= DESCENT_DEVICES_MAX else best


class FarSighted(SlotController):
    """The controller of the module's docstring; the plan of a network is computed once per process."""

    name = "far_sighted"

    def __init__(self, plan: ForesightPlan | None = None) -> None:
        self._given = plan

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(scenario, trace)
        self.plan = plan_of(self.network) if self._given is None else self._given

    def problem(self, state: Any, exogenous: Any) -> CutProblem:
        return valued_problem(self.network, self.plan, state, exogenous)

    def solve(self, problem: CutProblem) -> Array:
        return best_cuts(problem)


# --- planning --------------------------------------------------------------------------------------------------------

_PLANS: dict[str, ForesightPlan] = {}
_PLANS_MAX = 20


def plan_of(network: ModelPartitioning) -> ForesightPlan:
    """The plan of a network; seconds the first time."""
    key = repr(network.config)
    if key not in _PLANS:
        if len(_PLANS) >= _PLANS_MAX:
            _PLANS.clear()
        _PLANS[key] = make_plan(network)
    return _PLANS[key]


def make_plan(network: ModelPartitioning) -> ForesightPlan:
    """Values and mean field by turns, then how much of either plays best."""
    c = network.config
    price = 0.03 * c.delay_weight * c.num_devices  # of a first guess: what band and edge CPU cost in all
    others = np.full(c.num_devices, np.sqrt(price) * (c.num_devices - 1) / c.num_devices)
    plan = ForesightPlan([_kind(network, devices) for devices in _alike(network)], others, others.copy())
    _solve(plan)
    if c.num_devices == 1:
        return plan
    trace = _own_trace(network)
    for i in range(ROUNDS):
        _, band, edge = _play(network, plan, trace)
        damping = 1.0 if i == 0 else DAMPING
        plan.others_band += damping * (band - plan.others_band)
        plan.others_edge += damping * (edge - plan.others_edge)
        _solve(plan)
    tried = [_with_others(plan, share) for share in OTHERS]
    costs = [_play(network, one, trace)[0] for one in tried]
    best = tried[int(np.argmin(costs))]
    weighted = {1.0: min(costs)}
    for weight in WEIGHTS:
        weighted[weight] = _play(network, replace(best, weight=weight), trace)[0]
    return replace(best, weight=min(weighted, key=lambda weight: weighted[weight]))


def _with_others(plan: ForesightPlan, share: float) -> ForesightPlan:
    """A plan in which devices expect a share of what the others bring on average."""
    kinds = [replace(kind) for kind in plan.kinds]
    weakened = ForesightPlan(kinds, share * plan.others_band, share * plan.others_edge)
    _solve(weakened)
    return weakened


def _alike(network: ModelPartitioning) -> list[Array]:
    """Indices of devices with the same network and, to 1 dB, the same mean gain."""
    groups: dict[tuple[str, float], list[int]] = {}
    for n, (model, gain) in enumerate(zip(network.config.device_models, network.mean_gain, strict=True)):
        groups.setdefault((model, float(np.round(10.0 * np.log10(gain)))), []).append(n)
    return [np.array(devices) for devices in groups.values()]


def _kind(network: ModelPartitioning, devices: Array) -> DeviceKind:
    return DeviceKind(devices, device_model(network, int(devices[0])), np.zeros((ENERGY_POINTS, MEMORY_POINTS)))


def _solve(plan: ForesightPlan) -> None:
    """Value iteration of every kind in the present mean field, from the present values."""
    for kind in plan.kinds:
        others = float(plan.others_band[kind.devices].mean()), float(plan.others_edge[kind.devices].mean())
        kind.values = _solved(kind.values, kind.model, *others, SPAN * kind.model.delay_weight, SWEEPS_MAX)


def _own_trace(network: ModelPartitioning) -> Any:
    """A trace to play on: more cells of small networks."""
    devices = network.config.num_devices
    cells = 4 if devices <= EXACT_DEVICES_MAX else 2 if devices <= DESCENT_DEVICES_MAX else 1
    return network.sample_trace(np.random.default_rng(PLAN_SEED), cells, PLAN_SLOTS)


def _play(network: ModelPartitioning, plan: ForesightPlan, trace: Any) -> tuple[float, Array, Array]:
    """Mean objective after the first quarter of a trace, and mean roots (N,) of the others on band and edge CPU."""
    policy, state = FarSighted(plan), network.initial_state(trace)
    policy.reset(network, trace)
    objective, band, edge = 0.0, np.zeros(network.config.num_devices), np.zeros(network.config.num_devices)
    for t in range(trace.slots):
        exogenous = network.exogenous(trace, t)
        problem = policy.problem(state, exogenous)
        cut = policy.solve(problem)
        step = network.step(state, policy.decisions(cut, state, exogenous), exogenous)
        state = step.state
        if t >= trace.slots // 4:
            objective += float(step.metrics["objective"].mean())
            of_band, of_edge = _others(problem, cut)
            band, edge = band + of_band, edge + of_edge
    slots = trace.slots - trace.slots // 4
    return objective / slots, band / slots, edge / slots


def _others(problem: CutProblem, cut: Array) -> tuple[Array, Array]:
    """Mean over cells of what each device (N,) finds of the others: roots of the prices that their parts ask.

    With square-root shares a part x of a resource whose price is p stands for a root x sqrt(p).
    """
    terms, band_hz = problem.terms, problem.scenario.config.bandwidth_hz
    weight, load = (np.take_along_axis(v, cut[..., None], axis=2)[..., 0] for v in (terms.weight, terms.load))
    share = fdma_shares(weight, terms.snr)
    price = fdma_price(weight, terms.snr, share, band_hz).max(axis=1, keepdims=True)
    root = np.sqrt(load)
    return (np.sqrt(price) * (1.0 - share)).mean(axis=0), (root.sum(axis=1, keepdims=True) - root).mean(axis=0)
