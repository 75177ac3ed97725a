"""Baselines of the sampling-rate scenario that act on a device's own row: myopic rules, constants, chance.

A device reads its backlog, link rate, batch and the broadcast deficits by inverting the observation's normalisation.
Ties go to the smallest action index. docs/sampling_rate.md defines every rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, Controller
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.processes import stationary_distribution
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate


@dataclass(frozen=True)
class DeviceRows:
    """What a device's row says, in physical units.

    Attributes:
        queue_bits: own backlog B_n, (B, N).
        rate_bps: own link rate R_n, (B, N).
        raw_bits: own batch at the full sampling rate, (B, N).
        deficit: broadcast Z, (B, N, M).
        server_queue_bits: broadcast Q, (B, N, M).
    """

    queue_bits: Array
    rate_bps: Array
    raw_bits: Array
    deficit: Array
    server_queue_bits: Array

    @classmethod
    def read(cls, scenario: SamplingRate, observations: Array) -> DeviceRows:
        rows = observations.astype(np.float64)
        m = scenario.config.num_services
        return cls(
            rows[..., 0] * scenario.device_bits_per_slot,
            rows[..., 1] * scenario.rate_bps_max,
            rows[..., 2] * scenario.config.arrival_max * scenario.raw_bits_per_task,
            rows[..., 3 + m : 3 + 2 * m],
            rows[..., 3 + 2 * m : 3 + 3 * m] * scenario.server_bits_per_slot,
        )

    def option_costs_s(self, scenario: SamplingRate) -> tuple[Array, Array]:
        """Costs in s and offloaded bits of the own options, (B, N, 2K), with the deficit priced at Z_m / V."""
        own = np.take_along_axis(self.deficit, scenario.service[None, :, None], axis=2)[..., 0]
        return scenario.option_costs_s(
            self.queue_bits, self.rate_bps, self.raw_bits, own / scenario.config.balance_per_s
        )


class SamplingRateController(Controller):
    """A controller of the sampling-rate devices or of its server."""

    scenario: SamplingRate

    def reset(self, scenario: Scenario, cells: int) -> None:
        if not isinstance(scenario, SamplingRate):
            raise ValueError(f"{type(self).__name__} needs the scenario sampling_rate, got {scenario.name}")
        super().reset(scenario, cells)


def server_price_s_per_bit(scenario: SamplingRate, share: Array, waiting: bool) -> Array:
    """Server seconds per bit eta / (c f_b), (.., M); with the delay that it causes to others, times (N_m + 1)/2."""
    factor = (scenario.service_size + 1.0) / 2.0 if waiting else 1.0
    return np.asarray(scenario.server_cycles_per_bit * factor / (share * scenario.config.server_hz))


class Myopic(SamplingRateController):
    """Each device takes its cheapest option at a price per offloaded bit that assumes the fixed shares.

    Args:
        social: charge also the waiting that the device's bits cause to its service; otherwise the own processing only.
    """

    def __init__(self, social: bool) -> None:
        self.social = social

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self._price = server_price_s_per_bit(self.scenario, self.scenario.fixed_share, self.social)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        cost, bits = DeviceRows.read(self.scenario, observations).option_costs_s(self.scenario)
        return Act(np.argmin(cost + bits * self._price[self.scenario.service][:, None], axis=-1))


class BroadcastPrice(SamplingRateController):
    """As the social myopic rule, at the shares that a nominal population would get under the broadcast Z and Q.

    Every device computes the same prices from the broadcast alone; two services.
    """

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self._nominal = NominalPopulation(self.scenario)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        s = self.scenario
        rows = DeviceRows.read(s, observations)
        first = self._nominal.share_of_rows(rows.deficit, rows.server_queue_bits)  # (B, N) of service 0
        own = np.where(s.service == 0, first, 1.0 - first)
        factor = s.server_cycles_per_bit * (s.service_size + 1.0) / (2.0 * s.config.server_hz)
        cost, bits = rows.option_costs_s(s)
        return Act(np.argmin(cost + bits * (factor[s.service] / own)[..., None], axis=-1))


class NominalPopulation:
    """Devices as the config describes them: four arrival quantiles times the stationary channel states, no backlog.

    Args:
        scenario: must have two services.
    """

    QUANTILES = 4

    def __init__(self, scenario: SamplingRate) -> None:
        c = scenario.config
        if c.num_services != 2:
            raise ValueError(f"broadcast_price needs 2 services, devices_per_service has {c.num_services}")
        self.scenario = scenario
        states = stationary_distribution(np.asarray(c.channel_transition))
        middle = (np.arange(self.QUANTILES) + 0.5) / self.QUANTILES
        arrivals = np.maximum(c.arrival_mean + c.arrival_half_width * (2.0 * middle - 1.0), 0.0)
        self.types = len(states) * self.QUANTILES
        self.service = np.repeat([0, 1], self.types)
        self.arrivals = np.tile(np.repeat(arrivals, len(states)), 2)
        self.gains = np.tile(c.channel_gains, 2 * self.QUANTILES)
        population = np.tile(states / self.QUANTILES, 2 * self.QUANTILES)
        self.weight = (population * scenario.service_size[self.service]).reshape(2, self.types)

    @cached_property
    def shares(self) -> Array:
        """(C, 2) candidate shares of the two services."""
        first = np.concatenate([[0.001], np.arange(2, 99) / 100, [0.999]])
        return np.stack([first, 1.0 - first], axis=1)

    def share(self, deficit: Array, server_queue_bits: Array) -> Array:
        """Share of service 0 (R,) that minimises the nominal one-slot cost for rows Z, Q (R, 2)."""
        s = self.scenario
        raw_bits = self.arrivals * np.asarray(s.config.raw_task_bits)[self.service]
        weight = (deficit / s.config.balance_per_s)[:, self.service]
        cost, bits = s.option_costs_s(
            np.zeros_like(raw_bits), s.link_rate_bps(self.gains), raw_bits, weight, self.service
        )  # (R, 2 types, 2K)
        price = server_price_s_per_bit(s, self.shares, waiting=True)  # (C, 2)
        total = (
            s.service_size * s.server_cycles_per_bit * server_queue_bits @ (1.0 / (self.shares.T * s.config.server_hz))
        )
        for m in (0, 1):
            mine = slice(m * self.types, (m + 1) * self.types)
            priced = cost[:, mine, :, None] + bits[mine][:, :, None] * price[:, m]
            total = total + np.einsum("rtc,t->rc", priced.min(axis=2), self.weight[m])
        best: Array = self.shares[np.argmin(total, axis=1), 0]
        return best

    def share_of_rows(self, deficit: Array, server_queue_bits: Array) -> Array:
        """`share` for every device's own row, (B, N); computed once for a cell whose rows agree, as broadcasts do."""
        broadcast = np.concatenate([deficit, server_queue_bits], axis=-1)
        if (broadcast == broadcast[:, :1]).all():
            share = self.share(deficit[:, 0], server_queue_bits[:, 0])[:, None]
            return np.broadcast_to(share, broadcast.shape[:2])
        rows = broadcast.reshape(-1, broadcast.shape[-1])
        return self.share(rows[:, :2], rows[:, 2:]).reshape(broadcast.shape[:2])


class ConstantOptions(SamplingRateController):
    """Every device always takes its own constant option.

    Args:
        options: scenario -> action indices (N,).
    """

    def __init__(self, options: Any) -> None:
        self._options = options

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.options: Array = np.asarray(self._options(self.scenario), np.int64)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(np.broadcast_to(self.options, observations.shape[:2]))


def offload_full(scenario: SamplingRate) -> Array:
    """Everybody offloads at the full sampling rate."""
    return np.full(scenario.config.num_devices, scenario.config.num_rates - 1)


def local_full(scenario: SamplingRate) -> Array:
    """Everybody computes locally at the full sampling rate; misses targets above the compressed DNN's accuracy."""
    return np.full(scenario.config.num_devices, 2 * scenario.config.num_rates - 1)


class RandomOption(SamplingRateController):
    """Uniform over the 2K options."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(rng.integers(0, 2 * self.scenario.config.num_rates, observations.shape[:2]))


class ClosedFormShares(SamplingRateController):
    """A server that announces the shares of Theorem 1 for the loads of the slot: it corrects nothing."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(np.zeros((len(observations), 1, self.scenario.config.num_services)))


class FixedServerShares(SamplingRateController):
    """A server that always takes the fixed shares."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        share = np.broadcast_to(self.scenario.fixed_share, (len(observations), self.scenario.config.num_services))
        return Act(decisions={"share": share})


class NominalServerShares(SamplingRateController):
    """A server that takes the shares which `BroadcastPrice` devices assume, from its own row (Z, Q)."""

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self._nominal = NominalPopulation(self.scenario)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        rows = observations[:, 0].astype(np.float64)
        first = self._nominal.share(rows[:, :2], rows[:, 2:] * self.scenario.server_bits_per_slot)
        return Act(decisions={"share": np.stack([first, 1.0 - first], axis=1)})
