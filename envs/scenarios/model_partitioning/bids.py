"""What devices of `model_partitioning` announce before they choose their cuts, if `share_bids` is set."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms

BID = 2
"""Numbers of a bid."""


def bids(terms: CutTerms, prices: tuple[Array, Array], penalty: float, bandwidth_hz: float) -> Array:
    """What each device would save by its best cut at the broadcast prices, and the root of that cut's load on the band.

    A cut that would cost t^2 with the whole band and s^2 with the whole edge CPU is reckoned at 2 t sqrt(b) +
    2 s sqrt(u) for prices b and u: what square-root shares cost the device and the others together. A device needs its
    own row and the two prices, which are of past slots; the bids are of this slot.

    Args:
        terms: of the cuts; the last is the local run.
        prices: b and u, (B, 1, 1) each.
        penalty: P, the mean over the devices of V T_ref, the cost of a local run at the highest clock.
        bandwidth_hz: W.

    Returns:
        (B, N, 2), both >= 0: saving in multiples of P, root of the load in multiples of sqrt(P). Both are 0 if no cut
        saves anything.
    """
    t, s = np.sqrt(terms.whole_band(bandwidth_hz)), np.sqrt(terms.load)
    band, cpu = (np.sqrt(price) for price in prices)
    cost = terms.own_cost + 2.0 * (t * band + s * cpu)
    best = cost.argmin(axis=2)[..., None]
    saving = cost[..., -1:] - np.take_along_axis(cost, best, axis=2)  # cuts above L_n repeat L_n: the last is local
    root = np.where(saving > 0.0, np.take_along_axis(t, best, axis=2), 0.0)
    return np.concatenate([saving / penalty, root / np.sqrt(penalty)], axis=2)
