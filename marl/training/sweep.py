"""Sweeps through Ray Tune: training runs as trials, each of them a run that resumes; results in one table.

Every trial trains in its own folder of the storage, so that a sweep that was interrupted goes on when it is started
again: finished runs are read, the others continue from their checkpoints. Tune places the trials and starts a trial
again whose node was lost.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune
from ray.tune.logger import JsonLoggerCallback

from edgemarl.marl.scratch import scratch
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.folder import RESUMABLE, RunFolder, newest_curve, same_settings
from edgemarl.marl.training.local_copy import is_url, storage_path
from edgemarl.marl.training.saves import DamagedError
from edgemarl.marl.training.storage import Mirror, stored_train
from edgemarl.marl.trust import KEY, shared_key

logger = logging.getLogger(__name__)

Notify = Callable[[int, int], None]
"""Called with the trials that have ended and the trials in all."""

RESTARTS = 3
"""How often a trial that broke off is started again; it goes on from its checkpoint."""


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep: its controller's name, its point of the sizes and its settings."""

    controller: str
    sizes: Mapping[str, Any]
    config: TrainConfig

    @property
    def name(self) -> str:
        """Folder of the run: readable, and another one for other settings."""
        fields = {name: value for name, value in self.config.to_dict().items() if name not in RESUMABLE}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
        sizes = [f"{field}{value}" for field, value in self.sizes.items()]
        return "-".join([self.controller, *sizes, f"seed{self.config.seed}", digest])


def make_trials(
    base: Mapping[str, Any],
    controllers: Mapping[str, Mapping[str, Any]],
    sizes: Mapping[str, Sequence[Any]],
    seeds: Iterable[int],
) -> list[Trial]:
    """Every controller at every point of the sizes with every seed.

    Args:
        base: fields of `TrainConfig` that all trials share.
        controllers: name -> further fields.
        sizes: config field of the scenario -> values; all their combinations.
        seeds: seeds of training.

    Raises:
        ValueError: a combination that is not legal.
    """
    trials = []
    every = itertools.product(itertools.product(*sizes.values()), controllers.items(), list(seeds))
    for values, (controller, fields), seed in every:
        point = dict(zip(sizes, values, strict=True))
        merged = {**base, **fields, "seed": seed}
        merged["set"] = {**base.get("set", {}), **fields.get("set", {}), **point}
        config = TrainConfig(**merged)
        checked = resolve(config).scenario.config  # "20" from the command line and 20 from a file are one trial
        config = dataclasses.replace(config, set={field: getattr(checked, field) for field in config.set})
        trials.append(Trial(controller, point, config))
    return trials


def run_sweep(
    trials: Sequence[Trial], out: str, storage: str | None, concurrent: int | None, notify: Notify
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Run what is not finished yet, as many trials at once as the cluster allows, or `concurrent`.

    Returns:
        learning curves of the finished trials, a row per trial and iteration; name -> error of the others.
    """
    where = storage_path(storage, out)
    where = where if is_url(where) else str(Path(where).resolve())
    rest = [trial for trial in trials if finished_curve(trial, where) is None]
    notify(len(trials) - len(rest), len(trials))
    errors = _tune(rest, where, concurrent, lambda ended: notify(len(trials) - len(rest) + ended, len(trials)))
    tables = []
    for trial in trials:
        curve = finished_curve(trial, where)
        if curve is None:
            errors.setdefault(trial.name, "did not finish")
        else:
            tables.append(labelled(trial, curve))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), errors


def finished_curve(trial: Trial, where: str) -> pd.DataFrame | None:
    """The learning curve of a finished trial: of its newest save that is whole, if it is one of these settings."""
    run = f"{where}/{trial.name}"
    newest = Mirror(run).curve() if is_url(where) else _curve_here(RunFolder(Path(run)))
    if newest is None:
        return None
    curve, settings = newest
    return curve if same_settings(settings, trial.config) and trial.config.finished_at(curve.iloc[-1]) else None


def _curve_here(run: RunFolder) -> tuple[pd.DataFrame, Mapping[str, Any]] | None:
    """The learning curve of a run's folder and its settings; None if it has to be trained on."""
    try:
        if not run.has_curve:
            return None
        newest = newest_curve(run.path)
        return newest or (run.curve(), run.settings())
    except DamagedError as error:  # training says what it goes on from, or that it cannot
        logger.warning("%s", error)
        return None


def labelled(trial: Trial, curve: pd.DataFrame) -> pd.DataFrame:
    """A curve with the columns that say whose it is: trial, controller, seed, sizes."""
    labels = {"trial": trial.name, "controller": trial.controller, "seed": trial.config.seed, **trial.sizes}
    return curve.assign(**labels)[[*labels, *[column for column in curve if column not in labels]]]


def _tune(trials: Sequence[Trial], where: str, concurrent: int | None, ended: Callable[[int], None]) -> dict[str, str]:
    """Run trials under Ray Tune; name -> error of those that failed for good."""
    if not trials:
        return {}
    from edgemarl.marl.rllib.node import local_ray

    # by default Tune ends as if all was done; here what is left goes on when the sweep is started again
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # but JSON, which Tune reads results from
    largest = max(trial.config.remote_processes for trial in trials)
    with scratch() as temporary, local_ray(max(largest, (os.cpu_count() or 1) - 1)):
        grid = [{"name": t.name, "config": t.config.to_dict(), "where": where} for t in trials]
        tuner = tune.Tuner(
            # with the user's key: a trial that starts again on another machine goes on from its own save
            tune.with_resources(tune.with_parameters(_trial, key=shared_key()), _resources),
            param_space={"run": tune.grid_search(grid)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=concurrent, metric="cost", mode="min",
                reuse_actors=True,  # a process's start and imports take longer than a short trial
            ),
            run_config=tune.RunConfig(
                name="sweep", storage_path=str(temporary), verbose=0, callbacks=[Ended(ended), JsonLoggerCallback()],
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
            ),
        )  # fmt: skip
        results = tuner.fit()
        return {
            result.config["run"]["name"]: str(result.error).strip().splitlines()[-1]
            for result in results
            if result.error is not None and result.config is not None
        }


class Ended(tune.Callback):
    """Counts trials that have ended, well or not."""

    def __init__(self, ended: Callable[[int], None]) -> None:
        self.count, self.ended = 0, ended

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.count += 1
        self.ended(self.count)

    on_trial_error = on_trial_complete

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves callbacks with the experiment, and a progress bar cannot be saved."""
        return {}


def _resources(config: dict[str, Any]) -> Any:
    """A CPU for the trial, and one for each of its runners and Learners."""
    given = config["run"]["config"]
    return tune.PlacementGroupFactory([{"CPU": 1}] * (1 + given["num_env_runners"] + given["num_learners"]))


def _trial(config: dict[str, Any], key: str) -> None:
    """What a trial's process does."""
    import torch

    torch.set_num_threads(1)
    os.environ[KEY] = key
    run = config["run"]
    result = stored_train(TrainConfig.from_dict(run["config"]), run["name"], run["where"])
    tune.report({"cost": float(result.curve["cost"].iloc[-1])})
