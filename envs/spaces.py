"""Joint actions with discrete and continuous parts: a space for shares, and the parts of one flat array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from edgemarl.envs.arrays import Array

SUM_TOLERANCE = 1e-6


class Simplex(gymnasium.spaces.Box):
    """Non-negative shares that sum to 1; samples are uniform on the simplex."""

    def __init__(self, entries: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(0.0, 1.0, (entries,), np.float64, seed)

    def sample(self, mask: Any = None, probability: Any = None) -> Array:
        return np.asarray(self.np_random.dirichlet(np.ones(self.shape)))

    def contains(self, x: Any) -> bool:
        return super().contains(x) and abs(float(np.sum(x)) - 1.0) <= SUM_TOLERANCE

    def __repr__(self) -> str:
        return f"Simplex({self.shape[0]})"


def parts_of(space: gymnasium.Space[Any]) -> dict[str, gymnasium.Space[Any]]:
    """Name -> part of a Dict, or index as text -> part of a Tuple, in order.

    Raises:
        ValueError: another space.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return dict(space.spaces)
    if isinstance(space, gymnasium.spaces.Tuple):
        return {str(i): part for i, part in enumerate(space.spaces)}
    raise ValueError(f"action space {space} has no parts: must be a Dict or a Tuple")


def entries_of(part: gymnasium.Space[Any]) -> int:
    """Numbers of one flat action of a part."""
    return int(np.prod(part.shape or (), dtype=int))


def split_action(space: gymnasium.Space[Any], flat: Array) -> dict[str, Array]:
    """Name -> (..., *shape) of every part, from one flat row (..., entries); choices become integers."""
    found: dict[str, Array] = {}
    start = 0
    for name, part in parts_of(space).items():
        entries = entries_of(part)
        values = flat[..., start : start + entries].reshape(*flat.shape[:-1], *(part.shape or ()))
        found[name] = values if isinstance(part, gymnasium.spaces.Box) else np.rint(values).astype(np.int64)
        start += entries
    return found


def batched(action: Mapping[str, Any] | tuple[Any, ...]) -> dict[str, Array]:
    """One action of a Dict or Tuple as arrays of one cell (1, ...)."""
    items = action.items() if isinstance(action, Mapping) else ((str(i), value) for i, value in enumerate(action))
    return {name: np.asarray(value)[None] for name, value in items}
