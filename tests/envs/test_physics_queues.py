"""Queues, shares and Markov chains: conservation, optimality and stationary theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgemarl.envs.physics.allocation import proportional_shares, softmax_shares, square_root_shares
from edgemarl.envs.physics.processes import check_transition, markov_channel, stationary_distribution, uniform_arrivals
from edgemarl.envs.physics.queueing import finite_queue, virtual_queue

AMOUNT = st.floats(0.0, 1e9)
LOADS = arrays(np.float64, (4, 3), elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e9)))


@given(AMOUNT, AMOUNT, AMOUNT, AMOUNT)
@settings(max_examples=60)
def test_finite_queue_conserves_work(backlog: float, arrived: float, capacity: float, limit: float) -> None:
    slot = finite_queue(backlog, arrived, capacity, limit)
    assert all(part >= 0 for part in slot)
    assert slot.next_backlog <= limit and slot.served <= capacity
    total = float(slot.next_backlog + slot.served + slot.dropped)
    assert total == pytest.approx(backlog + arrived, rel=1e-12, abs=1e-9)
    if slot.dropped > 0:
        assert slot.next_backlog == limit
    if slot.next_backlog > 0:  # work-conserving: nothing waits while capacity is left
        assert slot.served == pytest.approx(capacity, rel=1e-6, abs=1e-6)


def test_md1_mean_wait() -> None:
    """A queue with Poisson arrivals and unit service per slot has the mean backlog of the slotted M/D/1 queue."""
    rng, rho, cells = np.random.default_rng(0), 0.6, 400
    backlog, seen = np.zeros(cells), []
    for t in range(1500):
        backlog = finite_queue(backlog, rng.poisson(rho, cells), 1.0, np.inf).next_backlog
        if t >= 300:
            seen.append(backlog.mean())
    # Lindley with a - 1: E q = E[a (a - 1)] / (2 (1 - rho)) = rho^2 / (2 (1 - rho)) after the slot's service
    assert np.mean(seen) == pytest.approx(rho**2 / (2 * (1 - rho)), rel=0.03)


def test_virtual_queue_bounds_the_long_run_mean() -> None:
    rng, z, target = np.random.default_rng(1), np.zeros(3), 0.7
    served = rng.random((500, 3))
    for value in served:
        z = virtual_queue(z, target, value)
        assert (z >= 0).all()
    assert (served.mean(axis=0) >= target - z / 500 - 1e-12).all()


@given(LOADS, st.integers(0, 2**31))
@settings(max_examples=60)
def test_square_root_shares_are_optimal(load: np.ndarray, seed: int) -> None:
    shares = square_root_shares(load)
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0)
    assert (shares >= 0).all()
    other = np.random.default_rng(seed).dirichlet(np.ones(3), 4)
    best = np.sqrt(load).sum(axis=-1) ** 2
    ratio = np.divide(load, shares, out=np.zeros_like(load), where=load > 0).sum(axis=-1)
    np.testing.assert_allclose(ratio, best, rtol=1e-9, atol=1e-12)
    assert (np.divide(load, other, out=np.zeros_like(load), where=load > 0).sum(axis=-1) >= best * (1 - 1e-9)).all()


def test_shares_of_an_idle_resource_are_equal() -> None:
    np.testing.assert_allclose(square_root_shares([[0.0, 0.0], [0.0, 4.0]]), [[0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(proportional_shares([1.0, 3.0]), [0.25, 0.75])


def test_softmax_shares_clip_and_order() -> None:
    np.testing.assert_allclose(softmax_shares([[9.0, -9.0]], 3.0), softmax_shares([[1.0, -1.0]], 3.0))
    np.testing.assert_allclose(softmax_shares([1.0, -1.0], 3.0)[1], 1 / (1 + np.exp(6.0)))
    np.testing.assert_allclose(softmax_shares(np.zeros((2, 4)), 3.0), 0.25)


CHAIN = np.array([[0.3, 0.7, 0.0], [0.25, 0.5, 0.25], [0.0, 0.7, 0.3]])


def test_markov_channel_follows_its_law() -> None:
    np.testing.assert_allclose(stationary_distribution(CHAIN), [5 / 24, 14 / 24, 5 / 24], rtol=1e-12)
    states = markov_channel(np.random.default_rng(3), CHAIN, 400, 200)
    assert states.shape == (400, 200)
    np.testing.assert_allclose(
        np.bincount(states[0], minlength=3) / 200, [5 / 24, 14 / 24, 5 / 24], atol=0.1
    )  # stationary from the first slot
    counts = np.zeros((3, 3))
    np.add.at(counts, (states[:-1].ravel(), states[1:].ravel()), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), CHAIN, atol=0.012)
    assert counts[0, 2] == counts[2, 0] == 0


def test_absorbing_chain_stays() -> None:
    p = np.array([[0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(stationary_distribution(p), [0.0, 1.0], atol=1e-12)
    assert (markov_channel(np.random.default_rng(0), p, 20, 5) == 1).all()


@pytest.mark.parametrize("bad", [[[0.5, 0.5]], [[0.5, 0.6], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]]])
def test_transition_that_is_none_is_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="channel_transition"):
        check_transition(np.asarray(bad), 2)


def test_uniform_arrivals_are_clipped() -> None:
    draws = uniform_arrivals(np.random.default_rng(0), 0.2, 0.5, (4000,))
    assert draws.min() == 0.0 and draws.max() <= 0.7
    assert (draws == 0).mean() == pytest.approx(0.3, abs=0.03)
