"""What a preset trains: each run once, then reused; runs of the user's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemarl.agents.api import Policy
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.plan import Learned, Point
from edgemarl.launch.recipes import resolved

if TYPE_CHECKING:
    from edgemarl.marl.training.config import TrainConfig
    from edgemarl.marl.training.trained import SavedPolicies

logger = logging.getLogger(__name__)

Notify = Callable[[str, int, int], None]
"""Called with what is being done, units done and units in all."""


class SharedRay(contextlib.AbstractContextManager["SharedRay"]):
    """One local Ray for all trainings of a block, since starting one takes seconds of computing; the first starts it.

    Args:
        remote_processes: runners and Learners of the training that has the most.
    """

    def __init__(self, remote_processes: int = 0) -> None:
        self.remote_processes = remote_processes
        self._stack = contextlib.ExitStack()
        self._started = False

    def start(self) -> None:
        """Start it unless it runs."""
        if not self._started:
            from edgemarl.marl.rllib.node import local_ray

            self._stack.enter_context(local_ray(self.remote_processes))
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
    return TrainConfig(scenario=scenario, set=_differing(scenario, {**point.fields, **own}), seed=seed, **fields)


def _differing(scenario: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields without those that say the default: points of two sweeps that are one network share a training.

    A field that had another default before is always said, so that what was trained then is known again.
    """
    given, default = make_scenario(scenario, **fields), make_scenario(scenario).config
    return {
        name: value
        for name, value in fields.items()
        if name in given.earlier_defaults or getattr(given.config, name) != getattr(default, name)
    }


@dataclass(frozen=True)
class Made:
    """A controller, ready to play.

    Attributes:
        policy: the controller.
        training_s: time of its training in all sessions, s; None where nothing was trained.
        made_from: the save that its networks are of: run, agent-steps, digest; None where there is none.
    """

    policy: Policy
    training_s: float | None = None
    made_from: Mapping[str, Any] | None = None


def trained_policy(
    config: TrainConfig, folder: Path, scenario: Scenario, label: str, notify: Notify, ray: SharedRay
) -> Made:
    """Train unless the folder holds the finished run; an interrupted run goes on from its checkpoint."""
    from edgemarl.marl.training.run import train

    if finished(config, folder) is None:
        notify(label, 0, config.agent_steps)

        def told(row: Mapping[str, float], share: float) -> None:
            notify(label, round(share * config.agent_steps), config.agent_steps)

        def imitated(role: str, done: int, total: int, loss: float) -> None:
            notify(f"{label}, imitation, {role or 'demonstrations'}", done, total)

        ray.start()
        train(config, folder, resume=True, progress=told, imitated=imitated)
    return loaded_policy(folder, scenario)


def finished(config: TrainConfig, folder: Path) -> SavedPolicies | None:
    """The policies of a finished run of exactly these settings in a folder, or None.

    The run is judged by its newest save that is whole. Of a run of an earlier version, policies count that are of the
    last iteration of its curve: they were written one by one, after it.
    """
    from edgemarl.marl.training.config import TrainConfig
    from edgemarl.marl.training.folder import RunFolder, save_settings
    from edgemarl.marl.training.saves import DamagedError
    from edgemarl.marl.training.trained import saved_policies

    run = RunFolder(folder)
    if not run.has_curve:
        return None
    try:
        policies, last = saved_policies(folder), run.curve().iloc[-1]
        settings = run.settings() if policies.save is None else save_settings(policies.save)
    except DamagedError as error:  # training says what it goes on from, or that it cannot
        logger.warning("%s", error)
        return None
    except ValueError:
        return None  # it was stopped before its first policy
    same = TrainConfig.from_dict(settings).flat() == config.flat()
    return policies if same and policies.steps == last["agent_steps"] and config.finished_at(last) else None


def loaded_policy(path: Path, scenario: Scenario) -> Made:
    """The policy of a training run's folder, its training time, and the save it is of.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    from edgemarl.marl.training.folder import RunFolder
    from edgemarl.marl.training.trained import (
        is_checkpoint,
        load_policy,
        named_run,
        playing,
        policies_digest,
        saved_policies,
    )

    path = named_run(path)
    if is_checkpoint(path):
        return Made(load_policy(path, scenario), None, {"run": str(path), "digest": policies_digest(path)})
    saved, run = saved_policies(path), RunFolder(path)
    training_s = None
    if saved.save is not None:
        training_s = float(saved.save.manifest["time_s"])
    elif run.has_curve:
        training_s = float(run.curve()["time_s"].iloc[-1])
    made_from = {"run": str(path), "agent_steps": saved.steps, "digest": saved.digest}
    return Made(playing(saved, path, scenario), training_s, made_from)
