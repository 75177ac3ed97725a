"""Runs that outlive the machine they train on: in a shared folder, or mirrored to an fsspec URL (s3://, gs://, ..)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from edgemarl.marl.scratch import scratch, scratch_until_exit
from edgemarl.marl.training.archive import BYTES_MAX, pack, unpack
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.folder import RunFolder, read_curve
from edgemarl.marl.training.local_copy import is_url
from edgemarl.marl.training.run import Imitated, Progress, TrainResult, train
from edgemarl.marl.training.saves import (
    CURVE,
    MANIFEST,
    POLICY,
    SIGNATURE,
    DamagedError,
    save_folders,
    verified_manifest,
)
from edgemarl.marl.trust import code_named, is_signed

ARCHIVE = "run.tar"
"""The whole run in one object, which is replaced at once: an upload that breaks off leaves the one before."""


def stored_train(
    config: TrainConfig, out: str, storage: str | None = None, resume: bool = True, progress: Progress | None = None,
    trust: bool = False, imitated: Imitated | None = None,
) -> TrainResult:  # fmt: skip
    """Train in a storage; a run that is there goes on from its last checkpoint.

    Args:
        config: the run.
        out: its name below the storage; without a storage, its folder.
        storage: a folder that every machine sees, or an fsspec URL whose protocol is installed; every checkpoint is
            written there.
        resume: go on with the run that is there; else it is replaced.
        progress: called after every iteration.
        trust: go on from a checkpoint of somebody else.
        imitated: called while networks imitate.

    Returns:
        the result; its path is where the run can be read from now on (with a URL: a local copy, until this process
        ends).

    Raises:
        ValueError: as `edgemarl.marl.training.run.train`, and for a URL that cannot be used.
    """
    if storage is None or not is_url(storage):
        return train(config, Path(storage or "") / out, resume, progress, trust=trust, imitated=imitated)
    mirror = Mirror(f"{storage.rstrip('/')}/{out}")
    folder = scratch_until_exit() / "run"
    if resume:
        mirror.pull(folder)
    return train(
        config, folder, resume=resume, progress=progress, saved=lambda: mirror.push(folder), trust=trust,
        imitated=imitated,
    )  # fmt: skip


@cache
def fetched(run: str | Path) -> Path:
    """A run's folder here: itself, or a copy of the run at a URL, which is there until this process ends.

    Raises:
        ValueError: no run at the URL, or one that cannot be read.
    """
    if not is_url(str(run)):
        return Path(run)
    folder = scratch_until_exit() / "run"
    if not Mirror(str(run)).pull(folder):
        raise ValueError(f"{run} holds no training run (no {ARCHIVE})")
    return folder


@dataclass(frozen=True)
class Mirror:
    """A run's copy at an fsspec URL.

    The archive is what resume reads. Beside it, for readers: config, curve, policies and, last of all, the manifest
    that says which save they are of.
    """

    url: str

    def pull(self, folder: Path) -> bool:
        """Fetch the run into a folder; False if there is none.

        Raises:
            ValueError: the archive is not whole, or is no run.
        """
        with scratch() as temporary:
            with self._remote() as (files, root):
                if not files.exists(f"{root}/{ARCHIVE}"):
                    return False
                if (files.size(f"{root}/{ARCHIVE}") or 0) > BYTES_MAX:
                    raise ValueError(f"{ARCHIVE} has more than {BYTES_MAX} B")
                files.get_file(f"{root}/{ARCHIVE}", str(temporary / ARCHIVE))
            unpack(temporary / ARCHIVE, folder, f"{self.url}/{ARCHIVE}")
        return True

    def push(self, folder: Path) -> None:
        """Send the newest save of the run in a folder, unless it is there."""
        newest = save_folders(folder)[0]
        manifest = (newest / MANIFEST).read_bytes()
        run = RunFolder(folder)
        with self._remote() as (files, root), scratch() as temporary:
            if self._content(files, f"{root}/{MANIFEST}") == manifest:
                return
            archive = temporary / ARCHIVE
            pack(folder, [run.config.name, newest.relative_to(folder).as_posix()], archive)
            files.makedirs(f"{root}/policy", exist_ok=True)
            self._send(files, archive, f"{root}/{ARCHIVE}")
            policies = sorted((newest / POLICY).glob("*.pt"))
            for path in (run.config, newest / CURVE, *policies, newest / SIGNATURE, newest / MANIFEST):
                base = folder if path == run.config else newest
                self._send(files, path, f"{root}/{path.relative_to(base).as_posix()}")

    def curve(self) -> tuple[pd.DataFrame, Mapping[str, Any]] | None:
        """The learning curve beside the archive and its settings; None unless it is the newest save's."""
        with self._remote() as (files, root):
            content = self._content(files, f"{root}/{CURVE}") or b""
            told = self._content(files, f"{root}/{MANIFEST}") or b""
            signed = self._content(files, f"{root}/{SIGNATURE}") or b""
        try:
            manifest = verified_manifest(told, f"{self.url}/{MANIFEST}")
            if [len(content), hashlib.sha256(content).hexdigest()] != manifest["files"][CURVE]:
                return None
            if code_named(manifest["config"]) and not is_signed(told, signed.decode("latin-1")):
                return None
            return read_curve(content, Path(CURVE)), manifest["config"]
        except DamagedError:
            return None

    @staticmethod
    def _content(files: Any, path: str) -> bytes | None:
        try:
            content: bytes = files.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    @staticmethod
    def _send(files: Any, local: Path, target: str) -> None:
        """Put a file under another name first, so that readers of any file system meet whole files."""
        files.put_file(str(local), f"{target}.part")
        files.mv(f"{target}.part", target)

    @contextlib.contextmanager
    def _remote(self) -> Iterator[tuple[Any, str]]:
        """The file system behind the URL and the run's path on it."""
        import fsspec

        try:
            files, root = fsspec.core.url_to_fs(self.url)
            yield files, root.rstrip("/")
        except (ImportError, ValueError, OSError) as error:
            raise ValueError(f"storage {self.url} cannot be used: {error}") from error
