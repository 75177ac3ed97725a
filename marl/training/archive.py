"""A run as one object: a plain tar of its settings and its newest save, made and opened here.

An archive may come from anywhere. It is taken apart file by file: folders and ordinary files with relative names, each
once, no more and no larger than a run has; links, devices and everything else that a tar may hold are refused.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

MEMBERS_MAX = 20_000
"""A run has about four files for each role, and a dozen more."""
BYTES_MAX = 16 * 1024**3
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def pack(folder: Path, names: Iterable[str], archive: Path) -> None:
    """Write files and folders of a run, by their names below its folder."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as packed:
        for name in names:
            packed.add(folder / name, name, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without who made it; temporary files stay out."""
    if PurePosixPath(member.name).name.startswith("."):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Take an archive apart into an empty folder.

    Args:
        archive: the file.
        folder: where its files are put.
        name: what messages call it.

    Raises:
        ValueError: it is no tar, is cut short, or holds what a run does not have.
    """
    if archive.stat().st_size > BYTES_MAX:
        raise ValueError(f"{name} is not taken apart: it has more than {BYTES_MAX} B")
    try:
        with tarfile.open(archive, "r:") as packed:  # never compressed: it cannot become larger than it is
            for count, member in enumerate(packed):
                if count >= MEMBERS_MAX:
                    raise ValueError(f"{name} is not taken apart: it holds more than {MEMBERS_MAX} files")
                _put(packed, member, folder, name)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{name} is not a whole tar archive: {error}") from None


def _put(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name or not path.parts:
        raise ValueError(f"{name} is not taken apart: '{member.name[:200]}' is no name below its folder")
    target = folder.joinpath(*path.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    if member.type not in _PLAIN or member.issparse():
        raise ValueError(f"{name} is not taken apart: '{member.name[:200]}' is a link or no ordinary file")
    content = packed.extractfile(member)
    assert content is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        raise ValueError(f"{name} is not taken apart: '{member.name[:200]}' is in it twice") from None
    if target.stat().st_size != member.size:
        raise ValueError(f"{name} is not a whole tar archive: '{member.name[:200]}' is cut short")
