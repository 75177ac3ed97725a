"""Parametric Q-learning for `sampling_rate` under prices: the server learns what its time is worth and tells it.

The slot is a coordination game: it pays to let one service use the edge in one slot and the other in the next, and a
device does not see whose turn it is. The server does. For shares c it would charge p_m = eta (N_m + 1)/(2 c_m f_b) per
bit of service m, what a bit takes and makes others wait, and the devices would pay

    J(c) = sum_n min_o [own cost of option o + p_m bits_o] + sum_m N_m eta Q_m / (c_m f_b),

whose minimum over c is the minimum of the slot's cost. The server knows neither channels nor arrivals: in every slot
one device per service, in turn, reports its link rate and batch, and J is the mean over what was reported. No share of
the population's law is given. A device learns what its own ledger entry holds beside what it can compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, restored
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.sampling_rate.rules import DeviceRows, SamplingRateController, server_price_s_per_bit
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario, Step

REPORT = 2
"""Entries of a report: link rate and batch, as they stand in the device's row."""
PRICE_UNIT_S_PER_BIT = 1e-6
FEATURES = 4


class PricedOptionLearner(SamplingRateController):
    """Online Q-learning of every device for itself, at the price that the server tells; no parameter is shared.

    Q(o) = own delay and deficit of option o, which the row shows, + w . [V p bits_o, 1, Z_m, V p nu_m]. The last three
    hold what others cause and are the same for all options, so that only the first moves a choice.

    Args:
        prior_weight: how strongly the start, w = (1, 0, 0, 0), is believed; the covariance begins at 1 / prior_weight.
        noise: variance of a cost sample around the linear model.
    """

    broadcast = False

    def __init__(self, prior_weight: float = 30.0, noise: float = 0.01) -> None:
        for name, value in (("prior_weight", prior_weight), ("noise", noise)):
            if value <= 0.0:
                raise ValueError(f"{name} = {value} is not legal: must be > 0")
        self.prior_weight, self.noise = prior_weight, noise

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        n, services = self.scenario.config.num_devices, self.scenario.config.num_services
        self.messages, self.hears = {"server": REPORT * services}, {"server": services}
        self.model = LeastSquares((cells, n), FEATURES, 1.0 / self.prior_weight, self.noise)
        self.model.weights[..., 0] = 1.0
        self.slot = 0
        self._features = np.zeros((cells, n, FEATURES))
        self._known = np.zeros((cells, n))  # what of the cost could be computed, less the waiting caused to others
        self._cost = np.full((cells, n), np.nan)  # NaN: no sample waits

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        s, c = self.scenario, self.scenario.config
        if not np.isnan(self._cost).any():
            self.model.update((), self._features, self._cost - self._known)
            self._cost = np.full_like(self._cost, np.nan)
        rows = DeviceRows.read(s, observations)
        own = s.service[None, :, None]
        told = observations[..., -c.num_services :].astype(np.float64) * PRICE_UNIT_S_PER_BIT
        price = np.take_along_axis(told, own, axis=2)  # (B, N, 1)
        cost_s, bits = rows.option_costs_s(s)
        cost, charge = c.balance_per_s * cost_s, c.balance_per_s * price * bits
        chosen = np.argmin(cost + self.model.weights[..., :1] * charge, axis=2)[..., None]
        deficit = np.take_along_axis(rows.deficit, own, axis=2)[..., 0]
        paid = np.take_along_axis(charge, chosen, axis=2)[..., 0]
        common = [np.ones_like(paid), deficit, c.balance_per_s * price[..., 0] * s.raw_bits_per_task]
        self._features = np.stack([paid, *common], axis=2)
        others = ((s.service_size - 1.0) / (s.service_size + 1.0))[s.service]
        self._known = np.take_along_axis(cost, chosen, axis=2)[..., 0] - others * paid
        report = self._report(observations)
        self.slot += 1
        return Act(chosen[..., 0], messages={"server": report})

    def _report(self, observations: Array) -> Array:
        """(B, 1, 2 M) link rate and batch of one device of each service, whose turn it is."""
        sizes = self.scenario.service_size.astype(int)
        turn = np.cumsum(sizes) - sizes + self.slot % sizes
        told: Array = observations[:, turn, 1 : 1 + REPORT]
        return told.reshape(len(observations), 1, -1)

    def feedback(self, costs: Array) -> None:
        self._cost = np.array(costs, np.float64)

    def state_dict(self) -> dict[str, Any]:
        """Weights, covariances, the slot's number and the sample that waits for the next slot."""
        return {
            **self.model.state_dict(), "slot": self.slot, "features": self._features.copy(),
            "known": self._known.copy(), "cost": self._cost.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state)
        self.slot = int(state["slot"])
        self._features = restored(state, "features", self._features)
        self._known = restored(state, "known", self._known)
        self._cost = restored(state, "cost", self._cost)


class PriceTellingServer(SamplingRateController):
    """Learns from reports how the services answer prices and tells every device the price of each service's bits.

    The shares stay those of Theorem 1, which it knows once it hears the loads; in `share_mode="action"` it takes the
    shares that it priced.

    Args:
        memory: reports of each service that it keeps, the newest.
    """

    def __init__(self, memory: int = 60) -> None:
        if memory < 1:
            raise ValueError(f"memory = {memory} reports is not legal: must be >= 1")
        self.memory = memory

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        c = self.scenario.config
        if c.num_services != 2:
            raise ValueError(f"a pricing server needs 2 services, devices_per_service has {c.num_services}")
        self.messages, self.hears = {"device": c.num_services}, {"device": REPORT * c.num_services}
        first = np.concatenate([[0.001], np.arange(2, 99) / 100, [0.999]])
        self.shares = np.stack([first, 1.0 - first], axis=1)  # (C, 2)
        self.reports = np.zeros((cells, c.num_services, self.memory, REPORT))
        self.heard = 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        s, c = self.scenario, self.scenario.config
        rows = observations[:, 0].astype(np.float64)
        m = c.num_services
        report = rows[:, 2 * m : 2 * m + REPORT * m].reshape(len(rows), m, REPORT)
        if (report[..., 0] > 0.0).all():  # a link always has a rate: nothing is heard before the first slot
            self.reports[:, :, self.heard % self.memory] = report
            self.heard += 1
        share = self._share(rows[:, :m], rows[:, m : 2 * m] * s.server_bits_per_slot)
        price = server_price_s_per_bit(s, share, waiting=True) / PRICE_UNIT_S_PER_BIT
        told = np.broadcast_to(price[:, None], (len(rows), c.num_devices, m)).astype(np.float32)
        if c.share_mode == "action":
            return Act(decisions={"share": share}, messages={"device": told})
        return Act(np.zeros((len(rows), 1, m)), messages={"device": told})

    def _share(self, deficit: Array, backlog_bits: Array) -> Array:
        """(B, 2) shares that minimise J over what was reported; the fixed ones before anything was."""
        s, c = self.scenario, self.scenario.config
        known = min(self.heard, self.memory)
        if not known:
            return np.broadcast_to(s.fixed_share, deficit.shape)
        price = server_price_s_per_bit(s, self.shares, waiting=True)  # (C, 2)
        total = (s.service_size * s.server_cycles_per_bit * backlog_bits) @ (1.0 / (self.shares.T * c.server_hz))
        fullest = c.arrival_max * np.asarray(c.raw_task_bits)
        for m in range(c.num_services):
            rate_bps, batch = self.reports[:, m, :known, 0] * s.rate_bps_max, self.reports[:, m, :known, 1] * fullest[m]
            weight = np.broadcast_to((deficit[:, m] / c.balance_per_s)[:, None], batch.shape)
            service = np.full(known, m)
            cost, bits = s.option_costs_s(np.zeros_like(batch), rate_bps, batch, weight, service)  # (B, T, 2K)
            least = np.full((*batch.shape, len(price)), np.inf)
            for option in range(cost.shape[2]):
                least = np.minimum(least, cost[..., option, None] + bits[..., option, None] * price[:, m])
            total = total + s.service_size[m] * least.mean(axis=1)
        return np.asarray(self.shares[np.argmin(total, axis=1)])

    def charges(self, messages: Mapping[str, Array], step: Step[Any]) -> Mapping[str, Array]:
        """V p_m per offloaded bit, beyond the processing that the ledger holds: the waiting caused to others."""
        s = self.scenario
        told = messages["device"].astype(np.float64) * PRICE_UNIT_S_PER_BIT
        price = np.take_along_axis(told, s.service[None, :, None], axis=2)[..., 0]
        others = ((s.service_size - 1.0) / (s.service_size + 1.0))[s.service]
        return {"device": s.config.balance_per_s * others * price * step.details["device_sent_bits"]}

    def state_dict(self) -> dict[str, Any]:
        """The reports (B, M, memory, 2) and how many were heard."""
        return {"reports": self.reports.copy(), "heard": self.heard}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reports, self.heard = restored(state, "reports", self.reports), int(state["heard"])
