"""Parametric Q-learning for `model_pruning`: every device and every gateway has its own linear Q-functions and data.

Slots do not depend on each other's actions, so the target of a Q-value is the observed cost alone (a bandit, no
bootstrap); each choice's weights follow by recursive least squares. A device keeps weights per criticality level and
learns from its own ledger line: it does not see what it does to the others. A gateway learns from its cell: its own
line and those of its devices, which they tell it in the next slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_pruning.rules import COUNT_BYTES, PruningRule
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


class QLearner(PruningRule):
    """What devices and gateways share: explore, remember the sample, learn when its cost is known.

    Args:
        exploration: share of random choices in slot t is max(floor, exploration / (1 + t / decay_slots)).
        floor: smallest share.
        decay_slots: time scale of its fall.
    """

    model: LeastSquares

    def __init__(self, exploration: float = 0.5, floor: float = 0.01, decay_slots: float = 30.0) -> None:
        for name, value in (("exploration", exploration), ("floor", floor)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} = {value} is not legal: must be a fraction")
        if decay_slots <= 0.0:
            raise ValueError(f"decay_slots = {decay_slots} slots is not legal: must be > 0")
        self.exploration, self.floor, self.decay_slots = exploration, floor, decay_slots

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.slot = 0
        self._sample: tuple[tuple[Any, ...], Array] | None = None
        self._cost: Array | None = None

    def chosen(self, values: Array, rng: np.random.Generator) -> Array:
        """(B, n) choices of least cost, from values (B, n, choices), or random ones."""
        share = max(self.floor, self.exploration / (1.0 + self.slot / self.decay_slots))
        self.slot += 1
        explore, drawn = rng.random(values.shape[:2]) < share, rng.integers(0, values.shape[2], values.shape[:2])
        return np.where(explore, drawn, values.argmin(axis=2))

    def state_dict(self) -> dict[str, Any]:
        """Weights, covariances, the slot's number, and the costs that were told or wait for their message."""
        held = None if self._sample is None else [np.array(part) for part in (*self._sample[0], self._sample[1])]
        return {
            **self.model.state_dict(), "slot": self.slot,
            "cost": None if self._cost is None else self._cost.copy(), "sample": held,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state)
        self.slot = int(state["slot"])
        self._cost = None if state["cost"] is None else np.array(state["cost"])
        held = state["sample"]
        self._sample = None if held is None else (tuple(np.array(part) for part in held[:-1]), np.array(held[-1]))


class PruningQDevice(QLearner):
    """A device's bit; per level its Q-values are linear in 1, gain, rank and the tasks that go first."""

    messages: Mapping[str, int] = {"gateway": 1}
    broadcast = False

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        c = self.network.config
        self.model = LeastSquares((cells, c.num_devices, c.num_criticality_levels, 2), 4)

    def features(self, rows: Array) -> Array:
        """(B, N, 4) from device rows; what a gateway does not broadcast is 0."""
        level, levels = self.level(rows), self.network.config.num_criticality_levels
        ahead = np.where(np.arange(levels) > level[..., None], rows[..., 3 : 3 + levels], 0.0).sum(axis=-1)
        return np.stack([np.ones(level.shape), rows[..., 1], rows[..., 3 + levels], ahead], axis=-1)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        level, features = self.level(observations), self.features(observations)
        cell, device = np.indices(level.shape)
        values = (self.model.weights[cell, device, level] * features[..., None, :]).sum(axis=-1)
        bit = self.chosen(values, rng)
        self._sample = ((cell, device, level, bit), features)
        return Act(bit, messages={"gateway": self._told()[..., None]})

    def message_bytes(self) -> float:
        """Every device's cost on its wire."""
        return COUNT_BYTES * self.network.config.num_devices

    def _told(self) -> Array:
        """(B, G) what the devices of each gateway report: their costs of the last slot, added up where they arrive."""
        gateways = self.network.config.num_gateways
        if self._cost is None:
            return np.zeros((self.cells, gateways))
        place = self.network.blocks.gateway + gateways * np.arange(self.cells)[:, None]
        return np.bincount(place.ravel(), self._cost.ravel(), self.cells * gateways).reshape(self.cells, gateways)

    def feedback(self, costs: Array) -> None:
        self._cost = np.asarray(costs, float)
        if self._sample is not None:
            self.model.update(*self._sample, self._cost)
            self._sample = None


class PruningQGateway(QLearner):
    """A gateway's model; Q-values are linear in gain and tasks per level. Its row ends with its devices' costs."""

    hears: Mapping[str, int] = {"device": 1}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        c = self.network.config
        self.model = LeastSquares((cells, c.num_gateways, c.num_models), 1 + c.num_criticality_levels)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        if self._sample is not None and self._cost is not None:
            self.model.update(*self._sample, self._cost + observations[..., -1])
        features = np.array(observations[..., 1:-1], float)  # the tasks per level sum to 1: they hold the constant
        features[..., 0] = observations[..., 0]
        values = (self.model.weights * features[..., None, :]).sum(axis=-1)
        choice = self.chosen(values, rng)
        self._sample = ((*np.indices(choice.shape), choice), features)
        return Act(choice)

    def feedback(self, costs: Array) -> None:
        self._cost = np.asarray(costs, float)
