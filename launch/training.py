"""Training runs of the command line and of presets; what is learned is trained once and then reused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edgemarl.agents.api import Policy
from edgemarl.envs.api import Scenario
from edgemarl.envs.registry import scenario_class
from edgemarl.launch.plan import Learned, Point, parse_overrides

if TYPE_CHECKING:
    from edgemarl.marl.train_config import TrainConfig

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
            from edgemarl.marl.rllib.session import local_ray

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
    from edgemarl.marl.train_config import TrainConfig

    fields = dict(learned.train)
    own = fields.pop("set", {})
    return TrainConfig(scenario=scenario, set={**point.fields, **own}, seed=seed, **fields)


def trained_policy(
    config: TrainConfig, folder: Path, scenario: Scenario, label: str, notify: Notify, ray: SharedRay
) -> tuple[Policy, float]:
    """Train unless the folder holds the finished run; an interrupted run goes on from its checkpoint.

    Returns:
        the policy and the training time, seconds, in all sessions.
    """
    from edgemarl.marl.train import load_policy, train

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
    from edgemarl.marl.train import RunFolder

    run = RunFolder(folder)
    if not run.has_checkpoint or not any(run.policies.glob("*.pt")):
        return None
    if json.loads(run.config.read_text()) != json.loads(json.dumps(config.to_dict())):
        return None
    last = run.curve().iloc[-1]
    return float(last["time_s"]) if config.finished_at(last) else None


def loaded_policy(path: Path, scenario: Scenario) -> tuple[Policy, float | None]:
    """The policy of a training run's folder and its training time.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    from edgemarl.marl.train import RunFolder, load_policy

    policy, run = load_policy(path, scenario), RunFolder(path)
    return policy, float(run.curve()["time_s"].iloc[-1]) if run.curve_file.is_file() else None


def run_config(scenario: str, settings: Sequence[str], training: Sequence[str], seed: int, **named: Any) -> TrainConfig:
    """A training config from the command line."""
    from edgemarl.marl.train_config import TrainConfig

    fields = training_fields(training, **named)
    return TrainConfig(**{"scenario": scenario, "set": dict(parse_overrides(settings)), "seed": seed, **fields})


def training_fields(training: Sequence[str], **named: Any) -> dict[str, Any]:
    """Training settings from `--train field=value`, whose values are read as YAML, and from options of their own."""
    try:
        fields = {name: yaml.safe_load(value) for name, value in parse_overrides(training).items()}
    except yaml.YAMLError as error:
        raise ValueError(f"--train {' '.join(training)}: {' '.join(str(error).split())}") from None
    return fields | {name: value for name, value in named.items() if value is not None}


def saved_config(folder: Path, agent_steps: int | None) -> TrainConfig:
    """The config of a run to be resumed, with a larger budget if one is given.

    Raises:
        ValueError: the folder holds no run.
    """
    from edgemarl.marl.train_config import TrainConfig

    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no training run (no config.json)")
    config = TrainConfig(**json.loads(file.read_text()))
    return config if agent_steps is None else dataclasses.replace(config, agent_steps=agent_steps)


def train_command(config: TrainConfig, folder: Path, storage: str | None = None, fresh: bool = False) -> None:
    """Train, or go on with the run that is there, and say where the run is and how to compare it."""
    from rich.console import Console

    from edgemarl.launch.progress import Bars
    from edgemarl.marl.storage import storage_path, stored_train

    console = Console()
    with Bars() as bars:
        lines = Lines(scenario_class(config.scenario).cost_metric)

        def told(row: Mapping[str, float], share: float) -> None:
            bars("training", round(share * config.agent_steps), config.agent_steps)
            if not bars.terminal:
                lines(row, share)

        bars("training", 0, config.agent_steps)
        result = stored_train(config, str(folder), storage, resume=not fresh, progress=told)
    last = result.curve.iloc[-1]
    where = storage_path(storage, str(folder))
    console.print(f"{where}: {int(last['agent_steps'])} agent-steps in {result.training_s:.0f} s")
    console.print(f"compare it: edgemarl compare --scenario {config.scenario} --controllers random,{result.path}")


class Lines:
    """Progress as lines, for the log of a job: the first iteration, then one every few seconds."""

    every_s = 10.0

    def __init__(self, cost_metric: str) -> None:
        self.cost_metric, self._next = cost_metric, 0.0

    def __call__(self, row: Mapping[str, float], share: float) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every_s
        # a cost of whole episodes is not in the row
        shown = self.cost_metric if self.cost_metric in row else "episode_return"
        print(
            f"iteration {row['iteration']:.0f}: {row['agent_steps']:.0f} agent-steps ({share:.0%}), "
            f"{shown} {row[shown]:.6g}, {row['time_s']:.0f} s",
            flush=True,
        )
