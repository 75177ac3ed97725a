"""Rules for `model_pruning`, role by role: what a device, a gateway or the server does from its own row and messages.

Every rule reads levels, tasks per level and the channel state back from its observation; AGDM is a central rule.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgemarl.agents.api import Act, CentralController, Controller
from edgemarl.agents.model_pruning.gateway_plans import CellPlanner, GatewayTasks
from edgemarl.agents.model_pruning.reference import own_plans
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.airtime import expected_wait_s
from edgemarl.envs.physics.allocation import square_root_shares
from edgemarl.envs.physics.inference import share_for_time
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_pruning import (
    TOLERANCE,
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
    ModelPruningTrace,
    Uplink,
)

SINGLE_PRECISION = 1e-6
"""Relative error that a number loses on its way through a row."""
MID_PRUNING_RATE = 0.7
COUNT_BYTES = 4.0
AGDM_ROUNDS = 5


def mid_model(scenario: ModelPruning) -> int:
    """The model that the paper's benchmarks use at every gateway: the one whose pruning rate is nearest to 0.7."""
    return int(np.abs(np.asarray(scenario.config.model_pruning_rates) - MID_PRUNING_RATE).argmin())


class PruningRule(Controller):
    """A rule of one role; `network` is its scenario."""

    network: ModelPruning

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        if not isinstance(scenario, ModelPruning):
            raise ValueError(f"{type(self).__name__} is a rule of model_pruning, not of {scenario.name}")
        self.network = scenario

    def level(self, rows: Array) -> Array:
        """(B, N) criticality levels from device rows."""
        result: Array = np.rint(rows[..., 0] * (self.network.config.num_criticality_levels - 1)).astype(int)
        return result

    def gain(self, shown: Array) -> Array:
        """Channel gains from rows; one that is a state of the channel but for single precision is that state."""
        states = np.asarray(self.network.config.channel_gains)
        gain = shown.astype(float) * states.max()
        nearest = states[self.channel_state(shown)]
        return np.where(np.abs(gain - nearest) <= SINGLE_PRECISION * nearest, nearest, gain)

    def channel_state(self, shown: Array) -> Array:
        """Index of the nearest channel state."""
        states = np.asarray(self.network.config.channel_gains)
        result: Array = np.abs(shown[..., None] - states / states.max()).argmin(axis=-1)
        return result

    def counts_bytes(self) -> float:
        """Bytes per slot of one number for each gateway and level."""
        c = self.network.config
        return COUNT_BYTES * c.num_gateways * c.num_criticality_levels

    def gateway_rows(self, observations: Array) -> Array:
        """(B, G, d) rows of all gateways, which the server's row (B, 1, G d) holds."""
        return observations[:, 0].reshape(len(observations), self.network.config.num_gateways, -1)

    def tasks_per_level(self, gateway_rows: Array) -> Array:
        """(B, G, K) tasks per level from gateway rows."""
        levels = self.network.config.num_criticality_levels
        result: Array = np.rint(gateway_rows[..., 2 : 2 + levels] * self.network.blocks.size[:, None]).astype(int)
        return result


# --- devices ---------------------------------------------------------------------------------------------------------


class FixedOffload(PruningRule):
    """Every device always sends (1) or never (0)."""

    def __init__(self, bit: int) -> None:
        self.bit = bit

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(np.full(observations.shape[:2], self.bit))


class AccuracyOffload(PruningRule):
    """A device sends exactly the tasks that the mid-pruned model would not answer accurately enough."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        return Act(beyond_model(self.network, mid_model(self.network))[self.level(observations)].astype(int))


def beyond_model(network: ModelPruning, model: int) -> Array:
    """(K,) bool: levels whose accuracy bound exceeds what a model reaches."""
    result: Array = network.required_accuracy > network.accuracies[model] + TOLERANCE
    return result


class PlanFollower(PruningRule):
    """Reads the gateway's plan: with its rank known a device of level l sends iff rank < n_l.

    Args:
        sampled: the plan holds probabilities n_l / (tasks of the level) instead, and every device tosses a coin.
    """

    def __init__(self, sampled: bool) -> None:
        self.sampled = sampled

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.hears = {"gateway": self.network.config.num_criticality_levels}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        network = self.network
        levels = network.config.num_criticality_levels
        plan = np.take_along_axis(observations[..., -levels:], self.level(observations)[..., None], axis=2)[..., 0]
        if self.sampled:
            return Act((rng.random(plan.shape) < plan).astype(int))
        size = network.blocks.size[network.blocks.gateway]
        rank = np.rint(observations[..., 3 + levels] * size)
        return Act((rank < plan).astype(int))


# --- gateways --------------------------------------------------------------------------------------------------------


class FixedModel(PruningRule):
    """Every gateway uses one model: an index (negative: from the most pruned), or None for the mid-pruned one."""

    def __init__(self, model: int | None) -> None:
        self.model = model

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        model = mid_model(self.network) if self.model is None else self.model % self.network.config.num_models
        return Act(np.full(observations.shape[:2], model))


class PlanningGateway(PruningRule):
    """Every gateway plans its own tasks exactly and tells its devices how many of each level send.

    Args:
        share: the share of the server that the plan counts on. "equal"; "announced": the server's message holds it; a
            number: the edge time is this fraction of the transmission time; "chosen": the edge time is the gateway's
            choice, and the server (`ChosenTimes`) gives the share that it needs.
        sampled: tell probabilities instead of numbers, for devices that do not know their rank.
    """

    def __init__(self, share: Literal["equal", "announced", "chosen"] | float, sampled: bool = False) -> None:
        self.share, self.sampled = share, sampled

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.messages = {"device": self.network.config.num_criticality_levels}
        self.hears = {"server": 1} if self.share == "announced" else {}
        self.planner = CellPlanner(self.network)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        network = self.network
        tasks = self.tasks_per_level(observations)
        uplink = network.uplink(self.gain(observations[..., 0]))
        if self.share == "chosen":
            own = own_plans(network, self.planner, tasks, uplink)
            model, sent = own.model, own.sent
        else:
            plans = self.planner.plan(GatewayTasks.of(tasks, uplink, self._edge_s(observations, uplink)))
            model, sent = plans.model.reshape(tasks.shape[:2]), plans.sent.reshape(tasks.shape)
        told = sent / np.maximum(tasks, 1) if self.sampled else sent
        return Act(model, messages={"device": told[:, network.blocks.gateway]})

    def _edge_s(self, observations: Array, uplink: Uplink) -> Array:
        """(B, G) edge time of one task that the plan counts on."""
        network, transmission_s = self.network, uplink.transmission_s
        if not isinstance(self.share, str):
            edge_s = self.share * transmission_s
        elif self.share == "announced":
            edge_s = network.edge_task_s(observations[..., -1].astype(float))
        else:
            edge_s = network.edge_task_s(np.full(transmission_s.shape, 1.0 / network.config.num_gateways))
        at_limit = np.abs(edge_s - transmission_s) <= SINGLE_PRECISION * transmission_s
        return np.where(at_limit, transmission_s, edge_s)

    def message_bytes(self) -> float:
        """One broadcast in each cell."""
        return self.counts_bytes()


# --- server ----------------------------------------------------------------------------------------------------------


class StaticShares(PruningRule):
    """Shares from the channel alone.

    Args:
        fraction: gateways but the last get the share at which the edge time is this fraction of their transmission
            time, the last one the rest; equal shares if the first ones need all, or if None.
        announce: tell every gateway its share.
    """

    broadcast = False

    def __init__(self, fraction: float | None, announce: bool = False) -> None:
        if fraction is not None and fraction <= 0.0:
            raise ValueError(f"fraction = {fraction:g} is not legal: must be > 0, or None for equal shares")
        self.fraction = fraction
        self.messages = {"gateway": 1} if announce else {}

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        share = self.shares(self.gain(self.gateway_rows(observations)[..., 0]))
        messages = {"gateway": share[..., None]} if self.messages else {}
        return Act(raw_shares(self.network, share), {"edge_share": share}, messages)

    def message_bytes(self) -> float:
        """Tasks per level need not reach the server; every gateway is told its share, unless shares are equal."""
        told = COUNT_BYTES * self.network.config.num_gateways if self.fraction is not None else 0.0
        return told - self.counts_bytes()

    def shares(self, gain: Array) -> Array:
        """(B, G) shares from channel gains (B, G)."""
        return static_shares(self.network, gain, self.fraction)


def static_shares(network: ModelPruning, gain: Array, fraction: float | None) -> Array:
    """(B, G) shares of the rule `static(fraction)`; see `StaticShares`."""
    c = network.config
    equal = np.full(gain.shape, 1.0 / c.num_gateways)
    if fraction is None:
        return equal
    wanted_s = np.where(network.blocks.size > 0, fraction * network.uplink(gain).transmission_s, np.inf)
    share = share_for_time(c.task_flop, c.edge_flops, wanted_s, c.edge_share_regulariser)
    first = share[:, :-1].sum(axis=1)
    share[:, -1] = 1.0 - first
    return np.where((first < 1.0)[:, None], share, equal)


class ChosenTimes(PruningRule):
    """Every gateway gets the share that its own best plan needs, computed from the server's row; one takes the rest.

    Where a busy server pays, the best edge time is the longest that a plan's deadlines allow, so that the shares fit.
    The rest goes where a shorter edge time loses least. Nothing has to be told: the gateways know their own plans.
    """

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.planner = CellPlanner(self.network)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        network = self.network
        rows = self.gateway_rows(observations)
        own = own_plans(network, self.planner, self.tasks_per_level(rows), network.uplink(self.gain(rows[..., 0])))
        tasks = own.sent.sum(axis=2)
        share = np.where(tasks > 0, own.share, 0.0)
        total = share.sum(axis=1, keepdims=True)
        rest = np.maximum(1.0 - (total - share), 0.0)
        lost = np.where(tasks > 0, tasks * (own.edge_s - network.edge_task_s(rest)), np.inf)
        takes_rest = np.arange(share.shape[1]) == lost.argmin(axis=1)[:, None]
        given = np.where(takes_rest, rest, share)
        given = given / np.maximum(given.sum(axis=1, keepdims=True), 1.0)
        return Act(raw_shares(network, given), {"edge_share": given})


def raw_shares(network: ModelPruning, share: Array) -> Array:
    """(B, 1, G) raw action of the server that comes nearest to shares (B, G): logarithms, 1 for the largest share.

    A softmax of bounded logits gives nobody less than exp(-2 scale) times the largest share: what is smaller is cut.
    """
    least = np.exp(-2.0 * network.config.edge_logit_scale)
    relative = np.maximum(share / share.max(axis=1, keepdims=True), least)
    return np.asarray((1.0 + np.log(relative) / network.config.edge_logit_scale)[:, None])


class RootShares(PruningRule):
    """Shares proportional to the root of the tasks that the accuracy rule sends, counted from the server's row."""

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        network = self.network
        sent = self.tasks_per_level(self.gateway_rows(observations))[
            ..., beyond_model(network, mid_model(network))
        ].sum(axis=2)
        return Act(decisions={"edge_share": square_root_shares(sent)})


# --- all at random ---------------------------------------------------------------------------------------------------


class RandomRole(PruningRule):
    """Fair bits, models and raw shares, uniform in the role's action space."""

    def __init__(self, role: str) -> None:
        self.role = role

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        lead = observations.shape[:2]
        if self.role == "server":
            return Act(rng.uniform(-1.0, 1.0, (*lead, self.network.config.num_gateways)))
        return Act(rng.integers(0, 2 if self.role == "device" else self.network.config.num_models, lead))

    def message_bytes(self) -> float:
        """A server that draws its shares needs no tasks per level."""
        return -self.counts_bytes() if self.role == "server" else 0.0


# --- central ---------------------------------------------------------------------------------------------------------


class AccuracyGuaranteedDelayMinimisation(CentralController):
    """AGDM, the paper's benchmark with static requirements: believes one criticality level per device all episode.

    The mid-pruned model runs everywhere. Tasks believed to need more accuracy are sent; of the others each gateway
    sends the least critical first, as many as minimise the delay it believes in. Shares follow the root of the counts.
    """

    name = "agdm"

    def reset(self, scenario: Scenario, trace: ModelPruningTrace) -> None:
        super().reset(scenario, trace)
        assert isinstance(scenario, ModelPruning)
        self.network = scenario
        self._believed: Array | None = None
        self.model = mid_model(scenario)

    def decide(
        self, state: ModelPruningState, exogenous: ModelPruningExogenous, rng: np.random.Generator
    ) -> ModelPruningDecisions:
        network = self.network
        if self._believed is None:
            levels = network.config.num_criticality_levels
            self._believed = rng.integers(0, levels, (self.cells, network.config.num_devices))
            self._forced = beyond_model(network, self.model)[self._believed]
            self._place = self._candidate_place(self._believed, self._forced)
        share, before = np.full(state.channel_gain.shape, 1.0 / network.config.num_gateways), None
        for _ in range(AGDM_ROUNDS):
            extra = self._extra(state, share)
            bits = self._forced | (self._place < extra[:, network.blocks.gateway])
            sent = self._per_gateway(bits)
            share = square_root_shares(sent)
            if before is not None and (sent == before).all():
                break
            before = sent
        return ModelPruningDecisions(bits.astype(int), np.full(share.shape, self.model), share)

    def _per_gateway(self, bits: Array) -> Array:
        """(B, G) set bits of each gateway's devices."""
        blocks = self.network.blocks
        return blocks.class_counts(blocks.class_key(bits.astype(int), 2), 2)[..., 1]

    def _candidate_place(self, believed: Array, forced: Array) -> Array:
        """(B, N) place of each candidate in its gateway's order by believed level and index; forced tasks come last."""
        network = self.network
        key = believed + np.where(forced, network.config.num_criticality_levels, 0)
        key = key + network.blocks.gateway * (2 * network.config.num_criticality_levels)
        order = np.argsort(key, axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.broadcast_to(network.blocks.position, order.shape), axis=1)
        return np.where(forced, network.config.num_devices, place)

    def _extra(self, state: ModelPruningState, share: Array) -> Array:
        """(B, G) candidates that each gateway sends: the fewest that minimise the believed total delay."""
        network = self.network
        uplink, edge_s = network.uplink(state.channel_gain), network.edge_task_s(share)
        forced = self._per_gateway(self._forced)[..., None]
        size = network.blocks.size[:, None]
        extra = np.arange(int(size.max()) + 1)
        sent = forced + extra
        wait = expected_wait_s(0, sent, uplink.reserved_s[..., None])
        delay = sent * ((uplink.transmission_s + edge_s)[..., None] + wait)
        delay = delay + (size - sent) ** 2 * network.local_task_s[self.model]
        delay = np.where(sent <= size, delay, np.inf)
        result: Array = (delay <= delay.min(axis=2, keepdims=True) + 1e-12).argmax(axis=2)
        return result
