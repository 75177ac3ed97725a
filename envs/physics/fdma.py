"""Shares of a band that is divided by frequency, compiled; `allocation.fdma_shares` explains the equations."""

from __future__ import annotations

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import log_terms, pairwise_sum

AT_ONCE = 1024
"""Senders worked on at once: their numbers stay in the cache, and short rows fill the processor's vectors."""
CONTRACTIONS, NEWTON_STEPS_MAX = 1, 8
NEAR = 1e-7
"""Relative change in a Newton step after which another one would change nothing but rounding: it squares the error."""
SMALL = 1e-4
"""Below it ln(1 + x) - x/(1 + x) is taken from its series, since the difference cancels."""


@compiled(inline="always", error_model="numpy")
def log_excess(x: float, log: float, y: float) -> float:
    """K = ln(1 + x) - y, y = x/(1 + x)."""
    return x * x * (0.5 - x * (2.0 / 3.0 - 0.75 * x)) if x < SMALL else log - y


@compiled(inline="always", error_model="numpy")
def _normalise(values: Array, first: int, last: int) -> None:
    scale = 1.0 / pairwise_sum(values, first, last - first)
    for i in range(last - first):
        values[np.uintp(first + i)] *= scale


@compiled(error_model="numpy")
def _contraction(root: Array, snr: Array, share: Array) -> None:
    """alpha <- t = sqrt(c K)/ln(1 + x), x = s/alpha, whose rows are still to be normalised."""
    for i in range(len(root)):
        x = snr[i] / share[i]
        log, y = log_terms(x)
        share[i] = root[i] * np.sqrt(log_excess(x, log, y)) / log


@compiled(error_model="numpy")
def _newton_terms(root: Array, snr: Array, share: Array, target: Array, held: Array) -> None:
    """t/(1 - g) and alpha/(1 - g) (out: target, held), g the slope of t in log coordinates."""
    for i in range(len(root)):
        x = snr[i] / share[i]
        log, y = log_terms(x)
        k = log_excess(x, log, y)
        gain = k / (k * log - y * k + 0.5 * y * y * log)  # over ln(1 + x)
        target[i], held[i] = root[i] * np.sqrt(k) * gain, share[i] * log * gain


@compiled(inline="always", error_model="numpy")
def _newton_step(target: Array, held: Array, first: int, last: int, share: Array) -> bool:
    """alpha <- alpha + (t/r - alpha)/(1 - g) with the r that keeps the sum; whether all are near."""
    scale = pairwise_sum(held, first, last - first) / pairwise_sum(target, first, last - first)
    far = 0
    for k in range(last - first):
        i = np.uintp(first + k)
        change = target[i] * scale - held[i]
        far += 1 if abs(change) > NEAR * share[i] else 0
        share[i] += change
    return far == 0


@compiled(error_model="numpy")
def _divide_group(root: Array, snr: Array, starts: Array, share: Array) -> None:
    """Shares (out) of a few rows at once; each row ends by itself, so that it does not depend on the others."""
    rows, origin = len(starts) - 1, starts[0]
    target, held, done = np.empty(len(root)), np.empty(len(root)), np.zeros(rows, np.bool_)
    share[:] = root
    for r in range(rows):
        _normalise(share, starts[r] - origin, starts[r + 1] - origin)
    for _ in range(CONTRACTIONS):
        _contraction(root, snr, share)
        for r in range(rows):
            _normalise(share, starts[r] - origin, starts[r + 1] - origin)
    left = rows
    for _ in range(NEWTON_STEPS_MAX):
        _newton_terms(root, snr, share, target, held)
        for r in range(rows):
            if not done[r]:
                done[r] = _newton_step(target, held, starts[r] - origin, starts[r + 1] - origin, share)
                left -= done[r]
        if left == 0:
            break
    for r in range(rows):
        _normalise(share, starts[r] - origin, starts[r + 1] - origin)


@compiled(
    types.void(
        *(types.Array(types.float64, 1, "C", readonly=True), types.Array(types.float64, 1, "C", readonly=True)),
        *(types.Array(types.int64, 1, "C", readonly=True), types.float64[::1]),
    ),
    error_model="numpy",
    cache=True,
)
def divide_band(root: Array, snr: Array, starts: Array, share: Array) -> None:
    """Shares (out) of many bands, whose senders lie one after another.

    Args:
        root: (m,) square roots of the weights c, > 0: those that take no part are left out.
        snr: (m,) s > 0 over the whole band.
        starts: (R + 1,) first sender of each band, and m.
        share: (m,) out.
    """
    first = 0
    while first < len(starts) - 1:
        last = first + 1
        while last < len(starts) - 1 and starts[last + 1] - starts[first] <= AT_ONCE:
            last += 1
        lo, hi = starts[first], starts[last]
        _divide_group(root[lo:hi], snr[lo:hi], starts[first : last + 1], share[lo:hi])
        first = last


@compiled(
    types.Array(types.float64, 2, "C")(
        types.Array(types.float64, 2, "C", readonly=True), types.Array(types.float64, 2, "C", readonly=True)
    ),
    error_model="numpy",
    cache=True,
)
def shares_of(weight: Array, snr: Array) -> Array:
    """Shares (R, n) for weights c >= 0 and ratios s of the same shape; exactly 0 where c = 0."""
    rows, n = weight.shape
    root, ratio, starts = np.empty(weight.size), np.empty(weight.size), np.zeros(rows + 1, np.int64)
    m = 0
    for r in range(rows):
        for j in range(n):
            root[m], ratio[m] = np.sqrt(weight[r, j]), snr[r, j]
            m += 1 if root[m] > 0.0 else 0
        starts[r + 1] = m
    found, shares = np.empty(m), np.zeros((rows, n))
    divide_band(root[:m], ratio[:m], starts, found)
    m = 0
    for r in range(rows):
        for j in range(n):
            if weight[r, j] > 0.0:
                shares[r, j] = found[m]
                m += 1
    return shares
