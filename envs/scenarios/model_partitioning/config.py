"""Parameters of the scenario model_partitioning, in SI units, with their sources in the paper."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator

from edgemarl.envs.config import config_class, quantity, unknown_name
from edgemarl.envs.dnn.profiles import LayerProfile, profiles_from, shipped_profiles

Distance = Annotated[float, pydantic.Field(ge=0.1, le=1e6)]
Rule = Literal["corrected", "optimal", "equal", "action"]
"""Who divides a resource: the convex solution as the server's weights correct it, the convex solution alone, equal
parts, or the server's weights alone."""


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


@config_class
class ModelPartitioningConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them."""

    num_devices: int = quantity(5, "-", "devices in the cell", symbol="N", source="Sec. V-A", ge=1, le=10_000)
    model_pattern: Annotated[tuple[str, ...], BeforeValidator(_split)] = quantity(
        ("alexnet", "alexnet", "resnet18", "resnet18", "resnet18"), "-",
        "networks; device n runs entry n mod length", source="Sec. V-A",
    )  # fmt: skip
    profiles: Annotated[dict[str, LayerProfile], BeforeValidator(profiles_from)] = quantity(
        shipped_profiles(), "-", "layer tables and budgets by name (a mapping, or a .yaml file)", symbol="M, C, psi, e",
        source="Table I",
    )  # fmt: skip
    bandwidth_hz: float = quantity(5e6, "Hz", "whole uplink band", symbol="W", source="Sec. V-A", ge=100, le=1e13)
    noise_psd_w_per_hz: float = quantity(
        10 ** (-17.4) * 1e-3,
        "W/Hz",
        "noise density (-174 dBm/Hz, erratum 1)",
        symbol="N0",
        source="Sec. V-A",
        ge=1e-22,
        le=1e-9,
    )
    transmit_power_w: float = quantity(0.1, "W", "transmit power", symbol="p", source="Table I", ge=1e-6, le=1e3)
    antenna_gain: float = quantity(3.0, "-", "antenna gain", symbol="A_d", source="Sec. V-A", ge=1e-3, le=1e6)
    carrier_hz: float = quantity(915e6, "Hz", "carrier frequency", symbol="f_c", source="Sec. V-A", ge=1e5, le=1e14)
    path_loss_exponent: float = quantity(3.0, "-", "path-loss exponent", symbol="d_e", source="Sec. V-A", ge=1, le=10)
    distance_m: Distance | tuple[Distance, ...] = quantity(
        150.0, "m", "distance; device n uses entry n mod length of a list", symbol="d_n", source="Sec. V-A"
    )
    fading_floor: float = quantity(0.01, "-", "smallest fading power (erratum 7)", ge=1e-9, le=1)
    cycles_per_mac: float = quantity(
        0.12, "cycle/MAC", "cycles per MAC", symbol="rho", source="Table I", ge=1e-6, le=1e6
    )
    layer_work: Literal["macs", "times"] = quantity(
        "macs", "-", "a layer's work: MACs times cycles_per_mac, or the times measured at the highest CPU rates"
    )
    energy_coefficient: float = quantity(
        1e-28, "J s^2/cycle^3", "switched capacitance of a device CPU", symbol="kappa", source="Table I", ge=0, le=1e-18
    )
    device_cpu_hz: float = quantity(
        1.5e9, "Hz", "highest device CPU rate", symbol="f^max,ue", source="Table I", ge=1e3, le=1e13
    )
    edge_cpu_hz: float = quantity(
        15e9, "Hz", "edge CPU rate, all devices", symbol="f^max,es", source="Table I", ge=1e3, le=1e18
    )
    device_memory_factor: float = quantity(
        0.2, "-", "weight of parameters on the device", symbol="gamma_n", source="Table I", ge=0, le=1e3
    )
    edge_memory_factor: float = quantity(
        0.8, "-", "weight of parameters at the edge", symbol="gamma_es", source="Table I", ge=0, le=1e3
    )
    parameter_bytes_per_element: float = quantity(4.0, "B", "bytes of a parameter in memory", ge=0.01, le=64)
    activation_bytes_per_element: float = quantity(4.0, "B", "bytes of an activation in memory", ge=0.01, le=64)
    input_bits_per_element: float = quantity(32.0, "bit", "bits of a raw input element on the air", ge=0.01, le=512)
    feature_bits_per_element: float = quantity(16.0, "bit", "bits of a feature element on the air", ge=0.01, le=512)
    transmit_result_when_local: bool = quantity(False, "-", "l = L sends its result: literal, erratum 5")
    slot_s: float = quantity(1.0, "s", "slot length", symbol="tau", ge=1e-6, le=86_400)
    energy_queue_scale: float = quantity(
        100.0, "1/J", "energy queue", symbol="nu_e", source="Table I", ge=1e-6, le=1e12
    )
    memory_queue_scale: float = quantity(
        10.0, "1/memory unit", "memory queue", symbol="nu_c", source="Table I", ge=1e-6, le=1e12
    )
    memory_unit_bytes: float = quantity(1e9, "B", "unit of memory in the queue and the cost (erratum 8)", ge=1, le=1e15)
    delay_weight: float = quantity(10.0, "1/s", "weight of delay", symbol="V", source="Table I", ge=1e-6, le=1e9)
    utilisation_cap: float = quantity(
        0.99, "-", "largest utilisation that enters a delay (erratum 13)", ge=0.01, le=0.999_999
    )
    cpu_floor_fraction: float = quantity(0.01, "-", "smallest device CPU rate over the highest", ge=1e-6, le=1)
    share_floor: float = quantity(0.01, "-", "smallest raw weight of a server's share", ge=1e-6, le=1e3)
    local_cpu_rule: Literal["optimal", "action"] = quantity(
        "optimal", "-", "who sets device CPU rates", symbol="P3", part="controller"
    )
    bandwidth_rule: Rule = quantity("corrected", "-", "who sets bandwidth shares", symbol="P5", part="controller")
    edge_cpu_rule: Rule = quantity("corrected", "-", "who sets edge CPU shares", symbol="P4", part="controller")
    central_cuts: Literal["choice", "number"] = quantity(
        "choice", "-", "how one controller of all gives cuts: as choices, or as numbers in [0, 1] (erratum 3)",
        source="(13)", part="controller",
    )  # fmt: skip
    mean_arrival_rate_hz: float = quantity(
        1.5, "1/s", "mean request rate", symbol="lambda", source="Table I", ge=0, le=1e9
    )
    mean_arrival_rate_max_hz: float | None = quantity(
        None, "1/s", "largest mean request rate: every episode of a cell draws its own, uniform between "
        "mean_arrival_rate_hz and this; none: all have mean_arrival_rate_hz", ge=0, le=1e9,
    )  # fmt: skip
    arrival_process: Literal["constant", "uniform", "surge"] = quantity("uniform", "-", "how rates vary over slots")
    arrival_spread: float = quantity(0.5, "-", "half width of the rates over their mean", ge=0, le=1)
    surge_start_slot: int = quantity(75, "slot", "first slot of the surge", source="Fig. 5", ge=0, le=1_000_000)
    surge_end_slot: int = quantity(110, "slot", "first slot after the surge", source="Fig. 5", ge=0, le=1_000_000)
    surge_factor: float = quantity(1.6, "-", "factor on the rates in the surge", ge=0, le=1e3)
    episode_slots: int = quantity(200, "slot", "slots of an episode", symbol="K", source="Sec. V-A", ge=1, le=1_000_000)
    signal_smoothing: float = quantity(
        0.05, "-", "EMA factor of the broadcast signals", part="controller", ge=1e-6, le=1
    )
    share_queues: bool = quantity(
        False, "-", "devices report energy queues; rows also show their mean", part="controller"
    )
    share_bids: bool = quantity(
        False, "-", "devices announce savings and loads before they choose; rows show them", part="controller"
    )
    show_costs: bool = quantity(
        False, "-", "device rows also show what each cut costs at the broadcast prices and the energy that it takes",
        part="interface",
    )  # fmt: skip
    show_model: bool = quantity(
        False, "-", "device rows end with a one-hot of the network, for a shared policy", part="interface"
    )

    def __post_init__(self) -> None:
        if not self.model_pattern:
            raise ValueError("model_pattern = () is not legal: must name at least one network")
        for name in self.model_pattern:
            if name not in self.profiles:
                raise ValueError("model_pattern: " + unknown_name("network", name, self.profiles))
        given = [name for name in self.profiles if name not in shipped_profiles()]
        if given and not set(given) & set(self.device_models):
            raise ValueError(
                f"profiles = {', '.join(map(str, given))}: given, but no device runs it: set model_pattern, such as "
                f"model_pattern={given[0]}"
            )
        if self.layer_work == "times":
            for name in self.device_models:
                profile = self.profiles[name]
                if sum(profile.time_s) <= 0.0 or (profile.edge_time_s and sum(profile.edge_time_s) <= 0.0):
                    raise ValueError(
                        f"layer_work = 'times' is not legal: profiles.{name} has no measured times of its layers "
                        "(edgemarl profile import)"
                    )
        distances = self.distance_m if isinstance(self.distance_m, tuple) else (self.distance_m,)
        if not distances:
            raise ValueError("distance_m = () m is not legal: must be one or more numbers")
        largest = self.mean_arrival_rate_max_hz
        if largest is not None and largest < self.mean_arrival_rate_hz:
            raise ValueError(
                f"mean_arrival_rate_max_hz = {largest} 1/s must not lie below mean_arrival_rate_hz = "
                f"{self.mean_arrival_rate_hz} 1/s"
            )
        if self.surge_end_slot < self.surge_start_slot:
            raise ValueError(
                f"surge_end_slot = {self.surge_end_slot} must not lie before surge_start_slot = {self.surge_start_slot}"
            )

    @property
    def device_models(self) -> tuple[str, ...]:
        """Network of each device (N)."""
        return tuple(self.model_pattern[n % len(self.model_pattern)] for n in range(self.num_devices))

    @property
    def rules(self) -> tuple[str, str, str]:
        """Rules of device CPU, bandwidth and edge CPU."""
        return self.local_cpu_rule, self.bandwidth_rule, self.edge_cpu_rule

    @property
    def central_choices(self) -> bool:
        """Whether the joint action of one controller is a choice of N cuts."""
        return self.central_cuts == "choice" and "action" not in self.rules

    @property
    def server_acts(self) -> bool:
        """Whether the server is an agent: one of its resources is divided by its weights, alone or as a correction."""
        return bool({"action", "corrected"} & set(self.rules[1:]))

    @property
    def solves_shares(self) -> bool:
        """Whether one of the server's resources is divided by the convex solution, corrected or not."""
        return bool({"optimal", "corrected"} & set(self.rules[1:]))


def at_size(config: ModelPartitioningConfig, num_devices: int) -> ModelPartitioningConfig:
    """The same cell with another number of devices, and a band and an edge CPU that grow with it."""
    return scaled_resources(dataclasses.replace(config, num_devices=num_devices))


def scaled_resources(config: ModelPartitioningConfig) -> ModelPartitioningConfig:
    """The same cell with band and edge CPU that grow with the number of devices (1 MHz and 3 GHz each)."""
    n = config.num_devices
    return dataclasses.replace(config, bandwidth_hz=1e6 * n, edge_cpu_hz=3e9 * n)
