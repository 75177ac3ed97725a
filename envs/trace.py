"""Traces: all exogenous draws of an episode, drawn before it starts; per-slot arrays have the slot first."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, cast

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_integer
from edgemarl.envs.config import quoted

S = TypeVar("S")

TraceKind = Literal["slot", "episode", "initial"]


def drawn(
    kind: TraceKind, unit: str, *axes: str, process: str, low: float | None = None, high: float | str | None = None,
    integer: bool = False, after: str = "",
) -> Any:  # fmt: skip
    """A field of a trace: when it is drawn, its unit, its axes beside slot and cell, its process and limits.

    Args:
        kind: "slot" -> array (L+1, B, *axes); "episode" and "initial" -> array (B, *axes).
        unit: SI unit, or "-".
        axes: names of config fields or properties that give the length of each further axis.
        process: name of the random process in `edgemarl.envs.physics.processes` that a sampled trace uses.
        low: smallest legal value, if any.
        high: largest legal value, if any: a number, or the name of a config field or property that holds it.
        integer: the values are whole numbers.
        after: slot t holds what slot t+1 brings; this field of the trace, drawn once, holds what the first slot brings.
    """
    return field(
        metadata={
            "kind": kind, "unit": unit, "axes": axes, "process": process, "low": low, "high": high, "integer": integer,
            "after": after,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """ALL exogenous draws of an episode, drawn before it starts; subclasses declare fields with `drawn`.

    Per-slot arrays are (L+1, B, ...): one slot more than steps, since the last observation is needed.
    """

    @property
    def cells(self) -> int:
        """Number of cells B."""
        name, meta = next(iter(trace_fields(type(self)).items()))
        return int(getattr(self, name).shape[1 if meta["kind"] == "slot" else 0])

    @property
    def slots(self) -> int:
        """Number of steps L that the trace carries."""
        name = next(n for n, meta in trace_fields(type(self)).items() if meta["kind"] == "slot")
        return int(getattr(self, name).shape[0]) - 1

    def select(self: S, cells: Any) -> S:
        """The trace of some cells.

        Args:
            cells: a slice, a list or array of indices, or a bool for every cell.

        Raises:
            ValueError: no cell, one that the trace does not have, or something else.
        """
        cells = chosen_cells(cells, self.cells)  # type: ignore[attr-defined]
        parts = {
            name: getattr(self, name)[:, cells] if meta["kind"] == "slot" else getattr(self, name)[cells]
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)

    def shortened(self: S, slots: int) -> S:
        """The first `slots` steps of the trace, all of them where it has no more.

        Raises:
            ValueError: slots is no integer from 1 on.
        """
        slots = checked_integer("slots", slots, 1)
        parts = {
            name: getattr(self, name)[: slots + 1] if meta["kind"] == "slot" else getattr(self, name)
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)


def chosen_cells(cells: Any, count: int) -> slice | Array:
    """Which of `count` cells a slice, indices or a bool for every cell choose, at least one."""
    if isinstance(cells, slice):
        with_numbers = all(isinstance(end, int | None) for end in (cells.start, cells.stop, cells.step))
        if with_numbers and cells.step != 0 and len(range(*cells.indices(count))):
            return cells
    else:
        try:
            index = np.asarray(cells)
        except ValueError:  # lists of different lengths
            index = np.zeros(0)
        flags = index.dtype.kind == "b" and index.shape == (count,) and index.any()
        numbers = index.dtype.kind in "iu" and index.ndim == 1 and len(index) > 0
        if flags or (numbers and index.min() >= -count and index.max() < count):
            return index
    raise ValueError(
        f"cells = {quoted(cells)} is not legal: must choose one cell or more of the trace's {count}, such as [0], "
        "by a slice, integers or a bool for every cell"
    )


def trace_fields(trace_type: type) -> Mapping[str, Mapping[str, Any]]:
    """Name -> metadata of a trace's fields, in order; its keys are the arguments of `drawn`."""
    return _trace_fields(cast(Hashable, trace_type))


@cache
def _trace_fields(trace_type: Any) -> Mapping[str, Mapping[str, Any]]:
    return {f.name: f.metadata for f in dataclasses.fields(trace_type)}


def joined(traces: Sequence[S]) -> S:
    """One trace of the cells of several that are equally long."""
    if len(traces) == 1:
        return traces[0]
    parts = {
        name: np.concatenate([getattr(trace, name) for trace in traces], axis=1 if meta["kind"] == "slot" else 0)
        for name, meta in trace_fields(type(traces[0])).items()
    }
    return type(traces[0])(**parts)


def trace_limits(meta: Mapping[str, Any], config: Any) -> tuple[float | None, float | None]:
    """Smallest and largest legal value of a trace's field under a config; None where there is no limit."""
    high = meta["high"]
    return meta["low"], float(getattr(config, high)) if isinstance(high, str) else high
