"""What a trained joint policy costs, for tests of learners."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgemarl.envs.scenario import Scenario
from edgemarl.marl.training.trained import load_policy


def first_slot_cost(folder: Path, scenario: Scenario) -> float:
    """Mean cost of the first slot of 50 networks under the policy of a training run's folder."""
    policy = load_policy(folder, scenario)
    trace = scenario.sample_trace(np.random.default_rng(5), 50, 1)
    policy.reset(scenario, trace)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    decisions = policy.decide(state, exogenous, np.random.default_rng(0))
    return float(scenario.step(state, decisions, exogenous).metrics["cost"].mean())
