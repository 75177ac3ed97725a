"""A slot of `model_pruning`, compiled: every task, gateway and server of every cell.

Tasks of one gateway, criticality level and place (0 local, 1 offloaded) are a class and share their fate, but for those
that no longer fit into the slot. Equation numbers are the paper's, errata those of docs/model_pruning.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.airtime import TRANSMISSION_S_MAX, expected_wait_s
from edgemarl.envs.physics.elementary import pairwise_sum
from edgemarl.envs.physics.inference import repair_share

TOLERANCE = 1e-9
"""Absolute tolerance of every comparison with a bound."""
MINI_SLOTS_MAX = 2.0**53
"""Stands for "never": more mini-slots than that are not counted one by one."""
KEPT, ACCURACY, LOCAL_DEADLINE, OFFLOAD_DEADLINE, EDGE_RATE = range(-1, 4)
"""Why a class as a whole is dropped, or that it is not."""
DROP_REASONS = ("accuracy", "local_deadline", "offload_deadline", "edge_rate", "slot_capacity")
"""Why a task is dropped: the reasons of classes, and a full slot."""
DROPS = len(DROP_REASONS)
USES = ("local", "band", "edge", "waited_s", "cost")
LOCAL, BAND, EDGE, WAITED, COST = range(len(USES))
"""What is known of a gateway's cell: shares of local CPU, band and server in use, delays of its tasks, its cost."""
METRICS = (
    *("utilisation", "local_utilisation", "bandwidth_utilisation", "edge_utilisation", "drop_ratio"),
    *(f"drop_{reason}_ratio" for reason in DROP_REASONS),
    *("mean_delay_s", "mean_accuracy", "offload_ratio", "mean_pruning_rate", "completed_ratio", "delay_per_task_s"),
    "accuracy_per_task",
)


class PruningConstants(NamedTuple):
    """What a slot needs of a config."""

    slot_s: float
    task_flop: float
    edge_flops: float
    edge_share_regulariser: float
    edge_model_accuracy: float
    drop_penalty: float
    utilisation_weight: float
    delay_weight: float
    idle_share_allowed: float  # 0 or 1, as the following
    dropped_count: float


class PruningTables(NamedTuple):
    """Gateways, levels and models of a config."""

    size: Array  # (G,) int64 devices of each gateway
    deadline_s: Array  # (K,)
    required_accuracy: Array  # (K,)
    accuracies: Array  # (V,)
    local_task_s: Array  # (V,)
    pruning_rates: Array  # (V,)


class Uplink(NamedTuple):
    """What the channel means for a gateway; all (B, G)."""

    transmission_s: Array
    reserved_s: Array
    capacity_tasks: Array  # int64


class TaskClasses(NamedTuple):
    """Tasks of a gateway by criticality level and place; (K, 2), or with axes of cells and gateways before."""

    tasks: Array  # int64
    completed: Array  # int64
    delay_s: Array
    reason: Array  # int8
    room: Array  # int64, (K,)


class PruningOutcome(NamedTuple):
    """What the slot writes."""

    dropped: Array  # (B, N) int64
    device: Array  # (2, B, N) ledger entry, expected delay
    share: Array  # (B, G) of the server, repaired
    uses: Array  # (USES, B, G)
    metrics: Array  # (METRICS, B)


_wait_s = compiled(error_model="numpy")(expected_wait_s)
_NUMBERS, _TABLE = (types.Array(types.float64, d, "C", readonly=True) for d in (1, 2))
_INTEGERS, _INTEGER_TABLE = (types.Array(types.int64, d, "C", readonly=True) for d in (1, 2))
_CONSTANTS = types.NamedUniTuple(types.float64, len(PruningConstants._fields), PruningConstants)
_TABLES = types.NamedTuple([types.int64[::1], *[types.float64[::1]] * 5], PruningTables)
_UPLINK = types.NamedTuple([types.float64[:, ::1], types.float64[:, ::1], types.int64[:, ::1]], Uplink)
_CLASSES = types.NamedTuple(
    [
        *(types.int64[:, :, :, ::1], types.int64[:, :, :, ::1], types.float64[:, :, :, ::1]),
        *(types.int8[:, :, :, ::1], types.int64[:, :, ::1]),
    ],
    TaskClasses,
)
_OUTCOME = types.NamedTuple(
    [
        *(types.int64[:, ::1], types.float64[:, :, ::1], types.float64[:, ::1]),
        *(types.float64[:, :, ::1], types.float64[:, ::1]),
    ],
    PruningOutcome,
)


@compiled(
    types.void(_TABLE, _NUMBERS, _INTEGERS, *[types.float64] * 4, types.int64, _UPLINK), error_model="numpy", cache=True
)
def link_gateways(
    gain: Array, band_hz: Array, size: Array, noise_density_w_per_hz: float, transmit_power_w: float, task_bits: float,
    slot_s: float, mini_slots_per_slot: int, out: Uplink,
) -> None:  # fmt: skip
    """Transmission time, reserved airtime and capacity of gateways (eqs. 5, 6; E3); times of one without devices are 0.

    Args:
        gain: (B, G) channel gain.
        band_hz: (G,) band of each gateway.
        size: (G,) its devices.
        noise_density_w_per_hz, transmit_power_w, task_bits, slot_s, mini_slots_per_slot: of the config.
        out: what is written.
    """
    mini_slot_s = slot_s / mini_slots_per_slot
    for b in range(gain.shape[0]):
        for g in range(gain.shape[1]):
            snr = gain[b, g] / (noise_density_w_per_hz * band_hz[g]) * transmit_power_w
            rate_bps = band_hz[g] * np.log2(1.0 + snr)
            time_s = task_bits / max(rate_bps, task_bits / TRANSMISSION_S_MAX) if size[g] > 0 else 0.0
            reserved = np.int64(max(1.0, min(np.ceil(time_s / mini_slot_s - TOLERANCE), MINI_SLOTS_MAX)))
            out.transmission_s[b, g] = time_s
            out.reserved_s[b, g] = reserved * mini_slot_s if size[g] > 0 else 0.0
            out.capacity_tasks[b, g] = mini_slots_per_slot // reserved


@compiled(error_model="numpy")
def _follow(
    transmission_s: float,
    reserved_s: float,
    capacity: int,
    edge_s: float,
    model: int,
    of: PruningTables,
    out: TaskClasses,
) -> None:
    """Delays of a gateway's classes, which of them are dropped, and how many of the others complete (out)."""
    levels = len(of.deadline_s)
    here = 0
    for k in range(levels):
        here += out.tasks[k, 0]
    batch_s, on_air_s = of.local_task_s[model] * here, transmission_s + edge_s
    starved = edge_s > transmission_s + TOLERANCE
    ahead = 0
    for k in range(levels - 1, -1, -1):  # the most critical first
        deadline_s, sent = of.deadline_s[k] + TOLERANCE, out.tasks[k, 1]
        delay_s = _wait_s(ahead, sent, reserved_s) + on_air_s
        inaccurate = of.accuracies[model] < of.required_accuracy[k] - TOLERANCE
        local = ACCURACY if inaccurate else (LOCAL_DEADLINE if batch_s > deadline_s else KEPT)
        offloaded = EDGE_RATE if starved else (OFFLOAD_DEADLINE if delay_s > deadline_s else KEPT)
        room = max(capacity - ahead, 0)
        out.delay_s[k, 0], out.delay_s[k, 1] = batch_s, delay_s
        out.reason[k, 0], out.reason[k, 1], out.room[k] = local, offloaded, room
        out.completed[k, 0] = out.tasks[k, 0] if local == KEPT else 0
        out.completed[k, 1] = min(sent, room) if offloaded == KEPT else 0
        ahead += sent


@compiled(error_model="numpy")
def _use(
    transmission_s: float, edge_s: float, model: int, n: int, of: PruningTables, c: PruningConstants,
    classes: TaskClasses, held: Array,
) -> tuple[float, float, float, float, float]:  # fmt: skip
    """`USES` of a gateway's cell; `held` (2K,) is room to work in."""
    levels = len(of.deadline_s)
    here = there = lost = 0
    for k in range(levels):
        for place in range(2):
            held[2 * k + place] = classes.completed[k, place] * classes.delay_s[k, place]
            lost += classes.tasks[k, place] - classes.completed[k, place]
        if c.dropped_count != 0.0:
            here, there = here + classes.tasks[k, 0], there + classes.tasks[k, 1]
        else:
            here, there = here + classes.completed[k, 0], there + classes.completed[k, 1]
    local = of.local_task_s[model] * here / c.slot_s  # (12)
    band = transmission_s * there / c.slot_s  # (13)
    edge = edge_s * there / c.slot_s  # (14)
    waited_s: float = pairwise_sum(held, 0, 2 * levels)
    cost = c.drop_penalty / n * lost - c.utilisation_weight * (local + band + edge)
    return local, band, edge, waited_s, cost + c.delay_weight / (n * c.slot_s) * waited_s


@compiled(types.void(_UPLINK, _TABLE, _INTEGER_TABLE, _TABLES, _CLASSES), error_model="numpy", cache=True)
def run_classes(links: Uplink, edge_s: Array, model: Array, of: PruningTables, out: TaskClasses) -> None:
    """Delays, drops and completed tasks of every class of every gateway (B, G, K, 2), from `out.tasks`."""
    for b in range(len(edge_s)):
        for g in range(edge_s.shape[1]):
            one = TaskClasses(out.tasks[b, g], out.completed[b, g], out.delay_s[b, g], out.reason[b, g], out.room[b, g])
            _follow(
                links.transmission_s[b, g], links.reserved_s[b, g], links.capacity_tasks[b, g], edge_s[b, g],
                model[b, g], of, one,
            )  # fmt: skip


@compiled(error_model="numpy")
def _empty_classes(levels: int) -> TaskClasses:
    return TaskClasses(
        np.empty((levels, 2), np.int64), np.empty((levels, 2), np.int64), np.empty((levels, 2)),
        np.empty((levels, 2), np.int8), np.empty(levels, np.int64),
    )  # fmt: skip


@compiled(
    types.void(
        types.Array(types.int64, 4, "C", readonly=True), _UPLINK, _TABLE, _INTEGER_TABLE, _TABLES, _CONSTANTS,
        types.int64, types.float64[:, :, ::1], types.float64[:, :, ::1],
    ), error_model="numpy", cache=True,
)  # fmt: skip
def run_alternatives(
    count: Array, links: Uplink, edge_s: Array, model: Array, of: PruningTables, c: PruningConstants, n: int,
    moved: Array, models: Array,
) -> None:  # fmt: skip
    """Cost of each gateway's cell after one task changed its place, and under every model; all else stays.

    Args:
        count: (B, G, K, 2) tasks by class.
        links, edge_s, model, of, c, n: as in `run_slot`.
        moved: written, (B, G, 2K): at 2 l + p after a task of level l left place p; where there is none: unchanged.
        models: written, (B, G, V).
    """
    levels = count.shape[2]
    one, held = _empty_classes(levels), np.empty(2 * levels)
    for b in range(len(count)):
        for g in range(count.shape[1]):
            link = links.transmission_s[b, g], links.reserved_s[b, g], links.capacity_tasks[b, g], edge_s[b, g]
            for change in range(2 * levels):
                one.tasks[:] = count[b, g]
                k, place = change // 2, change % 2
                if one.tasks[k, place] > 0:
                    one.tasks[k, place] -= 1
                    one.tasks[k, 1 - place] += 1
                _follow(*link, model[b, g], of, one)
                moved[b, g, change] = _use(link[0], link[3], model[b, g], n, of, c, one, held)[COST]
            one.tasks[:] = count[b, g]
            for v in range(len(of.accuracies)):
                _follow(*link, v, of, one)
                models[b, g, v] = _use(link[0], link[3], v, n, of, c, one, held)[COST]


@compiled(error_model="numpy")
def _book(
    level: Array, offload: Array, transmission_s: Array, of: PruningTables, c: PruningConstants, classes: TaskClasses,
    rank: Array, dropped: Array, cost: Array, delay_s: Array,
) -> None:  # fmt: skip
    """Dropped 0/1, ledger entry and expected delay of the devices of a cell (out); low indices keep their room."""
    n, i = len(level), 0
    per_task, per_s = c.drop_penalty / n, c.delay_weight / (n * c.slot_s)
    for g in range(len(of.size)):
        rank[:] = 0
        value = c.utilisation_weight / c.slot_s * transmission_s[g]
        for _ in range(of.size[g]):
            k, place = level[i], 1 if offload[i] else 0
            kept = classes.reason[g, k, place] == KEPT
            if place == 1:
                kept = kept and rank[k] < classes.room[g, k]
                rank[k] += 1
            earned = value if place == 1 else 0.0
            late_s = classes.delay_s[g, k, place]
            gone_cost = per_task - (earned if c.dropped_count != 0.0 else 0.0)
            dropped[i] = 0 if kept else 1
            cost[i] = per_s * late_s - earned if kept else gone_cost
            delay_s[i] = late_s
            i += 1


@compiled(error_model="numpy")
def _measure(
    b: int,
    n: int,
    model: Array,
    of: PruningTables,
    c: PruningConstants,
    classes: TaskClasses,
    held: Array,
    out: PruningOutcome,
) -> None:
    """The metrics of a cell (out); `held` (G,) is room to work in."""
    gateways, levels = len(of.size), len(of.deadline_s)
    lost, done, sent = np.zeros(DROPS, np.int64), np.zeros(2, np.int64), 0
    for g in range(gateways):
        right = 0
        for k in range(levels):
            for place in range(2):
                missing = classes.tasks[g, k, place] - classes.completed[g, k, place]
                reason = classes.reason[g, k, place]
                lost[DROPS - 1 if reason == KEPT else reason] += missing
                done[place] += classes.completed[g, k, place]
            right += classes.completed[g, k, 0]
            sent += classes.tasks[g, k, 1]
        held[g] = right * of.accuracies[model[g]]
    right = pairwise_sum(held, 0, gateways) + done[1] * c.edge_model_accuracy
    for g in range(gateways):
        held[g] = of.pruning_rates[model[g]]
    pruned = pairwise_sum(held, 0, gateways) / gateways
    used = np.empty(4)
    for u in range(4):
        used[u] = pairwise_sum(out.uses[u, b], 0, gateways)
    at, completed = out.metrics, done[0] + done[1]
    total = max(completed, 1)
    at[0, b], at[1, b], at[2, b], at[3, b] = used[0] + used[1] + used[2], used[0], used[1], used[2]
    at[4, b] = lost.sum() / n
    for r in range(DROPS):
        at[5 + r, b] = lost[r] / n
    at[10, b], at[11, b], at[12, b], at[13, b] = used[WAITED] / total, right / total, sent / n, pruned
    at[14, b], at[15, b], at[16, b] = completed / n, used[WAITED] / n, right / n


@compiled(
    types.int64(
        _INTEGER_TABLE, types.Array(types.boolean, 2, "C", readonly=True), _INTEGER_TABLE, _TABLE, _UPLINK, _TABLES,
        _CONSTANTS, _OUTCOME,
    ), error_model="numpy", cache=True,
)  # fmt: skip
def run_slot(
    level: Array, offload: Array, model: Array, raw_share: Array, links: Uplink, of: PruningTables, c: PruningConstants,
    out: PruningOutcome,
) -> int:  # fmt: skip
    """The slot of all cells: shares, delays, drops, ledger and metrics.

    Args:
        level: (B, N) criticality level of each task.
        offload: (B, N) whether it is sent to the server.
        model: (B, G) index of each gateway's pruned model.
        raw_share: (B, G) split of the server before its repair.
        links: of the slot's channel.
        of, c: the config's.
        out: what is written.

    Returns:
        0, or 1 if a level, a model or a share is not legal; then nothing is written.
    """
    cells, n = level.shape
    gateways, levels = len(of.size), len(of.deadline_s)
    for b in range(cells):
        for i in range(n):
            if level[b, i] < 0 or level[b, i] >= levels:
                return 1
        for g in range(gateways):
            if model[b, g] < 0 or model[b, g] >= len(of.accuracies) or not np.isfinite(raw_share[b, g]):
                return 1
    count = np.empty((gateways, levels, 2), np.int64)
    classes = TaskClasses(
        count, np.empty_like(count), np.empty(count.shape), np.empty(count.shape, np.int8),
        np.empty((gateways, levels), np.int64),
    )  # fmt: skip
    edge_s, held, rank = np.empty(gateways), np.empty(max(gateways, 2 * levels)), np.empty(levels, np.int64)
    active = np.empty(gateways, np.bool_)
    for b in range(cells):
        count[:] = 0
        i = 0
        for g in range(gateways):
            for _ in range(of.size[g]):
                count[g, level[b, i], 1 if offload[b, i] else 0] += 1
                i += 1
        for g in range(gateways):
            active[g] = count[g, :, 1].any()
        repair_share(raw_share[b], active, c.idle_share_allowed != 0.0, out.share[b])
        for g in range(gateways):
            edge_s[g] = c.task_flop / (c.edge_flops * (out.share[b, g] + c.edge_share_regulariser))  # (3)
            one = TaskClasses(count[g], classes.completed[g], classes.delay_s[g], classes.reason[g], classes.room[g])
            time_s = links.transmission_s[b, g]
            _follow(time_s, links.reserved_s[b, g], links.capacity_tasks[b, g], edge_s[g], model[b, g], of, one)
            uses = _use(time_s, edge_s[g], model[b, g], n, of, c, one, held)
            for u in range(len(uses)):
                out.uses[u, b, g] = uses[u]
        _book(
            level[b], offload[b], links.transmission_s[b], of, c, classes, rank, out.dropped[b], out.device[0, b],
            out.device[1, b],
        )  # fmt: skip
        _measure(b, n, model[b], of, c, classes, held, out)
    return 0
