"""Sequential offloading of partly computed DNN tasks (F. Wang, S. Cai, V. K. N. Lau, arXiv:2203.01005, 2022).

K devices receive DNN inference tasks of W cycles. Once per block a device picks its CPU rate; whole unfinished tasks
stay in its queue, the one partly done task (residual r < W) is sent to the server with the power that this needs.
Equation numbers are the paper's; E1..E15 are the errata listed in docs/sequential_offloading.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import gymnasium
import numpy as np

from envs.api import Array, Portrait, Role, Scenario, Signalling, Step, Trace, checked_actions, drawn
from envs.config import config_class, quantity
from envs.physics.compute import cpu_energy_j
from envs.physics.processes import (
    bernoulli_arrivals,
    log_normal_shadowing_db,
    rayleigh_power_gain,
    uniform_disc_distance_m,
)
from envs.physics.radio import from_db, path_loss_db, required_power_w, spectral_efficiency

SLIVER_TASKS = 1e-3
"""Work, in tasks, that turns a whole waiting task into one that may be offloaded (E9)."""
OBSERVATION_MAX = 8.0
OUTAGE_MARGIN = 1.0 + 1e-5
TINY = float(np.finfo(float).tiny)


@config_class
class SequentialOffloadingConfig:
    """Parameters in SI units; defaults are those of the paper where it gives them."""

    num_devices: int = quantity(20, "-", "devices in the cell", symbol="K", source="Fig. 7", ge=1)
    slots_per_block: int = quantity(5, "-", "slots per block", symbol="n", source="Sec. VI", ge=1, le=255)
    slot_s: float = quantity(0.1, "s", "slot length", symbol="tau", source="Sec. VI", gt=0)
    task_cycles: float = quantity(5e8, "cycle", "work of one DNN task (printed 1e10: E3)", symbol="W", gt=0)
    arrival_probability: float = quantity(
        0.4, "1/slot", "a task arrives in a slot", symbol="b", source="Sec. VI", ge=0, le=1
    )
    device_cpu_hz_max: float = quantity(3e9, "Hz", "highest CPU rate of a device", symbol="f_max^wd", gt=0)
    device_capacitance: float = quantity(
        1e-28, "J s^2/cycle^3", "switched capacitance of a device CPU", symbol="xi^wd", source="Sec. VI", ge=0
    )
    server_cpu_hz_max: float = quantity(1e11, "Hz", "highest CPU rate of the server", symbol="f_max^ser", gt=0)
    server_capacitance: float = quantity(
        1e-29, "J s^2/cycle^3", "switched capacitance of the server CPU", symbol="xi^ser", source="Sec. VI", ge=0
    )
    bandwidth_hz: float = quantity(1e6, "Hz", "private band of a device", symbol="B_k", source="Sec. VI", gt=0)
    snr_gap: float = quantity(1.5, "-", "SNR gap to capacity", symbol="Gamma", source="Sec. VI", ge=1)
    noise_w: float = quantity(10**-14.4, "W", "noise power in the band (-174 dBm/Hz: E5)", symbol="N0", gt=0)
    bits_per_cycle: float = quantity(2e-3, "bit/cycle", "feature-map bits per residual cycle", symbol="zeta", gt=0)
    transmit_power_w_max: float = quantity(1.0, "W", "highest transmit power of a device", symbol="p_max", gt=0)
    cell_radius_m: float = quantity(200.0, "m", "cell radius", source="Sec. VI", gt=0)
    distance_m_min: float = quantity(10.0, "m", "smallest distance to the base station", gt=0)
    pathloss_db_at_1m: float = quantity(30.6, "dB", "path loss at 1 m", source="Sec. VI")
    pathloss_db_per_decade: float = quantity(37.6, "dB", "path loss per decade of distance", source="Sec. VI", ge=0)
    shadowing_db_std: float = quantity(10.0, "dB", "standard deviation of shadowing", source="Sec. VI", ge=0)
    server_queue_weight: float = quantity(2e-9, "1/cycle", "cost of a queued cycle at the server", symbol="w1", ge=0)
    server_energy_weight: float = quantity(0.1, "1/J", "cost of server energy", symbol="w2", ge=0)
    device_queue_weight: float = quantity(2e-9, "1/cycle", "cost of a queued cycle at a device", symbol="w3", ge=0)
    device_energy_weight: float = quantity(15.0, "1/J", "cost of device energy", symbol="w4", ge=0)
    discount: float = quantity(0.95, "1/block", "discount factor", symbol="gamma", ge=0, lt=1)
    device_queue_tasks_max: float = quantity(40.0, "task", "device buffer", gt=0)
    server_queue_tasks_per_device_max: float = quantity(40.0, "task", "server buffer per device", gt=0)
    drop_cost_per_task: float = quantity(50.0, "1/task", "cost of a dropped task", ge=0)
    residual_tolerance: float = quantity(1e-6, "task", "guards the modulo from rounding", symbol="tol", ge=0, le=1e-3)
    episode_blocks: int = quantity(200, "block", "blocks of an episode", ge=1)
    residual_leaves_device: bool = quantity(True, "-", "a sent residual leaves the device; False: literal eq. (1), E1")
    idle_energy_charged: bool = quantity(False, "-", "bill the commanded CPU rate: literal eqs. (2), (7), E8")
    device_action: Literal["cpu", "power", "split"] = quantity("cpu", "-", "what a device's raw action means")
    queue_scale_tasks: float = quantity(10.0, "task", "queue that an observation shows as 1", gt=0)
    spectral_efficiency_scale: float = quantity(20.0, "bit/s/Hz", "CSI that an observation shows as 1", gt=0)
    reference_power_w: float = quantity(1.0, "W", "power at which the CSI is expressed", gt=0)
    arrival_lookahead: bool = quantity(False, "-", "devices see the coming arrivals: the paper's state, E7")
    server_observation: Literal["aggregate", "full", "own"] = quantity("aggregate", "-", "what the server sees, E14")

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
    def bits_per_s_per_hz_per_cycle(self) -> float:
        """Spectral efficiency that one residual cycle needs during its slot."""
        return self.bits_per_cycle / (self.slot_s * self.bandwidth_hz)

    @property
    def tasks_per_block(self) -> float:
        """Mean arrivals n b of a device per block, in tasks."""
        return self.slots_per_block * self.arrival_probability


def scaled_server(config: SequentialOffloadingConfig) -> SequentialOffloadingConfig:
    """The same network with a server that grows with the number of devices (reference: K = 50)."""
    factor = config.num_devices / 50.0
    return dataclasses.replace(
        config,
        server_cpu_hz_max=config.server_cpu_hz_max * factor,
        server_capacitance=config.server_capacitance / factor**2,
    )


@dataclass(frozen=True)
class SequentialOffloadingState:
    device_queue_cycles: Array  # (B, K) q_k^wd
    server_queue_cycles: Array  # (B,) q^ser
    last_offloaded_cycles: Array  # (B,) residuals that the server took in the previous block
    previous_arrivals: Array  # (B, K, n) 0/1, arrivals of the previous block


@dataclass(frozen=True)
class SequentialOffloadingTrace(Trace):
    channel_gain_per_w: Array = drawn("slot", "1/W", "num_devices", process="rayleigh_power_gain", low=0.0)
    task_arrivals: Array = drawn(
        "slot", "task", "num_devices", "slots_per_block", process="bernoulli_arrivals", low=0, integer=True
    )
    mean_gain_per_w: Array = drawn("episode", "1/W", "num_devices", process="log_normal_shadowing_db", low=0.0)


@dataclass(frozen=True)
class SequentialOffloadingExogenous:
    channel_gain_per_w: Array  # (B, K) visible before acting
    task_arrivals: Array  # (B, K, n) visible afterwards, unless arrival_lookahead
    mean_gain_per_w: Array  # (B, K) long-run mean of the channel


@dataclass(frozen=True)
class SequentialOffloadingDecisions:
    local_work_cycles: Array  # (B, K) x
    server_cpu_hz: Array  # (B,) f
    device_cpu_hz: Array | None = None  # (B, K) commanded rate, only billed with idle_energy_charged; default x/T


class SequentialOffloading(Scenario):
    """The scenario; see the module's docstring. Costs per block are eqs. (8) and (13)."""

    name = "sequential_offloading"
    title = "Sequential offloading of partly computed DNN tasks"
    paper = "F. Wang, S. Cai, V. K. N. Lau, arXiv:2203.01005 (2022)"
    config_type = SequentialOffloadingConfig
    state_type = SequentialOffloadingState
    trace_type = SequentialOffloadingTrace
    exogenous_type = SequentialOffloadingExogenous
    decisions_type = SequentialOffloadingDecisions
    reward_modes = ("local", "coupled", "team")
    cost_label = "cost per device and block"
    summary_metrics = MappingProxyType(
        {
            "mean queue [task/device]": ("device_queue_tasks",),
            "energy [J/block]": ("local_energy_j", "transmit_energy_j", "server_energy_j"),
            "delay [s]": ("delay_s",),
        }
    )

    config: SequentialOffloadingConfig

    # --- spaces ----------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> dict[str, Role]:
        config = self.config
        server_entries = {"own": 2, "aggregate": 4, "full": config.num_devices + 1}[config.server_observation]
        return {
            "device": Role("device", config.num_devices, _box(config.slots_per_block + 2), self._device_space),
            "server": Role("server", 1, _box(server_entries), _unit_box(1)),
        }

    @cached_property
    def _device_space(self) -> gymnasium.spaces.Box:
        return _unit_box(2 if self.config.device_action == "split" else 1)

    @cached_property
    def central_space(self) -> gymnasium.spaces.Box:
        return _unit_box(self.config.num_devices * self._device_space.shape[0] + 1)

    @cached_property
    def global_state_space(self) -> gymnasium.spaces.Box:
        lookahead = self.config.slots_per_block if self.config.arrival_lookahead else 0
        return _box(self.config.num_devices * (2 + lookahead) + 1)

    @property
    def horizon(self) -> int:
        return self.config.episode_blocks

    @property
    def cost_divisor(self) -> float:
        return float(self.config.num_devices)

    @property
    def learner_scale(self) -> dict[str, float]:
        return {"device": 0.1, "server": 0.1}

    def rewards(self, step: Step, mode: str = "local") -> dict[str, Array]:
        """As the contract; "coupled": a device's own entry and the server's, which is all that it has an effect on."""
        if mode != "coupled":
            return super().rewards(step, mode)
        server = -step.costs["server"]
        return {"device": server - step.costs["device"], "server": server}

    # --- randomness ------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        k, length = c.num_devices, slots + 1
        distance_m = uniform_disc_distance_m(rng, k, c.distance_m_min, c.cell_radius_m)
        shadowing_db = log_normal_shadowing_db(rng, k, c.shadowing_db_std)
        loss_db = path_loss_db(distance_m, c.pathloss_db_at_1m, c.pathloss_db_per_decade)
        mean_gain = from_db(shadowing_db - loss_db) / c.noise_w
        fading = rayleigh_power_gain(rng, (length, k))
        arrivals = bernoulli_arrivals(rng, c.arrival_probability, (length, k, c.slots_per_block))
        return {"channel_gain_per_w": mean_gain * fading, "task_arrivals": arrivals, "mean_gain_per_w": mean_gain}

    def sample_trace(self, rng: np.random.Generator, cells: int, slots: int | None = None) -> Any:
        trace = super().sample_trace(rng, cells, slots)
        # the slots of a block lie far apart in memory, so that adding them up reads whole rows
        arrivals = np.moveaxis(np.ascontiguousarray(np.moveaxis(trace.task_arrivals, -1, 1)), 1, -1)
        return dataclasses.replace(trace, task_arrivals=arrivals)

    def derived_trace_fields(self, given: Mapping[str, Array]) -> dict[str, Array]:
        gain = given.get("channel_gain_per_w")
        return {} if gain is None else {"mean_gain_per_w": gain.mean(axis=0)}

    def check_trace(self, trace: Any) -> None:
        super().check_trace(trace)
        if (trace.task_arrivals > 1).any():
            raise ValueError(f"trace field task_arrivals holds {trace.task_arrivals.max()}; every value must be 0 or 1")

    def initial_state(self, trace: Any) -> SequentialOffloadingState:
        cells, k, n = trace.cells, self.config.num_devices, self.config.slots_per_block
        return SequentialOffloadingState(
            np.zeros((cells, k)), np.zeros(cells), np.zeros(cells), np.zeros((cells, k, n), np.uint8)
        )

    # --- information -----------------------------------------------------------------------------------------------

    def observe(self, state: Any, exogenous: Any) -> dict[str, Array]:
        queue = state.device_queue_cycles / (self.config.queue_scale_tasks * self.config.task_cycles)
        cells, k = queue.shape
        device = np.empty((cells, k, self.config.slots_per_block + 2), np.float32)
        device[..., 0] = queue
        device[..., 1] = self._csi(exogenous)
        device[..., 2:] = exogenous.task_arrivals if self.config.arrival_lookahead else state.previous_arrivals
        np.clip(device, 0.0, OBSERVATION_MAX, out=device)
        return {"device": device, "server": self._observe_server(state, queue)}

    def _observe_server(self, state: Any, queue: Array) -> Array:
        c = self.config
        per_device = c.num_devices * c.task_cycles
        own = state.server_queue_cycles / (c.queue_scale_tasks * per_device)
        if c.server_observation == "full":
            row = np.concatenate([own[:, None], queue], axis=1)
        else:
            entries = [own, state.last_offloaded_cycles / per_device]
            if c.server_observation == "aggregate":
                entries += [queue.mean(axis=1), queue.max(axis=1)]
            row = np.stack(entries, axis=1)
        clipped: Array = np.clip(row, 0.0, OBSERVATION_MAX).astype(np.float32)[:, None, :]
        return clipped

    def _csi(self, exogenous: Any) -> Array:
        c = self.config
        return (
            spectral_efficiency(exogenous.channel_gain_per_w, c.reference_power_w, c.snr_gap)
            / c.spectral_efficiency_scale
        )

    def global_state(self, state: Any, exogenous: Any) -> Array:
        c = self.config
        cells = state.device_queue_cycles.shape[0]
        scale = c.queue_scale_tasks * c.task_cycles
        parts = [
            state.device_queue_cycles / scale,
            self._csi(exogenous),
            state.server_queue_cycles[:, None] / (c.num_devices * scale),
        ]
        if c.arrival_lookahead:
            parts.append(exogenous.task_arrivals.reshape(cells, -1))
        row: Array = np.clip(np.concatenate(parts, axis=1), 0.0, OBSERVATION_MAX).astype(np.float32)
        return row

    def portrait(self, state: Any, exogenous: Any) -> dict[str, Portrait]:
        c = self.config
        mean_db = 10.0 * np.log10(np.maximum(exogenous.mean_gain_per_w, 1e-30))
        near_db, far_db = mean_db.max(axis=1, keepdims=True), mean_db.min(axis=1, keepdims=True)
        efficiency = self._csi(exogenous) * c.spectral_efficiency_scale
        whole_task = c.task_cycles * c.bits_per_s_per_hz_per_cycle
        return {
            "device": Portrait(
                state.device_queue_cycles / c.task_cycles,
                "queue [task]",
                8.0,
                link=np.minimum(efficiency / (2.0 * whole_task), 1.0),
                link_label=f"spectral efficiency at {c.reference_power_w:g} W",
                distance=(near_db - mean_db) / np.maximum(near_db - far_db, 1e-9),
            ),
            "server": Portrait(
                state.server_queue_cycles[:, None] / (c.num_devices * c.task_cycles), "server queue [task/device]", 4.0
            ),
        }

    # --- actions ---------------------------------------------------------------------------------------------------

    def decode(self, state: Any, actions: Mapping[str, Array], exogenous: Any) -> SequentialOffloadingDecisions:
        for role in self.roles:
            if role not in actions:
                raise ValueError(f"actions of role '{role}' are missing")
        cells, k = state.device_queue_cycles.shape
        device = checked_actions("device", k, self._device_space, actions["device"], cells)
        server = checked_actions("server", 1, self.roles["server"].action_space, actions["server"], cells)
        return self._decisions(state, device, server[:, 0, 0], exogenous)

    def decode_central(self, state: Any, action: Array, exogenous: Any) -> SequentialOffloadingDecisions:
        cells, k = state.device_queue_cycles.shape
        joint = checked_actions("the centralized controller", 0, self.central_space, action, cells)
        return self._decisions(state, joint[:, :-1].reshape(cells, k, -1), joint[:, -1], exogenous)

    def _decisions(self, state: Any, device: Array, server: Array, exogenous: Any) -> SequentialOffloadingDecisions:
        c = self.config
        if c.device_action == "cpu":
            rate = device[..., 0] * c.device_cpu_hz_max
            work = np.minimum(c.block_s * rate, state.device_queue_cycles)
            return SequentialOffloadingDecisions(work, server * c.server_cpu_hz_max, rate)
        cap = c.device_work_cycles_max * (device[..., 0] if c.device_action == "split" else 1.0)
        power_w = device[..., -1] * c.transmit_power_w_max
        residual = np.minimum(
            self.carried_cycles(power_w, exogenous.channel_gain_per_w), (1.0 - SLIVER_TASKS) * c.task_cycles
        )
        work = self.work_leaving_residual(state.device_queue_cycles, residual, cap)
        return SequentialOffloadingDecisions(work, server * c.server_cpu_hz_max)

    def carried_cycles(self, power_w: Array, gain_per_w: Array) -> Array:
        """Residual (cycles) that a power carries in one slot: tau B log2(1 + h p / Gamma) / zeta, any shape."""
        return spectral_efficiency(gain_per_w * power_w, 1.0, self.config.snr_gap) / (
            self.config.bits_per_s_per_hz_per_cycle
        )

    def work_leaving_residual(self, queue_cycles: Array, residual_cycles: Array, cap_cycles: Any) -> Array:
        """Local work x that keeps the fewest whole tasks and leaves a target residual (section "Actions" of the docs).

        Args:
            queue_cycles: q, any shape.
            residual_cycles: target r*, same shape; cut to the queue.
            cap_cycles: largest work, broadcasts.
        """
        w = self.config.task_cycles
        residual = np.minimum(residual_cycles, queue_cycles)
        tasks = np.ceil((queue_cycles - residual - cap_cycles) / w - self.config.residual_tolerance)
        kept = np.maximum(tasks, 0.0) * w
        return np.clip(queue_cycles - residual - kept, 0.0, cap_cycles)

    # --- one block ---------------------------------------------------------------------------------------------------

    def residual_and_power(
        self, left_cycles: Array, gain_per_w: Array, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array, Array]:
        """Residual r = z mod W that is sent, its power, and where the power would exceed the limit (eqs. 3, 4).

        Args:
            left_cycles: z = q - x, any shape.
            gain_per_w: channel gain, broadcasts.
            out: arrays that take the residual and the power.

        Returns:
            residual_cycles, power_w, outage; residual and power are 0 in an outage.
        """
        c = self.config
        w, tol = c.task_cycles, c.residual_tolerance
        residual, power = out or np.empty((2, *np.broadcast(left_cycles, gain_per_w).shape))
        np.multiply(left_cycles, 1.0 / w, out=residual)
        residual += tol
        np.floor(residual, out=residual)
        residual *= -w
        residual += left_cycles
        required_power_w(residual * c.bits_per_s_per_hz_per_cycle, gain_per_w, c.snr_gap, out=power)
        partial = residual >= tol * w
        outage = power > c.transmit_power_w_max * OUTAGE_MARGIN
        outage &= partial
        sent = (partial ^ outage).astype(np.float64)  # multiplying by a float mask is the fastest selection
        residual *= sent
        power *= sent
        return residual, power, outage

    def step(self, state: Any, decisions: Any, exogenous: Any) -> Step:
        c = self.config
        w = c.task_cycles
        queue = state.device_queue_cycles
        # one block of memory: all its sums over devices are a single matrix product
        block = np.empty((4, *queue.shape))
        work, residual, power, local_j = block
        np.minimum(decisions.local_work_cycles, queue, out=work)
        np.clip(work, 0.0, c.device_work_cycles_max, out=work)
        billed = work
        if c.idle_energy_charged and decisions.device_cpu_hz is not None:
            billed = np.clip(decisions.device_cpu_hz, 0.0, c.device_cpu_hz_max) * c.block_s
        cpu_energy_j(billed, c.device_capacitance, c.block_s, out=local_j)
        kept = queue - work
        _, _, outage = self.residual_and_power(kept, exogenous.channel_gain_per_w, out=(residual, power))
        if c.residual_leaves_device:
            kept -= residual
        arrived = _sum_last(exogenous.task_arrivals)
        dropped = self._dropped(kept, arrived)
        device_cost = queue * c.device_queue_weight
        device_cost += local_j * c.device_energy_weight
        device_cost += power * (c.device_energy_weight * c.slot_s)
        kept += arrived * w
        if dropped is not None:
            device_cost += dropped * c.drop_cost_per_task
            kept -= dropped * w
        totals = block @ self._ones
        server = self._serve(state.server_queue_cycles, decisions.server_cpu_hz, totals[1])
        next_state = SequentialOffloadingState(kept, server["next_queue"], totals[1], exogenous.task_arrivals)
        details = {
            "local_work_cycles": work,
            "residual_cycles": residual,
            "transmit_power_w": power,
            "outage": outage,
            "dropped_tasks": np.zeros(queue.shape) if dropped is None else dropped,
        }
        metrics = self._metrics(state, totals, device_cost @ self._ones, server)
        if np.logical_or.reduce(outage, axis=None):
            metrics["outage_ratio"] = outage @ self._ones / c.num_devices
        if dropped is not None:
            metrics["drop_ratio"] = (dropped @ self._ones) / np.maximum(arrived @ self._ones, 1.0)
        return Step(next_state, {"device": device_cost, "server": server["cost"][:, None]}, metrics, details)

    def _dropped(self, kept: Array, arrived: Array) -> Array | None:
        """Tasks (B, K) that find no room in the device's buffer; None if every buffer has room for a full block."""
        c = self.config
        limit = c.device_queue_tasks_max
        if np.maximum.reduce(kept, axis=None) <= (limit - c.slots_per_block) * c.task_cycles:
            return None
        room = np.floor(limit + c.residual_tolerance - kept / c.task_cycles)
        return arrived - np.minimum(arrived, np.maximum(room, 0.0))

    def _serve(self, queue: Array, server_cpu_hz: Array, offloaded: Array) -> dict[str, Array]:
        """The server's block (eqs. 5 to 7): serves its queue at the block's beginning, then takes the residuals."""
        c = self.config
        commanded = np.minimum(np.maximum(server_cpu_hz, 0.0), c.server_cpu_hz_max) * c.block_s
        served = np.minimum(commanded, queue)
        energy = cpu_energy_j(commanded if c.idle_energy_charged else served, c.server_capacitance, c.block_s)
        filled = queue - served
        filled += offloaded
        next_queue = np.minimum(filled, c.server_queue_tasks_per_device_max * c.num_devices * c.task_cycles)
        lost = filled - next_queue
        cost = queue * c.server_queue_weight
        cost += energy * c.server_energy_weight
        cost += lost * (c.drop_cost_per_task / c.task_cycles)
        return {"served": served, "energy": energy, "next_queue": next_queue, "lost": lost, "cost": cost}

    def _metrics(self, state: Any, totals: Array, cost: Array, server: dict[str, Array]) -> dict[str, Array]:
        c = self.config
        k = c.num_devices
        local, offloaded, power_w, local_j = totals
        queue, server_queue = state.device_queue_cycles @ self._ones, state.server_queue_cycles
        nothing = np.zeros(len(cost))
        # cycles/s that arrive on average
        load = k * c.tasks_per_block / c.block_s * c.task_cycles
        return {
            "cost": cost + server["cost"],
            "device_cost": cost,
            "server_cost": server["cost"],
            "device_queue_tasks": queue * (1.0 / (k * c.task_cycles)),
            "server_queue_tasks": server_queue * (1.0 / c.task_cycles),
            "delay_s": (queue + server_queue) * (1.0 / load if load else 0.0),
            "local_energy_j": local_j,
            "transmit_energy_j": power_w * c.slot_s,
            "server_energy_j": server["energy"],
            "local_cycles": local,
            "offloaded_cycles": offloaded,
            "served_cycles": server["served"],
            "offload_ratio": offloaded / np.maximum(offloaded + local, TINY),
            "outage_ratio": nothing,
            "drop_ratio": nothing,
            "server_dropped_cycles": server["lost"],
            "device_utilisation": local * (1.0 / (k * c.device_work_cycles_max)),
            "server_utilisation": server["served"] * (1.0 / (c.block_s * c.server_cpu_hz_max)),
            "mean_transmit_power_w": power_w * (1.0 / k),
        }

    @cached_property
    def _ones(self) -> Array:
        return np.ones(self.config.num_devices)

    def signalling(self) -> Signalling:
        c = self.config
        k = c.num_devices
        uplink = 0.0 if c.server_observation == "own" else 4.0 * k
        lookahead = k * float(np.ceil(c.slots_per_block / 8)) if c.arrival_lookahead else 0.0
        return Signalling(
            decentralized={"device -> server: queue lengths": uplink},
            centralized={
                "device -> server: queue, gain": 8.0 * k + lookahead,
                "server -> device: decision": 4.0 * k * self._device_space.shape[0],
            },
        )


def _box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, OBSERVATION_MAX, (entries,), np.float32)


def _unit_box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, 1.0, (entries,), np.float32)


def _sum_last(values: Array) -> Array:
    """Sum over a short last axis, slice by slice: a reduction over it is several times slower."""
    total = values[..., 0].copy()
    for i in range(1, values.shape[-1]):
        total += values[..., i]
    return total.astype(np.float64)
