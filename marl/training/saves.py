"""What a training run saves, as one unit: checkpoint, learning curve and policies under one manifest.

A save is a folder, `saves/<iteration>`. It is written under a temporary name, and the rename of the whole folder is the
only commit there is: a run that is killed at any moment has the save before it or the new one. `manifest.json` lists
every file with its size and SHA-256, says how far the training was and from which settings it came, and holds a digest
of itself, so that a copy without one of its files, or with one bit flipped, is noticed wherever it is read. The last
two saves are kept: where the newest is damaged, the one before is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from edgemarl.envs.config import quoted
from edgemarl.envs.files import new_folder, remove_folder, write_text
from edgemarl.marl.trust import check_code, code_named, is_signed, signature

logger = logging.getLogger(__name__)

KEPT = 2
FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "signature"
CHECKPOINT, CURVE, POLICY = "checkpoint", "curve.parquet", "policy"
NEWEST = "newest"
"""Of a run that keeps its best policies: those that training goes on with."""
_NAME = re.compile(r"(\d{8})(?:-(\d+))?")
_DAMAGED = "damaged-"
T = TypeVar("T")


class DamagedError(ValueError):
    """A save, or a file of a run, that is not as it was written."""


@dataclass(frozen=True)
class Save:
    """A save whose manifest is whole; its other files are checked when they are read.

    Attributes:
        path: its folder.
        manifest: what it says: `iteration`, `agent_steps`, `time_s`, `config`, `policies` (digest of all of them),
            `files` (name -> [bytes, SHA-256]), `problem` of the training at that time.
        signed: the manifest's bytes and its signature, both as they were when it was opened.
    """

    path: Path
    manifest: Mapping[str, Any]
    signed: tuple[bytes, str]

    @classmethod
    def open(cls, path: Path) -> Save:
        """A save by its folder.

        Raises:
            DamagedError: the manifest is missing or not as it was written.
            UntrustedError: its settings name code of somebody else.
            ValueError: it is of a form that this version does not know.
        """
        try:
            content = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise DamagedError(f"{path / MANIFEST} is missing or cannot be read: {error.strerror or error}") from None
        save = cls(path, verified_manifest(content, path / MANIFEST), (content, _signature(path)))
        if code_named(save.manifest["config"]) and not save.trusted:
            check_code(save.manifest["config"], path.parent.parent)
        return save

    @property
    def checkpoint(self) -> Path:
        """RLlib's checkpoint."""
        return self.path / CHECKPOINT

    @property
    def steps(self) -> int:
        """Agent-steps trained."""
        return int(self.manifest["agent_steps"])

    @property
    def policies(self) -> dict[str, str]:
        """Role -> name of its policy file."""
        return {PurePosixPath(n).stem: n for n in self.manifest["files"] if n.startswith(f"{POLICY}/")}

    def of(self, config: Mapping[str, Any]) -> int | None:
        """The iteration, if the save has exactly these settings."""
        same = _digest(self.manifest["config"]) == _digest(config)
        return int(self.manifest["iteration"]) if same else None

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            DamagedError: it is missing, or not as it was written.
        """
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise DamagedError(f"{self.path / name} is missing or cannot be read: {error.strerror or error}") from None
        self._compare(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    @property
    def trusted(self) -> bool:
        """Whether this user made it, or signed it."""
        content, given = self.signed
        return bool(given) and is_signed(content, given)

    def _compare(self, name: str, size: int, sha256: str) -> None:
        if name not in self.manifest["files"]:
            raise DamagedError(f"{self.path / MANIFEST} is damaged: it lists no {name}")
        expected, digest = self.manifest["files"][name]
        if size != expected:
            raise DamagedError(f"{self.path / name} is damaged: it has {size} B, not {expected} B")
        if sha256 != digest:
            raise DamagedError(f"{self.path / name} is damaged: its SHA-256 is not the manifest's")

    @property
    def problem(self) -> str:
        """What was wrong with the training when it was made (`edgemarl.marl.training.health`); "" if nothing was."""
        return str(self.manifest.get("problem", ""))

    def check(self) -> None:
        """Check every file; RLlib leaves out what is not there without a word, and takes what was put beside it.

        Raises:
            DamagedError: a file is missing, damaged, or was added.
        """
        for name in self.manifest["files"]:
            file = self.path / name
            if file.is_symlink() or not file.is_file():
                raise DamagedError(f"{file} is missing")
            self._compare(name, *_entry(file))
        for name in _files(self.path):
            own = name in (MANIFEST, SIGNATURE) or PurePosixPath(name).name.startswith(".")
            if name not in self.manifest["files"] and not own:
                raise DamagedError(f"{self.path / name} is no file of this save")


def _signature(path: Path) -> str:
    """A save's signature; "" if it has none.

    Raises:
        DamagedError: the save has gone since the manifest was read: a run that trains removes old ones.
    """
    try:
        return (path / SIGNATURE).read_text(encoding="ascii")
    except (OSError, ValueError):
        if not path.is_dir():
            raise DamagedError(f"{path} was removed while it was read") from None
        return ""


def verified_manifest(content: bytes, file: Path | str) -> dict[str, Any]:
    """What a manifest says.

    Args:
        content: of its file.
        file: for messages.

    Raises:
        DamagedError: it is not as it was written.
        ValueError: it is of a form that this version does not know.
    """
    try:
        manifest: dict[str, Any] = json.loads(content)
        told = manifest.pop("digest")
        whole = told == _digest(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(f"{file} is damaged") from None
    if not whole:
        raise DamagedError(f"{file} is damaged: its digest is another")
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{file} has format {quoted(manifest.get('format'))}; this version of edgemarl reads {FORMAT}")
    for name, legal in _ENTRIES.items():
        if not legal(manifest.get(name)):
            raise DamagedError(f"{file} is damaged: {name} = {quoted(manifest.get(name))}")
    return manifest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_files(value: Any) -> bool:
    """Whether these are files within a save, name -> size and SHA-256."""
    return isinstance(value, dict) and all(
        not PurePosixPath(name).is_absolute()
        and ".." not in PurePosixPath(name).parts
        and isinstance(entry, list)
        and [type(part) for part in entry] == [int, str]
        for name, entry in value.items()
    )


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "iteration": _is_number,
    "agent_steps": _is_number,
    "time_s": _is_number,
    "config": lambda value: isinstance(value, dict),
    "policies": lambda value: isinstance(value, str),
    "files": _are_files,
    "problem": lambda value: value is None or isinstance(value, str),  # runs before there was one have none
}
"""Entries of a manifest -> whether a value can be one."""


def commit(run: Path, about: Mapping[str, Any], write: Callable[[Path], None]) -> Save:
    """Write a save; it is there whole when this returns, and not at all if it does not.

    Older saves than the last two go, and damaged ones that were set aside; if training went wrong in both, the last one
    before stays too.

    Args:
        run: the run's folder.
        about: entries of the manifest, among them `iteration`.
        write: puts the files into the folder that it is given.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    folder = run / "saves"
    path = _free_name(folder, int(about["iteration"]))
    with new_folder(path) as temporary:
        write(temporary)
        files = {name: _entry(temporary / name) for name in sorted(_files(temporary))}
        policies = _digest({name: entry for name, entry in files.items() if name.startswith(f"{POLICY}/")})
        manifest = {"format": FORMAT, **about, "policies": policies, "files": files}
        text = json.dumps({**manifest, "digest": _digest(manifest)}, indent=1)
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        (temporary / SIGNATURE).write_text(signature(text.encode()), encoding="ascii")
    good = last_good(run)
    for old in [*save_folders(run)[KEPT:], *folder.glob(f"{_DAMAGED}*")]:
        if good is None or old != good.path:
            remove_folder(old)
    return Save.open(path)


def save_folders(run: Path) -> list[Path]:
    """Folders of a run's saves, the newest first."""
    named = [(match, path) for path in (run / "saves").glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named, key=lambda f: (int(f[0][1]), int(f[0][2] or 0)), reverse=True)]


def sign(path: Path) -> None:
    """Make a save this user's, whatever it holds.

    Raises:
        DamagedError: it has no manifest.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise DamagedError(f"{path / MANIFEST} is missing or cannot be read: {error.strerror or error}") from None
    verified_manifest(content, path / MANIFEST)
    write_text(path / SIGNATURE, signature(content))


def last_good(run: Path) -> Save | None:
    """A run's newest save in whose iteration training did not go wrong; None if there is none."""
    for path in save_folders(run):
        with contextlib.suppress(DamagedError):
            save = Save.open(path)
            if not save.problem:
                return save
    return None


def from_newest(run: Path, take: Callable[[Save], T]) -> T | None:
    """What `take` makes of a run's newest save that is whole; None for a run without saves.

    Args:
        run: the folder of a run, or of one save.
        take: reads what it needs and raises `DamagedError` where it meets damage; then the save before is tried, and a
            line says so.

    Raises:
        DamagedError: no save is whole.
    """
    for _ in range(5):  # a run that trains meanwhile removes old saves
        if (run / MANIFEST).is_file():
            return take(Save.open(run))
        folders, damage = save_folders(run), []
        for path in folders:
            try:
                save = Save.open(path)
                taken = take(save)
            except DamagedError as error:
                damage.append(error)
                continue
            if damage:
                logger.warning("%s: the save before is used, of %d agent-steps", damage[-1], save.steps)
            return taken
        if not folders:
            return None
        if set(folders) & set(save_folders(run)):
            raise DamagedError(f"{run} has no save that is whole: {'; '.join(map(str, damage))}")
    raise DamagedError(f"the saves of {run} go faster than they can be read")


def set_damaged_aside(run: Path, used: Save) -> None:
    """Rename the saves that are newer than the one that a run goes on from; the next whole save removes them."""
    for path in save_folders(run):
        if path == used.path:
            return
        path.rename(path.with_name(f"{_DAMAGED}{path.name}-{secrets.token_hex(4)}"))


def _free_name(folder: Path, iteration: int) -> Path:
    """A run that saves twice in an iteration, such as one whose budget was changed, leaves the first save alone."""
    path, count = folder / f"{iteration:08d}", 0
    while path.exists():
        count += 1
        path = folder / f"{iteration:08d}-{count}"
    return path


def _files(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, with slashes."""
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _entry(path: Path) -> list[Any]:
    """Size in B and SHA-256 of a file."""
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _digest(values: Any) -> str:
    """SHA-256 of plain values, as JSON gives them back."""
    plain = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
