"""Task assignment, model placement and three-resource sharing; see `scenario.py`."""

from edgemarl.envs.scenarios.model_placement.config import ModelPlacementConfig, scaled, slow_backhaul
from edgemarl.envs.scenarios.model_placement.priors import HEAVY, LIGHT, at_level
from edgemarl.envs.scenarios.model_placement.scenario import (
    ModelPlacement,
    ModelPlacementDecisions,
    ModelPlacementExogenous,
    ModelPlacementState,
    ModelPlacementTrace,
)

__all__ = [
    "HEAVY",
    "LIGHT",
    "ModelPlacement",
    "ModelPlacementConfig",
    "ModelPlacementDecisions",
    "ModelPlacementExogenous",
    "ModelPlacementState",
    "ModelPlacementTrace",
    "at_level",
    "scaled",
    "slow_backhaul",
]
