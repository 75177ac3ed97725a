"""Where to cut a DNN between device and edge under energy and memory budgets; see `scenario.py`."""

from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig, scaled_resources
from edgemarl.envs.scenarios.model_partitioning.scenario import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
    ModelPartitioningState,
    ModelPartitioningTrace,
)

__all__ = [
    "ModelPartitioning",
    "ModelPartitioningConfig",
    "ModelPartitioningDecisions",
    "ModelPartitioningExogenous",
    "ModelPartitioningState",
    "ModelPartitioningTrace",
    "scaled_resources",
]
