"""What a unit of a device's virtual queues will cost, learned online while it plays; vectorised over cells and devices.

Drift plus penalty prices a joule at the queue of the slot, Q. What the joule leaves in the queue is priced again in
every later slot until the queue is empty, which the slot's optimum does not count. With optimal choices the slope of
the value in Q is, by the envelope theorem, the energy that is spent at it,

    slope = E + gamma (1 + nu dE/dQ) [Q' > 0] slope',

where 1 + nu dE/dQ < 1 is how much of a unit outlives the slot: a CPU runs slower the longer the queue. The slope of the
memory queue is the same with C in place of E and nothing that falls. Each device has one slope per queue, found by
least squares of temporal differences with forgetting (LSTD: S. Bradtke, A. Barto, Machine Learning 22, 1996), from its
own slots; no law of channels or requests is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgemarl.agents.api import restored
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.queueing import virtual_queue
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms

PRIOR = 5.0
"""Slots for which the start counts."""
FORGETTING = 0.98
"""Weight that a slot keeps per slot: queues and loads drift."""
NUDGE = 0.01
"""Step of the difference quotient dE/dQ, of the queue's reference."""
SAMPLE = ("energy", "outlives", "memory", "energy_queue", "memory_queue")


class QueueWorth:
    """Slopes of the values of both queues of every device, in budgets: how many slots a unit is paid.

    Args:
        network: the network.
        cells: B.
        discount: gamma per slot; 0: the slot alone counts.
        start: first slope of both queues.

    Attributes:
        energy, memory: (B, N) slopes.
    """

    def __init__(self, network: ModelPartitioning, cells: int, discount: float, start: float) -> None:
        self.network, self.discount = network, discount
        shape = (cells, network.config.num_devices)
        self.energy, self.memory = np.full(shape, start), np.full(shape, start)
        self._sums = np.full((2, 2, *shape), PRIOR)  # of queue, (weight, cost)
        self._sums[:, 1] *= start
        self._sample = np.zeros((len(SAMPLE), *shape))

    def energy_price(self) -> Array:
        """(B, N) what a joule costs in later slots."""
        c = self.network.config
        return np.asarray(self.discount * c.energy_queue_scale * self.energy * self.network.energy_budget_j)

    def valued(self, terms: CutTerms, energy_queue: Array, memory_queue: Array, arrival_rate_hz: Array) -> CutTerms:
        """Terms of cuts that also hold what the queues (B, N) after the slot are worth, energy of sending included."""
        network, c = self.network, self.network.config
        unit, cuts = c.memory_unit_bytes, network.cuts
        nu_e, nu_c = c.energy_queue_scale, c.memory_queue_scale / unit
        energy_budget, memory_budget = network.energy_budget_j[:, None], network.memory_budget_bytes[:, None]
        next_q = virtual_queue(energy_queue[..., None], nu_e * terms.own_energy_j, nu_e * energy_budget)
        next_w = virtual_queue(memory_queue[..., None], nu_c * cuts.memory_bytes, nu_c * memory_budget)
        later = self.energy[..., None] * energy_budget * next_q + self.memory[..., None] * memory_budget / unit * next_w
        second = self.energy_price() * network.joule_rate(arrival_rate_hz)
        return replace(
            terms,
            own_cost=terms.own_cost + self.discount * later,
            weight=terms.weight + second[..., None] * cuts.sent_bits,
        )

    def played(
        self, cut: Array, energy_j: Array, energy_queue: Array, memory_queue: Array, arrival_rate_hz: Array
    ) -> None:
        """What was done in a slot, (B, N) each; `learn` follows when its next queues are seen."""
        network, at = self.network, self.network.cuts.at(cut)
        step = NUDGE * network.queue_reference[0]
        low, high = (
            network.local_part(at, queue, memory_queue, arrival_rate_hz).energy_j
            for queue in (energy_queue, energy_queue + step)
        )
        outlives = np.clip(1.0 + network.config.energy_queue_scale * (high - low) / step, 0.0, 1.0)
        memory = at.memory_bytes / network.memory_budget_bytes
        self._sample = np.stack([energy_j / network.energy_budget_j, outlives, memory, energy_queue, memory_queue])

    def learn(self, energy_queue: Array, memory_queue: Array) -> None:
        """One sample of the slot that `played` told, from the queues (B, N) that it left; empty ones taught nothing."""
        energy, outlives, memory, queue, held = self._sample
        self.energy = self._solved(0, queue > 0.0, energy, outlives * (energy_queue > 0.0))
        self.memory = self._solved(1, held > 0.0, memory, (memory_queue > 0.0) * 1.0)

    def _solved(self, which: int, seen: Array, cost: Array, outlives: Array) -> Array:
        """The slope at which cost + gamma outlives slope - slope is 0 on average."""
        sample = np.stack([1.0 - self.discount * outlives, cost])
        self._sums[which] = np.where(seen, FORGETTING * self._sums[which] + sample, self._sums[which])
        return np.asarray(self._sums[which, 1] / self._sums[which, 0])

    def state_dict(self) -> dict[str, Any]:
        return {
            "energy": self.energy.copy(), "memory": self.memory.copy(), "sums": self._sums.copy(),
            "sample": self._sample.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.energy, self.memory = restored(state, "energy", self.energy), restored(state, "memory", self.memory)
        self._sums, self._sample = restored(state, "sums", self._sums), restored(state, "sample", self._sample)
