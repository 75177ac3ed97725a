"""Physics and environments: what happens in an edge network, slot by slot. Imports nothing else of ours."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgemarl.envs.registry import register_shipped_ids

if TYPE_CHECKING:
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
    from edgemarl.envs.central import CentralEnv
    from edgemarl.envs.config import config_class, quantity
    from edgemarl.envs.parallel import ScenarioParallelEnv
    from edgemarl.envs.registry import (
        make_scenario,
        register_scenario,
        scenario_class,
        scenario_names,
    )
    from edgemarl.envs.scenario import Parts, Role, Scenario, Signalling, Step, total_cost
    from edgemarl.envs.trace import Trace, drawn
    from edgemarl.envs.vector import CentralVectorEnv

_MODULE_OF = {
    "arrays": ("Array",),
    "capabilities": (
        "Counterfactual",
        "Described",
        "Foreseeing",
        "Grouped",
        "HybridActions",
        "Masked",
        "Portrait",
        "Portrayed",
        "RowEntry",
    ),
    "central": ("CentralEnv",),
    "config": ("config_class", "quantity"),
    "parallel": ("ScenarioParallelEnv",),
    "registry": ("make_scenario", "register_scenario", "scenario_class", "scenario_names"),
    "scenario": ("Parts", "Role", "Scenario", "Signalling", "Step", "total_cost"),
    "trace": ("Trace", "drawn"),
    "vector": ("CentralVectorEnv",),
}
"""Module -> names, loaded when they are asked for: a list of scenarios needs no arrays."""
_WHEN_ASKED_FOR = {name: module for module, names in _MODULE_OF.items() for name in names}

__all__ = [
    "Array",
    "CentralEnv",
    "CentralVectorEnv",
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
    return getattr(import_module(f"{__name__}.{_WHEN_ASKED_FOR[name]}"), name)


register_shipped_ids()  # `gymnasium.make("EdgeMARL/SequentialOffloading-v0")`
