"""The learning-parity study: both sides train, are played on the same topologies, and are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.marl.studies import learning_parity


def test_both_sides_train_alike_and_are_kept(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One iteration each: same networks, other weights than at the start, nothing is trained twice."""
    monkeypatch.setattr(learning_parity, "CELLS", 2)
    monkeypatch.setattr(learning_parity, "TEST_SLOTS", 60)
    costs = learning_parity.study(tmp_path, seeds=1, agent_steps=1, devices=2)
    assert {side: cost.shape for side, cost in costs.items()} == {"batched": (1, 16), "rllib": (1, 16)}
    ours, theirs = (TrainedPolicy.load(tmp_path / f"{side}-2-1-0.pt") for side in learning_parity.SIDES)
    assert ours.spec == theirs.spec
    for policy in (ours, theirs):
        assert policy.network.body.biases[0].abs().max() > 0  # biases start at zero
    for maker in ("batched_policy", "rllib_policy"):
        monkeypatch.setattr(learning_parity, maker, lambda config: pytest.fail("trained again"))
    again = learning_parity.study(tmp_path, seeds=1, agent_steps=1, devices=2)
    for side, cost in costs.items():
        np.testing.assert_array_equal(again[side], cost)


def test_interval_is_students() -> None:
    values = np.array([1.0, 2.0, 4.0])
    mean, low, high = learning_parity.interval(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), expected.low, expected.high))
