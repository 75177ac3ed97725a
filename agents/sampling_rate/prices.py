"""What a price-conditioned learner needs to know of the sampling-rate scenario (`edgemarl.marl.algorithms.priced_dqn`).

A candidate is a share of the edge CPU that service 0 is assumed to get. Under a candidate the devices separate: each
pays its own delays, the server's time at its service's share, and for accuracy that it misses.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from edgemarl.agents.sampling_rate.rules import server_price_s_per_bit
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate, SamplingRateExogenous, SamplingRateState
from edgemarl.envs.scenarios.sampling_rate.config import training_balance_per_s

FIRST_SHARES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
DEFICIT_SPAN = 2.5
"""Largest deficit in training, in units of the balance."""
REWARD_MIN_S = -2.0
DEFICIT_SLOTS, QUEUE_SLOTS = 10, 100
"""Slots after which a randomised cell gets new deficits, and empty queues."""


class SamplingRatePrices:
    """Candidates and rewards of a network with two services and the shares of Theorem 1.

    Args:
        scenario: the network.
    """

    def __init__(self, scenario: Scenario) -> None:
        if not isinstance(scenario, SamplingRate) or scenario.config.num_services != 2:
            raise ValueError(f"priced_dqn needs sampling_rate with 2 services, got {scenario.name}")
        if not scenario.config.shares_by_theorem:
            raise ValueError(
                f"priced_dqn needs share_mode = 'optimal' or 'corrected', got '{scenario.config.share_mode}'"
            )
        self.scenario = scenario
        per_ten = scenario.config.num_devices / 10.0
        self.deficit_max = DEFICIT_SPAN * per_ten * training_balance_per_s(scenario.config)

    @cached_property
    def shares(self) -> Array:
        """(C, 2) shares of the two services."""
        first = np.asarray(FIRST_SHARES)
        return np.stack([first, 1.0 - first], axis=1)

    def spec(self) -> dict[str, Any]:
        """Fields of `edgemarl.agents.trained.priced_network.PriceSpec`: deficits up to 2; server backlogs are hidden.

        Backlogs build up under exploration only, and a price that follows them feeds them. For the same reason the cost
        of a backlog is no part of what a candidate costs.
        """
        scale = [1.0] * 5 + [2.0 / self.deficit_max] * 2 + [0.0] * 2
        return {
            "scale": tuple(scale),
            "broadcast": (5, 6),
            "group": (3, 4),
            "log_share": tuple(tuple(row) for row in np.log(self.shares).tolist()),
        }

    def rewards(
        self, state: SamplingRateState, actions: Array, exogenous: SamplingRateExogenous, candidate: Array
    ) -> Array:
        """(B, N) minus a device's own delay, overflow, missed accuracy and the server time it takes from its service.

        Args:
            state, exogenous: of the slot.
            actions: (B, N) options taken.
            candidate: (B,) assumed shares, rows of `shares`.
        """
        s = self.scenario
        price = s.shifted_price_s(state.accuracy_deficit)[:, s.service]
        rate, raw = s.link_rate_bps(exogenous.channel_gain), s.raw_bits(exogenous.arrival_rate)
        cost, bits = s.option_costs_s(state.device_queue_bits, rate, raw, price)
        server = server_price_s_per_bit(s, self.shares[candidate], waiting=True)[:, s.service]
        paid = np.take_along_axis(cost + bits * server[..., None], actions[..., None], axis=-1)[..., 0]
        result: Array = np.maximum(-paid, REWARD_MIN_S)
        return result

    def randomised(self, state: SamplingRateState, slot: int, cells: slice, rng: np.random.Generator) -> Any:
        """The state with some cells' deficits drawn anew, and their queues emptied, where the slot calls for it."""
        if slot % DEFICIT_SLOTS:
            return state
        deficit = state.accuracy_deficit.copy()
        deficit[cells] = rng.uniform(0.0, self.deficit_max, deficit[cells].shape)
        if slot % QUEUE_SLOTS:
            return dataclasses.replace(state, accuracy_deficit=deficit)
        device, server = state.device_queue_bits.copy(), state.server_queue_bits.copy()
        device[cells], server[cells] = 0.0, 0.0
        return dataclasses.replace(state, device_queue_bits=device, server_queue_bits=server, accuracy_deficit=deficit)
