"""Devices that learn the value of their kept queue from their own arrivals and channel (`parametric_q`).

The Q-function of a device is known up to the continuation:

    Q(q, h, x) = w4 (E_loc(x) + E_tx(r, h)) + lambda r/W + gamma V(kept),

and V is all that is learned. Arrivals and fading do not depend on actions, so one observed pair (arrivals, next gain)
is a valid sample of the Bellman target for EVERY kept queue: each update moves V at all grid points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, Controller, restored
from edgemarl.agents.sequential_offloading.model import DeviceModel, Lattice, OffloadingRows, read_device_rows, work_set
from edgemarl.agents.sequential_offloading.values import ValueFunction, step_size
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading

DEVICE_GRID = np.concatenate([np.arange(0.0, 6.0, 0.5), np.arange(6.0, 21.0)])
START_SLOPE = 6.0
REPLAY_PAIRS = 3
REPLAY_BLOCKS = 400
CHUNK = 512
"""Devices updated at once, so that an update stays in the cache."""


def device_act(model: DeviceModel, work_tasks: Array, cells: int) -> Act:
    """Decisions of devices from work (B K,) in tasks."""
    config = model.config
    work = work_tasks.reshape(cells, -1) * config.task_cycles
    decisions = {"local_work_cycles": work}
    if config.idle_energy_charged:
        decisions["device_cpu_hz"] = np.minimum(work / config.block_s, config.device_cpu_hz_max)
    return Act(decisions=decisions)


class OffloadingController(Controller):
    """A controller of `sequential_offloading`; narrows the scenario's type."""

    scenario: SequentialOffloading

    def reset(self, scenario: Scenario, cells: int) -> None:
        if not isinstance(scenario, SequentialOffloading):
            raise ValueError(f"{type(self).__name__} plays sequential_offloading, not {scenario.name}")
        super().reset(scenario, cells)


class ParametricQDevice(OffloadingController):
    """Parametric Q-learning of every device for itself; no parameter is shared.

    Args:
        kind: what a device may choose from, see `work_set`.
        even_fraction: for kind "even".
        features: "hat" (linear interpolation of V_j) or "sigmoid" (the paper's form, 30 features fitted by ridge).
        replay: also apply 3 earlier pairs, drawn uniformly from the last 400 blocks; default: with "sigmoid" only.
        priced: rows carry the server's price in their last entry.
    """

    def __init__(
        self,
        kind: str = "grid",
        even_fraction: float = 0.5,
        features: str = "hat",
        replay: bool | None = None,
        priced: bool = False,
    ) -> None:
        self.kind, self.even_fraction, self.features, self.priced = kind, even_fraction, features, priced
        self.hears = {"server": 1} if priced else {}
        self.replay = features == "sigmoid" if replay is None else replay

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        config = self.scenario.config
        self.model = DeviceModel(self.scenario, work_set(config, self.kind, self.even_fraction))
        step = 0.5 if self.features == "hat" else 0.1
        self.function = ValueFunction(DEVICE_GRID, step, self.features, 1e-2, np.float32)
        self._prepare_lattice(config.slots_per_block)
        self.values = np.empty((len(DEVICE_GRID), cells * config.num_devices), np.float32)
        self.values[:] = START_SLOPE * DEVICE_GRID[:, None]
        self.updates = 0
        self.started = False
        self._memory = np.zeros((2, REPLAY_BLOCKS if self.replay else 0, self.values.shape[1]))

    def _prepare_lattice(self, arrivals_max: int) -> None:
        """Where the queues y_j + A lie: row `_first[j] + A` of the lattice's answers."""
        whole = np.floor(DEVICE_GRID).astype(int)
        fractions = sorted(set(DEVICE_GRID - whole))
        self.lattice = Lattice(self.model, fractions)
        self._no_residual = int(np.argmin(self.lattice.residual_tasks))
        self._rows = [int(whole[whole + f == DEVICE_GRID].max()) + arrivals_max + 1 for f in fractions]
        starts = np.concatenate([[0], np.cumsum(self._rows)[:-1]])
        self._first = np.array([starts[fractions.index(y - m)] + m for y, m in zip(DEVICE_GRID, whole, strict=True)])
        points = (np.arange(max(self._rows)) + self.lattice.residual_tasks[:, None]).ravel()
        residuals = len(self.lattice.residual_tasks)
        self._matrix = self.function.matrix(points).reshape(residuals, -1, len(DEVICE_GRID))
        self._beyond = np.maximum(points - DEVICE_GRID[-1], 0.0).astype(np.float32).reshape(residuals, -1, 1)
        self._grid = DEVICE_GRID.astype(np.float32)

    # --- acting ----------------------------------------------------------------------------------------------------

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        rows = read_device_rows(self.scenario.config, observations, self.priced)
        if self.started:
            self.learn(rows.arrived_tasks, rows.gain_per_w, rows.price, rng)
        self.started = True
        return device_act(self.model, self.decide(rows), self.cells)

    def decide(self, rows: OffloadingRows) -> Array:
        """Greedy work (B K,) in tasks."""
        return self.model.greedy(rows, self.function.table(self.values))

    # --- learning --------------------------------------------------------------------------------------------------

    def learn(self, arrived_tasks: Array, gain_per_w: Array, price: Array, rng: np.random.Generator) -> None:
        """Move V at all grid points towards the target of the newest pair (and of replayed ones).

        Args:
            arrived_tasks: (B K,) arrivals of a block: of the one before, or with `arrival_lookahead` of the coming one.
            gain_per_w: (B K,) gain after it.
            price: (B K,) cost per offloaded task that devices see now.
            rng: chooses the replayed blocks, the same ones for all devices.
        """
        pairs = [(arrived_tasks, gain_per_w)]
        if self.replay:
            self._memory[:, self.updates % REPLAY_BLOCKS] = arrived_tasks, gain_per_w
            recorded = min(self.updates + 1, REPLAY_BLOCKS)
            blocks = rng.integers(0, recorded, REPLAY_PAIRS)
            pairs += [(self._memory[0, block].astype(np.int64), self._memory[1, block]) for block in blocks]
        alpha = np.float32(step_size(self.updates))
        for start in range(0, self.values.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            values = self.values[:, part]
            function = values.copy()  # all pairs are seen by the same Q-function
            for arrived, gain in pairs:
                values += alpha * (self._targets(function, arrived[part], gain[part], price[part]) - values)
        self.updates += 1

    def _targets(self, values: Array, arrived: Array, gain: Array, price: Array) -> Array:
        """Targets (J, N): w3 W (y_j + A) + min_x Q(y_j + A, h, x)."""
        order = np.argsort(gain)  # weak channels first: those in outage are the leading columns
        best = self._best(values[:, order], gain[order], price[order])
        column = np.empty_like(order)
        column[order] = np.arange(len(order))
        target: Array = best.take((self._first[:, None] + arrived) * len(order) + column)
        target += np.float32(self.model.hold_cost) * (self._grid[:, None] + arrived.astype(np.float32))
        return target

    def _best(self, values: Array, gain: Array, price: Array) -> Array:
        """min_x Q at all queues of the lattice (rows, N), one fraction after another; devices sorted by gain."""
        sent, outage = self.lattice.transmit(gain[None], price)
        sent = sent.astype(np.float32)
        discounted = values * np.float32(self.scenario.config.discount)
        slope = self.function.slope(discounted)
        only_idle = self.model.works.avoid_outage
        possible = np.where(outage, np.float32(np.inf), sent)
        answers = []
        if self.scenario.config.residual_leaves_device:
            blocked = outage[:, 0].sum(axis=1)
            kept = [self._continuation(r, discounted[:, :n], slope[:n]) for r, n in enumerate(blocked)]
            whole = self._continuation(self._no_residual, discounted, slope)
            for i, rows in enumerate(self._rows):
                best = self.lattice.best_leaving(i, rows, whole, possible)
                self.lattice.lower_by(best, i, kept, None, only_idle)
                answers.append(best[0])
        else:  # the literal model: what is sent stays in the queue as well
            held = np.where(outage, np.float32(0.0), np.float32(np.inf))
            kept = [self._continuation(r, discounted, slope) for r in range(len(sent))]
            for i, rows in enumerate(self._rows):
                best = np.full((1, rows, len(gain)), np.inf, np.float32)
                self.lattice.lower_by(best, i, kept, possible, only_idle=False)
                self.lattice.lower_by(best, i, kept, held, only_idle)
                answers.append(best[0])
        return np.concatenate(answers, axis=0)

    def _continuation(self, residual: int, discounted: Array, slope: Array) -> Array:
        """gamma V(m + r) as (depth + M, N), infinite for m < 0."""
        rows, depth = max(self._rows), self.lattice.depth
        kept = np.empty((depth + rows, discounted.shape[1]), np.float32)
        kept[:depth] = np.inf
        np.matmul(self._matrix[residual], discounted, out=kept[depth:])
        kept[depth:] += self._beyond[residual] * slope
        return kept

    # --- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "values": self.values.copy(),
            "updates": self.updates,
            "started": self.started,
            "memory": self._memory[:, : min(self.updates, REPLAY_BLOCKS)].copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values = restored(state, "values", self.values)
        self.updates, self.started = int(state["updates"]), bool(state["started"])
        memory = np.asarray(state["memory"])
        self._memory[:, : memory.shape[1]] = memory
