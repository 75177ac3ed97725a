"""Paired comparison: intervals cover, pairing narrows them, the ends of the gap are exact."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import pytest

from edgemarl.agents.api import Information
from edgemarl.envs.registry import make_scenario
from edgemarl.launch.experiment.trained import SharedRay
from edgemarl.marl.evaluation.compare import (
    Interval,
    Outcome,
    compare,
    gap_closed,
    mean_interval,
    paired_difference,
    relative_difference,
    signalling_bytes,
)

SCENARIO = make_scenario("sequential_offloading", num_devices=4)


def outcome(
    name: str, cost: np.ndarray, kind: str = "learned", information: Information = "local", messages: float = 0.0
) -> Outcome:
    others = (
        "device_queue_tasks", "server_queue_tasks", "local_energy_j", "transmit_energy_j", "server_energy_j", "delay_s",
        "drop_ratio", "device_dropped_tasks", "server_dropped_cycles", "server_utilisation",
    )  # fmt: skip
    metrics = {"cost": cost, **{other: np.ones_like(cost) for other in others}}
    return Outcome(name, kind, information, metrics, discounted_cost=20 * cost, message_bytes=messages)


def test_a_95_percent_interval_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        interval = mean_interval(rng.gamma(4.0, 1.0, 40), seed=i, resamples=400)
        hits += interval.low <= 4.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99  # binomial: 0.95 +- 0.045 at three standard deviations


def test_pairing_removes_what_the_networks_have_in_common() -> None:
    rng = np.random.default_rng(1)
    network = rng.normal(10.0, 3.0, 30)
    a, b = network + 0.5 + rng.normal(0, 0.1, 30), network
    paired = paired_difference(a, b)
    assert paired.low < 0.5 < paired.high
    assert paired.half_width < 0.1 < mean_interval(a).half_width
    shuffled = paired_difference(a, rng.permutation(b))
    assert shuffled.half_width > 5 * paired.half_width


def test_relative_difference_is_that_of_the_means() -> None:
    b = np.array([1.0, 2.0, 3.0])
    interval = relative_difference(1.1 * b, b)
    assert interval.value == pytest.approx(0.1)
    assert (interval.low, interval.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_gap_is_0_for_the_baseline_and_1_for_the_reference() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(40.0, 1.0, 12)
    rows = compare(
        SCENARIO,
        [outcome("random", base, "baseline"), outcome("quarter", base - 2), outcome("vi", base - 8, "reference")],
        reference="vi",
    )
    assert rows.row("random").gap_closed == Interval(0.0, 0.0, 0.0)
    assert rows.row("vi").gap_closed == Interval(1.0, 1.0, 1.0)
    assert rows.row("vi").excess == Interval(0.0, 0.0, 0.0)
    gap = rows.row("quarter").gap_closed
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == (pytest.approx(0.25), pytest.approx(0.25), pytest.approx(0.25))


def test_no_gap_where_the_reference_is_no_better_than_the_baseline() -> None:
    assert gap_closed(np.ones(5), np.ones(5), np.full(5, 2.0)) is None


def test_training_seeds_widen_the_interval_and_cells_stay_paired() -> None:
    rng = np.random.default_rng(3)
    network = rng.normal(10.0, 2.0, 20)
    seeds = np.array([[-1.0], [0.0], [1.0], [0.5], [-0.5]])
    one, five = paired_difference(network, network), paired_difference(network + seeds, network)
    assert one.half_width == 0
    assert five.value == pytest.approx(0.0, abs=1e-12)
    assert 0.3 < five.half_width < 1.0  # standard error of 5 seeds: 0.32, and cells cancel


def test_one_network_has_no_interval() -> None:
    interval = mean_interval(np.array([3.0]))
    assert interval.value == 3.0
    assert math.isnan(interval.low)


def test_a_row_divides_the_cost_and_adds_up_its_columns() -> None:
    row = compare(SCENARIO, [outcome("a", np.full(6, 8.0))]).rows[0]
    assert row.cost.value == 2.0  # 4 devices
    assert row.discounted_cost is not None
    assert row.discounted_cost.value == 40.0
    assert row.columns["energy [J/block]"].value == 3.0
    assert row.gap_closed is None
    assert row.excess is None


def test_signalling_depends_on_the_information_used() -> None:
    local, central = outcome("a", np.ones(2), messages=4.0), outcome("b", np.ones(2), information="global")
    assert signalling_bytes(SCENARIO, local) == 4 * 4 + 4
    assert signalling_bytes(SCENARIO, central) == 12 * 4
    for form, entries in {"cpu": 12, "power": 12, "split": 16, "residual": 12}.items():  # its work, or two numbers
        scenario = make_scenario("sequential_offloading", num_devices=4, device_action=form)
        assert signalling_bytes(scenario, central) == entries * 4


def test_outcomes_must_share_their_cells_and_have_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="same cells"):
        compare(SCENARIO, [outcome("a", np.ones(3)), outcome("b", np.ones(4))])
    with pytest.raises(ValueError, match="different names"):
        compare(SCENARIO, [outcome("a", np.ones(3)), outcome("a", np.ones(3))])
    with pytest.raises(ValueError, match="unknown controller 'evem'; did you mean 'even'"):
        compare(SCENARIO, [outcome("even", np.ones(3))]).row("evem")


def test_trainings_of_a_comparison_share_one_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    @contextlib.contextmanager
    def local_ray(num_env_runners: int) -> Iterator[None]:
        calls.append(f"start {num_env_runners}")
        yield
        calls.append("end")

    monkeypatch.setattr("edgemarl.marl.rllib.node.local_ray", local_ray)
    with SharedRay(3) as ray:
        assert not calls  # nothing is trained, nothing starts
        ray.start()
        ray.start()
        assert calls == ["start 3"]
    assert calls == ["start 3", "end"]
