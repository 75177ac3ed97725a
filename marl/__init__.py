"""Learning and evaluation: rollouts over batches of cells, paired comparison, training with RLlib."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgemarl.marl.evaluation.rollout import GivenTraces, Rollout, SampledTraces, rollout

if TYPE_CHECKING:
    from edgemarl.marl.algorithms.base import Algorithm, Needs, Run
    from edgemarl.marl.evaluation.compare import Comparison, Outcome, compare
    from edgemarl.marl.evaluation.table import compare_controllers
    from edgemarl.marl.evaluation.traces import load_trace, save_trace
    from edgemarl.marl.training.config import TrainConfig, resolve
    from edgemarl.marl.training.run import Training, TrainResult, train
    from edgemarl.marl.training.trained import load_policy

_WHEN_ASKED_FOR = {
    "Algorithm": "edgemarl.marl.algorithms.base",
    "Needs": "edgemarl.marl.algorithms.base",
    "Run": "edgemarl.marl.algorithms.base",
    "Comparison": "edgemarl.marl.evaluation.compare",
    "Outcome": "edgemarl.marl.evaluation.compare",
    "compare": "edgemarl.marl.evaluation.compare",
    "compare_controllers": "edgemarl.marl.evaluation.table",
    "load_trace": "edgemarl.marl.evaluation.traces",
    "save_trace": "edgemarl.marl.evaluation.traces",
    "TrainConfig": "edgemarl.marl.training.config",
    "resolve": "edgemarl.marl.training.config",
    "TrainResult": "edgemarl.marl.training.run",
    "Training": "edgemarl.marl.training.run",
    "train": "edgemarl.marl.training.run",
    "load_policy": "edgemarl.marl.training.trained",
}
"""What needs heavy packages: name -> module."""

__all__ = [
    "Algorithm",
    "Comparison",
    "GivenTraces",
    "Needs",
    "Outcome",
    "Rollout",
    "Run",
    "SampledTraces",
    "TrainConfig",
    "TrainResult",
    "Training",
    "compare",
    "compare_controllers",
    "load_policy",
    "load_trace",
    "resolve",
    "rollout",
    "save_trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
