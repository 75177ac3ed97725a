"""The policy that a training run left, ready to control a scenario; needs no Ray."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.clients.files import is_policy_file
from edgemarl.agents.registry import acting_order, announcements, make_controller, make_policy, playbook_of
from edgemarl.agents.trained.policy import (
    CENTRAL,
    NetworkCentralController,
    NetworkController,
    TrainedPolicy,
)
from edgemarl.envs.checks import checked_path
from edgemarl.envs.config import FieldPart, names_of_part
from edgemarl.envs.scenario import Scenario, checked_scenario
from edgemarl.marl.algorithms.settings import RunFields
from edgemarl.marl.training.saves import MANIFEST, POLICY, DamagedError, Save, from_newest, save_folders
from edgemarl.marl.trust import check_code, code_named

logger = logging.getLogger(__name__)

MODULES = "learner_group/learner/rl_module"
"""Folder of a checkpoint of RLlib that holds its networks."""
RUNS_SHOWN = 6
"""Runs that a message names at most."""


@dataclass(frozen=True)
class SavedPolicies:
    """The policies of one save of a run.

    Attributes:
        policies: role -> policy.
        digest: of their files; another one where any bit differs.
        steps: agent-steps trained.
        save: the save; None for a run of an earlier version.
    """

    policies: dict[str, TrainedPolicy]
    digest: str
    steps: int
    save: Save | None


def saved_policies(path: Path | str) -> SavedPolicies:
    """The policies of a run's newest save that is whole.

    Args:
        path: the run's folder, or the folder of one of its saves.

    Raises:
        ValueError: no policy there, or none that is whole.
    """
    path = named_run(path)

    def take(save: Save) -> SavedPolicies:
        files = {role: save.read(name) for role, name in save.policies.items()}
        policies = {role: _policy(files[role], save.path / save.policies[role]) for role in files}
        return SavedPolicies(policies, save.manifest["policies"], save.steps, save)

    saved = from_newest(path, take) or _old_policies(path)
    if not saved.policies:
        raise ValueError(f"{path} holds no trained policy (no {POLICY}/*.pt) and no checkpoint of RLlib")
    return saved


def _old_policies(path: Path) -> SavedPolicies:
    """The policies of a run of an earlier version, which wrote them one after the other."""
    content = {file: file.read_bytes() for file in sorted((path / POLICY).glob("[!.]*.pt"))}
    policies = {file.stem: _policy(weights, file) for file, weights in content.items()}
    steps = {role: int(policy.information.get("agent_steps", 0)) for role, policy in policies.items()}
    if len({*steps.values()}) > 1:
        raise DamagedError(f"the policies of {path} are of different saves ({steps} agent-steps): go on with the run")
    files = {
        f"{POLICY}/{file.name}": [len(weights), hashlib.sha256(weights).hexdigest()]
        for file, weights in content.items()
    }
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return SavedPolicies(policies, digest, max(steps.values(), default=0), None)


def _policy(content: bytes, file: Path) -> TrainedPolicy:
    policy = TrainedPolicy.from_bytes(content, file)
    if policy.role != file.stem:
        raise DamagedError(f"{file} holds the policy of role '{policy.role}', its name says '{file.stem}'")
    return policy


def load_policy(path: Path | str, scenario: Scenario, greedy: bool = True) -> Policy:
    """The policy of a run's folder, of a checkpoint or of a file, ready to control a scenario; needs no running Ray.

    Of a run the newest whole save is read.

    A shared policy controls any number of agents. Settings of the scenario that say what agents see and how their
    actions read (`edgemarl.envs.config.FieldPart`) are those of the training run.

    Args:
        path: the folder of a run, or of one run alone; a checkpoint of RLlib or a trial of Ray Tune
            (`edgemarl.marl.rllib.checkpoint`); a policy's file (`edgemarl.agents.clients.files`).
        scenario: what it plays.
        greedy: take the most likely action; files always do.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    checked_path("path", path)
    checked_scenario(scenario)
    if is_policy_file(str(path)):
        return make_policy(scenario, str(path))
    path = named_run(path)
    if is_checkpoint(path):
        return _of_checkpoint(Path(path), scenario, greedy)
    return playing(saved_policies(path), path, scenario, greedy)


def is_checkpoint(path: Path | str) -> bool:
    """Whether a folder is, or holds, a checkpoint of RLlib or of Ray Tune and no run of ours."""
    folder = named_run(path)
    return not _is_ours(folder) and folder.is_dir() and any(folder.glob("**/rl_module"))


def named_run(path: Path | str) -> Path:
    """The run or checkpoint that a folder is, or the only one in it; the folder itself where there is none.

    A trial of Ray Tune, whose checkpoints are `checkpoint_000000`, .., is one run.

    Raises:
        ValueError: several runs in it.
    """
    folder = Path(path)
    if not folder.is_dir() or _is_run(folder):
        return folder
    inside = []
    for name, folders, _ in os.walk(folder):
        below = sorted(Path(name) / child for child in folders if not child.startswith("."))
        runs = [child for child in below if _is_run(child)]
        inside += runs
        folders[:] = [child.name for child in below if child not in runs]
    if len(inside) > 1:
        names = [str(run.relative_to(folder)) for run in sorted(inside)]
        shown = ", ".join([*names[:RUNS_SHOWN], *([f"and {len(names) - RUNS_SHOWN} more"] * (len(names) > RUNS_SHOWN))])
        raise ValueError(f"{folder} holds runs {shown}: name one, such as {folder / names[0]}")
    return inside[0] if inside else folder


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours, one of its saves, a checkpoint of RLlib or a trial of Ray Tune."""
    checkpoints = (child / MODULES for child in folder.glob("checkpoint_*"))
    return _is_ours(folder) or (folder / MODULES).is_dir() or any(modules.is_dir() for modules in checkpoints)


def _is_ours(folder: Path) -> bool:
    return bool(save_folders(folder)) or (folder / MANIFEST).is_file() or any((folder / POLICY).glob("[!.]*.pt"))


def policies_digest(path: Path | str) -> str:
    """Of what a run's newest save, or a checkpoint of RLlib, acts with: another one where any bit differs.

    Raises:
        ValueError: as `saved_policies`.
    """
    if not is_checkpoint(path):
        return saved_policies(path).digest
    folder = named_run(path)
    total = hashlib.sha256()
    for file in sorted(folder.glob("**/rl_module/**/*")):
        if file.is_file():
            total.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return total.hexdigest()


def _of_checkpoint(path: Path, scenario: Scenario, greedy: bool) -> Policy:
    from edgemarl.marl.rllib.checkpoint import (  # Ray takes seconds to import
        batched_policies,
        module_policy,
        read_checkpoint,
    )

    checkpoint = read_checkpoint(path)
    if not checkpoint.batched:
        return module_policy(checkpoint, scenario, greedy)
    policies, fields = batched_policies(checkpoint)
    if fields.scenario != scenario.name:
        raise ValueError(f"the checkpoint {path} is of scenario '{fields.scenario}', not of '{scenario.name}'")
    return trained_policy(policies, fields, scenario, greedy, checkpoint.name)


def playing(saved: SavedPolicies, path: Path | str, scenario: Scenario, greedy: bool = True) -> Policy:
    """Policies that were read, as `load_policy`; a line says where their training went wrong."""
    policies = saved.policies
    if saved.save is not None and saved.save.problem:
        logger.warning("the training of %s went wrong: %s", path, saved.save.problem)
    first = max(policies.values(), key=lambda policy: len(policy.information.get("train", {}).get("set", {})))
    if first.scenario != scenario.name:
        raise ValueError(f"the checkpoint {path} is of scenario '{first.scenario}', not of '{scenario.name}'")
    told = first.information.get("train", {})
    if code_named(told) and not (saved.save is not None and saved.save.trusted):
        check_code(told, path)
    fields = run_fields(told, path)
    name = f"{fields.algorithm}_{'central' if fields.control == 'central' else fields.policies}"
    return trained_policy(policies, fields, scenario, greedy, name)


def trained_policy(
    policies: Mapping[str, TrainedPolicy], fields: RunFields, scenario: Scenario, greedy: bool, name: str
) -> Policy:
    """The policy that the networks of a run are together with its fixed controllers.

    Args:
        policies: learned role -> its policy, or CENTRAL -> the joint one.
        fields: the run's.

    Raises:
        ValueError: a policy that cannot act in the scenario.
    """
    acting = with_training_interface(scenario, fields)
    policies = {role: policy.fitted(acting) for role, policy in policies.items()}
    for policy in policies.values():
        policy.check(acting)
    if CENTRAL in policies:
        return TrainedCentral(fields, name, policies[CENTRAL], greedy)
    prices = announcements(acting, policies, fields.fixed)
    members: dict[str, Controller] = {r: NetworkController(p, greedy, prices.get(r)) for r, p in policies.items()}
    members.update({role: make_controller(acting, role, controller) for role, controller in fields.fixed.items()})
    absent = [role for role in acting.roles if role not in members]
    if absent:  # no agent when the run was made: it plays as the rule that was computed in its place
        members.update({role: make_controller(acting, role, playbook_of(acting).partners[role]) for role in absent})
    order = acting_order(acting, policies, [*fields.fixed, *absent])
    pooled = tuple(policies) if fields.pooled else ()
    return TrainedTeam(fields, name, {role: members[role] for role in acting.roles}, order, pooled=pooled)


def run_fields(values: Mapping[str, Any], where: Path | str) -> RunFields:
    """The fields of a run from what a policy file says of its training; settings of the algorithm are left out.

    Args:
        values: name -> value.
        where: the file or folder that says so, for messages.

    Raises:
        ValueError: a value that is not legal.
    """
    names = {field.name for field in dataclasses.fields(RunFields)}
    try:
        return RunFields(**{name: value for name, value in values.items() if name in names})
    except ValueError as error:
        raise ValueError(f"what {where} says of its training is not legal: {error}") from None


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
