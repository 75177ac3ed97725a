"""Exogenous random processes by name: where devices stand, how channels fade, when tasks arrive.

Every function draws from the generator it is given, in one call, so the order of draws is the order of the calls.
"""

from __future__ import annotations

import numpy as np

from envs.api import Array


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
