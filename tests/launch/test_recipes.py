"""Recipes: named training settings, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edgemarl.envs import scenario_names
from edgemarl.launch.experiment.plan import load_preset, make_plan, preset_names
from edgemarl.launch.experiment.trained import learned_config
from edgemarl.launch.recipes import fields_of, fitted, recipes, resolved, with_default
from edgemarl.marl.training.config import TrainConfig, resolve


@pytest.mark.parametrize("scenario", scenario_names())
def test_every_recipe_can_be_trained_and_says_what_it_is(scenario: str) -> None:
    assert recipes(scenario)
    for name, entry in recipes(scenario).items():
        assert entry["about"]
        resolve(TrainConfig(scenario=scenario, **fields_of(scenario, name)))


@pytest.mark.parametrize("preset", preset_names())
def test_every_learner_of_every_preset_can_be_trained(preset: str) -> None:
    plan = make_plan(preset, load_preset(preset), overrides={})
    for learned in plan.preset.learned.values():
        resolve(learned_config(plan.preset.scenario, learned, plan.points[0], 0))


def test_own_fields_win_and_config_fields_are_merged_one_by_one() -> None:
    base = fields_of("model_partitioning", "ppo")
    bids = fields_of("model_partitioning", "ppo_bids")
    assert bids == {**base, "set": {**base["set"], "share_bids": True}}
    own = resolved("model_partitioning", {"recipe": "ppo_bids", "lr": 0.5, "set": {"share_bids": False}})
    assert own == {**base, "lr": 0.5, "set": {**base["set"], "share_bids": False}}
    assert resolved("model_partitioning", {"lr": 0.5}) == {"lr": 0.5}
    assert recipes("a scenario from outside") == {}


def test_recipes_of_a_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"a": {"lr": 0.1}, "b": {"based_on": "a", "epochs": 2}, "c": {"based_on": "c"}}))
    assert fields_of("any", f"{file}:b") == {"lr": 0.1, "epochs": 2}
    with pytest.raises(ValueError, match="build on each other: c -> c"):
        fields_of("any", f"{file}:c")
    with pytest.raises(ValueError, match=r"unknown recipe of any 'd'.*Known: a, b, c"):
        fields_of("any", f"{file}:d")
    with pytest.raises(ValueError, match="cannot be read"):
        fields_of("any", f"{tmp_path}/nothing.yaml:a")
    file.write_text("- 1")
    with pytest.raises(ValueError, match="must map names"):
        fields_of("any", f"{file}:a")


def _cells(devices: int, agent_steps: int, **fields: object) -> object:
    name = "sequential_offloading"
    given = {"agent_steps": agent_steps, "set": {"num_devices": devices}, **fields}
    return fitted(name, with_default(name, given)).get("cells")


def test_a_short_budget_of_many_devices_has_as_many_iterations_as_one_of_few() -> None:
    """25 iterations of 50 slots, never more than the 8 cells that a run has without a recipe."""
    assert [_cells(devices, 100_000) for devices in (3, 10, 20, 50, 1000)] == [8, 8, 4, 2, 1]
    assert [_cells(50, steps) for steps in (300_000, 500_000, 10**6)] == [5, 8, 8]
    assert [_cells(devices, 4000) for devices in (3, 10, 50)] == [8, 8, 2]  # an iteration has 4000 decisions at least
    assert _cells(50, 100_000, algorithm="mappo") == 2  # as the recipe that it builds on


def test_cells_that_are_said_stay() -> None:
    assert _cells(50, 100_000, cells=16) == 16
    for recipe in ("ppo_many", "none"):
        assert _cells(50, 100_000, recipe=recipe) is None
    assert _cells(20, 5_000_000, recipe="ppo_long") == 32  # its own, which are the most that there are


def test_iterations_of_a_users_recipe_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"a": {"iterations": 50}, "b": {"based_on": "a"}, "c": {"iterations": "many"}}))
    assert _cells(10, 100_000, recipe=f"{file}:b") == 7  # 4000 decisions; the server learns too: 11 agents
    with pytest.raises(ValueError, match="iterations = 'many' is not legal: must be an integer >= 1"):
        _cells(10, 100_000, recipe=f"{file}:c")
