"""Training that goes wrong is said when it begins, and stays said as long as it lasts."""

from __future__ import annotations

import math

import pytest

from edgemarl.marl.training.health import FAR, ROWS, Health


def judged(costs: list[float], losses: dict[int, float] | None = None) -> Health:
    health = Health()
    for i, cost in enumerate(costs, start=1):
        health.see(
            {"iteration": i, "cost": cost, "episode_return": math.nan, "device_vf_loss": (losses or {}).get(i, 1.0)}
        )
    return health


def test_a_loss_that_is_no_number_is_named_with_its_first_iteration(caplog: pytest.LogCaptureFixture) -> None:
    health = judged([1.0] * 6, {3: math.nan, 5: math.inf, 6: math.inf})
    assert (health.problem, health.since, health.finite) == ("device_vf_loss = inf", 5, False)
    assert [record.message for record in caplog.records] == [
        "training goes wrong in iteration 3: device_vf_loss = nan",
        "training goes wrong in iteration 5: device_vf_loss = inf",
    ]


def test_a_training_that_recovers_is_well() -> None:
    health = judged([1.0] * 4, {2: math.inf})
    assert (health.problem, health.since, health.finite) == ("", 0, True)


def test_a_cost_far_above_the_untrained_policy_is_said_and_one_unlucky_iteration_is_not() -> None:
    far = judged([2.0, *[2.1 * FAR] * ROWS])
    assert (far.since, far.finite) == (ROWS + 1, True)
    assert "the untrained policy's was 2" in far.problem
    assert not judged([2.0, *[2.0] * 20, 2.0 * FAR * 5, *[2.0] * 3]).problem
    assert not judged([2.0, *[1.9 * FAR] * 30]).problem


def test_costs_that_no_episode_has_given_yet_are_no_problem() -> None:
    assert not judged([math.nan] * 5).problem
    assert judged([1.0, math.inf]).problem == "cost = inf"
