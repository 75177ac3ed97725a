"""Numba's compilers, which lose the type of what they compile, and where compiled code is kept.

Numba looks for it beside the source, so that every copy of the project (a checkout, the folder that a job of a Ray
cluster unpacks) compiles anew, which takes seconds to a minute. Ours is kept once per user and found by content.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import config, njit
from numba import vectorize as numba_vectorize
from numba.core import caching

from edgemarl.envs.arrays import Array

F = TypeVar("F", bound=Callable[..., Any])
PACKAGE = "edgemarl"


def compiled(*signatures: Any, **options: Any) -> Callable[[F], F]:
    """`numba.njit` as a decorator: the function compiled to machine code, when first called without signatures."""
    return cast(Callable[[F], F], njit(*signatures, **options))


def vectorized(*signatures: Any, **options: Any) -> Callable[[Callable[..., float]], Callable[..., Array]]:
    """`numba.vectorize` as a decorator: a function of numbers as one of arrays, with broadcasting."""
    return cast(Callable[[Callable[..., float]], Callable[..., Array]], numba_vectorize(*signatures, **options))


def cache_folder() -> Path:
    """Where compiled code is kept: `NUMBA_CACHE_DIR`, else `edgemarl/numba` in the user's cache folder."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / PACKAGE / "numba"


def content_digest(function: Callable[..., Any]) -> str:
    """Digest of all that code compiled from a function depends on: its file, the files of the functions that it calls,
    and the numbers that these read.

    Numba itself looks at the function's own file alone and would keep code that holds an old version of a function, or
    an old number, of another file.
    """
    digest, seen = hashlib.sha256(), set()

    def add(called: types.FunctionType) -> None:
        if called in seen or called.__module__.split(".")[0] != PACKAGE:
            return
        seen.add(called)
        digest.update(Path(inspect.getfile(called)).read_bytes())
        for name in sorted(_names(called.__code__) & set(called.__globals__)):
            value = called.__globals__[name]
            value = getattr(value, "py_func", value)
            if isinstance(value, types.FunctionType):
                add(value)
            elif isinstance(value, bool | int | float | str | tuple):
                digest.update(repr((name, value)).encode())

    add(cast(types.FunctionType, function))
    return digest.hexdigest()


def _names(code: types.CodeType) -> set[str]:
    """Names that a function reads, those of functions and comprehensions inside it too."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


class ContentLocator(caching._CacheLocator):  # type: ignore[misc]  # Numba has no types
    """Finds the compiled code of this project's functions by what was compiled, wherever its source lies."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._digest = content_digest(function)
        self._folder = cache_folder() / f"{function.__module__}.{function.__qualname__}-{self._digest[:16]}"

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return ""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> ContentLocator | None:
        """The locator of a function of this project; None where it is another's or the folder cannot be written."""
        if py_func.__module__.split(".")[0] != PACKAGE:
            return None
        try:
            locator = cls(py_func)
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


if ContentLocator not in caching.CacheImpl._locator_classes:
    caching.CacheImpl._locator_classes.insert(0, ContentLocator)
