"""How much of a DNN a device computes before it sends the rest; see `scenario.py`."""

from edgemarl.envs.scenarios.sequential_offloading.config import (
    SLIVER_TASKS,
    SequentialOffloadingConfig,
    scaled_server,
)
from edgemarl.envs.scenarios.sequential_offloading.scenario import (
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
