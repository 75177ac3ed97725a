"""Checks of what a script hands over: each raises a `ValueError` that names argument, value and what is legal."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgemarl.envs.config import quoted

K = TypeVar("K")


def checked_integer(name: str, value: Any, low: int, unit: str = "", high: int | None = None) -> int:
    """A whole number of Python or NumPy, at least `low` and at most `high`; a bool or a float is none."""
    at_most = "" if high is None else f" and <= {high}"
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        shown = f"{quoted(value)} {unit}".rstrip()
        raise ValueError(f"{name} = {shown} is not legal: must be an integer >= {low}{at_most}")
    return number


def checked_number(name: str, value: Any, low: float, high: float = math.inf, above: bool = False) -> float:
    """A finite number from `low` (or `above` it) to `high`."""
    at_most = "" if high == math.inf else f" and <= {high:g}"
    try:
        number = math.nan if isinstance(value, str | bytes | bool | np.bool_) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        sign = ">" if above else ">="
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be a finite number {sign} {low:g}{at_most}")
    return number


def checked_seed(name: str, value: Any) -> int:
    """A seed: a whole number from 0 on."""
    return checked_integer(name, value, 0)


def checked_generator(name: str, value: Any) -> np.random.Generator:
    """A generator of random numbers; a seed is none, since it would draw the same in every call."""
    if not isinstance(value, np.random.Generator):
        seed = value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
        raise ValueError(
            f"{name} = {quoted(value)} is not legal: must be a numpy.random.Generator, such as "
            f"numpy.random.default_rng({quoted(seed)})"
        )
    return value


def checked_kind(name: str, value: K, kind: type[Any], such_as: str = "") -> K:
    """An object of a class."""
    if not isinstance(value, kind):
        hint = f", such as {such_as}" if such_as else ""
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be a {kind.__qualname__}{hint}")
    return value


def checked_path(name: str, value: Any) -> Path:
    """The path of a file or folder."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be the path of a file or folder")
    return Path(value)


def checked_function(name: str, value: Any, of: str) -> Any:
    """A function, or None where nobody is to be told; `of` says what it is called with."""
    if value is not None and not callable(value):
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be a function of {of}, or None")
    return value


def checked_names(name: str, value: Any) -> tuple[str, ...]:
    """Names in a list or another sequence; a single text is none, since its letters would be taken for names."""
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else None
    if given is None or not all(isinstance(entry, str) for entry in given):
        such_as = f", such as [{quoted(value)}]" if isinstance(value, str) else ""
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be a list of names{such_as}")
    return given


def checked_mapping(name: str, value: Any, what: str) -> Mapping[Any, Any]:
    """A mapping; `what` says of what to what."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} = {quoted(value)} is not legal: must be a mapping of {what}")
    return value
