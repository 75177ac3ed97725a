"""An ONNX file as a controller: what `edgemarl export` writes, or any other library, or a compiler for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.api import CentralController, Controller
from edgemarl.agents.clients.predict import Predict, PredictCentral, PredictController, fitting
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario


def load_session(path: Path) -> Any:
    """A session that runs the file.

    Raises:
        ValueError: the runtime is not installed, the file does not load, or has more than one input.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{path} needs the extra 'export' (pip install 'edgemarl[export]'): {error}") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's classes of errors are its own, without a common base
        raise ValueError(f"{path} is no ONNX file that runs: {' '.join(str(error).split())[:300]}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) not in (2, 3):
        listed = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise ValueError(f"{path} has inputs {listed}: must have one, float32 (rows, d) or (rows, agents, d)")
    return session


def controller_of(
    session: Any, scenario: Scenario, what: str, role: str | None = None
) -> Controller | CentralController:
    """The controller of the role that the file's input fits, or of the whole network; the first output is the action.

    Actions are in the scenario's own units, as `edgemarl export` writes them.

    Raises:
        ValueError: it fits nothing, or more than one role.
    """
    size = session.get_inputs()[0].shape[-1]
    stem = Path(what).stem
    player = role or (stem if stem in scenario.roles else None)
    if player is None and stem != "central":
        player = fitting(scenario, (size,) if isinstance(size, int) else None, None, what)
    if player is None:
        return PredictCentral(_predict(session), what, "own")
    entries = scenario.roles[player].observation_space.shape
    if isinstance(size, int) and entries is not None and size < entries[0]:
        raise ValueError(f"{what} takes {size} observation entries, role '{player}' has {entries[0]}")
    return PredictController(_predict(session), what, player, "own")


def _predict(session: Any) -> Predict:
    given = session.get_inputs()[0]

    def predict(rows: Array, mask: Array | None) -> Array:
        fed = rows if len(given.shape) == rows.ndim else rows.reshape(-1, rows.shape[-1])
        try:
            return np.asarray(session.run(None, {given.name: fed})[0])
        except Exception as error:  # as above
            raise RuntimeError(str(error)) from error

    return predict
