"""A server that learns the prices of its band and CPU from the load that it meets, and broadcasts them to the gateways.

The prices are the multipliers of the server's two capacities in the relaxation of `agents.model_placement.reference`.
Every slot is a noisy sample of the load at the prices of the slot before, so the multiplicative step of the dual,

    log price += rate_t (load - target),    rate_t = max(rate_min, rate_first/(1 + t/rate_slots)),

is taken once per slot by the one agent that sees the load (stochastic approximation; Borkar, Stochastic Approximation,
2008). A gateway divides the deadlines of its relayed tasks between its own hop and the rest by the roots of the prices,
as the relaxation does, and tells the server its part: one number. Nothing else is told or learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.model_placement.gateway_plans import GatewayPlan, ObedientDevices, TalkingGateways
from edgemarl.agents.model_placement.reference import PRICE_RANGE, STEP_MAX, TaskOptions
from edgemarl.agents.model_placement.rules import IMPROVED, DeadlineRule, Keep, PlacementTeam, ServerRule
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.deadlines import split_deadline_s
from edgemarl.envs.scenario import Scenario

FIRST_HOP_RANGE = (0.2, 0.9)
"""Part of a deadline that a gateway may give to its own hop."""
LOAD_MAX = 1e9
"""Load, as part of band or CPU, of a task for which hardly any time is left."""


@dataclass(frozen=True)
class PriceLearning:
    """Constants of the price steps.

    Attributes:
        target: load of band and CPU at which a price rests; what is left absorbs the load's noise.
        rate_first, rate_slots: first rate, and slots after which it has halved.
        rate_min: rate that is left, so that prices follow a network that changes.
    """

    target: float = 0.8
    rate_first: float = 0.5
    rate_slots: float = 10.0
    rate_min: float = 0.05


class PricingServer(ServerRule):
    """Shares by deadline among relayed tasks and tells every gateway the prices of its band and CPU, (2,) float32.

    Args:
        keep, rule: as for `ServerRule`.
        learning: constants of the steps.
        plan: gives the first prices.
    """

    def __init__(
        self,
        keep: Keep = "none",
        rule: DeadlineRule = IMPROVED,
        learning: PriceLearning | None = None,
        plan: GatewayPlan | None = None,
    ) -> None:
        super().__init__("deadline", keep, rule)
        self.learning, self.plan = learning or PriceLearning(), plan or GatewayPlan()
        self.messages = {"gateway": 2}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        start = self.plan.server.shared_by(self.config)
        self.prices = np.tile([start.relay, start.edge_cpu], (cells, 1))
        self.slots = 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        act = super().act(observations, rng)
        load = self.load(observations)
        learning = self.learning
        rate = max(learning.rate_min, learning.rate_first / (1.0 + self.slots / learning.rate_slots))
        step = np.clip(load - learning.target, -STEP_MAX, STEP_MAX)
        self.prices = np.clip(self.prices * np.exp(rate * step), *PRICE_RANGE)
        self.slots += 1
        told = np.broadcast_to(self.prices[:, None, :], (len(load), self.config.num_gateways, 2))
        return dataclasses.replace(act, messages={"gateway": told.astype(np.float32)})

    def load(self, observations: Array) -> Array:
        """(B, 2) band and CPU that the relayed tasks would take at the present prices, parts of the whole."""
        tasks = self.relayed_tasks(observations)
        roots = np.sqrt(self.prices)[..., None]
        band, cpu = np.where(tasks.member, tasks.band_s, 0.0), np.where(tasks.member, tasks.cpu_s, 0.0)
        send_root, compute_root = roots[:, 0] * np.sqrt(band), roots[:, 1] * np.sqrt(cpu)
        compute_root = np.where(tasks.member, compute_root, 1.0)
        limit = np.where(tasks.member, tasks.rest_s, 1.0)
        x, y = split_deadline_s(limit, np.where(tasks.member, send_root, 1.0), compute_root, limit)
        return np.stack(self.counted(_part_of_whole(band, x), _part_of_whole(cpu, y)), axis=-1)

    def counted(self, band: Array, cpu: Array) -> tuple[Array, Array]:
        """Loads (B,) of band and CPU from what every task takes, (B, N)."""
        return band.sum(axis=-1), cpu.sum(axis=-1)

    def first_hop(self, told: Array) -> Array:
        """(B, N) as the gateways told it, (B, G)."""
        return np.repeat(told.astype(np.float64), self.config.devices_per_gateway, axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {"prices": self.prices.copy(), "slots": self.slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.prices, self.slots = np.array(state["prices"]), int(state["slots"])


def _part_of_whole(work_s: Array, time_s: Array) -> Array:
    """What work takes in a time, as part of what there is; `LOAD_MAX` where hardly any time is left for it."""
    most = np.where(work_s > 0.0, LOAD_MAX, 0.0)
    return np.divide(work_s, time_s, out=most, where=work_s < LOAD_MAX * time_s)


class ListeningGateways(TalkingGateways):
    """Gateways that plan at the prices that the server broadcast in the slot before; at first at the constant ones.

    They tell the server which part of a deadline the first hop of their relayed tasks takes.
    """

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.messages, self.hears = {"device": 1, "server": self.config.num_gateways}, {"server": 2}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        told = observations[..., -2:].astype(np.float64)
        self.server_prices = np.where(told > 0, told, self.server_prices)
        act = super().act(observations[..., :-2], rng)
        hop = self._first_hop.astype(np.float32).reshape(len(observations), 1, -1)
        return dataclasses.replace(act, messages={**act.messages, "server": hop})

    def first_hop(self, options: TaskOptions) -> Array:
        """(B G, 1, 1) mean over the relayed tasks of the part x r1/(r1 + r2) of T at the gateway's last prices."""
        gain = np.maximum.reduce(options.surplus, axis=0)
        relayed = (options.surplus.argmax(axis=0) >= 2) & (gain > 0)
        heavy = options.surplus[3] >= options.surplus[2]
        send_s = np.where(heavy, options.x[3], options.x[2])
        part = send_s / options.problem.deadline_s[2] * options.first_root / (options.first_root + options.second_root)
        mean = np.where(relayed, part, 0.0).sum(axis=-1) / np.maximum(relayed.sum(axis=-1), 1)
        usual = self.plan.rule.first_hop
        mean = np.where(relayed.any(axis=-1), np.clip(mean, *FIRST_HOP_RANGE), usual)
        self._first_hop = mean.astype(np.float32)
        return self._first_hop[..., None].astype(np.float64)  # the value that is told


def priced_team(
    name: str, plan: GatewayPlan | None = None, keep: Keep = "none", learning: PriceLearning | None = None
) -> PlacementTeam:
    """Gateways plan at the server's prices, devices obey, the server shares by deadline and learns its prices."""
    gateways = ListeningGateways(plan, keep)
    server = PricingServer(keep, gateways.plan.rule, learning, gateways.plan)
    return PlacementTeam(name, ObedientDevices(), gateways, server, order=[["gateway"], ["device"], ["server"]])
