"""Generalised advantage estimation over whole arrays (Schulman et al., arXiv:1506.02438, eqs. 11, 16)."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array


def advantages_and_targets(
    rewards: Array, values: Array, next_values: Array, ends: Array, discount: float, lambda_: float
) -> tuple[Array, Array]:
    """Advantages and value targets of T slots of B cells at once; episodes end by truncation, never by termination.

    Args:
        rewards: (T, B, n) reward of each slot.
        values: (T, B, n) value of the observation acted on.
        next_values: (T, B, n) value of the observation that followed, of the old episode where one ended.
        ends: (T, B) bool, the slot ended an episode: the sum of residuals stops there, the bootstrap value stays.
        discount: gamma per slot.
        lambda_: weight of longer sums, 0 (one-step residual) to 1 (whole return).

    Returns:
        advantages and targets, (T, B, n) float32.
    """
    residuals = rewards + discount * next_values - values
    carry = discount * lambda_ * ~ends[:, :, None]
    advantages = np.empty(residuals.shape, np.float32)
    running = np.zeros(residuals.shape[1:])
    for t in range(len(residuals) - 1, -1, -1):
        running = residuals[t] + carry[t] * running
        advantages[t] = running
    return advantages, (advantages + values).astype(np.float32)
