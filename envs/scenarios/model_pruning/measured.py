"""What of `model_pruning` may be measured: the gateways' channels and the tasks' criticality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Link, Measured, Quantity
from edgemarl.envs.physics.processes import fitted_channel
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig


def _link(config: ModelPruningConfig) -> Link:
    band_hz = config.bandwidth_hz / config.num_gateways  # of a gateway that serves its share of the devices
    return Link(config.transmit_power_w, config.noise_density_w_per_hz * band_hz, band_hz)


def _fitted(config: ModelPruningConfig, given: Mapping[str, Array]) -> dict[str, Any]:
    if "next_channel_gain" not in given:
        return {}
    series = given["next_channel_gain"]
    if "channel_gain" in given:
        series = np.concatenate([given["channel_gain"][None], series])
    gains, transition = fitted_channel(series, len(config.channel_gains))
    return {
        "channel_gains": tuple(float(g) for g in gains),
        "channel_transition": tuple(tuple(float(p) for p in row) for row in transition),
    }


MEASURED = Measured(
    quantities={
        "next_channel_gain": Quantity(
            "path gain of each gateway, slot t holding that of t+1: from SNR, received power, throughput, positions",
            "airtime of a task (eq. 6)",
            "the Markov chain of `channel_gains` and `channel_transition`",
        ),
        "next_criticality_level": Quantity(
            "criticality level of each device's task, slot t holding that of slot t+1",
            "deadline and accuracy that a task needs",
            "uniform over the levels",
        ),
        "channel_gain": Quantity("path gain of each gateway in the first slot", "as above", "as above"),
        "criticality_level": Quantity("criticality level of each device's first task", "as above", "as above"),
    },
    meaning=("slot_s",),
    links={"next_channel_gain": _link},
    fitted=_fitted,
)
