"""Q-learners of model placement for every role, which agree by prices: devices, gateways and the server.

A gateway learns prices of its band and CPU, the server those of the relay and its CPU, each from the load that it meets
(`learned_prices`: the multiplicative step of the dual), and tells them to the devices. A device weighs the four options
(m, n) by what they gain less what their shares cost at the prices it was told. What it cannot compute, how often a task
of an option is served in time, it learns from its own ledger entry. Nobody knows the law of tasks or channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.model_placement.learned_prices import PriceLearning, PricingServer
from edgemarl.agents.model_placement.reference import PRICE_RANGE, STEP_MAX
from edgemarl.agents.model_placement.rules import (
    HEAVY_BIT,
    IMPROVED,
    LOCAL_BIT,
    DeadlineRule,
    GatewayRule,
    PlacementTeam,
    PriceDevices,
    Prices,
    Rows,
    ServerRule,
    device_rows,
)
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.deadlines import split_deadline_s
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import at_level
from edgemarl.envs.scenarios.model_placement.scenario import GATEWAY_ROW

LEDGER_WEIGHTS = ("device_ledger_weight", "gateway_ledger_weight", "server_ledger_weight")
SERVED_START, SERVED_WEIGHT = 0.97, 20.0
"""First estimate of the part of an option's tasks that is served, and how many samples it counts for."""
SERVED_RATE_MIN = 0.01
WORTH = 0.9
"""About what a served task gains."""
EXPLORATION_MIN, EXPLORATION_FIRST, EXPLORATION_SLOTS = 0.001, 0.02, 10.0


class LearningDevices(PriceDevices):
    """Each device for itself: Q(o) = served_o accuracy_o - cost of its shares at the told prices; served_o is learned.

    With location "static" it chooses between the levels at its place, else among all four options.
    Its row ends with the prices of its gateway's band and CPU and of the server's, as told in the slot before.
    """

    hears: Mapping[str, int] = {"gateway": 2, "server": 2}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        if self.config.device_ledger_weight <= 0.0:
            weights = ", ".join(f"{name} = {getattr(self.config, name):g}" for name in LEDGER_WEIGHTS)
            raise ValueError(f"{weights}: devices that learn from their own entries need device_ledger_weight > 0")
        shape = (cells, self.config.num_devices, 4)
        self.served = np.full(shape, SERVED_START)
        self.visits = np.zeros(shape, np.int64)
        self.slots = 0
        self._option = np.zeros(shape[:2], np.int64)
        self._accuracy = np.ones(shape[:2])

    def present_prices(self, observations: Array) -> Array:
        """As told; the constant ones where nothing was told yet."""
        told = observations[..., -4:].astype(np.float64)
        return np.where(told > 0.0, told, super().present_prices(observations))

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        shape = observations.shape[:2]
        accuracy = np.tile(observations[..., 12:14].astype(np.float64), 2)
        value = np.concatenate(self.values(observations), axis=-1)  # local light, local heavy, relayed light, heavy
        value = value - (1.0 - self.served) * accuracy
        if self.location == "static":
            here = self.assigned_local(observations)[..., None] == (np.arange(4) < 2)
            value = np.where(here, value, -np.inf)
        explores = rng.random(shape) < max(EXPLORATION_MIN, EXPLORATION_FIRST / (1.0 + self.slots / EXPLORATION_SLOTS))
        self._option = np.where(explores, rng.integers(0, 4, shape), value.argmax(axis=-1))
        self._accuracy = np.take_along_axis(accuracy, self._option[..., None], axis=-1)[..., 0]
        self.slots += 1
        return super().act(observations, rng)

    def choose(self, observations: Array) -> tuple[Array, Array]:
        return self._option < 2, self._option % 2 == 1

    def feedback(self, costs: Array) -> None:
        gained = -np.asarray(costs, np.float64) * self.config.num_devices / self.config.device_ledger_weight
        served = np.clip(
            np.divide(gained, self._accuracy, out=np.zeros_like(gained), where=self._accuracy > 0), 0.0, 1.0
        )
        pick = (*np.indices(self._option.shape), self._option)
        self.visits[pick] += 1
        rate = np.maximum(SERVED_RATE_MIN, 1.0 / (SERVED_WEIGHT + self.visits[pick]))
        self.served[pick] += rate * (served - self.served[pick])

    def state_dict(self) -> dict[str, Any]:
        return {
            "served": self.served.copy(), "visits": self.visits.copy(), "slots": self.slots,
            "option": self._option.copy(), "accuracy": self._accuracy.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.served, self.visits = restored(state, "served", self.served), restored(state, "visits", self.visits)
        self.slots = int(state["slots"])
        self._option = restored(state, "option", self._option)
        self._accuracy = restored(state, "accuracy", self._accuracy)


class PricingGateways(GatewayRule):
    """Share by deadline; every gateway learns the prices of its own band and CPU and tells them to its devices."""

    broadcast = False

    def __init__(self, rule: DeadlineRule = IMPROVED, learning: PriceLearning | None = None) -> None:
        super().__init__("deadline", "none", rule)
        self.learning = learning or PriceLearning()
        self.messages = {"device": 2}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        start = Prices().shared_by(self.config)
        self.prices = np.tile([start.band, start.gateway_cpu], (cells, self.config.num_gateways, 1))
        self.slots = 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        c = self.config
        act = super().act(observations, rng)
        k = c.devices_per_gateway
        rows = device_rows(c, observations[..., : GATEWAY_ROW * k].reshape(*observations.shape[:2], k, GATEWAY_ROW))
        told = np.rint(observations[..., GATEWAY_ROW * k + 3 : GATEWAY_ROW * k + 3 + k]).astype(int)
        load = self.load(rows, (told & LOCAL_BIT) > 0, (told & HEAVY_BIT) > 0)
        self.prices = stepped(self.prices, load, self.learning, self.slots)
        self.slots += 1
        message = np.repeat(self.prices, k, axis=1).astype(np.float32)
        return dataclasses.replace(act, messages={"device": message})

    def load(self, rows: Rows, local: Array, heavy: Array) -> Array:
        """(B, G, 2) band and CPU that the tasks would take at the present prices, parts of the whole."""
        c = self.config
        ready, fetch_s = self._ready(rows, local, heavy)
        reachable = ready & (rows.efficiency > 0.0) & (local | c.first_hop_counted_for_relayed)
        rate = np.where(reachable, rows.efficiency, 1.0) * c.gateway_band_hz
        band_s = np.where(reachable, rows.task_bits / rate, 0.0)
        cpu_s = np.where(reachable & local, at_level(rows.model_cycles, heavy) / c.gateway_cpu_hz, 0.0)
        roots = np.sqrt(self.prices)[..., None]
        send, compute = roots[..., 0, :] * np.sqrt(band_s), roots[..., 1, :] * np.sqrt(cpu_s)
        deadline = np.where(reachable, rows.deadline_s, 1.0)
        room = np.maximum(deadline - np.where(local, fetch_s, 0.0), 1e-3 * deadline)
        x, y = split_deadline_s(deadline, np.where(reachable, send, 1.0), compute, room)
        x = np.where(local, np.maximum(x, 1e-3 * deadline), self.rule.first_hop * deadline)
        taken = np.stack([band_s / x, np.divide(cpu_s, y, out=np.zeros_like(cpu_s), where=cpu_s > 0.0)], axis=-1)
        return np.asarray(worth_it(taken, self.prices[..., None, :]).sum(axis=-2))

    def message_bytes(self) -> float:
        """Two numbers, broadcast in each cell."""
        return 8.0 * self.config.num_gateways

    def state_dict(self) -> dict[str, Any]:
        return {"prices": self.prices.copy(), "slots": self.slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.prices, self.slots = restored(state, "prices", self.prices), int(state["slots"])


class TellingServer(PricingServer):
    """`PricingServer` that tells its prices to the devices instead of to planning gateways."""

    def __init__(self, rule: DeadlineRule = IMPROVED, learning: PriceLearning | None = None) -> None:
        super().__init__("none", rule, learning)
        self.messages = {"device": 2}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        act = super().act(observations, rng)
        told = np.broadcast_to(self.prices[:, None, :], (len(self.prices), self.config.num_devices, 2))
        return dataclasses.replace(act, messages={"device": told.astype(np.float32)})

    def counted(self, band: Array, cpu: Array) -> tuple[Array, Array]:
        taken = worth_it(np.stack([band, cpu], axis=-1), self.prices[:, None, :]).sum(axis=1)
        return taken[:, 0], taken[:, 1]

    def first_hop(self, told: Array) -> Array:
        return ServerRule.first_hop(self, told)

    def message_bytes(self) -> float:
        """Two numbers to every gateway, which passes them on in its own broadcast."""
        return 16.0 * self.config.num_gateways


def worth_it(taken: Array, prices: Array) -> Array:
    """Shares (.., n, 2) that tasks take, 0 for those that would cost more than a served task gains.

    The relaxation leaves such a task unserved; its load must not move the price.
    """
    cost = (taken * prices).sum(axis=-1, keepdims=True)
    return np.where(cost <= WORTH, taken, 0.0)


def stepped(prices: Array, load: Array, learning: PriceLearning, slots: int) -> Array:
    """Prices after a multiplicative step towards the load at which they rest."""
    rate = max(learning.rate_min, learning.rate_first / (1.0 + slots / learning.rate_slots))
    step = np.clip(load - learning.target, -STEP_MAX, STEP_MAX)
    return np.asarray(np.clip(prices * np.exp(rate * step), *PRICE_RANGE))


def learning_team(name: str) -> PlacementTeam:
    """Devices, gateways and server, all learners; devices act first, where they are by the static assignment.

    A device does not see its gateway's relay: left to choose its place too, it gains 0.004 less.
    """
    gateways = PricingGateways(learning=PriceLearning(target=0.85, rate_min=0.02))
    server = TellingServer(learning=PriceLearning(target=0.8, rate_min=0.02))
    return PlacementTeam(name, LearningDevices("static"), gateways, server)
