"""What every cut of a device costs, from its own row: its own part, and shares of band and edge CPU at prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import priced_fdma_share, priced_square_root_share
from edgemarl.envs.physics.radio import fdma_rate_bps


@dataclass(frozen=True)
class LocalPart:
    """What a cut costs a device by itself, before transmission and edge; arrays of one broadcast shape."""

    cpu_hz: Array
    delay_s: Array
    energy_j: Array  # computation only
    cost: Array  # Q E + W C + V T of this part


@dataclass(frozen=True)
class CutTerms:
    """What every cut of every device adds to the slot's objective; cuts above L_n repeat L_n.

    The objective of cuts l is sum_n own_cost + sum_n weight/R(alpha_n) + sum_n load/x_n.
    """

    own_cost: Array  # (B, N, M+1): Q E + W C + V T of the device's own part, under the best CPU rate
    weight: Array  # (B, N, M+1): c, cost of transmission is c/R in bit/s
    load: Array  # (B, N, M+1): V D/F, cost at the edge is load/x
    snr: Array  # (B, N): signal-to-noise ratio over the whole band
    own_energy_j: Array  # (B, N, M+1): of the device's own part

    def whole_band(self, bandwidth_hz: float) -> Array:
        """(B, N, M+1) c/R of a device that holds the whole band."""
        rate_bps = fdma_rate_bps(np.ones(1), bandwidth_hz, self.snr)
        return np.asarray(self.weight / rate_bps[..., None])


def priced_cuts(terms: CutTerms, prices: tuple[Array, Array], bandwidth_hz: float) -> tuple[Array, Array, Array]:
    """Cost of every cut if shares are bought at prices: own + min[c/R(alpha) + b alpha] + min[load/x + u x].

    Args:
        terms: of the cuts.
        prices: b, u >= 0, broadcast against (B, N, M+1).
        bandwidth_hz: W.

    Returns:
        cost, alpha, x, each (B, N, M+1).
    """
    band, edge = prices
    snr = terms.snr[..., None]
    alpha = priced_fdma_share(terms.weight, snr, band, bandwidth_hz)
    x = priced_square_root_share(terms.load, edge)
    cost = terms.own_cost + band * alpha + edge * x
    return cost + over(terms.weight, fdma_rate_bps(alpha, bandwidth_hz, snr)) + over(terms.load, x), alpha, x


def over(cost: Array, share: Array) -> Array:
    """cost/share, 0 where there is no cost and hence no share."""
    taking_part = cost > 0.0
    return np.where(taking_part, cost / np.where(taking_part, share, 1.0), 0.0)
