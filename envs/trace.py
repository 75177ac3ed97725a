"""Traces: all exogenous draws of an episode, drawn before it starts; per-slot arrays have the slot first."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, cast

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
        """The trace of some cells (slice or index array)."""
        parts = {
            name: getattr(self, name)[:, cells] if meta["kind"] == "slot" else getattr(self, name)[cells]
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)

    def shortened(self: S, slots: int) -> S:
        """The first `slots` steps of the trace."""
        parts = {
            name: getattr(self, name)[: slots + 1] if meta["kind"] == "slot" else getattr(self, name)
            for name, meta in trace_fields(type(self)).items()
        }
        return type(self)(**parts)


def trace_fields(trace_type: type) -> Mapping[str, Mapping[str, Any]]:
    """Name -> metadata of a trace's fields, in order; its keys are the arguments of `drawn`."""
    return _trace_fields(cast(Hashable, trace_type))


@cache
def _trace_fields(trace_type: Any) -> Mapping[str, Mapping[str, Any]]:
    return {f.name: f.metadata for f in dataclasses.fields(trace_type)}


def trace_limits(meta: Mapping[str, Any], config: Any) -> tuple[float | None, float | None]:
    """Smallest and largest legal value of a trace's field under a config; None where there is no limit."""
    high = meta["high"]
    return meta["low"], float(getattr(config, high)) if isinstance(high, str) else high
