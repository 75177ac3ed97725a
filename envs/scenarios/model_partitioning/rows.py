"""Rows as agents see them, and the boxes that they lie in."""

from __future__ import annotations

import gymnasium
import numpy as np

from edgemarl.envs.arrays import Array

OBSERVATION_MAX = 10.0


def clipped(row: Array) -> Array:
    """As float32 within the bounds."""
    return np.clip(row, -OBSERVATION_MAX, OBSERVATION_MAX).astype(np.float32, copy=False)


def row_box(entries: int) -> gymnasium.spaces.Box:
    """The space of a row."""
    return gymnasium.spaces.Box(-OBSERVATION_MAX, OBSERVATION_MAX, (entries,), np.float32)


def unit_box(entries: int) -> gymnasium.spaces.Box:
    """The space of a raw action of numbers in [0, 1]."""
    return gymnasium.spaces.Box(0.0, 1.0, (entries,), np.float32)
