"""A resource shared among the members of a pool in proportion to weights, and the time that a share takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array


def pool_shares(weights: Array, members: Array) -> Array:
    """Shares of a pool: weight over the members' sum; equal shares if all members' weights are 0; 0 if it is empty.

    Args:
        weights: (..., n) >= 0.
        members: (..., n) bool; others get 0.

    Returns:
        (..., n), each row sums to 1 or, without members, to 0.
    """
    used = weights * members
    total = used.sum(axis=-1, keepdims=True)
    if not (total > 0).all():
        used = np.where(total > 0, used, members)
        total = np.maximum(used.sum(axis=-1, keepdims=True), 1.0 * (total <= 0))
    shares: Array = used / total
    return shares


def time_at_rate_s(work: Any, rate: Any) -> Array:
    """Seconds that work (bits, cycles) takes at a rate (per second); infinity at rate 0. Arguments broadcast."""
    rate = np.asarray(rate)
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(work / rate)
