"""Physics and environments: what happens in an edge network, slot by slot. Imports nothing else of ours."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import (
    Counterfactual,
    Described,
    Foreseeing,
    Grouped,
    HybridActions,
    Masked,
    Portrait,
    Portrayed,
    RowEntry,
)
from edgemarl.envs.config import config_class, quantity
from edgemarl.envs.registry import make_scenario, register_scenario, scenario_class, scenario_names
from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step, total_cost
from edgemarl.envs.trace import Trace, drawn

if TYPE_CHECKING:
    from edgemarl.envs.central import CentralEnv
    from edgemarl.envs.parallel import ScenarioParallelEnv

_WHEN_ASKED_FOR = {
    "CentralEnv": "edgemarl.envs.central",
    "ScenarioParallelEnv": "edgemarl.envs.parallel",
}
"""What needs heavy packages: name -> module."""

__all__ = [
    "Array",
    "CentralEnv",
    "Counterfactual",
    "Described",
    "Foreseeing",
    "Grouped",
    "HybridActions",
    "Masked",
    "Parts",
    "Portrait",
    "Portrayed",
    "Role",
    "RowEntry",
    "Scenario",
    "ScenarioParallelEnv",
    "Signalling",
    "Step",
    "Trace",
    "config_class",
    "drawn",
    "make_scenario",
    "quantity",
    "register_scenario",
    "scenario_class",
    "scenario_names",
    "total_cost",
]


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
