"""What of `sequential_offloading` may be measured: channels and task arrivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Link, Measured, Quantity
from edgemarl.envs.physics.radio import from_db, path_loss_db
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig


def _link(config: SequentialOffloadingConfig) -> Link:
    return Link(
        config.reference_power_w, config.noise_w, config.bandwidth_hz, config.snr_gap, per_w=True,
        path_gain=lambda distance_m: from_db(
            -path_loss_db(distance_m, config.pathloss_db_at_1m, config.pathloss_db_per_decade)
        ),
    )  # fmt: skip


def _fitted(config: SequentialOffloadingConfig, given: Mapping[str, Array]) -> dict[str, Any]:
    if "task_arrivals" not in given:
        return {}
    return {"arrival_probability": float(given["task_arrivals"].mean())}


MEASURED = Measured(
    quantities={
        "channel_gain_per_w": Quantity(
            "gain of each device's channel over the noise, per block: from SNR, received power, throughput, positions",
            "power of a residual (eqs. 3, 4), outage, the CSI that a device sees",
            "positions in the cell, log-normal shadowing, Rayleigh fading",
        ),
        "task_arrivals": Quantity(
            "tasks that arrive at each device, 0 or 1 in every slot: from a task list, or from counts",
            "device queues, what a device sees of the block before",
            "Bernoulli with `arrival_probability`",
        ),
        "mean_gain_per_w": Quantity(
            "long-run mean of the channel of each device, once",
            "what references and learners know of a channel's law",
            "the mean of the measured channel where there is one, else positions and shadowing",
        ),
    },
    meaning=("slot_s", "slots_per_block", "noise_w"),
    step_s=lambda config: config.block_s,
    slots_in_step=lambda config: config.slots_per_block,
    links={"channel_gain_per_w": _link},
    arrivals="task_arrivals",
    counts_max=1,
    fitted=_fitted,
)
