"""How numbers, intervals, shares and times read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgemarl.marl.evaluation.compare import Interval


def with_interval(value: Interval | None, digits: int = 3) -> str:
    """`6.66 [6.51, 6.82]`; only the estimate where there is no interval."""
    if value is None or not math.isfinite(value.value):
        return "-"
    if not math.isfinite(value.low) or value.low == value.high:
        return significant(value.value, digits)
    places = _places(max(abs(value.low), abs(value.high)), digits)
    return f"{value.value:.{places}f} [{value.low:.{places}f}, {value.high:.{places}f}]"


def percent(value: Interval | None) -> str:
    """A share with its interval, in percent."""
    if value is None or not math.isfinite(value.value):
        return "-"
    if not math.isfinite(value.low) or value.low == value.high:
        return f"{100 * value.value:.1f}%"
    return f"{100 * value.value:.1f}% [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def significant(value: float, digits: int = 3) -> str:
    """A number with about `digits` significant digits and no exponent where that reads well."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.{_places(abs(value), digits)}f}" if 1e-4 <= abs(value) < 1e7 else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """`130 µs`, `2.4 s`, `185 s`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{significant(seconds * 1e3)} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds:.0f} s"


def _places(magnitude: float, digits: int) -> int:
    if magnitude <= 0:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(magnitude)))
