"""Scalars of a training run for TensorBoard and Weights & Biases, by names that say what they are."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.standing import table_cost

FOLDER = "tensorboard"
TRAINING = ("iteration", "env_steps", "episode_return", "time_s")


def named(scenario: Scenario, row: Mapping[str, float]) -> dict[str, float]:
    """Name -> value of a row of a learning curve.

    `cost/<the table's label>` is the compared number in the table's unit; `training/..` what every run has;
    `<role>/..` losses of a role's learner; `network/..` the scenario's metrics, exploration included.
    """
    values = {}
    cost = table_cost(scenario, row)
    if cost is not None:
        values["cost/" + re.sub(r"\W+", "_", scenario.cost_label).strip("_")] = cost
    for name, value in row.items():
        role = next((role for role in scenario.roles if name.startswith(f"{role}_") and _is_loss(name, role)), None)
        if name in TRAINING:
            values[f"training/{name}"] = value
        elif role is not None:
            values[f"{role}/{name.removeprefix(f'{role}_')}"] = value
        elif name != "agent_steps":
            values[f"network/{name}"] = value
    return values


def _is_loss(name: str, role: str) -> bool:
    from edgemarl.marl.training.curve import LOSSES

    return name.removeprefix(f"{role}_") in LOSSES


class Tracker(contextlib.AbstractContextManager["Tracker"]):
    """Writes every row; the axis is agent-steps.

    Args:
        scenario: what is trained on.
        folder: the run's folder; event files go to its `tensorboard`. A run that goes on continues them.
        config: the run's settings, kept with it on Weights & Biases.
        project: of Weights & Biases; None: not there.

    Raises:
        ValueError: a project without the package wandb.
    """

    def __init__(self, scenario: Scenario, folder: Path, config: Mapping[str, Any], project: str | None = None) -> None:
        if project is not None and find_spec("wandb") is None:
            raise ValueError("--wandb needs the package wandb: pip install 'edgemarl[wandb]'")
        self.scenario, self.folder, self.config, self.project = scenario, folder, config, project
        self._events: Any = None
        self._wandb: Any = None

    def __call__(self, row: Mapping[str, float]) -> None:
        if self._events is None:
            self._open(row)
        step = int(row["agent_steps"])
        scalars = {name: value for name, value in named(self.scenario, row).items() if math.isfinite(value)}
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def _open(self, row: Mapping[str, float]) -> None:
        """At the first row: only now is the folder this run's."""
        from tensorboardX import SummaryWriter  # Ray Tune writes its event files with it too

        where = self.folder / FOLDER
        first = row["iteration"] <= 1
        if first:
            shutil.rmtree(where, ignore_errors=True)
        step = int(row["agent_steps"])
        self._events = SummaryWriter(  # a suffix: names hold whole seconds, in which a run may end and go on
            logdir=str(where), purge_step=None if first else step, filename_suffix=f".{step:012d}"
        )
        if self.project is not None:
            from ray.air.integrations.wandb import setup_wandb

            self._wandb = setup_wandb(dict(self.config), project=self.project, name=self.folder.name)
