"""Sequential offloading of partly computed DNN tasks (F. Wang, S. Cai, V. K. N. Lau, arXiv:2203.01005, 2022).

K devices receive DNN inference tasks of W cycles. Once per block a device picks its CPU rate; whole unfinished tasks
stay in its queue, the one partly done task (residual r < W) is sent to the server with the power that this needs.
Equation numbers are the paper's; E1..E15 are the errata listed in docs/sequential_offloading.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np

from edgemarl.envs.actions import check_given, checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Foreseeing, Portrait, Portrayed
from edgemarl.envs.physics.processes import (
    bernoulli_arrivals,
    log_normal_shadowing_db,
    rayleigh_power_gain,
    uniform_disc_distance_m,
)
from edgemarl.envs.physics.radio import from_db, passive, path_loss_db, spectral_efficiency
from edgemarl.envs.scenario import Role, Scenario, Signalling, Step
from edgemarl.envs.scenarios.sequential_offloading.block import SUMS, BlockConstants, run_block, send_residuals
from edgemarl.envs.scenarios.sequential_offloading.config import SLIVER_TASKS, SequentialOffloadingConfig
from edgemarl.envs.scenarios.sequential_offloading.entries import OffloadingEntries
from edgemarl.envs.scenarios.sequential_offloading.ledger import block_constants, cost_parts, metric_weights
from edgemarl.envs.trace import Trace, drawn

OBSERVATION_MAX = 8.0


@dataclass(frozen=True)
class SequentialOffloadingState:
    device_queue_cycles: Array  # (B, K) q_k^wd
    server_queue_cycles: Array  # (B,) q^ser
    last_offloaded_cycles: Array  # (B,) residuals that the server took in the previous block
    previous_arrivals: Array  # (B, K, n) 0/1, arrivals of the previous block


@dataclass(frozen=True)
class SequentialOffloadingTrace(Trace):
    channel_gain_per_w: Array = drawn(
        "slot", "1/W", "num_devices", process="rayleigh_power_gain", low=0.0, high="gain_per_w_max"
    )
    task_arrivals: Array = drawn(
        "slot", "task", "num_devices", "slots_per_block", process="bernoulli_arrivals", low=0, high=1, integer=True
    )
    mean_gain_per_w: Array = drawn(
        "episode", "1/W", "num_devices", process="log_normal_shadowing_db", low=0.0, high="gain_per_w_max"
    )


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


class SequentialOffloading(
    Scenario[
        SequentialOffloadingConfig,
        SequentialOffloadingState,
        SequentialOffloadingTrace,
        SequentialOffloadingExogenous,
        SequentialOffloadingDecisions,
    ],
    OffloadingEntries,
    Foreseeing,
    Portrayed,
):
    """The scenario; see the module's docstring. Costs per block are eqs. (8) and (13)."""

    name = "sequential_offloading"
    title = "Sequential offloading of partly computed DNN tasks"
    paper = "F. Wang, S. Cai, V. K. N. Lau, arXiv:2203.01005 (2022)"
    config_type = SequentialOffloadingConfig
    state_type = SequentialOffloadingState
    trace_type = SequentialOffloadingTrace
    exogenous_type = SequentialOffloadingExogenous
    decisions_type = SequentialOffloadingDecisions
    reward_modes = ("local", "coupled", "priced", "team")
    foreseen_roles = ("device",)
    cost_label = "cost per device and block"
    earlier_defaults = MappingProxyType({"device_action": "cpu"})
    summary_metrics = MappingProxyType(
        {
            "mean queue [task/device]": ("device_queue_tasks",),
            "device energy [J/block]": ("local_energy_j", "transmit_energy_j"),
            "server energy [J/block]": ("server_energy_j",),
            "server load [-]": ("server_utilisation",),
            "dropped [-]": ("drop_ratio",),
            "delay [s]": ("delay_s",),
            "energy [J/block]": ("local_energy_j", "transmit_energy_j", "server_energy_j"),
        }
    )
    backlog_metrics = MappingProxyType(
        {"queue of the devices [task/device]": "device_queue_tasks", "queue of the server [task]": "server_queue_tasks"}
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
        return _unit_box(2 if self.config.device_action in ("split", "residual") else 1)

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

    def reward_divisor(self, mode: str) -> float:
        """As the contract; the noise of "coupled", the server's costs in every reward, grows with the root of n."""
        return math.sqrt(sum(self.ledger.values())) if mode == "coupled" else super().reward_divisor(mode)

    def rewards(self, step: Step[SequentialOffloadingState], mode: str = "local") -> dict[str, Array]:
        """As the contract; two modes in which devices learn what their offloading costs the server.

        "coupled": a device's own entry and the server's, which is all that it has an effect on. "priced": its own entry
        and what it offloads times what the server's next cycle costs (`marginal_cost_per_cycle`).
        """
        if mode not in ("coupled", "priced"):
            return super().rewards(step, mode)
        server = -step.costs["server"]
        if mode == "coupled":
            return {"device": server - step.costs["device"], "server": server}
        price = self.marginal_cost_per_cycle(step)[:, None]
        return {"device": -(step.costs["device"] + price * step.details["residual_cycles"]), "server": server}

    def marginal_cost_per_cycle(self, step: Step[SequentialOffloadingState]) -> Array:
        """(B,) what one more cycle in the server's queue costs it, by what it just did.

        It waits for a block and is then served by a rate f, whose energy grows with its cube: 3 E / (cycles served). A
        server that minimises its own discounted cost has dV/dq of just that: it serves until the last cycle's energy is
        worth what the queue behind it is (envelope theorem), unless its rate is at its limit.
        """
        c, served = self.config, step.metrics["served_cycles"]
        energy_j = 3.0 * step.metrics["server_energy_j"]
        per_cycle_j = np.divide(energy_j, served, out=np.zeros_like(served), where=served > 0.0)
        return np.asarray(c.discount * (c.server_queue_weight + c.server_energy_weight * per_cycle_j))

    # --- randomness ------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        k, length = c.num_devices, slots + 1
        distance_m = uniform_disc_distance_m(rng, k, c.distance_m_min, c.cell_radius_m)
        shadowing_db = log_normal_shadowing_db(rng, k, c.shadowing_db_std)
        loss_db = path_loss_db(distance_m, c.pathloss_db_at_1m, c.pathloss_db_per_decade)
        mean_gain = passive(from_db(shadowing_db - loss_db)) / c.noise_w
        gain_per_w = np.minimum(mean_gain * rayleigh_power_gain(rng, (length, k)), 1.0 / c.noise_w)  # passive too
        arrivals = bernoulli_arrivals(rng, c.arrival_probability, (length, k, c.slots_per_block))
        return {"channel_gain_per_w": gain_per_w, "task_arrivals": arrivals, "mean_gain_per_w": mean_gain}

    def derived_trace_fields(self, given: Mapping[str, Array]) -> dict[str, Array]:
        gain = given.get("channel_gain_per_w")
        return {} if gain is None else {"mean_gain_per_w": gain.mean(axis=0)}

    def initial_state(self, trace: SequentialOffloadingTrace) -> SequentialOffloadingState:
        cells, k, n = trace.cells, self.config.num_devices, self.config.slots_per_block
        return SequentialOffloadingState(
            np.zeros((cells, k)), np.zeros(cells), np.zeros(cells), np.zeros((cells, k, n), np.uint8)
        )

    # --- information -----------------------------------------------------------------------------------------------

    def observe(self, state: SequentialOffloadingState, exogenous: SequentialOffloadingExogenous) -> dict[str, Array]:
        queue = state.device_queue_cycles / (self.config.queue_scale_tasks * self.config.task_cycles)
        cells, k = queue.shape
        device = np.empty((cells, k, self.config.slots_per_block + 2), np.float32)
        device[..., 0] = queue
        device[..., 1] = self._csi(exogenous.channel_gain_per_w)
        device[..., 2:] = exogenous.task_arrivals if self.config.arrival_lookahead else state.previous_arrivals
        np.clip(device, 0.0, OBSERVATION_MAX, out=device)
        return {"device": device, "server": self._observe_server(state, queue)}

    def _observe_server(self, state: SequentialOffloadingState, queue: Array) -> Array:
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

    def _csi(self, gain_per_w: Array) -> Array:
        c = self.config
        return spectral_efficiency(gain_per_w, c.reference_power_w, c.snr_gap) / c.spectral_efficiency_scale

    def global_state(self, state: SequentialOffloadingState, exogenous: SequentialOffloadingExogenous) -> Array:
        c = self.config
        cells = state.device_queue_cycles.shape[0]
        scale = c.queue_scale_tasks * c.task_cycles
        parts = [
            state.device_queue_cycles / scale,
            self._csi(exogenous.channel_gain_per_w),
            state.server_queue_cycles[:, None] / (c.num_devices * scale),
        ]
        if c.arrival_lookahead:
            parts.append(exogenous.task_arrivals.reshape(cells, -1))
        row: Array = np.clip(np.concatenate(parts, axis=1), 0.0, OBSERVATION_MAX).astype(np.float32)
        return row

    def outlook(self, trace: SequentialOffloadingTrace) -> dict[str, Array]:
        """Of a device: the share of the block's slots in which a task arrives, and its CSI."""
        arrived = trace.task_arrivals.mean(axis=-1)
        return {"device": np.stack([arrived, self._csi(trace.channel_gain_per_w)], axis=-1).astype(np.float32)}

    def portrait(
        self, state: SequentialOffloadingState, exogenous: SequentialOffloadingExogenous
    ) -> dict[str, Portrait]:
        c = self.config
        mean_db = 10.0 * np.log10(np.maximum(exogenous.mean_gain_per_w, 1e-30))
        near_db, far_db = mean_db.max(axis=1, keepdims=True), mean_db.min(axis=1, keepdims=True)
        efficiency = self._csi(exogenous.channel_gain_per_w) * c.spectral_efficiency_scale
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

    def decode(
        self, state: SequentialOffloadingState, actions: Mapping[str, Array], exogenous: SequentialOffloadingExogenous
    ) -> SequentialOffloadingDecisions:
        check_given(actions, self.roles)
        cells, k = state.device_queue_cycles.shape
        device = checked_actions("device", k, self._device_space, actions["device"], cells)
        server = checked_actions("server", 1, self.roles["server"].action_space, actions["server"], cells)
        return self._decisions(state, device, server[:, 0, 0], exogenous)

    def decode_central(
        self, state: SequentialOffloadingState, action: Array, exogenous: SequentialOffloadingExogenous
    ) -> SequentialOffloadingDecisions:
        cells, k = state.device_queue_cycles.shape
        joint = checked_actions("the centralized controller", 0, self.central_space, action, cells)
        return self._decisions(state, joint[:, :-1].reshape(cells, k, -1), joint[:, -1], exogenous)

    def _decisions(
        self, state: SequentialOffloadingState, device: Array, server: Array, exogenous: SequentialOffloadingExogenous
    ) -> SequentialOffloadingDecisions:
        c = self.config
        if c.device_action == "cpu":
            rate = device[..., 0] * c.device_cpu_hz_max
            work = np.minimum(c.block_s * rate, state.device_queue_cycles)
            return SequentialOffloadingDecisions(work, server * c.server_cpu_hz_max, rate)
        effort, share, most = device[..., 0], device[..., -1], c.device_work_cycles_max
        of_residual = c.device_action == "residual"  # the share is one of it, else of the highest power
        power_w = np.full_like(share, c.transmit_power_w_max) if of_residual else share * c.transmit_power_w_max
        residual = np.minimum(
            self.carried_cycles(power_w, exogenous.channel_gain_per_w), (1.0 - SLIVER_TASKS) * c.task_cycles
        )
        if of_residual:
            work = self.work_leaving_residual(state.device_queue_cycles, residual * share, most, effort * most)
        else:
            cap = most * (effort if c.device_action == "split" else 1.0)
            work = self.work_leaving_residual(state.device_queue_cycles, residual, cap)
        return SequentialOffloadingDecisions(work, server * c.server_cpu_hz_max)

    def carried_cycles(self, power_w: Array, gain_per_w: Array) -> Array:
        """Residual (cycles) that a power carries in one slot: tau B log2(1 + h p / Gamma) / zeta, any shape."""
        return spectral_efficiency(gain_per_w * power_w, 1.0, self.config.snr_gap) / (
            self.config.bits_per_s_per_hz_per_cycle
        )

    def work_leaving_residual(
        self, queue_cycles: Array, residual_cycles: Array, cap_cycles: Any, leaving_cycles: Array | None = None
    ) -> Array:
        """Local work x that keeps the fewest whole tasks and leaves a target residual (section "Actions" of the docs).

        Args:
            queue_cycles: q, any shape.
            residual_cycles: target r*, same shape; cut to the queue.
            cap_cycles: largest work, broadcasts.
            leaving_cycles: work and residual together, same shape: of whole tasks as many stay as come nearest to it.
        """
        w = self.config.task_cycles
        residual = np.minimum(residual_cycles, queue_cycles)
        tasks = np.ceil((queue_cycles - residual - cap_cycles) / w - self.config.residual_tolerance)
        if leaving_cycles is not None:
            tasks = np.maximum(tasks, np.rint((queue_cycles - leaving_cycles) / w))
        kept = np.maximum(tasks, 0.0) * w
        result: Array = np.clip(queue_cycles - residual - kept, 0.0, cap_cycles)
        return result

    # --- one block ---------------------------------------------------------------------------------------------------

    def residual_and_power(self, left_cycles: Array, gain_per_w: Array) -> tuple[Array, Array, Array]:
        """Residual r = z mod W that is sent, its power, and where the power would exceed the limit (eqs. 3, 4).

        Args:
            left_cycles: z = q - x, any shape.
            gain_per_w: channel gain, broadcasts.

        Returns:
            residual_cycles, power_w, outage; residual and power are 0 in an outage.
        """
        shape = np.broadcast_shapes(left_cycles.shape, gain_per_w.shape)
        rows = (-1, shape[-1])
        left, gain = (_floats(np.broadcast_to(a, shape).reshape(rows)) for a in (left_cycles, gain_per_w))
        residual, power = np.empty((2, *left.shape))
        outage = np.empty(left.shape, np.bool_)
        send_residuals(left, gain, self._constants, residual, power, outage)
        return residual.reshape(shape), power.reshape(shape), outage.reshape(shape)

    def step(
        self,
        state: SequentialOffloadingState,
        decisions: SequentialOffloadingDecisions,
        exogenous: SequentialOffloadingExogenous,
    ) -> Step[SequentialOffloadingState]:
        work, billed = decisions.local_work_cycles, decisions.local_work_cycles
        if self.config.idle_energy_charged and decisions.device_cpu_hz is not None:
            billed = decisions.device_cpu_hz * self.config.block_s
        cells, k = state.device_queue_cycles.shape
        parts, outage = np.empty((6, cells, k)), np.empty((cells, k), np.bool_)
        sums, next_server_queue = np.empty((len(SUMS), cells)), np.empty(cells)
        run_block(
            _floats(state.device_queue_cycles),
            _floats(work),
            _floats(billed),
            _floats(exogenous.channel_gain_per_w),
            np.ascontiguousarray(exogenous.task_arrivals, np.uint8),
            _floats(state.server_queue_cycles),
            _floats(decisions.server_cpu_hz),
            self._constants,
            parts,
            outage,
            sums,
            next_server_queue,
        )
        names, weights = self._metric_weights
        metrics = dict(zip(names, weights @ sums, strict=True))
        next_queue, cost, worked, residual, power, dropped = parts
        details = {
            "local_work_cycles": worked,
            "residual_cycles": residual,
            "transmit_power_w": power,
            "outage": outage,
            "dropped_tasks": dropped,
        }
        next_state = SequentialOffloadingState(
            next_queue, next_server_queue, metrics["offloaded_cycles"], exogenous.task_arrivals
        )
        return Step(next_state, {"device": cost, "server": metrics["server_cost"][:, None]}, metrics, details)

    def cost_parts(self, means: Mapping[str, Array]) -> dict[str, Array]:
        return cost_parts(self.config, means)

    @cached_property
    def _constants(self) -> BlockConstants:
        return block_constants(self.config)

    @cached_property
    def _metric_weights(self) -> tuple[tuple[str, ...], Array]:
        return metric_weights(self.config)

    def signalling(self) -> Signalling:
        c = self.config
        k = c.num_devices
        uplink = 0.0 if c.server_observation == "own" else 4.0 * k
        lookahead = k * float(np.ceil(c.slots_per_block / 8)) if c.arrival_lookahead else 0.0
        return Signalling(
            decentralized={"device -> server: queue lengths": uplink},
            centralized={
                "device -> server: queue, gain": 8.0 * k + lookahead,
                "server -> device: decision": (8.0 if c.device_action == "split" else 4.0) * k,
            },
        )


def _box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, OBSERVATION_MAX, (entries,), np.float32)


def _unit_box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, 1.0, (entries,), np.float32)


def _floats(values: Array) -> Array:
    """As compiled code takes them; no copy if they are so already."""
    return np.ascontiguousarray(values, np.float64)
