"""A resource shared among the members of a pool in proportion to weights, compiled."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum


@compiled(error_model="numpy")
def divide_pool(
    weights: Array, members: Array, first: int, count: int, shares: Array, at: int, scratch: Array
) -> None:
    """Shares of a pool: weight over the members' sum; equal shares if all members' weights are 0; 0 for others.

    Args:
        weights: (n,) >= 0.
        members: (n,) bool.
        first, count: the entries that are the pool.
        shares: out, (m,), written from `at` on; sums to 1 or, without members, to 0.
        scratch: (n,).
    """
    for k in range(count):
        i = np.uintp(first + k)
        scratch[i] = weights[i] if members[i] else 0.0
    total = pairwise_sum(scratch, first, count)
    if total <= 0.0:
        total = 0.0
        for k in range(count):
            i = np.uintp(first + k)
            scratch[i] = 1.0 if members[i] else 0.0
            total += scratch[i]
        total = max(total, 1.0)
    for k in range(count):
        shares[np.uintp(at + k)] = scratch[np.uintp(first + k)] / total
