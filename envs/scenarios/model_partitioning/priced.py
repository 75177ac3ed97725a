"""What every cut of a device costs if shares of band and edge CPU are bought at prices, from its own row."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import priced_fdma_share, priced_square_root_share
from edgemarl.envs.physics.radio import fdma_rate_bps


def priced_cuts(
    own_cost: Array, weight: Array, load: Array, snr: Array, prices: tuple[Array, Array], bandwidth_hz: float
) -> tuple[Array, Array, Array]:
    """Cost of every cut if shares are bought at prices: own + min[c/R(alpha) + b alpha] + min[load/x + u x].

    Args:
        own_cost: (B, N, M+1) the device's own part.
        weight: c >= 0, (B, N, M+1): transmission costs c/R.
        load: (B, N, M+1) cost of the edge work with the whole edge CPU.
        snr: s > 0 over the whole band, (B, N, 1).
        prices: b, u >= 0, broadcast against (B, N, M+1).
        bandwidth_hz: W.

    Returns:
        cost, alpha, x, each (B, N, M+1).
    """
    band, edge = prices
    alpha = priced_fdma_share(weight, snr, band, bandwidth_hz)
    x = priced_square_root_share(load, edge)
    cost = own_cost + band * alpha + edge * x
    return cost + over(weight, fdma_rate_bps(alpha, bandwidth_hz, snr)) + over(load, x), alpha, x


def over(cost: Array, share: Array) -> Array:
    """cost/share, 0 where there is no cost and hence no share."""
    taking_part = cost > 0.0
    return np.where(taking_part, cost / np.where(taking_part, share, 1.0), 0.0)
