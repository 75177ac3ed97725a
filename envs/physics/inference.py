"""Inference time of (pruned) networks on a gateway and on a shared server, and the server's split.

Shapes: B cells, G gateways; other arguments broadcast. Equation numbers are those of the model_pruning paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum


def pruned_inference_s(task_flop: float, pruning_rate: Any, flops: float) -> Array:
    """Time (1 - p) F / C of one task on a gateway of C FLOP/s; a batch of n takes n times as long (eq. 2)."""
    return (1.0 - np.asarray(pruning_rate, dtype=float)) * (task_flop / flops)


def shared_inference_s(task_flop: float, server_flops: float, share: Any, regulariser: float) -> Array:
    """Time E = F / (C_e (c + eps)) of one task on a share c of the server (eq. 3, work in FLOP)."""
    return np.asarray(task_flop / (server_flops * (np.asarray(share) + regulariser)))


def share_for_time(task_flop: float, server_flops: float, time_s: Any, regulariser: float) -> Array:
    """Smallest share c >= 0 with which one task takes at most `time_s` (inverse of eq. 3)."""
    return np.maximum(task_flop / (server_flops * np.asarray(time_s)) - regulariser, 0.0)


def repaired_share(share: Any, active: Array, allow_idle: bool) -> Array:
    """A split of the server made legal (17c), (17d).

    Args:
        share: (B, G) finite numbers; negative ones count as 0.
        active: (B, G) bool, gateways that have an offloaded task.
        allow_idle: idle gateways keep their share.

    Returns:
        (B, G) non-negative, rows sum to 1; a row of zeros becomes equal shares. Unless `allow_idle`, idle gateways
        get 0 and the others are scaled up (equal among them if they had none), except where nobody is active.
    """
    given = np.ascontiguousarray(share, np.float64)
    result = np.empty(given.shape)
    for row, busy, out in zip(given, active, result, strict=True):
        repair_share(row, busy, allow_idle, out)
    return result


@compiled(error_model="numpy", cache=True)
def repair_share(share: Array, active: Array, allow_idle: bool, out: Array) -> None:
    """`repaired_share` of one cell, (G,), into `out`."""
    largest = 0.0
    for g in range(len(share)):
        out[g] = max(share[g], 0.0)
        largest = max(largest, out[g])
    for g in range(len(out)):
        out[g] /= largest if largest > 0.0 else 1.0  # the sum cannot overflow
    _in_proportion(out)
    if allow_idle:
        return
    nobody, kept = not active.any(), False
    for g in range(len(out)):
        out[g] = out[g] if active[g] or nobody else 0.0
        kept = kept or out[g] > 0.0
    for g in range(len(out)):
        out[g] = out[g] if kept else (1.0 if active[g] or nobody else 0.0)
    _in_proportion(out)


@compiled(error_model="numpy")
def _in_proportion(weight: Array) -> None:
    """Weights (G,) become shares; equal ones where every weight is 0."""
    total = pairwise_sum(weight, 0, len(weight))
    for g in range(len(weight)):
        weight[g] = 1.0 / len(weight) if total == 0.0 else weight[g] / total
