"""What a policy's file or object is, by its suffix or kind: a controller for each role, or one of the whole network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgemarl.agents.api import CentralController, Controller
from edgemarl.envs.config import names_of_part
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario

SUFFIXES = (".zip", ".onnx", ".pt")
"""Stable-Baselines3; ONNX; a policy file of this project, an actor of TorchRL or a checkpoint of BenchMARL."""

Found = dict[str, Controller] | CentralController
"""Role -> its controller, or one controller of the whole network."""


def is_policy_file(name: str) -> bool:
    """Whether a controller's name is that of a policy's file, or of a role's run folder with one."""
    return Path(name).suffix in SUFFIXES


def policy_file(path: Path | str, scenario: Scenario, role: str | None = None) -> Found:
    """Who a file's policy plays.

    Args:
        path: ends in one of `SUFFIXES`; actors of TorchRL and models of Stable-Baselines3 are pickles, whose loading
            runs code: only files you trust.
        scenario: what it plays.
        role: the role that it plays, where the file does not tell.

    Raises:
        ValueError: no such file, not a policy, a library that is not installed, a policy that fits nothing here.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"policy file {path} does not exist")
    what = str(path)
    if file.suffix == ".onnx":
        from edgemarl.agents.clients import onnx_file

        return _by_role(onnx_file.controller_of(onnx_file.load_session(file), scenario, what, role))
    if file.suffix == ".zip":
        from edgemarl.agents.clients import sb3

        return _by_role(sb3.controller_of(sb3.load_model(file), scenario, what, role))
    if _is_own(file):
        return _by_role(_own(file, scenario))
    from edgemarl.agents.clients import torchrl
    from edgemarl.agents.trained.learned_state import learned_entries, not_a_policy

    if entries := learned_entries(file.read_bytes()):
        raise ValueError(not_a_policy(file, entries))
    return _only(torchrl.controllers_of(torchrl.load_actor(file), scenario, what), role, what)


def policy_object(model: Any, scenario: Scenario, what: str, role: str | None = None) -> Found | None:
    """Who a model of Stable-Baselines3 or an actor of TorchRL plays; None for anything else."""
    from edgemarl.agents.clients import sb3

    if sb3.is_model(model):
        return _by_role(sb3.controller_of(model, scenario, what, role))
    if hasattr(model, "in_keys"):
        from edgemarl.agents.clients import torchrl

        if torchrl.is_actor(model):
            return _only(torchrl.controllers_of(model, scenario, what), role, what)
    return None


def _by_role(player: Controller | CentralController) -> Found:
    return player if isinstance(player, CentralController) else {str(player.role): player}


def _only(controllers: dict[str, Controller], role: str | None, what: str) -> dict[str, Controller]:
    if role is None:
        return controllers
    if role not in controllers:
        raise ValueError(f"{what} plays {', '.join(controllers)}, not role '{role}'")
    return {role: controllers[role]}


def _is_own(file: Path) -> bool:
    """Whether a file is one of `TrainedPolicy.save`; nothing of it is run."""
    import torch

    from edgemarl.agents.trained.learned_state import UNREADABLE

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE:
        return False
    return isinstance(content, dict) and "header" in content


def _own(file: Path, scenario: Scenario) -> Controller | CentralController:
    """A policy file of a training run, in a scenario with the run's settings of what is seen and done."""
    from edgemarl.agents.trained.policy import CENTRAL, NetworkCentralController, NetworkController, TrainedPolicy

    policy = TrainedPolicy.load(file)
    if policy.information.get("pooled"):
        raise ValueError(f"{file} needs the pooled rows of all agents: name the folder of its run instead")
    trained = make_scenario(policy.scenario, **policy.information.get("train", {}).get("set", {})).config
    for name in names_of_part(scenario.config_type, "interface", "controller"):
        before, now = getattr(trained, name, None), getattr(scenario.config, name)
        if policy.scenario == scenario.name and before != now:
            raise ValueError(
                f"{file} was trained with {name} = {before!r}, the scenario has {now!r}: --set {name}={before}"
            )
    fitted = policy.fitted(scenario)
    fitted.check(scenario)
    if policy.role == CENTRAL:
        return NetworkCentralController(str(file), fitted)
    controller = NetworkController(fitted)
    controller.role = policy.role
    return controller
