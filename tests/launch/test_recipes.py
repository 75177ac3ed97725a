"""Recipes: named training settings, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgemarl.envs import scenario_names
from edgemarl.launch.experiment.plan import load_preset, make_plan, preset_names
from edgemarl.launch.experiment.trained import learned_config
from edgemarl.launch.recipes import fields_of, recipes, resolved, with_default
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
        run = resolve(learned_config(plan.preset.scenario, learned, plan.points[0], 0))
        assert {*run.scenario.earlier_defaults} <= {*run.config.set}, "a default that changed would change the preset"


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


def test_cells_and_the_agent_steps_of_an_iteration_say_the_same_and_the_own_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("short: {iteration_steps: 4000}\nwide: {cells: 16}\n", encoding="utf-8")
    assert resolved("sequential_offloading", {"recipe": f"{path}:short", "cells": 3}) == {"cells": 3}
    assert resolved("sequential_offloading", {"recipe": f"{path}:wide", "iteration_steps": 9}) == {"iteration_steps": 9}


@pytest.mark.parametrize("fields", [{1.0e-3: None}, {"set": {2: 1}}])
def test_a_field_without_a_name_is_named(fields: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="must be the name of a field"):
        resolved("sequential_offloading", fields)


@pytest.mark.parametrize("fields", [{"set": None}, {"set": 3}])
def test_a_set_that_is_none_takes_no_recipe_by_default(fields: dict[str, Any]) -> None:
    assert with_default("sequential_offloading", fields) == fields
