"""How one resource is divided: shares over the last axis, non-negative, with sum 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.api import Array


def proportional_shares(weight: Any) -> Array:
    """Shares proportional to non-negative weights, over the last axis; equal shares where every weight is 0."""
    values = np.asarray(weight, np.float64)
    total = values.sum(axis=-1, keepdims=True)
    idle = total == 0.0
    return np.where(idle, 1.0 / values.shape[-1], values / np.where(idle, 1.0, total))


def square_root_shares(load: Any) -> Array:
    """Shares c_m = sqrt(L_m) / sum_j sqrt(L_j), the minimiser of sum_m L_m / c_m; the minimum is (sum_m sqrt(L_m))^2.

    Source: Cauchy-Schwarz; sampling_rate paper, Theorem 1.

    Args:
        load: L >= 0, (..., M).

    Returns:
        (..., M); equal shares where every load is 0.
    """
    return proportional_shares(np.sqrt(load))


def softmax_shares(logits: Any, scale: float) -> Array:
    """Shares softmax(scale * clip(logits, -1, 1)) over the last axis: a raw action of a Box(-1, 1) as shares."""
    exponent = scale * np.clip(logits, -1.0, 1.0)
    return proportional_shares(np.exp(exponent - exponent.max(axis=-1, keepdims=True)))


def local_cpu_hz(
    work_cycles: Any, arrival_rate_hz: Any, energy_weight: Any, delay_weight: float, hz_min: Any, hz_max: float
) -> Array:
    """CPU frequency that minimises g(f) = q d f^2 + V T(f) on [hz_min, hz_max], T the M/D/1 sojourn of work d.

    T = (d/2) (1/f + 1/(f - a)) with a = lambda d, so g'(f)/d = 2 q f - (V/2) (1/f^2 + 1/(f - a)^2) is increasing and
    concave on f > a: Newton from the left of the root rises to it and never passes it. The start
    max((V/2q)^(1/3), a + sqrt(V/(4 q U))), U = a + (V/2q)^(1/3) >= root, is left of the root and within a factor of 2
    of it in f - a, so eight quadratic steps reach rounding. The minimiser on the interval is the root clipped to it.
    Source: model_partitioning paper, problem P3 and eq. (2).

    Args:
        work_cycles: d >= 0 per request, any shape.
        arrival_rate_hz: lambda >= 0, broadcasts.
        energy_weight: q >= 0 in s^3/cycle^3, the price of d f^2 (queue * kappa * lambda * slot); 0 gives hz_max.
        delay_weight: V > 0.
        hz_min: lower end of the interval, broadcasts.
        hz_max: upper end.
    """
    a = np.asarray(arrival_rate_hz * work_cycles, np.float64)
    # a price below this one has its root beyond 1000 hz_max, and beyond any load that fits: the end hz_max either way
    ratio = delay_weight / (2.0 * np.maximum(energy_weight, delay_weight / (2.0 * (1e3 * hz_max) ** 3)))
    cube = np.cbrt(ratio)
    gap = np.maximum(cube - a, np.sqrt(ratio / (2.0 * (a + cube))))
    for _ in range(8):
        f, inverse_gap = a + gap, 1.0 / gap
        inverse = 1.0 / f
        slope = f - 0.5 * ratio * (inverse * inverse + inverse_gap * inverse_gap)
        gap = gap - slope / (1.0 + ratio * (inverse * inverse * inverse + inverse_gap * inverse_gap * inverse_gap))
    return np.clip(a + gap, hz_min, hz_max)


def _log_terms(snr_over_share: Array) -> tuple[Array, Array]:
    """ln(1 + x) and K(x) = ln(1 + x) - x/(1 + x), without cancellation at small x."""
    x = snr_over_share
    log = np.log1p(x)
    k = log - x / (1.0 + x)
    small = x < 1e-4
    if small.any():
        k = np.where(small, x * x * (0.5 - x * (2.0 / 3.0 - 0.75 * x)), k)
    return log, k


FIXED_POINT_STEPS = 16
"""Each step of the square-root fixed point shrinks the error by at least 0.104: 16 steps reach rounding."""


def fdma_shares(weight: Any, snr: Any, steps: int = FIXED_POINT_STEPS) -> Array:
    """Shares of a band that minimise sum_n c_n / R_n(alpha_n), R = alpha W log2(1 + s/alpha), sum alpha = 1.

    Stationarity asks sqrt(c K)/(alpha ln(1 + x)) to be the same for all, x = s/alpha, K = ln(1 + x) - x/(1 + x). The
    fixed point alpha <- t/sum t, t = sqrt(c K)/ln(1 + x), has a slope y/ln(1 + x) - y^2/(2 K), y = x/(1 + x), in
    (0, 0.104) for every x > 0 in log coordinates; both ends of the spread of log alpha - log alpha* shrink by that
    factor and the normalisation moves them together, so it contracts from any start.
    Source: model_partitioning paper, problem P5.

    Args:
        weight: c >= 0, (..., N); 0 takes no part.
        snr: s > 0, (..., N): signal-to-noise ratio over the whole band; ignored where c = 0.
        steps: iterations; 8 give the objective to rounding, 16 the shares too.

    Returns:
        (..., N) with sum 1 over the participants, exactly 0 elsewhere.
    """
    c = np.asarray(weight, np.float64)
    root = np.sqrt(c)
    taking_part = root > 0.0
    s = np.where(taking_part, snr, 1.0)
    total = root.sum(axis=-1, keepdims=True)
    share = np.where(taking_part, root / np.where(total > 0.0, total, 1.0), 1.0)
    for _ in range(steps):
        log, k = _log_terms(s / share)
        t = root * np.sqrt(k) / log
        total = t.sum(axis=-1, keepdims=True)
        share = np.where(taking_part, t / np.where(total > 0.0, total, 1.0), 1.0)
    return np.where(taking_part, share, 0.0)


def fdma_price(weight: Any, snr: Any, share: Any, bandwidth_hz: float) -> Array:
    """Marginal cost c phi(alpha) of a share of the band, phi = -d(1/R)/dalpha; equal for all at the optimum.

    Args:
        weight: c >= 0, any shape.
        snr: s > 0 over the whole band, broadcasts.
        share: alpha; 0 gives price 0.
        bandwidth_hz: W.
    """
    held = np.asarray(share) > 0.0
    alpha = np.where(held, share, 1.0)
    log, k = _log_terms(snr / alpha)
    return np.where(held, weight * (np.log(2.0) / bandwidth_hz) * k / (alpha * log) ** 2, 0.0)


def priced_fdma_share(weight: Any, snr: Any, price: Any, bandwidth_hz: float, steps: int = FIXED_POINT_STEPS) -> Array:
    """Share in (0, 1] that minimises c/R(alpha) + price alpha for one sender: where c phi = price, at most 1.

    The same fixed point as `fdma_shares` with the price in place of the sum; its map is increasing, so the iterates cut
    at 1 fall from 1 to the smaller of the root and 1.

    Args:
        weight: c >= 0, any shape; 0 gives 0.
        snr: s > 0 over the whole band, broadcasts.
        price: cost of the whole band, >= 0, broadcasts; 0 gives 1.
        bandwidth_hz: W.
        steps: iterations.
    """
    c = np.asarray(weight, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(c * (np.log(2.0) / bandwidth_hz) / price)
    share = np.ones(np.broadcast_shapes(root.shape, np.shape(snr)))
    for _ in range(steps):
        log, k = _log_terms(snr / np.where(share > 0.0, share, 1.0))
        share = np.minimum(root * np.sqrt(k) / log, 1.0)
    return np.where(c > 0.0, share, 0.0)


def priced_square_root_share(load: Any, price: Any) -> Array:
    """Share in [0, 1] that minimises load/x + price x: sqrt(load/price), at most 1; 0 for no load."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.minimum(np.sqrt(np.asarray(load, np.float64) / price), 1.0)
    return np.where(np.asarray(load) > 0.0, share, 0.0)


def square_root_price(load: Any, share: Any) -> Array:
    """Marginal cost load/x^2 of a share; equal for all participants at `square_root_shares`; 0 where the share is 0."""
    held = np.asarray(share) > 0.0
    return np.where(held, load / np.where(held, share, 1.0) ** 2, 0.0)
