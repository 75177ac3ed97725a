"""Rules for model placement: devices that follow a fixed assignment or prices, gateways and a server that share by need
or by deadline.

A device tells its decision (m, n) to its gateway, which passes it on to the server, in the same slot: one byte that the
scenario's signalling already counts. Everything else that a rule uses stands in its own row.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from edgemarl.agents.api import Act, Controller, Team
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.caching import admit_in_order
from edgemarl.envs.physics.deadlines import deadline_shares, split_deadline_s
from edgemarl.envs.physics.radio import from_db, path_loss_db, spectral_efficiency
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import HEAVY, LIGHT, ModelPlacement, ModelPlacementConfig, at_level
from edgemarl.envs.scenarios.model_placement.scenario import GATEWAY_ROW, SERVER_ROW

Keep = Literal["used", "none", "all", "random"]
Shares = Literal["random", "equal", "need", "deadline"]
LOCAL_BIT, HEAVY_BIT = 1, 2
"""A decision message is m + 2 n."""


@dataclass(frozen=True)
class Rows:
    """Observation rows in physical units; device fields (B, n) or (B, G, K), models with a last axis of two levels."""

    task_bits: Array
    deadline_s: Array
    efficiency: Array  # g in bit/s/Hz; absent (zeros) for the server
    cached_gateway: Array
    cached_edge: Array
    model_bits: Array
    model_cycles: Array


def device_rows(config: ModelPlacementConfig, observations: Array) -> Rows:
    """A device's (or a gateway's) per-device entries (..., 12 or more) in physical units."""
    row = observations.astype(np.float64)
    return Rows(
        task_bits=row[..., 0] * config.task_bits_max,
        deadline_s=row[..., 1] * config.deadline_max_s,
        efficiency=row[..., 3] * config.spectral_efficiency_scale,
        cached_gateway=row[..., 4:6] > 0.5,
        cached_edge=row[..., 6:8] > 0.5,
        model_bits=row[..., 8:10] * config.model_bits_heavy[1],
        model_cycles=row[..., 10:12] * config.cycles_heavy[1],
    )


def server_rows(config: ModelPlacementConfig, observations: Array) -> Rows:
    """The server's per-device entries (..., 8) in physical units."""
    row = observations.astype(np.float64)
    cached = row[..., 2:4] > 0.5
    return Rows(
        task_bits=row[..., 0] * config.task_bits_max,
        deadline_s=row[..., 1] * config.deadline_max_s,
        efficiency=np.zeros(row.shape[:-1]),
        cached_gateway=np.zeros_like(cached),
        cached_edge=cached,
        model_bits=row[..., 4:6] * config.model_bits_heavy[1],
        model_cycles=row[..., 6:8] * config.cycles_heavy[1],
    )


def static_local_count(config: ModelPlacementConfig) -> int:
    """Devices of a gateway whose heavy models fit its cache: min(K, cache / mean heavy size)."""
    mean_bits = sum(config.model_bits_heavy) / 2.0
    return min(config.devices_per_gateway, int(config.gateway_cache_bits // mean_bits))


class PlacementController(Controller):
    """A rule of one role of the model placement scenario."""

    scenario: ModelPlacement

    def reset(self, scenario: Scenario, cells: int) -> None:
        if not isinstance(scenario, ModelPlacement):
            raise ValueError(f"{type(self).__name__} plays scenario 'model_placement', got '{scenario.name}'")
        super().reset(scenario, cells)

    @property
    def config(self) -> ModelPlacementConfig:
        return self.scenario.config

    def prior_scores(self, share: Array, need: Array) -> Array:
        """Scores that give shares (B, ..., n), whether the scenario multiplies their weights by need (>= 0) or not.

        Where it multiplies them by the shares by deadline, even scores: nothing is left to correct.
        """
        if self.config.share_prior == "deadline":
            return np.zeros(share.shape)
        if self.config.share_prior == "equal":
            return scores_of(share)
        return scores_of(np.divide(share, need, out=np.zeros(share.shape), where=need > 0))


# --- devices -----------------------------------------------------------------------------------------------------


class RandomDevices(PlacementController):
    """Every bit fair; tells nothing."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(rng.integers(0, 2, (*observations.shape[:2], 2)))


class RuleDevices(PlacementController):
    """Devices with a rule for (m, n); they tell it to their gateway and, through it, to the server."""

    signalled = frozenset({"gateway", "server"})

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.messages = {"gateway": self.config.devices_per_gateway, "server": self.config.num_devices}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        local, heavy = self.choose(observations)
        code = (LOCAL_BIT * local + HEAVY_BIT * heavy).astype(np.float32)
        c = self.config
        told = {"gateway": code.reshape(-1, c.num_gateways, c.devices_per_gateway), "server": code[:, None, :]}
        return Act(np.stack([local, heavy], axis=-1).astype(np.int64), messages=told)

    @abstractmethod
    def choose(self, observations: Array) -> tuple[Array, Array]:
        """(m, n) as two bool arrays (B, N)."""

    def assigned_local(self, observations: Array) -> Array:
        """(B, N) bool: the static assignment, by a device's own index k."""
        k = np.rint(observations[..., 14] * self.config.devices_per_gateway)
        local: Array = k < static_local_count(self.config)
        return local

    def fetch_s(self, rows: Rows) -> tuple[Array, Array]:
        """Seconds until each model (B, N, 2) is at the gateway and at the server."""
        at_gateway = self.scenario.gateway_fetch_s(rows.model_bits, rows.cached_gateway, rows.cached_edge)
        return at_gateway, self.scenario.edge_fetch_s(rows.model_bits, rows.cached_edge)


class StaticDevices(RuleDevices):
    """The first devices of each gateway local, the others relayed, all heavy."""

    def choose(self, observations: Array) -> tuple[Array, Array]:
        local = self.assigned_local(observations)
        return local, np.ones_like(local)


class LocalLightDevices(RuleDevices):
    """Everything at the gateway with the light model."""

    def choose(self, observations: Array) -> tuple[Array, Array]:
        local = np.ones(observations.shape[:2], bool)
        return local, ~local


class StagedDevices(RuleDevices):
    """As the static assignment, but a model that a gateway cannot get in time is first fetched to the server.

    For the first devices of a gateway, in this order: heavy model cached there; local heavy, if it arrives in time;
    heavy at the server, if it arrives there in time; local light, if cached or in time; light at the server. For the
    others: heavy at the server if in time, else light.

    Args:
        margin_s: "in time" means by deadline - margin: model and task must both end in time.
    """

    def __init__(self, margin_s: float = 0.0) -> None:
        self.margin_s = margin_s

    def choose(self, observations: Array) -> tuple[Array, Array]:
        rows = device_rows(self.config, observations)
        limit_s = rows.deadline_s - self.margin_s
        at_gateway, at_edge = self.fetch_s(rows)
        here_heavy = rows.cached_gateway[..., HEAVY] | (at_gateway[..., HEAVY] <= limit_s)
        there_heavy = at_edge[..., HEAVY] <= limit_s
        here_light = rows.cached_gateway[..., LIGHT] | (at_gateway[..., LIGHT] <= limit_s)
        assigned = self.assigned_local(observations)
        local = assigned & (here_heavy | (~there_heavy & here_light))
        return local, (assigned & here_heavy) | there_heavy


@dataclass(frozen=True)
class Prices:
    """Prices of a gateway's band and CPU and of the server's, accuracy per whole resource of the full network."""

    band: float = 9.0
    gateway_cpu: float = 2.6
    relay: float = 1.9
    edge_cpu: float = 4.6

    def scaled(self, factor: float) -> Prices:
        """All prices times a factor."""
        return Prices(self.band * factor, self.gateway_cpu * factor, self.relay * factor, self.edge_cpu * factor)

    def shared_by(self, config: ModelPlacementConfig) -> Prices:
        """Prices of a network of another size: a whole resource is worth more, the more devices share it."""
        full = ModelPlacementConfig()
        here = config.devices_per_gateway / full.devices_per_gateway
        there = config.num_devices / full.num_devices
        return Prices(self.band * here, self.gateway_cpu * here, self.relay * there, self.edge_cpu * there)


class PriceDevices(RuleDevices):
    """Devices that weigh accuracy against the price of the shares that a task takes, at constant prices.

    Args:
        location: "static" keeps the static assignment and chooses the level only; "free" takes the best of four.
        prices: those of the full network, broadcast once.
    """

    def __init__(self, location: Literal["static", "free"] = "static", prices: Prices | None = None) -> None:
        self.location, self.prices = location, prices or Prices()

    def choose(self, observations: Array) -> tuple[Array, Array]:
        local, relayed = self.values(observations)
        if self.location == "free":
            here = local.max(axis=-1) >= relayed.max(axis=-1)
        else:
            here = self.assigned_local(observations)
        value = np.where(here[..., None], local, relayed)
        return here, value[..., HEAVY] > value[..., LIGHT]

    def values(self, observations: Array) -> tuple[Array, Array]:
        """Accuracy minus cost of each level (B, N, 2): at the gateway, at the server; -inf if its model is late.

        A device does not see its gateway's channel: the server's side is valued at a typical one.
        """
        c, p = self.config, self.present_prices(observations)
        rows = device_rows(c, observations)
        accuracy = observations[..., 12:14].astype(np.float64)
        deadline_s = rows.deadline_s[..., None]
        relay_hz = np.float64(self.typical_relay_efficiency * c.relay_bandwidth_hz)
        with np.errstate(divide="ignore"):  # a link that carries nothing is infinitely late
            first = np.sqrt(p[..., 0] * rows.task_bits / (rows.efficiency * c.gateway_band_hz))[..., None]
            second = np.sqrt(p[..., 2] * rows.task_bits / relay_hz)[..., None]
        at_gateway, at_edge = self.fetch_s(rows)
        values = []
        for band, price, cpu_hz, fetch in (
            (first, p[..., 1:2], c.gateway_cpu_hz, at_gateway),
            (first + second, p[..., 3:], c.edge_cpu_hz, at_edge),
        ):
            cpu = np.sqrt(price * rows.model_cycles / cpu_hz)
            room_s = deadline_s - fetch
            finite = (room_s > 0) & np.isfinite(band)
            band = np.where(np.isfinite(band), band, 1.0)
            x, y = split_deadline_s(deadline_s, band, cpu, np.where(room_s > 0, room_s, 0.5 * deadline_s))
            values.append(np.where(finite, accuracy - band**2 / x - cpu**2 / y, -np.inf))
        return values[0], values[1]

    def present_prices(self, observations: Array) -> Array:
        """Prices of the gateway's band and CPU, the relay and the server's CPU, (4,) or (B, N, 4)."""
        return np.array(dataclasses.astuple(self.prices.shared_by(self.config)))

    @cached_property
    def typical_relay_efficiency(self) -> float:
        """bit/s/Hz of a gateway at the mean distance, without fading."""
        c = self.config
        distance_m = 0.5 * (c.gateway_distance_min_m + c.gateway_distance_max_m)
        gain = from_db(-path_loss_db(distance_m, c.gateway_pathloss_1m_db, 10.0 * c.pathloss_exponent))
        return float(spectral_efficiency(gain, c.gateway_power_w / c.noise_power_w, snr_gap=1.0))


# --- gateways and server -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeadlineRule:
    """Constants of the sharing rule by deadlines.

    Attributes:
        first_hop: part of a relayed task's deadline that its first hop may take.
        band_burden: weight of band against CPU in the order of shedding.
        server: the server shares by deadline too, over what the first hop leaves; else by need.
    """

    first_hop: float = 0.55
    band_burden: float = 1.0
    server: bool = False


PRINTED = DeadlineRule()
IMPROVED = DeadlineRule(first_hop=0.67, band_burden=3.0, server=True)


def scores_of(share: Array) -> Array:
    """Shares (B, ..., n) of pools -> scores in [-1, 1] whose weights are proportional to them; all -1 if all are 0."""
    most = share.max(axis=-1, keepdims=True)
    scores: Array = 2.0 * share / np.where(most > 0, most, 1.0) - 1.0
    return scores


def keep_scores(keep: Keep, wanted: Array, rng: np.random.Generator) -> Array:
    """Keep scores (..., 2, K) of models (..., K, 2): those wanted at this node now, none, all, or fair coins."""
    if keep == "random":
        flags = rng.uniform(-1.0, 1.0, wanted.shape)
    elif keep == "used":
        flags = np.where(wanted, 1.0, -1.0)
    else:
        flags = np.full(wanted.shape, 1.0 if keep == "all" else -1.0)
    return np.moveaxis(flags, -1, -2)


def wanted_models(here: Array, heavy: Array) -> Array:
    result: Array = here[..., None] & np.stack([~heavy, heavy], axis=-1)
    return result


class GatewayRule(PlacementController):
    """A gateway that shares band and CPU among its devices.

    Args:
        shares: uniform scores, equal scores, by need, or by deadline.
        keep: models that stay.
        rule: constants of the sharing by deadlines.
    """

    def __init__(self, shares: Shares, keep: Keep = "used", rule: DeadlineRule = PRINTED) -> None:
        self.how, self.keep, self.rule = shares, keep, rule

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        c = self.config
        cells, g, k = len(observations), c.num_gateways, c.devices_per_gateway
        rows = device_rows(c, observations[..., : GATEWAY_ROW * k].reshape(cells, g, k, GATEWAY_ROW))
        told = np.rint(observations[..., GATEWAY_ROW * k + 3 :]).astype(int)
        if not told.shape[-1]:  # nobody tells: nothing is known to be wanted
            told = np.zeros((cells, g, k), int)
        local, heavy = (told & LOCAL_BIT) > 0, (told & HEAVY_BIT) > 0
        band, cpu = self._scores(rows, local, heavy, rng)
        keep = keep_scores(self.keep, wanted_models(local, heavy), rng).reshape(cells, g, 2 * k)
        return Act(np.concatenate([band, cpu, keep], axis=-1))

    def _scores(self, rows: Rows, local: Array, heavy: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        shape = rows.task_bits.shape
        if self.how == "random":
            return rng.uniform(-1.0, 1.0, shape), rng.uniform(-1.0, 1.0, shape)
        if self.how == "equal":
            return np.zeros(shape), np.zeros(shape)
        cycles, per_s = at_level(rows.model_cycles, heavy), rows.task_bits / rows.deadline_s
        band_need = np.divide(per_s, rows.efficiency, out=np.zeros(shape), where=rows.efficiency > 0)
        cpu_need = cycles / rows.deadline_s
        if self.how == "need":
            band, cpu = band_need, cpu_need * local
        else:
            band, cpu = self._by_deadline(rows, local, heavy, cycles)
        return self.prior_scores(band, band_need), self.prior_scores(cpu, cpu_need)

    def _by_deadline(self, rows: Rows, local: Array, heavy: Array, cycles: Array) -> tuple[Array, Array]:
        c, shape = self.config, rows.task_bits.shape
        deadline = rows.deadline_s
        with np.errstate(divide="ignore"):
            band_s = rows.task_bits / (rows.efficiency * c.gateway_band_hz)
        cpu_s = cycles / c.gateway_cpu_hz
        ready, fetch_s = self._ready(rows, local, heavy)
        member = ready & (local | c.first_hop_counted_for_relayed)
        burden = self.rule.band_burden * band_s / deadline + np.where(local, cpu_s / deadline, 0.0)
        time_s = np.where(local, deadline, self.rule.first_hop * deadline)
        shares = deadline_shares(*(
            values.reshape(-1, shape[-1]) for values in (band_s, cpu_s, time_s, fetch_s, member, local, burden)
        ))  # fmt: skip
        return shares.band.reshape(shape), shares.cpu.reshape(shape)

    def _ready(self, rows: Rows, local: Array, heavy: Array) -> tuple[Array, Array]:
        """Tasks that the gateway does not see refused, and the time at which their model is there (0 if relayed).

        Of relayed tasks it knows the delay of their model, not whether the server has room.
        """
        bits = at_level(rows.model_bits, heavy)
        here, there = at_level(rows.cached_gateway, heavy), at_level(rows.cached_edge, heavy)
        fetch_s = np.where(
            local, self.scenario.gateway_fetch_s(bits, here, there), self.scenario.edge_fetch_s(bits, there)
        )
        in_time = fetch_s <= rows.deadline_s
        asking = local & ~here & in_time
        used = (rows.model_bits * rows.cached_gateway).sum(axis=(-1, -2)).reshape(-1)
        flat = (-1, bits.shape[-1])
        fetched = admit_in_order(bits.reshape(flat), asking.reshape(flat), used, self.config.gateway_cache_bits)
        ready = np.where(local, here | fetched.reshape(bits.shape), in_time)
        return ready, np.where(local, fetch_s, 0.0)


@dataclass(frozen=True)
class RelayedTasks:
    """All tasks of a network in the server's eyes, (B, N) each."""

    relayed: Array
    heavy: Array
    member: Array  # relayed, and the model is there or arrives by the deadline
    band_s: Array  # seconds at the whole relay band; infinite on a dead link
    cpu_s: Array  # seconds at the whole server CPU
    deadline_s: Array
    rest_s: Array  # what the first hop leaves of the deadline


class ServerRule(PlacementController):
    """The server, sharing the relay band and its CPU among relayed tasks; arguments as for `GatewayRule`."""

    def __init__(self, shares: Shares, keep: Keep = "used", rule: DeadlineRule = PRINTED) -> None:
        self.how, self.keep, self.rule = shares, keep, rule

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        tasks = self.relayed_tasks(observations)
        band, cpu = self._scores(tasks, rng)
        keep = keep_scores(self.keep, wanted_models(tasks.relayed, tasks.heavy), rng).reshape(len(observations), -1)
        return Act(np.concatenate([band, cpu, keep], axis=-1)[:, None, :])

    def relayed_tasks(self, observations: Array) -> RelayedTasks:
        """The slot's tasks as the server sees them and is told about them."""
        c = self.config
        cells, n, g = len(observations), c.num_devices, c.num_gateways
        row = observations[:, 0]
        rows = server_rows(c, row[:, : SERVER_ROW * n].reshape(cells, n, SERVER_ROW))
        relay = row[:, SERVER_ROW * n : SERVER_ROW * n + g].astype(np.float64) * c.spectral_efficiency_scale
        told = np.rint(row[:, SERVER_ROW * n + g + 1 : SERVER_ROW * n + g + 1 + n]).astype(int)
        if not told.shape[-1]:
            told = np.full((cells, n), LOCAL_BIT)
        relayed, heavy = (told & LOCAL_BIT) == 0, (told & HEAVY_BIT) > 0
        with np.errstate(divide="ignore"):
            band_s = rows.task_bits / (np.repeat(relay, c.devices_per_gateway, axis=1) * c.relay_bandwidth_hz)
        cycles = at_level(rows.model_cycles, heavy)
        bits, there = at_level(rows.model_bits, heavy), at_level(rows.cached_edge, heavy)
        in_time = self.scenario.edge_fetch_s(bits, there) <= rows.deadline_s
        rest_s = (1.0 - self.first_hop(row[:, SERVER_ROW * n + g + 1 + n :])) * rows.deadline_s
        return RelayedTasks(relayed, heavy, relayed & in_time, band_s, cycles / c.edge_cpu_hz, rows.deadline_s, rest_s)

    def first_hop(self, told: Array) -> Array:
        """Part of a deadline that the first hop takes, from further messages (B, m); broadcasts to (B, N)."""
        return np.array(self.rule.first_hop)

    def _scores(self, tasks: RelayedTasks, rng: np.random.Generator) -> tuple[Array, Array]:
        shape = tasks.relayed.shape
        if self.how == "random":
            return rng.uniform(-1.0, 1.0, shape), rng.uniform(-1.0, 1.0, shape)
        if self.how == "equal":
            return np.zeros(shape), np.zeros(shape)
        band_need = np.where(np.isfinite(tasks.band_s), tasks.band_s, 0.0) / tasks.deadline_s
        cpu_need = tasks.cpu_s / tasks.deadline_s
        if self.how == "need":
            return self.prior_scores(band_need * tasks.relayed, band_need), self.prior_scores(
                cpu_need * tasks.relayed, cpu_need
            )
        burden = (self.rule.band_burden * tasks.band_s + tasks.cpu_s) / tasks.deadline_s
        shares = deadline_shares(
            tasks.band_s, tasks.cpu_s, tasks.rest_s, np.zeros(shape), tasks.member, tasks.relayed, burden
        )
        return self.prior_scores(shares.band, band_need), self.prior_scores(shares.cpu, cpu_need)


class PlacementTeam(Team):
    """A team of rules; by default devices act first, then gateways, then the server."""

    def __init__(
        self,
        name: str,
        device: Controller,
        gateway: Controller,
        server: Controller,
        order: Sequence[Sequence[str]] = (("device",), ("gateway",), ("server",)),
    ) -> None:
        super().__init__(name, {"device": device, "gateway": gateway, "server": server}, order=order)


def rule_team(name: str, devices: Controller, shares: DeadlineRule = PRINTED, keep: Keep = "used") -> PlacementTeam:
    """Devices with a rule under gateways (and a server) that share by deadline."""
    server: Any = ServerRule("deadline" if shares.server else "need", keep, shares)
    return PlacementTeam(name, devices, GatewayRule("deadline", keep, shares), server)
