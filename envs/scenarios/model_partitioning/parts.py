"""The terms of the objective, and the virtual queues that are their prices."""

from __future__ import annotations

from collections.abc import Mapping

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig

BACKLOGS = {"energy queue [-]": "mean_energy_queue", "memory queue [-]": "mean_memory_queue"}
"""Label -> metric of the virtual queues, which grow where a budget is exceeded."""


def cost_parts(c: ModelPartitioningConfig, means: Mapping[str, Array]) -> dict[str, Array]:
    """Drift plus penalty: delays at V, energy and memory at the prices that their virtual queues are; any shape."""
    at_price = c.delay_weight * c.num_devices
    return {
        "computing on devices": at_price * means["mean_device_delay_s"],
        "sending": at_price * means["mean_transmission_delay_s"],
        "computing on the server": at_price * means["mean_edge_delay_s"],
        "energy at its price": means["energy_queue_cost"],
        "memory at its price": means["memory_queue_cost"],
    }
