"""`train`: a run from the command line's words, and what is said while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgemarl.envs.config import cut
from edgemarl.envs.reading import parse_yaml
from edgemarl.envs.registry import scenario_class
from edgemarl.envs.scenario import Scenario
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
    if "scenario" in fields:
        raise ValueError("--train scenario=.. is not legal: --scenario NAME says it")
    name = scenario_class(scenario).name
    return TrainConfig(scenario=scenario, **resolved(name, with_default(name, fields)))


def training_fields(training: Sequence[str], **named: Any) -> dict[str, Any]:
    """Training settings from `--train field=value`, whose values are read as YAML, and from options of their own."""
    fields = {
        name: parse_yaml(value, f"--train {cut(name)}") for name, value in parse_overrides(training, "--train").items()
    }
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


def saved_config(folder: Path, agent_steps: int | None, trust: bool = False) -> TrainConfig:
    """The config of a run to be resumed, with a larger budget if one is given.

    Raises:
        ValueError: the folder holds no run, or one that names code and that somebody else made.
    """
    from edgemarl.marl.training.config import TrainConfig
    from edgemarl.marl.training.folder import RunFolder

    run = RunFolder(folder)
    if not run.config.is_file():
        raise ValueError(f"{folder} holds no training run (no {run.config.name})")
    settings = run.settings(trust)
    try:
        config = TrainConfig.from_dict(settings)
    except ValueError as error:
        raise ValueError(f"the settings in {run.config} are not legal: {error}") from None
    return config if agent_steps is None else dataclasses.replace(config, agent_steps=agent_steps)


def train_command(
    config: TrainConfig, folder: Path, storage: str | None = None, fresh: bool = False, trust: bool = False,
    wandb: str | None = None,
) -> int:  # fmt: skip
    """Train, or go on with the run that is there, and say where the run is and how to compare it.

    Returns:
        exit code: 1 if training ended with losses or costs that are no numbers.
    """
    from edgemarl.launch.console import plain_console
    from edgemarl.launch.experiment.tracking import Tracker
    from edgemarl.launch.progress import Bars
    from edgemarl.marl.training.local_copy import is_url, storage_path
    from edgemarl.marl.training.storage import stored_train

    console = plain_console()
    scenario = config.make_scenario()
    local = folder if storage is None or is_url(storage) else Path(storage) / folder
    with (
        Tracker(scenario, local, config.to_dict(), wandb) as track,
        Bars() as bars,
        Lines(scenario, config.seed) as lines,
    ):

        def told(row: Mapping[str, float], share: float) -> None:
            track(row)
            said = lines(row, share, printed=not bars.terminal)
            bars("training", round(share * config.agent_steps), config.agent_steps, said)

        bars("training", 0, config.agent_steps)
        words_of_imitation = ImitationLines()

        def imitated(role: str, done: int, total: int, loss: float) -> None:
            said = words_of_imitation(role, done, total, loss, printed=not bars.terminal)
            bars(f"imitation, {role or 'demonstrations'}", done, total, said)

        result = stored_train(
            config, str(folder), storage, resume=not fresh, progress=told, trust=trust, imitated=imitated
        )
        last = result.curve.iloc[-1]
        reached = lines.standing.said({str(name): value for name, value in last.items()})
    where = storage_path(storage, str(folder))
    spent = f"{int(last['agent_steps'])} agent-steps in {result.training_s:.0f} s"
    console.print(f"{where}: {spent}; last iteration: {reached}", soft_wrap=True)
    words = ["--scenario", config.scenario, "--controllers", f"random,{result.path}", *set_words(config.set)]
    if config.trace:
        share = config.train_share
        console.print(f"trained on stretches of the first {share:.0%} of the slots of {config.trace}", soft_wrap=True)
        words += ["--trace", config.trace, "--train-share", f"{share:g}"]
    console.print(f"compare it: edgemarl compare {shlex.join(words)}", soft_wrap=True)
    if result.problem:
        good = f"; the last save before that: {result.good}" if result.good else ""
        sys.stderr.write(f"edgemarl: training went wrong: {result.problem}{good}\n")
    return 0 if result.finite else 1


def set_words(fields: Mapping[str, Any]) -> list[str]:
    """Config fields as the words of `--set`; layer tables, which are no words, are left out."""
    words = []
    for name, value in fields.items():
        if not isinstance(value, Mapping):
            text = json.dumps(value, default=str) if isinstance(value, list | tuple) else str(value)
            words += ["--set", f"{name}={text}"]
    return words


class ImitationLines:
    """An imitation in words: after a few seconds a line, then ever fewer; none of a short one."""

    growth = 0.25
    """Time to the next line, of the time that it took already."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = self._began + Lines.every_s

    def __call__(self, role: str, done: int, total: int, loss: float, printed: bool = True) -> str:
        """What is to be said beside how far it is; `printed` with that."""
        said = f"loss {loss:.3g}" if role else "the named controllers play"
        now = time.monotonic()
        if printed and now >= self._next:
            self._next = now + max(Lines.every_s, self.growth * (now - self._began))
            unit = f"{role}: step" if role else "slot"
            print(f"imitation, {unit} {done} of {total}, {said}, {now - self._began:.0f} s", flush=True)
        return said


class Lines(contextlib.AbstractContextManager["Lines"]):
    """Progress in words: the first iteration, then every few seconds; for the log of a job as lines, ever fewer.

    What `random` and the reference cost is found out meanwhile, in a run that lasts.
    """

    every_s = 10.0

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        from edgemarl.launch.experiment.standing import Standing

        self.standing, self._next, self._began, self._said = Standing(scenario, seed), 0.0, 0.0, ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.standing.stop()

    def __call__(self, row: Mapping[str, float], share: float, printed: bool = True) -> str:
        """The newest words on what the run costs; `printed` with how far it is."""
        if time.monotonic() < self._next:
            return self._said
        if self._next:
            self.standing.start()
        now = time.monotonic()
        self._began = self._began or now
        self._next = now + (max(self.every_s, (now - self._began) / 4) if printed else self.every_s)
        self._said = self.standing.said(row)
        if printed:
            print(
                f"iteration {row['iteration']:.0f}: {row['agent_steps']:.0f} agent-steps ({share:.0%}), "
                f"{self._said}, {row['time_s']:.0f} s",
                flush=True,
            )
        return self._said
