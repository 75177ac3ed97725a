"""Finite caches: which fetched models a node takes when its space runs out."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array


def admit_in_order(bits: Array, wanted: Array, used_bits: Array, capacity_bits: float) -> Array:
    """First come, first served with skipping: an entry is admitted iff it fits beside those admitted before it.

    One running sum over all wanted entries decides unless somebody does not fit. Then the first entry that exceeds
    the capacity is refused, and with it every later one too large for the room that is left there (room only
    shrinks); the sums are taken anew until all remaining entries fit. The number of rounds is the number of times
    that a refusal leaves room for somebody later, not the number of entries. Sums are the same floating-point numbers
    as those of an entry-by-entry loop.

    Args:
        bits: (R, n) sizes > 0 in the order of admission.
        wanted: (R, n) bool, entries that ask for space.
        used_bits: (R,) space taken beforehand.
        capacity_bits: space of each row.

    Returns:
        admitted (R, n) bool, a subset of `wanted`.
    """
    alive = wanted.copy()
    rows = np.arange(len(alive))
    while True:
        total = _running(bits[rows], alive[rows], used_bits[rows])
        over = alive[rows] & (total[:, 1:] > capacity_bits)
        open_rows = over.any(axis=1)
        if not open_rows.any():
            return alive
        rows, total, over = rows[open_rows], total[open_rows], over[open_rows]
        first = over.argmax(axis=1)
        before = np.take_along_axis(total, first[:, None], axis=1)
        later = np.arange(alive.shape[1]) >= first[:, None]
        alive[rows] &= ~(later & (before + bits[rows] > capacity_bits))


def _running(bits: Array, alive: Array, used_bits: Array) -> Array:
    """(R, n + 1) space used before the first entry and after each."""
    steps = np.empty((bits.shape[0], bits.shape[1] + 1))
    steps[:, 0] = used_bits
    np.multiply(bits, alive, out=steps[:, 1:])
    total: Array = np.cumsum(steps, axis=1, out=steps)
    return total
