"""The paper's Algorithms 1 and 2 as printed (`paper_gradient`), for comparison: they do not learn to control.

Each agent has weights theta of M = 30 sigmoid features and ONE decision that does not depend on its state: a device its
transmit power p, the server its rate f. Both follow gradients of the squared Bellman residual delta, eqs. (25) to (34);
the sign of the sum in (26) and (33) is kept as printed (E10), it is reversed against the derivative of delta^2 / 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.sequential_offloading.model import DeviceModel, read_device_rows, work_set
from edgemarl.agents.sequential_offloading.q_device import OffloadingController, device_act
from edgemarl.agents.sequential_offloading.values import SIGMOIDS, sigmoid
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.compute import cpu_energy_j
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading import SLIVER_TASKS


def bellman_residual(theta: Array, cost: Array, features: Array, next_features: Array, discount: float) -> Array:
    """delta (N,) = c + gamma theta . phi' - theta . phi; theta and features (N, M), cost (N,)."""
    residual: Array = cost + np.einsum("nm,nm->n", theta, discount * next_features - features)
    return residual


def printed_gradients(
    theta: Array,
    delta: Array,
    features: Array,
    next_features: Array,
    weight: Array,
    energy_slope: Array,
    discount: float,
) -> tuple[Array, Array]:
    """Gradients of delta^2 / 2 for decision and weights as printed in (26), (27) and (33), (34).

    Args:
        theta, features, next_features: (N, M); both features at the same decision.
        delta: (N,) Bellman residual.
        weight: (N, M) mu of the decision, so that d phi_i / d decision = mu_i phi_i (1 - phi_i).
        energy_slope: (N,) derivative of the immediate cost for the decision.
        discount: gamma.

    Returns:
        decision (N,), with the printed sign of its sum, and theta (N, M).
    """  # fmt: skip
    bend = weight * (discount * next_features * (1.0 - next_features) - features * (1.0 - features))
    decision = delta * (energy_slope - np.einsum("nm,nm->n", theta, bend))
    return decision, delta[:, None] * (discount * next_features - features)


class PaperGradient(OffloadingController):
    """What both algorithms share: N = B n agents, features of [decision, own row], one stochastic gradient per block.

    Args:
        step: constant step size a, or start of a / (1 + t/50) with `decaying`.
        decaying: let the step size fall.
        frozen: never update (the start values of the decision are better than what is learned).
        stop_below: relative change of theta below which an agent stops (the paper's rule: 1e-3); 0: never.
    """

    role: str

    def __init__(
        self, step: float = 0.1, decaying: bool = False, frozen: bool = False, stop_below: float = 0.0
    ) -> None:
        if not step > 0.0:
            raise ValueError(f"step = {step!r} is not legal: must be > 0")
        if stop_below < 0.0:
            raise ValueError(f"stop_below = {stop_below!r} is not legal: must be >= 0")
        self.step, self.decaying, self.frozen, self.stop_below = step, decaying, frozen, stop_below

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        role = scenario.roles[self.role]
        agents, entries = cells * role.count, int(role.observation_space.shape[0])
        self.mu = np.zeros((agents, SIGMOIDS, 1 + entries))
        self.theta = np.zeros((agents, SIGMOIDS))
        self.decision = np.full(agents, 0.5)  # share of the largest
        self.active = np.ones(agents, bool)
        self.row = np.zeros((agents, entries))
        self.cost = np.zeros(agents)
        self.blocks = 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        row = observations.reshape(len(self.theta), -1).astype(np.float64)
        if self.blocks == 0:
            self.mu = rng.normal(size=self.mu.shape)
        elif not self.frozen:
            self._update(row)
        self.row, self.blocks = row, self.blocks + 1
        return self.play(observations)

    @abstractmethod
    def play(self, observations: Array) -> Act:
        """Carry out the present decision."""

    @abstractmethod
    def energy_slope(self) -> Array:
        """(N,) derivative of the immediate cost for the decision as a share of the largest."""

    def feedback(self, costs: Array) -> None:
        self.cost = costs.reshape(-1).astype(np.float64)

    def features(self, row: Array) -> Array:
        """(N, M) at the present decision."""
        inputs = np.concatenate([self.decision[:, None], row], axis=1)
        return sigmoid(np.einsum("nmd,nd->nm", self.mu, inputs))

    def _update(self, next_row: Array) -> None:
        discount = self.scenario.config.discount
        now, then = self.features(self.row), self.features(next_row)
        delta = bellman_residual(self.theta, self.cost, now, then, discount)
        decision, theta = printed_gradients(
            self.theta, delta, now, then, self.mu[:, :, 0], self.energy_slope(), discount
        )
        step = self.step / (1.0 + self.blocks / 50.0) if self.decaying else self.step
        step_of = step * self.active
        self.decision = np.clip(self.decision - step_of * decision, 0.0, 1.0)
        change = step_of[:, None] * theta
        if self.stop_below > 0.0:
            size = np.linalg.norm(self.theta, axis=1)
            self.active &= ~((size > 0.0) & (np.linalg.norm(change, axis=1) < self.stop_below * size))
        self.theta = self.theta - change

    def state_dict(self) -> dict[str, Any]:
        names = ("mu", "theta", "decision", "active", "row", "cost")
        return {"blocks": self.blocks, **{name: getattr(self, name).copy() for name in names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("mu", "theta", "decision", "active", "row", "cost"):
            setattr(self, name, restored(state, name, getattr(self, name)))
        self.blocks = int(state["blocks"])


class PaperGradientDevice(PaperGradient):
    """Algorithm 1: the decision is the transmit power; the local work follows by the "power" rule at full effort."""

    role = "device"

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.model = DeviceModel(self.scenario, work_set(self.scenario.config, "local"))

    def energy_slope(self) -> Array:
        c = self.scenario.config
        return np.full(len(self.theta), c.device_energy_weight * c.slot_s * c.transmit_power_w_max)

    def play(self, observations: Array) -> Act:
        config = self.scenario.config
        rows = read_device_rows(config, observations)
        residual = self.scenario.carried_cycles(self.decision * config.transmit_power_w_max, rows.gain_per_w)
        residual = np.minimum(residual, (1.0 - SLIVER_TASKS) * config.task_cycles)
        queue = rows.queue_tasks * config.task_cycles
        work = self.scenario.work_leaving_residual(queue, residual, config.device_work_cycles_max)
        return device_act(self.model, work / config.task_cycles, self.cells)


class PaperGradientServer(PaperGradient):
    """Algorithm 2: it decides the rate, the same in all slots; with observation "full" the paper's state."""

    role = "server"

    def energy_slope(self) -> Array:
        c = self.scenario.config
        cycles = self.decision * c.server_cpu_hz_max * c.slot_s
        per_slot = cpu_energy_j(cycles, c.server_capacitance, c.slot_s) * c.server_energy_weight
        result: Array = 3.0 * per_slot / np.maximum(self.decision, 1e-300)  # of w2 tau xi f^3
        return result

    def play(self, observations: Array) -> Act:
        return Act(decisions={"server_cpu_hz": self.decision * self.scenario.config.server_cpu_hz_max})
