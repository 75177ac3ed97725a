"""Physics and environments: what happens in an edge network, slot by slot. Imports nothing else of ours."""

from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Role, Scenario, Signalling, Step

__all__ = ["Role", "Scenario", "Signalling", "Step", "make_scenario", "scenario_names"]
