"""The convex solvers against independent ones (scipy, cvxpy), over random instances and extremes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from edgemarl.envs.physics.allocation import (
    fdma_price,
    fdma_shares,
    local_cpu_hz,
    priced_fdma_share,
    priced_square_root_share,
    square_root_price,
    square_root_shares,
)
from edgemarl.envs.physics.queueing import md1_sojourn_s
from edgemarl.envs.physics.radio import fdma_rate_bps

BAND_HZ = 5e6
HZ_MAX = 1.5e9


def sum_of_delays(weight: np.ndarray, snr: np.ndarray, share: np.ndarray) -> np.ndarray:
    rate = fdma_rate_bps(share, BAND_HZ, snr)
    return np.where(weight > 0, weight / np.where(rate > 0, rate, 1.0), 0.0).sum(axis=-1)


def instances(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights over nine decades (some 0), signal-to-noise ratios over twelve, (count, n)."""
    weight = 10 ** rng.uniform(-1, 8, (count, n)) * (rng.random((count, n)) < 0.8)
    return weight, 10 ** rng.uniform(-6, 6, (count, n))


def nested_bisection(weight: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """Shares by brackets alone: an outer one on the price, inner ones on each log share."""

    def share(price: float, c: float, s: float) -> float:
        def excess(log_alpha: float) -> float:
            alpha = np.exp(log_alpha)
            x = s / alpha
            k = np.log1p(x) - x / (1 + x) if x > 1e-3 else x**2 / 2 - 2 * x**3 / 3 + 3 * x**4 / 4 - 4 * x**5 / 5
            return float(np.log(c * np.log(2) / BAND_HZ * k) - 2 * np.log(alpha * np.log1p(x)) - np.log(price))

        return float(np.exp(brentq(excess, -80.0, 80.0, xtol=1e-14)))

    active = weight > 0

    def surplus(log_price: float) -> float:
        return sum(share(np.exp(log_price), c, s) for c, s in zip(weight[active], snr[active], strict=True)) - 1.0

    price = np.exp(brentq(surplus, -60.0, 60.0, xtol=1e-13))
    result = np.zeros(len(weight))
    result[active] = [share(price, c, s) for c, s in zip(weight[active], snr[active], strict=True)]
    return result


@pytest.mark.parametrize("n", [2, 5, 12])
def test_bandwidth_equals_nested_bisection(n: int) -> None:
    weight, snr = instances(np.random.default_rng(n), 12, n)
    weight[:, 0] = 10.0
    shares = fdma_shares(weight, snr)
    for c, s, share in zip(weight, snr, shares, strict=True):
        np.testing.assert_allclose(share, nested_bisection(c, s), rtol=1e-8)


def test_bandwidth_equals_cvxpy() -> None:
    """R is a perspective of the logarithm, so alpha log(1 + s/alpha) = -rel_entr(alpha, alpha + s) + linear terms."""
    import cvxpy  # takes a second to load, in every process that collects tests

    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(1, 8))
        weight, snr = 10 ** rng.uniform(-2, 2, n), 10 ** rng.uniform(-2, 4, n)
        share = cvxpy.Variable(n, pos=True)
        nats = -cvxpy.rel_entr(share, share + snr)
        problem = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.sum(cvxpy.multiply(weight, cvxpy.inv_pos(nats)))), [cvxpy.sum(share) == 1]
        )
        problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
        ours = sum_of_delays(weight, snr, fdma_shares(weight, snr))
        assert ours == pytest.approx(problem.value * np.log(2) / BAND_HZ, rel=1e-6)


def test_bandwidth_stationarity_over_thousands_of_instances() -> None:
    """The problem is convex: equal prices over the participants and shares that sum to 1 prove the optimum."""
    for n in (1, 2, 3, 8, 50, 400):
        weight, snr = instances(np.random.default_rng(n), 2000 if n < 50 else 40, n)
        shares = fdma_shares(weight, snr)
        active = weight > 0
        np.testing.assert_allclose(shares.sum(axis=1), active.any(axis=1), rtol=1e-12)
        assert (shares[~active] == 0).all() and (shares[active] > 0).all()
        price = np.where(active, fdma_price(weight, snr, shares, BAND_HZ), np.nan)
        price = price[active.any(axis=1)]
        spread = np.nanmax(price, axis=1) / np.nanmin(price, axis=1) - 1
        assert spread.max() < 1e-8, n


def test_bandwidth_beats_random_shares() -> None:
    rng = np.random.default_rng(3)
    weight, snr = instances(rng, 500, 6)
    best = sum_of_delays(weight, snr, fdma_shares(weight, snr))
    for _ in range(20):
        other = rng.dirichlet(np.full(6, 0.5), 500) * (weight > 0)
        other = other / np.where(other.sum(axis=1) > 0, other.sum(axis=1), 1.0)[:, None]
        assert (best <= sum_of_delays(weight, snr, other) * (1 + 1e-9)).all()


def test_bandwidth_extremes() -> None:
    np.testing.assert_array_equal(fdma_shares([[5.0, 0.0, 0.0]], [[1e-12, 1.0, 0.0]]), [[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(fdma_shares([[0.0, 0.0]], [[1.0, 1.0]]), [[0.0, 0.0]])
    np.testing.assert_allclose(fdma_shares(np.full((1, 4), 3.0), np.full((1, 4), 20.0)), 0.25, rtol=1e-14)
    # where every ratio is tiny the rate no longer depends on the share of the band, and shares follow sqrt(c)
    np.testing.assert_allclose(fdma_shares([[1.0, 4.0]], [[1e-12, 1e-12]]), [[1 / 3, 2 / 3]], rtol=1e-9)
    assert fdma_price(0.0, 1.0, 0.0, BAND_HZ) == 0.0


def test_priced_share_equals_a_bounded_minimiser() -> None:
    rng = np.random.default_rng(5)
    weight, snr, price = 10 ** rng.uniform(3, 8, 60), 10 ** rng.uniform(-2, 4, 60), 10 ** rng.uniform(-3, 3, 60)
    shares = priced_fdma_share(weight, snr, price, BAND_HZ)
    assert (shares == 1).any() and (shares < 1).any()
    for c, s, b, share in zip(weight, snr, price, shares, strict=True):

        def cost(log_alpha: float, c: float = c, s: float = s, b: float = b) -> float:
            alpha = np.exp(log_alpha)
            return float(c / fdma_rate_bps(alpha, BAND_HZ, s) + b * alpha)

        found = minimize_scalar(cost, bounds=(-30.0, 0.0), method="bounded", options={"xatol": 1e-12})
        assert cost(np.log(share)) <= found.fun * (1 + 1e-9)
    assert priced_fdma_share(0.0, 1.0, 1.0, BAND_HZ) == 0.0 and priced_fdma_share(1.0, 1.0, 0.0, BAND_HZ) == 1.0


def test_prices_and_shares_agree() -> None:
    """At the price of the optimum every device alone asks for exactly its share: the market clears."""
    weight, snr = instances(np.random.default_rng(6), 200, 5)
    weight += 1e-3
    shares = fdma_shares(weight, snr)
    price = fdma_price(weight, snr, shares, BAND_HZ).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(priced_fdma_share(weight, snr, price, BAND_HZ), shares, rtol=1e-8)
    edge = square_root_shares(weight)
    value = square_root_price(weight, edge)
    np.testing.assert_allclose(value, np.broadcast_to((np.sqrt(weight).sum(axis=1) ** 2)[:, None], (200, 5)))
    np.testing.assert_allclose(priced_square_root_share(weight, value), edge)
    assert priced_square_root_share(0.0, 0.0) == 0.0 and square_root_price(1.0, 0.0) == 0.0


def cpu_instances(rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    work = 10 ** rng.uniform(5, 8.5, count)
    rate = rng.uniform(0, 8, count) * (rng.random(count) < 0.9)
    queue = 10 ** rng.uniform(-3, 6, count) * (rng.random(count) < 0.9)
    price = queue * 1e-28 * rate
    low = np.minimum(np.maximum(work * rate / 0.99, 0.01 * HZ_MAX), HZ_MAX)
    return work, rate, price, low


def test_cpu_frequency_satisfies_the_optimality_conditions() -> None:
    """Sign of the derivative at the result, by hand: 0 inside, >= 0 at the lower end, <= 0 at the upper one."""
    work, rate, price, low = cpu_instances(np.random.default_rng(0), 20_000)
    f = local_cpu_hz(work, rate, price, 10.0, low, HZ_MAX)
    assert ((f >= low) & (f <= HZ_MAX)).all()
    fits = work * rate < 0.99 * HZ_MAX
    a = work * rate
    push = 2 * price * f
    with np.errstate(divide="ignore"):
        pull = 10.0 * (1 / f**2 + a * (2 * f - a) / (2 * (f * (f - a)) ** 2))
    inside = fits & (f > low * (1 + 1e-12)) & (f < HZ_MAX * (1 - 1e-12))
    assert inside.sum() > 2000 and (fits & (f == low)).sum() > 50 and (f == HZ_MAX).sum() > 2000
    np.testing.assert_allclose(push[inside], pull[inside], rtol=1e-8)
    assert (push >= pull * (1 - 1e-9))[fits & (f == low) & (low < HZ_MAX)].all()
    assert (push <= pull * (1 + 1e-9))[fits & (f == HZ_MAX)].all()


def test_cpu_frequency_equals_a_bounded_minimiser() -> None:
    for d, lam, q, lo in zip(*cpu_instances(np.random.default_rng(1), 150), strict=True):
        if lo >= HZ_MAX:
            continue

        def cost(f: float, d: float = d, lam: float = lam, q: float = q) -> float:
            return float(q * d * f**2 + 10.0 * md1_sojourn_s(d / f, lam, 0.99))

        found = minimize_scalar(cost, bounds=(lo, HZ_MAX), method="bounded", options={"xatol": 1e-3})
        ours = cost(float(local_cpu_hz(d, lam, q, 10.0, lo, HZ_MAX)))
        assert ours <= min(found.fun, cost(lo), cost(HZ_MAX)) * (1 + 1e-9)


def test_cpu_frequency_extremes() -> None:
    assert local_cpu_hz(1e8, 1.5, 0.0, 10.0, 1.6e8, HZ_MAX) == HZ_MAX
    assert local_cpu_hz(1e8, 0.0, 0.0, 10.0, 1.5e7, HZ_MAX) == HZ_MAX
    assert local_cpu_hz(1e8, 1.5, 1e10, 10.0, 1.6e8, HZ_MAX) == 1.6e8
    assert local_cpu_hz(2e8, 20.0, 1e-25, 10.0, HZ_MAX, HZ_MAX) == HZ_MAX  # more load than the CPU can take


def test_sojourn_equals_a_simulated_queue() -> None:
    """Poisson arrivals, constant service: the simulated mean sojourn meets the formula within its standard error."""
    rng, rate, service = np.random.default_rng(0), 4.0, 0.2
    gaps = rng.exponential(1 / rate, 400_000)
    walk = np.cumsum(service - gaps[1:])
    wait = np.concatenate([[0.0], walk - np.minimum.accumulate(np.minimum(walk, 0.0))])
    assert wait.mean() + service == pytest.approx(md1_sojourn_s(service, rate, 0.99), rel=0.03)
    assert md1_sojourn_s(0.5, 4.0, 0.99) == pytest.approx(0.5 * (1 + 0.99 / 0.02))


def test_the_benchmark_solves_the_same_problem_as_cvxpy() -> None:
    from edgemarl.marl.benchmarks import model_partitioning as bench

    weight, snr = bench.bandwidth_instances(3, 4)
    for c, s in zip(weight, snr, strict=True):
        np.testing.assert_allclose(fdma_shares(c, s), nested_bisection(c, s), rtol=1e-9)
