"""Value of what is left behind, as a function of a queue in tasks: hat functions or the paper's sigmoids.

Values V_j (J, N) at grid points y_j determine the function; everything else is linear in them, so that evaluating
it anywhere is one product with a constant matrix (P, J). Above the grid it continues linearly, never falling.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgemarl.agents.sequential_offloading.model import ValueTable
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name

Features = Literal["hat", "sigmoid"]
FEATURES = ("hat", "sigmoid")
SIGMOIDS = 30  # M of the paper, with the constant


def sigmoid(values: Array) -> Array:
    """Logistic function without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def sigmoid_features(points: Array, top: float) -> Array:
    """Constant and 29 sigmoids (P, 30) of points (P,), centres c_i = top (i/28)^2 denser near the empty queue."""
    centres = top * (np.arange(SIGMOIDS - 1) / (SIGMOIDS - 2)) ** 2
    widths = np.maximum(np.gradient(centres), 0.35 * top / SIGMOIDS)
    return np.concatenate([np.ones((len(points), 1)), sigmoid((points[:, None] - centres) / widths)], axis=1)


class ValueFunction:
    """How values at grid points become a function.

    Args:
        grid: (J,) rising points y_j from 0.
        step: step of the uniform table used for decisions; a divisor of all grid distances for hat functions.
        features: "hat" (linear between the V_j) or "sigmoid" (ridge fit of 30 features).
        ridge: weight of the ridge.
        dtype: of all values.
    """

    def __init__(self, grid: Array, step: float, features: str, ridge: float, dtype: type) -> None:
        if features not in FEATURES:
            raise ValueError(unknown_name("features", features, FEATURES))
        self.grid, self.step, self.features, self.ridge, self.dtype = grid, step, features, ridge, dtype
        self._table_matrix = self.matrix(np.arange(round(grid[-1] / step) + 1) * step)

    def matrix(self, points: Array) -> Array:
        """(P, J): value at points (P,) = matrix @ V, points above the grid as at its top."""
        inside = np.clip(points, 0.0, self.grid[-1])
        if self.features == "hat":
            upper = np.clip(np.searchsorted(self.grid, inside, side="right"), 1, len(self.grid) - 1)
            weight = (inside - self.grid[upper - 1]) / (self.grid[upper] - self.grid[upper - 1])
            rows = np.zeros((len(points), len(self.grid)))
            rows[np.arange(len(points)), upper - 1] = 1.0 - weight
            rows[np.arange(len(points)), upper] += weight
        else:
            fit = sigmoid_features(self.grid, self.grid[-1])
            gram = fit.T @ fit + self.ridge * np.eye(fit.shape[1])
            rows = sigmoid_features(inside, self.grid[-1]) @ np.linalg.solve(gram, fit.T)
        return np.ascontiguousarray(rows, self.dtype)

    def slope(self, values: Array) -> Array:
        """(N,) slope of V above the grid: the last one, at least 0."""
        rise: Array = np.maximum(values[-1] - values[-2], 0.0) / self.dtype(self.grid[-1] - self.grid[-2])
        return rise

    def table(self, values: Array) -> ValueTable:
        """The function (J, N) -> uniform table, for decisions."""
        return ValueTable(self._table_matrix @ values, self.step, self.slope(values))


def step_size(updates: int) -> float:
    """alpha_t = max(0.6 / (1 + t/40)^0.7, 0.02)."""
    result: float = max(0.6 / (1.0 + updates / 40.0) ** 0.7, 0.02)
    return result
