"""The recipe of `model_partitioning` in a large cell: who learns from a row is not behind a rule that reads it too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgemarl.agents.api import Policy
from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.plan import fields_at_size
from edgemarl.launch.recipes import resolved
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import Training

DEVICES = 50


def objective(scenario: Scenario, policy: Policy) -> float:
    """Mean of 150 slots of two cells."""
    trace = scenario.sample_trace(np.random.default_rng(7), cells=2, slots=150)
    return float(rollout(policy, scenario, trace, np.random.default_rng(0)).means["objective"].mean())


def test_devices_learn_to_cost_less_than_the_rule_that_hears_the_same(local_cluster: None, tmp_path: Path) -> None:
    """2,000 slots of 50 devices; with 4 steps of the optimiser per iteration (`ppo_plain`) it is a third above."""
    load = {"mean_arrival_rate_hz": 2.5}
    cell = {**load, **fields_at_size("model_partitioning", load, DEVICES)}
    own = {"recipe": "ppo", "agent_steps": 100_000, "set": cell, "cells": 2, "slots": 25}
    with Training(TrainConfig(scenario="model_partitioning", **resolved("model_partitioning", own)), tmp_path) as run:
        while not run.finished:
            run.step()
        run.save()
        learned = objective(run.run.scenario, run.policy())
    network = make_scenario("model_partitioning", **cell)
    assert learned < objective(network, make_policy(network, "price_greedy"))
