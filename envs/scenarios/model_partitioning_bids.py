"""What devices of `model_partitioning` announce before they choose their cuts, if `share_bids` is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from envs.api import Array
from envs.physics.radio import fdma_rate_bps

if TYPE_CHECKING:
    from envs.scenarios.model_partitioning import ModelPartitioning

BID = 2
"""Numbers of a bid."""


def bids(scenario: ModelPartitioning, state: Any, exogenous: Any) -> Array:
    """What each device would save by its best cut at the broadcast prices, and the root of that cut's load on the band.

    A cut that would cost t^2 with the whole band and s^2 with the whole edge CPU is reckoned at 2 t sqrt(b) +
    2 s sqrt(u) for prices b and u: what square-root shares cost the device and the others together. A device needs its
    own row and the two prices, which are of past slots; the bids are of this slot.

    Returns:
        (B, N, 2), both >= 0: saving in multiples of P, root of the load in multiples of sqrt(P), P the mean over the
        devices of V T_ref, the cost of a local run at the highest clock. Both are 0 if no cut saves anything.
    """
    c, cuts = scenario.config, scenario.cuts
    q, w, rate = (v[..., None] for v in (state.energy_queue, state.memory_queue, exogenous.arrival_rate_hz))
    rate_bps = fdma_rate_bps(np.ones(1), c.bandwidth_hz, scenario.full_band_snr(exogenous)[..., None])
    t = np.sqrt(scenario.transmission_weight(q, rate) * cuts.sent_bits / rate_bps)
    s = np.sqrt(scenario.edge_load(cuts.edge_cycles))
    band, edge = (np.sqrt(price)[:, None, None] for price in (state.bandwidth_price_mean, state.edge_cpu_price_mean))
    cost = scenario.local_part(cuts, q, w, rate).cost + 2.0 * (t * band + s * edge)
    best = cost.argmin(axis=2)[..., None]
    saving = cost[..., -1:] - np.take_along_axis(cost, best, axis=2)  # cuts above L_n repeat L_n: the last is local
    penalty = c.delay_weight * scenario.total_cycles.mean() / c.device_cpu_hz
    root = np.where(saving > 0.0, np.take_along_axis(t, best, axis=2), 0.0)
    return np.concatenate([saving / penalty, root / np.sqrt(penalty)], axis=2)
