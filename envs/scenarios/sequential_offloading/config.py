"""Parameters of `sequential_offloading` (Wang, Cai, Lau, arXiv:2203.01005, 2022); E1, E3, .. are errata."""

from __future__ import annotations

import dataclasses
from typing import Literal

from edgemarl.envs.config import config_class, quantity

SLIVER_TASKS = 1e-3
"""Work, in tasks, that turns a whole waiting task into one that may be offloaded (E9)."""


@config_class
class SequentialOffloadingConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them."""

    num_devices: int = quantity(20, "-", "devices in the cell", symbol="K", source="Fig. 7", ge=1, le=10_000)
    slots_per_block: int = quantity(5, "-", "slots per block", symbol="n", source="Sec. VI", ge=1, le=255)
    slot_s: float = quantity(0.1, "s", "slot length", symbol="tau", source="Sec. VI", ge=1e-6, le=86_400)
    task_cycles: float = quantity(5e8, "cycle", "work of one DNN task (printed 1e10: E3)", symbol="W", ge=1, le=1e18)
    arrival_probability: float = quantity(
        0.4, "1/slot", "a task arrives in a slot", symbol="b", source="Sec. VI", ge=0, le=1
    )
    device_cpu_hz_max: float = quantity(3e9, "Hz", "highest CPU rate of a device", symbol="f_max^wd", ge=1e3, le=1e13)
    device_capacitance: float = quantity(
        1e-28, "J s^2/cycle^3", "switched capacitance of a device CPU", symbol="xi^wd", source="Sec. VI", ge=0, le=1e-18
    )
    server_cpu_hz_max: float = quantity(
        1e11, "Hz", "highest CPU rate of the server", symbol="f_max^ser", ge=1e3, le=1e18
    )
    server_capacitance: float = quantity(
        1e-29,
        "J s^2/cycle^3",
        "switched capacitance of the server CPU",
        symbol="xi^ser",
        source="Sec. VI",
        ge=0,
        le=1e-18,
    )
    bandwidth_hz: float = quantity(
        1e6, "Hz", "private band of a device", symbol="B_k", source="Sec. VI", ge=100, le=1e11
    )
    snr_gap: float = quantity(1.5, "-", "SNR gap to capacity", symbol="Gamma", source="Sec. VI", ge=1, le=100)
    noise_w: float = quantity(
        10**-14.4, "W", "noise power in the band (-174 dBm/Hz: E5)", symbol="N0", ge=1e-21, le=1e-3
    )
    bits_per_cycle: float = quantity(
        2e-3, "bit/cycle", "feature-map bits per residual cycle", symbol="zeta", ge=1e-9, le=1e3
    )
    transmit_power_w_max: float = quantity(
        1.0, "W", "highest transmit power of a device", symbol="p_max", ge=1e-6, le=1e3
    )
    cell_radius_m: float = quantity(200.0, "m", "cell radius", source="Sec. VI", ge=0.1, le=1e6)
    distance_m_min: float = quantity(10.0, "m", "smallest distance to the base station", ge=0.1, le=1e6)
    pathloss_db_at_1m: float = quantity(30.6, "dB", "path loss at 1 m", source="Sec. VI", ge=-50, le=250)
    pathloss_db_per_decade: float = quantity(
        37.6, "dB", "path loss per decade of distance", source="Sec. VI", ge=0, le=100
    )
    shadowing_db_std: float = quantity(10.0, "dB", "standard deviation of shadowing", source="Sec. VI", ge=0, le=30)
    server_queue_weight: float = quantity(
        2e-9, "1/cycle", "cost of a queued cycle at the server", symbol="w1", ge=0, le=1
    )
    server_energy_weight: float = quantity(0.1, "1/J", "cost of server energy", symbol="w2", ge=0, le=1e9)
    device_queue_weight: float = quantity(
        2e-9, "1/cycle", "cost of a queued cycle at a device", symbol="w3", ge=0, le=1
    )
    device_energy_weight: float = quantity(15.0, "1/J", "cost of device energy", symbol="w4", ge=0, le=1e9)
    discount: float = quantity(0.95, "1/block", "discount factor", symbol="gamma", ge=0, le=0.9999)
    device_queue_tasks_max: float = quantity(40.0, "task", "device buffer", ge=0.01, le=1e6)
    server_queue_tasks_per_device_max: float = quantity(40.0, "task", "server buffer per device", ge=0.01, le=1e6)
    drop_cost_per_task: float = quantity(50.0, "1/task", "cost of a dropped task", ge=0, le=1e9)
    residual_tolerance: float = quantity(1e-6, "task", "guards the modulo from rounding", symbol="tol", ge=0, le=1e-3)
    episode_blocks: int = quantity(200, "block", "blocks of an episode", ge=1, le=1_000_000)
    residual_leaves_device: bool = quantity(True, "-", "a sent residual leaves the device; False: literal eq. (1), E1")
    idle_energy_charged: bool = quantity(False, "-", "bill the commanded CPU rate: literal eqs. (2), (7), E8")
    device_action: Literal["cpu", "power", "split", "residual"] = quantity(
        "residual", "-", "meaning of a device's action", part="interface"
    )
    queue_scale_tasks: float = quantity(
        10.0, "task", "queue that an observation shows as 1", part="interface", ge=1e-3, le=1e6
    )
    spectral_efficiency_scale: float = quantity(
        20.0, "bit/s/Hz", "CSI that an observation shows as 1", part="interface", ge=1e-3, le=1e3
    )
    reference_power_w: float = quantity(
        1.0, "W", "power at which the CSI is expressed", part="interface", ge=1e-6, le=1e3
    )
    arrival_lookahead: bool = quantity(
        False, "-", "devices see the coming arrivals: the paper's state, E7", part="interface"
    )
    server_observation: Literal["aggregate", "full", "own"] = quantity(
        "aggregate", "-", "what the server sees, E14", part="interface"
    )

    def __post_init__(self) -> None:
        if self.distance_m_min > self.cell_radius_m:
            raise ValueError(
                f"distance_m_min = {self.distance_m_min:g} m must not exceed cell_radius_m = {self.cell_radius_m:g} m"
            )

    @property
    def block_s(self) -> float:
        """Length T of a block in s."""
        return self.slots_per_block * self.slot_s

    @property
    def device_work_cycles_max(self) -> float:
        """Cycles X that a device can work off in one block."""
        return self.block_s * self.device_cpu_hz_max

    @property
    def gain_per_w_max(self) -> float:
        """Largest gain over noise in 1/W: a path gain of 1."""
        return 1.0 / self.noise_w

    @property
    def bits_per_s_per_hz_per_cycle(self) -> float:
        """Spectral efficiency that one residual cycle needs during its slot."""
        return self.bits_per_cycle / (self.slot_s * self.bandwidth_hz)

    @property
    def tasks_per_block(self) -> float:
        """Mean arrivals n b of a device per block, in tasks."""
        return self.slots_per_block * self.arrival_probability


CARRIED_DEVICES = 140
"""About as many devices as the default server carries: beyond them its queue grows without end."""


def at_size(config: SequentialOffloadingConfig, num_devices: int) -> SequentialOffloadingConfig:
    """The same network with another number of devices; beyond what the server carries it grows with them."""
    sized = dataclasses.replace(config, num_devices=num_devices)
    return scaled_server(sized) if num_devices > CARRIED_DEVICES else sized


def scaled_server(config: SequentialOffloadingConfig) -> SequentialOffloadingConfig:
    """The same network with a server that grows with the number of devices (reference: K = 50)."""
    factor = config.num_devices / 50.0
    return dataclasses.replace(
        config,
        server_cpu_hz_max=config.server_cpu_hz_max * factor,
        server_capacitance=config.server_capacitance / factor**2,
    )
