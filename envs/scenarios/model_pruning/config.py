"""Parameters of the model_pruning scenario and its named configs; equations and decisions are in `model_pruning.py`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pydantic

from edgemarl.envs.config import config_class, quantity, unknown_name
from edgemarl.envs.physics.processes import check_transition

Gain = Annotated[float, pydantic.Field(ge=1e-25, le=1)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]


@config_class
class ModelPruningConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them (preset `printed`)."""

    num_devices: int = quantity(
        100, "-", "sensors, one task each per slot", symbol="N", source="Sec. V-A", ge=1, le=10_000
    )
    num_gateways: int = quantity(5, "-", "gateways", symbol="G", source="Sec. V-A", ge=1, le=1000)
    slot_s: float = quantity(1.0, "s", "slot length", symbol="Gamma", source="Sec. V-A", ge=1e-6, le=86_400)
    mini_slots_per_slot: int = quantity(347, "-", "mini-slots (E3)", symbol="q", source="Sec. V-A", ge=1, le=10_000_000)
    task_bits: float = quantity(64e3, "bit", "data of one task", symbol="H", source="Sec. V-A", ge=1, le=1e15)
    task_flop: float = quantity(
        10e9, "FLOP", "work of the full network (E2)", symbol="H I", source="Sec. V-A", ge=1, le=1e18
    )
    num_criticality_levels: int = quantity(6, "-", "criticality levels", symbol="K", source="Table II(b)", ge=1, le=256)
    min_delay_s: float = quantity(
        0.1, "s", "deadline of the most critical", symbol="T_min", source="Table III", ge=1e-6, le=86_400
    )
    max_delay_s: float = quantity(
        1.0, "s", "deadline of the least critical", symbol="T_max", source="Table III", ge=1e-6, le=86_400
    )
    min_accuracy: float = quantity(
        0.92, "-", "accuracy of the least critical", symbol="A_min", source="Table III", ge=0, le=1
    )
    max_accuracy: float = quantity(
        0.99, "-", "accuracy of the most critical", symbol="A_max", source="Table III", ge=0, le=1
    )
    model_pruning_rates: tuple[Share, ...] = quantity(
        (0.1, 0.3, 0.5, 0.7, 0.8, 0.9), "-", "pruning rate of each model", symbol="p_v", source="Table II(a)"
    )
    model_accuracies: tuple[Share, ...] = quantity(
        (0.9976, 0.9803, 0.9752, 0.9517, 0.9477, 0.9221), "-", "accuracy of each model relative to the full network",
        symbol="A_v", source="Table II(a)",
    )  # fmt: skip
    edge_model_accuracy: float = quantity(1.0, "-", "accuracy at the server (E11)", ge=0, le=1)
    gateway_flops: float = quantity(
        768e9, "FLOP/s", "compute of a gateway", symbol="C_g", source="Sec. V-A", ge=1e3, le=1e18
    )
    edge_flops: float = quantity(
        20.31e12, "FLOP/s", "compute of the server", symbol="C_e", source="Sec. V-A", ge=1e3, le=1e18
    )
    edge_share_regulariser: float = quantity(
        10e9 / 20.31e12, "-", "edge time is one slot at share 0 (E2)", symbol="eps", source="eq. (3)", ge=1e-12, le=1e6
    )
    bandwidth_hz: float = quantity(5e6, "Hz", "band of all gateways", symbol="W", source="Sec. V-A", ge=100, le=1e13)
    transmit_power_w: float = quantity(1.0, "W", "power of a gateway", symbol="z_g", source="Sec. V-A", ge=1e-6, le=1e4)
    noise_density_w_per_hz: float = quantity(
        1e-19, "W/Hz", "noise density (printed 1e-18: E1)", symbol="N_0", ge=1e-22, le=1e-9
    )
    channel_gains: tuple[Gain, ...] = quantity(
        (2e-13, 4e-13, 6e-13), "-", "power gain of each channel state: bad, normal, good", symbol="psi",
        source="Sec. V-A",
    )  # fmt: skip
    channel_transition: tuple[tuple[Share, ...], ...] = quantity(
        ((0.3, 0.7, 0.0), (0.25, 0.5, 0.25), (0.0, 0.7, 0.3)), "-", "Markov chain of the channel", symbol="P",
        source="eq. (28)",
    )  # fmt: skip
    drop_penalty: float = quantity(
        99.0, "-", "cost of dropping every task", symbol="J", source="Table III", ge=0, le=1e9
    )
    utilisation_weight: float = quantity(1.0, "-", "value of utilisation; 1: the paper's objective", ge=0, le=1e9)
    delay_weight: float = quantity(0.0, "-", "cost of delay; 0: the paper's objective", ge=0, le=1e9)
    edge_logit_scale: float = quantity(4.0, "-", "logits of the server's raw action", part="interface", ge=1e-3, le=1e3)
    count_dropped_in_utilisation: bool = quantity(False, "-", "eqs. (12) to (14) literally (E6)")
    allow_idle_edge_share: bool = quantity(False, "-", "no repair of (17c) (E7)")
    episode_slots: int = quantity(200, "slot", "slots of an episode", ge=1, le=1_000_000)
    gateway_broadcast: Literal["channel", "histogram", "rank"] = quantity(
        "histogram", "-", "what a gateway tells its devices; changes observations only", part="interface"
    )

    def __post_init__(self) -> None:
        self._check_models()
        if not self.channel_gains:
            raise ValueError("channel_gains = () is not legal: must have one entry or more")
        check_transition(self.channel_transition, len(self.channel_gains))
        if self.min_delay_s > self.max_delay_s:
            raise ValueError(
                f"min_delay_s = {self.min_delay_s:g} s must not exceed max_delay_s = {self.max_delay_s:g} s"
            )

    def _check_models(self) -> None:
        rates, accuracies = self.model_pruning_rates, self.model_accuracies
        if not rates or len(rates) != len(accuracies):
            raise ValueError(
                f"model_pruning_rates has {len(rates)} entries and model_accuracies {len(accuracies)}: "
                "must be equal and >= 1"
            )
        if not self.min_accuracy <= self.max_accuracy <= self.edge_model_accuracy:
            raise ValueError(
                f"min_accuracy = {self.min_accuracy:g}, max_accuracy = {self.max_accuracy:g}, edge_model_accuracy = "
                f"{self.edge_model_accuracy:g} are not legal: must not fall in this order"
            )

    @property
    def criticality_level_max(self) -> int:
        """The highest level, K - 1."""
        return self.num_criticality_levels - 1

    @property
    def num_models(self) -> int:
        """Pruned models V of a gateway."""
        return len(self.model_pruning_rates)


PRESETS: dict[str, dict[str, Any]] = {
    "printed": {},
    "light": {"task_bits": 48e3},
    "contended": {"gateway_flops": 128e9, "num_devices": 200},
    "qos": {"utilisation_weight": 0.0, "delay_weight": 1.0},
}
"""Named configs: the fields that differ from the defaults. `scaled` depends on the number of devices."""


def preset(name: str, **overrides: Any) -> ModelPruningConfig:
    """A named config: "printed", "light", "contended", "qos", or "scaled" (of `num_devices`, default 100).

    Raises:
        ValueError: unknown preset or field.
    """
    if name == "scaled":
        return scaled(**overrides)
    if name not in PRESETS:
        raise ValueError(unknown_name("preset", name, (*PRESETS, "scaled")))
    return ModelPruningConfig(**{**PRESETS[name], **overrides})


def at_size(config: ModelPruningConfig, num_devices: int) -> ModelPruningConfig:
    """The same network with another number of sensors, in cells of 20 as in the printed network of 100."""
    fields = _grown(num_devices)
    return dataclasses.replace(config, **fields)


def scaled(num_devices: int = 100, **overrides: Any) -> ModelPruningConfig:
    """A network of any size whose cells, shares per gateway and penalty per task are those of 100 devices."""
    return ModelPruningConfig(**{**_grown(num_devices), **overrides})


def _grown(num_devices: int) -> dict[str, Any]:
    """The fields that grow with the number of sensors."""
    base = ModelPruningConfig(num_devices=num_devices)
    factor = base.num_devices / 100.0
    edge_flops = base.edge_flops * factor
    return {
        "num_devices": base.num_devices,
        "num_gateways": max(1, round(base.num_devices / 20)),
        "bandwidth_hz": base.bandwidth_hz * factor,
        "edge_flops": edge_flops,
        "edge_share_regulariser": base.task_flop / edge_flops,
        "drop_penalty": base.drop_penalty * factor,
    }
