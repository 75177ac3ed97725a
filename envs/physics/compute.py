"""Processors: energy of work done at a rate, dynamic power ~ f^3."""

from __future__ import annotations

from typing import Any

from envs.api import Array


def cpu_energy_j(rate_hz: Any, capacitance: float, duration_s: float) -> Array:
    """Energy of running at a constant rate: duration * xi * f^3 in J (sequential_offloading paper, eqs. 2 and 7).

    Args:
        rate_hz: f, any shape.
        capacitance: effective switched capacitance xi in J s^2/cycle^3.
        duration_s: seconds at this rate.
    """
    energy: Array = rate_hz * rate_hz * rate_hz * (duration_s * capacitance)
    return energy
