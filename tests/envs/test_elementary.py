"""Compiled elementary functions against the C library's and NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemarl.envs.compiled import compiled
from edgemarl.envs.physics.allocation import fdma_shares
from edgemarl.envs.physics.elementary import log_terms, near_inverse_cube_root, near_log2, pairwise_sum
from edgemarl.envs.physics.processes import markov_channel


@compiled(error_model="numpy")
def _all(x: Any, log: Any, fraction: Any, root: Any) -> None:
    for i in range(len(x)):
        log[i], fraction[i] = log_terms(x[i])
        root[i] = near_inverse_cube_root(x[i])


@compiled(error_model="numpy")
def _logs(x: Any, log: Any) -> None:
    for i in range(len(x)):
        log[i] = near_log2(x[i])


def test_near_logarithm_is_near() -> None:
    x = np.append(1.0, 10.0 ** np.random.default_rng(0).uniform(0, 300, 20_000))
    log = np.empty(len(x))
    _logs(x, log)
    np.testing.assert_allclose(log, np.log2(x), rtol=0.0, atol=0.005)


def test_logarithm_and_cube_root_over_all_magnitudes() -> None:
    x = 10.0 ** np.random.default_rng(0).uniform(-200, 200, 50_000)
    log, fraction, root = np.empty((3, len(x)))
    _all(x, log, fraction, root)
    np.testing.assert_array_max_ulp(log, np.log1p(x), 2)
    np.testing.assert_array_max_ulp(fraction, x / (1.0 + x), 2)
    np.testing.assert_allclose(root, 1.0 / np.cbrt(x), rtol=3e-3)
    edges = np.array([0.0, 1.0, np.sqrt(2.0) - 1.0, np.sqrt(0.5), 2.0**52, 2.0**60])
    log, fraction, root = np.empty((3, len(edges)))
    _all(edges, log, fraction, root)
    np.testing.assert_allclose(log, np.log1p(edges), rtol=4e-16)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 127, 128, 129, 136, 1000, 4099])
def test_sums_are_those_of_numpy_to_the_last_bit(count: int) -> None:
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((3, count)) * 10.0 ** rng.uniform(-6, 6, (3, count))
    found = [pairwise_sum(rows.reshape(-1), r * count, count) for r in range(3)]
    np.testing.assert_array_equal(found, rows.sum(axis=1))


def test_shares_of_a_band_do_not_depend_on_the_bands_beside_it() -> None:
    rng = np.random.default_rng(1)
    weight, snr = 10.0 ** rng.uniform(-4, 4, (70, 40)), 10.0 ** rng.uniform(-3, 5, (70, 40))
    weight[rng.random(weight.shape) < 0.3] = 0.0
    together = fdma_shares(weight, snr)
    alone = np.concatenate([fdma_shares(weight[r : r + 1], snr[r : r + 1]) for r in range(70)])
    np.testing.assert_array_equal(together, alone)


def test_chains_walk_as_their_uniform_numbers_say() -> None:
    transition = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.0, 0.4, 0.6]])
    states = markov_channel(np.random.default_rng(2), transition, 40, 11)
    draws, edges = np.random.default_rng(2).random((40, 11)), np.cumsum(transition, axis=1)
    for before, after, draw in zip(states[:-1], states[1:], draws[1:], strict=True):
        np.testing.assert_array_equal(after, np.minimum((draw[:, None] >= edges[before]).sum(axis=1), 2))
