"""Joint offloading, choice of a pruned network and edge shares in a layered industrial IoT network.

V. Niazmand, Q. Ye, IEEE Transactions on Cognitive Communications and Networking, 2025. N sensors produce one inference
task each per slot; G gateways process tasks with one of V pruned networks or send them to the edge server, which runs
the full network and splits its compute over the gateways. A task that misses its deadline or accuracy is dropped.
Nothing is carried over: channel and criticality evolve independently of the actions (a contextual bandit).
Equation numbers are the paper's; E1..E14 are the errata listed in docs/model_pruning.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gymnasium
import numpy as np

from edgemarl.envs.actions import checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Counterfactual, HybridActions, Portrait, Portrayed
from edgemarl.envs.physics.airtime import expected_wait_s, reserved_mini_slots, tasks_ahead, transmission_s
from edgemarl.envs.physics.allocation import softmax_shares
from edgemarl.envs.physics.inference import pruned_inference_s, repaired_share, shared_inference_s
from edgemarl.envs.physics.layout import Blocks, rank_within
from edgemarl.envs.physics.processes import markov_channel, stationary_distribution
from edgemarl.envs.physics.radio import shannon_rate_bps
from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step, total_cost
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig
from edgemarl.envs.scenarios.model_pruning.entries import PruningEntries
from edgemarl.envs.spaces import Simplex
from edgemarl.envs.trace import Trace, drawn

TOLERANCE = 1e-9
"""Absolute tolerance of every comparison with a bound."""
OBSERVATION_MAX = 10.0
DROP_REASONS = ("accuracy", "local_deadline", "offload_deadline", "edge_rate", "slot_capacity")


@dataclass(frozen=True)
class ModelPruningState:
    channel_gain: Array  # (B, G) power gain psi of each gateway's uplink
    criticality_level: Array  # (B, N) integers 0..K-1


@dataclass(frozen=True)
class ModelPruningTrace(Trace):
    next_channel_gain: Array = drawn(
        "slot", "-", "num_gateways", process="markov_channel", low=0.0, high=1.0, after="channel_gain"
    )
    next_criticality_level: Array = drawn(
        "slot", "-", "num_devices", process="uniform_criticality", low=0, high="criticality_level_max", integer=True,
        after="criticality_level",
    )  # fmt: skip
    channel_gain: Array = drawn("initial", "-", "num_gateways", process="markov_channel", low=0.0, high=1.0)
    criticality_level: Array = drawn(
        "initial", "-", "num_devices", process="uniform_criticality", low=0, high="criticality_level_max", integer=True
    )


@dataclass(frozen=True)
class ModelPruningExogenous:
    next_channel_gain: Array  # (B, G) of the following slot; nobody sees it before
    next_criticality_level: Array  # (B, N)


@dataclass(frozen=True)
class ModelPruningDecisions:
    offload: Array  # (B, N) 0/1
    model: Array  # (B, G) index into model_pruning_rates
    edge_share: Array  # (B, G) before its repair


@dataclass(frozen=True)
class Uplink:
    """What a channel gain means for a gateway; all (B, G)."""

    transmission_s: Array  # Omega of one task
    reserved_s: Array  # airtime delta*tau of one task
    capacity_tasks: Array  # tasks that fit in one slot


@dataclass(frozen=True)
class SlotOutcome:
    """One slot by class: the tasks of one gateway, criticality level and place, 0 local, 1 offloaded: (B, G, K, 2)."""

    count: Array  # tasks
    completed: Array  # of which complete
    delay_s: Array  # D of every task of the class
    reason: Array  # index into DROP_REASONS if the class as a whole is dropped, else -1
    room: Array  # (B, G, K) how many offloaded tasks of the level fit into the slot


class ModelPruning(
    Scenario[ModelPruningConfig, ModelPruningState, ModelPruningTrace, ModelPruningExogenous, ModelPruningDecisions],
    PruningEntries,
    Counterfactual,
    HybridActions,
    Portrayed,
):
    """The scenario; see the module's docstring. The objective is the paper's (21), generalised by two weights."""

    name = "model_pruning"
    title = "Offloading, pruned models and edge shares under time-varying criticality"
    paper = "V. Niazmand, Q. Ye, IEEE Trans. Cogn. Commun. Netw. (2025)"
    config_type = ModelPruningConfig
    state_type = ModelPruningState
    trace_type = ModelPruningTrace
    exogenous_type = ModelPruningExogenous
    decisions_type = ModelPruningDecisions
    reward_modes = ("local", "group", "team")
    counterfactual_roles = ("device", "gateway")
    cost_label = "minus reward per slot"
    summary_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "dropped": ("drop_ratio",),
        "utilisation": ("utilisation",),
        "delay s": ("mean_delay_s",),
        "accuracy": ("mean_accuracy",),
        "server load": ("edge_utilisation",),
        "reward": ("reward",),
    }

    config: ModelPruningConfig

    # --- spaces ----------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> dict[str, Role]:
        c = self.config
        k, g = c.num_criticality_levels, c.num_gateways
        return {
            "device": Role("device", c.num_devices, _box(3 + k + 1), gymnasium.spaces.Discrete(2)),
            "gateway": Role("gateway", g, _box(2 + k), gymnasium.spaces.Discrete(c.num_models)),
            "server": Role("server", 1, _box(g * (2 + k)), _raw_box(g), Parts(g, 2 + k)),
        }

    @cached_property
    def central_space(self) -> gymnasium.spaces.Box:
        return _raw_box(self.config.num_devices + 2 * self.config.num_gateways)

    @cached_property
    def hybrid_space(self) -> gymnasium.spaces.Dict:
        """The decisions themselves: bits, models and shares."""
        c = self.config
        return gymnasium.spaces.Dict(
            {
                "offload": gymnasium.spaces.MultiBinary(c.num_devices),
                "model": gymnasium.spaces.MultiDiscrete([c.num_models] * c.num_gateways),
                "edge_share": Simplex(c.num_gateways),
            }
        )

    @cached_property
    def global_state_space(self) -> gymnasium.spaces.Box:
        return _box(self.config.num_gateways + self.config.num_devices)

    @property
    def horizon(self) -> int:
        return self.config.episode_slots

    @property
    def learner_scale(self) -> dict[str, float]:
        return {"device": 0.1, "gateway": 0.1, "server": 0.1}

    # --- constants of a config ---------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> Blocks:
        """Which gateway serves which device."""
        return Blocks(self.config.num_devices, self.config.num_gateways)

    @cached_property
    def criticality(self) -> Array:
        """(K,) criticality value k = l/(K-1) of each level; 0 for the only one."""
        levels = self.config.num_criticality_levels
        return np.arange(levels) / max(1, levels - 1)

    @cached_property
    def deadline_s(self) -> Array:
        """(K,) bound T of each level in s (17a)."""
        c = self.config
        return c.max_delay_s - self.criticality * (c.max_delay_s - c.min_delay_s)

    @cached_property
    def required_accuracy(self) -> Array:
        """(K,) bound A of each level (17b)."""
        c = self.config
        return c.min_accuracy + self.criticality * (c.max_accuracy - c.min_accuracy)

    @cached_property
    def accuracies(self) -> Array:
        """(V,) accuracy of each pruned model."""
        return np.asarray(self.config.model_accuracies)

    @cached_property
    def local_task_s(self) -> Array:
        """(V,) gateway time of one task under each model in s (eq. 2)."""
        c = self.config
        return pruned_inference_s(c.task_flop, c.model_pruning_rates, c.gateway_flops)

    # --- randomness ------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        channel, criticality = rng.spawn(2)
        states = markov_channel(channel, np.asarray(c.channel_transition), slots + 2, c.num_gateways)
        gain = np.asarray(c.channel_gains)[states]
        level = criticality.integers(0, c.num_criticality_levels, (slots + 2, c.num_devices), dtype=np.int16)
        return {
            "next_channel_gain": gain[1:],
            "next_criticality_level": level[1:],
            "channel_gain": gain[0],
            "criticality_level": level[0],
        }

    def check_trace(self, trace: ModelPruningTrace) -> None:
        super().check_trace(trace)
        for name in ("criticality_level", "next_criticality_level"):
            values = getattr(trace, name)
            if values.dtype.kind not in "iu":
                raise ValueError(f"trace field {name} has type {values.dtype}; every value must be an integer")

    def initial_state(self, trace: ModelPruningTrace) -> ModelPruningState:
        return ModelPruningState(trace.channel_gain, trace.criticality_level)

    @cached_property
    def channel_law(self) -> Array:
        """(S,) stationary probability of each channel state."""
        return stationary_distribution(np.asarray(self.config.channel_transition))

    # --- information -----------------------------------------------------------------------------------------------

    def histogram(self, level: Array) -> Array:
        """(B, G, K) tasks of each gateway and level, from levels (B, N)."""
        levels = self.config.num_criticality_levels
        return self.blocks.class_counts(self.blocks.class_key(level, levels), levels)

    def observe(self, state: ModelPruningState, exogenous: ModelPruningExogenous) -> dict[str, Array]:
        c = self.config
        size = np.maximum(self.blocks.size, 1)
        gain = np.clip(state.channel_gain / max(c.channel_gains), 0.0, OBSERVATION_MAX)
        share = self.histogram(state.criticality_level) / size[:, None]
        gateway = np.empty((*gain.shape, 2 + c.num_criticality_levels), np.float32)
        gateway[..., 0] = gain
        gateway[..., 1] = self.blocks.size / c.num_devices
        gateway[..., 2:] = share
        gateway *= (self.blocks.size > 0)[:, None]
        return {
            "device": self._observe_devices(state, gain, share, size),
            "gateway": gateway,
            "server": gateway.reshape(len(gain), 1, -1),
        }

    def _observe_devices(self, state: ModelPruningState, gain: Array, share: Array, size: Array) -> Array:
        c, owner = self.config, self.blocks.gateway
        row = np.zeros((*state.criticality_level.shape, 4 + c.num_criticality_levels), np.float32)
        row[..., 0] = self.criticality[state.criticality_level]
        row[..., 1] = gain[:, owner]
        row[..., 2] = self.blocks.position / size[owner]
        if c.gateway_broadcast != "channel":
            row[..., 3:-1] = share.astype(np.float32)[:, owner]
        if c.gateway_broadcast == "rank":
            key = self.blocks.class_key(state.criticality_level, c.num_criticality_levels)
            row[..., -1] = rank_within(key) / size[owner]
        return row

    def global_state(self, state: ModelPruningState, exogenous: ModelPruningExogenous) -> Array:
        gain = np.clip(state.channel_gain / max(self.config.channel_gains), 0.0, OBSERVATION_MAX)
        return np.concatenate([gain, self.criticality[state.criticality_level]], axis=1).astype(np.float32)

    def portrait(self, state: ModelPruningState, exogenous: ModelPruningExogenous) -> dict[str, Portrait]:
        gain = np.clip(state.channel_gain / max(self.config.channel_gains), 0.0, 1.0)
        tasks = np.broadcast_to(self.blocks.size, gain.shape)
        return {
            "device": Portrait(self.criticality[state.criticality_level], "criticality of the task [-]", 1.0),
            "gateway": Portrait(
                tasks, "tasks of its devices [task]", float(max(self.blocks.size.max(), 1)), link=gain,
                link_label="channel gain [of the best]",
            ),
        }  # fmt: skip

    # --- actions ---------------------------------------------------------------------------------------------------

    def decode(
        self, state: ModelPruningState, actions: Mapping[str, Array], exogenous: ModelPruningExogenous
    ) -> ModelPruningDecisions:
        cells = len(state.channel_gain)
        raw = {}
        for name, role in self.roles.items():
            if name not in actions:
                raise ValueError(f"actions of role '{name}' are missing")
            raw[name] = checked_actions(name, role.count, role.action_space, actions[name], cells)
        share = softmax_shares(raw["server"][:, 0], self.config.edge_logit_scale)
        return ModelPruningDecisions(raw["device"], raw["gateway"], share)

    def decode_central(
        self, state: ModelPruningState, action: Array, exogenous: ModelPruningExogenous
    ) -> ModelPruningDecisions:
        c = self.config
        joint = checked_actions("the centralized controller", 0, self.central_space, action, len(state.channel_gain))
        unit = (joint + 1.0) / 2.0
        n, g = c.num_devices, c.num_gateways
        model = np.minimum((c.num_models * unit[:, n : n + g]).astype(np.int64), c.num_models - 1)
        share = softmax_shares(joint[:, n + g :], c.edge_logit_scale)
        return ModelPruningDecisions((unit[:, :n] > 0.5).astype(np.int64), model, share)

    # --- one slot ----------------------------------------------------------------------------------------------------

    def uplink(self, channel_gain: Array) -> Uplink:
        """Transmission time, reserved airtime and capacity of each gateway (eqs. 5, 6; E3), from gains (.., G).

        A gateway without devices has no radio: its times are 0.
        """
        c = self.config
        size = self.blocks.size
        band = np.where(size > 0, size, 1) * (c.bandwidth_hz / c.num_devices)
        rate = shannon_rate_bps(band, channel_gain / (c.noise_density_w_per_hz * band), c.transmit_power_w)
        time = np.where(size > 0, transmission_s(c.task_bits, rate), 0.0)
        mini_slot_s = c.slot_s / c.mini_slots_per_slot
        reserved = reserved_mini_slots(time, mini_slot_s)
        return Uplink(time, np.where(size > 0, reserved * mini_slot_s, 0.0), c.mini_slots_per_slot // reserved)

    def edge_task_s(self, edge_share: Array) -> Array:
        """(.., G) edge time E of one task in s, from repaired shares (eq. 3)."""
        c = self.config
        return shared_inference_s(c.task_flop, c.edge_flops, edge_share, c.edge_share_regulariser)

    def outcome(self, count: Array, uplink: Uplink, edge_s: Array, model: Array) -> SlotOutcome:
        """Who completes, by class: all tasks of a gateway, level and place share their expected delay.

        Args:
            count: (B, G, K, 2) tasks, last axis 0 local, 1 offloaded.
            uplink: of the slot's channel.
            edge_s: (B, G) edge time of one task.
            model: (B, G) index of the pruned model.
        """
        offloaded = count[..., 1]
        ahead = tasks_ahead(offloaded)
        on_air = (uplink.transmission_s + edge_s)[..., None]
        delay = np.empty(count.shape)
        delay[..., 0] = (self.local_task_s[model] * count[..., 0].sum(axis=2))[..., None]
        delay[..., 1] = expected_wait_s(ahead, offloaded, uplink.reserved_s[..., None]) + on_air
        late = delay > self.deadline_s[:, None] + TOLERANCE
        inaccurate = self.accuracies[model][..., None] < self.required_accuracy - TOLERANCE
        starved = (edge_s > uplink.transmission_s + TOLERANCE)[..., None]
        reason = np.full(count.shape, -1, np.int8)
        reason[..., 0] = np.where(inaccurate, 0, np.where(late[..., 0], 1, -1))
        reason[..., 1] = np.where(starved, 3, np.where(late[..., 1], 2, -1))
        room = np.maximum(uplink.capacity_tasks[..., None] - ahead, 0)
        completed = count * (reason < 0)
        completed[..., 1] = np.minimum(completed[..., 1], room)
        return SlotOutcome(count, completed, delay, reason, room)

    def step(
        self, state: ModelPruningState, decisions: ModelPruningDecisions, exogenous: ModelPruningExogenous
    ) -> Step[ModelPruningState]:
        c = self.config
        self._check_decisions(decisions)
        key, count, uplink, share = self._situation(state, decisions)
        edge_s = self.edge_task_s(share)
        result = self.outcome(count, uplink, edge_s, decisions.model)
        local, band, edge, waited, cell_cost = self._cells(result, uplink, edge_s, decisions.model)
        dropped, device_cost, delay = self._devices(key, result, uplink)
        costs = {
            "device": device_cost,
            "gateway": -c.utilisation_weight * local,
            "server": -c.utilisation_weight * edge.sum(axis=1, keepdims=True),
        }
        details = {"cell_cost": cell_cost, "dropped": dropped, "edge_share": share, "delay_s": delay}
        metrics = self._metrics(result, (local, band, edge), waited, decisions)
        metrics = {"reward": -sum(v.sum(axis=1) for v in costs.values()), **metrics}
        metrics["cost"] = -metrics["reward"]
        following = ModelPruningState(exogenous.next_channel_gain, exogenous.next_criticality_level)
        return Step(following, costs, metrics, details)

    def _situation(
        self, state: ModelPruningState, decisions: ModelPruningDecisions
    ) -> tuple[Array, Array, Uplink, Array]:
        """Class of every device (B, N), tasks by class (B, G, K, 2), uplinks and the repaired shares (B, G)."""
        c = self.config
        levels = c.num_criticality_levels
        key = self.blocks.class_key(state.criticality_level, levels) * 2 + (decisions.offload != 0)
        count = self.blocks.class_counts(key, 2 * levels).reshape(len(key), c.num_gateways, levels, 2)
        active = np.asarray(count[..., 1].any(axis=2))
        share = repaired_share(decisions.edge_share, active, c.allow_idle_edge_share)
        return key, count, self.uplink(state.channel_gain), share

    def _cells(self, result: SlotOutcome, uplink: Uplink, edge_s: Array, model: Array) -> tuple[Array, ...]:
        """(B, G) local, band and edge utilisation, completed delay in s, and the cost of each gateway's cell."""
        c = self.config
        counted = result.count if c.count_dropped_in_utilisation else result.completed
        used = counted.sum(axis=2)
        local = self.local_task_s[model] * used[..., 0] / c.slot_s  # (12)
        band = uplink.transmission_s * used[..., 1] / c.slot_s  # (13)
        edge = edge_s * used[..., 1] / c.slot_s  # (14)
        lost = (result.count - result.completed).sum(axis=(2, 3))
        waited = (result.completed * result.delay_s).sum(axis=(2, 3))
        cost = c.drop_penalty / c.num_devices * lost - c.utilisation_weight * (local + band + edge)
        cost += c.delay_weight / (c.num_devices * c.slot_s) * waited
        return local, band, edge, waited, cost

    def choice_rewards(
        self, state: ModelPruningState, decisions: ModelPruningDecisions, exogenous: ModelPruningExogenous
    ) -> dict[str, Array]:
        """Minus the cell's cost under either bit of a device and under every model of a gateway.

        All other bits and models and the server's split stay as they are. Devices of one class are alike, so that
        2K + 1 + V evaluations by class give the answer for all of them.
        """
        key, count, uplink, share = self._situation(state, decisions)
        edge_s, model = self.edge_task_s(share), decisions.model
        now = self._cell_cost(count[:, None], uplink, edge_s, model[:, None])[:, 0]
        moved = self._cell_cost(self._moved(count), uplink, edge_s, model[:, None])
        rows = np.arange(len(key))[:, None]
        bit, level, owner = key % 2, state.criticality_level, self.blocks.gateway
        device = np.empty((*key.shape, 2))
        np.put_along_axis(device, bit[..., None], -now[:, owner][..., None], axis=2)
        other = -moved[rows, level * 2 + bit, owner]
        np.put_along_axis(device, 1 - bit[..., None], other[..., None], axis=2)
        models = np.broadcast_to(np.arange(self.config.num_models)[:, None], (self.config.num_models, len(edge_s[0])))
        gateway = -self._cell_cost(count[:, None], uplink, edge_s, models[None])
        return {"device": device, "gateway": gateway.transpose(0, 2, 1)}

    @staticmethod
    def _moved(count: Array) -> Array:
        """(B, 2K, G, K, 2) counts after one task of level l and place p went to the other place, at index 2 l + p."""
        levels = count.shape[2]
        change = np.zeros((2 * levels, 1, levels, 2), count.dtype)
        index, level, place = np.arange(2 * levels), np.arange(2 * levels) // 2, np.arange(2 * levels) % 2
        change[index, 0, level, place] = -1
        change[index, 0, level, 1 - place] = 1
        return np.asarray(np.maximum(count[:, None] + change, 0))  # classes without a task: never looked up

    def _cell_cost(self, count: Array, uplink: Uplink, edge_s: Array, model: Array) -> Array:
        """(B, A, G) cost of each cell under A alternatives: counts (B, A or 1, G, K, 2), models (B or 1, A, G)."""
        cells, gateways = edge_s.shape
        alternatives = max(count.shape[1], model.shape[1])
        counts = np.broadcast_to(count, (cells, alternatives, *count.shape[2:]))
        models = np.broadcast_to(model, (cells, alternatives, gateways))

        def repeated(values: Array) -> Array:
            return np.repeat(values, alternatives, axis=0)

        link = Uplink(*(repeated(getattr(uplink, f.name)) for f in dataclasses.fields(Uplink)))
        flat, edge = models.reshape(-1, gateways), repeated(edge_s)
        result = self.outcome(counts.reshape(-1, *count.shape[2:]), link, edge, flat)
        return self._cells(result, link, edge, flat)[-1].reshape(cells, alternatives, gateways)

    def decode_hybrid(
        self, state: ModelPruningState, action: Mapping[str, Array], exogenous: ModelPruningExogenous
    ) -> ModelPruningDecisions:
        shapes = {
            name: (len(state.channel_gain), *(part.shape or ())) for name, part in self.hybrid_space.spaces.items()
        }
        for name, shape in shapes.items():
            if name not in action or action[name].shape != shape:
                raise ValueError(f"part {name} of the action is missing or has another shape than {shape}")
        return ModelPruningDecisions(action["offload"], action["model"], action["edge_share"])

    def _check_decisions(self, decisions: ModelPruningDecisions) -> None:
        model = decisions.model
        if (model < 0).any() or (model >= self.config.num_models).any():
            raise ValueError(
                f"decision model holds {model.min()}..{model.max()}; every entry must be >= 0 and < "
                f"{self.config.num_models}"
            )
        if not np.isfinite(decisions.edge_share).all():
            raise ValueError("decision edge_share holds NaN or infinity; every share must be a finite number")

    def _devices(self, key: Array, result: SlotOutcome, uplink: Uplink) -> tuple[Array, Array, Array]:
        """Dropped 0/1, ledger entry and expected delay of every device (B, N)."""
        c = self.config
        cells = len(key)
        place = key + (np.arange(cells) * (result.count[0].size))[:, None]
        gone = result.reason >= 0
        value = np.zeros(result.count.shape)
        value[..., 1] = (c.utilisation_weight / c.slot_s) * uplink.transmission_s[..., None]
        price = c.drop_penalty / c.num_devices
        kept_cost = c.delay_weight / (c.num_devices * c.slot_s) * result.delay_s - value
        gone_cost = price - (value if c.count_dropped_in_utilisation else 0.0)
        cost = np.where(gone, gone_cost, kept_cost).take(place)
        dropped = gone.take(place).astype(np.int64)
        overflow = (result.count[..., 1] > result.room) & ~gone[..., 1]
        full = np.flatnonzero(overflow.any(axis=(1, 2)))
        if full.size:  # the lowest indices keep their place in the slot
            room = np.full(result.count.shape, c.num_devices)
            room[..., 1] = np.where(overflow, result.room, c.num_devices)
            late = np.zeros(key.shape, bool)
            late[full] = rank_within(key[full]) >= room.take(place[full])
            dropped[late] = 1
            cost[late] = np.broadcast_to(gone_cost, result.count.shape).take(place[late])
        return dropped, cost, result.delay_s.take(place)

    def _metrics(
        self, result: SlotOutcome, used: tuple[Array, Array, Array], waited: Array, decisions: ModelPruningDecisions
    ) -> dict[str, Array]:
        c = self.config
        n = c.num_devices
        local, band, edge = (part.sum(axis=1) for part in used)
        lost = result.count - result.completed
        by_reason = [(lost * (result.reason == r)).sum(axis=(1, 2, 3)) / n for r in range(4)]
        overflown = (lost[..., 1] * (result.reason[..., 1] < 0)).sum(axis=(1, 2)) / n
        completed = result.completed.sum(axis=2)
        total = np.maximum(completed.sum(axis=(1, 2)), 1)
        right = (completed[..., 0] * self.accuracies[decisions.model]).sum(axis=1)
        right += completed[..., 1].sum(axis=1) * c.edge_model_accuracy
        drops = {f"drop_{r}_ratio": v for r, v in zip(DROP_REASONS, [*by_reason, overflown], strict=True)}
        return {
            "utilisation": local + band + edge,
            "local_utilisation": local,
            "bandwidth_utilisation": band,
            "edge_utilisation": edge,
            "drop_ratio": lost.sum(axis=(1, 2, 3)) / n,
            **drops,
            "mean_delay_s": waited.sum(axis=1) / total,
            "mean_accuracy": right / total,
            "offload_ratio": result.count[..., 1].sum(axis=(1, 2)) / n,
            "mean_pruning_rate": np.asarray(c.model_pruning_rates)[decisions.model].mean(axis=1),
            "completed_ratio": completed.sum(axis=(1, 2)) / n,
            "delay_per_task_s": waited.sum(axis=1) / n,
            "accuracy_per_task": right / n,
        }

    def episode_metrics(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """Delay and accuracy of an episode's completed tasks: its slots are weighted by the tasks that complete."""
        completed = np.maximum(means["completed_ratio"], np.finfo(float).tiny)
        return {
            "mean_delay_s": means["delay_per_task_s"] / completed,
            "mean_accuracy": means["accuracy_per_task"] / completed,
        }

    def cost_parts(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """What drops and waiting cost, and what the use of devices, band and server earns (negative)."""
        c = self.config
        return {
            "drops": c.drop_penalty * means["drop_ratio"],
            "delay": c.delay_weight / c.slot_s * means["delay_per_task_s"],
            "gateways in use": -c.utilisation_weight * means["local_utilisation"],
            "band in use": -c.utilisation_weight * means["bandwidth_utilisation"],
            "server in use": -c.utilisation_weight * means["edge_utilisation"],
        }

    def rewards(self, step: Step[ModelPruningState], mode: str = "local") -> dict[str, Array]:
        """Role -> (B, n): "local" and "team" as everywhere; "group" is minus the cost of a gateway and its devices.

        The server's "group" reward is the team's. With "local" a gateway would choose the slowest model: its own line
        only counts its busy time; "group" is the signal to learn from.
        """
        if mode != "group":
            return super().rewards(step, mode)
        cell = -step.details["cell_cost"]
        return {"device": cell[:, self.blocks.gateway], "gateway": cell, "server": -total_cost(step)[:, None]}

    def signalling(self) -> Signalling:
        """Bytes per slot with a learned server; other server rules differ by `Controller.message_bytes`."""
        c = self.config
        n, g, k = c.num_devices, c.num_gateways, c.num_criticality_levels
        broadcast = {"channel": 4.0 * g, "histogram": 4.0 * g * (1 + k), "rank": 4.0 * g * (1 + k) + 4.0 * n}
        uplink = "wired, device -> gateway: criticality"
        return Signalling(
            decentralized={
                uplink: 4.0 * n,
                f"wired, gateway -> device: {c.gateway_broadcast}": broadcast[c.gateway_broadcast],
                "radio, gateway -> server: tasks per level": 4.0 * g * k,
            },
            centralized={
                uplink: 4.0 * n,
                "radio, gateway -> server: criticality": 4.0 * n,
                "radio, server -> gateway: offload bits, models": 4.0 * (n + g),
            },
        )


def _box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, OBSERVATION_MAX, (entries,), np.float32)


def _raw_box(entries: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-1.0, 1.0, (entries,), np.float32)
