"""Whole numbers of the command line, which may be written as 1e6."""

from __future__ import annotations

from typing import Any

import typer


def whole_number(value: Any) -> int:
    """A whole number, which may be written as 1e6."""
    from edgemarl.envs.config import quoted, whole

    number = whole(value)
    if not isinstance(number, int):
        raise typer.BadParameter(f"{quoted(value)} is not a whole number of at most 18 digits")
    return number


def whole_number_from_0(value: Any) -> int:
    """The same, at least 0."""
    return _at_least(0, value)


def whole_number_from_1(value: Any) -> int:
    """The same, at least 1."""
    return _at_least(1, value)


def _at_least(least: int, value: Any) -> int:
    if whole_number(value) < least:
        raise typer.BadParameter(f"{value} is not legal: must be a whole number >= {least}")
    return whole_number(value)
