"""Which gateway serves which device: contiguous blocks of devices, one block per gateway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgemarl.envs.arrays import Array


@dataclass(frozen=True)
class Blocks:
    """`num_devices` devices in `num_gateways` contiguous blocks whose sizes differ by at most one.

    The first N mod G gateways own one device more than the others; a gateway may own none.
    """

    num_devices: int
    num_gateways: int

    @cached_property
    def size(self) -> Array:
        """(G,) devices M_g of each gateway."""
        base, extra = divmod(self.num_devices, self.num_gateways)
        return base + (np.arange(self.num_gateways) < extra).astype(np.int64)

    @cached_property
    def start(self) -> Array:
        """(G,) index of each gateway's first device."""
        return np.cumsum(self.size) - self.size

    @cached_property
    def gateway(self) -> Array:
        """(N,) gateway of each device."""
        return np.repeat(np.arange(self.num_gateways), self.size)

    @cached_property
    def position(self) -> Array:
        """(N,) index of each device within its block, from 0."""
        return np.arange(self.num_devices) - self.start[self.gateway]

    def class_key(self, level: Array, levels: int) -> Array:
        """(B, N) integer g*levels + level: equal for the devices of one gateway and level.

        Args:
            level: (B, N) integers in 0..levels-1.
            levels: number of levels.
        """
        return level + (self.gateway * levels).astype(np.int64)

    def class_counts(self, key: Array, levels: int) -> Array:
        """(B, G, levels) devices of each gateway and level, from `class_key`."""
        cells = key.shape[0]
        classes = self.num_gateways * levels
        offset = np.arange(cells, dtype=np.int64)[:, None] * classes
        return np.bincount((key + offset).ravel(), minlength=cells * classes).reshape(cells, self.num_gateways, levels)


def rank_within(key: Array) -> Array:
    """(B, N) how many entries of the same row have the same key and a lower index.

    Args:
        key: (B, N) non-negative integers.
    """
    small = key.astype(np.uint16) if key.size and key.max() < 2**16 else key  # 16 bits: radix sort
    order = np.argsort(small, axis=1, kind="stable")
    sorted_key = np.take_along_axis(small, order, axis=1)
    place = np.arange(key.shape[1])
    first = np.zeros(key.shape, np.int64)
    first[:, 1:] = np.where(sorted_key[:, 1:] != sorted_key[:, :-1], place[1:], 0)
    np.maximum.accumulate(first, axis=1, out=first)
    rank = np.empty(key.shape, np.int64)
    np.put_along_axis(rank, order, place - first, axis=1)
    return rank
