"""Stretches of a long trace: each a network of its own, or the part of it that is kept apart for training."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TypeVar

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.trace import Trace, trace_fields

T = TypeVar("T", bound=Trace)


def training_slots(slots: int, train_share: float) -> int:
    """Slots at the beginning of a trace of so many that are for training; the others are for comparisons."""
    return int(slots * train_share + 1e-9)


def part(trace: T, first: int, slots: int, fields: Collection[str] | None = None) -> dict[str, Array]:
    """Fields of `slots` steps from slot `first` on, all of them or some.

    What is drawn once per episode stays; what is drawn at the start is, later, what the slot before had brought.
    """
    kinds = trace_fields(type(trace))
    series = {meta["after"]: name for name, meta in kinds.items() if meta["after"]}
    fields_there: dict[str, Array] = {}
    for name in kinds if fields is None else fields:
        values = getattr(trace, name)
        if kinds[name]["kind"] == "slot":
            values = values[first : first + slots + 1]
        elif name in series and first > 0:
            values = getattr(trace, series[name])[first - 1]
        fields_there[name] = values
    return fields_there


def stretches(trace: T, slots: int) -> T:
    """Every stretch of `slots` steps as a cell: (C cells, L steps) become C * (L // slots) cells, cell by cell.

    The observation after a stretch's last step is the first of the next one. What is drawn once per episode is the same
    in all stretches of a cell; what is drawn at the start is, in later stretches, what the slot before had brought.

    Args:
        trace: any trace.
        slots: steps of a stretch; what is left at the end of the trace is not used.

    Raises:
        ValueError: fewer than 1 slot, or more than the trace has.
    """
    if not 1 <= slots <= trace.slots:
        raise ValueError(f"a stretch of {slots} slots is not legal: must be >= 1 and <= {trace.slots} of the trace")
    kinds = trace_fields(type(trace))
    parts = [part(trace, first, slots) for first in range(0, trace.slots // slots * slots, slots)]
    joined = {}
    for name, meta in kinds.items():
        axis = 1 if meta["kind"] == "slot" else 0
        side_by_side = np.stack([stretch[name] for stretch in parts], axis=axis + 1)  # .., C cells, K stretches, ..
        joined[name] = side_by_side.reshape(*side_by_side.shape[:axis], -1, *side_by_side.shape[axis + 2 :])
    return dataclasses.replace(trace, **joined)
