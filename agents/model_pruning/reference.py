"""Near-optimal centralized controller of `model_pruning`, and an upper bound of the reward of a slot.

Where a busy server pays (the paper's objective), a plan is worth more the longer its edge time is, up to the time at
which one of its levels misses the deadline. So each gateway only needs to be planned at these times. At fixed plans
the utilisation n E(c) is convex and falls with the share c, so the best split of the server is a vertex: every gateway
but one has the smallest share that its plan needs, one takes the surplus; every gateway is tried as that one.
Where short delays are worth more, shares follow the square root of the offloaded tasks instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgemarl.agents.api import CentralController
from edgemarl.agents.model_pruning.gateway_plans import CellPlanner, GatewayTasks, offload_bits
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import square_root_shares
from edgemarl.envs.physics.inference import share_for_time
from edgemarl.envs.physics.layout import rank_within
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

REPLANNING_ROUNDS = 4
BUDGET_STEPS = 40


class NearOptimal(CentralController):
    """Plans every slot on its own, which is optimal: the next state does not depend on the actions.

    Args:
        models: indices of the pruned models that may be used; default all of them.
        name: name in tables.
    """

    def __init__(self, models: tuple[int, ...] | None = None, name: str = "near_optimal") -> None:
        self.models, self.name = models, name

    def reset(self, scenario: Scenario, trace: ModelPruningTrace) -> None:
        super().reset(scenario, trace)
        assert isinstance(scenario, ModelPruning)
        self.network, self.planner = scenario, CellPlanner(scenario, self.models)

    def decide(
        self, state: ModelPruningState, exogenous: ModelPruningExogenous, rng: np.random.Generator
    ) -> ModelPruningDecisions:
        network = self.network
        histogram, uplink = network.histogram(state.criticality_level), network.uplink(state.channel_gain)
        c = network.config
        idle_pays = c.utilisation_weight > c.delay_weight / c.num_devices
        candidates = (
            self._starved(histogram, uplink) if idle_pays else self._square_root(histogram, uplink)
        )  # (model, sent, share)
        rank = rank_within(network.blocks.class_key(state.criticality_level, c.num_criticality_levels))
        best: ModelPruningDecisions | None = None
        best_reward = np.full(len(histogram), -np.inf)
        for model, sent, share in candidates:
            bits = offload_bits(network, state.criticality_level, rank, sent)
            decisions = ModelPruningDecisions(bits, model, share)
            reward = network.step(state, decisions, exogenous).metrics["reward"]
            better = reward > best_reward
            best_reward = np.where(better, reward, best_reward)
            best = decisions if best is None else _choose(better, decisions, best)
        assert best is not None
        return best

    # --- a busy server is worth more than short delays -------------------------------------------------------------

    def _starved(self, histogram: Array, uplink: Uplink) -> list[tuple[Array, Array, Array]]:
        """Smallest shares for all gateways but one."""
        edge_s, share, used = critical_edge_times(self.network, histogram, uplink)
        table = _Table(self.planner, histogram, uplink, edge_s, used)
        entry = _within_budget(table.value, share)
        chosen_share, chosen_value = _at(share, entry), _at(table.value, entry)
        surplus = np.maximum(1.0 - (chosen_share.sum(axis=1, keepdims=True) - chosen_share), 0.0)
        must_send = not self.network.config.allow_idle_edge_share  # an idle holder would lose its share
        held = self.planner.plan(GatewayTasks.of(histogram, uplink, self.network.edge_task_s(surplus), must_send))
        held_sent = held.sent.reshape(histogram.shape)
        gain = held.value.reshape(surplus.shape) - chosen_value
        holder = np.where(histogram.any(axis=2), gain, -np.inf).argmax(axis=1)
        is_holder = np.arange(histogram.shape[1]) == holder[:, None]
        model = np.where(is_holder, held.model.reshape(surplus.shape), _at(table.model, entry))
        sent = np.where(is_holder[..., None], held_sent, _at(table.sent, entry))
        smallest = np.where(is_holder | ~sent.any(axis=2), 0.0, chosen_share)
        rest = np.maximum(1.0 - smallest.sum(axis=1, keepdims=True), 0.0)
        return [(model, sent, np.where(is_holder, rest, smallest)), *self._square_root(histogram, uplink, rounds=1)]

    # --- short delays are worth more ---------------------------------------------------------------------------------

    def _square_root(
        self, histogram: Array, uplink: Uplink, rounds: int = REPLANNING_ROUNDS
    ) -> list[tuple[Array, Array, Array]]:
        """Shares proportional to the root of the offloaded tasks, planned anew in every round."""
        share = np.full(histogram.shape[:2], 1.0 / histogram.shape[1])
        candidates = []
        for _ in range(rounds):
            plans = self.planner.plan(GatewayTasks.of(histogram, uplink, self.network.edge_task_s(share)))
            model, sent = plans.model.reshape(share.shape), plans.sent.reshape(histogram.shape)
            candidates.append((model, sent, share))
            share = square_root_shares(sent.sum(axis=2))
            candidates.append((model, sent, share))
        return candidates


class _Table:
    """Plans of all gateways at several edge times: value and model (B, G, E), sent (B, G, E, K)."""

    def __init__(self, planner: CellPlanner, histogram: Array, uplink: Uplink, edge_s: Array, used: Array) -> None:
        plans = planner.plan(GatewayTasks.of(histogram, uplink, edge_s).part(used.ravel()))
        self.value = np.full(edge_s.shape, -np.inf)
        self.model = np.zeros(edge_s.shape, int)
        self.sent = np.zeros((*edge_s.shape, histogram.shape[2]), int)
        self.value[used], self.model[used], self.sent[used] = plans.value, plans.model, plans.sent


def critical_edge_times(network: ModelPruning, histogram: Array, uplink: Uplink) -> tuple[Array, Array, Array]:
    """The edge times at which some plan of a gateway stops to keep its deadlines, and its transmission time (17f).

    A level that waits for j/2 tasks completes as long as E <= T - Omega - j/2 reserved: with 0 < E <= Omega <= reserved
    there are at most three such j for each level.

    Returns:
        edge_s (B, G, E), the share that each needs, and which are meant (bool); entry 0 is share 0, entry 1 is Omega.
    """
    c = network.config
    omega, half = uplink.transmission_s[..., None, None], np.maximum(uplink.reserved_s, 1e-12)[..., None, None] / 2.0
    slack = network.deadline_s[:, None] - omega  # (B, G, K, 1)
    halves = np.ceil((slack - omega) / half - TOLERANCE) + np.arange(3.0)
    critical = (slack - halves * half).reshape(*histogram.shape[:2], -1)
    tasks = histogram.sum(axis=2)[..., None]
    legal = ((halves >= 0.0).reshape(critical.shape)) & (halves.reshape(critical.shape) <= 2 * tasks)
    shortest, longest = network.edge_task_s(np.asarray(1.0)), network.edge_task_s(np.asarray(0.0))
    omega = omega[..., 0]
    legal &= (critical > shortest) & (critical < np.minimum(omega, longest))
    edge_s = np.concatenate([np.full_like(omega, longest), np.clip(omega, shortest, longest), critical], axis=2)
    used = np.concatenate([np.ones_like(tasks, bool), tasks > 0, legal & (tasks > 0)], axis=2)
    edge_s = np.where(used, edge_s, longest)
    share = share_for_time(c.task_flop, c.edge_flops, edge_s, c.edge_share_regulariser)
    return edge_s, np.minimum(share, 1.0), used


@dataclass(frozen=True)
class OwnPlans:
    """What every gateway would do if it had the server to itself: its best plan over its critical edge times."""

    model: Array  # (B, G)
    sent: Array  # (B, G, K)
    edge_s: Array  # (B, G)
    share: Array  # (B, G) the smallest that this edge time needs


def own_plans(network: ModelPruning, planner: CellPlanner, histogram: Array, uplink: Uplink) -> OwnPlans:
    """The best plan of every gateway by itself, from its own tasks (B, G, K) and channel."""
    edge_s, share, used = critical_edge_times(network, histogram, uplink)
    table = _Table(planner, histogram, uplink, edge_s, used)
    entry = table.value.argmax(axis=2)
    return OwnPlans(_at(table.model, entry), _at(table.sent, entry), _at(edge_s, entry), _at(share, entry))


def _at(table: Array, entry: Array) -> Array:
    """Entry (B, G) of each gateway's table (B, G, E, ..)."""
    index = entry.reshape(entry.shape + (1,) * (table.ndim - 2))
    return np.take_along_axis(table, index, axis=2)[:, :, 0]


def _within_budget(value: Array, share: Array) -> Array:
    """(B, G) entry of each gateway's table: the best one; where these shares exceed 1, the best at a price of shares.

    Args:
        value, share: (B, G, E).
    """
    low, high = np.zeros(len(value)), np.full(len(value), 1e6)
    entry: Array = value.argmax(axis=2)
    over = _at(share, entry).sum(axis=1) > 1.0
    if not over.any():
        return entry
    for _ in range(BUDGET_STEPS):  # bisection of the price
        price = (low + high) / 2.0
        trial = (value - price[:, None, None] * share).argmax(axis=2)
        fits = _at(share, trial).sum(axis=1) <= 1.0
        high, low = np.where(fits, price, high), np.where(fits, low, price)
        entry = np.where((over & fits)[:, None], trial, entry)
    return entry


def _choose(better: Array, new: ModelPruningDecisions, old: ModelPruningDecisions) -> ModelPruningDecisions:
    pick = better[:, None]
    return ModelPruningDecisions(
        np.where(pick, new.offload, old.offload),
        np.where(pick, new.model, old.model),
        np.where(pick, new.edge_share, old.edge_share),
    )


def upper_bound(network: ModelPruning, state: ModelPruningState, models: tuple[int, ...] | None = None) -> Array:
    """(B,) what no controller can exceed in this slot, whatever its shares.

    Every gateway takes the edge time that is best for it, as if it were alone; only one of them is held to a share of
    at least 1/G, which some gateway always has. Edge times beyond the transmission time are left out, except share 0:
    they only drop what a shorter time could complete; a completed task must be worth more than a dropped one.
    """
    histogram, uplink = network.histogram(state.criticality_level), network.uplink(state.channel_gain)
    planner = CellPlanner(network, models)
    if planner.busy_value_per_s < planner.delay_price_per_s:
        alone = network.edge_task_s(np.ones(histogram.shape[:2]))
        result: Array = planner.plan(GatewayTasks.of(histogram, uplink, alone)).value.reshape(alone.shape).sum(axis=1)
        return result
    edge_s, _, used = critical_edge_times(network, histogram, uplink)
    free = _Table(planner, histogram, uplink, edge_s, used).value.max(axis=2)
    at_most = network.edge_task_s(np.asarray(1.0 / network.config.num_gateways))
    held = _Table(planner, histogram, uplink, np.minimum(edge_s, at_most), used).value.max(axis=2)
    return np.asarray((free.sum(axis=1, keepdims=True) - free + held).max(axis=1))
