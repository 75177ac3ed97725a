"""What tasks of each criticality ask for in `model_pruning`, and what controllers give them (the paper's Fig. 10)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgemarl.agents.registry import make_policy
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.model_pruning import ModelPruning
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig

CONTROLLERS = ("near_optimal", "cell_plan_static_100", "agdm")
NETWORKS, SLOTS = 5, 40


def requirements_met(config: ModelPruningConfig, level: float) -> dict[str, float]:
    """Required and obtained delay and accuracy of one criticality level, 5 networks of 40 slots.

    Args:
        level: 0 (least critical) to K - 1.

    Returns:
        level, deadline_s, required_accuracy, and for each of `CONTROLLERS` NAME_delay_s and NAME_accuracy, means of the
        tasks that were not dropped (NaN if none is left), and NAME_dropped, the share of the level's tasks that were.

    Raises:
        ValueError: a level that the scenario does not have.
    """
    scenario = ModelPruning(config)
    index = int(level)
    if index != level or not 0 <= index < config.num_criticality_levels:
        raise ValueError(
            f"level = {level:g} is not legal: must be a whole number in [0, {config.num_criticality_levels - 1}]"
        )
    measures = {
        "level": level,
        "deadline_s": float(scenario.deadline_s[index]),
        "required_accuracy": float(scenario.required_accuracy[index]),
    }
    for name in CONTROLLERS:
        levels, delay_s, accuracy, dropped = obtained(config, name)
        asked = levels == index
        kept = asked & ~dropped
        measures[f"{name}_delay_s"] = float(delay_s[kept].mean()) if kept.any() else np.nan
        measures[f"{name}_accuracy"] = float(accuracy[kept].mean()) if kept.any() else np.nan
        measures[f"{name}_dropped"] = float(dropped[asked].mean()) if asked.any() else np.nan
    return measures


@lru_cache(maxsize=len(CONTROLLERS))
def obtained(config: ModelPruningConfig, controller: str) -> tuple[Array, Array, Array, Array]:
    """Level, delay in s, accuracy and whether it was dropped, of every task (slots, networks, N) of an episode."""
    scenario = ModelPruning(config)
    policy = make_policy(scenario, controller)
    trace = scenario.sample_trace(np.random.default_rng(0), NETWORKS, SLOTS)
    rng = np.random.default_rng([0, 1])
    policy.reset(scenario, trace)
    state, rows = scenario.initial_state(trace), []
    for t in range(SLOTS):
        exogenous = scenario.exogenous(trace, t)
        decisions = policy.decide(state, exogenous, rng)
        step = scenario.step(state, decisions, exogenous)
        local = scenario.accuracies[decisions.model][:, scenario.blocks.gateway]
        accuracy = np.where(decisions.offload != 0, scenario.config.edge_model_accuracy, local)
        rows.append((state.criticality_level, step.details["delay_s"], accuracy, step.details["dropped"] != 0))
        state = step.state
    level, delay_s, accuracy, dropped = (np.stack(column) for column in zip(*rows, strict=True))
    return level, delay_s, accuracy, dropped
