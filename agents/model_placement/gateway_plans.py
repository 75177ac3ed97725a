"""Gateways that plan their own cell: levels, locations and shares from what one gateway sees, at constant prices of the
server's resources.

A gateway sees its devices' tasks, channels and models, so the relaxation of its own band, CPU and cache is a small
problem that it solves alone. It tells each device what to do (one byte, as the device's decision in the other
direction), the device does it and the server learns of it as in the other rules.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, Controller
from edgemarl.agents.model_placement.reference import PRICE_RANGE, PRICE_START, STEP_MAX, Problem, TaskOptions
from edgemarl.agents.model_placement.rules import (
    HEAVY_BIT,
    IMPROVED,
    LOCAL_BIT,
    DeadlineRule,
    Keep,
    PlacementController,
    PlacementTeam,
    Prices,
    RuleDevices,
    ServerRule,
    device_rows,
    keep_scores,
    wanted_models,
)
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.deadlines import deadline_shares
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement.scenario import GATEWAY_ROW

SERVER_PRICES = Prices(relay=2.05, edge_cpu=5.0)


@dataclass(frozen=True)
class GatewayPlan:
    """Constants of a planning gateway.

    Attributes:
        iterations: multiplicative price steps.
        candidates: last assignments among which the best is taken.
        server: prices of the server's band and CPU in the full network; the gateway's own follow from its load.
        rule: constants of the sharing by deadline.
    """

    iterations: int = 120
    candidates: int = 40
    server: Prices = SERVER_PRICES
    rule: DeadlineRule = IMPROVED


class TalkingGateways(PlacementController):
    """Plans of all gateways, each from its own row; they tell their devices (m, n)."""

    signalled = frozenset({"device"})

    def __init__(self, plan: GatewayPlan | None = None, keep: Keep = "none") -> None:
        self.plan, self.keep = plan or GatewayPlan(), keep
        self.messages = {"device": 1}
        self.broadcast = False

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        constant = self.plan.server.shared_by(self.config)
        shape = (cells, self.config.num_gateways, 1)
        self.server_prices = np.tile([constant.relay, constant.edge_cpu], shape)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        c = self.config
        cells, g, k = len(observations), c.num_gateways, c.devices_per_gateway
        p = self._problem(observations.reshape(cells * g, 1, -1))
        option, band, cpu = (v.reshape(cells, g, k) for v in self._best(p, *self._assignments(p)))
        local, heavy = option < 2, option % 2 == 1
        told = (LOCAL_BIT * local + HEAVY_BIT * heavy).astype(np.float32)
        keep = keep_scores(self.keep, wanted_models(local, heavy), rng).reshape(cells, g, 2 * k)
        deadline = p.deadline_s[0].reshape(cells, g, k)
        cycles = np.take_along_axis(p.cpu_s.reshape(4, cells, g, k), option[None], axis=0)[0]
        band = self.prior_scores(band, p.first_s.reshape(cells, g, k) / deadline)
        actions = np.concatenate([band, self.prior_scores(cpu, cycles / deadline), keep], axis=-1)
        return Act(actions, messages={"device": told.reshape(cells, g * k, 1)})

    def _problem(self, observations: Array) -> Problem:
        """The slot in the eyes of single gateways, rows (B G, 1, d); accuracies are those of an average model."""
        c = self.config
        cells, g, k = len(observations), 1, c.devices_per_gateway
        row = observations[..., : GATEWAY_ROW * k].reshape(cells, g, k, GATEWAY_ROW)
        own = observations[..., GATEWAY_ROW * k :].astype(np.float64)  # relay, free caches; messages may follow
        rows = device_rows(c, row)
        relay = own[..., :1] * c.spectral_efficiency_scale
        with np.errstate(divide="ignore"):
            first = rows.task_bits / (rows.efficiency * c.gateway_band_hz)
            second = rows.task_bits / (relay * c.relay_bandwidth_hz)
        by_option = [rows.cached_gateway[..., n] for n in (0, 1)] + [rows.cached_edge[..., n] for n in (0, 1)]
        here = np.stack(by_option)
        bits = np.stack([rows.model_bits[..., n] for n in (0, 1, 0, 1)])
        cycles = np.stack([rows.model_cycles[..., n] for n in (0, 1, 0, 1)])
        late = np.concatenate(
            [
                self.scenario.gateway_fetch_s(bits[:2], here[:2], here[2:]),
                self.scenario.edge_fetch_s(bits[2:], here[2:]),
            ]
        )
        deadline = np.broadcast_to(rows.deadline_s, late.shape)
        room = deadline - late
        feasible = (room > 0) & np.isfinite(first)
        feasible[2:] &= np.isfinite(second)
        mean = [
            [sum(law) / 2 for law in (c.accuracy_clean_light, c.accuracy_clean_heavy)],
            [sum(law) / 2 for law in (c.accuracy_noisy_light, c.accuracy_noisy_heavy)],
        ]
        noisy = row[..., 2] > 0.5
        accuracy = np.stack([np.where(noisy, mean[1][n], mean[0][n]) for n in (0, 1, 0, 1)])
        cpu_hz = np.array([c.gateway_cpu_hz] * 2 + [c.edge_cpu_hz] * 2)[:, None, None, None]
        size = np.array([c.gateway_cache_bits] * 2 + [c.edge_cache_bits] * 2)[:, None, None, None]
        return Problem(
            first_s=np.where(np.isfinite(first), first, 1.0),
            second_s=np.where(np.isfinite(second), second, 1.0),
            cpu_s=cycles / cpu_hz,
            cache=np.where(here, 0.0, bits / size),
            deadline_s=deadline,
            room_s=np.where(feasible, room, 0.5 * deadline),
            accuracy=np.where(feasible, accuracy, -np.inf),
            hops=1.0 if c.first_hop_counted_for_relayed else 0.0,
            free_gateway=own[..., 1],
            free_edge=own[:, 0, 2],
        )

    def _assignments(self, p: Problem) -> tuple[Array, TaskOptions]:
        """(C, B G, 1, K) best options at the last iterates of a gateway's own prices, and the options at the last."""
        cells, g = p.free_gateway.shape
        price, capacity = np.full((3, cells, g + 1), PRICE_START), np.ones((3, cells, g + 1))
        price[2], capacity[2, :, :-1] = 1.0, p.free_gateway
        price[:2, :, -1], price[2, :, -1] = self.server_prices.reshape(-1, 2).T, PRICE_RANGE[0]
        roots = np.sqrt(p.first_s), np.sqrt(p.second_s), np.sqrt(p.cpu_s)
        kept = []
        for t in range(self.plan.iterations):
            options = TaskOptions(p, roots, price)
            best = options.surplus.argmax(axis=0)
            served = np.maximum.reduce(options.surplus, axis=0) > 0
            if t >= self.plan.iterations - self.plan.candidates:
                kept.append(best)
            excess = (options.usage(best, served) - capacity)[..., :-1]
            step = np.exp(np.clip(excess, -STEP_MAX, STEP_MAX) / (1.0 + t / 15.0))
            price = price.copy()
            price[..., :-1] = np.clip(price[..., :-1] * step, *PRICE_RANGE)
        return np.stack(kept), options

    def first_hop(self, options: TaskOptions) -> Array:
        """Part of a relayed task's deadline that its first hop may take; broadcasts to (B G, 1, K)."""
        return np.array(self.plan.rule.first_hop)

    def _best(self, p: Problem, options: Array, last: TaskOptions) -> tuple[Array, Array, Array]:
        """Of the candidate assignments of a gateway the one whose shares serve most: option, band, CPU (B G, 1, K)."""
        many, shape = len(options), options.shape
        rule, k = self.plan.rule, options.shape[-1]

        def pick(values: Array) -> Array:
            picked: Array = np.take_along_axis(np.broadcast_to(values[:, None], (4, *shape)), options[None], axis=0)[0]
            return picked

        local = options < 2
        deadline, accuracy, cpu_s = pick(p.deadline_s), pick(p.accuracy), pick(p.cpu_s)
        band_s = np.broadcast_to(p.first_s, shape)
        fetch = np.where(local, deadline - pick(p.room_s), 0.0)
        fits = np.cumsum(np.where(local, pick(p.cache), 0.0), axis=-1) <= p.free_gateway[..., None]
        member = np.isfinite(accuracy) & (fits | ~local)
        burden = rule.band_burden * band_s / deadline + np.where(local, cpu_s / deadline, 0.0)
        first_hop = self.first_hop(last)
        time_s = np.where(local, deadline, first_hop * deadline)
        shares = deadline_shares(*(
            values.reshape(-1, k) for values in (band_s, cpu_s, time_s, fetch, member, local, burden)
        ))  # fmt: skip
        rest_s = (1.0 - first_hop) * deadline
        relay_price, cpu_price = self.server_prices.reshape(-1, 2).T[..., None, None]
        root = np.sqrt(relay_price * p.second_s) + np.sqrt(cpu_price * cpu_s)
        worth = np.where(shares.served.reshape(shape), accuracy - np.where(local, 0.0, root * root / rest_s), 0.0)
        chosen = worth.sum(axis=-1).argmax(axis=0)[None, ..., None]

        def of_best(values: Array) -> Array:
            picked: Array = np.take_along_axis(values.reshape(many, *shape[1:]), chosen, axis=0)[0]
            return picked

        return of_best(options), of_best(shares.band), of_best(shares.cpu)


class ObedientDevices(RuleDevices):
    """Devices that do what their gateway tells them."""

    def reset(self, scenario: Any, cells: int) -> None:
        super().reset(scenario, cells)
        self.messages, self.hears = {"server": self.config.num_devices}, {"gateway": 1}

    def choose(self, observations: Array) -> tuple[Array, Array]:
        told = np.rint(observations[..., -1]).astype(int)
        return (told & LOCAL_BIT) > 0, (told & HEAVY_BIT) > 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        act = super().act(observations, rng)
        return dataclasses.replace(act, messages={"server": act.messages["server"]})


def cell_team(name: str, plan: GatewayPlan | None = None, keep: Keep = "none") -> PlacementTeam:
    """Gateways plan, devices obey, the server shares by deadline."""
    gateways = TalkingGateways(plan, keep)
    server: Controller = ServerRule("deadline", keep, gateways.plan.rule)
    return PlacementTeam(name, ObedientDevices(), gateways, server, order=[["gateway"], ["device"], ["server"]])
