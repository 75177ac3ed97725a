"""Uplink of a gateway whose tasks are sent one after another, most urgent first, on a raster of mini-slots.

Shapes: G gateways, K levels; every argument broadcasts. Equation numbers are those of the model_pruning paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array

TRANSMISSION_S_MAX = 1e9
"""Stands for "never": a gateway without signal has no finite transmission time."""


def transmission_s(task_bits: float, rate_bps: Any) -> Array:
    """Time to send one task, Omega = H/R in s (eq. 6); at most 1e9 s where the rate vanishes."""
    rate = np.asarray(rate_bps, dtype=float)
    result: Array = task_bits / np.maximum(rate, task_bits / TRANSMISSION_S_MAX)
    return result


def reserved_mini_slots(time_s: Any, mini_slot_s: float, tolerance: float = 1e-9) -> Array:
    """Whole mini-slots that one task occupies, at least one: delta = ceil(Omega/tau) (int64)."""
    return np.maximum(1, np.ceil(np.asarray(time_s) / mini_slot_s - tolerance)).astype(np.int64)


def tasks_ahead(count: Array) -> Array:
    """(.., K) tasks of a higher level in the same queue, from the tasks per level `count` (.., K)."""
    result: Array = count.sum(axis=-1, keepdims=True) - np.cumsum(count, axis=-1)
    return result


def expected_wait_s(ahead: Any, same: Any, reserved_s: Any) -> Array:
    """Mean wait of a task in a priority queue without arrivals, ties in random order (eq. 7).

    Args:
        ahead: tasks of a higher level.
        same: tasks of the same level, this one included.
        reserved_s: airtime delta*tau of one task in s.

    Returns:
        reserved * (ahead + (same - 1)/2) in s: the mean over the 0..same-1 equals that come first.
    """
    wait: Array = reserved_s * (ahead + (same - 1) / 2.0)
    return wait
