"""Band and CPU for tasks with a deadline: how long to transmit, how long to compute, and what that takes.

A task of deadline T transmits for x and computes for y, x + y <= T. It needs `band_s` seconds at the whole band and
`cpu_s` seconds at the whole CPU, so it takes the shares band_s/x and cpu_s/y. At prices u^2/band_s and v^2/cpu_s per
unit of share its cost u^2/x + v^2/y is least at y = T v/(u + v): times are split by square roots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array

BISECTIONS = 40
LOG_RATIO_RANGE = (-12.0, 12.0)
"""Logarithm of the ratio CPU price to band price, between which the balance of the two lies."""
ROUNDING = 1e-7
"""Part of a deadline left as slack, so that shares computed from single-precision observations still keep it."""


def split_deadline_s(deadline_s: Any, band_root: Any, cpu_root: Any, compute_s_max: Any) -> tuple[Array, Array]:
    """Transmission time x and computing time y of least cost u^2/x + v^2/y under x + y = T, y <= its limit.

    Args:
        deadline_s: T > 0, any shape.
        band_root: u >= 0, square root of price times seconds at the whole band; broadcasts.
        cpu_root: v >= 0, the same of the CPU; u + v > 0.
        compute_s_max: limit of y (what remains after the model has arrived), below T; broadcasts.
    """
    compute_s = np.minimum(deadline_s * (cpu_root / (band_root + cpu_root)), compute_s_max)
    return deadline_s - compute_s, compute_s


@dataclass(frozen=True)
class DeadlineShares:
    """Shares (R, n) of band and CPU, and the tasks (R, n) that they serve in time."""

    band: Array
    cpu: Array
    served: Array


def deadline_shares(
    band_s: Array, cpu_s: Array, deadline_s: Array, fetch_s: Array, member: Array, computing: Array, burden: Array
) -> DeadlineShares:
    """Shares of one band and one CPU that serve as many tasks in time as possible, shedding the greatest burdens.

    The tasks left share one price ratio: the smallest for which the CPU suffices. If the band does not suffice then,
    the task of greatest burden is shed, and so on. A smaller set needs less of both, so the number shed is found by
    bisection. R rows are independent pools.

    Args:
        band_s: (R, n) seconds at the whole band; infinity on a dead channel.
        cpu_s: (R, n) seconds at the whole CPU.
        deadline_s: (R, n) time for transmission and computing, > 0.
        fetch_s: (R, n) time before which computing cannot start.
        member: (R, n) bool, tasks of the pool.
        computing: (R, n) bool; others only transmit, for the whole of `deadline_s`.
        burden: (R, n), order of shedding, greatest first.
    """
    limit_s = deadline_s * (1.0 - ROUNDING)
    room_s = np.where(computing, limit_s - fetch_s, limit_s)
    hopeless = (band_s >= limit_s) | (computing & (cpu_s >= room_s))
    member = member & ~hopeless
    band_s, cpu_s = np.where(member, band_s, 1.0), np.where(member & computing, cpu_s, 0.0)
    room_s = np.where(member & computing, room_s, 0.5 * limit_s)
    ratio = np.sqrt(cpu_s / band_s)
    order = np.argsort(np.where(member, -burden, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
    parts = (band_s, cpu_s, limit_s, room_s, ratio)
    least, most = np.zeros(len(rank), int), member.sum(axis=1)  # `most` shed is always feasible: nobody is left
    while (least < most).any():
        middle = (least + most) // 2
        fits = _balance(*parts, member & (rank >= middle[:, None]))[2]
        least, most = np.where(fits, least, middle + 1), np.where(fits, middle, most)
        least = np.minimum(least, most)
    served = member & (rank >= most[:, None])
    band, cpu, _ = _balance(*parts, served)
    return DeadlineShares(band, cpu, served)


def _balance(
    band_s: Array, cpu_s: Array, limit_s: Array, room_s: Array, ratio: Array, alive: Array
) -> tuple[Array, Array, Array]:
    """Shares at the smallest price ratio for which the CPU suffices, and whether band and CPU then do."""
    low, high = (np.full((len(alive), 1), end) for end in LOG_RATIO_RANGE)
    work = np.where(alive, cpu_s, 0.0)

    def compute_s(log_ratio: Array) -> Array:
        return split_deadline_s(limit_s, 1.0, np.exp(log_ratio) * ratio, room_s)[1]

    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            taken = np.where(work > 0, work / compute_s(middle), 0.0).sum(axis=1, keepdims=True)
            low, high = np.where(taken > 1.0, middle, low), np.where(taken > 1.0, high, middle)
        time_s = compute_s(high)
        cpu = np.where(work > 0, work / time_s, 0.0)
        band = np.where(alive, band_s / (limit_s - time_s), 0.0)
    return band, cpu, (band.sum(axis=1) <= 1.0) & (cpu.sum(axis=1) <= 1.0)
