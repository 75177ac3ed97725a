"""Paths of Markov chains from uniform numbers, compiled."""

from __future__ import annotations

from numba import types

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled

_NUMBERS, _ROWS = (types.Array(types.float64, d, "C", readonly=True) for d in (1, 2))


@compiled(types.void(_NUMBERS, _ROWS, _ROWS, types.int64[:, ::1]), cache=True)
def walk(first: Array, rows: Array, draws: Array, states: Array) -> None:
    """States (out) of independent chains: the number of cumulated probabilities that a draw reaches, at most the last.

    Args:
        first: (S,) cumulated law of the first state.
        rows: (S, S) cumulated rows of the transition matrix.
        draws: (slots, count) uniform on [0, 1).
        states: (slots, count) out.
    """
    last = len(first) - 1
    for t in range(draws.shape[0]):
        for j in range(draws.shape[1]):
            state = 0
            for k in range(last + 1):
                edge = first[k] if t == 0 else rows[states[t - 1, j], k]
                state += 1 if draws[t, j] >= edge else 0
            states[t, j] = min(state, last)
