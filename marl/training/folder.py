"""The files of a training run.

`config.json`, `saves/` (`edgemarl.marl.training.saves`: what training goes on from and what readers of this project
read) and, for people and other programs, copies of the newest save's `curve.parquet` (one row per iteration) and
`policy/<role>.pt` (self-contained, no Ray needed). Runs of earlier versions, which have `checkpoint/`, `curve.parquet`
and `policy/` at the top and no manifest, are read and go on; their first save is of the new form.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edgemarl.agents.trained.earlier import earlier_defaults, with_earlier_defaults
from edgemarl.agents.trained.policy import ActingNetwork, TrainedPolicy
from edgemarl.envs.config import quoted
from edgemarl.envs.files import remove_folder, remove_temporaries, replacing, write_text
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.saves import (
    CHECKPOINT,
    CURVE,
    NEWEST,
    POLICY,
    DamagedError,
    Save,
    commit,
    from_newest,
    save_folders,
    set_damaged_aside,
    sign,
)
from edgemarl.marl.trust import KEY, UntrustedError, check_code

RESUMABLE = ("agent_steps", "minutes", "until", "checkpoint_s", "num_env_runners", "num_learners", "threads")
"""Settings that a resumed run may change: its budget, how often it saves, in how many processes it samples and learns.
"""


@dataclass(frozen=True)
class Start:
    """What a resumed run goes on from.

    Attributes:
        checkpoint: RLlib's.
        curve: the learning curve until there.
        config: settings that it was trained with.
        save: the save; None for a run of an earlier version.
    """

    checkpoint: Path
    curve: pd.DataFrame
    config: TrainConfig
    save: Save | None


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.curve_file, self.policies = path / "config.json", path / CURVE, path / POLICY
        self._old = path / CHECKPOINT

    def prepare(self, config: TrainConfig, roles: Iterable[str], resume: bool, trust: bool = False) -> Start | None:
        """Make the folder; forget an earlier run, or find what to go on from.

        The folder's lock is held: what killed runs left is removed.

        Args:
            config: of the run.
            roles: that it learns.
            resume: go on with the run that is there.
            trust: whoever made it: its saves count as this user's from now on.

        Raises:
            ValueError: the run there was made by somebody else, has other settings or is damaged, the folder cannot be
                written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.path / "saves", self.policies):
                remove_temporaries(folder)
            self._finish_old_save()
            if trust:
                self.trust()
            start = self.start(roles, trust) if resume else None
            if start is not None and not trust:
                self.check_trust(start)
            if not resume:
                self._forget()
            elif start is not None:
                _same_run(start.config, config)
                if start.save is not None:
                    set_damaged_aside(self.path, start.save)
                    self._publish(start.save)
                    remove_folder(self._old)  # killed after the first save of the new form
            write_text(self.config, json.dumps(config.to_dict(), indent=2))
        except OSError as error:
            raise ValueError(f"folder {self.path} cannot be written: {error.strerror or error}") from error
        return start

    def start(self, roles: Iterable[str], trust: bool = False) -> Start | None:
        """What the run goes on from: its newest save that is whole; None if it has none.

        Args:
            roles: that it learns.
            trust: whoever made it.

        Raises:
            DamagedError: nothing is whole.
            UntrustedError: its settings name code, and are not this user's.
        """

        def take(save: Save) -> Start:
            save.check()
            config = TrainConfig.from_dict(save_settings(save))
            return Start(save.checkpoint, read_curve(save.read(CURVE), save.path / CURVE), config, save)

        newest = from_newest(self.path, take)
        if newest is not None:
            return newest
        if not self._old.is_dir():
            if self.curve_file.is_file() or self.policies.is_dir():
                raise DamagedError(
                    f"{self.path} holds policies or a curve, but nothing to go on from (no saves/): copy the whole "
                    f"folder, or train anew (--fresh, another folder)"
                )
            return None
        for name in _checkpoint_files(roles):
            if not (self._old / name).is_file():
                raise DamagedError(f"the checkpoint of {self.path} is not whole: {self._old / name} is missing")
        return Start(self._old, self.curve(), TrainConfig.from_dict(self.settings(trust)), None)

    def curve(self) -> pd.DataFrame:
        """The learning curve of the newest save.

        Raises:
            DamagedError: it cannot be read.
        """
        newest = newest_curve(self.path)
        if newest is not None:
            return newest[0]
        own = self._old / CURVE  # of an earlier version: the copy that belongs to its checkpoint
        file = own if own.is_file() else self.curve_file
        try:
            return read_curve(file.read_bytes(), file)
        except OSError as error:
            raise DamagedError(f"{file} cannot be read: {error.strerror or error}") from None

    @property
    def has_curve(self) -> bool:
        """Whether anything was saved."""
        return self.curve_file.is_file() or any((self.path / "saves").glob("*"))

    def trust(self) -> None:
        """Make the saves that are there this user's: the user says that they may be."""
        for path in save_folders(self.path):
            with contextlib.suppress(DamagedError):
                sign(path)

    def settings(self, trust: bool = False) -> dict[str, Any]:
        """The run's settings as they were last given.

        Args:
            trust: they may name code of somebody else.

        Raises:
            DamagedError: they are not whole.
            UntrustedError: they name code, and are not this user's.
        """
        if trust:
            self.trust()
        given = read_json(self.config)
        saved = from_newest(self.path, save_settings)
        if saved is None:  # nothing was saved yet, or by an earlier version
            if not trust:
                check_code(given, self.path)
            return _with_forms(given, lambda: {file: file.read_bytes() for file in self.policies.glob("[!.]*.pt")})
        return {**saved, **{name: given[name] for name in RESUMABLE if name in given and "settings" in given}}

    def check_trust(self, start: Start) -> None:
        """Refuse to unpickle the checkpoint of a save that somebody else made.

        Raises:
            UntrustedError: it is not signed.
        """
        if start.save is None or not start.save.trusted:
            raise UntrustedError(
                f"{start.checkpoint} was not made by this user on this machine, or before version 0.2: going on with "
                f"it runs whatever code it holds. If you trust where it is from: train --resume {self.path} --trust "
                f"(on several machines of your own: the same {KEY} on each)"
            )

    def restore(self, algorithm: Any, start: Start) -> None:
        """Give a fresh algorithm the state that was saved; the save is trusted (`check_trust`).

        Raises:
            DamagedError: it then has other policies than the save: a part was left out.
        """
        from edgemarl.marl.rllib.node import without_object_store
        from edgemarl.marl.training.curve import policy_networks

        try:
            with without_object_store():
                algorithm.restore_from_path(str(start.checkpoint.resolve()))
        except RuntimeError as error:  # PyTorch: weights of another shape
            if "state_dict" not in str(error):
                raise
            raise ValueError(
                f"{start.checkpoint} holds networks that this version builds otherwise, such as MAPPO's critics of "
                "0.1: train anew (--fresh); the policies of the run still play"
            ) from None
        save = start.save
        if save is None:
            return
        for role, network in policy_networks(algorithm).items():
            name = f"{NEWEST}/{role}.pt"
            name = name if name in save.manifest["files"] else save.policies[role]
            file = save.path / name
            saved = TrainedPolicy.from_bytes(save.read(name), file).network.state_dict()
            if any(not value.equal(saved[name]) for name, value in network.state_dict().items()):
                raise DamagedError(f"{save.checkpoint} gives role '{role}' other weights than {file}")

    def kept(self, start: Start) -> dict[str, ActingNetwork]:
        """Role -> the policy network that a save holds.

        Raises:
            DamagedError: a file is not as it was written, or a run of an earlier version.
        """
        if start.save is None:
            raise DamagedError(f"{self.path} is a run of an earlier version, which kept no best policies")
        files = {role: (start.save.read(name), start.save.path / name) for role, name in start.save.policies.items()}
        return {role: TrainedPolicy.from_bytes(content, file).network for role, (content, file) in files.items()}

    def save(
        self,
        algorithm: Any,
        run: Run,
        rows: list[dict[str, float]],
        problem: str = "",
        kept: Mapping[str, ActingNetwork] | None = None,
    ) -> Save:
        """Write checkpoint, policies and curve as one save, then the copies for people.

        Args:
            algorithm: RLlib's.
            run: what is trained.
            rows: the learning curve.
            problem: what is wrong with its newest row.
            kept: role -> network that the save's policies hold in place of the newest one.
        """
        from edgemarl.marl.training.curve import policy_networks  # Ray takes seconds to import

        last = rows[-1]
        information = {
            "train": run.to_dict(), "agent_steps": last["agent_steps"], "pooled": run.config.pooled,
            "message_entries": run.heard,
        }  # fmt: skip

        def write(folder: Path) -> None:
            algorithm.save_to_path(str((folder / CHECKPOINT).resolve()))
            pd.DataFrame(rows).to_parquet(folder / CURVE, index=False)
            newest = policy_networks(algorithm)
            for place, networks in ((POLICY, kept or newest), *([(NEWEST, newest)] if kept else [])):
                for role, network in networks.items():
                    TrainedPolicy(network, run.scenario.name, role, information).save(folder / place / f"{role}.pt")

        about = {name: last[name] for name in ("iteration", "agent_steps", "time_s")}
        saved = commit(self.path, {**about, "config": run.to_dict(), "problem": problem}, write)
        self._publish(saved)
        remove_folder(self._old)
        return saved

    def _publish(self, save: Save) -> None:
        """Make the copies at the top those of a save."""
        for name in (CURVE, *save.policies.values()):
            copy, content = self.path / name, save.read(name)
            if not copy.is_file() or copy.read_bytes() != content:
                with replacing(copy) as temporary:
                    temporary.write_bytes(content)

    def _forget(self) -> None:
        """Remove an earlier run; policies first, so that none is met without what it belongs to."""
        for old in (self.policies, self.path / "saves", self._old):
            remove_folder(old)
        self.curve_file.unlink(missing_ok=True)

    def _finish_old_save(self) -> None:
        """Finish what a killed run of an earlier version left half done: one checkpoint stays."""
        for old in self.path.glob(".old.*"):
            if not self._old.exists():  # killed between its two renames
                os.replace(old, self._old)
        for rest in [*self.path.glob(".old.*"), *self.path.glob(".checkpoint.*")]:
            shutil.rmtree(rest, ignore_errors=True)
        for rest in self.path.glob(".curve.*"):
            rest.unlink(missing_ok=True)


def save_settings(save: Save) -> dict[str, Any]:
    """The settings of a save, with the form of actions in which its policies act where that was once a default.

    Raises:
        DamagedError: a policy file is not as it was written.
    """
    return _with_forms(
        save.manifest["config"], lambda: {save.path / name: save.read(name) for name in save.policies.values()}
    )


def _with_forms(settings: Mapping[str, Any], read: Callable[[], Mapping[Path, bytes]]) -> dict[str, Any]:
    """A run's settings with the form of actions of its policy files, which are read where that was left unsaid."""
    given, scenario = settings.get("set", {}), settings.get("scenario")
    if not (isinstance(given, Mapping) and isinstance(scenario, str) and earlier_defaults(given, scenario)):
        return dict(settings)
    fields = dict(given)
    for file, content in read().items():
        policy = TrainedPolicy.from_bytes(content, file)
        fields = with_earlier_defaults(fields, scenario, policy.role, policy.spec)
    return {**settings, "set": fields}


def newest_curve(run: Path) -> tuple[pd.DataFrame, Mapping[str, Any]] | None:
    """The learning curve of a run's newest whole save and its settings; None for a run without saves."""

    def take(save: Save) -> tuple[pd.DataFrame, Mapping[str, Any]]:
        return read_curve(save.read(CURVE), save.path / CURVE), save.manifest["config"]

    return from_newest(run, take)


def read_curve(content: bytes, file: Path) -> pd.DataFrame:
    """A learning curve from a file's content.

    Raises:
        DamagedError: it is no Parquet file of at least one row.
    """
    try:
        curve = pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError, EOFError, KeyError, TypeError) as error:  # whatever Arrow makes of other bytes
        raise DamagedError(f"{file} is no learning curve: {' '.join(str(error).split())[:200]}") from None
    if not len(curve) or not {"agent_steps", "time_s"} <= {*curve}:
        raise DamagedError(f"{file} is no learning curve: it has no rows, or not the columns of one")
    for name in curve:
        if not pd.api.types.is_numeric_dtype(curve[name]) or pd.api.types.is_complex_dtype(curve[name]):
            raise DamagedError(
                f"{file} is no learning curve: its column {quoted(name)} holds other things than numbers"
            )
    if not np.isfinite(curve[["agent_steps", "time_s"]].to_numpy(float)).all():
        raise DamagedError(f"{file} is no learning curve: its steps or times are no numbers")
    return curve


def read_json(file: Path) -> dict[str, Any]:
    """The settings in a run's `config.json`.

    Raises:
        DamagedError: the file is missing, cut short or something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict) or not isinstance(values.get("algorithm"), str):
        raise DamagedError(f"{file} holds no settings of a training run")
    return values


def _checkpoint_files(roles: Iterable[str]) -> list[str]:
    """What RLlib restores a run of these roles from; it takes the rest as it is where one is missing."""
    learner = "learner_group/learner"
    modules = [f"{learner}/rl_module/{role}/module_state.pkl" for role in roles]
    state = ["algorithm_state.pkl", "env_runner/state.pkl", "learner_group/state.pkl", f"{learner}/state.pkl"]
    return [*state, f"{learner}/rl_module/module_state.pkl", *modules]


def _same_run(saved: TrainConfig, config: TrainConfig) -> None:
    before, now = saved.flat(), config.flat()
    for name in [*now, *(name for name in before if name not in now)]:
        if name not in RESUMABLE and before.get(name) != now.get(name):
            raise ValueError(
                f"the checkpoint was trained with {name} = {before.get(name)!r}, not {now.get(name)!r}: only "
                f"{', '.join(RESUMABLE)} may change when a run is resumed"
            )


def same_settings(saved: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether a save's settings are those of a run, except what a resumed run may change."""
    before, now = TrainConfig.from_dict(saved).flat(), config.flat()
    return {n: v for n, v in before.items() if n not in RESUMABLE} == {
        n: v for n, v in now.items() if n not in RESUMABLE
    }
