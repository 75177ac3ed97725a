"""A checkpoint of RLlib or Ray Tune as a policy: its own runner's, of any RLModule, and the batched runner's.

No Ray is started. Loading runs what the checkpoint pickled: only checkpoints that you trust.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.core.rl_module.rl_module import RLModule

from edgemarl.agents.api import Policy
from edgemarl.agents.clients.predict import Predict, PredictCentral, PredictController, fitting, units_of
from edgemarl.agents.registry import make_controller, message_entries, policy_of
from edgemarl.agents.trained.earlier import with_earlier_defaults
from edgemarl.agents.trained.policy import CENTRAL, TrainedPolicy
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.names import WORDS
from edgemarl.envs.parallel import ActionUnits
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.algorithms.settings import RunFields

MODULES = Path("learner_group/learner/rl_module")
CONSTRUCTOR = "class_and_ctor_args.pkl"
DEFAULT = "default_policy"
ROW, MASK = "observations", "action_mask"


def checkpoint_in(path: Path) -> Path | None:
    """The checkpoint that a folder is, or the newest one in it, as in a trial of Ray Tune; None if there is none."""
    if (path / MODULES).is_dir():
        return path
    inside = [folder.parents[len(MODULES.parts) - 1] for folder in path.glob(f"**/{MODULES}") if folder.is_dir()]
    return max(inside, key=lambda folder: (folder / CONSTRUCTOR).stat().st_mtime, default=None)


@dataclass(frozen=True)
class RLlibCheckpoint:
    """Modules of a checkpoint, the plain values of its algorithm's configuration, and its name in tables."""

    name: str
    modules: MultiRLModule
    config: Mapping[str, Any]

    @property
    def batched(self) -> bool:
        """Whether the batched runner sampled for it."""
        return "target" in (self.config.get("env_config") or {})


def read_checkpoint(path: Path | str) -> RLlibCheckpoint:
    """The checkpoint in a folder that `algorithm.save_to_path` or Ray Tune wrote, or one above it.

    Raises:
        ValueError: no checkpoint there, or one that does not load here.
    """
    folder = checkpoint_in(Path(path))
    if folder is None:
        raise ValueError(f"{path} holds no checkpoint of RLlib (no {MODULES})")
    try:
        with (folder / CONSTRUCTOR).open("rb") as file:
            constructor = pickle.load(file)
        modules = RLModule.from_checkpoint(str((folder / MODULES).resolve()))
        config: Any = constructor["ctor_args_and_kwargs"][0][0]
    except (OSError, KeyError, IndexError, ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"checkpoint {folder} does not load: {type(error).__name__}: {error}") from error
    assert isinstance(modules, MultiRLModule)
    plain = config if isinstance(config, Mapping) else config.to_dict()
    return RLlibCheckpoint(f"{constructor['class'].__name__} {folder.name}", modules, plain)


def batched_policies(checkpoint: RLlibCheckpoint) -> tuple[dict[str, TrainedPolicy], RunFields]:
    """Networks of the batched runner's checkpoint, and what its run's fields say of how they act."""
    settings = checkpoint.config["env_config"]
    central = tuple(settings["roles"]) == (CENTRAL,)
    networks = {role: module.unwrapped().policy for role, module in checkpoint.modules.items()}
    overrides = dict(settings["overrides"])
    for role, network in networks.items():
        overrides = with_earlier_defaults(overrides, settings["scenario"], role, network.spec)
    fields = RunFields(
        scenario=settings["scenario"], set=overrides, fixed=dict(settings["fixed"]),
        control="central" if central or settings["pooled"] else "decentralized",
        central_policy="joint" if central else "pooled",
    )  # fmt: skip
    heard = message_entries(fields.make_scenario(), fields.fixed)
    information = {"pooled": fields.pooled, "message_entries": heard}
    return {r: TrainedPolicy(network, fields.scenario, r, information) for r, network in networks.items()}, fields


def module_policy(checkpoint: RLlibCheckpoint, scenario: Scenario, greedy: bool = True) -> Policy:
    """The policy of RLlib's own runner on `ScenarioMultiAgentEnv`, or on `CentralEnv`.

    Modules are found by their role: named after it ("device" or "wd"), or RLlib's one `default_policy` of the role,
    or of the whole network, whose observations it takes. Roles that were `fixed` in training are played by the same
    controllers, others by the playbook's partners.

    Args:
        checkpoint: what was read.
        scenario: what it plays.
        greedy: take the most likely action.

    Raises:
        ValueError: modules that fit nothing here, connectors or states that are not RLlib's own.
    """
    config, name = checkpoint.config, checkpoint.name
    for side in ("_env_to_module_connector", "_module_to_env_connector"):
        if config.get(side) is not None:
            raise ValueError(f"{name} has a connector of its own ({side[1:]}), without which its policy is another")
    given = (config.get("env_config") or {}).get("fixed") or {}
    fixed = {role: chosen for role, chosen in given.items() if role in scenario.roles}
    members = {role: make_controller(scenario, role, chosen) for role, chosen in fixed.items()}
    for module_id, module in checkpoint.modules.items():
        role = _role_of(module_id, module, scenario, name)
        predict = module_predict(module, greedy)
        if role is None:
            return PredictCentral(predict, name, _units(module, scenario.central_space, config))
        units = _units(module, scenario.roles[role].action_space, config)
        members[role] = PredictController(predict, name, role, units)
    return policy_of(scenario, members, name)


def _role_of(module_id: str, module: Any, scenario: Scenario, name: str) -> str | None:
    """The role of a module, None for central control."""
    words = {**{role: role for role in scenario.roles}, **{WORDS.get(role, role): role for role in scenario.roles}}
    if module_id in words:
        return words[module_id]
    if module_id != DEFAULT:
        raise ValueError(unknown_name(f"module in {name}", module_id, [*words, DEFAULT]))
    rows = module.observation_space
    rows = rows[ROW] if isinstance(rows, gymnasium.spaces.Dict) else rows
    return fitting(scenario, rows.shape, module.action_space, name)


def _units(module: Any, own: gymnasium.Space[Any], config: Mapping[str, Any]) -> ActionUnits:
    """RLlib's modules put out [-1, 1] where it normalises actions, which it does by default."""
    if isinstance(own, gymnasium.spaces.Box) and config.get("normalize_actions", True):
        return "unit"
    return units_of(module.action_space, own)


def module_predict(module: Any, greedy: bool = True) -> Predict:
    """An RLModule as a function of rows and masks.

    Raises:
        ValueError: a module that keeps a state between slots.
    """
    if module.is_stateful():
        raise ValueError(f"{type(module).__name__} keeps a state between slots: such modules are not supported")
    masked = isinstance(module.observation_space, gymnasium.spaces.Dict)

    @torch.no_grad()
    def predict(rows: Array, mask: Array | None) -> Array:
        flat = rows.reshape(-1, rows.shape[-1])
        seen: Any = torch.from_numpy(flat)
        if masked and mask is not None:
            seen = {MASK: torch.from_numpy(mask.reshape(len(flat), -1).astype(np.float32)), ROW: seen}
        out = module.forward_inference({Columns.OBS: seen})
        if Columns.ACTIONS in out:
            return np.asarray(out[Columns.ACTIONS])
        distribution = module.get_inference_action_dist_cls().from_logits(out[Columns.ACTION_DIST_INPUTS])
        chosen = distribution.to_deterministic() if greedy else distribution
        actions: Array = chosen.sample().numpy()
        return actions

    return predict
