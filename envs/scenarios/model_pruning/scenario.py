"""Joint offloading, choice of a pruned network and edge shares in a layered industrial IoT network.

V. Niazmand, Q. Ye, IEEE Transactions on Cognitive Communications and Networking, 2025. N sensors produce one inference
task each per slot; G gateways process tasks with one of V pruned networks or send them to the edge server, which runs
the full network and splits its compute over the gateways. A task that misses its deadline or accuracy is dropped.
Nothing is carried over: channel and criticality evolve independently of the actions (a contextual bandit).
Equation numbers are the paper's; E1..E14 are the errata listed in docs/model_pruning.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gymnasium
import numpy as np

from edgemarl.envs.actions import check_given, checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import ActionGroups, Counterfactual, GroupedActions, Portrait, Portrayed
from edgemarl.envs.physics.allocation import softmax_shares
from edgemarl.envs.physics.inference import pruned_inference_s, repaired_share, shared_inference_s
from edgemarl.envs.physics.layout import Blocks, rank_within
from edgemarl.envs.physics.processes import markov_channel, stationary_distribution
from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step, total_cost
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig
from edgemarl.envs.scenarios.model_pruning.entries import PruningEntries
from edgemarl.envs.scenarios.model_pruning.slot import (
    COST,
    EDGE,
    LOCAL,
    METRICS,
    USES,
    PruningConstants,
    PruningOutcome,
    PruningTables,
    TaskClasses,
    Uplink,
    link_gateways,
    run_alternatives,
    run_classes,
    run_slot,
)
from edgemarl.envs.spaces import Simplex
from edgemarl.envs.trace import Trace, drawn

OBSERVATION_MAX = 10.0


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


class ModelPruning(
    Scenario[ModelPruningConfig, ModelPruningState, ModelPruningTrace, ModelPruningExogenous, ModelPruningDecisions],
    PruningEntries,
    Counterfactual,
    GroupedActions,
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
    def action_groups(self) -> ActionGroups:
        """A gateway with its devices each."""
        c = self.config
        if c.num_devices % c.num_gateways:
            raise ValueError(
                f"num_devices = {c.num_devices} is not legal for a policy of like groups: must be a multiple of "
                f"num_gateways = {c.num_gateways}"
            )
        members = c.num_devices // c.num_gateways
        return ActionGroups(c.num_gateways, members, ("offload",), levels=(c.num_criticality_levels,))

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
        check_given(actions, self.roles)
        raw = {}
        for name, role in self.roles.items():
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
        shape, gateways = channel_gain.shape, c.num_gateways
        gain = np.ascontiguousarray(channel_gain, np.float64).reshape(-1, gateways)
        links = Uplink(np.empty(gain.shape), np.empty(gain.shape), np.empty(gain.shape, np.int64))
        link_gateways(
            gain, self._band_hz, self.blocks.size, c.noise_density_w_per_hz, c.transmit_power_w, c.task_bits, c.slot_s,
            c.mini_slots_per_slot, links,
        )  # fmt: skip
        return Uplink(*(part.reshape(shape) for part in links))

    def edge_task_s(self, edge_share: Array) -> Array:
        """(.., G) edge time E of one task in s, from repaired shares (eq. 3)."""
        c = self.config
        return shared_inference_s(c.task_flop, c.edge_flops, edge_share, c.edge_share_regulariser)

    def outcome(self, count: Array, links: Uplink, edge_s: Array, model: Array) -> TaskClasses:
        """Who completes, by class: all tasks of a gateway, level and place share their expected delay.

        Args:
            count: (B, G, K, 2) tasks, last axis 0 local, 1 offloaded.
            links: of the slot's channel.
            edge_s: (B, G) edge time of one task.
            model: (B, G) index of the pruned model.
        """
        result = TaskClasses(
            tasks=np.ascontiguousarray(count, np.int64),
            completed=np.empty(count.shape, np.int64),
            delay_s=np.empty(count.shape),
            reason=np.empty(count.shape, np.int8),
            room=np.empty(count.shape[:-1], np.int64),
        )
        edge, models = np.ascontiguousarray(edge_s, np.float64), np.ascontiguousarray(model, np.int64)
        run_classes(links, edge, models, self._tables, result)
        return result

    @cached_property
    def _band_hz(self) -> Array:
        size = self.blocks.size
        return np.asarray(np.where(size > 0, size, 1) * (self.config.bandwidth_hz / self.config.num_devices))

    @cached_property
    def _constants(self) -> PruningConstants:
        c = self.config
        return PruningConstants(
            slot_s=c.slot_s,
            task_flop=c.task_flop,
            edge_flops=c.edge_flops,
            edge_share_regulariser=c.edge_share_regulariser,
            edge_model_accuracy=c.edge_model_accuracy,
            drop_penalty=c.drop_penalty,
            utilisation_weight=c.utilisation_weight,
            delay_weight=c.delay_weight,
            idle_share_allowed=float(c.allow_idle_edge_share),
            dropped_count=float(c.count_dropped_in_utilisation),
        )

    @cached_property
    def _tables(self) -> PruningTables:
        return PruningTables(
            size=self.blocks.size,
            deadline_s=self.deadline_s,
            required_accuracy=self.required_accuracy,
            accuracies=self.accuracies,
            local_task_s=self.local_task_s,
            pruning_rates=np.asarray(self.config.model_pruning_rates),
        )

    def step(
        self, state: ModelPruningState, decisions: ModelPruningDecisions, exogenous: ModelPruningExogenous
    ) -> Step[ModelPruningState]:
        c = self.config
        cells, n = state.criticality_level.shape
        out = PruningOutcome(
            dropped=np.empty((cells, n), np.int64),
            device=np.empty((2, cells, n)),
            share=np.empty((cells, c.num_gateways)),
            uses=np.empty((len(USES), cells, c.num_gateways)),
            metrics=np.empty((len(METRICS), cells)),
        )
        wrong = run_slot(
            np.ascontiguousarray(state.criticality_level, np.int64),
            np.ascontiguousarray(decisions.offload != 0),
            np.ascontiguousarray(decisions.model, np.int64),
            np.ascontiguousarray(decisions.edge_share, np.float64),
            self.uplink(state.channel_gain),
            self._tables,
            self._constants,
            out,
        )
        if wrong:
            self._refuse(state, decisions)
        weight = -c.utilisation_weight
        device, gateway = out.device[0], weight * out.uses[LOCAL]
        server = weight * out.uses[EDGE].sum(axis=1, keepdims=True)
        reward = -(device.sum(axis=1) + gateway.sum(axis=1) + server[:, 0])
        metrics = {"reward": reward, **dict(zip(METRICS, out.metrics, strict=True)), "cost": -reward}
        details = {
            "cell_cost": out.uses[COST], "dropped": out.dropped, "edge_share": out.share, "delay_s": out.device[1],
        }  # fmt: skip
        following = ModelPruningState(exogenous.next_channel_gain, exogenous.next_criticality_level)
        return Step(following, {"device": device, "gateway": gateway, "server": server}, metrics, details)

    def choice_rewards(
        self, state: ModelPruningState, decisions: ModelPruningDecisions, exogenous: ModelPruningExogenous
    ) -> dict[str, Array]:
        """Minus the cell's cost under either bit of a device and under every model of a gateway.

        All other bits and models and the server's split stay as they are. Devices of one class are alike, so that
        2K + V evaluations by class give the answer for all of them.
        """
        c = self.config
        levels, place = c.num_criticality_levels, (decisions.offload != 0).astype(np.int64)
        key = self.blocks.class_key(state.criticality_level, levels) * 2 + place
        count = self.blocks.class_counts(key, 2 * levels).reshape(len(key), c.num_gateways, levels, 2)
        share = repaired_share(decisions.edge_share, np.asarray(count[..., 1].any(axis=2)), c.allow_idle_edge_share)
        edge_s, model = self.edge_task_s(share), np.ascontiguousarray(decisions.model, np.int64)
        moved, models = np.empty((*model.shape, 2 * levels)), np.empty((*model.shape, c.num_models))
        links = self.uplink(state.channel_gain)
        run_alternatives(count, links, edge_s, model, self._tables, self._constants, c.num_devices, moved, models)
        now = np.take_along_axis(models, model[..., None], axis=2)[..., 0]
        rows, owner = np.arange(len(key))[:, None], self.blocks.gateway
        device = np.empty((*key.shape, 2))
        np.put_along_axis(device, place[..., None], -now[:, owner][..., None], axis=2)
        other = -moved[rows, owner, state.criticality_level * 2 + place]
        np.put_along_axis(device, 1 - place[..., None], other[..., None], axis=2)
        return {"device": device, "gateway": -models}

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

    def _refuse(self, state: ModelPruningState, decisions: ModelPruningDecisions) -> None:
        """Say what of a state or of decisions is not legal."""
        c = self.config
        for name, values, end in (
            ("criticality_level of the state", state.criticality_level, c.num_criticality_levels),
            ("decision model", decisions.model, c.num_models),
        ):
            if (values < 0).any() or (values >= end).any():
                raise ValueError(f"{name} holds {values.min()}..{values.max()}; every entry must be >= 0 and < {end}")
        raise ValueError("decision edge_share holds NaN or infinity; every share must be a finite number")

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

    def group_rewards(self, step: Step[ModelPruningState]) -> Array:
        """(B, G) minus the cost of every gateway with its devices."""
        return np.asarray(-step.details["cell_cost"])

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
