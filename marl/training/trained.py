"""The policy that a training run left, ready to control a scenario; needs no Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.registry import acting_order, announcements, make_controller
from edgemarl.agents.trained.policy import (
    CENTRAL,
    NetworkCentralController,
    NetworkController,
    TrainedPolicy,
)
from edgemarl.envs.config import FieldPart, names_of_part
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.algorithms.settings import RunFields


def load_policy(path: Path | str, scenario: Scenario, greedy: bool = True) -> Policy:
    """The policy of a run's folder, ready to control a scenario; needs no Ray.

    A shared policy controls any number of agents. Settings of the scenario that say what agents see and how their
    actions read (`edgemarl.envs.config.FieldPart`) are those of the training run.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    files = sorted((Path(path) / "policy").glob("*.pt"))
    if not files:
        raise ValueError(f"{path} holds no trained policy (no policy/*.pt)")
    policies = {file.stem: TrainedPolicy.load(file) for file in files}
    first = next(iter(policies.values()))
    if first.scenario != scenario.name:
        raise ValueError(f"the checkpoint {path} is of scenario '{first.scenario}', not of '{scenario.name}'")
    return policy_of(policies, scenario, greedy)


def policy_of(policies: Mapping[str, TrainedPolicy], scenario: Scenario, greedy: bool = True) -> Policy:
    """The networks of a run, by role, as a policy of the whole network; see `load_policy`.

    Raises:
        ValueError: of another observation size or number of agents.
    """
    first = next(iter(policies.values()))
    fields = run_fields(first.information["train"])
    acting = with_training_interface(scenario, fields)
    policies = {role: policy.fitted(acting) for role, policy in policies.items()}
    for policy in policies.values():
        policy.check(acting)
    name = f"{fields.algorithm}_{'central' if fields.control == 'central' else fields.policies}"
    if CENTRAL in policies:
        return TrainedCentral(fields, name, policies[CENTRAL], greedy)
    told = announcements(acting, policies, fields.fixed)
    members: dict[str, Controller] = {r: NetworkController(p, greedy, told.get(r)) for r, p in policies.items()}
    members.update({role: make_controller(acting, role, controller) for role, controller in fields.fixed.items()})
    order = acting_order(acting, policies, fields.fixed)
    pooled = tuple(policies) if fields.pooled else ()
    return TrainedTeam(fields, name, {role: members[role] for role in acting.roles}, order, pooled=pooled)


def run_fields(values: Mapping[str, Any]) -> RunFields:
    """The fields of a run from what a policy file says of its training; settings of the algorithm are left out."""
    names = {field.name for field in dataclasses.fields(RunFields)}
    return RunFields(**{name: value for name, value in values.items() if name in names})


def with_training_interface(scenario: Scenario, fields: RunFields) -> Scenario:
    """The scenario seen and acted on as in the training run, also where it has other settings of that kind."""
    return _with_fields_of(scenario, fields, "interface", "controller")


def training_world(scenario: Scenario, fields: RunFields) -> Scenario:
    """The scenario with the fields that a controller brings along as in the training run."""
    return _with_fields_of(scenario, fields, "controller")


def _with_fields_of(scenario: Scenario, fields: RunFields, *parts: FieldPart) -> Scenario:
    names = names_of_part(scenario.config_type, *parts)
    trained = fields.make_scenario().config
    values = {name: getattr(trained, name) for name in names}
    return type(scenario)(dataclasses.replace(scenario.config, **values)) if values else scenario


class _AsTrained:
    """Before a policy's class: it observes and acts through the settings that it was trained with."""

    def __init__(self, fields: RunFields, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = fields

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(with_training_interface(scenario, self.fields), trace)  # type: ignore[misc]

    def world(self, scenario: Scenario) -> Scenario:
        return training_world(scenario, self.fields)


class TrainedTeam(_AsTrained, Team):
    """Networks of the roles, decentralized or with pooled rows, and the fixed controllers beside which they learned."""


class TrainedCentral(_AsTrained, NetworkCentralController):
    """A network that decides the joint action from the global state."""
