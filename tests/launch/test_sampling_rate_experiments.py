"""Shipped experiments of the sampling-rate scenario, and what its benchmarks compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgemarl.envs.scenarios.sampling_rate.config import default_config, printed_config, scaled, tight_config
from edgemarl.launch.experiment.plan import load_preset, make_plan, preset_names
from edgemarl.launch.experiment.trained import learned_config
from edgemarl.launch.report.training_figure import training_curves
from edgemarl.marl.benchmarks.sampling_rate import SamplingSlots, step_cell_by_loop
from edgemarl.marl.training.config import resolve

PRESETS = tuple(name for name in preset_names() if name.startswith("sampling_rate/"))


def test_the_experiments_of_the_paper_are_there() -> None:
    needed = {"default", "printed", "tight", "fig4", "fig5", "fig6", "fig7", "scale"}
    assert {f"sampling_rate/{name}" for name in needed} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_plan(name: str) -> None:
    preset = load_preset(name)
    plan = make_plan(name, preset, overrides={})
    assert plan.reference == "warm_reference" and plan.reference in preset.controllers
    assert preset.baseline in preset.controllers
    networks = 5 if name.endswith("/sizes") else 20
    assert (plan.slots, preset.networks, preset.warmup) == (200, networks, 0)
    columns = plan.points[0].scenario.summary_metrics
    drawn = [figure for figure in preset.figures if figure.kind != "training"]
    assert all(not figure.metric or figure.metric in columns for figure in drawn)
    for learned in preset.learned.values():
        for point in plan.points:
            resolve(learned_config("sampling_rate", learned, point, 0))


def test_the_policy_of_the_scale_experiment_is_trained_once_with_ten_devices() -> None:
    preset = load_preset("sampling_rate/scale")
    plan = make_plan("scale", preset, overrides={})
    runs = [learned_config("sampling_rate", preset.learned["priced_dqn"], point, 0) for point in plan.points]
    assert all(run == runs[0] for run in runs)
    assert runs[0].make_scenario().config == dataclasses.replace(default_config(), share_mode="optimal")


def test_a_training_curve_is_the_mean_over_seeds_of_binned_iterations(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        steps = np.arange(1, 201) * 200  # an episode per iteration
        frame = pd.DataFrame(
            {"env_steps": steps, "delay": steps / 200.0 + seed, "agent_steps": 9 * steps, "time_s": steps}
        )
        frame.to_parquet(tmp_path / str(seed) / "curve.parquet")
    folders = [tmp_path / "0", tmp_path / "1"]
    episodes, mean, low, high = training_curves(folders, "delay", 200)
    np.testing.assert_allclose(episodes, np.arange(50) * 4 + 2)  # four episodes a point
    np.testing.assert_allclose(low, np.arange(50) * 4 + 2.5)  # episodes 1..4, 5..8, ..
    np.testing.assert_allclose(mean, low + 0.5)
    np.testing.assert_allclose(high, low + 1.0)
    with pytest.raises(ValueError, match="no column 'speed'"):
        training_curves(folders, "speed", 200)


def test_presets_are_the_named_networks() -> None:
    for name, config in (("default", default_config()), ("printed", printed_config()), ("tight", tight_config())):
        plan = make_plan(name, load_preset(f"sampling_rate/{name}"), overrides={})
        assert plan.points[0].scenario.config == config


def test_scale_sweeps_the_population() -> None:
    plan = make_plan("scale", load_preset("sampling_rate/scale"), overrides={})
    assert [sum(point.value) for point in plan.points] == [10, 20, 50, 100, 200]
    for point in plan.points:
        assert point.scenario.config == scaled(default_config(), tuple(point.value))


def test_the_loop_and_the_batched_step_agree() -> None:
    slots = SamplingSlots(cells=3, devices=7)
    for state, decisions, exogenous in slots.parts:
        step = slots.scenario.step(state, decisions, exogenous)
        for b in range(3):
            device, server, costs = step_cell_by_loop(slots.scenario, state, decisions, exogenous, b)
            np.testing.assert_allclose(device, step.state.device_queue_bits[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(server, step.state.server_queue_bits[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(
                costs, [*step.costs["device"][b], *step.costs["server"][b]], rtol=1e-9, atol=1e-12
            )
