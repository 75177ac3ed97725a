"""Models of Stable-Baselines3 and sb3-contrib: `model.save("model.zip")`, or the model itself."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.api import CentralController, Controller
from edgemarl.agents.clients.predict import Predict, PredictCentral, fitting, role_controller, units_of
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


def is_model(value: Any) -> bool:
    """Whether an object is a model or policy of Stable-Baselines3; the library is not imported."""
    return callable(getattr(value, "predict", None)) and any(
        cls.__module__.startswith("stable_baselines3.") for cls in type(value).__mro__
    )


def load_model(path: Path) -> Any:
    """The policy of a saved model, whatever the algorithm. Loading runs the file's pickled code: only files you trust.

    Raises:
        ValueError: the library is not installed, or the file is none of its models.
    """
    try:
        from stable_baselines3.common.save_util import load_from_zip_file
    except ImportError as error:
        raise ValueError(f"{path} needs Stable-Baselines3 (pip install 'edgemarl[clients]'): {error}") from error
    try:
        data, weights, _ = load_from_zip_file(str(path), device="cpu")
        assert data is not None
        made, settings = data["policy_class"], dict(data.get("policy_kwargs") or {})
        if data.get("use_sde") and "use_sde" in inspect.signature(made.__init__).parameters:
            settings.setdefault("use_sde", True)
        policy = made(data["observation_space"], data["action_space"], lambda _: 0.0, **settings)
        policy.load_state_dict(weights["policy"])
    except (ValueError, KeyError, AssertionError, RuntimeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is no model of Stable-Baselines3: {type(error).__name__}: {reason}") from error
    policy.set_training_mode(False)
    return policy


def controller_of(model: Any, scenario: Scenario, what: str, role: str | None = None) -> Controller | CentralController:
    """The controller that a model or its policy is: of the role that it fits, or of the whole network.

    Actions of the model's space are read as the scenario's own, or as [-1, 1] where the space is that.

    Raises:
        ValueError: it fits nothing, or more than one role; a recurrent policy.
    """
    policy = getattr(model, "policy", model)
    if "recurrent" in type(policy).__module__:
        raise ValueError(f"{what} is recurrent: policies that keep a state between slots are not supported")
    space, seen = policy.action_space, policy.observation_space
    if seen.shape is None:
        raise ValueError(f"{what} takes observations {seen}: must be a Box")
    player = role or fitting(scenario, seen.shape, space, what)
    predict = _predict(policy)
    if player is None:
        return PredictCentral(predict, what, units_of(space, scenario.central_space))
    return role_controller(predict, what, player, scenario.roles[player], space)


def _predict(policy: Any) -> Predict:
    takes_masks = "action_masks" in inspect.signature(policy.predict).parameters

    def predict(rows: Array, mask: Array | None) -> Array:
        flat = rows.reshape(-1, rows.shape[-1])
        given = {} if mask is None or not takes_masks else {"action_masks": mask.reshape(len(flat), -1)}
        return np.asarray(policy.predict(flat, deterministic=True, **given)[0])

    return predict
