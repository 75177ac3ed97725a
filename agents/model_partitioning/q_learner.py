"""Parametric Q-learning for `model_partitioning`: every device has its own two parameters and its own row.

With square-root shares a device that brings a load s^2 to a resource pays s^2 + s S there, and all others together pay
s S more because of it; S, the sum of the others' roots, is all that it does not know. The band is alike up to a
logarithm, with t and T. A device learns E[T] and E[S] by recursive least squares from what its own ledger entry holds
beside the part that it can compute, and acts on twice of it: what the others cost it is what it costs them. The future
enters through the virtual queues: a unit of queue is paid, at the budget, in every later slot, discounted. Fading and
loads vary which cut is best from slot to slot, so that nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.agents.api import restored
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_partitioning.rules import CutController
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.queueing import virtual_queue
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenario import Scenario

FEATURES = 2


@dataclass(frozen=True)
class OwnValues:
    """What a device computes by itself for every cut; (B, N, M+1)."""

    cost: Array  # its ledger entry if nobody else took part
    later: Array  # gamma times the value of its queues after the slot
    roots: Array  # (B, N, M+1, 2): t and s


class CutLearner(CutController):
    """Online Q-learning of every device for itself; no parameter is shared, no message is sent.

    Args:
        discount: gamma per slot.
        prior_weight: how strongly the start is believed; the covariance begins at V / prior_weight.
        noise: variance of a cost sample around the linear model, in V^2, as costs grow with V.
    """

    def __init__(self, discount: float = 0.5, prior_weight: float = 30.0, noise: float = 0.01) -> None:
        if not 0.0 <= discount < 1.0:
            raise ValueError(f"discount = {discount} is not legal: must be >= 0 and < 1")
        for name, value in (("prior_weight", prior_weight), ("noise", noise)):
            if value <= 0.0:
                raise ValueError(f"{name} = {value} is not legal: must be > 0")
        self.discount, self.prior_weight, self.noise = discount, prior_weight, noise

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        n, v = self.network.config.num_devices, self.network.config.delay_weight
        self.model = LeastSquares((cells, n), FEATURES, v / self.prior_weight, self.noise * v**2)
        self.sampled = np.zeros((cells, n), bool)  # has offloaded, so that the ledger told something
        self._roots = np.zeros((cells, n, FEATURES))  # of the cut taken, and the cost it was known to have
        self._known = np.zeros((cells, n))
        self._cost = np.full((cells, n), np.nan)  # NaN: no sample waits

    # --- acting ------------------------------------------------------------------------------------------------------

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        own = self.own_values(observations)
        if not np.isnan(self._cost).any():
            self._learn()
        model = self.model  # its weights are E[T], E[S]
        model.weights = np.where(self.sampled[..., None], model.weights, self._guess(observations))
        waiting = np.einsum("bnlf,bnf->bnl", own.roots, model.weights)
        cut = np.asarray((own.cost + 2.0 * waiting + own.later).argmin(axis=2))
        taken = cut[..., None]
        self._roots = np.take_along_axis(own.roots, taken[..., None], axis=2)[:, :, 0]
        self._known = np.take_along_axis(own.cost, taken, axis=2)[..., 0]
        return cut

    def own_values(self, observations: Array) -> OwnValues:
        """What follows from a device's own row for every cut."""
        network, c = self.network, self.network.config
        q, w, rate, snr = (values[..., None] for values in self.own_state(observations))
        cuts = network.cuts
        local = network.local_part(cuts, q, w, rate)
        rate_bps = fdma_rate_bps(np.ones(1), c.bandwidth_hz, snr)
        t = np.sqrt(network.transmission_weight(q, rate) * cuts.sent_bits / rate_bps)
        s = np.broadcast_to(np.sqrt(network.edge_load(cuts.edge_cycles)), t.shape)
        energy_budget, memory_budget = network.energy_budget_j[:, None], network.memory_budget_bytes[:, None]
        nu_e, nu_c = c.energy_queue_scale, c.memory_queue_scale / c.memory_unit_bytes
        next_q = virtual_queue(q, nu_e * local.energy_j, nu_e * energy_budget)
        next_w = virtual_queue(w, nu_c * cuts.memory_bytes, nu_c * memory_budget)
        later = energy_budget * next_q + memory_budget / c.memory_unit_bytes * next_w
        later = later * (self.discount / (1.0 - self.discount))
        return OwnValues(local.cost + t * t + s * s, later, np.stack([t, s], axis=3))

    def _guess(self, observations: Array) -> Array:
        """(B, N, 2): the roots of the broadcast prices, which are the sums over all, without an own Nth part.

        What a device that has not offloaded yet goes by: where nobody offloads prices fall until somebody tries.
        """
        shown = observations[..., 5:7].astype(np.float64)
        price = self.network.price_reference * shown / np.maximum(1.0 - shown, 1e-9)
        n = self.network.config.num_devices
        return np.asarray(np.sqrt(price) * (n - 1) / n)

    # --- learning ----------------------------------------------------------------------------------------------------

    def feedback(self, costs: Array) -> None:
        self._cost = np.array(costs, np.float64)

    def _learn(self) -> None:
        """One step of recursive least squares of every device; one that stayed local has roots 0 and learns nothing."""
        self.model.update((), self._roots, self._cost - self._known)
        self.sampled |= self._roots.any(axis=2)
        self._cost = np.full_like(self._cost, np.nan)

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Weights, covariances and the sample that waits for the next slot."""
        return {
            **self.model.state_dict(), "sampled": self.sampled.copy(),
            "roots": self._roots.copy(), "known": self._known.copy(), "cost": self._cost.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state)
        self.sampled = restored(state, "sampled", self.sampled)
        self._roots = restored(state, "roots", self._roots)
        self._known = restored(state, "known", self._known)
        self._cost = restored(state, "cost", self._cost)
