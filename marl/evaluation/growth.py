"""Does a backlog still grow when the run ends? Then its mean says how long the run was, not how it is controlled.

Under a stationary law the third and the fourth quarter of a run have the same mean, network by network, and networks
are independent of each other: a one-sided t-test over networks, which needs no model of how slots depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgemarl.envs.arrays import Array

ALPHA = 1e-3
"""False alarms of the test for each backlog and controller, where networks differ normally."""
GROWTH_MIN = 0.1
"""Growth over the second half, as a share of the mean backlog, below which it does not matter to the means."""


@dataclass(frozen=True)
class Growth:
    """How one backlog moved over the second half of a run.

    Attributes:
        backlog: label with its unit.
        per_slot: mean growth per slot.
        p_value: of growth at least as clear where the backlog is stationary; NaN with a single network.
        mean: of the backlog over the slots that means count.
        not_stationary: whether it grew clearly, and enough to matter.
    """

    backlog: str
    per_slot: float
    p_value: float
    mean: float
    not_stationary: bool


def growth_of(backlog: str, per_slot: Array, means: Array, slots: int) -> Growth:
    """Test one controller's backlog.

    Args:
        backlog: label with its unit.
        per_slot: (S, B) growth per slot of each network, S training seeds.
        means: (S, B) of the backlog.
        slots: of the run.
    """
    cells = np.atleast_2d(per_slot).mean(axis=0)
    slope, level = float(cells.mean()), float(np.mean(means))
    p_value = _one_sided(cells)
    matters = slope * slots / 2 > GROWTH_MIN * level
    return Growth(backlog, slope, p_value, level, bool(p_value < ALPHA and matters))


def _one_sided(cells: Array) -> float:
    """p-value of a mean above 0 over independent cells (B,)."""
    from scipy.special import stdtr  # `scipy.stats` takes a second to load

    if len(cells) < 2:
        return float("nan")
    mean, error = float(cells.mean()), float(cells.std(ddof=1)) / np.sqrt(len(cells))
    if error <= 1e-12 * abs(mean):
        return 0.0 if mean > 0.0 else 1.0
    return float(stdtr(len(cells) - 1, -mean / error))
