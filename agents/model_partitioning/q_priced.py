"""Parametric Q-learning for `model_partitioning` under prices that the server learns and tells before the cuts.

What keeps devices that decide alone behind the optimum is the fading and load of the others in this slot. The server
sees them. Before the devices choose it finds cuts from which no device would part by itself, each valued by the slot
and by what the server has learned that the queues will cost later, and tells every device the price that the others
make there of its band and of its CPU, as two roots. A device then decides for itself: it learns from its own ledger
entry how far what it was told comes true, and from its own queues what they will cost it. No law is given to anybody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_partitioning.congestion import agreed_cuts, others_roots
from edgemarl.agents.model_partitioning.q_learner import FEATURES, CutLearner
from edgemarl.agents.model_partitioning.q_server import ShareLearner
from edgemarl.agents.model_partitioning.reference import CutProblem
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import RowEntry
from edgemarl.envs.scenario import Scenario

MEANING = tuple(
    RowEntry(f"{what}_root", "-", 1.0, f"root of the price that the others are expected to make of the {what}")
    for what in ("band", "edge CPU")
)


class PricedCutLearner(CutLearner):
    """`CutLearner` whose roots of the others are told by the server; the weights say how far they come true."""

    hears: Mapping[str, int] = {"server": FEATURES}

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        shape = (cells, self.network.config.num_devices)
        noise = self.noise * self.network.config.delay_weight**2
        self.model = LeastSquares(shape, FEATURES, 1.0 / self.prior_weight, noise, self.forgetting, True)
        self.model.weights[:] = 1.0

    def told(self, observations: Array) -> Array:
        return observations[..., -FEATURES:].astype(np.float64)


class CutPricingServer(ShareLearner):
    """`ShareLearner` that tells every device, before it chooses, the prices that the others make of band and CPU."""

    broadcast = False

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.messages, self.message_meaning = {"device": FEATURES}, {"device": MEANING}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        act, seen = super().act(observations, rng), self.seen(observations)
        own = seen.energy_queue, self.memory_queue, seen.arrival_rate_hz
        terms = self.worth.valued(self.network.cut_terms(*own, seen.snr), *own)
        cut = agreed_cuts(CutProblem(self.network, terms))
        roots = others_roots(terms, cut, self.network.config.bandwidth_hz)
        return dataclasses.replace(act, messages={"device": roots.astype(np.float32)})
