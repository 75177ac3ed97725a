"""Stamps of any kind as seconds: numbers, dates as text, dates of a data frame."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgemarl.envs.arrays import Array

if TYPE_CHECKING:
    import pandas as pd

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
FORMATS = (
    *("ISO8601", "%Y.%m.%d_%H.%M.%S", "%Y.%m.%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y%m%d_%H%M%S", "%d.%m.%Y %H:%M:%S"),
    *("%d.%m.%Y %H:%M", "%a %b %d %H:%M:%S %Y", "%d %b %Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    *("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%H:%M:%S"),
)
"""Dates that are understood without being told, in `strptime`'s words; zone and parts of a second come off first."""
ZONE = re.compile(r"(?:(?<=[\d ])(Z)|\s*([+-]\d\d:?\d\d)|\s+([A-Z]{3,5}))(?=\s|$)")
ANY_ZONE = r"(?:Z|[+-][0-9][0-9]:?[0-9][0-9]| [A-Z][A-Z][A-Z]+)(?: |$)"
ANY_PART, PART = r":[0-9][0-9][.,][0-9]+", re.compile(r"(?<=:\d\d)[.,](\d+)(?=\D|$)")
SAMPLE = 200
EPOCH_SECONDS_MAX = 1e11
"""Larger numbers of seconds lie 3000 years ahead: they are milliseconds since 1970, or finer."""

SLOT = "slot"
"""A unit of time: one step of the scenario."""
COUNTED_MAX = 1e8
"""Larger whole numbers are seconds since 1970, not numbers of slots."""

Clock = Literal["number", "local", "utc"]


@dataclass(frozen=True)
class Stamps:
    """Seconds (n,), NaN where there is none, and of what kind of clock: a number, local time, or a named instant.

    `counted`: numbers in seconds that look like numbers of slots, whole and one apart.
    """

    seconds: Array
    clock: Clock
    counted: bool = False


def seconds(column: pd.Series, unit: str = "s", form: str = "", step_s: float = 1.0) -> Stamps:
    """Stamps as seconds since 1970, or since whatever a number counts from.

    Args:
        column: numbers, texts or dates.
        unit: of numbers, one of `TIME_UNITS`, or `SLOT`.
        form: of texts, as in `strptime`; found by itself where it can only be one.
        step_s: seconds of a slot.

    Raises:
        ValueError: an unknown or ambiguous form, zones that are mixed, numbers too large for their unit.
    """
    import pandas as pd

    name = column.name
    if column.dtype.kind in "iuf":
        units = {**TIME_UNITS, SLOT: step_s}
        if unit not in units:
            raise ValueError(f"time unit '{unit}' is not legal: one of {', '.join(units)}")
        values = column.to_numpy(np.float64) * units[unit]
        if np.nanmax(np.abs(values), initial=0.0) > EPOCH_SECONDS_MAX:
            raise ValueError(f"column '{name}' holds {column.max():g} {unit}: ms since 1970? (--time-unit ms)")
        return Stamps(values, "number", unit == "s" and _counted(values))
    if column.dtype.kind == "m":
        return Stamps(column.dt.total_seconds().to_numpy(), "number")
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return Stamps(_epoch(column.dt.tz_convert("UTC").dt.tz_localize(None)), "utc")
    if column.dtype.kind == "M":
        return Stamps(_epoch(column), "local")
    return _texts(column, form)


def _counted(values: Array) -> bool:
    """Whether numbers (n,) are whole, one apart for the most part, and no date."""
    there = np.unique(values[np.isfinite(values)])
    whole = len(there) > 1 and bool((there == np.floor(there)).all()) and np.abs(there).max() < COUNTED_MAX
    return bool(whole and np.median(np.diff(there)) == 1.0)


def _epoch(column: pd.Series) -> Array:
    values = column.to_numpy("datetime64[ns]")
    seconds = values.astype(np.int64) * 1e-9
    return np.where(np.isnat(values), np.nan, seconds)


def _texts(column: pd.Series, form: str) -> Stamps:
    import pandas as pd

    codes, texts = pd.factorize(column.astype("string").str.strip())
    uniques = pd.Series(texts, dtype="string")
    if not len(uniques):
        raise ValueError(f"column '{column.name}' holds no stamps")
    part_s: Array = np.zeros(len(uniques))
    if not form and uniques.str.contains(ANY_PART, regex=True).any():
        part_s = ("0." + uniques.str.extract(PART)[0].fillna("0")).astype(float).to_numpy()
        uniques = uniques.str.replace(PART, "", n=1, regex=True)
    if form or not uniques.str.contains(ANY_ZONE, regex=True).any():
        return Stamps(np.append(_epoch(_parsed(column.name, uniques, form)) + part_s, np.nan)[codes], "local")
    zones = uniques.str.extract(ZONE).bfill(axis=1).iloc[:, 0]
    words = set(zones.dropna())
    if zones.isna().any() and words:
        raise ValueError(f"column '{column.name}' mixes stamps with a zone ({min(words)}) and without: write all alike")
    named = {word for word in words if word.isalpha()} - {"Z", "UTC", "GMT"}
    if len(named) > 1 or (named and len(words) > 1):
        raise ValueError(f"column '{column.name}' mixes the zones {', '.join(sorted(words))}: convert all to UTC")
    bare = uniques.str.replace(ZONE, "", n=1, regex=True).str.strip()
    dates = _parsed(column.name, bare, form)
    offset = zones.map(_offset_s, na_action="ignore").astype(float).fillna(0.0).to_numpy()
    values = np.append(_epoch(dates) - offset + part_s, np.nan)[codes]
    return Stamps(values, "utc" if words and not named else "local")


def _offset_s(zone: str) -> float:
    if zone[0] not in "+-":
        return 0.0
    return (1 if zone[0] == "+" else -1) * (3600.0 * int(zone[1:3]) + 60.0 * int(zone[-2:]))


def _parsed(name: object, texts: pd.Series, form: str) -> pd.Series:
    import pandas as pd

    def parse(some: pd.Series, how: str) -> pd.Series | None:
        try:
            return pd.to_datetime(some, format=how, errors="raise")
        except (ValueError, OverflowError):
            return None

    shown = str(texts.iloc[0])[:40]
    if form:
        dates = parse(texts, form)
        if dates is None:
            bad = texts[pd.to_datetime(texts, format=form, errors="coerce").isna()].iloc[0]
            raise ValueError(f"column '{name}' holds '{bad[:40]}', which is not of the form {form}")
        return dates
    fitting = [how for how in FORMATS if parse(texts.iloc[:SAMPLE], how) is not None]
    whole = {how: dates for how in fitting if (dates := parse(texts, how)) is not None}
    if not whole:
        kind = "text that is no date that is known" if not fitting else "dates of more than one form"
        raise ValueError(f"column '{name}' holds {kind}, such as '{shown}': give --time-format, as in strptime")
    first, *others = whole.values()
    if any(not other.equals(first) for other in others):
        raise ValueError(
            f"column '{name}' holds '{shown}', which may be {' or '.join(whole)}: give --time-format, as in strptime"
        )
    return first
