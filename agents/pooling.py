"""The pooled rows of all agents: what central control by networks of the roles sees beside an agent's own row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


def pool_of(rows: Mapping[str, Array]) -> Array:
    """Mean and maximum of all agents' rows, role by role: a view of the whole cell that knows no order of agents.

    Args:
        rows: role -> (B, n, d_r) as `Scenario.observe` gives them.

    Returns:
        (B, 2 sum of d over the roles) float32.
    """
    parts = [pool for values in rows.values() for pool in (values.mean(axis=1), values.max(axis=1))]
    return np.concatenate(parts, axis=1).astype(np.float32)


def with_pool(rows: Array, pool: Array) -> Array:
    """Rows (B, n, d) of a role with the cell's pool (B, p) appended to each."""
    wide = np.broadcast_to(pool[:, None, :], (*rows.shape[:2], pool.shape[1]))
    return np.concatenate([rows, wide], axis=2)


def row_size(scenario: Scenario, role: str, pooled: bool) -> int:
    """Entries of an agent's row, with the pooled rows of all agents if asked."""
    sizes = {name: int(r.observation_space.shape[0]) for name, r in scenario.roles.items()}
    return sizes[role] + (2 * sum(sizes.values()) if pooled else 0)
