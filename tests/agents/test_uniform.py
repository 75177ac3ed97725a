"""Uniform play draws from the whole space of every role, and only what makes sense."""

from __future__ import annotations

import numpy as np
import pytest

from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.agents.uniform import Uniform
from edgemarl.envs.capabilities import masks_of
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.marl.evaluation.rollout import GivenTraces, rollout


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_has_uniform_play_beside_its_rule(name: str) -> None:
    scenario = make_scenario(name)
    assert [*playbook_of(name).controllers][:2] == ["random", "uniform"]
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 5)
    played = rollout(make_policy(scenario, "uniform"), scenario, GivenTraces(trace), np.random.default_rng(0), warmup=0,
                     window_slots=5)  # fmt: skip
    assert np.isfinite(played.means[scenario.cost_metric]).all()


@pytest.mark.parametrize("name", scenario_names())
def test_uniform_actions_fill_the_space_of_every_role(name: str) -> None:
    scenario = make_scenario(name)
    trace = scenario.sample_trace(np.random.default_rng(0), 500, 1)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    masks = masks_of(scenario, state, exogenous)
    for name_of_role, role in scenario.roles.items():
        controller = Uniform(name_of_role)
        controller.reset(scenario, 500)
        rows = np.zeros((500, role.count, role.observation_space.shape[0]), np.float32)
        if name_of_role in masks:
            mask = masks[name_of_role]
            actions = controller.act_masked(rows, mask, np.random.default_rng(1)).actions
            assert np.take_along_axis(mask, actions[..., None], axis=-1).all()
            assert {*np.unique(actions)} == {*np.flatnonzero(mask.any(axis=(0, 1)))}
        actions = controller.act(rows, np.random.default_rng(1)).actions
        space = role.action_space
        assert space.contains(actions[0, 0].astype(space.dtype))
        if hasattr(space, "low"):
            middle = actions.reshape(-1, *space.shape).mean(axis=0)
            assert (np.abs(middle - (space.low + space.high) / 2) < 0.1 * (space.high - space.low)).all()
