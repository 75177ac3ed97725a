"""Exogenous random processes by name: where devices stand, how channels fade, when tasks arrive.

Every function draws from the generator it is given, in one call, so the order of draws is the order of the calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import quoted


def uniform_disc_distance_m(rng: np.random.Generator, count: int, distance_m_min: float, radius_m: float) -> Array:
    """Distances (count,) of points uniform on a ring: d = sqrt(dmin^2 + U (R^2 - dmin^2))."""
    return np.sqrt(distance_m_min**2 + rng.random(count) * (radius_m**2 - distance_m_min**2))


def log_normal_shadowing_db(rng: np.random.Generator, count: int, std_db: float) -> Array:
    """Shadowing (count,) in dB: zero-mean Gaussian."""
    return rng.normal(0.0, std_db, count)


def rayleigh_power_gain(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Power gain of a Rayleigh channel: Exp(1), i.i.d. (block fading)."""
    return rng.exponential(1.0, shape)


def bernoulli_arrivals(rng: np.random.Generator, probability: float, shape: tuple[int, ...]) -> Array:
    """0/1 arrivals, i.i.d. Bernoulli, uint8."""
    return (rng.random(shape) < probability).astype(np.uint8)


def uniform_arrivals(rng: np.random.Generator, mean: float, half_width: float, shape: tuple[int, ...]) -> Array:
    """Real-valued arrivals, i.i.d. uniform on [mean - half_width, mean + half_width], clipped at 0 from below."""
    return np.maximum(rng.uniform(mean - half_width, mean + half_width, shape), 0.0)


def stationary_distribution(transition: Array) -> Array:
    """Stationary law pi (S,) of a Markov chain with one recurrent class: pi P = pi, sum pi = 1.

    Args:
        transition: P (S, S), rows sum to 1.
    """
    p = np.asarray(transition, np.float64)
    balance = np.vstack([p.T - np.eye(len(p)), np.ones(len(p))])
    law = np.linalg.lstsq(balance, np.append(np.zeros(len(p)), 1.0), rcond=None)[0]
    law = np.maximum(law, 0.0)
    return np.asarray(law / law.sum())


def markov_channel(rng: np.random.Generator, transition: Array, slots: int, count: int) -> Array:
    """States (slots, count) int of independent Markov chains: first from the stationary law, then one step per slot.

    Args:
        transition: P (S, S), rows sum to 1.
        slots: states drawn per chain, the first included.
        count: chains.
    """
    from edgemarl.envs.physics.chains import walk  # compiled: takes a second to load

    p = np.asarray(transition, np.float64)
    first, rows = np.cumsum(stationary_distribution(p)), np.cumsum(p, axis=1)
    draws = rng.random((slots, count))
    states = np.empty((slots, count), np.int64)
    walk(first, np.ascontiguousarray(rows), draws, states)
    return states


def fitted_channel(series: Array, states: int) -> tuple[Array, Array]:
    """Gains (S,), rising, and transition matrix (S, S) of a Markov chain from measured gains: equally frequent states.

    Args:
        series: gains (L, ...), slot first; each further entry is a chain of its own, all of one law.
        states: states at most; fewer where the gains take fewer values.

    Returns:
        the mean gain of each state, and the share of its slots after which each state came.
    """
    values = np.asarray(series, np.float64)
    distinct = np.unique(values)
    inner = distinct[1:] if len(distinct) <= states else np.unique(np.quantile(values, np.arange(1, states) / states))
    state = np.searchsorted(inner, values, side="right")
    levels, state = np.unique(state, return_inverse=True)
    state = state.reshape(values.shape)
    gains = np.array([values[state == i].mean() for i in range(len(levels))])
    pairs = state[:-1] * len(levels) + state[1:]
    counts = np.bincount(pairs.reshape(-1), minlength=len(levels) ** 2).reshape(len(levels), len(levels)).astype(float)
    counts[counts.sum(axis=1) == 0] = 1.0  # a state that was seen in the last slot only
    return gains, counts / counts.sum(axis=1, keepdims=True)


def check_transition(transition: Sequence[Sequence[float]], states: int) -> None:
    """Raise `ValueError` unless the field channel_transition is a stochastic matrix (states, states)."""
    if len(transition) != states or any(len(row) != states for row in transition):
        raise ValueError(
            f"channel_transition = {quoted(transition)} is not legal: must have {states} rows of {states} entries, one "
            "per entry of channel_gains"
        )
    p = np.asarray(transition, np.float64)
    if (p < 0.0).any() or (np.abs(p.sum(axis=1) - 1.0) > 1e-9).any():
        raise ValueError(
            f"channel_transition = {quoted(p.tolist())} is not legal: entries must be >= 0 and every row must sum to 1"
        )


def uniform_rate_hz(rng: np.random.Generator, mean_hz: float, spread: float, shape: tuple[int, ...]) -> Array:
    """Rates mean * U(1 - spread, 1 + spread), i.i.d."""
    return np.asarray(mean_hz * rng.uniform(1.0 - spread, 1.0 + spread, shape))
