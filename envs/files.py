"""Files and folders that appear whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Write to the temporary name that the block gets; it takes the place of `path` if nothing went wrong.

    The folder is made where it is missing. The file is on the disk before it is renamed, and the folder after it: a
    machine that loses power has the old file or the whole new one. A block that fails leaves nothing behind.

    Args:
        path: the file; the temporary name keeps its ending.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under the temporary name that the block gets; then it appears as `path`, which must not exist.

    Every file and folder in it is on the disk before it is renamed. A block that fails leaves nothing behind.

    Raises:
        OSError: it cannot be written, the disk is full, `path` exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        for folder, _, files in os.walk(temporary, topdown=False):
            for name in files:
                sync(Path(folder) / name)
            sync(Path(folder))
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, so that nobody meets half of it under its name."""
    temporary = temporary_name(path)
    try:
        os.rename(path, temporary)
    except FileNotFoundError:
        return
    shutil.rmtree(temporary, ignore_errors=True)


PREFIX = ".tmp-"


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process on any host uses; it starts with `.tmp-` and keeps the ending."""
    host = socket.gethostname().split(".")[0][:20]
    return path.with_name(f"{PREFIX}{host}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def remove_temporaries(folder: Path) -> None:
    """Remove what killed commands left in a folder under temporary names; its lock must be held, else it may be used.

    Files whose removal is not allowed stay: they are in nobody's way.
    """
    for left in folder.glob(f"{PREFIX}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
