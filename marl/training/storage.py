"""Runs that outlive the machine they train on: in a shared folder, or mirrored to an fsspec URL (s3://, gs://, ..)."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import Progress, RunFolder, TrainResult, train

ARCHIVE = "run.tar"
"""The whole run in one object, which is replaced at once: an upload that breaks off leaves the one before."""


def is_url(storage: str | None) -> bool:
    """Whether a storage is an fsspec URL, else it is a folder."""
    return storage is not None and "://" in storage


def stored_train(
    config: TrainConfig, out: str, storage: str | None = None, resume: bool = True, progress: Progress | None = None
) -> TrainResult:
    """Train in a storage; a run that is there goes on from its last checkpoint.

    Args:
        config: the run.
        out: its name below the storage; without a storage, its folder.
        storage: a folder that every machine sees, or an fsspec URL whose protocol is installed; every checkpoint is
            written there.
        resume: go on with the run that is there; else it is replaced.
        progress: called after every iteration.

    Returns:
        the result; its path is where the run can be read from now on (with a URL: a local copy).

    Raises:
        ValueError: as `edgemarl.marl.training.run.train`, and for a URL that cannot be used.
    """
    if storage is None or not is_url(storage):
        return train(config, Path(storage or "") / out, resume=resume, progress=progress)
    mirror = Mirror(storage, out)
    folder = Path(tempfile.mkdtemp(prefix="edgemarl-"))
    if resume:
        mirror.pull(folder)
    return train(config, folder, resume=resume, progress=progress, saved=lambda: mirror.push(folder))


@dataclass(frozen=True)
class Mirror:
    """A run's copy below an fsspec URL: the archive that resume reads; config, curve and policies for readers."""

    storage: str
    out: str

    def pull(self, folder: Path) -> bool:
        """Fetch the run into a folder; False if there is none."""
        with self._remote() as (files, root):
            if not files.exists(f"{root}/{ARCHIVE}"):
                return False
            with tempfile.TemporaryDirectory() as scratch:
                archive = Path(scratch) / ARCHIVE
                files.get_file(f"{root}/{ARCHIVE}", str(archive))
                with tarfile.open(archive) as packed:
                    packed.extractall(folder, filter="data")
        return True

    def push(self, folder: Path) -> None:
        """Send the run as it is in a folder."""
        run = RunFolder(folder)
        single = [run.config, run.curve_file, *sorted(run.policies.glob("*.pt"))]
        with self._remote() as (files, root), tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / ARCHIVE
            with tarfile.open(archive, "w") as packed:
                for path in (run.config, run.checkpoint, run.curve_file, run.policies):
                    packed.add(path, path.relative_to(folder))
            files.makedirs(f"{root}/policy", exist_ok=True)
            self._send(files, archive, f"{root}/{ARCHIVE}")
            for path in single:
                self._send(files, path, f"{root}/{path.relative_to(folder).as_posix()}")

    @staticmethod
    def _send(files: Any, local: Path, target: str) -> None:
        """Put a file under another name first, so that readers of any file system meet whole files."""
        files.put_file(str(local), f"{target}.part")
        files.mv(f"{target}.part", target)

    @contextlib.contextmanager
    def _remote(self) -> Iterator[tuple[Any, str]]:
        """The file system behind the URL and the run's path on it."""
        import fsspec

        url = f"{self.storage.rstrip('/')}/{self.out}"
        try:
            files, root = fsspec.core.url_to_fs(url)
            yield files, root.rstrip("/")
        except (ImportError, ValueError, OSError) as error:
            raise ValueError(f"storage {self.storage} cannot be used: {error}") from error


def storage_path(storage: str | None, out: str) -> str:
    """Where a run is, for people."""
    return f"{storage.rstrip('/')}/{out}" if storage is not None else os.fspath(out)
