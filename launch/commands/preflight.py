"""What `ray job submit --working-dir` would upload, and whether Ray takes it.

The walk and its rules (.gitignore, .rayignore, `excludes`, Ray's own excludes) are those of the installed Ray.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

from edgemarl.envs.config import cut
from edgemarl.envs.reading import read_yaml

ZIP_ENTRY_BYTES, ZIP_END_BYTES = 30 + 46, 22
MANY_FILES = 2000


@dataclasses.dataclass(frozen=True)
class Upload:
    """A package that would be sent.

    Attributes:
        files: path below the working directory -> size, bytes; in the order of size.
        limit_bytes: the largest package that Ray takes (exclusive).
    """

    files: dict[str, int]
    limit_bytes: int

    @property
    def package_bytes(self) -> int:
        """Size of the package: an uncompressed zip file."""
        names = sum(2 * len(name.encode()) + ZIP_ENTRY_BYTES for name in self.files)
        return sum(self.files.values()) + names + ZIP_END_BYTES

    @property
    def fits(self) -> bool:
        return self.package_bytes < self.limit_bytes

    def folders(self) -> dict[str, tuple[int, int]]:
        """First part of the path -> (files, bytes), largest first."""
        count: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for name, number in self.files.items():
            top = name.split("/", 1)[0]
            count[top] += 1
            size[top] += number
        return {top: (count[top], number) for top, number in size.most_common()}


def read_runtime_env(path: Path) -> dict[str, Any]:
    """A runtime environment from YAML, as `ray job submit --runtime-env` reads it.

    Raises:
        ValueError: no such file, not YAML, or Ray does not accept it.
    """
    from ray.runtime_env import RuntimeEnv

    content = read_yaml(path, f"runtime environment {path}") or {}
    if not isinstance(content, dict):
        raise ValueError(f"runtime environment {path} is not legal: must map names to values")
    try:
        RuntimeEnv(**content)
    except Exception as error:  # Ray checks with assertions, attribute errors and whatever its parts raise
        raise ValueError(
            f"runtime environment {path} is not legal: {cut(str(error)) or type(error).__name__}"
        ) from None
    return content


def planned_upload(working_dir: Path, runtime_env: dict[str, Any]) -> Upload:
    """The files of the package that `ray job submit` would make of a folder.

    Raises:
        ValueError: not a folder.
    """
    import logging

    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    if not working_dir.is_dir():
        raise ValueError(f"working directory {working_dir} is not a folder")
    root = working_dir.absolute()
    files: dict[str, int] = {}

    def counted(path: Path) -> None:
        empty = path.is_dir() and next(path.iterdir(), None) is None
        if empty or path.is_file():
            files[str(path.relative_to(root)) + "/" * empty] = 0 if empty else path.stat().st_size

    excludes = [*ray_constants.get_runtime_env_default_excludes(), *(runtime_env.get("excludes") or [])]
    packaging._dir_travel(
        root,
        [packaging._get_excludes(root, excludes)],
        counted,
        include_gitignore=os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1",
        logger=logging.getLogger(__name__),
    )
    ordered = dict(sorted(files.items(), key=lambda item: -item[1]))
    return Upload(ordered, packaging.GCS_STORAGE_MAX_SIZE)


def preflight(working_dir: Path, runtime_env: Path | None, largest: int) -> None:
    """Print what would be uploaded.

    Raises:
        ValueError: the package is larger than Ray takes, or an input cannot be read.
    """
    from rich.table import Table

    from edgemarl.launch.console import plain_console

    upload = planned_upload(working_dir, {} if runtime_env is None else read_runtime_env(runtime_env))
    console = plain_console()
    table = Table("folder or file", "files", "size", title=f"upload of {working_dir.absolute()}")
    for name, (count, size) in upload.folders().items():
        table.add_row(name, str(count), mebibytes(size))
    table.add_section()
    table.add_row("package", str(len(upload.files)), mebibytes(upload.package_bytes))
    console.print(table)
    for name, size in list(upload.files.items())[:largest]:
        console.print(f"{mebibytes(size):>12}  {name}", highlight=False)
    if len(upload.files) > MANY_FILES:
        console.print(f"{len(upload.files)} files: many small files make submission slow; add folders to excludes")
    if not upload.fits:
        raise ValueError(
            f"the package of {working_dir} has {mebibytes(upload.package_bytes)}, Ray takes less than "
            f"{mebibytes(upload.limit_bytes)}: add to excludes in {runtime_env or '--runtime-env'} or to .rayignore, "
            f"largest first: {', '.join(list(upload.files)[:3])}"
        )
    console.print(f"Ray takes less than {mebibytes(upload.limit_bytes)}: the package can be submitted")


def mebibytes(size: int) -> str:
    return f"{size / 1024**2:.2f} MiB"
