"""Parameters of the model placement network and its presets: other sizes, slow links."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import pydantic

from edgemarl.envs.config import config_class, quantity

Accuracy = Annotated[float, pydantic.Field(ge=0, le=1)]
Size = Annotated[float, pydantic.Field(ge=1, le=1e15)]
Work = Annotated[float, pydantic.Field(ge=1, le=1e18)]
Accuracies = tuple[Accuracy, Accuracy]
Sizes = tuple[Size, Size]
Works = tuple[Work, Work]
"""(low, high) of a uniform law, as the two above."""
DEVICES_MAX = 100_000


@config_class
class ModelPlacementConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them."""

    num_gateways: int = quantity(10, "-", "gateways", symbol="G", source="Sec. V-A", ge=1, le=1000)
    devices_per_gateway: int = quantity(
        35, "-", "devices of each gateway", symbol="K", source="Sec. V-A", ge=1, le=1000
    )
    slot_s: float = quantity(2.0, "s", "slot length: the largest deadline", ge=1e-6, le=86_400)
    episode_slots: int = quantity(50, "slot", "slots of an episode", symbol="T", source="Table IV", ge=1, le=1_000_000)
    uplink_bandwidth_hz: float = quantity(
        10e6, "Hz", "band of the devices", symbol="B", source="Table IV", ge=100, le=1e13
    )
    uplink_scope: Literal["partitioned", "reused"] = quantity(
        "partitioned", "-", "a gateway has the band B/G, or all of B"
    )
    relay_bandwidth_hz: float = quantity(
        20e6, "Hz", "band of all gateways to the server", symbol="B^e", source="Table IV", ge=100, le=1e13
    )
    device_power_w: float = quantity(
        1.0, "W", "transmit power of a device", symbol="p", source="Table IV", ge=1e-6, le=1e3
    )
    gateway_power_w: float = quantity(
        10.0, "W", "transmit power of a gateway", symbol="p^e", source="Table IV", ge=1e-6, le=1e4
    )
    noise_power_w: float = quantity(
        10**-13.4, "W", "noise power, not scaled with the share", symbol="sigma^2", source="Table IV", ge=1e-21, le=1e-3
    )
    device_distance_min_m: float = quantity(50.0, "m", "smallest distance device to gateway", ge=0.1, le=1e6)
    device_distance_max_m: float = quantity(120.0, "m", "largest distance device to gateway", ge=0.1, le=1e6)
    gateway_distance_min_m: float = quantity(100.0, "m", "smallest distance gateway to server", ge=0.1, le=1e6)
    gateway_distance_max_m: float = quantity(250.0, "m", "largest distance gateway to server", ge=0.1, le=1e6)
    device_pathloss_1m_db: float = quantity(30.0, "dB", "path loss at 1 m, device to gateway", ge=-50, le=250)
    gateway_pathloss_1m_db: float = quantity(40.0, "dB", "path loss at 1 m, gateway to server", ge=-50, le=250)
    pathloss_exponent: float = quantity(3.5, "-", "path loss exponent", ge=0, le=10)
    rayleigh_fading: bool = quantity(True, "-", "block fading with Exp(1) power; False: none")
    first_hop_counted_for_relayed: bool = quantity(
        True, "-", "relayed tasks share the gateway's band; False: literal C4, their first hop is free"
    )
    gateway_cpu_hz: float = quantity(
        1.5e9, "cycle/s", "CPU of each gateway", symbol="C^l", source="Table IV", ge=1e3, le=1e18
    )
    edge_cpu_hz: float = quantity(5e9, "cycle/s", "CPU of the server", symbol="C^e", source="Table IV", ge=1e3, le=1e18)
    gateway_cache_bits: float = quantity(
        2.4e9, "bit", "cache of each gateway", symbol="S^l", source="Table IV", ge=1, le=1e18
    )
    edge_cache_bits: float = quantity(
        19.2e9, "bit", "cache of the server", symbol="S^e", source="Table IV", ge=1, le=1e18
    )
    cloud_rate_bps: float = quantity(
        300e6, "bit/s", "cloud to server, each transfer", symbol="R^c", source="Table IV", ge=1, le=1e15
    )
    edge_rate_bps: float = quantity(
        200e6, "bit/s", "server to gateway, each transfer", symbol="R^e", source="Table IV", ge=1, le=1e15
    )
    task_bits_min: float = quantity(320e3, "bit", "smallest task", symbol="D", source="Table IV", ge=1, le=1e15)
    task_bits_max: float = quantity(480e3, "bit", "largest task", symbol="D", source="Table IV", ge=1, le=1e15)
    deadline_min_s: float = quantity(
        1.5, "s", "shortest deadline", symbol="T^max", source="Table IV", ge=1e-6, le=86_400
    )
    deadline_max_s: float = quantity(
        2.0, "s", "longest deadline", symbol="T^max", source="Table IV", ge=1e-6, le=86_400
    )
    noisy_probability: float = quantity(0.3, "-", "a task is noisy", symbol="P(theta=1)", source="Sec. V-A", ge=0, le=1)
    accuracy_clean_light: Accuracies = quantity((0.915, 0.938), "-", "light model, clean task", source="Table III")
    accuracy_clean_heavy: Accuracies = quantity((0.973, 0.992), "-", "heavy model, clean task", source="Table III")
    accuracy_noisy_light: Accuracies = quantity((0.876, 0.897), "-", "light model, noisy task", source="Table III")
    accuracy_noisy_heavy: Accuracies = quantity((0.929, 0.954), "-", "heavy model, noisy task", source="Table III")
    model_bits_light: Sizes = quantity((28e6, 44e6), "bit", "size of a light model", symbol="S^0", source="Table III")
    model_bits_heavy: Sizes = quantity((72e6, 96e6), "bit", "size of a heavy model", symbol="S^1", source="Table III")
    cycles_light: Works = quantity((15e6, 20e6), "cycle", "work of a light model", symbol="Q^0", source="Table III")
    cycles_heavy: Works = quantity((25e6, 30e6), "cycle", "work of a heavy model", symbol="Q^1", source="Table III")
    share_prior: Literal["equal", "need", "deadline"] = quantity(
        "equal", "-", "what a share's weight is multiplied with: nothing, what the task needs, its share by deadline",
        part="controller",
    )  # fmt: skip
    reward_rule: Literal["per_task", "all_or_nothing"] = quantity(
        "per_task", "-", "accuracy of each task in time; all_or_nothing: the printed reward"
    )
    literal_edge_miss_delay: bool = quantity(
        False, "-", "literal eq. (8): a model missing at the server costs S/R^e instead of S/R^c"
    )
    spectral_efficiency_scale: float = quantity(
        20.0, "bit/s/Hz", "CSI that an observation shows as 1", part="interface", ge=1e-3, le=1e3
    )
    device_ledger_weight: float = quantity(1 / 3, "-", "part of the objective booked on the devices", ge=0, le=1)
    gateway_ledger_weight: float = quantity(1 / 3, "-", "part of the objective booked on the gateways", ge=0, le=1)
    server_ledger_weight: float = quantity(1 / 3, "-", "part of the objective booked on the server", ge=0, le=1)

    def __post_init__(self) -> None:
        for low, high, unit in (
            ("device_distance_min_m", "device_distance_max_m", "m"),
            ("gateway_distance_min_m", "gateway_distance_max_m", "m"),
            ("task_bits_min", "task_bits_max", "bit"),
            ("deadline_min_s", "deadline_max_s", "s"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} = {getattr(self, low):g} {unit} must not exceed {high} = {getattr(self, high):g} {unit}"
                )
        for name in ("model_bits", "cycles", "accuracy_clean", "accuracy_noisy"):
            for field in (f"{name}_light", f"{name}_heavy"):
                least, most = getattr(self, field)
                if least > most:
                    raise ValueError(f"{field} = {(least, most)} is not legal: must be low, high with low <= high")
        if self.num_devices > DEVICES_MAX:
            raise ValueError(
                f"num_gateways = {self.num_gateways} times devices_per_gateway = {self.devices_per_gateway} is not "
                f"legal: must be at most {DEVICES_MAX} devices"
            )
        total = self.device_ledger_weight + self.gateway_ledger_weight + self.server_ledger_weight
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"device_, gateway_ and server_ledger_weight add to {total:g}, must add to 1")

    @property
    def num_devices(self) -> int:
        """Devices N of the network."""
        return self.num_gateways * self.devices_per_gateway

    @property
    def gateway_band_hz(self) -> float:
        """Band of one gateway: B/G, or B where it is reused."""
        return self.uplink_bandwidth_hz / (self.num_gateways if self.uplink_scope == "partitioned" else 1)

    @property
    def levels(self) -> int:
        """Models of a device: light, heavy."""
        return 2

    @property
    def noise_kinds(self) -> int:
        """Kinds of tasks: clean, noisy."""
        return 2


def at_size(config: ModelPlacementConfig, num_devices: int) -> ModelPlacementConfig:
    """The same network with another number of devices and the resources per device of the default.

    The number of gateways is the divisor nearest to what keeps the default's shape, 10 gateways of 35 devices, in small
    networks fewer of both, in larger ones more gateways.
    """
    base = ModelPlacementConfig()
    if num_devices <= base.num_devices:
        wanted = math.sqrt(num_devices * base.num_gateways / base.devices_per_gateway)
    else:
        wanted = num_devices / base.devices_per_gateway
    divisors = [g for g in range(1, num_devices + 1) if num_devices % g == 0]
    gateways = min(divisors, key=lambda g: (abs(g - wanted), g))
    return dataclasses.replace(config, **_grown(gateways, num_devices // gateways))


def scaled(num_gateways: int, devices_per_gateway: int, **changes: Any) -> ModelPlacementConfig:
    """A network of another size with the resources per device of the default; `changes` are applied last."""
    return ModelPlacementConfig(**{**_grown(num_gateways, devices_per_gateway), **changes})


def _grown(num_gateways: int, devices_per_gateway: int) -> dict[str, Any]:
    """The fields that grow with the network."""
    base = ModelPlacementConfig()
    cells = num_gateways * devices_per_gateway / base.num_devices
    rows = devices_per_gateway / base.devices_per_gateway
    fields: dict[str, Any] = {
        name: getattr(base, name) * factor
        for factor, names in (
            (cells, ("uplink_bandwidth_hz", "relay_bandwidth_hz", "edge_cpu_hz", "edge_cache_bits")),
            (rows, ("gateway_cpu_hz", "gateway_cache_bits")),
        )
        for name in names
    }
    return {**fields, "num_gateways": num_gateways, "devices_per_gateway": devices_per_gateway}


def slow_backhaul(config: ModelPlacementConfig | None = None) -> ModelPlacementConfig:
    """The network with links to the cloud and to the gateways so slow that placement is a sequential problem."""
    return dataclasses.replace(config or ModelPlacementConfig(), cloud_rate_bps=45e6, edge_rate_bps=40e6)
