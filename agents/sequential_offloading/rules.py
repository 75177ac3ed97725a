"""Baselines of `sequential_offloading` that learn nothing: random residuals and a fixed transmit power.

Both work as fast as a device can and leave the fewest whole tasks behind; they differ in the residual they send.
`binary`, `even` and `local` restrict the choices of a learner instead (see `model.work_set`).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.sequential_offloading.model import DeviceModel, OffloadingRows, read_device_rows, work_set
from edgemarl.agents.sequential_offloading.q_device import OffloadingController, device_act
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading import SLIVER_TASKS

RANDOM_PARTS = 11


class FullEffortDevice(OffloadingController):
    """Works at full speed and leaves a target residual."""

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.model = DeviceModel(self.scenario, work_set(self.scenario.config, "local"))

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        config = self.scenario.config
        rows = read_device_rows(config, observations)
        queue_cycles = rows.queue_tasks * config.task_cycles
        work = self.scenario.work_leaving_residual(
            queue_cycles, self.residual_cycles(rows, rng), config.device_work_cycles_max
        )
        return device_act(self.model, work / config.task_cycles, self.cells)

    @abstractmethod
    def residual_cycles(self, rows: OffloadingRows, rng: np.random.Generator) -> Array:
        """Target residual (N,) in cycles."""


class RandomDevice(FullEffortDevice):
    """Sends a random part of a task, uniform on {0, 0.1, .., 1}; nothing where that would need too much power."""

    def residual_cycles(self, rows: OffloadingRows, rng: np.random.Generator) -> Array:
        part = rng.integers(0, RANDOM_PARTS, len(rows.queue_tasks)) / (RANDOM_PARTS - 1)
        target = np.minimum(part * (1.0 - SLIVER_TASKS), rows.queue_tasks)
        _, _, outage = self.model.transmit(target, rows.gain_per_w)
        return np.where(outage, 0.0, target) * self.scenario.config.task_cycles


class FixedPowerDevice(FullEffortDevice):
    """Sends what a fixed share of the highest power carries in the present channel.

    Args:
        power_share: p / p_max in [0, 1].
    """

    def __init__(self, power_share: float = 0.3) -> None:
        if not 0.0 <= power_share <= 1.0:
            raise ValueError(f"power_share = {power_share!r} of p_max is not legal: must be >= 0 and <= 1")
        self.power_share = power_share

    def residual_cycles(self, rows: OffloadingRows, rng: np.random.Generator) -> Array:
        config = self.scenario.config
        power = np.full(len(rows.gain_per_w), self.power_share * config.transmit_power_w_max)
        carried = self.scenario.carried_cycles(power, rows.gain_per_w)
        return np.minimum(carried, (1.0 - SLIVER_TASKS) * config.task_cycles)
