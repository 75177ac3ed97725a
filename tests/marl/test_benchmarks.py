"""The benchmarks compare like with like."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenarios.model_placement import scaled
from edgemarl.launch.commands.quality import SIDES, QualityOptions, quality_options, quality_speeds, side_settings
from edgemarl.marl.benchmarks import GROUPS, load_group, model_partitioning, model_pruning, q_updates, quality, steps
from edgemarl.marl.benchmarks.changes import changes, kind_of, reference_s
from edgemarl.marl.benchmarks.model_placement import PlacementSlots, plan_seconds
from edgemarl.marl.benchmarks.quality import first_times
from edgemarl.marl.benchmarks.sequential_offloading import TimedBlocks, step_cell_by_loop
from edgemarl.marl.training.config import TrainConfig, resolve


def test_the_loop_and_the_batched_step_agree() -> None:
    blocks = TimedBlocks(cells=3, devices=7)
    for state, decisions, exogenous in blocks.parts:
        step = blocks.scenario.step(state, decisions, exogenous)
        for b in range(3):
            queues, costs = step_cell_by_loop(blocks.scenario.config, state, decisions, exogenous, b)
            np.testing.assert_allclose(queues[:-1], step.state.device_queue_cycles[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(queues[-1], step.state.server_queue_cycles[b], rtol=1e-9)
            np.testing.assert_allclose(costs[:-1], step.costs["device"][b], rtol=1e-9)
            np.testing.assert_allclose(costs[-1], step.costs["server"][b, 0], rtol=1e-9)


def test_what_became_slower_is_told_from_a_slower_machine() -> None:
    group_of = dict.fromkeys(["a_per_s", "a_ms_per_slot", "a_speedup", "a_growth_10_to_20", "a_share_of_it"], "a")
    old = {"reference_s_a": 1.0, "a_per_s": 100.0, "a_ms_per_slot": 4.0, "a_speedup": 8.0, "a_growth_10_to_20": 1.0}
    slow_machine = {**old, "reference_s_a": 2.0, "a_per_s": 50.0, "a_ms_per_slot": 8.0, "a_share_of_it": 0.5}
    assert {c.key: c.factor for c in changes(old, slow_machine, group_of)} == dict.fromkeys(list(old)[1:], 1.0)
    slow_code = {
        "reference_s_a": 1.0,
        "a_per_s": 50.0,
        "a_ms_per_slot": 8.0,
        "a_speedup": 4.0,
        "a_growth_10_to_20": 2.0,
    }
    assert all(c.slower and c.factor == 0.5 for c in changes(old, slow_code, group_of))
    del old["reference_s_a"]
    assert {c.key: c.slower for c in changes(old, slow_code, group_of)} == {
        "a_per_s": False, "a_ms_per_slot": False, "a_speedup": True, "a_growth_10_to_20": True,
    }  # fmt: skip


def test_kinds_of_the_numbers_that_are_measured() -> None:
    kinds = {
        "device_steps_per_s": "speed", "joint_myopic_decisions_per_s_200_devices": "speed",
        "slot_optimal_ms_per_slot_batched": "time", "step_speedup_vs_loop": "ratio",
        "rllib_train_speedup_100_one_epoch": "ratio", "rllib_train_speedup_limit_100": "other",
        "growth_10_to_1000": "inverse ratio", "rllib_sample_share_20": "other", "quality_2_percent_s_20": "time",
        "rllib_train_agent_steps_per_s_20": "speed", "reference_s_rllib": "other",
        "bandwidth_cvxpy_difference": "other", "checkpoint_files_independent_300": "other",
    }  # fmt: skip
    assert {key: kind_of(key) for key in kinds} == kinds


def test_the_reference_is_measured_in_processor_time() -> None:
    assert 0.0 < reference_s(repeats=3) < 1.0


def test_slots_of_model_placement_are_those_of_an_episode() -> None:
    slots = PlacementSlots(scaled(2, 5), cells=2)
    for (state, decisions, exogenous), (after, _, _) in itertools.pairwise(slots.parts):
        step = slots.scenario.step(state, decisions, exogenous)
        np.testing.assert_array_equal(dataclasses.astuple(step.state)[0], dataclasses.astuple(after)[0])
    assert slots.device_step_s(1) > 0.0
    assert plan_seconds(scaled(2, 5), 1) > 0.0


def test_the_benchmarks_of_model_pruning_give_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLOTS": 3, "REPEATS": 1, "DEVICES_PER_BATCH": 400}.items():
        monkeypatch.setattr(model_pruning, name, value)
    assert set(model_pruning.speeds()) == {
        "pruning_device_steps_per_s", "pruning_device_steps_per_s_2000", "pruning_reference_plans_per_s",
    }  # fmt: skip
    assert min(model_pruning.speeds().values()) > 0.0


def test_every_scenario_is_stepped_on_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"CELLS": 2, "DEVICES": 10, "FEW": 5, "MANY": 20, "SLOTS": 2, "TRACE_SLOTS": 2, "ROUNDS": 1, "REPEATS": 1}
    for name, value in small.items():
        monkeypatch.setattr(steps, name, value)
    assert set(steps.SCENARIOS) == set(scenario_names())
    found = steps.speeds()
    assert len(found) == 7 * len(steps.SCENARIOS)
    assert min(found.values()) > 0.0
    assert found["steps_speedup_sequential_offloading"] == 1.0
    assert all(value < 1.0 for key, value in found.items() if kind_of(key) == "other")  # shares
    kinds = {key: kind_of(key) for key in found if key.endswith("_model_pruning")}
    assert list(kinds.values()) == ["speed", "speed", "ratio", "inverse ratio", "other", "other", "speed"]


def test_things_that_take_turns_are_timed_each_for_itself() -> None:
    assert steps.at_size("sampling_rate", 30).config.num_devices == 30
    runs = {"short": lambda: sum(range(10)), "long": lambda: sum(range(200_000))}
    best = steps.least_seconds(runs, 2)
    assert best["short"] < best["long"]


def test_rows_of_the_q_learner_are_those_of_a_cell_that_it_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q_updates, "BLOCKS", 4)
    rows = q_updates.recorded_rows(make_scenario("sequential_offloading", num_devices=3))
    assert [row.shape[:2] for row in rows] == [(1, 3)] * len(rows)
    assert len(rows) >= 4
    assert not np.array_equal(rows[0], rows[-1])
    assert q_updates.q_updates_per_s(devices=3, repeats=1) > 0.0


def test_the_benchmarks_of_model_partitioning_give_speeds() -> None:
    assert model_partitioning.step_speed(cells=2, devices=3) > 0.0
    assert model_partitioning.slot_optimal_ms(cells=1, slots=2) > 0.0


def test_bare_gradient_work_is_the_whole_number_of_minibatches(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemarl.marl.benchmarks import rllib

    taken: list[int] = []
    monkeypatch.setattr(rllib, "MINIBATCH", 8)
    monkeypatch.setattr(rllib.torch.optim.Adam, "step", lambda optimizer: taken.append(1))
    rllib.bare_gradient_work(rows=24, epochs=2)()
    rllib.bare_gradient_work(rows=8, agents=4, epochs=1)()
    assert len(taken) == 3 * 2 + 1
    assert rllib._named("20", 100, theirs=8.0, ours=2.0, sampling=0.5, bare=1.0) == {
        "rllib_train_speedup_20": 4.0, "rllib_train_speedup_limit_20": 8.0, "rllib_train_agent_steps_per_s_20": 50.0,
        "rllib_sample_share_20": 0.25, "rllib_gradient_share_20": 0.5,
    }  # fmt: skip


def test_times_to_quality_are_of_the_first_checkpoint_that_is_so_near() -> None:
    class Ticks:
        seconds = 0.0

        def now_s(self) -> float:
            return self.seconds

        def aside(self, run: Callable[[], float]) -> float:
            return run()

    def times(shares: list[float], limit_s: float = 100.0) -> tuple[list[float | None], float]:
        clock, left = Ticks(), iter(shares)

        def train() -> None:
            clock.seconds += 3.0

        found = first_times(train, lambda: next(left), clock, len(shares), limit_s, (0.02, 0.01))  # type: ignore[arg-type]
        return list(found.values()), clock.seconds

    assert times([0.5, 0.019, 0.2, 0.01, 0.0]) == ([6.0, 12.0], 12.0)
    assert times([0.5, 0.3, 0.015]) == ([9.0, None], 9.0)
    assert times([0.5, 0.3, 0.0], limit_s=4.0) == ([None, None], 6.0)
    imitated = list[float]()

    def start() -> None:
        imitated.append(0.015)

    found = first_times(lambda: imitated.append(0.001), lambda: imitated[-1], Ticks(), 9, 1.0, (0.02, 0.01), start)  # type: ignore[arg-type]
    assert found == {0.02: 0.0, 0.01: 0.0}
    assert imitated == [0.015, 0.001], "a checkpoint of its own, then as many iterations as it takes"


def test_a_side_that_imitates_is_measured_from_the_imitation_on(capfd: pytest.CaptureFixture[str]) -> None:
    """The first look at a side that imitated the plan for 400 steps is far nearer than after a step (20 and 1.2 times
    the reference above it)."""
    given = {"num_devices": 20, "num_gateways": 2, "gateway_broadcast": "rank", "episode_slots": 4}
    _, settings = side_settings("counterfactual_planned", None, "model_pruning", given)
    assert settings["set"]["gateway_broadcast"] == "rank"
    small = {"imitate_rows": 400, "cells": 2, "slots": 2, "minibatch": 40, "agent_steps": 160}
    first = list[float]()
    for taken in (1, 400):
        quality.measure({**settings, **small, "imitate_steps": taken}, "ours", 1e-9, [0.0])
        first.append(float(capfd.readouterr().err.split("s: ")[1].split("%")[0]))
    assert first[1] < 0.5 * first[0]


@pytest.mark.parametrize("devices", [20, 100])
def test_sides_of_the_quality_benchmark_are_legal_runs(devices: int) -> None:
    for side in SIDES:
        runner, settings = side_settings(side, devices)
        config = TrainConfig.from_dict(settings)
        resolve(config)
        assert (runner, config.set["num_devices"]) == (SIDES[side][0], devices)
    assert side_settings("rllib", devices)[1] == side_settings("plain", devices)[1]  # alike but for the runner


def test_a_side_of_another_scenario_is_a_recipe() -> None:
    """At its own size, or grown with what its devices need; the yardstick is of that network."""
    for scenario, recipe, devices in (("model_pruning", "counterfactual", 100), ("sampling_rate", "priced_dqn", None)):
        runner, settings = side_settings(recipe, devices, scenario)
        run = resolve(TrainConfig.from_dict(settings))
        assert runner == "ours"
        assert run.scenario.roles["device"].count == (devices or make_scenario(scenario).roles["device"].count)


def test_times_to_quality_become_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"ours": {0.02: 4.0, 0.01: None}, "rllib": {0.02: 10.0, 0.01: 20.0}}
    monkeypatch.setattr(quality, "seconds_to", lambda settings, runner, *rest: answers[runner])
    assert quality_speeds(QualityOptions(devices=(20,), sides=("recipe", "rllib"))) == {
        "quality_2_percent_s_recipe_20": 4.0, "quality_2_percent_s_rllib_20": 10.0,
        "quality_1_percent_s_rllib_20": 20.0,
        "quality_2_percent_times_as_soon_20": 2.5,
    }  # fmt: skip
    by_seed = [{0.02: 4.0, 0.01: 5.0}, {0.02: 6.0, 0.01: None}]
    monkeypatch.setattr(quality, "seconds_to", lambda settings, runner, *rest: by_seed[settings["seed"]])
    options = QualityOptions(devices=(20,), sides=("recipe",), training_seeds=2)
    assert quality_speeds(options) == {"quality_2_percent_s_recipe_20": 6.0}, "the slowest; none where one is not there"
    far = QualityOptions("model_pruning", sides=("counterfactual",), within=(0.02, 0.01), against="cell_plan")
    assert quality_speeds(far) == {
        "quality_2_percent_s_model_pruning_counterfactual": 4.0,
        "quality_1_percent_s_model_pruning_counterfactual": 5.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("20,x", None, None), "--devices = 20,x is not legal"),
        (("0", None, None), "--devices"),
        ((None, -1.0, None), "--minutes = -1 is not legal"),
        ((None, None, "ours"), "'ours' is not legal: must be of recipe, plain, rllib"),
        ((None, None, None, 0), "--training-seeds = 0 is not legal"),
        ((None, None, None, None, "model_pruning"), "--sides: none is not legal for model_pruning: must be of counter"),
        ((None, None, "plain", None, "model_pruning"), "'plain' is not legal: must be of counterfactual"),
        ((None, None, None, None, "pruning"), "unknown scenario 'pruning'"),
        ((None, None, None, None, None, "2,x"), "--within = x is not legal"),
        ((None, None, None, None, None, None, "vj"), "unknown controller 'vj'"),
    ],
)
def test_illegal_options_of_the_quality_benchmark(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        quality_options(*options)
    assert quality_options(None, None, None) is None


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_names_a_function(group: str) -> None:
    assert callable(load_group(group))
