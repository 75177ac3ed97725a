"""Transmit power that a rate needs, compiled: a NumPy function of arrays, and callable from other compiled code."""

from __future__ import annotations

import math

import numpy as np

from edgemarl.envs.compiled import vectorized

FLOAT_MAX = float(np.finfo(float).max)
MAX_EXPONENT = float(np.finfo(float).maxexp) - 1.0


@vectorized(["float64(float64, float64, float64)"], cache=True)
def required_power_w(bits_per_s_per_hz: float, gain_per_w: float, snr_gap: float) -> float:
    """Power that carries a spectral efficiency: Gamma/h (2^eta - 1), the inverse of the Shannon rate
    (sequential_offloading paper, eq. 4).

    Args:
        bits_per_s_per_hz: eta >= 0, less a rounding error; any shape, as the others.
        gain_per_w: h; with h <= 0 nothing can be carried.
        snr_gap: Gamma >= 1.

    Returns:
        power in W; 0 where eta = 0, the largest float where h <= 0 or where the power exceeds it: finite, so that a
        mask may be multiplied in.
    """
    snr, gain = math.exp2(min(bits_per_s_per_hz, MAX_EXPONENT)) - 1.0, gain_per_w / snr_gap
    beyond = gain <= 0.0 or bits_per_s_per_hz >= MAX_EXPONENT or snr > FLOAT_MAX * min(gain, 1.0)
    power = snr / (1.0 if beyond else gain)  # never infinite: vectorised code computes it also where it is not used
    if beyond:
        return FLOAT_MAX if bits_per_s_per_hz > 0.0 else 0.0
    return power
