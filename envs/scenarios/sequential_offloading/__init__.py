"""How much of a DNN a device computes before it sends the rest; see `scenario.py`."""

from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig, scaled_server
from edgemarl.envs.scenarios.sequential_offloading.scenario import (
    SLIVER_TASKS,
    SequentialOffloading,
    SequentialOffloadingDecisions,
    SequentialOffloadingExogenous,
    SequentialOffloadingState,
    SequentialOffloadingTrace,
)

__all__ = [
    "SLIVER_TASKS",
    "SequentialOffloading",
    "SequentialOffloadingConfig",
    "SequentialOffloadingDecisions",
    "SequentialOffloadingExogenous",
    "SequentialOffloadingState",
    "SequentialOffloadingTrace",
    "scaled_server",
]
