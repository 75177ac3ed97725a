"""What of `model_placement` may be measured: both hops' channels, tasks, models."""

from __future__ import annotations

from typing import Any

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Link, Measured, Quantity
from edgemarl.envs.physics.radio import from_db, path_loss_db
from edgemarl.envs.scenarios.model_placement.config import ModelPlacementConfig


def _device_link(config: ModelPlacementConfig) -> Link:
    def path_gain(distance_m: Any) -> Array:
        return from_db(-path_loss_db(distance_m, config.device_pathloss_1m_db, 10.0 * config.pathloss_exponent))

    return Link(config.device_power_w, config.noise_power_w, config.gateway_band_hz, path_gain=path_gain)


def _gateway_link(config: ModelPlacementConfig) -> Link:
    def path_gain(distance_m: Any) -> Array:
        return from_db(-path_loss_db(distance_m, config.gateway_pathloss_1m_db, 10.0 * config.pathloss_exponent))

    return Link(config.gateway_power_w, config.noise_power_w, config.relay_bandwidth_hz, path_gain=path_gain)


MEASURED = Measured(
    quantities={
        "task_bits": Quantity("size of each device's task, per slot", "both hops' times", "uniform between its limits"),
        "deadline_s": Quantity("deadline of each device's task, per slot", "what is in time", "uniform"),
        "noisy": Quantity("whether the task is noisy (1) or clean (0)", "accuracy", "Bernoulli"),
        "device_gain": Quantity(
            "path gain device to gateway, per slot: from SNR, received power, throughput, positions",
            "first hop (eq. 1)",
            "uniform distances, Rayleigh fading",
        ),
        "gateway_gain": Quantity(
            "path gain gateway to server, per slot: likewise", "second hop", "uniform distances, Rayleigh fading"
        ),
        "model_accuracy": Quantity("accuracy of each device's models, once", "the objective", "uniform"),
        "model_bits": Quantity("size of each device's models, once", "caches, fetching", "uniform"),
        "model_cycles": Quantity("work of each device's models, once", "computing times", "uniform"),
    },
    meaning=("slot_s",),
    links={"device_gain": _device_link, "gateway_gain": _gateway_link},
)
