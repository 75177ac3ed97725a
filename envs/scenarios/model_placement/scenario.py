"""Task assignment, model placement and three-resource sharing for DNN inference (W. Zhang et al., IEEE TVT, 2021).

G gateways serve K devices each; every device produces one inference task per slot and owns two DNN models, a light and
a heavy one. A task runs at its gateway or is relayed to the edge server, if the wanted model is in the cache there or
arrives in time; its accuracy counts if it meets its deadline. Gateways and server share band and CPU among the tasks
that have their model, and decide which models stay. Equation numbers are the paper's; docs/model_placement.md lists
the errata and our decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np

from edgemarl.envs.actions import check_given, checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Grouped, Portrait, Portrayed
from edgemarl.envs.physics.processes import bernoulli_arrivals, rayleigh_power_gain
from edgemarl.envs.physics.radio import from_db, passive, path_loss_db, spectral_efficiency
from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step
from edgemarl.envs.scenarios.model_placement.config import ModelPlacementConfig
from edgemarl.envs.scenarios.model_placement.entries import PlacementEntries
from edgemarl.envs.scenarios.model_placement.priors import deadline_priors
from edgemarl.envs.scenarios.model_placement.slot import (
    COST,
    COUNTS,
    FLAGS,
    PARTS,
    SUMS,
    Found,
    PlacementConstants,
    Tasks,
    run_slot,
)
from edgemarl.envs.trace import Trace, drawn

DETAILS = (
    *("gained", "done", "delay_s", "ready", "hit", "late", "admitted"),
    *("band_share", "gateway_cpu_share", "relay_share", "edge_cpu_share"),
)
METRICS = (
    *("cost", "mean_accuracy", "completion_ratio", "ready_ratio", "completed_local", "completed_edge"),
    *("completed_heavy", "completed_light", "assigned_local", "selected_heavy", "cache_hits", "rejected_space"),
    *("rejected_late", "gateway_cache_utilisation", "edge_cache_utilisation", "cloud_transfer_bits"),
    *("edge_transfer_bits", "mean_completed_delay_s", "placed_gateway", "placed_edge"),
)
_DETAIL_ROWS = tuple((name, (*PARTS, *FLAGS).index(name)) for name in DETAILS)
_METRIC_ROWS = tuple((name, (*SUMS, *COUNTS).index(name)) for name in METRICS)
"""Where what a slot computed stands among its results."""
OBSERVATION_MAX = 10.0
DEVICE_ENTRIES, GATEWAY_ROW, SERVER_ROW, CENTRAL_ROW = 17, 12, 8, 8
PER_DEVICE_ACTIONS = 10


@dataclass(frozen=True)
class ModelPlacementState:
    cached_gateway: Array  # (B, G, K, 2) 0/1 models in the cache of the own gateway; last axis light, heavy
    cached_edge: Array  # (B, G, K, 2) 0/1 models in the cache of the server


@dataclass(frozen=True)
class ModelPlacementTrace(Trace):
    task_bits: Array = drawn("slot", "bit", "num_gateways", "devices_per_gateway", process="uniform", low=0.0)
    deadline_s: Array = drawn("slot", "s", "num_gateways", "devices_per_gateway", process="uniform", low=0.0)
    noisy: Array = drawn(
        "slot", "-", "num_gateways", "devices_per_gateway", process="bernoulli_arrivals", low=0, high=1, integer=True
    )
    device_gain: Array = drawn(
        "slot", "power ratio", "num_gateways", "devices_per_gateway", process="rayleigh_power_gain", low=0.0, high=1.0
    )
    gateway_gain: Array = drawn("slot", "power ratio", "num_gateways", process="rayleigh_power_gain", low=0.0, high=1.0)
    model_accuracy: Array = drawn(
        "episode", "-", "num_gateways", "devices_per_gateway", "noise_kinds", "levels", process="uniform", low=0.0,
        high=1.0,
    )  # fmt: skip
    model_bits: Array = drawn(
        "episode", "bit", "num_gateways", "devices_per_gateway", "levels", process="uniform", low=0.0
    )
    model_cycles: Array = drawn(
        "episode", "cycle", "num_gateways", "devices_per_gateway", "levels", process="uniform", low=0.0
    )


@dataclass(frozen=True)
class ModelPlacementExogenous:
    task_bits: Array  # (B, G, K) D
    deadline_s: Array  # (B, G, K) T
    noisy: Array  # (B, G, K) 0/1 theta
    device_gain: Array  # (B, G, K) h, power ratio
    gateway_gain: Array  # (B, G) h^e, power ratio
    model_accuracy: Array  # (B, G, K, 2, 2) by noisy flag, level
    model_bits: Array  # (B, G, K, 2) S
    model_cycles: Array  # (B, G, K, 2) Q


@dataclass(frozen=True)
class ModelPlacementDecisions:
    """Scores lie in [-1, 1]; they become shares inside `step`, since the pools depend on the admission."""

    local: Array  # (B, G, K) m: 1 own gateway, 0 relayed to the server
    heavy: Array  # (B, G, K) n: 1 heavy model, 0 light model
    band_score: Array  # (B, G, K) alpha^l
    gateway_cpu_score: Array  # (B, G, K) beta^l
    relay_score: Array  # (B, G, K) alpha^e
    edge_cpu_score: Array  # (B, G, K) beta^e
    keep_gateway: Array  # (B, G, K, 2) 0/1 models that stay in the gateway's cache
    keep_edge: Array  # (B, G, K, 2) 0/1 models that stay in the server's cache


class ModelPlacement(
    Scenario[
        ModelPlacementConfig, ModelPlacementState, ModelPlacementTrace, ModelPlacementExogenous, ModelPlacementDecisions
    ],
    PlacementEntries,
    Grouped,
    Portrayed,
):
    """The scenario; see the module's docstring. The objective per slot is minus the mean accuracy over all tasks."""

    name = "model_placement"
    title = "DNN task assignment, model placement and three-resource sharing"
    paper = "W. Zhang et al., Deep Reinforcement Learning Based Resource Management for DNN Inference, IEEE TVT (2021)"
    config_type = ModelPlacementConfig
    state_type = ModelPlacementState
    trace_type = ModelPlacementTrace
    exogenous_type = ModelPlacementExogenous
    decisions_type = ModelPlacementDecisions

    reward_modes = ("local", "team", "group")
    cost_label = "minus mean accuracy"
    summary_metrics = MappingProxyType(
        {
            "mean accuracy [-]": ("mean_accuracy",),
            "tasks in time [-]": ("completion_ratio",),
            "done at gateways [task]": ("completed_local",),
            "done at server [task]": ("completed_edge",),
            "done heavy [task]": ("completed_heavy",),
            "at gateways [model]": ("placed_gateway",),
            "at server [model]": ("placed_edge",),
        }
    )

    config: ModelPlacementConfig

    # --- spaces ----------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> dict[str, Role]:
        c = self.config
        n, k = c.num_devices, c.devices_per_gateway
        choices = gymnasium.spaces.MultiDiscrete([2, 2])
        return {
            "device": Role("device", n, _box(DEVICE_ENTRIES), choices),
            "gateway": Role(
                "gateway", c.num_gateways, _box(GATEWAY_ROW * k + 3), _scores(4 * k), Parts(k, GATEWAY_ROW, common=3)
            ),
            "server": Role(
                "server",
                1,
                _box(SERVER_ROW * n + c.num_gateways + 1),
                _scores(4 * n),
                Parts(n, SERVER_ROW, c.num_gateways, common=1),
            ),
        }

    @cached_property
    def central_space(self) -> gymnasium.spaces.Box:
        return _scores(PER_DEVICE_ACTIONS * self.config.num_devices)

    @cached_property
    def global_state_space(self) -> gymnasium.spaces.Box:
        return _box(CENTRAL_ROW * self.config.num_devices + self.config.num_gateways)

    @property
    def horizon(self) -> int:
        return self.config.episode_slots

    @property
    def group_sizes(self) -> dict[str, int]:
        return {"device": self.config.devices_per_gateway}

    def rewards(self, step: Step[ModelPlacementState], mode: str = "local") -> dict[str, Array]:
        """Mode "group": every device has the mean of the entries of its gateway's devices; others as "local"."""
        if mode != "group":
            return super().rewards(step, mode)
        own, c = super().rewards(step, "local"), self.config
        mean = own["device"].reshape(-1, c.num_gateways, c.devices_per_gateway).mean(axis=2)
        return own | {"device": np.repeat(mean, c.devices_per_gateway, axis=1)}

    @property
    def learner_scale(self) -> dict[str, float]:
        c = self.config
        weights = {
            "device": (c.num_devices, c.device_ledger_weight),
            "gateway": (c.num_gateways, c.gateway_ledger_weight),
            "server": (1, c.server_ledger_weight),
        }
        return {role: count / weight if weight else 1.0 for role, (count, weight) in weights.items()}

    # --- randomness ------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        g, k, length = c.num_gateways, c.devices_per_gateway, slots + 1
        device_m = rng.uniform(c.device_distance_min_m, c.device_distance_max_m, (g, k))
        gateway_m = rng.uniform(c.gateway_distance_min_m, c.gateway_distance_max_m, g)
        accuracy = (
            (c.accuracy_clean_light, c.accuracy_clean_heavy),
            (c.accuracy_noisy_light, c.accuracy_noisy_heavy),
        )
        return {
            "task_bits": rng.uniform(c.task_bits_min, c.task_bits_max, (length, g, k)),
            "deadline_s": rng.uniform(c.deadline_min_s, c.deadline_max_s, (length, g, k)),
            "noisy": bernoulli_arrivals(rng, c.noisy_probability, (length, g, k)),
            "device_gain": self._gain(rng, device_m, c.device_pathloss_1m_db, length),
            "gateway_gain": self._gain(rng, gateway_m, c.gateway_pathloss_1m_db, length),
            "model_accuracy": np.stack(
                [np.stack([rng.uniform(*law, (g, k)) for law in row], axis=-1) for row in accuracy], axis=-2
            ),
            "model_bits": np.stack(
                [rng.uniform(*law, (g, k)) for law in (c.model_bits_light, c.model_bits_heavy)], axis=-1
            ),
            "model_cycles": np.stack([rng.uniform(*law, (g, k)) for law in (c.cycles_light, c.cycles_heavy)], axis=-1),
        }

    def _gain(self, rng: np.random.Generator, distance_m: Array, loss_1m_db: float, length: int) -> Array:
        mean = from_db(-path_loss_db(distance_m, loss_1m_db, 10.0 * self.config.pathloss_exponent))
        shape = (length, *distance_m.shape)
        fading = rayleigh_power_gain(rng, shape) if self.config.rayleigh_fading else np.ones(shape)
        return passive(mean * fading)

    def check_trace(self, trace: ModelPlacementTrace) -> None:
        super().check_trace(trace)
        for name, unit in (("task_bits", "bit"), ("deadline_s", "s"), ("model_bits", "bit"), ("model_cycles", "cycle")):
            if (getattr(trace, name) <= 0).any():
                raise ValueError(f"trace field {name} holds {getattr(trace, name).min():g} {unit}; must be > 0")

    def initial_state(self, trace: ModelPlacementTrace) -> ModelPlacementState:
        shape = (trace.cells, self.config.num_gateways, self.config.devices_per_gateway, 2)
        return ModelPlacementState(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))

    # --- derived quantities --------------------------------------------------------------------------------------

    def device_efficiency(self, exogenous: ModelPlacementExogenous) -> Array:
        """g (B, G, K) in bit/s/Hz: log2(1 + p h / sigma^2), device to gateway (eq. 1)."""
        return spectral_efficiency(
            exogenous.device_gain, self.config.device_power_w / self.config.noise_power_w, snr_gap=1.0
        )

    def gateway_efficiency(self, exogenous: ModelPlacementExogenous) -> Array:
        """g^e (B, G) in bit/s/Hz: gateway to server (below eq. 1)."""
        return spectral_efficiency(
            exogenous.gateway_gain, self.config.gateway_power_w / self.config.noise_power_w, snr_gap=1.0
        )

    def gateway_fetch_s(self, bits: Any, cached_gateway: Any, cached_edge: Any) -> Array:
        """Seconds until a model is at the gateway (eq. 7): 0, from the server, or from the cloud through it."""
        c = self.config
        missing = np.asarray(bits / c.edge_rate_bps + np.where(cached_edge, 0.0, bits / c.cloud_rate_bps))
        return np.where(cached_gateway, 0.0, missing)

    def edge_fetch_s(self, bits: Any, cached_edge: Any) -> Array:
        """Seconds until a model is at the server (eq. 8): 0, or from the cloud (S/R^e as printed, by a switch)."""
        c = self.config
        rate = c.edge_rate_bps if c.literal_edge_miss_delay else c.cloud_rate_bps
        return np.where(cached_edge, 0.0, bits / rate)

    # --- information -----------------------------------------------------------------------------------------------

    def observe(self, state: ModelPlacementState, exogenous: ModelPlacementExogenous) -> dict[str, Array]:
        c = self.config
        cells, g, k = exogenous.task_bits.shape
        n = g * k
        rows = np.empty((cells, g, k, DEVICE_ENTRIES), np.float32)
        rows[..., 0] = exogenous.task_bits / c.task_bits_max
        rows[..., 1] = exogenous.deadline_s / c.deadline_max_s
        rows[..., 2] = exogenous.noisy
        rows[..., 3] = self.device_efficiency(exogenous) / c.spectral_efficiency_scale
        rows[..., 4:6] = state.cached_gateway
        rows[..., 6:8] = state.cached_edge
        rows[..., 8:10] = exogenous.model_bits / c.model_bits_heavy[1]
        rows[..., 10:12] = exogenous.model_cycles / c.cycles_heavy[1]
        noisy = exogenous.noisy[..., None] != 0
        rows[..., 12:14] = np.where(noisy, exogenous.model_accuracy[..., 1, :], exogenous.model_accuracy[..., 0, :])
        rows[..., 14] = np.arange(k) / k
        used_gateway, used_edge = self.used_bits(state, exogenous)
        rows[..., 15] = (1.0 - used_gateway / c.gateway_cache_bits)[..., None]
        rows[..., 16] = (1.0 - used_edge / c.edge_cache_bits)[:, None, None]
        np.clip(rows, 0.0, OBSERVATION_MAX, out=rows)
        relay = np.clip(self.gateway_efficiency(exogenous) / c.spectral_efficiency_scale, 0.0, OBSERVATION_MAX)
        gateway = np.empty((cells, g, GATEWAY_ROW * k + 3), np.float32)
        gateway[..., :-3] = rows[..., :GATEWAY_ROW].reshape(cells, g, -1)
        gateway[..., -3] = relay
        gateway[..., -2:] = rows[..., 0, 15:17]
        server = np.empty((cells, 1, SERVER_ROW * n + g + 1), np.float32)
        server[:, 0, : SERVER_ROW * n] = rows[..., (0, 1, 6, 7, 8, 9, 10, 11)].reshape(cells, -1)
        server[:, 0, SERVER_ROW * n : -1] = relay
        server[:, 0, -1] = rows[:, 0, 0, 16]
        return {"device": rows.reshape(cells, n, DEVICE_ENTRIES), "gateway": gateway, "server": server}

    def used_bits(self, state: ModelPlacementState, exogenous: ModelPlacementExogenous) -> tuple[Array, Array]:
        """Space taken by cached models in bits: at each gateway (B, G), at the server (B,)."""
        used_gateway = (exogenous.model_bits * state.cached_gateway).sum(axis=(2, 3))
        return used_gateway, (exogenous.model_bits * state.cached_edge).sum(axis=(1, 2, 3))

    def global_state(self, state: ModelPlacementState, exogenous: ModelPlacementExogenous) -> Array:
        c = self.config
        cells, n = exogenous.task_bits.shape[0], c.num_devices
        rows = np.empty((*exogenous.task_bits.shape, CENTRAL_ROW), np.float32)
        rows[..., 0] = exogenous.task_bits / c.task_bits_max
        rows[..., 1] = exogenous.deadline_s / c.deadline_max_s
        rows[..., 2] = exogenous.noisy
        rows[..., 3:5] = state.cached_gateway
        rows[..., 5:7] = state.cached_edge
        rows[..., 7] = self.device_efficiency(exogenous) / c.spectral_efficiency_scale
        world = np.empty((cells, CENTRAL_ROW * n + c.num_gateways), np.float32)
        world[:, : CENTRAL_ROW * n] = rows.reshape(cells, -1)
        world[:, CENTRAL_ROW * n :] = self.gateway_efficiency(exogenous) / c.spectral_efficiency_scale
        return np.clip(world, 0.0, OBSERVATION_MAX, out=world)

    def portrait(self, state: ModelPlacementState, exogenous: ModelPlacementExogenous) -> dict[str, Portrait]:
        c = self.config
        cells = len(exogenous.task_bits)
        used_gateway, used_edge = self.used_bits(state, exogenous)
        models = (state.cached_gateway + state.cached_edge).sum(axis=3).reshape(cells, -1)
        link = self.device_efficiency(exogenous).reshape(cells, -1) / c.spectral_efficiency_scale
        relay = self.gateway_efficiency(exogenous) / c.spectral_efficiency_scale
        csi = "spectral efficiency"
        return {
            "device": Portrait(models, "own models cached [model]", 4.0, np.minimum(link, 1.0), csi),
            "gateway": Portrait(
                used_gateway / c.gateway_cache_bits, "cache in use [-]", 1.0, np.minimum(relay, 1.0), csi
            ),
            "server": Portrait((used_edge / c.edge_cache_bits)[:, None], "cache in use [-]", 1.0),
        }

    # --- actions ---------------------------------------------------------------------------------------------------

    def decode(
        self, state: ModelPlacementState, actions: Mapping[str, Array], exogenous: ModelPlacementExogenous
    ) -> ModelPlacementDecisions:
        cells, g, k = exogenous.task_bits.shape
        check_given(actions, self.roles)
        parts = {}
        for name, role in self.roles.items():
            parts[name] = checked_actions(name, role.count, role.action_space, actions[name], cells)
        choice = parts["device"].reshape(cells, g, k, 2)
        gateway = parts["gateway"].reshape(cells, g, 4, k)
        server = parts["server"].reshape(cells, 4, g, k)
        return ModelPlacementDecisions(
            local=choice[..., 0],
            heavy=choice[..., 1],
            band_score=gateway[:, :, 0],
            gateway_cpu_score=gateway[:, :, 1],
            relay_score=server[:, 0],
            edge_cpu_score=server[:, 1],
            keep_gateway=np.stack([gateway[:, :, 2] >= 0, gateway[:, :, 3] >= 0], axis=-1),
            keep_edge=np.stack([server[:, 2] >= 0, server[:, 3] >= 0], axis=-1),
        )

    def decode_central(
        self, state: ModelPlacementState, action: Array, exogenous: ModelPlacementExogenous
    ) -> ModelPlacementDecisions:
        """Ten blocks of N in the paper's order: m, n, alpha^l, alpha^e, beta^l, beta^e, keep gateway, keep server."""
        shape = exogenous.task_bits.shape
        joint = checked_actions("the centralized controller", 0, self.central_space, action, shape[0])
        blocks = joint.reshape(shape[0], PER_DEVICE_ACTIONS, *shape[1:])
        flags = blocks >= 0
        return ModelPlacementDecisions(
            local=flags[:, 0],
            heavy=flags[:, 1],
            band_score=blocks[:, 2],
            relay_score=blocks[:, 3],
            gateway_cpu_score=blocks[:, 4],
            edge_cpu_score=blocks[:, 5],
            keep_gateway=np.stack([flags[:, 6], flags[:, 7]], axis=-1),
            keep_edge=np.stack([flags[:, 8], flags[:, 9]], axis=-1),
        )

    # --- one slot ----------------------------------------------------------------------------------------------------

    def step(
        self, state: ModelPlacementState, decisions: ModelPlacementDecisions, exogenous: ModelPlacementExogenous
    ) -> Step[ModelPlacementState]:
        c, shape = self.config, exogenous.task_bits.shape
        cells, n = shape[0], c.num_devices
        out = Found(
            parts=np.empty((len(PARTS), cells * n)),
            flags=np.empty((len(FLAGS), cells * n), np.bool_),
            next_gateway=np.empty((cells * n, 2), np.uint8),
            next_edge=np.empty((cells * n, 2), np.uint8),
            sums=np.empty((len(SUMS), cells)),
            counts=np.empty((len(COUNTS), cells), np.int64),
            gateway_cost=np.empty((cells, c.num_gateways)),
            server_cost=np.empty((cells, 1)),
        )
        given = self._given(state, decisions, exogenous)
        prior = np.empty((0, 0))
        if c.share_prior == "deadline":
            prior = deadline_priors(self, state, decisions, exogenous)
        run_slot(*given, prior, self._constants, c.num_gateways, c.devices_per_gateway, out)
        found = (*out.parts.reshape(-1, *shape), *out.flags.reshape(-1, *shape))
        measured = (*out.sums, *out.counts)
        costs = {"device": out.parts[COST].reshape(cells, n), "gateway": out.gateway_cost, "server": out.server_cost}
        details = {name: found[row] for name, row in _DETAIL_ROWS}
        caches = ModelPlacementState(out.next_gateway.reshape(*shape, 2), out.next_edge.reshape(*shape, 2))
        return Step(caches, costs, {name: measured[row] for name, row in _METRIC_ROWS}, details)

    def _given(
        self, state: ModelPlacementState, decisions: ModelPlacementDecisions, exogenous: ModelPlacementExogenous
    ) -> Tasks:
        return Tasks(
            task_bits=_floats(exogenous.task_bits),
            deadline_s=_floats(exogenous.deadline_s),
            efficiency=_floats(self.device_efficiency(exogenous)),
            relay_efficiency=_floats(self.gateway_efficiency(exogenous)),
            accuracy=_floats(exogenous.model_accuracy),
            model_bits=_floats(exogenous.model_bits),
            model_cycles=_floats(exogenous.model_cycles),
            noisy=_bytes(exogenous.noisy),
            local=_flags(decisions.local),
            heavy=_flags(decisions.heavy),
            cached_gateway=_bytes(state.cached_gateway),
            cached_edge=_bytes(state.cached_edge),
            keep_gateway=_flags(decisions.keep_gateway),
            keep_edge=_flags(decisions.keep_edge),
            band_score=_floats(decisions.band_score),
            gateway_cpu_score=_floats(decisions.gateway_cpu_score),
            relay_score=_floats(decisions.relay_score),
            edge_cpu_score=_floats(decisions.edge_cpu_score),
        )

    @cached_property
    def _constants(self) -> PlacementConstants:
        c = self.config
        n = c.num_devices
        return PlacementConstants(
            gateway_band_hz=c.gateway_band_hz,
            relay_bandwidth_hz=c.relay_bandwidth_hz,
            gateway_cpu_hz=c.gateway_cpu_hz,
            edge_cpu_hz=c.edge_cpu_hz,
            gateway_cache_bits=c.gateway_cache_bits,
            edge_cache_bits=c.edge_cache_bits,
            edge_rate_bps=c.edge_rate_bps,
            cloud_rate_bps=c.cloud_rate_bps,
            edge_miss_as_printed=float(c.literal_edge_miss_delay),
            shared_by_need=float(c.share_prior != "equal"),
            first_hop_counted=float(c.first_hop_counted_for_relayed),
            all_or_nothing=float(c.reward_rule == "all_or_nothing"),
            device_unit=-c.device_ledger_weight / n,
            gateway_unit=-c.gateway_ledger_weight / n,
            server_unit=-c.server_ledger_weight / n,
        )

    def signalling(self) -> Signalling:
        n, g = self.config.num_devices, self.config.num_gateways
        return Signalling(
            decentralized={
                "device -> gateway: task, decision": 13.0 * n,
                "gateway -> server: task, decision, gain": 9.0 * n + 4.0 * g,
                "server -> gateway: edge flags, free edge cache": 1.0 * n + 4.0 * g,
                "gateway -> device: band grant, flags, free caches": 5.0 * n + 8.0 * g,
            },
            centralized={
                "device -> gateway: task": 12.0 * n,
                "gateway -> server: task, gains, flags": 17.0 * n + 4.0 * g,
                "server -> gateway: decision, shares, keeps": 10.0 * n,
                "gateway -> device: decision, band grant": 5.0 * n,
            },
        )


def _floats(values: Array) -> Array:
    """As compiled code takes them; no copy if they are so already."""
    return np.ascontiguousarray(values, np.float64)


def _flags(values: Array) -> Array:
    """Flags as compiled code takes them; no copy if they are bool already."""
    return np.ascontiguousarray(values, np.bool_)


def _bytes(values: Array) -> Array:
    """Flags as compiled code takes them that come as bytes, 0 for no; no copy if they are so already."""
    values = np.ascontiguousarray(values)
    return values if values.dtype == np.uint8 else values.astype(np.bool_).view(np.uint8)


def _box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, OBSERVATION_MAX, (entries,), np.float32)


def _scores(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-1.0, 1.0, (entries,), np.float32)
