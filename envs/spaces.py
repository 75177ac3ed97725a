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
    parts: dict[str, Array] = {}
    start = 0
    for name, part in parts_of(space).items():
        entries = entries_of(part)
        values = flat[..., start : start + entries].reshape(*flat.shape[:-1], *(part.shape or ()))
        parts[name] = values if isinstance(part, gymnasium.spaces.Box) else np.rint(values).astype(np.int64)
        start += entries
    return parts


def batched(action: Mapping[str, Any] | tuple[Any, ...]) -> dict[str, Array]:
    """One action of a Dict or Tuple as arrays of one cell (1, ...)."""
    items = action.items() if isinstance(action, Mapping) else ((str(i), value) for i, value in enumerate(action))
    return {name: np.asarray(value)[None] for name, value in items}


def unit_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The space with the interval [-1, 1] for every entry of a Box; choices and shares stay as they are.

    Learners whose first Gaussian lies around 0 and is cut at the bounds start in the middle of such a space.

    Raises:
        ValueError: a Box without finite bounds.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return gymnasium.spaces.Dict({name: unit_space(part) for name, part in space.spaces.items()})
    if isinstance(space, gymnasium.spaces.Tuple):
        return gymnasium.spaces.Tuple(tuple(unit_space(part) for part in space.spaces))
    if not isinstance(space, gymnasium.spaces.Box) or isinstance(space, Simplex):
        return space
    if not space.is_bounded():
        raise ValueError(f"action space {space} is not bounded: actions='unit' needs finite bounds")
    return gymnasium.spaces.Box(-1.0, 1.0, space.shape, np.float32)


def from_unit(space: gymnasium.Space[Any], action: Any) -> Any:
    """Actions (..., *shape) of `unit_space(space)` as actions of the space; entries outside [-1, 1] are clipped.

    Args:
        space: a space, whose actions are arrays, or a Dict or Tuple, whose actions are named parts (`batched`).
    """
    if isinstance(space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple):
        return {name: from_unit(part, action[name]) for name, part in parts_of(space).items()}
    if not isinstance(space, gymnasium.spaces.Box) or isinstance(space, Simplex):
        return action
    share = (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
    return space.low + share * (np.asarray(space.high, np.float64) - space.low)
