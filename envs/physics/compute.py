"""Processors: energy of work done at a constant rate, dynamic power ~ f^3."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array


def cpu_energy_j(cycles: Any, capacitance: float, duration_s: float) -> Any:
    """Energy of `cycles` worked off at the constant rate f = cycles/duration: duration xi f^3, in J.

    Equal rates over a duration are optimal, since f^3 is convex (sequential_offloading paper, eqs. 2 and 7).

    Args:
        cycles: work, an array of any shape or a number.
        capacitance: effective switched capacitance xi in J s^2/cycle^3.
        duration_s: seconds.
    """
    return cycles * cycles * cycles * (capacitance / (duration_s * duration_s))


def work_energy_j(work_cycles: Any, rate_hz: Any, capacitance: float) -> Array:
    """Energy kappa d f^2 in J of `work_cycles` done at the rate f, however long it takes (model_partitioning, eq. 5).

    Args:
        work_cycles: d, any shape.
        rate_hz: f in cycle/s, broadcasts.
        capacitance: effective switched capacitance kappa in J s^2/cycle^3.
    """
    return np.asarray(capacitance * work_cycles * rate_hz * rate_hz)
