"""Near-optimal reference of model placement: per-slot Lagrangian bound, and the plan built from its prices.

Every resource is normalised to 1: band, CPU and free cache of each gateway, relay band, CPU and free cache of the
server. At prices p >= 0 every task takes the best of four options (gateway or server, light or heavy) or nothing; the
sum of what they gain plus the worth of all resources bounds the accuracy of any decision from above. The plan admits
tasks in the order of what they gain at those prices while the resources last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from agents.api import CentralController
from envs.api import Array, Scenario
from envs.physics.caching import admit_in_order
from envs.physics.deadlines import split_deadline_s
from envs.scenarios.model_placement import (
    HEAVY,
    LIGHT,
    ModelPlacement,
    ModelPlacementDecisions,
    ModelPlacementState,
)

ITERATIONS = 300
PLAN_EVERY = 10
PRICE_START, CACHE_PRICE_START = 5.0, 1.0
PRICE_RANGE = (1e-4, 1e3)
STEP_MAX = 2.0
SLACK = 1e-9
"""Part of each resource and deadline that the plan leaves free, against rounding."""
NOWHERE = -1
"""Option of a task that the plan drops; options 0, 1 are light, heavy at the gateway, 2, 3 at the server."""

Keep = Literal["used", "none", "all"]


@dataclass(frozen=True)
class Problem:
    """One slot of B cells: seconds that a task needs at a whole resource, square roots of them, and what it gains."""

    first_s: Array  # (B, G, K) upload over the gateway's whole band; infinite on a dead channel
    second_s: Array  # (B, G, K) upload over the whole relay band
    gateway_cpu_s: Array  # (B, G, K, 2)
    edge_cpu_s: Array  # (B, G, K, 2)
    gateway_cache: Array  # (B, G, K, 2) part of the cache that a missing model takes
    edge_cache: Array  # (B, G, K, 2)
    deadline_s: Array  # (B, G, K)
    relayed_deadline_s: Array  # (B, G, K) less the first hop where it takes no band
    gateway_room_s: Array  # (B, G, K, 2) latest computing time that lets the model arrive
    edge_room_s: Array  # (B, G, K, 2)
    accuracy: Array  # (B, G, K, 4) by option; -inf where the model or the task cannot be in time
    hops: Array  # 1.0 if relayed tasks take band at the gateway
    free_gateway: Array  # (B, G) free part of the caches
    free_edge: Array  # (B,)


def problem(scenario: ModelPlacement, state: Any, exogenous: Any, clairvoyant: bool = False) -> Problem:
    """The slot as the relaxation sees it.

    Args:
        clairvoyant: every model may be present at once, at no delay, for the space that it takes: what any policy
            could have in its caches, whatever it did before.
    """
    c = scenario.config
    bits, cycles = exogenous.model_bits, exogenous.model_cycles
    deadline = exogenous.deadline_s * (1.0 - SLACK)
    with np.errstate(divide="ignore"):
        first = exogenous.task_bits / (scenario.device_efficiency(exogenous) * c.gateway_band_hz)
        second = exogenous.task_bits / (scenario.gateway_efficiency(exogenous)[..., None] * c.relay_bandwidth_hz)
    here, there = state.cached_gateway != 0, state.cached_edge != 0
    if clairvoyant:
        here = there = np.zeros_like(here)
        late_here = late_there = np.zeros(bits.shape)
        free_gateway, free_edge = np.ones(bits.shape[:2]), np.ones(bits.shape[0])
    else:
        late_here, late_there = scenario.gateway_fetch_s(bits, here, there), scenario.edge_fetch_s(bits, there)
        used_gateway, used_edge = scenario.used_bits(state, exogenous)
        free_gateway, free_edge = 1.0 - used_gateway / c.gateway_cache_bits, 1.0 - used_edge / c.edge_cache_bits
    counted = c.first_hop_counted_for_relayed
    relayed_deadline = deadline if counted else deadline - first
    room_here, room_there = deadline[..., None] - late_here, deadline[..., None] - late_there
    alive = np.isfinite(first)
    feasible = np.concatenate(
        [
            (room_here > 0) & alive[..., None],
            (room_there > 0) & (alive & np.isfinite(second) & (relayed_deadline > 0))[..., None],
        ],
        axis=-1,
    )
    noisy = exogenous.noisy[..., None] != 0
    accuracy = np.where(noisy, exogenous.model_accuracy[..., 1, :], exogenous.model_accuracy[..., 0, :])
    safe = np.where(relayed_deadline > 0, relayed_deadline, deadline)
    return Problem(
        first_s=np.where(alive, first, 1.0),
        second_s=np.where(np.isfinite(second), second, 1.0),
        gateway_cpu_s=cycles / c.gateway_cpu_hz,
        edge_cpu_s=cycles / c.edge_cpu_hz,
        gateway_cache=np.where(here, 0.0, bits / c.gateway_cache_bits),
        edge_cache=np.where(there, 0.0, bits / c.edge_cache_bits),
        deadline_s=deadline,
        relayed_deadline_s=safe,
        gateway_room_s=np.where(room_here > 0, room_here, 0.5 * deadline[..., None]),
        edge_room_s=np.where(room_there > 0, room_there, 0.5 * safe[..., None]),
        accuracy=np.where(feasible, np.concatenate([accuracy, accuracy], axis=-1), -np.inf),
        hops=np.asarray(1.0 if counted else 0.0),
        free_gateway=np.maximum(free_gateway, 0.0),
        free_edge=np.maximum(free_edge, 0.0),
    )


@dataclass
class PriceVector:
    """Prices per whole resource: gateways (B, G, 3) band, CPU, cache; server (B, 3) relay band, CPU, cache."""

    gateway: Array
    edge: Array


def options(p: Problem, price: PriceVector) -> tuple[Array, Array, Array]:
    """What each option gains and takes at given prices.

    Returns:
        surplus (B, G, K, 4): accuracy minus cost; take (B, G, K, 4, 3) of the gateway's band, CPU and cache;
        take_edge (B, G, K, 2, 3) of the relay band, the server's CPU and cache, for the two options there.
    """
    band, cpu, cache = (price.gateway[:, :, r, None] for r in range(3))
    relay, edge_cpu, edge_cache = (price.edge[:, r, None, None] for r in range(3))
    u = np.sqrt(band * p.first_s)[..., None]
    v = np.sqrt(cpu[..., None] * p.gateway_cpu_s)
    x, y = split_deadline_s(p.deadline_s[..., None], u, v, p.gateway_room_s)
    shape = p.accuracy.shape
    take = np.zeros((*shape, 3))
    take[..., :2, 0] = p.first_s[..., None] / x
    take[..., :2, 1] = p.gateway_cpu_s / y
    take[..., :2, 2] = p.gateway_cache
    cost = np.empty(shape)
    cost[..., :2] = u * u / x + v * v / y + cache[..., None] * p.gateway_cache
    r1, r2 = u * p.hops, np.sqrt(relay * p.second_s)[..., None]
    r3 = np.sqrt(edge_cpu[..., None] * p.edge_cpu_s)
    hop = r1 + r2
    x, y = split_deadline_s(p.relayed_deadline_s[..., None], hop, r3, p.edge_room_s)
    take[..., 2:, 0] = p.hops * p.first_s[..., None] * hop / (x * np.where(r1 > 0, r1, 1.0))
    take_edge = np.empty((*shape[:-1], 2, 3))
    take_edge[..., 0] = p.second_s[..., None] * hop / (x * r2)
    take_edge[..., 1] = p.edge_cpu_s / y
    take_edge[..., 2] = p.edge_cache
    cost[..., 2:] = hop * hop / x + r3 * r3 / y + edge_cache[..., None] * p.edge_cache
    return p.accuracy - cost, take, take_edge


def _usage(best: Array, gain: Array, take: Array, take_edge: Array) -> tuple[Array, Array]:
    """Use of each resource if every task takes its best option: gateways (B, G, 3), server (B, 3)."""
    chosen = best[..., None] == np.arange(4)
    chosen &= (gain > 0)[..., None]
    weight = chosen.astype(np.float64)
    cells, g, k, _ = weight.shape
    gateway = np.matmul(weight.reshape(cells, g, 1, k * 4), take.reshape(cells, g, k * 4, 3))[:, :, 0]
    edge = np.matmul(weight[..., 2:].reshape(cells, 1, -1), take_edge.reshape(cells, -1, 3))[:, 0]
    return gateway, edge


@dataclass(frozen=True)
class Relaxation:
    """Upper bound (B,) on the sum of accuracies of the slot, and the prices at the iterates kept for plans."""

    bound: Array
    prices: list[PriceVector]


def relax(p: Problem, iterations: int = ITERATIONS) -> Relaxation:
    """Minimise the Lagrangian bound over prices by multiplicative steps; any iterate's value is a valid bound."""
    cells, g = p.free_gateway.shape
    price = PriceVector(
        np.tile([PRICE_START, PRICE_START, CACHE_PRICE_START], (cells, g, 1)),
        np.tile([PRICE_START, PRICE_START, CACHE_PRICE_START], (cells, 1)),
    )
    capacity, capacity_edge = np.ones_like(price.gateway), np.ones_like(price.edge)
    capacity[..., 2], capacity_edge[..., 2] = p.free_gateway, p.free_edge
    bound, kept = np.full(cells, np.inf), []
    for t in range(iterations):
        surplus, take, take_edge = options(p, price)
        best = surplus.argmax(axis=-1)
        gain = np.maximum(surplus.max(axis=-1), 0.0)
        worth = (price.gateway * capacity).sum(axis=(1, 2)) + (price.edge * capacity_edge).sum(axis=1)
        bound = np.minimum(bound, gain.sum(axis=(1, 2)) + worth)
        if t >= iterations // 3 and t % PLAN_EVERY == 0:
            kept.append(price)
        use, use_edge = _usage(best, gain, take, take_edge)
        eta = 1.0 / (1.0 + t / 15.0)
        price = PriceVector(
            _moved(price.gateway, use - capacity, eta), _moved(price.edge, use_edge - capacity_edge, eta)
        )
    return Relaxation(bound, kept)


def _moved(price: Array, excess: Array, eta: float) -> Array:
    moved: Array = np.clip(price * np.exp(eta * np.clip(excess, -STEP_MAX, STEP_MAX)), *PRICE_RANGE)
    return moved


def upper_bound(scenario: ModelPlacement, state: Any, exogenous: Any) -> Array:
    """(B,) upper bound on the mean accuracy of this slot from these caches, for any decision."""
    return relax(problem(scenario, state, exogenous)).bound / scenario.config.num_devices


def clairvoyant_bound(scenario: ModelPlacement, exogenous: Any) -> Array:
    """(B,) upper bound on the mean accuracy of this slot for every policy and every content of the caches."""
    return relax(problem(scenario, empty_state(exogenous), exogenous, True)).bound / scenario.config.num_devices


def empty_state(exogenous: Any) -> ModelPlacementState:
    """Empty caches: their `upper_bound` holds for every policy that deletes all models in each slot."""
    return ModelPlacementState(np.zeros(exogenous.model_bits.shape), np.zeros(exogenous.model_bits.shape))


@dataclass(frozen=True)
class Packing:
    """A plan: option (B, G, K) of each task or NOWHERE, what it takes (B, G, K, 3) of its gateway and of the server."""

    option: Array
    take: Array
    take_edge: Array
    accuracy: Array  # (B,) planned sum


def pack(p: Problem, prices: list[PriceVector]) -> Packing:
    """Greedy plans at several prices, all at once; the best of each cell wins.

    Tasks in decreasing order of what their best option gains, options of a task likewise, admitted while each
    resource has room for what the option takes. The loop is over ranks; plans and cells are one array axis.
    """
    many = len(prices)
    cells, g, k, _ = p.accuracy.shape
    n, rows = g * k, many * cells
    found = [options(p, price) for price in prices]
    surplus, take, take_edge = (np.concatenate([f[part] for f in found]) for part in range(3))
    surplus, need = surplus.reshape(rows, n, 4), np.zeros((rows, n, 4, 6))
    need[..., :3] = take.reshape(rows, n, 4, 3)
    need[:, :, 2:, 3:] = take_edge.reshape(rows, n, 2, 3)
    order = np.argsort(-surplus.max(axis=-1), axis=1, kind="stable")
    ranking = np.argsort(-surplus, axis=-1, kind="stable")
    allowed = np.isfinite(np.take_along_axis(surplus, ranking, axis=-1))
    need = np.take_along_axis(need, ranking[..., None], axis=2)
    room = np.ones((rows, g + 1, 3)) - SLACK
    room[:, :g, 2], room[:, g, 2] = np.tile(p.free_gateway - SLACK, (many, 1)), np.tile(p.free_edge - SLACK, many)
    every = np.arange(rows)
    chosen = np.full((rows, n), NOWHERE)
    for rank in range(n):
        task = order[:, rank]
        at = task // k
        want = need[every, task]
        fits = (want[..., :3] <= room[every, at][:, None]).all(axis=-1)
        fits &= (want[..., 3:] <= room[:, g][:, None]).all(axis=-1) & allowed[every, task]
        first = fits.argmax(axis=1)
        taken = want[every, first] * fits[every, first][:, None]
        room[every, at] -= taken[:, :3]
        room[:, g] -= taken[:, 3:]
        chosen[every, task] = np.where(fits[every, first], first, NOWHERE)
    return _best_packing(p, chosen, ranking, need, many)


def _best_packing(p: Problem, chosen: Array, ranking: Array, need: Array, many: int) -> Packing:
    """Of `many` plans of each cell, the one with the highest sum of accuracies."""
    shape = p.accuracy.shape[:3]
    cells, n = shape[0], chosen.shape[1]
    served, place = chosen != NOWHERE, np.maximum(chosen, 0)[..., None]
    option = np.where(served, np.take_along_axis(ranking, place, axis=2)[..., 0], NOWHERE)
    value = np.take_along_axis(
        np.tile(p.accuracy.reshape(cells, n, 4), (many, 1, 1)), np.maximum(option, 0)[..., None], axis=2
    )[..., 0]
    total = np.where(served, value, 0.0).sum(axis=1).reshape(many, cells)
    best = total.argmax(axis=0) * cells + np.arange(cells)
    take = np.take_along_axis(need[best], place[best][..., None], axis=2)[:, :, 0] * served[best][..., None]
    return Packing(
        option[best].reshape(shape),
        take[..., :3].reshape(*shape, 3),
        take[..., 3:].reshape(*shape, 3),
        total.max(axis=0),
    )


def decisions_of(scenario: ModelPlacement, state: Any, exogenous: Any, plan: Packing, keep: Keep) -> Any:
    """The decisions that carry out a plan: shares in proportion to what it takes, dropped tasks out of the way."""
    served = plan.option != NOWHERE
    local, heavy = (plan.option == LIGHT) | (plan.option == HEAVY), plan.option % 2 == HEAVY
    local, heavy = _dropped(scenario, state, exogenous, plan, served, local, heavy)
    flat = (len(local), -1)

    def scores(take: Array) -> Array:
        most = take.max(axis=-1, keepdims=True)
        found: Array = 2.0 * take / np.where(most > 0, most, 1.0) - 1.0
        return found

    relay, edge_cpu = (
        scores(plan.take_edge[..., r].reshape(flat)).reshape(local.shape) for r in (0, 1)
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
    scenario: ModelPlacement, state: Any, exogenous: Any, plan: Packing, served: Array, local: Array, heavy: Array
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
    used_edge = (scenario.used_bits(state, exogenous)[1] / c.edge_cache_bits) + plan.take_edge[..., 2].sum(axis=(1, 2))
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

    def __init__(self, keep: Keep = "used", name: str | None = None) -> None:
        self.keep, self.name = keep, name or f"plan_{keep}"

    def reset(self, scenario: Scenario, trace: Any) -> None:
        if not isinstance(scenario, ModelPlacement):
            raise ValueError(f"controller '{self.name}' plays scenario 'model_placement', got '{scenario.name}'")
        if scenario.config.share_prior != "equal":
            raise ValueError(f"controller '{self.name}' needs share_prior 'equal', got '{scenario.config.share_prior}'")
        super().reset(scenario, trace)

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        p = problem(self.scenario, state, exogenous)
        plan = pack(p, relax(p).prices)
        return decisions_of(self.scenario, state, exogenous, plan, self.keep)
