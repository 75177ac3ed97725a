"""Bootstrap limits are those of SciPy, which need not be loaded for them."""

import numpy as np
import pytest
from scipy import stats

from edgemarl.marl.evaluation.bca import bootstrap_limits

SAMPLES = {
    "normal": [np.random.default_rng(0).normal(5.0, 1.0, 10)],
    "skewed": [np.random.default_rng(1).exponential(3.0, 40)],
    "two": [np.array([1.0, 9.0])],
    "ties": [np.array([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])],
    "large numbers": [1e9 + np.random.default_rng(2).normal(0.0, 1.0, 30)],
    "seeds and cells": [np.random.default_rng(3).gamma(2.0, 1.0, 3), np.random.default_rng(4).gamma(2.0, 1.0, 12)],
    "equal": [np.full(10, 3.0)],
}


@pytest.mark.parametrize("resamples", [4000, 1234])
@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("name", SAMPLES)
def test_limits_are_those_of_scipy(name: str, level: float, resamples: int) -> None:
    samples = SAMPLES[name]

    def product_of_means(*indices: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.prod([sample[i].mean(axis=axis) for sample, i in zip(samples, indices, strict=True)], axis=0)

    def by_scipy(method: str) -> tuple[float, float]:
        interval = stats.bootstrap(
            [np.arange(len(sample)) for sample in samples], product_of_means, n_resamples=resamples, batch=500,
            confidence_level=level, method=method, rng=np.random.default_rng(7),
        ).confidence_interval  # fmt: skip
        return float(interval.low), float(interval.high)

    with np.errstate(all="ignore"):
        limits = bootstrap_limits(
            product_of_means, [len(sample) for sample in samples], level, resamples, np.random.default_rng(7)
        )
    if name == "equal":  # BCa is undefined
        assert limits == by_scipy("percentile") == (3.0, 3.0)
    else:
        np.testing.assert_allclose(limits, by_scipy("BCa"), rtol=1e-14)
        assert name != "skewed" or limits != by_scipy("percentile")
