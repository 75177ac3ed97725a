"""What a cut costs a device and the others together, and what the others bring, in two roots per device.

With square-root shares a device that brings a load s^2 to a resource pays s^2 + s S there, and all others together pay
s S more because of it; S, the sum of the others' roots, is the root of the price that they make without it. Edge CPU is
so exactly. A rate rises less than its share of the band, which thins the signal-to-noise ratio out: with elasticity e
the others, who make the price b by themselves, pay (b/e) ((1 - alpha)^-e - 1) more for what is left by a share alpha,
and their price is then b (1 - alpha)^-(1 + e). e = 1 is the square root's case.
"""

from __future__ import annotations

import numpy as np

from edgemarl.agents.model_partitioning.reference import CutProblem, price_search, two_starts
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import fdma_price, fdma_shares, priced_fdma_share
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms, over

ELASTICITY = 0.72
"""Of a rate in its share of the band, at a signal-to-noise ratio of 15 dB; at 12 to 30 dB 0.67 to 0.86."""
TINY, LEFT_MIN = 1e-100, 1e-6
PRICE_STEPS = 6
"""Of the search from which agreed cuts start."""
CHANGES = 10
"""Most changes of one device's cut, in every cell, that follow."""


def taken(values: Array, cut: Array) -> Array:
    """(B, N) of (B, N, M+1) at the cuts (B, N)."""
    return np.asarray(np.take_along_axis(values, cut[..., None], axis=2)[..., 0])


def share_beside(terms: CutTerms, price: Array, bandwidth_hz: float) -> Array:
    """Shares of the band (B, N, M+1) at which a device and the others, whose price without it is given, pay least.

    One step from the share among square-root shares, t/(t + sqrt(price)), which for these is the fixed point; not
    beyond it, where a device that brings more than the others would be given nearly all.
    """
    root, other = np.sqrt(terms.whole_band(bandwidth_hz)), np.sqrt(price)
    left = other / np.maximum(root + other, TINY)  # of the band for the others
    risen = price * np.maximum(left, LEFT_MIN) ** (-1.0 - ELASTICITY)
    alpha = priced_fdma_share(terms.weight, terms.snr[..., None], risen, bandwidth_hz)
    return np.asarray(np.minimum(alpha, 1.0 - np.maximum(left, LEFT_MIN)))


def costs_beside(terms: CutTerms, roots: Array, bandwidth_hz: float) -> tuple[Array, Array]:
    """What every cut costs the device and the others together, and its own transmission, (B, N, M+1) each.

    Args:
        terms: of the cuts.
        roots: (B, N, 2) of what the others bring to band and edge CPU.
        bandwidth_hz: W.
    """
    price, edge = roots[..., :1] ** 2, roots[..., 1:]
    alpha = share_beside(terms, price, bandwidth_hz)
    air = over(terms.weight, fdma_rate_bps(alpha, bandwidth_hz, terms.snr[..., None]))
    caused = price / ELASTICITY * ((1.0 - alpha) ** -ELASTICITY - 1.0)
    return terms.own_cost + air + caused + terms.load + 2.0 * edge * np.sqrt(terms.load), air


def others_roots(terms: CutTerms, cut: Array, bandwidth_hz: float) -> Array:
    """(B, N, 2) what the others bring to band and edge CPU if all cut so."""
    weight, root = taken(terms.weight, cut), np.sqrt(taken(terms.load, cut))
    share = fdma_shares(weight, terms.snr)
    price = fdma_price(weight, terms.snr, share, bandwidth_hz).max(axis=1, keepdims=True)
    band = np.sqrt(price) * np.maximum(1.0 - share, 0.0) ** (0.5 + 0.5 * ELASTICITY)
    return np.stack([band, root.sum(axis=1, keepdims=True) - root], axis=2)


def agreed_cuts(problem: CutProblem) -> Array:
    """Cuts (B, N) from which no device would part by itself: each is the cheapest beside the others.

    The best of those that a few price steps find; then in every cell the change that gains most, until none gains.
    """
    terms, bandwidth_hz = problem.terms, problem.scenario.config.bandwidth_hz
    cells = np.arange(problem.cells)
    tried = [two_starts(problem)[0], *price_search(problem, PRICE_STEPS, keep=True).cuts]
    values = problem.value(np.tile(cells, len(tried)), np.concatenate(tried)).reshape(len(tried), -1)
    cut: Array = np.stack(tried)[values.argmin(axis=0), cells]
    for _ in range(CHANGES):
        cost, _ = costs_beside(terms, others_roots(terms, cut, bandwidth_hz), bandwidth_hz)
        best = cost.argmin(axis=2)
        gain = taken(cost, cut) - taken(cost, best)
        device = gain.argmax(axis=1)
        changes = gain[cells, device] > 1e-9 * np.abs(taken(cost, cut)[cells, device])
        if not changes.any():
            break
        cut[cells[changes], device[changes]] = best[cells[changes], device[changes]]
    return cut
