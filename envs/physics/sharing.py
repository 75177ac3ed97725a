"""A resource shared among the members of a pool in proportion to weights, compiled."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum


@compiled(error_model="numpy")
def divide_pool(weight: Array, member: Array, first: int, count: int, shares: Array, at: int) -> None:
    """Shares of a pool: weight over the members' sum; equal shares if all members' weights are 0; 0 for others.

    Args:
        weight: (n,) >= 0; those of others become 0.
        member: (n,) bool.
        first, count: the entries that are the pool.
        shares: out, (m,), written from `at` on; sums to 1 or, without members, to 0.
    """
    for k in range(count):
        i = np.uintp(first + k)
        own = weight[i]
        weight[i] = own if member[i] else 0.0
    total = pairwise_sum(weight, first, count)
    if total <= 0.0:
        members = 0
        for k in range(count):
            i = np.uintp(first + k)
            weight[i] = 1.0 if member[i] else 0.0
            members += 1 if member[i] else 0
        total = float(max(members, 1))
    for k in range(count):
        shares[np.uintp(at + k)] = weight[np.uintp(first + k)] / total
