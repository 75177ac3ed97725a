"""Numba's compilers, which lose the type of what they compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba import vectorize as numba_vectorize

from edgemarl.envs.arrays import Array

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*signatures: Any, **options: Any) -> Callable[[F], F]:
    """`numba.njit` as a decorator: the function compiled to machine code, when first called without signatures."""
    return cast(Callable[[F], F], njit(*signatures, **options))


def vectorized(*signatures: Any, **options: Any) -> Callable[[Callable[..., float]], Callable[..., Array]]:
    """`numba.vectorize` as a decorator: a function of numbers as one of arrays, with broadcasting."""
    return cast(Callable[[Callable[..., float]], Callable[..., Array]], numba_vectorize(*signatures, **options))
