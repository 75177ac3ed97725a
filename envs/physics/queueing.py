"""Queues that advance once per slot: finite backlogs that overflow, and virtual queues that keep a long-run mean.

Shapes: every argument broadcasts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgemarl.envs.arrays import Array


class QueueSlot(NamedTuple):
    """What one slot did to a finite queue; backlog + arrived = served + next_backlog + dropped.

    Attributes:
        next_backlog: work left for the next slot, at most the limit.
        served: work done in the slot, at most the capacity.
        dropped: work that found no room.
    """

    next_backlog: Array
    served: Array
    dropped: Array


def finite_queue(backlog: Any, arrived: Any, capacity: Any, limit: Any) -> QueueSlot:
    """One slot of a finite queue: r = max(0, q + a - s), q' = min(r, limit), dropped = r - q'.

    Source: sampling_rate paper, eqs. 2, 3 (devices) and 8, 9 (server). The arrivals of the slot can be served in it.

    Args:
        backlog: work q >= 0 before the slot, in bits, cycles or tasks.
        arrived: work a >= 0 of the slot, same unit.
        capacity: most work s >= 0 that the slot can serve.
        limit: largest backlog that is kept.
    """
    offered = np.asarray(backlog + arrived)
    left = np.maximum(offered - capacity, 0.0)
    kept = np.minimum(left, limit)
    return QueueSlot(kept, np.minimum(offered, capacity), left - kept)


def virtual_queue(backlog: Any, arrived: Any, served: Any) -> Array:
    """Virtual queue of a long-run constraint mean(arrived) <= mean(served): Z' = max(0, Z + a - s).

    Source: sampling_rate paper, eq. 16, with the accuracy target as arrival and the slot's accuracy as service.
    """
    result: Array = np.maximum(backlog + arrived - served, 0.0)
    return result


def md1_sojourn_s(service_s: Any, arrival_rate_hz: Any, utilisation_cap: float) -> Array:
    """Mean sojourn of an M/D/1 queue: S (1 + u/(2 (1 - u))), u = min(lambda S, cap) (Pollaczek-Khinchine).

    Source: model_partitioning paper, eq. (2); the cap keeps an overloaded queue finite (erratum 13).

    Args:
        service_s: S >= 0, any shape.
        arrival_rate_hz: lambda >= 0, broadcasts.
        utilisation_cap: largest utilisation that enters, < 1.
    """
    u = np.minimum(arrival_rate_hz * service_s, utilisation_cap)
    return np.asarray(service_s * (1.0 + 0.5 * u / (1.0 - u)))
