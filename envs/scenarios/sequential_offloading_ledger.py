"""Costs and metrics of a block of `sequential_offloading` as linear combinations of a few sums over the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.api import Array
from envs.scenarios.sequential_offloading_config import SequentialOffloadingConfig

DEVICE_SUMS = ("queue", "local_j", "power", "residual", "work", "outages")
SERVER_SUMS = ("server_queue", "served", "server_j", "lost")
SUMS = (*DEVICE_SUMS, *SERVER_SUMS, "dropped", "arrived")
"""Sums over a cell in a block from which its metrics follow; `arrived` is only filled where tasks are dropped."""
OFFLOADED, WORKED, DROPPED, ARRIVED = (SUMS.index(name) for name in ("residual", "work", "dropped", "arrived"))
SERVER = slice(len(DEVICE_SUMS), len(DEVICE_SUMS) + len(SERVER_SUMS))


@dataclass(frozen=True)
class BlockConstants:
    """What a block needs of a config, computed once.

    Attributes:
        efficiency_per_cycle: bit/s/Hz that a residual cycle needs during its slot.
        device_weights: (3,) cost of a device per queued cycle, local J and transmitted W.
        metric_weights: (metrics, SUMS) metrics as linear combinations.
        ones: (K,), to sum over devices.
    """

    block_s: float
    work_cycles_max: float
    efficiency_per_cycle: float
    server_work_cycles_max: float
    server_queue_cycles_max: float
    device_weights: Array
    metric_names: tuple[str, ...]
    metric_weights: Array
    ones: Array


def block_constants(c: SequentialOffloadingConfig) -> BlockConstants:
    """The constants of a config's blocks."""
    metrics = _linear_metrics(c)
    weights = np.array([[terms.get(name, 0.0) for name in SUMS] for terms in metrics.values()])
    names = tuple(metrics)
    return BlockConstants(
        block_s=c.block_s,
        work_cycles_max=c.device_work_cycles_max,
        efficiency_per_cycle=c.bits_per_s_per_hz_per_cycle,
        server_work_cycles_max=c.block_s * c.server_cpu_hz_max,
        server_queue_cycles_max=c.server_queue_tasks_per_device_max * c.num_devices * c.task_cycles,
        device_weights=weights[names.index("device_cost"), :3].copy(),
        metric_names=names,
        metric_weights=weights,
        ones=np.ones(c.num_devices),
    )


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
        "offload_ratio": {},
        "outage_ratio": {"outages": 1.0 / k},
        "drop_ratio": {},
        "server_dropped_cycles": {"lost": 1.0},
        "device_utilisation": {"work": 1.0 / (k * c.device_work_cycles_max)},
        "server_utilisation": {"served": 1.0 / (c.block_s * c.server_cpu_hz_max)},
        "mean_transmit_power_w": {"power": 1.0 / k},
    }
