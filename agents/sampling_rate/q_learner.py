"""Parametric Q-learning for `sampling_rate`: every device has its own linear Q-function and its own row.

The Q-value of each of the 2K options is linear in [1, raw batch, raw batch / rate, Z_m, Q_m] of the device's own
service. It starts at what a device knows about itself (`delay_myopic`'s price, with the fixed shares as the guess) and
is corrected by recursive least squares on the device's own ledger entry. That entry does not hold the waiting which a
device causes to others; it charges itself for it, (N_m - 1)/2 p y for y offloaded bits at the price p of the fixed
shares, which needs no message. Without this charge the learners are as selfish as `delay_myopic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.sampling_rate.rules import DeviceRows, SamplingRateController, server_price_s_per_bit
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario

FEATURES = 5
BATCH_UNIT_BITS = 1e6
QUEUE_UNIT_BITS = 1e6


class OptionLearner(SamplingRateController):
    """Online Q-learning of every device for itself; no parameter is shared, no message is sent.

    Args:
        discount: gamma per slot; 0 because an action moves the future only through the deficits, which the row shows.
        prior_weight: how strongly the start is believed; the covariance begins at 1 / prior_weight.
        noise: variance of a cost sample around the linear model.
        forgetting: factor per update on the weight of old samples.
        social: charge itself for the waiting that it causes.
        exploration: probability of a uniformly drawn option in slot t is max(0.02, exploration / (1 + t / 10)).
    """

    def __init__(
        self,
        discount: float = 0.0,
        prior_weight: float = 3.0,
        noise: float = 1.0,
        forgetting: float = 1.0,
        exploration: float = 0.1,
        social: bool = True,
    ) -> None:
        for name, value, legal in (
            ("discount", discount, 0.0 <= discount < 1.0),
            ("forgetting", forgetting, 0.0 < forgetting <= 1.0),
            ("exploration", exploration, 0.0 <= exploration <= 1.0),
        ):
            if not legal:
                raise ValueError(f"{name} = {value} is not legal: must be a fraction")
        for name, value in (("prior_weight", prior_weight), ("noise", noise)):
            if value <= 0.0:
                raise ValueError(f"{name} = {value} is not legal: must be > 0")
        self.discount, self.prior_weight, self.noise = discount, prior_weight, noise
        self.forgetting, self.exploration, self.social = forgetting, exploration, social

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        n, options = self.scenario.config.num_devices, 2 * self.scenario.config.num_rates
        self.model = LeastSquares((cells, n, options), FEATURES, 1.0 / self.prior_weight, self.noise, self.forgetting)
        self._caused = self._waiting_caused()
        self.model.weights = np.repeat(self._start()[None], cells, axis=0)  # (B, N, 2K, F)
        self.slot = 0
        self._chosen = np.zeros((cells, n), np.int64)
        self._features = np.zeros((cells, n, FEATURES))
        self._cost: Array | None = None

    def _waiting_caused(self) -> Array:
        """(N, 2K) cost of the waiting that each option causes to others, per Mbit of the whole batch."""
        s, c = self.scenario, self.scenario.config
        caused = np.zeros((c.num_devices, 2 * c.num_rates))
        if self.social:
            alone, social = (server_price_s_per_bit(s, s.fixed_share, waiting=w)[s.service] for w in (False, True))
            fraction = np.arange(1, c.num_rates + 1) / c.num_rates
            caused[:, : c.num_rates] = c.balance_per_s * BATCH_UNIT_BITS * (social - alone)[:, None] * fraction
        return caused

    def _start(self) -> Array:
        """Weights (N, 2K, F) of the device's own model: its delays, the waiting it causes, its part of the deficit."""
        s, c = self.scenario, self.scenario.config
        fraction = np.arange(1, c.num_rates + 1) / c.num_rates
        price = server_price_s_per_bit(s, s.fixed_share, waiting=False)[s.service]
        local = c.slot_s / s.device_bits_per_slot
        weights = np.zeros((c.num_devices, 2 * c.num_rates, FEATURES))
        sent, kept = weights[:, : c.num_rates], weights[:, c.num_rates :]
        sent[..., 1] = c.balance_per_s * BATCH_UNIT_BITS * price[:, None] * fraction
        sent[..., 2] = c.balance_per_s * fraction
        kept[..., 1] = c.balance_per_s * BATCH_UNIT_BITS * local[:, None] * fraction
        missing = s.accuracy_target[:, None] - s.accuracy_of_options
        weights[:, :, 3] = (missing / s.service_size[:, None])[s.service]
        weights[..., 1] += self._caused
        return weights

    def features(self, observations: Array) -> Array:
        """(B, N, 5): 1, batch in Mbit, upload time of the whole batch in s, Z_m, Q_m in Mbit."""
        rows = DeviceRows.read(self.scenario, observations)
        own = self.scenario.service[None, :, None]
        columns = np.ones((*rows.raw_bits.shape, FEATURES))
        columns[..., 1] = rows.raw_bits / BATCH_UNIT_BITS
        columns[..., 2] = rows.raw_bits / rows.rate_bps
        columns[..., 3] = np.take_along_axis(rows.deficit, own, axis=2)[..., 0]
        columns[..., 4] = np.take_along_axis(rows.server_queue_bits, own, axis=2)[..., 0] / QUEUE_UNIT_BITS
        return columns

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        features = self.features(observations)
        if self._cost is not None:
            self._learn(features)
        values = np.einsum("bnof,bnf->bno", self.model.weights, features)
        explore = max(0.02, self.exploration / (1.0 + self.slot / 10.0)) if self.exploration else 0.0
        draws = rng.random(values.shape[:2]), rng.integers(0, values.shape[2], values.shape[:2])
        self._chosen = np.where(draws[0] < explore, draws[1], np.argmin(values, axis=2))
        self._features = features
        self.slot += 1
        return Act(self._chosen)

    def feedback(self, costs: Array) -> None:
        self._cost = np.asarray(costs, np.float64)

    def _learn(self, following: Array) -> None:
        """One step of recursive least squares for the option that each device took."""
        assert self._cost is not None
        caused = np.take_along_axis(self._caused[None], self._chosen[..., None], axis=2)[..., 0]
        target = self._cost + caused * self._features[..., 1]
        if self.discount:
            target = target + self.discount * np.einsum("bnof,bnf->bno", self.model.weights, following).min(axis=2)
        self.model.update((*np.indices(self._chosen.shape), self._chosen), self._features, target)
        self._cost = None

    def state_dict(self) -> dict[str, Any]:
        """Weights, covariances, the slot's number and the sample that waits for its successor."""
        return {
            **self.model.state_dict(),
            "slot": self.slot,
            "chosen": self._chosen.copy(),
            "features": self._features.copy(),
            "cost": None if self._cost is None else self._cost.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state)
        self.slot = int(state["slot"])
        self._chosen, self._features = np.array(state["chosen"]), np.array(state["features"], np.float64)
        self._cost = None if state["cost"] is None else np.array(state["cost"], np.float64)
