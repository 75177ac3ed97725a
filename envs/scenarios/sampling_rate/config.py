"""Parameters of the sampling-rate scenario, its named networks, and the prices of missed accuracy."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Annotated, Literal

import pydantic

from edgemarl.envs.config import config_class, quantity, quoted
from edgemarl.envs.physics.processes import check_transition

Devices = Annotated[int, pydantic.Field(ge=1, le=10_000)]
Gain = Annotated[float, pydantic.Field(ge=1e-25, le=1)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Bits = Annotated[float, pydantic.Field(ge=1, le=1e15)]
CyclesPerBit = Annotated[float, pydantic.Field(ge=1e-6, le=1e9)]
Price = Annotated[float, pydantic.Field(ge=0, le=1e9)]
DEVICES_MAX = 10_000


@config_class
class SamplingRateConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them. M services, K rates."""

    devices_per_service: tuple[Devices, ...] = quantity((5, 5), "-", "devices of each service", symbol="N_m")
    bandwidth_hz: float = quantity(20e6, "Hz", "band, split equally", symbol="W", source="Sec. V-B2", ge=100, le=1e11)
    noise_density_w_per_hz: float = quantity(
        10**-17.4 * 1e-3, "W/Hz", "noise density (-174 dBm/Hz)", symbol="N_o", source="Table II", ge=1e-22, le=1e-9
    )
    noise_figure: float = quantity(
        10**0.5, "-", "noise figure, linear (5 dB; E6)", symbol="N_f", source="Table II", ge=1, le=1e4
    )
    transmit_power_w: float = quantity(0.1, "W", "power of a device", symbol="P_T", source="Table II", ge=1e-6, le=1e3)
    channel_gains: tuple[Gain, ...] = quantity(
        (6e-13, 4e-13, 2e-13), "-", "gain of each channel state, linear (E1)", symbol="G(H)"
    )
    channel_transition: tuple[tuple[Share, ...], ...] = quantity(
        ((0.3, 0.7, 0.0), (0.25, 0.5, 0.25), (0.0, 0.7, 0.3)), "-", "channel Markov chain", symbol="P", source="(30)"
    )
    arrival_mean: float = quantity(0.8, "task/slot", "mean tasks of a device", symbol="lambda", ge=0, le=1e6)
    arrival_half_width: float = quantity(0.5, "task/slot", "half width of arrivals", source="Sec. V-A", ge=0, le=1e6)
    raw_task_bits: tuple[Bits, ...] = quantity(
        (768e3, 512e3), "bit/task", "data of a task at the full rate", symbol="nu_m", source="Sec. V-A"
    )
    device_hz: float = quantity(1e8, "Hz", "CPU of a device", symbol="f_n", source="Table II", ge=1e3, le=1e13)
    server_hz: float = quantity(
        1e9, "Hz", "CPU of the server (Table II prints 2e9: E17)", symbol="f_b", ge=1e3, le=1e18
    )
    slot_s: float = quantity(1.0, "s", "slot length", symbol="tau", source="Table II", ge=1e-6, le=86_400)
    device_cycles_per_bit: tuple[CyclesPerBit, ...] = quantity(
        (80.0, 160.0), "cycle/bit", "compressed DNN, per service", symbol="eta_{m,c}", source="Table II"
    )
    server_cycles_per_bit: tuple[CyclesPerBit, ...] = quantity(
        (200.0, 400.0), "cycle/bit", "full DNN, per service", symbol="eta_{m,u}", source="Table II"
    )
    rate_accuracy: tuple[Share, ...] = quantity(
        (0.59, 0.884, 0.950, 0.987), "-", "accuracy at each sampling rate k/K", symbol="g(theta_k)", source="Sec. V-A"
    )
    device_model_accuracy: tuple[Share, ...] = quantity(
        (0.8, 0.8), "-", "accuracy factor of the compressed DNN", symbol="h_{m,c}", source="Table II"
    )
    server_model_accuracy: tuple[Share, ...] = quantity(
        (1.0, 1.0), "-", "accuracy factor of the full DNN", symbol="h_{m,u}", source="Table II"
    )
    accuracy_target: tuple[Share, ...] = quantity(
        (0.8, 0.9), "-", "long-run mean accuracy to keep", symbol="A_m^th", source="Sec. V-A"
    )
    device_queue_limit_bits: float = quantity(
        3.84e6, "bit", "buffer of a device", symbol="B^max", source="Table II", ge=0, le=1e18
    )
    server_queue_limit_bits: float = quantity(
        19.2e6, "bit", "buffer of the server per service", symbol="Q^max", source="Table II", ge=0, le=1e18
    )
    overflow_penalty_s: float = quantity(
        1.0, "s", "delay charged per overflow (E8)", symbol="w_p", source="Table II", ge=0, le=1e9
    )
    balance_per_s: float = quantity(
        0.05, "1/s", "weight of delay against accuracy (E8)", symbol="V", source="Table II", ge=1e-9, le=1e9
    )
    share_mode: Literal["corrected", "optimal", "fixed", "action"] = quantity(
        "corrected",
        "-",
        "who sets the CPU shares: Theorem 1 that the server's action corrects, Theorem 1 (no server agent), constants, "
        "or the server's action alone, before it hears the loads",
        source="Theorem 1",
        part="controller",
    )
    share_logit_scale: float = quantity(3.0, "-", "steepness of the server's softmax", part="interface", ge=1e-3, le=50)
    wait_mode: Literal["literal", "offloaders"] = quantity(
        "literal", "-", "who is charged queue and wait: every device of the service, or those that offload (E2)"
    )
    horizon_slots: int = quantity(
        200, "slot", "slots of an episode", symbol="T", source="Table III", ge=1, le=1_000_000
    )
    accuracy_price_s: tuple[Price, ...] = quantity(
        (),
        "s",
        "price mu_m of a unit of missed accuracy in priced_delay_s; () takes `accuracy_prices_s`",
        symbol="mu_m",
    )

    def __post_init__(self) -> None:
        services = len(self.devices_per_service)
        if not services or self.num_devices > DEVICES_MAX:
            raise ValueError(
                f"devices_per_service = {quoted(self.devices_per_service)} is not legal: one number >= 1 per service, "
                f"at most {DEVICES_MAX} devices in all"
            )
        for name in _PER_SERVICE + (("accuracy_price_s",) if self.accuracy_price_s else ()):
            if len(getattr(self, name)) != services:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries, must have one per service: {services}"
                )
        for name in ("rate_accuracy", "channel_gains"):
            if not getattr(self, name):
                raise ValueError(f"{name} = () is not legal: must have one entry or more")
        if any(b < a for a, b in zip(self.rate_accuracy, self.rate_accuracy[1:], strict=False)):
            raise ValueError(f"rate_accuracy = {quoted(self.rate_accuracy)} is not legal: must not fall with the rate")
        check_transition(self.channel_transition, len(self.channel_gains))

    @property
    def num_devices(self) -> int:
        """N, all services together."""
        return sum(self.devices_per_service)

    @property
    def num_services(self) -> int:
        """M."""
        return len(self.devices_per_service)

    @property
    def server_acts(self) -> bool:
        """Whether the server is an agent."""
        return self.share_mode in ("corrected", "action")

    @property
    def shares_by_theorem(self) -> bool:
        """Whether the shares follow from the slot's loads by Theorem 1, unless the server corrects them."""
        return self.share_mode in ("corrected", "optimal")

    @property
    def num_rates(self) -> int:
        """K sampling rates k/K, k = 1..K; a device has 2K options."""
        return len(self.rate_accuracy)

    @property
    def arrival_max(self) -> float:
        """Largest arrival that a sampled trace can hold, in task/slot; 1 if none ever arrives."""
        return self.arrival_mean + self.arrival_half_width or 1.0


_PER_SERVICE = (
    "raw_task_bits", "device_cycles_per_bit", "server_cycles_per_bit", "device_model_accuracy", "server_model_accuracy",
    "accuracy_target",
)  # fmt: skip
"""Fields with an entry for each service."""


def default_config() -> SamplingRateConfig:
    """Ten devices, 20 MHz, an edge CPU of 1 GHz."""
    return SamplingRateConfig()


def printed_config() -> SamplingRateConfig:
    """The edge CPU as Table II prints it (E17)."""
    return SamplingRateConfig(server_hz=2e9)


def tight_config() -> SamplingRateConfig:
    """A network that uncoordinated devices overload; V is smaller so that 200 slots keep the targets within 0.5 %."""
    return SamplingRateConfig(server_hz=8e8, arrival_mean=1.0, balance_per_s=0.02)


PRESETS = {"default": default_config, "printed": printed_config, "tight": tight_config}
"""Named networks."""


def at_size(config: SamplingRateConfig, num_devices: int) -> SamplingRateConfig:
    """The same network with another number of devices, divided over the services as before.

    Raises:
        ValueError: fewer devices than services.
    """
    services = len(config.devices_per_service)
    if num_devices < services:
        raise ValueError(f"num_devices = {num_devices} is not legal: must be >= {services}, one for each service")
    before = config.num_devices
    edges = [round(num_devices * sum(config.devices_per_service[:m]) / before) for m in range(services + 1)]
    return scaled(config, tuple(max(1, b - a) for a, b in itertools.pairwise(edges)))


def scaled(config: SamplingRateConfig, devices_per_service: tuple[int, ...]) -> SamplingRateConfig:
    """The same network for another population: resources grow with N, V falls (delay is a sum, accuracy a mean).

    Args:
        config: network to scale.
        devices_per_service: new population (M,).
    """
    factor = sum(devices_per_service) / config.num_devices
    return dataclasses.replace(
        config,
        devices_per_service=devices_per_service,
        bandwidth_hz=config.bandwidth_hz * factor,
        server_hz=config.server_hz * factor,
        server_queue_limit_bits=config.server_queue_limit_bits * factor,
        balance_per_s=config.balance_per_s / factor,
        accuracy_price_s=tuple(price * factor for price in config.accuracy_price_s),
    )


ACCURACY_PRICES = (
    # per ten devices: bandwidth_hz, arrival_mean, server_hz, mu_0, mu_1 in s; dual ascent on the default network
    (5e6, 0.8, 1e9, 16.50, 14.20),
    (10e6, 0.8, 1e9, 15.02, 13.44),
    (15e6, 0.8, 1e9, 14.39, 13.09),
    (20e6, 0.8, 1e9, 14.05, 12.90),
    (25e6, 0.8, 1e9, 13.82, 12.77),
    (20e6, 0.6, 1e9, 9.98, 9.15),
    (20e6, 0.7, 1e9, 12.07, 11.09),
    (20e6, 0.9, 1e9, 15.92, 14.62),
    (20e6, 1.0, 1e9, 17.73, 16.29),
    (5e6, 0.8, 2e9, 8.05, 7.74),
    (10e6, 0.8, 2e9, 6.22, 6.82),
    (15e6, 0.8, 2e9, 5.57, 6.65),
    (20e6, 0.8, 2e9, 5.22, 6.48),
    (25e6, 0.8, 2e9, 5.00, 6.41),
    (20e6, 1.0, 0.8e9, 19.35, 18.27),
    (20e6, 0.75, 1.00e9, 13.24, 12.23),
    (20e6, 0.75, 1.05e9, 12.45, 11.40),
    (20e6, 0.75, 1.10e9, 11.72, 10.61),
    (20e6, 0.75, 1.15e9, 11.05, 9.90),
    (20e6, 0.75, 1.20e9, 10.45, 9.25),
)


SIZE_SHARES = (0.82, 0.757)
"""Share of each service's price per device that does not fall with the number of devices; the rest goes with 10/N."""


def accuracy_prices_s(config: SamplingRateConfig) -> tuple[float, ...]:
    """Prices mu (M,) of missed accuracy in s: the multipliers of the accuracy targets.

    A network that `ACCURACY_PRICES` lists gets its own multipliers; another one those of the nearest listed network
    (bandwidth, arrivals, server CPU, in logarithms), which still compares controllers and still bounds every policy
    from below; `agents.sampling_rate.reference.dual_ascent` computes the right ones for `accuracy_price_s`. With N
    devices the prices of ten are multiplied by N/10 and, above ten, by what they fall with it (`SIZE_SHARES`, dual
    ascent at N = 20, 50, 200: within 2%): a task waits for (N_m - 1)/2 others, so that a bit's server time counts
    (N_m + 1)/2 times, 3 with 5 devices and 0.87 times as much per device with 25. With other than two services each
    gets the mean price.
    """
    if config.accuracy_price_s:
        return config.accuracy_price_s
    per_ten = config.num_devices / 10.0
    here = (config.bandwidth_hz / per_ten, config.arrival_mean, config.server_hz / per_ten)
    tiny = 1e-3

    def distance(row: tuple[float, ...]) -> float:
        return sum(math.log(max(a, tiny) / b) ** 2 for a, b in zip(here, row[:3], strict=True))

    prices: tuple[float, ...] = min(ACCURACY_PRICES, key=distance)[3:]
    fewer = min(1.0, 1.0 / per_ten)
    prices = tuple(price * (k + (1.0 - k) * fewer) for price, k in zip(prices, SIZE_SHARES, strict=True))
    if config.num_services != len(prices):
        prices = (sum(prices) / len(prices),) * config.num_services
    return tuple(price * per_ten for price in prices)


def reference_balance_per_s(config: SamplingRateConfig) -> float:
    """V_ref: 0.2 per ten devices, 0.05 where the network's own V is below 0.05 because its prices are high."""
    per_ten = config.num_devices / 10.0
    return (0.05 if config.balance_per_s * per_ten < 0.049 else 0.2) / per_ten


def training_balance_per_s(config: SamplingRateConfig) -> float:
    """Deficit that shifts the price of accuracy in training by a second: V_ref, 0.1 per ten devices or more.

    Below that the price jumps by seconds from slot to slot.
    """
    return max(reference_balance_per_s(config), 1.0 / config.num_devices)
