"""Rules that choose a device's cut from its own row: fixed, random, greedy under guessed or priced shares."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, Controller
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms, priced_cuts


def shared_cost(scenario: ModelPartitioning, terms: CutTerms, share: Array) -> Array:
    """(B, N, M+1) cost of every cut if it gets `share` of the band and of the edge CPU; broadcasts."""
    rate_bps = fdma_rate_bps(share, scenario.config.bandwidth_hz, terms.snr[..., None])
    return terms.own_cost + terms.weight / rate_bps + terms.load / share


class CutController(Controller):
    """Chooses a cut per device; subclasses give `choose`. Works under every rule of the resources."""

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        if not isinstance(scenario, ModelPartitioning):
            raise ValueError(f"{type(self).__name__} plays model_partitioning, not {scenario.name}")
        self.network = scenario

    @abstractmethod
    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        """Cut (B, N) of every device from its own row (B, N, 7)."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        cut = np.minimum(self.choose(observations, rng), self.network.layers)
        if self.network.config.local_cpu_rule == "optimal":
            return Act(actions=cut)
        q, w, rate, _ = self.own_state(observations)  # the device sets its own clock: by the same convex problem
        part = self.network.local_part(self.network.cuts.at(cut), q, w, rate)
        return Act(decisions={"partition_layer": cut, "device_cpu_hz": part.cpu_hz})

    def own_state(self, observations: Array) -> tuple[Array, Array, Array, Array]:
        """Q, W, lambda and s (B, N) as each device reads them from its row."""
        network, c = self.network, self.network.config
        row = observations.astype(np.float64)
        energy_reference, memory_reference = network.queue_reference
        snr = 10.0 ** row[..., 0] * network.mean_gain * (c.transmit_power_w / (c.bandwidth_hz * c.noise_psd_w_per_hz))
        rate = row[..., 1] * (c.device_cpu_hz / network.total_cycles)
        return row[..., 2] * energy_reference, row[..., 3] * memory_reference, rate, snr

    def broadcast_prices(self, observations: Array) -> Array:
        """(B, N, 2) prices of band and edge CPU that a row shows."""
        shown = observations[..., 5:7].astype(np.float64)
        return np.asarray(self.network.price_reference * shown / np.maximum(1.0 - shown, 1e-9))

    def terms(self, observations: Array) -> CutTerms:
        return self.network.cut_terms(*self.own_state(observations))


class AllLocal(CutController):
    """The whole network on the device."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        return np.broadcast_to(self.network.layers, observations.shape[:2])


class AllEdge(CutController):
    """The raw input goes to the edge."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        return np.zeros(observations.shape[:2], np.int64)


class RandomCut(CutController):
    """A cut of the own network, uniform on 0..L_n."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        return rng.integers(0, self.network.layers + 1, observations.shape[:2])


class EqualShareGreedy(CutController):
    """Least own cost, as if all N devices always took part: shares 1/N."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        return self._cheapest(observations, np.asarray(1.0 / self.network.config.num_devices))

    def _cheapest(self, observations: Array, share: Array) -> Array:
        return np.asarray(shared_cost(self.network, self.terms(observations), share).argmin(axis=2))


class CrowdGreedy(EqualShareGreedy):
    """Least own cost with shares 1/(1 + crowd (N - 1)); crowd is the broadcast fraction of devices that offload."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        crowd = observations[..., 4:5].astype(np.float64)
        return self._cheapest(observations, 1.0 / (1.0 + crowd * (self.network.config.num_devices - 1)))


class PriceGreedy(CutController):
    """Least own cost plus what the shares cost others, at the two broadcast prices."""

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        price = self.broadcast_prices(observations)
        prices = price[..., :1], price[..., 1:]
        cost, _, _ = priced_cuts(self.terms(observations), prices, self.network.config.bandwidth_hz)
        return np.asarray(cost.argmin(axis=2))


class EvenServer(Controller):
    """A server that gives everyone the same weight: the convex solution where weights correct it, else equal shares."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        space: Any = self.scenario.roles["server"].action_space
        return Act(actions=np.zeros((len(observations), 1, *space.shape)))
