"""Linear models of many agents, each learned by recursive least squares from its own samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.agents.api import restored
from edgemarl.envs.arrays import Array


class LeastSquares:
    """Independent linear models, one recursive least-squares update at a time.

    Args:
        shape: leading shape (cells, agents, choices, ...) of the models.
        features: entries F of a feature vector.
        variance: of the weights before the first sample; the larger, the less the start is believed.
        noise: variance of a sample around the linear model.
        forgetting: factor per update on the weight of old samples.
        bounded: keep the covariance within that of the start: forgetting winds it up where samples teach nothing.

    Attributes:
        weights: (*shape, F), 0 at the start.
        covariance: (*shape, F, F).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int,
        variance: float = 1.0,
        noise: float = 1.0,
        forgetting: float = 1.0,
        bounded: bool = False,
    ) -> None:
        self.weights = np.zeros((*shape, features))
        self.covariance = np.tile(np.eye(features) * variance, (*shape, 1, 1))
        self.noise, self.forgetting = noise, forgetting
        self.variance_max = variance if bounded else np.inf

    def values(self, pick: tuple[Any, ...], features: Array) -> Array:
        """Predictions of the models at `pick`, for features (..., F)."""
        return np.asarray((self.weights[pick] * features).sum(axis=-1))

    def update(self, pick: tuple[Any, ...], features: Array, targets: Array) -> None:
        """One sample for each model at `pick`; every model occurs at most once, () picks all.

        Args:
            pick: index arrays of the models.
            features: (..., F).
            targets: (...,).
        """
        covariance = self.covariance[pick]
        projected = np.einsum("...ij,...j->...i", covariance, features)
        scale = self.noise * self.forgetting + (projected * features).sum(axis=-1)
        gain = projected / scale[..., None]
        error = targets - self.values(pick, features)
        self.weights[pick] += gain * error[..., None]
        covariance = (covariance - gain[..., None] * projected[..., None, :]) / self.forgetting
        if self.variance_max < np.inf:
            largest = np.diagonal(covariance, axis1=-2, axis2=-1).max(axis=-1)
            covariance = covariance * (self.variance_max / np.maximum(largest, self.variance_max))[..., None, None]
        self.covariance[pick] = covariance

    def state_dict(self) -> dict[str, Array]:
        return {"weights": self.weights.copy(), "covariance": self.covariance.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`.

        Raises:
            ValueError: missing, or learned for another number of cells or agents.
        """
        self.weights = restored(state, "weights", self.weights)
        self.covariance = restored(state, "covariance", self.covariance)
