"""How one resource is divided: shares over the last axis, non-negative, with sum 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array


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


def corrected_shares(shares: Array, weight: Array | None) -> Array:
    """Shares of a rule times non-negative weights, over the last axis, with sum 1 again where they had it.

    Even weights, or None, leave the rule's shares to the last bit, so that an agent that corrects nothing is the rule.
    """
    if weight is None:
        return shares
    held = shares * weight
    total = held.sum(axis=-1, keepdims=True)
    even = (weight == weight[..., :1]).all(axis=-1, keepdims=True) | (total == 0.0)
    scale = np.divide(shares.sum(axis=-1, keepdims=True), total, out=np.ones_like(total), where=~even)
    return np.where(even, shares, held * scale)


def local_cpu_hz(
    work_cycles: Any, arrival_rate_hz: Any, energy_weight: Any, delay_weight: float, hz_min: Any, hz_max: float
) -> Array:
    """CPU frequency that minimises g(f) = q d f^2 + V T(f) on [hz_min, hz_max], T the M/D/1 sojourn of work d.

    T = (d/2) (1/f + 1/(f - a)) with a = lambda d, so g'(f)/d = 2 q f - (V/2) (1/f^2 + 1/(f - a)^2) is increasing and
    concave on f > a. With c = (V/2q)^(1/3) the gap f - a over c is a function of a/c alone, and lies within 1 % of
    sqrt((1 + 2.13 a/c)/(2 a/c (1 + 2.13 a/c) + 1 + 1.43 a/c)), so that two cubic steps (Halley) reach rounding. The
    minimiser on the interval is the root clipped to it.
    Source: model_partitioning paper, problem P3 and eq. (2).

    Args:
        work_cycles: d >= 0 per request, any shape.
        arrival_rate_hz: lambda >= 0, broadcasts.
        energy_weight: q >= 0 in s^3/cycle^3, the price of d f^2 (queue * kappa * lambda * slot); 0 gives hz_max.
        delay_weight: V > 0.
        hz_min: lower end of the interval, broadcasts.
        hz_max: upper end.
    """
    from edgemarl.envs.physics import cpu_rate  # compiled: takes a second to load

    return np.asarray(cpu_rate.local_cpu_hz(work_cycles, arrival_rate_hz, energy_weight, delay_weight, hz_min, hz_max))


def _log_terms(snr_over_share: Array, tiny: bool) -> tuple[Array, Array, Array]:
    """ln(1 + x), y = x/(1 + x) and K = ln(1 + x) - y; `tiny` says that x may be small enough for K to cancel."""
    x = snr_over_share
    log = np.log1p(x)
    y = x / (1.0 + x)
    k = log - y
    if tiny:
        k = np.where(x < 1e-4, x * x * (0.5 - x * (2.0 / 3.0 - 0.75 * x)), k)
    return log, y, k


CONTRACTIONS, NEWTON_STEPS = 3, 3
"""Steps of `priced_fdma_share`: contractions by 0.104 each bring any start near, quadratic ones to rounding."""


def fdma_shares(weight: Any, snr: Any) -> Array:
    """Shares of a band that minimise sum_n c_n / R_n(alpha_n), R = alpha W log2(1 + s/alpha), sum alpha = 1.

    Stationarity asks t/alpha to be the same for all, t = sqrt(c K)/ln(1 + x), x = s/alpha, K = ln(1 + x) - x/(1 + x).
    In log coordinates the slope of t is g = y/ln(1 + x) - y^2/(2 K), y = x/(1 + x), which lies in (0, 0.104) for every
    x > 0: whatever r is, alpha_n(r) = s/x(r s/sqrt(c)) needs no iteration, x(z) inverse to x sqrt(K)/ln(1 + x) = z, and
    an error of r moves all alpha together but for that small g. So the start is alpha_n(r) over its sum, r a first
    guess and x(z) a fit to 0.15 %. Newton's step on the same equations, alpha <- alpha + (t/r - alpha)/(1 - g) with
    the r that keeps the sum, then leaves less than a tenth of the square of the relative error.
    Source: model_partitioning paper, problem P5.

    Args:
        weight: c >= 0, (..., N); 0 takes no part.
        snr: s > 0, (..., N): signal-to-noise ratio over the whole band; ignored where c = 0.

    Returns:
        (..., N) with sum 1 over the participants, exactly 0 elsewhere.
    """
    from edgemarl.envs.physics import fdma  # compiled: takes a second to load

    c = np.asarray(weight, np.float64)
    rows = c.reshape(-1, c.shape[-1])
    ratio = np.broadcast_to(np.asarray(snr, np.float64), c.shape).reshape(rows.shape)
    return fdma.shares_of(np.ascontiguousarray(rows), np.ascontiguousarray(ratio)).reshape(c.shape)


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
    log, _, k = _log_terms(snr / alpha, tiny=True)
    return np.where(held, weight * (np.log(2.0) / bandwidth_hz) * k / (alpha * log) ** 2, 0.0)


def priced_fdma_share(weight: Any, snr: Any, price: Any, bandwidth_hz: float) -> Array:
    """Share in (0, 1] that minimises c/R(alpha) + price alpha for one sender: where c phi = price, at most 1.

    The same equation as in `fdma_shares` with the price in place of the sum, and the same two kinds of steps; phi
    falls, so the root cut at 1 is the minimiser.

    Args:
        weight: c >= 0, any shape; 0 gives 0.
        snr: s > 0 over the whole band, broadcasts.
        price: cost of the whole band, >= 0, broadcasts; 0 gives 1.
        bandwidth_hz: W.
    """
    c = np.asarray(weight, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(c > 0.0, np.sqrt(c * (np.log(2.0) / bandwidth_hz) / price), 1.0)
    root = np.minimum(root, 1e100)  # a price of 0
    share = np.ones(np.broadcast_shapes(root.shape, np.shape(snr)))
    tiny = bool(np.min(snr) < 1e-4)
    for step in range(CONTRACTIONS + NEWTON_STEPS):
        log, y, k = _log_terms(snr / share, tiny)
        t = root * np.sqrt(k) / log
        if step < CONTRACTIONS:
            share = np.minimum(t, 1.0)
        else:
            share = np.clip(share + (t - share) / (1.0 - y / log + 0.5 * y * y / k), 0.5 * share, 1.0)
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


def displaced_cost(cost: Any, share: Any) -> Array:
    """What each participant costs the others whose cost is load/share: x_n times their sum, (..., N).

    Without n the others' shares, divided as before, grow by 1/(1 - x_n); square-root shares do divide as before.

    Args:
        cost: load/x >= 0, (..., N).
        share: x in [0, 1], (..., N).
    """
    values = np.asarray(cost, np.float64)
    return np.asarray(share * (values.sum(axis=-1, keepdims=True) - values))


def fdma_displaced_cost(cost: Any, share: Any, snr: Any) -> Array:
    """What each sender costs the others, c/R(alpha), if they divided its share as they divide their own, (..., N).

    Optimal shares would move a little further, so that this is a lower bound there, by 0.03 % at most in tests.

    Args:
        cost: c/R >= 0, (..., N).
        share: alpha in [0, 1], (..., N); 0 takes no part.
        snr: s > 0 over the whole band, (..., N).
    """
    alpha, s = np.asarray(share, np.float64), np.asarray(snr, np.float64)[..., None, :]
    held = np.where(alpha > 0.0, alpha, 1.0)[..., None, :]
    left = 1.0 - alpha[..., :, None]  # what n leaves to the others, who are the last axis
    grown = np.minimum(held / np.where(left > 0.0, left, 1.0), 1.0)
    speed = grown * np.log1p(s / grown) / (held * np.log1p(s / held))
    lost = np.asarray(cost)[..., None, :] * (1.0 - 1.0 / speed)
    others = (alpha > 0.0)[..., None, :] & ~np.eye(alpha.shape[-1], dtype=bool)
    return np.asarray(np.where(others, lost, 0.0).sum(axis=-1))
