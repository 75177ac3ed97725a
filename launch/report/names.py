"""Names of controllers that fit: the middle of a long one is left out, and two of them stay distinct."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 28
"""Characters of a controller's name in a terminal's table and beside a figure."""


def short_names(names: Sequence[str], width: int = WIDTH) -> dict[str, str]:
    """Name -> at most `width` characters, or as many as it takes to tell it from every other one.

    Args:
        names: different ones.
        width: at least 5.
    """
    for wide in range(width, max(map(len, names), default=0)):
        shortened = {name: elided(name, wide) for name in names}
        if len(set(shortened.values())) == len(shortened):
            return shortened
    return {name: name for name in names}


def elided(name: str, width: int) -> str:
    """A name without its middle, at most `width` characters; its end is longer, for there files of a folder differ."""
    if len(name) <= width:
        return name
    end = (width - 1) * 3 // 5
    return f"{name[: width - 1 - end]}…{name[-end:]}"
