"""The server that learns the value of its own queue, and the price of its load that it may broadcast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.sequential_offloading.model import PRICE_SCALE, ServerModel
from edgemarl.agents.sequential_offloading.q_device import OffloadingController
from edgemarl.agents.sequential_offloading.values import ValueFunction, step_size
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import RowEntry
from edgemarl.envs.scenario import Scenario, Step
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloadingState
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

SERVER_GRID = np.concatenate([np.arange(15) / 10.0, np.arange(6, 25) / 4.0])
"""Queue per device in tasks."""
START_SLOPE = 4.0
REPLAY_PAIRS = 3
REPLAY_BLOCKS = 200
PRICE_SMOOTHING = 0.95
PRICE_SECANT_TASKS = 0.25
PRICE = RowEntry("price", "1/task", PRICE_SCALE, "newest price of the server: cost per offloaded task")


def read_queue_tasks(config: SequentialOffloadingConfig, rows: Array) -> Array:
    """Server queue (B,) in tasks from rows (B, 1, d), whatever `server_observation` is."""
    return rows[:, 0, 0].astype(np.float64) * (config.num_devices * config.queue_scale_tasks)


class OffloadReader:
    """Offloaded tasks of the block before, as the server sees them.

    The row holds them, except with `server_observation="full"`, where they follow from the own queue: what is there
    now minus what the own service had left.
    """

    def __init__(self, config: SequentialOffloadingConfig, cells: int) -> None:
        self.config = config
        self.left_tasks = np.zeros(cells)

    def read(self, rows: Array, queue_tasks: Array) -> Array:
        if self.config.server_observation == "full":
            return np.maximum(queue_tasks - self.left_tasks, 0.0)
        return rows[:, 0, 1].astype(np.float64) * self.config.num_devices


class ParametricQServer(OffloadingController):
    """Parametric Q-learning of the server: Q(q, v) = w2 E(v) + gamma V((q - v)/(K W)); V is all that is learned.

    Args:
        features: "hat" or "sigmoid".
        replay: also apply 3 earlier offloads of the last 200 blocks; default: with "sigmoid" only.
        priced: broadcast lambda, the smoothed marginal cost of an offloaded task (4 bytes per block).
    """

    def __init__(self, features: str = "hat", replay: bool | None = None, priced: bool = False) -> None:
        self.features, self.priced = features, priced
        self.replay = features == "sigmoid" if replay is None else replay
        self.messages = {"device": 1} if priced else {}
        self.message_meaning = {"device": (PRICE,)} if priced else {}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        config = self.scenario.config
        self.model = ServerModel(config)
        step = 0.05 if self.features == "hat" else 0.0125
        self.function = ValueFunction(SERVER_GRID, step, self.features, 1e-3, np.float64)
        self.values = np.repeat(START_SLOPE * config.num_devices * SERVER_GRID[:, None], cells, axis=1)
        self.price = np.zeros(cells)
        self.updates = 0
        self.started = False
        self.offload = OffloadReader(config, cells)
        self._memory = np.zeros((REPLAY_BLOCKS if self.replay else 0, cells))

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        k = self.scenario.config.num_devices
        queue = read_queue_tasks(self.scenario.config, observations)
        if self.started:
            self.learn(self.offload.read(observations, queue), rng)
        self.started = True
        table = self.function.table(self.values)
        served = self._greedy(queue, table)
        self.offload.left_tasks = queue - served
        decisions = {"server_cpu_hz": self.model.rate_hz(served)}
        if not self.priced:
            return Act(decisions=decisions)
        self._update_price((queue - served) / k)
        message = np.repeat(self.price[:, None] / PRICE_SCALE, k, axis=1)[..., None]
        return Act(decisions=decisions, messages={"device": message.astype(np.float32)})

    def charges(self, messages: Mapping[str, Array], step: Step[SequentialOffloadingState]) -> Mapping[str, Array]:
        """lambda per offloaded task of every device."""
        task_cycles = self.scenario.config.task_cycles
        price = messages["device"][..., 0].astype(np.float64) * PRICE_SCALE
        return {"device": price * step.details["residual_cycles"] / task_cycles}

    def _greedy(self, queue_tasks: Array, table: Any) -> Array:
        """Served tasks (B,); the value is a function of the queue per device."""
        served = self.model.served(queue_tasks)
        left = (queue_tasks[:, None] - served) / self.scenario.config.num_devices
        total = self.model.serve_cost(served) + self.scenario.config.discount * table.at(left)
        return np.take_along_axis(served, np.argmin(total, axis=1)[:, None], 1)[:, 0]

    def learn(self, offloaded_tasks: Array, rng: np.random.Generator) -> None:
        """Move V at all grid points towards the target of the newest offload (B,) in tasks (and of replayed ones)."""
        samples = [offloaded_tasks]
        if self.replay:
            self._memory[self.updates % REPLAY_BLOCKS] = offloaded_tasks
            recorded = min(self.updates + 1, REPLAY_BLOCKS)
            samples += [self._memory[block].copy() for block in rng.integers(0, recorded, REPLAY_PAIRS)]
        alpha, table = step_size(self.updates), self.function.table(self.values)
        for sample in samples:
            self.values += alpha * (self._targets(sample, table) - self.values)
        self.updates += 1

    def _targets(self, offloaded_tasks: Array, table: Any) -> Array:
        """Targets (J, B): w1 W (K y_j + R) + min_v Q(K y_j + R, v)."""
        k = self.scenario.config.num_devices
        queue = k * SERVER_GRID[:, None] + offloaded_tasks  # (J, B)
        served = self.model.served(queue)  # (J, B, 51)
        left = (queue[..., None] - served) / k
        cells = len(offloaded_tasks)
        at = table.at(left.transpose(1, 0, 2).reshape(cells, -1)).reshape(cells, len(SERVER_GRID), -1)
        total = self.model.serve_cost(served) + self.scenario.config.discount * at.transpose(1, 0, 2)
        result: Array = self.model.hold_cost * queue + total.min(axis=2)
        return result

    def _update_price(self, left_tasks_per_device: Array) -> None:
        """lambda = gamma dV/dq at what is left in the queue: a secant of the interpolated V_j, smoothed."""
        config = self.scenario.config
        hats = ValueFunction(SERVER_GRID, 0.05, "hat", 0.0, np.float64).table(self.values)
        ends = left_tasks_per_device[:, None] + np.array([0.0, PRICE_SECANT_TASKS])
        low, high = hats.at(ends).T
        newest = config.discount * (high - low) / (PRICE_SECANT_TASKS * config.num_devices)
        self.price = PRICE_SMOOTHING * self.price + (1.0 - PRICE_SMOOTHING) * newest

    def state_dict(self) -> dict[str, Any]:
        return {
            "values": self.values.copy(),
            "price": self.price.copy(),
            "left_tasks": self.offload.left_tasks.copy(),
            "updates": self.updates,
            "started": self.started,
            "memory": self._memory[: min(self.updates, REPLAY_BLOCKS)].copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values = restored(state, "values", self.values)
        self.price = restored(state, "price", self.price)
        self.offload.left_tasks = restored(state, "left_tasks", self.offload.left_tasks)
        self.updates, self.started = int(state["updates"]), bool(state["started"])
        memory = np.asarray(state["memory"])
        self._memory[: len(memory)] = memory
