"""Cuts that minimise the slot's objective for the given queues, with the whole network in view.

`SlotOptimal` is exact (branch and bound over the product of cuts), `Coordinate` is local search, `MultiStart` is local
search from many starts for cells in which the product is out of reach. The slot's minimum is what drift-plus-penalty
asks for; it is not a bound on the return of an episode, since queues couple the slots.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from edgemarl.agents.api import CentralController
from edgemarl.agents.model_partitioning.rules import shared_cost
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import fdma_shares
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
    ModelPartitioningState,
    ModelPartitioningTrace,
)
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms, priced_cuts

EXACT_DEVICES_MAX = 6
TIE = 1e-12
"""Relative difference below which two objectives count as equal (the smaller cut is kept)."""
PRICE_LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
EXACT_PRICE_STEPS = 6
CHUNK = 200_000
"""Cut vectors whose bandwidth problem is solved at once."""


@dataclass(frozen=True)
class CutProblem:
    """One slot of B cells: the objective of any cut vectors, shares optimal."""

    scenario: ModelPartitioning
    terms: CutTerms

    @classmethod
    def of(
        cls, scenario: ModelPartitioning, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous
    ) -> CutProblem:
        return cls(scenario, scenario.slot_terms(state, exogenous))

    @property
    def cells(self) -> int:
        return int(self.terms.snr.shape[0])

    @property
    def legal(self) -> Array:
        """(N, M+1) cuts that a device's network has."""
        scenario = self.scenario
        return np.arange(int(scenario.layers.max()) + 1) <= scenario.layers[:, None]

    def value(self, cell: Array, cut: Array) -> Array:
        """Objective (R,) of cut vectors (R, N) of the cells (R,)."""
        out = np.empty(len(cell))
        device = np.arange(cut.shape[1])
        for start in range(0, len(cell), CHUNK):
            rows = slice(start, start + CHUNK)
            where = (cell[rows, None], device, cut[rows])
            out[rows] = self.terms.own_cost[where].sum(axis=1)
            out[rows] += np.sqrt(self.terms.load[where]).sum(axis=1) ** 2
            out[rows] += self._air_cost(self.terms.weight[where], self.terms.snr[cell[rows]])
        return out

    def _air_cost(self, weight: Array, snr: Array) -> Array:
        share = fdma_shares(weight, snr)
        rate_bps = fdma_rate_bps(share, self.scenario.config.bandwidth_hz, snr)
        sending = weight > 0.0
        return np.asarray(np.where(sending, weight / np.where(sending, rate_bps, 1.0), 0.0).sum(axis=1))


def coordinate_descent(problem: CutProblem, start: Array, sweeps_max: int = 50) -> tuple[Array, Array]:
    """Change one device's cut at a time, in index order, while the objective falls; cells side by side.

    Args:
        start: cuts (B, N).

    Returns:
        cuts (B, N) that no single change improves, and their objective (B,).
    """
    cells, n = start.shape
    worth_trying: Array = np.any(undominated(problem), axis=0)  # another cut is at least as good whatever the others do
    cut, cell = start.copy(), np.arange(cells)
    cost = problem.value(cell, cut)
    for _ in range(sweeps_max):
        changed = False
        for device in range(n):
            choices = np.flatnonzero(worth_trying[device])
            trial = np.repeat(cut[:, None, :], len(choices), axis=1)
            trial[:, :, device] = choices
            values = problem.value(np.repeat(cell, len(choices)), trial.reshape(-1, n)).reshape(cells, -1)
            best = values.argmin(axis=1)
            better = values[cell, best] < cost * (1.0 - TIE)
            cut[better, device] = choices[best[better]]
            cost = np.where(better, values[cell, best], cost)
            changed |= bool(better.any())
        if not changed:
            break
    return cut, cost


def best_of(problem: CutProblem, starts: list[Array]) -> tuple[Array, Array]:
    """Coordinate descent from several starts; the best result of each cell (the first one of equals)."""
    cut, cost = coordinate_descent(problem, starts[0])
    for start in starts[1:]:
        other, value = coordinate_descent(problem, start)
        better = value < cost * (1.0 - TIE)
        cut[better], cost = other[better], np.where(better, value, cost)
    return cut, cost


def two_starts(problem: CutProblem) -> list[Array]:
    """All local and all at the edge."""
    local = np.broadcast_to(problem.scenario.layers, problem.terms.snr.shape)
    return [local, np.zeros_like(local)]


def many_starts(problem: CutProblem) -> list[Array]:
    """All local, all edge, equal shares, six price levels, and the prices of the dual."""
    scenario, c = problem.scenario, problem.scenario.config
    equal = shared_cost(scenario, problem.terms, np.asarray(1.0 / c.num_devices)).argmin(axis=2)
    scale = c.delay_weight * c.num_devices
    priced = [
        priced_cuts(problem.terms, (np.asarray(0.04 * scale * k), np.asarray(0.02 * scale * k)), c.bandwidth_hz)[0]
        for k in PRICE_LEVELS
    ]
    return [*two_starts(problem), equal, *(cost.argmin(axis=2) for cost in priced), dual_bound(problem)[1]]


@dataclass(frozen=True)
class PriceSearch:
    """What steps of the prices found: the best lower bound (B,) and its cuts (B, N), and, if kept, every step's."""

    bound: Array
    cut: Array
    costs: list[Array]  # (B, N, M+1) per step: sum over devices + constant is a lower bound on any cuts' objective
    constants: list[Array]  # (B,) per step
    cuts: list[Array]  # (B, N) per step


def price_search(problem: CutProblem, steps: int, keep: bool = False) -> PriceSearch:
    """Lower bounds from prices, and the cuts that prices induce.

    For any price b of the band and any t, sum c/R >= sum min_alpha [c/R + b alpha] - b and (sum sqrt load)^2 >=
    2 t sum sqrt load - t^2: the devices separate. Prices follow the excess demand.
    """
    terms, config = problem.terms, problem.scenario.config
    cells, devices = np.arange(problem.cells)[:, None], np.arange(terms.snr.shape[1])
    scale = config.delay_weight * config.num_devices
    band, root = np.full(problem.cells, 0.04 * scale), np.full(problem.cells, np.sqrt(0.02 * scale))
    free = replace(terms, load=np.zeros_like(terms.load))
    demand = np.sqrt(terms.load)
    bound, cut = np.full(problem.cells, -np.inf), np.zeros(terms.snr.shape, np.int64)
    costs, constants, cuts = [], [], []
    for step in range(steps):
        air, alpha, _ = priced_cuts(free, (band[:, None, None], np.asarray(0.0)), config.bandwidth_hz)
        cost = air + 2.0 * root[:, None, None] * demand
        choice, constant = cost.argmin(axis=2), -band - root**2
        value = cost[cells, devices, choice].sum(axis=1) + constant
        better = value > bound
        bound, cut[better] = np.where(better, value, bound), choice[better]
        if keep:
            costs.append(cost)
            constants.append(constant)
            cuts.append(choice)
        pace = 0.7 / (1.0 + 0.15 * step)
        band = band * np.clip(alpha[cells, devices, choice].sum(axis=1), 0.3, 3.0) ** pace
        root = np.maximum(root + pace * (demand[cells, devices, choice].sum(axis=1) - root), 1e-6)
    return PriceSearch(bound, cut, costs, constants, cuts)


def dual_bound(problem: CutProblem) -> tuple[Array, Array]:
    """Best lower bound (B,) on the slot's objective that prices give, and the cuts (B, N) that they induce."""
    search = price_search(problem, 60)
    return search.bound, search.cut


def undominated(problem: CutProblem) -> Array:
    """(B, N, M+1) cuts that can be part of the optimum, whatever the other devices do.

    Cut i falls to j if j sends at no more cost and saves at least what it can add at the edge: with s the roots of the
    others' loads, s in [0, S], the edge cost changes by load_j - load_i + 2 s (root_j - root_i), linear in s.
    """
    terms = problem.terms
    root = np.sqrt(terms.load)
    others = root.max(axis=2).sum(axis=1)[:, None] - root.max(axis=2)

    def pairs(values: Array) -> Array:  # [..., i, j] = value of j - value of i
        return np.asarray(values[..., None, :] - values[..., :, None])

    added = pairs(terms.load) + 2.0 * np.maximum(others[..., None, None] * pairs(root), 0.0)
    change = pairs(terms.own_cost) + added
    sends_no_more = pairs(terms.weight) <= 0.0
    count = root.shape[2]
    earlier = np.arange(count)[None, :] < np.arange(count)[:, None]
    beaten = sends_no_more & problem.legal[:, None, :] & ((change < 0.0) | ((change == 0.0) & earlier))
    return np.asarray(problem.legal & ~beaten.any(axis=3))


def slot_optimum(problem: CutProblem) -> tuple[Array, Array]:
    """Exact minimiser over the product of all cuts, by branch and bound, cells side by side.

    A few price steps give separable lower bounds and feasible cuts; the best of those is the incumbent. A partial
    vector is dropped when a bound on all of its completions exceeds the incumbent; what is left is evaluated.

    Returns:
        cuts (B, N) and their objective (B,); of equal objectives the lexicographically smallest of those evaluated.
    """
    prices = price_search(problem, EXACT_PRICE_STEPS, keep=True)
    tried = [*two_starts(problem), *prices.cuts]
    cells = np.arange(problem.cells)
    values = problem.value(np.tile(cells, len(tried)), np.concatenate(tried)).reshape(len(tried), -1)
    first = values.argmin(axis=0)
    best, limit = np.stack(tried)[first, cells], values[first, cells]
    cell, cut = _survivors(problem, prices, limit)
    cost = problem.value(cell, cut)
    order = np.lexsort((np.arange(len(cell)), cost, cell))
    first = order[np.unique(cell[order], return_index=True)[1]]
    better = first[cost[first] <= limit[cell[first]]]
    best[cell[better]], limit[cell[better]] = cut[better], cost[better]
    return best, limit


def _survivors(problem: CutProblem, prices: PriceSearch, limit: Array) -> tuple[Array, Array]:
    """Cells (R,) and cut vectors (R, N), in lexicographic order, that no bound excludes below `limit` (B,)."""
    terms = problem.terms
    whole_band = terms.whole_band(problem.scenario.config.bandwidth_hz)
    # one bound more: everyone has the whole band and the whole edge CPU
    costs = np.stack([terms.own_cost + terms.load + whole_band, *prices.costs], axis=3)
    ceiling = limit[:, None] * (1.0 + 1e-9) - np.stack([np.zeros(problem.cells), *prices.constants], axis=1)
    costs = np.where(undominated(problem)[..., None], costs, np.inf)
    least = costs.min(axis=2)  # (B, N, K)
    rest = np.concatenate([np.cumsum(least[:, ::-1], axis=1)[:, ::-1], np.zeros_like(least[:, :1])], axis=1)
    cell = np.arange(problem.cells)
    prefix, partial = np.empty((problem.cells, 0), np.int64), np.zeros_like(ceiling)
    for device in range(costs.shape[1]):
        grown = partial[:, None, :] + costs[cell, device]
        row, choice = np.nonzero((grown + rest[cell, None, device + 1] <= ceiling[cell, None]).all(axis=2))
        prefix = np.concatenate([prefix[row], choice[:, None]], axis=1)
        cell, partial = cell[row], grown[row, choice]
    return cell, prefix


class SlotController(CentralController):
    """Decides all cuts of a slot together; subclasses give `solve`."""

    def reset(self, scenario: Scenario, trace: ModelPartitioningTrace) -> None:
        super().reset(scenario, trace)
        if not isinstance(scenario, ModelPartitioning):
            raise ValueError(f"{self.name} plays model_partitioning, not {scenario.name}")
        self.network = scenario

    @abstractmethod
    def solve(self, problem: CutProblem) -> Array:
        """Cuts (B, N)."""

    def problem(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> CutProblem:
        """What is minimised in a slot: by default its objective."""
        return CutProblem.of(self.network, state, exogenous)

    def decide(
        self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous, rng: np.random.Generator
    ) -> ModelPartitioningDecisions:
        return self.decisions(self.solve(self.problem(state, exogenous)), state, exogenous)

    def decisions(
        self, cut: Array, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous
    ) -> ModelPartitioningDecisions:
        """Cuts (B, N) as decisions; a device that sets its own CPU rate takes the best one for the slot."""
        if self.network.config.local_cpu_rule == "optimal":
            return ModelPartitioningDecisions(cut)
        part = self.network.local_part(
            self.network.cuts.at(cut), state.energy_queue, state.memory_queue, exogenous.arrival_rate_hz
        )
        return ModelPartitioningDecisions(cut, part.cpu_hz)


class SlotOptimal(SlotController):
    """The exact minimiser of the slot's objective; up to six devices.

    Raises:
        ValueError: at reset, more devices than the product of cuts allows.
    """

    name = "slot_optimal"

    def reset(self, scenario: Scenario, trace: ModelPartitioningTrace) -> None:
        super().reset(scenario, trace)
        if self.network.config.num_devices > EXACT_DEVICES_MAX:
            raise ValueError(
                f"num_devices = {self.network.config.num_devices} is not legal for slot_optimal: must be <="
                f" {EXACT_DEVICES_MAX}; use multi_start"
            )

    def solve(self, problem: CutProblem) -> Array:
        return slot_optimum(problem)[0]


class Coordinate(SlotController):
    """Coordinate descent from all-local and all-edge; not optimal."""

    name = "coordinate"

    def solve(self, problem: CutProblem) -> Array:
        return best_of(problem, two_starts(problem))[0]


class MultiStart(SlotController):
    """Coordinate descent from ten starts, or from the three best of them in large cells."""

    name = "multi_start"

    def __init__(self, descents_max: int = 3) -> None:
        self.descents_max = descents_max

    def solve(self, problem: CutProblem) -> Array:
        starts = many_starts(problem)
        if problem.scenario.config.num_devices > 20:
            cell = np.arange(problem.cells)
            values = np.stack([problem.value(cell, start) for start in starts])
            order = np.argsort(values, axis=0, kind="stable")[: self.descents_max]
            stacked = np.stack(starts)
            starts = [stacked[row, cell] for row in order]
        return best_of(problem, starts)[0]
