"""Where to cut deep networks (X. Ye, Y. Sun, D. Wen, G. Pan, S. Zhang: joint DNN partitioning and resource allocation).

N devices serve streams of inference requests. A network cut after layer l runs layers 1..l on the device, sends the
feature map over a shared uplink and runs the rest on a shared edge server. Long-run budgets of energy and memory are
virtual queues; per slot the objective is drift plus penalty. Given the cuts, CPU frequencies, edge shares and bandwidth
shares follow from three convex problems. Equation numbers are the paper's, errata those of docs/model_partitioning.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import gymnasium
import numpy as np

from edgemarl.envs.actions import check_given, checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Portrait, Portrayed
from edgemarl.envs.dnn.cuts import CutCosts, cut_costs
from edgemarl.envs.dnn.profiles import LayerProfile
from edgemarl.envs.physics import allocation
from edgemarl.envs.physics.compute import work_energy_j
from edgemarl.envs.physics.processes import rayleigh_power_gain, uniform_rate_hz
from edgemarl.envs.physics.queueing import md1_sojourn_s
from edgemarl.envs.physics.radio import antenna_path_gain, fdma_rate_bps, passive
from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step, total_cost
from edgemarl.envs.scenarios.model_partitioning.bids import BID, bids
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig
from edgemarl.envs.scenarios.model_partitioning.entries import PartitioningEntries
from edgemarl.envs.scenarios.model_partitioning.parts import BACKLOGS, cost_parts
from edgemarl.envs.scenarios.model_partitioning.priced import CutTerms, LocalPart, over, priced_cuts
from edgemarl.envs.scenarios.model_partitioning.rows import clipped, row_box, unit_box
from edgemarl.envs.scenarios.model_partitioning.slot import (
    DETAILS,
    MEANS,
    PARTS,
    QUEUE_COSTS,
    SUMS,
    CutTables,
    Devices,
    PartitioningConstants,
    flat,
    rule,
    run_slot,
)
from edgemarl.envs.trace import Trace, drawn

SIGNALS = 3
"""Broadcast numbers of a device's row: crowd and the two prices."""
FLOAT_BYTES = 4.0


@dataclass(frozen=True)
class ModelPartitioningState:
    energy_queue: Array  # (B, N) Q, virtual queue of the energy budget
    memory_queue: Array  # (B, N) W, virtual queue of the memory budget
    crowd: Array  # (B,) EMA of the fraction of devices that offload; this and the following serve observations only
    bandwidth_price_mean: Array  # (B,) EMA of the bandwidth price
    edge_cpu_price_mean: Array  # (B,) EMA of the edge CPU price
    last_sent_fraction: Array  # (B, N) psi/psi(l=0) of the slot before
    last_edge_fraction: Array  # (B, N) D/d_tot of the slot before


@dataclass(frozen=True)
class ModelPartitioningTrace(Trace):
    channel_gain: Array = drawn("slot", "-", "num_devices", process="rayleigh_power_gain", low=0.0, high=1.0)
    arrival_rate_hz: Array = drawn("slot", "1/s", "num_devices", process="uniform_rate_hz", low=0.0)


@dataclass(frozen=True)
class ModelPartitioningExogenous:
    channel_gain: Array  # (B, N) h, power ratio, before the floor; seen before acting
    arrival_rate_hz: Array  # (B, N) lambda, seen before acting


@dataclass(frozen=True)
class ModelPartitioningDecisions:
    partition_layer: Array  # (B, N) int cut l; an index above L_n is read as L_n
    device_cpu_hz: Array | None = None  # (B, N) f, read under local_cpu_rule "action"
    bandwidth_weight: Array | None = None  # (B, N) > 0, read under the rules "action" and "corrected"; None: even
    edge_cpu_weight: Array | None = None  # (B, N) > 0, the same for edge_cpu_rule


class ModelPartitioning(
    Scenario[
        ModelPartitioningConfig,
        ModelPartitioningState,
        ModelPartitioningTrace,
        ModelPartitioningExogenous,
        ModelPartitioningDecisions,
    ],
    PartitioningEntries,
    Portrayed,
):
    """The scenario; see the module's docstring. The ledger of a slot sums to eq. (11)."""

    name = "model_partitioning"
    title = "Where to cut deep networks between devices and a shared edge server"
    paper = "X. Ye, Y. Sun, D. Wen, G. Pan, S. Zhang, End-to-End Delay Minimization based on Joint Optimization of DNN Partitioning and Resource Allocation for Cooperative Edge Inference"  # noqa: E501
    config_type = ModelPartitioningConfig
    state_type = ModelPartitioningState
    trace_type = ModelPartitioningTrace
    exogenous_type = ModelPartitioningExogenous
    decisions_type = ModelPartitioningDecisions
    reward_modes = ("local", "team", "device_local", "difference")
    cost_metric = "objective"
    cost_label = "objective per slot, scaled to 5 devices"
    summary_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "delay [s]": ("mean_delay_s",),
        "energy [J]": ("mean_energy_j",),
        "energy queue": ("mean_energy_queue",),
        "memory [B]": ("mean_memory_bytes",),
        "offload ratio": ("offload_ratio",),
        "memory queue": ("mean_memory_queue",),
    }
    backlog_metrics: ClassVar[Mapping[str, str]] = BACKLOGS
    config: ModelPartitioningConfig

    # --- constants of the devices ------------------------------------------------------------------------------------

    @cached_property
    def profiles(self) -> tuple[LayerProfile, ...]:
        """Layer table of each device (N)."""
        return tuple(self.config.profiles[name] for name in self.config.device_models)

    @cached_property
    def layers(self) -> Array:
        """(N,) number L_n of layers."""
        return np.array([p.layers for p in self.profiles])

    @cached_property
    def cuts(self) -> CutCosts:
        """Work, bits and memory of every cut of every device, (N, M+1)."""
        c = self.config
        return cut_costs(
            self.profiles,
            cycles_per_mac=c.cycles_per_mac,
            input_bits=c.input_bits_per_element,
            feature_bits=c.feature_bits_per_element,
            parameter_bytes=c.parameter_bytes_per_element,
            activation_bytes=c.activation_bytes_per_element,
            device_memory_factor=c.device_memory_factor,
            edge_memory_factor=c.edge_memory_factor,
            transmit_result_when_local=c.transmit_result_when_local,
            measured_hz=(c.device_cpu_hz, c.edge_cpu_hz) if c.layer_work == "times" else None,
        )

    @cached_property
    def mean_gain(self) -> Array:
        """(N,) mean power gain."""
        c = self.config
        given = np.atleast_1d(np.asarray(c.distance_m, np.float64))
        distance = given[np.arange(c.num_devices) % len(given)]
        return antenna_path_gain(distance, c.antenna_gain, c.carrier_hz, c.path_loss_exponent)

    @cached_property
    def energy_budget_j(self) -> Array:
        return np.array([p.energy_budget_j for p in self.profiles])

    @cached_property
    def memory_budget_bytes(self) -> Array:
        return np.array([p.memory_budget_bytes for p in self.profiles])

    @cached_property
    def total_cycles(self) -> Array:
        """(N,) work d_tot of the whole network."""
        return self.cuts.local_cycles[:, -1]

    @cached_property
    def queue_reference(self) -> tuple[Array, Array]:
        """(N,) energy and memory queue that an observation shows as 1: V T_ref over the budget."""
        c = self.config
        penalty = c.delay_weight * self.total_cycles / c.device_cpu_hz
        return penalty / self.energy_budget_j, penalty / (self.memory_budget_bytes / c.memory_unit_bytes)

    @cached_property
    def model_marks(self) -> Array:
        """(N, networks) float32: which network of `model_pattern` a device runs, one-hot."""
        names = tuple(dict.fromkeys(self.config.model_pattern))
        return np.array([[model == name for name in names] for model in self.config.device_models], np.float32)

    @property
    def penalty(self) -> float:
        """Mean over the devices of V T_ref, the cost of a local run at the highest clock."""
        return float(self.config.delay_weight * self.total_cycles.mean() / self.config.device_cpu_hz)

    @property
    def price_reference(self) -> float:
        """Price that an observation shows as 1/2."""
        return self.config.delay_weight * self.config.num_devices / 5.0

    # --- spaces ------------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> dict[str, Role]:
        c = self.config
        action = unit_box(2) if c.local_cpu_rule == "action" else gymnasium.spaces.Discrete(int(self.layers.max()) + 1)
        shown = 2 * self.cuts.sent_bits.shape[1] * c.show_costs + c.show_model * self.model_marks.shape[1]
        further = c.share_queues + 2 * BID * c.share_bids + shown
        roles = {"device": Role("device", c.num_devices, row_box(4 + SIGNALS + further), action)}
        if c.server_acts:
            roles["server"] = Role(
                "server", 1, row_box(5 * c.num_devices), unit_box(2 * c.num_devices), Parts(c.num_devices, 5)
            )
        return roles

    @property
    def ledger(self) -> dict[str, int]:
        return {"device": self.config.num_devices, "server": 1}

    @cached_property
    def central_space(self) -> gymnasium.Space[Any]:
        """The N cuts as choices, or a Box of blocks of N: cuts, [frequencies], [both weights].

        A Box if a rule is "action" or cuts are given as numbers, (13): `central_cuts`.

        Where the server corrects the convex solution, a centralized controller leaves it as it is.
        """
        c = self.config
        if c.central_choices:
            return gymnasium.spaces.MultiDiscrete(self.layers + 1)
        blocks = 1 + (c.local_cpu_rule == "action") + 2 * ("action" in c.rules[1:])
        return unit_box(blocks * c.num_devices)

    @cached_property
    def global_state_space(self) -> gymnasium.spaces.Box:
        return row_box(4 * self.config.num_devices)

    @property
    def horizon(self) -> int:
        return self.config.episode_slots

    @property
    def cost_divisor(self) -> float:
        """Tables give the objective of five devices, the paper's cell, whatever the size of the cell."""
        return self.config.num_devices / 5.0

    @property
    def learner_scale(self) -> dict[str, float]:
        return dict.fromkeys(self.ledger, 1.0 / self.config.delay_weight)

    # --- randomness --------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        shape = (slots + 1, c.num_devices)
        channel, arrivals = rng.spawn(2)
        gain = passive(self.mean_gain * rayleigh_power_gain(channel, shape))
        spread = 0.0 if c.arrival_process == "constant" else c.arrival_spread
        mean = c.mean_arrival_rate_hz
        if c.mean_arrival_rate_max_hz is not None:
            mean = rng.spawn(1)[0].uniform(mean, c.mean_arrival_rate_max_hz)
        rate = uniform_rate_hz(arrivals, mean, spread, shape)
        if c.arrival_process == "surge":
            rate[c.surge_start_slot : c.surge_end_slot] *= c.surge_factor
        return {"channel_gain": gain, "arrival_rate_hz": rate}

    def initial_state(self, trace: ModelPartitioningTrace) -> ModelPartitioningState:
        c, cells = self.config, trace.cells
        zeros = np.zeros((cells, c.num_devices))
        scale = c.delay_weight * c.num_devices
        return ModelPartitioningState(
            energy_queue=zeros, memory_queue=zeros, crowd=np.full(cells, 0.4),
            bandwidth_price_mean=np.full(cells, 0.04 * scale), edge_cpu_price_mean=np.full(cells, 0.02 * scale),
            last_sent_fraction=zeros, last_edge_fraction=zeros,
        )  # fmt: skip

    # --- information -------------------------------------------------------------------------------------------------

    def floored_gain(self, exogenous: ModelPartitioningExogenous) -> Array:
        """(B, N) channel gain h after the floor (erratum 7)."""
        return np.maximum(exogenous.channel_gain, self.config.fading_floor * self.mean_gain)

    def full_band_snr(self, exogenous: ModelPartitioningExogenous) -> Array:
        """(B, N) signal-to-noise ratio s = p h / (W N0) of a device that holds the whole band."""
        c = self.config
        return self.floored_gain(exogenous) * (c.transmit_power_w / (c.bandwidth_hz * c.noise_psd_w_per_hz))

    def _own_entries(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> list[Array]:
        energy_reference, memory_reference = self.queue_reference
        return [
            np.log10(self.floored_gain(exogenous) / self.mean_gain),
            exogenous.arrival_rate_hz * (self.total_cycles / self.config.device_cpu_hz),
            state.energy_queue / energy_reference,
            state.memory_queue / memory_reference,
        ]

    def observe(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> dict[str, Array]:
        own = self._own_entries(state, exogenous)
        cells, n = own[0].shape
        row = np.empty((cells, n, *self.roles["device"].observation_space.shape), np.float32)
        for i, entry in enumerate(own):
            row[..., i] = entry
        row[..., 4] = state.crowd[:, None]
        for i, price in enumerate((state.bandwidth_price_mean, state.edge_cpu_price_mean)):
            row[..., 5 + i] = (price / (price + self.price_reference))[:, None]
        if self.config.share_queues:
            row[..., 4 + SIGNALS] = own[2].mean(axis=1, keepdims=True)
        if self.config.share_bids:
            first, bid = 4 + SIGNALS + self.config.share_queues, self.bids(state, exogenous)
            row[..., first : first + BID] = bid
            row[..., first + BID : first + 2 * BID] = bid.sum(axis=1, keepdims=True) - bid  # of the others
        if self.config.show_costs:
            shown, end = self.shown_costs(state, exogenous), -self.model_marks.shape[1] * self.config.show_model
            row[..., end - shown.shape[2] : end or None] = shown
        if self.config.show_model:
            row[..., -self.model_marks.shape[1] :] = self.model_marks
        rows = {"device": clipped(row)}
        if self.config.server_acts:
            parts = [own[0], own[1], state.last_sent_fraction, state.last_edge_fraction, own[2]]
            rows["server"] = clipped(np.stack(parts, axis=2).reshape(cells, 1, 5 * n))
        return rows

    def joule_rate(self, arrival_rate_hz: Array) -> Array:
        """Energy of a slot per second that one request's transmission takes, any shape."""
        return np.asarray(self.config.transmit_power_w * self.config.slot_s * arrival_rate_hz)

    def cut_terms(self, energy_queue: Array, memory_queue: Array, arrival_rate_hz: Array, snr: Array) -> CutTerms:
        """Terms of all cuts; Q, W, lambda and s over the whole band are (B, N)."""
        q, w, rate = (values[..., None] for values in (energy_queue, memory_queue, arrival_rate_hz))
        weight = self.transmission_weight(q, rate) * self.cuts.sent_bits
        load = np.broadcast_to(self.edge_load(self.cuts.edge_cycles), weight.shape)
        part = self.local_part(self.cuts, q, w, rate)
        return CutTerms(part.cost, weight, load, snr, part.energy_j)

    def slot_terms(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> CutTerms:
        """Terms of all cuts in a slot."""
        snr = self.full_band_snr(exogenous)
        return self.cut_terms(state.energy_queue, state.memory_queue, exogenous.arrival_rate_hz, snr)

    @staticmethod
    def _mean_prices(state: ModelPartitioningState) -> tuple[Array, Array]:
        """(B, 1, 1) broadcast prices of band and edge CPU."""
        return state.bandwidth_price_mean[:, None, None], state.edge_cpu_price_mean[:, None, None]

    def bids(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> Array:
        """(B, N, 2) what the devices announce before they choose, each from its own row (`bids.bids`)."""
        return bids(self.slot_terms(state, exogenous), self._mean_prices(state), self.penalty, self.config.bandwidth_hz)

    def shown_costs(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> Array:
        """(B, N, 2 (M+1)) what a device computes from its own row and the two prices, for every cut of its network.

        First the cost at the prices (`priced_cuts`) less that of the local run, over `penalty`; then the energy that
        the cut takes with the shares that it would buy, over the budget, less 1: what it adds to the energy queue.
        """
        c, terms = self.config, self.slot_terms(state, exogenous)
        cost, alpha, _ = priced_cuts(terms, self._mean_prices(state), c.bandwidth_hz)
        sent_bits = np.broadcast_to(self.cuts.sent_bits, alpha.shape)
        sent_s = over(sent_bits, fdma_rate_bps(alpha, c.bandwidth_hz, terms.snr[..., None]))
        energy_j = terms.own_energy_j + self.joule_rate(exogenous.arrival_rate_hz[..., None]) * sent_s
        added = energy_j / self.energy_budget_j[:, None] - 1.0
        return np.concatenate([(cost - cost[..., -1:]) / self.penalty, added], axis=2)

    def global_state(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> Array:
        return clipped(np.concatenate(self._own_entries(state, exogenous), axis=1))

    def portrait(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> dict[str, Portrait]:
        fading = np.log10(self.floored_gain(exogenous) / self.mean_gain)
        far = self.mean_gain.min() / self.mean_gain  # gain falls with distance to the power of the exponent
        distance = np.broadcast_to(far ** (1.0 / self.config.path_loss_exponent), fading.shape)
        return {
            "device": Portrait(
                state.energy_queue / self.queue_reference[0], "energy queue [of its reference]", 3.0,
                link=np.clip(0.8 + 0.4 * fading, 0.0, 1.0), link_label="fading", distance=distance,
            )
        }  # fmt: skip

    def action_masks(self, state: ModelPartitioningState, exogenous: ModelPartitioningExogenous) -> dict[str, Array]:
        """Cuts that a device's network has, (B, N, M+1)."""
        cells = len(state.energy_queue)
        return {role: np.broadcast_to(mask, (cells, *mask.shape)) for role, mask in self.constant_masks.items()}

    # --- actions -----------------------------------------------------------------------------------------------------

    def decode(
        self, state: ModelPartitioningState, actions: Mapping[str, Array], exogenous: ModelPartitioningExogenous
    ) -> ModelPartitioningDecisions:
        check_given(actions, ["device"])
        cells, n = state.energy_queue.shape
        device = checked_actions("device", n, self.roles["device"].action_space, actions["device"], cells)
        raw = actions.get("server", np.zeros((cells, 1, 2 * n)))  # a missing server gives everyone the same weight
        weights = checked_actions("server", 1, unit_box(2 * n), raw, cells)[:, 0]
        if self.config.local_cpu_rule == "optimal":
            return self._decisions(np.minimum(device, self.layers), None, weights)
        return self._decisions(self._cut_of(device[..., 0]), device[..., 1], weights)

    def decode_central(
        self, state: ModelPartitioningState, action: Array, exogenous: ModelPartitioningExogenous
    ) -> ModelPartitioningDecisions:
        cells, n = state.energy_queue.shape
        joint = checked_actions("the centralized controller", 0, self.central_space, action, cells)
        if self.config.central_choices:
            return self._decisions(joint, None, None)
        fraction = joint[:, n : 2 * n] if self.config.local_cpu_rule == "action" else None
        weights = joint[:, -2 * n :] if "action" in self.config.rules[1:] else None
        return self._decisions(self._cut_of(joint[:, :n]), fraction, weights)

    def _cut_of(self, unit: Array) -> Array:
        """Cut floor(a (L+1)), at most L, of a number in [0, 1] (erratum 3)."""
        result: Array = np.minimum(np.floor(unit * (self.layers + 1)).astype(np.int64), self.layers)
        return result

    def _decisions(self, layer: Array, fraction: Array | None, weights: Array | None) -> ModelPartitioningDecisions:
        c, n = self.config, self.config.num_devices
        cpu_hz = None
        if fraction is not None:
            cpu_hz = np.where(layer > 0, np.maximum(c.cpu_floor_fraction, fraction) * c.device_cpu_hz, 0.0)
        if weights is None or not c.server_acts:
            return ModelPartitioningDecisions(layer, cpu_hz)
        return ModelPartitioningDecisions(layer, cpu_hz, c.share_floor + weights[:, :n], c.share_floor + weights[:, n:])

    # --- one slot ----------------------------------------------------------------------------------------------------

    def local_part(
        self, cuts: CutCosts, energy_queue: Array, memory_queue: Array, arrival_rate_hz: Array,
        cpu_hz: Array | None = None,
    ) -> LocalPart:  # fmt: skip
        """A device's own share of the cost of cuts, under the best CPU rate (P3) or a given one.

        Args:
            cuts: columns of any shape that broadcasts with the following ((B, N), or (N, M+1) with (B, N, 1)).
            energy_queue, memory_queue: Q, W.
            arrival_rate_hz: lambda.
            cpu_hz: f; None: the minimiser of P3.
        """
        c = self.config
        work = cuts.local_cycles
        if cpu_hz is None:
            load = arrival_rate_hz * work
            hz_min = np.minimum(
                np.maximum(load / c.utilisation_cap, c.cpu_floor_fraction * c.device_cpu_hz), c.device_cpu_hz
            )
            price = energy_queue * arrival_rate_hz * (c.energy_coefficient * c.slot_s)
            cpu_hz = allocation.local_cpu_hz(work, arrival_rate_hz, price, c.delay_weight, hz_min, c.device_cpu_hz)
        busy = work > 0.0
        cpu_hz = np.where(busy, cpu_hz, 0.0)
        service_s = work / np.where(busy, cpu_hz, 1.0)
        delay = md1_sojourn_s(service_s, arrival_rate_hz, c.utilisation_cap)
        energy = work_energy_j(work, cpu_hz, c.energy_coefficient) * (arrival_rate_hz * c.slot_s)
        cost = energy_queue * energy + memory_queue * (cuts.memory_bytes / c.memory_unit_bytes) + c.delay_weight * delay
        return LocalPart(cpu_hz, delay, energy, cost)

    def transmission_weight(self, energy_queue: Array, arrival_rate_hz: Array) -> Array:
        """Cost of one second of transmission, Q p lambda tau + V, any shape."""
        c = self.config
        return energy_queue * arrival_rate_hz * (c.transmit_power_w * c.slot_s) + c.delay_weight

    def edge_load(self, edge_cycles: Array) -> Array:
        """Delay cost V D / F of edge work that holds the whole edge CPU, any shape."""
        return edge_cycles * (self.config.delay_weight / self.config.edge_cpu_hz)

    def step(
        self,
        state: ModelPartitioningState,
        decisions: ModelPartitioningDecisions,
        exogenous: ModelPartitioningExogenous,
    ) -> Step[ModelPartitioningState]:
        shape = cells, n = state.energy_queue.shape
        rules, given = self._given(state, decisions, exogenous)
        names = self._metric_names
        layer, parts = np.empty(cells * n, np.int64), np.empty((len(PARTS), cells * n))
        metrics, signals = np.empty((len(names), cells)), np.empty((SIGNALS, cells))
        before = np.stack([state.crowd, state.bandwidth_price_mean, state.edge_cpu_price_mean]).astype(np.float64)
        run_slot(*given, before, self._tables, self._constants, rules, layer, parts, metrics, signals)
        part = dict(zip(PARTS, parts.reshape(-1, cells, n), strict=True))
        next_state = ModelPartitioningState(
            part["energy_queue"],
            part["memory_queue"],
            signals[0],
            signals[1],
            signals[2],
            part["last_sent_fraction"],
            part["last_edge_fraction"],
        )
        costs = {"device": part["cost"], "server": np.zeros((cells, 1))}
        details = {"partition_layer": layer.reshape(shape), **{name: part[name] for name in DETAILS}}
        return Step(next_state, costs, dict(zip(names, metrics, strict=True)), details)

    def _given(
        self,
        state: ModelPartitioningState,
        decisions: ModelPartitioningDecisions,
        exogenous: ModelPartitioningExogenous,
    ) -> tuple[tuple[int, int], Devices]:
        """Rules of band and edge CPU, and what is known of the devices."""
        c, none = self.config, np.empty(0)
        given_hz = decisions.device_cpu_hz if c.local_cpu_rule == "action" else None
        band, edge = decisions.bandwidth_weight, decisions.edge_cpu_weight
        rules = rule(c.bandwidth_rule, band is not None), rule(c.edge_cpu_rule, edge is not None)
        return rules, Devices(
            energy_queue=flat(state.energy_queue),
            memory_queue=flat(state.memory_queue),
            arrival_rate_hz=flat(exogenous.arrival_rate_hz),
            channel_gain=flat(exogenous.channel_gain),
            partition_layer=np.ascontiguousarray(decisions.partition_layer, np.int64).reshape(-1),
            device_cpu_hz=none if given_hz is None else flat(given_hz),
            bandwidth_weight=none if band is None else flat(band),
            edge_cpu_weight=none if edge is None else flat(edge),
        )

    @cached_property
    def _constants(self) -> PartitioningConstants:
        c = self.config
        return PartitioningConstants(
            delay_weight=c.delay_weight,
            slot_s=c.slot_s,
            transmit_power_w=c.transmit_power_w,
            snr_per_gain=c.transmit_power_w / (c.bandwidth_hz * c.noise_psd_w_per_hz),
            bandwidth_hz=c.bandwidth_hz,
            edge_cpu_hz=c.edge_cpu_hz,
            device_cpu_hz=c.device_cpu_hz,
            hz_min=c.cpu_floor_fraction * c.device_cpu_hz,
            energy_coefficient=c.energy_coefficient,
            utilisation_cap=c.utilisation_cap,
            memory_unit_bytes=c.memory_unit_bytes,
            energy_queue_scale=c.energy_queue_scale,
            memory_queue_scale=c.memory_queue_scale / c.memory_unit_bytes,
            bytes_per_offload=self._slot_bytes(1) - self._slot_bytes(0),
            bytes_per_slot=self._slot_bytes(0),
            signal_smoothing=c.signal_smoothing,
        )

    @cached_property
    def _network_names(self) -> tuple[str, ...]:
        """Networks in use."""
        return tuple(dict.fromkeys(self.config.device_models))

    @cached_property
    def _metric_names(self) -> tuple[str, ...]:
        """Metrics in the order of `run_slot`."""
        means = ((mean, *(f"{mean}_{model}" for model in self._network_names)) for mean in MEANS)
        return (*SUMS, *itertools.chain.from_iterable(means), *QUEUE_COSTS)

    @cached_property
    def _tables(self) -> CutTables:
        constants, cuts = self._constants, self.cuts
        network = np.array([self._network_names.index(model) for model in self.config.device_models])
        costs = [cuts.local_cycles, cuts.edge_cycles, cuts.sent_bits, cuts.memory_bytes]
        return CutTables(
            cuts=np.stack([*costs, *cuts.fractions], axis=-1),
            layers=self.layers.astype(np.int64),
            gain_floor=self.config.fading_floor * self.mean_gain,
            energy_budget=constants.energy_queue_scale * self.energy_budget_j,
            memory_budget=constants.memory_queue_scale * self.memory_budget_bytes,
            by_network=np.argsort(network, kind="stable"),
            network_ends=np.append(0, np.cumsum(np.bincount(network))),
        )

    def _slot_bytes(self, offloading: int) -> float:
        """Bytes of decentralized control in a slot in which so many devices offload."""
        request, grant = (3, 2) if self.config.solves_shares else (1, 0)
        count = 0 if grant else 1  # equal shares follow from the number of senders, which is broadcast
        queues = self.config.num_devices + 1 if self.config.share_queues else 0  # reports and their mean
        announced = BID * (self.config.num_devices + 1) if self.config.share_bids else 0  # bids and their sums
        return FLOAT_BYTES * (offloading * (request + grant) + count + SIGNALS + queues + announced)

    def cost_parts(self, means: Mapping[str, Array]) -> dict[str, Array]:
        return cost_parts(self.config, means)

    def signalling(self) -> Signalling:
        """Bytes per slot if every device offloads; the metric `signalling_bytes` counts those that do."""
        n = self.config.num_devices
        decided = 3 if "action" not in self.config.rules else 4
        return Signalling(
            decentralized={"offload requests, grants, broadcasts (all devices offload)": float(self._slot_bytes(n))},
            centralized={
                "device -> server: gain, rate, two queues": 4 * FLOAT_BYTES * n,
                "server -> device: decision": decided * FLOAT_BYTES * n,
            },
        )

    def rewards(self, step: Step[ModelPartitioningState], mode: str = "local") -> dict[str, Array]:
        """As the contract, and two modes in which the server, which books no cost, is paid by the sum.

        "device_local": a device's own entry. "difference": also what its shares cost the others (`displaced_cost`), so
        that it earns what the sum gains by it (D. Wolpert, K. Tumer, Adv. Complex Syst. 4, 2001).
        """
        if mode not in ("device_local", "difference"):
            return super().rewards(step, mode)
        caused = self.displaced_cost(step) if mode == "difference" else 0.0
        return {"device": -(step.costs["device"] + caused), "server": -total_cost(step)[:, None]}

    def displaced_cost(self, step: Step[ModelPartitioningState]) -> Array:
        """(B, N) what a device's shares cost the others, who would divide them in proportion to what they hold.

        Exact for the edge CPU and for every rule but the optimal band, whose shares would move a little further.
        """
        d, v = step.details, self.config.delay_weight
        edge = allocation.displaced_cost(v * d["edge_delay_s"], d["edge_cpu_share"])
        return edge + allocation.fdma_displaced_cost(d["transmission_cost"], d["bandwidth_share"], d["full_band_snr"])
