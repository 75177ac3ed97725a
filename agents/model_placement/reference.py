"""Near-optimal reference of model placement: per-slot Lagrangian bound, and the plan built from its prices.

Every resource is normalised to 1: band, CPU and free cache of each gateway, relay band, CPU and free cache of the
server. At prices p >= 0 every task takes the best of four options (gateway or server, light or heavy) or nothing; the
sum of what they gain plus the worth of all resources bounds the accuracy of any decision from above. The plan admits
tasks in the order of what they gain at those prices while the resources last.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgemarl.agents.api import CentralController
from edgemarl.agents.model_placement.plan_steps import admit_by_rank, respond
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.caching import admit_in_order
from edgemarl.envs.physics.deadlines import split_deadline_s
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import (
    HEAVY,
    LIGHT,
    ModelPlacement,
    ModelPlacementConfig,
    ModelPlacementDecisions,
    ModelPlacementExogenous,
    ModelPlacementState,
    ModelPlacementTrace,
)

ITERATIONS = 300
PLAN_EVERY = 10
PRICE_START, CACHE_PRICE_START = 5.0, 1.0
PRICE_RANGE = (1e-4, 1e3)
STEP_MAX = 2.0
SLACK = 1e-9
"""Part of each resource and deadline that the plan leaves free, against rounding."""
NOWHERE = -1
"""Option of a task that the plan drops."""

Keep = Literal["used", "none", "all"]


@dataclass(frozen=True)
class Problem:
    """One slot of B cells: seconds that a task needs at a whole resource, and what it gains.

    Axis 0 of the arrays (4, B, G, K) is the option: light, heavy at the gateway; light, heavy at the server.
    """

    first_s: Array  # (B, G, K) upload over the gateway's whole band
    second_s: Array  # (B, G, K) upload over the whole relay band
    cpu_s: Array  # (4, B, G, K)
    cache: Array  # (4, B, G, K) part of the cache that a missing model takes
    deadline_s: Array  # (4, B, G, K) less the first hop where it takes no band
    room_s: Array  # (4, B, G, K) latest computing time that lets the model arrive
    accuracy: Array  # (4, B, G, K); -inf where the model or the task cannot be in time
    hops: float  # 1.0 if relayed tasks take band at the gateway
    free_gateway: Array  # (B, G) free part of the caches
    free_edge: Array  # (B,)


def problem(
    scenario: ModelPlacement, state: ModelPlacementState, exogenous: ModelPlacementExogenous, clairvoyant: bool = False
) -> Problem:
    """The slot as the relaxation sees it.

    Args:
        clairvoyant: every model may be present at once, at no delay, for the space that it takes: what any policy
            could have in its caches, whatever it did before.
    """
    c = scenario.config
    bits = exogenous.model_bits
    here, there = state.cached_gateway != 0, state.cached_edge != 0
    if clairvoyant:
        here = there = np.zeros_like(here)
        late = np.zeros((4, *bits.shape[:3]))
        free_gateway, free_edge = np.ones(bits.shape[:2]), np.ones(bits.shape[0])
    else:
        late = _by_option(scenario.gateway_fetch_s(bits, here, there), scenario.edge_fetch_s(bits, there))
        used_gateway, used_edge = scenario.used_bits(state, exogenous)
        free_gateway, free_edge = 1.0 - used_gateway / c.gateway_cache_bits, 1.0 - used_edge / c.edge_cache_bits
    with np.errstate(divide="ignore"):
        first = exogenous.task_bits / (scenario.device_efficiency(exogenous) * c.gateway_band_hz)
        second = exogenous.task_bits / (scenario.gateway_efficiency(exogenous)[..., None] * c.relay_bandwidth_hz)
    latest = np.broadcast_to(exogenous.deadline_s * (1.0 - SLACK), late.shape)
    room, deadline = latest - late, latest.copy()
    if not c.first_hop_counted_for_relayed:
        deadline[2:] -= first
    feasible = (room > 0) & (deadline > 0) & np.isfinite(first)
    feasible[2:] &= np.isfinite(second)
    noisy = exogenous.noisy[..., None] != 0
    accuracy = np.where(noisy, exogenous.model_accuracy[..., 1, :], exogenous.model_accuracy[..., 0, :])
    deadline = np.where(feasible, deadline, latest)
    return Problem(
        first_s=np.where(np.isfinite(first), first, 1.0),
        second_s=np.where(np.isfinite(second), second, 1.0),
        cpu_s=_by_option(exogenous.model_cycles / c.gateway_cpu_hz, exogenous.model_cycles / c.edge_cpu_hz),
        cache=_by_option(~here * bits / c.gateway_cache_bits, ~there * bits / c.edge_cache_bits),
        deadline_s=deadline,
        room_s=np.where(feasible, room, 0.5 * deadline),
        accuracy=np.where(feasible, _by_option(accuracy, accuracy), -np.inf),
        hops=1.0 if c.first_hop_counted_for_relayed else 0.0,
        free_gateway=np.maximum(free_gateway, 0.0),
        free_edge=np.maximum(free_edge, 0.0),
    )


def _by_option(here: Array, there: Array) -> Array:
    """Two arrays (B, G, K, 2) by level -> (4, B, G, K)."""
    return np.stack([here[..., LIGHT], here[..., HEAVY], there[..., LIGHT], there[..., HEAVY]])


class TaskOptions:
    """What the four options gain at given prices, and the times behind it; takes are computed on demand.

    Transmission times x and computing times y are those of `split_deadline_s`; a relayed task divides x between its
    hops in proportion to their roots.

    Args:
        p: the slot.
        roots: square roots of `first_s`, `second_s` and `cpu_s`.
        price: (3, B, G + 1) per whole band, CPU, cache of each gateway, and of the server in the last place.

    Attributes:
        surplus: (4, B, G, K) accuracy minus cost.
    """

    def __init__(self, p: Problem, roots: tuple[Array, Array, Array], price: Array) -> None:
        self.problem = p
        root_first, root_second, root_cpu = roots
        root = np.sqrt(price[:2])
        gateway, server = root[:, :, :-1, None], root[:, :, -1:, None]
        self.first_root, self.second_root = gateway[0] * root_first, server[0] * root_second
        u, v = np.empty_like(root_cpu), np.empty_like(root_cpu)
        self.hop_root = np.add(self.first_root * p.hops, self.second_root)
        u[:2], u[2:] = self.first_root, self.hop_root
        np.multiply(root_cpu[:2], gateway[1], out=v[:2])
        np.multiply(root_cpu[2:], server[1], out=v[2:])
        self.x, self.y = split_deadline_s(p.deadline_s, u, v, p.room_s)
        gain = p.accuracy - u * u / self.x
        gain -= v * v / self.y
        gain[:2] -= price[2, :, :-1, None] * p.cache[:2]
        gain[2:] -= price[2, :, -1:, None] * p.cache[2:]
        self.surplus = gain

    def usage(self, best: Array, served: Array) -> Array:
        """Use (3, B, G + 1) of every resource if the served tasks (B, G, K) take their best option (B, G, K)."""
        p = self.problem
        index = best.reshape(-1) * best.size
        index += np.arange(best.size)
        x, y, cpu, cache = (values.take(index).reshape(best.shape) for values in (self.x, self.y, p.cpu_s, p.cache))
        there = (best >= 2) & served
        here = served ^ there
        per_s = self.hop_root * there / x
        part = np.empty((2, 3, *best.shape))
        np.multiply(p.first_s, here / x + per_s * p.hops / self.first_root, out=part[0, 0])
        np.multiply(p.second_s / self.second_root, per_s, out=part[1, 0])
        cpu /= y
        for where, flags in enumerate((here, there)):
            np.multiply(cpu, flags, out=part[where, 1])
            np.multiply(cache, flags, out=part[where, 2])
        use = np.empty((3, best.shape[0], best.shape[1] + 1))
        np.add.reduce(part[0], axis=-1, out=use[..., :-1])
        np.add.reduce(part[1].reshape(*part.shape[1:3], -1), axis=-1, out=use[..., -1])
        return use

    def takes(self) -> Array:
        """(4, B, G, K, 6): band, CPU and cache of the gateway, relay band, CPU and cache of the server."""
        p = self.problem
        take = np.zeros((*self.surplus.shape, 6))
        cpu, per_s = p.cpu_s / self.y, self.hop_root / self.x[2:]
        take[:2, ..., 0], take[:2, ..., 1], take[:2, ..., 2] = p.first_s / self.x[:2], cpu[:2], p.cache[:2]
        take[2:, ..., 0] = p.hops * p.first_s / self.first_root * per_s
        take[2:, ..., 3] = p.second_s / self.second_root * per_s
        take[2:, ..., 4], take[2:, ..., 5] = cpu[2:], p.cache[2:]
        return take


@dataclass(frozen=True)
class Relaxation:
    """Upper bound (B,) on the sum of accuracies of the slot, and the options at the iterates kept for plans."""

    bound: Array
    kept: list[TaskOptions]


def relax(p: Problem, iterations: int = ITERATIONS) -> Relaxation:
    """Minimise the Lagrangian bound over prices by multiplicative steps; any iterate's value is a valid bound."""
    cells, g = p.free_gateway.shape
    price, capacity = np.full((3, cells, g + 1), PRICE_START), np.ones((3, cells, g + 1))
    price[2], capacity[2, :, :-1], capacity[2, :, -1] = CACHE_PRICE_START, p.free_gateway, p.free_edge
    roots = np.sqrt(p.first_s), np.sqrt(p.second_s), np.sqrt(p.cpu_s)
    first, second, root_first, root_second = (a.reshape(cells, -1) for a in (p.first_s, p.second_s, *roots[:2]))
    root_cpu, cpu, cache, deadline, room, accuracy = (
        a.reshape(4, cells, -1) for a in (roots[2], p.cpu_s, p.cache, p.deadline_s, p.room_s, p.accuracy)
    )
    options = cpu, cache, deadline, room, accuracy
    bound, kept, value, use = np.full(cells, np.inf), [], np.empty(cells), np.empty_like(price)
    for t in range(iterations):
        respond(first, second, (root_first, root_second), root_cpu, options, p.hops, price, value, use)
        bound = np.minimum(bound, value + np.add.reduce(price * capacity, axis=(0, 2)))
        if t >= iterations // 3 and t % PLAN_EVERY == 0:
            kept.append(TaskOptions(p, roots, price))
        excess = use - capacity
        np.minimum(np.maximum(excess, -STEP_MAX, out=excess), STEP_MAX, out=excess)
        price = price * np.exp(excess / (1.0 + t / 15.0))
        np.minimum(np.maximum(price, PRICE_RANGE[0], out=price), PRICE_RANGE[1], out=price)
    return Relaxation(bound, kept)


def upper_bound(scenario: ModelPlacement, state: ModelPlacementState, exogenous: ModelPlacementExogenous) -> Array:
    """(B,) upper bound on the mean accuracy of this slot from these caches, for any decision."""
    return relax(problem(scenario, state, exogenous)).bound / scenario.config.num_devices


def clairvoyant_bound(scenario: ModelPlacement, exogenous: ModelPlacementExogenous) -> Array:
    """(B,) upper bound on the mean accuracy of this slot for every policy and every content of the caches."""
    return relax(problem(scenario, empty_state(exogenous), exogenous, True)).bound / scenario.config.num_devices


def empty_state(exogenous: ModelPlacementExogenous) -> ModelPlacementState:
    """Empty caches: their `upper_bound` holds for every policy that deletes all models in each slot."""
    return ModelPlacementState(np.zeros(exogenous.model_bits.shape), np.zeros(exogenous.model_bits.shape))


def network_bounds(config: ModelPlacementConfig, network: float = 0, seed: int = 0) -> dict[str, float]:
    """Bounds on the mean accuracy over an episode of one of the networks that a comparison plays.

    Args:
        config: of the comparison; its traces are `episode_slots` long.
        network: index of the network, a whole number >= 0.
        seed: of the comparison.

    Returns:
        `clairvoyant`, valid for every policy, and `no_caching`, for every policy that empties its caches each slot.
    """
    scenario, at = ModelPlacement(config), int(network)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    trace = scenario.sample_trace(rng, at + 1, config.episode_slots).select([at])
    played = [scenario.exogenous(trace, t) for t in range(config.episode_slots)]
    names = [f.name for f in dataclasses.fields(played[0])]
    slots = type(played[0])(**{name: np.concatenate([getattr(slot, name) for slot in played]) for name in names})
    return {
        "clairvoyant": float(clairvoyant_bound(scenario, slots).mean()),
        "no_caching": float(upper_bound(scenario, empty_state(slots), slots).mean()),
    }


@dataclass(frozen=True)
class Packing:
    """A plan: option (B, G, K) of each task or NOWHERE, what it takes of the six resources, what it gains."""

    option: Array
    take: Array  # (B, G, K, 6) as `TaskOptions.takes`
    accuracy: Array  # (B,) planned sum


def pack(p: Problem, kept: list[TaskOptions]) -> Packing:
    """Greedy plans at several prices, all at once; the best of each cell wins.

    Tasks in decreasing order of what their best option gains, options of a task likewise, admitted while each
    resource has room for what the option takes; plans and cells are one array axis.
    """
    many, (cells, g) = len(kept), p.free_gateway.shape
    n, rows = p.first_s[0].size, many * cells
    surplus = np.concatenate([o.surplus for o in kept], axis=1).reshape(4, rows, n)
    need = np.concatenate([o.takes() for o in kept], axis=1).reshape(4, rows, n, 6)
    need[~np.isfinite(surplus)] = np.inf
    every = np.arange(rows)
    order = np.argsort(-surplus.max(axis=0), axis=1, kind="stable").T  # (n, rows)
    ranked = surplus[:, every, order].transpose(1, 2, 0)  # (n, rows, 4)
    ranking = np.argsort(-ranked, axis=-1, kind="stable")
    need = need[ranking, every[:, None], order[..., None]]  # (n, rows, 4, 6)
    room = np.full((rows, g, 3), 1.0 - SLACK)
    room[..., 2] = np.tile(p.free_gateway, (many, 1)) - SLACK
    left = np.full((rows, 3), 1.0 - SLACK)
    left[:, 2] = np.tile(p.free_edge, many) - SLACK
    chosen = np.empty((n, rows), np.int64)
    admit_by_rank(need, np.ascontiguousarray(order // (n // g)), room, left, chosen)
    return _best_packing(p, chosen, order, ranking, need)


def _best_packing(p: Problem, chosen: Array, order: Array, ranking: Array, need: Array) -> Packing:
    """Of all plans of each cell, the one with the highest sum of accuracies; arrays by rank as in `pack`."""
    shape = p.accuracy.shape[1:]
    cells, n, rows = shape[0], *order.shape
    served, place = chosen != NOWHERE, np.maximum(chosen, 0)[..., None]
    option = np.where(served, np.take_along_axis(ranking, place, axis=2)[..., 0], NOWHERE)
    accuracy = p.accuracy.reshape(4, cells, n)[option, np.arange(rows) % cells, order]
    total = np.where(served, accuracy, 0.0).sum(axis=0).reshape(-1, cells)
    best = total.argmax(axis=0) * cells + np.arange(cells)
    wanted = np.take_along_axis(need[:, best], place[:, best, :, None], axis=2)[:, :, 0]
    taken = np.where(served[:, best, None], wanted, 0.0)
    options, take = np.empty((cells, n), np.int64), np.empty((cells, n, 6))
    at = np.arange(cells), order[:, best]
    options[at], take[at] = option[:, best], taken
    return Packing(options.reshape(shape), take.reshape(*shape, 6), total.max(axis=0))


def decisions_of(
    scenario: ModelPlacement, state: ModelPlacementState, exogenous: ModelPlacementExogenous, plan: Packing, keep: Keep
) -> Any:
    """The decisions that carry out a plan: shares in proportion to what it takes, dropped tasks out of the way."""
    served = plan.option != NOWHERE
    local, heavy = (plan.option == LIGHT) | (plan.option == HEAVY), plan.option % 2 == HEAVY
    local, heavy = _dropped(scenario, state, exogenous, plan, served, local, heavy)
    flat = (len(local), -1)

    def scores(take: Array) -> Array:
        most = take.max(axis=-1, keepdims=True)
        weights: Array = 2.0 * take / np.where(most > 0, most, 1.0) - 1.0
        return weights

    relay, edge_cpu = (
        scores(plan.take[..., 3 + r].reshape(flat)).reshape(local.shape) for r in (0, 1)
    )  # one pool of all gateways
    if keep == "used":
        level = np.stack([~heavy, heavy], axis=-1) & served[..., None]
        keep_gateway, keep_edge = level & local[..., None], level & ~local[..., None]
    else:
        keep_gateway = keep_edge = np.full((*local.shape, 2), keep == "all")
    return ModelPlacementDecisions(
        local=local,
        heavy=heavy,
        band_score=scores(plan.take[..., 0]),
        gateway_cpu_score=scores(plan.take[..., 1]),
        relay_score=relay,
        edge_cpu_score=edge_cpu,
        keep_gateway=keep_gateway,
        keep_edge=keep_edge,
    )


def _dropped(
    scenario: ModelPlacement,
    state: ModelPlacementState,
    exogenous: ModelPlacementExogenous,
    plan: Packing,
    served: Array,
    local: Array,
    heavy: Array,
) -> tuple[Array, Array]:
    """Requests of dropped tasks that disturb nobody: a cached model, else light at the server if it fits, else local.

    A request for a cached model or one that comes too late takes no space.
    """
    c, bits = scenario.config, exogenous.model_bits
    here, there = state.cached_gateway != 0, state.cached_edge != 0
    deadline = exogenous.deadline_s[..., None]
    harmless = np.concatenate(
        [
            here | (scenario.gateway_fetch_s(bits, here, there) > deadline),
            there | (scenario.edge_fetch_s(bits, there) > deadline),
        ],
        axis=-1,
    )
    cells = len(bits)
    used_edge = (scenario.used_bits(state, exogenous)[1] / c.edge_cache_bits) + plan.take[..., 5].sum(axis=(1, 2))
    asking = ~served & ~harmless.any(axis=-1)
    size = (bits[..., LIGHT] / c.edge_cache_bits).reshape(cells, -1)
    fits = admit_in_order(size, asking.reshape(cells, -1), used_edge, 1.0 - SLACK).reshape(served.shape)
    option = np.where(harmless.any(axis=-1), harmless.argmax(axis=-1), np.where(fits, 2 + LIGHT, HEAVY))
    return np.where(served, local, option < 2), np.where(served, heavy, option % 2 == HEAVY)


class PlanController(CentralController):
    """The plan as a controller: relax, pack, share; myopic.

    Args:
        keep: models that stay in the caches: those served with in this slot, none, or all.
    """

    scenario: ModelPlacement

    def __init__(self, keep: Keep = "used", name: str | None = None) -> None:
        self.keep, self.name = keep, name or f"plan_{keep}"

    def reset(self, scenario: Scenario, trace: ModelPlacementTrace) -> None:
        if not isinstance(scenario, ModelPlacement):
            raise ValueError(f"controller '{self.name}' plays scenario 'model_placement', got '{scenario.name}'")
        if scenario.config.share_prior != "equal":
            raise ValueError(f"controller '{self.name}' needs share_prior 'equal', got '{scenario.config.share_prior}'")
        super().reset(scenario, trace)

    def decide(
        self, state: ModelPlacementState, exogenous: ModelPlacementExogenous, rng: np.random.Generator
    ) -> ModelPlacementDecisions:
        p = problem(self.scenario, state, exogenous)
        plan = pack(p, relax(p).kept)
        result: ModelPlacementDecisions = decisions_of(self.scenario, state, exogenous, plan, self.keep)
        return result
