"""Units of what is measured, and how it becomes a field of a trace: dB and rates to gains, positions to path loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.measured import Link
from edgemarl.envs.physics.radio import dbm_to_w, from_db, path_loss_db, snr_of_rate

EFFICIENCY_MAX = 10.0
"""bit/s/Hz that a throughput proves at most: above it a modem's rate no longer tells the SNR (256-QAM)."""
EFFICIENCY_MIN = 1e-3
"""bit/s/Hz below which half of all throughputs are hardly in the unit that was named."""
EARTH_M = 6_371_000.0
SNR_DB = (-30.0, 80.0)
GAIN_DB = (-250.0, -50.0)
"""What an SNR and a path gain in dB may be."""


@dataclass(frozen=True)
class Unit:
    """A unit: the quantity that it is of, and how its numbers become SI numbers (ratios for decibels).

    kind: "decibel" (an SNR or a path gain), "snr", "gain", "power", "rate", "distance", "degree", "plain", or the unit
    of a trace's field ("bit", "s", "cycle", "1/s", "task").
    """

    kind: str
    to_si: Callable[[Array], Array]


def _times(factor: float) -> Callable[[Array], Array]:
    return lambda values: values * factor


UNITS: Mapping[str, Unit] = {
    "dB": Unit("decibel", from_db),
    "snr_dB": Unit("snr", from_db),
    "gain_dB": Unit("gain", from_db),
    "loss_dB": Unit("gain", lambda values: from_db(-values)),
    "dBm": Unit("power", dbm_to_w),
    "W": Unit("power", _times(1.0)),
    "mW": Unit("power", _times(1e-3)),
    **{f"{p}bit/s": Unit("rate", _times(f)) for p, f in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))},
    **{f"{p}B/s": Unit("rate", _times(8.0 * f)) for p, f in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))},
    "m": Unit("distance", _times(1.0)),
    "km": Unit("distance", _times(1e3)),
    "deg": Unit("degree", _times(1.0)),
    "1": Unit("plain", _times(1.0)),
    "%": Unit("plain", _times(0.01)),
    **{f"{p}bit": Unit("bit", _times(f)) for p, f in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))},
    **{f"{p}B": Unit("bit", _times(8.0 * f)) for p, f in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))},
    "s": Unit("s", _times(1.0)),
    "ms": Unit("s", _times(1e-3)),
    "us": Unit("s", _times(1e-6)),
    **{f"{p}cycle": Unit("cycle", _times(f)) for p, f in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))},
    "1/s": Unit("1/s", _times(1.0)),
    "1/min": Unit("1/s", _times(1.0 / 60.0)),
    "1/h": Unit("1/s", _times(1.0 / 3600.0)),
    "task": Unit("task", _times(1.0)),
}
ALIASES = {
    "db": "dB", "dbm": "dBm", "snr_db": "snr_dB", "gain_db": "gain_dB", "loss_db": "loss_dB", "bps": "bit/s",
    "kbps": "kbit/s", "Mbps": "Mbit/s", "mbps": "Mbit/s", "Gbps": "Gbit/s", "kbit": "kbit", "KB": "kB", "": "1",
    "linear": "1", "percent": "%", "µs": "us", "tasks": "task",
}  # fmt: skip


def unit(name: str) -> Unit:
    """A unit by name.

    Raises:
        ValueError: an unknown one.
    """
    known = UNITS.get(ALIASES.get(name, name))
    if known is None:
        raise ValueError(unknown_name("unit", name, UNITS))
    return known


@dataclass(frozen=True)
class Radio:
    """What is known of the link that was measured; None takes the scenario's own.

    Attributes:
        power_w: power that was sent, in the band that was measured.
        noise_w: noise power in that band.
        bandwidth_hz: the band that carried a throughput.
        path_loss: dB at 1 m and dB per decade of distance.
        base: position of the base station, in the unit of the positions.
    """

    power_w: float | None = None
    noise_w: float | None = None
    bandwidth_hz: float | None = None
    path_loss: tuple[float, float] | None = None
    base: tuple[float, float] | None = None


def natural(name: str, field: str, values: Array, missing: Array) -> tuple[str, Array, str]:
    """Measured numbers in the quantity in which they may be averaged: ratios, W, bit/s, m, ..

    Args:
        name: of the unit.
        field: for messages.
        values: numbers of any shape.
        missing: (like values) what is no number.

    Returns:
        kind (as `Unit.kind`, "decibel" resolved), values, and what was concluded, if anything.

    Raises:
        ValueError: decibels that may be either an SNR or a path gain.
    """
    given = unit(name)
    kind, said = given.kind, ""
    if kind == "decibel":
        known = values[~missing]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        if low >= SNR_DB[0] and high <= SNR_DB[1]:
            kind, said = "snr", "read as SNR"
        elif low >= GAIN_DB[0] and high <= GAIN_DB[1]:
            kind, said = "gain", "read as path gain"
        else:
            raise ValueError(
                f"{field} holds {low:g} to {high:g} dB, which is neither an SNR ({SNR_DB[0]:g} to {SNR_DB[1]:g}) nor a "
                f"path gain ({GAIN_DB[0]:g} to {GAIN_DB[1]:g}): name it, snr_dB, gain_dB or loss_dB"
            )
    with np.errstate(over="ignore", invalid="ignore"):
        return kind, given.to_si(values), said


def distances_m(kind: str, positions: Array, base: tuple[float, float]) -> Array:
    """(n,) distance in m of positions (n, 2), x and y in m or longitude and latitude in degrees, from a base."""
    along, across = (positions[:, i] - base[i] for i in (0, 1))
    if kind == "degree":
        metres = np.pi / 180.0 * EARTH_M
        along, across = along * metres * np.cos(np.deg2rad(base[1])), across * metres
    return np.hypot(along, across)


def path_gain(kind: str, field: str, values: Array, link: Link, radio: Radio) -> tuple[Array, tuple[str, ...]]:
    """Gains as a field of the trace holds them, from what was measured of the link.

    An SNR is that of the scenario's own power and noise unless the measured link's are given; a throughput gives the
    SNR that carries it (Shannon's inverse, up to `EFFICIENCY_MAX`); a distance gives the mean gain of a path-loss law.

    Args:
        kind: "snr", "gain", "power", "rate" or "distance".
        field: for messages.
        values: SI numbers, any shape.
        link: the scenario's.
        radio: the measured one.

    Returns:
        gains, like `values`, and what is to be said of them.

    Raises:
        ValueError: what is needed to know and was not given; numbers that cannot be in their unit.
    """
    power_w = link.power_w if radio.power_w is None else radio.power_w
    noise_w = link.noise_w if radio.noise_w is None else radio.noise_w
    said: tuple[str, ...] = ()
    received = kind == "power"
    if received:
        if (radio.power_w is None) == (radio.noise_w is None):
            raise ValueError(
                f"{field} is given as received power: say either what was sent in the same band (--power-dbm; then the "
                "ratio is the gain) or the noise in it (--noise-dbm; then the ratio is the SNR)"
            )
        kind, values = ("gain", values / power_w) if radio.noise_w is None else ("snr", values / noise_w)
        power_w, noise_w = link.power_w, link.noise_w
    if kind == "rate":
        values, said = _snr_of_throughput(field, values, link, radio)
        kind = "snr"
    if kind == "distance":
        values, kind = _gain_at(field, values, link, radio), "gain"
    if kind == "snr":
        if not received:  # of a received power the noise was given, or there is no SNR
            said = (*said, f"{field}: {_taken_at(power_w, noise_w, radio)}")
        values = values * (noise_w / power_w)
        kind = "gain"
    if kind != "gain":
        raise ValueError(f"{field} is a path gain; it follows from dB, dBm, a rate, a distance or positions")
    most = float(values.max(initial=0.0))
    if most > 1.0:
        raise ValueError(f"{field} comes out as a path gain of {most:.3g}, must be at most 1: is the unit right?")
    return values / link.noise_w if link.per_w else values, said


def _taken_at(power_w: float, noise_w: float, radio: Radio) -> str:
    """At which power and noise an SNR was taken to be measured, and how to name others."""
    options = {"--power-dbm": radio.power_w, "--noise-dbm": radio.noise_w}
    own = [option for option, given in options.items() if given is None]
    said = f"taken as SNR at {power_w:.4g} W sent over {noise_w:.4g} W of noise"
    return f"{said} ({' and '.join(own)}: not given, the scenario's own)" if own else said


def _snr_of_throughput(field: str, rate_bps: Array, link: Link, radio: Radio) -> tuple[Array, tuple[str, ...]]:
    band_hz = radio.bandwidth_hz or link.bandwidth_hz
    efficiency = rate_bps / band_hz
    if (efficiency < 0.0).any():
        raise ValueError(f"{field}: a rate of {rate_bps.min():g} bit/s is not legal: must be >= 0")
    usual = float(np.median(efficiency[efficiency > 0.0])) if (efficiency > 0.0).any() else 1.0
    band = f"in a band of {band_hz / 1e6:g} MHz half of the rates are"
    if usual > EFFICIENCY_MAX:
        raise ValueError(
            f"{field}: {band} above {usual:.3g} bit/s/Hz, which no link carries: kbit/s taken for Mbit/s, or a wider "
            "band (--bandwidth-hz)?"
        )
    if usual < EFFICIENCY_MIN:
        raise ValueError(
            f"{field}: {band} below {usual:.3g} bit/s/Hz: Mbit/s taken for kbit/s, or a narrower band (--bandwidth-hz)?"
        )
    beyond = float((efficiency > EFFICIENCY_MAX).mean())
    said = (f"{beyond:.1%} of rates cut at {EFFICIENCY_MAX:g} bit/s/Hz",) if beyond else ()
    return snr_of_rate(np.minimum(efficiency, EFFICIENCY_MAX), 1.0, link.snr_gap), said


def _gain_at(field: str, distance_m: Array, link: Link, radio: Radio) -> Array:
    if radio.path_loss is not None:
        return from_db(-path_loss_db(distance_m, *radio.path_loss))
    if link.path_gain is None:
        raise ValueError(
            f"{field}: this scenario has no path-loss law: give --path-loss DB_AT_1M,DB_PER_DECADE, such as 30.6,37.6"
        )
    return link.path_gain(distance_m)


def field_values(field: str, kind: str, values: Array, meta: Mapping[str, Any]) -> Array:
    """Values of a field that is no gain: of its own unit, or plain.

    Raises:
        ValueError: another quantity.
    """
    if kind not in ("plain", meta["unit"]):
        raise ValueError(f"{field} is in {meta['unit']}; a unit of {kind} does not give it")
    return np.rint(values) if meta["integer"] else values


def with_power(radio: Radio, power_dbm: float | None, noise_dbm: float | None) -> Radio:
    """A measured link whose powers are given in dBm."""
    power_w, noise_w = (None if dbm is None else float(dbm_to_w(dbm)) for dbm in (power_dbm, noise_dbm))
    return dataclasses.replace(radio, power_w=power_w, noise_w=noise_w)
