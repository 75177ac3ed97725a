"""`train`: a run from the command line's words, and what is said while it trains."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edgemarl.envs.registry import scenario_class
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.experiment.played import TraceFile, file_network, file_scenario
from edgemarl.launch.recipes import resolved, with_default
from edgemarl.marl.evaluation.tables import file_digest

if TYPE_CHECKING:
    from edgemarl.marl.training.config import TrainConfig


def run_config(
    scenario: str | None, settings: Sequence[str], training: Sequence[str], seed: int, trace: TraceFile | None = None,
    **named: Any,
) -> TrainConfig:  # fmt: skip
    """A training config from the command line; `named` may hold a recipe.

    With a trace file it trains in the network that the file is of, on stretches of the file.
    """
    from edgemarl.marl.training.config import TrainConfig

    scenario = scenario or (None if trace is None else file_scenario(trace.path))
    if trace is not None and scenario is None:
        raise ValueError(f"{trace.path} does not say of which scenario it is: give --scenario NAME")
    scenario = scenario or "sequential_offloading"
    fields = {"set": dict(parse_overrides(settings)), "seed": seed, **training_fields(training, **named)}
    if trace is not None:
        fields["set"] = {**file_network(trace.path, scenario), **fields["set"]}
        fields |= {
            "trace": str(trace.path), "trace_digest": file_digest(trace.path), "trace_ignore": trace.ignore,
            "train_share": 0.7 if trace.train_share is None else trace.train_share,
        }  # fmt: skip
    name = scenario_class(scenario).name
    return TrainConfig(scenario=scenario, **resolved(name, with_default(name, fields)))


def training_fields(training: Sequence[str], **named: Any) -> dict[str, Any]:
    """Training settings from `--train field=value`, whose values are read as YAML, and from options of their own."""
    try:
        fields = {name: yaml.safe_load(value) for name, value in parse_overrides(training).items()}
    except yaml.YAMLError as error:
        raise ValueError(f"--train {' '.join(training)}: {' '.join(str(error).split())}") from None
    return fields | {name: value for name, value in named.items() if value is not None}


def share_of_percent(text: str, option: str) -> float:
    """0.01 of "1%"; the sign may be left out.

    Raises:
        ValueError: no number, or a negative one.
    """
    try:
        share = float(text.removesuffix("%")) / 100.0
    except ValueError:
        share = -1.0
    if not 0.0 <= share < float("inf"):
        raise ValueError(f"{option} = {text} is not legal: must be percent above the reference, >= 0, such as 1%")
    return share


def saved_config(folder: Path, agent_steps: int | None) -> TrainConfig:
    """The config of a run to be resumed, with a larger budget if one is given.

    Raises:
        ValueError: the folder holds no run.
    """
    from edgemarl.marl.training.config import TrainConfig

    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no training run (no config.json)")
    config = TrainConfig.from_dict(json.loads(file.read_text()))
    return config if agent_steps is None else dataclasses.replace(config, agent_steps=agent_steps)


def train_command(config: TrainConfig, folder: Path, storage: str | None = None, fresh: bool = False) -> None:
    """Train, or go on with the run that is there, and say where the run is and how to compare it."""
    from rich.console import Console

    from edgemarl.launch.progress import Bars
    from edgemarl.marl.training.storage import storage_path, stored_train

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
    hint = f"compare it: edgemarl compare --scenario {config.scenario} --controllers random,{result.path}"
    if config.trace:
        share = config.train_share
        console.print(f"trained on stretches of the first {share:.0%} of the slots of {config.trace}", soft_wrap=True)
        hint += f" --trace {config.trace} --train-share {share:g}"
    console.print(hint, soft_wrap=True, markup=False)


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
