"""The two inner loops of the plan of `reference.py`, compiled: what tasks take at given prices, and packing by rank.

Sums are taken in NumPy's order, so that plans and bounds are those of the formulas in `reference.TaskOptions`.
"""

from __future__ import annotations

import numpy as np
from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.elementary import pairwise_sum

RESOURCES = 3
"""Band, CPU and cache, of a gateway or of the server."""
_ROWS, _OPTIONS = (types.Array(types.float64, d, "C", readonly=True) for d in (2, 3))


@compiled(inline="always", error_model="numpy")
def _option(
    u: float, v: float, deadline_s: float, room_s: float, accuracy: float, rent: float
) -> tuple[float, float, float]:
    """Accuracy less cost of an option, and its times x and y of `deadlines.split_deadline_s`."""
    y = min(deadline_s * (v / (u + v)), room_s)
    x = deadline_s - y
    return accuracy - u * u / x - v * v / y - rent, x, y


@compiled(error_model="numpy")
def _respond(
    first: Array, second: Array, roots: tuple[Array, Array, Array], options: tuple[Array, Array, Array, Array, Array],
    hops: float, price: Array, b: int, g: int, k: int, here: Array, there: Array, gain: Array,
) -> None:  # fmt: skip
    """What the tasks of a gateway gain with their best option, and what it takes of each resource (out)."""
    root_first, root_second, root_cpu = roots
    cpu_s, cache, deadline_s, room_s, accuracy = options
    servers = price.shape[2] - 1
    band, relay = np.sqrt(price[0, b, g]), np.sqrt(price[0, b, servers])
    cpu, edge_cpu, rent, edge_rent = (
        np.sqrt(price[1, b, g]), np.sqrt(price[1, b, servers]), price[2, b, g], price[2, b, servers],
    )  # fmt: skip
    for j in range(k):
        i = np.uintp(g * k + j)
        u, second_root = band * root_first[b, i], relay * root_second[b, i]
        hop = u * hops + second_root
        best, x, y = _option(
            u, root_cpu[0, b, i] * cpu, deadline_s[0, b, i], room_s[0, b, i], accuracy[0, b, i], rent * cache[0, b, i]
        )
        work, space, is_there = cpu_s[0, b, i], cache[0, b, i], False
        for o in range(1, 4):
            far = o >= 2
            root = root_cpu[o, b, i] * (edge_cpu if far else cpu)
            owed = (edge_rent if far else rent) * cache[o, b, i]
            value, x_o, y_o = _option(
                hop if far else u, root, deadline_s[o, b, i], room_s[o, b, i], accuracy[o, b, i], owed
            )
            better = value > best
            best, x, y = value if better else best, x_o if better else x, y_o if better else y
            work, space = cpu_s[o, b, i] if better else work, cache[o, b, i] if better else space
            is_there = far if better else is_there
        served = best > 0.0
        at_gateway, at_server = (1.0 if served and not is_there else 0.0), (1.0 if served and is_there else 0.0)
        per_s = hop * at_server / x
        gain[i] = max(best, 0.0)
        here[0, i] = first[b, i] * (at_gateway / x + per_s * hops / u)
        there[0, i] = second[b, i] / second_root * per_s
        here[1, i], there[1, i] = work / y * at_gateway, work / y * at_server
        here[2, i], there[2, i] = space * at_gateway, space * at_server


@compiled(
    types.void(
        *(_ROWS, _ROWS, types.UniTuple(_ROWS, 2), _OPTIONS, types.UniTuple(_OPTIONS, 5), types.float64, _OPTIONS),
        *(types.float64[::1], types.float64[:, :, ::1]),
    ),
    error_model="numpy",
    cache=True,
)
def respond(
    first_s: Array, second_s: Array, hop_roots: tuple[Array, Array], root_cpu: Array,
    options: tuple[Array, Array, Array, Array, Array], hops: float, price: Array, value: Array, use: Array,
) -> None:  # fmt: skip
    """What all tasks gain with their best options at some prices, and how much of each resource they use then.

    Args:
        first_s, second_s: (B, N) as in `reference.Problem`.
        hop_roots: their square roots.
        root_cpu: (4, B, N) square roots of the first of `options`.
        options: (4, B, N) `cpu_s`, `cache`, `deadline_s`, `room_s` and `accuracy` of `reference.Problem`.
        hops: 1.0 if relayed tasks take band at the gateway.
        price: (3, B, G + 1).
        value: out, (B,).
        use: out, (3, B, G + 1).
    """
    cells, n = first_s.shape
    gateways = price.shape[2] - 1
    k = n // gateways
    here, there, gain = np.empty((RESOURCES, n)), np.empty((RESOURCES, n)), np.empty(n)
    for b in range(cells):
        for g in range(gateways):
            _respond(
                first_s, second_s, (hop_roots[0], hop_roots[1], root_cpu), options, hops, price, b, g, k, here, there,
                gain,
            )  # fmt: skip
        value[b] = pairwise_sum(gain, 0, n)
        for r in range(RESOURCES):
            for g in range(gateways):
                use[r, b, g] = pairwise_sum(here[r], g * k, k)
            use[r, b, gateways] = pairwise_sum(there[r], 0, n)


@compiled(
    types.void(
        types.Array(types.float64, 4, "C", readonly=True), types.Array(types.int64, 2, "C", readonly=True),
        types.float64[:, :, ::1], types.float64[:, ::1], types.int64[:, ::1],
    ),
    error_model="numpy",
    cache=True,
)  # fmt: skip
def admit_by_rank(need: Array, gateway: Array, room: Array, left: Array, chosen: Array) -> None:
    """Tasks in order of rank, options of a task likewise, are admitted where everything that they take is left.

    Args:
        need: (n, rows, 4, 6) what an option takes of its gateway's and the server's resources, by rank.
        gateway: (n, rows) of the task of each rank.
        room: (rows, G, 3) left at the gateways; becomes what is left at the end.
        left: (rows, 3) at the server, likewise.
        chosen: out, (n, rows), place of the option among those of its task; -1 for none.
    """
    ranks, rows = gateway.shape
    for row in range(rows):
        for rank in range(ranks):
            at = gateway[rank, row]
            chosen[rank, row] = -1
            for o in range(4):
                fits = True
                for r in range(RESOURCES):
                    fits &= need[rank, row, o, r] <= room[row, at, r]
                    fits &= need[rank, row, o, RESOURCES + r] <= left[row, r]
                if fits:
                    for r in range(RESOURCES):
                        room[row, at, r] -= need[rank, row, o, r]
                        left[row, r] -= need[rank, row, o, RESOURCES + r]
                    chosen[rank, row] = o
                    break
