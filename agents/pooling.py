"""The pooled rows of all agents: what one controller of everybody sees beside an agent's own row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Parts, Role, Scenario


def pool_of(rows: Mapping[str, Array], roles: Mapping[str, Role]) -> Array:
    """Mean and maximum of all agents' rows, role by role: a view of the whole cell that knows no order of agents.

    A row that divides into like parts, such as a server's with one per device, is pooled over all parts of all agents,
    so that the pool is as large for any number of devices.

    Args:
        rows: role -> (B, n, d_r) as `Scenario.observe` gives them.
        roles: the scenario's.

    Returns:
        (B, `pool_size`) float32.
    """
    alike = [values for role, own in rows.items() for values in _alike(own, roles[role].parts)]
    return np.concatenate([p for v in alike for p in (v.mean(axis=1), v.max(axis=1))], axis=1).astype(np.float32)


def _alike(rows: Array, parts: Parts | None) -> list[Array]:
    """Rows (B, n, d) as arrays (B, k, e) whose k entries are alike."""
    if parts is None:
        return [rows]
    cells, own = len(rows), parts.count * parts.entries
    each, groups, common = np.split(rows, [own, own + parts.groups], axis=2)
    arrays = [each.reshape(cells, -1, parts.entries)]
    if parts.groups:
        arrays.append(groups.reshape(cells, -1, 1))
    return [*arrays, common] if parts.common else arrays


def pool_size(scenario: Scenario) -> int:
    """Entries of `pool_of`."""
    return 2 * sum(pooled_entries(role) for role in scenario.roles.values())


def pooled_entries(role: Role) -> int:
    """Entries whose mean and maximum over its agents, or over all their parts, the pool holds of a role."""
    parts = role.parts
    own = int(role.observation_space.shape[0])
    return own if parts is None else parts.entries + bool(parts.groups) + parts.common


def with_pool(rows: Array, pool: Array) -> Array:
    """Rows (B, n, d) of a role with the cell's pool (B, p) appended to each."""
    return np.concatenate([rows, pool_of_each(pool, rows.shape[1])], axis=2)


def pool_of_each(pool: Array, agents: int) -> Array:
    """The cell's pool (B, p) as every agent has it, (B, n, p): a view."""
    return np.broadcast_to(pool[:, None, :], (len(pool), agents, pool.shape[1]))


def row_size(scenario: Scenario, role: str, pooled: bool) -> int:
    """Entries of an agent's row, with the pooled rows of all agents if asked."""
    own = int(scenario.roles[role].observation_space.shape[0])
    return own + (pool_size(scenario) if pooled else 0)
