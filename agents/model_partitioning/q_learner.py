"""Parametric Q-learning for `model_partitioning`: every device has its own four parameters and its own row.

What a device cannot know is what the others bring to band and edge CPU, two roots (`congestion`), and what its own
queues will cost later, two slopes (`queue_worth`). It learns the roots by recursive least squares from what its own
ledger entry holds beside the part that it can compute, the slopes by temporal differences of its own queues, and takes
the cut that costs itself, the others and its own later slots least: what the others cost it tells what it costs them.
Fading and loads vary which cut is best from slot to slot, so that nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import check_entries, restored
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_partitioning.congestion import costs_beside, taken
from edgemarl.agents.model_partitioning.queue_worth import QueueWorth
from edgemarl.agents.model_partitioning.rules import CutController
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms

FEATURES = 2
DISCOUNT = 0.95
ROOT_MIN = 1e-6
"""Smallest root of the band's price, in sqrt(V): least squares may try a negative one."""


class CutLearner(CutController):
    """Online Q-learning of every device for itself; no parameter is shared, no message is sent.

    Args:
        discount: gamma per slot.
        prior_weight: how strongly the start is believed; the covariance begins at V N / 5 over prior_weight.
        noise: variance of a cost sample around the linear model, in V^2, as costs grow with V.
        forgetting: weight that a sample of the others keeps per further one.
    """

    def __init__(
        self, discount: float = DISCOUNT, prior_weight: float = 80.0, noise: float = 0.01, forgetting: float = 0.98
    ) -> None:
        if not 0.0 <= discount < 1.0:
            raise ValueError(f"discount = {discount} is not legal: must be >= 0 and < 1")
        for name, value in (("prior_weight", prior_weight), ("noise", noise)):
            if value <= 0.0:
                raise ValueError(f"{name} = {value} is not legal: must be > 0")
        if not 0.0 < forgetting <= 1.0:
            raise ValueError(f"forgetting = {forgetting} is not legal: must be > 0 and <= 1")
        self.discount, self.prior_weight, self.noise, self.forgetting = discount, prior_weight, noise, forgetting

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        n, v = self.network.config.num_devices, self.network.config.delay_weight
        variance = self.network.price_reference / self.prior_weight  # of roots, whose squares are prices
        self.model = LeastSquares((cells, n), FEATURES, variance, self.noise * v**2, self.forgetting, bounded=True)
        self.worth = QueueWorth(self.network, cells, self.discount, start=1.0)
        self.sampled = np.zeros((cells, n), bool)  # has offloaded, so that the ledger told something
        self._features = np.zeros((cells, n, FEATURES))  # of the cut taken, and the cost it was known to have
        self._known = np.zeros((cells, n))
        self._cost = np.full((cells, n), np.nan)  # NaN: no sample waits

    # --- acting ------------------------------------------------------------------------------------------------------

    def choose(self, observations: Array, rng: np.random.Generator) -> Array:
        q, w, rate, snr = self.own_state(observations)
        self.worth.learn(q, w)
        if not np.isnan(self._cost).any():
            self._learn()
        told = self.told(observations)
        least = ROOT_MIN * np.sqrt(self.network.config.delay_weight)
        roots = np.maximum(self.model.weights * told, [least, 0.0])
        terms = self.network.cut_terms(q, w, rate, snr)
        valued = self.worth.valued(terms, q, w, rate)
        cost, air = costs_beside(valued, roots, self.network.config.bandwidth_hz)
        cut = np.asarray(cost.argmin(axis=2))
        sends = taken(terms.weight, cut) > 0.0
        held = np.where(sends, taken(terms.weight, cut) / np.where(sends, taken(valued.weight, cut), 1.0), 1.0)
        air_cost = taken(air, cut) * held
        self._remember(cut, terms, air_cost, roots, told)
        weight = self.network.transmission_weight(q, rate)
        sent_j = self.network.joule_rate(rate) * (air_cost / weight)
        self.worth.played(cut, taken(terms.own_energy_j, cut) + sent_j, q, w, rate)
        return cut

    def told(self, observations: Array) -> Array:
        """(B, N, 2) numbers that the learned weights multiply to give the others' roots: 1, nobody tells any.

        Until a device has offloaded once its weights are the roots of the broadcast prices, which are the sums over
        all, without an own Nth part: where nobody offloads prices fall until somebody tries.
        """
        price = self.broadcast_prices(observations)
        n = self.network.config.num_devices
        self.model.weights = np.where(self.sampled[..., None], self.model.weights, np.sqrt(price) * (n - 1) / n)
        return np.ones_like(price)

    # --- learning ----------------------------------------------------------------------------------------------------

    def _remember(self, cut: Array, terms: CutTerms, air_cost: Array, roots: Array, told: Array) -> None:
        """What the ledger will be compared with.

        Beyond its cost with the whole band transmission costs a root of the device's own times that of the others.
        """
        alone = taken(terms.whole_band(self.network.config.bandwidth_hz), cut)
        own = np.stack([np.maximum(air_cost - alone, 0.0) / roots[..., 0], np.sqrt(taken(terms.load, cut))], axis=2)
        self._features = own * told
        self._known = taken(terms.own_cost, cut) + alone + taken(terms.load, cut)

    def feedback(self, costs: Array) -> None:
        self._cost = np.array(costs, np.float64)

    def _learn(self) -> None:
        """One step of recursive least squares of every device that offloaded; from a local slot there is none."""
        seen = np.nonzero(self._features.any(axis=2))
        self.model.update(seen, self._features[seen], (self._cost - self._known)[seen])
        self.sampled[seen] = True
        self._cost = np.full_like(self._cost, np.nan)

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Weights, covariances, slopes and the sample that waits for the next slot."""
        return {
            **self.model.state_dict(), "worth": self.worth.state_dict(), "sampled": self.sampled.copy(),
            "features": self._features.copy(), "known": self._known.copy(), "cost": self._cost.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_entries(self, state)
        self.model.load_state_dict(state)
        self.worth.load_state_dict(state["worth"])
        self.sampled = restored(state, "sampled", self.sampled)
        self._features = restored(state, "features", self._features)
        self._known = restored(state, "known", self._known)
        self._cost = restored(state, "cost", self._cost)
