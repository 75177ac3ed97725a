"""Stretches of a long trace, each played as a network of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.trace import trace_fields


def stretches(trace: Any, slots: int) -> Any:
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
    starts = np.arange(trace.slots // slots) * slots
    series = {meta["after"]: name for name, meta in kinds.items() if meta["after"]}

    def cells(values: Array) -> Array:  # (.., C, K, ..) of stretches K -> one cell each
        lead = values.ndim - len(tail)
        return values.reshape(*values.shape[: lead - 2], -1, *tail)

    parts = {}
    for name, meta in kinds.items():
        values = getattr(trace, name)
        tail = values.shape[2 if meta["kind"] == "slot" else 1 :]
        if meta["kind"] == "slot":
            parts[name] = cells(np.stack([values[first : first + slots + 1] for first in starts], axis=2))
        elif name in series:
            whole = np.concatenate([values[None], getattr(trace, series[name])])
            parts[name] = cells(np.moveaxis(whole[starts], 0, 1))
        else:
            parts[name] = np.repeat(values, len(starts), axis=0)
    return dataclasses.replace(trace, **parts)
