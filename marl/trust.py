"""Which saves this user made: RLlib's checkpoints are pickles, and a pickle runs whatever its author wants.

Every save is signed with a key that only this user has (HMAC-SHA256 over the manifest, which holds the SHA-256 of
every file). What is not signed with it is not unpickled unless the user says so, and classes that it names by file or
module are not imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgemarl.envs.files import sync, temporary_name
from edgemarl.envs.targets import is_target

KEY = "EDGEMARL_KEY"
"""Environment variable that takes the place of the file: for runs that go on on other machines."""
LEAST_BYTES = 32
_PATHS = ("trace",)
"""Settings that are paths of data."""
_PURPOSE = b"edgemarl save\n"


class UntrustedError(ValueError):
    """A run that this user did not make on this machine."""


def key_file() -> Path:
    """Where the key lies."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "edgemarl" / "key"


def signature(manifest: bytes) -> str:
    """Of a manifest's content.

    Raises:
        ValueError: no key can be read or made.
    """
    return hmac.new(_key(), _PURPOSE + manifest, hashlib.sha256).hexdigest()


def is_signed(manifest: bytes, given: str) -> bool:
    """Whether a signature is this user's."""
    return hmac.compare_digest(signature(manifest).encode(), given.strip().encode())


def shared_key() -> str:
    """The key as a value of `EDGEMARL_KEY`, for processes of this user elsewhere."""
    return _key().decode()


def code_named(values: Any) -> list[str]:
    """The classes that a run's settings name by module or file, whose code is run where they are made."""
    if isinstance(values, Mapping):
        return [target for name, value in values.items() if name not in _PATHS for target in code_named(value)]
    if isinstance(values, list | tuple):
        return [target for value in values for target in code_named(value)]
    return [part for part in re.split("[+=,]", values) if is_target(part)] if isinstance(values, str) else []


def check_code(values: Any, run: Path | str) -> None:
    """Refuse the settings of a run of somebody else that name code.

    Raises:
        UntrustedError: they name a module or a file.
    """
    named = code_named(values)
    if named:
        raise UntrustedError(
            f"{run} was not made by this user on this machine, and names code to run: {', '.join(named)[:300]}. If you "
            f"trust where it is from: train --resume {run} --trust"
        )


def _key() -> bytes:
    given = os.environ.get(KEY)
    if given is not None:
        if len(given) < LEAST_BYTES:
            raise ValueError(f"{KEY} has {len(given)} characters, must have at least {LEAST_BYTES}")
        return given.encode()
    try:
        file = key_file()
        if not file.exists():
            _make_key(file)
        about = file.stat()
        if about.st_uid != os.getuid() or about.st_mode & 0o077:
            raise ValueError(f"{file} can be read by others: its mode is {about.st_mode & 0o777:04o}, must be 0600")
        key = file.read_bytes()
    except (OSError, RuntimeError) as error:  # no home folder
        raise ValueError(f"the key that signs runs cannot be kept: {error}; set {KEY} instead") from None
    if len(key) < LEAST_BYTES:
        raise ValueError(f"{file} is damaged: it has {len(key)} B, must have at least {LEAST_BYTES} B; remove it")
    if not key.isascii():
        raise ValueError(f"{file} is damaged: it holds no text; remove it")
    return key


def _make_key(file: Path) -> None:
    """Whole or not at all, and once, also where two commands start at the same time."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = temporary_name(file)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_hex(LEAST_BYTES).encode())
        sync(temporary)
        with contextlib.suppress(FileExistsError):  # another command was quicker
            os.link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync(file.parent)
