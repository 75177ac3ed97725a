"""Uplink of a gateway whose tasks are sent one after another, most urgent first, on a raster of mini-slots.

Shapes: G gateways, K levels; every argument broadcasts. Equation numbers are those of the model_pruning paper.
"""

from __future__ import annotations

from typing import Any

from edgemarl.envs.arrays import Array

TRANSMISSION_S_MAX = 1e9
"""Stands for "never": a gateway without signal has no finite transmission time."""


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
