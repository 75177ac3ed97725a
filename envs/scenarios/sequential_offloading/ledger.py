"""Costs and metrics of a block of `sequential_offloading` as linear combinations of a few sums over the cell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.sequential_offloading.block import SUMS, BlockConstants
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig


def block_constants(c: SequentialOffloadingConfig) -> BlockConstants:
    """The constants of a config's blocks."""
    return BlockConstants(
        task_cycles=c.task_cycles,
        block_s=c.block_s,
        residual_tolerance=c.residual_tolerance,
        residual_leaves_device=float(c.residual_leaves_device),
        idle_energy_charged=float(c.idle_energy_charged),
        work_cycles_max=c.device_work_cycles_max,
        queue_tasks_max=c.device_queue_tasks_max,
        capacitance=c.device_capacitance,
        efficiency_per_cycle=c.bits_per_s_per_hz_per_cycle,
        snr_gap=c.snr_gap,
        power_w_max=c.transmit_power_w_max,
        queue_weight=c.device_queue_weight,
        energy_weight=c.device_energy_weight,
        slot_s=c.slot_s,
        drop_cost=c.drop_cost_per_task,
        server_work_cycles_max=c.block_s * c.server_cpu_hz_max,
        server_queue_cycles_max=c.server_queue_tasks_per_device_max * c.num_devices * c.task_cycles,
        server_capacitance=c.server_capacitance,
    )


def metric_weights(c: SequentialOffloadingConfig) -> tuple[tuple[str, ...], Array]:
    """Names of the metrics, and the metrics as linear combinations (metrics, SUMS) of the sums of a block."""
    metrics = _linear_metrics(c)
    weights = np.array([[terms.get(name, 0.0) for name in SUMS] for terms in metrics.values()])
    return tuple(metrics), weights


def cost_parts(c: SequentialOffloadingConfig, means: Mapping[str, Array]) -> dict[str, Array]:
    """The weighted terms of eqs. (8) and (13) from the metrics' means, any shape."""
    k, w = c.num_devices, c.task_cycles
    lost_tasks = means["device_dropped_tasks"] + means["server_dropped_cycles"] / w
    return {
        "device queues": c.device_queue_weight * k * w * means["device_queue_tasks"],
        "device computing": c.device_energy_weight * means["local_energy_j"],
        "sending": c.device_energy_weight * means["transmit_energy_j"],
        "server queue": c.server_queue_weight * w * means["server_queue_tasks"],
        "server computing": c.server_energy_weight * means["server_energy_j"],
        "drops": c.drop_cost_per_task * lost_tasks,
    }


def _linear_metrics(c: SequentialOffloadingConfig) -> dict[str, dict[str, float]]:
    """Metric -> the sums that it is made of and their factors; costs are eqs. (8) and (13)."""
    k, w = c.num_devices, c.task_cycles
    device = {
        "queue": c.device_queue_weight,
        "local_j": c.device_energy_weight,
        "power": c.device_energy_weight * c.slot_s,
        "dropped": c.drop_cost_per_task,
    }
    server = {
        "server_queue": c.server_queue_weight,
        "server_j": c.server_energy_weight,
        "lost": c.drop_cost_per_task / w,
    }
    load = k * c.tasks_per_block / c.block_s * w  # cycles/s that arrive on average
    little = 1.0 / load if load else 0.0
    return {
        "cost": device | server,
        "device_cost": device,
        "server_cost": server,
        "device_queue_tasks": {"queue": 1.0 / (k * w)},
        "server_queue_tasks": {"server_queue": 1.0 / w},
        "delay_s": {"queue": little, "server_queue": little},
        "local_energy_j": {"local_j": 1.0},
        "transmit_energy_j": {"power": c.slot_s},
        "server_energy_j": {"server_j": 1.0},
        "local_cycles": {"work": 1.0},
        "offloaded_cycles": {"residual": 1.0},
        "served_cycles": {"served": 1.0},
        "offload_ratio": {"offload_ratio": 1.0},
        "outage_ratio": {"outages": 1.0 / k},
        "drop_ratio": {"drop_ratio": 1.0},
        "device_dropped_tasks": {"dropped": 1.0},
        "server_dropped_cycles": {"lost": 1.0},
        "device_utilisation": {"work": 1.0 / (k * c.device_work_cycles_max)},
        "server_utilisation": {"served": 1.0 / (c.block_s * c.server_cpu_hz_max)},
        "mean_transmit_power_w": {"power": 1.0 / k},
    }
