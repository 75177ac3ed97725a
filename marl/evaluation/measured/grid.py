"""Samples at any times on the grid of slots: averaged within a slot, gaps counted and filled as told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgemarl.envs.arrays import Array

Fill = Literal["hold", "interpolate", "none"]
Aggregate = Literal["mean", "last", "max", "min", "sum"]
GAP_INTERVALS = 3.0
"""A pause of more than so many usual intervals between samples is a gap."""
MISSING_MAX = 0.5
"""Share of its time that a device may be missing."""


@dataclass(frozen=True)
class SlotGrid:
    """Slots of `step_s` seconds from `start_s` on."""

    start_s: float
    step_s: float
    slots: int

    def slot(self, times_s: Array) -> Array:
        """(n,) slot in which each time lies, below 0 and from `slots` on outside the grid."""
        return np.floor((times_s - self.start_s) / self.step_s + 1e-9).astype(np.int64)

    @property
    def end_s(self) -> float:
        return self.start_s + self.slots * self.step_s


@dataclass(frozen=True)
class Gaps:
    """What was missing of one device's samples.

    Attributes:
        samples, interval_s: how many, and the usual time between two.
        repeated: samples that bear the stamp of another one.
        count, longest_s: gaps, and the longest in s.
        missing: share of the time that lies in gaps.
        empty: share of slots without a sample, which were filled.
    """

    samples: int
    interval_s: float
    repeated: int
    count: int
    longest_s: float
    missing: float
    empty: float


def gaps(times_s: Array, grid: SlotGrid) -> Gaps:
    """Gaps of sorted stamps (n,), from a device's first sample to its last within the grid."""
    distinct = np.unique(times_s)
    between = np.diff(distinct)
    usual = float(np.median(between)) if len(between) else grid.step_s
    long = between[between > max(GAP_INTERVALS * usual, 1.5 * grid.step_s)]
    span = max(float(distinct[-1] - distinct[0]), grid.step_s)
    slot = grid.slot(times_s)
    filled = len(np.unique(slot[(slot >= 0) & (slot < grid.slots)]))
    return Gaps(
        samples=len(times_s),
        interval_s=usual,
        repeated=len(times_s) - len(distinct),
        count=len(long),
        longest_s=float(long.max(initial=0.0)),
        missing=float((long - usual).sum() / span),
        empty=1.0 - filled / grid.slots,
    )


def per_slot(times_s: Array, values: Array, grid: SlotGrid, aggregate: Aggregate, fill: Fill) -> Array:
    """One value for each slot, from sorted stamps (n,) and their values (n,) or (n, d): (slots,) or (slots, d).

    A slot without a sample takes the latest value before its end ("hold"; at the beginning the first one), or lies on
    the line between the samples around its middle ("interpolate").

    Raises:
        ValueError: a slot without a sample and `fill` "none".
    """
    slot = grid.slot(times_s)
    inside = (slot >= 0) & (slot < grid.slots)
    at, columns = slot[inside], values.reshape(len(values), -1)[inside]
    count = np.bincount(at, minlength=grid.slots)
    slots = np.stack([_aggregated(at, column, count, aggregate) for column in columns.T], axis=-1)
    empty = np.flatnonzero(count == 0)
    if len(empty) and aggregate != "sum":
        if fill == "none":
            raise ValueError(
                f"{len(empty)} of {grid.slots} slots of {grid.step_s:g} s hold no sample, the first one "
                f"{empty[0] * grid.step_s:g} s after the start: give --fill hold or --fill interpolate, or longer "
                "slots with --resample"
            )
        whole = values.reshape(len(values), -1)
        if fill == "hold":
            ends = grid.start_s + (empty + 1) * grid.step_s
            slots[empty] = whole[np.maximum(np.searchsorted(times_s, ends, side="left") - 1, 0)]
        else:
            middles = grid.start_s + (empty + 0.5) * grid.step_s
            slots[empty] = np.stack([np.interp(middles, times_s, column) for column in whole.T], axis=-1)
    return slots.reshape(grid.slots, *values.shape[1:])


def _aggregated(slot: Array, values: Array, count: Array, aggregate: Aggregate) -> Array:
    slots = len(count)
    if aggregate in ("mean", "sum"):
        total = np.bincount(slot, weights=values, minlength=slots)
        return total if aggregate == "sum" else total / np.maximum(count, 1)
    aggregated = np.zeros(slots)
    if aggregate == "last":
        aggregated[slot] = values  # in order of time: the last one stays
        return aggregated
    aggregated[:] = -np.inf if aggregate == "max" else np.inf
    (np.maximum if aggregate == "max" else np.minimum).at(aggregated, slot, values)
    return np.where(count > 0, aggregated, 0.0)


def counts(times_s: Array, weights: Array, grid: SlotGrid) -> Array:
    """(slots,) events in each slot."""
    slot = grid.slot(times_s)
    inside = (slot >= 0) & (slot < grid.slots)
    return np.bincount(slot[inside], weights=weights[inside], minlength=grid.slots)


def spread(arrived: Array, most: float) -> tuple[Array, Array]:
    """Arrivals (slots, ..) of which each slot takes `most`: further ones wait and come in the slots that follow.

    Returns:
        arrivals with no entry above `most`, and what is left over after the last slot (..).
    """
    surplus = np.cumsum(arrived - most, axis=0)
    waiting = surplus - np.minimum(np.minimum.accumulate(surplus, axis=0), 0.0)  # Lindley's recursion
    before = np.concatenate([np.zeros_like(waiting[:1]), waiting[:-1]])
    return arrived + before - waiting, waiting[-1]
