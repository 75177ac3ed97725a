"""What a preset trains: each run once, then reused; runs of the user's own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgemarl.agents.api import Policy
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.plan import Learned, Point
from edgemarl.launch.recipes import resolved

if TYPE_CHECKING:
    from edgemarl.marl.training.config import TrainConfig

Notify = Callable[[str, int, int], None]
"""Called with what is being done, units done and units in all."""


class SharedRay(contextlib.AbstractContextManager["SharedRay"]):
    """One local Ray for all trainings of a block, since starting one takes seconds of computing; the first starts it.

    Args:
        num_env_runners: of the training that has the most.
    """

    def __init__(self, num_env_runners: int = 0) -> None:
        self.num_env_runners = num_env_runners
        self._stack = contextlib.ExitStack()
        self._started = False

    def start(self) -> None:
        """Start it unless it runs."""
        if not self._started:
            from edgemarl.marl.rllib.node import local_ray

            self._stack.enter_context(local_ray(self.num_env_runners))
            self._started = True

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._started = False


def learned_config(scenario: str, learned: Learned, point: Point, seed: int) -> TrainConfig:
    """The training run of a preset's learned controller at one point of the sweep.

    Raises:
        ValueError: a misspelt or illegal field.
    """
    from edgemarl.marl.training.config import TrainConfig

    fields = resolved(scenario, learned.train)
    own = fields.pop("set", {})
    return TrainConfig(scenario=scenario, set={**point.fields, **own}, seed=seed, **fields)


def trained_policy(
    config: TrainConfig, folder: Path, scenario: Scenario, label: str, notify: Notify, ray: SharedRay
) -> tuple[Policy, float]:
    """Train unless the folder holds the finished run; an interrupted run goes on from its checkpoint.

    Returns:
        the policy and the training time, seconds, in all sessions.
    """
    from edgemarl.marl.training.run import train
    from edgemarl.marl.training.trained import load_policy

    training_s = finished_s(config, folder)
    if training_s is None:
        notify(label, 0, config.agent_steps)

        def told(row: Mapping[str, float], share: float) -> None:
            notify(label, round(share * config.agent_steps), config.agent_steps)

        ray.start()
        training_s = train(config, folder, resume=True, progress=told).training_s
    return load_policy(folder, scenario), training_s


def finished_s(config: TrainConfig, folder: Path) -> float | None:
    """Training time of a finished run of the same settings in a folder, or None."""
    from edgemarl.marl.training.config import TrainConfig
    from edgemarl.marl.training.folder import RunFolder

    run = RunFolder(folder)
    if not run.has_checkpoint or not any(run.policies.glob("*.pt")):
        return None
    if TrainConfig.from_dict(json.loads(run.config.read_text())).flat() != config.flat():
        return None
    last = run.curve().iloc[-1]
    return float(last["time_s"]) if config.finished_at(last) else None


def loaded_policy(path: Path, scenario: Scenario) -> tuple[Policy, float | None]:
    """The policy of a training run's folder and its training time.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    from edgemarl.marl.training.folder import RunFolder
    from edgemarl.marl.training.trained import load_policy

    policy, run = load_policy(path, scenario), RunFolder(path)
    return policy, float(run.curve()["time_s"].iloc[-1]) if run.curve_file.is_file() else None
