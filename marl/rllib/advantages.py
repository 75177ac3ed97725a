"""Generalised advantage estimation over whole arrays (Schulman et al., arXiv:1506.02438, eqs. 11, 16)."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.arrays import Array


def shortfall(rewards: Array, values: Array, discount: float, per_agent: bool) -> Array:
    """What a critic lacks to the value of the mean reward for ever, r / (1 - discount): (), or (n,) per agent.

    A critic that starts at 0 has to climb to that level first. Until it is there, the residuals of a window say how
    many slots are left in it rather than what an action was worth, and a policy saves energy now at the price of queues
    that it does not see coming. A constant added to all rewards changes no optimum (Naik, Wan, Tomar, Sutton,
    "Reward Centering", arXiv:2405.09999); here the level is given to the critic, and rewards stay what they are.

    Args:
        rewards, values: (T, B, n).
        discount: gamma per slot, below 1.
        per_agent: a level for each agent, where each has a network of its own.
    """
    axes = (0, 1) if per_agent else None
    level: Array = np.asarray(rewards.mean(axis=axes) / (1.0 - discount) - values.mean(axis=axes))
    return level


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
