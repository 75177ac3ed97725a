"""Q-learning of the edge server in `model_partitioning`: what its shares do beyond the slot.

In a slot the convex solution minimises the objective for the cuts that were made; what it ignores is that transmission
takes energy, and that a joule stays in a device's queue. The server sees every device's queue, fading and load, knows
the shares that it gave, and so what energy each device spent. From these it learns for every device what a unit of its
energy queue will cost later (`queue_worth`), and divides the band as if a joule were already so dear. It starts at the
convex solution, to the last bit. Edge CPU moves no queue: there the convex solution is right for the long run too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edgemarl.agents.api import Act, Controller, check_entries, restored
from edgemarl.agents.model_partitioning.q_learner import DISCOUNT
from edgemarl.agents.model_partitioning.queue_worth import QueueWorth
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import corrected_shares, fdma_shares
from edgemarl.envs.physics.queueing import virtual_queue
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning

REPORT_BYTES = 12.0
"""Fading, load and energy queue of a device, which the server hears in every slot."""


class Seen(NamedTuple):
    """What the server's row says of every device, (B, N) each; `cut` is of the slot before."""

    snr: Array
    arrival_rate_hz: Array
    energy_queue: Array
    cut: Array


class ShareLearner(Controller):
    """Weights that correct the convex shares of the band by what the devices' queues will cost later.

    Under `bandwidth_rule` "corrected"; where the weights are the shares, "action", they are nearly even.

    Args:
        discount: gamma per slot.
    """

    role = "server"

    def __init__(self, discount: float = DISCOUNT) -> None:
        if not 0.0 <= discount < 1.0:
            raise ValueError(f"discount = {discount} is not legal: must be >= 0 and < 1")
        self.discount = discount

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        if not isinstance(scenario, ModelPartitioning):
            raise ValueError(f"{type(self).__name__} plays model_partitioning, not {scenario.name}")
        self.network = scenario
        self.worth = QueueWorth(scenario, cells, self.discount, start=0.0)
        self.memory_queue = np.zeros((cells, scenario.config.num_devices))  # of which it keeps account
        self._last = np.zeros((4, *self.memory_queue.shape))  # snr, load, queue, correction; 0: no slot yet

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        seen = self.seen(observations)
        if self._last.any():
            self._learn(seen)
        second = self.worth.energy_price() * self.network.joule_rate(seen.arrival_rate_hz)
        weight = self.network.transmission_weight(seen.energy_queue, seen.arrival_rate_hz)
        correction = np.sqrt(1.0 + second / weight)  # of shares that follow the roots of the weights
        self._last = np.stack([seen.snr, seen.arrival_rate_hz, seen.energy_queue, correction])
        floor = self.network.config.share_floor
        band = np.clip(correction / correction.max(axis=1, keepdims=True) * (1.0 + floor) - floor, 0.0, 1.0)
        return Act(actions=np.concatenate([band, np.ones_like(band)], axis=1)[:, None])

    def seen(self, observations: Array) -> Seen:
        """What a row (B, 1, 5 N) says."""
        network, c = self.network, self.network.config
        row = observations[:, 0].astype(np.float64).reshape(len(observations), c.num_devices, -1)
        snr = 10.0 ** row[..., 0] * network.mean_gain * (c.transmit_power_w / (c.bandwidth_hz * c.noise_psd_w_per_hz))
        sent, edge = network.cuts.fractions
        cut = (np.abs(sent - row[..., 2:3]) + np.abs(edge - row[..., 3:4])).argmin(axis=2)
        rate = row[..., 1] * (c.device_cpu_hz / network.total_cycles)
        return Seen(snr, rate, row[..., 4] * network.queue_reference[0], cut)

    def _learn(self, seen: Seen) -> None:
        """From the slot before, whose cuts and queues are seen now."""
        network, c = self.network, self.network.config
        snr, rate, queue, correction = self._last
        at = network.cuts.at(seen.cut)
        share = fdma_shares(network.transmission_weight(queue, rate) * at.sent_bits, snr)
        share = corrected_shares(share, correction if c.bandwidth_rule == "corrected" else None)
        sends = at.sent_bits > 0.0
        rate_bps = fdma_rate_bps(np.where(sends, share, 1.0), c.bandwidth_hz, snr)
        sent_s = np.where(sends, at.sent_bits / rate_bps, 0.0)
        own_j = network.local_part(at, queue, self.memory_queue, rate).energy_j
        self.worth.played(seen.cut, own_j + network.joule_rate(rate) * sent_s, queue, self.memory_queue, rate)
        nu_c = c.memory_queue_scale / c.memory_unit_bytes
        self.memory_queue = virtual_queue(self.memory_queue, nu_c * at.memory_bytes, nu_c * network.memory_budget_bytes)
        self.worth.learn(seen.energy_queue, self.memory_queue)

    def message_bytes(self) -> float:
        """Every device reports, whether it offloads or not."""
        return super().message_bytes() + REPORT_BYTES * self.network.config.num_devices

    def state_dict(self) -> dict[str, Any]:
        """Slopes, the account of the memory queues, and the slot that is to be learned from."""
        return {
            "worth": self.worth.state_dict(), "memory_queue": self.memory_queue.copy(), "last": self._last.copy()
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_entries(self, state)
        self.worth.load_state_dict(state["worth"])
        self.memory_queue = restored(state, "memory_queue", self.memory_queue)
        self._last = restored(state, "last", self._last)
