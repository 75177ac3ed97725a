"""What of `sampling_rate` may be measured: channels and task arrivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Link, Measured, Quantity
from edgemarl.envs.physics.processes import fitted_channel
from edgemarl.envs.scenarios.sampling_rate.config import SamplingRateConfig


def _link(config: SamplingRateConfig) -> Link:
    band_hz = config.bandwidth_hz / config.num_devices
    return Link(config.transmit_power_w, config.noise_figure * config.noise_density_w_per_hz * band_hz, band_hz)


def _population(config: SamplingRateConfig, axis: str, count: int) -> dict[str, Any]:
    services = config.num_services
    if count < services:
        raise ValueError(f"{count} devices were measured for {services} services; each needs one at least")
    return {"devices_per_service": tuple(len(part) for part in np.array_split(np.arange(count), services))}


def _fitted(config: SamplingRateConfig, given: Mapping[str, Array]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "channel_gain" in given:
        gains, transition = fitted_channel(given["channel_gain"], len(config.channel_gains))
        fields["channel_gains"] = tuple(float(g) for g in gains[::-1])  # the best state first, as in the paper
        fields["channel_transition"] = tuple(tuple(float(p) for p in row) for row in transition[::-1, ::-1])
    if "arrival_rate" in given:
        rate = given["arrival_rate"]
        fields["arrival_mean"] = float(rate.mean())
        fields["arrival_half_width"] = float(max(rate.max() - rate.mean(), rate.mean() - rate.min()))
    return fields


MEASURED = Measured(
    quantities={
        "channel_gain": Quantity(
            "path gain of each device, per slot: from SNR, received power, throughput, positions",
            "rate of a device's share of the band (eq. 5)",
            "the Markov chain of `channel_gains` and `channel_transition`",
        ),
        "arrival_rate": Quantity(
            "tasks of each device per slot, any number >= 0: from a task list, or from counts",
            "the batch of a slot: its bits, its work, its weight in the mean accuracy",
            "uniform, `arrival_mean` +- `arrival_half_width`",
        ),
    },
    meaning=("slot_s", "devices_per_service"),
    links={"channel_gain": _link},
    arrivals="arrival_rate",
    population=_population,
    fitted=_fitted,
)
