"""Devices of model placement that learn, each for itself, what the four options (m, n) gain: linear bandits.

Nothing that a device does now changes what it meets later at the printed rates (caching is worth nothing there), so
the Q-function is that of one slot, Q(row, option) = theta . phi(row), and its target is what it gained.
One array holds all devices' parameters; a device's own are moved by its own row and its own ledger entry only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.model_placement.rules import RuleDevices, device_rows
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario

OPTIONS = 4
"""Option = m + 2 n, the code that devices tell."""
FEATURES = 4
START = 0.9
"""First value of every option: about what a served task gains."""
RATE_MIN, EXPLORATION_MIN = 0.05, 0.01
EXPLORATION_SLOTS = 10.0


class BanditDevices(RuleDevices):
    """Epsilon-greedy over linear values; normalised least-mean-squares steps of 1/(visits + 1), at least `RATE_MIN`."""

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        agents = cells * self.config.num_devices
        self.parameters = np.zeros((agents, OPTIONS, FEATURES))
        self.parameters[..., 0] = START
        self.visits = np.zeros((agents, OPTIONS), np.int64)
        self.slots = 0
        self._agents = np.arange(agents)

    def features(self, observations: Array) -> Array:
        """(B N, F): 1, airtime at the gateway's whole band over the deadline, its square, noise on the task's data."""
        rows = device_rows(self.config, observations)
        with np.errstate(divide="ignore"):
            airtime_s = rows.task_bits / (rows.efficiency * self.config.gateway_band_hz)
        burden = np.minimum(airtime_s / rows.deadline_s * self.config.devices_per_gateway, 4.0)
        columns = [np.ones_like(burden), burden, burden**2, observations[..., 2].astype(np.float64)]
        return np.stack(columns, axis=-1).reshape(-1, FEATURES)

    def values(self, features: Array) -> Array:
        """(B N, options)."""
        estimates: Array = np.einsum("aof,af->ao", self.parameters, features)
        return estimates

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        self._features = self.features(observations)
        tie = rng.uniform(0.0, 1e-6, (len(self._agents), OPTIONS))
        share = max(EXPLORATION_MIN, 1.0 / (1.0 + self.slots / EXPLORATION_SLOTS))
        explores = rng.uniform(size=len(self._agents)) < share
        best = (self.values(self._features) + tie).argmax(axis=1)
        self._option = np.where(explores, rng.integers(0, OPTIONS, len(self._agents)), best)
        return super().act(observations, rng)

    def choose(self, observations: Array) -> tuple[Array, Array]:
        option = self._option.reshape(observations.shape[:2])
        return option % 2 == 1, option >= 2

    def feedback(self, costs: Array) -> None:
        gained = -costs.reshape(-1) * self.scenario.learner_scale["device"]
        taken = self.parameters[self._agents, self._option]
        error = gained - (taken * self._features).sum(axis=1)
        self.visits[self._agents, self._option] += 1
        rate = np.maximum(RATE_MIN, 1.0 / (1.0 + self.visits[self._agents, self._option]))
        step = (rate * error / (self._features**2).sum(axis=1))[:, None] * self._features
        self.parameters[self._agents, self._option] = taken + step
        self.slots += 1

    def state_dict(self) -> dict[str, Any]:
        return {"parameters": self.parameters.copy(), "visits": self.visits.copy(), "slots": self.slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.parameters = restored(state, "parameters", self.parameters)
        self.visits = restored(state, "visits", self.visits)
        self.slots = int(state["slots"])
