"""What of `model_partitioning` may be measured: channels and request rates; layer times are in the profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Link, Measured, Quantity
from edgemarl.envs.physics.radio import antenna_path_distance_m, antenna_path_gain
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig


def _link(config: ModelPartitioningConfig) -> Link:
    law = (config.antenna_gain, config.carrier_hz, config.path_loss_exponent)
    return Link(
        config.transmit_power_w, config.noise_psd_w_per_hz * config.bandwidth_hz, config.bandwidth_hz,
        path_gain=lambda distance_m: antenna_path_gain(distance_m, *law),
    )  # fmt: skip


def _fitted(config: ModelPartitioningConfig, given: Mapping[str, Array]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "channel_gain" in given and (given["channel_gain"].mean(axis=(0, 1)) > 0.0).all():
        law = (config.antenna_gain, config.carrier_hz, config.path_loss_exponent)
        distance_m = antenna_path_distance_m(given["channel_gain"].mean(axis=(0, 1)), *law)
        fields["distance_m"] = tuple(float(d) for d in distance_m)  # at which the mean gain is the measured one
    if "arrival_rate_hz" in given:
        fields["mean_arrival_rate_hz"] = float(given["arrival_rate_hz"].mean())
    return fields


MEASURED = Measured(
    quantities={
        "channel_gain": Quantity(
            "path gain of each device, per slot: from SNR, received power, throughput, positions",
            "rate of a device's share of the band (eq. 3), the fading that a device sees",
            "Rayleigh fading around the gain at `distance_m`",
        ),
        "arrival_rate_hz": Quantity(
            "requests per second of each device, per slot: from a task list, or from rates",
            "the queue on the device (M/D/1), energy",
            "uniform around `mean_arrival_rate_hz`",
        ),
    },
    meaning=("slot_s", "distance_m", "antenna_gain", "carrier_hz", "path_loss_exponent"),
    links={"channel_gain": _link},
    arrivals="arrival_rate_hz",
    fitted=_fitted,
)
