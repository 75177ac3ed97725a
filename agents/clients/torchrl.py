"""Actors of TorchRL and BenchMARL: a pickled `TensorDictModule`, a checkpoint of a BenchMARL experiment, or the actor.

An actor reads ("wd", "observation") and writes ("wd", "action"), as `PettingZooWrapper` names the tensors of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgemarl.agents.api import Controller
from edgemarl.agents.clients.predict import Predict, PredictController
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.names import WORDS
from edgemarl.envs.parallel import ActionUnits
from edgemarl.envs.scenario import Scenario

ACTION, MASK = "action", "action_mask"


def is_actor(value: Any) -> bool:
    """Whether an object is a `TensorDictModule`; the library is not imported."""
    return callable(value) and hasattr(value, "in_keys") and hasattr(value, "out_keys")


def load_actor(path: Path) -> Any:
    """The actor of a file. Loading runs the file's pickled code: only files you trust.

    Raises:
        ValueError: the library is not installed, or the file holds no actor.
    """
    try:
        import tensordict  # noqa: F401 - what the file's classes come from
    except ImportError as error:
        raise ValueError(f"{path} needs TorchRL (pip install 'edgemarl[clients]'): {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle may raise anything
        raise ValueError(
            f"{path} does not load: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    if isinstance(content, dict) and (path.resolve().parent.parent / "config.pkl").is_file():
        return _of_experiment(path)
    if not is_actor(content):
        raise ValueError(
            f"{path} holds a {type(content).__name__}: must hold an actor (torch.save(policy, path) of a "
            "TensorDictModule) or be a checkpoint in the folder of a BenchMARL experiment"
        )
    return content


def _of_experiment(path: Path) -> Any:
    """The policy of a BenchMARL experiment at a checkpoint."""
    from benchmarl.experiment import Experiment

    experiment = Experiment.reload_from_file(str(path), experiment_patch={"loggers": [], "create_json": False})
    policy = experiment.policy
    experiment.close()
    return policy


def controllers_of(actor: Any, scenario: Scenario, what: str, actions: ActionUnits = "own") -> dict[str, Controller]:
    """Role -> controller for every group of agents whose actions an actor writes.

    Args:
        actor: a `TensorDictModule` with keys of groups, or without a group where the scenario has one role.
        scenario: what it plays.
        what: what it is, for messages.
        actions: units in which it was trained.

    Raises:
        ValueError: it writes no action, or those of an unknown group.
    """
    words = {WORDS.get(role, role): role for role in scenario.roles}
    known = {**{role: role for role in scenario.roles}, **words}
    controllers: dict[str, Controller] = {}
    for key in _action_keys(actor):
        group = key[0] if len(key) > 1 else next(iter(known))
        if group not in known:
            raise ValueError(unknown_name(f"group of agents in {what}", group, known))
        role = known[group]
        controllers[role] = PredictController(_predict(actor, key), what, role, actions)
    if not controllers:
        raise ValueError(f"{what} writes {list(actor.out_keys)}: no action among them")
    return controllers


def _action_keys(actor: Any) -> Iterator[tuple[str, ...]]:
    for key in actor.out_keys:
        parts = (key,) if isinstance(key, str) else tuple(key)
        if parts[-1] == ACTION:
            yield parts


def _predict(actor: Any, key: tuple[str, ...]) -> Predict:
    group = key[:-1]
    while len(list(_action_keys(actor))) > 1:  # one after another for several groups
        actor = next(part for part in actor.module if key in _action_keys(part))
    read = [(k,) if isinstance(k, str) else tuple(k) for k in actor.in_keys]

    @torch.no_grad()
    def predict(rows: Array, mask: Array | None) -> Array:
        from tensordict import TensorDict
        from torchrl.envs.utils import ExplorationType, set_exploration_type

        given = TensorDict({}, batch_size=[len(rows)])
        for name in read:
            if name[: len(group)] == group and name[-1] == MASK and mask is not None:
                given[name] = torch.from_numpy(np.array(mask))
            elif name[: len(group)] == group:
                given[name] = torch.from_numpy(rows)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            chosen: Array = actor(given)[key].numpy()
        return chosen

    return predict
