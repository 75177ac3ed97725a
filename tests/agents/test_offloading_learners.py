"""Learners of `sequential_offloading` against their optimum, on fresh traces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemarl.agents.registry import make_policy
from edgemarl.envs import make_scenario
from edgemarl.marl.evaluation.rollout import rollout

BLOCKS, WARM_UP = 200, 50


@pytest.fixture(scope="module")
def cost() -> Any:
    """Name -> (cells,) mean cost per device and block after the warm-up, all on the same traces."""
    scenario = make_scenario("sequential_offloading")
    trace = scenario.sample_trace(np.random.default_rng(20261), cells=3, slots=BLOCKS)
    found: dict[str, np.ndarray] = {}

    def of(name: str) -> np.ndarray:
        if name not in found:
            found[name] = play(scenario, trace, name)
        return found[name]

    return of


def play(scenario: Any, trace: Any, name: str) -> np.ndarray:
    policy = make_policy(scenario, name)
    played = rollout(policy, scenario, trace, np.random.default_rng(4), warmup=WARM_UP)
    return played.means["cost"] / scenario.config.num_devices


def test_parametric_q_reaches_the_optimum_of_its_decomposition(cost: Any) -> None:
    change = cost("parametric_q") / cost("vi") - 1.0
    assert abs(change.mean()) < 0.01


@pytest.mark.parametrize(
    ("worse", "at_least"), [("even", 0.1), ("binary", 0.12), ("random", 0.3), ("fixed_power", 0.04), ("local", 0.5)]
)
def test_baselines_cost_more_than_the_optimum(cost: Any, worse: str, at_least: float) -> None:
    change = cost(worse) / cost("vi") - 1.0
    assert (change > at_least).all()


def test_price_pays(cost: Any) -> None:
    change = cost("vi_priced") / cost("vi") - 1.0
    assert -0.015 < change.mean() < -0.003
