"""How one resource is divided: shares over the last axis, non-negative, with sum 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.api import Array


def proportional_shares(weight: Any) -> Array:
    """Shares proportional to non-negative weights, over the last axis; equal shares where every weight is 0."""
    values = np.asarray(weight, np.float64)
    total = values.sum(axis=-1, keepdims=True)
    idle = total == 0.0
    return np.where(idle, 1.0 / values.shape[-1], values / np.where(idle, 1.0, total))


def square_root_shares(load: Any) -> Array:
    """Shares c_m = sqrt(L_m) / sum_j sqrt(L_j), the minimiser of sum_m L_m / c_m; the minimum is (sum_m sqrt(L_m))^2.

    Source: Cauchy-Schwarz; sampling_rate paper, Theorem 1.

    Args:
        load: L >= 0, (..., M).

    Returns:
        (..., M); equal shares where every load is 0.
    """
    return proportional_shares(np.sqrt(load))


def softmax_shares(logits: Any, scale: float) -> Array:
    """Shares softmax(scale * clip(logits, -1, 1)) over the last axis: a raw action of a Box(-1, 1) as shares."""
    exponent = scale * np.clip(logits, -1.0, 1.0)
    return proportional_shares(np.exp(exponent - exponent.max(axis=-1, keepdims=True)))
