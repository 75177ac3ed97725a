"""Radio links: path loss, Shannon rate, decibels; the inverse of the rate is in `transmit_power.py`.

Shapes: every argument broadcasts; gains are normalised by the noise power (unit 1/W) unless a name says otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array


def from_db(value_db: Any) -> Array:
    """Decibels -> ratio."""
    return np.asarray(10.0 ** (np.asarray(value_db) / 10.0))


def to_db(ratio: Any) -> Array:
    """Ratio -> decibels."""
    return np.asarray(10.0 * np.log10(ratio))


def dbm_to_w(power_dbm: Any) -> Array:
    """Power over 1 mW in decibels -> W."""
    return np.asarray(1e-3 * from_db(power_dbm))


def path_loss_db(distance_m: Any, db_at_1m: float, db_per_decade: float) -> Array:
    """Log-distance path loss in dB (sequential_offloading paper, Sec. VI: 30.6 + 37.6 log10 d)."""
    return np.asarray(db_at_1m + db_per_decade * np.log10(distance_m))


def passive(power_gain: Any) -> Array:
    """Power gains of a link, any shape, none above 1: no more arrives than was sent, however near the devices are."""
    result: Array = np.minimum(power_gain, 1.0)
    return result


def shannon_rate_bps(bandwidth_hz: Any, gain_per_w: Any, power_w: Any, snr_gap: float = 1.0) -> Array:
    """Rate B log2(1 + h p / Gamma) in bit/s (sequential_offloading paper, eq. 3)."""
    return np.asarray(bandwidth_hz * np.log2(1.0 + np.asarray(gain_per_w) * power_w / snr_gap))


def spectral_efficiency(gain_per_w: Any, power_w: float, snr_gap: float) -> Array:
    """log2(1 + h p / Gamma) in bit/s/Hz: the channel state information (CSI) that a device observes."""
    return np.asarray(np.log2(1.0 + np.asarray(gain_per_w) * (power_w / snr_gap)))


def snr_of_rate(rate_bps: Any, bandwidth_hz: float, snr_gap: float = 1.0) -> Array:
    """Signal-to-noise ratio Gamma (2^(R/B) - 1) that carries a rate: the inverse of `shannon_rate_bps`."""
    from edgemarl.envs.physics.transmit_power import required_power_w  # compiled: takes a second to load

    efficiency = np.asarray(rate_bps, np.float64) / bandwidth_hz
    return np.asarray(required_power_w(efficiency, 1.0, snr_gap))  # the power at which a gain of 1/W carries it


def antenna_path_gain(distance_m: Any, antenna_gain: float, carrier_hz: float, exponent: float) -> Array:
    """Mean power gain A (c / (4 pi f d))^n with c = 3e8 m/s (model_partitioning paper, Sec. V-A)."""
    return np.asarray(antenna_gain * (3e8 / (4.0 * np.pi * carrier_hz * np.asarray(distance_m))) ** exponent)


def antenna_path_distance_m(gain: Any, antenna_gain: float, carrier_hz: float, exponent: float) -> Array:
    """Distance at which `antenna_path_gain` is the given gain > 0."""
    reach = (antenna_gain / np.asarray(gain, np.float64)) ** (1.0 / exponent)
    return np.asarray(3e8 / (4.0 * np.pi * carrier_hz) * reach)


def fdma_rate_bps(share: Any, bandwidth_hz: float, snr: Any) -> Array:
    """Rate alpha W log2(1 + s/alpha) in bit/s of a share of the band; 0 where the share is 0.

    Noise falls with the band: s = p h / (W N0) is the ratio over the whole band (model_partitioning paper, eq. 3).

    Args:
        share: alpha in [0, 1], any shape.
        bandwidth_hz: W, the whole band.
        snr: s >= 0, broadcasts.
    """
    held = np.asarray(share) > 0.0
    alpha = np.where(held, share, 1.0)
    return np.where(held, alpha * (bandwidth_hz / np.log(2.0)) * np.log1p(snr / alpha), 0.0)
