"""Speed as numbers: each file measures one part of the product against a reference in the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

GROUPS: dict[str, str] = {
    "steps": "edgemarl.marl.benchmarks.steps:speeds",
    "sequential_offloading": "edgemarl.marl.benchmarks.sequential_offloading:step_speeds",
    "parametric_q": "edgemarl.marl.benchmarks.q_updates:speeds",
    "model_partitioning": "edgemarl.marl.benchmarks.model_partitioning:speeds",
    "model_placement": "edgemarl.marl.benchmarks.model_placement:placement_speeds",
    "model_pruning": "edgemarl.marl.benchmarks.model_pruning:speeds",
    "sampling_rate": "edgemarl.marl.benchmarks.sampling_rate:speeds",
    "rllib": "edgemarl.marl.benchmarks.rllib:training_speeds",
    "ddpg": "edgemarl.marl.benchmarks.rllib:ddpg_speed",
    "rllib_independent": "edgemarl.marl.benchmarks.rllib:independent_policies",
    "processes": "edgemarl.marl.benchmarks.processes:speeds",
}
"""Group -> "module:function"; the function takes nothing and returns name -> number."""


def load_group(name: str) -> Callable[[], Mapping[str, float]]:
    """The function of a group."""
    module, function = GROUPS[name].split(":")
    group: Callable[[], Mapping[str, float]] = getattr(import_module(module), function)
    return group
