"""Which task runs on which pruned model, and where; see `scenario.py`."""

from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig, preset, scaled
from edgemarl.envs.scenarios.model_pruning.scenario import (
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
    ModelPruningTrace,
)
from edgemarl.envs.scenarios.model_pruning.slot import DROP_REASONS, TOLERANCE, Uplink

__all__ = [
    "DROP_REASONS",
    "TOLERANCE",
    "ModelPruning",
    "ModelPruningConfig",
    "ModelPruningDecisions",
    "ModelPruningExogenous",
    "ModelPruningState",
    "ModelPruningTrace",
    "Uplink",
    "preset",
    "scaled",
]
