"""One command at a time works in a folder: a lock that says who holds it and since when.

The lock is a file whose holder shows every few seconds that it lives (`filelock.SoftFileLease`), since folders may be
shared by machines. On the holder's machine its process is asked: that of a command that was killed is gone, and the
lock is taken over at once. Elsewhere the file is watched until it has not changed for `SILENT_S` of the watcher's own
clock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from edgemarl.envs.files import write_text

logger = logging.getLogger(__name__)

LOCK, HOLDER = ".lock", ".lock.json"
SILENT_S = 15.0
"""A holder on another machine that does not show itself for this long is gone."""
WAIT_S = 10.0
"""How long the end of a holder on this machine is waited for, such as the child of a command that was just killed."""


class InUseError(ValueError):
    """Another command works in the folder."""


class FolderLock:
    """The lock of a folder; `release` or the end of the process frees it.

    Args:
        folder: is made where it is missing.
        wait_s: how long a holder on this machine is waited for.

    Raises:
        InUseError: another command works there; the message says which, where and since when.
        ValueError: the folder cannot be written.
    """

    def __init__(self, folder: Path, wait_s: float = WAIT_S) -> None:
        self.folder = folder
        self._holder = folder / HOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lease = SoftFileLease(
                folder / LOCK, lease_duration=SILENT_S, timeout=0, poll_interval=0.1, thread_local=False
            )
            self._take(wait_s)
            try:
                write_text(self._holder, json.dumps(_self()))
            except BaseException:
                self._lease.release()
                raise
        except OSError as error:
            raise ValueError(f"folder {folder} cannot be written: {error.strerror or error}") from error

    def _take(self, wait_s: float) -> None:
        with contextlib.suppress(Timeout):
            self._lease.acquire(timeout=0.3)  # a killed command's is taken over at once
            return
        holder = self._read()
        if holder.get("host") not in (None, socket.gethostname()):
            wait_s = max(wait_s, SILENT_S + 2.0)
        logger.warning("folder %s is in use by %s: waiting for %.0f s", self.folder, _text(holder), wait_s)
        try:
            self._lease.acquire(timeout=wait_s)
        except Timeout:
            raise InUseError(
                f"folder {self.folder} is in use by {_text(self._read())}; wait for its end, or use another folder"
            ) from None

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._holder.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # it has just come or gone
        return content if isinstance(content, dict) else {}

    def check(self) -> None:
        """Raise `InUseError` if another took the lock over, as after this process was stopped for a while."""
        if self._lease.compromise is not None:
            raise InUseError(f"folder {self.folder} was taken over by {_text(self._read())}: this process stood still")

    def release(self) -> None:
        """Free it; what others wrote of themselves stays."""
        if self._lease.is_locked and self._lease.compromise is None:
            self._holder.unlink(missing_ok=True)
        self._lease.release()


@contextlib.contextmanager
def locked(folder: Path, wait_s: float = WAIT_S) -> Iterator[FolderLock]:
    """A folder's lock for a block; raises as `FolderLock`."""
    lock = FolderLock(folder, wait_s)
    try:
        yield lock
    finally:
        lock.release()


def _self() -> dict[str, Any]:
    """Who this is, for those who meet the lock."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else []
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "command": shlex.join(words)[:300]}


def _text(holder: dict[str, Any]) -> str:
    if not holder:
        return "another command"
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')} ({holder.get('command')})"
