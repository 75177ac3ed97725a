"""The files of a training run.

`config.json`, `curve.parquet` (one row per iteration), `policy/<role>.pt` (self-contained, no Ray needed) and
`checkpoint/` (RLlib's own, with optimiser and runner state). Everything is written to a temporary name first, so that a
killed run leaves the last complete version.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs.files import write_text
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.training.config import TrainConfig

RESUMABLE = ("agent_steps", "minutes", "until", "checkpoint_s", "num_env_runners", "threads")
"""Settings that a resumed run may change: its budget, how often it saves, on how many runners it samples."""


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
            write_text(self.config, json.dumps(config.to_dict(), indent=2))
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

    def save(self, algorithm: Any, run: Run, rows: list[dict[str, float]]) -> None:
        """Write checkpoint, policies and curve; the curve comes last, so that it never runs ahead."""
        from edgemarl.marl.training.curve import policy_networks  # Ray takes seconds to import

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
            "train": run.to_dict(), "agent_steps": steps, "pooled": run.config.pooled, "message_entries": run.heard,
        }  # fmt: skip
        for role, network in policy_networks(algorithm).items():
            TrainedPolicy(network, run.scenario.name, role, information).save(self.policies / f"{role}.pt")


def _same_run(saved: Mapping[str, Any], config: TrainConfig) -> None:
    before, now = TrainConfig.from_dict(saved).flat(), config.flat()
    for name in [*now, *(name for name in before if name not in now)]:
        if name not in RESUMABLE and before.get(name) != now.get(name):
            raise ValueError(
                f"the checkpoint was trained with {name} = {before.get(name)!r}, not {now.get(name)!r}: only "
                f"{', '.join(RESUMABLE)} may change when a run is resumed"
            )
