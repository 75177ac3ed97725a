"""What a person wants to know of a trace's field: its mean and spread, and how soon it forgets itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.trace import Trace, trace_fields

INDEPENDENT = 10.0
"""Autocorrelation times after which a stretch of a series is as good as a series of its own."""
SHORT = 10.0
"""A series of fewer autocorrelation times gives a lower bound alone."""
WINDOW = 5.0
"""Autocorrelations are summed up to so many autocorrelation times (Sokal's window)."""


@dataclass(frozen=True)
class Series:
    """A field over slots and all of its entries.

    Attributes:
        mean, deviation, low, high: over all entries.
        autocorrelation_slots: slots after which values are new: 1 where every slot is drawn anew, the length of the
            series where it never forgets; NaN where the field does not change.
        autocorrelation_is_bound: the series is too short to tell; the true time may be longer.
    """

    mean: float
    deviation: float
    low: float
    high: float
    autocorrelation_slots: float
    autocorrelation_is_bound: bool = False


def describe(values: Array) -> Series:
    """Statistics of a per-slot field (L+1, ...), or of one without slots as a series of length 1."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    time, bound = autocorrelation_slots(flat)
    return Series(
        float(flat.mean()), float(flat.std()), float(flat.min()), float(flat.max()), time, bound
    )  # fmt: skip


def of_trace(trace: Trace) -> dict[str, Series]:
    """Field of a trace -> its statistics; what is drawn once is a series of length 1."""
    values = {name: (getattr(trace, name), meta["kind"] == "slot") for name, meta in trace_fields(type(trace)).items()}
    return {name: describe(field if per_slot else field[None]) for name, (field, per_slot) in values.items()}


def longest_memory(fields: Mapping[str, Series]) -> tuple[str, float]:
    """The field that remembers longest and its autocorrelation time in slots; ("", 1) where nothing changes."""
    known = {name: s.autocorrelation_slots for name, s in fields.items() if not np.isnan(s.autocorrelation_slots)}
    return max(known.items(), key=lambda item: item[1], default=("", 1.0))


def autocorrelation_slots(values: Array) -> tuple[float, bool]:
    """Integrated autocorrelation time 1 + 2 sum_k rho(k) in slots of series (L, n), from the mean of their functions.

    The sum ends at the first lag beyond `WINDOW` times itself: A. Sokal, Monte Carlo Methods in Statistical Mechanics
    (1996), Sec. 3. Autocovariances by Fourier transform, about each series' own mean.

    Returns:
        the time, >= 1 (NaN where nothing changes), and whether the series is too short for more than a lower bound.
    """
    length = len(values)
    centred = values - values.mean(axis=0)
    changing = centred.std(axis=0) > 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    if length < 4 or not changing.any():
        return float("nan"), False
    covariance = np.zeros(length)
    for block in np.array_split(np.flatnonzero(changing), max(1, int(changing.sum()) * length // 2**22)):
        spectrum = np.fft.rfft(centred[:, block] / centred[:, block].std(axis=0), 2 * length, axis=0)
        covariance += np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:length].sum(axis=1)
    rho = covariance / covariance[0]
    times = 1.0 + 2.0 * np.cumsum(rho[1:])
    inside = np.flatnonzero(np.arange(1, length) >= WINDOW * times)
    time_slots = float(max(times[inside[0]], 1.0)) if len(inside) else float(length)
    return time_slots, length < SHORT * time_slots
