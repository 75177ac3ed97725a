"""Temporary folders that do not pile up: one that a killed process left is removed by the next that makes one.

Beside each folder lies a lock file that its process holds by the kernel (`flock`), so that it is free the moment the
process is gone, whatever ended it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "edgemarl-"
_LOCK = ".lock"
LONGEST = 40
"""Characters of a temporary directory below which sockets still fit (a socket's path has 107 bytes at most)."""


@contextlib.contextmanager
def scratch(keep_if_it_fails: bool = False) -> Iterator[Path]:
    """A folder of this process alone, for the block.

    Args:
        keep_if_it_fails: leave it to be looked at after an error; the next command removes it.

    Raises:
        OSError: no temporary folder can be written.
    """
    folder, lock = _make()
    try:
        yield folder
    except Exception:
        if not keep_if_it_fails:
            _remove(folder, lock)
        raise
    except BaseException:
        _remove(folder, lock)
        raise
    _remove(folder, lock)


def scratch_until_exit() -> Path:
    """A folder of this process alone, which is there until it ends."""
    folder, lock = _make()
    atexit.register(_remove, folder, lock)
    return folder


def root() -> Path:
    """Where they lie: the system's temporary folder, or one whose path is short enough for sockets."""
    temporary = tempfile.gettempdir()
    return Path("/tmp") if len(temporary) > LONGEST and os.access("/tmp", os.W_OK) else Path(temporary)


def remove_left() -> list[Path]:
    """Remove the folders of processes that are gone; returns them."""
    removed = []
    for file in root().glob(f"{PREFIX}*{_LOCK}"):
        with contextlib.suppress(OSError):  # another user's, or just removed by another process
            if file.is_symlink() or file.stat().st_uid != os.getuid():
                continue
            lock = FileLock(file, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            folder = file.with_suffix("")
            _remove(folder, lock)
            removed.append(folder)
    return removed


def _make() -> tuple[Path, FileLock]:
    remove_left()
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=_LOCK, dir=root())
        os.close(handle)
        lock = FileLock(name, timeout=0)
        try:
            lock.acquire()
        except Timeout:  # another process that cleans up was quicker
            continue
        folder = Path(name).with_suffix("")
        folder.mkdir(mode=0o700)
        return folder, lock


def _remove(folder: Path, lock: FileLock) -> None:
    """The folder first: its lock stays taken until it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
