"""One training run: a configuration, RLlib's loop, a learning curve, checkpoints, resume, and the policy that results.

A run's folder holds `config.json`, `curve.parquet` (one row per iteration), `policy/<role>.pt` (self-contained, no Ray
needed) and `checkpoint/` (RLlib's own, with optimiser and runner state). Everything is written to a temporary name
first, so that a killed run leaves the last complete version.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.registry import acting_order, announcements, make_controller, message_entries
from edgemarl.agents.trained.policy import (
    CENTRAL,
    NetworkCentralController,
    NetworkController,
    PooledCentralController,
    TrainedPolicy,
)
from edgemarl.envs.api import Scenario
from edgemarl.marl.training.config import TrainConfig, check

Progress = Callable[[Mapping[str, float], float], None]
"""Called after every iteration with the curve's newest row and the share of the budget that is used."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, the wall-clock time of training in all sessions, the learning curve."""

    path: Path
    training_s: float
    curve: pd.DataFrame


def train(
    config: TrainConfig,
    out: Path | str,
    resume: bool = False,
    progress: Progress | None = None,
    saved: Callable[[], None] | None = None,
) -> TrainResult:
    """Train to the budget of agent-steps.

    Args:
        config: the run.
        out: its folder.
        resume: continue from the folder's checkpoint if there is one; the learning curve continues too.
        progress: called after every iteration.
        saved: called after every checkpoint that was written.

    Raises:
        ValueError: an illegal configuration, a folder that cannot be written, a checkpoint of another configuration.
    """
    check(config)
    run = RunFolder(Path(out))
    run.prepare(config, resume)
    from edgemarl.marl.rllib.session import (  # Ray takes seconds to import: only when something is trained
        local_ray,
        set_up,
    )

    with local_ray(config.num_env_runners):
        algorithm = set_up(config)
        try:
            rows: list[dict[str, float]] = []
            if resume and run.has_checkpoint:
                algorithm.restore_from_path(str(run.checkpoint.resolve()))
                rows = run.curve().to_dict("records")  # type: ignore[assignment]
            elif config.imitate:
                from edgemarl.marl.training.imitation import warm_start

                warm_start(algorithm, config)
            _loop(algorithm, config, run, rows, progress, saved or (lambda: None))
        finally:
            algorithm.stop()
    curve = run.curve()
    return TrainResult(run.path, float(curve["time_s"].iloc[-1]), curve)


def _loop(
    algorithm: Any,
    config: TrainConfig,
    run: RunFolder,
    rows: list[dict[str, float]],
    progress: Progress | None,
    saved: Callable[[], None],
) -> None:
    from edgemarl.marl.rllib.session import curve_row

    before = rows[-1]["time_s"] if rows else 0.0
    started = last_save = time.perf_counter()
    while not rows or not config.finished_at(rows[-1]):
        row = curve_row(_iteration(algorithm), config)
        row["time_s"] = before + time.perf_counter() - started
        rows.append(row)
        if progress is not None:
            progress(row, min(1.0, row["agent_steps"] / config.agent_steps))
        if time.perf_counter() - last_save > config.checkpoint_s:
            run.save(algorithm, config, rows)
            saved()
            last_save = time.perf_counter()
    run.save(algorithm, config, rows)
    saved()


def _iteration(algorithm: Any) -> Any:
    """RLlib's result of one iteration; an iteration in which every remote runner failed is repeated."""
    for _ in range(ATTEMPTS):
        result = algorithm.train()
        if result.get("env_runners") and result.get("learners"):
            return result
        time.sleep(1.0)  # RLlib restarts the runners meanwhile
    raise RuntimeError(f"every runner failed {ATTEMPTS} times in a row; see Ray's worker logs")


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.checkpoint = path / "config.json", path / "checkpoint"
        self.policies, self.curve_file = path / "policy", path / "curve.parquet"

    @property
    def has_checkpoint(self) -> bool:
        return self.checkpoint.is_dir() and self.curve_file.is_file()

    def prepare(self, config: TrainConfig, resume: bool) -> None:
        """Make the folder; forget an earlier run, or check that it had the same settings."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._recover()
            if not resume:
                for old in (self.checkpoint, self.policies):
                    shutil.rmtree(old, ignore_errors=True)
                self.curve_file.unlink(missing_ok=True)
            elif self.has_checkpoint:
                _same_run(json.loads(self.config.read_text()), config)
            _write_text(self.config, json.dumps(config.to_dict(), indent=2))
        except OSError as error:
            raise ValueError(f"folder {self.path} cannot be written: {error.strerror or error}") from error

    def _recover(self) -> None:
        """Finish what a killed run left half done: one checkpoint stays, with the curve that belongs to it."""
        for old in self.path.glob(".old.*"):
            if not self.checkpoint.exists():  # killed between the two renames of `save`
                os.replace(old, self.checkpoint)
        for rest in [*self.path.glob(".old.*"), *self.path.glob(".checkpoint.*")]:
            shutil.rmtree(rest, ignore_errors=True)
        for rest in self.path.glob(".curve.*"):
            rest.unlink(missing_ok=True)
        own = self.checkpoint / "curve.parquet"
        if own.is_file():
            temporary = self.path / f".curve.{os.getpid()}.parquet"
            shutil.copyfile(own, temporary)
            os.replace(temporary, self.curve_file)

    def curve(self) -> pd.DataFrame:
        return pd.read_parquet(self.curve_file)

    def save(self, algorithm: Any, config: TrainConfig, rows: list[dict[str, float]]) -> None:
        """Write checkpoint, policies and curve; the curve comes last, so that it never runs ahead."""
        from edgemarl.marl.rllib.session import policy_networks

        fresh = self.path / f".checkpoint.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        algorithm.save_to_path(str(fresh.resolve()))
        temporary = self.path / f".curve.{os.getpid()}.parquet"
        pd.DataFrame(rows).to_parquet(temporary, index=False)
        (fresh / "curve.parquet").write_bytes(temporary.read_bytes())
        old = self.path / f".old.{os.getpid()}"
        if self.checkpoint.exists():
            os.replace(self.checkpoint, old)
        os.replace(fresh, self.checkpoint)
        os.replace(temporary, self.curve_file)
        shutil.rmtree(old, ignore_errors=True)
        steps = rows[-1]["agent_steps"]
        information = {
            "train": config.to_dict(), "agent_steps": steps, "pooled": config.pooled,
            "message_entries": message_entries(config.make_scenario(), config.fixed),
        }  # fmt: skip
        for role, network in policy_networks(algorithm).items():
            TrainedPolicy(network, config.scenario, role, information).save(self.policies / f"{role}.pt")


ATTEMPTS = 30
"""Iterations without any sample after which a run gives up."""
RESUMABLE = ("agent_steps", "minutes", "checkpoint_s", "num_env_runners", "threads")
"""Settings that a resumed run may change: its budget, how often it saves, on how many runners it samples."""


def _same_run(saved: Mapping[str, Any], config: TrainConfig) -> None:
    now = json.loads(json.dumps(config.to_dict()))
    for name in [*now, *(name for name in saved if name not in now)]:
        if name not in RESUMABLE and saved.get(name) != now.get(name):
            raise ValueError(
                f"the checkpoint was trained with {name} = {saved.get(name)!r}, not {now.get(name)!r}: only "
                f"{', '.join(RESUMABLE)} may change when a run is resumed"
            )


def load_policy(path: Path | str, scenario: Scenario, greedy: bool = True) -> Policy:
    """The policy of a run's folder, ready to control a scenario; needs no Ray.

    A shared policy controls any number of agents. Settings of the scenario that say what agents see and how their
    actions read (its text and yes/no fields) are those of the training run.

    Raises:
        ValueError: no policy there, or one of another scenario, observation size or number of agents.
    """
    files = sorted((Path(path) / "policy").glob("*.pt"))
    if not files:
        raise ValueError(f"{path} holds no trained policy (no policy/*.pt)")
    policies = {file.stem: TrainedPolicy.load(file) for file in files}
    first = next(iter(policies.values()))
    if first.scenario != scenario.name:
        raise ValueError(f"the checkpoint {path} is of scenario '{first.scenario}', not of '{scenario.name}'")
    settings = TrainConfig(**first.information["train"])
    acting = with_training_interface(scenario, settings)
    policies = {role: policy.fitted(acting) for role, policy in policies.items()}
    for policy in policies.values():
        policy.check(acting)
    name = f"{settings.algorithm}_{'central' if settings.control == 'central' else settings.policies}"
    if CENTRAL in policies:
        return TrainedCentral(name, policies[CENTRAL], greedy, settings)
    fixed = {role: make_controller(acting, role, controller) for role, controller in settings.fixed.items()}
    if settings.pooled:
        return TrainedPooledCentral(name, policies, greedy, settings, fixed)
    told = announcements(acting, policies, settings.fixed)
    members: dict[str, Controller] = {r: NetworkController(p, greedy, told.get(r)) for r, p in policies.items()}
    members.update(fixed)
    order = acting_order(acting, policies, settings.fixed)
    return TrainedTeam(name, {role: members[role] for role in acting.roles}, settings, order)


def with_training_interface(scenario: Scenario, settings: TrainConfig) -> Scenario:
    """The scenario with its text and yes/no fields (observation and action settings) as in the training run."""
    trained = settings.make_scenario().config
    fields = [f.name for f in dataclasses.fields(scenario.config) if isinstance(getattr(trained, f.name), str | bool)]
    return type(scenario)(dataclasses.replace(scenario.config, **{n: getattr(trained, n) for n in fields}))


def training_world(scenario: Scenario, settings: TrainConfig) -> Scenario:
    """The scenario with the fields that a controller brings along as in the training run."""
    trained = settings.make_scenario().config
    fields = {name: getattr(trained, name) for name in scenario.controller_fields}
    return type(scenario)(dataclasses.replace(scenario.config, **fields)) if fields else scenario


class TrainedTeam(Team):
    """A team that observes and acts through the settings that it was trained with."""

    def __init__(
        self,
        name: str,
        controllers: Mapping[str, Controller],
        settings: TrainConfig,
        order: Sequence[Sequence[str]] | None = None,
    ) -> None:
        super().__init__(name, controllers, order)
        self.settings = settings

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(with_training_interface(scenario, self.settings), trace)

    def world(self, scenario: Scenario) -> Scenario:
        return training_world(scenario, self.settings)

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        for role, mask in self.scenario.action_masks(state, exogenous).items():
            member = self.controllers[role]
            if isinstance(member, NetworkController):
                member.mask = mask
        return super().decide(state, exogenous, rng)


class TrainedCentral(NetworkCentralController):
    """A central policy that observes and acts through the settings that it was trained with."""

    def __init__(self, name: str, policy: TrainedPolicy, greedy: bool, settings: TrainConfig) -> None:
        super().__init__(name, policy, greedy)
        self.settings = settings

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(with_training_interface(scenario, self.settings), trace)

    def world(self, scenario: Scenario) -> Scenario:
        return training_world(scenario, self.settings)


class TrainedPooledCentral(PooledCentralController):
    """Central policies that observe and act through the settings that they were trained with."""

    def __init__(
        self,
        name: str,
        policies: Mapping[str, TrainedPolicy],
        greedy: bool,
        settings: TrainConfig,
        fixed: Mapping[str, Controller],
    ) -> None:
        super().__init__(name, policies, greedy, fixed)
        self.settings = settings

    def reset(self, scenario: Scenario, trace: Any) -> None:
        super().reset(with_training_interface(scenario, self.settings), trace)

    def world(self, scenario: Scenario) -> Scenario:
        return training_world(scenario, self.settings)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
