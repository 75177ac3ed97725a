"""Shares of a band that is divided by frequency, compiled; `allocation.fdma_shares` explains the equations."""

from __future__ import annotations

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import log_terms, near_log2, pairwise_sum

AT_ONCE = 1024
"""Devices worked on at once: their numbers stay in the cache, and short rows fill the processor's vectors."""
NEWTON_STEPS_MAX = 8
NEAR = 4e-7
"""Relative change in a Newton step after which another one would change nothing but rounding: it squares the error."""
SMALL = 1e-4
"""Below it ln(1 + x) - x/(1 + x) is taken from its series, since the difference cancels."""


@compiled(inline="always", error_model="numpy")
def log_excess(x: float, log: float, y: float) -> float:
    """K = ln(1 + x) - y, y = x/(1 + x)."""
    return x * x * (0.5 - x * (2.0 / 3.0 - 0.75 * x)) if x < SMALL else log - y


@compiled(inline="always", error_model="numpy")
def _near_relief(z: float) -> float:
    """sqrt(K)/ln(1 + x) where x sqrt(K)/ln(1 + x) = z, by a fit: within 0.15 % for z < 1e9, positive beyond."""
    b = near_log2(1.0 + z)
    return (0.70778145 + b * (0.07022553 + b * 3.230599e-4)) / (1.0 + b * (0.27206221 + b * 6.51998e-3))


@compiled(inline="always", error_model="numpy")
def _normalise(values: Array, first: int, last: int) -> None:
    total = pairwise_sum(values, first, last - first)
    scale = 1.0 / (total if total > 0.0 else 1.0)
    for i in range(last - first):
        values[np.uintp(first + i)] *= scale


@compiled(error_model="numpy")
def _start(root: Array, snr: Array, first: int, last: int, share: Array) -> None:
    """Shares (out) of a row that are within a few thousandths of the best ones."""
    for k in range(last - first):
        i = np.uintp(first + k)
        share[i] = snr[i] if root[i] > 0.0 else 0.0
    x = 0.45 * pairwise_sum(share, first, last - first)  # less than the mean at equal shares: fading is skewed
    relief = _near_relief(x * _near_relief(x))
    price_root = pairwise_sum(root, first, last - first) * relief
    for k in range(last - first):
        i = np.uintp(first + k)
        z = price_root * snr[i] / (root[i] if root[i] > 0.0 else 1.0)
        share[i] = root[i] * _near_relief(z)
    _normalise(share, first, last)


@compiled(error_model="numpy")
def _newton_terms(root: Array, snr: Array, share: Array, first: int, last: int, target: Array, held: Array) -> None:
    """t/(1 - g) and alpha/(1 - g) (out: target, held), g the slope of t in log coordinates; 0 for those without."""
    for j in range(last - first):
        i = np.uintp(first + j)
        alpha = share[i]
        x = snr[i] / alpha if alpha > 0.0 else 1.0
        log, y = log_terms(x)
        k = log_excess(x, log, y)
        gain = k / (k * log - y * k + 0.5 * y * y * log)  # over ln(1 + x)
        target[i], held[i] = root[i] * np.sqrt(k) * gain, alpha * log * gain


@compiled(inline="always", error_model="numpy")
def _newton_step(target: Array, held: Array, first: int, last: int, share: Array) -> bool:
    """alpha <- alpha + (t/r - alpha)/(1 - g) with the r that keeps the sum; whether all are near."""
    wanted = pairwise_sum(target, first, last - first)
    scale = pairwise_sum(held, first, last - first) / (wanted if wanted > 0.0 else 1.0)
    far = 0
    for k in range(last - first):
        i = np.uintp(first + k)
        change = target[i] * scale - held[i]
        far += 1 if abs(change) > NEAR * share[i] else 0
        share[i] += change
    return far == 0


@compiled(
    types.void(
        *(types.Array(types.float64, 1, "C", readonly=True), types.Array(types.float64, 1, "C", readonly=True)),
        *(types.int64, types.float64[::1]),
    ),
    error_model="numpy",
    cache=True,
)
def divide_bands(root: Array, snr: Array, n: int, share: Array) -> None:
    """Shares (out) of a few bands; each band ends by itself, so that it does not depend on the others.

    Args:
        root: (R n,) square roots of the weights c, those of a band one after another; 0 takes no part.
        snr: (R n,) s > 0 over the whole band; ignored where c = 0.
        n: devices of a band.
        share: (R n,) out; exactly 0 where c = 0.
    """
    m, rows = len(root), len(root) // n
    target, held, done = np.empty(m), np.empty(m), np.zeros(rows, np.bool_)
    for r in range(rows):
        _start(root, snr, r * n, r * n + n, share)
    first, last = 0, rows
    for _ in range(NEWTON_STEPS_MAX):
        _newton_terms(root, snr, share, first * n, last * n, target, held)
        for r in range(first, last):
            if not done[r]:
                done[r] = _newton_step(target, held, r * n, r * n + n, share)
        while first < last and done[first]:
            first += 1
        while first < last and done[last - 1]:
            last -= 1
        if first == last:
            break
    for r in range(rows):
        _normalise(share, r * n, r * n + n)


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
    shares, root = np.empty(rows * n), np.sqrt(weight).reshape(rows * n)
    ratio, step = snr.reshape(rows * n), max(1, AT_ONCE // max(n, 1)) * n
    for lo in range(0, rows * n, max(step, 1)):
        hi = min(lo + step, rows * n)
        divide_bands(root[lo:hi], ratio[lo:hi], n, shares[lo:hi])
    return shares.reshape(rows, n)
