"""One training run: RLlib's loop, a learning curve, checkpoints, resume."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from edgemarl.agents.api import Policy
from edgemarl.envs.checks import checked_function, checked_path
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.lock import FolderLock
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.folder import RunFolder
from edgemarl.marl.training.health import Health
from edgemarl.marl.training.quality import Best, Watch
from edgemarl.marl.training.saves import last_good
from edgemarl.marl.training.stop import StopRequest, Terminated, stop_request
from edgemarl.marl.training.trained import load_policy

Progress = Callable[[Mapping[str, float], float], None]
"""Called after every iteration with the curve's newest row and the share of the budget that is used."""
Imitated = Callable[[str, int, int, float], None]
"""Called every second while networks imitate (`imitate`): the role ("" while the named controllers still play), steps
or slots done, of how many, the newest loss (nan while they play). An imitation of less than a second is not told.
"""
ATTEMPTS = 30
"""Iterations without any sample after which a run gives up."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        path: its folder.
        training_s: wall-clock time of training in all sessions.
        curve: the learning curve.
        problem: what went wrong at its end, and since when; "" if nothing did.
        finite: whether its last losses and costs are numbers.
        good: the last save before that, if there is one.
    """

    path: Path
    training_s: float
    curve: pd.DataFrame
    problem: str = ""
    finite: bool = True
    good: Path | None = None


class Training(contextlib.AbstractContextManager["Training"]):
    """A run whose parts a script may use: RLlib's configuration before it is built, the algorithm, single iterations.

    ```
    with Training(TrainConfig(agent_steps=100_000), "runs/mine") as training:
        training.rllib_config.callbacks(on_train_result=...)  # or an RLModule of one's own, before the first step
        while not training.finished:
            print(training.step()["cost"])
        training.save()
        policy = training.policy()
    ```

    Args:
        config: the run.
        out: its folder.
        resume: go on from the folder's checkpoint if there is one; the learning curve continues too.
        trust: also from one that this user did not make (`edgemarl.marl.trust`): code in it is run.

    Attributes:
        run: the run, resolved: scenario, learned roles, settings.
        folder: its files.
        rllib_config: RLlib's `AlgorithmConfig`; changes count until `algorithm` is first used.
        rows: the learning curve so far, a row per iteration.
        health: whether it goes wrong.
        best: the policies that cost least so far, where they are kept.
        look: called in every step of an imitation (`edgemarl.marl.training.imitation.Look`), where one is set.

    The folder is locked until the block ends.

    Raises:
        ValueError: an illegal configuration, a folder that cannot be written or that another command works in, a save
            of another configuration, or none that is whole.
    """

    def __init__(self, config: TrainConfig, out: Path | str, resume: bool = False, trust: bool = False) -> None:
        self.run: Run = resolve(config)
        self.folder = RunFolder(checked_path("out", out))
        self._watch = None if config.until is None else Watch(self.run)
        self.best = Best(self.run) if config.keep == "best" else None
        self.rows: list[dict[str, float]] = []
        self.health = Health()
        self.look: Imitated | None = None
        self._algorithm: Any = None
        self._stack = contextlib.ExitStack()
        self._lock = FolderLock(self.folder.path)
        self._stack.callback(self._lock.release)
        try:
            self._start = self.folder.prepare(config, self.run.roles, resume, trust)
            self._saved = None if self._start is None else self._start.save
            from edgemarl.marl.training.setup import rllib_config  # Ray takes seconds to import: only for training

            self.rllib_config: Any = rllib_config(self.run)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Training:
        """Ray for remote runners: the running one, or a small local one."""
        from edgemarl.marl.rllib.node import local_ray

        try:
            self._stack.enter_context(local_ray(self.run.config.remote_processes))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End the algorithm, and the Ray that was started; what is not saved is lost."""
        with self._stack:
            if self._algorithm is not None:
                self._algorithm.stop()

    @property
    def algorithm(self) -> Any:
        """RLlib's `Algorithm`, built when it is first asked for, from the checkpoint or a warm start where asked."""
        if self._algorithm is None:
            from edgemarl.marl.training.setup import build

            self._algorithm = build(self.rllib_config, self.run.config.threads)
            if self._start is not None:
                self.folder.restore(self._algorithm, self._start)
                self.rows = self._start.curve.to_dict("records")  # type: ignore[assignment]
                for row in self.rows:
                    self.health.see(row)
                if self.best is not None:
                    self.best.resume(self.folder.kept(self._start), self.rows[-1])
            else:
                self._begin()
            self._before_s = self.rows[-1]["time_s"] if self.rows else 0.0
            self._started_s = time.perf_counter()
        return self._algorithm

    def _begin(self) -> None:
        """What happens before the first update."""
        if getattr(self.run.settings, "imitate", {}):
            from edgemarl.marl.training.imitation import unseen, warm_start

            warm_start(self._algorithm, self.run, self.look or unseen)
        if self.best is not None:
            self.best.look(self._algorithm)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        self.algorithm  # noqa: B018 - a resumed run reads its curve when it is built
        return bool(self.rows) and self.run.config.finished_at(self.rows[-1])

    @property
    def share(self) -> float:
        """Share of the budget of agent-steps that is used."""
        return min(1.0, self.rows[-1]["agent_steps"] / self.run.config.agent_steps) if self.rows else 0.0

    def step(self) -> Mapping[str, float]:
        """One iteration of sampling and learning; returns the new row of the learning curve."""
        from edgemarl.marl.training.curve import curve_row

        row = curve_row(_iteration(self.algorithm), self.run)
        if self._watch is not None:
            row["above_reference"] = self._watch.above(self.algorithm, row)
        if self.best is not None:
            row["greedy_cost"] = self.best.look_if_due(self.algorithm, row)
            row["kept_cost"] = self.best.cost
        row["time_s"] = self._before_s + time.perf_counter() - self._started_s
        self.rows.append(row)
        self.health.see(row)
        return row

    @property
    def unsaved(self) -> bool:
        """Whether anything is different from the newest save."""
        saved = self._saved
        return saved is None or saved.of(self.run.to_dict()) != self.rows[-1]["iteration"]

    def save(self) -> None:
        """Write checkpoint, policies and curve."""
        self._lock.check()
        kept = None if self.best is None else self.best.networks
        self._saved = self.folder.save(self.algorithm, self.run, self.rows, self.health.problem, kept)

    def policy(self, scenario: Scenario | None = None, greedy: bool = True) -> Policy:
        """The saved policy, for this run's scenario or another of its kind."""
        return load_policy(self.folder.path, scenario or self.run.scenario, greedy)


def train(
    config: TrainConfig,
    out: Path | str,
    resume: bool = False,
    progress: Progress | None = None,
    saved: Callable[[], None] | None = None,
    trust: bool = False,
    imitated: Imitated | None = None,
) -> TrainResult:
    """Train to the budget of agent-steps.

    Args:
        config: the run.
        out: its folder.
        resume: continue from the folder's checkpoint if there is one; the learning curve continues too.
        progress: called after every iteration.
        saved: called after every checkpoint that was written, and at the end.
        trust: go on from a checkpoint of somebody else (`Training`).
        imitated: called while networks imitate, before the first iteration.

    Raises:
        ValueError: as `Training`.
        edgemarl.marl.training.stop.Terminated: a SIGTERM came; what was trained until then is saved. Networks that
            still imitate are not.
    """
    checked_function("progress", progress, "a row of the curve and the share of the budget")
    checked_function("saved", saved, "nothing")
    checked_function("imitated", imitated, "role, steps, all steps and loss")
    with Training(config, out, resume, trust) as training, stop_request() as stop:
        training.look = _Looks(stop, imitated)
        last_save = time.perf_counter()
        while not training.finished and not stop.came:
            row = training.step()
            if progress is not None:
                progress(row, training.share)
            if time.perf_counter() - last_save > config.checkpoint_s and not training.finished:
                _save(training, saved)
                last_save = time.perf_counter()
        if training.rows:
            _save(training, saved)
        stop.over()
        health = training.health
    folder, curve = training.folder.path, training.folder.curve()
    good = last_good(folder) if health.problem else None
    problem = f"{health.problem}, since iteration {health.since}" if health.problem else ""
    training_s = float(curve["time_s"].iloc[-1])
    return TrainResult(folder, training_s, curve, problem, health.finite, None if good is None else good.path)


class _Looks:
    """In every step of an imitation: a SIGTERM ends it, as there is nothing to save yet; else it is told at times."""

    every_s = 1.0

    def __init__(self, stop: StopRequest, told: Imitated | None) -> None:
        self._stop, self._told, self._next, self._said = stop, told, time.monotonic() + self.every_s, False

    def __call__(self, role: str, done: int, total: int, loss: float) -> None:
        if self._stop.came:
            raise Terminated
        now = time.monotonic()
        if self._told is not None and (now >= self._next or (self._said and done == total)):
            self._next, self._said = now + self.every_s, True
            self._told(role, done, total, loss)


def _save(training: Training, saved: Callable[[], None] | None) -> None:
    if training.unsaved:
        training.save()
    if saved is not None:
        saved()


def _iteration(algorithm: Any) -> Any:
    """RLlib's result of one iteration; an iteration in which every remote runner failed is repeated.

    Runners end without their error, which only Ray's logs have. What fails in every one, as a scenario's error does,
    fails in this process too, where it is raised.
    """
    for attempt in range(ATTEMPTS):
        result = algorithm.train()
        if result.get("env_runners") and result.get("learners"):
            return result
        if attempt == 0:
            algorithm.env_runner.sample()
        time.sleep(1.0)  # RLlib restarts the runners meanwhile
    raise RuntimeError(f"every runner failed {ATTEMPTS} times in a row; see Ray's worker logs")
