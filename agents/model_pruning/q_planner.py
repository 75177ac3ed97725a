"""Q-learning of plans in `model_pruning`: what a gateway needs to know of its cell's Q-function, learned online.

Slots do not depend on each other's actions, so the Q-value of a plan is the cell's reward in that slot. It is a sum
over tasks, and what a task earns has two learned parts:

* whether it completes. A local task of level l does while the gateway keeps at most L[v, l] tasks under model v, an
  offloaded one while at most P[h, l]/2 tasks are in front of it on average in channel state h. The two bounds are found
  by bisection from what devices report, and a bound known for one level bounds the others: requirements tighten.
* what a completed one earns: the gateway's own ledger line per local task, its devices' per offloaded one.

The gateway then takes the plan of greatest value, by a dynamic programme over the levels. Nothing about deadlines,
accuracies, rates or the law of tasks and channels is given. Compiled by Numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, check_entries, restored
from edgemarl.agents.model_pruning.rules import COUNT_BYTES, PlanFollower, PruningRule, static_shares
from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.scenario import Scenario

FRACTIONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
"""Edge times over transmission times among which the server learns; above 1 every offloaded task is dropped."""
COMMON_RATE, RATIO_RATE = 0.1, 0.3
"""Steps of the server's learned means."""


class Bounds:
    """Largest x at which something works, found by bisection, for tables (B, G, A, K) whose bounds fall along K.

    Args:
        shape: (B, G, A, K).
        largest: greatest x that can occur.

    Attributes:
        works, fails: largest x known to work (-1: none), smallest known to fail (largest + 1: none).
    """

    def __init__(self, shape: tuple[int, int, int, int], largest: int) -> None:
        self.works = np.full(shape, -1, np.int16)
        self.fails = np.full(shape, largest + 1, np.int16)

    def believed(self) -> Array:
        """The middle of what is not known; one above `works` while there is something to learn."""
        result: Array = self.works + (self.fails - self.works) // 2
        return result

    def learn(self, context: Array, x: Array, worked: Array, seen: Array) -> None:
        """One sample for each level: contexts (B, G), x, whether it worked and whether there was one, (B, G, K)."""
        b, g = np.indices(context.shape)
        works, fails = self.works[b, g, context], self.fails[b, g, context]  # (B, G, K)
        good, bad = seen & worked, seen & ~worked
        works = np.where(good, np.maximum(works, x), works)
        fails = np.where(bad, np.minimum(fails, x), fails)
        works = np.maximum.accumulate(works[..., ::-1], axis=2)[..., ::-1]  # what the stricter do the laxer can
        fails = np.minimum.accumulate(fails, axis=2)
        fails = np.where(good & (fails <= x), x + 1, fails)  # the newest sample wins where two disagree
        works = np.where(bad & (works >= x), x - 1, np.minimum(works, fails - 1))
        self.works[b, g, context], self.fails[b, g, context] = works, fails

    def state_dict(self) -> dict[str, Array]:
        return {"works": self.works.copy(), "fails": self.fails.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.works, self.fails = restored(state, "works", self.works), restored(state, "fails", self.fails)


@dataclass
class PlayedPlan:
    """What a gateway knew and did in a slot; (B, G) or (B, G, K)."""

    tasks: Array
    channel: Array
    arm: Array
    model: Array


class LearningGateway(PruningRule):
    """Plans its cell by what it has learned, and tells its devices how many of each level send.

    Its row ends with the server's message, its share, and its devices' reports of the slot before
    the last: costs added up by level and place, and tasks sent by level.

    Args:
        first_value: value of a completed task before any was seen, in parts of a dropped one's cost.
    """

    def __init__(self, first_value: float = 0.1) -> None:
        if not first_value > 0.0:
            raise ValueError(f"first_value = {first_value} is not legal: must be > 0")
        self.first_value = first_value

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        c = self.network.config
        g, k, size = c.num_gateways, c.num_criticality_levels, int(self.network.blocks.size.max())
        self.messages, self.hears = {"device": k}, {"server": 1, "device": 3 * k}
        self.channels = len(c.channel_gains)
        self.local = Bounds((cells, g, c.num_models, k), size)
        self.sent = Bounds((cells, g, len(FRACTIONS) * self.channels, k), 2 * size)
        self.drop_cost = c.drop_penalty / c.num_devices
        guess = self.first_value * self.drop_cost
        self.local_value = np.full((cells, g, c.num_models), guess)
        self.sent_value = np.full((cells, g, self.channels), guess)
        self._newest: PlayedPlan | None = None
        self._older: PlayedPlan | None = None
        self._own = np.zeros((2, cells, g))  # the own line of the last slot and of the one before

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        network, k = self.network, self.network.config.num_criticality_levels
        rows, heard = observations[..., : 2 + k], observations[..., 2 + k :].astype(np.float64)
        if self._older is not None:
            self._learn(self._older, heard[..., 1:], -self._own[1])
        edge_s = network.edge_task_s(heard[..., 0])
        ratio = edge_s / np.maximum(network.uplink(self.gain(rows[..., 0])).transmission_s, np.finfo(float).tiny)
        arm = np.abs(ratio[..., None] - FRACTIONS).argmin(axis=-1)
        tasks, channel = self.tasks_per_level(rows), self.channel_state(rows[..., 0])
        b, g = np.indices(channel.shape)
        edge_value = network.config.utilisation_weight / network.config.slot_s * edge_s
        model, sent = best_plans(
            tasks, self.sent.believed()[b, g, arm * self.channels + channel], self.local.believed(),
            self.sent_value[b, g, channel] + edge_value, self.local_value, self.drop_cost,
        )  # fmt: skip
        self._older, self._newest = self._newest, PlayedPlan(tasks, channel, arm, model)
        told = sent / np.maximum(tasks, 1) if network.config.gateway_broadcast != "rank" else sent
        return Act(model, messages={"device": told[:, network.blocks.gateway]})

    def _learn(self, played: PlayedPlan, report: Array, own: Array) -> None:
        """Bounds and values from what devices report (B, G, 3 K) and the own line (B, G) of that slot."""
        k = self.network.config.num_criticality_levels
        cost = report[..., : 2 * k].reshape(*report.shape[:2], k, 2)
        sent = np.clip(np.rint(report[..., 2 * k :]).astype(int), 0, played.tasks)
        kept = played.tasks - sent
        ahead = sent.sum(axis=2, keepdims=True) - np.cumsum(sent, axis=2)
        each_kept, each_sent = cost[..., 0] / np.maximum(kept, 1), cost[..., 1] / np.maximum(sent, 1)
        half = 0.5 * self.drop_cost
        kept_ok, sent_ok = each_kept < half, each_sent < half
        place = np.clip(2 * ahead + sent - 1, 0, self.sent.fails.max())
        context = played.arm * self.channels + played.channel
        self.sent.learn(context, place.astype(np.int16), sent_ok, sent > 0)
        in_all = np.broadcast_to(kept.sum(axis=2, keepdims=True), kept.shape)
        self.local.learn(played.model, in_all.astype(np.int16), kept_ok, kept > 0)
        done = (kept * kept_ok).sum(axis=2)
        self._average(self.local_value, played.model, own / np.maximum(done, 1), done > 0)
        done = (sent * sent_ok).sum(axis=2)
        earned = -np.where(sent_ok, cost[..., 1], 0.0).sum(axis=2)
        self._average(self.sent_value, played.channel, earned / np.maximum(done, 1), done > 0)

    @staticmethod
    def _average(values: Array, context: Array, samples: Array, seen: Array) -> None:
        b, g = np.nonzero(seen)
        values[b, g, context[seen]] += 0.5 * (samples[seen] - values[b, g, context[seen]])

    def feedback(self, costs: Array) -> None:
        self._own = np.stack([np.asarray(costs, float), self._own[0]])

    def message_bytes(self) -> float:
        """One broadcast in each cell."""
        return self.counts_bytes()

    def state_dict(self) -> dict[str, Any]:
        """Bounds, values, and what was played in the two slots whose reports are to come."""
        return {
            "local": self.local.state_dict(), "sent": self.sent.state_dict(), "own": self._own.copy(),
            "local_value": self.local_value.copy(), "sent_value": self.sent_value.copy(),
            "played": [None if p is None else {n: v.copy() for n, v in vars(p).items()}
                       for p in (self._newest, self._older)],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_entries(self, state)
        self.local.load_state_dict(state["local"])
        self.sent.load_state_dict(state["sent"])
        self._own = restored(state, "own", self._own)
        self.local_value = restored(state, "local_value", self.local_value)
        self.sent_value = restored(state, "sent_value", self.sent_value)
        self._newest, self._older = (None if p is None else PlayedPlan(**p) for p in state["played"])


class ReportingDevice(PlanFollower):
    """Follows its gateway's plan and reports: level, place and the cost of the slot before, added up where they arrive.

    Where it does not know its rank it tosses a coin.
    """

    broadcast = False

    def __init__(self) -> None:
        super().__init__(sampled=False)

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        c = self.network.config
        self.sampled = c.gateway_broadcast != "rank"
        self.messages = {"gateway": 3 * c.num_criticality_levels}
        self._cost = np.zeros((cells, c.num_devices))
        self._level = np.zeros((cells, c.num_devices), np.int64)
        self._bit = np.zeros((cells, c.num_devices), np.int64)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        report = self._report()
        act = super().act(observations, rng)
        assert act.actions is not None
        self._level, self._bit = self.level(observations), act.actions
        return Act(act.actions, messages={"gateway": report})

    def _report(self) -> Array:
        """(B, G, 3 K): costs by level and place, then tasks sent by level."""
        k, g = self.network.config.num_criticality_levels, self.network.config.num_gateways
        cells = len(self._cost)
        place = (np.arange(cells)[:, None] * g + self.network.blocks.gateway) * k + np.clip(self._level, 0, k - 1)
        cost = np.bincount((place * 2 + self._bit).ravel(), self._cost.ravel(), cells * g * k * 2)
        sent = np.bincount(place.ravel(), self._bit.ravel(), cells * g * k)
        return np.concatenate([cost.reshape(cells, g, 2 * k), sent.reshape(cells, g, k)], axis=2)

    def message_bytes(self) -> float:
        """Every device's cost and place on its wire."""
        return COUNT_BYTES * self.network.config.num_devices

    def feedback(self, costs: Array) -> None:
        self._cost = np.asarray(costs, float)

    def state_dict(self) -> dict[str, Any]:
        return {"cost": self._cost.copy(), "level": self._level.copy(), "bit": self._bit.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._cost, self._level = restored(state, "cost", self._cost), restored(state, "level", self._level)
        self._bit = restored(state, "bit", self._bit)


class LearningServer(PruningRule):
    """Learns from its own ledger line which edge time, as a part f of the transmission time, to give everybody.

    A completed task keeps it busy for a time in proportion to f: Q(f) = f rho r_f, with rho what a slot earned per f
    lately, which all fractions share, and r_f how a fraction compares, 1 until it was tried.

    Args:
        exploration: probability of a uniformly drawn fraction in slot t is max(floor, exploration / (1 + t/30)).
        floor: smallest such probability.
    """

    broadcast = False
    messages: Mapping[str, int] = {"gateway": 1}

    def __init__(self, exploration: float = 0.05, floor: float = 0.001) -> None:
        for name, value in (("exploration", exploration), ("floor", floor)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} = {value} is not legal: must be a fraction")
        self.exploration, self.floor = exploration, floor

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.common = np.ones(cells)  # rho
        self.ratio = np.ones((cells, len(FRACTIONS)))  # r
        self.arm = np.zeros(cells, np.int64)
        self.slot = 0

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        gain = self.gain(self.gateway_rows(observations)[..., 0])
        share_random = max(self.floor, self.exploration / (1.0 + self.slot / 30.0))
        explores = rng.random(len(gain)) < share_random
        drawn, best = rng.integers(0, len(FRACTIONS), len(gain)), (self.ratio * FRACTIONS).argmax(axis=1)
        self.arm = np.where(explores, drawn, best)
        self.slot += 1
        share = np.empty(gain.shape)
        for arm in np.unique(self.arm):  # at most nine
            here = self.arm == arm
            share[here] = static_shares(self.network, gain[here], FRACTIONS[arm])
        return Act(decisions={"edge_share": share}, messages={"gateway": share[..., None]})

    def feedback(self, costs: Array) -> None:
        cell = np.arange(len(self.arm))
        earned = -np.asarray(costs, float)[:, 0] / np.asarray(FRACTIONS)[self.arm]
        ratio = np.clip(earned / np.maximum(self.common, np.finfo(float).tiny), 0.0, 2.0)
        self.ratio[cell, self.arm] += RATIO_RATE * (ratio - self.ratio[cell, self.arm])
        self.common += COMMON_RATE * (earned - self.common)

    def message_bytes(self) -> float:
        """Every gateway is told its share; tasks per level need not reach the server."""
        return COUNT_BYTES * self.network.config.num_gateways - self.counts_bytes()

    def state_dict(self) -> dict[str, Any]:
        return {
            "common": self.common.copy(), "ratio": self.ratio.copy(), "arm": self.arm.copy(), "slot": self.slot
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.common, self.ratio = restored(state, "common", self.common), restored(state, "ratio", self.ratio)
        self.arm, self.slot = restored(state, "arm", self.arm), int(state["slot"])


def best_plans(
    tasks: Array, places: Array, kept_most: Array, sent_value: Array, kept_value: Array, drop_cost: float
) -> tuple[Array, Array]:
    """Model (B, G) and tasks of each level to send (B, G, K) of greatest believed value.

    Args:
        tasks: (B, G, K) of each level.
        places: (B, G, K) twice the mean number in front up to which an offloaded task completes.
        kept_most: (B, G, V, K) local tasks up to which one completes.
        sent_value: (B, G) of a completed offloaded task.
        kept_value: (B, G, V) of a completed local one.
        drop_cost: of a task that does not complete.
    """
    lead = tasks.shape[:2]
    k, models = tasks.shape[2], kept_most.shape[2]
    model, sent = np.zeros(lead[0] * lead[1], np.int64), np.zeros((lead[0] * lead[1], k), np.int64)
    _best_plans(
        np.ascontiguousarray(tasks.reshape(-1, k), np.int64), np.ascontiguousarray(places.reshape(-1, k), np.int64),
        np.ascontiguousarray(kept_most.reshape(-1, models, k), np.int64),
        np.ascontiguousarray(sent_value.reshape(-1), float),
        np.ascontiguousarray(kept_value.reshape(-1, models), float), float(drop_cost), model, sent,
    )  # fmt: skip
    return model.reshape(lead), sent.reshape(*lead, k)


@compiled(cache=True)
def _best_plans(
    tasks: Array,
    places: Array,
    kept_most: Array,
    sent_value: Array,
    kept_value: Array,
    drop_cost: float,
    model: Array,
    sent: Array,
) -> None:
    """Fill model and sent tasks: for every model and number of tasks sent, a programme over levels and tasks ahead."""
    for p in range(len(tasks)):
        levels, size = tasks.shape[1], tasks[p].sum()
        best = -np.inf
        for v in range(kept_most.shape[1]):
            for t in range(size + 1):
                kept = size - t
                value, choice = np.full(t + 1, -np.inf), np.zeros((levels, t + 1), np.int64)
                value[0] = 0.0
                for level in range(levels - 1, -1, -1):  # the most critical go first
                    following = np.full(t + 1, -np.inf)
                    local = kept_value[p, v] if kept <= kept_most[p, v, level] else -drop_cost
                    for s in range(t + 1):
                        if value[s] == -np.inf:
                            continue
                        for n in range(min(tasks[p, level], t - s) + 1):
                            each = sent_value[p] if 2 * s + n - 1 <= places[p, level] else -drop_cost
                            total = value[s] + n * each + (tasks[p, level] - n) * local
                            if total > following[s + n]:
                                following[s + n] = total
                                choice[level, s + n] = n
                    value = following
                if value[t] > best:
                    best = value[t]
                    model[p] = v
                    left = t
                    for level in range(levels):
                        sent[p, level] = choice[level, left]
                        left -= choice[level, left]
