"""Teams in which every role learns: all of them start and update; what is kept is never behind the start."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.envs import scenario_names
from edgemarl.launch.recipes import fields_of, recipes
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.curve import policy_networks
from edgemarl.marl.training.quality import LOOKS, Best
from edgemarl.marl.training.run import Training, train
from edgemarl.marl.training.trained import saved_policies

SMALL: dict[str, dict[str, Any]] = {
    "sequential_offloading": {"num_devices": 3, "episode_blocks": 20},
    "sampling_rate": {"devices_per_service": [2, 2], "horizon_slots": 20},
    "model_partitioning": {"mean_arrival_rate_hz": 2.5, "episode_slots": 20},
    "model_pruning": {"num_devices": 20, "num_gateways": 2, "gateway_broadcast": "rank"},
    "model_placement": {"num_gateways": 2, "devices_per_gateway": 3, "episode_slots": 10},
}
TINY = {
    "iteration_steps": None,
    "cells": 2,
    "slots": 4,
    "minibatch": 100,
    "epochs": 1,
    "agent_steps": 1,
    "hidden": (8,),
}
DEVICES = {"num_devices": 3, "episode_blocks": 40, "device_action": "residual"}
RUINED = TrainConfig(
    set=DEVICES, keep="best", first_action={"device": (0.9, 0.5)}, lr=10.0, gradient_clip=None, cells=2, slots=10,
    minibatch=80, epochs=4, agent_steps=320, log_std=0.0,
)  # fmt: skip
"""Updates that destroy the policy that it starts from."""


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemarl.marl.training.quality.AGENTS_OF_A_LOOK", 8)
    monkeypatch.setattr("edgemarl.marl.training.quality.SLOTS_OF_A_LOOK", 8)
    monkeypatch.setattr("edgemarl.marl.training.imitation.ROWS", 64)


@pytest.mark.parametrize(
    ("scenario", "recipe"),
    [(s, r) for s in scenario_names() if s in SMALL for r in recipes(s) if r.startswith("team")],
)
def test_every_role_of_a_team_learns(scenario: str, recipe: str, local_cluster: None, tmp_path: Path) -> None:
    fields = fields_of(scenario, recipe)
    own = {"imitate_steps": 2} if fields.get("imitate") else {}
    names = {f.name for f in dataclasses.fields(type(resolve(TrainConfig(scenario=scenario)).scenario.config))}
    sets = {**fields.pop("set", {}), **{name: value for name, value in SMALL[scenario].items() if name in names}}
    config = TrainConfig(scenario=scenario, set=sets, **{**fields, **TINY, **own})
    assert config.keep == "best"
    with Training(config, tmp_path) as training:
        assert training.run.roles == tuple(training.run.scenario.roles)
        before = policy_networks(training.algorithm)
        row = training.step()
        after = policy_networks(training.algorithm)
        assert math.isfinite(row["kept_cost"])
        for role, network in before.items():
            old, new = network.state_dict(), after[role].state_dict()
            assert any(not new[name].equal(value) for name, value in old.items()), f"role {role} did not learn"


def test_training_that_makes_it_worse_leaves_the_policies_it_started_from(
    local_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save's policies are those of the start; training itself goes on with the ruined ones."""
    monkeypatch.setattr("edgemarl.marl.training.quality.SLOTS_OF_A_LOOK", 40)  # until full queues tell
    with Training(RUINED, tmp_path) as training:
        start = policy_networks(training.algorithm)
        assert training.best is not None
        cost = training.best.cost
        while not training.finished:
            training.step()
        training.save()
        ruined = policy_networks(training.algorithm)
        curve = training.rows
    assert np.nanmin([row["greedy_cost"] for row in curve]) > cost
    assert {row["kept_cost"] for row in curve} == {cost}
    for role, policy in saved_policies(tmp_path).policies.items():
        kept = policy.network.state_dict()
        assert all(value.equal(kept[name]) for name, value in start[role].state_dict().items())
        assert not all(value.equal(kept[name]) for name, value in ruined[role].state_dict().items())
    longer = dataclasses.replace(RUINED, agent_steps=480)
    with Training(longer, tmp_path, resume=True) as again:
        for role, network in policy_networks(again.algorithm).items():
            assert all(value.equal(ruined[role].state_dict()[name]) for name, value in network.state_dict().items())
        assert again.best is not None and again.best.cost == cost
        again.step()
        again.save()
    for role, policy in saved_policies(tmp_path).policies.items():
        assert all(value.equal(start[role].state_dict()[name]) for name, value in policy.network.state_dict().items())


def test_what_costs_less_is_kept_and_looks_are_few(local_cluster: None, tmp_path: Path) -> None:
    class Costs:
        """Says what the policies cost, look by look."""

        def __init__(self) -> None:
            self.told = iter((5.0, 7.0, 3.0, 4.0))

        def cost(self, policy: object) -> float:
            return next(self.told)

    with Training(dataclasses.replace(RUINED, agent_steps=LOOKS * 10), tmp_path) as training:
        algorithm = training.algorithm
        best = Best(training.run)
        best._yardstick = Costs()  # type: ignore[assignment]
        seen = [best.look(algorithm)]
        for steps in (4, 9):  # less than a tenth of the budget
            assert math.isnan(best.look_if_due(algorithm, {"agent_steps": steps}))
        for steps in (10, 20, 45):
            seen.append(best.look_if_due(algorithm, {"agent_steps": steps}))
            assert best.cost == min(seen)
    assert seen == [5.0, 7.0, 3.0, 4.0]


def test_runs_that_are_not_told_so_keep_the_last(local_cluster: None, tmp_path: Path) -> None:
    result = train(dataclasses.replace(RUINED, keep="last", lr=1e-3), tmp_path)
    assert "kept_cost" not in result.curve
    assert not list(tmp_path.rglob("newest"))
