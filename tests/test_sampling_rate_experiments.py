"""Shipped experiments of the sampling-rate scenario, and what its benchmarks compare."""

from __future__ import annotations

import numpy as np
import pytest

from envs.scenarios.sampling_rate_config import default_config, printed_config, scaled, tight_config
from launch.plan import load_preset, make_plan, preset_names
from marl.benchmarks.sampling_rate import Slots, step_cell_by_loop

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
    assert (plan.slots, preset.seeds, preset.warmup) == (200, 20, 0)
    columns = plan.points[0].scenario.summary_metrics
    assert all(not figure.metric or figure.metric in columns for figure in preset.figures)


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
    slots = Slots(cells=3, devices=7)
    for state, decisions, exogenous in slots.parts:
        step = slots.scenario.step(state, decisions, exogenous)
        for b in range(3):
            device, server, costs = step_cell_by_loop(slots.scenario, state, decisions, exogenous, b)
            np.testing.assert_allclose(device, step.state.device_queue_bits[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(server, step.state.server_queue_bits[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(
                costs, [*step.costs["device"][b], *step.costs["server"][b]], rtol=1e-9, atol=1e-12
            )
