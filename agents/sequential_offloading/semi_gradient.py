"""Plain semi-gradient learning on the one state and action that was visited, as an ablation (`parametric_q_td`).

Same sigmoid features of the kept queue and same known stage cost as `parametric_q`, but theta moves only along the
temporal difference of what happened: theta <- theta + a delta phi(kept) with
delta = w3 q' + min_x Q(q', h', x) - theta . phi(kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.sequential_offloading.model import DeviceModel, ValueTable, read_device_rows, work_set
from edgemarl.agents.sequential_offloading.q_device import OffloadingController, device_act
from edgemarl.agents.sequential_offloading.values import sigmoid_features
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario

TABLE_STEP = 0.1


class SemiGradientDevice(OffloadingController):
    """Temporal-difference learning with epsilon-greedy exploration.

    Args:
        step: step size a, divided by the squared length of the features.
        epsilon: share of random work from the grid.
        start_slope: V = start_slope * y at the start.
        top_tasks: largest centre of the features.
    """

    def __init__(
        self, step: float = 0.1, epsilon: float = 0.05, start_slope: float = 6.0, top_tasks: float = 40.0
    ) -> None:
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon = {epsilon!r} is not legal: must be >= 0 and <= 1")
        self.step, self.epsilon, self.start_slope, self.top_tasks = step, epsilon, start_slope, top_tasks

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        config = self.scenario.config
        self.model = DeviceModel(self.scenario, work_set(config, "grid"))
        points = np.arange(round(self.top_tasks / TABLE_STEP) + 1) * TABLE_STEP
        self._basis = sigmoid_features(points, self.top_tasks)
        ridge = 1e-2 * np.eye(self._basis.shape[1])
        start = np.linalg.solve(self._basis.T @ self._basis + ridge, self._basis.T @ (self.start_slope * points))
        self.theta = np.repeat(start[:, None], cells * config.num_devices, axis=1)  # (M, N)
        self.kept = np.zeros(self.theta.shape[1])
        self.started = False

    def table(self) -> ValueTable:
        """The value function on a fine grid."""
        values = self._basis @ self.theta
        slope = (values[-1] - values[-1 - round(1.0 / TABLE_STEP)]).clip(0.0)
        return ValueTable(values, TABLE_STEP, slope)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        config = self.scenario.config
        rows = read_device_rows(config, observations)
        table = self.table()
        work = self.model.greedy(rows, table)
        if self.started:
            self._update(rows.queue_tasks, self._cost_to_go(rows.queue_tasks, work, rows.gain_per_w, table))
        explore = rng.random(len(work)) < self.epsilon
        any_work = rng.choice(self.model.works.work_tasks, len(work))
        work = np.where(explore & (any_work <= rows.queue_tasks), any_work, work)
        self.kept = self._after(rows.queue_tasks, work, rows.gain_per_w)[0]
        self.started = True
        return device_act(self.model, work, self.cells)

    def _after(self, queue: Array, work: Array, gain: Array) -> tuple[Array, Array]:
        """Kept queue in tasks and cost of sending the residual, (N,)."""
        left = np.maximum(queue - work, 0.0)
        residual, transmit, _ = self.model.transmit(left, gain)
        return (left - residual if self.scenario.config.residual_leaves_device else left), transmit

    def _cost_to_go(self, queue: Array, work: Array, gain: Array, table: ValueTable) -> Array:
        kept, transmit = self._after(queue, work, gain)
        value = table.at(kept[:, None])[:, 0]
        local = self.model.local_cost(np.minimum(work, queue))
        return self.model.hold_cost * queue + local + transmit + self.scenario.config.discount * value

    def _update(self, queue: Array, cost_to_go: Array) -> None:
        features = sigmoid_features(np.minimum(self.kept, self.top_tasks), self.top_tasks)  # (N, M)
        delta = cost_to_go - np.einsum("nm,mn->n", features, self.theta)
        scale = self.step * delta / np.einsum("nm,nm->n", features, features)
        self.theta = self.theta + scale * features.T

    def state_dict(self) -> dict[str, Any]:
        return {"theta": self.theta.copy(), "kept": self.kept.copy(), "started": self.started}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.theta = restored(state, "theta", self.theta)
        self.kept = restored(state, "kept", self.kept)
        self.started = bool(state["started"])
